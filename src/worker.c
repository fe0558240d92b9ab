/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The process that empties one lane's ring; see worker.h.
 *
 * It sleeps while the ring is empty; after worker_idle_timeout, or when another database waits
 * for a lane, it gives its own back and leaves.  Nobody takes it from a worker.
 *
 * It writes when the oldest item is flush_interval old, when batch_size items wait, when the
 * ring is half full, or when persist_flush asks; and then until there is nothing to write.
 *
 * Where more databases have items than there are workers, a worker writes at once
 * what there is, and leaves when there is nothing or its turn is over.  It also
 * leaves, at once and in the middle of a batch, when a command holds its database; and when
 * a role's code has left something in it that another role's must not find (leftovers.h).
 * To leave is not to stop: the ring stays open, and nothing is recorded.
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
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "clock.h"
#include "compat.h"
#include "config.h"
#include "apply.h"
#include "faults.h"
#include "history.h"
#include "letterbox.h"
#include "parking.h"
#include "progress.h"
#include "savepoint.h"
#include "seat.h"
#include "settlement.h"
#include "upkeep.h"
#include "classify.h"
#include "worker.h"

#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 10000
#define TURN_MS 1000		 /* of a worker for which others wait */
#define LANDING_MS 50		 /* for what is parked to come in, before more follows it */
#define NOBODY_MS 1000		 /* without an extension, until the lane can be given back */
#define ROTATE_WAIT_MS 10000 /* while a journal has to wait to be emptied */
#define ARRIVE_MS 1500		 /* for what is in commit, and in no journal, when the worker leaves */

static PpLane *lane;	   /* that of our seat */
static bool worked = true; /* since we were idle */
static bool idled = false; /* long enough to leave, but the lane is still needed */

/* What others have left comes first.  Not before we are sure that we write anything. */
static void
recover(void)
{
	static bool recovered = false;

	if (recovered)
		return;
	pp_seat_top_up_ids(); /* without positions a pass has no boundary */
	pp_ring_recover(&lane->ring);
	recovered = true;
}

static bool
others_wait(void)
{
	return *(volatile bool *) &pp_shared->crowded;
}

/* Is it time to go, in good order and without a stop? */
static bool
has_to_leave(void)
{
	PpRingView view;

	if (pp_seat.given_back || idled || pp_clock_is_held(lane) || pp_lane_is_paused(lane) ||
		pp_apply_is_spent())
		return true;
	if (!others_wait())
		return false;
	view = pp_ring_view(&lane->ring);
	return (!pp_intake_is_pending(&view) && !pp_lane_is_wanted(lane)) ||
		   pp_has_lasted(pp_seat.since, TURN_MS);
}

/* Is something parked that is to be tried, or being tried? */
static bool
is_retried(void)
{
	bool retried;

	SpinLockAcquire(&lane->mutex);
	retried = lane->retrier.pid != 0 || lane->retry_at != PP_NEVER;
	SpinLockRelease(&lane->mutex);
	return retried;
}

/*
 * Nothing to do for now: let the statistics out, and sleep until called.  If another database
 * waits for a lane, nobody has called for long enough, or nobody can, give ours back; or leave it
 * to the retrier.
 */
