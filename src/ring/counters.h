/*-------------------------------------------------------------------------
 *
 * counters.h
 *	  What waits for each target of a database; on memory that it is given.
 *
 * An item is pending from when its transaction comes to its commit until it is settled
 * or parked, and parked while it waits in the parked table.
 *
 * A target hashes to a bucket, which has room for PP_COUNTER_WAYS targets; those that come when
 * it is taken are counted together, in the bucket's `others`.  A target is never in both: it gets
 * an entry of its own only while `others` is all zero, so that none of its earlier items are
 * counted there.  An entry that is all zero is free.
 *
 * The reason in `others` may be that of any target which is counted there.  So it stays for as
 * long as items of any of them are parked, and is cleared with the last of these items.
 *
 * A count never goes below zero: a restart loses the counts, and items from before are subtracted
 * later.  A count that is never subtracted (an item that can't be read doesn't tell its target)
 * is cleared when the worker sees that nothing waits.
 *
 * Every field is written under the ring's mutex, which it is given; nothing is called while that
 * is held.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_COUNTERS_H
#define PP_COUNTERS_H

#include "storage/spin.h"

#define PP_COUNTER_BUCKETS 512 /* a power of two */
#define PP_COUNTER_WAYS 8

typedef struct PpCounter
{
	Oid target;		/* InvalidOid: free, or `others` */
	int sqlstate;	/* why it is parked; 0: it isn't */
	uint64 pending; /* items handed over, not settled and not parked */
	uint64 parked;	/* items that wait in the parked table */
	uint64 parked_bytes;
	int64 parked_since; /* since when there have been some, by the caller's clock; 0: not noted */
} PpCounter;

typedef struct PpCounterBucket
{
	PpCounter ways[PP_COUNTER_WAYS];
	PpCounter others;    /* of all without one */
} PpCounterBucket;

typedef struct PpCounters
{
	slock_t *mutex;		   /* constant */
	bool counted;		   /* what was there before us is in it */
	uint64 added;		   /* how often something was added */
	uint64 parks;		   /* how often something was parked */
	uint64 parked_targets; /* entries with a reason or parked items; read without the mutex, too */
	uint64 parked;		   /* items, of all entries */
	uint64 pending;		   /* items, of all entries */
	PpCounterBucket buckets[PP_COUNTER_BUCKETS];
} PpCounters;

/* How many items of a transaction go to a target */
typedef struct PpTargetCount
{
	Oid target;
	uint64 items;
} PpTargetCount;

extern void pp_counters_init(PpCounters *counters, slock_t *mutex);
extern void pp_counters_reset(PpCounters *counters);
extern void pp_counters_add(PpCounters *counters, Oid target, uint64 items);
extern void pp_counters_add_locked(PpCounters *counters, Oid target, uint64 items);
extern void pp_counters_settle(PpCounters *counters, Oid target, uint64 items);
extern void pp_counters_park(PpCounters *counters, Oid target, int64 items, int64 bytes);
extern void pp_counters_note_parked(PpCounters *counters, Oid target, int64 since);
extern void pp_counters_set_reason(PpCounters *counters, Oid target, int sqlstate);
extern void pp_counters_forget_reasons(PpCounters *counters);
extern PpCounter pp_counters_get(PpCounters *counters, Oid target);
extern bool pp_counters_any_parked(const PpCounters *counters);
extern uint64 pp_counters_parked(PpCounters *counters);
extern int64 pp_counters_parked_since(PpCounters *counters);
extern int pp_counters_read(PpCounters *counters, int bucket, PpCounter *entries);
extern uint64 pp_counters_added(PpCounters *counters);
extern void pp_counters_clear_pending(PpCounters *counters, uint64 added);
extern uint64 pp_counters_parks(PpCounters *counters);
extern void pp_counters_clear_parked(PpCounters *counters, uint64 parks);
extern bool pp_counters_are_counted(PpCounters *counters);
extern bool pp_counters_begin_count(PpCounters *counters);

#endif /* PP_COUNTERS_H */
