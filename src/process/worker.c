/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The process that empties one slot's ring; see worker.h.
 *
 * It sleeps while the ring is empty; after worker_idle_timeout, or when another database waits
 * for a slot, it gives its own back and leaves.  Nobody takes it from a worker.
 *
 * It writes when it has lingered for long enough (linger.h), when batch_size items wait, when the
 * ring is half full, or when persist_flush asks.
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

#include "base/compat.h"
#include "base/config.h"
#include "base/faults.h"
#include "base/savepoint.h"
#include "process/process.h"
#include "process/worker.h"
#include "ring/lease.h"
#include "ring/window.h"
#include "store/shutdowns.h"
#include "worker/bad_rows.h"
#include "worker/batch.h"
#include "worker/classify.h"
#include "worker/commit.h"
#include "worker/linger.h"
#include "worker/parking.h"
#include "worker/poison.h"
#include "worker/progress.h"
#include "worker/save_to_journal.h"
#include "worker/settle.h"
#include "worker/timer.h"
#include "worker/upkeep.h"

#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 10000
#define TURN_MS 1000		 /* of a worker for which others wait */
#define LANDING_MS 50		 /* for what is parked to come in, before more follows it */
#define NOBODY_MS 1000		 /* without an extension, until the slot can be given back */
#define ROTATE_WAIT_MS 10000 /* while a journal has to wait to be emptied */
#define ARRIVE_MS 1500		 /* for what is in commit, and in no journal, when the worker leaves */

static PpSlot *slot;	   /* the process's */
static bool worked = true; /* since we were idle */
static bool idled = false; /* long enough to leave, but the slot is still needed */
static PpLinger last_batch;
static PpSteady batch_began;  /* the one at work, or the pass that it is a part of ... */
static int64 batch_began_cpu; /* ... by pp_steady_cpu() */

/* ---- its slot and its database ---- */

/* Leave the slot, whatever ended this process. */
static void
detach_worker(int code, Datum arg)
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
static bool
give_back_slot(bool to_others)
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

/* The sequence is read in a transaction of the superuser's own. */
static void
top_up_ids(void)
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
static void
look_for_worker_pause(void)
{
	bool paused = pp_process_read_pauses(&pp_process.slot->pause_changed);

	SpinLockAcquire(&pp_process.slot->mutex);
	pp_process.slot->paused = paused && !pp_process.slot->pause_changed;
	SpinLockRelease(&pp_process.slot->mutex);
}

static bool
may_worker_be_paused(void)
{
	return *(volatile bool *) &pp_process.slot->pause_changed;
}

/* Sleep until woken (true), or for so many ms (-1: no limit). */
static bool
worker_sleep(PpWorkerState state, long ms)
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

static void
take_worker_slot(int slot_number, Oid database)
{
	pp_process_attach(slot_number, database, detach_worker);
	pp_process.stop_closes = &pp_process.slot->ring;

	pp_process.wait_event = pp_wait_event("PersistPipelineWorker");
	pp_process_enter(database, "persist_pipeline worker");
	pp_upkeep_init(&pp_process.claim);
	MemoryContextSwitchTo(pp_process.batch_context);
	look_for_worker_pause();
	if (pp_slot_is_paused(pp_process.slot))
	{
		top_up_ids();
		pp_intake_count(&pp_process.claim);
	}
	pp_settle_init(&pp_process.claim);
	pp_ring_open(&pp_process.slot->ring);
	pp_ring_attend(&pp_process.slot->ring, true);
	ConditionVariableBroadcast(&pp_process.slot->settled); /* who waits for us */
	ereport(DEBUG1, (errmsg_internal("persist_pipeline worker for database \"%s\" started",
									 pp_process.database_name)));
}

/* ---- its turns ---- */

/*
 * What earlier workers have left is written first.  Called when this worker is about to write
 * something, and not before.
 */
static void
recover(void)
{
	static bool recovered = false;

	if (recovered)
		return;
	top_up_ids(); /* without positions a pass has no boundary */
	pp_ring_recover(&slot->ring);
	recovered = true;
}

static bool
others_wait(void)
{
	return *(volatile bool *) &pp_shmem->crowded;
}

/* Is it time to go, in good order and without a stop? */
static bool
has_to_leave(void)
{
	PpRingView view;

	if (pp_process.given_back || idled || pp_timer_is_blocked(slot) || pp_slot_is_paused(slot) ||
		pp_role_transaction_is_spent())
		return true;
	if (!others_wait())
		return false;
	view = pp_ring_view(&slot->ring);
	return (!pp_intake_is_pending(&view) && !pp_slot_is_wanted(slot)) ||
		   pp_steady_has_lasted(pp_process.since, TURN_MS);
}

