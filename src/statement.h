/*-------------------------------------------------------------------------
 *
 * statement.h
 *	  One INSERT for many rows of one shape, from a plan that is kept.
 *
 * The rows reach the statement through the set-returning function persist_batch:
 *
 *	INSERT INTO s.t (a, b) SELECT b.c1, b.c2
 *	  FROM extension_schema.persist_batch() AS b (c1 pg_catalog.int4, c2 pg_catalog.text)
 *	 WHERE extension_schema.persist_batch_row()
 *
 * Everybody may execute these functions, since the INSERT runs as the enqueuer; the
 * first one returns rows only to the very statement that is being executed here, and
 * no rows to anyone else.  The second one is true, and counts the rows that the
 * statement has begun with, in pp_batch_state: so an error can be told from which row
 * it came.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_STATEMENT_H
#define PP_STATEMENT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/rel.h"

#include "item.h"

/* An item on its way into its target */
typedef struct PpRow
{
	const PpItem *item;
	uint64 pos; /* its place in the order of things ... */
	uint32 part;
	uint32 unit;		   /* the number of its transaction, among those of the batch */
	TimestampTz parked_at; /* 0: it hasn't been */
} PpRow;

/* Of the INSERT that runs, or has failed */
typedef struct PpBatchState
{
	Oid target;	  /* InvalidOid: it is no INSERT that has failed */
	bool in_rows; /* it had begun with its rows */
	uint64 row;	  /* the row of the share that failed, from 1 on; 0: that can't be told */
} PpBatchState;

extern PpBatchState pp_batch_state;

extern uint64 pp_statement_insert(Relation rel, const PpRow **rows, uint64 n);

#endif /* PP_STATEMENT_H */
