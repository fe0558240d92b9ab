/*-------------------------------------------------------------------------
 *
 * publish.c
 *	  Publishes a transaction's items; see publish.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/config.h"
#include "base/extension.h"
#include "base/faults.h"
#include "producer/publish.h"
#include "ring/lease.h"

#define SLOT_WAIT_MS 5000 /* for one that others don't need, and so give back; and its worker */
#define MORE_THAN_ANY_RING (PG_UINT64_MAX / PP_RING_ALIGN * PP_RING_ALIGN)

/* ---- what is held ---- */

/* What keeps the worker from making room, as a hint. */
static char *
reason_for_backlog(PpSlot *slot)
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
	sqlstate = slot->stuck_sqlstate;
	target = slot->stuck_target;
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

static void
refuse_quota(PpSlot *slot, PpStore store, Oid role, PpQuotaResult result)
{
	const char *what = store == PP_STORE_RING ? "ring" : "journal";

	if (result == PP_QUOTA_FULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("the journal of database \"%s\" is full", get_database_name(MyDatabaseId)),
				 errdetail("%llu kB wait in it; \"persist_pipeline.journal_limit\" is %d kB.",
						   (unsigned long long) pp_quota_charged(&slot->quota, store) / 1024,
						   pp_config_journal_limit),
				 errhint("%s", reason_for_backlog(slot))));
	ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					errmsg("role \"%s\" holds too much of the %s of database \"%s\"",
						   GetUserNameFromId(role, false), what, get_database_name(MyDatabaseId)),
					errdetail("A role may hold %d %% of it: \"persist_pipeline.role_quota\".",
							  pp_config_role_quota),
					errhint("%s", reason_for_backlog(slot))));
}

static uint64
size_of(PpSlot *slot, PpStore store)
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
	return pp_shmem_am_worker ? size_of(slot, store) / 4 : 0;
}

/* Bytes that all roles together may hold.  The ring says itself when it is full. */
static uint64
limit_of(PpSlot *slot, PpStore store)
{
	return store == PP_STORE_RING ? PG_UINT64_MAX
								  : size_of(slot, store) + reserve_of(slot, store);
}

/* Bytes that a role may hold. */
static uint64
quota_of(PpSlot *slot, PpStore store)
{
	return size_of(slot, store) / 100 * pp_config_role_quota + reserve_of(slot, store);
}

/*
 * 53400 if so much more of the journal is not to be had by the role.  At the commit of the
 * worker, which has asked, it is taken in any case: what others have taken meanwhile is no
 * reason to do a batch again.
 */
void
pp_publish_check_quota(PpSlot *slot, Oid role, uint64 bytes, uint64 items)
{
	PpQuotaResult result = pp_quota_ask(&slot->quota, PP_STORE_JOURNAL, role,
										pp_journal_cost(bytes, items),
										limit_of(slot, PP_STORE_JOURNAL),
										quota_of(slot, PP_STORE_JOURNAL));

	if (result != PP_QUOTA_CHARGED)
		refuse_quota(slot, PP_STORE_JOURNAL, role, result);
}

static PpStore
store_of(const PpPublish *publish, const PpPiece *piece)
{
	return publish->diverting || !piece->ring_only ? PP_STORE_JOURNAL : PP_STORE_RING;
}

static uint64
cost(PpStore store, const PpPiece *piece)
{
	return store == PP_STORE_RING ? pp_ring_entry_bytes(piece->length)
								  : pp_journal_cost(piece->length, piece->items);
}

/* Would a role hold more of the ring than its share?  Then it uses the journal. */
static bool
is_greedy(const PpPublish *publish, PpSlot *slot)
{
	for (int i = 0; i < publish->npieces; i++)
	{
		const PpPiece *piece = &publish->pieces[i];

		if (pp_quota_charged_to(&slot->quota, PP_STORE_RING, piece->role) +
				cost(PP_STORE_RING, piece) >
			quota_of(slot, PP_STORE_RING))
			return true;
	}
	return false;
}

/*
 * Without a slot nobody counts; but nobody applies anything either, so that the size on disk
 * tells how much waits, at the most.
 */
static bool
is_full_on_disk(uint64 size)
{
	return size >= (uint64) pp_config_journal_limit * UINT64CONST(1024);
}

