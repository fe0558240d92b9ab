/*-------------------------------------------------------------------------
 *
 * admission.c
 *	  Takes and gives back what is in admission.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/array.h"
#include "base/config.h"
#include "producer/admission.h"

#define AT_ONCE 8 /* shares, and counts, under one hold of the mutex */

/* ---- how much may be held ---- */

/* What keeps the worker from making room, as a hint. */
char *
pp_admission_backlog_reason(PpSlot *slot)
{
	bool paused;
	pid_t pid;
	PpWorkerState state;
	int sqlstate;
	Oid target;
	char *name;

	SpinLockAcquire(&slot->mutex);
	paused = slot->paused;
	pid = slot->worker_pid;
	state = slot->worker_state;
	sqlstate = slot->backs_off_sqlstate;
	target = slot->backs_off_target;
	SpinLockRelease(&slot->mutex);

	if (paused)
		return "The database is paused: call persist_resume().";
	name = OidIsValid(target) ? get_rel_name(target) : NULL;
	if (sqlstate != 0 && name)
		return psprintf("The worker (PID %d) cannot write to \"%s.%s\": SQLSTATE %s.", (int) pid,
						get_namespace_name(get_rel_namespace(target)), name,
						unpack_sql_state(sqlstate));
	if (sqlstate != 0)
		return psprintf("The worker (PID %d) cannot write: SQLSTATE %s.", (int) pid,
						unpack_sql_state(sqlstate));
	if (state == PP_WORKER_NONE)
		return "No worker runs for this database just now: others have their turn, or the server "
			   "log says why.";
	return psprintf("The worker (PID %d) writes, but more slowly than items come.", (int) pid);
}

/* Is too much of the target parked? */
bool
pp_admission_is_full(PpSlot *slot, Oid target, PpCounter *entry)
{
	if (!pp_counters_any_parked(&slot->counters))
		return false;
	*entry = pp_counters_get(&slot->counters, target);
	return entry->parked_bytes >= (uint64) pp_config_parked_limit * UINT64CONST(1024);
}

/* 53400: so much of the target is. */
void
pp_admission_refuse(Oid target, const PpCounter *entry)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("too many items for relation \"%s\" wait already", get_rel_name(target)),
			 errdetail("%llu items are parked, %llu kB: SQLSTATE %s. "
					   "\"persist_pipeline.parked_limit\" is %d kB.",
					   (unsigned long long) entry->parked,
					   (unsigned long long) entry->parked_bytes / 1024,
					   unpack_sql_state(entry->sqlstate), pp_config_parked_limit),
			 errhint("Remove what keeps rows from being inserted into it: a lock, a missing column "
					 "or right, a full disk, a pause.")));
}

/*
 * Is so much in the journal's file?  Without a slot nobody counts; but nobody applies anything
 * either, so that the size on disk tells how much waits, at the most.
 */
bool
pp_admission_is_full_on_disk(uint64 size)
{
	return size >= (uint64) pp_config_journal_limit * UINT64CONST(1024);
}

/* 53400 if so much is. */
void
pp_admission_check_disk(Oid extension)
{
	uint64 size = pp_journal_size(extension);

	if (!pp_admission_is_full_on_disk(size))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("the journal of database \"%s\" is full", get_database_name(MyDatabaseId)),
			 errdetail("It has %llu kB; \"persist_pipeline.journal_limit\" is %d kB.",
					   (unsigned long long) size / 1024, pp_config_journal_limit),
			 errhint("All %d rings hold items of other databases: increase "
					 "\"persist_pipeline.max_databases\".",
					 pp_config_max_databases)));
}

static uint64
store_size(PpSlot *slot, PpStore store)
{
	return store == PP_STORE_RING ? slot->ring.size
								  : (uint64) pp_config_journal_limit * UINT64CONST(1024);
}

/*
 * The worker may use a quarter more, for what its triggers enqueue: it makes room, and has to go
 * on when others have filled the journal.
 */
static uint64
reserve_of(PpSlot *slot, PpStore store)
{
	return pp_shmem_am_worker ? store_size(slot, store) / 4 : 0;
}

/* Bytes that all roles together may hold.  The ring says itself when it is full. */
static uint64
limit_of(PpSlot *slot, PpStore store)
{
	return store == PP_STORE_RING ? PG_UINT64_MAX
								  : store_size(slot, store) + reserve_of(slot, store);
}

