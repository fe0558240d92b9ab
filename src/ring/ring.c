/*-------------------------------------------------------------------------
 *
 * ring.c
 *	  Reserve and publish, on memory that is given; a ring goes to another database, or
 *	  installation.  The protocol is described in ring.h; nothing here allocates, waits or
 *	  throws, since half of it runs inside a COMMIT callback.
 *
 * This file needs atomics, a spinlock and memcpy, and nothing else of the
 * server: test/unit compiles it with a small shim, under sanitizers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ring/ring.h"

StaticAssertDecl(sizeof(PpEntry) == PP_RING_ALIGN, "an entry's header fills one aligned unit");
StaticAssertDecl(offsetof(PpRing, data) % PP_RING_ALIGN == 0, "headers are aligned if the ring is");

/* Bytes of memory that a ring with room for `size` bytes needs. */
size_t
pp_ring_memory(uint64 size)
{
	return offsetof(PpRing, data) + size;
}

/*
 * Make an empty, open ring.  The ring is aligned to, and size is a multiple of,
 * PP_RING_ALIGN.
 */
void
pp_ring_init(PpRing *ring, uint64 size, uint64 kept)
{
	Assert((uintptr_t) ring % PP_RING_ALIGN == 0);
	Assert(size > 0 && size % PP_RING_ALIGN == 0 && kept < size);

	memset(ring, 0, offsetof(PpRing, data));
	SpinLockInit(&ring->mutex);
	ring->size = size;
	ring->kept = kept;
	ring->generation = 1;
	ring->recovering = true;
	ring->wake_items = 1; /* no worker yet: the first item calls for one */
	ring->wake_tail = PG_UINT64_MAX;
}

/* Bytes of ring that an entry with so many bytes of payload takes. */
uint64
pp_ring_entry_bytes(uint64 length)
{
	uint64 bytes = sizeof(PpEntry) + length;

	return (bytes + PP_RING_ALIGN - 1) / PP_RING_ALIGN * PP_RING_ALIGN;
}

PpRingView
pp_ring_view(PpRing *ring)
{
	PpRingView view;

	SpinLockAcquire(&ring->mutex);
	view.closed = ring->closed;
	view.generation = ring->generation;
	view.head = ring->head;
	view.tail = ring->tail;
	view.reserved = ring->reserved;
	view.reserved_alone = ring->reserved_alone;
	view.peak = ring->peak;
	view.published = ring->published;
	view.settled = ring->settled;
	view.enqueued = ring->enqueued;
	view.recovering = ring->recovering;
	view.diverted = ring->diverted;
	view.diverted_at = ring->diverted_at;
	view.diverted_since = ring->diverted_since;
	view.pass = ring->pass;
	view.next = ring->next;
	view.next_end = ring->next_end;
	view.base = ring->base;
	view.mark = ring->mark;
	view.boundary = ring->boundary;
	view.passes = ring->passes;
	view.moved = ring->moved;
	view.diverted_items = ring->diverted_items + ring->pass_items;
	view.diverting = ring->diverting;
	view.journal = ring->journal;
	view.at_risk_since = ring->at_risk[PP_RISK_CHOSEN].since;
	if (view.at_risk_since == 0 || (ring->at_risk[PP_RISK_BOUNDED].since > 0 &&
									ring->at_risk[PP_RISK_BOUNDED].since < view.at_risk_since))
		view.at_risk_since = ring->at_risk[PP_RISK_BOUNDED].since;
	SpinLockRelease(&ring->mutex);

	return view;
}

/*
 * When did the oldest item that waits come to its commit?  0: none waits, or nobody knows.
 *
 * Of what is in the ring that is exact.  Of what is in the journal alone it is when the first item
 * came that has diverted the ring: during a pass, that of the pass, until its end.  So it may be
 * too early, by no more than the pass takes, and is never too late.  Items from before the
 * server's start count from when they were found.
 */
int64
pp_ring_oldest(PpRing *ring)
{
	int64 oldest = 0;

	SpinLockAcquire(&ring->mutex);
	if (ring->head < ring->tail)
		oldest = pp_ring_entry(ring, ring->head)->published_at;
	if (ring->diverted)
		oldest = pp_ring_earlier(oldest, ring->diverted_at);
	if (ring->pass || ring->recovering)
		oldest = pp_ring_earlier(oldest, ring->pass_at);
	SpinLockRelease(&ring->mutex);

	return oldest;
}

/* Has the ring moved on?  A guess without the lock; pp_ring_reserve knows. */
bool
pp_ring_is_stale(PpRing *ring, uint64 generation)
{
	return *(volatile uint64 *) &ring->generation != generation;
}

/*
 * Ask for room for what is in the ring alone: the sum of pp_ring_entry_bytes() of the entries to
 * come.  The worker itself may still reserve in a ring that it has closed, and the bytes
 * that are kept for it.
 */
