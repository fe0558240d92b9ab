/*-------------------------------------------------------------------------
 *
 * ring_test.c
 *	  What src/ring/ring*.c do, one step after the other.  ring_threads_test.c has
 *	  the tests in which threads run against each other; where the exact point
 *	  at which another party gets in between matters, the test is here, and
 *	  places that party with shim_spin_hook.
 *
 * Some tests set or read fields of the ring directly: only to get to a position
 * that would take too long to reach, or to look at bytes nobody should touch.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ring_util.h"

#define UNIT PP_RING_ALIGN
#define NEVER PG_UINT64_MAX

/*
 * An empty ring whose next entry comes at this position.  Unlike a new one it
 * doesn't call for a worker.
 */
static PpRing *
ring_new_at(uint64 size, uint64 position)
{
	PpRing *ring = ring_new(size);

	CHECK(arm(ring, NEVER, NEVER));

	ring->head = position;
	ring->tail = position;
	return ring;
}

/* A BUSY entry of so many units, header included. */
static uint64
begin_units(PpRing *ring, uint64 units, uint32 items)
{
	CHECK(pp_ring_reserve(ring, GENERATION, units * UNIT, false) == PP_RESERVED);
	return ring_begin(ring, 1, items, (units - 1) * UNIT, 0);
}

/* A READY one; nobody is to be woken by it. */
static uint64
publish_units(PpRing *ring, uint64 units, uint32 items)
{
	uint64 at = begin_units(ring, units, items);

	CHECK(!pp_ring_publish(ring, at));
	return at;
}

/* How many entries from a position on the worker can take, one after the other. */
static int
walk(PpRing *ring, uint64 at)
{
	uint64 end = pp_ring_view(ring).tail;
	int n = 0;
	PpEntry *entry;

	/* a broken ring may have no end; there can't be more entries than units */
	while (n <= (int) (ring->size / UNIT) && (entry = pp_ring_take(ring, at, end)) != NULL)
	{
		at += entry->bytes;
		n++;
	}
	return n;
}

static bool
views_equal(PpRingView a, PpRingView b)
{
	return a.closed == b.closed && a.head == b.head && a.tail == b.tail &&
		   a.reserved == b.reserved && a.peak == b.peak && a.published == b.published &&
		   a.settled == b.settled;
}

static void
test_sizes(void)
{
	PpRing *ring;

	CHECK(pp_ring_entry_bytes(0) == UNIT);
	CHECK(pp_ring_entry_bytes(1) == 2 * UNIT);
	CHECK(pp_ring_entry_bytes(UNIT - 1) == 2 * UNIT);
	CHECK(pp_ring_entry_bytes(UNIT) == 2 * UNIT);
	CHECK(pp_ring_entry_bytes(UNIT + 1) == 3 * UNIT);
	CHECK(pp_ring_entry_bytes(UINT64_C(5) << 32) == (UINT64_C(5) << 32) + UNIT);

	ring = ring_new_at(10 * UNIT, 0);
	CHECK(ring->data + 10 * UNIT == (char *) ring + pp_ring_memory(10 * UNIT));
	for (uint64 at = 0; at < 30 * UNIT; at += UNIT)
	{
		CHECK((uintptr_t) pp_ring_entry(ring, at) % UNIT == 0);
		CHECK((char *) pp_ring_entry(ring, at) == ring->data + at % (10 * UNIT));
	}
	free(ring);
}

static void
test_empty(void)
{
	PpRing *ring = ring_new(4 * UNIT);
	PpRingView view = ring_check(ring);

	CHECK(!view.closed);
	CHECK(view.head == 0 && view.tail == 0 && view.reserved == 0);
	CHECK(view.peak == 0 && view.published == 0 && view.settled == 0);
	CHECK(pp_ring_take(ring, 0, 0) == NULL);

	pp_ring_free(ring, 0);
	CHECK(views_equal(ring_check(ring), view));

	/* nobody has taken it up yet: the first entry calls for a worker, once */
	CHECK(pp_ring_publish(ring, begin_units(ring, 1, 1)));
	CHECK(!pp_ring_publish(ring, begin_units(ring, 1, 1)));
	free(ring);
}

/*
 * Of an earlier lap, entries lie in the memory that look READY or DONE.  What
 * counts is the tail.
 */
static void
test_stale_laps(void)
{
	PpRing *ring = ring_new_at(4 * UNIT, 0);
	PpRingView view;

	for (int state = PP_ENTRY_READY; state <= PP_ENTRY_DONE; state++)
	{
		for (uint64 offset = 0; offset < ring->size; offset += UNIT)
		{
			PpEntry *entry = pp_ring_entry(ring, offset);

			pg_atomic_init_u32(&entry->state, (uint32) state);
			entry->bytes = UNIT;
			entry->items = 1;
		}
		view = ring_check(ring);
		CHECK(pp_ring_take(ring, view.tail, view.tail) == NULL);
		CHECK(pp_ring_take(ring, view.tail + UNIT, view.tail) == NULL);
		pp_ring_free(ring, 0);
		CHECK(views_equal(ring_check(ring), view));

		/* nor does free run on behind the one that is there */
		pp_ring_settle(ring, publish_units(ring, 1, 1), 1);
		pp_ring_free(ring, 1);
		CHECK(ring_check(ring).head == view.tail + UNIT);
	}

	/* an end that was seen earlier hides what came since */
	view = ring_check(ring);
	publish_units(ring, 1, 1);
	CHECK(pp_ring_take(ring, view.tail, view.tail) == NULL);
	CHECK(walk(ring, view.tail) == 1);
	free(ring);
}

static void
test_header(void)
{
	PpRing *ring = ring_new_at(8 * UNIT, 0);
	PpRingView before;
	PpRingView after;
	PpEntry expected;
	uint64 at;
	PpEntry *entry;

	publish_units(ring, 2, 1);
	CHECK(pp_ring_reserve(ring, GENERATION, 4 * UNIT, false) == PP_RESERVED);
	before = ring_check(ring);
	at = ring_begin(ring, 4000000001u, 7, 2 * UNIT - 3, INT64_C(-8000000000000000));
	after = ring_check(ring);
	CHECK(at == before.tail);
	CHECK(after.tail == at + 3 * UNIT);
	CHECK(after.reserved == UNIT);
	CHECK(after.published == 1);

	entry = pp_ring_entry(ring, at);
	CHECK(pg_atomic_read_u32(&entry->state) == PP_ENTRY_BUSY);
	CHECK(entry->role == 4000000001u);
	CHECK(entry->bytes == 3 * UNIT);
	CHECK(entry->length == 2 * UNIT - 3);
	CHECK(entry->items == 7);
	CHECK(entry->settled == 0);
	CHECK(entry->published_at == INT64_C(-8000000000000000));

	/* from here on, state and settled alone change */
	memcpy(&expected, entry, sizeof(PpEntry));
	expected.state.value = PP_ENTRY_READY;
	CHECK(!pp_ring_publish(ring, at));
	CHECK(memcmp(&expected, entry, sizeof(PpEntry)) == 0);
	CHECK(ring_check(ring).published == 8);
	CHECK(pp_ring_take(ring, at, after.tail) == entry);
	CHECK(memcmp(&expected, entry, sizeof(PpEntry)) == 0);

	expected.settled = 6;
	pp_ring_settle(ring, at, 6);
	CHECK(memcmp(&expected, entry, sizeof(PpEntry)) == 0);

	expected.settled = 7;
	expected.state.value = PP_ENTRY_DONE;
	pp_ring_settle(ring, at, 1);
	CHECK(memcmp(&expected, entry, sizeof(PpEntry)) == 0);
	free(ring);
}

/*
 * One entry with a payload of this length, at this position of an empty ring:
 * written as two pieces, the later one first, and read in both ways.  No other
 * byte of the ring may change.
 */