static void
check_size_on_disk(Oid extension)
{
	uint64 size = pp_journal_size(extension);

	if (!is_full_on_disk(size))
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

static void
take_quotas(PpPublish *publish)
{
	PpSlot *slot = publish->slot;

	if (publish->without_slot)
		check_size_on_disk(publish->pieces[0].extension);

	for (int i = 0; i < publish->npieces && slot; i++)
	{
		PpPiece *piece = &publish->pieces[i];
		PpStore store = store_of(publish, piece);
		PpQuotaResult result =
			pp_quota_charge(&slot->quota, store, piece->role, cost(store, piece),
							pp_shmem_am_worker ? PG_UINT64_MAX : limit_of(slot, store),
							pp_shmem_am_worker ? PG_UINT64_MAX : quota_of(slot, store));

		if (result != PP_QUOTA_CHARGED)
			refuse_quota(slot, store, piece->role, result);
		publish->ncharged++;
	}
}

static void
give_back_quotas(PpPublish *publish)
{
	for (int i = 0; i < publish->ncharged; i++)
	{
		PpPiece *piece = &publish->pieces[i];
		PpStore store = store_of(publish, piece);

		pp_quota_give(&publish->slot->quota, store, piece->role, cost(store, piece));
	}
}

/* ---- at PRE_COMMIT ---- */

/* Bytes of payload that a piece puts into the ring. */
static uint64
payload(const PpPiece *piece)
{
	return piece->nrefs > 0 ? piece->nrefs * sizeof(PpJournalRef) : piece->length;
}

/*
 * How many bytes of the ring do the pieces need?  What is in the file can't be read
 * during the commit: that needs more than there is.
 */
static uint64
count_ring_bytes(PpPublish *publish)
{
	uint64 bytes = 0;

	if (publish->bytes->spilled > 0)
		return MORE_THAN_ANY_RING;
	for (int i = 0; i < publish->npieces; i++)
	{
		PpPiece *piece = &publish->pieces[i];

		if (!piece->ring_only)
			piece->nrefs = pp_journal_plan(pp_spill_in_memory(publish->bytes, piece->start),
										   piece->length, NULL);
		bytes += pp_ring_entry_bytes(payload(piece));
	}
	return bytes;
}

/*
 * Items of an installation that has been dropped, or is not this one, can't be written: an error,
 * unless this very transaction has dropped it.
 */
static void
check_installation(const PpPublish *publish, Oid extension)
{
	for (int i = 0; i < publish->npieces; i++)
	{
		if (publish->pieces[i].extension != extension)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("extension \"persist_pipeline\" was dropped while the transaction's "
							"items waited for its commit"),
					 errhint("Try the transaction again.")));
	}
}

/* A slot that another database doesn't need; NULL: there was none up to the deadline. */
static const PpClaim *
await_slot(PpSteady deadline)
{
	return pp_slot_await(deadline, false, pp_wait_event("PersistPipelineLane"));
}

/* Positions, without a slot; false: there is one by now. */
static bool
do_without_slot(PpPublish *publish, PpSteady deadline)
{
	Oid extension = pp_extension_get();
	uint64 pos;

	/* what it has on disk may be settled: who has a slot knows */
	if (is_full_on_disk(pp_journal_size(extension)) && await_slot(deadline) != NULL)
		return false;
	pos = pp_lease_position(extension);

	/* after that: who gets a slot from now on fetches higher ones */
	if (pp_slot_claim() != NULL)
		return false;
	publish->pos = pos;
	publish->without_slot = true;
	check_installation(publish, extension);
	return true;
}

