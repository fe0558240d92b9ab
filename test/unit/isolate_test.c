/*-------------------------------------------------------------------------
 *
 * isolate_test.c
 *	  Does src/worker/isolate.c find just the rows that fail, and what does it cost?
 *
 * A simulated target tells at once of a row that it doesn't take (TOLD), or finds at the end
 * of the statement that it doesn't take all of them (UNTOLD), as it is with a constraint
 * that is checked then; or it refuses a row before any other is tried (ITSELF).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker/isolate.h"
#include "tap.h"

#define N 10000
#define EXHAUSTIVE 9	 /* 4^9 ways ... */
#define KINDS_TOGETHER 4 /* ... of all kinds but the last one */

typedef enum RowKind
{
	GOOD,
	TOLD,
	UNTOLD,
	ITSELF,
	CLOSES /* nor does its target take any other of these */
} RowKind;

typedef struct Cost
{
	uint64 bad;
	uint64 tries;
	uint64 rows; /* that were tried in them, all together */
	uint64 read; /* and those that were handed over with them */
} Cost;

static RowKind kinds[N];
static uint64 limit; /* more rows at a time need more than there is; 0: no limit */

static uint64
log2_up(uint64 n)
{
	uint64 bits = 0;

	while (((uint64) 1 << bits) < n)
		bits++;
	return bits;
}

/* One of these rows, from 1 on, if it is told which one fails. */
static bool
try_fails(uint64 from, uint64 n, uint64 *row)
{
	bool fails = false;

	*row = 0;
	for (uint64 i = 0; i < n; i++)
	{
		if (kinds[from + i] == TOLD || kinds[from + i] == ITSELF || kinds[from + i] == CLOSES)
		{
			*row = i + 1;
			return true;
		}
		fails |= kinds[from + i] == UNTOLD;
	}
	return fails;
}

/* Those that the target doesn't take are gone; how many there were. */
static uint64
close_target(uint64 from, uint64 n)
{
	uint64 end = from;

	for (uint64 i = from; i < n; i++)
	{
		if (kinds[i] != CLOSES)
			kinds[end++] = kinds[i];
	}
	return n - end;
}

/* Insert n rows: the good ones land, once and in their order, and the others are out. */
static Cost
insert_all(uint64 n)
{
	Cost cost = {0};
	uint64 closed = 0;
	uint64 steps = 0;
	PpIsolate iso;

	pp_isolate_begin(&iso, n);
	while (iso.done < iso.n && CHECK(steps++ < 8 * n + 64))
	{
		uint64 from = iso.done;
		uint64 width = pp_isolate_next(&iso);
		uint64 row = 0;

		if (!CHECK(width > 0 && width <= n - from))
			break;
		if (pp_isolate_is_known(&iso))
		{
			CHECK(kinds[from] != GOOD);
			cost.bad++;
			pp_isolate_out(&iso);
			continue;
		}
		cost.tries++;
		cost.read += width;
		if (limit > 0 && width > limit)
		{
			cost.rows += limit;
			pp_isolate_narrow(&iso, width);
			continue;
		}
		if (!try_fails(from, width, &row))
		{
			cost.rows += width;
			pp_isolate_passed(&iso, width);
			continue;
		}
		cost.rows += row > 0 ? row : width;
		if (row > 0 && kinds[from + row - 1] == CLOSES)
		{
			uint64 gone = close_target(from, n - closed);

			closed += gone;
			pp_isolate_drop(&iso, gone);
		}
		else if (width > 1 && row > 0 && kinds[from + row - 1] == ITSELF)
		{
			memmove(&kinds[from + row - 1], &kinds[from + row],
					(n - closed - from - row) * sizeof(RowKind));
			closed++;
			cost.bad++;
			pp_isolate_take_out(&iso, row);
		}
		else if (width > 1)
			pp_isolate_failed(&iso, width, row);
		else
		{
			cost.bad++;
			pp_isolate_out(&iso);
		}
		CHECK(iso.done >= from && iso.done <= from + width);
	}
	CHECK(iso.done == n - closed && pp_isolate_next(&iso) == 0);
	return cost;
}

static void
all_good(void)
{
	for (uint64 i = 0; i < N; i++)
		kinds[i] = GOOD;
	limit = 0;
}

static uint64 seed;

static uint64
random_below(uint64 n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (seed >> 33) % n;
}

typedef enum Pattern
{
	APART, /* as far as can be */
	FIRST,
	LAST,
	MIDDLE,
	SCATTERED,
	PATTERNS = SCATTERED + 20 /* each of them another way */
} Pattern;

static void
make_bad(uint64 k, RowKind kind, Pattern pattern)
{
	all_good();
	seed = (uint64) pattern + 1;
	for (uint64 i = 0; i < k; i++)
	{
		uint64 at = pattern == APART	? i * N / k + N / k / 2
					: pattern == FIRST	? i
					: pattern == LAST	? N - 1 - i
					: pattern == MIDDLE ? (N - k) / 2 + i
										: random_below(N);

		while (kinds[at] != GOOD)
			at = (at + 1) % N;
		kinds[at] = kind;
	}
}

static Cost
worst_of(uint64 k, RowKind kind)
{
	Cost worst = {0};

	for (int pattern = 0; pattern < PATTERNS; pattern++)
	{
		Cost cost;

		make_bad(k, kind, (Pattern) pattern);
		cost = insert_all(N);
		CHECK(cost.bad == k);
		worst.tries = Max(worst.tries, cost.tries);
		worst.rows = Max(worst.rows, cost.rows);
		worst.read = Max(worst.read, cost.read);
	}
	printf("# %d of %d bad, %s: at most %d tries of %.2f times the rows; %.2f times read\n",
		   (int) k, N,
		   kind == TOLD		? "told"
		   : kind == ITSELF ? "by itself"
							: "not told",
		   (int) worst.tries, (double) worst.rows / N, (double) worst.read / N);
	return worst;
}

