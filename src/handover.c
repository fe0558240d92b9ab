/*-------------------------------------------------------------------------
 *
 * handover.c
 *	  Hands a transaction's items over; see handover.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "config.h"
#include "extension.h"
#include "faults.h"
#include "handover.h"
#include "lease.h"

#define LANE_WAIT_MS 5000 /* for one that others don't need, and so give back; and its worker */
#define LOOK_MS 100
#define MORE_THAN_ANY_RING (PG_UINT64_MAX / PP_RING_ALIGN * PP_RING_ALIGN)

/* ---- what is held ---- */

/* What keeps the worker from making room, as a hint. */
static char *
reason_for_backlog(PpLane *lane)
{
	bool paused;
	pid_t pid;
	PpWorkerState state;
	int sqlstate;
	Oid target;
	char *name;

	SpinLockAcquire(&lane->mutex);
	paused = lane->paused;
	pid = lane->worker_pid;
	state = lane->worker_state;
	sqlstate = lane->stuck_sqlstate;
	target = lane->stuck_target;
	SpinLockRelease(&lane->mutex);

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
refuse_share(PpLane *lane, PpStore store, Oid role, PpQuotaResult result)
{
	const char *what = store == PP_STORE_RING ? "ring" : "journal";

	if (result == PP_QUOTA_FULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("the journal of database \"%s\" is full", get_database_name(MyDatabaseId)),
				 errdetail("%llu kB wait in it; \"persist_pipeline.journal_limit\" is %d kB.",
						   (unsigned long long) pp_quota_held(&lane->quota, store) / 1024,
						   pp_journal_limit),
				 errhint("%s", reason_for_backlog(lane))));
	ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					errmsg("role \"%s\" holds too much of the %s of database \"%s\"",
						   GetUserNameFromId(role, false), what, get_database_name(MyDatabaseId)),
					errdetail("A role may hold %d %% of it: \"persist_pipeline.role_quota\".",
							  pp_role_quota),
					errhint("%s", reason_for_backlog(lane))));
}

static uint64
size_of(PpLane *lane, PpStore store)
{
	return store == PP_STORE_RING ? lane->ring.size
								  : (uint64) pp_journal_limit * UINT64CONST(1024);
}

/*
 * A quarter more is for what triggers enqueue in the worker: what makes room is to go on
 * where others have filled it to the brim.
 */
static uint64
reserve_of(PpLane *lane, PpStore store)
{
	return pp_am_worker ? size_of(lane, store) / 4 : 0;
}

/* Bytes that all roles together may hold.  The ring says itself when it is full. */
static uint64
limit_of(PpLane *lane, PpStore store)
{
	return store == PP_STORE_RING ? PG_UINT64_MAX
								  : size_of(lane, store) + reserve_of(lane, store);
}

/* Bytes that a role may hold. */
static uint64
share_of(PpLane *lane, PpStore store)
{
	return size_of(lane, store) / 100 * pp_role_quota + reserve_of(lane, store);
}

/*
 * 53400 if so much more of the journal is not to be had by the role.  At the commit of the
 * worker, which has asked, it is taken in any case: what others have taken meanwhile is no
 * reason to do a batch again.
 */
void
pp_handover_check_share(PpLane *lane, Oid role, uint64 bytes, uint64 items)
{
	PpQuotaResult result = pp_quota_ask(&lane->quota, PP_STORE_JOURNAL, role,
										pp_journal_cost(bytes, items),
										limit_of(lane, PP_STORE_JOURNAL),
										share_of(lane, PP_STORE_JOURNAL));

	if (result != PP_QUOTA_TAKEN)
		refuse_share(lane, PP_STORE_JOURNAL, role, result);
}

static PpStore
store_of(const PpHandover *handover, const PpPiece *piece)
{
	return handover->diverting || !piece->ring_only ? PP_STORE_JOURNAL : PP_STORE_RING;
}

static uint64
cost(PpStore store, const PpPiece *piece)
{
	return store == PP_STORE_RING ? pp_entry_bytes(piece->length)
								  : pp_journal_cost(piece->length, piece->items);
}

/* Would a role hold more of the ring than its share?  Then it uses the journal. */
static bool
is_greedy(const PpHandover *handover, PpLane *lane)
{
	for (int i = 0; i < handover->npieces; i++)
	{
		const PpPiece *piece = &handover->pieces[i];

		if (pp_quota_held_by(&lane->quota, PP_STORE_RING, piece->role) +
				cost(PP_STORE_RING, piece) >
			share_of(lane, PP_STORE_RING))
			return true;
	}
	return false;
}

