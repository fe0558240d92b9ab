/*-------------------------------------------------------------------------
 *
 * statement.h
 *	  One INSERT for many rows of one layout, from a plan that is kept.
 *
 * The statement goes through SPI, and the rows reach it through a set-returning function:
 *
 *	INSERT INTO s.t (a, b) SELECT b.a, b.b
 *	  FROM persist_pipeline_batch.persist_batch($1, NULL::s.t) AS b
 *	 WHERE persist_pipeline_batch.persist_batch_row()
 *
 * and ON CONFLICT ..., where upsert.h says so.
 *
 * It names no type but the target's own row, so that the role needs no right to the
 * schemas of its columns' types.  Everybody may execute these functions, since the INSERT
 * runs as the enqueuer; the first one returns rows only to who has its token, a random
 * number that is the statement's parameter and new at each execution, and no rows to
 * anyone else.  It casts the values of items that their table doesn't fit any more (row_map.h),
 * and checks the rows' domains, since nothing is cast after it.  The second
 * one is true, and counts the rows that the statement has begun with, in pp_statement_state:
 * so an error can be told from which row it came.
 *
 * A plan is made for a number of rows, which the planner is told (persist_batch_support);
 * a batch of another magnitude gets another plan.
 *
 * A trigger's function that is asked for one of these rows can be told from one that somebody else
 * has fired meanwhile, with an INSERT into the same table: it is initialized in the memory of the
 * statement that fires it (es_query_cxt), as persist_batch() is.
 *
 * If the statement hasn't asked for its rows, or has inserted fewer than it was given although no
 * trigger or rule can have removed them, that is an error (39P02): an extension that executes the
 * statement in another way must not lose rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_STATEMENT_H
#define PP_STATEMENT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/rel.h"

#include "base/item.h"
#include "worker/row_map.h"

/* An item on its way into its target */
typedef struct PpRow
{
	const PpItem *item;
	uint64 pos; /* its commit position ... */
	uint32 part;
	uint32 unit;		   /* the number of its transaction, among those of the batch */
	TimestampTz parked_at; /* 0: it hasn't been */
	struct PpWorkItem *work; /* that it is of */
} PpRow;

/* Of the INSERT that runs, or has failed */
typedef struct PpStatementState
{
	Oid target;	  /* InvalidOid: it is no INSERT that has failed */
	bool in_rows; /* it had begun with its rows */
	/* the number of the row that failed, among those of its target, from 1 on; 0: not known */
	uint64 row;
	bool by_itself; /* whatever the others are: before any of them was sent to another engine */
} PpStatementState;

extern PpStatementState pp_statement_state;

/* What an INSERT does about rows whose keys are there */
typedef struct PpOnConflict
{
	char *clause;  /* in which the target is "t" */
	uint32 hash;   /* of that */
	bool may_skip; /* it may pass over a row */
} PpOnConflict;

extern void pp_statement_begin_transaction(void);
extern uint64 pp_statement_insert(Relation rel, const PpRowMap *map, const PpOnConflict *conflict,
								  const PpRow **rows, uint64 n);
extern bool pp_statement_is_within(MemoryContext query);
extern void pp_statement_check(const PpItem *item, const PpRowMap *map);
extern void pp_statement_hide_context(ErrorData *error);

#endif /* PP_STATEMENT_H */