/* Is something parked that is to be tried, or being tried? */
static bool
is_retried(void)
{
	bool retried;

	SpinLockAcquire(&slot->mutex);
	retried = slot->retrier.pid != 0 || slot->retry_at != PP_NEVER;
	SpinLockRelease(&slot->mutex);
	return retried;
}

/*
 * Nothing to do for now: report the statistics, and sleep until woken.  Give the slot back if
 * another database waits for one, if nobody has woken this worker for worker_idle_timeout, or if
 * nobody can; or leave the slot to its retrier.
 */
static void
sleep_idle(PpRingView view)
{
	bool journal_waits;

	MemoryContextReset(pp_process.batch_context); /* the last one may have been large */
	pp_progress_end();
	journal_waits = pp_upkeep_idle();
	MemoryContextSwitchTo(pp_process.batch_context);
	if (!pp_ring_arm(&slot->ring, &view, view.published + 1, PG_UINT64_MAX))
		return;
	pgstat_report_activity(STATE_IDLE, NULL);
	pgstat_report_stat(true);

	/* being woken for nothing doesn't make this worker less idle than others */
	if (worked)
	{
		SpinLockAcquire(&slot->mutex);
		slot->idle_since = pp_steady_now();
		SpinLockRelease(&slot->mutex);
		worked = false;
	}

	/* whoever waits sees that the ring is empty, or we see that somebody does */
	if (pp_shmem->slots_wanted && give_back_slot(true))
		return;
	if (!OidIsValid(pp_process.claim.extension))
	{
		if (!give_back_slot(false))
			/* somebody is in the middle of a commit */
			(void) worker_sleep(PP_WORKER_IDLE, NOBODY_MS);
	}
	else if (journal_waits)
	{
		if (!worker_sleep(PP_WORKER_IDLE, ROTATE_WAIT_MS))
			pp_upkeep_journals();
	}
	else if (!worker_sleep(PP_WORKER_IDLE,
						   pp_config_worker_idle_timeout > 0 ? pp_config_worker_idle_timeout : -1))
	{
		idled = is_retried();
		if (!idled)
			(void) give_back_slot(false);
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

	for (uint64 at = view.head; (entry = pp_ring_take(&slot->ring, at, view.tail)) != NULL;
		 at += entry->bytes)
	{
		if (entry->extension == pp_process.claim.extension || entry->settled == entry->items)
			continue;
		pp_process_find_extension(); /* it may be ours that is old */
		if (entry->extension == pp_process.claim.extension)
			continue;
		items = pp_ring_discard(&slot->ring, entry->extension);
		break; /* that has freed entries: look at the ring anew */
	}
	if (items == 0)
		return false;

	SpinLockAcquire(&slot->mutex);
	slot->discarded += items;
	SpinLockRelease(&slot->mutex);
	ConditionVariableBroadcast(&slot->settled);
	ereport(LOG,
			(errmsg("%llu items of database \"%s\" are gone with extension \"%s\", which was "
					"dropped before they were written",
					(unsigned long long) items, pp_process.database_name, "persist_pipeline")));
	return true;
}

/* Whoever finds the journal full, or looks, is told why; 0: nothing is in the way. */
static void
note_backing_off(int sqlstate)
{
	SpinLockAcquire(&slot->mutex);
	slot->backs_off_sqlstate = sqlstate;
	slot->backs_off_target = pp_statement_state.target;
	if (sqlstate != 0)
		pp_shmem_count_error_locked(slot, sqlstate);
	SpinLockRelease(&slot->mutex);
}

/* A transient error: say so once, and wait, longer each time. */
static void
back_off(const ErrorData *error)
{
	long ms = Min(RETRY_MAX_MS, RETRY_MIN_MS << Min(pp_process.failures, 10));
	PpSteady until = pp_steady_in(ms);
	long left;

	if (pp_timer_cut == PP_CUT_BLOCKED)
		return;
	if (!ShutdownRequestPending)
		pp_save_to_journal_at_risk(&pp_process.claim);
	note_backing_off(error->sqlerrcode);
	if (pp_process.failures++ == 0 && pp_timer_cut != PP_CUT_STOP)
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("persist_pipeline worker for database \"%s\" will try again: SQLSTATE %s",
						pp_process.database_name, unpack_sql_state(error->sqlerrcode)),
				 errdetail("Its items wait.")));

	while (!has_to_leave() && (left = pp_steady_ms_until(until)) > 0)
	{
		/* a stop may have ended who was in the way, and there is little time */
		if (ShutdownRequestPending)
			left = Min(left, PP_TIMER_MS);
		/* so may what has come while the rest was saved */
		else if (pp_window_is_over(&slot->ring))
			pp_save_to_journal_at_risk(&pp_process.claim);
		else if (pp_ring_bounded_since(&slot->ring) > 0)
			left = Min(left, PP_TIMER_MS);
		worker_sleep(ShutdownRequestPending ? PP_WORKER_STOPPING : PP_WORKER_RETRYING, left);
		if (ShutdownRequestPending)
			break;
	}
}