/*
 * Without a lane nobody counts; but nobody applies anything either, so that the size on disk
 * tells how much waits, at the most.
 */
static bool
is_full_on_disk(uint64 size)
{
	return size >= (uint64) pp_journal_limit * UINT64CONST(1024);
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
					   (unsigned long long) size / 1024, pp_journal_limit),
			 errhint("All %d rings hold items of other databases: increase "
					 "\"persist_pipeline.max_databases\".",
					 pp_max_databases)));
}

static void
take_shares(PpHandover *handover)
{
	PpLane *lane = handover->lane;

	if (handover->without_lane)
		check_size_on_disk(handover->pieces[0].extension);

	for (int i = 0; i < handover->npieces && lane; i++)
	{
		PpPiece *piece = &handover->pieces[i];
		PpStore store = store_of(handover, piece);
		PpQuotaResult result =
			pp_quota_take(&lane->quota, store, piece->role, cost(store, piece),
						  pp_am_worker ? PG_UINT64_MAX : limit_of(lane, store),
						  pp_am_worker ? PG_UINT64_MAX : share_of(lane, store));

		if (result != PP_QUOTA_TAKEN)
			refuse_share(lane, store, piece->role, result);
		handover->nshares++;
	}
}

static void
give_shares(PpHandover *handover)
{
	for (int i = 0; i < handover->nshares; i++)
	{
		PpPiece *piece = &handover->pieces[i];
		PpStore store = store_of(handover, piece);

		pp_quota_give(&handover->lane->quota, store, piece->role, cost(store, piece));
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
count_ring_bytes(PpHandover *handover)
{
	uint64 bytes = 0;

	if (handover->bytes->spilled > 0)
		return MORE_THAN_ANY_RING;
	for (int i = 0; i < handover->npieces; i++)
	{
		PpPiece *piece = &handover->pieces[i];

		if (!piece->ring_only)
			piece->nrefs = pp_journal_plan(pp_spill_in_memory(handover->bytes, piece->start),
										   piece->length, NULL);
		bytes += pp_entry_bytes(payload(piece));
	}
	return bytes;
}

/*
 * The items of an installation that is no more, or not this one, have nowhere to
 * go.  Where this very transaction has dropped it, that was meant.
 */
static void
check_installation(const PpHandover *handover, Oid extension)
{
	for (int i = 0; i < handover->npieces; i++)
	{
		if (handover->pieces[i].extension != extension)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("extension \"persist_pipeline\" was dropped while the transaction's "
							"items waited for its commit"),
					 errhint("Try the transaction again.")));
	}
}

/* A lane that another database doesn't need; NULL: there was none up to the deadline. */
static const PpClaim *
await_lane(PpSteady deadline)
{
	return pp_lane_await(deadline, false, pp_wait_event("PersistPipelineLane"));
}

/* Positions, without a lane; false: there is one by now. */
static bool
do_without_lane(PpHandover *handover, PpSteady deadline)
{
	Oid extension = pp_extension_get();
	uint64 pos;

	/* what it has on disk may be settled: who has a lane knows */
	if (is_full_on_disk(pp_journal_size(extension)) && await_lane(deadline) != NULL)
		return false;
	pos = pp_lease_position(extension);

	/* after that: who gets a lane from now on fetches higher ones */
	if (pp_lane_claim() != NULL)
		return false;
	handover->pos = pos;
	handover->without_lane = true;
	check_installation(handover, extension);
	return true;
}

/* Room for our pieces in the ring, or else in the journal alone; which journal? */
static int
admit(PpHandover *handover, uint64 bytes, bool ring_only)
{
	PpSteady deadline = pp_steady_in(LANE_WAIT_MS);

	for (;;)
	{
		const PpClaim *claim = pp_lane_claim();
		PpAdmission admission;

		CHECK_FOR_INTERRUPTS();
		if (claim == NULL)
		{
			if (do_without_lane(handover, deadline))
				return 0;
			continue;
		}
		if (ring_only && is_greedy(handover, claim->lane))
			bytes = MORE_THAN_ANY_RING;
		PP_FAULT(admits);
		admission = pp_ring_admit(&claim->lane->ring, claim->generation, bytes, handover->npieces,
								  pp_am_worker, ring_only);
		if (admission.result == PP_RESERVED || admission.result == PP_RING_DIVERTED)
		{
			/* from here on ABORT has something to undo */
			handover->lane = claim->lane;
			handover->reserved = admission.result == PP_RESERVED ? bytes : 0;
			handover->diverting = admission.result == PP_RING_DIVERTED;
			handover->pos = admission.pos;
			check_installation(handover, claim->extension);
			return admission.journal;
		}
		if (admission.result == PP_NO_POSITIONS)
			pp_lease_positions(claim);
	}
}

