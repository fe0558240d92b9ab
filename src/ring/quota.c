/*-------------------------------------------------------------------------
 *
 * quota.c
 *	  Takes and gives back; see quota.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ring/quota.h"

static void
give_all(PpQuota *quota)
{
	memset(quota->charged, 0, sizeof(quota->charged));
	memset(quota->roles, 0, sizeof(quota->roles));
}

/* mutex: NULL for one of its own. */
void
pp_quota_init(PpQuota *quota, slock_t *mutex)
{
	SpinLockInit(&quota->own);
	quota->mutex = mutex ? mutex : &quota->own;
	quota->counted = false;
	quota->takes = 0;
	give_all(quota);
}

/* The database is another one, or what was held has gone. */
void
pp_quota_reset(PpQuota *quota)
{
	SpinLockAcquire(quota->mutex);
	quota->counted = false;
	quota->takes++;
	give_all(quota);
	SpinLockRelease(quota->mutex);
}

static bool
is_charged_nothing(const PpRoleQuota *role_quota)
{
	for (int store = 0; store < PP_STORES; store++)
	{
		if (role_quota->charged[store] > 0)
			return false;
	}
	return true;
}

/* Under the mutex: the role's share; `create`: a new one, if there is room. */
static PpRoleQuota *
find_role(PpQuota *quota, Oid role, bool create)
{
	PpRoleQuota *unused = NULL;

	for (int i = 1; i < PP_QUOTA_ROLES; i++)
	{
		PpRoleQuota *role_quota = &quota->roles[i];

		if (role_quota->role == role)
			return role_quota;
		if (unused == NULL && is_charged_nothing(role_quota))
			unused = role_quota;
	}
	if (!create || unused == NULL)
		return &quota->roles[0];
	unused->role = role;
	return unused;
}

/* Under the mutex: do so many bytes more fit into the limit of all and the share of one? */
static PpQuotaResult
fits(const PpQuota *quota, const PpRoleQuota *mine, PpStore store, uint64 bytes, uint64 limit,
	 uint64 role_quota)
{
	if (bytes > limit || quota->charged[store] > limit - bytes)
		return PP_QUOTA_FULL;
	if (bytes > role_quota || mine->charged[store] > role_quota - bytes)
		return PP_QUOTA_GREEDY;
	return PP_QUOTA_CHARGED;
}

/* Under the mutex: what would pp_quota_charge() say? */
PpQuotaResult
pp_quota_ask_locked(PpQuota *quota, PpStore store, Oid role, uint64 bytes, uint64 limit,
					uint64 role_quota)
{
	return fits(quota, find_role(quota, role, false), store, bytes, limit, role_quota);
}

PpQuotaResult
pp_quota_ask(PpQuota *quota, PpStore store, Oid role, uint64 bytes, uint64 limit, uint64 role_quota)
{
	PpQuotaResult result;

	SpinLockAcquire(quota->mutex);
	result = pp_quota_ask_locked(quota, store, role, bytes, limit, role_quota);
	SpinLockRelease(quota->mutex);

	return result;
}

/* Under the mutex: hold so many bytes more, within the limit of all and the share of one. */
PpQuotaResult
pp_quota_charge_locked(PpQuota *quota, PpStore store, Oid role, uint64 bytes, uint64 limit,
					   uint64 role_quota)
{
	PpRoleQuota *mine = find_role(quota, role, true);
	PpQuotaResult result = fits(quota, mine, store, bytes, limit, role_quota);

	if (result == PP_QUOTA_CHARGED)
	{
		mine->charged[store] += bytes;
		quota->charged[store] += bytes;
		quota->takes++;
	}
	return result;
}

PpQuotaResult
pp_quota_charge(PpQuota *quota, PpStore store, Oid role, uint64 bytes, uint64 limit,
				uint64 role_quota)
{
	PpQuotaResult result;

	SpinLockAcquire(quota->mutex);
	result = pp_quota_charge_locked(quota, store, role, bytes, limit, role_quota);
	SpinLockRelease(quota->mutex);

	return result;
}

void
pp_quota_give(PpQuota *quota, PpStore store, Oid role, uint64 bytes)
{
	PpRoleQuota *rest = &quota->roles[0];
	PpRoleQuota *mine;
	uint64 given;

	SpinLockAcquire(quota->mutex);
	quota->charged[store] -= Min(bytes, quota->charged[store]);
	mine = find_role(quota, role, false);
	given = Min(bytes, mine->charged[store]);
	mine->charged[store] -= given;
	/* from before it had its own */
	rest->charged[store] -= Min(bytes - given, rest->charged[store]);
	SpinLockRelease(quota->mutex);
}

/* By all roles together. */
uint64
pp_quota_charged(PpQuota *quota, PpStore store)
{
	uint64 charged;

	SpinLockAcquire(quota->mutex);
	charged = quota->charged[store];
	SpinLockRelease(quota->mutex);

	return charged;
}

/* By this one. */
uint64
pp_quota_charged_to(PpQuota *quota, PpStore store, Oid role)
{
	uint64 charged;

	SpinLockAcquire(quota->mutex);
	charged = find_role(quota, role, false)->charged[store];
	SpinLockRelease(quota->mutex);

	return charged;
}

/* The entry that is charged most, as a copy. */
PpRoleQuota
pp_quota_greatest(PpQuota *quota, PpStore store)
{
	PpRoleQuota greatest;

	SpinLockAcquire(quota->mutex);
	greatest = quota->roles[0];
	for (int i = 1; i < PP_QUOTA_ROLES; i++)
	{
		if (quota->roles[i].charged[store] > greatest.charged[store])
			greatest = quota->roles[i];
	}
	SpinLockRelease(quota->mutex);

	return greatest;
}

/* How often something has been taken: to see later whether something has been since, or all reset.
 */
uint64
pp_quota_charges(PpQuota *quota)
{
	uint64 takes;

	SpinLockAcquire(quota->mutex);
	takes = quota->takes;
	SpinLockRelease(quota->mutex);

	return takes;
}

/*
 * This has been counted, in memory of one's own, since so much was taken.  What has been taken
 * meanwhile may not be in it: then all stays as it was, and who finds no room counts again.
 */
void
pp_quota_assign(PpQuota *quota, const PpQuota *counted, uint64 takes)
{
	SpinLockAcquire(quota->mutex);
	if (quota->takes == takes)
	{
		memcpy(quota->charged, counted->charged, sizeof(quota->charged));
		memcpy(quota->roles, counted->roles, sizeof(quota->roles));
		quota->counted = true;
	}
	SpinLockRelease(quota->mutex);
}

/* Nothing is there that anybody could hold: what is counted is a mistake. */
void
pp_quota_clear(PpQuota *quota)
{
	SpinLockAcquire(quota->mutex);
	give_all(quota);
	SpinLockRelease(quota->mutex);
}

bool
pp_quota_is_counted(PpQuota *quota)
{
	bool counted;

	SpinLockAcquire(quota->mutex);
	counted = quota->counted;
	SpinLockRelease(quota->mutex);

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

	SpinLockAcquire(quota->mutex);
	begin = !quota->counted;
	quota->counted = true;
	SpinLockRelease(quota->mutex);

	return begin;
}