static void
one_payload(PpRing *ring, uint64 position, uint64 length, uint64 split)
{
	uint64 start = (position + UNIT) % ring->size;
	uint32 seed = (uint32) (position + length + split);
	char *payload = malloc(length); /* of exactly its length, for ASan */
	char *copy = malloc(length);
	char *image = malloc(ring->size);
	const char *contiguous;
	PpEntry *entry;
	PpRingView view;

	ring->head = position;
	ring->tail = position;
	memset(ring->data, GARBAGE, ring->size);
	memset(image, GARBAGE, ring->size);
	pattern_fill(payload, seed, length);
	for (uint64 i = 0; i < length; i++)
		image[(start + i) % ring->size] = payload[i];

	CHECK(pp_ring_reserve(ring, GENERATION, pp_ring_entry_bytes(length), false) == PP_RESERVED);
	CHECK(ring_begin(ring, 1, 1, length, 0) == position);
	pp_ring_write(ring, position, split, payload + split, length - split);
	pp_ring_write(ring, position, 0, payload, split);
	CHECK(!pp_ring_publish(ring, position));
	view = ring_check(ring);
	CHECK(view.tail == position + pp_ring_entry_bytes(length));
	CHECK(view.reserved == 0);

	entry = pp_ring_take(ring, position, view.tail);
	CHECK(entry == pp_ring_entry(ring, position));
	memcpy(image + position % ring->size, ring->data + position % ring->size, UNIT);
	CHECK(memcmp(image, ring->data, ring->size) == 0);

	contiguous = pp_ring_contiguous(ring, position);
	if (start + length > ring->size)
		CHECK(contiguous == NULL);
	else
		CHECK(contiguous == ring->data + start && memcmp(contiguous, payload, length) == 0);
	pp_ring_read(ring, position, copy);
	CHECK(memcmp(copy, payload, length) == 0);
	CHECK(memcmp(image, ring->data, ring->size) == 0);

	pp_ring_settle(ring, position, 1);
	pp_ring_free(ring, 1);
	view = ring_check(ring);
	CHECK(view.head == view.tail);

	free(payload);
	free(copy);
	free(image);
}

static void
test_wrap(void)
{
	static const uint64 units[] = {1, 2, 3, 5, 8, 11};

	for (int i = 0; i < (int) lengthof(units); i++)
	{
		uint64 size = units[i] * UNIT;
		PpRing *ring = ring_new_at(size, 0);

		/* the second lap is beyond what 32 bits hold */
		for (int far = 0; far < 2; far++)
		{
			uint64 lap = far * (UINT64_C(1) << 34) / size * size;

			for (uint64 offset = 0; offset < size; offset += UNIT)
			{
				for (uint64 length = 0; length <= size - UNIT; length++)
					one_payload(ring, lap + offset, length, 0);
			}
		}
		free(ring);
	}
}

static void
test_pieces(void)
{
	PpRing *ring = ring_new_at(4 * UNIT, 0);

	for (uint64 offset = 0; offset < ring->size; offset += UNIT)
	{
		for (uint64 length = 0; length <= ring->size - UNIT; length++)
		{
			for (uint64 split = 0; split <= length; split++)
				one_payload(ring, offset, length, split);
		}
	}
	free(ring);
}

/*
 * With so many units in entries and so many promised: the rest can be reserved,
 * and not one unit more.
 */
static void
fill(uint64 size, uint64 offset, uint64 taken, uint64 promised)
{
	PpRing *ring = ring_new_at(size, offset);
	uint64 room = size - taken - promised;
	PpRingView before;
	uint64 at = offset;

	if (taken > 0)
		at = publish_units(ring, taken / UNIT, 1);
	if (promised > 0)
		CHECK(pp_ring_reserve(ring, GENERATION, promised, false) == PP_RESERVED);

	before = ring_check(ring);
	CHECK(pp_ring_reserve(ring, GENERATION, room + UNIT, false) == PP_RING_FULL);
	CHECK(pp_ring_reserve(ring, GENERATION, room + UNIT, true) == PP_RING_FULL);
	CHECK(pp_ring_reserve(ring, GENERATION, size + UNIT, false) == PP_RING_FULL);
	CHECK(pp_ring_reserve(ring, GENERATION, PG_UINT64_MAX / UNIT * UNIT, false) == PP_RING_FULL);
	CHECK(views_equal(ring_check(ring), before));

	CHECK(pp_ring_reserve(ring, GENERATION, room, false) == PP_RESERVED);
	CHECK(ring_check(ring).reserved == promised + room);
	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, false) == PP_RING_FULL);

	/* what isn't used is there again */
	CHECK(!pp_ring_release(ring, room, true));
	CHECK(pp_ring_reserve(ring, GENERATION, room + UNIT, false) == PP_RING_FULL);
	CHECK(pp_ring_reserve(ring, GENERATION, room, false) == PP_RESERVED);

	/* and so is what was freed, but not what is merely settled */
	if (taken > 0)
	{
		pp_ring_settle(ring, at, 1);
		CHECK(pp_ring_reserve(ring, GENERATION, UNIT, false) == PP_RING_FULL);
		pp_ring_free(ring, 1);
		CHECK(pp_ring_reserve(ring, GENERATION, taken + UNIT, false) == PP_RING_FULL);
		CHECK(pp_ring_reserve(ring, GENERATION, taken, false) == PP_RESERVED);
		CHECK(pp_ring_reserve(ring, GENERATION, UNIT, false) == PP_RING_FULL);
	}

	/* all of that promise can be kept */
	for (uint64 kept = 0; kept < size; kept += UNIT)
		CHECK(!pp_ring_publish(ring, ring_begin(ring, 1, 1, 0, 0)));
	CHECK(ring_check(ring).reserved == 0);
	CHECK(walk(ring, ring_check(ring).head) >= 1);
	CHECK(ring_check(ring).tail - ring_check(ring).head == size);
	free(ring);
}

static void
test_full(void)
{
	uint64 size = 6 * UNIT;

	for (uint64 offset = 0; offset < size; offset += UNIT)
	{
		for (uint64 taken = 0; taken <= size; taken += UNIT)
		{
			for (uint64 promised = 0; promised <= size - taken; promised += UNIT)
				fill(size, offset, taken, promised);
		}
	}
}

/* A ring that stays nearly full for many laps: each free makes its own room. */
static void
test_full_laps(void)
{
	PpRing *ring = ring_new_at(7 * UNIT, 0);
	uint64 oldest = 0;

	for (int i = 0; i < 3; i++)
		publish_units(ring, 2, 1);
	for (int i = 0; i < 1000; i++)
	{
		CHECK(pp_ring_reserve(ring, GENERATION, 2 * UNIT, false) == PP_RING_FULL);
		CHECK(pp_ring_take(ring, oldest, ring_check(ring).tail) != NULL);
		pp_ring_settle(ring, oldest, 1);
		pp_ring_free(ring, 1);
		oldest += 2 * UNIT;
		CHECK(ring_check(ring).head == oldest);
		CHECK(publish_units(ring, 2, 1) == oldest + 4 * UNIT);
		CHECK(walk(ring, oldest) == 3);
	}
	CHECK(ring_check(ring).published == 1003);
	CHECK(ring_check(ring).settled == 1000);
	free(ring);
}