static void
sleep_idle(PpRingView view)
{
	bool journal_waits;

	MemoryContextReset(pp_seat.batch_context); /* the last one may have been large */
	pp_progress_end();
	journal_waits = pp_upkeep_idle();
	MemoryContextSwitchTo(pp_seat.batch_context);
	if (!pp_ring_arm(&lane->ring, &view, view.published + 1, PG_UINT64_MAX))
		return;
	pgstat_report_activity(STATE_IDLE, NULL);
	pgstat_report_stat(true);

	/* who wakes us for nothing doesn't make us less idle than others */
	if (worked)
	{
		SpinLockAcquire(&lane->mutex);
		lane->idle_since = pp_steady_now();
		SpinLockRelease(&lane->mutex);
		worked = false;
	}

	/* whoever waits sees that the ring is empty, or we see that somebody does */
	if (pp_shared->lanes_wanted && pp_seat_give_back(true))
		return;
	if (!OidIsValid(pp_seat.claim.extension))
	{
		if (!pp_seat_give_back(false))
			(void) pp_seat_nap(PP_WORKER_IDLE,
							   NOBODY_MS); /* somebody is in the middle of a commit */
	}
	else if (journal_waits)
	{
		if (!pp_seat_nap(PP_WORKER_IDLE, ROTATE_WAIT_MS))
			pp_upkeep_journals();
	}
	else if (!pp_seat_nap(PP_WORKER_IDLE, pp_worker_idle_timeout > 0 ? pp_worker_idle_timeout : -1))
	{
		idled = is_retried();
		if (!idled)
			(void) pp_seat_give_back(false);
	}
}

/*
 * Items of an installation that has been dropped since must not reach this one.
 * Most are gone with it; these were in the middle of their commit.  True: there
 * were some.
 */
static bool
discard_old(PpRingView view)
{
	uint64 items = 0;
	PpEntry *entry;

	for (uint64 at = view.head; (entry = pp_ring_take(&lane->ring, at, view.tail)) != NULL;
		 at += entry->bytes)
	{
		if (entry->extension == pp_seat.claim.extension || entry->settled == entry->items)
			continue;
		pp_seat_find_extension(); /* it may be ours that is old */
		if (entry->extension == pp_seat.claim.extension)
			continue;
		items = pp_ring_discard(&lane->ring, entry->extension);
		break; /* that has freed entries: look at the ring anew */
	}
	if (items == 0)
		return false;

	SpinLockAcquire(&lane->mutex);
	lane->discarded += items;
	SpinLockRelease(&lane->mutex);
	ConditionVariableBroadcast(&lane->settled);
	ereport(LOG, (errmsg("%llu items of database \"%s\" are gone with extension \"%s\", which was "
						 "dropped before they were written",
						 (unsigned long long) items, pp_seat.database_name, "persist_pipeline")));
	return true;
}

/* Whoever finds the journal full is told why; 0: nothing is in the way. */
static void
note_stuck(int sqlstate)
{
	SpinLockAcquire(&lane->mutex);
	lane->stuck_sqlstate = sqlstate;
	lane->stuck_target = pp_batch_state.target;
	SpinLockRelease(&lane->mutex);
}

/* A transient error: say so once, and wait, longer each time. */
static void
back_off(const ErrorData *error)
{
	long ms = Min(RETRY_MAX_MS, RETRY_MIN_MS << Min(pp_seat.failures, 10));
	PpSteady until = pp_steady_in(ms);
	long left;

	if (pp_cut == PP_CUT_HOLD)
		return;
	note_stuck(error->sqlerrcode);
	if (pp_seat.failures++ == 0 && pp_cut != PP_CUT_STOP)
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("persist_pipeline worker for database \"%s\" will try again: SQLSTATE %s",
						pp_seat.database_name, unpack_sql_state(error->sqlerrcode)),
				 errdetail("Its items wait.")));

	while (!has_to_leave() && (left = pp_ms_until(until)) > 0)
	{
		/* a stop may have ended who was in the way, and there is little time */
		if (ShutdownRequestPending)
			left = Min(left, PP_CLOCK_MS);
		pp_seat_nap(ShutdownRequestPending ? PP_WORKER_STOPPING : PP_WORKER_RETRYING, left);
		if (ShutdownRequestPending)
			break;
	}
}

/*
 * The next works.  That can mean to scan a long journal: the clock runs, and where we
 * are wanted elsewhere before it ends there is nothing for now.
 */
