/*-------------------------------------------------------------------------
 *
 * lane.c
 *	  Claims lanes, gives them back, and holds databases; see lane.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "config.h"
#include "extension.h"
#include "lane.h"

#define HOLD_WAIT_MS 5000 /* for a worker to leave; as long as the server's own commands wait */
#define HOLD_LOOK_MS 5

static PpClaim mine = {NULL, 0, InvalidOid};
static bool mine_is_new = false; /* of an installation that hasn't been committed */

#define MAX_HOLDS 8
static Oid my_holds[MAX_HOLDS];
static int nmy_holds = 0;

/* ---- under PpShared.lock ---- */

static PpLane *
find(Oid database)
{
	for (int i = 0; i < pp_max_databases; i++)
	{
		if (pp_lane(i)->database == database)
			return pp_lane(i);
	}
	return NULL;
}

static bool
is_held(Oid database)
{
	for (int i = 0; i < pp_shared->nholds; i++)
	{
		if (pp_shared->holds[i] == database)
			return true;
	}
	return false;
}

/*
 * Is it empty?  Or is its database paused, so that all it has is in the journal?  That
 * gets a lane again when it is resumed.
 */
static bool
is_free(PpLane *lane, const PpRingView *view)
{
	if (view->reserved > 0 || view->diverting > 0)
		return false;
	if (pp_lane_is_paused(lane))
		return pp_ring_volatile_items(&lane->ring) == 0 && !pp_ring_is_busy(&lane->ring);
	return view->head == view->tail && !view->diverted && !view->pass;
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
	lane->leave = is_held(database);

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
	lane = find(database);
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
	*lane = OidIsValid(known->database) ? find(known->database) : NULL;
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
	claim.lane = find(MyDatabaseId);
	if (claim.lane == NULL && create)
	{
		claim.lane = find(InvalidOid);
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

/*
 * Free the lane, if nothing is in it; called by its idle worker or, where it has none, by the
 * launcher.
 */
bool
pp_lane_give_back(PpLane *lane, uint64 generation)
{
	bool given = false;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	if (!pp_ring_is_stale(&lane->ring, generation) && pp_ring_disown(&lane->ring))
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

/* ---- holds ---- */

static void
unhold_at_exit(int code, Datum arg)
{
	pp_unhold_all();
}

/* A process of ours that is connected to the database, or 0; the lane, if it is a worker. */
static pid_t
find_process(Oid database, PpLane **of)
{
	pid_t pid;

	*of = NULL;
	LWLockAcquire(pp_shared->lock, LW_SHARED);
	pid = pp_shared->probe.connected_to == database ? pp_shared->probe.pid : 0;
	LWLockRelease(pp_shared->lock);

	for (int i = 0; i < pp_max_databases && pid == 0; i++)
	{
		PpLane *lane = pp_lane(i);

		SpinLockAcquire(&lane->mutex);
		if (lane->worker_pid != 0 && lane->worker_database == database)
		{
			pid = lane->worker_pid;
			*of = lane;
		}
		SpinLockRelease(&lane->mutex);
	}
	return pid;
}

/* Wait until no process of ours is connected to the database; false: it takes too long. */
static bool
wait_for_departure(Oid database)
{
	PpSteady start = pp_steady_now();
	uint32 wait_event = pp_wait_event("PersistPipelineHold");
	pid_t seen = 0;

	for (;;)
	{
		PpLane *lane;
		pid_t pid = find_process(database, &lane);

		if (pid != 0 && pid != seen)
		{
			if (lane)
				pp_lane_wake(lane);
			seen = pid;
		}
		/* it detaches a moment before it is no longer seen as connected */
		if (pid == 0 && (seen == 0 || BackendPidGetProc(seen) == NULL))
			return true;
		if (pp_has_lasted(start, HOLD_WAIT_MS))
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, HOLD_LOOK_MS,
						 wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
remove_one(Oid *databases, int *n, Oid database)
{
	int i = 0;

	while (databases[i] != database)
		i++;
	databases[i] = databases[--*n];
}

static bool
have_hold(Oid database)
{
	for (int i = 0; i < nmy_holds; i++)
	{
		if (my_holds[i] == database)
			return true;
	}
	return false;
}

/*
 * Send our processes away from the database, and keep them away until pp_unhold().
 * False: one is still there, in code that can't be interrupted.  54000 if this
 * process holds too many.
 */
bool
pp_hold(Oid database)
{
	static bool registered = false;
	PpLane *lane;

	if (!registered)
	{
		before_shmem_exit(unhold_at_exit, (Datum) 0);
		registered = true;
	}

	if (!have_hold(database))
	{
		LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
		if (nmy_holds == MAX_HOLDS || pp_shared->nholds == pp_max_holds())
		{
			LWLockRelease(pp_shared->lock);
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("too many databases are kept from their persist_pipeline workers")));
		}
		pp_shared->holds[pp_shared->nholds++] = database;
		my_holds[nmy_holds++] = database;
		lane = find(database);
		if (lane)
			lane->leave = true;
		LWLockRelease(pp_shared->lock);
	}

	return wait_for_departure(database);
}

/* Let them in again, as far as this process is concerned. */
void
pp_unhold(Oid database)
{
	PpLane *lane;

	if (!have_hold(database))
		return;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	remove_one(my_holds, &nmy_holds, database);
	remove_one(pp_shared->holds, &pp_shared->nholds, database);
	lane = find(database);
	if (lane)
		lane->leave = is_held(database);
	LWLockRelease(pp_shared->lock);

	pp_launcher_wake();
}

void
pp_unhold_all(void)
{
	while (nmy_holds > 0)
		pp_unhold(my_holds[0]);
}

/*
 * Is the database held?  A process that asks before it connects may see a hold
 * come while it does: the holder then waits for it.
 */
bool
pp_is_held(Oid database)
{
	bool held;

	LWLockAcquire(pp_shared->lock, LW_SHARED);
	held = is_held(database);
	LWLockRelease(pp_shared->lock);

	return held;
}

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
	lane = find(database);
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
	lane = find(database);
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
			SpinLockRelease(&lane->mutex);
		}
		SpinLockAcquire(&lane->mutex);
		lane->starts = 0; /* what made workers fail may be gone */
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

/* Let a worker look whether the lane's database is paused. */
static void
doubt_pause(PpLane *lane)
{
	SpinLockAcquire(&lane->mutex);
	lane->paused = false;
	lane->pause_changed = true;
	SpinLockRelease(&lane->mutex);
	pp_lane_wake(lane);
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
	lane = find(database);
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
	lane = find(database);
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
