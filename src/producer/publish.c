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

#include "base/compat.h"
#include "base/config.h"
#include "base/extension.h"
#include "base/faults.h"
#include "producer/convert.h"
#include "producer/publish.h"
#include "ring/lease.h"
#include "ring/window.h"

/* for a slot that others don't need, and so give back; and for its worker */
#define SLOT_WAIT_MS 5000

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
		return PP_MORE_THAN_ANY_RING;
	for (int i = 0; i < publish->npieces; i++)
	{
		PpPiece *piece = &publish->pieces[i];

		if (!publish->ring_only)
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
	return pp_slot_await(deadline, false, pp_wait_event("PersistPipelineSlot"));
}

/*
 * Positions in the journal of an installation that this transaction has created, after it has
 * dropped another one: those of the ring are that one's, and may be higher than any to come.
 */
static void
begin_anew(PpPublish *publish)
{
	Oid extension = pp_extension_get();

	check_installation(publish, extension);
	publish->pos = pp_lease_position(extension);
	publish->without_slot = true;
}

/* Positions, without a slot; false: there is one by now. */
static bool
do_without_slot(PpPublish *publish, PpSteady deadline)
{
	Oid extension = pp_extension_get();
	uint64 pos;

	/* what it has on disk may be settled: who has a slot knows */
	if (pp_admission_is_full_on_disk(pp_journal_size(extension)) && await_slot(deadline) != NULL)
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
admit(PpPublish *publish, uint64 bytes)
{
	PpSteady deadline = 0; /* with a slot nobody waits */

	if (publish->anew)
	{
		begin_anew(publish);
		return 0;
	}
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
		PP_FAULT(admits);
		admission = pp_admission_take(publish, claim, bytes);
		if (publish->slot)
		{
			check_installation(publish, claim->extension);
			return admission.journal;
		}
		if (admission.result == PP_NO_POSITIONS)
			pp_lease_positions(claim);
	}
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

	if (publish->bytes->spilled > 0)
		pp_admission_count(publish, bytes, piece->length);
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
 * Does the ring alone do for what is as durable as its transaction?  That has written nothing,
 * its commit doesn't wait for the disk, and the worker is on time.  A transaction that is large
 * would keep others out of the ring.  One that logical replication applies is told to its
 * publisher as safe, who doesn't send it again.
 */
static bool
is_fleeting(const PpPublish *publish)
{
	const PpClaim *claim;

	if (synchronous_commit != SYNCHRONOUS_COMMIT_OFF || pp_convert_has_written() ||
		pp_has_replication_origin())
		return false;
	claim = pp_slot_claim();
	return claim && publish->bytes->length <= pp_shmem_item_limit(claim->slot->ring.size) &&
		   pp_window_is_open(&claim->slot->ring);
}

/* Does the ring alone do for all pieces? */
static bool
is_ring_only(const PpPublish *publish)
{
	bool as_transaction = false;

	for (int i = 0; i < publish->npieces; i++)
	{
		if (publish->pieces[i].durability == PP_ITEM_JOURNALLED)
			return false;
		as_transaction |= publish->pieces[i].durability == PP_ITEM_AS_TRANSACTION;
	}

	/*
	 * A commit that waits for a standby may outlast its worker's turn, and nobody could save what
	 * comes into the ring alone after that.
	 */
	return !waits_for_standby() && (!as_transaction || is_fleeting(publish));
}

/*
 * Before the commit.  Errors: 53400 the journal, or a role's share of it, is full;
 * 55000 the extension has been dropped; those of pp_extension_get(); and whatever
 * keeps a row from being written.
 */
void
pp_publish_prepare(PpPublish *publish, PpSpill *bytes, PpPiece *pieces, int npieces)
{
	int number;

	publish->bytes = bytes;
	publish->pieces = pieces;
	publish->npieces = npieces;

	/*
	 * All of them, or none: a pass sees the rows as soon as the transaction commits, and
	 * entries only a moment later, when it may not look for them any more.
	 */
	publish->ring_only = is_ring_only(publish);
	for (int i = 0; i < npieces; i++)
		publish->items += pieces[i].items;

	pp_admission_sum_up(publish);
	for (int i = 0; i < npieces && bytes->spilled == 0; i++)
		pp_admission_count(publish, pp_spill_in_memory(bytes, pieces[i].start), pieces[i].length);
	number = admit(publish, count_ring_bytes(publish));
	if (publish->without_slot)
		pp_admission_check_disk(pieces[0].extension);
	if (!publish->ring_only || publish->reserved == 0)
		write_journal(publish, number);

	/* not at the commit: others see its rows a moment earlier, and may settle them */
	if (publish->slot)
		pp_admission_take_rest(publish);
}

/* ---- at COMMIT and ABORT ---- */

/* What does a crash take with a piece, as long as it is in the ring? */
static PpRisk
risk_of(const PpPiece *piece)
{
	if (piece->nrefs > 0 || piece->durability == PP_ITEM_UNLOGGED)
		return PP_RISK_NONE;
	return piece->durability == PP_ITEM_AS_TRANSACTION ? PP_RISK_BOUNDED : PP_RISK_CHOSEN;
}

/* Write a piece, one of so many, into room that was reserved.  Can't fail. */
static void
publish_piece(PpSlot *slot, const PpPiece *piece, uint64 pos, int part, int parts,
			  const char *items)
{
	PpEntry header = {.role = piece->role,
					  .length = payload(piece),
					  .items = piece->items,
					  .published_at = pp_steady_now(),
					  .part = part,
					  .parts = parts,
					  .extension = piece->extension,
					  .refs = piece->nrefs,
					  .risk = risk_of(piece),
					  .pos = pos};

	if (pp_ring_put(&slot->ring, &header, piece->nrefs > 0 ? (const void *) piece->refs : items))
		pp_shmem_wake_worker(slot);
}

/*
 * What has been published is to be written within so many ms; -1: whenever that may be.  Items
 * that are there are not written later for it.  Can't fail.
 */
static void
set_due(PpSlot *slot, int flush_interval)
{
	PpSteady due;
	PpRingView view;
	bool sooner;

	if (flush_interval < 0)
		return;
	due = pp_steady_in(flush_interval);
	view = pp_ring_view(&slot->ring);
	SpinLockAcquire(&slot->mutex);
	sooner = !pp_slot_is_due(slot, &view) || due < slot->due;
	if (sooner)
		slot->due = due;
	slot->due_to = Max(slot->due_to, view.tail);
	SpinLockRelease(&slot->mutex);
	if (sooner)
		pp_shmem_wake_worker(slot); /* which may want to sleep longer */
}

/* flush_interval: the shortest of the items' targets, in ms; -1: they have none.  Can't fail. */
void
pp_publish_commit(PpPublish *publish, int flush_interval)
{
	PpSlot *slot = publish->slot;

	if (publish->without_slot)
	{
		/* who got it in the meantime may have counted without us */
		slot = pp_slot_find(MyDatabaseId);
		if (slot && pp_counters_are_counted(&slot->counters))
			pp_admission_tell_counts(publish, slot);
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
	if (!publish->without_slot)
		set_due(slot, flush_interval);

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
	pp_admission_give_back(publish);
	if ((publish->reserved > 0 &&
		 pp_ring_release(&slot->ring, publish->reserved, publish->ring_only)) ||
		(publish->diverting && pp_ring_undivert(&slot->ring)))
		pp_shmem_wake_worker(slot);
	if (pp_shmem->slots_wanted)
		pp_shmem_wake_launcher(); /* now this one may be free */
}

/* ---- at once, whatever becomes of the transaction ---- */

/* 53000: all slots are in use by other databases. */
static const PpClaim *
claim_slot_now(PpSteady deadline)
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
take_position_now(PpSteady deadline)
{
	for (;;)
	{
		const PpClaim *claim = claim_slot_now(deadline);
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
						   pp_admission_backlog_reason(slot)),
				 errhint("Try again, increase \"persist_pipeline.max_workers\", or let the item be "
						 "transactional.")));
}

