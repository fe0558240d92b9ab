/*-------------------------------------------------------------------------
 *
 * ids.h
 *	  Ids of items, as SQL names them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_IDS_H
#define PP_IDS_H

#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

/* Those that the array has, without NULLs, in the current memory context; how many. */
static inline int64 *
pp_ids_of_array(ArrayType *array, int *n)
{
	Datum *elements;
	bool *nulls;
	int nelements;
	int64 *ids;

	deconstruct_array(array, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &elements,
					  &nulls, &nelements);
	ids = palloc(Max(nelements, 1) * sizeof(int64));
	*n = 0;
	for (int i = 0; i < nelements; i++)
	{
		if (!nulls[i])
			ids[(*n)++] = DatumGetInt64(elements[i]);
	}
	return ids;
}

/* For qsort() and bsearch() */
static inline int
pp_ids_compare(const void *a, const void *b)
{
	int64 left = *(const int64 *) a;
	int64 right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

#endif /* PP_IDS_H */
