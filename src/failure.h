/*-------------------------------------------------------------------------
 *
 * failure.h
 *	  Settles what the worker took from the ring: one transaction per role, and
 *	  what becomes of the items when that fails.
 *
 *	permanent	(a constraint, a trigger's error) the items are halved until the
 *				bad one stands alone; it is logged and counted, the rest lands
 *	transient	(a lock, a deadlock, no memory) the items stay in the ring, and the
 *				worker tries again later
 *
 *	fatal		(code that ends the process) the next worker finds in the lane what
 *				was being tried, and tries that again item by item; the one that
 *				ended its worker when it was alone is bad
 *
 * An item is settled by its transaction's COMMIT callback, and by nothing else;
 * a bad one, after its transaction has rolled back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_FAILURE_H
#define PP_FAILURE_H

#include <signal.h>

#include "item.h"
#include "shmem.h"

/* Neighbouring items of one entry, the first ones that are not settled */
typedef struct PpSpan
{
	uint64 at; /* the entry */
	Oid role;
	const PpItem **items;
	uint32 n;
} PpSpan;

typedef enum PpOutcome
{
	PP_SETTLED,
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

extern void pp_settle_init(PpLane *lane);
extern bool pp_settle_carefully(PpLane *lane, uint64 head);
extern void pp_settle_excuse(PpLane *lane);
extern PpOutcome pp_settle(PpLane *lane, PpSpan *spans, int n, ErrorData **error);

#endif /* PP_FAILURE_H */