static PpIntake
take_works(PpWork **works, int *nworks)
{
	PpIntake volatile intake = PP_INTAKE_BUSY;
	PpCatcher catcher = pp_catcher();
	ErrorData *volatile error = NULL;

	pp_attempt_began = PP_NEVER; /* it is no statement of anybody's */
	if (pp_cut != PP_CUT_STOP)
		pp_cut = PP_CUT_NONE;
	pp_clock_start();
	PG_TRY();
	{
		intake = pp_intake_next(&pp_seat.claim, pp_apply_width(), works, nworks);
	}
	PG_CATCH();
	{
		error = pp_catch(&catcher);
		if (!pp_classify_is_transient(error, pp_cut))
			ReThrowError(error);
		QueryCancelPending = false;
		AbortCurrentTransaction();
		pp_intake_forget();
	}
	PG_END_TRY();
	pp_clock_stop();
	MemoryContextSwitchTo(pp_seat.batch_context);
	if (error && pp_cut != PP_CUT_STOP)
	{
		back_off(error);
		return PP_INTAKE_NOTHING; /* look again */
	}
	return intake;
}

/* Give the retrier a moment, so that it gets the better of a target that is busy. */
static void
let_land(void)
{
	PpSteady until = pp_steady_in(LANDING_MS);
	long ms;

	ConditionVariablePrepareToSleep(&lane->settled);
	while (pp_parking_has_to_let_land() && !has_to_leave() && (ms = pp_ms_until(until)) > 0)
		(void) ConditionVariableTimedSleep(&lane->settled, ms, pp_wait_event("PersistPipelineWorker"));
	ConditionVariableCancelSleep();
}

/*
 * Settle the next works, up to batch_size items.  False: there was none to take,
 * since a producer is still copying the first one.
 */
static bool
write_batch(PpRingView view)
{
	ErrorData *error = NULL;
	PpWork *works;
	int nworks;
	PpOutcome outcome;

	worked = true;
	MemoryContextReset(pp_seat.batch_context);
	MemoryContextSwitchTo(pp_seat.batch_context);
	pp_progress_begin(lane);
	if (discard_old(view))
		return true;
	switch (take_works(&works, &nworks))
	{
		case PP_INTAKE_NOTHING:
			pp_parking_end_batch(pp_intake_owes_earlier());
			ConditionVariableBroadcast(&lane->settled); /* a pass has ended */
			return true;
		case PP_INTAKE_BUSY:
			return false;
		case PP_INTAKE_WORK:
			break;
	}

	pp_lane_set_state(lane, ShutdownRequestPending ? PP_WORKER_STOPPING : PP_WORKER_WRITING);
	pgstat_report_activity(STATE_RUNNING, "writing a batch");
	pp_parking_begin_batch();
	pp_clock_start();
	outcome = pp_apply(works, nworks, &error);
	pp_clock_stop();
	if (!pp_lane_end_commit(lane))
		proc_exit(1);
	pp_seat_check_interrupts(); /* its last tick must not hit what comes now */
	pgstat_report_stat(false);

	pp_intake_note_settled(&pp_seat.claim, outcome == PP_SETTLED);
	pp_parking_end_batch(pp_intake_owes_earlier());
	if (!ShutdownRequestPending)
		let_land();
	if (outcome == PP_TRANSIENT)
	{
		if (!pp_apply_is_spent())
			back_off(error);
	}
	else
	{
		pp_seat.failures = 0;
		note_stuck(0);
		pp_progress_note(lane, pp_seat.database_name);
		pp_upkeep_batch();
		MemoryContextSwitchTo(pp_seat.batch_context);
		SpinLockAcquire(&lane->mutex);
		lane->starts = 0; /* this worker works */
		SpinLockRelease(&lane->mutex);
	}

	return true;
}

