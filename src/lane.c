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
#include "lane.h"

static PpClaim mine = {NULL, 0, InvalidOid};
static bool mine_is_new = false; /* of an installation that hasn't been committed */

/* ---- under PpShared.lock ---- */

/* Does a process try what is parked of its database?  Then it stays with that. */
static bool
has_retrier(PpLane *lane)
{
	bool attached;

	SpinLockAcquire(&lane->mutex);
	attached = lane->retrier.pid != 0;
	SpinLockRelease(&lane->mutex);

	return attached;
}

/*
 * Is it empty?  Or is its database paused, so that all it has is in the journal?  That
 * gets a lane again when it is resumed.
 */
static bool
is_free(PpLane *lane, const PpRingView *view)
{
	bool empty;

	if (view->reserved > 0 || view->diverting > 0)
		return false;
	if (pp_lane_is_paused(lane))
		empty = pp_ring_volatile_items(&lane->ring) == 0 && !pp_ring_is_busy(&lane->ring);
	else
		empty = view->head == view->tail && !view->diverted && !view->pass;
	if (!empty || !has_retrier(lane))
		return empty;

	/* between two tries it makes way: the next one who asks gets the lane */
	SpinLockAcquire(&lane->mutex);
	lane->retrier.wanted = true;
	SpinLockRelease(&lane->mutex);
	(void) pp_wake(&lane->retrier.sleeper);
	return false;
}

/* The lane that has been empty for longest, taken from its database; or NULL. */
static PpLane *
evict(void)
{
	/* one that gets an item between a look at it and the next is passed over */
	for (int tries = 0; tries < pp_max_databases; tries++)
	{
		PpLane *idlest = NULL;
		PpSteady idle_since = 0;

		for (int i = 0; i < pp_max_databases; i++)
		{
			PpLane *lane = pp_lane(i);
			PpRingView view = pp_ring_view(&lane->ring);
			PpSteady since;

			SpinLockAcquire(&lane->mutex);
			since = lane->idle_since;
			SpinLockRelease(&lane->mutex);
			if (is_free(pp_lane(i), &view) && (idlest == NULL || since < idle_since))
			{
				idlest = lane;
				idle_since = since;
			}
		}
		if (idlest == NULL || pp_ring_disown(&idlest->ring) ||
			(pp_lane_is_paused(idlest) && pp_ring_disown_journalled(&idlest->ring)))
			return idlest;
	}
	return NULL;
}

/* What is known of a database; NULL: nothing, and there is no room to `create` it. */
static PpKnown *
find_known(Oid database, bool create)
{
	PpKnown *unused = NULL;

	for (int i = 0; i < PP_KNOWN; i++)
	{
		PpKnown *known = &pp_shared->known[i];

		if (known->database == database)
			return known;
		if (unused == NULL && !OidIsValid(known->database))
			unused = known;
	}
	if (!create || unused == NULL)
		return NULL;
	*unused = (PpKnown){.database = database};
	return unused;
}

static void
forget_known(Oid database)
{
	PpKnown *known = find_known(database, false);

	if (known)
		*known = (PpKnown){0};
}

/* It has a lane, which knows better. */
static void
enter_lane(Oid database)
{
	PpKnown *known = find_known(database, true);

	if (known)
		known->waits = false;
}

