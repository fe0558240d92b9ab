/*-------------------------------------------------------------------------
 *
 * settle.h
 *	  Settles work items: one transaction per role, and what becomes of the items when
 *	  that fails.
 *
 *	at once		all rows are inserted, and the transaction commits: so it is nearly always
 *	of some		another transaction finds out which can't be inserted: those become dead
 *				letters, or are parked, and the rest lands (apply_rows.h)
 *	of all		if that fails too, in the commit, and may be over soon (another server), all are
 *				parked, and each target is tried by itself; or, if it would come again, they are
 *				halved until it is clear whose it is
 *	of none		(no disk at all, a stop) all stays where it is, and the worker tries again
 *				later; or there was too little of something (locks, memory): then the batches
 *				become smaller
 *	spent		(a role's code has left something in this process: leftovers.h) what is of other
 *				roles stays where it is, for another process
 *	fatal		(code that ends the process, or the server) the next worker knows what was
 *				being tried, and which item was at hand (poison.h)
 *
 * An item is settled by its transaction's COMMIT callback, and by nothing else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SETTLE_H
#define PP_SETTLE_H

#include "worker/intake.h"
#include "worker/role_transaction.h"

extern void pp_settle_init(const PpClaim *claim);
extern uint64 pp_settle_width(void);
extern PpOutcome pp_settle(PpWorkItem *work_items, int n, ErrorData **error);
extern PpOutcome pp_settle_parked(PpWorkItem *work_items, int n, bool disbelieves, bool apart,
								  PpApply *apply, ErrorData **error);

#endif /* PP_SETTLE_H */
