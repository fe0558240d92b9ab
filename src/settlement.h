/*-------------------------------------------------------------------------
 *
 * settlement.h
 *	  What the worker's COMMIT does to the lane: here, and nowhere else, are items
 *	  settled.
 *
 * Before that point any ERROR or signal could undo the transaction, after it none can.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SETTLEMENT_H
#define PP_SETTLEMENT_H

#include "intake.h"
#include "results.h"

typedef enum PpOutcome
{
	PP_SETTLED,
	PP_DIVIDED, /* some are not settled, and come again: go on */
	PP_TRANSIENT
} PpOutcome;

extern void pp_settlement_init(const PpClaim *claim);
extern void pp_settlement_forget(void);
extern void pp_settlement_on_commit(PpWork *works, int n, const PpResults *results);
extern bool pp_settlement_is_done(void);
extern ErrorData *pp_settle_by_ourselves(void (*deed)(void *arg), void *arg, bool held);
extern ErrorData *pp_settle_to_journal(PpWork *works, int n, bool may_wait);
extern PpOutcome pp_settle_damaged(PpWork *work, const ErrorData *damaged, ErrorData **error);
extern uint64 pp_count_items(const PpWork *works, int n);

#endif /* PP_SETTLEMENT_H */
