/*-------------------------------------------------------------------------
 *
 * counters.c
 *	  Counts what waits for whom; see counters.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ring/counters.h"

StaticAssertDecl((PP_COUNTER_BUCKETS & (PP_COUNTER_BUCKETS - 1)) == 0,
				 "the number of buckets is a power of two");

static void
forget_all(PpCounters *counters)
{
	counters->parked_targets = 0;
	counters->parked = 0;
	counters->pending = 0;
	memset(counters->buckets, 0, sizeof(counters->buckets));
}

void
pp_counters_init(PpCounters *counters, slock_t *mutex)
{
	counters->mutex = mutex;
	counters->counted = false;
	counters->added = 0;
	counters->parks = 0;
	forget_all(counters);
}

/* The database is another one, or all has gone. */
void
pp_counters_reset(PpCounters *counters)
{
	SpinLockAcquire(counters->mutex);
	counters->counted = false;
	forget_all(counters);
	SpinLockRelease(counters->mutex);
}

/* Oids come in sequence: murmur3's finalizer scatters them. */
static PpCounterBucket *
bucket_of(PpCounters *counters, Oid target)
{
	uint32 hash = target;

	Assert(target != InvalidOid); /* a free entry would pass for its own */
	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	hash ^= hash >> 16;
	return &counters->buckets[hash & (PP_COUNTER_BUCKETS - 1)];
}

static bool
is_zero(const PpCounter *entry)
{
	return entry->sqlstate == 0 && entry->pending == 0 && entry->parked == 0 &&
		   entry->parked_bytes == 0;
}

static bool
is_parked(const PpCounter *entry)
{
	return entry->sqlstate != 0 || entry->parked > 0;
}

/*
 * Under the mutex: the target's entry, or `others`; `create`: a new one, if there is
 * room, and none of its items can be in `others`.
 */
static PpCounter *
find_entry(PpCounterBucket *bucket, Oid target, bool create)
{
	PpCounter *unused = NULL;

	for (int i = 0; i < PP_COUNTER_WAYS; i++)
	{
		PpCounter *entry = &bucket->ways[i];

		if (entry->target == target)
			return entry;
		if (entry->target == InvalidOid && unused == NULL)
			unused = entry;
	}
	if (!create || unused == NULL || !is_zero(&bucket->others))
		return &bucket->others;
	unused->target = target;
	return unused;
}

/* Under the mutex: bring the sums up to date with an entry, and free it if it is zero. */
static void
changed(PpCounters *counters, PpCounter *entry, const PpCounter *before)
{
	/* in one store, since who reads it without the mutex shall see no other value */
	if (is_parked(entry) && !is_parked(before))
		counters->parked_targets++;
	else if (!is_parked(entry) && is_parked(before))
		counters->parked_targets--;
	counters->parked = counters->parked - before->parked + entry->parked;
	counters->pending = counters->pending - before->pending + entry->pending;
	if (entry->parked == 0)
		entry->parked_since = 0;

	if (is_zero(entry))
		entry->target = InvalidOid;
}

/* Under the mutex: so many items have been handed over. */
void
pp_counters_add_locked(PpCounters *counters, Oid target, uint64 items)
{
	if (items == 0)
		return; /* an entry that is all zero would be taken */
	find_entry(bucket_of(counters, target), target, true)->pending += items;
	counters->pending += items;
	counters->added++;
}

void
pp_counters_add(PpCounters *counters, Oid target, uint64 items)
{
	SpinLockAcquire(counters->mutex);
	pp_counters_add_locked(counters, target, items);
	SpinLockRelease(counters->mutex);
}

/* So many are not pending any more: they are done, or will be parked. */
void
pp_counters_settle(PpCounters *counters, Oid target, uint64 items)
{
	PpCounterBucket *bucket = bucket_of(counters, target);
	PpCounter *entry;
	PpCounter before;

	SpinLockAcquire(counters->mutex);
	entry = find_entry(bucket, target, false);
	before = *entry;
	entry->pending -= Min(items, entry->pending);
	changed(counters, entry, &before);
	SpinLockRelease(counters->mutex);
}

