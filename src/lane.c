/*-------------------------------------------------------------------------
 *
 * lane.c
 *	  Claims lanes, and gives them back; see lane.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "config.h"
#include "extension.h"
#include "hold.h"
#include "known.h"
#include "lane.h"

#define LOOK_MS 100	   /* from one look whether a lane can be given back to the next */
#define RETURN_MS 1000 /* until a database that has given its lane up may have one for what is parked */

static PpClaim mine = {NULL, 0, InvalidOid};
static bool mine_is_new = false; /* of an installation that hasn't been committed */

/* ---- under PpShared.lock ---- */

/*
 * Is nothing in the lane, and does nobody wait for its worker?  Or its database is paused, so that
 * all it has is in the journal, and gets a lane again when it is resumed.
 */
static bool
is_empty(PpLane *lane)
{
	PpRingView view = pp_ring_view(&lane->ring);
	bool attended;

	if (!OidIsValid(lane->database) || view.reserved > 0 || view.diverting > 0 ||
		pp_lane_is_wanted(lane))
		return false;
	if (!pp_lane_is_paused(lane))
		return view.head == view.tail && !view.diverted && !view.pass;

	SpinLockAcquire(&lane->mutex);
	attended = lane->worker_pid != 0;
	SpinLockRelease(&lane->mutex);
	return !attended && pp_ring_volatile_items(&lane->ring) == 0 && !pp_ring_is_busy(&lane->ring);
}

/*
 * What is parked is tried first, where that is due.  One that can't be started, or fails, keeps
 * nobody waiting.
 */
static bool
is_retried(PpLane *lane)
{
	bool paused = pp_lane_is_paused(lane);
	bool retried;

	SpinLockAcquire(&lane->mutex);
	retried = lane->retrier.pid != 0 ||
			  (!paused && lane->retry_at <= pp_steady_now() && !lane->retrier.refused &&
			   lane->retrier.starts <= 1);
	SpinLockRelease(&lane->mutex);
	return retried;
}

/* A retrier makes way between two tries. */
static void
ask_retrier(PpLane *lane)
{
	SpinLockAcquire(&lane->mutex);
	lane->retrier.wanted |= lane->retrier.pid != 0;
	SpinLockRelease(&lane->mutex);
	(void) pp_wake(&lane->retrier.sleeper);
}

/* Somebody has just got the lane, and has yet to use it. */
static bool
is_new(PpLane *lane)
{
	bool started;
	PpSteady since;

	SpinLockAcquire(&lane->mutex);
	started = lane->last_start != 0;
	since = lane->idle_since;
	SpinLockRelease(&lane->mutex);
	return !started && !pp_has_lasted(since, LOOK_MS);
}

/* The lane that has been empty for longest, of those that its database could do without; or NULL. */
static PpLane *
find_idlest(void)
{
	PpLane *idlest = NULL;
	PpSteady idle_since = 0;

	for (int i = 0; i < pp_max_databases; i++)
	{
		PpLane *lane = pp_lane(i);
		PpSteady since;

		if (!is_empty(lane))
			continue;
		if (is_retried(lane))
		{
			ask_retrier(lane);
			continue;
		}
		SpinLockAcquire(&lane->mutex);
		since = lane->idle_since;
		SpinLockRelease(&lane->mutex);
		if (idlest == NULL || since < idle_since)
		{
			idlest = lane;
			idle_since = since;
		}
	}
	return idlest && is_new(idlest) ? NULL : idlest;
}

/* Have the database looked into; if others are to be, in a round that comes after that. */
static void
want_probe(Oid database)
{
	PpProbe *probe = &pp_shared->probe;

	if (!probe->round && !OidIsValid(probe->database))
		probe->database = database;
	else if (probe->database != database)
		probe->again = true;
	pp_launcher_wake();
}

/* The lane is about to be another database's, or nobody's; what is parked will need one again. */
static void
leave_counts(PpLane *lane)
{
	PpKnown *known = pp_known_find(lane->database, false); /* or its extension is gone */
	PpKnown unknown = {0};
	PpSteady retry_at;

	known = known ? known : &unknown;
	if (pp_tally_is_counted(&lane->tally))
		known->parked = pp_tally_parked(&lane->tally);
	SpinLockAcquire(&lane->mutex);
	known->paused = lane->paused;
	known->waits = lane->paused;
	known->written += lane->written;
	known->failed += lane->failed;
	known->batches += lane->batches;
	retry_at = lane->paused ? PP_NEVER : lane->retry_at;
	SpinLockRelease(&lane->mutex);

	/* not at once, or it would come before the one that gets the lane now */
	if (retry_at != PP_NEVER &&
		!pp_known_want(lane->database, Max(retry_at, pp_steady_in(RETURN_MS))))
		want_probe(lane->database);
}

