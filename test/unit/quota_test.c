/*-------------------------------------------------------------------------
 *
 * quota_test.c
 *	  What src/ring/quota.c does, one step after the other.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ring/quota.h"
#include "tap.h"

#define ALICE 10
#define BOB 11
#define OTHERS 1000 /* and more */

static PpQuota quota;

static PpQuotaResult
take(Oid role, uint64 bytes)
{
	return pp_quota_charge(&quota, PP_STORE_JOURNAL, role, bytes, 1000, 600);
}

static void
give(Oid role, uint64 bytes)
{
	pp_quota_give(&quota, PP_STORE_JOURNAL, role, bytes);
}

static uint64
charged(void)
{
	return pp_quota_charged(&quota, PP_STORE_JOURNAL);
}

static uint64
held_by(Oid role)
{
	return pp_quota_charged_to(&quota, PP_STORE_JOURNAL, role);
}

static void
test_limits(void)
{
	pp_quota_init(&quota, NULL);
	CHECK(take(ALICE, 600) == PP_QUOTA_CHARGED);
	CHECK(take(ALICE, 1) == PP_QUOTA_GREEDY);
	CHECK(take(BOB, 400) == PP_QUOTA_CHARGED);
	CHECK(take(BOB, 1) == PP_QUOTA_FULL);
	CHECK(charged() == 1000);
	CHECK(held_by(ALICE) == 600);
	CHECK(held_by(BOB) == 400);
	CHECK(pp_quota_greatest(&quota, PP_STORE_JOURNAL).role == ALICE);
	CHECK(pp_quota_greatest(&quota, PP_STORE_RING).charged[PP_STORE_RING] == 0);
	give(ALICE, 600);
	CHECK(pp_quota_greatest(&quota, PP_STORE_JOURNAL).role == BOB);
	CHECK(pp_quota_greatest(&quota, PP_STORE_JOURNAL).charged[PP_STORE_JOURNAL] == 400);
	CHECK(take(BOB, 200) == PP_QUOTA_CHARGED);
	CHECK(take(BOB, 1) == PP_QUOTA_GREEDY);
	CHECK(take(ALICE, 2000) == PP_QUOTA_FULL);
	CHECK(take(ALICE, PG_UINT64_MAX) == PP_QUOTA_FULL);
	CHECK(charged() == 600);
}

static void
test_stores(void)
{
	pp_quota_init(&quota, NULL);
	CHECK(take(ALICE, 600) == PP_QUOTA_CHARGED);
	CHECK(pp_quota_charge(&quota, PP_STORE_RING, ALICE, 5, 1000, 600) == PP_QUOTA_CHARGED);
	CHECK(pp_quota_charged(&quota, PP_STORE_RING) == 5);
	CHECK(charged() == 600);
	give(ALICE, 600);
	CHECK(pp_quota_charged_to(&quota, PP_STORE_RING, ALICE) == 5);
}

/* To ask takes nothing. */
static void
test_ask(void)
{
	pp_quota_init(&quota, NULL);
	CHECK(pp_quota_ask(&quota, PP_STORE_JOURNAL, ALICE, 600, 1000, 600) == PP_QUOTA_CHARGED);
	CHECK(charged() == 0);
	CHECK(take(ALICE, 600) == PP_QUOTA_CHARGED);
	CHECK(pp_quota_ask(&quota, PP_STORE_JOURNAL, ALICE, 1, 1000, 600) == PP_QUOTA_GREEDY);
	CHECK(pp_quota_ask(&quota, PP_STORE_JOURNAL, BOB, 401, 1000, 600) == PP_QUOTA_FULL);
	CHECK(pp_quota_ask(&quota, PP_STORE_JOURNAL, BOB, 400, 1000, 600) == PP_QUOTA_CHARGED);
	CHECK(charged() == 600 && held_by(BOB) == 0);
}