/*
 * The next work items.  That can mean to scan a long journal: the clock runs, and where we
 * are wanted elsewhere before it ends there is nothing for now.
 */
static PpIntake
take_work_items(PpWorkItem **work_items, int *nwork_items)
{
	PpIntake volatile intake = PP_INTAKE_BUSY;
	PpCatcher catcher = pp_savepoint_catcher();
	ErrorData *volatile error = NULL;

	pp_timer_attempt_began = PP_NEVER; /* no user's code runs here */
	if (pp_timer_cut != PP_CUT_STOP)
		pp_timer_cut = PP_CUT_NONE;
	pp_timer_start();
	PG_TRY();
	{
		intake = pp_intake_next(&pp_process.claim, pp_settle_width(), work_items, nwork_items);
	}
	PG_CATCH();
	{
		error = pp_savepoint_catch(&catcher);
		if (!pp_classify_is_transient(error, pp_timer_cut))
			ReThrowError(error);
		QueryCancelPending = false;
		AbortCurrentTransaction();
		pp_intake_forget();
	}
	PG_END_TRY();
	pp_timer_stop();
	MemoryContextSwitchTo(pp_process.batch_context);
	if (error && pp_timer_cut != PP_CUT_STOP)
	{
		back_off(error);
		return PP_INTAKE_NOTHING; /* look again */
	}
	return intake;
}

/*
 * Give the retrier a moment: so it can write the last parked items of a target that gets new ones
 * all the time.
 */
static void
let_land(void)
{
	PpSteady until = pp_steady_in(LANDING_MS);
	long ms;

	ConditionVariablePrepareToSleep(&slot->settled);
	while (pp_parking_has_to_let_land() && !has_to_leave() && (ms = pp_steady_ms_until(until)) > 0)
		(void) ConditionVariableTimedSleep(&slot->settled, ms,
										   pp_wait_event("PersistPipelineWorker"));
	ConditionVariableCancelSleep();
}

/* What the next one waits for.  A pass, and its scan of the journal, counts as one batch. */
static void
note_batch(void)
{
	last_batch = (PpLinger){.began = batch_began, .took = pp_steady_cpu() - batch_began_cpu};
}

/*
 * Settle the next work items, up to batch_size items.  False: there was none to take,
 * since a producer is still copying the first one.
 */
static bool
write_batch(PpRingView view)
{
	ErrorData *error = NULL;
	PpWorkItem *work_items;
	int nwork_items;
	PpOutcome outcome;
	PpSteady began = pp_steady_now();

	worked = true;
	MemoryContextReset(pp_process.batch_context);
	MemoryContextSwitchTo(pp_process.batch_context);
	pp_progress_begin(slot);
	if (!view.pass)
	{
		batch_began = began;
		batch_began_cpu = pp_steady_cpu();
	}
	if (discard_old(view))
		return true;
	switch (take_work_items(&work_items, &nwork_items))
	{
		case PP_INTAKE_NOTHING:
			note_batch();
			pp_parking_end_batch(pp_intake_owes_earlier());
			ConditionVariableBroadcast(&slot->settled); /* a pass has ended */
			return true;
		case PP_INTAKE_BUSY:
			return false;
		case PP_INTAKE_WORK:
			break;
	}

	pp_shmem_set_worker_state(slot,
							  ShutdownRequestPending ? PP_WORKER_STOPPING : PP_WORKER_WRITING);
	pgstat_report_activity(STATE_RUNNING, "writing a batch");
	pp_parking_begin_batch();
	pp_timer_start();
	outcome = pp_settle(work_items, nwork_items, &error);
	pp_timer_stop();
	note_batch();
	if (!pp_slot_end_commit(slot))
		proc_exit(1);
	pp_process_check_interrupts(); /* its last tick must not hit what comes now */
	pgstat_report_stat(false);

	pp_intake_note_settled(&pp_process.claim, outcome == PP_SETTLED);
	PP_FAULT(ends_batch);
	pp_parking_end_batch(pp_intake_owes_earlier());
	if (!ShutdownRequestPending)
		let_land();
	if (outcome == PP_TRANSIENT)
	{
		if (!pp_role_transaction_is_spent())
			back_off(error);
	}
	else
	{
		pp_process.failures = 0;
		pp_timer_end_batch();
		note_backing_off(0);
		if (pp_ring_is_late(&slot->ring) && pp_window_is_kept(began))
			pp_ring_set_late(&slot->ring, false);
		pp_progress_note(slot, pp_process.database_name);
		pp_upkeep_batch();
		MemoryContextSwitchTo(pp_process.batch_context);
		SpinLockAcquire(&slot->mutex);
		slot->starts = 0; /* this worker works */
		SpinLockRelease(&slot->mutex);
	}

	return true;
}