static uint64
most_tries(uint64 n, uint64 k)
{
	return 2 * k * (log2_up(n) + 1) + 2;
}

/* ---- tests ---- */

static void
test_clean(void)
{
	Cost cost;

	all_good();
	for (uint64 n = 0; n <= 100; n++)
	{
		cost = insert_all(n);
		CHECK(cost.tries == (n > 0) && cost.rows == n && cost.bad == 0);
	}
	cost = insert_all(N);
	CHECK(cost.tries == 1);
}

static void
test_told(void)
{
	static const uint64 few[] = {1, 10, 100, 1000};

	for (uint64 i = 0; i < lengthof(few); i++)
	{
		Cost cost = worst_of(few[i], TOLD);

		CHECK(cost.tries <= 2 * few[i] + log2_up(N) + 1);
		CHECK(cost.rows <= 3 * N);
	}
}

static void
test_by_itself(void)
{
	static const uint64 few[] = {1, 10, 100, 1000, N};

	for (uint64 i = 0; i < lengthof(few); i++)
	{
		Cost cost = worst_of(few[i], ITSELF);

		CHECK(cost.tries <= few[i] + few[i] / 8 + log2_up(N) + 1);
		CHECK(cost.read <= 100 * N);
	}
}

static void
test_untold(void)
{
	static const uint64 few[] = {1, 10, 100, 1000};

	for (uint64 i = 0; i < lengthof(few); i++)
	{
		Cost cost = worst_of(few[i], UNTOLD);

		CHECK(cost.tries <= most_tries(N, few[i]));
		CHECK(cost.rows <= 3 * N);
	}
}

static void
test_all_bad(void)
{
	Cost told = worst_of(N, TOLD);
	Cost untold = worst_of(N, UNTOLD);

	CHECK(told.tries <= N + N / 100);
	CHECK(untold.tries <= N + N / 100);
	CHECK(told.rows <= N + N / 100);
	CHECK(untold.rows <= 3 * N);
}

/* Every way in which a few rows may be good, told or not told. */
static void
test_every_way(void)
{
	uint64 ways = 1;

	all_good();
	for (uint64 n = 1; n <= EXHAUSTIVE; n++)
	{
		ways *= KINDS_TOGETHER;
		for (uint64 way = 0; way < ways && !tap_test_failed(); way++)
		{
			uint64 rest = way;
			uint64 k = 0;
			Cost cost;

			for (uint64 i = 0; i < n; i++, rest /= KINDS_TOGETHER)
			{
				kinds[i] = (RowKind) (rest % KINDS_TOGETHER);
				k += kinds[i] != GOOD;
			}
			cost = insert_all(n);
			CHECK(cost.bad == k);
			CHECK(cost.tries <= most_tries(n, k));
		}
	}
}

/* What there is enough of for a few rows only: so they are tried a few at a time. */
static void
test_limit(void)
{
	for (limit = 1; limit <= N; limit *= 10)
	{
		uint64 now = limit;
		Cost cost;

		all_good();
		limit = now;
		cost = insert_all(N);
		printf("# %d at a time: %d tries of %.2f times the rows\n", (int) limit, (int) cost.tries,
			   (double) cost.rows / N);
		CHECK(cost.bad == 0);
		CHECK(cost.tries <= 4 * N / limit + log2_up(N));
	}
	limit = 0;
}

/* A target that takes none of its rows, among others. */
static void
test_closed_target(void)
{
	for (uint64 every = 1; every <= 1000; every *= 10)
	{
		Cost cost;

		make_bad(10, UNTOLD, SCATTERED);
		for (uint64 i = 0; i < N; i += every)
			kinds[i] = CLOSES;
		cost = insert_all(N);
		CHECK(cost.bad <= 10);
		CHECK(every > 1 || cost.tries == 1);
	}
}

/* One bad row, or two, wherever they are among more rows than that. */
static void
test_every_place(void)
{
	static const uint64 sizes[] = {13, 16, 17, 50, 64, 100, 200};

	all_good();
	for (uint64 i = 0; i < lengthof(sizes); i++)
	{
		uint64 n = sizes[i];

		for (uint64 one = 0; one < n; one++)
		{
			for (uint64 other = one; other < n; other++)
			{
				uint64 k = other > one ? 2 : 1;
				Cost cost;

				kinds[one] = kinds[other] = UNTOLD;
				cost = insert_all(n);
				CHECK(cost.bad == k);
				CHECK(cost.tries <= most_tries(n, k));
				CHECK(cost.rows <= 3 * n + 2 * log2_up(n));
				kinds[one] = kinds[other] = GOOD;
			}
		}
	}
}

int
main(void)
{
	tap_start();
	TEST(test_clean, "a batch without bad rows is one try");
	TEST(test_told, "bad rows that are told");
	TEST(test_by_itself, "bad rows that fail whatever the others do");
	TEST(test_untold, "bad rows that are not told");
	TEST(test_all_bad, "where all are bad, it takes one try a row");
	TEST(test_every_way, "every way in which a few rows can be bad");
	TEST(test_every_place, "one bad row or two, in every place");
	TEST(test_limit, "where there is enough for a few rows only");
	TEST(test_closed_target, "a target that takes none of its rows");
	return tap_finish();
}
