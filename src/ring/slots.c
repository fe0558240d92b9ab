/*-------------------------------------------------------------------------
 *
 * slots.c
 *	  Which database has which slot, and when it gives it back; the claim of this process to its
 *	  database's slot; see slots.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/config.h"
#include "base/extension.h"
#include "ring/databases.h"
#include "ring/slots.h"

/* until a database that has given its slot up may have one for what is parked */
#define RETURN_MS 1000

/* ---- under PpShmem.lock ---- */

/*
 * Is nothing in the slot, and does nobody wait for its worker?  Or its database is paused, so that
 * all it has is in the journal, and gets a slot again when it is resumed.
 */
static bool
is_slot_empty_locked(PpSlot *slot)
{
	PpRingView view = pp_ring_view(&slot->ring);
	bool attended;

	if (!OidIsValid(slot->database) || view.reserved > 0 || view.diverting > 0 ||
		pp_slot_is_wanted(slot))
		return false;
	if (!pp_slot_is_paused(slot))
		return view.head == view.tail && !view.diverted && !view.pass;

	SpinLockAcquire(&slot->mutex);
	attended = slot->worker_pid != 0;
	SpinLockRelease(&slot->mutex);
	return !attended && pp_ring_volatile_items(&slot->ring) == 0 && !pp_ring_is_busy(&slot->ring);
}

/*
 * What is parked is tried first, where that is due.  One that can't be started, or fails, keeps
 * nobody waiting.
 */
static bool
is_slot_retried(PpSlot *slot)
{
	bool paused = pp_slot_is_paused(slot);
	bool retried;

	SpinLockAcquire(&slot->mutex);
	retried = slot->retrier.pid != 0 ||
			  (!paused && slot->retry_at <= pp_steady_now() && !slot->retrier.refused &&
			   slot->retrier.starts <= 1);
	SpinLockRelease(&slot->mutex);
	return retried;
}

/* A retrier makes way between two tries. */
static void
ask_retrier(PpSlot *slot)
{
	SpinLockAcquire(&slot->mutex);
	slot->retrier.wanted |= slot->retrier.pid != 0;
	SpinLockRelease(&slot->mutex);
	(void) pp_sleeper_wake(&slot->retrier.sleeper);
}

/* Somebody has just got the slot, and has yet to use it. */
static bool
is_new(PpSlot *slot)
{
	bool started;
	PpSteady since;

	SpinLockAcquire(&slot->mutex);
	started = slot->last_start != 0;
	since = slot->idle_since;
	SpinLockRelease(&slot->mutex);
	return !started && !pp_steady_has_lasted(since, PP_SLOT_LOOK_MS);
}

/*
 * The slot that has been empty for longest, of those that its database could do without; or NULL.
 */
static PpSlot *
find_idlest(void)
{
	PpSlot *idlest = NULL;
	PpSteady idle_since = 0;

	for (int i = 0; i < pp_config_max_databases; i++)
	{
		PpSlot *slot = pp_shmem_slot(i);
		PpSteady since;

		if (!is_slot_empty_locked(slot))
			continue;
		if (is_slot_retried(slot))
		{
			ask_retrier(slot);
			continue;
		}
		SpinLockAcquire(&slot->mutex);
		since = slot->idle_since;
		SpinLockRelease(&slot->mutex);
		if (idlest == NULL || since < idle_since)
		{
			idlest = slot;
			idle_since = since;
		}
	}
	return idlest && is_new(idlest) ? NULL : idlest;
}

/* Have the database looked into; if others are to be, in a round that comes after that. */
void
pp_slot_want_probe_locked(Oid database)
{
	PpProbe *probe = &pp_shmem->probe;

	if (!probe->round && !OidIsValid(probe->database))
		probe->database = database;
	else if (probe->database != database)
	{
		probe->again = true;
		probe->again_at = 0;
	}
	pp_shmem_wake_launcher();
}

