/*-------------------------------------------------------------------------
 *
 * quota.h
 *	  How much of a database's ring, journal and dead letters each role is charged with, so that
 *	  each role and all together have a limit; on memory that it is given.
 *
 * A role is charged before its commit; the charge is given back when the transaction aborts, or
 * when the worker has settled the items.  In the journal an item costs its bytes and
 * PP_ITEM_COST, however items are packed into rows.
 *
 * There is room for PP_QUOTA_ROLES roles at a time; the others are charged together, as if they
 * were one role.  A charge never goes below zero: a restart loses the counts, and items from
 * before give theirs back later.
 *
 * Dead letters stay longer than items wait, so they have a PpQuota of their own; else their roles
 * would use up the entries of that of ring and journal.  Nobody gives a dead letter's charge
 * back.  Instead, whoever finds no room counts the dead letters and calls pp_quota_assign() with
 * the result, which is ignored if some have come meanwhile.
 *
 * Every field is written under the mutex that it is given; nothing is called while that is held.
 * For ring and journal it is the ring's: a commit takes its room and its charge at once, with the
 * functions that are called under it (_locked).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_QUOTA_H
#define PP_QUOTA_H

#include "storage/spin.h"

#define PP_QUOTA_ROLES 64
#define PP_ITEM_COST 64

typedef enum PpStore
{
	PP_STORE_RING,
	PP_STORE_JOURNAL,
	PP_STORE_LETTERS
} PpStore;

#define PP_STORES 3

typedef struct PpRoleQuota
{
	Oid role; /* InvalidOid: free; the first entry is for all roles that have none */
	uint64 charged[PP_STORES];
} PpRoleQuota;

typedef struct PpQuota
{
	slock_t *mutex; /* constant */
	slock_t own;	/* which that is where none is given */
	bool counted; /* what was there before the server's start has been counted */
	uint64 takes; /* how often something has been taken, or all was reset */
	uint64 charged[PP_STORES];
	PpRoleQuota roles[PP_QUOTA_ROLES];
} PpQuota;

typedef enum PpQuotaResult
{
	PP_QUOTA_CHARGED,
	PP_QUOTA_FULL,	/* the limit of all roles is reached */
	PP_QUOTA_GREEDY /* the role's own limit is reached */
} PpQuotaResult;

extern void pp_quota_init(PpQuota *quota, slock_t *mutex);
extern void pp_quota_reset(PpQuota *quota);
extern PpQuotaResult pp_quota_charge(PpQuota *quota, PpStore store, Oid role, uint64 bytes,
									 uint64 limit, uint64 role_quota);
extern PpQuotaResult pp_quota_charge_locked(PpQuota *quota, PpStore store, Oid role, uint64 bytes,
											uint64 limit, uint64 role_quota);
extern PpQuotaResult pp_quota_ask(PpQuota *quota, PpStore store, Oid role, uint64 bytes,
								  uint64 limit, uint64 role_quota);
extern PpQuotaResult pp_quota_ask_locked(PpQuota *quota, PpStore store, Oid role, uint64 bytes,
										 uint64 limit, uint64 role_quota);
extern void pp_quota_give(PpQuota *quota, PpStore store, Oid role, uint64 bytes);
extern uint64 pp_quota_charged(PpQuota *quota, PpStore store);
extern uint64 pp_quota_charged_to(PpQuota *quota, PpStore store, Oid role);
extern PpRoleQuota pp_quota_greatest(PpQuota *quota, PpStore store);
extern uint64 pp_quota_charges(PpQuota *quota);
extern void pp_quota_assign(PpQuota *quota, const PpQuota *counted, uint64 takes);
extern void pp_quota_clear(PpQuota *quota);
extern bool pp_quota_is_counted(PpQuota *quota);
extern bool pp_quota_begin_count(PpQuota *quota);

#endif /* PP_QUOTA_H */
