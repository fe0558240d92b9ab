/*-------------------------------------------------------------------------
 *
 * fold.h
 *	  Items of one key become one, where nobody sees the steps in between.
 *
 * Ten thousand increments of one row are one row version then.  What is given is the last value,
 * and of columns that are added to the sum; the rest is the first item's.  That is what one by one
 * would have given, wherever each step would have passed:
 *
 * - The table has no row triggers (foreign keys are some), transition tables, CHECK constraints,
 *   generated columns, domains, row security or partition bounds; no index but the key's has a
 *   column that is set, an expression or a predicate.
 * - The items have given the same columns, and have no NULL where the table takes none.
 * - What is added has one sign: then each step is in range if the last one is.  An INSERT that
 *   fails is tried with fewer items, down to one.
 * - It is added exactly: not as a floating-point number.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_FOLD_H
#define PP_FOLD_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "utils/relcache.h"

#include "base/item.h"
#include "producer/conflict.h"
#include "worker/row_map.h"

typedef struct PpFoldable PpFoldable; /* what is known of a table */

/* Items that are being folded */
typedef struct PpFold
{
	const PpFoldable *table;
	const PpRowMap *map; /* whose columns are the table's own */
	const uint8 *set;	 /* the columns that are set, or added to; the same for all items */
	const PpItem *first; /* of these items ... */
	uint64 n;			 /* ... of which there are so many */
	TupleTableSlot *slot;
	Datum *values; /* by column of the items */
	bool *nulls;
	int *signs; /* of what is added; 0: of neither yet */
} PpFold;

extern PpFoldable *pp_fold_table(Relation rel, const PpConflict *conflict);
extern PpFold pp_fold_make(const PpFoldable *table, const PpRowMap *map);
extern void pp_fold_begin(PpFold *fold, const PpItem *item, const uint8 *set);
extern bool pp_fold_add(PpFold *fold, const PpItem *item);
extern const PpItem *pp_fold_end(PpFold *fold);

#endif /* PP_FOLD_H */
