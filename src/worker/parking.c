/*-------------------------------------------------------------------------
 *
 * parking.c
 *	  Knows which targets are parked; see parking.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#include "base/config.h"
#include "store/layouts.h"
#include "store/parked_table.h"
#include "store/settings.h"
#include "worker/hanging.h"
#include "worker/intake.h"
#include "worker/parking.h"

#define PAUSED ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE /* the reason for that */
#define FIRST_PAUSE_MS 100 /* what the worker has just tried is not tried again at once */
#define MAX_KEYS 10000	   /* that the worker keeps from one batch to the next */

HTAB *pp_parking_keys = NULL;

static const PpClaim *claim;
static List *paused_targets = NIL; /* by persist_pause() */
static PpReplaced *replaced = NULL;
static int nreplaced = 0;
static Oid settings_relation = InvalidOid;
static uint64 changes = 0;		/* of the table of settings, as far as we have been told ... */
static uint64 seen_changes = 0; /* ... and when we have looked */

/* The worker's transaction: counts them; what was parked when it began */
static uint64 transaction = 1;
static bool looked = false;
static Snapshot snapshot = NULL; /* NULL: nothing was */

/* The worker's batch */
static bool has_parked = false;	  /* something ... */
static bool has_to_call = false;  /* ... that isn't paused ... */
static bool has_to_hurry = false; /* ... and hasn't been tried */
static bool has_met_lock = false;
static bool has_followed = false;		/* what isn't paused, and hasn't been tried in this batch */
static TimestampTz batch_parked_at = 0; /* 0: nothing */
static uint64 lowest_parked = PG_UINT64_MAX;

/* ---- keys ---- */

static void
make_parking_keys(void)
{
	HASHCTL ctl = {.keysize = sizeof(PpParkedKey), .entrysize = sizeof(PpParked)};

	pp_parking_keys =
		hash_create("persist_pipeline parked targets", 32, &ctl, HASH_ELEM | HASH_BLOBS);
}

/* The snapshot goes with its transaction. */
static void
end_parking_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT && snapshot)
		UnregisterSnapshotFromOwner(snapshot, TopTransactionResourceOwner);
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_ABORT)
	{
		snapshot = NULL;
		looked = false;
		transaction++;
	}
}

static void
pauses_changed(Datum arg, Oid relation)
{
	if (!OidIsValid(relation) || relation == settings_relation)
		changes++;
}

/* Called once, by a process that has attached to its slot. */
void
pp_parking_init(const PpClaim *process_claim)
{
	CacheRegisterRelcacheCallback(pauses_changed, (Datum) 0);
	claim = process_claim;
	make_parking_keys();
	RegisterXactCallback(end_parking_transaction, NULL);
}

PpParked *
pp_parking_find(Oid target, Oid role)
{
	PpParkedKey key = {.target = target, .role = role};

	return hash_search(pp_parking_keys, &key, HASH_FIND, NULL);
}

PpParked *
pp_parking_enter(Oid target, Oid role)
{
	PpParkedKey key = {.target = target, .role = role};
	PpParked *parked;
	bool found;

	parked = hash_search(pp_parking_keys, &key, HASH_ENTER, &found);
	if (!found)
	{
		memset(parked, 0, sizeof(PpParked));
		parked->key = key;
		parked->from = PG_UINT64_MAX;
	}
	return parked;
}

/* One with this commit position is parked, too. */
void
pp_parking_note_position(PpParked *parked, uint64 pos, uint32 part)
{
	if (pos > parked->from || (pos == parked->from && part >= parked->part))
		return;
	parked->from = pos;
	parked->part = part;
}

/* Is the target, by itself? */
bool
pp_parking_is_paused(Oid target)
{
	return list_member_oid(paused_targets, target);
}

/* As pp_layouts_add_replaced() does, from what this process has seen last. */
List *
pp_parking_add_replaced(List *targets)
{
	return pp_layouts_add_those(targets, replaced, nreplaced);
}

/* Does that hold for one that the target has replaced, or for one that this has, and so on? */
bool
pp_parking_any_replaced(Oid target, bool (*holds)(Oid target, const void *arg), const void *arg)
{
	List *seen;
	bool any = false;

	if (nreplaced == 0)
		return false;
	seen = list_make1_oid(target);
	for (int i = 0; i < list_length(seen) && !any; i++) /* which becomes longer */
	{
		for (int j = 0; j < nreplaced && !any; j++)
		{
			Oid before = replaced[j].target;

			if (replaced[j].by != list_nth_oid(seen, i) || list_member_oid(seen, before))
				continue;
			any = holds(before, arg);
			seen = lappend_oid(seen, before);
		}
	}
	list_free(seen);
	return any;
}