/* Does anything ask for a batch right now?  Else how many ms to wait for it. */
static bool
is_due(PpRingView view, long *ms)
{
	PpSteady oldest = PP_NEVER;
	uint64 flush_to;
	uint64 flush_passes;

	SpinLockAcquire(&lane->mutex);
	flush_to = lane->flush_to;
	flush_passes = lane->flush_passes;
	SpinLockRelease(&lane->mutex);

	*ms = 0;
	if (view.recovering || view.pass || others_wait() || view.head < flush_to ||
		view.passes < flush_passes || view.passes < view.moved ||
		pp_ring_pending(&view) >= (uint64) pp_batch_size ||
		view.tail - view.head >= lane->ring.size / 2)
		return true;

	if (view.head < view.tail)
		oldest = pp_ring_entry(&lane->ring, view.head)->published_at;
	if (view.diverted)
		oldest = Min(oldest, view.diverted_at);
	*ms = pp_ms_until(pp_steady_plus(oldest, pp_flush_interval));
	return *ms <= 0;
}

/* One turn of the loop: write what is due, or sleep until something may be. */
static void
take_turn(void)
{
	PpRingView view = pp_ring_view(&lane->ring);
	long ms;

	if (!pp_intake_is_pending(&view))
		sleep_idle(view);
	else if (!is_due(view, &ms))
	{
		if (pp_ring_arm(&lane->ring, &view, view.settled + pp_batch_size,
						view.head + lane->ring.size / 2))
			pp_seat_nap(PP_WORKER_GATHERING, ms);
	}
	else if (!write_batch(view))
	{
		if (pp_ring_arm(&lane->ring, &view, view.published + 1, PG_UINT64_MAX))
			pp_seat_nap(PP_WORKER_GATHERING, -1);
	}
}

/*
 * What is in the ring alone goes to the journal: this worker leaves, and the server may be
 * about to end.  Nobody is let in any more that has no journal; who has been is in the middle
 * of a commit, which takes long only where other code does.  The worker has no more time; but
 * this is the promise.  It waits for no lock if a command holds the database, which then is
 * dropping the extension, nor at its end, where nobody can call it back.
 */
static void
save_volatile_items(void)
{
	PpSteady until = pp_steady_in(ARRIVE_MS);
	bool may_wait = !pp_clock_is_held(lane) && !proc_exit_inprogress;
	ErrorData *error;
	PpWork *works;
	int nworks;

	pp_ring_attend(&lane->ring, false);
	if (!OidIsValid(pp_seat.claim.extension))
		return;
	while (pp_ring_is_busy(&lane->ring) ||
		   (pp_ring_view(&lane->ring).reserved_alone > 0 && pp_ms_until(until) > 0))
		pp_seat_nap(PP_WORKER_STOPPING, 1);

	pp_intake_forget();
	MemoryContextReset(pp_seat.batch_context);
	MemoryContextSwitchTo(pp_seat.batch_context);
	pp_intake_volatile(&pp_seat.claim, &works, &nworks);
	error = nworks > 0 ? pp_settle_to_journal(works, nworks, may_wait) : NULL;
	if (error)
		ereport(WARNING, (errcode(error->sqlerrcode),
						  errmsg("%llu items of database \"%s\" could not be saved: SQLSTATE %s",
								 (unsigned long long) pp_ring_volatile_items(&lane->ring),
								 pp_seat.database_name, unpack_sql_state(error->sqlerrcode)),
						  errdetail("They stay in the ring, and are lost if the server stops.")));
}

/*
 * Something has ended this worker, and after it there may come none: it saves what it can, as
 * long as it is connected.  An error ends only that.  One that has lost its place takes it again,
 * if the other one hasn't come: the server may be stopping.
 */
static void
save_at_exit(int code, Datum arg)
{
	uint64 generation;

	if (code == 0 || pp_seat.given_back || !PostmasterIsAlive())
		return;
	if (pp_lane_is_replaced(lane) && !pp_lane_attach(lane, MyDatabaseId, &generation))
		return; /* the other one has come */
	pp_clock_stop();
	AbortOutOfAnyTransaction();
	save_volatile_items();
}

