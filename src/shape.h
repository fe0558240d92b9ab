/*-------------------------------------------------------------------------
 *
 * shape.h
 *	  Items whose table has lost a column since, and may have got it back: their values
 *	  are told by the columns' names.
 *
 * An item names columns by number.  A column that is dropped leaves its number, and not
 * its name or type; so those are noted when it is dropped, in the table persist_columns,
 * if the table is a target.  Whoever adds a column of the same name and type gets the
 * values that were meant for the old one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SHAPE_H
#define PP_SHAPE_H

#include "postgres.h"

#include "access/attnum.h"
#include "access/tupdesc.h"
#include "utils/relcache.h"

#include "item.h"

/* How items of one shape become such that fit their relation as it is */
typedef struct PpShapeMap PpShapeMap;

extern bool pp_shape_fits(Relation rel, const PpItem *item);
extern PpShapeMap *pp_shape_map(Relation rel, const PpItem *item);
extern PpItem *pp_shape_apply(const PpShapeMap *map, const PpItem *item);
extern TupleDesc pp_shape_descriptor(Relation rel, const PpItem *item);
extern void pp_shape_remember(Oid extension, Oid relid, AttrNumber attnum);
extern void pp_shape_forget(Oid extension, Oid relid);

#endif /* PP_SHAPE_H */
