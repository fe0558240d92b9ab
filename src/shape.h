/*-------------------------------------------------------------------------
 *
 * shape.h
 *	  How items fit their relation as it is, which may have changed since.
 *
 * Where the relation's columns have the layout that the item was made for, each value has
 * its column.  Else the item is read by the columns that were noted before the change
 * (layouts.h), and a value goes into the column of its number, or, if that was dropped,
 * into one of its name, by an assignment cast, as in an INSERT.  A value that nobody gave,
 * and that has no such column, is left out.
 *
 * A value is read as of its type only if that type, as it is now, has the layout that the
 * item's digest says, as deep as that goes; until the end of the transaction nobody can
 * change that.  Of other values only the bytes can be shown.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SHAPE_H
#define PP_SHAPE_H

#include "postgres.h"

#include "access/attnum.h"
#include "access/tupdesc.h"
#include "nodes/nodes.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"

#include "item.h"
#include "item_check.h"

/* Of items that are of the same shape (item.h) */
typedef struct PpShape
{
	int n;				  /* columns of the item's tuple */
	TupleDesc descriptor; /* of that */
	PpAttribute *attributes;
	AttrNumber *to;	 /* the relation's columns that its values go into; 0: none */
	Node **casts;	 /* of a Var of the tuple; NULL: none is needed */
	uint8 *carried;	 /* the relation's columns that get a value */
	bool is_own;	 /* the relation has just this layout */
	bool loses_some; /* there are values that have no column */
} PpShape;

extern PpShape *pp_shape_of(Relation rel, const PpItem *item);
extern void pp_shape_check(const PpShape *shape, Relation rel, const PpItem *item);
extern Jsonb *pp_shape_show(Relation rel, const PpItem *item);

#endif /* PP_SHAPE_H */
