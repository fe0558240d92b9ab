/*-------------------------------------------------------------------------
 *
 * ring_threads_test.c
 *	  src/ring/ring*.c with many producers and one worker, as threads.
 *
 * The worker sleeps as the real one does: on a latch, only after pp_ring_arm has
 * said that there is nothing to do, and until a producer sets the latch because
 * pp_ring_publish or pp_ring_release told it to.  Nobody else sets it, and nothing
 * times out.  So when all producers are at rest and the worker sleeps, either it
 * has reason to, or a wake was lost; a test sees that at once and needn't wait.
 *
 * The number of items of the large test can be given in RING_TEST_ITEMS.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "ring_util.h"

#define UNIT PP_RING_ALIGN
#define NEVER PG_UINT64_MAX

#define DEFAULT_ITEMS 1000000

static uint64
count_of(uint64 *counter)
{
	return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

static void
count(uint64 *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_SEQ_CST);
}

/*
 * Now and then another thread gets in where the ring is about to be locked, or
 * was locked just now.  On a machine with few processors that is rare otherwise.
 */
static _Thread_local uint64 yield_random;

static void
yield_sometimes(ShimSpinEvent event)
{
	(void) event;
	if (pick(&yield_random, 16) == 0)
		sched_yield();
}

static void
yield_at_locks(uint64 seed)
{
	yield_random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
	shim_spin_hook = yield_sometimes;
}

/*-------------------------------------------------------------------------
 * The worker's latch
 *-------------------------------------------------------------------------
 */
typedef struct Sleeper
{
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool set; /* the latch */
	bool asleep;
	bool gone; /* the worker has ended */
} Sleeper;

#define SLEEPER_INIT                                                                               \
	{                                                                                              \
		.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER                    \
	}

static void
latch_set(Sleeper *sleeper)
{
	pthread_mutex_lock(&sleeper->mutex);
	sleeper->set = true;
	pthread_cond_broadcast(&sleeper->changed);
	pthread_mutex_unlock(&sleeper->mutex);
}

static void
latch_wait(Sleeper *sleeper)
{
	pthread_mutex_lock(&sleeper->mutex);
	sleeper->asleep = true;
	pthread_cond_broadcast(&sleeper->changed);
	while (!sleeper->set)
		pthread_cond_wait(&sleeper->changed, &sleeper->mutex);
	sleeper->set = false;
	sleeper->asleep = false;
	pthread_mutex_unlock(&sleeper->mutex);
}

static void
worker_gone(Sleeper *sleeper)
{
	pthread_mutex_lock(&sleeper->mutex);
	sleeper->gone = true;
	pthread_cond_broadcast(&sleeper->changed);
	pthread_mutex_unlock(&sleeper->mutex);
}

/*
 * Wait until the worker can't do anything more by itself.  True: it sleeps; else
 * it has ended.
 */
static bool
worker_at_rest(Sleeper *sleeper)
{
	bool asleep;

	pthread_mutex_lock(&sleeper->mutex);
	while (!sleeper->gone && !(sleeper->asleep && !sleeper->set))
		pthread_cond_wait(&sleeper->changed, &sleeper->mutex);
	asleep = !sleeper->gone;
	pthread_mutex_unlock(&sleeper->mutex);
	return asleep;
}

/*-------------------------------------------------------------------------
 * No wake is lost: rounds of a few entries, and a look at the worker after each
 *-------------------------------------------------------------------------
 */
#define WAKE_PRODUCERS 4

typedef struct WakeTest
{
	PpRing *ring;
	Sleeper sleeper;
	pthread_barrier_t start;
	pthread_barrier_t end;
	bool stop;
	bool lazily; /* the worker waits for more than one item */

	uint64 wakes; /* atomic: publish returned true */

	/* the worker's; others may look while it sleeps */
	uint64 arms; /* arm returned true */
	uint64 armed_items;
	uint64 armed_tail;
	uint64 consumed; /* items */
} WakeTest;

typedef struct WakeProducer
{
	WakeTest *test;
	uint64 number;
} WakeProducer;

