/*-------------------------------------------------------------------------
 *
 * convert.h
 *	  A JSON object, or a row, to an item of a target.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_CONVERT_H
#define PP_CONVERT_H

#include "postgres.h"

#include "access/htup.h"
#include "utils/jsonb.h"

#include "base/item.h"
#include "producer/target.h"

extern PpItem *pp_convert_jsonb(PpTarget *target, Jsonb *object);
extern PpItem *pp_convert_record(PpTarget *target, HeapTupleHeader record);
extern PpItem *pp_convert_tuple(PpTarget *target, HeapTuple tuple);
extern PpItem *pp_convert_values(PpTarget *target, Datum *values, bool *nulls);
extern bool pp_convert_has_written(void);

#endif /* PP_CONVERT_H */