/* The lane is about to be another database's, or nobody's. */
static void
leave_counts(PpLane *lane)
{
	PpKnown *known = find_known(lane->database, false); /* or its extension is gone */

	if (known == NULL)
		return;
	known->parked = pp_tally_parked(&lane->tally);
	SpinLockAcquire(&lane->mutex);
	known->paused = lane->paused;
	known->waits = lane->paused;
	known->written += lane->written;
	known->failed += lane->failed;
	known->batches += lane->batches;
	SpinLockRelease(&lane->mutex);
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

/* Let a lane begin anew; its ring has moved on already. */
static void
assign(PpLane *lane, Oid database)
{
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
	lane->stopped = false;
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
}

/* ---- claims ---- */

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

/* A process has looked into a database with the extension. */
void
pp_lane_know(Oid database, bool paused, bool waits)
{
	PpKnown *known;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	known = find_known(database, true);
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

/* The current database's lane; `create`: a free or idle one, if it has none. */
static PpClaim
look(bool create)
{
	PpClaim claim = {NULL, 0, InvalidOid};
	Oid robbed = InvalidOid;
	bool taken = false;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	claim.lane = pp_lane_of(MyDatabaseId);
	if (claim.lane == NULL && create)
	{
		claim.lane = pp_lane_of(InvalidOid);
		if (claim.lane == NULL)
		{
			claim.lane = evict();
			taken = claim.lane != NULL;
		}
		if (taken && pp_tally_any_parked(&claim.lane->tally))
			robbed = claim.lane->database;
		if (taken)
		{
			leave_ranges(claim.lane);
			leave_counts(claim.lane);
		}
		if (claim.lane)
			assign(claim.lane, MyDatabaseId);
	}
	if (claim.lane && create)
		enter_lane(MyDatabaseId);
	if (claim.lane)
		claim.generation = pp_ring_view(&claim.lane->ring).generation;
	LWLockRelease(pp_shared->lock);

	/* its worker, if it has one, sees that the ring has moved on; who flushes, too */
	if (taken)
	{
		pp_lane_wake(claim.lane);
		ConditionVariableBroadcast(&claim.lane->settled);
	}

	/* its parked items need one again */
	if (OidIsValid(robbed))
		pp_probe_database(robbed);

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

		/* who can't use it shall not take it from another database */
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
 * This process becomes the lane's worker, for that database.  False: the lane is
 * another's by now, has a worker, or its database is held.
 */
bool
pp_lane_attach(PpLane *lane, Oid database, uint64 *generation)
{
	bool attached = false;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	SpinLockAcquire(&lane->mutex);
	if (OidIsValid(database) && lane->database == database && !lane->leave && lane->worker_pid == 0)
	{
		lane->worker_pid = MyProcPid;
		lane->worker_database = database;
		lane->worker_state = PP_WORKER_WRITING;
		lane->commits = false;
		lane->overdue = 0;
		lane->owes_earlier = true; /* it doesn't know what the last one has left */
		lane->stopped = false;
		attached = true;
	}
	else
		lane->starts = 0; /* that start came to nothing, but through no fault */
	SpinLockRelease(&lane->mutex);
	if (attached)
		pp_sleeper_attach(&lane->worker);
	*generation = pp_ring_view(&lane->ring).generation;
	LWLockRelease(pp_shared->lock);

	return attached;
}

/* Under the lane's mutex: it has no worker any more, wherever that was. */
static void
vacate(PpLane *lane)
{
	lane->worker_pid = 0;
	lane->worker_database = InvalidOid;
	lane->worker_state = PP_WORKER_NONE;
	lane->commits = false;
	lane->overdue = 0;
	lane->idle_since = pp_steady_now();
	if (!lane->has_batch)
		return;

	/* in the middle of a batch: what it has parked is there, the rest comes again */
	lane->has_batch = false;
	lane->owes_earlier = true;
	lane->parked_seq++;
	lane->parked_from = 0;
	lane->retry_at = pp_steady_now();
}

/* Has another worker taken the place of this one? */
bool
pp_lane_is_replaced(PpLane *lane)
{
	pid_t pid;

	SpinLockAcquire(&lane->mutex);
	pid = lane->worker_pid;
	SpinLockRelease(&lane->mutex);
	return pid != MyProcPid;
}

/* This process was the lane's worker, or is it still. */
void
pp_lane_detach(PpLane *lane)
{
	bool ours;

	SpinLockAcquire(&lane->mutex);
	ours = lane->worker_pid == MyProcPid;
	if (ours)
		vacate(lane);
	for (int i = 0; i < PP_STUCK; i++)
	{
		if (lane->stuck[i].pid == MyProcPid)
			lane->stuck[i].pid = 0;
	}
	SpinLockRelease(&lane->mutex);
	if (ours)
		pp_sleeper_detach(&lane->worker);
}

/*
 * The worker settles items with the transaction that is open, and may not be replaced before
 * that has ended.  False: it has been.
 */
bool
pp_lane_begin_commit(PpLane *lane)
{
	bool ours;

	SpinLockAcquire(&lane->mutex);
	ours = lane->worker_pid == MyProcPid;
	lane->commits |= ours;
	SpinLockRelease(&lane->mutex);
	return ours;
}

/*
 * That transaction has ended, or whatever else has taken so long.  False: another worker has
 * taken the place of this one.
 */
bool
pp_lane_end_commit(PpLane *lane)
{
	bool ours;

	SpinLockAcquire(&lane->mutex);
	ours = lane->worker_pid == MyProcPid;
	if (ours)
	{
		lane->commits = false;
		lane->overdue = 0;
	}
	SpinLockRelease(&lane->mutex);
	return ours;
}

/*
 * For the launcher: where the worker runs code that can't be ended, another one may take its
 * place.  *pid: of that worker, or 0; *target: of the code, if that is known.  False: it keeps
 * its place.
 */
bool
pp_lane_replace_worker(PpLane *lane, pid_t *pid, Oid *database, Oid *target)
{
	PpStuck *unused = NULL;
	bool replaced = false;

	SpinLockAcquire(&lane->mutex);
	*pid = lane->overdue == lane->worker_pid ? lane->overdue : 0;
	*database = lane->worker_database;
	*target = lane->overdue_target;
	for (int i = 0; i < PP_STUCK; i++)
	{
		if (lane->stuck[i].pid == 0)
			unused = &lane->stuck[i];
	}
	if (*pid != 0 && !lane->commits && unused)
	{
		*unused = (PpStuck){.pid = *pid, .database = lane->worker_database};
		lane->starts = 0;
		vacate(lane);
		replaced = true;
	}
	SpinLockRelease(&lane->mutex);
	if (!replaced)
		return false;
	pp_sleeper_detach(&lane->worker);
	pp_ring_attend(&lane->ring, false);
	return true;
}

/*
 * This process tries what is parked of the lane's database from now on.  False: the lane is
 * another's by now, has a retrier, or its database is held.
 */
bool
pp_lane_attach_retrier(PpLane *lane, Oid database, uint64 *generation)
{
	bool attached = false;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	SpinLockAcquire(&lane->mutex);
	if (OidIsValid(database) && lane->database == database && !lane->leave &&
		lane->retrier.pid == 0)
	{
		lane->retrier.pid = MyProcPid;
		lane->retrier.database = database;
		lane->retrier.wanted = false;
		lane->retrier.state = PP_RETRIER_WRITING;
		lane->retrier.since = pp_steady_now();
		attached = true;
	}
	else
		lane->retrier.starts = 0; /* that start came to nothing, but through no fault */
	SpinLockRelease(&lane->mutex);
	if (attached)
		pp_sleeper_attach(&lane->retrier.sleeper);
	*generation = pp_ring_view(&lane->ring).generation;
	LWLockRelease(pp_shared->lock);

	return attached;
}

/*
 * Free the lane, if nothing is in it and nobody tries what is parked of it; called by its idle
 * worker or, where it has none, by the launcher.
 */
bool
pp_lane_give_back(PpLane *lane, uint64 generation)
{
	bool given = false;
	bool retried;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	SpinLockAcquire(&lane->mutex);
	retried = lane->retrier.pid != 0 || lane->retry_at != PP_NEVER;
	SpinLockRelease(&lane->mutex);
	if (!retried && !pp_ring_is_stale(&lane->ring, generation) &&
		pp_ring_disown(&lane->ring))
	{
		leave_ranges(lane);
		leave_counts(lane);
		lane->database = InvalidOid;
		lane->leave = false;
		given = true;
	}
	LWLockRelease(pp_shared->lock);
	if (given)
		ConditionVariableBroadcast(&lane->settled);

	return given;
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
	forget_known(database);
	LWLockRelease(pp_shared->lock);

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
		forget_known(database);
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

/* Have a database looked into; if others are being, in one more round. */
void
pp_probe_database(Oid database)
{
	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	if (pp_shared->probe.wanted)
		pp_shared->probe.again = true;
	else
	{
		pp_shared->probe.wanted = true;
		pp_shared->probe.database = database;
	}
	LWLockRelease(pp_shared->lock);
	pp_launcher_wake();
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
 * pass is due.  False: it has no lane.  Can't fail.
 */
bool
pp_lane_call_pass(Oid database, uint64 items)
{
	PpLane *lane;
	PpKnown *known;

	/* under the lock: the lane, which may be empty, can't become another's */
	LWLockAcquire(pp_shared->lock, LW_SHARED);
	lane = pp_lane_of(database);
	known = lane == NULL ? find_known(database, false) : NULL;
	if (known)
		known->waits = true;
	if (lane)
	{
		pp_ring_move(&lane->ring, items, pp_steady_now());
		pp_lane_wake(lane);
	}
	LWLockRelease(pp_shared->lock);

	return lane != NULL;
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