/* How many ms to gather items for, until there is a batch to write or time to be idle; 0: no more. */
static long
ms_to_gather(const PpRingView *view)
{
	PpSteady oldest = PP_NEVER;
	PpSteady due = PP_NEVER;
	PpSteady until;
	bool is_asked;

	if (others_wait())
		return 0;
	if (!pp_intake_is_pending(view) && (!pp_config_adaptive_flush || pp_shmem->slots_wanted))
		return 0;

	SpinLockAcquire(&slot->mutex);
	is_asked = view->head < slot->flush_to || pp_slot_awaits_pass(slot, view);
	if (pp_slot_is_due(slot, view))
		due = slot->due;
	SpinLockRelease(&slot->mutex);
	if (is_asked || view->recovering || view->pass || view->passes < view->moved ||
		pp_ring_pending(view) >= (uint64) pp_config_batch_size ||
		view->tail - view->head >= slot->ring.size / 2)
		return 0;

	if (view->head < view->tail)
		oldest = pp_ring_entry(&slot->ring, view->head)->published_at;
	if (view->diverted)
		oldest = Min(oldest, view->diverted_at);
	until = pp_linger_until(&last_batch, oldest, pp_config_flush_interval * INT64CONST(1000),
							pp_config_adaptive_flush);
	return pp_steady_ms_until(Min(until, due));
}

/* One turn of the loop: write what is due, or sleep until something may be. */
static void
take_turn(void)
{
	PpRingView view = pp_ring_view(&slot->ring);
	long ms = ms_to_gather(&view);

	if (ms > 0)
	{
		if (pp_ring_arm(&slot->ring, &view, view.settled + pp_config_batch_size,
						view.head + slot->ring.size / 2))
			worker_sleep(PP_WORKER_GATHERING, ms);
	}
	else if (!pp_intake_is_pending(&view))
		sleep_idle(view);
	else if (!write_batch(view))
	{
		if (pp_ring_arm(&slot->ring, &view, view.published + 1, PG_UINT64_MAX))
			worker_sleep(PP_WORKER_GATHERING, -1);
	}
}

/*
 * What is in the ring alone goes to the journal: this worker leaves, and the server may be about
 * to end.  Nobody is let in any more that has no journal; who has been is in the middle of a
 * commit, which takes long only where other code does.  The worker's time is over, but this has
 * to be done: nothing is lost at a stop.  It waits for no lock if a command holds the database,
 * which then is dropping the extension, nor at its end, where nobody can call it back.
 */
static void
save_volatile_items(void)
{
	PpSteady until = pp_steady_in(ARRIVE_MS);
	bool may_wait = !pp_timer_is_blocked(slot) && !proc_exit_inprogress;
	ErrorData *error;
	PpWorkItem *work_items;
	int nwork_items;

	pp_ring_attend(&slot->ring, false);
	if (!OidIsValid(pp_process.claim.extension))
		return;
	while (pp_ring_is_busy(&slot->ring) ||
		   (pp_ring_view(&slot->ring).reserved_alone > 0 && pp_steady_ms_until(until) > 0))
		worker_sleep(PP_WORKER_STOPPING, 1);

	pp_intake_forget();
	MemoryContextReset(pp_process.batch_context);
	MemoryContextSwitchTo(pp_process.batch_context);
	pp_intake_volatile(&pp_process.claim, &work_items, &nwork_items);
	error = nwork_items > 0
				? pp_save_to_journal(&pp_process.claim, work_items, nwork_items, may_wait)
				: NULL;
	if (error)
		ereport(WARNING, (errcode(error->sqlerrcode),
						  errmsg("%llu items of database \"%s\" could not be saved: SQLSTATE %s",
								 (unsigned long long) pp_ring_volatile_items(&slot->ring),
								 pp_process.database_name, unpack_sql_state(error->sqlerrcode)),
						  errdetail("They stay in the ring, and are lost if the server stops.")));
}