static void *
wake_producer(void *arg)
{
	WakeProducer *self = arg;
	WakeTest *test = self->test;
	uint64 random = self->number + 1;

	yield_at_locks(self->number);
	for (;;)
	{
		uint64 entries = pick(&random, 4);

		pthread_barrier_wait(&test->start);
		if (test->stop)
			return NULL;
		while (entries-- > 0)
		{
			uint64 length = pick(&random, 100);
			uint32 items = 1 + (uint32) pick(&random, 3);
			PpEntry header = {.role = 1, .items = items, .length = length, .parts = 1};
			static const char payload[100];
			uint64 at;
			bool wake;

			/* the ring is large enough for what a sleeping worker leaves */
			if (!CHECK(pp_ring_reserve(test->ring, GENERATION, pp_ring_entry_bytes(length),
									   false) == PP_RESERVED))
				break;
			if (pick(&random, 2) == 0)
				wake = pp_ring_put(test->ring, &header, payload);
			else
			{
				at = pp_ring_begin(test->ring, &header);
				if (pick(&random, 4) == 0)
					sched_yield();
				wake = pp_ring_publish(test->ring, at);
			}
			if (wake)
			{
				count(&test->wakes);
				latch_set(&test->sleeper);
			}
		}
		pthread_barrier_wait(&test->end);
	}
}

static void *
wake_worker(void *arg)
{
	WakeTest *test = arg;
	uint64 random = 99;
	uint64 at = 0;

	yield_at_locks(99);
	while (!__atomic_load_n(&test->stop, __ATOMIC_SEQ_CST))
	{
		PpRingView view = ring_check(test->ring);
		uint64 items = 0;
		PpEntry *entry;

		while ((entry = pp_ring_take(test->ring, at, view.tail)) != NULL)
		{
			uint64 bytes = entry->bytes;

			items += entry->items;
			pp_ring_settle(test->ring, at, entry->items);
			at += bytes;
		}
		pp_ring_free(test->ring, items);
		test->consumed += items;

		/* counted before we looked at the entries, or else they might come in between */
		test->armed_items = view.published + 1;
		test->armed_tail = NEVER;
		if (test->lazily)
		{
			test->armed_items += pick(&random, 10);
			if (pick(&random, 2) == 0)
				test->armed_tail = view.tail + pick(&random, 10) * UNIT;
		}
		if (arm(test->ring, test->armed_items, test->armed_tail))
		{
			test->arms++;
			latch_wait(&test->sleeper);
		}
		else if (items == 0)
			sched_yield();
	}
	worker_gone(&test->sleeper);
	return NULL;
}

/* The worker sleeps: was it right to? */
static void
check_sleep(WakeTest *test)
{
	PpRingView view = ring_check(test->ring);

	CHECK(view.published < test->armed_items);
	CHECK(view.tail < test->armed_tail);
	CHECK(view.settled == test->consumed);
	CHECK(view.reserved == 0);
	if (!test->lazily)
	{
		CHECK(view.published == test->consumed);
		CHECK(view.head == view.tail);
	}

	/* each arm was answered by one wake, except for the one that is waited for */
	CHECK(count_of(&test->wakes) + 1 == test->arms);
}

static void
wake_rounds(bool lazily, int rounds)
{
	WakeTest test = {.sleeper = SLEEPER_INIT, .lazily = lazily};
	WakeProducer producers[WAKE_PRODUCERS];
	pthread_t threads[WAKE_PRODUCERS];
	pthread_t worker;

	test.ring = ring_new(256 * UNIT);
	arm(test.ring, NEVER, NEVER); /* as if the worker had been started */
	pthread_barrier_init(&test.start, NULL, WAKE_PRODUCERS + 1);
	pthread_barrier_init(&test.end, NULL, WAKE_PRODUCERS + 1);
	pthread_create(&worker, NULL, wake_worker, &test);
	for (uint64 i = 0; i < WAKE_PRODUCERS; i++)
	{
		producers[i] = (WakeProducer){&test, i};
		pthread_create(&threads[i], NULL, wake_producer, &producers[i]);
	}

	for (int round = 0; round < rounds && !tap_test_failed(); round++)
	{
		pthread_barrier_wait(&test.start);
		pthread_barrier_wait(&test.end);
		if (CHECK(worker_at_rest(&test.sleeper)))
			check_sleep(&test);
	}

	__atomic_store_n(&test.stop, true, __ATOMIC_SEQ_CST);
	pthread_barrier_wait(&test.start);
	for (int i = 0; i < WAKE_PRODUCERS; i++)
		pthread_join(threads[i], NULL);
	latch_set(&test.sleeper);
	pthread_join(worker, NULL);
	CHECK(count_of(&test.wakes) > 0);
	pthread_barrier_destroy(&test.start);
	pthread_barrier_destroy(&test.end);
	free(test.ring);
}