/* Bytes that a role may hold. */
uint64
pp_admission_quota(PpSlot *slot, PpStore store)
{
	return store_size(slot, store) / 100 * pp_config_role_quota + reserve_of(slot, store);
}

/* 53400: the role, or all together, would hold too much with so many bytes more. */
static void
refuse_quota(PpSlot *slot, PpStore store, Oid role, uint64 bytes, PpQuotaResult result)
{
	bool full = result == PP_QUOTA_FULL;
	/* then no worker can make enough room */
	bool is_too_large = bytes > (full ? limit_of(slot, store) : pp_admission_quota(slot, store));
	const char *what = store == PP_STORE_RING ? "ring" : "journal";
	const char *size = store == PP_STORE_RING ? "ring_size" : "journal_limit";
	unsigned long long kilobytes = bytes / 1024;

	if (full)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("the journal of database \"%s\" is full", get_database_name(MyDatabaseId)),
				 errdetail("%llu kB wait in it, and %llu kB are to be added; "
						   "\"persist_pipeline.journal_limit\" is %d kB.",
						   (unsigned long long) pp_quota_charged(&slot->quota, store) / 1024,
						   kilobytes, pp_config_journal_limit),
				 is_too_large ? errhint("Divide the transaction, or increase "
										"\"persist_pipeline.journal_limit\".")
							  : errhint("%s", pp_admission_backlog_reason(slot))));
	ereport(ERROR,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("role \"%s\" holds too much of the %s of database \"%s\"",
					GetUserNameFromId(role, false), what, get_database_name(MyDatabaseId)),
			 errdetail("It holds %llu kB, and %llu kB are to be added. "
					   "A role may hold %d %% of it: \"persist_pipeline.role_quota\".",
					   (unsigned long long) pp_quota_charged_to(&slot->quota, store, role) / 1024,
					   kilobytes, pp_config_role_quota),
			 is_too_large
				 ? errhint("Divide the transaction, or increase \"persist_pipeline.%s\" or "
						   "\"persist_pipeline.role_quota\".",
						   size)
				 : errhint("%s", pp_admission_backlog_reason(slot))));
}

/*
 * 53400 if so much more of the journal is not to be had by the role.  At the commit of the
 * worker, which has asked, it is taken in any case: what others have taken meanwhile is no
 * reason to do a batch again.
 */
void
pp_admission_check_quota(PpSlot *slot, Oid role, uint64 bytes, uint64 items)
{
	uint64 cost = pp_journal_cost(bytes, items);
	PpQuotaResult result =
		pp_quota_ask(&slot->quota, PP_STORE_JOURNAL, role, cost, limit_of(slot, PP_STORE_JOURNAL),
					 pp_admission_quota(slot, PP_STORE_JOURNAL));

	if (result != PP_QUOTA_CHARGED)
		refuse_quota(slot, PP_STORE_JOURNAL, role, cost, result);
}

/*
 * Charge the role with so many bytes of the ring.  53400: it holds too much.
 */
void
pp_admission_charge_ring(PpSlot *slot, Oid role, uint64 bytes)
{
	PpQuotaResult result =
		pp_quota_charge(&slot->quota, PP_STORE_RING, role, bytes, limit_of(slot, PP_STORE_RING),
						pp_admission_quota(slot, PP_STORE_RING));

	if (result != PP_QUOTA_CHARGED)
		refuse_quota(slot, PP_STORE_RING, role, bytes, result);
}

/* ---- what the items cost ---- */

static PpShare *
share_at(PpPublish *publish, int i)
{
	return i == 0 ? &publish->first_share : &publish->more_shares[i - 1];
}

/* The share that a role's next piece is added to; with many roles it may have several. */
static PpShare *
share_of(PpPublish *publish, Oid role)
{
	PpShare *share;

	for (int i = publish->nshares - 1; i >= Max(0, publish->nshares - AT_ONCE); i--)
	{
		if (share_at(publish, i)->role == role)
			return share_at(publish, i);
	}
	if (publish->nshares == 1)
		publish->more_shares = MemoryContextAllocHuge(TopTransactionContext,
													  (publish->npieces - 1) * sizeof(PpShare));
	share = share_at(publish, publish->nshares++);
	*share = (PpShare){.role = role};
	return share;
}