/* Where a target's count is to be found, when there are many */
typedef struct CountPlace
{
	Oid target; /* hash key */
	int place;
} CountPlace;

#define FEW_COUNTS 16

static void
remember_place(PpHandover *handover, int place)
{
	HASHCTL ctl = {
		.keysize = sizeof(Oid), .entrysize = sizeof(CountPlace), .hcxt = TopTransactionContext};
	CountPlace *entry;

	if (handover->count_of == NULL)
		handover->count_of =
			hash_create("persist_pipeline counts", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	entry = hash_search(handover->count_of, &handover->counts[place].target, HASH_ENTER, NULL);
	entry->place = place;
}

/* The place of a target's count; -1: it has none yet. */
static int
find_place(PpHandover *handover, Oid target)
{
	CountPlace *entry;

	if (handover->count_of)
	{
		entry = hash_search(handover->count_of, &target, HASH_FIND, NULL);
		return entry ? entry->place : -1;
	}
	for (int i = handover->ncounts - 1; i >= 0; i--)
	{
		if (handover->counts[i].target == target)
			return i;
	}
	return -1;
}

/* Which targets do these items go to?  The worker will tell the same of what it settles. */
static void
count_targets(PpHandover *handover, const char *bytes, uint64 length)
{
	const char *end = bytes + length;
	int place = -1;

	for (; bytes < end; bytes += ((const PpItem *) bytes)->size)
	{
		Oid target = ((const PpItem *) bytes)->target;

		if (place < 0 || handover->counts[place].target != target)
			place = find_place(handover, target);
		if (place < 0)
		{
			if (handover->ncounts == handover->max_counts)
			{
				handover->max_counts = Max(FEW_COUNTS, 2 * handover->max_counts);
				handover->counts =
					handover->counts
						? repalloc(handover->counts, handover->max_counts * sizeof(PpTargetCount))
						: MemoryContextAlloc(TopTransactionContext,
											 handover->max_counts * sizeof(PpTargetCount));
			}
			place = handover->ncounts++;
			handover->counts[place] = (PpTargetCount){.target = target};
			if (handover->ncounts == FEW_COUNTS)
			{
				for (int i = 0; i < place; i++)
					remember_place(handover, i);
			}
			if (handover->ncounts >= FEW_COUNTS)
				remember_place(handover, place);
		}
		handover->counts[place].items++;
	}
}

static void
tell_counts(const PpHandover *handover, PpLane *lane)
{
	for (int i = 0; i < handover->ncounts; i++)
		pp_tally_add(&lane->tally, handover->counts[i].target, handover->counts[i].items);
}

static void
take_counts_back(const PpHandover *handover)
{
	for (int i = 0; i < handover->ncounts && handover->told; i++)
		pp_tally_settle(&handover->lane->tally, handover->counts[i].target,
						handover->counts[i].items);
}

/* Write a piece to the journal; the references are needed if it gets into the ring. */
static void
journal(PpHandover *handover, PpPiece *piece, int number, uint64 pos, int follows)
{
	const char *bytes = pp_spill_read(handover->bytes, piece->start, piece->length);
	int nrows = piece->nrefs > 0 ? piece->nrefs : pp_journal_plan(bytes, piece->length, NULL);
	PpRowPlan *rows = palloc(nrows * sizeof(PpRowPlan));
	PpJournalRef *refs =
		MemoryContextAlloc(handover->reserved > 0 ? TopTransactionContext : CurrentMemoryContext,
						   nrows * sizeof(PpJournalRef));

	count_targets(handover, bytes, piece->length);
	(void) pp_journal_plan(bytes, piece->length, rows);
	for (int i = 0; i < nrows; i++)
		rows[i].header.follows = follows;
	pp_journal_append(piece->extension, number, pos, piece->role, rows, nrows, refs);
	if (handover->reserved > 0)
	{
		piece->refs = refs;
		piece->nrefs = nrows;
	}
}

static void
write_journal(PpHandover *handover, int number)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "persist_pipeline pieces",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);

	PushActiveSnapshot(GetTransactionSnapshot()); /* the heap wants one */
	for (int i = 0; i < handover->npieces; i++)
	{
		PpPiece *piece = &handover->pieces[i];

		CHECK_FOR_INTERRUPTS();
		journal(handover, piece, number, handover->pos + i, handover->npieces - 1 - i);
		MemoryContextReset(context);
	}
	PopActiveSnapshot();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/*
 * Before the commit.  Errors: 53400 the journal, or a role's share of it, is full;
 * 55000 the extension has been dropped; those of pp_extension_get(); and whatever
 * keeps a row from being written.
 */
