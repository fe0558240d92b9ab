/*-------------------------------------------------------------------------
 *
 * ring.c
 *	  Reserve, publish, take and free, on memory that is given.  The protocol
 *	  is described in ring.h; nothing here allocates, waits or throws, since
 *	  half of it runs inside a COMMIT callback.
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

/* The earlier of two times, of which 0 is none. */
static int64
earlier(int64 a, int64 b)
{
	return a == 0 ? b : b == 0 ? a : Min(a, b);
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
		oldest = earlier(oldest, ring->diverted_at);
	if (ring->pass || ring->recovering)
		oldest = earlier(oldest, ring->pass_at);
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
	ring->moved = ring->passes + ring->pass + 1; /* one that has begun hasn't seen them */
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

/* The header at a position. */
PpEntry *
pp_ring_entry(PpRing *ring, uint64 at)
{
	return (PpEntry *) (ring->data + at % ring->size);
}

/*
 * The entry at a position, or NULL if there is none below `end` (a tail seen
 * in a view) or it is still BUSY.
 */
PpEntry *
pp_ring_take(PpRing *ring, uint64 at, uint64 end)
{
	PpEntry *entry;

	if (at >= end)
		return NULL;
	entry = pp_ring_entry(ring, at);
	if (pg_atomic_read_u32(&entry->state) == PP_ENTRY_BUSY)
		return NULL;
	pg_read_barrier(); /* pairs with pp_ring_publish */
	return entry;
}

/* The payload where it lies, or NULL if it wraps: then pp_ring_read it. */
const char *
pp_ring_contiguous(PpRing *ring, uint64 at)
{
	uint64 start = (at + sizeof(PpEntry)) % ring->size;

	if (start + pp_ring_entry(ring, at)->length > ring->size)
		return NULL;
	return ring->data + start;
}

/* Copy the whole payload out. */
void
pp_ring_read(PpRing *ring, uint64 at, void *dst)
{
	uint64 length = pp_ring_entry(ring, at)->length;
	uint64 start = (at + sizeof(PpEntry)) % ring->size;
	uint64 first = Min(length, ring->size - start);

	memcpy(dst, ring->data + start, first);
	memcpy((char *) dst + first, ring->data, length - first);
}

/*
 * So many more items of the entry, in their order, are settled.  Takes no lock:
 * after READY only the worker writes these fields.
 */
void
pp_ring_settle(PpRing *ring, uint64 at, uint32 items)
{
	PpEntry *entry = pp_ring_entry(ring, at);

	Assert(pg_atomic_read_u32(&entry->state) == PP_ENTRY_READY);
	Assert(entry->settled + items <= entry->items);
	entry->settled += items;
	if (entry->settled < entry->items)
		return;
	ring->at_risk[entry->risk].done += entry->risk != PP_RISK_NONE;
	pg_atomic_write_u32(&entry->state, PP_ENTRY_DONE);
}

/*
 * When was the oldest entry of each kind published that isn't DONE, from a position on?  0: none
 * is found before `end`, or one that is BUSY.  `latest`: when the last one was that was looked at.
 * A kind of which all are DONE isn't looked for: that would be a walk over the whole ring.
 */
static void
find_oldest(PpRing *ring, uint64 at, uint64 end, int64 oldest[PP_RISKS], int64 *latest)
{
	PpEntry *entry;
	int kinds = 0; /* to be found */

	for (int i = PP_RISK_CHOSEN; i < PP_RISKS; i++)
		kinds += *(volatile uint64 *) &ring->at_risk[i].entries > ring->at_risk[i].done;
	while (kinds > 0 && (entry = pp_ring_take(ring, at, end)) != NULL)
	{
		if (entry->risk != PP_RISK_NONE && oldest[entry->risk] == 0 &&
			pg_atomic_read_u32(&entry->state) != PP_ENTRY_DONE)
		{
			oldest[entry->risk] = entry->published_at;
			kinds--;
		}
		*latest = entry->published_at;
		at += entry->bytes;
	}
}

/* Under the mutex: those that are DONE are at risk no more. */
static void
settle_risk(PpAtRisk *at_risk, int64 oldest, int64 latest)
{
	at_risk->entries -= at_risk->done;
	at_risk->done = 0;
	if (at_risk->entries == 0)
		at_risk->since = 0;
	else if (oldest > 0)
		at_risk->since = oldest;
	else if (latest > at_risk->since)
		at_risk->since = latest; /* they have come since */
}

/*
 * Free the run of DONE entries at the head, and count so many items settled.
 * Entries may have been settled in any order, so the run can be long: it is
 * walked without the lock, which is safe since only the worker moves head.
 */
void
pp_ring_free(PpRing *ring, uint64 items)
{
	PpRingView view = pp_ring_view(ring);
	uint64 head = view.head;
	int64 oldest[PP_RISKS] = {0};
	int64 latest = 0;

	while (head < view.tail)
	{
		PpEntry *entry = pp_ring_entry(ring, head);

		if (pg_atomic_read_u32(&entry->state) != PP_ENTRY_DONE)
			break;
		latest = entry->published_at;
		head += entry->bytes;
	}
	if (view.at_risk_since > 0)
		find_oldest(ring, head, view.tail, oldest, &latest);

	/* the barrier in the lock keeps our reads of the bytes before their reuse */
	SpinLockAcquire(&ring->mutex);
	ring->head = head;
	ring->settled += items;
	for (int i = PP_RISK_CHOSEN; i < PP_RISKS; i++)
		settle_risk(&ring->at_risk[i], oldest[i], latest);
	SpinLockRelease(&ring->mutex);
}

/*
 * Ask to be woken once so many items have ever been published, or the tail
 * has come so far.  False, and nothing is armed, if that is so already, or the ring
 * isn't what the caller has seen: then there is no reason to sleep.
 */
bool
pp_ring_arm(PpRing *ring, const PpRingView *seen, uint64 items, uint64 tail)
{
	bool armed;

	SpinLockAcquire(&ring->mutex);
	armed = ring->published < items && ring->tail < tail && ring->recovering == seen->recovering &&
			ring->diverted == seen->diverted;
	ring->wake_items = armed ? items : PG_UINT64_MAX;
	ring->wake_tail = armed ? tail : PG_UINT64_MAX;
	SpinLockRelease(&ring->mutex);

	return armed;
}

/* Begin a pass, unless one has begun and its worker has not lived to see its end. */
PpRingView
pp_ring_begin_pass(PpRing *ring)
{
	SpinLockAcquire(&ring->mutex);
	if (!ring->pass)
	{
		ring->pass = true;
		if (ring->recovering)
		{
			ring->boundary = ring->base;
			ring->recovering = false;
			if (ring->diverted)
				ring->pass_at = earlier(ring->pass_at, ring->diverted_at);
		}
		else
		{
			ring->pass_at = ring->diverted_at;
			ring->mark = ring->tail;
			ring->boundary = ring->next;
			ring->diverted = false;
			ring->pass_items = ring->diverted_items; /* until they have been counted */
			ring->diverted_items = 0;
		}
	}
	SpinLockRelease(&ring->mutex);

	return pp_ring_view(ring);
}

void
pp_ring_end_pass(PpRing *ring)
{
	SpinLockAcquire(&ring->mutex);
	ring->pass = false;
	ring->pass_at = 0;
	ring->pass_items = 0;
	ring->passes++;
	if (!ring->diverted)
		ring->diverted_since = 0;
	SpinLockRelease(&ring->mutex);
}

/* Whoever is admitted from now on writes to this journal. */
void
pp_ring_set_journal(PpRing *ring, uint32 journal)
{
	SpinLockAcquire(&ring->mutex);
	ring->journal = journal;
	SpinLockRelease(&ring->mutex);
}

/* The worker was late with what is at bounded risk; or it has caught up. */
void
pp_ring_set_late(PpRing *ring, bool late)
{
	SpinLockAcquire(&ring->mutex);
	ring->late = late;
	SpinLockRelease(&ring->mutex);
}

/* So many items of the pass are in no entry of the ring. */
void
pp_ring_set_pass_items(PpRing *ring, uint64 items)
{
	SpinLockAcquire(&ring->mutex);
	ring->pass_items = items;
	SpinLockRelease(&ring->mutex);
}

void
pp_ring_settle_pass_items(PpRing *ring, uint64 items)
{
	SpinLockAcquire(&ring->mutex);
	ring->pass_items -= Min(items, ring->pass_items);
	SpinLockRelease(&ring->mutex);
}

/* A worker has come, or goes: who has no journal is let in, or isn't. */
void
pp_ring_attend(PpRing *ring, bool attended)
{
	SpinLockAcquire(&ring->mutex);
	ring->attended = attended;
	SpinLockRelease(&ring->mutex);
}

/* How many items are in the ring alone?  For its worker, or where there is none. */
uint64
pp_ring_volatile_items(PpRing *ring)
{
	PpRingView view = pp_ring_view(ring);
	uint64 items = 0;
	uint64 at = view.head;
	PpEntry *entry;

	while ((entry = pp_ring_take(ring, at, view.tail)) != NULL)
	{
		if (entry->refs == 0)
			items += entry->items - entry->settled;
		at += entry->bytes;
	}
	return items;
}

/* Is a producer in the middle of a copy?  That takes no longer than a time slice. */
bool
pp_ring_is_busy(PpRing *ring)
{
	PpRingView view = pp_ring_view(ring);

	for (uint64 at = view.head; at < view.tail;)
	{
		PpEntry *entry = pp_ring_take(ring, at, view.tail);

		if (entry == NULL)
			return true;
		at += entry->bytes;
	}
	return false;
}

/* No new reservations from now on; those that exist still arrive. */
void
pp_ring_close(PpRing *ring)
{
	SpinLockAcquire(&ring->mutex);
	ring->closed = true;
	SpinLockRelease(&ring->mutex);
}

/*
 * The same from a signal handler, which must not wait for a lock that its own
 * process may hold.  Whoever holds it may still reserve; the worker that has
 * closed the ring closes it again before it counts on that.
 */
void
pp_ring_close_at_once(PpRing *ring)
{
	*(volatile bool *) &ring->closed = true;
}

void
pp_ring_open(PpRing *ring)
{
	SpinLockAcquire(&ring->mutex);
	ring->closed = false;
	SpinLockRelease(&ring->mutex);
}

/*
 * A worker is new to a ring that others have left: what is there, in the ring or in
 * the journal, comes before what is to come.  (Where there were no others, base is
 * where the ring's own positions begin.)
 */
void
pp_ring_recover(PpRing *ring)
{
	SpinLockAcquire(&ring->mutex);
	if (!ring->recovering)
	{
		ring->recovering = true;
		ring->base = ring->next;
		ring->mark = ring->tail;

		/* what is left of a pass is in the first one of ours; if that comes to nothing, too,
		 * there still is something */
		if (ring->pass && !ring->diverted)
		{
			ring->diverted = true;
			ring->diverted_at = 0;
		}
		ring->pass = false;
		ring->pass_items += ring->diverted_items; /* until they have been counted */
		ring->diverted_items = 0;
	}
	SpinLockRelease(&ring->mutex);
}
