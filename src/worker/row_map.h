/*-------------------------------------------------------------------------
 *
 * row_map.h
 *	  Which column each value of an item goes into: the relation may have changed since the call.
 *
 * Where the relation's columns have the layout that the item was made for, each value has
 * its column.  Else the item is read by the columns that were noted before the change
 * (layouts.h), and a value goes into the column of its number, or, if that was dropped,
 * into one of its name, by an assignment cast, as in an INSERT.  In a relation that has
 * replaced the target, each goes into the one of its name.  A value that nobody gave,
 * and that has no such column, is left out.
 *
 * A value is read as of its type only if that type, as it is now, has the layout that the
 * item's digest says, as deep as that goes; until the end of the transaction nobody can
 * change that.  Of other values only the bytes can be shown.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ROW_MAP_H
#define PP_ROW_MAP_H

#include "postgres.h"

#include "access/attnum.h"
#include "access/tupdesc.h"
#include "nodes/nodes.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"

#include "base/item.h"
#include "base/item_check.h"

/* For all items of one layout (item.h) */
typedef struct PpRowMap
{
	int n;				  /* columns of the item's tuple */
	TupleDesc descriptor; /* of that */
	PpAttribute *attributes;
	AttrNumber *to;	 /* the relation's columns that its values go into; 0: none */
	Node **casts;	 /* of a Var of the tuple; NULL: none is needed */
	uint8 *carried;	 /* the relation's columns that get a value */
	bool is_own;	 /* the relation has just this layout */
	bool replaces;	 /* it has replaced the one that the items were for */
	bool loses_some; /* there are values that have no column */
} PpRowMap;

extern PpRowMap *pp_row_map_of(Relation rel, const PpItem *item);
extern void pp_row_map_check(const PpRowMap *map, Relation rel, const PpItem *item);
extern Jsonb *pp_row_map_show(Relation rel, const PpItem *item);

#endif /* PP_ROW_MAP_H */