void
pp_handover_prepare(PpHandover *handover, PpSpill *bytes, PpPiece *pieces, int npieces)
{
	bool ring_only = true;
	int number;

	handover->bytes = bytes;
	handover->pieces = pieces;
	handover->npieces = npieces;
	for (int i = 0; i < npieces; i++)
	{
		handover->items += pieces[i].items;
		ring_only &= pieces[i].ring_only;
	}

	/*
	 * All of them, or none: a pass sees the rows as soon as the transaction commits, and
	 * entries only a moment later, when it may not look for them any more.
	 */
	for (int i = 0; i < npieces && !ring_only; i++)
		pieces[i].ring_only = false;

	number = admit(handover, count_ring_bytes(handover), ring_only);
	take_shares(handover);
	if (!ring_only || handover->reserved == 0)
		write_journal(handover, number);
	else
	{
		for (int i = 0; i < npieces; i++)
			count_targets(handover, pp_spill_in_memory(bytes, pieces[i].start), pieces[i].length);
	}

	/* not at the commit: others see its rows a moment earlier, and may settle them */
	if (handover->lane)
	{
		tell_counts(handover, handover->lane);
		handover->told = true;
	}
}

/* ---- at COMMIT and ABORT ---- */

/* Write a piece, one of so many, into room that was reserved.  Can't fail. */
static void
publish(PpLane *lane, const PpPiece *piece, uint64 pos, int part, int parts, const char *items)
{
	const void *bytes = piece->nrefs > 0 ? (const void *) piece->refs : items;
	uint64 at = pp_ring_begin(&lane->ring, piece->role, piece->items, payload(piece),
							  pp_steady_now());
	PpEntry *entry = pp_ring_entry(&lane->ring, at);

	entry->extension = piece->extension;
	entry->part = part;
	entry->parts = parts;
	entry->pos = pos;
	entry->refs = piece->nrefs;
	pp_ring_write(&lane->ring, at, 0, bytes, payload(piece));
	if (pp_ring_publish(&lane->ring, at))
		pp_lane_wake(lane);
}

/* Can't fail. */
void
pp_handover_commit(PpHandover *handover)
{
	PpLane *lane = handover->lane;

	if (handover->without_lane)
	{
		/* who got it in the meantime may have counted without us */
		lane = pp_lane_find(MyDatabaseId);
		if (lane && pp_tally_is_counted(&lane->tally))
			tell_counts(handover, lane);
		if (!pp_lane_call_pass(MyDatabaseId, handover->items))
			pp_probe_database(MyDatabaseId);
	}
	else if (handover->diverting)
	{
		if (pp_ring_divert(&lane->ring, handover->items, pp_batch_size, pp_steady_now()))
			pp_lane_wake(lane);
	}
	else
	{
		for (int i = 0; i < handover->npieces; i++)
		{
			const PpPiece *piece = &handover->pieces[i];

			publish(lane, piece, handover->pos + i, i, handover->npieces,
					pp_spill_in_memory(handover->bytes, piece->start));
		}
	}

	/* that of a paused database may be free now, and has no worker that would see it */
	if (pp_shared->lanes_wanted && lane && pp_lane_is_paused(lane))
		pp_launcher_wake();
}

/* Can't fail. */
void
pp_handover_abort(PpHandover *handover)
{
	PpLane *lane = handover->lane;

	if (lane == NULL)
		return;
	take_counts_back(handover);
	give_shares(handover);
	if ((handover->reserved > 0 &&
		 pp_ring_release(&lane->ring, handover->reserved, handover->pieces[0].ring_only)) ||
		(handover->diverting && pp_ring_undivert(&lane->ring)))
		pp_lane_wake(lane);
	if (pp_shared->lanes_wanted)
		pp_launcher_wake(); /* now this one may be free */
}

/* ---- at once ---- */

/* 53000: all lanes are in use by other databases. */
static const PpClaim *
claim_lane(PpSteady deadline)
{
	const PpClaim *claim = await_lane(deadline);

	if (claim == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no ring is free for database \"%s\"", get_database_name(MyDatabaseId)),
				 errdetail("All %d rings hold items of other databases.", pp_max_databases),
				 errhint("Try again, or increase \"persist_pipeline.max_databases\".")));
	return claim;
}

