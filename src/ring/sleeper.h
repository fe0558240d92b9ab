/*-------------------------------------------------------------------------
 *
 * sleeper.h
 *	  How a process of ours sleeps until it is woken.
 *
 * The latch alone is not enough.  Whatever the process waits for before it sleeps (a lock; from
 * 18 on a page that is read) uses the same latch, and resets it: then a wake-up before that is
 * lost.  So it is also noted in `woken`:
 *
 *	who wakes	changes what it is about, notes `woken`, sets the latch
 *	a nap		is over at once if `woken` is noted, and ends with the note cleared
 *	then		the sleeper looks at all that it can be woken for: a signal, a hold, a pause,
 *				items, a flush
 *
 * A wake-up that comes after the end of one sleep ends the next one at once.  So between two
 * sleeps a process may wait for anything, and look at things in any order, as long as it looks at
 * all of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SLEEPER_H
#define PP_SLEEPER_H

#include "postgres.h"

#include "storage/latch.h"
#include "storage/spin.h"

/* In shared memory */
typedef struct PpSleeper
{
	slock_t mutex;
	Latch *latch; /* NULL: there is no such process now */
	bool woken;	  /* somebody has woken it since it last slept */
} PpSleeper;

extern void pp_sleeper_init(PpSleeper *sleeper);
extern bool pp_sleeper_wake(PpSleeper *sleeper);

/* The sleeper itself */
extern void pp_sleeper_attach(PpSleeper *sleeper);
extern void pp_sleeper_detach(PpSleeper *sleeper);
extern bool pp_sleeper_sleep(PpSleeper *sleeper, long ms, uint32 wait_event);

/* Its signal handlers */
extern void pp_sleeper_wake_self(void);
extern void pp_sleeper_handle_reload(SIGNAL_ARGS);

#endif /* PP_SLEEPER_H */
