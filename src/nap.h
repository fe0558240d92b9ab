/*-------------------------------------------------------------------------
 *
 * nap.h
 *	  How a process of ours sleeps until it is woken.
 *
 * The latch alone doesn't do.  Whatever waits before the nap (for a lock; from 18 on for a
 * page that is read) waits on the same latch, and resets it: who set it before is not heard.
 * So it is noted, too:
 *
 *	who wakes	changes what it is about, notes `woken`, sets the latch
 *	a nap		is over at once if `woken` is noted, and ends with the note cleared
 *	then		the sleeper looks at all that it can be woken for: a signal, a hold, a pause,
 *				items, a flush
 *
 * What comes after the end of a nap ends the next one.  So a process may wait for anything
 * between two naps, and look at things in any order, as long as it looks at all of them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_NAP_H
#define PP_NAP_H

#include "postgres.h"

#include "storage/latch.h"
#include "storage/spin.h"

/* In shared memory */
typedef struct PpSleeper
{
	slock_t mutex;
	Latch *latch; /* NULL: there is no such process now */
	bool woken;	  /* since its last nap */
} PpSleeper;

extern void pp_sleeper_init(PpSleeper *sleeper);
extern bool pp_wake(PpSleeper *sleeper);

/* The sleeper itself */
extern void pp_sleeper_attach(PpSleeper *sleeper);
extern void pp_sleeper_detach(PpSleeper *sleeper);
extern bool pp_nap(PpSleeper *sleeper, long ms, uint32 wait_event);

/* Its signal handlers */
extern void pp_wake_self(void);
extern void pp_handle_reload(SIGNAL_ARGS);

#endif /* PP_NAP_H */
