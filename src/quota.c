/*-------------------------------------------------------------------------
 *
 * quota.c
 *	  Takes and gives back; see quota.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "quota.h"

static void
give_all(PpQuota *quota)
{
	memset(quota->held, 0, sizeof(quota->held));
	memset(quota->shares, 0, sizeof(quota->shares));
}

void
pp_quota_init(PpQuota *quota)
{
	SpinLockInit(&quota->mutex);
	quota->counted = false;
	quota->takes = 0;
	give_all(quota);
}

/* The database is another one, or what was held has gone. */
void
pp_quota_reset(PpQuota *quota)
{
	SpinLockAcquire(&quota->mutex);
	quota->counted = false;
	give_all(quota);
	SpinLockRelease(&quota->mutex);
}

static bool
holds_nothing(const PpShare *share)
{
	for (int store = 0; store < PP_STORES; store++)
	{
		if (share->held[store] > 0)
			return false;
	}
	return true;
}

/* Under the mutex: the role's share; `create`: a new one, if there is room. */
static PpShare *
find_share(PpQuota *quota, Oid role, bool create)
{
	PpShare *unused = NULL;

	for (int i = 1; i < PP_SHARES; i++)
	{
		PpShare *share = &quota->shares[i];

		if (share->role == role)
			return share;
		if (unused == NULL && holds_nothing(share))
			unused = share;
	}
	if (!create || unused == NULL)
		return &quota->shares[0];
	unused->role = role;
	return unused;
}

/* Under the mutex: do so many bytes more fit into the limit of all and the share of one? */
static PpQuotaResult
fits(const PpQuota *quota, const PpShare *mine, PpStore store, uint64 bytes, uint64 limit,
	 uint64 share)
{
	if (bytes > limit || quota->held[store] > limit - bytes)
		return PP_QUOTA_FULL;
	if (bytes > share || mine->held[store] > share - bytes)
		return PP_QUOTA_GREEDY;
	return PP_QUOTA_TAKEN;
}

/* What would pp_quota_take() say? */
PpQuotaResult
pp_quota_ask(PpQuota *quota, PpStore store, Oid role, uint64 bytes, uint64 limit, uint64 share)
{
	PpQuotaResult result;

	SpinLockAcquire(&quota->mutex);
	result = fits(quota, find_share(quota, role, false), store, bytes, limit, share);
	SpinLockRelease(&quota->mutex);

	return result;
}

/* Hold so many bytes more, within the limit of all and the share of one. */
PpQuotaResult
pp_quota_take(PpQuota *quota, PpStore store, Oid role, uint64 bytes, uint64 limit, uint64 share)
{
	PpQuotaResult result;
	PpShare *mine;

	SpinLockAcquire(&quota->mutex);
	mine = find_share(quota, role, true);
	result = fits(quota, mine, store, bytes, limit, share);
	if (result == PP_QUOTA_TAKEN)
	{
		mine->held[store] += bytes;
		quota->held[store] += bytes;
		quota->takes++;
	}
	SpinLockRelease(&quota->mutex);

	return result;
}

void
pp_quota_give(PpQuota *quota, PpStore store, Oid role, uint64 bytes)
{
	PpShare *rest = &quota->shares[0];
	PpShare *mine;
	uint64 given;

	SpinLockAcquire(&quota->mutex);
	quota->held[store] -= Min(bytes, quota->held[store]);
	mine = find_share(quota, role, false);
	given = Min(bytes, mine->held[store]);
	mine->held[store] -= given;
	rest->held[store] -= Min(bytes - given, rest->held[store]); /* from before it had its own */
	SpinLockRelease(&quota->mutex);
}

/* By all roles together. */
uint64
pp_quota_held(PpQuota *quota, PpStore store)
{
	uint64 held;

	SpinLockAcquire(&quota->mutex);
	held = quota->held[store];
	SpinLockRelease(&quota->mutex);

	return held;
}

/* By this one. */
uint64
pp_quota_held_by(PpQuota *quota, PpStore store, Oid role)
{
	uint64 held;

	SpinLockAcquire(&quota->mutex);
	held = find_share(quota, role, false)->held[store];
	SpinLockRelease(&quota->mutex);

	return held;
}

/* How often something has been taken: to see later whether something has been since. */
uint64
pp_quota_takes(PpQuota *quota)
{
	uint64 takes;

	SpinLockAcquire(&quota->mutex);
	takes = quota->takes;
	SpinLockRelease(&quota->mutex);

	return takes;
}

/*
 * This has been counted, in memory of one's own, since so much was taken.  What has been taken
 * meanwhile may not be in it: then all stays as it was, and who finds no room counts again.
 */
void
pp_quota_assign(PpQuota *quota, const PpQuota *counted, uint64 takes)
{
	SpinLockAcquire(&quota->mutex);
	if (quota->takes == takes)
	{
		memcpy(quota->held, counted->held, sizeof(quota->held));
		memcpy(quota->shares, counted->shares, sizeof(quota->shares));
		quota->counted = true;
	}
	SpinLockRelease(&quota->mutex);
}

/* Nothing is there that anybody could hold: what is counted is a mistake. */
void
pp_quota_clear(PpQuota *quota)
{
	SpinLockAcquire(&quota->mutex);
	give_all(quota);
	SpinLockRelease(&quota->mutex);
}

bool
pp_quota_is_counted(PpQuota *quota)
{
	bool counted;

	SpinLockAcquire(&quota->mutex);
	counted = quota->counted;
	SpinLockRelease(&quota->mutex);

	return counted;
}

/*
 * For the worker that has scanned the journal: does it have to take what it has found?
 * True once, for a journal that was there before us.
 */
bool
pp_quota_begin_count(PpQuota *quota)
{
	bool begin;

	SpinLockAcquire(&quota->mutex);
	begin = !quota->counted;
	quota->counted = true;
	SpinLockRelease(&quota->mutex);

	return begin;
}
