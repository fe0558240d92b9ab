/*-------------------------------------------------------------------------
 *
 * ring.h
 *	  The queue of one database: a circular buffer of entries that many
 *	  producers fill and one worker empties, in the memory it is given.
 *
 * An entry is what one transaction enqueues as one role, without another role in between: a
 * header of 64 bytes, then the bytes of its items.  Positions are counts of bytes; they never
 * decrease, and modulo `size` they are offsets into `data`.  Entries and the size are multiples
 * of PP_RING_ALIGN, so that a header never wraps, while a payload may.
 *
 *		0 ... head                tail              head + size
 *		      [DONE|READY|BUSY|...)[ reserved ][ free )
 *
 * The life of an entry, and who takes each step:
 *
 *	producer, before commit	 pp_ring_reserve	credit: reserved += bytes
 *	producer, at abort		 pp_ring_release	credit given back
 *	producer, at commit		 pp_ring_begin		credit becomes [tail, tail+bytes),
 *												header written, state BUSY
 *							 pp_ring_write		payload copied, no lock held
 *							 pp_ring_publish	state READY
 *							 pp_ring_put		all three, of a small payload under one hold
 *	worker					 pp_ring_take		walks over READY and DONE entries, in order
 *	worker, at its commit	 pp_ring_settle		state DONE once every item is
 *												settled
 *							 pp_ring_free		head moves over DONE entries
 *
 * Invariant: tail - head + reserved <= size.  Hence pp_ring_begin always finds
 * room for what was reserved, and a commit can't fail for lack of it.
 *
 * The last `kept` bytes are the worker's: a trigger on a target may enqueue, and
 * if other producers could fill the ring to the brim, the worker could not commit
 * what would empty it.
 *
 * Whose ring.  A ring can go from one database to another: when it is empty, its worker gives it
 * back, or the launcher does where there is no worker.  Its generation is then increased; so it
 * is when what producers know of their database is no longer true.  A reservation under an older
 * generation is refused; what was reserved before is still published.  A worker that is attached
 * need not look at the generation: nobody else gives its ring away.
 *
 * What is in the ring alone.  Some items are in no journal, and if the server stopped with
 * them in a ring without a worker, nobody could save them.  So room for them is only reserved
 * while a worker attends the ring, and a worker that leaves lets nobody in any more, waits
 * until what has been reserved has arrived (reserved_alone is 0), and moves it to the journal.
 *
 * A crash takes such items.  Where their tables are there after it that is a risk: for
 * at_risk, the producer says before the publish whether somebody has chosen it, or it is to be
 * bounded (window.h).
 *
 * Positions in commit order.  Each entry gets a `pos` when its transaction asks for room: a
 * number that only grows in a database, over restarts too, since numbers come in ranges from a
 * sequence.  It says in which order transactions came to their commit, also for those that use
 * the journal alone.  Passes and parked items go by it; READY entries are taken in the order in
 * which commits ended, and the two differ only between commits at the same time.
 *
 * Diversion.  A transaction that finds the ring closed, full or diverted writes its items to the
 * journal alone, and diverts the ring at its commit.  While it is diverted nobody reserves, and
 * the worker no longer takes READY entries in their order, but makes a pass:
 *
 *	begin	pass = true; mark = tail; boundary = next; diverted = false, at once
 *	set		the entries below mark, and the journal's rows with pos < boundary
 *	work	strictly in the order of pos; entries from mark on stay untouched
 *	end		pass = false
 *
 * When a worker attaches, the ring is in recovery: nobody reserves, and the worker's first pass
 * is over what is older than the worker (pos < base), and over what is left of a pass that the
 * worker before it had begun.  Items that come meanwhile are diverted, and wait for a batch of
 * their own.
 *
 * Sleeping.  The worker arms the ring with what it waits for (wake_items, wake_tail); the
 * pp_ring_publish that reaches it returns true, and its caller wakes the worker, once.  The entry
 * at the head may be BUSY while READY ones are behind it, and neither number tells that.  So a
 * worker that found nothing to take arms with `published + 1` of the view that it took *before*
 * it looked.  That also works in a closed ring, where the last reservation ends with a publish or
 * a release.
 *
 * Who may write what:
 *	- every field of PpRing below `mutex`: only under `mutex`.  What is called while that is
 *	  held are a few lines of this file, quota.h and counters.h (_locked), which call nothing.
 *	- a header: its producer while BUSY; afterwards only the worker, and only
 *	  `state` and `settled`.
 *	- payload bytes: the producer between begin and publish.  The worker may
 *	  read them from READY until it settles the entry.
 *
 * Barriers: pp_ring_publish puts a write barrier between the payload and READY;
 * its partner is the read barrier in pp_ring_take between READY and the
 * payload.  BUSY is written under `mutex` before tail moves, and tail is read
 * under `mutex`, so that the worker never sees an older state of that header.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_RING_H
#define PP_RING_H

#include "port/atomics.h"
#include "storage/spin.h"

#define PP_RING_ALIGN 64
#define PP_RING_SMALL 512 /* bytes of payload that are copied under the mutex */