static void
test_credits(void)
{
	PpRing *ring = ring_new_at(10 * UNIT, 0);

	/* two transactions; one aborts, one uses less than it asked for */
	CHECK(pp_ring_reserve(ring, GENERATION, 4 * UNIT, false) == PP_RESERVED);
	CHECK(pp_ring_reserve(ring, GENERATION, 6 * UNIT, false) == PP_RESERVED);
	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, false) == PP_RING_FULL);
	CHECK(!pp_ring_release(ring, 4 * UNIT, true));
	CHECK(ring_check(ring).reserved == 6 * UNIT);
	CHECK(ring_check(ring).tail == 0);

	CHECK(ring_begin(ring, 1, 1, 1, 0) == 0);
	CHECK(ring_check(ring).reserved == 4 * UNIT);
	CHECK(ring_begin(ring, 2, 1, UNIT + 1, 0) == 2 * UNIT);
	CHECK(ring_check(ring).reserved == UNIT);
	CHECK(!pp_ring_release(ring, UNIT, true));
	CHECK(ring_check(ring).reserved == 0);
	CHECK(ring_check(ring).tail == 5 * UNIT);

	/* exactly what isn't taken is there */
	CHECK(pp_ring_reserve(ring, GENERATION, 6 * UNIT, false) == PP_RING_FULL);
	CHECK(pp_ring_reserve(ring, GENERATION, 5 * UNIT, false) == PP_RESERVED);
	CHECK(!pp_ring_release(ring, 5 * UNIT, true));

	/* credits that come and go leave nothing behind */
	for (int i = 0; i < 1000; i++)
	{
		CHECK(pp_ring_reserve(ring, GENERATION, 5 * UNIT, false) == PP_RESERVED);
		ring_check(ring);
		CHECK(!pp_ring_release(ring, 2 * UNIT, true));
		CHECK(!pp_ring_release(ring, 3 * UNIT, true));
	}
	CHECK(ring_check(ring).reserved == 0);
	free(ring);
}

static void
test_peak(void)
{
	PpRing *ring = ring_new_at(10 * UNIT, 0);
	uint64 at;

	CHECK(pp_ring_reserve(ring, GENERATION, 3 * UNIT, false) == PP_RESERVED);
	CHECK(ring_check(ring).peak == 3 * UNIT);
	CHECK(!pp_ring_release(ring, 3 * UNIT, true));
	CHECK(ring_check(ring).peak == 3 * UNIT);

	/* a credit that becomes an entry isn't counted twice */
	at = publish_units(ring, 2, 1);
	CHECK(ring_check(ring).peak == 3 * UNIT);
	CHECK(pp_ring_reserve(ring, GENERATION, 9 * UNIT, false) == PP_RING_FULL);
	CHECK(ring_check(ring).peak == 3 * UNIT);
	CHECK(pp_ring_reserve(ring, GENERATION, 5 * UNIT, false) == PP_RESERVED);
	CHECK(ring_check(ring).peak == 7 * UNIT);
	CHECK(!pp_ring_release(ring, 5 * UNIT, true));
	pp_ring_settle(ring, at, 1);
	pp_ring_free(ring, 1);
	CHECK(ring_check(ring).peak == 7 * UNIT);

	CHECK(pp_ring_reserve(ring, GENERATION, 7 * UNIT, false) == PP_RESERVED);
	CHECK(ring_check(ring).peak == 7 * UNIT);
	CHECK(pp_ring_reserve(ring, GENERATION, 3 * UNIT, false) == PP_RESERVED);
	CHECK(ring_check(ring).peak == 10 * UNIT);
	free(ring);
}

static void
test_closed(void)
{
	PpRing *ring = ring_new_at(10 * UNIT, 0);
	uint64 at;

	/* two transactions in commit, when the worker closes */
	CHECK(pp_ring_reserve(ring, GENERATION, 3 * UNIT, false) == PP_RESERVED);
	CHECK(pp_ring_reserve(ring, GENERATION, 2 * UNIT, false) == PP_RESERVED);
	pp_ring_close(ring);
	CHECK(ring_check(ring).closed);
	CHECK(ring_check(ring).reserved == 5 * UNIT);
	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, false) == PP_RING_CLOSED);
	CHECK(ring_check(ring).reserved == 5 * UNIT);

	/* the worker itself may, but there must be room for it, too */
	CHECK(pp_ring_reserve(ring, GENERATION, 6 * UNIT, true) == PP_RING_FULL);
	CHECK(pp_ring_reserve(ring, GENERATION, 2 * UNIT, true) == PP_RESERVED);
	at = ring_begin(ring, 1, 1, UNIT, 0);
	CHECK(!pp_ring_publish(ring, at));
	CHECK(walk(ring, at) == 1);

	/* what was reserved before still arrives */
	at = ring_begin(ring, 1, 4, 2 * UNIT, 0);
	CHECK(ring_check(ring).reserved == 2 * UNIT);
	CHECK(!pp_ring_publish(ring, at));
	CHECK(walk(ring, 0) == 2);
	CHECK(ring_check(ring).published == 5);

	/* the last one to give up says so, and no other */
	CHECK(!pp_ring_release(ring, UNIT, true));
	CHECK(pp_ring_release(ring, UNIT, true));
	CHECK(ring_check(ring).reserved == 0);

	/* closed: draining goes on */
	pp_ring_settle(ring, 0, 1);
	pp_ring_settle(ring, at, 4);
	pp_ring_free(ring, 5);
	CHECK(ring_check(ring).head == ring_check(ring).tail);
	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, false) == PP_RING_CLOSED);

	/* open again: as before, and nobody waits for the last release */
	pp_ring_open(ring);
	CHECK(!ring_check(ring).closed);
	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, false) == PP_RESERVED);
	CHECK(!pp_ring_release(ring, UNIT, true));
	CHECK(publish_units(ring, 1, 1) == 5 * UNIT);
	free(ring);
}

/*
 * The last reservation may also resolve by arriving.  Then no release tells, and
 * the worker, which has armed for anything at all, is woken by the publish.
 */
static void
test_closed_last_arrives(void)
{
	PpRing *ring = ring_new_at(10 * UNIT, 0);
	PpRingView view;
	uint64 at;

	CHECK(pp_ring_reserve(ring, GENERATION, 3 * UNIT, false) == PP_RESERVED);
	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, false) == PP_RESERVED);
	pp_ring_close(ring);
	view = ring_check(ring);
	CHECK(arm(ring, view.published + 1, NEVER));
	CHECK(!pp_ring_release(ring, UNIT, true));
	at = ring_begin(ring, 1, 2, 2 * UNIT, 0);
	CHECK(ring_check(ring).reserved == 0);
	CHECK(pp_ring_publish(ring, at));
	CHECK(walk(ring, 0) == 1);
	free(ring);
}

/* Every way to settle an entry of this many items in pieces; bits say where. */
static void
test_settle_parts(void)
{
	const uint32 items = 6;

	for (uint32 cuts = 0; cuts < 1u << (items - 1); cuts++)
	{
		PpRing *ring = ring_new_at(4 * UNIT, 0);
		uint64 at = publish_units(ring, 2, items);
		PpEntry *entry = pp_ring_entry(ring, at);
		uint32 piece = 0;

		for (uint32 i = 1; i <= items; i++)
		{
			piece++;
			if (i < items && (cuts & (1u << (i - 1))) == 0)
				continue;

			CHECK(pg_atomic_read_u32(&entry->state) == PP_ENTRY_READY);
			pp_ring_settle(ring, at, piece);
			CHECK(entry->settled == i);
			pp_ring_free(ring, piece);
			CHECK(ring_check(ring).settled == i);
			CHECK(ring_check(ring).head == (i < items ? at : at + 2 * UNIT));
			if (i < items)
			{
				/* a new worker, which starts at head, learns where to go on */
				CHECK(pp_ring_take(ring, at, at + 2 * UNIT) == entry);
				CHECK(entry->settled == i && entry->items == items);
			}
			piece = 0;
		}
		CHECK(pg_atomic_read_u32(&entry->state) == PP_ENTRY_DONE);
		free(ring);
	}
}

/* None settled is no step: the entry stays as it is. */
static void
test_settle_nothing(void)
{
	PpRing *ring = ring_new_at(4 * UNIT, 0);
	uint64 at = publish_units(ring, 1, 2);

	pp_ring_settle(ring, at, 0);
	pp_ring_free(ring, 0);
	CHECK(pg_atomic_read_u32(&pp_ring_entry(ring, at)->state) == PP_ENTRY_READY);
	CHECK(ring_check(ring).head == at);
	CHECK(ring_check(ring).settled == 0);
	free(ring);
}

/* The n-th permutation of 0 .. count - 1 */
static void
permutation(int n, int count, int *order)
{
	for (int i = 0; i < count; i++)
		order[i] = i;
	for (int i = count; i > 1; i--)
	{
		int swap = order[i - 1];

		order[i - 1] = order[n % i];
		order[n % i] = swap;
		n /= i;
	}
}

