/*-------------------------------------------------------------------------
 *
 * parking.h
 *	  Which targets can't be written just now, and which of the two processes of a database
 *	  does what about it.
 *
 * A target is parked for a role, since what is in the way may be that role's alone (a
 * right that it has lost, say).  The table persist_parked is the truth:
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
 * So their order needs neither a lock nor a message.  That there is something to do is told
 * at the end of a batch that has parked something (PpLane.retry_at, parked_seq), and again
 * when a worker ends; the launcher starts a retrier where none is attached.  It leaves when a
 * scan finds nothing that it could try, unless parked_seq has moved since.
 *
 * That nothing is parked at all is told by the lane's tally, which the worker raises at its
 * own commit and the retrier lowers at its: both after what they did can be seen.
 *
 * The keys below are in the memory of each of the two: of the worker, what it has decided in
 * the batch at work; of the retrier, all that is parked, and what has come of the tries.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PARKING_H
#define PP_PARKING_H

#include "postgres.h"

#include "utils/hsearch.h"

#include "lane.h"
#include "results.h"
#include "statement.h"

#define PP_SPENT_FACTOR 4 /* of what is slow to fail we are not to do much */

typedef struct PpParkedKey
{
	Oid target;
	Oid role;
} PpParkedKey;

typedef struct PpParked
{
	PpParkedKey key;
	bool whole;	   /* later items follow; if not, they pass the single ones that wait */
	int sqlstate;  /* why it is parked */
	uint64 from;   /* its items have no lower pos, as far as we know ... */
	uint32 part;   /* ... nor, with that one, a lower part */
	PpSteady misfit_since; /* it takes none of its items; 0: that isn't so */

	/* of the worker */
	uint64 asked; /* the transaction that has asked the table last ... */
	bool found;	  /* ... and this was the answer */
	uint64 noted_in; /* the transaction that has parked an item with misfit_since */
	uint64 lowest;	 /* no row in the table has a lower pos */

	/* of the retrier */
	bool said;			  /* in the log */
	bool noted;			  /* misfit_since, with its first item; if not, next time */
	bool trying;		  /* just now */
	bool landing;		  /* the last try has brought some in */
	bool waits;			  /* for the end of the batch that has parked it */
	int failures;		  /* in a row */
	uint64 width;		  /* so many items at the next try, at most; 0: as many as fit */
	PpSteady tried_at;	  /* 0: it hasn't been */
	PpSteady retry_at;	  /* when to try it again */
	PpSteady believed_since; /* nothing has landed, for what may soon be over; 0: that isn't so */
} PpParked;

extern HTAB *pp_parked_keys; /* of PpParkedKey to PpParked */

/* Both */
extern void pp_parking_init(const PpClaim *claim);
extern void pp_parking_look_for_pauses(void);
extern bool pp_parking_is_paused(Oid target);
extern PpParked *pp_parking_find(Oid target, Oid role);
extern PpParked *pp_parking_enter(Oid target, Oid role);
extern void pp_parking_note_place(PpParked *parked, uint64 pos, uint32 part);
extern bool pp_parking_holds(Oid target, Oid role);
extern bool pp_parking_any_before(Oid target, uint64 pos, uint32 part, const PpParkedKey *but);
extern bool pp_parking_waits_for_lock(void);
extern void pp_parking_hold(PpResults *results, Oid role, const PpRow **rows, uint64 n);
extern void pp_parking_hold_alone(PpResults *results, Oid role, const PpRow *row);
extern void pp_parking_park(const PpRow *first, Oid role, int sqlstate, bool whole);
extern void pp_parking_park_locked(const PpRow **rows, uint64 n, Oid role);
extern void pp_parking_follow(const PpRow *row, Oid role);
extern void pp_parking_begin_grace(Oid target, Oid role);
extern bool pp_parking_grace_is_over(Oid target, Oid role);
extern void pp_parking_note_hang(Oid target);
extern void pp_parking_note_outlived(Oid database, Oid target);
extern bool pp_parking_has_hung(Oid target);
extern bool pp_parking_has_hung_elsewhere(Oid target);
extern void pp_parking_note_written(Oid target);

/* The worker */
extern void pp_parking_begin_batch(void);
extern void pp_parking_end_batch(bool owes_earlier);
extern bool pp_parking_has_to_let_land(void);

#endif /* PP_PARKING_H */