static void
add_counts(PpDatabase *to, PpSlot *slot)
{
	PpMetrics metrics;

	SpinLockAcquire(&slot->mutex);
	to->written += slot->written;
	to->failed += slot->failed;
	to->batches += slot->batches;
	metrics = slot->metrics;
	SpinLockRelease(&slot->mutex);
	pp_metrics_add(&to->metrics, &metrics);
	to->enqueued += pp_ring_view(&slot->ring).enqueued;
}

/*
 * Note what the slot's database has parked, before the slot is taken from it: the database will
 * need a slot again to try that.
 */
static void
leave_counts(PpSlot *slot)
{
	/* NULL: its extension is gone */
	PpDatabase *known = pp_database_find(slot->database, false);
	PpDatabase unknown = {0};
	PpSteady retry_at;

	known = known ? known : &unknown;
	if (pp_counters_are_counted(&slot->counters))
	{
		known->parked = pp_counters_parked(&slot->counters);
		known->parked_since = pp_counters_parked_since(&slot->counters);
	}
	add_counts(known, slot);
	SpinLockAcquire(&slot->mutex);
	known->trouble = slot->trouble;
	known->paused = slot->paused;
	known->waits = slot->paused;
	retry_at = slot->paused ? PP_NEVER : slot->retry_at;
	SpinLockRelease(&slot->mutex);

	/* not at once, or it would come before the one that gets the slot now */
	if (retry_at != PP_NEVER &&
		!pp_database_want_slot(slot->database, Max(retry_at, pp_steady_in(RETURN_MS))))
		pp_slot_want_probe_locked(slot->database);
}

/*
 * Keep what is left of the slot's ranges of ids for the database's next slot.  The ring's
 * generation has changed, so nobody takes ids from these ranges any more.
 */
static void
leave_ranges(PpSlot *slot)
{
	PpIdRange left[PP_RANGES];
	uint64 next;
	uint64 end;
	PpLease *lease;
	Oid extension;

	SpinLockAcquire(&slot->mutex);
	extension = slot->ids_of;
	left[PP_RANGE_IDS] = slot->ids;
	left[PP_RANGE_SPARE_IDS] = slot->spare_ids;
	slot->ids_of = InvalidOid;
	SpinLockRelease(&slot->mutex);
	if (!OidIsValid(extension))
		return;
	pp_ring_left_positions(&slot->ring, &next, &end);
	left[PP_RANGE_POSITIONS] = (PpIdRange){.next = next, .end = end};

	SpinLockAcquire(&pp_shmem->mutex);
	lease = pp_shmem_find_lease(slot->database, extension);
	memcpy(lease->left, left, sizeof(left));
	lease->left_at = lease->leased;
	SpinLockRelease(&pp_shmem->mutex);
}

/*
 * Give a free slot to a database.  The ring's generation has been increased before.  What its
 * database is known to have, in the journal or parked, is due.
 */
static void
assign_slot_locked(PpSlot *slot, Oid database)
{
	PpDatabase *known = pp_database_find(database, false);
	bool owes = known && (known->waits || known->parked > 0);

	slot->database = database;
	slot->leave = pp_database_is_blocked_locked(database);

	SpinLockAcquire(&slot->mutex);
	slot->worker_since = pp_steady_now();
	slot->trouble = known ? known->trouble : (PpTrouble){0};
	slot->starts = 0;
	slot->last_start = 0;
	slot->written = 0;
	slot->batches = 0;
	slot->failed = 0;
	memset(&slot->metrics, 0, sizeof(slot->metrics));
	slot->discarded = 0;
	slot->idle_since = pp_steady_now();
	slot->wanted_until = 0;
	slot->paused = false;
	slot->pause_changed = false;
	slot->ids_of = InvalidOid;
	slot->backs_off_sqlstate = 0;
	slot->retry_at = PP_NEVER;
	slot->nretries = 0;
	slot->owes_earlier = true;
	slot->parked_from = PG_UINT64_MAX;
	slot->waits_for_lock = false;
	slot->retrier.starts = 0;
	slot->retrier.refused = false;
	slot->retrier.pause_changed = false;
	slot->expired_at = 0;
	slot->rate = 0;
	memset(slot->retired, 0, sizeof(slot->retired));
	SpinLockRelease(&slot->mutex);
	pp_quota_reset(&slot->quota);
	pp_quota_reset(&slot->letters);
	pp_counters_reset(&slot->counters);
	pp_ring_count_anew(&slot->ring);
	pp_database_enter(database);
	if (!owes)
		return;
	pp_ring_move(&slot->ring, 0, pp_steady_now());
	pp_shmem_wake_launcher();
}

