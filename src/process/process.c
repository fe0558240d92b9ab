/*-------------------------------------------------------------------------
 *
 * process.c
 *	  Attaches a worker or a retrier to its slot and database, and detaches it; see process.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/faults.h"
#include "process/database_init.h"
#include "process/process.h"
#include "ring/lease.h"
#include "store/pause.h"
#include "worker/apply.h"
#include "worker/bad_rows.h"
#include "worker/identity.h"
#include "worker/parking.h"
#include "worker/poison.h"
#include "worker/role_settings.h"
#include "worker/statement.h"
#include "worker/timer.h"
#include "worker/upkeep.h"

PpProcess pp_process;

/* The ring to close at SIGTERM: ours, once we are its slot's worker */
static PpRing *volatile stop_closes = NULL;

static uint32 wait_event;

static void
request_stop(SIGNAL_ARGS)
{
	int save_errno = errno;

	if (pp_timer_stop_requested_at == 0)
		pp_timer_stop_requested_at = pp_steady_now();
	ShutdownRequestPending = true;
	/* whoever has lost its place has no ring */
	if (stop_closes && *(volatile pid_t *) &pp_process.slot->worker_pid == MyProcPid)
		pp_ring_close_at_once(stop_closes);
	pp_sleeper_wake_self();
	errno = save_errno;
}

/* Either process of the slot; a ring is closed only by the worker. */
void
pp_process_handle_signals(void)
{
	pqsignal(SIGTERM, request_stop);
	pqsignal(SIGHUP, pp_sleeper_handle_reload);
	ConfigReloadPending = true; /* until now it was ignored */
	BackgroundWorkerUnblockSignals();
}

/*
 * The timer had to end this worker.  If the target is known, the next worker parks its items for
 * the retrier, and no item becomes a candidate.
 */
static bool
leave_to_retrier(void)
{
	Oid target = pp_statement_state.target;

	if (pp_shmem_am_retrier || pp_timer_cut != PP_CUT_TIMEOUT || !OidIsValid(target) ||
		pp_parking_has_hung(target))
		return false;
	pp_parking_note_outlived(MyDatabaseId, target);
	return true;
}

/*
 * Either process of the slot: this is how it ends, if that says something of what it tries.
 * True: another one can go on at once.
 */
bool
pp_process_note_end(int code)
{
	bool left = code != 0 && leave_to_retrier();

	if (code == 0)
		pp_poison_close(PP_END_CLEAN);
	else if (left || pp_timer_cut == PP_CUT_STOP || pp_timer_cut == PP_CUT_BLOCKED ||
			 !PostmasterIsAlive())
		pp_poison_close(PP_END_BY_OTHERS);
	else
	{
		if (pp_timer_cut == PP_CUT_TIMEOUT)
			pp_poison_note_outlived();
		pp_poison_close(PP_END_BY_ITSELF);
	}
	return left;
}

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
	SpinLockRelease(&pp_process.slot->mutex);

	/* while the ring is ours: once we are detached it may go to another database */
	pp_ring_attend(&pp_process.slot->ring, false);
	/* from now on the next item calls the launcher, which looks for old ones too */
	(void) pp_ring_arm(&pp_process.slot->ring, &view, view.published + 1, PG_UINT64_MAX);
	pp_slot_detach(pp_process.slot);
	pp_shmem_wake_launcher();
	ConditionVariableBroadcast(&pp_process.slot->settled);
}

/* Become the slot's worker; leave at once if that isn't wanted any more. */
static void
attach(Oid database)
{
	pp_process.claim.slot = pp_process.slot;
	if (!pp_slot_attach(pp_process.slot, database, &pp_process.claim.generation))
		proc_exit(0);
	before_shmem_exit(detach, (Datum) 0);
	stop_closes = &pp_process.slot->ring;
}

/*
 * Give the slot back, which is idle; `to_others`: if another database waits for one.  False: it
 * is still ours.
 */
bool
pp_process_give_back(bool to_others)
{
	if (!pp_counters_any_parked(&pp_process.slot->counters))
		pp_poison_forget();
	stop_closes = NULL; /* a signal must not close what isn't ours any more */
	pp_process.given_back = pp_slot_give_back(pp_process.slot, to_others);
	if (pp_process.given_back)
		return true;
	stop_closes = &pp_process.slot->ring;
	if (ShutdownRequestPending)
		pp_ring_close(&pp_process.slot->ring);
	return false;
}

