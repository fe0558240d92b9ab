/*-------------------------------------------------------------------------
 *
 * tally_test.c
 *	  What src/ring/counters.c does, one step after the other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ring/counters.h"
#include "tap.h"

#define ALICE 16384
#define BOB 16385
#define CROWD (PP_COUNTER_WAYS + 2)
#define REASON 123
#define ANOTHER 456

static slock_t mutex;
static PpCounters counters;

/* Targets of one bucket: two more than have room in it. */
static Oid crowd[CROWD];
static int crowded;

#define LATE crowd[PP_COUNTER_WAYS]
#define LATER crowd[PP_COUNTER_WAYS + 1]

static int
bucket_of(Oid target)
{
	static PpCounters scratch;
	PpCounter entries[PP_COUNTER_WAYS + 1];

	pp_counters_init(&scratch, &mutex);
	pp_counters_add(&scratch, target, 1);
	for (int i = 0; i < PP_COUNTER_BUCKETS; i++)
	{
		if (pp_counters_read(&scratch, i, entries) > 0)
			return i;
	}
	return -1;
}

static void
find_crowd(void)
{
	int n = 0;

	crowded = bucket_of(ALICE);
	for (Oid target = ALICE; n < CROWD; target++)
	{
		if (bucket_of(target) == crowded)
			crowd[n++] = target;
	}
}

/* One item for each that has room. */
static void
fill_bucket(void)
{
	pp_counters_init(&counters, &mutex);
	for (int i = 0; i < PP_COUNTER_WAYS; i++)
		pp_counters_add(&counters, crowd[i], 1);
}

/* Is the sum that the struct keeps that of its entries? */
static bool
sums_match(void)
{
	PpCounter entries[PP_COUNTER_WAYS + 1];
	uint64 sum = 0;

	for (int i = 0; i < PP_COUNTER_BUCKETS; i++)
	{
		int n = pp_counters_read(&counters, i, entries);

		for (int j = 0; j < n; j++)
			sum += entries[j].pending;
	}
	return sum == counters.pending;
}

static uint64
pending(Oid target)
{
	CHECK(sums_match());
	return pp_counters_get(&counters, target).pending;
}

static int
reason(Oid target)
{
	return pp_counters_get(&counters, target).sqlstate;
}

/* Entries in use, in all buckets. */
static int
used(void)
{
	PpCounter entries[PP_COUNTER_WAYS + 1];
	int sum = 0;

	for (int i = 0; i < PP_COUNTER_BUCKETS; i++)
		sum += pp_counters_read(&counters, i, entries);
	return sum;
}

static bool
is_parked(Oid target, uint64 items, uint64 bytes)
{
	PpCounter entry = pp_counters_get(&counters, target);

	return entry.parked == items && entry.parked_bytes == bytes;
}

static void
test_pending(void)
{
	PpCounter entry;

	pp_counters_init(&counters, &mutex);
	entry = pp_counters_get(&counters, ALICE);
	CHECK(entry.target == ALICE && entry.sqlstate == 0 && entry.pending == 0);
	CHECK(is_parked(ALICE, 0, 0));
	pp_counters_add(&counters, ALICE, 5);
	pp_counters_add(&counters, ALICE, 2);
	pp_counters_add(&counters, BOB, 1);
	CHECK(pending(ALICE) == 7);
	CHECK(pending(BOB) == 1);
	pp_counters_settle(&counters, ALICE, 3);
	CHECK(pending(ALICE) == 4);
	CHECK(pending(BOB) == 1);
	CHECK(pp_counters_get(&counters, ALICE).target == ALICE);
	CHECK(!pp_counters_any_parked(&counters));
}

/* Giving back what nobody has does no harm, and takes no entry. */
static void
test_mistakes(void)
{
	pp_counters_init(&counters, &mutex);
	pp_counters_add(&counters, ALICE, 0);
	pp_counters_settle(&counters, ALICE, 1);
	pp_counters_park(&counters, ALICE, 0, 0);
	pp_counters_park(&counters, ALICE, -1, -1);
	pp_counters_park(&counters, ALICE, INT64_MIN, INT64_MIN);
	pp_counters_set_reason(&counters, ALICE, 0);
	CHECK(used() == 0);
	CHECK(pending(ALICE) == 0);
	CHECK(is_parked(ALICE, 0, 0));

	pp_counters_add(&counters, ALICE, 2);
	pp_counters_settle(&counters, ALICE, PG_UINT64_MAX);
	CHECK(pending(ALICE) == 0);
	pp_counters_park(&counters, ALICE, 2, 100);
	pp_counters_park(&counters, ALICE, -3, -50);
	CHECK(is_parked(ALICE, 0, 50));
	CHECK(pp_counters_parked(&counters) == 0);
	CHECK(!pp_counters_any_parked(&counters));
	pp_counters_park(&counters, ALICE, INT64_MIN, INT64_MIN);
	CHECK(used() == 0);
}

