/*-------------------------------------------------------------------------
 *
 * outcome_counts.h
 *	  What a transaction of the worker does to each of its targets.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_OUTCOME_COUNTS_H
#define PP_OUTCOME_COUNTS_H

#include "postgres.h"

#include "ring/counters.h"
#include "ring/metrics.h"
#include "store/account.h"

typedef struct PpTargetOutcome
{
	PpDelta delta;
	int sqlstate;		/* of last_error; 0: none */
	uint64 taken;		/* items that wait no longer in the ring or the journal */
	int64 parked;		/* change of the number of parked items ... */
	int64 parked_bytes; /* ... and of their bytes */
} PpTargetOutcome;

/* All zero: none yet.  In the memory context that was current. */
typedef struct PpOutcomeCounts
{
	PpTargetOutcome *of;
	int n;
	int max;
	uint64 persisted; /* of all targets */
	uint64 dead;
	uint64 failed; /* those of them that have not been dead letters before */
	uint64 lost; /* that can't be read: nobody knows whose they were, unless they were parked */
	bool any_errors;
	uint64 errors[PP_ERROR_CLASSES];
} PpOutcomeCounts;

extern PpTargetOutcome *pp_outcome_counts_of(PpOutcomeCounts *counts, Oid target);
extern PpOutcomeCounts pp_outcome_counts_copy(const PpOutcomeCounts *counts);
extern void pp_outcome_counts_add(PpOutcomeCounts *to, const PpOutcomeCounts *from);
extern bool pp_outcome_counts_parked_more(const PpOutcomeCounts *counts, uint64 taken);
extern void pp_outcome_counts_error(PpOutcomeCounts *counts, Oid target, const ErrorData *error);
extern int pp_outcome_counts_sqlstate(const PpOutcomeCounts *counts);
extern void pp_outcome_counts_write(const PpOutcomeCounts *counts, Oid extension);
extern void pp_outcome_counts_tell(const PpOutcomeCounts *counts, PpCounters *counters);

#endif /* PP_OUTCOME_COUNTS_H */
