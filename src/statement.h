/*-------------------------------------------------------------------------
 *
 * statement.h
 *	  One INSERT for many rows of one shape, from a plan that is kept.
 *
 * The rows reach the statement through the set-returning function persist_batch:
 *
 *	INSERT INTO s.t (a, b) SELECT b.c1, b.c2
 *	  FROM extension_schema.persist_batch() AS b (c1 pg_catalog.int4, c2 pg_catalog.text)
 *
 * Everybody may execute that function, since the INSERT runs as the enqueuer; it
 * returns rows only to the very statement that is being executed here, and no
 * rows to anyone else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_STATEMENT_H
#define PP_STATEMENT_H

#include "postgres.h"

#include "utils/rel.h"

#include "item.h"

extern void pp_statement_insert(Relation rel, const PpItem **items, int n);

#endif /* PP_STATEMENT_H */
