/*-------------------------------------------------------------------------
 *
 * failure.h
 *	  Settles works: one transaction per role, and what becomes of the items when
 *	  that fails.
 *
 *	permanent	(a constraint, a trigger's error) in another transaction the items are
 *				halved, under savepoints, until the bad ones stand alone: they are
 *				left out, logged and counted, and the rest lands
 *	transient	(a lock, a deadlock, no memory) all stays where it is, and the worker
 *				tries again later
 *	fatal		(code that ends the process) the next worker finds in the lane what
 *				was being tried, and tries that again work by work; a work that ended
 *				its worker when it was alone is divided, and an item is bad
 *
 * A work is settled by its transaction's COMMIT callback, and by nothing else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_FAILURE_H
#define PP_FAILURE_H

#include <signal.h>

#include "datatype/timestamp.h"

#include "intake.h"

typedef enum PpOutcome
{
	PP_SETTLED,
	PP_DIVIDED, /* one has become many, and the rest has to wait for those: go on */
	PP_TRANSIENT
} PpOutcome;

/* Why the worker's statement is being cancelled; set in a signal handler */
typedef enum PpCut
{
	PP_CUT_NONE,
	PP_CUT_TIMEOUT, /* statement_timeout: its items' own fault */
	PP_CUT_HOLD,	/* a command wants the database: nobody's fault */
	PP_CUT_STOP		/* the time to stop is up: nobody's fault; stays */
} PpCut;

extern volatile sig_atomic_t pp_cut;
extern volatile TimestampTz pp_attempt_began; /* what statement_timeout counts from */

extern bool pp_is_transient(const ErrorData *error, bool alone);
extern void pp_settle_init(const PpClaim *claim);
extern bool pp_settle_carefully(void);
extern void pp_settle_excuse(PpLane *lane);
extern PpOutcome pp_settle(PpWork *works, int n, ErrorData **error);
extern void pp_settle_to_journal(PpWork *works, int n);

#endif /* PP_FAILURE_H */