/* The negative of the least int64 is none, so it is taken as an unsigned one. */
static uint64
sum(uint64 count, int64 change)
{
	uint64 less = 0 - (uint64) change;

	if (change >= 0)
		return count + (uint64) change;
	return count - Min(less, count);
}

/* So many items and bytes more are in the parked table; negative: so many less. */
void
pp_counters_park(PpCounters *counters, Oid target, int64 items, int64 bytes)
{
	PpCounterBucket *bucket = bucket_of(counters, target);
	PpCounter *entry;
	PpCounter before;

	SpinLockAcquire(counters->mutex);
	entry = find_entry(bucket, target, items > 0 || bytes > 0);
	before = *entry;
	counters->parks += items > 0;
	entry->parked = sum(entry->parked, items);
	entry->parked_bytes = sum(entry->parked_bytes, bytes);
	if (entry == &bucket->others && entry->parked == 0 && before.parked > 0)
		entry->sqlstate = 0; /* who took it back before may not do so again */
	changed(counters, entry, &before);
	SpinLockRelease(counters->mutex);
}

/* What is parked of the target has been since then, or something of it has been for longer. */
void
pp_counters_note_parked(PpCounters *counters, Oid target, int64 since)
{
	PpCounterBucket *bucket = bucket_of(counters, target);
	PpCounter *entry;

	SpinLockAcquire(counters->mutex);
	entry = find_entry(bucket, target, false);
	if (entry->parked > 0 && (entry->parked_since == 0 || entry->parked_since > since))
		entry->parked_since = since;
	SpinLockRelease(counters->mutex);
}

/* Why the target is parked; 0: it is not parked any more. */
void
pp_counters_set_reason(PpCounters *counters, Oid target, int sqlstate)
{
	PpCounterBucket *bucket = bucket_of(counters, target);
	PpCounter *entry;
	PpCounter before;

	SpinLockAcquire(counters->mutex);
	entry = find_entry(bucket, target, sqlstate != 0);
	before = *entry;
	/* what is parked in `others` may be another's, whose reason it is */
	if (sqlstate != 0 || entry != &bucket->others || entry->parked == 0)
		entry->sqlstate = sqlstate;
	changed(counters, entry, &before);
	SpinLockRelease(counters->mutex);
}

/*
 * No reason stays where nothing is parked, or anywhere, with all that is counted as parked:
 * unless something has been since.
 */
static void
clear_reasons(PpCounters *counters, bool parked_too, uint64 parks)
{
	for (int i = 0; i < PP_COUNTER_BUCKETS; i++)
	{
		PpCounterBucket *bucket = &counters->buckets[i];

		SpinLockAcquire(counters->mutex);
		for (int j = 0; j <= PP_COUNTER_WAYS; j++)
		{
			PpCounter *entry = j < PP_COUNTER_WAYS ? &bucket->ways[j] : &bucket->others;
			PpCounter before = *entry;

			if (parked_too && counters->parks != parks)
				break;
			if (parked_too)
			{
				entry->parked = 0;
				entry->parked_bytes = 0;
			}
			if (entry->parked == 0)
				entry->sqlstate = 0;
			changed(counters, entry, &before);
		}
		SpinLockRelease(counters->mutex);
	}
}

/*
 * For a process that begins or ends: who has settled the last item that was parked may not
 * come to take back the reason.  Where nothing is parked there is none.
 */
void
pp_counters_forget_reasons(PpCounters *counters)
{
	clear_reasons(counters, false, 0);
}

/* How often something has been parked: to see later whether something has been since. */
uint64
pp_counters_parks(PpCounters *counters)
{
	uint64 parks;

	SpinLockAcquire(counters->mutex);
	parks = counters->parks;
	SpinLockRelease(counters->mutex);

	return parks;
}

/*
 * Nothing is parked, as the caller has seen after something was so often: what is counted is
 * of rows that somebody else has deleted or damaged.  What has been parked since isn't.
 */
void
pp_counters_clear_parked(PpCounters *counters, uint64 parks)
{
	clear_reasons(counters, true, parks);
}