/*
 * Which targets are paused, and which have been replaced?  In the current transaction.  The tables
 * may be locked: after an error what was known before still is.
 */
void
pp_parking_look_for_pauses(void)
{
	uint64 told = changes;
	int n;
	PpReplaced *read;
	List *paused;
	List *before = paused_targets;
	MemoryContext caller;
	HASH_SEQ_STATUS seq;
	PpParked *parked;

	settings_relation = pp_settings_relation(claim->extension);
	read = pp_layouts_replaced(claim->extension, &n);
	paused = pp_settings_paused(claim->extension);

	caller = MemoryContextSwitchTo(TopMemoryContext);
	replaced = replaced ? repalloc(replaced, (n + 1) * sizeof(PpReplaced))
						: palloc((n + 1) * sizeof(PpReplaced));
	nreplaced = n;
	if (n > 0)
		memcpy(replaced, read, n * sizeof(PpReplaced));
	paused_targets = pp_parking_add_replaced(list_copy(paused));
	seen_changes = told;
	MemoryContextSwitchTo(caller);

	hash_seq_init(&seq, pp_parking_keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (pp_parking_is_paused(parked->key.target))
		{
			if (pp_shmem_am_retrier)
				pp_counters_set_reason(&claim->slot->counters, parked->key.target, PAUSED);
		}
		else if (list_member_oid(before, parked->key.target))
			parked->retry_at = pp_steady_now();
	}
	list_free(before);
}

/* The same, if that may have changed. */
void
pp_parking_refresh(void)
{
	if (changes != seen_changes)
		pp_parking_look_for_pauses();
}

/* ---- questions to the table ---- */

/*
 * For the worker, before it tries anything in this transaction: what it asks for is as of
 * now.  A parent that is still parked then may land before its child fails, and has not been
 * missed then.
 */
static void
look_before_parking(void)
{
	bool attached;

	if (looked)
		return;
	looked = true;
	pp_parking_refresh();
	SpinLockAcquire(&claim->slot->mutex);
	attached = claim->slot->retrier.pid != 0;
	SpinLockRelease(&claim->slot->mutex);
	if (attached || pp_counters_any_parked(&claim->slot->counters))
		snapshot = RegisterSnapshotOnOwner(GetLatestSnapshot(), TopTransactionResourceOwner);
}

/* With what snapshot is to be asked?  The retrier alone takes rows away: it sees the latest. */
static bool
push_parking_snapshot(void)
{
	if (!pp_shmem_am_retrier && snapshot == NULL)
		return false;
	PushActiveSnapshot(pp_shmem_am_retrier ? GetLatestSnapshot() : snapshot);
	return true;
}

typedef struct ParkedWhole
{
	PpParked *parked;
	bool first; /* none has been seen */
	bool whole;
} ParkedWhole;

static bool
look_at_parked_row(const PpParkedRow *row, void *arg)
{
	ParkedWhole *whole = arg;

	if (row->damaged)
		return true;
	if (whole->first)
		whole->parked->lowest = row->pos;
	whole->first = false;
	whole->whole = !row->alone;
	return !whole->whole;
}

/* Is an item of this target and role parked that others follow? */
static bool
is_parked_in_table(PpParked *parked)
{
	ParkedWhole whole = {.parked = parked, .first = true};

	if (!push_parking_snapshot())
		return false;
	pp_parked_table_scan_of(claim->extension, parked->key.target, parked->key.role, parked->lowest,
							look_at_parked_row, &whole);
	PopActiveSnapshot();
	return whole.whole;
}

static bool
has_to_follow_itself(Oid target, const void *arg)
{
	Oid role = *(const Oid *) arg;
	PpParked *parked;

	if (pp_parking_is_paused(target))
		return true;
	parked = pp_parking_enter(target, role);
	if (parked->whole)
		return true;
	if (parked->asked != transaction)
	{
		parked->found = is_parked_in_table(parked) || pp_hanging_is(target);
		parked->asked = transaction;
	}
	return parked->found;
}

/*
 * Are the target's items of this role to be parked without a try, behind those that are?  Or
 * behind those of a target that it has replaced?
 */
bool
pp_parking_has_to_follow(Oid target, Oid role)
{
	look_before_parking();
	return has_to_follow_itself(target, &role) ||
		   pp_parking_any_replaced(target, has_to_follow_itself, &role);
}