static void
test_free(void)
{
	fill_bucket();
	CHECK(used() == PP_COUNTER_WAYS);
	pp_counters_settle(&counters, crowd[3], 1);
	CHECK(used() == PP_COUNTER_WAYS - 1);

	/* another one gets it, and the one that had it is nobody now */
	pp_counters_add(&counters, LATE, 7);
	CHECK(used() == PP_COUNTER_WAYS);
	CHECK(pending(LATE) == 7);
	CHECK(pending(crowd[3]) == 0);
	CHECK(pending(crowd[2]) == 1 && pending(crowd[4]) == 1);

	/* any count and the reason keep one */
	pp_counters_settle(&counters, LATE, 7);
	pp_counters_park(&counters, LATE, 1, 10);
	CHECK(used() == PP_COUNTER_WAYS);
	pp_counters_park(&counters, LATE, -1, 0);
	CHECK(used() == PP_COUNTER_WAYS);
	pp_counters_set_reason(&counters, LATE, REASON);
	pp_counters_park(&counters, LATE, 0, -10);
	CHECK(used() == PP_COUNTER_WAYS);
	pp_counters_set_reason(&counters, LATE, 0);
	CHECK(used() == PP_COUNTER_WAYS - 1);

	/* one that is behind a free entry is found */
	pp_counters_settle(&counters, crowd[0], 1);
	pp_counters_add(&counters, crowd[7], 1);
	CHECK(pending(crowd[7]) == 2);
	CHECK(used() == PP_COUNTER_WAYS - 2);
}

static void
test_others(void)
{
	fill_bucket();
	pp_counters_add(&counters, LATE, 10);
	pp_counters_add(&counters, LATER, 20);
	CHECK(used() == PP_COUNTER_WAYS + 1);
	CHECK(pending(LATE) == 30);
	CHECK(pp_counters_get(&counters, LATE).target == LATE);
	CHECK(pp_counters_get(&counters, LATER).target == LATER);

	/* those with one of their own are not among them */
	pp_counters_add(&counters, crowd[0], 4);
	CHECK(pending(crowd[0]) == 5);
	pp_counters_settle(&counters, crowd[0], 100);
	CHECK(pending(LATE) == 30);

	/* there is room now, but not for one whose items may be in others */
	CHECK(used() == PP_COUNTER_WAYS);
	pp_counters_add(&counters, LATE, 1);
	pp_counters_add(&counters, crowd[0], 1);
	CHECK(used() == PP_COUNTER_WAYS);
	CHECK(pending(LATE) == 32);
	pp_counters_settle(&counters, LATE, 11);
	pp_counters_settle(&counters, crowd[0], 1);
	CHECK(pending(LATER) == 20);

	/* until there is nothing in others */
	pp_counters_settle(&counters, LATER, 20);
	CHECK(used() == PP_COUNTER_WAYS - 1);
	CHECK(pending(LATER) == 0);
	pp_counters_add(&counters, LATE, 3);
	CHECK(used() == PP_COUNTER_WAYS);
	CHECK(pending(LATE) == 3);
	CHECK(pending(LATER) == 0);
	pp_counters_add(&counters, LATER, 1);
	CHECK(pending(LATE) == 3);
	CHECK(pending(LATER) == 1);
}

