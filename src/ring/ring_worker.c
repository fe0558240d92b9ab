/*-------------------------------------------------------------------------
 *
 * ring_worker.c
 *	  What a ring's worker does with it: take, settle and free entries, begin and end a pass, sleep
 *	  until there is enough, close.  See ring.h; like ring.c, this needs nothing else of the server,
 *	  and nothing here allocates, waits or throws.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ring/ring.h"

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
				ring->pass_at = pp_ring_earlier(ring->pass_at, ring->diverted_at);
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
