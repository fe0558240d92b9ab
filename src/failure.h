/*-------------------------------------------------------------------------
 *
 * failure.h
 *	  Settles works: one transaction per role, and what becomes of the items when
 *	  that fails.
 *
 *	of some	another transaction finds out which can't be inserted: those become dead
 *				letters, or are parked, and the rest lands (sieve.h)
 *	of the commit	(another server, a deferred trigger) all are parked, so that each target
 *				is tried by itself; or, if it would come again, the works are halved until
 *				it is clear whose it is
 *	of none		(no disk at all, a stop) all stays where it is, and the worker tries again
 *				later
 *	spent		(a role's code has left something in this process: leftovers.h) works of other
 *				roles stay where they are, for another process
 *	fatal		(code that ends the process, or the server) the next worker knows what was
 *				being tried, and tries that again item by item; one that ended its
 *				worker when it was alone is bad (attempt.h)
 *
 * A work is settled by its transaction's COMMIT callback, and by nothing else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_FAILURE_H
#define PP_FAILURE_H

#include "intake.h"
#include "parking.h"

typedef enum PpOutcome
{
	PP_SETTLED,
	PP_DIVIDED, /* one has become many, and the rest has to wait for those: go on */
	PP_TRANSIENT
} PpOutcome;

extern void pp_settle_init(const PpClaim *claim);
extern bool pp_settle_is_spent(void);
extern PpOutcome pp_settle(PpWork *works, int n, ErrorData **error);
extern void pp_settle_parked(PpParked *parked);

#endif /* PP_FAILURE_H */
