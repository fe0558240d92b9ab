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

/* Set in a signal handler: the time to stop is up, a cancel is no item's fault */
extern volatile sig_atomic_t pp_stop_is_forced;

extern void pp_settle_init(void);
extern PpOutcome pp_settle(PpLane *lane, PpSpan *spans, int n, ErrorData **error);

#endif /* PP_FAILURE_H */