static void
test_wake(void)
{
	wake_rounds(false, 5000);
}

static void
test_wake_lazily(void)
{
	wake_rounds(true, 5000);
}

/*-------------------------------------------------------------------------
 * A worker that leaves: it closes, and ends when nothing can arrive any more
 *-------------------------------------------------------------------------
 */
#define CLOSE_PRODUCERS 4

typedef struct CloseTest
{
	PpRing *ring;
	Sleeper sleeper;
	pthread_barrier_t start;
	uint64 random;
	uint64 close_after; /* items */
	uint64 published;	/* atomic: items that arrived, say the producers */
	uint64 consumed;
	bool leave; /* atomic: the test has failed */
} CloseTest;

static void *
close_producer(void *arg)
{
	CloseTest *test = arg;
	uint64 random = count_of(&test->random);

	count(&test->random);
	yield_at_locks(random);
	pthread_barrier_wait(&test->start);
	for (;;)
	{
		PpReserveResult result = pp_ring_reserve(test->ring, GENERATION, 2 * UNIT, false);

		if (result == PP_RING_CLOSED)
			return NULL;
		if (result == PP_RING_FULL)
		{
			sched_yield();
			continue;
		}
		if (pick(&random, 2) == 0)
			sched_yield();

		/* all of the reservation, half of it, or nothing arrives */
		if (pick(&random, 3) > 0)
		{
			uint64 length = pick(&random, UNIT + 1);
			uint64 at = ring_begin(test->ring, 1, 1, length, 0);

			count(&test->published);
			if (pp_ring_publish(test->ring, at))
				latch_set(&test->sleeper);
			if (length == 0 && pp_ring_release(test->ring, UNIT, true))
				latch_set(&test->sleeper);
		}
		else if (pp_ring_release(test->ring, 2 * UNIT, true))
			latch_set(&test->sleeper);
	}
}

static void *
close_worker(void *arg)
{
	CloseTest *test = arg;
	uint64 at = test->ring->head;

	pthread_barrier_wait(&test->start);
	for (;;)
	{
		PpRingView view;
		uint64 items = 0;
		PpEntry *entry;

		if (test->consumed >= test->close_after)
			pp_ring_close(test->ring);
		view = ring_check(test->ring);
		while ((entry = pp_ring_take(test->ring, at, view.tail)) != NULL)
		{
			uint64 bytes = entry->bytes;

			items++;
			pp_ring_settle(test->ring, at, 1);
			at += bytes;
		}
		pp_ring_free(test->ring, items);
		test->consumed += items;
		if (view.closed && view.reserved == 0 && at == view.tail)
			break;
		if (__atomic_load_n(&test->leave, __ATOMIC_SEQ_CST))
			break;
		if (arm(test->ring, view.published + 1, NEVER))
			latch_wait(&test->sleeper);
	}
	worker_gone(&test->sleeper);
	return NULL;
}

static void
test_close(void)
{
	const int rounds = 300;
	PpRing *ring = ring_new(8 * UNIT);
	uint64 total = 0;

	for (int round = 0; round < rounds && !tap_test_failed(); round++)
	{
		CloseTest test = {.ring = ring, .sleeper = SLEEPER_INIT};
		pthread_t threads[CLOSE_PRODUCERS];
		pthread_t worker;
		PpRingView view;

		test.random = 1 + (uint64) round * 1000;
		test.close_after = (uint64) round % 50;
		pthread_barrier_init(&test.start, NULL, CLOSE_PRODUCERS + 1);
		pthread_create(&worker, NULL, close_worker, &test);
		for (int i = 0; i < CLOSE_PRODUCERS; i++)
			pthread_create(&threads[i], NULL, close_producer, &test);
		for (int i = 0; i < CLOSE_PRODUCERS; i++)
			pthread_join(threads[i], NULL);

		/* every reservation has resolved: the worker knows, or it wasn't told */
		if (!CHECK(!worker_at_rest(&test.sleeper)))
		{
			__atomic_store_n(&test.leave, true, __ATOMIC_SEQ_CST);
			latch_set(&test.sleeper);
		}
		pthread_join(worker, NULL);

		view = ring_check(ring);
		CHECK(view.closed);
		CHECK(view.reserved == 0);
		CHECK(view.head == view.tail);
		CHECK(test.consumed == count_of(&test.published));
		total += test.consumed;
		CHECK(view.published == total);
		CHECK(view.settled == total);

		pthread_barrier_destroy(&test.start);
		pp_ring_open(ring);
	}
	CHECK(total > 0);
	free(ring);
}