/* Room for our pieces in the ring, or else in the journal alone; which journal? */
static int
admit(PpPublish *publish, uint64 bytes, bool ring_only)
{
	PpSteady deadline = 0; /* with a slot nobody waits */

	for (;;)
	{
		const PpClaim *claim = pp_slot_claim();
		PpAdmission admission;

		CHECK_FOR_INTERRUPTS();
		if (claim == NULL)
		{
			if (deadline == 0)
				deadline = pp_steady_in(SLOT_WAIT_MS);
			if (do_without_slot(publish, deadline))
				return 0;
			continue;
		}
		if (ring_only && is_greedy(publish, claim->slot))
			bytes = MORE_THAN_ANY_RING;
		PP_FAULT(admits);
		admission = pp_ring_admit(&claim->slot->ring, claim->generation, bytes, publish->npieces,
								  pp_shmem_am_worker, ring_only);
		if (admission.result == PP_RESERVED || admission.result == PP_RING_DIVERTED)
		{
			/* from here on ABORT has something to undo */
			publish->slot = claim->slot;
			publish->reserved = admission.result == PP_RESERVED ? bytes : 0;
			publish->diverting = admission.result == PP_RING_DIVERTED;
			publish->pos = admission.pos;
			check_installation(publish, claim->extension);
			return admission.journal;
		}
		if (admission.result == PP_NO_POSITIONS)
			pp_lease_positions(claim);
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
static void
count_targets(PpPublish *publish, const char *bytes, uint64 length)
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
			if (publish->ncounts == publish->max_counts)
			{
				publish->max_counts = Max(FEW_COUNTS, 2 * publish->max_counts);
				publish->counts =
					publish->counts
						? repalloc(publish->counts, publish->max_counts * sizeof(PpTargetCount))
						: MemoryContextAlloc(TopTransactionContext,
											 publish->max_counts * sizeof(PpTargetCount));
			}
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

static void
tell_counts(const PpPublish *publish, PpSlot *slot)
{
	for (int i = 0; i < publish->ncounts; i++)
		pp_counters_add(&slot->counters, publish->counts[i].target, publish->counts[i].items);
}

static void
take_counts_back(const PpPublish *publish)
{
	for (int i = 0; i < publish->ncounts && publish->told; i++)
		pp_counters_settle(&publish->slot->counters, publish->counts[i].target,
						   publish->counts[i].items);
}

/* Write a piece to the journal; the references are needed if it gets into the ring. */
static void
journal(PpPublish *publish, PpPiece *piece, int number, uint64 pos, int follows)
{
	const char *bytes = pp_spill_read(publish->bytes, piece->start, piece->length);
	int nrows = piece->nrefs > 0 ? piece->nrefs : pp_journal_plan(bytes, piece->length, NULL);
	PpRowPlan *rows = palloc(nrows * sizeof(PpRowPlan));
	PpJournalRef *refs =
		MemoryContextAlloc(publish->reserved > 0 ? TopTransactionContext : CurrentMemoryContext,
						   nrows * sizeof(PpJournalRef));

	count_targets(publish, bytes, piece->length);
	(void) pp_journal_plan(bytes, piece->length, rows);
	for (int i = 0; i < nrows; i++)
		rows[i].header.follows = follows;
	pp_journal_append(piece->extension, number, pos, piece->role, rows, nrows, refs);
	if (publish->reserved > 0)
	{
		piece->refs = refs;
		piece->nrefs = nrows;
	}
}

static void
write_journal(PpPublish *publish, int number)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "persist_pipeline pieces",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);

	PushActiveSnapshot(GetTransactionSnapshot()); /* the heap wants one */
	for (int i = 0; i < publish->npieces; i++)
	{
		PpPiece *piece = &publish->pieces[i];

		CHECK_FOR_INTERRUPTS();
		journal(publish, piece, number, publish->pos + i, publish->npieces - 1 - i);
		MemoryContextReset(context);
	}
	PopActiveSnapshot();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/* Does the commit wait until a standby has it, if need be for ever? */
static bool
waits_for_standby(void)
{
	return SyncRepRequested() && SyncRepStandbyNames[0] != '\0' &&
		   TransactionIdIsValid(GetTopTransactionIdIfAny());
}

/*
 * Before the commit.  Errors: 53400 the journal, or a role's share of it, is full;
 * 55000 the extension has been dropped; those of pp_extension_get(); and whatever
 * keeps a row from being written.
 */
void
pp_publish_prepare(PpPublish *publish, PpSpill *bytes, PpPiece *pieces, int npieces)
{
	bool ring_only = true;
	int number;

	publish->bytes = bytes;
	publish->pieces = pieces;
	publish->npieces = npieces;
	for (int i = 0; i < npieces; i++)
	{
		publish->items += pieces[i].items;
		ring_only &= pieces[i].ring_only;
	}

	/*
	 * A commit that waits for a standby may outlast its worker's turn, and nobody could save what
	 * comes into the ring alone after that.
	 */
	if (waits_for_standby())
		ring_only = false;

	/*
	 * All of them, or none: a pass sees the rows as soon as the transaction commits, and
	 * entries only a moment later, when it may not look for them any more.
	 */
	for (int i = 0; i < npieces && !ring_only; i++)
		pieces[i].ring_only = false;

	number = admit(publish, count_ring_bytes(publish), ring_only);
	take_quotas(publish);
	if (!ring_only || publish->reserved == 0)
		write_journal(publish, number);
	else
	{
		for (int i = 0; i < npieces; i++)
			count_targets(publish, pp_spill_in_memory(bytes, pieces[i].start), pieces[i].length);
	}

	/* not at the commit: others see its rows a moment earlier, and may settle them */
	if (publish->slot)
	{
		tell_counts(publish, publish->slot);
		publish->told = true;
	}
}

/* ---- at COMMIT and ABORT ---- */

/* Write a piece, one of so many, into room that was reserved.  Can't fail. */
static void
publish_piece(PpSlot *slot, const PpPiece *piece, uint64 pos, int part, int parts,
			  const char *items)
{
	const void *bytes = piece->nrefs > 0 ? (const void *) piece->refs : items;
	uint64 at = pp_ring_begin(&slot->ring, piece->role, piece->items, payload(piece),
							  pp_steady_now());
	PpEntry *entry = pp_ring_entry(&slot->ring, at);

	entry->extension = piece->extension;
	entry->part = part;
	entry->parts = parts;
	entry->pos = pos;
	entry->refs = piece->nrefs;
	pp_ring_write(&slot->ring, at, 0, bytes, payload(piece));
	if (pp_ring_publish(&slot->ring, at))
		pp_shmem_wake_worker(slot);
}

/* Can't fail. */
void
pp_publish_commit(PpPublish *publish)
{
	PpSlot *slot = publish->slot;

	if (publish->without_slot)
	{
		/* who got it in the meantime may have counted without us */
		slot = pp_slot_find(MyDatabaseId);
		if (slot && pp_counters_are_counted(&slot->counters))
			tell_counts(publish, slot);
		if (!pp_slot_call_pass(MyDatabaseId, publish->items))
			pp_slot_probe_database(MyDatabaseId);
	}
	else if (publish->diverting)
	{
		if (pp_ring_divert(&slot->ring, publish->items, pp_config_batch_size, pp_steady_now()))
			pp_shmem_wake_worker(slot);
	}
	else
	{
		for (int i = 0; i < publish->npieces; i++)
		{
			const PpPiece *piece = &publish->pieces[i];

			publish_piece(slot, piece, publish->pos + i, i, publish->npieces,
						  pp_spill_in_memory(publish->bytes, piece->start));
		}
	}

	/* that of a paused database may be free now, and has no worker that would see it */
	if (pp_shmem->slots_wanted && slot && pp_slot_is_paused(slot))
		pp_shmem_wake_launcher();
}

/* Can't fail. */
void
pp_publish_abort(PpPublish *publish)
{
	PpSlot *slot = publish->slot;

	if (slot == NULL)
		return;
	take_counts_back(publish);
	give_back_quotas(publish);
	if ((publish->reserved > 0 &&
		 pp_ring_release(&slot->ring, publish->reserved, publish->pieces[0].ring_only)) ||
		(publish->diverting && pp_ring_undivert(&slot->ring)))
		pp_shmem_wake_worker(slot);
	if (pp_shmem->slots_wanted)
		pp_shmem_wake_launcher(); /* now this one may be free */
}

/* ---- at once ---- */

/* 53000: all slots are in use by other databases. */
static const PpClaim *
claim_slot(PpSteady deadline)
{
	const PpClaim *claim = await_slot(deadline);

	if (claim == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no ring is free for database \"%s\"", get_database_name(MyDatabaseId)),
				 errdetail("All %d rings hold items of other databases.", pp_config_max_databases),
				 errhint("Try again, or increase \"persist_pipeline.max_databases\".")));
	return claim;
}

