/*-------------------------------------------------------------------------
 *
 * tally.c
 *	  Counts what waits for whom; see tally.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "tally.h"

StaticAssertDecl((PP_TALLY_BUCKETS & (PP_TALLY_BUCKETS - 1)) == 0,
				 "the number of buckets is a power of two");

static void
forget_all(PpTally *tally)
{
	tally->parked_targets = 0;
	tally->parked = 0;
	memset(tally->buckets, 0, sizeof(tally->buckets));
}

void
pp_tally_init(PpTally *tally)
{
	SpinLockInit(&tally->mutex);
	tally->counted = false;
	tally->added = 0;
	tally->parks = 0;
	forget_all(tally);
}

/* The database is another one, or all has gone. */
void
pp_tally_reset(PpTally *tally)
{
	SpinLockAcquire(&tally->mutex);
	tally->counted = false;
	forget_all(tally);
	SpinLockRelease(&tally->mutex);
}

/* Oids come in sequence: murmur3's finalizer scatters them. */
static PpTallyBucket *
bucket_of(PpTally *tally, Oid target)
{
	uint32 hash = target;

	Assert(target != InvalidOid); /* a free entry would pass for its own */
	hash ^= hash >> 16;
	hash *= 0x85ebca6b;
	hash ^= hash >> 13;
	hash *= 0xc2b2ae35;
	hash ^= hash >> 16;
	return &tally->buckets[hash & (PP_TALLY_BUCKETS - 1)];
}

static bool
is_zero(const PpTallyEntry *entry)
{
	return entry->sqlstate == 0 && entry->pending == 0 && entry->parked == 0 &&
		   entry->parked_bytes == 0;
}

static bool
is_parked(const PpTallyEntry *entry)
{
	return entry->sqlstate != 0 || entry->parked > 0;
}

/*
 * Under the mutex: the target's entry, or `others`; `create`: a new one, if there is
 * room, and none of its items can be in `others`.
 */