/*
 * May the row need a parked one with its_pos, its_part?  Only one that comes before it counts, or
 * else parked targets could wait for each other for ever.  But within one user transaction (the
 * same pos) a deferred foreign key may also be satisfied by a later row; so that one counts, too.
 * Where each is parked for a foreign key (sqlstate) the retrier tries them together, and so knows
 * better; unless it can't do that now, or some of them wait again (`but` is NULL).
 */
static bool
may_be_needed(Oid its_target, uint64 its_pos, uint32 its_part, int sqlstate, const PpRow *row,
			  const PpParkedKey *but)
{
	const PpParked *parked;

	if (its_pos != row->pos)
		return its_pos < row->pos;
	if (its_part < row->part || sqlstate != ERRCODE_FOREIGN_KEY_VIOLATION || but == NULL)
		return true;
	parked = pp_parking_find(but->target, but->role);
	return parked == NULL || parked->sqlstate != ERRCODE_FOREIGN_KEY_VIOLATION ||
		   pp_parking_is_paused(its_target) ||
		   !ConditionalLockRelationOid(pp_layouts_current(its_target), RowExclusiveLock);
}

/* Is this key one of those that we don't ask for? */
static bool
is_excepted(Oid target, Oid role, const PpParkedKey *but)
{
	PpParked *parked;

	if (but == NULL)
		return false;
	if (target == but->target && role == but->role)
		return true;
	parked = pp_parking_find(target, role);
	return parked && parked->trying;
}

static bool
is_wanted(Oid target, Oid wanted)
{
	return OidIsValid(wanted) ? target == wanted
							  : get_rel_relkind(pp_layouts_current(target)) == RELKIND_VIEW;
}

static int
parking_reason_of(Oid target, Oid role)
{
	PpParked *parked = pp_parking_find(target, role);

	return parked && parked->sqlstate != 0
			   ? parked->sqlstate
			   : pp_counters_get(&claim->slot->counters, target).sqlstate;
}

/*
 * Is an item of the target parked that this row of the role may need?  Or one of any view, if the
 * target is InvalidOid.  What is being tried together doesn't count, nor, but for `itself`, what is
 * of the row's own target and role.
 */
bool
pp_parking_any_needed(Oid target, const PpRow *row, Oid role, bool itself)
{
	PpParkedKey own = {.target = row->item->target, .role = role};
	const PpParkedKey *but = itself ? NULL : &own;
	HASH_SEQ_STATUS seq;
	PpParked *parked;
	PpParkedRow its;
	bool any = false;
	Oid its_target = OidIsValid(target) ? target - 1 : InvalidOid;
	Oid its_role = PG_UINT32_MAX;

	/* by the worker, in this batch */
	if (!pp_shmem_am_retrier)
	{
		hash_seq_init(&seq, pp_parking_keys);
		while ((parked = hash_seq_search(&seq)) != NULL)
			any |= !is_excepted(parked->key.target, parked->key.role, but) &&
				   is_wanted(parked->key.target, target) &&
				   may_be_needed(parked->key.target, parked->from, parked->part, parked->sqlstate,
								 row, but);
	}
	if (any || !push_parking_snapshot())
		return any;
	while (!any && pp_parked_table_next_key(claim->extension, &its_target, &its_role, &its) &&
		   (!OidIsValid(target) || its_target == target))
		any = !is_excepted(its_target, its_role, but) && is_wanted(its_target, target) &&
			  may_be_needed(its_target, its.pos, its.part, parking_reason_of(its_target, its_role),
							row, but);
	PopActiveSnapshot();
	return any;
}

/* Has somebody waited for a lock in vain, and it may still be held? */
bool
pp_parking_waits_for_lock(void)
{
	bool waits;

	SpinLockAcquire(&claim->slot->mutex);
	waits = claim->slot->waits_for_lock;
	SpinLockRelease(&claim->slot->mutex);
	return waits || has_met_lock;
}

/* ---- what is parked ---- */

/* The worker notes with an item since when its target takes none; the retrier, for itself. */
static TimestampTz
mismatch_to_note(Oid target, Oid role)
{
	PpParked *parked = pp_shmem_am_retrier ? NULL : pp_parking_find(target, role);

	if (parked == NULL || parked->mismatch_since == 0 || parked->noted_in == transaction)
		return 0;
	parked->noted_in = transaction;
	return pp_steady_to_day(parked->mismatch_since);
}

/*
 * All that a batch parks has one time, and keeps it where the retrier parks it again: so that
 * knows what the batch at work has parked.
 */
