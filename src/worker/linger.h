/*-------------------------------------------------------------------------
 *
 * linger.h
 *	  How long the worker gathers items between two batches.
 *
 * After quiet an item is written at once.  A batch begins when PP_LINGER_BATCHES times as long has
 * passed, since the one before it began, as that one has kept a processor busy.  So batches take a
 * tenth of a core at most, however fast items come, and are as large as their price asks for.  What
 * counts is the processor's time, not what a clock shows: that a batch had to wait, for a core, a
 * disk or a lock, is no reason to let the next items wait, too; they have gathered meanwhile.
 *
 * The worker waits also where there is nothing to write yet: whoever commits an item meanwhile need
 * not wake it.  If nothing has come until then, it is quiet.
 *
 * flush_interval bounds that wait, and how long an item waits for it; that of a target bounds how
 * long its items do (PpSlot.due).  With adaptive_flush off
 * nothing is learned: a batch begins when its oldest item has waited for flush_interval.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_LINGER_H
#define PP_LINGER_H

#include "postgres.h"

#define PP_LINGER_BATCHES 10

/* The last batch, or pass over the journal, in microseconds; all 0: there was none */
typedef struct PpLinger
{
	int64 began; /* by the caller's clock */
	int64 took;	 /* of a processor's time */
} PpLinger;

extern int64 pp_linger_until(const PpLinger *last, int64 oldest, int64 longest, bool adaptive);

#endif /* PP_LINGER_H */