/*
 * Reserve so many bytes of the ring for the current user.  Returns the claim under
 * which they are.
 */
static const PpClaim *
reserve_now(uint64 bytes, PpSteady deadline)
{
	bool waited = false;
	const PpClaim *claim;
	PpReserveResult result;

	for (;;)
	{
		claim = claim_slot_now(deadline);
		pp_admission_charge_ring(claim->slot, GetUserId(), bytes);
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
check_item_size(const PpSlot *slot, const PpItem *item)
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
pp_publish_now(const PpItem *item, int flush_interval)
{
	PpSteady deadline = pp_steady_in(SLOT_WAIT_MS);
	const PpClaim *claim = claim_slot_now(deadline);
	PpPiece piece = {.role = GetUserId(), .items = 1, .length = item->size};
	uint64 pos;

	/* the caller has chosen the ring, whatever becomes of his transaction */
	piece.durability = item->durability == PP_ITEM_UNLOGGED ? PP_ITEM_UNLOGGED : PP_ITEM_RING_ONLY;

	check_item_size(claim->slot, item);
	check_paused(claim->slot);
	pos = take_position_now(deadline);
	claim = reserve_now(pp_ring_entry_bytes(item->size), deadline);
	piece.extension = claim->extension;
	pp_counters_add(&claim->slot->counters, item->target, 1);
	publish_piece(claim->slot, &piece, pos, 0, 1, (const char *) item);
	set_due(claim->slot, flush_interval);
}
