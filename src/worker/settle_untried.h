/*-------------------------------------------------------------------------
 *
 * settle_untried.h
 *	  Work items of one role that are settled without a try, and without their role: in a
 *	  transaction of our own all their items become dead letters, or are parked.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SETTLE_UNTRIED_H
#define PP_SETTLE_UNTRIED_H

#include "worker/commit.h"

extern PpOutcome pp_settle_untried_as_dead(const PpClaim *claim, PpWorkItem *work_items, int n,
										   ErrorData *why, ErrorData **error);
extern PpOutcome pp_settle_untried_as_parked(const PpClaim *claim, PpWorkItem *work_items, int n,
											 ErrorData *why, ErrorData **error);

#endif /* PP_SETTLE_UNTRIED_H */
