/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  Items to INSERTs: one statement per target and shape, in the current
 *	  transaction, as the current user.
 *
 * The rows reach the statement through the set-returning function persist_batch:
 *
 *	INSERT INTO s.t (a, b) SELECT b.c1, b.c2
 *	  FROM extension_schema.persist_batch() AS b (c1 pg_catalog.int4, c2 pg_catalog.text)
 *
 * Everybody may execute that function, since the INSERT runs as the enqueuer; it
 * returns rows only to the very statement that pp_batch_insert is executing, and
 * no rows to anyone else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_BATCH_H
#define PP_BATCH_H

#include "item.h"

extern void pp_batch_insert(const PpItem **items, int n);

#endif /* PP_BATCH_H */
