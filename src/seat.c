/*-------------------------------------------------------------------------
 *
 * seat.c
 *	  A worker's seat: taken, and left; see seat.h.
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

#include "clock.h"
#include "compat.h"
#include "connect.h"
#include "extension.h"
#include "apply.h"
#include "faults.h"
#include "identity.h"
#include "lease.h"
#include "letterbox.h"
#include "parking.h"
#include "pause.h"
#include "poison.h"
#include "role_settings.h"
#include "seat.h"
#include "statement.h"
#include "upkeep.h"

PpSeat pp_seat;

/* The ring to close at SIGTERM: ours, once we are its lane's worker */
static PpRing *volatile stop_closes = NULL;

static uint32 wait_event;

static void
request_stop(SIGNAL_ARGS)
{
	int save_errno = errno;

	if (pp_stop_requested_at == 0)
		pp_stop_requested_at = pp_steady_now();
	ShutdownRequestPending = true;
	/* whoever has lost its place has no ring */
	if (stop_closes && *(volatile pid_t *) &pp_seat.lane->worker_pid == MyProcPid)
		pp_ring_close_at_once(stop_closes);
	pp_wake_self();
	errno = save_errno;
}

/* Either process of the lane; a ring is closed only by the worker. */
void
pp_seat_handle_signals(void)
{
	pqsignal(SIGTERM, request_stop);
	pqsignal(SIGHUP, pp_handle_reload);
	ConfigReloadPending = true; /* until now it was ignored */
	BackgroundWorkerUnblockSignals();
}

/*
 * The clock had to end this worker.  Where the target is known, the next one leaves that to the
 * retrier, and no item is to blame yet.
 */
static bool
leave_to_retrier(void)
{
	Oid target = pp_batch_state.target;

	if (pp_am_retrier || pp_cut != PP_CUT_TIMEOUT || !OidIsValid(target) ||
		pp_parking_has_hung(target))
		return false;
	pp_parking_note_outlived(MyDatabaseId, target);
	return true;
}

/*
 * Either process of the lane: this is how it ends, if that says something of what it tries.
 * True: another one can go on at once.
 */
bool
pp_seat_note_end(int code)
{
	bool left = code != 0 && leave_to_retrier();

	if (code == 0)
		pp_poison_close(PP_END_CLEAN);
	else if (left || pp_cut == PP_CUT_STOP || pp_cut == PP_CUT_HOLD || !PostmasterIsAlive())
		pp_poison_close(PP_END_EXCUSED);
	else
	{
		if (pp_cut == PP_CUT_TIMEOUT)
			pp_poison_note_outlived();
		pp_poison_close(PP_END_BLAMED);
	}
	return left;
}

/* Leave the lane, whatever ended this process. */
static void
detach(int code, Datum arg)
{
	PpRingView view;
	bool left;

	if (pp_seat.given_back)
	{
		(void) pp_seat_note_end(code);
		return; /* from it we are detached */
	}
	if (pp_lane_is_replaced(pp_seat.lane))
	{
		pp_lane_detach(pp_seat.lane);
		pp_launcher_wake();
		return; /* the other one goes on */
	}
	view = pp_ring_view(&pp_seat.lane->ring);
	if (code == 0 && !pp_intake_is_pending(&view) && !pp_tally_any_parked(&pp_seat.lane->tally))
		pp_poison_forget();
	left = pp_seat_note_end(code);

	SpinLockAcquire(&pp_seat.lane->mutex);
	if (left || (code == 0 && pp_seat.failures == 0))
		pp_seat.lane->starts = 0;
	SpinLockRelease(&pp_seat.lane->mutex);

	/* while the ring is ours: once we are detached it may go to another database */
	pp_ring_attend(&pp_seat.lane->ring, false);
	/* from now on the next item calls the launcher, which looks for old ones too */
	(void) pp_ring_arm(&pp_seat.lane->ring, &view, view.published + 1, PG_UINT64_MAX);
	pp_lane_detach(pp_seat.lane);
	pp_launcher_wake();
	ConditionVariableBroadcast(&pp_seat.lane->settled);
}

/* Become the lane's worker; leave at once if that isn't wanted any more. */
static void
attach(Oid database)
{
	pp_seat.claim.lane = pp_seat.lane;
	if (!pp_lane_attach(pp_seat.lane, database, &pp_seat.claim.generation))
		proc_exit(0);
	before_shmem_exit(detach, (Datum) 0);
	stop_closes = &pp_seat.lane->ring;
}

/*
 * Give the lane back, which is idle; `to_others`: if another database waits for one.  False: it
 * is still ours.
 */
bool
pp_seat_give_back(bool to_others)
{
	if (!pp_tally_any_parked(&pp_seat.lane->tally))
		pp_poison_forget();
	stop_closes = NULL; /* a signal must not close what isn't ours any more */
	pp_seat.given_back = pp_lane_give_back(pp_seat.lane, to_others);
	if (pp_seat.given_back)
		return true;
	stop_closes = &pp_seat.lane->ring;
	if (ShutdownRequestPending)
		pp_ring_close(&pp_seat.lane->ring);
	return false;
}