/* What does a crash take with an entry that is in the ring alone? */
typedef enum PpRisk
{
	PP_RISK_NONE,	 /* nothing: the items are in the journal, or their tables forget them, too */
	PP_RISK_CHOSEN,	 /* items, which their target or their caller allows */
	PP_RISK_BOUNDED, /* items, which may be so for a while: window.h */
	PP_RISKS
} PpRisk;

/* Entries of one kind of risk */
typedef struct PpAtRisk
{
	uint64 entries; /* published and not DONE */
	uint64 done;	/* of these, since they were counted last; the worker's, without the lock */
	int64 since;	/* when the oldest was published, or a little earlier; 0: there is none */
} PpAtRisk;

/* An entry's state */
#define PP_ENTRY_BUSY 1	 /* position taken, bytes still being copied */
#define PP_ENTRY_READY 2 /* the worker may read it */
#define PP_ENTRY_DONE 3	 /* every item settled, to be freed */

typedef struct PpEntry
{
	pg_atomic_uint32 state;
	Oid role;			/* the enqueuer */
	uint64 bytes;		/* of header and payload, rounded up */
	uint64 length;		/* of the payload alone */
	uint32 items;		/* number of items in the payload */
	uint32 settled;		/* how many of them, the first ones, are settled */
	int64 published_at; /* the time of the commit, by the caller's clock */
	uint32 part;		/* its number among its transaction's entries, from 0 */
	/* number of entries of its transaction: one for each stretch of items of one role */
	uint32 parts;
	Oid extension;		/* the installation that they were enqueued in */
	uint32 refs : 30;	/* the payload is so many PpJournalRefs; 0: it is items */
	uint32 risk : 2;	/* PpRisk */
	uint64 pos;			/* in commit order */
} PpEntry;