PpReserveResult
pp_ring_reserve(PpRing *ring, uint64 generation, uint64 bytes, bool by_worker)
{
	uint64 room = by_worker ? ring->size : ring->size - ring->kept;
	PpReserveResult result;
	uint64 used;

	Assert(bytes % PP_RING_ALIGN == 0);
	SpinLockAcquire(&ring->mutex);
	used = ring->reserved + (ring->tail - ring->head);
	if (ring->generation != generation)
		result = PP_RING_STALE;
	else if (ring->closed && !by_worker)
		result = PP_RING_CLOSED;
	else if (!ring->attended)
		result = PP_RING_UNATTENDED;
	else if (used > room || bytes > room - used)
		result = PP_RING_FULL;
	else
	{
		ring->reserved += bytes;
		ring->reserved_alone += bytes;
		if (used + bytes > ring->peak)
			ring->peak = used + bytes;
		result = PP_RESERVED;
	}
	SpinLockRelease(&ring->mutex);

	return result;
}

/*
 * Under the mutex: ask for room for so many entries, of so many bytes together, and for their
 * positions.  Where there is no room the journal has to do: there always is an
 * answer, unless positions have run out or the claim is stale.
 *
 * ring_only: the entries are not in the journal.  Without a worker they have to
 * be: if the server stopped now, nobody could save them.
 */
PpAdmission
pp_ring_admit_locked(PpRing *ring, uint64 generation, uint64 bytes, uint32 entries,
					 bool by_worker, bool ring_only)
{
	PpAdmission admission = {.result = PP_RING_DIVERTED};
	uint64 room = by_worker ? ring->size : ring->size - ring->kept;
	uint64 used;

	Assert(bytes % PP_RING_ALIGN == 0 && entries > 0);
	used = ring->reserved + (ring->tail - ring->head);
	if (ring->generation != generation)
		admission.result = PP_RING_STALE;
	else if (ring->next_end - ring->next < entries)
		admission.result = PP_NO_POSITIONS;
	else
	{
		admission.pos = ring->next;
		admission.journal = ring->journal;
		ring->next += entries;
		if (!ring->closed && !ring->recovering && !ring->diverted &&
			(ring->attended || !ring_only) && used <= room && bytes <= room - used)
		{
			admission.result = PP_RESERVED;
			ring->reserved += bytes;
			if (ring_only)
				ring->reserved_alone += bytes;
			if (used + bytes > ring->peak)
				ring->peak = used + bytes;
		}
		else
			ring->diverting++;
	}
	return admission;
}

/*
 * A position for an entry that is not in a transaction's order: not transactional.
 * 0: they have run out, or the claim is stale.
 */
uint64
pp_ring_take_position(PpRing *ring, uint64 generation)
{
	uint64 pos = 0;

	SpinLockAcquire(&ring->mutex);
	if (ring->generation == generation && ring->next < ring->next_end)
		pos = ring->next++;
	SpinLockRelease(&ring->mutex);

	return pos;
}

/* Those that nobody has had, when the ring was taken from its database. */
void
pp_ring_left_positions(PpRing *ring, uint64 *next, uint64 *end)
{
	SpinLockAcquire(&ring->mutex);
	*next = ring->left_next;
	*end = ring->left_end;
	SpinLockRelease(&ring->mutex);
}

/*
 * A range of positions from the sequence.  If others were faster, a lower one is
 * of no use any more: positions only grow.
 */
void
pp_ring_add_positions(PpRing *ring, uint64 generation, uint64 next, uint64 end)
{
	SpinLockAcquire(&ring->mutex);
	if (ring->generation == generation && next >= ring->next_end)
	{
		if (ring->next_end == 0)
			ring->base = next; /* and its mark is where it began */
		ring->next = next;
		ring->next_end = end;
	}
	SpinLockRelease(&ring->mutex);
}

/* Under the mutex: there is more for the next pass. */
static void
divert(PpRing *ring, uint64 items, int64 since)
{
	if (!ring->diverted || since < ring->diverted_at)
		ring->diverted_at = since;
	if (ring->diverted_since == 0)
		ring->diverted_since = since;
	ring->diverted = true;
	ring->diverted_items += items;
}

/*
 * A transaction that has committed has put so many items into the journal alone.
 * True: they are the first ones, or make a batch; the caller should wake the worker.
 */
bool
pp_ring_divert(PpRing *ring, uint64 items, uint64 batch, int64 now)
{
	bool wake;

	SpinLockAcquire(&ring->mutex);
	Assert(ring->diverting > 0);
	ring->diverting--;
	wake =
		!ring->diverted || (ring->diverted_items < batch && ring->diverted_items + items >= batch);
	divert(ring, items, now);
	ring->enqueued += items;
	SpinLockRelease(&ring->mutex);

	return wake;
}

/* The worker has moved so many items to the journal, the oldest of which has waited since then. */
void
pp_ring_move(PpRing *ring, uint64 items, int64 since)
{
	SpinLockAcquire(&ring->mutex);
	divert(ring, items, since);
	/* one that has begun hasn't seen them, and a worker's first one is over what is older */
	ring->moved = ring->passes + ring->pass + ring->recovering + 1;
	SpinLockRelease(&ring->mutex);
}

