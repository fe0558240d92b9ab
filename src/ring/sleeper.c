/*-------------------------------------------------------------------------
 *
 * sleeper.c
 *	  Sleeps until it is woken; see sleeper.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "postmaster/interrupt.h"

#include "ring/sleeper.h"

static volatile sig_atomic_t woken_by_signal = false;

void
pp_sleeper_init(PpSleeper *sleeper)
{
	SpinLockInit(&sleeper->mutex);
	sleeper->latch = NULL;
	sleeper->woken = false;
}

static void
set_latch_of(PpSleeper *sleeper, Latch *latch)
{
	SpinLockAcquire(&sleeper->mutex);
	sleeper->latch = latch;
	SpinLockRelease(&sleeper->mutex);
}

/* This process is the sleeper from now on; it has looked at nothing yet. */
void
pp_sleeper_attach(PpSleeper *sleeper)
{
	set_latch_of(sleeper, MyLatch);
}

void
pp_sleeper_detach(PpSleeper *sleeper)
{
	set_latch_of(sleeper, NULL);
}

/* False: there is no such process. */
bool
pp_sleeper_wake(PpSleeper *sleeper)
{
	Latch *latch;

	SpinLockAcquire(&sleeper->mutex);
	latch = sleeper->latch;
	sleeper->woken = true;
	SpinLockRelease(&sleeper->mutex);

	if (latch)
		SetLatch(latch);
	return latch != NULL;
}

/* Called by a signal handler, of any process. */
void
pp_sleeper_wake_self(void)
{
	woken_by_signal = true;
	SetLatch(MyLatch);
}

/* SIGHUP, of a process that naps */
void
pp_sleeper_handle_reload(SIGNAL_ARGS)
{
	int save_errno = errno;

	ConfigReloadPending = true;
	pp_sleeper_wake_self();
	errno = save_errno;
}

/*
 * Sleep until woken (true), or for so many ms (-1: no limit).  Interrupts are the caller's:
 * it serves them before, since their latch may be gone, too, and after.
 */
bool
pp_sleeper_sleep(PpSleeper *sleeper, long ms, uint32 wait_event)
{
	bool woken;
	int events = WL_LATCH_SET;

	SpinLockAcquire(&sleeper->mutex);
	woken = sleeper->woken;
	SpinLockRelease(&sleeper->mutex);
	if (!woken && !woken_by_signal)
		events = WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (ms >= 0 ? WL_TIMEOUT : 0),
						   Min(ms, INT_MAX), wait_event);
	ResetLatch(MyLatch);

	/* before the caller looks */
	woken_by_signal = false;
	SpinLockAcquire(&sleeper->mutex);
	sleeper->woken = false;
	SpinLockRelease(&sleeper->mutex);

	return (events & WL_LATCH_SET) != 0;
}
