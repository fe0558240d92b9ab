/*-------------------------------------------------------------------------
 *
 * slots_commands.c
 *	  What commands do to a slot: its database, or the extension there, is dropped or altered,
 *	  paused or resumed.  See slots.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/config.h"
#include "ring/databases.h"
#include "ring/slots.h"

/*
 * The database, which this process has blocked, has been dropped: free its slot.  Returns how
 * many items were in its ring.
 */
uint64
pp_slot_drop(Oid database)
{
	PpSlot *slot;
	bool served;
	uint64 items = 0;

	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	slot = pp_shmem_slot_of(database);
	if (slot)
	{
		items = pp_ring_clear(&slot->ring) + pp_counters_parked(&slot->counters);
		slot->database = InvalidOid;
		slot->leave = false;
	}
	if (pp_shmem->probe.database == database)
		pp_shmem->probe.database = InvalidOid;
	pp_database_forget(database);
	served = pp_slots_serve_locked();
	pp_slots_unlock(served);

	return items;
}

/*
 * The extension in the database, which we hold, has been dropped or altered: make
 * everybody look at it again.  Items of the installation that is `gone` (or
 * InvalidOid) are discarded; returns how many.  Can't fail.
 */
uint64
pp_slot_renew(Oid database, Oid gone)
{
	PpSlot *slot;
	uint64 items = 0;

	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	if (OidIsValid(gone))
		pp_database_forget(database);
	slot = pp_shmem_slot_of(database);
	if (slot)
	{
		pp_ring_renew(&slot->ring);
		if (OidIsValid(gone))
		{
			items = pp_ring_discard(&slot->ring, gone);
			pp_ring_restart(&slot->ring);
			pp_quota_reset(&slot->quota);
			pp_counters_reset(&slot->counters);
			SpinLockAcquire(&slot->mutex);
			slot->discarded += items;
			slot->ids_of = InvalidOid;
			slot->retry_at = PP_NEVER;
			slot->nretries = 0;
			SpinLockRelease(&slot->mutex);
		}
		SpinLockAcquire(&slot->mutex);
		slot->starts = slot->retrier.starts = 0; /* what made them fail may be gone */
		if (OidIsValid(gone))
		{
			slot->paused = false;
			slot->pause_changed = true;
			slot->trouble = (PpTrouble){0};
			memset(slot->retired, 0, sizeof(slot->retired));
		}
		SpinLockRelease(&slot->mutex);
	}
	LWLockRelease(pp_shmem->lock);
	if (slot)
		ConditionVariableBroadcast(&slot->settled);

	return items;
}

void
pp_slot_probe_database(Oid database)
{
	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	pp_slot_want_probe_locked(database);
	LWLockRelease(pp_shmem->lock);
}

/* Have the slot's worker and retrier look whether the database, or a target, is paused. */
static void
doubt_pause(PpSlot *slot)
{
	bool parked = pp_counters_any_parked(&slot->counters);

	SpinLockAcquire(&slot->mutex);
	slot->paused = false;
	slot->pause_changed = slot->retrier.pause_changed = true;
	if (parked)
		slot->retry_at = pp_steady_now();
	SpinLockRelease(&slot->mutex);
	pp_shmem_wake_worker(slot);
	pp_shmem_wake_retrier(slot);
}

/*
 * A transaction that has committed has paused or resumed the database.  False: it has
 * no slot.  Can't fail.
 */
bool
pp_slot_pause_changed(Oid database)
{
	PpSlot *slot;

	LWLockAcquire(pp_shmem->lock, LW_SHARED);
	slot = pp_shmem_slot_of(database);
	if (slot)
		doubt_pause(slot);
	LWLockRelease(pp_shmem->lock);

	return slot != NULL;
}

/*
 * The database's journal has rows, of so many items, that its ring doesn't know of: a
 * pass is due, now or when it has a slot.  False: it has none, and there is no room to note that
 * it waits for one.  Can't fail.
 */
bool
pp_slot_call_pass(Oid database, uint64 items)
{
	PpSlot *slot;
	PpDatabase *counts;
	bool known = true;
	bool served = false;

	/* under the lock: the slot, which may be empty, can't become another's */
	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	slot = pp_shmem_slot_of(database);
	counts = pp_database_find(database, true);
	if (counts)
		counts->enqueued += items;
	if (slot)
	{
		pp_ring_move(&slot->ring, items, pp_steady_now());
		pp_shmem_wake_worker(slot);
	}
	else if ((known = pp_database_want_slot(database, pp_steady_now())))
	{
		pp_database_find(database, false)->waits = true;
		served = pp_slots_serve_locked();
	}
	pp_slots_unlock(served);

	return known;
}

/*
 * Somebody who looked into the database has found items that wait.  If the ring is no longer in
 * recovery, its first pass has begun: the ring knows of all of them, and they may have to wait.  A
 * pass would write them early.  False: as above.
 */
bool
pp_slot_call_first_pass(Oid database)
{
	PpSlot *slot;
	bool begun;

	LWLockAcquire(pp_shmem->lock, LW_SHARED);
	slot = pp_shmem_slot_of(database);
	begun = slot && !pp_ring_view(&slot->ring).recovering;
	LWLockRelease(pp_shmem->lock);

	return begun || pp_slot_call_pass(database, 0);
}

/* The setting start_paused may have changed; a worker may just be looking. */
void
pp_slots_doubt_pauses(void)
{
	for (int i = 0; i < pp_config_max_databases; i++)
	{
		if (OidIsValid(pp_slot_database(pp_shmem_slot(i))))
			doubt_pause(pp_shmem_slot(i));
	}
}
