/*-------------------------------------------------------------------------
 *
 * array.h
 *	  Arrays that grow: they double, and begin in the current memory context.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ARRAY_H
#define PP_ARRAY_H

#include "postgres.h"

#include "utils/memutils.h"

static inline void *
pp_array_resize(void *array, size_t bytes)
{
	return array ? repalloc_huge(array, bytes)
				 : MemoryContextAllocHuge(CurrentMemoryContext, bytes);
}

/* Make room for one more element, where all of max are used; NULL and 0: there is no array yet. */
#define PP_ARRAY_GROW(array, n, max)                                                               \
	do                                                                                             \
	{                                                                                              \
		if ((n) == (max))                                                                          \
		{                                                                                          \
			(max) = Max(16, 2 * (max));                                                            \
			(array) = pp_array_resize((array), (max) * sizeof(*(array)));                          \
		}                                                                                          \
	} while (0)

#endif /* PP_ARRAY_H */
