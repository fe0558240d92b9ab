/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  Cuts transactions off when it is time; see clock.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "config.h"

#define GRACE_MS 1000 /* from its cancellation to the end of the process */
#define LEAVE_GRACE_MS 250

volatile sig_atomic_t pp_cut = PP_CUT_NONE;
volatile PpSteady pp_attempt_began = 0;
volatile PpSteady pp_stop_requested_at = 0;

static PpLane *clock_lane;
static TimeoutId clock_timeout;
static PpSteady hold_seen_at = 0;

/* Is it time to end, or so many ms past that?  Also called by a signal handler. */
static bool
deadline_has_passed(int grace_ms)
{
	return pp_stop_requested_at != 0 &&
		   pp_has_lasted(pp_stop_requested_at, (int64) pp_shutdown_timeout + grace_ms);
}

/* Does a command want us out of the database?  Also called by a signal handler. */
bool
pp_clock_is_held(const PpLane *lane)
{
	return *(const volatile bool *) &lane->leave;
}

/* Cancel the statement; if its code catches that, end it with the process. */
static void
cut_off(PpCut why, bool for_good)
{
	if (pp_cut != PP_CUT_STOP)
		pp_cut = why;
	QueryCancelPending = true;
	if (for_good)
		ProcDiePending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

/*
 * Runs every PP_CLOCK_MS while items are written, in a signal handler.  SIGTERM alone
 * doesn't end a statement (it should finish); this does, when the time is up.  And
 * it keeps statement_timeout, which code must not be able to change.
 */
static void
look_at_clock(void)
{
	PpSteady start;

	if (deadline_has_passed(0))
		cut_off(PP_CUT_STOP, deadline_has_passed(GRACE_MS));
	else if (pp_clock_is_held(clock_lane))
	{
		if (hold_seen_at == 0)
			hold_seen_at = pp_steady_now();
		cut_off(PP_CUT_HOLD, pp_has_lasted(hold_seen_at, LEAVE_GRACE_MS));
	}

	if (pp_statement_timeout == 0 || !IsTransactionState())
		return;
	start = pp_attempt_began;
	if (start == PP_NEVER)
		return;
	if (pp_has_lasted(start, pp_statement_timeout))
		cut_off(PP_CUT_TIMEOUT, pp_has_lasted(start, (int64) pp_statement_timeout + GRACE_MS));
}

/* Called once, by the worker of the lane. */
void
pp_clock_init(PpLane *lane)
{
	clock_lane = lane;
	clock_timeout = RegisterTimeout(USER_TIMEOUT, look_at_clock);
}

void
pp_clock_start(void)
{
	enable_timeout_every(clock_timeout,
						 TimestampTzPlusMilliseconds(GetCurrentTimestamp(), PP_CLOCK_MS),
						 PP_CLOCK_MS);
}

void
pp_clock_stop(void)
{
	disable_timeout(clock_timeout, false);
}

/* The time was up for what came before. */
static void
forgive(void)
{
	if (pp_cut != PP_CUT_TIMEOUT)
		return;
	pp_cut = PP_CUT_NONE;
	QueryCancelPending = false;
}

/* The clock of statement_timeout starts anew. */
void
pp_clock_begin_attempt(void)
{
	forgive();
	pp_attempt_began = pp_steady_now();
}

/* What comes now may take longer. */
void
pp_clock_end_attempt(void)
{
	pp_attempt_began = PP_NEVER;
	forgive();
}

/* Is shutdown_timeout over? */
bool
pp_stop_is_overdue(void)
{
	return deadline_has_passed(0);
}