static TimestampTz
parking_time_of(const PpRow *row)
{
	if (row->parked_at != 0)
		return row->parked_at;
	if (batch_parked_at == 0)
	{
		batch_parked_at = GetCurrentTimestamp();
		SpinLockAcquire(&claim->slot->mutex);
		claim->slot->batch_parked_at = batch_parked_at;
		SpinLockRelease(&claim->slot->mutex);
	}
	return batch_parked_at;
}

static void
note_parked(const PpRow *row, Oid role)
{
	Oid target = row->item->target;
	PpParked *parked = pp_parking_find(target, role);

	has_parked = true;
	lowest_parked = Min(lowest_parked, row->pos);
	if (!pp_parking_is_paused(target))
	{
		has_to_call = true;
		has_to_hurry |= parked && parked->sqlstate == ERRCODE_QUERY_CANCELED;
	}
	if (parked)
		parked->lowest = Min(parked->lowest, row->pos);
}

static void
park_rows(PpOutcomeCounts *counts, Oid role, const PpRow **rows, uint64 n, bool alone)
{
	PpTable table = pp_parked_table_open(claim->extension);

	for (uint64 i = 0; i < n; i++)
	{
		const PpRow *row = rows[i];
		PpTargetOutcome *result = pp_outcome_counts_of(counts, row->item->target);

		pp_parked_table_append(&table, row->item, role, row->pos, row->part, parking_time_of(row),
							   mismatch_to_note(row->item->target, role), alone);
		row->work->unseen++;
		result->parked++;
		result->parked_bytes += row->item->size;
		if (!pp_shmem_am_retrier)
			note_parked(row, role);
	}
	pp_table_close(&table);
}

/* Move rows to the parked table, in the current transaction. */
void
pp_parking_park_rows(PpOutcomeCounts *counts, Oid role, const PpRow **rows, uint64 n)
{
	park_rows(counts, role, rows, n, false);
}

/* The same for one that waits by itself: later ones pass it. */
void
pp_parking_park_row_alone(PpOutcomeCounts *counts, Oid role, const PpRow *row)
{
	park_rows(counts, role, &row, 1, true);
}

static PpParked *
note_parking(const PpRow *first, Oid role, int sqlstate, bool whole)
{
	Oid target = first->item->target;
	PpParked *parked = pp_parking_enter(target, role);

	pp_parking_note_position(parked, first->pos, first->part);
	parked->whole |= whole;
	parked->sqlstate = sqlstate;
	if (pp_shmem_am_retrier)
		pp_counters_set_reason(&claim->slot->counters, target, sqlstate);
	has_met_lock |= sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
	return parked;
}

/*
 * Note that an item of this target and role is going to be parked for an error, its commit position
 * and the SQLSTATE; pp_parking_park_rows() does it.  `whole`: the others of its batch follow, also
 * those with lower positions: the ring is in the order in which commits ended.
 */
void
pp_parking_note(const PpRow *first, Oid role, int sqlstate, bool whole)
{
	note_parking(first, role, sqlstate, whole)->uncounted = !pp_shmem_am_retrier;
}

/*
 * For which error has the worker's batch parked items of this target, which no transaction that
 * has committed has counted?  0: none.
 */
int
pp_parking_uncounted_error(Oid target, Oid role)
{
	PpParked *parked = pp_parking_find(target, role);

	return parked && parked->uncounted ? parked->sqlstate : 0;
}

/* A transaction has committed that has counted errors. */
void
pp_parking_errors_are_counted(const PpOutcomeCounts *counts, Oid role)
{
	for (int i = 0; i < counts->n; i++)
	{
		PpParked *parked = pp_parking_find(counts->of[i].delta.target, role);

		if (parked && counts->of[i].delta.errors > 0)
			parked->uncounted = false;
	}
}

/* Park what is locked of the targets of these rows, before anybody waits for it. */
void
pp_parking_park_locked(const PpRow **rows, uint64 n, Oid role)
{
	List *seen = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		Oid target = rows[i]->item->target;

		if ((i > 0 && target == rows[i - 1]->item->target) || list_member_oid(seen, target))
			continue;
		seen = lappend_oid(seen, target);
		if (!pp_parking_has_to_follow(target, role) &&
			!ConditionalLockRelationOid(pp_layouts_current(target), RowExclusiveLock))
			pp_parking_note(rows[i], role, ERRCODE_LOCK_NOT_AVAILABLE, true);
	}
}