typedef struct PpRing
{
	uint64 size; /* of data; constant after pp_ring_init */
	uint64 kept; /* bytes that only the worker may reserve; constant, too */

	slock_t mutex;
	bool closed;		   /* reservations are refused: the worker is leaving */
	uint64 generation;	   /* from 1 on; see above */
	uint64 head;		   /* position of the oldest entry not freed */
	uint64 tail;		   /* position after the newest entry */
	uint64 reserved;	   /* bytes promised to transactions in commit */
	uint64 reserved_alone; /* of these, and of what is BUSY, what is in no journal */
	uint64 peak;		   /* highest tail - head + reserved so far */
	uint64 published;	   /* items ever made READY */
	uint64 settled;		   /* items ever settled */
	uint64 enqueued;	   /* items handed over, here or by the journal, since the database has it */
	uint64 wake_items;	   /* wake the worker when published gets here ... */
	uint64 wake_tail;	   /* ... or tail gets here; UINT64_MAX: don't */
	uint64 next;		   /* the next commit position ... */
	uint64 next_end;	   /* ... and the end of the range that it is in */
	uint64 left_next;	   /* what the database that had the ring before has left of its range */
	uint64 left_end;
	uint32 journal;		   /* the journal that is written to */
	uint32 diverting;	   /* transactions in commit that will divert */
	bool attended;		   /* a worker is there */
	bool recovering;	   /* the journal may have rows from before this worker ... */
	uint64 base;		   /* ... with positions below this */
	bool diverted;		   /* the journal has items that are not in the ring */
	int64 diverted_at;	   /* since when, by the caller's clock */
	int64 diverted_since;  /* since when it, or the pass before, has been; 0: it isn't */
	bool pass;			   /* the worker makes a pass */
	int64 pass_at;		   /* diverted_at of what the pass is over; 0: not known */
	uint64 mark;		   /* of the pass */
	uint64 boundary;	   /* of the pass */
	uint64 passes;		   /* that have ended */
	/* when so many passes have ended, what the worker has moved to the journal is settled */
	uint64 moved;
	uint64 diverted_items; /* for the next pass */
	/* items of this pass that are in no entry of the ring, and not yet settled */
	uint64 pass_items;
	PpAtRisk at_risk[PP_RISKS];
	bool late; /* the worker was: no bounded risk, until it has caught up */

	/* 64-aligned, size bytes */
	char data[FLEXIBLE_ARRAY_MEMBER] pg_attribute_aligned(PP_RING_ALIGN);
} PpRing;

typedef enum PpReserveResult
{
	PP_RESERVED,
	PP_RING_DIVERTED, /* use the journal alone */
	PP_NO_POSITIONS,  /* fetch a range first */
	PP_RING_FULL,
	PP_RING_CLOSED,
	PP_RING_UNATTENDED, /* a worker has to come first */
	PP_RING_STALE /* the generation is another one: the caller has to look for its ring again */
} PpReserveResult;

/* The fields of a ring as they were at one moment */
typedef struct PpRingView
{
	bool closed;
	uint64 generation;
	uint64 head;
	uint64 tail;
	uint64 reserved;
	uint64 reserved_alone;
	uint64 peak;
	uint64 published;
	uint64 settled;
	uint64 enqueued;
	bool recovering;
	bool diverted;
	int64 diverted_at;
	int64 diverted_since;
	bool pass;
	uint64 next;
	uint64 next_end;
	uint64 base;
	uint64 mark;
	uint64 boundary;
	uint64 passes;
	uint64 moved;
	uint64 diverted_items;
	uint32 diverting;
	uint32 journal;
	int64 at_risk_since; /* whatever the risk; 0: nothing is */
} PpRingView;

/* Items that were handed over and are not settled, in the ring or in the journal alone */
static inline uint64
pp_ring_pending(const PpRingView *view)
{
	return view->published - view->settled + view->diverted_items;
}

/* Is a worker there?  A guess without the lock; pp_ring_reserve knows. */
static inline bool
pp_ring_is_attended(PpRing *ring)
{
	return *(volatile bool *) &ring->attended;
}

/* Since when is something at bounded risk, and was the worker late with it?  Without the lock. */
static inline int64
pp_ring_bounded_since(PpRing *ring)
{
	return *(volatile int64 *) &ring->at_risk[PP_RISK_BOUNDED].since;
}

static inline bool
pp_ring_is_late(PpRing *ring)
{
	return *(volatile bool *) &ring->late;
}

/* The header at a position */
static inline PpEntry *
pp_ring_entry(PpRing *ring, uint64 at)
{
	return (PpEntry *) (ring->data + at % ring->size);
}

/* The earlier of two times, of which 0 is none */
static inline int64
pp_ring_earlier(int64 a, int64 b)
{
	return a == 0 ? b : b == 0 ? a : Min(a, b);
}

