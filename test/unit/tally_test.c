/*-------------------------------------------------------------------------
 *
 * tally_test.c
 *	  What src/tally.c does, one step after the other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "tally.h"
#include "tap.h"

#define ALICE 16384
#define BOB 16385
#define CROWD (PP_TALLY_WAYS + 2)
#define REASON 123
#define ANOTHER 456

static PpTally tally;

/* Targets of one bucket: two more than have room in it. */
static Oid crowd[CROWD];
static int crowded;

#define LATE crowd[PP_TALLY_WAYS]
#define LATER crowd[PP_TALLY_WAYS + 1]

static int
bucket_of(Oid target)
{
	static PpTally scratch;
	PpTallyEntry entries[PP_TALLY_WAYS + 1];

	pp_tally_init(&scratch);
	pp_tally_add(&scratch, target, 1);
	for (int i = 0; i < PP_TALLY_BUCKETS; i++)
	{
		if (pp_tally_read(&scratch, i, entries) > 0)
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
	pp_tally_init(&tally);
	for (int i = 0; i < PP_TALLY_WAYS; i++)
		pp_tally_add(&tally, crowd[i], 1);
}

static uint64
pending(Oid target)
{
	return pp_tally_get(&tally, target).pending;
}

static int
reason(Oid target)
{
	return pp_tally_get(&tally, target).sqlstate;
}

/* Entries in use, in all buckets. */
static int
used(void)
{
	PpTallyEntry entries[PP_TALLY_WAYS + 1];
	int sum = 0;

	for (int i = 0; i < PP_TALLY_BUCKETS; i++)
		sum += pp_tally_read(&tally, i, entries);
	return sum;
}

static bool
is_parked(Oid target, uint64 items, uint64 bytes)
{
	PpTallyEntry entry = pp_tally_get(&tally, target);

	return entry.parked == items && entry.parked_bytes == bytes;
}

static void
test_pending(void)
{
	PpTallyEntry entry;

	pp_tally_init(&tally);
	entry = pp_tally_get(&tally, ALICE);
	CHECK(entry.target == ALICE && entry.sqlstate == 0 && entry.pending == 0);
	CHECK(is_parked(ALICE, 0, 0));
	pp_tally_add(&tally, ALICE, 5);
	pp_tally_add(&tally, ALICE, 2);
	pp_tally_add(&tally, BOB, 1);
	CHECK(pending(ALICE) == 7);
	CHECK(pending(BOB) == 1);
	pp_tally_settle(&tally, ALICE, 3);
	CHECK(pending(ALICE) == 4);
	CHECK(pending(BOB) == 1);
	CHECK(pp_tally_get(&tally, ALICE).target == ALICE);
	CHECK(!pp_tally_any_parked(&tally));
}

/* Giving back what nobody has does no harm, and takes no entry. */
static void
test_mistakes(void)
{
	pp_tally_init(&tally);
	pp_tally_add(&tally, ALICE, 0);
	pp_tally_settle(&tally, ALICE, 1);
	pp_tally_park(&tally, ALICE, 0, 0);
	pp_tally_park(&tally, ALICE, -1, -1);
	pp_tally_park(&tally, ALICE, INT64_MIN, INT64_MIN);
	pp_tally_set_reason(&tally, ALICE, 0);
	CHECK(used() == 0);
	CHECK(pending(ALICE) == 0);
	CHECK(is_parked(ALICE, 0, 0));

	pp_tally_add(&tally, ALICE, 2);
	pp_tally_settle(&tally, ALICE, PG_UINT64_MAX);
	CHECK(pending(ALICE) == 0);
	pp_tally_park(&tally, ALICE, 2, 100);
	pp_tally_park(&tally, ALICE, -3, -50);
	CHECK(is_parked(ALICE, 0, 50));
	CHECK(pp_tally_parked(&tally) == 0);
	CHECK(!pp_tally_any_parked(&tally));
	pp_tally_park(&tally, ALICE, INT64_MIN, INT64_MIN);
	CHECK(used() == 0);
}

static void
test_free(void)
{
	fill_bucket();
	CHECK(used() == PP_TALLY_WAYS);
	pp_tally_settle(&tally, crowd[3], 1);
	CHECK(used() == PP_TALLY_WAYS - 1);

	/* another one gets it, and the one that had it is nobody now */
	pp_tally_add(&tally, LATE, 7);
	CHECK(used() == PP_TALLY_WAYS);
	CHECK(pending(LATE) == 7);
	CHECK(pending(crowd[3]) == 0);
	CHECK(pending(crowd[2]) == 1 && pending(crowd[4]) == 1);

	/* any count and the reason keep one */
	pp_tally_settle(&tally, LATE, 7);
	pp_tally_park(&tally, LATE, 1, 10);
	CHECK(used() == PP_TALLY_WAYS);
	pp_tally_park(&tally, LATE, -1, 0);
	CHECK(used() == PP_TALLY_WAYS);
	pp_tally_set_reason(&tally, LATE, REASON);
	pp_tally_park(&tally, LATE, 0, -10);
	CHECK(used() == PP_TALLY_WAYS);
	pp_tally_set_reason(&tally, LATE, 0);
	CHECK(used() == PP_TALLY_WAYS - 1);

	/* one that is behind a free entry is found */
	pp_tally_settle(&tally, crowd[0], 1);
	pp_tally_add(&tally, crowd[7], 1);
	CHECK(pending(crowd[7]) == 2);
	CHECK(used() == PP_TALLY_WAYS - 2);
}

static void
test_others(void)
{
	fill_bucket();
	pp_tally_add(&tally, LATE, 10);
	pp_tally_add(&tally, LATER, 20);
	CHECK(used() == PP_TALLY_WAYS + 1);
	CHECK(pending(LATE) == 30);
	CHECK(pp_tally_get(&tally, LATE).target == LATE);
	CHECK(pp_tally_get(&tally, LATER).target == LATER);

	/* those with one of their own are not among them */
	pp_tally_add(&tally, crowd[0], 4);
	CHECK(pending(crowd[0]) == 5);
	pp_tally_settle(&tally, crowd[0], 100);
	CHECK(pending(LATE) == 30);

	/* there is room now, but not for one whose items may be in others */
	CHECK(used() == PP_TALLY_WAYS);
	pp_tally_add(&tally, LATE, 1);
	pp_tally_add(&tally, crowd[0], 1);
	CHECK(used() == PP_TALLY_WAYS);
	CHECK(pending(LATE) == 32);
	pp_tally_settle(&tally, LATE, 11);
	pp_tally_settle(&tally, crowd[0], 1);
	CHECK(pending(LATER) == 20);

	/* until there is nothing in others */
	pp_tally_settle(&tally, LATER, 20);
	CHECK(used() == PP_TALLY_WAYS - 1);
	CHECK(pending(LATER) == 0);
	pp_tally_add(&tally, LATE, 3);
	CHECK(used() == PP_TALLY_WAYS);
	CHECK(pending(LATE) == 3);
	CHECK(pending(LATER) == 0);
	pp_tally_add(&tally, LATER, 1);
	CHECK(pending(LATE) == 3);
	CHECK(pending(LATER) == 1);
}

/* Whatever there is in others keeps it. */
static void
test_others_held(void)
{
	fill_bucket();
	pp_tally_park(&tally, LATE, 1, 10);
	pp_tally_settle(&tally, crowd[0], 1);
	pp_tally_add(&tally, LATE, 1);
	CHECK(pending(LATER) == 1);
	pp_tally_settle(&tally, LATE, 1);
	pp_tally_park(&tally, LATE, -1, 0);
	pp_tally_add(&tally, LATE, 1);
	CHECK(pending(LATER) == 1);
	pp_tally_settle(&tally, LATE, 1);
	pp_tally_set_reason(&tally, LATE, REASON);
	pp_tally_park(&tally, LATE, 0, -10);
	pp_tally_add(&tally, LATE, 1);
	CHECK(pending(LATER) == 1);
	pp_tally_settle(&tally, LATE, 1);
	pp_tally_set_reason(&tally, LATE, 0);
	pp_tally_add(&tally, LATE, 1);
	CHECK(pending(LATER) == 0);
	CHECK(pending(LATE) == 1);
}

static void
test_parked(void)
{
	pp_tally_init(&tally);
	CHECK(!pp_tally_any_parked(&tally));
	pp_tally_park(&tally, ALICE, 3, 300);
	pp_tally_park(&tally, BOB, 1, 50);
	CHECK(pp_tally_any_parked(&tally));
	CHECK(tally.parked_targets == 2);
	CHECK(pp_tally_parked(&tally) == 4);
	CHECK(is_parked(ALICE, 3, 300));
	CHECK(is_parked(BOB, 1, 50));
	pp_tally_park(&tally, ALICE, 2, 200);
	CHECK(tally.parked_targets == 2);
	pp_tally_park(&tally, ALICE, -5, -500);
	CHECK(is_parked(ALICE, 0, 0));
	CHECK(tally.parked_targets == 1);
	CHECK(pp_tally_parked(&tally) == 1);
	pp_tally_park(&tally, BOB, -1, -50);
	CHECK(!pp_tally_any_parked(&tally));
	CHECK(pp_tally_parked(&tally) == 0);
	CHECK(used() == 0);

	/* others count as one */
	fill_bucket();
	for (int i = 0; i < CROWD; i++)
		pp_tally_park(&tally, crowd[i], 1, 10);
	CHECK(tally.parked_targets == PP_TALLY_WAYS + 1);
	CHECK(pp_tally_parked(&tally) == CROWD);
	CHECK(is_parked(LATE, 2, 20));
	for (int i = 0; i < CROWD; i++)
		pp_tally_park(&tally, crowd[i], -1, -10);
	CHECK(!pp_tally_any_parked(&tally));
	CHECK(pp_tally_parked(&tally) == 0);
	CHECK(used() == PP_TALLY_WAYS);
}

static void
test_reasons(void)
{
	pp_tally_init(&tally);
	pp_tally_set_reason(&tally, ALICE, REASON);
	CHECK(reason(ALICE) == REASON);
	CHECK(reason(BOB) == 0);
	CHECK(pp_tally_any_parked(&tally));
	CHECK(pp_tally_parked(&tally) == 0);
	pp_tally_set_reason(&tally, ALICE, ANOTHER);
	CHECK(reason(ALICE) == ANOTHER);
	pp_tally_park(&tally, ALICE, 1, 10);
	CHECK(tally.parked_targets == 1);

	/* one of its own goes when it is taken back, whatever is parked, and not before */
	pp_tally_park(&tally, ALICE, -1, -10);
	CHECK(reason(ALICE) == ANOTHER);
	pp_tally_park(&tally, ALICE, 1, 10);
	pp_tally_set_reason(&tally, ALICE, 0);
	CHECK(reason(ALICE) == 0);
	CHECK(pp_tally_any_parked(&tally));
	pp_tally_park(&tally, ALICE, -1, -10);
	CHECK(!pp_tally_any_parked(&tally));
	CHECK(used() == 0);
}

/* That of others is nobody's alone. */
static void
test_reason_of_others(void)
{
	fill_bucket();
	pp_tally_set_reason(&tally, LATE, REASON);
	CHECK(reason(LATE) == REASON);
	CHECK(reason(crowd[0]) == 0);
	CHECK(tally.parked_targets == 1);
	pp_tally_set_reason(&tally, LATE, 0);
	CHECK(reason(LATE) == 0);
	CHECK(!pp_tally_any_parked(&tally));

	pp_tally_set_reason(&tally, LATE, REASON);
	pp_tally_park(&tally, LATE, 2, 20);
	pp_tally_set_reason(&tally, LATER, 0);
	CHECK(reason(LATE) == REASON);
	pp_tally_set_reason(&tally, LATER, ANOTHER);
	CHECK(reason(LATE) == ANOTHER);
	pp_tally_set_reason(&tally, LATE, 0);
	pp_tally_park(&tally, LATE, -1, -10);
	CHECK(reason(LATE) == ANOTHER);
	pp_tally_park(&tally, LATE, -1, -10);
	CHECK(reason(LATE) == 0);
	CHECK(!pp_tally_any_parked(&tally));
	CHECK(used() == PP_TALLY_WAYS);
}

static void
test_read(void)
{
	PpTallyEntry entries[PP_TALLY_WAYS + 1];

	fill_bucket();
	CHECK(pp_tally_read(&tally, crowded, entries) == PP_TALLY_WAYS);
	CHECK(pp_tally_read(&tally, (crowded + 1) % PP_TALLY_BUCKETS, entries) == 0);
	pp_tally_add(&tally, LATE, 3);
	pp_tally_park(&tally, LATER, 4, 40);
	pp_tally_set_reason(&tally, LATER, REASON);
	CHECK(pp_tally_read(&tally, crowded, entries) == PP_TALLY_WAYS + 1);
	for (int i = 0; i < PP_TALLY_WAYS; i++)
		CHECK(entries[i].target == crowd[i] && entries[i].pending == 1 && entries[i].parked == 0);
	CHECK(entries[PP_TALLY_WAYS].target == InvalidOid);
	CHECK(entries[PP_TALLY_WAYS].sqlstate == REASON);
	CHECK(entries[PP_TALLY_WAYS].pending == 3);
	CHECK(entries[PP_TALLY_WAYS].parked == 4);
	CHECK(entries[PP_TALLY_WAYS].parked_bytes == 40);

	/* free entries are left out */
	pp_tally_settle(&tally, crowd[0], 1);
	CHECK(pp_tally_read(&tally, crowded, entries) == PP_TALLY_WAYS);
	CHECK(entries[0].target == crowd[1]);
	CHECK(entries[PP_TALLY_WAYS - 1].target == InvalidOid);
}

/* Targets in sequence come to lie in all buckets, none of which overflows. */
static void
test_spread(void)
{
	PpTallyEntry entries[PP_TALLY_WAYS + 1];
	int empty = 0;
	int most = 0;

	pp_tally_init(&tally);
	for (Oid i = 0; i < PP_TALLY_BUCKETS; i++)
		pp_tally_add(&tally, ALICE + i, 1);
	for (int i = 0; i < PP_TALLY_BUCKETS; i++)
	{
		int n = pp_tally_read(&tally, i, entries);

		empty += n == 0;
		if (n > most)
			most = n;
	}
	CHECK(used() == PP_TALLY_BUCKETS);
	CHECK(empty < PP_TALLY_BUCKETS / 2);
	CHECK(most <= PP_TALLY_WAYS);
}

static void
test_clear_pending(void)
{
	uint64 added;

	fill_bucket();
	pp_tally_add(&tally, LATE, 5);
	pp_tally_park(&tally, LATER, 2, 20);
	pp_tally_park(&tally, crowd[1], 1, 10);
	pp_tally_set_reason(&tally, crowd[2], REASON);

	/* nothing, if something has been added meanwhile; to settle or to park is not to add */
	added = pp_tally_added(&tally);
	pp_tally_add(&tally, crowd[3], 1);
	pp_tally_clear_pending(&tally, added);
	CHECK(pending(crowd[0]) == 1 && pending(crowd[3]) == 2 && pending(LATE) == 5);
	added = pp_tally_added(&tally);
	pp_tally_add(&tally, crowd[3], 0);
	pp_tally_settle(&tally, crowd[3], 1);
	CHECK(pp_tally_added(&tally) == added);
	pp_tally_clear_pending(&tally, added);
	for (int i = 0; i < CROWD; i++)
		CHECK(pending(crowd[i]) == 0);
	CHECK(used() == 3);
	CHECK(is_parked(LATE, 2, 20));
	CHECK(is_parked(crowd[1], 1, 10));
	CHECK(reason(crowd[2]) == REASON);
	CHECK(tally.parked_targets == 3);
	CHECK(pp_tally_parked(&tally) == 3);
}

static void
test_clear_parked(void)
{
	fill_bucket();
	pp_tally_add(&tally, LATE, 5);
	pp_tally_park(&tally, LATER, 2, 20);
	pp_tally_park(&tally, crowd[1], 1, 10);
	pp_tally_set_reason(&tally, crowd[2], REASON);
	pp_tally_clear_parked(&tally, pp_tally_parks(&tally));
	CHECK(pp_tally_parked(&tally) == 0);
	CHECK(tally.parked_targets == 0);
	CHECK(!pp_tally_any_parked(&tally));
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
		pp_tally_park(&tally, crowd[i], 1, 10);
		pp_tally_set_reason(&tally, crowd[i], REASON);
	}
	pp_tally_reset(&tally);
	CHECK(used() == 0);
	CHECK(!pp_tally_any_parked(&tally));
	CHECK(pp_tally_parked(&tally) == 0);
	CHECK(reason(LATE) == 0 && reason(crowd[0]) == 0);
	pp_tally_add(&tally, LATE, 1);
	CHECK(pending(LATE) == 1 && pending(LATER) == 0);
}

static void
test_count(void)
{
	pp_tally_init(&tally);
	CHECK(!pp_tally_is_counted(&tally));
	CHECK(pp_tally_begin_count(&tally));
	CHECK(!pp_tally_begin_count(&tally));
	CHECK(pp_tally_is_counted(&tally));
	pp_tally_clear_pending(&tally, pp_tally_added(&tally));
	CHECK(pp_tally_is_counted(&tally));
	pp_tally_reset(&tally);
	CHECK(!pp_tally_is_counted(&tally));
	CHECK(pp_tally_begin_count(&tally));
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
	TEST(test_count, "what was there before is counted once");
	return tap_finish();
}