/*
 * Entries settled in every order: head moves over the run that is done at the
 * head, and over nothing else.
 */
static void
test_done_out_of_order(void)
{
	enum
	{
		COUNT = 5,
		ORDERS = 120
	};

	for (int n = 0; n < ORDERS; n++)
	{
		PpRing *ring = ring_new_at(16 * UNIT, 9 * UNIT);
		uint64 at[COUNT + 1];
		bool done[COUNT + 1] = {false};
		int order[COUNT];
		int first = 0;

		permutation(n, COUNT, order);
		for (int i = 0; i < COUNT; i++)
			at[i] = publish_units(ring, (uint64) i + 1, 1);
		at[COUNT] = ring_check(ring).tail;

		for (int i = 0; i < COUNT; i++)
		{
			pp_ring_settle(ring, at[order[i]], 1);
			done[order[i]] = true;
			while (done[first])
				first++;
			pp_ring_free(ring, 1);
			CHECK(ring_check(ring).head == at[first]);
			CHECK(ring_check(ring).settled == (uint64) i + 1);

			/* exactly the room of those is there again */
			CHECK(pp_ring_reserve(ring, GENERATION, UNIT + UNIT + at[first] - at[0], false) ==
				  PP_RING_FULL);
			CHECK(pp_ring_reserve(ring, GENERATION, UNIT + at[first] - at[0], false) ==
				  PP_RESERVED);
			CHECK(!pp_ring_release(ring, UNIT + at[first] - at[0], true));
		}
		CHECK(ring_check(ring).head == at[COUNT]);
		free(ring);
	}
}

/*
 * Entries published in every order: the walk stands before the first that is
 * BUSY, whatever is READY behind it.
 */
static void
test_busy_hides(void)
{
	enum
	{
		COUNT = 5,
		ORDERS = 120
	};

	for (int n = 0; n < ORDERS; n++)
	{
		PpRing *ring = ring_new_at(16 * UNIT, 9 * UNIT);
		uint64 at[COUNT];
		bool ready[COUNT + 1] = {false};
		int order[COUNT];
		int first = 0;

		permutation(n, COUNT, order);
		for (int i = 0; i < COUNT; i++)
			at[i] = begin_units(ring, (uint64) i + 1, 1);
		CHECK(walk(ring, at[0]) == 0);

		for (int i = 0; i < COUNT; i++)
		{
			CHECK(!pp_ring_publish(ring, at[order[i]]));
			ready[order[i]] = true;
			while (ready[first])
				first++;
			CHECK(walk(ring, at[0]) == first);
			pp_ring_free(ring, 0);
			CHECK(ring_check(ring).head == at[0]);
			CHECK(ring_check(ring).published == (uint64) i + 1);
		}

		/* the oldest ones done, and a new one BUSY: free stops before that one */
		CHECK(begin_units(ring, 1, 1) == at[0] + 15 * UNIT);
		for (int i = 0; i < COUNT; i++)
			pp_ring_settle(ring, at[i], 1);
		pp_ring_free(ring, COUNT);
		CHECK(ring_check(ring).head == at[0] + 15 * UNIT);
		CHECK(walk(ring, at[0] + 15 * UNIT) == 0);
		free(ring);
	}
}

/*
 * Armed for every pair of thresholds, at every number of entries already there:
 * publish tells once, when the first threshold is reached, and then no more.
 */
static void
test_arm(void)
{
	enum
	{
		COUNT = 8
	};

	for (int before = 0; before <= COUNT; before++)
	{
		for (uint64 items = 0; items <= 2 * COUNT + 2; items++)
		{
			for (uint64 units = 0; units <= COUNT + 1; units++)
			{
				PpRing *ring = ring_new_at(COUNT * UNIT, 0);
				uint64 want_items = items > 2 * COUNT + 1 ? NEVER : items;
				uint64 want_tail = units > COUNT ? NEVER : units * UNIT;
				bool reached = false;

				/* two items an entry, so that published also jumps over */
				for (int i = 0; i < before; i++)
					publish_units(ring, 1, 2);
				reached = 2 * (uint64) before >= want_items || (uint64) before * UNIT >= want_tail;
				CHECK(arm(ring, want_items, want_tail) == !reached);

				for (int i = before + 1; i <= COUNT; i++)
				{
					uint64 at = begin_units(ring, 1, 2);
					bool now = 2 * (uint64) i >= want_items || (uint64) i * UNIT >= want_tail;

					CHECK(pp_ring_publish(ring, at) == (now && !reached));
					reached = reached || now;
				}
				free(ring);
			}
		}
	}
}

static void
test_arm_again(void)
{
	PpRing *ring = ring_new_at(16 * UNIT, 0);

	/* the last arm counts */
	CHECK(arm(ring, 1, NEVER));
	CHECK(arm(ring, 3, NEVER));
	publish_units(ring, 1, 1);
	publish_units(ring, 1, 1);
	CHECK(pp_ring_publish(ring, begin_units(ring, 1, 1)));

	/* one that is refused undoes the one before */
	CHECK(arm(ring, 4, NEVER));
	CHECK(!arm(ring, 3, NEVER));
	publish_units(ring, 1, 1);
	CHECK(arm(ring, NEVER, 5 * UNIT));
	CHECK(!arm(ring, NEVER, 4 * UNIT));
	publish_units(ring, 1, 1);

	/* and so does one for nothing */
	CHECK(arm(ring, 6, 6 * UNIT));
	CHECK(arm(ring, NEVER, NEVER));
	publish_units(ring, 1, 1);

	/* once per arm */
	for (uint64 i = 6; i < 9; i++)
	{
		CHECK(arm(ring, i + 1, NEVER));
		CHECK(pp_ring_publish(ring, begin_units(ring, 1, 1)));
	}
	publish_units(ring, 1, 1);

	/* what is settled and freed doesn't count back */
	for (uint64 at = 0; at < 10 * UNIT; at += UNIT)
		pp_ring_settle(ring, at, 1);
	pp_ring_free(ring, 10);
	CHECK(!arm(ring, 10, NEVER));
	CHECK(arm(ring, 11, NEVER));
	CHECK(pp_ring_publish(ring, begin_units(ring, 1, 1)));
	free(ring);
}

/* It is begin that moves the tail, but a publish that wakes. */
static void
test_arm_busy(void)
{
	PpRing *ring = ring_new_at(16 * UNIT, 0);
	uint64 first;
	uint64 second;

	first = begin_units(ring, 2, 1);
	CHECK(!arm(ring, NEVER, 2 * UNIT));
	CHECK(arm(ring, NEVER, 3 * UNIT));
	second = begin_units(ring, 2, 1);
	CHECK(pp_ring_publish(ring, second));

	/* the worker finds nothing, since the first is BUSY; its publish wakes */
	CHECK(walk(ring, 0) == 0);
	CHECK(arm(ring, 2, NEVER));
	CHECK(pp_ring_publish(ring, first));
	CHECK(walk(ring, 0) == 2);
	free(ring);
}

/*-------------------------------------------------------------------------
 * Two parties: one is in a call, the hook plays the other
 *-------------------------------------------------------------------------
 */
static PpRing *hook_ring;
static uint64 hook_at;
static int hook_calls;
static bool hook_done;

/* The worker takes, settles and frees the entry as early as it can. */
static void
hook_worker(ShimSpinEvent event)
{
	uint64 end = pp_ring_view(hook_ring).tail;
	PpEntry *entry = pp_ring_take(hook_ring, hook_at, end);

	(void) event;
	if (entry != NULL && !hook_done)
	{
		uint32 items = entry->items;

		hook_done = true;
		pp_ring_settle(hook_ring, hook_at, items);
		pp_ring_free(hook_ring, items);

		/* the next producer puts something else into the same bytes */
		CHECK(begin_units(hook_ring, 2, 1000) == hook_at + 2 * UNIT);
	}
}

/*
 * From READY on the entry is the worker's, and soon another's: the rest of
 * publish must not look at it.
 */