static uint64
take_position(PpSteady deadline)
{
	for (;;)
	{
		const PpClaim *claim = claim_lane(deadline);
		uint64 pos = pp_ring_take_position(&claim->lane->ring, claim->generation);

		if (pos > 0)
			return pos;
		CHECK_FOR_INTERRUPTS();
		pp_lease_positions(claim);
	}
}

/* 55000 if the database is paused, as far as is known. */
static void
check_paused(PpLane *lane)
{
	if (!pp_lane_is_paused(lane))
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
	PpLane *lane = claim->lane;
	uint32 wait_event = pp_wait_event("PersistPipelineStart");
	long ms;

	ConditionVariablePrepareToSleep(&lane->settled);
	pp_lane_want_worker(lane, deadline);
	while ((ms = pp_ms_until(deadline)) > 0 && !pp_ring_is_attended(&lane->ring) &&
		   !pp_lane_is_paused(lane) && !pp_ring_is_stale(&lane->ring, claim->generation) &&
		   !ShutdownRequestPending)
		(void) ConditionVariableTimedSleep(&lane->settled, Min(ms, LOOK_MS), wait_event);
	ConditionVariableCancelSleep();
	check_paused(lane);
	if (ms <= 0 || ShutdownRequestPending)
		ereport(ERROR,
				/* in the retrier it concerns a whole target, and is soon over */
				(errcode(pp_am_worker ? ERRCODE_CONFIGURATION_LIMIT_EXCEEDED
									  : ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no worker is free for database \"%s\"", get_database_name(MyDatabaseId)),
				 errdetail("An item that is not transactional needs one. %s",
						   reason_for_backlog(lane)),
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

		claim = claim_lane(deadline);
		share = pp_quota_take(&claim->lane->quota, PP_STORE_RING, GetUserId(), bytes,
							  limit_of(claim->lane, PP_STORE_RING),
							  share_of(claim->lane, PP_STORE_RING));
		if (share != PP_QUOTA_TAKEN)
			refuse_share(claim->lane, PP_STORE_RING, GetUserId(), share);
		result = pp_ring_reserve(&claim->lane->ring, claim->generation, bytes, pp_am_worker);
		if (result != PP_RESERVED)
			pp_quota_give(&claim->lane->quota, PP_STORE_RING, GetUserId(), bytes);
		if (result == PP_RING_UNATTENDED)
		{
			await_worker(claim, deadline);
			waited = true;
		}
		else if (result != PP_RING_STALE)
			break;
	}
	if (waited)
		pp_lane_want_worker(claim->lane, 0);

	if (result == PP_RING_CLOSED)
		ereport(ERROR,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("the ring of database \"%s\" is closed", get_database_name(MyDatabaseId)),
				 errdetail("The persist_pipeline worker is shutting down."),
				 errhint("Try the transaction again.")));
	if (result == PP_RING_FULL)
		ereport(
			ERROR,
			/* in the worker it concerns a whole target, and is soon over: as that of a share */
			(errcode(pp_am_worker ? ERRCODE_CONFIGURATION_LIMIT_EXCEEDED
								  : ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("the ring of database \"%s\" is full", get_database_name(MyDatabaseId)),
			 errdetail("There is no room for %llu bytes.", (unsigned long long) bytes),
			 errhint("Try the transaction again, or increase \"persist_pipeline.ring_size\".")));

	return claim;
}

/* 54000 if the item is larger than a quarter of the ring. */
static void
check_size(const PpLane *lane, const PpItem *item)
{
	uint64 limit = pp_item_limit(lane->ring.size);

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
 * Hand an item over, whatever becomes of the transaction.  Errors: 53000 no lane, no worker, or
 * no room in its ring (the latter in the worker 53400); 53400 the role's share of the ring is full; 54000 too large;
 * 57P01 the ring is closed; 55000 the database is paused.
 */
void
pp_handover_now(const PpItem *item)
{
	PpSteady deadline = pp_steady_in(LANE_WAIT_MS);
	const PpClaim *claim = claim_lane(deadline);
	PpPiece piece = {.role = GetUserId(), .items = 1, .length = item->size};
	uint64 pos;

	check_size(claim->lane, item);
	check_paused(claim->lane);
	pos = take_position(deadline);
	claim = reserve(pp_entry_bytes(item->size), deadline);
	piece.extension = claim->extension;
	pp_tally_add(&claim->lane->tally, item->target, 1);
	publish(claim->lane, &piece, pos, 0, 1, (const char *) item);
}