/*-------------------------------------------------------------------------
 * Very many items through a small ring
 *-------------------------------------------------------------------------
 */
#define PRODUCERS 8
#define RING_BYTES (67 * UNIT) /* a prime: nothing comes round evenly */
#define MAX_ENTRIES 2		   /* of one transaction */
#define MAX_PAYLOAD 2000	   /* so that the largest transaction just fits */
#define MAX_ITEM 300
#define MAX_WINDOW 8 /* entries taken and not yet settled */

/* Stands before each item's bytes; they follow pattern_byte(). */
typedef struct Item
{
	uint32 producer;
	uint32 number; /* of this producer's items, from 0 */
	uint32 length;
	uint32 check; /* of the three above */
} Item;

typedef struct Flood
{
	PpRing *ring;
	Sleeper sleeper;
	uint32 per_producer;
	bool given_up; /* atomic: a check failed, everybody leaves */

	/* atomic: what the producers met with */
	uint64 full;
	uint64 aborts;
	uint64 wakes;

	/* the worker's */
	uint64 consumed;
	uint64 sleeps;
	uint64 wrapped; /* entries whose payload wraps */
	uint32 next_number[PRODUCERS];
} Flood;

typedef struct FloodProducer
{
	Flood *flood;
	uint32 number;
} FloodProducer;

/* An entry that the worker has taken */
typedef struct Taken
{
	uint64 at;
	uint32 items;
	uint32 settled;
} Taken;

static uint32
item_check(const Item *item)
{
	return (item->producer * 31 + item->number) * 2654435761u ^ item->length;
}

static uint32
item_seed(const Item *item)
{
	return item->producer * 0x10000001u + item->number;
}

static void
give_up(Flood *flood)
{
	__atomic_store_n(&flood->given_up, true, __ATOMIC_SEQ_CST);
	latch_set(&flood->sleeper);
}

static bool
given_up(Flood *flood)
{
	return __atomic_load_n(&flood->given_up, __ATOMIC_SEQ_CST);
}

/* What a producer hands over in one entry */
typedef struct Payload
{
	uint64 at;
	uint64 length;
	uint32 items;
	char bytes[MAX_PAYLOAD];
} Payload;

/* Fill it with up to `most` items from this number on; at least with one. */
static void
make_payload(Payload *payload, uint64 *random, uint32 producer, uint32 number, uint32 most)
{
	uint32 want = 1 + (uint32) pick(random, Min(most, 24));

	payload->length = 0;
	payload->items = 0;
	while (payload->items < want)
	{
		Item item = {.producer = producer, .number = number + payload->items};

		item.length = (uint32) pick(random, pick(random, 16) == 0 ? MAX_ITEM : 24);
		item.check = item_check(&item);
		if (payload->length + sizeof(Item) + item.length > MAX_PAYLOAD)
			break;
		memcpy(payload->bytes + payload->length, &item, sizeof(Item));
		pattern_fill(payload->bytes + payload->length + sizeof(Item), item_seed(&item),
					 item.length);
		payload->length += sizeof(Item) + item.length;
		payload->items++;
	}
}

/* Reserve, however long it takes.  False: given up */
static bool
flood_reserve(Flood *flood, uint64 bytes)
{
	PpReserveResult result;

	while ((result = pp_ring_reserve(flood->ring, GENERATION, bytes, false)) != PP_RESERVED)
	{
		if (!CHECK(result == PP_RING_FULL))
			give_up(flood);
		if (given_up(flood))
			return false;
		count(&flood->full);
		sched_yield();
	}
	return true;
}

