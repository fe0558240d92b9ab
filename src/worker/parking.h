/*-------------------------------------------------------------------------
 *
 * parking.h
 *	  Which targets can't be written just now, and which of the two processes of a database
 *	  does what about it.
 *
 * A target is parked for one role, since the cause may concern that role alone (a right that it
 * has lost, say).  What is parked is what the table persist_parked has:
 *
 *	the worker	alone adds items to it, and tries none of them.  In each transaction it asks,
 *				with a snapshot of the transaction's beginning, whether an item of the target
 *				and role is there, but for those that wait by themselves (for a row that
 *				somebody has locked).  If so, its own follow without a try; or else all that
 *				were parked have been applied by commits before that snapshot, and it inserts.
 *	the retrier	(retrier.h) alone takes items out of it: in one transaction it inserts them,
 *				makes dead letters of them, or puts them back as they are.  It takes nothing
 *				that the batch at work has parked: when it takes an item, all that belongs
 *				before that has been inserted, has died, or is parked, but for what the worker
 *				owes (owes_earlier: a batch has failed, or a worker has ended in the middle of
 *				one).
 *
 * So items stay in order without a lock or a message between the two.  At the end of a batch that
 * has parked something, and when it ends, the worker sets PpSlot.retry_at and parked_seq; the
 * launcher starts a retrier where none is attached.  The retrier leaves when a scan finds nothing
 * that it could try, unless parked_seq has changed since.
 *
 * The slot's counters tell whether anything is parked at all: the worker increases them at its
 * commit and the retrier decreases them at its commit, both after others can see what they did.
 *
 * A target that is paused (persist_pause) is parked without a try, and the retrier leaves it
 * alone; each process reads again which targets those are when PpSlot.pause_changed or
 * PpRetrier.pause_changed says so, or an invalidation of their table does.  The same is done with a
 * target whose code has hung (hanging.h), but that one the retrier tries, and after some tries that
 * come through the worker does, too.
 *
 * Locks.  Once a batch has waited for a lock in vain, or as long as something that is parked waits
 * for one (PpSlot.waits_for_lock), the worker waits for other locks no longer than a moment.
 *
 * A busy target would stay parked for ever, since its new items always find older ones in the
 * table.  So the retrier says when it has just written items of a target that new ones still
 * follow (PpRetrier.landing), and the worker, after a batch in which it has parked such new ones,
 * waits a moment for the rest to be written (pp_parking_has_to_let_land).
 *
 * Each of the two has keys (PpParkedKey) in its own memory: the worker what it has decided in the
 * present batch; the retrier all that is parked, and the results of its tries.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PARKING_H
#define PP_PARKING_H

#include "postgres.h"

#include "utils/hsearch.h"

#include "ring/slots.h"
#include "worker/outcome_counts.h"
#include "worker/statement.h"

#define PP_SPENT_FACTOR 4 /* after a try that took long, wait so many times as long */

typedef struct PpParkedKey
{
	Oid target;
	Oid role;
} PpParkedKey;

typedef struct PpParked
{
	PpParkedKey key;
	bool whole;	  /* later items follow; if not, they pass the single ones that wait */
	int sqlstate; /* why it is parked */
	/*
	 * The commit position of its first item, as far as is known: tells what comes before what.  The
	 * worker knows of those of its batch only.
	 */
	uint64 from;
	uint32 part;
	PpSteady mismatch_since; /* it takes none of its items; 0: that isn't so */

	/* of the worker */
	uint64 asked;	 /* the transaction that has asked the table last ... */
	bool found;		 /* ... and this was the answer */
	bool uncounted;	 /* the error that it was parked for, if no commit has counted that */
	uint64 noted_in; /* the transaction that has parked an item with mismatch_since */
	uint64 lowest;	 /* where a scan of the table's index may begin; kept over batches */

	/* of the retrier */
	bool said;		  /* in the log */
	bool noted;		  /* mismatch_since, with an item; if not, next time */
	uint64 noted_pos; /* the position of that item ... */
	uint32 noted_part;
	bool trying;			 /* just now */
	bool landing;			 /* the last try has brought some in */
	bool waits;				 /* for the end of the batch that has parked it */
	int failures;			 /* in a row */
	uint64 width;			 /* so many items at the next try, at most; 0: as many as fit */
	PpSteady tried_at;		 /* 0: it hasn't been */
	PpSteady retry_at;		 /* when to try it again */
	PpSteady believed_since; /* nothing has landed, for what may soon be over; 0: that isn't so */
} PpParked;

extern HTAB *pp_parking_keys; /* of PpParkedKey to PpParked */

/* Both */
extern void pp_parking_init(const PpClaim *claim);
extern void pp_parking_look_for_pauses(void);
extern void pp_parking_refresh(void);
extern bool pp_parking_is_paused(Oid target);
extern List *pp_parking_add_replaced(List *targets);
extern bool pp_parking_any_replaced(Oid target, bool (*holds)(Oid target, const void *arg),
									const void *arg);
extern PpParked *pp_parking_find(Oid target, Oid role);
extern PpParked *pp_parking_enter(Oid target, Oid role);
extern void pp_parking_note_position(PpParked *parked, uint64 pos, uint32 part);
extern bool pp_parking_has_to_follow(Oid target, Oid role);
extern bool pp_parking_any_needed(Oid target, const PpRow *row, Oid role, bool itself);
extern bool pp_parking_waits_for_lock(void);
extern void pp_parking_park_rows(PpOutcomeCounts *counts, Oid role, const PpRow **rows, uint64 n);
extern void pp_parking_park_row_alone(PpOutcomeCounts *counts, Oid role, const PpRow *row);
extern void pp_parking_note(const PpRow *first, Oid role, int sqlstate, bool whole);
extern int pp_parking_uncounted_error(Oid target, Oid role);
extern void pp_parking_errors_are_counted(const PpOutcomeCounts *counts, Oid role);
extern void pp_parking_park_locked(const PpRow **rows, uint64 n, Oid role);
extern void pp_parking_follow(const PpRow *row, Oid role);
extern void pp_parking_begin_grace_period(Oid target, Oid role);
extern bool pp_parking_grace_period_is_over(Oid target, Oid role);

/* The worker */
extern void pp_parking_begin_batch(void);
extern void pp_parking_end_batch(bool owes_earlier);
extern bool pp_parking_has_to_let_land(void);

#endif /* PP_PARKING_H */
