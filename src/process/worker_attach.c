/*-------------------------------------------------------------------------
 *
 * worker_attach.c
 *	  Attaches a worker to its slot and database, and detaches it; what it needs of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/faults.h"
#include "process/process.h"
#include "process/worker.h"
#include "ring/lease.h"
#include "worker/bad_rows.h"
#include "worker/poison.h"
#include "worker/settle.h"
#include "worker/timer.h"
#include "worker/upkeep.h"

/* Leave the slot, whatever ended this process. */
static void
detach(int code, Datum arg)
{
	PpRingView view;
	bool left;

	if (pp_process.given_back)
	{
		(void) pp_process_note_end(code);
		return; /* from it we are detached */
	}
	if (!pp_slot_begin_commit(pp_process.slot)) /* from here on nobody takes its place */
	{
		pp_slot_detach(pp_process.slot);
		pp_shmem_wake_launcher();
		return; /* the other one goes on */
	}
	view = pp_ring_view(&pp_process.slot->ring);
	if (code == 0 && !pp_intake_is_pending(&view) &&
		!pp_counters_any_parked(&pp_process.slot->counters))
		pp_poison_forget();
	left = pp_process_note_end(code);

	SpinLockAcquire(&pp_process.slot->mutex);
	if (left || (code == 0 && pp_process.failures == 0))
		pp_process.slot->starts = 0;
	if (code != 0 && pp_timer_cut != PP_CUT_STOP && pp_timer_cut != PP_CUT_BLOCKED)
		pp_shmem_note_failure_locked(pp_process.slot);
	SpinLockRelease(&pp_process.slot->mutex);

	/* while the ring is ours: once we are detached it may go to another database */
	pp_ring_attend(&pp_process.slot->ring, false);
	/* from now on the next item calls the launcher, which looks for old ones too */
	(void) pp_ring_arm(&pp_process.slot->ring, &view, view.published + 1, PG_UINT64_MAX);
	pp_slot_detach(pp_process.slot);
	pp_shmem_wake_launcher();
	ConditionVariableBroadcast(&pp_process.slot->settled);
}

/*
 * Give the slot back, which is idle; `to_others`: if another database waits for one.  False: it
 * is still ours.
 */
bool
pp_worker_give_back(bool to_others)
{
	if (!pp_counters_any_parked(&pp_process.slot->counters))
		pp_poison_forget();
	pp_process.stop_closes = NULL; /* a signal must not close what isn't ours any more */
	pp_process.given_back = pp_slot_give_back(pp_process.slot, to_others);
	if (pp_process.given_back)
		return true;
	pp_process.stop_closes = &pp_process.slot->ring;
	if (ShutdownRequestPending)
		pp_ring_close(&pp_process.slot->ring);
	return false;
}

void
pp_worker_take_slot(int slot_number, Oid database)
{
	pp_process_attach(slot_number, database, detach);
	pp_process.stop_closes = &pp_process.slot->ring;

	pp_process.wait_event = pp_wait_event("PersistPipelineWorker");
	pp_process_enter(database, "persist_pipeline worker");
	pp_upkeep_init(&pp_process.claim);
	MemoryContextSwitchTo(pp_process.batch_context);
	pp_worker_look_for_pause();
	if (pp_slot_is_paused(pp_process.slot))
	{
		pp_worker_top_up_ids();
		pp_intake_count(&pp_process.claim);
	}
	pp_settle_init(&pp_process.claim);
	pp_ring_open(&pp_process.slot->ring);
	pp_ring_attend(&pp_process.slot->ring, true);
	ConditionVariableBroadcast(&pp_process.slot->settled); /* who waits for us */
	ereport(DEBUG1, (errmsg_internal("persist_pipeline worker for database \"%s\" started",
									 pp_process.database_name)));
}

/* The sequence is read in a transaction of the superuser's own. */
void
pp_worker_top_up_ids(void)
{
	PpRingView view = pp_ring_view(&pp_process.slot->ring);
	bool few_positions = view.next_end - view.next < PP_LEASE_IDS / 2;

	if (!OidIsValid(pp_process.claim.extension) ||
		!(few_positions || pp_lease_is_low(&pp_process.claim)))
		return;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (pp_lease_is_low(&pp_process.claim))
		pp_lease_top_up(&pp_process.claim);
	if (few_positions)
		pp_lease_positions(&pp_process.claim);
	CommitTransactionCommand();
	MemoryContextSwitchTo(pp_process.batch_context);
}

/* Is the database paused?  From now on the launcher knows it, too. */
void
pp_worker_look_for_pause(void)
{
	bool paused = pp_process_read_pauses(&pp_process.slot->pause_changed);

	SpinLockAcquire(&pp_process.slot->mutex);
	pp_process.slot->paused = paused && !pp_process.slot->pause_changed;
	SpinLockRelease(&pp_process.slot->mutex);
}

bool
pp_worker_may_be_paused(void)
{
	return *(volatile bool *) &pp_process.slot->pause_changed;
}

/* Sleep until woken (true), or for so many ms (-1: no limit). */
bool
pp_worker_sleep(PpWorkerState state, long ms)
{
	bool woken;

	pp_bad_rows_report_rest();
	pp_shmem_set_worker_state(pp_process.slot, state);
	pp_process_check_interrupts();
	PP_FAULT(worker_naps);
	woken = pp_sleeper_sleep(&pp_process.slot->worker_sleeper, ms, pp_process.wait_event);
	pp_process_check_interrupts();

	return woken;
}