/* What has been counted elsewhere takes the place of what was thought. */
static void
test_assign(void)
{
	static PpQuota counts;
	uint64 takes;

	pp_quota_init(&quota, NULL);
	pp_quota_init(&counts, NULL);
	CHECK(pp_quota_charge(&quota, PP_STORE_LETTERS, ALICE, 5, 1000, 600) == PP_QUOTA_CHARGED);
	CHECK(pp_quota_charge(&counts, PP_STORE_LETTERS, ALICE, 2, 1000, 600) == PP_QUOTA_CHARGED);
	CHECK(pp_quota_charge(&counts, PP_STORE_LETTERS, BOB, 1, 1000, 600) == PP_QUOTA_CHARGED);
	CHECK(!pp_quota_is_counted(&quota));

	/* but not of what has been taken while it was counted */
	takes = pp_quota_charges(&quota);
	CHECK(pp_quota_charge(&quota, PP_STORE_LETTERS, BOB, 1, 1000, 600) == PP_QUOTA_CHARGED);
	pp_quota_assign(&quota, &counts, takes);
	CHECK(!pp_quota_is_counted(&quota));
	CHECK(pp_quota_charged(&quota, PP_STORE_LETTERS) == 6);

	pp_quota_assign(&quota, &counts, pp_quota_charges(&quota));
	CHECK(pp_quota_is_counted(&quota));
	CHECK(pp_quota_charged(&quota, PP_STORE_LETTERS) == 3);
	CHECK(pp_quota_charged_to(&quota, PP_STORE_LETTERS, ALICE) == 2);
	CHECK(pp_quota_charged_to(&quota, PP_STORE_LETTERS, BOB) == 1);
}

/* Giving back what nobody has does no harm. */
static void
test_mistakes(void)
{
	pp_quota_init(&quota, NULL);
	give(ALICE, 100);
	CHECK(charged() == 0);
	CHECK(take(ALICE, 50) == PP_QUOTA_CHARGED);
	give(ALICE, 100);
	CHECK(charged() == 0 && held_by(ALICE) == 0);
	CHECK(take(ALICE, 600) == PP_QUOTA_CHARGED);
	pp_quota_clear(&quota);
	CHECK(charged() == 0 && held_by(ALICE) == 0);
}

/* More roles than shares: the rest has one together. */
static void
test_many_roles(void)
{
	pp_quota_init(&quota, NULL);
	for (Oid i = 0; i < PP_QUOTA_ROLES - 1; i++)
		CHECK(take(OTHERS + i, 1) == PP_QUOTA_CHARGED);
	CHECK(take(ALICE, 300) == PP_QUOTA_CHARGED);
	CHECK(take(BOB, 300) == PP_QUOTA_CHARGED);
	CHECK(take(BOB, 1) == PP_QUOTA_GREEDY);
	CHECK(held_by(BOB) == 600);

	/* who gets one of its own gives back what it has of the rest, too */
	give(OTHERS, 1);
	CHECK(take(ALICE, 10) == PP_QUOTA_CHARGED);
	CHECK(held_by(ALICE) == 10);
	give(ALICE, 310);
	CHECK(held_by(ALICE) == 0);
	give(BOB, 300);
	CHECK(charged() == PP_QUOTA_ROLES - 2);
	CHECK(held_by(BOB) == 0);
}

static void
test_count(void)
{
	pp_quota_init(&quota, NULL);
	CHECK(!pp_quota_is_counted(&quota));
	CHECK(pp_quota_begin_count(&quota));
	CHECK(!pp_quota_begin_count(&quota));
	CHECK(pp_quota_is_counted(&quota));
	pp_quota_reset(&quota);
	CHECK(pp_quota_begin_count(&quota));
}

int
main(void)
{
	tap_start();
	TEST(test_limits, "there is a limit of all and a share of each");
	TEST(test_stores, "ring and journal are counted apart");
	TEST(test_ask, "to ask takes nothing");
	TEST(test_assign, "a count takes the place of what was thought");
	TEST(test_mistakes, "what is given back by mistake counts as nothing");
	TEST(test_many_roles, "more roles than shares");
	TEST(test_count, "what was there before is counted once");
	return tap_finish();
}