/*
 * Slots that nobody has go to databases that wait.  True: one has got one, and
 * pp_slots_unlock() is to be told.
 */
bool
pp_slots_serve_locked(void)
{
	bool served = false;
	PpDatabase *known;
	PpSlot *slot;

	while ((known = pp_databases_first_waiting()) != NULL &&
		   (slot = pp_shmem_slot_of(InvalidOid)) != NULL)
	{
		assign_slot_locked(slot, known->database);
		served = true;
	}
	pp_shmem->slots_wanted = known != NULL;
	return served;
}

/* Take the slot from its database; by its worker, which leaves it, or where there is none. */
static bool
give_slot_back(PpSlot *slot, bool to_others)
{
	bool ours;
	bool kept;

	SpinLockAcquire(&slot->mutex);
	ours = slot->worker_pid == MyProcPid;
	kept = (slot->worker_pid != 0 && !ours) ||
		   (!to_others && (slot->retrier.pid != 0 || slot->retry_at != PP_NEVER));
	SpinLockRelease(&slot->mutex);
	if (kept || (to_others && (!is_slot_empty_locked(slot) || is_slot_retried(slot))))
		return false;
	if (!pp_ring_disown(&slot->ring) &&
		!(to_others && pp_slot_is_paused(slot) && pp_ring_disown_journalled(&slot->ring)))
		return false;

	leave_ranges(slot);
	leave_counts(slot);
	slot->database = InvalidOid;
	slot->leave = false;
	if (ours)
	{
		pp_sleeper_detach(&slot->worker_sleeper);
		SpinLockAcquire(&slot->mutex);
		pp_slot_vacate(slot);
		SpinLockRelease(&slot->mutex);
	}
	ConditionVariableBroadcast(&slot->settled); /* who flushes */
	return true;
}

/* ---- under it for a moment ---- */

/* Release the lock; `served`: then there is somebody to tell. */
void
pp_slots_unlock(bool served)
{
	LWLockRelease(pp_shmem->lock);
	if (!served)
		return;
	pp_shmem_wake_launcher();
	ConditionVariableBroadcast(&pp_shmem->served);
}

PpSlot *
pp_slot_find(Oid database)
{
	PpSlot *slot;

	LWLockAcquire(pp_shmem->lock, LW_SHARED);
	slot = pp_shmem_slot_of(database);
	LWLockRelease(pp_shmem->lock);

	return slot;
}

Oid
pp_slot_database(PpSlot *slot)
{
	Oid database;

	LWLockAcquire(pp_shmem->lock, LW_SHARED);
	database = slot->database;
	LWLockRelease(pp_shmem->lock);

	return database;
}

/* Does it wait for a slot, now or later, to try what is parked? */
bool
pp_slot_is_owed(Oid database)
{
	PpDatabase *known;
	bool owed;

	LWLockAcquire(pp_shmem->lock, LW_SHARED);
	known = pp_database_find(database, false);
	owed = known && known->wanted_at != 0 && known->parked > 0;
	LWLockRelease(pp_shmem->lock);

	return owed;
}

/*
 * A process has looked into a database with the extension.  What was enqueued after the first
 * `enqueued` items waits all the same: it came too late for that look.
 */
void
pp_slot_know(Oid database, bool paused, bool waits, uint64 enqueued)
{
	PpDatabase *known;

	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	known = pp_database_find(database, true);
	if (known)
	{
		known->paused = paused;
		known->waits = waits || (known->waits && known->enqueued != enqueued);
	}
	LWLockRelease(pp_shmem->lock);
}