/* Whatever there is in others keeps it. */
static void
test_others_held(void)
{
	fill_bucket();
	pp_counters_park(&counters, LATE, 1, 10);
	pp_counters_settle(&counters, crowd[0], 1);
	pp_counters_add(&counters, LATE, 1);
	CHECK(pending(LATER) == 1);
	pp_counters_settle(&counters, LATE, 1);
	pp_counters_park(&counters, LATE, -1, 0);
	pp_counters_add(&counters, LATE, 1);
	CHECK(pending(LATER) == 1);
	pp_counters_settle(&counters, LATE, 1);
	pp_counters_set_reason(&counters, LATE, REASON);
	pp_counters_park(&counters, LATE, 0, -10);
	pp_counters_add(&counters, LATE, 1);
	CHECK(pending(LATER) == 1);
	pp_counters_settle(&counters, LATE, 1);
	pp_counters_set_reason(&counters, LATE, 0);
	pp_counters_add(&counters, LATE, 1);
	CHECK(pending(LATER) == 0);
	CHECK(pending(LATE) == 1);
}

static void
test_parked(void)
{
	pp_counters_init(&counters, &mutex);
	CHECK(!pp_counters_any_parked(&counters));
	pp_counters_park(&counters, ALICE, 3, 300);
	pp_counters_park(&counters, BOB, 1, 50);
	CHECK(pp_counters_any_parked(&counters));
	CHECK(counters.parked_targets == 2);
	CHECK(pp_counters_parked(&counters) == 4);
	CHECK(is_parked(ALICE, 3, 300));
	CHECK(is_parked(BOB, 1, 50));
	pp_counters_park(&counters, ALICE, 2, 200);
	CHECK(counters.parked_targets == 2);
	pp_counters_park(&counters, ALICE, -5, -500);
	CHECK(is_parked(ALICE, 0, 0));
	CHECK(counters.parked_targets == 1);
	CHECK(pp_counters_parked(&counters) == 1);
	pp_counters_park(&counters, BOB, -1, -50);
	CHECK(!pp_counters_any_parked(&counters));
	CHECK(pp_counters_parked(&counters) == 0);
	CHECK(used() == 0);

	/* others count as one */
	fill_bucket();
	for (int i = 0; i < CROWD; i++)
		pp_counters_park(&counters, crowd[i], 1, 10);
	CHECK(counters.parked_targets == PP_COUNTER_WAYS + 1);
	CHECK(pp_counters_parked(&counters) == CROWD);
	CHECK(is_parked(LATE, 2, 20));
	for (int i = 0; i < CROWD; i++)
		pp_counters_park(&counters, crowd[i], -1, -10);
	CHECK(!pp_counters_any_parked(&counters));
	CHECK(pp_counters_parked(&counters) == 0);
	CHECK(used() == PP_COUNTER_WAYS);
}

static void
test_reasons(void)
{
	pp_counters_init(&counters, &mutex);
	pp_counters_set_reason(&counters, ALICE, REASON);
	CHECK(reason(ALICE) == REASON);
	CHECK(reason(BOB) == 0);
	CHECK(pp_counters_any_parked(&counters));
	CHECK(pp_counters_parked(&counters) == 0);
	pp_counters_set_reason(&counters, ALICE, ANOTHER);
	CHECK(reason(ALICE) == ANOTHER);
	pp_counters_park(&counters, ALICE, 1, 10);
	CHECK(counters.parked_targets == 1);

	/* one of its own goes when it is taken back, whatever is parked, and not before */
	pp_counters_park(&counters, ALICE, -1, -10);
	CHECK(reason(ALICE) == ANOTHER);
	pp_counters_park(&counters, ALICE, 1, 10);
	pp_counters_set_reason(&counters, ALICE, 0);
	CHECK(reason(ALICE) == 0);
	CHECK(pp_counters_any_parked(&counters));
	pp_counters_park(&counters, ALICE, -1, -10);
	CHECK(!pp_counters_any_parked(&counters));
	CHECK(used() == 0);
}

/* That of others is nobody's alone. */
static void
test_reason_of_others(void)
{
	fill_bucket();
	pp_counters_set_reason(&counters, LATE, REASON);
	CHECK(reason(LATE) == REASON);
	CHECK(reason(crowd[0]) == 0);
	CHECK(counters.parked_targets == 1);
	pp_counters_set_reason(&counters, LATE, 0);
	CHECK(reason(LATE) == 0);
	CHECK(!pp_counters_any_parked(&counters));

	pp_counters_set_reason(&counters, LATE, REASON);
	pp_counters_park(&counters, LATE, 2, 20);
	pp_counters_set_reason(&counters, LATER, 0);
	CHECK(reason(LATE) == REASON);
	pp_counters_set_reason(&counters, LATER, ANOTHER);
	CHECK(reason(LATE) == ANOTHER);
	pp_counters_set_reason(&counters, LATE, 0);
	pp_counters_park(&counters, LATE, -1, -10);
	CHECK(reason(LATE) == ANOTHER);
	pp_counters_park(&counters, LATE, -1, -10);
	CHECK(reason(LATE) == 0);
	CHECK(!pp_counters_any_parked(&counters));
	CHECK(used() == PP_COUNTER_WAYS);
}