/*
 * What is left of the ranges that were leased for the lane is for the next one of its
 * database.  Its ring has moved on: nobody takes any more of them.
 */
static void
leave_ranges(PpLane *lane)
{
	PpIdRange left[PP_RANGES];
	uint64 next;
	uint64 end;
	PpLease *lease;
	Oid extension;

	SpinLockAcquire(&lane->mutex);
	extension = lane->ids_of;
	left[PP_RANGE_IDS] = lane->ids;
	left[PP_RANGE_SPARE_IDS] = lane->spare_ids;
	lane->ids_of = InvalidOid;
	SpinLockRelease(&lane->mutex);
	if (!OidIsValid(extension))
		return;
	pp_ring_left_positions(&lane->ring, &next, &end);
	left[PP_RANGE_POSITIONS] = (PpIdRange){.next = next, .end = end};

	SpinLockAcquire(&pp_shared->mutex);
	lease = pp_lease_find(lane->database, extension);
	memcpy(lease->left, left, sizeof(left));
	lease->left_at = lease->leased;
	SpinLockRelease(&pp_shared->mutex);
}

/*
 * Let a lane begin anew; its ring has moved on already.  What its database is known to have, in
 * the journal or parked, is due.
 */
static void
assign(PpLane *lane, Oid database)
{
	PpKnown *known = pp_known_find(database, false);
	bool owes = known && (known->waits || known->parked > 0);

	lane->database = database;
	lane->leave = pp_is_held_locked(database);

	SpinLockAcquire(&lane->mutex);
	lane->starts = 0;
	lane->last_start = 0;
	lane->written = 0;
	lane->batches = 0;
	lane->failed = 0;
	lane->discarded = 0;
	lane->idle_since = pp_steady_now();
	lane->wanted_until = 0;
	lane->paused = false;
	lane->pause_changed = false;
	lane->ids_of = InvalidOid;
	lane->stuck_sqlstate = 0;
	lane->retry_at = PP_NEVER;
	lane->nretries = 0;
	lane->owes_earlier = true;
	lane->parked_from = PG_UINT64_MAX;
	lane->waits_for_lock = false;
	lane->retrier.starts = 0;
	lane->retrier.refused = false;
	lane->retrier.pause_changed = false;
	lane->expired_at = 0;
	lane->rate = 0;
	memset(lane->retired, 0, sizeof(lane->retired));
	SpinLockRelease(&lane->mutex);
	pp_quota_reset(&lane->quota);
	pp_quota_reset(&lane->letters);
	pp_tally_reset(&lane->tally);
	pp_known_enter(database);
	if (!owes)
		return;
	pp_ring_move(&lane->ring, 0, pp_steady_now());
	pp_launcher_wake();
}

/* Lanes that nobody has go to databases that wait.  True: one has got one, which is to be told. */
static bool
serve(void)
{
	bool served = false;
	PpKnown *known;
	PpLane *lane;

	while ((known = pp_known_first()) != NULL && (lane = pp_lane_of(InvalidOid)) != NULL)
	{
		assign(lane, known->database);
		served = true;
	}
	pp_shared->lanes_wanted = known != NULL;
	return served;
}

/* Take the lane from its database; by its worker, which leaves it, or where there is none. */
static bool
give_back(PpLane *lane, bool to_others)
{
	bool ours;
	bool kept;

	SpinLockAcquire(&lane->mutex);
	ours = lane->worker_pid == MyProcPid;
	kept = (lane->worker_pid != 0 && !ours) ||
		   (!to_others && (lane->retrier.pid != 0 || lane->retry_at != PP_NEVER));
	SpinLockRelease(&lane->mutex);
	if (kept || (to_others && (!is_empty(lane) || is_retried(lane))))
		return false;
	if (!pp_ring_disown(&lane->ring) &&
		!(to_others && pp_lane_is_paused(lane) && pp_ring_disown_journalled(&lane->ring)))
		return false;

	leave_ranges(lane);
	leave_counts(lane);
	lane->database = InvalidOid;
	lane->leave = false;
	if (ours)
	{
		pp_sleeper_detach(&lane->worker);
		SpinLockAcquire(&lane->mutex);
		pp_lane_vacate(lane);
		SpinLockRelease(&lane->mutex);
	}
	ConditionVariableBroadcast(&lane->settled); /* who flushes */
	return true;
}