static PpTallyEntry *
find_entry(PpTallyBucket *bucket, Oid target, bool create)
{
	PpTallyEntry *unused = NULL;

	for (int i = 0; i < PP_TALLY_WAYS; i++)
	{
		PpTallyEntry *entry = &bucket->ways[i];

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
changed(PpTally *tally, PpTallyEntry *entry, const PpTallyEntry *before)
{
	/* in one store, since who reads it without the mutex shall see no other value */
	if (is_parked(entry) && !is_parked(before))
		tally->parked_targets++;
	else if (!is_parked(entry) && is_parked(before))
		tally->parked_targets--;
	tally->parked = tally->parked - before->parked + entry->parked;

	if (is_zero(entry))
		entry->target = InvalidOid;
}

/* So many items have been handed over. */
void
pp_tally_add(PpTally *tally, Oid target, uint64 items)
{
	PpTallyBucket *bucket = bucket_of(tally, target);

	if (items == 0)
		return; /* an entry that is all zero would be taken */
	SpinLockAcquire(&tally->mutex);
	find_entry(bucket, target, true)->pending += items;
	tally->added++;
	SpinLockRelease(&tally->mutex);
}

/* So many are not pending any more: they are done, or will be parked. */
void
pp_tally_settle(PpTally *tally, Oid target, uint64 items)
{
	PpTallyBucket *bucket = bucket_of(tally, target);
	PpTallyEntry *entry;
	PpTallyEntry before;

	SpinLockAcquire(&tally->mutex);
	entry = find_entry(bucket, target, false);
	before = *entry;
	entry->pending -= Min(items, entry->pending);
	changed(tally, entry, &before);
	SpinLockRelease(&tally->mutex);
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
pp_tally_park(PpTally *tally, Oid target, int64 items, int64 bytes)
{
	PpTallyBucket *bucket = bucket_of(tally, target);
	PpTallyEntry *entry;
	PpTallyEntry before;

	SpinLockAcquire(&tally->mutex);
	entry = find_entry(bucket, target, items > 0 || bytes > 0);
	before = *entry;
	tally->parks += items > 0;
	entry->parked = sum(entry->parked, items);
	entry->parked_bytes = sum(entry->parked_bytes, bytes);
	if (entry == &bucket->others && entry->parked == 0 && before.parked > 0)
		entry->sqlstate = 0; /* who took it back before may not do so again */
	changed(tally, entry, &before);
	SpinLockRelease(&tally->mutex);
}

/* Why the target is parked; 0: it is not parked any more. */
void
pp_tally_set_reason(PpTally *tally, Oid target, int sqlstate)
{
	PpTallyBucket *bucket = bucket_of(tally, target);
	PpTallyEntry *entry;
	PpTallyEntry before;

	SpinLockAcquire(&tally->mutex);
	entry = find_entry(bucket, target, sqlstate != 0);
	before = *entry;
	/* what is parked in `others` may be another's, whose reason it is */
	if (sqlstate != 0 || entry != &bucket->others || entry->parked == 0)
		entry->sqlstate = sqlstate;
	changed(tally, entry, &before);
	SpinLockRelease(&tally->mutex);
}

/*
 * No reason stays where nothing is parked, or anywhere, with all that is counted as parked:
 * unless something has been since.
 */
static void
clear_reasons(PpTally *tally, bool parked_too, uint64 parks)
{
	for (int i = 0; i < PP_TALLY_BUCKETS; i++)
	{
		PpTallyBucket *bucket = &tally->buckets[i];

		SpinLockAcquire(&tally->mutex);
		for (int j = 0; j <= PP_TALLY_WAYS; j++)
		{
			PpTallyEntry *entry = j < PP_TALLY_WAYS ? &bucket->ways[j] : &bucket->others;
			PpTallyEntry before = *entry;

			if (parked_too && tally->parks != parks)
				break;
			if (parked_too)
			{
				entry->parked = 0;
				entry->parked_bytes = 0;
			}
			if (entry->parked == 0)
				entry->sqlstate = 0;
			changed(tally, entry, &before);
		}
		SpinLockRelease(&tally->mutex);
	}
}

/*
 * For a process that begins or ends: who has settled the last item that was parked may not
 * come to take back the reason.  Where nothing is parked there is none.
 */
void
pp_tally_forget_reasons(PpTally *tally)
{
	clear_reasons(tally, false, 0);
}

/* How often something has been parked: to see later whether something has been since. */
uint64
pp_tally_parks(PpTally *tally)
{
	uint64 parks;

	SpinLockAcquire(&tally->mutex);
	parks = tally->parks;
	SpinLockRelease(&tally->mutex);

	return parks;
}

/*
 * Nothing is parked, as the caller has seen after something was so often: what is counted is
 * of rows that somebody else has deleted or damaged.  What has been parked since isn't.
 */
void
pp_tally_clear_parked(PpTally *tally, uint64 parks)
{
	clear_reasons(tally, true, parks);
}

/* What waits for this one, or for all `others` that it may be among. */
PpTallyEntry
pp_tally_get(PpTally *tally, Oid target)
{
	PpTallyBucket *bucket = bucket_of(tally, target);
	PpTallyEntry entry;

	SpinLockAcquire(&tally->mutex);
	entry = *find_entry(bucket, target, false);
	SpinLockRelease(&tally->mutex);

	entry.target = target;
	return entry;
}

/*
 * Is anything parked?  Without a lock, for those who ask at each item: what another
 * process is about to write may be missed.
 */
bool
pp_tally_any_parked(const PpTally *tally)
{
	return *(const volatile uint64 *) &tally->parked_targets > 0;
}

/* Items, of all targets together. */
uint64
pp_tally_parked(PpTally *tally)
{
	uint64 parked;

	SpinLockAcquire(&tally->mutex);
	parked = tally->parked;
	SpinLockRelease(&tally->mutex);

	return parked;
}

/*
 * Copy those of a bucket's entries that are in use, PP_TALLY_WAYS + 1 at most, and say
 * how many.  `others` is the last one, and has no target.
 */
int
pp_tally_read(PpTally *tally, int bucket, PpTallyEntry *entries)
{
	PpTallyBucket copy;
	int nentries = 0;

	Assert(bucket >= 0 && bucket < PP_TALLY_BUCKETS);
	SpinLockAcquire(&tally->mutex);
	copy = tally->buckets[bucket];
	SpinLockRelease(&tally->mutex);

	for (int i = 0; i < PP_TALLY_WAYS; i++)
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
pp_tally_added(PpTally *tally)
{
	uint64 added;

	SpinLockAcquire(&tally->mutex);
	added = tally->added;
	SpinLockRelease(&tally->mutex);

	return added;
}

/*
 * Nothing waits, as the caller has seen after so much was added: what is counted is a
 * mistake.  What has been added since isn't.
 */
void
pp_tally_clear_pending(PpTally *tally, uint64 added)
{
	for (int i = 0; i < PP_TALLY_BUCKETS; i++)
	{
		PpTallyBucket *bucket = &tally->buckets[i];

		SpinLockAcquire(&tally->mutex);
		for (int j = 0; j < PP_TALLY_WAYS && tally->added == added; j++)
		{
			PpTallyEntry *entry = &bucket->ways[j];

			entry->pending = 0;
			if (is_zero(entry))
				entry->target = InvalidOid;
		}
		if (tally->added == added)
			bucket->others.pending = 0;
		SpinLockRelease(&tally->mutex);
	}
}

bool
pp_tally_is_counted(PpTally *tally)
{
	bool counted;

	SpinLockAcquire(&tally->mutex);
	counted = tally->counted;
	SpinLockRelease(&tally->mutex);

	return counted;
}

/*
 * For the worker that has seen what was there before us: does it have to count it?
 * True once.
 */
bool
pp_tally_begin_count(PpTally *tally)
{
	bool begin;

	SpinLockAcquire(&tally->mutex);
	begin = !tally->counted;
	tally->counted = true;
	SpinLockRelease(&tally->mutex);

	return begin;
}