/* The sequence is read in a transaction of the superuser's own. */
void
pp_process_top_up_ids(void)
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

/* What is installed in the database?  FATAL if it can't be used. */
void
pp_process_find_extension(void)
{
	const char *fault;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pp_process.claim.extension = pp_extension_find(&fault);
	if (fault)
		ereport(FATAL, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("persist_pipeline worker for database \"%s\" cannot work: %s",
							   pp_process.database_name, fault)));
	CommitTransactionCommand();
	MemoryContextSwitchTo(pp_process.batch_context);
}

/*
 * Is the database paused, or are targets?  *changed: the slot's word that this process has to
 * look, which is true again if it has to look once more.
 */
bool
pp_process_read_pauses(bool *changed)
{
	bool paused;

	SpinLockAcquire(&pp_process.slot->mutex);
	*changed = false;
	SpinLockRelease(&pp_process.slot->mutex);

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	paused = OidIsValid(pp_process.claim.extension) && pp_pause_is_on(pp_process.claim.extension);
	pp_parking_look_for_pauses();
	CommitTransactionCommand();
	MemoryContextSwitchTo(pp_process.batch_context);

	return paused;
}

/* Is the database paused?  From now on the launcher knows it, too. */
void
pp_process_look_for_pause(void)
{
	bool paused = pp_process_read_pauses(&pp_process.slot->pause_changed);

	SpinLockAcquire(&pp_process.slot->mutex);
	pp_process.slot->paused = paused && !pp_process.slot->pause_changed;
	SpinLockRelease(&pp_process.slot->mutex);
}

bool
pp_process_may_be_paused(void)
{
	return *(volatile bool *) &pp_process.slot->pause_changed;
}

/* Connect this process, which is attached to its slot; what both kinds of them need. */
void
pp_process_enter(Oid database, const char *application)
{
	pp_role_settings_note_server();
	pp_database_init(database);
	pp_identity_init();
	pp_timer_init(pp_process.slot);
	pp_process.batch_context =
		AllocSetContextCreate(TopMemoryContext, "persist_pipeline batch", ALLOCSET_DEFAULT_SIZES);

	StartTransactionCommand();
	pp_process.database_name =
		MemoryContextStrdup(TopMemoryContext, get_database_name(MyDatabaseId));
	CommitTransactionCommand();

	SetConfigOption("application_name", application, PGC_USERSET, PGC_S_OVERRIDE);
	pgstat_report_appname(application);

	pp_process_find_extension();
	pp_parking_init(&pp_process.claim);
	MemoryContextSwitchTo(pp_process.batch_context);
}

void
pp_process_take_slot(int slot_number, Oid database)
{
	pp_process.slot = pp_shmem_slot(slot_number);
	pp_shmem_am_worker = true;
	pp_process.since = pp_steady_now();
	pp_process_handle_signals();
	attach(database);

	wait_event = pp_wait_event("PersistPipelineWorker");
	pp_process_enter(database, "persist_pipeline worker");
	pp_upkeep_init(&pp_process.claim);
	MemoryContextSwitchTo(pp_process.batch_context);
	pp_process_look_for_pause();
	if (pp_slot_is_paused(pp_process.slot))
	{
		pp_process_top_up_ids();
		pp_intake_count(&pp_process.claim);
	}
	pp_apply_init(&pp_process.claim);
	pp_ring_open(&pp_process.slot->ring);
	pp_ring_attend(&pp_process.slot->ring, true);
	ConditionVariableBroadcast(&pp_process.slot->settled); /* who waits for us */
	ereport(DEBUG1, (errmsg_internal("persist_pipeline worker for database \"%s\" started",
									 pp_process.database_name)));
}

void
pp_process_reload_settings(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

/* Between transactions there is nothing that a cancellation could mean. */
void
pp_process_check_interrupts(void)
{
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
}

/* Sleep until woken (true), or for so many ms (-1: no limit). */
bool
pp_process_sleep(PpWorkerState state, long ms)
{
	bool woken;

	pp_bad_rows_report_rest();
	pp_shmem_set_worker_state(pp_process.slot, state);
	pp_process_check_interrupts();
	PP_FAULT(worker_naps);
	woken = pp_sleeper_sleep(&pp_process.slot->worker, ms, wait_event);
	pp_process_check_interrupts();

	return woken;
}