/* ---- claims ---- */

static void
tell_served(void)
{
	pp_launcher_wake();
	ConditionVariableBroadcast(&pp_shared->served);
}

PpLane *
pp_lane_find(Oid database)
{
	PpLane *lane;

	LWLockAcquire(pp_shared->lock, LW_SHARED);
	lane = pp_lane_of(database);
	LWLockRelease(pp_shared->lock);

	return lane;
}

Oid
pp_lane_database(PpLane *lane)
{
	Oid database;

	LWLockAcquire(pp_shared->lock, LW_SHARED);
	database = lane->database;
	LWLockRelease(pp_shared->lock);

	return database;
}

/* Does it wait for a lane, now or later, to try what is parked? */
bool
pp_lane_is_owed(Oid database)
{
	PpKnown *known;
	bool owed;

	LWLockAcquire(pp_shared->lock, LW_SHARED);
	known = pp_known_find(database, false);
	owed = known && known->wanted_at != 0 && known->parked > 0;
	LWLockRelease(pp_shared->lock);

	return owed;
}

/* A process has looked into a database with the extension. */
void
pp_lane_know(Oid database, bool paused, bool waits)
{
	PpKnown *known;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	known = pp_known_find(database, true);
	if (known)
	{
		known->paused = paused;
		known->waits = waits;
	}
	LWLockRelease(pp_shared->lock);
}

/* One of PP_KNOWN, and its lane, if it has one; false: none. */
bool
pp_lane_known(int number, PpKnown *known, PpLane **lane)
{
	LWLockAcquire(pp_shared->lock, LW_SHARED);
	*known = pp_shared->known[number];
	*lane = OidIsValid(known->database) ? pp_lane_of(known->database) : NULL;
	LWLockRelease(pp_shared->lock);

	return OidIsValid(known->database);
}

static bool
is_good(const PpClaim *claim)
{
	return claim->lane != NULL && !pp_ring_is_stale(&claim->lane->ring, claim->generation);
}

/* The current database's lane; `create`: a free one, if it has none, or else it waits for one. */
static PpClaim
look(bool create)
{
	PpClaim claim = {NULL, 0, InvalidOid};

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	claim.lane = pp_lane_of(MyDatabaseId);
	if (claim.lane && create)
		pp_known_enter(MyDatabaseId);
	else if (create)
	{
		claim.lane = pp_lane_of(InvalidOid);
		if (claim.lane)
			assign(claim.lane, MyDatabaseId);
		else
			(void) pp_known_want(MyDatabaseId, pp_steady_now());
	}
	if (claim.lane)
		claim.generation = pp_ring_view(&claim.lane->ring).generation;
	LWLockRelease(pp_shared->lock);

	return claim;
}

/*
 * The claim to the current database's lane.  NULL: all lanes have items of other
 * databases.  The errors of pp_extension_get().
 */
const PpClaim *
pp_lane_claim(void)
{
	while (!is_good(&mine))
	{
		PpClaim claim;

		/* who can't use it shall not keep it from another database */
		(void) pp_extension_get();

		claim = look(true);
		if (claim.lane == NULL)
			return NULL;

		/* after the generation: if it changes from now on, so does that */
		claim.extension = pp_extension_oid();
		mine = claim;
		mine_is_new = pp_extension_is_uncommitted(claim.extension);
	}
	return &mine;
}

/* The same, but NULL if the database has no lane. */
const PpClaim *
pp_lane_claimed(void)
{
	if (!is_good(&mine) && look(false).lane == NULL)
		return NULL;
	return pp_lane_claim();
}

/* This transaction does something to the extension: look again. */
void
pp_lane_forget_claim(void)
{
	mine.lane = NULL;
}