/* It hasn't committed.  True: the caller should wake the worker, as for a release. */
bool
pp_ring_undivert(PpRing *ring)
{
	bool wake;

	SpinLockAcquire(&ring->mutex);
	Assert(ring->diverting > 0);
	ring->diverting--;
	wake = ring->closed && ring->reserved == 0 && ring->diverting == 0;
	SpinLockRelease(&ring->mutex);

	return wake;
}

/*
 * Give back room that was reserved and not begun.  True: the worker has closed
 * the ring, waits for reservations to resolve, and should be woken, because
 * this was the last one.
 */
bool
pp_ring_release(PpRing *ring, uint64 bytes, bool ring_only)
{
	bool wake;

	SpinLockAcquire(&ring->mutex);
	Assert(ring->reserved >= bytes);
	ring->reserved -= bytes;
	if (ring_only)
		ring->reserved_alone -= bytes;
	wake = ring->closed && ring->reserved == 0;
	SpinLockRelease(&ring->mutex);

	return wake;
}

/* Under the mutex: a reservation becomes an entry that is BUSY. */
static uint64
begin(PpRing *ring, const PpEntry *header)
{
	uint64 bytes = pp_ring_entry_bytes(header->length);
	uint64 at = ring->tail;
	PpEntry *entry = pp_ring_entry(ring, at);

	Assert(header->items > 0);
	Assert(ring->reserved >= bytes);
	*entry = *header;
	pg_atomic_init_u32(&entry->state, PP_ENTRY_BUSY);
	entry->bytes = bytes;
	entry->settled = 0;
	ring->tail += bytes;
	ring->reserved -= bytes;

	return at;
}

/*
 * Turn a reservation into an entry with this header, which is BUSY, and return its position.
 * The payload is written next, and then published, with nothing in between that
 * can throw or wait: until then the worker stands before this entry.
 */
uint64
pp_ring_begin(PpRing *ring, const PpEntry *header)
{
	uint64 at;

	SpinLockAcquire(&ring->mutex);
	at = begin(ring, header);
	SpinLockRelease(&ring->mutex);

	return at;
}

/* Copy a part of the payload, in two pieces where the ring wraps. */
void
pp_ring_write(PpRing *ring, uint64 at, uint64 offset, const void *src, uint64 length)
{
	uint64 start = (at + sizeof(PpEntry) + offset) % ring->size;
	uint64 first = Min(length, ring->size - start);

	Assert(offset + length <= pp_ring_entry(ring, at)->length);
	memcpy(ring->data + start, src, first);
	memcpy(ring->data, (const char *) src + first, length - first);
}

/*
 * Under the mutex: the entry is complete.  READY is set together with the count: a worker that
 * has seen the count finds the entry READY, and can't settle items that aren't counted.
 */
static bool
publish(PpRing *ring, PpEntry *entry)
{
	bool wake;

	pg_atomic_write_u32(&entry->state, PP_ENTRY_READY);
	if (entry->refs == 0)
		ring->reserved_alone -= entry->bytes;
	if (entry->risk != PP_RISK_NONE && ring->at_risk[entry->risk].entries++ == 0)
		ring->at_risk[entry->risk].since = entry->published_at;
	ring->published += entry->items;
	ring->enqueued += entry->items;
	wake = ring->published >= ring->wake_items || ring->tail >= ring->wake_tail;
	if (wake)
	{
		/* one call to wake is enough, until the worker arms again */
		ring->wake_items = PG_UINT64_MAX;
		ring->wake_tail = PG_UINT64_MAX;
	}
	return wake;
}

/* The payload is complete.  True: the caller should wake the worker. */
bool
pp_ring_publish(PpRing *ring, uint64 at)
{
	PpEntry *entry = pp_ring_entry(ring, at);
	bool wake;

	pg_write_barrier(); /* pairs with pp_ring_take */
	SpinLockAcquire(&ring->mutex);
	wake = publish(ring, entry);
	SpinLockRelease(&ring->mutex);

	return wake;
}

/*
 * All three steps with one hold of the mutex, where the payload is small; else with the copy
 * outside of it.  True: the caller should wake the worker.
 */
bool
pp_ring_put(PpRing *ring, const PpEntry *header, const void *payload)
{
	uint64 at;
	bool wake;

	if (header->length > PP_RING_SMALL)
	{
		at = pp_ring_begin(ring, header);
		pp_ring_write(ring, at, 0, payload, header->length);
		return pp_ring_publish(ring, at);
	}
	SpinLockAcquire(&ring->mutex);
	at = begin(ring, header);
	pp_ring_write(ring, at, 0, payload, header->length);
	pg_write_barrier(); /* pairs with pp_ring_take */
	wake = publish(ring, pp_ring_entry(ring, at));
	SpinLockRelease(&ring->mutex);

	return wake;
}

/* ---- a ring is taken from its database, or its installation is another one ---- */

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
start_ring_anew(PpRing *ring)
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
		start_ring_anew(ring);
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
		start_ring_anew(ring);
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
	start_ring_anew(ring);
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
