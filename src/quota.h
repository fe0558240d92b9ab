/*-------------------------------------------------------------------------
 *
 * quota.h
 *	  How much of a database's ring, journal and dead letters its roles hold, so that there
 *	  is a limit to each of them and to all; on memory that it is given.
 *
 * A role takes before its commit, and what it took is given back when the transaction
 * aborts, or when the worker has settled the items.  The cost of items in the journal
 * is that of their bytes and PP_ITEM_COST for each, however they are packed into rows.
 *
 * There is room for PP_SHARES roles at a time; those that come when it is taken share
 * one share.  What is given back by mistake (a restart has lost the count) counts as
 * nothing.
 *
 * Letters, which stay longer than any item waits, have a quota of their own, so that
 * they take no role's place in that of ring and journal.  Nobody gives them back: who finds
 * no room counts them, and what is counted is assigned, unless some have come meanwhile.
 *
 * Every field is written under `mutex`; nothing is called while it is held.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_QUOTA_H
#define PP_QUOTA_H

#include "storage/spin.h"

#define PP_SHARES 64
#define PP_ITEM_COST 64

typedef enum PpStore
{
	PP_STORE_RING,
	PP_STORE_JOURNAL,
	PP_STORE_LETTERS
} PpStore;

#define PP_STORES 3

typedef struct PpShare
{
	Oid role; /* InvalidOid: free; the first one is that of all without one */
	uint64 held[PP_STORES];
} PpShare;

typedef struct PpQuota
{
	slock_t mutex;
	bool counted; /* what was there before us is in it */
	uint64 takes; /* how often something has been taken */
	uint64 held[PP_STORES];
	PpShare shares[PP_SHARES];
} PpQuota;

typedef enum PpQuotaResult
{
	PP_QUOTA_TAKEN,
	PP_QUOTA_FULL,	/* all that there is is held */
	PP_QUOTA_GREEDY /* the role would hold more than its share */
} PpQuotaResult;

extern void pp_quota_init(PpQuota *quota);
extern void pp_quota_reset(PpQuota *quota);
extern PpQuotaResult pp_quota_take(PpQuota *quota, PpStore store, Oid role, uint64 bytes,
								   uint64 limit, uint64 share);
extern PpQuotaResult pp_quota_ask(PpQuota *quota, PpStore store, Oid role, uint64 bytes,
								  uint64 limit, uint64 share);
extern void pp_quota_give(PpQuota *quota, PpStore store, Oid role, uint64 bytes);
extern uint64 pp_quota_held(PpQuota *quota, PpStore store);
extern uint64 pp_quota_held_by(PpQuota *quota, PpStore store, Oid role);
extern uint64 pp_quota_takes(PpQuota *quota);
extern void pp_quota_assign(PpQuota *quota, const PpQuota *counted, uint64 takes);
extern void pp_quota_clear(PpQuota *quota);
extern bool pp_quota_is_counted(PpQuota *quota);
extern bool pp_quota_begin_count(PpQuota *quota);

#endif /* PP_QUOTA_H */
