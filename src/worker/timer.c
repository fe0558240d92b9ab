/*-------------------------------------------------------------------------
 *
 * timer.c
 *	  Cuts transactions off when it is time; see timer.h.
 *
 * Its timer is a steady one.  Those of the server go by the time of the day: set back, that
 * makes them late by as much.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "base/config.h"
#include "ring/window.h"
#include "worker/identity.h"
#include "worker/poison.h"
#include "worker/statement.h"
#include "worker/timer.h"

#define GRACE_MS 1000 /* from its cancellation to the end of the process */
#define LEAVE_GRACE_MS 250
#define END_MS 500	 /* from there to where it can't be ended */
#define UNDO_MS 1000 /* the same of what is being undone */
#define SHORT_FRACTION 4  /* of statement_timeout, for short tries once a batch has had that ... */
#define MIN_TRY_MS 5	  /* ... of at least that length each */
#define SLICES 32		  /* of statement_timeout: so long may what comes in between take ... */
#define MIN_SLICE_MS 100  /* ... or so long, if that is more */
#define SET_BACK_MS 500 /* less doesn't matter */

volatile sig_atomic_t pp_timer_cut = PP_CUT_NONE;
volatile PpSteady pp_timer_attempt_began = 0;
volatile PpSteady pp_timer_stop_requested_at = 0;

static volatile PpSteady undo_began = 0; /* of what has failed; 0: nothing is being undone */
static PpSteady batch_began = 0;	/* 0: the retrier has no batches */
static bool batch_is_cut = false;	/* it has had its time: short tries from now on */
static int nroles = 1;				/* that its items are of ... */
static int ntargets = 1;			/* ... and targets of one of them, for which a short try is */
static volatile int attempt_ms = 0; /* what the attempt may take */
static int tick_ms = 0;				/* of the timer */
static volatile int waited_ms = 0;	/* for a lock, by what was ended to save what is at risk */

static PpSlot *timer_slot;
static timer_t timer;
static PpSteady block_seen_at = 0;
static TimestampTz day_seen; /* at the last look */

/* Is it time to end, or so many ms past that?  Also called by a signal handler. */
static bool
deadline_has_passed(int grace_ms)
{
	/* what the retrier is at stays parked */
	int patience_ms = pp_shmem_am_retrier ? 0 : pp_config_shutdown_timeout;

	return pp_timer_stop_requested_at != 0 &&
		   pp_steady_has_lasted(pp_timer_stop_requested_at, (int64) patience_ms + grace_ms);
}

/* Does a command want us out of the database?  Also called by a signal handler. */
bool
pp_timer_is_blocked(const PpSlot *slot)
{
	return *(const volatile bool *) &slot->leave;
}