static void
test_publish_then_gone(void)
{
	PpRing *ring = ring_new_at(2 * UNIT, 0);

	hook_ring = ring;
	hook_at = begin_units(ring, 2, 3);
	hook_done = false;
	CHECK(arm(ring, 3, NEVER));

	shim_spin_hook = hook_worker;
	CHECK(pp_ring_publish(ring, hook_at));
	shim_spin_hook = NULL;

	CHECK(hook_done);
	CHECK(ring_check(ring).published == 3);
	CHECK(ring_check(ring).settled == 3);
	CHECK(ring_check(ring).head == 2 * UNIT);
	CHECK(walk(ring, 2 * UNIT) == 0);
	free(ring);
}

static void
hook_count_seen(ShimSpinEvent event)
{
	(void) event;
	hook_calls++;
	if (pp_ring_view(hook_ring).published > 0)
		CHECK(walk(hook_ring, hook_at) == 1);
}

/* Who has seen the count finds the entry: else it would be slept over. */
static void
test_count_means_ready(void)
{
	PpRing *ring = ring_new_at(2 * UNIT, 0);

	hook_ring = ring;
	hook_calls = 0;
	hook_at = begin_units(ring, 1, 1);
	shim_spin_hook = hook_count_seen;
	CHECK(!pp_ring_publish(ring, hook_at));
	shim_spin_hook = NULL;
	CHECK(hook_calls == 2);
	CHECK(ring_check(ring).published == 1);
	free(ring);
}

static void
hook_settled_early(ShimSpinEvent event)
{
	PpRingView view = pp_ring_view(hook_ring);

	(void) event;
	if (pp_ring_take(hook_ring, hook_at, view.tail) != NULL && !hook_done)
	{
		hook_done = true;
		pp_ring_settle(hook_ring, hook_at, 1);
		pp_ring_free(hook_ring, 1);
	}
	view = pp_ring_view(hook_ring);
	CHECK(view.settled <= view.published);
}

/* published - settled is what is pending: it must not be negative. */
static void
test_settled_not_above_published(void)
{
	PpRing *ring = ring_new_at(2 * UNIT, 0);

	hook_ring = ring;
	hook_done = false;
	hook_at = begin_units(ring, 1, 1);
	shim_spin_hook = hook_settled_early;
	CHECK(!pp_ring_publish(ring, hook_at));
	shim_spin_hook = NULL;
	CHECK(hook_done);
	free(ring);
}

static void
hook_begin_seen(ShimSpinEvent event)
{
	(void) event;
	hook_calls++;
	if (pp_ring_view(hook_ring).tail > hook_at)
		CHECK(pg_atomic_read_u32(&pp_ring_entry(hook_ring, hook_at)->state) == PP_ENTRY_BUSY);
	CHECK(walk(hook_ring, hook_at) == 0);
	ring_check(hook_ring);
	CHECK(pp_ring_reserve(hook_ring, GENERATION, UNIT, false) == PP_RING_FULL);
}

/*
 * Who has seen the tail finds the entry BUSY, though its bytes looked READY a
 * moment ago; and its room is never there for another.
 */
static void
test_tail_means_busy(void)
{
	PpRing *ring = ring_new_at(2 * UNIT, 0);

	pp_ring_settle(ring, publish_units(ring, 2, 1), 1);
	pp_ring_free(ring, 1);
	pg_atomic_init_u32(&pp_ring_entry(ring, 0)->state, PP_ENTRY_READY);

	CHECK(pp_ring_reserve(ring, GENERATION, 2 * UNIT, false) == PP_RESERVED);
	hook_ring = ring;
	hook_calls = 0;
	hook_at = 2 * UNIT;
	shim_spin_hook = hook_begin_seen;
	CHECK(ring_begin(ring, 1, 1, UNIT, 0) == 2 * UNIT);
	shim_spin_hook = NULL;
	CHECK(hook_calls == 2);
	free(ring);
}

static void
hook_new_entry(ShimSpinEvent event)
{
	hook_calls++;
	if (event == SHIM_AFTER_RELEASE && hook_calls == 2)
	{
		/* the room of the entry about to be freed isn't there yet */
		CHECK(pp_ring_reserve(hook_ring, GENERATION, 2 * UNIT, false) == PP_RING_FULL);
		publish_units(hook_ring, 1, 1);
		CHECK(pp_ring_reserve(hook_ring, GENERATION, UNIT, false) == PP_RING_FULL);
	}
}

/* Entries arrive while free walks: they stay, and their room stays taken. */
static void
test_free_while_publishing(void)
{
	PpRing *ring = ring_new_at(3 * UNIT, 0);

	pp_ring_settle(ring, publish_units(ring, 2, 1), 1);
	hook_ring = ring;
	hook_calls = 0;
	shim_spin_hook = hook_new_entry;
	pp_ring_free(ring, 1);
	shim_spin_hook = NULL;
	CHECK(hook_calls >= 2);
	CHECK(ring_check(ring).head == 2 * UNIT);
	CHECK(ring_check(ring).tail == 3 * UNIT);
	CHECK(ring_check(ring).published == 2);
	CHECK(walk(ring, 2 * UNIT) == 1);
	CHECK(pp_ring_reserve(ring, GENERATION, 2 * UNIT, false) == PP_RESERVED);
	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, false) == PP_RING_FULL);
	free(ring);
}

/*-------------------------------------------------------------------------
 * Random calls, compared with a model that is too simple to be wrong
 *-------------------------------------------------------------------------
 */
#define MODEL_ENTRIES 64

typedef struct ModelEntry
{
	uint64 at;
	uint64 length;
	uint32 seed;
	uint32 items;
	uint32 settled;
	uint32 state;
} ModelEntry;

typedef struct Model
{
	PpRing *ring;
	uint64 random;
	PpRingView view; /* what the ring's view should be */
	uint64 wake_items;
	uint64 wake_tail;
	uint64 uncounted; /* items settled and not yet told to free */
	int count;
	ModelEntry entries[MODEL_ENTRIES]; /* [0] is at head */
} Model;

static uint64
model_used(Model *model)
{
	return model->view.tail - model->view.head + model->view.reserved;
}

static void
model_reserve(Model *model)
{
	uint64 bytes = pick(&model->random, model->ring->size / UNIT + 2) * UNIT;
	bool even_if_closed = pick(&model->random, 4) == 0;
	PpReserveResult expected = PP_RESERVED;

	/* mostly small ones, so that there are many */
	if (pick(&model->random, 4) > 0)
		bytes = Min(bytes, 4 * UNIT);

	if (model->view.closed && !even_if_closed)
		expected = PP_RING_CLOSED;
	else if (model_used(model) + bytes > model->ring->size)
		expected = PP_RING_FULL;
	CHECK(pp_ring_reserve(model->ring, GENERATION, bytes, even_if_closed) == expected);
	if (expected == PP_RESERVED)
		model->view.reserved += bytes;
	if (model->view.peak < model_used(model))
		model->view.peak = model_used(model);
}

static void
model_release(Model *model)
{
	uint64 bytes = pick(&model->random, model->view.reserved / UNIT + 1) * UNIT;

	model->view.reserved -= bytes;
	CHECK(pp_ring_release(model->ring, bytes, true) ==
		  (model->view.closed && model->view.reserved == 0));
}

static void
model_begin(Model *model)
{
	ModelEntry *entry = &model->entries[model->count];
	char *payload;
	uint64 split;

	if (model->view.reserved == 0 || model->count == MODEL_ENTRIES)
		return;
	entry->at = model->view.tail;
	entry->length = pick(&model->random, model->view.reserved - UNIT + 1);
	entry->seed = (uint32) next_random(&model->random);
	entry->items = 1 + (uint32) pick(&model->random, 5);
	entry->settled = 0;
	entry->state = PP_ENTRY_BUSY;
	CHECK(ring_begin(model->ring, entry->seed, entry->items, entry->length, (int64) entry->at) ==
		  entry->at);

	payload = malloc(entry->length);
	pattern_fill(payload, entry->seed, entry->length);
	split = pick(&model->random, entry->length + 1);
	pp_ring_write(model->ring, entry->at, 0, payload, split);
	pp_ring_write(model->ring, entry->at, split, payload + split, entry->length - split);
	free(payload);

	model->view.reserved -= pp_ring_entry_bytes(entry->length);
	model->view.tail += pp_ring_entry_bytes(entry->length);
	model->count++;
}

