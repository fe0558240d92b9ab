/*-------------------------------------------------------------------------
 *
 * commit.h
 *	  What the COMMIT of a worker or a retrier does to the slot: items are settled here and nowhere
 *	  else.
 *
 * Before the COMMIT any ERROR or signal can still undo the transaction; after it nothing can.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_COMMIT_H
#define PP_COMMIT_H

#include "worker/intake.h"
#include "worker/outcome_counts.h"

typedef enum PpOutcome
{
	PP_SETTLED,
	PP_DIVIDED, /* some work items are not settled, and are taken again: the caller goes on */
	PP_TRANSIENT
} PpOutcome;

extern void pp_commit_init(const PpClaim *claim);
extern void pp_commit_forget(void);
extern void pp_commit_settles(PpWorkItem *work_items, int n, const PpOutcomeCounts *counts);
extern bool pp_commit_is_done(void);
extern ErrorData *pp_commit_by_ourselves(void (*deed)(void *arg), void *arg, bool uncancelled);
extern PpOutcome pp_commit_damaged(PpWorkItem *work, const ErrorData *damaged, ErrorData **error);

#endif /* PP_COMMIT_H */