/* Could a database do without its lane, now or after a try? */
static bool
any_is_empty(void)
{
	bool any = false;

	LWLockAcquire(pp_shared->lock, LW_SHARED);
	for (int i = 0; i < pp_max_databases && !any; i++)
		any = is_empty(pp_lane(i));
	LWLockRelease(pp_shared->lock);

	return any;
}

/*
 * The same, but wait for one.  NULL: there was none up to the deadline, or, unless
 * `patient`, all have items of other databases.
 */
const PpClaim *
pp_lane_await(PpSteady deadline, bool patient, uint32 wait_event)
{
	const PpClaim *claim;
	long ms;

	if ((claim = pp_lane_claim()) != NULL)
		return claim;
	ConditionVariablePrepareToSleep(&pp_shared->served);
	while ((claim = pp_lane_claim()) == NULL && (patient || any_is_empty()) &&
		   (ms = pp_ms_until(deadline)) > 0)
		(void) ConditionVariableTimedSleep(&pp_shared->served, Min(ms, LOOK_MS), wait_event);
	ConditionVariableCancelSleep();
	return claim;
}

/*
 * A transaction, or a subtransaction that didn't commit, has ended.  A claim that
 * was made in it may name an installation that was made in it, too.  One of another is
 * kept: to make it costs more than a savepoint.
 */
void
pp_lane_end_transaction(bool committed)
{
	if (!committed && mine_is_new)
		pp_lane_forget_claim();
	if (committed || mine.lane == NULL)
		mine_is_new = false;
}

/*
 * Give the lane back, if nothing is in it and nobody tries what is parked of it; called by its
 * idle worker, which has no lane any more then, or, where it has none, by the launcher.
 * `to_others`: only if another database waits for one, which gets it at once.
 */
bool
pp_lane_give_back(PpLane *lane, bool to_others)
{
	bool given;
	bool served;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	given = (!to_others || pp_known_first()) && give_back(lane, to_others);
	served = given && serve();
	LWLockRelease(pp_shared->lock);
	if (served)
		tell_served();

	return given;
}

/*
 * For the launcher: lanes for databases that wait, from those that can do without.  Where a
 * worker is idle it is asked; others look when they become idle.  Returns the ms until it has to
 * be called again, or -1.
 */
long
pp_lanes_serve(void)
{
	bool served;
	bool wanted;
	PpLane *idlest = NULL;
	PpSteady next;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	served = serve();
	/* those that become idle from now on see it */
	while (pp_shared->lanes_wanted && (idlest = find_idlest()) != NULL &&
		   give_back(idlest, true))
		served |= serve();
	wanted = pp_shared->lanes_wanted;
	if (wanted && idlest)
	{
		/* the next time it is another one's turn: this one may have something to do by now */
		SpinLockAcquire(&idlest->mutex);
		idlest->idle_since = pp_steady_now();
		SpinLockRelease(&idlest->mutex);
		(void) pp_wake(&idlest->worker);
	}
	next = pp_known_next();
	LWLockRelease(pp_shared->lock);
	if (served)
		tell_served();

	/* whatever becomes free meanwhile, and doesn't say so */
	if (wanted)
		next = Min(next, pp_steady_in(LOOK_MS));
	return next == PP_NEVER ? -1 : Max(pp_ms_until(next), 1);
}

/* ---- commands ---- */

/*
 * The database, which we hold, has been dropped: free its lane.  Returns how many
 * items were in it.
 */
uint64
pp_lane_drop(Oid database)
{
	PpLane *lane;
	bool served;
	uint64 items = 0;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	lane = pp_lane_of(database);
	if (lane)
	{
		items = pp_ring_clear(&lane->ring) + pp_tally_parked(&lane->tally);
		lane->database = InvalidOid;
		lane->leave = false;
	}
	if (pp_shared->probe.database == database)
		pp_shared->probe.database = InvalidOid;
	pp_known_forget(database);
	served = serve();
	LWLockRelease(pp_shared->lock);
	if (served)
		tell_served();

	return items;
}

/*
 * The extension in the database, which we hold, has been dropped or altered: make
 * everybody look at it again.  Items of the installation that is `gone` (or
 * InvalidOid) are discarded; returns how many.  Can't fail.
 */
