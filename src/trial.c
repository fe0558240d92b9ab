/*-------------------------------------------------------------------------
 *
 * trial.c
 *	  Tries to insert rows, under a savepoint; see trial.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "clock.h"
#include "trial.h"

/* The clock of statement_timeout starts anew. */
void
pp_trial_begin(void)
{
	if (pp_cut == PP_CUT_TIMEOUT)
	{
		pp_cut = PP_CUT_NONE;
		QueryCancelPending = false;
	}
	pp_attempt_began = GetCurrentTimestamp();
}

/*
 * The error that is being handled, in the current memory context.  The server calls each
 * cancellation a user's.
 */
ErrorData *
pp_trial_take_error(void)
{
	ErrorData *error = pp_error_shorten(CopyErrorData());

	FlushErrorState();
	if (pp_cut == PP_CUT_TIMEOUT && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		error->message =
			pstrdup("canceling statement due to \"persist_pipeline.statement_timeout\"");
	return error;
}

/* Insert them, without a savepoint. */
void
pp_trial_insert(const PpRow **rows, uint64 n, PpResults *results)
{
	int nshares;
	PpTargetRows **shares = pp_batch_divide(rows, n, &nshares);

	for (int i = 0; i < nshares; i++)
	{
		uint64 inserted = pp_batch_insert(shares[i]);
		PpResult *result = pp_results_of(results, shares[i]->target);

		result->delta.persisted += inserted;
		result->delta.skipped += shares[i]->n - inserted;
	}
	if (pp_cut != PP_CUT_NONE)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
						errmsg("a trigger went on after its cancellation")));
}

/* Something to be done under a savepoint; NULL, or why it couldn't. */
typedef void (*Deed)(PpSieve *sieve, const PpRow **rows, uint64 n, PpResults *results);

static ErrorData *
under_savepoint(PpSieve *sieve, Deed deed, const PpRow **rows, uint64 n, bool keep)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;
	int level = GetCurrentTransactionNestLevel();
	MemoryContext context =
		AllocSetContextCreate(caller, "persist_pipeline try", ALLOCSET_DEFAULT_SIZES);
	PpResults results = {0};

	pp_trial_begin();
	sieve->timed_out = false;
	pp_batch_state = (PpBatchState){0};
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		deed(sieve, rows, n, &results);
		if (keep)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = pp_trial_take_error();
		sieve->timed_out = pp_cut == PP_CUT_TIMEOUT;
		if (sieve->timed_out)
			pp_trial_begin(); /* or else the clock goes on to end us */
		QueryCancelPending = false;
		while (GetCurrentTransactionNestLevel() > level)
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	if (error == NULL && keep)
	{
		pp_results_add(sieve->results, &results);
		sieve->landed = sieve->landed || n > 0;
		sieve->moved = sieve->moved || n > 0;
	}
	MemoryContextDelete(context);
	return error;
}

static void
insert_rows(PpSieve *sieve, const PpRow **rows, uint64 n, PpResults *results)
{
	pp_trial_insert(rows, n, results);
	if (sieve->in_order && !sieve->dissecting)
		pp_batch_fire_deferred();
}

static void
check_rows(PpSieve *sieve, const PpRow **rows, uint64 n, PpResults *results)
{
	pp_batch_fire_deferred();
}

/* Insert these; NULL, or why not; *row: which one, from 1 on, or 0. */
ErrorData *
pp_try_rows(PpSieve *sieve, const PpRow **rows, uint64 n, uint64 *row)
{
	ErrorData *error = under_savepoint(sieve, insert_rows, rows, n, true);

	*row = 0;
	if (error && sieve->share && pp_batch_state.target == sieve->share->target &&
		pp_cut == PP_CUT_NONE && !sieve->timed_out)
		*row = Min(pp_batch_state.row, n);
	return error;
}

/* ---- verdicts ---- */

/* Could this one be inserted?  It is not. */
ErrorData *
pp_try_for_nothing(PpSieve *sieve, const PpRow *row)
{
	return under_savepoint(sieve, insert_rows, &row, 1, false);
}

/* Check what is deferred; `keep`: and it is checked.  NULL, or why it fails. */
ErrorData *
pp_try_deferred(PpSieve *sieve, bool keep)
{
	return under_savepoint(sieve, check_rows, NULL, 0, keep);
}