static uint64
take_position(PpSteady deadline)
{
	for (;;)
	{
		const PpClaim *claim = claim_slot(deadline);
		uint64 pos = pp_ring_take_position(&claim->slot->ring, claim->generation);

		if (pos > 0)
			return pos;
		CHECK_FOR_INTERRUPTS();
		pp_lease_positions(claim);
	}
}

/* 55000 if the database is paused, as far as is known. */
static void
check_paused(PpSlot *slot)
{
	if (!pp_slot_is_paused(slot))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("database \"%s\" is paused", get_database_name(MyDatabaseId)),
			 errdetail("Items that are not transactional wait in the ring alone, and nobody is "
					   "there to save them."),
			 errhint("Call persist_resume(), or let the item be transactional.")));
}

/*
 * Have a worker started, and wait until it is there.  53000 at the deadline.  Nobody holds
 * anything that it needs for that, whatever this transaction has locked.
 */
static void
await_worker(const PpClaim *claim, PpSteady deadline)
{
	PpSlot *slot = claim->slot;
	uint32 wait_event = pp_wait_event("PersistPipelineStart");
	long ms;

	ConditionVariablePrepareToSleep(&slot->settled);
	while ((ms = pp_steady_ms_until(deadline)) > 0 && !pp_ring_is_attended(&slot->ring) &&
		   !pp_slot_is_paused(slot) && !pp_ring_is_stale(&slot->ring, claim->generation) &&
		   !ShutdownRequestPending)
	{
		/* somebody else who has waited may have said that the worker has come */
		if (!pp_slot_is_wanted(slot))
			pp_slot_want_worker(slot, deadline);
		(void) ConditionVariableTimedSleep(&slot->settled, Min(ms, PP_SLOT_LOOK_MS), wait_event);
	}
	ConditionVariableCancelSleep();
	check_paused(slot);
	if (ms <= 0 || ShutdownRequestPending)
		ereport(ERROR,
				/* in the retrier it concerns a whole target, and is soon over */
				(errcode(pp_shmem_am_worker ? ERRCODE_CONFIGURATION_LIMIT_EXCEEDED
									  : ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no worker is free for database \"%s\"", get_database_name(MyDatabaseId)),
				 errdetail("An item that is not transactional needs one. %s",
						   reason_for_backlog(slot)),
				 errhint("Try again, increase \"persist_pipeline.max_workers\", or let the item be "
						 "transactional.")));
}