static void
model_publish(Model *model, ModelEntry *entry)
{
	bool wake;

	if (entry->state != PP_ENTRY_BUSY)
		return;
	entry->state = PP_ENTRY_READY;
	model->view.published += entry->items;
	wake = model->view.published >= model->wake_items || model->view.tail >= model->wake_tail;
	if (wake)
		model->wake_items = model->wake_tail = NEVER;
	CHECK(pp_ring_publish(model->ring, entry->at) == wake);
}

static void
model_settle(Model *model, ModelEntry *entry)
{
	uint32 items;

	if (entry->state != PP_ENTRY_READY)
		return;
	items = 1 + (uint32) pick(&model->random, entry->items - entry->settled);
	entry->settled += items;
	if (entry->settled == entry->items)
		entry->state = PP_ENTRY_DONE;
	model->uncounted += items;
	pp_ring_settle(model->ring, entry->at, items);
}

static void
model_free(Model *model)
{
	int gone = 0;

	pp_ring_free(model->ring, model->uncounted);
	model->view.settled += model->uncounted;
	model->uncounted = 0;
	while (gone < model->count && model->entries[gone].state == PP_ENTRY_DONE)
	{
		model->view.head += pp_ring_entry_bytes(model->entries[gone].length);
		gone++;
	}
	model->count -= gone;
	memmove(model->entries, model->entries + gone, sizeof(ModelEntry) * (size_t) model->count);
}

static void
model_arm(Model *model)
{
	uint64 items = model->view.published + pick(&model->random, 8);
	uint64 tail = model->view.tail + pick(&model->random, 8) * UNIT;
	bool armed;

	if (pick(&model->random, 3) == 0)
		items = NEVER;
	if (pick(&model->random, 3) == 0)
		tail = NEVER;
	armed = model->view.published < items && model->view.tail < tail;
	model->wake_items = armed ? items : NEVER;
	model->wake_tail = armed ? tail : NEVER;
	CHECK(arm(model->ring, items, tail) == armed);
}

/* All that can be seen of the ring is as in the model. */
static void
model_compare(Model *model)
{
	PpRingView view = ring_check(model->ring);
	bool hidden = false;
	int visible = 0;

	CHECK(views_equal(view, model->view));
	for (int i = 0; i < model->count; i++)
	{
		ModelEntry *expected = &model->entries[i];
		PpEntry *entry = pp_ring_entry(model->ring, expected->at);
		const char *contiguous;
		char *copy;

		hidden = hidden || expected->state == PP_ENTRY_BUSY;
		if (!hidden)
			visible++;
		CHECK(pg_atomic_read_u32(&entry->state) == expected->state);
		CHECK(pp_ring_take(model->ring, expected->at, view.tail) ==
			  (expected->state == PP_ENTRY_BUSY ? NULL : entry));
		CHECK(entry->role == expected->seed);
		CHECK(entry->published_at == (int64) expected->at);
		CHECK(entry->items == expected->items);
		CHECK(entry->settled == expected->settled);
		CHECK(entry->bytes == pp_ring_entry_bytes(expected->length));
		if (!CHECK(entry->length == expected->length))
			return;

		contiguous = pp_ring_contiguous(model->ring, expected->at);
		CHECK(contiguous == NULL || pattern_matches(contiguous, expected->seed, expected->length));
		copy = malloc(expected->length);
		pp_ring_read(model->ring, expected->at, copy);
		CHECK(pattern_matches(copy, expected->seed, expected->length));
		free(copy);
	}
	CHECK(walk(model->ring, view.head) == visible);
}

static void
model_step(Model *model)
{
	ModelEntry *entry = &model->entries[pick(&model->random, (uint64) model->count + 1)];
	bool exists = entry < model->entries + model->count;

	switch (pick(&model->random, 16))
	{
		case 0:
		case 1:
		case 2:
			model_reserve(model);
			break;
		case 3:
			model_release(model);
			break;
		case 4:
		case 5:
		case 6:
			model_begin(model);
			break;
		case 7:
		case 8:
		case 9:
			if (exists)
				model_publish(model, entry);
			break;
		case 10:
		case 11:
		case 12:
			if (exists)
				model_settle(model, entry);
			break;
		case 13:
			model_free(model);
			break;
		case 14:
			model_arm(model);
			break;
		default:
			/* mostly open, or nothing else would happen */
			model->view.closed = !model->view.closed && pick(&model->random, 4) == 0;
			if (model->view.closed)
				pp_ring_close(model->ring);
			else
				pp_ring_open(model->ring);
			break;
	}
}

static void
test_model(void)
{
	const int rings = 60;
	const int steps = 3000;

	for (int i = 0; i < rings && !tap_test_failed(); i++)
	{
		Model model = {0};

		model.random = (uint64) i + 1;
		model.ring = ring_new_at((1 + pick(&model.random, 30)) * UNIT, 0);
		model.wake_items = model.wake_tail = NEVER;
		for (int step = 0; step < steps && !tap_test_failed(); step++)
		{
			model_step(&model);
			model_compare(&model);
			if (tap_test_failed())
				printf("# in step %d of ring %d\n", step, i);
		}
		free(model.ring);
	}
}

/* A full ring still has room for what a trigger enqueues in the worker. */
static void
test_kept(void)
{
	PpRing *ring = ring_new(16 * UNIT);

	pp_ring_init(ring, 16 * UNIT, 2 * UNIT);
	pp_ring_attend(ring, true);
	CHECK(pp_ring_reserve(ring, GENERATION, 15 * UNIT, false) == PP_RING_FULL);
	CHECK(pp_ring_reserve(ring, GENERATION, 14 * UNIT, false) == PP_RESERVED);
	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, false) == PP_RING_FULL);
	CHECK(pp_ring_reserve(ring, GENERATION, 3 * UNIT, true) == PP_RING_FULL);
	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, true) == PP_RESERVED);
	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, false) == PP_RING_FULL);
	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, true) == PP_RESERVED);
	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, true) == PP_RING_FULL);
	ring_check(ring);
	free(ring);
}

/* Ask for room for one entry of one unit. */
static PpAdmission
admit(PpRing *ring)
{
	return ring_admit(ring, GENERATION, UNIT, 1, false, false);
}

static void
test_admit(void)
{
	PpRing *ring = ring_new(4 * UNIT);
	PpRingView view;

	CHECK(admit(ring).result == PP_NO_POSITIONS);
	pp_ring_add_positions(ring, GENERATION, 1000, 2000);
	pp_ring_add_positions(ring, GENERATION, 500, 900); /* others were faster */

	/* in recovery: the journal, and the first pass is of what is older */
	CHECK(admit(ring).result == PP_RING_DIVERTED);
	CHECK(pp_ring_divert(ring, 7, 100, 5));
	view = pp_ring_begin_pass(ring);
	CHECK(view.boundary == 1000 && view.diverted && view.diverted_items == 7);
	CHECK(admit(ring).result == PP_RING_DIVERTED); /* as long as it is diverted */
	CHECK(!pp_ring_divert(ring, 1, 100, 6));
	pp_ring_end_pass(ring);
	view = pp_ring_begin_pass(ring);
	CHECK(view.boundary == 1002 && !view.diverted);
	CHECK(admit(ring).result == PP_RESERVED); /* beyond the mark of the pass */
	pp_ring_end_pass(ring);
	CHECK(pp_ring_view(ring).passes == 2);

	/* positions grow, whichever way */
	CHECK(admit(ring).pos == 1003);
	CHECK(ring_admit(ring, GENERATION, 3 * UNIT, 3, false, false).result == PP_RING_DIVERTED);
	(void) pp_ring_undivert(ring);
	CHECK(admit(ring).pos == 1007);

	/* what is only in the ring needs a worker */
	pp_ring_attend(ring, false);
	CHECK(ring_admit(ring, GENERATION, UNIT, 1, false, true).result == PP_RING_DIVERTED);
	(void) pp_ring_undivert(ring);
	pp_ring_attend(ring, true);
	CHECK(ring_admit(ring, GENERATION, UNIT, 1, false, true).result == PP_RESERVED);
	CHECK(pp_ring_view(ring).reserved_alone == UNIT);
	(void) pp_ring_release(ring, UNIT, true);
	CHECK(pp_ring_view(ring).reserved_alone == 0);
	(void) pp_ring_release(ring, 3 * UNIT, false);

	pp_ring_close(ring);
	CHECK(admit(ring).result == PP_RING_DIVERTED);
	CHECK(pp_ring_undivert(ring)); /* the last one: the worker waits for it */
	free(ring);
}

