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
#include "letterbox.h"
#include "trial.h"

/*
 * The error that is being handled, which ends here.  The server calls each cancellation a
 * user's.
 */
ErrorData *
pp_trial_catch(const PpCatcher *catcher)
{
	ErrorData *error = pp_catch(catcher);

	pp_statement_hide_context(error);
	error = pp_error_shorten(error);
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

/*
 * Insert rows under a savepoint.  `deferred`: and check at once what is deferred; of no rows
 * that is all.  `results`: what it has done is added to these; NULL: it is undone.  Returns
 * NULL, or why it couldn't be done; *timed_out: that took too long.
 */
ErrorData *
pp_trial_under_savepoint(const PpRow **rows, uint64 n, bool deferred, PpResults *results,
						 bool *timed_out)
{
	MemoryContext caller = CurrentMemoryContext;
	PpCatcher catcher = pp_catcher();
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;
	int level = GetCurrentTransactionNestLevel();
	MemoryContext context =
		AllocSetContextCreate(caller, "persist_pipeline try", ALLOCSET_DEFAULT_SIZES);
	PpResults own = {0};

	pp_clock_begin_attempt();
	*timed_out = false;
	pp_batch_state = (PpBatchState){0};
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		if (n > 0)
			pp_trial_insert(rows, n, &own);
		if (deferred)
			pp_batch_fire_deferred();
		if (results)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		error = pp_trial_catch(&catcher);
		*timed_out = pp_cut == PP_CUT_TIMEOUT;
		if (*timed_out)
			pp_clock_begin_attempt(); /* or else the clock goes on to end us */
		QueryCancelPending = false;
		while (GetCurrentTransactionNestLevel() > level)
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	if (error == NULL && results)
		pp_results_add(results, &own);
	MemoryContextDelete(context);
	return error;
}
