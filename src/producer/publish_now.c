/*-------------------------------------------------------------------------
 *
 * publish_now.c
 *	  Publishes an item that is not transactional; see publish.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/config.h"
#include "producer/publish.h"
#include "ring/lease.h"

/* 53000: all slots are in use by other databases. */
static const PpClaim *
claim_slot(PpSteady deadline)
{
	const PpClaim *claim = pp_publish_await_slot(deadline);

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
						   pp_admission_backlog_reason(slot)),
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
		claim = claim_slot(deadline);
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
pp_publish_now(const PpItem *item, int flush_interval)
{
	PpSteady deadline = pp_steady_in(PP_PUBLISH_SLOT_WAIT_MS);
	const PpClaim *claim = claim_slot(deadline);
	PpPiece piece = {.role = GetUserId(), .items = 1, .length = item->size};
	uint64 pos;

	/* the caller has chosen the ring, whatever becomes of his transaction */
	piece.durability = item->durability == PP_ITEM_UNLOGGED ? PP_ITEM_UNLOGGED : PP_ITEM_RING_ONLY;

	check_size(claim->slot, item);
	check_paused(claim->slot);
	pos = take_position(deadline);
	claim = reserve(pp_ring_entry_bytes(item->size), deadline);
	piece.extension = claim->extension;
	pp_counters_add(&claim->slot->counters, item->target, 1);
	pp_publish_piece(claim->slot, &piece, pos, 0, 1, (const char *) item);
	pp_publish_set_due(claim->slot, flush_interval);
}
