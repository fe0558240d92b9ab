/*-------------------------------------------------------------------------
 *
 * tally.h
 *	  What waits for each target of a database; on memory that it is given.
 *
 * An item is pending from when its transaction comes to its commit until it is settled
 * or parked, and parked while it waits in the parked table.
 *
 * A target hashes to a bucket, which has room for PP_TALLY_WAYS targets; those that
 * come when it is taken are counted together, in the bucket's `others`.  No target is
 * ever in both: it gets an entry of its own only while `others` is all zero, so that
 * none of its earlier items can be there.  An entry that is all zero is free again.
 *
 * The reason in `others` may be that of any of them.  So it stays for as long as items
 * of any of them are parked, whoever takes it back, and goes with the last of these.
 *
 * What is given back by mistake (a restart has lost the count) counts as nothing.  What
 * isn't given back (an item that can't be read doesn't tell its target) goes when the
 * worker sees that nothing waits.
 *
 * Every field is written under `mutex`; nothing is called while it is held.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_TALLY_H
#define PP_TALLY_H

#include "storage/spin.h"

#define PP_TALLY_BUCKETS 512 /* a power of two */
#define PP_TALLY_WAYS 8

typedef struct PpTallyEntry
{
	Oid target;		/* InvalidOid: free, or `others` */
	int sqlstate;	/* why it is parked; 0: it isn't */
	uint64 pending; /* items handed over, not settled and not parked */
	uint64 parked;	/* items that wait in the parked table */
	uint64 parked_bytes;
} PpTallyEntry;

typedef struct PpTallyBucket
{
	PpTallyEntry ways[PP_TALLY_WAYS];
	PpTallyEntry others; /* of all without one */
} PpTallyBucket;

typedef struct PpTally
{
	slock_t mutex;
	bool counted;		   /* what was there before us is in it */
	uint64 added;		   /* how often something was */
	uint64 parks;		   /* the same, to the parked table */
	uint64 parked_targets; /* entries with a reason or parked items; read without the mutex, too */
	uint64 parked;		   /* items, of all entries */
	PpTallyBucket buckets[PP_TALLY_BUCKETS];
} PpTally;

extern void pp_tally_init(PpTally *tally);
extern void pp_tally_reset(PpTally *tally);
extern void pp_tally_add(PpTally *tally, Oid target, uint64 items);
extern void pp_tally_settle(PpTally *tally, Oid target, uint64 items);
extern void pp_tally_park(PpTally *tally, Oid target, int64 items, int64 bytes);
extern void pp_tally_set_reason(PpTally *tally, Oid target, int sqlstate);
extern void pp_tally_forget_reasons(PpTally *tally);
extern PpTallyEntry pp_tally_get(PpTally *tally, Oid target);
extern bool pp_tally_any_parked(const PpTally *tally);
extern uint64 pp_tally_parked(PpTally *tally);
extern int pp_tally_read(PpTally *tally, int bucket, PpTallyEntry *entries);
extern uint64 pp_tally_added(PpTally *tally);
extern void pp_tally_clear_pending(PpTally *tally, uint64 added);
extern uint64 pp_tally_parks(PpTally *tally);
extern void pp_tally_clear_parked(PpTally *tally, uint64 parks);
extern bool pp_tally_is_counted(PpTally *tally);
extern bool pp_tally_begin_count(PpTally *tally);

#endif /* PP_TALLY_H */