uint64
pp_lane_renew(Oid database, Oid gone)
{
	PpLane *lane;
	uint64 items = 0;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	if (OidIsValid(gone))
		pp_known_forget(database);
	lane = pp_lane_of(database);
	if (lane)
	{
		pp_ring_renew(&lane->ring);
		if (OidIsValid(gone))
		{
			items = pp_ring_discard(&lane->ring, gone);
			pp_ring_restart(&lane->ring);
			pp_quota_reset(&lane->quota);
			pp_tally_reset(&lane->tally);
			SpinLockAcquire(&lane->mutex);
			lane->discarded += items;
			lane->ids_of = InvalidOid;
			lane->retry_at = PP_NEVER;
			lane->nretries = 0;
			SpinLockRelease(&lane->mutex);
		}
		SpinLockAcquire(&lane->mutex);
		lane->starts = lane->retrier.starts = 0; /* what made them fail may be gone */
		if (OidIsValid(gone))
		{
			lane->paused = false;
			lane->pause_changed = true;
			memset(lane->retired, 0, sizeof(lane->retired));
		}
		SpinLockRelease(&lane->mutex);
	}
	LWLockRelease(pp_shared->lock);
	if (lane)
		ConditionVariableBroadcast(&lane->settled);

	return items;
}

void
pp_probe_database(Oid database)
{
	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	want_probe(database);
	LWLockRelease(pp_shared->lock);
}

/* Let both its processes look whether the lane's database is paused, or targets are. */
static void
doubt_pause(PpLane *lane)
{
	bool parked = pp_tally_any_parked(&lane->tally);

	SpinLockAcquire(&lane->mutex);
	lane->paused = false;
	lane->pause_changed = lane->retrier.pause_changed = true;
	if (parked)
		lane->retry_at = pp_steady_now();
	SpinLockRelease(&lane->mutex);
	pp_lane_wake(lane);
	pp_retrier_wake(lane);
}

/*
 * A transaction that has committed has paused or resumed the database.  False: it has
 * no lane.  Can't fail.
 */
bool
pp_lane_pause_changed(Oid database)
{
	PpLane *lane;

	LWLockAcquire(pp_shared->lock, LW_SHARED);
	lane = pp_lane_of(database);
	if (lane)
		doubt_pause(lane);
	LWLockRelease(pp_shared->lock);

	return lane != NULL;
}

/*
 * The database's journal has rows, of so many items, that its ring doesn't know of: a
 * pass is due, now or when it has a lane.  False: it has none, and there is no room to note that
 * it waits for one.  Can't fail.
 */
bool
pp_lane_call_pass(Oid database, uint64 items)
{
	PpLane *lane;
	bool known = true;
	bool served = false;

	/* under the lock: the lane, which may be empty, can't become another's */
	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	lane = pp_lane_of(database);
	if (lane)
	{
		pp_ring_move(&lane->ring, items, pp_steady_now());
		pp_lane_wake(lane);
	}
	else if ((known = pp_known_want(database, pp_steady_now())))
	{
		pp_known_find(database, false)->waits = true;
		served = serve();
	}
	LWLockRelease(pp_shared->lock);
	if (served)
		tell_served();

	return known;
}

bool
pp_lane_is_paused(PpLane *lane)
{
	bool paused;

	SpinLockAcquire(&lane->mutex);
	paused = lane->paused;
	SpinLockRelease(&lane->mutex);

	return paused;
}

/*
 * Somebody waits, until then, for the lane's worker to be there, and the launcher starts one; 0:
 * it has come.
 */
void
pp_lane_want_worker(PpLane *lane, PpSteady until)
{
	SpinLockAcquire(&lane->mutex);
	lane->wanted_until = until == 0 ? 0 : Max(lane->wanted_until, until);
	SpinLockRelease(&lane->mutex);
	if (until != 0)
		pp_launcher_wake();
}

bool
pp_lane_is_wanted(PpLane *lane)
{
	PpSteady until;

	SpinLockAcquire(&lane->mutex);
	until = lane->wanted_until;
	SpinLockRelease(&lane->mutex);

	return until != 0 && until > pp_steady_now();
}

/* The setting start_paused may have changed; a worker may just be looking. */
void
pp_lanes_doubt_pauses(void)
{
	for (int i = 0; i < pp_max_databases; i++)
	{
		if (OidIsValid(pp_lane_database(pp_lane(i))))
			doubt_pause(pp_lane(i));
	}
}
