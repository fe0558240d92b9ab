/*-------------------------------------------------------------------------
 *
 * row_json.h
 *	  A row's values as JSON, as a person would write it to persist_enqueue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ROW_JSON_H
#define PP_ROW_JSON_H

#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "utils/jsonb.h"

extern Jsonb *pp_row_json(TupleDesc descriptor, MinimalTuple tuple, char *const *names,
					  const bool *hidden);

#endif /* PP_ROW_JSON_H */
