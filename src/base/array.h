/*-------------------------------------------------------------------------
 *
 * array.h
 *	  Arrays that grow: they double, and begin in the current memory context, or in another one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ARRAY_H
#define PP_ARRAY_H

#include "postgres.h"

#include "utils/memutils.h"

static inline void *
pp_array_resize_in(MemoryContext context, void *array, size_t bytes)
{
	return array ? repalloc_huge(array, bytes) : MemoryContextAllocHuge(context, bytes);
}

static inline void *
pp_array_resize(void *array, size_t bytes)
{
	return pp_array_resize_in(CurrentMemoryContext, array, bytes);
}

/* Make room for one more element, where all of max are used; NULL and 0: there is no array yet. */
#define PP_ARRAY_GROW_IN(context, array, n, max)                                                   \
	do                                                                                             \
	{                                                                                              \
		if ((n) == (max))                                                                          \
		{                                                                                          \
			(max) = Max(16, 2 * (max));                                                            \
			(array) = pp_array_resize_in((context), (array), (max) * sizeof(*(array)));            \
		}                                                                                          \
	} while (0)

#define PP_ARRAY_GROW(array, n, max) PP_ARRAY_GROW_IN(CurrentMemoryContext, array, n, max)

#endif /* PP_ARRAY_H */
