/*-------------------------------------------------------------------------
 *
 * try_insert.c
 *	  Tries to insert rows, under a savepoint; see try_insert.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/errors.h"
#include "worker/bad_rows.h"
#include "worker/batch.h"
#include "worker/deferred.h"
#include "worker/item_settings.h"
#include "worker/timer.h"
#include "worker/try_insert.h"

/*
 * The error that is being handled, which ends here.  The server calls each cancellation a
 * user's.
 */
ErrorData *
pp_try_insert_catch(const PpCatcher *catcher)
{
	ErrorData *error = pp_savepoint_catch(catcher);

	pp_statement_hide_context(error);
	pp_item_settings_explain(error);
	error = pp_error_shorten(error);
	if (pp_timer_cut == PP_CUT_TIMEOUT && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		error->message =
			pstrdup("canceling statement due to \"persist_pipeline.statement_timeout\"");
	return error;
}

/* The number of the target's n-th row among these, from 1 on; 0: there is none. */
static uint64
number_of(Oid target, uint64 n, const PpRow **rows, uint64 nrows)
{
	for (uint64 i = 0; i < nrows; i++)
	{
		if (rows[i]->item->target == target && --n == 0)
			return i + 1;
	}
	return 0;
}

/*
 * What is known of an error that has just been caught, of these rows.  A statement inside of
 * ours (a trigger's) that is none of theirs tells nothing.
 */
PpTry
pp_try_insert_failure(const PpRow **rows, uint64 n, ErrorData *error)
{
	PpTry failure = {
		.error = error, .cut = pp_timer_cut, .was_short = pp_timer_was_short(), .in_rows = true};

	if (!OidIsValid(pp_statement_state.target) ||
		number_of(pp_statement_state.target, 1, rows, n) == 0)
		return failure;
	failure.target = pp_statement_state.target;
	failure.in_rows = pp_statement_state.in_rows;
	if (pp_timer_cut == PP_CUT_NONE && pp_statement_state.row > 0)
		failure.row = number_of(failure.target, pp_statement_state.row, rows, n);
	return failure;
}

/* Insert them, without a savepoint. */
void
pp_try_insert_all(const PpRow **rows, uint64 n, PpOutcomeCounts *counts)
{
	int ngroups;
	PpTargetRows **groups = pp_batch_divide(rows, n, &ngroups);

	for (int i = 0; i < ngroups; i++)
	{
		uint64 inserted = pp_batch_insert(groups[i]);
		PpTargetOutcome *result = pp_outcome_counts_of(counts, groups[i]->target);

		result->delta.persisted += inserted;
		result->delta.skipped += groups[i]->n - inserted;
		if (pp_timer_cut != PP_CUT_NONE)
			ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
							errmsg("a trigger went on after its cancellation")));
	}
}

/* What a try is to do */
typedef struct Attempt
{
	const PpRow **rows;
	uint64 n;
	bool inserted; /* they are there already */
	uint64 mark;   /* after so many rows ... */
	Oid extension; /* ... of this installation; InvalidOid: none */
	bool deferred; /* and check at once what is deferred */
} Attempt;

static PpTry
try_it(const Attempt *attempt, PpOutcomeCounts *counts)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "persist_pipeline try", ALLOCSET_DEFAULT_SIZES);
	PpCatcher savepoint;
	volatile bool inserted = false;
	volatile uint64 first = 0;
	PpTry failure = {.error = NULL};
	PpOutcomeCounts own = {0};

	pp_timer_begin_try();
	pp_statement_state = (PpStatementState){0};
	savepoint = pp_savepoint_begin();
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		if (attempt->mark > 0)
			pp_try_insert_all(attempt->rows, attempt->mark, &own);
		if (OidIsValid(attempt->extension))
			pp_deferred_mark_put(attempt->extension);
		first = attempt->mark;
		if (attempt->n > attempt->mark && !attempt->inserted)
			pp_try_insert_all(attempt->rows + attempt->mark, attempt->n - attempt->mark, &own);
		inserted = true;
		if (attempt->deferred)
			pp_deferred_settings_fire(attempt->rows, attempt->n);
		pp_savepoint_end(&savepoint, counts != NULL);
	}
	PG_CATCH();
	{
		failure = pp_try_insert_failure(attempt->rows + first, attempt->n - first,
										pp_try_insert_catch(&savepoint));
		if (failure.row > 0)
			failure.row += first;
		failure.deferred = inserted;
		failure.past_mark = OidIsValid(attempt->extension) && pp_deferred_mark_is_passed();
		pp_timer_begin_undo();
		QueryCancelPending = false;
		pp_savepoint_end(&savepoint, false);
		pp_timer_end_undo();
		pp_timer_begin_attempt(); /* of what comes now */
	}
	PG_END_TRY();
	if (failure.error == NULL && counts)
		pp_outcome_counts_add(counts, &own);
	MemoryContextDelete(context);
	return failure;
}

/*
 * Insert rows under a savepoint.  `deferred`: and check at once what is deferred.  `counts`:
 * what it has done is added to these; NULL: it is undone.
 */
PpTry
pp_try_insert(const PpRow **rows, uint64 n, bool deferred, PpOutcomeCounts *counts)
{
	return try_it(&(Attempt){.rows = rows, .n = n, .deferred = deferred}, counts);
}

/* Check at once what is deferred of these rows, which have been inserted. */
PpTry
pp_try_insert_deferred(const PpRow **rows, uint64 n, PpOutcomeCounts *counts)
{
	return try_it(&(Attempt){.rows = rows, .n = n, .inserted = true, .deferred = true}, counts);
}

/* Insert them with what is deferred, and with a mark (deferred.h) after so many rows. */
PpTry
pp_try_insert_marked(Oid extension, const PpRow **rows, uint64 n, uint64 mark,
					 PpOutcomeCounts *counts)
{
	Attempt attempt = {
		.rows = rows, .n = n, .mark = mark, .extension = extension, .deferred = true};

	return try_it(&attempt, counts);
}
