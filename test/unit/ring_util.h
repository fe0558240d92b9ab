/*-------------------------------------------------------------------------
 *
 * ring_util.h
 *	  What the tests of ring.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RING_UTIL_H
#define RING_UTIL_H

#include "ring/ring.h"
#include "tap.h"

#define GENERATION 1 /* of a new ring */

/* What memory holds before anybody has written it */
#define GARBAGE 0xA5

/*
 * A ring in memory of exactly its size, so that the address sanitizer sees the
 * first byte beyond, and full of garbage, so that nothing works just because
 * memory is zero.
 */
static inline PpRing *
ring_new(uint64 size)
{
	PpRing *ring = aligned_alloc(PP_RING_ALIGN, pp_ring_memory(size));

	if (ring == NULL)
		abort();
	memset(ring, GARBAGE, pp_ring_memory(size));
	pp_ring_init(ring, size, 0);
	pp_ring_attend(ring, true); /* by a worker */
	return ring;
}

/* Arm the ring as it is now. */
static inline bool
arm(PpRing *ring, uint64 items, uint64 tail)
{
	PpRingView view = pp_ring_view(ring);

	return pp_ring_arm(ring, &view, items, tail);
}

/* What holds for every ring at every moment. */
static inline PpRingView
ring_check(PpRing *ring)
{
	PpRingView view = pp_ring_view(ring);

	CHECK(view.head <= view.tail);
	CHECK(view.reserved <= ring->size);
	CHECK(view.tail - view.head + view.reserved <= ring->size);
	CHECK(view.tail - view.head + view.reserved <= view.peak);
	CHECK(view.peak <= ring->size);
	CHECK(view.head % PP_RING_ALIGN == 0);
	CHECK(view.tail % PP_RING_ALIGN == 0);
	CHECK(view.reserved % PP_RING_ALIGN == 0);
	CHECK(view.settled <= view.published);
	return view;
}

/* Pseudo-random numbers (xorshift64*); the state must not be 0. */
static inline uint64
next_random(uint64 *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

/* One of 0 .. n - 1 */
static inline uint64
pick(uint64 *state, uint64 n)
{
	return (next_random(state) >> 32) % n;
}

/* Byte i of a payload that nobody else has: neither shifted nor of another seed */
static inline uint8
pattern_byte(uint32 seed, uint64 i)
{
	uint32 x = seed * 2654435761u + (uint32) i * 40503u;

	x ^= x >> 15;
	x *= 2246822519u;
	return (uint8) (x >> 24);
}

static inline void
pattern_fill(char *dst, uint32 seed, uint64 length)
{
	for (uint64 i = 0; i < length; i++)
		dst[i] = (char) pattern_byte(seed, i);
}

static inline bool
pattern_matches(const char *src, uint32 seed, uint64 length)
{
	for (uint64 i = 0; i < length; i++)
	{
		if ((uint8) src[i] != pattern_byte(seed, i))
			return false;
	}
	return true;
}

/* An entry that stands alone in its transaction */
static inline uint64
ring_begin(PpRing *ring, Oid role, uint32 items, uint64 length, int64 now)
{
	PpEntry header = {
		.role = role, .items = items, .length = length, .published_at = now, .parts = 1};

	return pp_ring_begin(ring, &header);
}

static inline PpAdmission
ring_admit(PpRing *ring, uint64 generation, uint64 bytes, uint32 entries, bool by_worker,
		   bool ring_only)
{
	PpAdmission admission;

	SpinLockAcquire(&ring->mutex);
	admission = pp_ring_admit_locked(ring, generation, bytes, entries, by_worker, ring_only);
	SpinLockRelease(&ring->mutex);

	return admission;
}

#endif /* RING_UTIL_H */