/* What waits for this one, or for all `others` that it may be among. */
PpCounter
pp_counters_get(PpCounters *counters, Oid target)
{
	PpCounterBucket *bucket = bucket_of(counters, target);
	PpCounter entry;

	SpinLockAcquire(counters->mutex);
	entry = *find_entry(bucket, target, false);
	SpinLockRelease(counters->mutex);

	entry.target = target;
	return entry;
}

/*
 * Is anything parked?  Without a lock, for those who ask at each item: what another
 * process is about to write may be missed.
 */
bool
pp_counters_any_parked(const PpCounters *counters)
{
	return *(const volatile uint64 *) &counters->parked_targets > 0;
}

/* Items, of all targets together. */
uint64
pp_counters_parked(PpCounters *counters)
{
	uint64 parked;

	SpinLockAcquire(counters->mutex);
	parked = counters->parked;
	SpinLockRelease(counters->mutex);

	return parked;
}

/* Since when the target has been that has been parked for longest; 0: none is. */
int64
pp_counters_parked_since(PpCounters *counters)
{
	PpCounter entries[PP_COUNTER_WAYS + 1];
	int64 since = 0;

	for (int bucket = 0; bucket < PP_COUNTER_BUCKETS && pp_counters_any_parked(counters); bucket++)
	{
		int n = pp_counters_read(counters, bucket, entries);

		for (int i = 0; i < n; i++)
		{
			if (entries[i].parked_since > 0 && (since == 0 || entries[i].parked_since < since))
				since = entries[i].parked_since;
		}
	}
	return since;
}

/*
 * Copy those of a bucket's entries that are in use, PP_COUNTER_WAYS + 1 at most, and say
 * how many.  `others` is the last one, and has no target.
 */
int
pp_counters_read(PpCounters *counters, int bucket, PpCounter *entries)
{
	PpCounterBucket copy;
	int nentries = 0;

	Assert(bucket >= 0 && bucket < PP_COUNTER_BUCKETS);
	SpinLockAcquire(counters->mutex);
	copy = counters->buckets[bucket];
	SpinLockRelease(counters->mutex);

	for (int i = 0; i < PP_COUNTER_WAYS; i++)
	{
		if (copy.ways[i].target != InvalidOid)
			entries[nentries++] = copy.ways[i];
	}
	if (!is_zero(&copy.others))
		entries[nentries++] = copy.others;
	return nentries;
}

/* How often something was added: to see later whether something has been since. */
uint64
pp_counters_added(PpCounters *counters)
{
	uint64 added;

	SpinLockAcquire(counters->mutex);
	added = counters->added;
	SpinLockRelease(counters->mutex);

	return added;
}

/*
 * Nothing waits, as the caller has seen after so much was added: what is counted is a
 * mistake.  What has been added since isn't.
 */
void
pp_counters_clear_pending(PpCounters *counters, uint64 added)
{
	bool is_done = false;

	for (int i = 0; i < PP_COUNTER_BUCKETS && !is_done; i++)
	{
		PpCounterBucket *bucket = &counters->buckets[i];

		SpinLockAcquire(counters->mutex);
		is_done = counters->pending == 0 || counters->added != added;
		for (int j = 0; j <= PP_COUNTER_WAYS && !is_done; j++)
		{
			PpCounter *entry = j < PP_COUNTER_WAYS ? &bucket->ways[j] : &bucket->others;
			PpCounter before = *entry;

			entry->pending = 0;
			changed(counters, entry, &before);
		}
		SpinLockRelease(counters->mutex);
	}
}

bool
pp_counters_are_counted(PpCounters *counters)
{
	bool counted;

	SpinLockAcquire(counters->mutex);
	counted = counters->counted;
	SpinLockRelease(counters->mutex);

	return counted;
}

/*
 * For the worker that has seen what was there before us: does it have to count it?
 * True once.
 */
bool
pp_counters_begin_count(PpCounters *counters)
{
	bool begin;

	SpinLockAcquire(counters->mutex);
	begin = !counters->counted;
	counters->counted = true;
	SpinLockRelease(counters->mutex);

	return begin;
}
