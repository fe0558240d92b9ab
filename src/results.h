/*-------------------------------------------------------------------------
 *
 * results.h
 *	  What a transaction of the worker does to each of its targets.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_RESULTS_H
#define PP_RESULTS_H

#include "postgres.h"

#include "account.h"
#include "tally.h"

typedef struct PpResult
{
	PpDelta delta;
	uint64 bad;			/* rows that are to become dead letters */
	uint64 taken;		/* items that wait no longer in the ring or the journal */
	int64 parked;		/* items that are parked now, or less of them ... */
	int64 parked_bytes; /* ... and their bytes */
} PpResult;

/* All zero: none yet.  In the memory context that was current. */
typedef struct PpResults
{
	PpResult *of;
	int n;
	int max;
	uint64 persisted; /* of all targets */
	uint64 dead;
	uint64 failed; /* those of them that have not been dead letters before */
	uint64 lost; /* that can't be read: nobody knows whose they were, unless they were parked */
} PpResults;

extern PpResult *pp_results_of(PpResults *results, Oid target);
extern PpResults pp_results_copy(const PpResults *results);
extern void pp_results_add(PpResults *to, const PpResults *from);
extern bool pp_results_parked_more(const PpResults *results, uint64 taken);
extern void pp_results_error(PpResult *result, const ErrorData *error, uint64 times);
extern void pp_results_write(const PpResults *results, Oid extension);
extern void pp_results_tell(const PpResults *results, PpTally *tally);

#endif /* PP_RESULTS_H */