/*
 * What is counted of a database, by its slot and by those before, and its trouble: as PpDatabase
 * has them; the rest of it may be old.
 */
PpDatabase
pp_slot_counts(Oid database)
{
	PpDatabase counts = {.database = database};
	PpDatabase *known;
	PpSlot *slot;

	LWLockAcquire(pp_shmem->lock, LW_SHARED);
	known = pp_database_find(database, false);
	slot = pp_shmem_slot_of(database);
	if (known)
		counts = *known;
	if (slot)
	{
		add_counts(&counts, slot);
		SpinLockAcquire(&slot->mutex);
		counts.trouble = slot->trouble;
		SpinLockRelease(&slot->mutex);
	}
	LWLockRelease(pp_shmem->lock);

	return counts;
}

/* One of PP_DATABASES, and its slot, if it has one; false: none. */
bool
pp_slot_known(int number, PpDatabase *known, PpSlot **slot)
{
	LWLockAcquire(pp_shmem->lock, LW_SHARED);
	*known = pp_shmem->known[number];
	*slot = OidIsValid(known->database) ? pp_shmem_slot_of(known->database) : NULL;
	LWLockRelease(pp_shmem->lock);

	return OidIsValid(known->database);
}

/*
 * Give the slot back, if nothing is in it and nobody tries what is parked of it; called by its
 * idle worker, which has no slot any more then, or, where it has none, by the launcher.
 * `to_others`: only if another database waits for one, which gets it at once.
 */
bool
pp_slot_give_back(PpSlot *slot, bool to_others)
{
	bool given;
	bool served;

	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	given = (!to_others || pp_databases_first_waiting()) && give_slot_back(slot, to_others);
	served = given && pp_slots_serve_locked();
	pp_slots_unlock(served);

	return given;
}

/*
 * For the launcher: free slots that are not needed, for databases that wait.  An idle worker is
 * asked to give its slot back; other workers look when they become idle.  Returns the ms until
 * this has to be called again, or -1.
 */
long
pp_slots_serve(void)
{
	bool served;
	bool wanted;
	PpSlot *idlest = NULL;
	PpSteady next;

	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	served = pp_slots_serve_locked();
	/* those that become idle from now on see it */
	while (pp_shmem->slots_wanted && (idlest = find_idlest()) != NULL &&
		   give_slot_back(idlest, true))
		served |= pp_slots_serve_locked();
	wanted = pp_shmem->slots_wanted;
	if (wanted && idlest)
	{
		/* the next time it is another one's turn: this one may have something to do by now */
		SpinLockAcquire(&idlest->mutex);
		idlest->idle_since = pp_steady_now();
		SpinLockRelease(&idlest->mutex);
		(void) pp_sleeper_wake(&idlest->worker_sleeper);
	}
	next = pp_databases_next_wait();
	pp_slots_unlock(served);

	/* whatever becomes free meanwhile, and doesn't say so */
	if (wanted)
		next = Min(next, pp_steady_in(PP_SLOT_LOOK_MS));
	return next == PP_NEVER ? -1 : Max(pp_steady_ms_until(next), 1);
}

/* ---- a look at a slot ---- */

bool
pp_slot_is_paused(PpSlot *slot)
{
	bool paused;

	SpinLockAcquire(&slot->mutex);
	paused = slot->paused;
	SpinLockRelease(&slot->mutex);

	return paused;
}

/*
 * Somebody waits, until then, for the slot's worker to be there, and the launcher starts one; 0:
 * it has come.
 */
void
pp_slot_want_worker(PpSlot *slot, PpSteady until)
{
	SpinLockAcquire(&slot->mutex);
	slot->wanted_until = until == 0 ? 0 : Max(slot->wanted_until, until);
	SpinLockRelease(&slot->mutex);
	if (until != 0)
		pp_shmem_wake_launcher();
}

bool
pp_slot_is_wanted(PpSlot *slot)
{
	PpSteady until;

	SpinLockAcquire(&slot->mutex);
	until = slot->wanted_until;
	SpinLockRelease(&slot->mutex);

	return until != 0 && until > pp_steady_now();
}