/*
 * Nobody knows when it will be this lane's turn again: others wait, its database is paused, or
 * a command holds it.  The server may stop before that.
 */
static void
leave_turn(void)
{
	if (!pp_clock_is_held(lane))
		(void) pp_upkeep_idle();
	MemoryContextSwitchTo(pp_seat.batch_context);
	PP_FAULT(leaves_turn);
	save_volatile_items();
}

/*
 * Has all come through that has to, in a stop?  In a database that is paused nothing
 * is written, nor by a process that is spent, but what is in commit has to arrive.
 */
static bool
is_through(const PpRingView *view, uint64 last_pass)
{
	if (view->reserved > 0)
		return false;
	return pp_lane_is_paused(lane) || pp_apply_is_spent() ||
		   (view->head == view->tail && view->passes >= last_pass);
}

/*
 * The way out: nobody gets in any more, those in commit come through, what is
 * there is written, as far as the time allows.
 */
static void
stop(void)
{
	PpRingView view;
	uint64 written_before = lane->written;
	uint64 last_pass;
	bool paused;
	PpStop report;

	pp_lane_set_state(lane, PP_WORKER_STOPPING);
	pp_ring_close(&lane->ring);
	if (pp_seat_may_be_paused())
		pp_seat_look_for_pause();
	paused = pp_lane_is_paused(lane);
	if (!paused)
		recover();
	view = pp_ring_view(&lane->ring);

	last_pass = view.passes + view.pass + view.recovering + view.diverted;
	while (!is_through(&view, last_pass) && !pp_stop_is_overdue() && !pp_clock_is_held(lane))
	{
		if (paused || pp_apply_is_spent() || !pp_intake_is_pending(&view) || !write_batch(view))
		{
			if (pp_ring_arm(&lane->ring, &view, view.published + 1, PG_UINT64_MAX))
				pp_seat_nap(PP_WORKER_STOPPING, PP_CLOCK_MS);
		}
		view = pp_ring_view(&lane->ring);
	}
	save_volatile_items();
	if (pp_clock_is_held(lane))
		return; /* this is no longer a stop */

	pp_tally_forget_reasons(&lane->tally);
	report.forced = !is_through(&view, last_pass);
	report.drained = lane->written - written_before;
	view = pp_ring_view(&lane->ring);
	report.seconds = (pp_steady_now() - pp_stop_requested_at) / 1e6;
	report.journalled = pp_ring_pending(&view);
	pp_history_record(&report);
	pgstat_report_stat(true);
	pp_letterbox_say();
	pp_history_log(&report, pp_seat.database_name, view.reserved);
}

void
pp_worker_main(Datum lane_number)
{
	Oid database;

	memcpy(&database, MyBgworkerEntry->bgw_extra, sizeof(Oid));
	pp_seat_take(DatumGetInt32(lane_number), database);
	lane = pp_seat.lane;
	before_shmem_exit(save_at_exit, (Datum) 0); /* which comes before the end of the connection */

	while (!ShutdownRequestPending && !has_to_leave())
	{
		pp_seat_check_interrupts();
		pp_seat_reload_settings();
		if (pp_seat_may_be_paused())
		{
			pp_seat_look_for_pause();
			/* what we have parked as paused, while it was resumed, nobody has called for */
			if (pp_tally_any_parked(&lane->tally))
				pp_retrier_call(lane);
			continue;
		}
		recover();
		pp_seat_top_up_ids();
		take_turn();
	}

	pp_letterbox_say();
	if (ShutdownRequestPending && !pp_seat.given_back)
		stop();
	else if (!pp_seat.given_back && OidIsValid(pp_seat.claim.extension))
		leave_turn();
	if (!ShutdownRequestPending)
		ereport(DEBUG1, (errmsg_internal("persist_pipeline worker for database \"%s\" left",
										 pp_seat.database_name)));
	pgstat_report_stat(true);
	proc_exit(0);
}