/* What a transaction is told when it asks for room */
typedef struct PpAdmission
{
	PpReserveResult result;
	uint64 pos;		/* of its first entry */
	uint32 journal; /* to write to */
} PpAdmission;

/* Any process */
extern size_t pp_ring_memory(uint64 size);
extern void pp_ring_init(PpRing *ring, uint64 size, uint64 kept);
extern uint64 pp_ring_entry_bytes(uint64 length);
extern PpRingView pp_ring_view(PpRing *ring);
extern int64 pp_ring_oldest(PpRing *ring);
extern bool pp_ring_is_stale(PpRing *ring, uint64 generation);
extern void pp_ring_count_anew(PpRing *ring);

/* Producers */
extern PpReserveResult pp_ring_reserve(PpRing *ring, uint64 generation, uint64 bytes,
									   bool by_worker);
extern PpAdmission pp_ring_admit_locked(PpRing *ring, uint64 generation, uint64 bytes,
										uint32 entries, bool by_worker, bool ring_only);
extern uint64 pp_ring_take_position(PpRing *ring, uint64 generation);
extern void pp_ring_left_positions(PpRing *ring, uint64 *next, uint64 *end);
extern void pp_ring_add_positions(PpRing *ring, uint64 generation, uint64 next, uint64 end);
extern void pp_ring_move(PpRing *ring, uint64 items, int64 since);
extern bool pp_ring_divert(PpRing *ring, uint64 items, uint64 batch, int64 now);
extern bool pp_ring_undivert(PpRing *ring);
extern bool pp_ring_release(PpRing *ring, uint64 bytes, bool ring_only);
extern uint64 pp_ring_begin(PpRing *ring, const PpEntry *header);
extern void pp_ring_write(PpRing *ring, uint64 at, uint64 offset, const void *src, uint64 length);
extern bool pp_ring_publish(PpRing *ring, uint64 at);
extern bool pp_ring_put(PpRing *ring, const PpEntry *header, const void *payload);

/* The worker (ring_worker.c) */
extern PpEntry *pp_ring_take(PpRing *ring, uint64 at, uint64 end);
extern const char *pp_ring_contiguous(PpRing *ring, uint64 at);
extern void pp_ring_read(PpRing *ring, uint64 at, void *dst);
extern void pp_ring_settle(PpRing *ring, uint64 at, uint32 items);
extern void pp_ring_free(PpRing *ring, uint64 items);
extern bool pp_ring_arm(PpRing *ring, const PpRingView *seen, uint64 items, uint64 tail);
extern PpRingView pp_ring_begin_pass(PpRing *ring);
extern void pp_ring_end_pass(PpRing *ring);
extern void pp_ring_set_journal(PpRing *ring, uint32 journal);
extern void pp_ring_set_late(PpRing *ring, bool late);
extern void pp_ring_set_pass_items(PpRing *ring, uint64 items);
extern void pp_ring_settle_pass_items(PpRing *ring, uint64 items);
extern void pp_ring_attend(PpRing *ring, bool attended);
extern uint64 pp_ring_volatile_items(PpRing *ring);
extern bool pp_ring_is_busy(PpRing *ring);
extern void pp_ring_close(PpRing *ring);
extern void pp_ring_close_at_once(PpRing *ring);
extern void pp_ring_open(PpRing *ring);
extern void pp_ring_recover(PpRing *ring);

/* Its worker that gives it back, or whoever finds that it has none */
extern bool pp_ring_disown(PpRing *ring);
extern bool pp_ring_disown_journalled(PpRing *ring);
extern void pp_ring_renew(PpRing *ring);
extern void pp_ring_restart(PpRing *ring);
extern uint64 pp_ring_clear(PpRing *ring);
extern uint64 pp_ring_discard(PpRing *ring, Oid extension);

#endif /* PP_RING_H */
