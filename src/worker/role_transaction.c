/*-------------------------------------------------------------------------
 *
 * role_transaction.c
 *	  One transaction that settles work items of one role; see role_transaction.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "base/errors.h"
#include "worker/batch.h"
#include "worker/identity.h"
#include "worker/parking.h"
#include "worker/role_transaction.h"
#include "worker/timer.h"
#include "worker/work_items.h"

static const PpClaim *claim;

/* What this process has found out, and goes by until it ends */
static bool careful = false; /* a COMMIT has failed on one of several other servers */
static bool spent = false;	 /* a role's work items have to wait for another process */

/* Called once, by a process that has attached to its slot. */
void
pp_role_transaction_init(const PpClaim *process_claim)
{
	claim = process_claim;
	pp_commit_init(claim);
}

/* Does this process keep items waiting that another one could insert? */
bool
pp_role_transaction_is_spent(void)
{
	return spent;
}

/* Do the rows go to several other servers, and has the COMMIT on one of those failed before? */
bool
pp_role_transaction_is_unsafe(void)
{
	return careful && pp_batch_is_scattered();
}

/* ---- as the role ---- */

static ErrorData *
why_not_through(const PpRoleTransaction *transaction)
{
	return transaction->apply.error ? transaction->apply.error
									: pp_error(ERRCODE_LOCK_NOT_AVAILABLE, "a row is locked");
}

/*
 * In one transaction, as their role.  True: it has committed.  False: nothing has changed;
 * transaction->error tells why, transaction->stage how far it came, transaction->apply what it has
 * found out.
 */
bool
pp_role_transaction_run(PpRoleTransaction *transaction, bool at_once, bool impatient,
						const PpTry *known)
{
	MemoryContext caller = CurrentMemoryContext;
	PpCatcher catcher = pp_savepoint_catcher();
	MemoryContext context =
		AllocSetContextCreate(caller, "persist_pipeline items", ALLOCSET_DEFAULT_SIZES);
	PpApply *apply = &transaction->apply;
	volatile bool committed = false;

	*apply = (PpApply){.claim = claim,
					   .role = transaction->work_items[0].role,
					   .retrying = transaction->work_items[0].parked,
					   .impatient = impatient || transaction->work_items[0].parked,
					   .disbelieves = transaction->disbelieves,
					   .apart = transaction->apart,
					   .known = *known,
					   .counts = palloc0(sizeof(PpOutcomeCounts))};
	transaction->stage = PP_STAGE_BEGINNING;
	transaction->error = NULL;
	pp_batch_begin_transaction();
	if (pp_identity_is_spent(apply->role))
	{
		spent = true;
		apply->end = PP_APPLY_LATER;
		transaction->error = pp_error(ERRCODE_ADMIN_SHUTDOWN, "the items wait for another process");
		return false;
	}
	if (pp_timer_cut != PP_CUT_STOP)
		pp_timer_cut = PP_CUT_NONE;
	pp_work_items_note(transaction->work_items, transaction->n);
	pp_commit_forget();
	pp_timer_begin_attempt();
	pp_statement_state = (PpStatementState){0};
	PG_TRY();
	{
		const PpRow **rows;
		uint64 nrows;
		Snapshot snapshot;

		pp_identity_begin(apply->role, pp_timer_lock_timeout());
		MemoryContextSwitchTo(context);
		/* what has been read stays in its place until it is taken, whoever else deletes it */
		snapshot = RegisterSnapshotOnOwner(GetTransactionSnapshot(), TopTransactionResourceOwner);
		transaction->stage = PP_STAGE_OPENING;
		rows = pp_work_items_open(claim, transaction->work_items, transaction->n,
								  &transaction->opened, &nrows);
		transaction->stage = PP_STAGE_INSERTING;
		MemoryContextSwitchTo(caller);
		if (nrows > 0 && at_once)
			pp_apply_rows_at_once(apply, rows, nrows);
		else if (nrows > 0)
			pp_apply_rows(apply, rows, nrows);
		if (apply->end == PP_APPLY_COMMIT && apply->retrying && nrows > 0 && !apply->moved)
			apply->end = PP_APPLY_LATER; /* all would be parked again */
		if (apply->end != PP_APPLY_COMMIT)
		{
			transaction->error = why_not_through(transaction);
			pp_identity_abort();
		}
		else
		{
			transaction->stage = PP_STAGE_COMMITTING;
			if (pp_role_transaction_is_unsafe())
				ereport(ERROR, (errcode(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN),
								errmsg("the rows go to several servers")));
			pp_work_items_count_taken(apply->counts, rows, nrows, apply->retrying);
			pp_commit_settles(transaction->work_items, transaction->n, apply->counts);
			transaction->stage = PP_STAGE_TAKING;
			pp_work_items_take(claim, transaction->work_items, transaction->n);
			UnregisterSnapshotFromOwner(snapshot, TopTransactionResourceOwner);
			transaction->stage = PP_STAGE_COMMITTING;
			pp_outcome_counts_write(apply->counts, claim->extension);
			if (!at_once)
				pp_timer_begin_attempt(); /* of what is deferred */
			pp_identity_commit();
			committed = true;
		}
	}
	PG_CATCH();
	{
		/* the items are settled: this error is not theirs */
		if (pp_commit_is_done())
			PG_RE_THROW();

		transaction->error = pp_try_insert_catch(&catcher);
		apply->known = pp_try_insert_failure(apply->rows, apply->nrows, transaction->error);
		apply->known.deferred = transaction->stage == PP_STAGE_COMMITTING;
		careful |= pp_identity_is_committing() && pp_batch_is_scattered();
		pp_commit_forget();
		pp_timer_begin_undo(); /* that was its time, but not that of what comes now */
		pp_identity_abort();
		pp_timer_end_undo();
	}
	PG_END_TRY();

	pp_timer_attempt_began = PP_NEVER;
	MemoryContextSwitchTo(caller);
	if (committed)
	{
		pp_bad_rows_report(apply->bad, apply->nbad);
		pp_parking_errors_are_counted(apply->counts, apply->role);
	}
	MemoryContextDelete(context);
	ConditionVariableBroadcast(&claim->slot->settled);
	return committed;
}