static void
flood_publish(Flood *flood, uint64 *random, Payload *payload)
{
	uint64 cut = pick(random, payload->length + 1);

	pp_ring_write(flood->ring, payload->at, cut, payload->bytes + cut, payload->length - cut);
	if (pick(random, 8) == 0)
		sched_yield();
	pp_ring_write(flood->ring, payload->at, 0, payload->bytes, cut);
	if (pp_ring_publish(flood->ring, payload->at))
	{
		count(&flood->wakes);
		latch_set(&flood->sleeper);
	}
}

static void *
flood_producer(void *arg)
{
	FloodProducer *self = arg;
	Flood *flood = self->flood;
	uint64 random = self->number + 1;
	uint32 number = 0;
	Payload payloads[MAX_ENTRIES];

	yield_at_locks(self->number);
	while (number < flood->per_producer && !given_up(flood))
	{
		uint64 bytes = 0;
		uint64 spare = pick(&random, 8) == 0 ? UNIT : 0;
		uint32 items = 0;
		int entries = 0;
		int most = 1 + (int) pick(&random, MAX_ENTRIES);

		while (entries < most && number + items < flood->per_producer)
		{
			Payload *payload = &payloads[entries++];

			make_payload(payload, &random, self->number, number + items,
						 flood->per_producer - number - items);
			bytes += pp_ring_entry_bytes(payload->length);
			items += payload->items;
		}

		if (!flood_reserve(flood, bytes + spare))
			break;
		ring_check(flood->ring);
		if (pick(&random, 4) == 0)
		{
			if (pick(&random, 2) == 0)
				sched_yield();
			CHECK(!pp_ring_release(flood->ring, bytes + spare, true));
			count(&flood->aborts);
			continue;
		}

		/* the order is that of the beginnings; the publishing may be another */
		for (int i = 0; i < entries; i++)
		{
			payloads[i].at = ring_begin(flood->ring, self->number, payloads[i].items,
										   payloads[i].length, (int64) payloads[i].length);
		}
		for (int i = entries - 1; i >= 0; i--)
			flood_publish(flood, &random, &payloads[i]);
		if (spare > 0)
			CHECK(!pp_ring_release(flood->ring, spare, true));
		number += items;
	}
	return NULL;
}

/*
 * Check an entry's payload.  If it is new, its items must be the next ones of its
 * producer; if it isn't, it must be as sound as it was.
 */
static bool
check_payload(Flood *flood, uint64 at, bool is_new)
{
	PpEntry *entry = pp_ring_entry(flood->ring, at);
	const char *bytes = pp_ring_contiguous(flood->ring, at);
	char copy[MAX_PAYLOAD];
	uint64 offset = 0;

	if (!CHECK(entry->length <= MAX_PAYLOAD))
		return false;
	if (bytes == NULL)
	{
		flood->wrapped++;
		pp_ring_read(flood->ring, at, copy);
		bytes = copy;
	}

	for (uint32 i = 0; i < entry->items; i++)
	{
		Item item;

		if (!CHECK(offset + sizeof(Item) <= entry->length))
			return false;
		memcpy(&item, bytes + offset, sizeof(Item));
		offset += sizeof(Item);
		if (!CHECK(item.check == item_check(&item)) ||
			!CHECK(item.producer == entry->role && item.producer < PRODUCERS) ||
			!CHECK(offset + item.length <= entry->length) ||
			!CHECK(pattern_matches(bytes + offset, item_seed(&item), item.length)))
			return false;
		offset += item.length;
		if (is_new && !CHECK(item.number == flood->next_number[item.producer]++))
			return false;
	}
	return CHECK(offset == entry->length);
}

/* Settle a part or all of one entry of the window; false if it isn't sound. */
static bool
settle_one(Flood *flood, uint64 *random, Taken *window, int *nwindow, bool whole)
{
	int i = (int) pick(random, (uint64) *nwindow);
	Taken *taken = &window[i];
	uint32 items = taken->items - taken->settled;

	/* it may be read up to here, so nobody may have written over it */
	if (!check_payload(flood, taken->at, false))
		return false;
	if (!whole)
		items = 1 + (uint32) pick(random, items);
	pp_ring_settle(flood->ring, taken->at, items);
	pp_ring_free(flood->ring, items);
	flood->consumed += items;
	taken->settled += items;
	if (taken->settled == taken->items)
		window[i] = window[--*nwindow];
	return true;
}

