/*-------------------------------------------------------------------------
 *
 * linger_test.c
 *	  What src/worker/linger.c does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "tap.h"
#include "worker/linger.h"

#define NONE PG_INT64_MAX
#define HOUR INT64_C(3600000000)

static const PpLinger last = {.began = 1300, .took = 300};

static void
test_first(void)
{
	PpLinger none = {0};

	CHECK(pp_linger_until(&none, 5000, HOUR, true) <= 5000);
	CHECK(pp_linger_until(&none, NONE, HOUR, true) <= 5000);
}

static void
test_learned(void)
{
	CHECK(pp_linger_until(&last, 1100, HOUR, true) == 4300);
	CHECK(pp_linger_until(&last, 4299, HOUR, true) == 4300);
	CHECK(pp_linger_until(&last, NONE, HOUR, true) == 4300);
	/* after quiet it is over */
	CHECK(pp_linger_until(&last, 9000, HOUR, true) <= 9000);
}

static void
test_bounded(void)
{
	/* by the last batch's beginning, and by the oldest item, which came before that */
	CHECK(pp_linger_until(&last, NONE, 2000, true) == 3300);
	CHECK(pp_linger_until(&last, 1100, 2000, true) == 3100);
	CHECK(pp_linger_until(&last, 1400, 2000, true) == 3300);
	CHECK(pp_linger_until(&last, 1100, 0, true) == 1100);
	CHECK(pp_linger_until(&last, NONE, 0, true) == 1300);

	/* for any time that a batch took, and any item that waits */
	for (int64 took = 0; took < 100000; took += 700)
		for (int64 oldest = 0; oldest < 200000; oldest += 1100)
			for (int64 longest = 0; longest <= 100000; longest += 50000)
			{
				PpLinger batch = {.began = 50000, .took = took};
				int64 until = pp_linger_until(&batch, oldest, longest, true);

				CHECK(until <= oldest + longest);
				CHECK(until <= batch.began + longest);
				CHECK(until - batch.began <= took * PP_LINGER_BATCHES);
			}
}

static void
test_fixed(void)
{
	CHECK(pp_linger_until(&last, 1100, 2000, false) == 3100);
	CHECK(pp_linger_until(&last, 9000, HOUR, false) == 9000 + HOUR);
	CHECK(pp_linger_until(&last, 9000, 0, false) == 9000);
	CHECK(pp_linger_until(&last, NONE, HOUR, false) == NONE);
}

int
main(void)
{
	tap_start();
	TEST(test_first, "without a batch before it an item is written at once");
	TEST(test_learned, "a batch begins ten times as long after the one before as that took");
	TEST(test_bounded, "never longer than flush_interval, nor does an item");
	TEST(test_fixed, "without adaptive_flush an item waits for flush_interval");
	return tap_finish();
}