static void
test_read(void)
{
	PpCounter entries[PP_COUNTER_WAYS + 1];

	fill_bucket();
	CHECK(pp_counters_read(&counters, crowded, entries) == PP_COUNTER_WAYS);
	CHECK(pp_counters_read(&counters, (crowded + 1) % PP_COUNTER_BUCKETS, entries) == 0);
	pp_counters_add(&counters, LATE, 3);
	pp_counters_park(&counters, LATER, 4, 40);
	pp_counters_set_reason(&counters, LATER, REASON);
	CHECK(pp_counters_read(&counters, crowded, entries) == PP_COUNTER_WAYS + 1);
	for (int i = 0; i < PP_COUNTER_WAYS; i++)
		CHECK(entries[i].target == crowd[i] && entries[i].pending == 1 && entries[i].parked == 0);
	CHECK(entries[PP_COUNTER_WAYS].target == InvalidOid);
	CHECK(entries[PP_COUNTER_WAYS].sqlstate == REASON);
	CHECK(entries[PP_COUNTER_WAYS].pending == 3);
	CHECK(entries[PP_COUNTER_WAYS].parked == 4);
	CHECK(entries[PP_COUNTER_WAYS].parked_bytes == 40);

	/* free entries are left out */
	pp_counters_settle(&counters, crowd[0], 1);
	CHECK(pp_counters_read(&counters, crowded, entries) == PP_COUNTER_WAYS);
	CHECK(entries[0].target == crowd[1]);
	CHECK(entries[PP_COUNTER_WAYS - 1].target == InvalidOid);
}

/* Targets in sequence come to lie in all buckets, none of which overflows. */
static void
test_spread(void)
{
	PpCounter entries[PP_COUNTER_WAYS + 1];
	int empty = 0;
	int most = 0;

	pp_counters_init(&counters, &mutex);
	for (Oid i = 0; i < PP_COUNTER_BUCKETS; i++)
		pp_counters_add(&counters, ALICE + i, 1);
	for (int i = 0; i < PP_COUNTER_BUCKETS; i++)
	{
		int n = pp_counters_read(&counters, i, entries);

		empty += n == 0;
		if (n > most)
			most = n;
	}
	CHECK(used() == PP_COUNTER_BUCKETS);
	CHECK(empty < PP_COUNTER_BUCKETS / 2);
	CHECK(most <= PP_COUNTER_WAYS);
}

static void
test_clear_pending(void)
{
	uint64 added;

	fill_bucket();
	pp_counters_add(&counters, LATE, 5);
	pp_counters_park(&counters, LATER, 2, 20);
	pp_counters_park(&counters, crowd[1], 1, 10);
	pp_counters_set_reason(&counters, crowd[2], REASON);

	/* nothing, if something has been added meanwhile; to settle or to park is not to add */
	added = pp_counters_added(&counters);
	pp_counters_add(&counters, crowd[3], 1);
	pp_counters_clear_pending(&counters, added);
	CHECK(pending(crowd[0]) == 1 && pending(crowd[3]) == 2 && pending(LATE) == 5);
	added = pp_counters_added(&counters);
	pp_counters_add(&counters, crowd[3], 0);
	pp_counters_settle(&counters, crowd[3], 1);
	CHECK(pp_counters_added(&counters) == added);
	pp_counters_clear_pending(&counters, added);
	for (int i = 0; i < CROWD; i++)
		CHECK(pending(crowd[i]) == 0);
	CHECK(used() == 3);
	CHECK(is_parked(LATE, 2, 20));
	CHECK(is_parked(crowd[1], 1, 10));
	CHECK(reason(crowd[2]) == REASON);
	CHECK(counters.parked_targets == 3);
	CHECK(pp_counters_parked(&counters) == 3);
}

