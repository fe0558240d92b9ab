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

#include "utils/jsonb.h"

#include "base/item.h"
#include "producer/target.h"

extern PpItem *pp_convert_jsonb(PpTarget *target, Jsonb *object);
extern PpItem *pp_convert_record(PpTarget *target, HeapTupleHeader record);

#endif /* PP_CONVERT_H */