/* Cancel the statement; if its code catches that, end it with the process. */
static void
cut_off(PpCut why, bool for_good)
{
	if (pp_timer_cut != PP_CUT_STOP)
		pp_timer_cut = why;
	QueryCancelPending = true;
	if (for_good)
		ProcDiePending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

/* Has somebody set back the time of the day since the last look? */
static bool
was_day_set_back(void)
{
	TimestampTz before = day_seen;

	day_seen = GetCurrentTimestamp();
	return day_seen < before - SET_BACK_MS * INT64CONST(1000);
}

static void
wake_launcher(void)
{
	Latch *launcher = *(Latch *volatile *) &pp_shmem->launcher.latch;

	if (launcher)
		SetLatch(launcher);
}

/*
 * The worker should have ended by now, and can't: have the launcher replace it.  The next worker
 * finds the target noted as one that hangs, parks its items, and makes no item a candidate.
 */
static void
note_overdue_worker(void)
{
	if (*(volatile pid_t *) &timer_slot->overdue == MyProcPid)
		return;
	if (OidIsValid(pp_statement_state.target))
		pp_poison_close(PP_END_BY_OTHERS);
	*(volatile Oid *) &timer_slot->overdue_target = pp_statement_state.target;
	pg_write_barrier();
	*(volatile pid_t *) &timer_slot->overdue = MyProcPid;
	wake_launcher();
}

/*
 * The same of the retrier: the launcher says so, since a signal handler can't.  A wake-up may
 * be lost, but there are more.
 */
static void
note_overdue_retrier(void)
{
	*(volatile bool *) &timer_slot->retrier.overdue = true;
	if (*(volatile PpRetrierState *) &timer_slot->retrier.state != PP_RETRIER_STUCK)
		wake_launcher();
}

static void
note_overdue(void)
{
	if (pp_shmem_am_retrier)
		note_overdue_retrier();
	else
		note_overdue_worker();
}

/* Has another process taken our place, as the worker of the slot? */
static bool
is_replaced(void)
{
	return !pp_shmem_am_retrier && *(volatile pid_t *) &timer_slot->worker_pid != MyProcPid;
}

/*
 * Has the worker to leave what it is at, for what is at risk?  Not in a COMMIT: another server
 * may have committed its part, and the rows would come twice.  Once it was late, nothing more
 * comes into the ring that would have to be saved.  A stop has little time, and saves all.
 */
static bool
has_to_save(void)
{
	return !pp_shmem_am_retrier && pp_timer_stop_requested_at == 0 && IsTransactionState() &&
		   !pp_ring_is_late(&timer_slot->ring) && !pp_identity_is_committing() &&
		   pp_window_is_over(&timer_slot->ring);
}

/* Those whose rows are to follow wait for lock_timeout, and not for that and this. */
static void
note_lock_wait(void)
{
	TimestampTz began = pg_atomic_read_u64(&MyProc->waitStart);

	if (MyProc->waitLock != NULL && began != 0)
		waited_ms = Max((GetCurrentTimestamp() - began) / 1000, 0);
}

/*
 * SIGTERM alone doesn't end a statement (it should finish); this does, when the time is up.
 * And it keeps statement_timeout, which code must not be able to change.  Who waits for a
 * lock would wait longer than lock_timeout, if that was to end by a time of the day that has
 * been set back: so he begins anew.
 */
static void
look_at_clock(void)
{
	bool set_back = was_day_set_back();
	PpSteady start;

	if (is_replaced())
	{
		pp_poison_mute();
		cut_off(PP_CUT_BLOCKED, true);
		return;
	}
	if (deadline_has_passed(GRACE_MS + 2 * PP_TIMER_MS))
		note_overdue();
	if (deadline_has_passed(0))
		cut_off(PP_CUT_STOP, deadline_has_passed(GRACE_MS));
	else if (set_back && MyProc->waitLock != NULL)
		cut_off(PP_CUT_BLOCKED, false);
	else if (has_to_save())
	{
		note_lock_wait();
		cut_off(PP_CUT_BLOCKED, false);
	}
	else if (pp_timer_is_blocked(timer_slot))
	{
		if (block_seen_at == 0)
			block_seen_at = pp_steady_now();
		cut_off(PP_CUT_BLOCKED, pp_steady_has_lasted(block_seen_at, LEAVE_GRACE_MS));
	}
	else
		block_seen_at = 0;

	if (undo_began != 0 && pp_steady_has_lasted(undo_began, UNDO_MS))
		note_overdue();
	if (pp_config_statement_timeout == 0 || !IsTransactionState())
		return;
	start = pp_timer_attempt_began;
	if (start == PP_NEVER)
		return;
	if (pp_steady_has_lasted(start, attempt_ms))
		cut_off(PP_CUT_TIMEOUT, pp_steady_has_lasted(start, (int64) attempt_ms + GRACE_MS));
	if (pp_steady_has_lasted(start, (int64) attempt_ms + GRACE_MS + END_MS))
		note_overdue();
}

/* Every PP_TIMER_MS, while items are written */
static void
handle_tick(SIGNAL_ARGS)
{
	int save_errno = errno;

	look_at_clock();
	errno = save_errno;
}

/* Called once, by the worker of the slot: the signal has no other meaning for such a process. */
void
pp_timer_init(PpSlot *slot)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};

	timer_slot = slot;
	pqsignal(SIGUSR2, handle_tick);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0)
		ereport(FATAL, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("could not create a timer: %m")));
}

/* 0: never */
static void
set_timer(int ms)
{
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	struct itimerspec every = {.it_interval = time, .it_value = time};

	tick_ms = ms;
	(void) timer_settime(timer, 0, &every, NULL);
}