/* More of its items are parked, without a try. */
void
pp_parking_follow(const PpRow *row, Oid role)
{
	Oid target = row->item->target;
	PpParked *parked = pp_parking_enter(target, role);

	if (parked->sqlstate == 0 && pp_parking_is_paused(target))
		note_parking(row, role, PAUSED, true);
	else if (parked->sqlstate == 0 && pp_hanging_is(target))
		note_parking(row, role, ERRCODE_QUERY_CANCELED, true);
	else if (parked->sqlstate == 0)
		has_followed = true;
	parked->whole = true; /* it may be paused, and until then single rows were parked */
	pp_parking_note_position(parked, row->pos, row->part);
}

/* It takes none of its items, as it is now. */
void
pp_parking_begin_grace_period(Oid target, Oid role)
{
	PpParked *parked = pp_parking_enter(target, role);

	if (parked->mismatch_since == 0)
		parked->mismatch_since = pp_steady_now();
}

/* Has a target that takes none of its items had the time to be mended? */
bool
pp_parking_grace_period_is_over(Oid target, Oid role)
{
	PpParked *parked = pp_parking_find(target, role);

	return pp_config_mismatch_timeout == 0 ||
		   (parked && parked->mismatch_since != 0 &&
			pp_steady_has_lasted(parked->mismatch_since, pp_config_mismatch_timeout));
}

/* ---- the worker's batches ---- */

/* What comes is decided anew, with the table. */
void
pp_parking_begin_batch(void)
{
	HASH_SEQ_STATUS seq;
	PpParked *parked;

	if (hash_get_num_entries(pp_parking_keys) > MAX_KEYS)
	{
		hash_destroy(pp_parking_keys);
		make_parking_keys();
	}
	hash_seq_init(&seq, pp_parking_keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		PpParkedKey key = parked->key;
		uint64 lowest = parked->lowest;

		*parked = (PpParked){.key = key, .lowest = lowest, .from = PG_UINT64_MAX};
	}
	has_followed = false;
	batch_parked_at = 0;
	SpinLockAcquire(&claim->slot->mutex);
	claim->slot->has_batch = true;
	claim->slot->batch_parked_at = 0;
	SpinLockRelease(&claim->slot->mutex);
}

/* Whoever looks is told why they wait; not before they do, since the batch may come to nothing. */
static void
tell_parking_reasons(void)
{
	PpCounters *counters = &claim->slot->counters;
	HASH_SEQ_STATUS seq;
	PpParked *parked;

	hash_seq_init(&seq, pp_parking_keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (parked->sqlstate != 0 && pp_counters_get(counters, parked->key.target).parked > 0)
			pp_counters_set_reason(counters, parked->key.target, parked->sqlstate);
	}
}

/* What it has parked may be tried; `owes_earlier`: but something may come that belongs before. */
void
pp_parking_end_batch(bool owes_earlier)
{
	PpSlot *slot = claim->slot;
	PpSteady due = pp_steady_in(has_to_hurry ? 0 : FIRST_PAUSE_MS);
	bool has_called = has_to_call;
	bool nothing = !pp_counters_any_parked(&slot->counters);

	if (has_parked)
		tell_parking_reasons();
	SpinLockAcquire(&slot->mutex);
	slot->has_batch = false;
	slot->owes_earlier = owes_earlier;
	if (has_parked)
	{
		slot->parked_seq++;
		slot->parked_from = Min(slot->parked_from, lowest_parked);
	}
	if (has_to_call)
		slot->retry_at = Min(slot->retry_at, due);
	if (has_met_lock)
		slot->waits_for_lock = true;
	else if (nothing && slot->retrier.pid == 0)
		slot->waits_for_lock = false;
	SpinLockRelease(&slot->mutex);
	if (has_parked)
		ConditionVariableBroadcast(&slot->settled); /* a flush has them tried now */
	has_parked = has_to_call = has_to_hurry = has_met_lock = false;
	lowest_parked = PG_UINT64_MAX;
	if (has_called)
		pp_shmem_wake_retrier(slot);
}

/*
 * Has this batch followed items that come in just now?  A target that is busy would be parked
 * for as long as it is: what comes next would find the items of this batch still there.  So
 * the retrier gets a moment, if there is little left.
 */
bool
pp_parking_has_to_let_land(void)
{
	PpSlot *slot = claim->slot;
	bool landing;

	if (!has_followed || pp_counters_parked(&slot->counters) > 2 * (uint64) pp_config_batch_size)
		return false;
	SpinLockAcquire(&slot->mutex);
	landing = slot->retrier.pid != 0 && slot->retrier.landing;
	SpinLockRelease(&slot->mutex);
	return landing;
}
