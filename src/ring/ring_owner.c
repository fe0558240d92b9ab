/*-------------------------------------------------------------------------
 *
 * ring_owner.c
 *	  A ring is taken from its database, or its database's installation is another one.  See
 *	  ring.h; like ring.c, this needs nothing else of the server, and nothing here allocates, waits
 *	  or throws.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ring/ring.h"

/* Under the mutex: nothing is known of the journal that belongs to the ring. */
static void
forget_journal(PpRing *ring)
{
	ring->left_next = ring->next;
	ring->left_end = ring->next_end;
	ring->next = ring->next_end = 0;
	ring->journal = 0;
	ring->recovering = true;
	ring->mark = ring->head;
	ring->diverted = false;
	ring->diverted_since = 0;
	ring->pass = false;
	ring->pass_at = 0;
	ring->moved = 0;
	ring->diverted_items = 0;
	ring->pass_items = 0;
}

/*
 * Under the mutex, of a ring that is empty: as new, but for its positions, and
 * closed if it was: the server may be stopping.
 */
static void
start_anew(PpRing *ring)
{
	ring->generation++;
	ring->peak = 0;
	ring->published = 0;
	ring->settled = 0;
	ring->wake_items = 1;
	ring->wake_tail = PG_UINT64_MAX;
	ring->attended = false;
	memset(ring->at_risk, 0, sizeof(ring->at_risk));
	ring->late = false;
	forget_journal(ring);
}

/* Take the ring from its database, if nothing is in it or about to be. */
bool
pp_ring_disown(PpRing *ring)
{
	bool empty;

	SpinLockAcquire(&ring->mutex);
	empty = ring->head == ring->tail && ring->reserved == 0 && ring->diverting == 0 &&
			!ring->diverted && !ring->pass;
	if (empty)
		start_anew(ring);
	SpinLockRelease(&ring->mutex);

	return empty;
}

/*
 * The same of a ring without a worker, whose entries may be references: what they
 * refer to is in the journal.
 */
bool
pp_ring_disown_journalled(PpRing *ring)
{
	PpRingView view = pp_ring_view(ring);
	bool journalled = !pp_ring_is_busy(ring) && pp_ring_volatile_items(ring) == 0;
	bool taken;

	SpinLockAcquire(&ring->mutex);
	taken = journalled && ring->tail == view.tail && ring->reserved == 0 && ring->diverting == 0 &&
			!ring->attended;
	if (taken)
	{
		ring->head = ring->tail;
		start_anew(ring);
	}
	SpinLockRelease(&ring->mutex);

	return taken;
}

/* Another database counts the items that are handed over. */
void
pp_ring_count_anew(PpRing *ring)
{
	SpinLockAcquire(&ring->mutex);
	ring->enqueued = 0;
	SpinLockRelease(&ring->mutex);
}

/*
 * What producers know of their database is no longer true: let them look again.
 * There is no worker; the next item calls for one.
 */
void
pp_ring_renew(PpRing *ring)
{
	SpinLockAcquire(&ring->mutex);
	ring->generation++;
	ring->wake_items = ring->published + 1;
	ring->wake_tail = PG_UINT64_MAX;
	SpinLockRelease(&ring->mutex);
}

/* The journal has gone, and with it all that was in it alone; another may come. */
void
pp_ring_restart(PpRing *ring)
{
	SpinLockAcquire(&ring->mutex);
	forget_journal(ring);
	SpinLockRelease(&ring->mutex);
}

/*
 * Take the ring of a database that is gone, and with it its producers and its
 * worker.  Returns how many items were in it.
 */
uint64
pp_ring_clear(PpRing *ring)
{
	uint64 items;

	SpinLockAcquire(&ring->mutex);
	items = ring->published - ring->settled + ring->diverted_items + ring->pass_items;
	ring->head = ring->tail;
	ring->reserved = 0;
	ring->reserved_alone = 0;
	start_anew(ring);
	SpinLockRelease(&ring->mutex);

	return items;
}

/*
 * Settle the items of an installation, up to the first entry that is BUSY, and
 * return their number.  For the worker, or where there is none and none can come.
 */
uint64
pp_ring_discard(PpRing *ring, Oid extension)
{
	PpRingView view = pp_ring_view(ring);
	uint64 items = 0;
	uint64 at = view.head;
	PpEntry *entry;

	while ((entry = pp_ring_take(ring, at, view.tail)) != NULL)
	{
		uint32 left = entry->items - entry->settled;

		if (entry->extension == extension && left > 0)
		{
			pp_ring_settle(ring, at, left);
			items += left;
		}
		at += entry->bytes;
	}
	pp_ring_free(ring, items);

	return items;
}