/*
 * Reserve so many bytes of the ring for the current user.  Returns the claim under
 * which they are.
 */
static const PpClaim *
reserve(uint64 bytes, PpSteady deadline)
{
	bool waited = false;
	const PpClaim *claim;
	PpReserveResult result;

	for (;;)
	{
		PpQuotaResult share;

		claim = claim_slot(deadline);
		share = pp_quota_charge(&claim->slot->quota, PP_STORE_RING, GetUserId(), bytes,
								limit_of(claim->slot, PP_STORE_RING),
								quota_of(claim->slot, PP_STORE_RING));
		if (share != PP_QUOTA_CHARGED)
			refuse_quota(claim->slot, PP_STORE_RING, GetUserId(), share);
		result = pp_ring_reserve(&claim->slot->ring, claim->generation, bytes, pp_shmem_am_worker);
		if (result != PP_RESERVED)
			pp_quota_give(&claim->slot->quota, PP_STORE_RING, GetUserId(), bytes);
		if (result == PP_RING_UNATTENDED)
		{
			await_worker(claim, deadline);
			waited = true;
		}
		else if (result != PP_RING_STALE)
			break;
	}
	if (waited)
		pp_slot_want_worker(claim->slot, 0);

	if (result == PP_RING_CLOSED)
		ereport(ERROR,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("the ring of database \"%s\" is closed", get_database_name(MyDatabaseId)),
				 errdetail("The persist_pipeline worker is shutting down."),
				 errhint("Try the transaction again.")));
	if (result == PP_RING_FULL)
		ereport(
			ERROR,
			/*
			 * in the worker it is an error of the whole target, and soon over: the same SQLSTATE
			 * as for a quota
			 */
			(errcode(pp_shmem_am_worker ? ERRCODE_CONFIGURATION_LIMIT_EXCEEDED
								  : ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("the ring of database \"%s\" is full", get_database_name(MyDatabaseId)),
			 errdetail("There is no room for %llu bytes.", (unsigned long long) bytes),
			 errhint("Try the transaction again, or increase \"persist_pipeline.ring_size\".")));

	return claim;
}

/* 54000 if the item is larger than a quarter of the ring. */
static void
check_size(const PpSlot *slot, const PpItem *item)
{
	uint64 limit = pp_shmem_item_limit(slot->ring.size);

	if (item->size > limit)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the item for relation \"%s\" is too large", get_rel_name(item->target)),
				 errdetail("It has %u bytes; the limit is %llu, a quarter of the ring.", item->size,
						   (unsigned long long) limit),
				 errhint("Increase \"persist_pipeline.ring_size\", or set "
						 "\"persist_pipeline.mode\" to \"direct\".")));
}

/*
 * Hand an item over, whatever becomes of the transaction.  Errors: 53000 no slot, no worker, or
 * no room in its ring (the latter in the worker 53400); 53400 the role's share of the ring is
 * full; 54000 too large; 57P01 the ring is closed; 55000 the database is paused.
 */
void
pp_publish_now(const PpItem *item)
{
	PpSteady deadline = pp_steady_in(SLOT_WAIT_MS);
	const PpClaim *claim = claim_slot(deadline);
	PpPiece piece = {.role = GetUserId(), .items = 1, .length = item->size};
	uint64 pos;

	check_size(claim->slot, item);
	check_paused(claim->slot);
	pos = take_position(deadline);
	claim = reserve(pp_ring_entry_bytes(item->size), deadline);
	piece.extension = claim->extension;
	pp_counters_add(&claim->slot->counters, item->target, 1);
	publish_piece(claim->slot, &piece, pos, 0, 1, (const char *) item);
}