static void *
flood_worker(void *arg)
{
	Flood *flood = arg;
	uint64 total = (uint64) PRODUCERS * flood->per_producer;
	uint64 random = 99;
	uint64 at = 0;
	Taken window[MAX_WINDOW];
	int nwindow = 0;

	yield_at_locks(99);
	while (flood->consumed < total && !given_up(flood))
	{
		PpRingView view = ring_check(flood->ring);
		int before = nwindow;
		bool idle;
		PpEntry *entry;

		while (nwindow < MAX_WINDOW && (entry = pp_ring_take(flood->ring, at, view.tail)) != NULL)
		{
			window[nwindow++] = (Taken){.at = at, .items = entry->items};
			if (!CHECK(entry->published_at == (int64) entry->length) ||
				!CHECK(entry->bytes == pp_ring_entry_bytes(entry->length)) ||
				!check_payload(flood, at, true))
			{
				give_up(flood);
				return NULL;
			}
			at += entry->bytes;
		}

		/* settle here and there; everything, if nothing else is to do */
		idle = nwindow == before;
		while (nwindow > 0 && (idle || pick(&random, 3) > 0))
		{
			if (!settle_one(flood, &random, window, &nwindow, pick(&random, 2) == 0))
			{
				give_up(flood);
				return NULL;
			}
		}

		if (nwindow == 0 && at == view.tail && flood->consumed < total &&
			arm(flood->ring, view.published + 1, NEVER))
		{
			flood->sleeps++;
			latch_wait(&flood->sleeper);
		}
		else if (nwindow == 0)
			sched_yield();
	}
	return NULL;
}

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static void
test_flood(void)
{
	const char *wanted = getenv("RING_TEST_ITEMS");
	uint64 items = wanted != NULL ? strtoull(wanted, NULL, 10) : DEFAULT_ITEMS;
	Flood flood = {.sleeper = SLEEPER_INIT};
	FloodProducer producers[PRODUCERS];
	pthread_t threads[PRODUCERS];
	pthread_t worker;
	double start = seconds();
	PpRingView view;

	flood.ring = ring_new(RING_BYTES);
	flood.per_producer = (uint32) (items / PRODUCERS);
	arm(flood.ring, NEVER, NEVER);
	pthread_create(&worker, NULL, flood_worker, &flood);
	for (uint32 i = 0; i < PRODUCERS; i++)
	{
		producers[i] = (FloodProducer){&flood, i};
		pthread_create(&threads[i], NULL, flood_producer, &producers[i]);
	}
	for (int i = 0; i < PRODUCERS; i++)
		pthread_join(threads[i], NULL);
	pthread_join(worker, NULL);

	/* nothing lost, nothing twice */
	view = ring_check(flood.ring);
	for (int i = 0; i < PRODUCERS; i++)
		CHECK(flood.next_number[i] == flood.per_producer);
	CHECK(flood.consumed == (uint64) PRODUCERS * flood.per_producer);
	CHECK(view.published == flood.consumed);
	CHECK(view.settled == flood.consumed);
	CHECK(view.head == view.tail);
	CHECK(view.reserved == 0);
	CHECK(flood.wakes == flood.sleeps);

	/* and the test did what it is for */
	CHECK(view.peak > RING_BYTES - 4 * UNIT);
	CHECK(flood.full > 0);
	CHECK(flood.aborts > 0);
	CHECK(flood.wrapped > 0);
	printf(
		"# %llu items, %llu bytes in %.1f s; full %llu, aborts %llu, sleeps %llu, wrapped %llu\n",
		(unsigned long long) flood.consumed, (unsigned long long) view.tail, seconds() - start,
		(unsigned long long) flood.full, (unsigned long long) flood.aborts,
		(unsigned long long) flood.sleeps, (unsigned long long) flood.wrapped);
	free(flood.ring);
}

int
main(void)
{
	tap_start();
	TEST(test_wake, "no wake is lost, and none comes twice");
	TEST(test_wake_lazily, "nor if the worker waits for more items or bytes");
	tap_bail_if_failed();
	TEST(test_close, "a worker that leaves is told of the last reservation");
	tap_bail_if_failed();
	TEST(test_flood, "a million items through a small ring: none lost, none twice, in order");
	return tap_finish();
}