void
pp_timer_start(void)
{
	day_seen = GetCurrentTimestamp();
	set_timer(PP_TIMER_MS);
}

void
pp_timer_stop(void)
{
	set_timer(0);
}

/* The time was up for what came before. */
static void
forgive(void)
{
	if (pp_timer_cut != PP_CUT_TIMEOUT)
		return;
	pp_timer_cut = PP_CUT_NONE;
	QueryCancelPending = false;
}

/* The worker begins a batch, of so many roles: all that it tries of that has one clock. */
void
pp_timer_begin_batch(int roles)
{
	nroles = roles;
	batch_began = pp_steady_now();
	batch_is_cut = false;
	ntargets = 1;
}

/* A batch has come through. */
void
pp_timer_end_batch(void)
{
	waited_ms = 0;
}

/*
 * How many ms may a transaction wait for a lock?  What the batch has waited for one already, before
 * it was ended to save what is at risk, is a part of lock_timeout.  0: as long as it takes.
 */
int
pp_timer_lock_timeout(void)
{
	return pp_config_lock_timeout == 0 ? 0 : Max(pp_config_lock_timeout - waited_ms, 1);
}

static bool
has_batch_lasted(int64 ms)
{
	return batch_began != 0 && pp_config_statement_timeout > 0 &&
		   pp_steady_has_lasted(batch_began, ms);
}

/* Has the batch had its time, so that there are only short tries from now on? */
bool
pp_timer_is_short(void)
{
	return batch_is_cut || has_batch_lasted(pp_config_statement_timeout);
}

/* Has it had time for those, too, so that nothing more of it is to be tried? */
bool
pp_timer_is_over(void)
{
	return has_batch_lasted((int64) pp_config_statement_timeout + pp_config_statement_timeout / 2);
}

/* A transaction's rows are of so many targets: each is to have a chance in what time is left. */
void
pp_timer_set_targets(int n)
{
	ntargets = n;
}

/* Was the attempt a short one?  Then it says little. */
bool
pp_timer_was_short(void)
{
	return attempt_ms < pp_config_statement_timeout / 2;
}

/* The clock starts anew, with what is left of the batch's time, but at least so many ms. */
static void
begin_attempt(int least)
{
	int left = pp_config_statement_timeout;

	if (batch_began != 0 && left > 0)
	{
		left = pp_steady_ms_until(pp_steady_plus(batch_began, pp_config_statement_timeout));
		batch_is_cut |= left <= 0 || pp_timer_cut == PP_CUT_TIMEOUT;
		left = batch_is_cut ? least : Max(left, least);
	}
	pp_timer_attempt_began = PP_NEVER; /* a tick must not take the new limit for the last one's */
	attempt_ms = left;
	if (left > 0 && left < PP_TIMER_MS)
		set_timer(Max(left / 2, 1));
	else if (tick_ms != PP_TIMER_MS)
		set_timer(PP_TIMER_MS);
	forgive();
	pp_timer_attempt_began = pp_steady_now();
}

/* What is no try begins: a commit, say. */
void
pp_timer_begin_attempt(void)
{
	begin_attempt(Max(pp_config_statement_timeout / SLICES, MIN_SLICE_MS));
}

/* Rows are tried. */
void
pp_timer_begin_try(void)
{
	begin_attempt(
		Max(pp_config_statement_timeout / SHORT_FRACTION / nroles / ntargets, MIN_TRY_MS));
}

/* What comes now may take longer. */
void
pp_timer_end_attempt(void)
{
	pp_timer_attempt_began = PP_NEVER;
	forgive();
}

/*
 * What has failed is being undone: that has no limit, and nothing can end it.  Of another
 * server's part it may take long.
 */
void
pp_timer_begin_undo(void)
{
	pp_timer_attempt_began = PP_NEVER;
	undo_began = pp_steady_now();
}

void
pp_timer_end_undo(void)
{
	undo_began = 0;
}

/* Is shutdown_timeout over? */
bool
pp_timer_stop_is_overdue(void)
{
	return deadline_has_passed(0);
}