/*
 * Something has ended this worker, and after it there may come none: it saves what it can, as
 * long as it is connected.  An error ends only that.  One that has lost its place takes it again,
 * if the other one hasn't come: the server may be stopping.
 */
static void
save_at_worker_exit(int code, Datum arg)
{
	uint64 generation;

	if (code == 0 || pp_process.given_back || !PostmasterIsAlive())
		return;
	pp_timer_stop();
	AbortOutOfAnyTransaction(); /* which may take long, and another one may come meanwhile */
	if (!pp_slot_begin_commit(slot) && !pp_slot_attach(slot, MyDatabaseId, &generation))
		return; /* it has */
	save_volatile_items();
}

/*
 * Nobody knows when it will be this slot's turn again: others wait, its database is paused, or
 * a command holds it.  The server may stop before that.
 */
static void
leave_turn(void)
{
	if (!pp_timer_is_blocked(slot))
		(void) pp_upkeep_idle();
	MemoryContextSwitchTo(pp_process.batch_context);
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
	return pp_slot_is_paused(slot) || pp_role_transaction_is_spent() ||
		   (view->head == view->tail && view->passes >= last_pass);
}

/*
 * Stop: close the ring, wait for transactions that are committing, and write what is there, as
 * far as the time allows.
 */
static void
stop(void)
{
	PpRingView view;
	uint64 written_before = slot->written;
	uint64 last_pass;
	bool paused;
	PpStop report;

	pp_shmem_set_worker_state(slot, PP_WORKER_STOPPING);
	pp_ring_close(&slot->ring);
	if (may_worker_be_paused())
		look_for_worker_pause();
	paused = pp_slot_is_paused(slot);
	if (!paused)
		recover();
	view = pp_ring_view(&slot->ring);

	last_pass = view.passes + view.pass + view.recovering + view.diverted;
	while (!is_through(&view, last_pass) && !pp_timer_stop_is_overdue() &&
		   !pp_timer_is_blocked(slot))
	{
		if (paused || pp_role_transaction_is_spent() || !pp_intake_is_pending(&view) ||
			!write_batch(view))
		{
			if (pp_ring_arm(&slot->ring, &view, view.published + 1, PG_UINT64_MAX))
				worker_sleep(PP_WORKER_STOPPING, PP_TIMER_MS);
		}
		view = pp_ring_view(&slot->ring);
	}
	save_volatile_items();
	if (pp_timer_is_blocked(slot))
		return; /* this is no longer a stop */

	pp_counters_forget_reasons(&slot->counters);
	report.forced = !is_through(&view, last_pass);
	report.drained = slot->written - written_before;
	view = pp_ring_view(&slot->ring);
	report.seconds = (pp_steady_now() - pp_timer_stop_requested_at) / 1e6;
	report.journalled = pp_ring_pending(&view);
	pp_shutdowns_record(&report);
	pgstat_report_stat(true);
	pp_bad_rows_report_rest();
	pp_shutdowns_log(&report, pp_process.database_name, view.reserved);
}

void
pp_worker_main(Datum slot_number)
{
	Oid database;

	memcpy(&database, MyBgworkerEntry->bgw_extra, sizeof(Oid));
	take_worker_slot(DatumGetInt32(slot_number), database);
	slot = pp_process.slot;
	/* this comes before the end of the connection */
	before_shmem_exit(save_at_worker_exit, (Datum) 0);

	while (!ShutdownRequestPending && !has_to_leave())
	{
		pp_process_check_interrupts();
		pp_process_reload_settings();
		if (may_worker_be_paused())
		{
			look_for_worker_pause();
			/* what we have parked as paused, while it was resumed, nobody has called for */
			if (pp_counters_any_parked(&slot->counters))
				pp_shmem_call_retrier(slot);
			continue;
		}
		recover();
		top_up_ids();
		if (pp_window_is_over(&slot->ring))
			pp_save_to_journal_at_risk(&pp_process.claim);
		take_turn();
	}

	pp_bad_rows_report_rest();
	if (ShutdownRequestPending && !pp_process.given_back)
		stop();
	else if (!pp_process.given_back && OidIsValid(pp_process.claim.extension))
		leave_turn();
	if (!ShutdownRequestPending)
		ereport(DEBUG1, (errmsg_internal("persist_pipeline worker for database \"%s\" left",
										 pp_process.database_name)));
	pgstat_report_stat(true);
	proc_exit(0);
}