/* The sequence is read in a transaction of the superuser's own. */
void
pp_seat_top_up_ids(void)
{
	PpRingView view = pp_ring_view(&pp_seat.lane->ring);
	bool few_positions = view.next_end - view.next < PP_LEASE_IDS / 2;

	if (!OidIsValid(pp_seat.claim.extension) || !(few_positions || pp_lease_is_low(&pp_seat.claim)))
		return;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (pp_lease_is_low(&pp_seat.claim))
		pp_lease_top_up(&pp_seat.claim);
	if (few_positions)
		pp_lease_positions(&pp_seat.claim);
	CommitTransactionCommand();
	MemoryContextSwitchTo(pp_seat.batch_context);
}

/* What is installed in the database?  FATAL if it can't be used. */
void
pp_seat_find_extension(void)
{
	const char *fault;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pp_seat.claim.extension = pp_extension_find(&fault);
	if (fault)
		ereport(FATAL, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("persist_pipeline worker for database \"%s\" cannot work: %s",
							   pp_seat.database_name, fault)));
	CommitTransactionCommand();
	MemoryContextSwitchTo(pp_seat.batch_context);
}

/*
 * Is the database paused, or are targets?  *changed: the lane's word that this process has to
 * look, which is true again if it has to look once more.
 */
bool
pp_seat_read_pauses(bool *changed)
{
	bool paused;

	SpinLockAcquire(&pp_seat.lane->mutex);
	*changed = false;
	SpinLockRelease(&pp_seat.lane->mutex);

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	paused = OidIsValid(pp_seat.claim.extension) && pp_is_paused(pp_seat.claim.extension);
	pp_parking_look_for_pauses();
	CommitTransactionCommand();
	MemoryContextSwitchTo(pp_seat.batch_context);

	return paused;
}

/* Is the database paused?  From now on the launcher knows it, too. */
void
pp_seat_look_for_pause(void)
{
	bool paused = pp_seat_read_pauses(&pp_seat.lane->pause_changed);

	SpinLockAcquire(&pp_seat.lane->mutex);
	pp_seat.lane->paused = paused && !pp_seat.lane->pause_changed;
	SpinLockRelease(&pp_seat.lane->mutex);
}

bool
pp_seat_may_be_paused(void)
{
	return *(volatile bool *) &pp_seat.lane->pause_changed;
}

/* Connect this process, which is attached to its lane; what both kinds of them need. */
void
pp_seat_enter(Oid database, const char *application)
{
	pp_role_settings_note_server();
	pp_connect(database);
	pp_identity_init();
	pp_clock_init(pp_seat.lane);
	pp_seat.batch_context =
		AllocSetContextCreate(TopMemoryContext, "persist_pipeline batch", ALLOCSET_DEFAULT_SIZES);

	StartTransactionCommand();
	pp_seat.database_name = MemoryContextStrdup(TopMemoryContext, get_database_name(MyDatabaseId));
	CommitTransactionCommand();

	SetConfigOption("application_name", application, PGC_USERSET, PGC_S_OVERRIDE);
	pgstat_report_appname(application);

	pp_seat_find_extension();
	pp_parking_init(&pp_seat.claim);
	MemoryContextSwitchTo(pp_seat.batch_context);
}

void
pp_seat_take(int lane_number, Oid database)
{
	pp_seat.lane = pp_lane(lane_number);
	pp_am_worker = true;
	pp_seat.since = pp_steady_now();
	pp_seat_handle_signals();
	attach(database);

	wait_event = pp_wait_event("PersistPipelineWorker");
	pp_seat_enter(database, "persist_pipeline worker");
	pp_upkeep_init(&pp_seat.claim);
	MemoryContextSwitchTo(pp_seat.batch_context);
	pp_seat_look_for_pause();
	if (pp_lane_is_paused(pp_seat.lane))
	{
		pp_seat_top_up_ids();
		pp_intake_count(&pp_seat.claim);
	}
	pp_apply_init(&pp_seat.claim);
	pp_ring_open(&pp_seat.lane->ring);
	pp_ring_attend(&pp_seat.lane->ring, true);
	ConditionVariableBroadcast(&pp_seat.lane->settled); /* who waits for us */
	ereport(DEBUG1, (errmsg_internal("persist_pipeline worker for database \"%s\" started",
									 pp_seat.database_name)));
}

void
pp_seat_reload_settings(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

/* Between transactions there is nothing that a cancellation could mean. */
void
pp_seat_check_interrupts(void)
{
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
}

/* Sleep until woken (true), or for so many ms (-1: no limit). */
bool
pp_seat_nap(PpWorkerState state, long ms)
{
	bool woken;

	pp_letterbox_say();
	pp_lane_set_state(pp_seat.lane, state);
	pp_seat_check_interrupts();
	PP_FAULT(worker_naps);
	woken = pp_nap(&pp_seat.lane->worker, ms, wait_event);
	pp_seat_check_interrupts();

	return woken;
}
