/*-------------------------------------------------------------------------
 *
 * timer.h
 *	  Looks at a worker's transaction from outside, from a timer's signal handler:
 *	  is it time to end it?
 *
 * SIGTERM alone doesn't cancel a statement, which is to finish; the timer does, when
 * shutdown_timeout is over, or when a command blocks the database.  It also enforces
 * statement_timeout, which a target's code must not be able to change.  If the code catches its
 * cancellation, the process is ended a moment later.  If it can't be interrupted at all, the
 * launcher is told.
 *
 * It also ends a transaction during which what is in the ring alone has waited too long (window.h):
 * the worker saves that, and begins anew, with what is left of lock_timeout.
 *
 * All tries of a worker's batch have statement_timeout together, since all targets wait for the
 * batch.  When that is over, each target whose rows are still to be tried gets one short try: its
 * part of a quarter of statement_timeout.  After half of statement_timeout what is left is
 * parked, for the retrier, each of whose tries has statement_timeout for itself.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_TIMER_H
#define PP_TIMER_H

#include <signal.h>

#include "base/steady.h"
#include "ring/shmem.h"
#include "worker/classify.h"

extern volatile sig_atomic_t pp_timer_cut;
extern volatile PpSteady pp_timer_attempt_began; /* what statement_timeout counts from */

#define PP_TIMER_MS 50 /* from one look to the next */

extern volatile PpSteady pp_timer_stop_requested_at; /* 0: not at all; by a signal handler */

extern void pp_timer_init(PpSlot *slot);
extern void pp_timer_start(void);
extern void pp_timer_stop(void);
extern void pp_timer_begin_batch(int roles);
extern void pp_timer_end_batch(void);
extern int pp_timer_lock_timeout(void);
extern bool pp_timer_is_short(void);
extern bool pp_timer_is_over(void);
extern bool pp_timer_was_short(void);
extern void pp_timer_set_targets(int n);
extern void pp_timer_begin_attempt(void);
extern void pp_timer_begin_try(void);
extern void pp_timer_end_attempt(void);
extern void pp_timer_begin_undo(void);
extern void pp_timer_end_undo(void);
extern bool pp_timer_is_blocked(const PpSlot *slot);
extern bool pp_timer_stop_is_overdue(void);

#endif /* PP_TIMER_H */
