/*-------------------------------------------------------------------------
 *
 * clock.h
 *	  Looks at a worker's transaction from outside, from a timer's signal handler:
 *	  is it time to end it?
 *
 * SIGTERM alone doesn't end a statement (it should finish); the clock does, when the
 * time to stop is up.  It also does when a command holds the database, and it keeps
 * statement_timeout, which code must not be able to change.  Code that catches its
 * cancellation is ended with the process, a moment later.  Where even that can't be, since it
 * can't be interrupted, the launcher is told.
 *
 * All tries of a worker's batch have statement_timeout together, since all targets wait for
 * it.  Once that is over, each target whose rows are still to be tried gets a short try, as if
 * all of those had a quarter of that time; after half of it what is left is the retrier's, whose
 * tries have a clock each.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_CLOCK_H
#define PP_CLOCK_H

#include <signal.h>

#include "classify.h"
#include "shmem.h"
#include "steady.h"

extern volatile sig_atomic_t pp_cut;
extern volatile PpSteady pp_attempt_began; /* what statement_timeout counts from */

#define PP_CLOCK_MS 50 /* from one look to the next */

extern volatile PpSteady pp_stop_requested_at; /* 0: not at all; by a signal handler */

extern void pp_clock_init(PpLane *lane);
extern void pp_clock_start(void);
extern void pp_clock_stop(void);
extern void pp_clock_begin_batch(int roles);
extern bool pp_clock_is_short(void);
extern bool pp_clock_is_over(void);
extern bool pp_clock_was_short(void);
extern void pp_clock_set_shares(int n);
extern void pp_clock_begin_attempt(void);
extern void pp_clock_begin_try(void);
extern void pp_clock_end_attempt(void);
extern void pp_clock_begin_undo(void);
extern void pp_clock_end_undo(void);
extern bool pp_clock_is_held(const PpLane *lane);
extern bool pp_stop_is_overdue(void);

#endif /* PP_CLOCK_H */