/* A worker that leaves knows what may still arrive that is in no journal. */
static void
test_alone(void)
{
	PpRing *ring = ring_new(8 * UNIT);
	uint64 at;

	CHECK(pp_ring_is_attended(ring));
	CHECK(pp_ring_reserve(ring, GENERATION, 2 * UNIT, false) == PP_RESERVED);
	pp_ring_attend(ring, false);
	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, false) == PP_RING_UNATTENDED);
	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, true) == PP_RING_UNATTENDED);
	CHECK(pp_ring_view(ring).reserved_alone == 2 * UNIT);
	at = ring_begin(ring, 1, 1, UNIT, 0);
	CHECK(pp_ring_view(ring).reserved == 0);
	CHECK(pp_ring_view(ring).reserved_alone == 2 * UNIT); /* it is BUSY */
	(void) pp_ring_publish(ring, at);
	CHECK(pp_ring_view(ring).reserved_alone == 0);
	CHECK(pp_ring_volatile_items(ring) == 1);
	free(ring);
}

/* A READY entry of one unit, published then. */
static uint64
publish_at(PpRing *ring, PpRisk risk, int64 now)
{
	uint64 at;

	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, false) == PP_RESERVED);
	at = pp_ring_begin(ring,
					   &(PpEntry){.role = 1, .items = 1, .risk = risk, .published_at = now});
	(void) pp_ring_publish(ring, at);
	return at;
}

/* Since when is something at risk, in any way and for a while? */
static bool
is_at_risk(PpRing *ring, int64 since, int64 bounded_since)
{
	return pp_ring_view(ring).at_risk_since == since &&
		   pp_ring_bounded_since(ring) == bounded_since;
}

static void
settle_one(PpRing *ring, uint64 at)
{
	pp_ring_settle(ring, at, 1);
	pp_ring_free(ring, 1);
}

/* How old the oldest is that a crash would take. */
static void
test_risk(void)
{
	PpRing *ring = ring_new(16 * UNIT);
	uint64 at[8];
	uint64 busy;

	at[0] = publish_at(ring, PP_RISK_NONE, 10);
	CHECK(is_at_risk(ring, 0, 0));
	at[1] = publish_at(ring, PP_RISK_BOUNDED, 11);
	CHECK(is_at_risk(ring, 11, 11));
	at[2] = publish_at(ring, PP_RISK_CHOSEN, 12);
	at[3] = publish_at(ring, PP_RISK_BOUNDED, 13);
	CHECK(is_at_risk(ring, 11, 11));

	/* behind one that isn't done */
	settle_one(ring, at[1]);
	CHECK(is_at_risk(ring, 12, 13));
	settle_one(ring, at[0]);
	CHECK(is_at_risk(ring, 12, 13));
	settle_one(ring, at[3]);
	settle_one(ring, at[2]);
	CHECK(is_at_risk(ring, 0, 0));

	/* while one is being copied: what comes behind it is no older than what was freed */
	at[4] = publish_at(ring, PP_RISK_BOUNDED, 20);
	busy = begin_units(ring, 1, 1);
	at[5] = publish_at(ring, PP_RISK_BOUNDED, 22);
	settle_one(ring, at[4]);
	CHECK(is_at_risk(ring, 20, 20));
	CHECK(!pp_ring_publish(ring, busy));
	settle_one(ring, busy);
	CHECK(is_at_risk(ring, 22, 22));

	/* and what isn't at risk is none for being copied */
	busy = begin_units(ring, 1, 1);
	settle_one(ring, at[5]);
	CHECK(is_at_risk(ring, 0, 0));
	CHECK(!pp_ring_publish(ring, busy));
	settle_one(ring, busy);

	/* nor what is done, though it can't be freed yet */
	at[6] = publish_at(ring, PP_RISK_NONE, 25);
	at[7] = publish_at(ring, PP_RISK_BOUNDED, 26);
	settle_one(ring, at[7]);
	CHECK(is_at_risk(ring, 0, 0));
	settle_one(ring, at[6]);

	at[6] = publish_at(ring, PP_RISK_CHOSEN, 30);
	CHECK(is_at_risk(ring, 30, 0));
	pp_ring_set_late(ring, true);
	CHECK(pp_ring_is_late(ring));
	CHECK(pp_ring_clear(ring) == 1);
	CHECK(is_at_risk(ring, 0, 0) && !pp_ring_is_late(ring));
	free(ring);
}

static void
test_owner(void)
{
	PpRing *ring = ring_new(4 * UNIT);

	pp_ring_add_positions(ring, GENERATION, 1000, 2000);
	CHECK(admit(ring).result == PP_RING_DIVERTED);
	CHECK(!pp_ring_disown(ring)); /* somebody is in commit */
	(void) pp_ring_divert(ring, 1, 100, 5);
	CHECK(!pp_ring_disown(ring)); /* the journal has items */
	(void) pp_ring_begin_pass(ring);
	pp_ring_end_pass(ring);
	CHECK(!pp_ring_disown(ring)); /* that was the pass of what is older */
	(void) pp_ring_begin_pass(ring);
	CHECK(!pp_ring_disown(ring));
	pp_ring_end_pass(ring);
	CHECK(pp_ring_disown(ring));

	CHECK(pp_ring_is_stale(ring, GENERATION));
	CHECK(admit(ring).result == PP_RING_STALE);
	CHECK(pp_ring_reserve(ring, GENERATION, UNIT, false) == PP_RING_STALE);
	CHECK(pp_ring_reserve(ring, GENERATION + 1, UNIT, false) == PP_RING_UNATTENDED);
	pp_ring_attend(ring, true);
	CHECK(pp_ring_reserve(ring, GENERATION + 1, UNIT, false) == PP_RESERVED);
	CHECK(!pp_ring_disown(ring));
	CHECK(pp_ring_clear(ring) == 0);
	free(ring);
}

static bool
owes_pass(PpRing *ring)
{
	PpRingView view = pp_ring_view(ring);

	return view.passes < view.moved;
}

/* What the worker has moved to the journal is settled by the first pass that sees it. */
static void
test_moved(void)
{
	PpRing *ring = ring_new(4 * UNIT);

	/* the first one is over what is older */
	pp_ring_move(ring, 1, 5);
	(void) pp_ring_begin_pass(ring);
	pp_ring_end_pass(ring);
	CHECK(owes_pass(ring));
	(void) pp_ring_begin_pass(ring);
	pp_ring_end_pass(ring);
	CHECK(!owes_pass(ring));

	/* nor has one seen it that had begun; with the journal, or the database, that goes, too */
	for (int i = 0; i < 2; i++)
	{
		pp_ring_move(ring, 1, 5);
		(void) pp_ring_begin_pass(ring);
		pp_ring_move(ring, 1, 5);
		pp_ring_end_pass(ring);
		CHECK(owes_pass(ring));
		(void) pp_ring_begin_pass(ring);
		pp_ring_move(ring, 1, 5);
		if (i == 0)
			pp_ring_restart(ring);
		else
			(void) pp_ring_clear(ring);
		(void) pp_ring_begin_pass(ring); /* of whoever comes next */
		pp_ring_end_pass(ring);
		CHECK(!owes_pass(ring));
	}
	free(ring);
}

