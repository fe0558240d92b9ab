/*-------------------------------------------------------------------------
 *
 * parking.h
 *	  Which targets can't be written just now, and when to try again.
 *
 * A target is parked for a role, since what is in the way may be that role's alone (a
 * right that it has lost, say):
 *
 *	whole	  its later items follow those that are parked: they keep their order
 *	not whole  only single items are parked, which wait for a row that somebody has locked;
 *			  later ones pass them
 *
 * This is what the worker knows; a worker that starts finds in the table which items are
 * parked, and tries again.  Others see why, in the lane's tally.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PARKING_H
#define PP_PARKING_H

#include "postgres.h"

#include "lane.h"
#include "results.h"
#include "statement.h"

typedef struct PpParkedKey
{
	Oid target;
	Oid role;
} PpParkedKey;

typedef struct PpParked
{
	PpParkedKey key;
	bool whole;
	bool said; /* in the log */
	int sqlstate;
	int failures;			  /* in a row */
	uint64 width;			  /* so many items at the next try, at most; 0: as many as fit */
	uint64 from;			  /* its items have no lower pos, as far as we know ... */
	uint32 part;			  /* ... nor, with that one, a lower part */
	PpSteady misfit_since;	  /* it takes none of its items; 0: that isn't so */
	bool noted;				  /* that is, with its first item; if not, next time */
	PpSteady retry_at;		  /* PP_NEVER: when somebody says so */
} PpParked;

extern void pp_parking_init(const PpClaim *claim);
extern void pp_parking_load(void);
extern void pp_parking_save(void);
extern bool pp_parking_holds(Oid target, Oid role);
extern bool pp_parking_any_before(Oid target, uint64 pos, uint32 part, const PpParkedKey *but);
extern bool pp_parking_waits_for_lock(void);
extern void pp_parking_hold(PpResults *results, Oid role, const PpRow **rows, uint64 n);
extern void pp_parking_park(const PpRow *first, Oid role, int sqlstate, bool whole);
extern void pp_parking_park_locked(const PpRow **rows, uint64 n, Oid role);
extern bool pp_parking_is_locked(const PpParked *parked);
extern void pp_parking_follow(const PpRow *row, Oid role);
extern void pp_parking_back_off(PpParked *parked, int sqlstate, long spent_ms);
extern void pp_parking_delay(Oid target, Oid role, int timeouts, uint64 width);
extern void pp_parking_advance(PpParked *parked, bool landed);
extern void pp_parking_end(PpParked *parked);
extern PpParked *pp_parking_due(void);
extern PpSteady pp_parking_next(void);
extern void pp_parking_hurry(void);
extern void pp_parking_begin_grace(Oid target, Oid role);
extern void pp_parking_note_grace(PpParked *parked, const PpRow *first);
extern bool pp_parking_grace_is_over(Oid target, Oid role);
extern void pp_parking_look_for_pauses(void);

#endif /* PP_PARKING_H */
