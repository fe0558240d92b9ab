/*-------------------------------------------------------------------------
 *
 * lane.h
 *	  Which database has which lane.
 *
 * A database gets a lane at its first item, if one is free.  Only its own worker gives it
 * back, or the launcher where there is no worker: when it has been idle for
 * worker_idle_timeout, or another database waits for one;
 * besides, it goes with a database that is dropped.  So whoever is attached to a lane keeps it.
 * What a producer knows of its lane is a claim, of the ring's generation: it is looked at
 * again before each use, and pp_ring_reserve refuses one that is stale.
 *
 * A database that finds no free lane waits for one (PpKnown.wanted_at), and journals meanwhile;
 * so does one that has given its lane back, from the time on when something parked is to be
 * tried.  A lane that is given back goes to the one that has waited longest, under the
 * same lock; PpShared.lanes_wanted tells workers that become idle that somebody waits, and the
 * launcher asks the one that has been idle for longest.
 *
 * What a database's lanes have counted is kept for as long as the server runs, for those
 * who look.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_LANE_H
#define PP_LANE_H

#include "shmem.h"

/* What this process knows of its database's lane */
typedef struct PpClaim
{
	PpLane *lane;
	uint64 generation; /* of the lane's ring */
	Oid extension;	   /* the installation in this database */
} PpClaim;

/* Producers */
extern const PpClaim *pp_lane_claim(void);
extern const PpClaim *pp_lane_claimed(void);
extern const PpClaim *pp_lane_await(PpSteady deadline, bool patient, uint32 wait_event);
extern void pp_lane_want_worker(PpLane *lane, PpSteady until);
extern bool pp_lane_is_wanted(PpLane *lane);
extern void pp_lane_forget_claim(void);
extern void pp_lane_end_transaction(bool committed);
extern PpLane *pp_lane_find(Oid database);
extern Oid pp_lane_database(PpLane *lane);
extern bool pp_lane_is_owed(Oid database);
extern void pp_lane_know(Oid database, bool paused, bool waits);
extern bool pp_lane_known(int number, PpKnown *known, PpLane **lane);

/* The lane's worker */
extern bool pp_lane_attach(PpLane *lane, Oid database, uint64 *generation);
extern bool pp_lane_is_replaced(PpLane *lane);
extern void pp_lane_vacate(PpLane *lane);
extern void pp_lane_detach(PpLane *lane);
extern bool pp_lane_begin_commit(PpLane *lane);
extern bool pp_lane_end_commit(PpLane *lane);
extern bool pp_lane_replace_worker(PpLane *lane, bool allowed, pid_t *pid, Oid *database, Oid *target);
extern bool pp_lane_attach_retrier(PpLane *lane, Oid database, uint64 *generation);
extern bool pp_lane_give_back(PpLane *lane, bool to_others);

/* The launcher */
extern long pp_lanes_serve(void);

/* Commands */
extern void pp_probe_database(Oid database);
extern bool pp_lane_pause_changed(Oid database);
extern bool pp_lane_call_pass(Oid database, uint64 items);
extern bool pp_lane_is_paused(PpLane *lane);
extern void pp_lanes_doubt_pauses(void);
extern uint64 pp_lane_drop(Oid database);
extern uint64 pp_lane_renew(Oid database, Oid gone);

#endif /* PP_LANE_H */