/* ---- the claim of this process to its database's slot, or its wait for one ---- */

static PpClaim my_claim = {NULL, 0, InvalidOid};
static bool my_claim_is_new = false; /* of an installation that hasn't been committed */

static bool
is_claim_good(const PpClaim *claim)
{
	return claim->slot != NULL && !pp_ring_is_stale(&claim->slot->ring, claim->generation);
}

/* The current database's slot; `create`: a free one, if it has none, or else it waits for one. */
static PpClaim
look_for_slot(bool create)
{
	PpClaim claim = {NULL, 0, InvalidOid};

	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	claim.slot = pp_shmem_slot_of(MyDatabaseId);
	if (claim.slot && create)
		pp_database_enter(MyDatabaseId);
	else if (create)
	{
		claim.slot = pp_shmem_slot_of(InvalidOid);
		if (claim.slot)
			assign_slot_locked(claim.slot, MyDatabaseId);
		else
			(void) pp_database_want_slot(MyDatabaseId, pp_steady_now());
	}
	if (claim.slot)
		claim.generation = pp_ring_view(&claim.slot->ring).generation;
	LWLockRelease(pp_shmem->lock);

	return claim;
}

/*
 * The claim to the current database's slot.  NULL: all slots have items of other
 * databases.  The errors of pp_extension_get().
 */
const PpClaim *
pp_slot_claim(void)
{
	while (!is_claim_good(&my_claim))
	{
		PpClaim claim;

		/* if the extension can't be used here, another database should have the slot */
		(void) pp_extension_get();

		claim = look_for_slot(true);
		if (claim.slot == NULL)
			return NULL;

		/* after the generation: if it changes from now on, so does that */
		claim.extension = pp_extension_oid();
		my_claim = claim;
		my_claim_is_new = pp_extension_is_uncommitted(claim.extension);
	}
	return &my_claim;
}

/* The same, but NULL if the database has no slot. */
const PpClaim *
pp_slot_claimed(void)
{
	if (!is_claim_good(&my_claim) && look_for_slot(false).slot == NULL)
		return NULL;
	return pp_slot_claim();
}

/* This transaction changes the extension: the claim has to be looked up again. */
void
pp_slot_forget_claim(void)
{
	my_claim.slot = NULL;
}

/* Could a database do without its slot, now or after a try? */
static bool
any_slot_is_empty(void)
{
	bool any = false;

	LWLockAcquire(pp_shmem->lock, LW_SHARED);
	for (int i = 0; i < pp_config_max_databases && !any; i++)
		any = is_slot_empty_locked(pp_shmem_slot(i));
	LWLockRelease(pp_shmem->lock);

	return any;
}

/*
 * The same, but wait for one.  NULL: there was none up to the deadline, or, unless
 * `patient`, all have items of other databases.
 */
const PpClaim *
pp_slot_await(PpSteady deadline, bool patient, uint32 wait_event)
{
	const PpClaim *claim;
	long ms;

	if ((claim = pp_slot_claim()) != NULL)
		return claim;
	ConditionVariablePrepareToSleep(&pp_shmem->served);
	while ((claim = pp_slot_claim()) == NULL && (patient || any_slot_is_empty()) &&
		   (ms = pp_steady_ms_until(deadline)) > 0)
		(void) ConditionVariableTimedSleep(&pp_shmem->served, Min(ms, PP_SLOT_LOOK_MS), wait_event);
	ConditionVariableCancelSleep();
	return claim;
}

/*
 * A transaction, or a subtransaction that didn't commit, has ended.  Forget a claim that names an
 * installation which was created in it.  Other claims are kept, since looking one up costs more
 * than a savepoint.
 */
void
pp_slot_end_transaction(bool committed)
{
	if (!committed && my_claim_is_new)
		pp_slot_forget_claim();
	if (committed || my_claim.slot == NULL)
		my_claim_is_new = false;
}