/* What do the pieces cost their roles? */
void
pp_admission_sum_up(PpPublish *publish)
{
	for (int i = 0; i < publish->npieces; i++)
	{
		const PpPiece *piece = &publish->pieces[i];
		PpShare *share = share_of(publish, piece->role);

		share->bytes[PP_STORE_RING] += pp_ring_entry_bytes(piece->length);
		share->bytes[PP_STORE_JOURNAL] += pp_journal_cost(piece->length, piece->items);
	}
}

/* Where a target's count is to be found, when there are many */
typedef struct CountIndex
{
	Oid target; /* hash key */
	int index;
} CountIndex;

#define FEW_COUNTS 16

static void
remember_count(PpPublish *publish, int index)
{
	HASHCTL ctl = {
		.keysize = sizeof(Oid), .entrysize = sizeof(CountIndex), .hcxt = TopTransactionContext};
	CountIndex *entry;

	if (publish->count_of == NULL)
		publish->count_of =
			hash_create("persist_pipeline counts", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	entry = hash_search(publish->count_of, &publish->counts[index].target, HASH_ENTER, NULL);
	entry->index = index;
}

/* The place of a target's count; -1: it has none yet. */
static int
find_count(PpPublish *publish, Oid target)
{
	CountIndex *entry;

	if (publish->count_of)
	{
		entry = hash_search(publish->count_of, &target, HASH_FIND, NULL);
		return entry ? entry->index : -1;
	}
	for (int i = publish->ncounts - 1; i >= 0; i--)
	{
		if (publish->counts[i].target == target)
			return i;
	}
	return -1;
}

/* Which targets do these items go to?  The worker will tell the same of what it settles. */
void
pp_admission_count(PpPublish *publish, const char *bytes, uint64 length)
{
	const char *end = bytes + length;
	int index = -1;

	for (; bytes < end; bytes += ((const PpItem *) bytes)->size)
	{
		Oid target = ((const PpItem *) bytes)->target;

		if (index < 0 || publish->counts[index].target != target)
			index = find_count(publish, target);
		if (index < 0)
		{
			PP_ARRAY_GROW_IN(TopTransactionContext, publish->counts, publish->ncounts,
							 publish->max_counts);
			index = publish->ncounts++;
			publish->counts[index] = (PpTargetCount){.target = target};
			if (publish->ncounts == FEW_COUNTS)
			{
				for (int i = 0; i < index; i++)
					remember_count(publish, i);
			}
			if (publish->ncounts >= FEW_COUNTS)
				remember_count(publish, index);
		}
		publish->counts[index].items++;
	}
}

/* ---- taking it, and giving it back ---- */

/* For which the shares are charged, once the ring has admitted us */
static PpStore
store_of(const PpPublish *publish)
{
	return publish->ring_only && !publish->diverting ? PP_STORE_RING : PP_STORE_JOURNAL;
}

/* What a role and all together may hold of a store */
typedef struct Limits
{
	uint64 all;
	uint64 role;
} Limits;

/*
 * A batch of the worker is not done again because others have filled the journal meanwhile.  Of
 * the ring is_greedy() has said, under the same hold of the mutex, that there is enough.
 */
static Limits
limits_of(PpSlot *slot, PpStore store)
{
	if (pp_shmem_am_worker || store == PP_STORE_RING)
		return (Limits){PG_UINT64_MAX, PG_UINT64_MAX};
	return (Limits){limit_of(slot, store), pp_admission_quota(slot, store)};
}

/*
 * Under the mutex: would a role hold more of the ring than its share?  Then it uses the journal.
 * So do many roles, as that takes too long to find out.
 */
static bool
is_greedy(PpPublish *publish, PpSlot *slot, uint64 role_quota)
{
	if (publish->nshares > AT_ONCE)
		return true;
	for (int i = 0; i < publish->nshares; i++)
	{
		const PpShare *share = share_at(publish, i);

		if (pp_quota_ask_locked(&slot->quota, PP_STORE_RING, share->role,
								share->bytes[PP_STORE_RING], PG_UINT64_MAX,
								role_quota) != PP_QUOTA_CHARGED)
			return true;
	}
	return false;
}

/* 53400: the next share is too much. */
static void
refuse_share(PpPublish *publish, PpQuotaResult result)
{
	const PpShare *share = share_at(publish, publish->ncharged);
	PpStore store = store_of(publish);

	refuse_quota(publish->slot, store, share->role, share->bytes[store], result);
}

/* Under the mutex: charge the next shares, and tell the next counts. */
static PpQuotaResult
take_some_room(PpPublish *publish, Limits limits)
{
	PpSlot *slot = publish->slot;
	PpStore store = store_of(publish);

	for (int i = 0; i < AT_ONCE && publish->ncharged < publish->nshares; i++)
	{
		const PpShare *share = share_at(publish, publish->ncharged);
		PpQuotaResult result =
			pp_quota_charge_locked(&slot->quota, store, share->role, share->bytes[store],
								   limits.all, limits.role);

		if (result != PP_QUOTA_CHARGED)
			return result;
		publish->ncharged++;
	}
	for (int i = 0; i < AT_ONCE && publish->ntold < publish->ncounts; i++)
	{
		const PpTargetCount *count = &publish->counts[publish->ntold++];

		pp_counters_add_locked(&slot->counters, count->target, count->items);
	}
	return PP_QUOTA_CHARGED;
}

/*
 * Ask for all of it.  If the ring has admitted us, `publish` says what ABORT has to give back,
 * and what is left to take.  53400: a role may not hold so much.
 */
PpAdmission
pp_admission_take(PpPublish *publish, const PpClaim *claim, uint64 bytes)
{
	PpSlot *slot = claim->slot;
	PpRing *ring = &slot->ring;
	uint64 ring_quota = pp_admission_quota(slot, PP_STORE_RING);
	Limits limits[] = {[PP_STORE_RING] = limits_of(slot, PP_STORE_RING),
					   [PP_STORE_JOURNAL] = limits_of(slot, PP_STORE_JOURNAL)};
	PpQuotaResult result = PP_QUOTA_CHARGED;
	PpAdmission admission;

	SpinLockAcquire(&ring->mutex);
	if (publish->ring_only && is_greedy(publish, slot, ring_quota))
		bytes = PP_MORE_THAN_ANY_RING;
	admission = pp_ring_admit_locked(ring, claim->generation, bytes, publish->npieces,
									 pp_shmem_am_worker, publish->ring_only);
	if (admission.result == PP_RESERVED || admission.result == PP_RING_DIVERTED)
	{
		publish->slot = slot;
		publish->reserved = admission.result == PP_RESERVED ? bytes : 0;
		publish->diverting = admission.result == PP_RING_DIVERTED;
		publish->pos = admission.pos;
		result = take_some_room(publish, limits[store_of(publish)]);
	}
	SpinLockRelease(&ring->mutex);

	if (result != PP_QUOTA_CHARGED)
		refuse_share(publish, result);
	return admission;
}

/* Take what many roles and targets have left, and what has been counted since.  53400 as above. */
void
pp_admission_take_rest(PpPublish *publish)
{
	PpSlot *slot = publish->slot;
	Limits limits = limits_of(slot, store_of(publish));
	PpQuotaResult result = PP_QUOTA_CHARGED;

	while (result == PP_QUOTA_CHARGED &&
		   (publish->ncharged < publish->nshares || publish->ntold < publish->ncounts))
	{
		SpinLockAcquire(&slot->ring.mutex);
		result = take_some_room(publish, limits);
		SpinLockRelease(&slot->ring.mutex);
	}
	if (result != PP_QUOTA_CHARGED)
		refuse_share(publish, result);
}

/* For a slot that has come too late to admit us. */
void
pp_admission_tell_counts(const PpPublish *publish, PpSlot *slot)
{
	for (int i = 0; i < publish->ncounts; i++)
		pp_counters_add(&slot->counters, publish->counts[i].target, publish->counts[i].items);
}

/* All but the room.  Can't fail. */
void
pp_admission_give_back(PpPublish *publish)
{
	PpSlot *slot = publish->slot;
	PpStore store = store_of(publish);

	while (publish->ntold > 0)
	{
		const PpTargetCount *count = &publish->counts[--publish->ntold];

		pp_counters_settle(&slot->counters, count->target, count->items);
	}
	while (publish->ncharged > 0)
	{
		const PpShare *share = share_at(publish, --publish->ncharged);

		pp_quota_give(&slot->quota, store, share->role, share->bytes[store]);
	}
}