static void
test_clear_parked(void)
{
	fill_bucket();
	pp_counters_add(&counters, LATE, 5);
	pp_counters_park(&counters, LATER, 2, 20);
	pp_counters_park(&counters, crowd[1], 1, 10);
	pp_counters_set_reason(&counters, crowd[2], REASON);
	pp_counters_clear_parked(&counters, pp_counters_parks(&counters));
	CHECK(pp_counters_parked(&counters) == 0);
	CHECK(counters.parked_targets == 0);
	CHECK(!pp_counters_any_parked(&counters));
	CHECK(is_parked(crowd[1], 0, 0));
	CHECK(reason(crowd[2]) == 0);
	CHECK(pending(crowd[1]) == 1 && pending(LATE) == 5);
}

static void
test_reset(void)
{
	fill_bucket();
	for (int i = 0; i < CROWD; i++)
	{
		pp_counters_park(&counters, crowd[i], 1, 10);
		pp_counters_set_reason(&counters, crowd[i], REASON);
	}
	pp_counters_reset(&counters);
	CHECK(used() == 0);
	CHECK(!pp_counters_any_parked(&counters));
	CHECK(pp_counters_parked(&counters) == 0);
	CHECK(reason(LATE) == 0 && reason(crowd[0]) == 0);
	pp_counters_add(&counters, LATE, 1);
	CHECK(pending(LATE) == 1 && pending(LATER) == 0);
}

static void
test_parked_since(void)
{
	pp_counters_init(&counters, &mutex);
	pp_counters_note_parked(&counters, ALICE, 5);
	CHECK(pp_counters_parked_since(&counters) == 0); /* nothing is */
	pp_counters_park(&counters, ALICE, 2, 20);
	CHECK(pp_counters_parked_since(&counters) == 0); /* nobody has said */
	pp_counters_note_parked(&counters, ALICE, 7);
	pp_counters_note_parked(&counters, ALICE, 9);
	pp_counters_park(&counters, BOB, 1, 10);
	pp_counters_note_parked(&counters, BOB, 8);
	CHECK(pp_counters_parked_since(&counters) == 7);
	CHECK(pp_counters_get(&counters, BOB).parked_since == 8);
	pp_counters_note_parked(&counters, BOB, 6); /* something older has been found */
	CHECK(pp_counters_parked_since(&counters) == 6);
	pp_counters_park(&counters, BOB, -1, -10);
	pp_counters_set_reason(&counters, BOB, REASON); /* but none of its items */
	CHECK(pp_counters_parked_since(&counters) == 7);
	pp_counters_park(&counters, ALICE, -1, -10);
	CHECK(pp_counters_parked_since(&counters) == 7);
	pp_counters_park(&counters, ALICE, -1, -10);
	CHECK(pp_counters_parked_since(&counters) == 0);
	pp_counters_park(&counters, ALICE, 1, 10);
	CHECK(pp_counters_parked_since(&counters) == 0);
}

static void
test_count(void)
{
	pp_counters_init(&counters, &mutex);
	CHECK(!pp_counters_are_counted(&counters));
	CHECK(pp_counters_begin_count(&counters));
	CHECK(!pp_counters_begin_count(&counters));
	CHECK(pp_counters_are_counted(&counters));
	pp_counters_clear_pending(&counters, pp_counters_added(&counters));
	CHECK(pp_counters_are_counted(&counters));
	pp_counters_reset(&counters);
	CHECK(!pp_counters_are_counted(&counters));
	CHECK(pp_counters_begin_count(&counters));
}

int
main(void)
{
	tap_start();
	find_crowd();
	TEST(test_pending, "each target has its count of what is pending");
	TEST(test_mistakes, "what is given back by mistake counts as nothing");
	TEST(test_free, "an entry that is all zero is free again");
	TEST(test_others, "more targets than a bucket has room for");
	TEST(test_others_held, "others are others until nothing at all is there");
	TEST(test_parked, "what is parked, and whether anything is");
	TEST(test_reasons, "why a target is parked");
	TEST(test_reason_of_others, "the reason of others stays while any are parked");
	TEST(test_read, "a bucket is read with its others");
	TEST(test_spread, "targets are spread over the buckets");
	TEST(test_clear_pending, "pending is cleared, what is parked is not");
	TEST(test_clear_parked, "what is parked is cleared, pending is not");
	TEST(test_reset, "a reset forgets all");
	TEST(test_parked_since, "since when something has been parked");
	TEST(test_count, "what was there before is counted once");
	return tap_finish();
}