static void
put_at(PpRing *ring, int64 now)
{
	CHECK(admit(ring).result == PP_RESERVED);
	(void) pp_ring_put(ring, &(PpEntry){.role = 1, .items = 1, .published_at = now}, "");
}

static void
divert_at(PpRing *ring, int64 now)
{
	CHECK(admit(ring).result == PP_RING_DIVERTED);
	(void) pp_ring_divert(ring, 1, 100, now);
}

static void
test_oldest(void)
{
	PpRing *ring = ring_new(2 * UNIT);

	pp_ring_add_positions(ring, GENERATION, 1000, 2000);
	CHECK(pp_ring_oldest(ring) == 0);
	(void) pp_ring_begin_pass(ring);
	pp_ring_end_pass(ring);
	CHECK(pp_ring_oldest(ring) == 0 && pp_ring_view(ring).diverted_since == 0);

	/* in the ring: the first entry that isn't freed */
	put_at(ring, 5);
	put_at(ring, 6);
	CHECK(pp_ring_oldest(ring) == 5);
	pp_ring_settle(ring, 0, 1);
	pp_ring_free(ring, 1);
	CHECK(pp_ring_oldest(ring) == 6);
	put_at(ring, 7);

	/* in the journal alone, too; from then on it is diverted, one pass after the other */
	divert_at(ring, 8);
	divert_at(ring, 9);
	CHECK(pp_ring_oldest(ring) == 6);
	(void) pp_ring_begin_pass(ring);
	pp_ring_settle(ring, UNIT, 1);
	pp_ring_settle(ring, 2 * UNIT, 1);
	pp_ring_free(ring, 2);
	CHECK(pp_ring_oldest(ring) == 8);
	pp_ring_move(ring, 1, 10);
	CHECK(pp_ring_oldest(ring) == 8);
	pp_ring_end_pass(ring);
	CHECK(pp_ring_oldest(ring) == 10);
	CHECK(pp_ring_view(ring).diverted_since == 8);

	/* what the worker moves may be older than what is there */
	pp_ring_move(ring, 1, 4);
	CHECK(pp_ring_oldest(ring) == 4);
	(void) pp_ring_begin_pass(ring);

	/* another worker makes what is left of the pass its first one */
	pp_ring_recover(ring);
	CHECK(pp_ring_oldest(ring) == 4);
	divert_at(ring, 11);
	(void) pp_ring_begin_pass(ring);
	CHECK(pp_ring_oldest(ring) == 4);
	CHECK(pp_ring_view(ring).diverted_since == 8);
	pp_ring_end_pass(ring);
	(void) pp_ring_begin_pass(ring);
	pp_ring_end_pass(ring);
	CHECK(pp_ring_oldest(ring) == 0);
	CHECK(pp_ring_view(ring).diverted_since == 0);

	/* its database loses it */
	pp_ring_move(ring, 1, 12);
	CHECK(pp_ring_oldest(ring) == 12 && pp_ring_view(ring).diverted_since == 12);
	(void) pp_ring_clear(ring);
	CHECK(pp_ring_oldest(ring) == 0 && pp_ring_view(ring).diverted_since == 0);
	free(ring);
}

/* A payload that is put with one hold of the mutex, or with two */
static void
check_put(uint64 length, bool wakes)
{
	PpRing *ring = ring_new(4 * PP_RING_SMALL);
	PpEntry header = {.role = 7,
					  .items = 3,
					  .length = length,
					  .published_at = 5,
					  .part = 1,
					  .parts = 2,
					  .extension = 8,
					  .pos = 9};
	uint64 position = 3 * PP_RING_SMALL; /* so that the longer ones wrap */
	char payload[2 * PP_RING_SMALL];
	char copy[2 * PP_RING_SMALL];
	PpRingView view;
	PpEntry *entry;

	ring->head = ring->tail = position;
	pattern_fill(payload, 1, length);
	CHECK(pp_ring_reserve(ring, GENERATION, pp_ring_entry_bytes(length), false) == PP_RESERVED);
	view = pp_ring_view(ring);
	if (wakes)
		CHECK(pp_ring_arm(ring, &view, view.published + 3, PG_UINT64_MAX));
	else
		CHECK(pp_ring_arm(ring, &view, view.published + 4, PG_UINT64_MAX));
	CHECK(pp_ring_put(ring, &header, payload) == wakes);
	view = ring_check(ring);
	CHECK(view.published == 3 && view.reserved == 0 && view.reserved_alone == 0);
	CHECK(view.tail == position + pp_ring_entry_bytes(length));
	entry = pp_ring_take(ring, position, view.tail);
	CHECK(entry != NULL && pg_atomic_read_u32(&entry->state) == PP_ENTRY_READY);
	CHECK(entry->role == 7 && entry->items == 3 && entry->settled == 0 && entry->length == length);
	CHECK(entry->part == 1 && entry->parts == 2 && entry->extension == 8 && entry->pos == 9);
	pp_ring_read(ring, position, copy);
	CHECK(memcmp(copy, payload, length) == 0);
	free(ring);
}

static void
test_put(void)
{
	static const uint64 lengths[] = {0, 1, UNIT, PP_RING_SMALL - 1, PP_RING_SMALL,
									 PP_RING_SMALL + 1, 2 * PP_RING_SMALL};

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
	{
		check_put(lengths[i], false);
		check_put(lengths[i], true);
	}
}

int
main(void)
{
	tap_start();
	TEST(test_sizes, "sizes are rounded up to whole units");
	TEST(test_empty, "a new ring is empty and open");
	TEST(test_stale_laps, "entries of an earlier lap are not seen");
	TEST(test_header, "a header holds what was given, and changes only as promised");
	TEST(test_wrap, "a payload of any length at any offset arrives, and touches nothing else");
	TEST(test_pieces, "a payload written in two pieces arrives, wherever it is cut");
	TEST(test_full, "an exact fit is accepted, a unit more is refused, until there is room");
	TEST(test_full_laps, "a full ring goes on for many laps");
	TEST(test_credits, "credits are used or given back, and none is left over");
	TEST(test_peak, "the peak is the highest use, promises included");
	TEST(test_closed, "a closed ring refuses, and what was reserved still resolves");
	TEST(test_closed_last_arrives, "in a closed ring the last entry to arrive wakes");
	TEST(test_settle_parts, "an entry settled in parts is done with the last one");
	TEST(test_settle_nothing, "to settle nothing changes nothing");
	TEST(test_done_out_of_order, "free moves over the run that is done at the head");
	TEST(test_busy_hides, "a busy entry hides itself and later ones");
	TEST(test_arm, "publish wakes once, at the threshold that is reached first");
	TEST(test_arm_again, "each arm replaces the one before");
	TEST(test_arm_busy, "the tail is reached by begin, and publish wakes");
	TEST(test_publish_then_gone, "publish doesn't look at an entry that is ready");
	TEST(test_count_means_ready, "who has seen the count finds the entry ready");
	TEST(test_settled_not_above_published, "no more items are settled than published");
	TEST(test_kept, "the last bytes are the worker's");
	TEST(test_tail_means_busy, "who has seen the tail finds the entry busy");
	TEST(test_free_while_publishing, "free doesn't disturb an entry that arrives meanwhile");
	TEST(test_admit, "what finds no room is diverted, and positions only grow");
	TEST(test_alone, "a worker knows what may still arrive in its ring alone");
	TEST(test_put, "an entry is put at once, with a payload of any length");
	TEST(test_risk, "since when the oldest entry is at risk");
	TEST(test_oldest, "since when the oldest item has waited, and the ring has been diverted");
	TEST(test_moved, "what is moved to the journal is settled by the first pass that sees it");
	TEST(test_owner, "a ring changes hands when nothing is in it or about to be");
	TEST(test_model, "random calls do what a simple model does");
	return tap_finish();
}
