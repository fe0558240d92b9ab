/*-------------------------------------------------------------------------
 *
 * parking.c
 *	  Knows which targets are parked, and when to try again; see parking.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "common/pg_prng.h"
#include "storage/lmgr.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "config.h"
#include "copied.h"
#include "parked.h"
#include "parking.h"
#include "settings.h"

#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 10000
#define HELD_MAX_MS 1000 /* while later items pass those that wait */
#define LOCK_MAX_MS 2000 /* to see that a relation is locked costs next to nothing */
#define SPENT_FACTOR 4	 /* of what is slow to fail we are not to do much */
#define PAUSED ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE /* the reason for that */
#define SAY_FAILURES 4 /* what is over sooner is not worth a line */

static const PpClaim *claim;
static HTAB *keys = NULL;
static List *paused_targets = NIL; /* by persist_pause() */

/* Called once, by the worker that has attached to its lane. */
void
pp_parking_init(const PpClaim *worker_claim)
{
	HASHCTL ctl = {.keysize = sizeof(PpParkedKey), .entrysize = sizeof(PpParked)};

	claim = worker_claim;
	keys = hash_create("persist_pipeline parked targets", 32, &ctl, HASH_ELEM | HASH_BLOBS);
}

static PpParked *
enter(Oid target, Oid role)
{
	PpParkedKey key = {.target = target, .role = role};
	PpParked *parked;
	bool found;

	parked = hash_search(keys, &key, HASH_ENTER, &found);
	if (!found)
	{
		memset(parked, 0, sizeof(PpParked));
		parked->key = key;
		parked->from = PG_UINT64_MAX;
	}
	return parked;
}

/* One with this place is parked, too. */
static void
note_place(PpParked *parked, uint64 pos, uint32 part)
{
	if (pos > parked->from || (pos == parked->from && part >= parked->part))
		return;
	parked->from = pos;
	parked->part = part;
}

static bool
is_paused(Oid target)
{
	return list_member_oid(paused_targets, target);
}

/* It is put aside, and so nobody waits for it. */
static void
note_damaged(PpDamaged *damaged, const PpParkedRow *row)
{
	pp_damaged_note(damaged, &row->ref, row->pos, row->header.items, row->copied);
	if (!row->copied && OidIsValid(row->target) && pp_tally_is_counted(&claim->lane->tally))
		pp_tally_park(&claim->lane->tally, row->target, -(int64) row->header.items,
					  -(int64) row->length);
}

static bool
load_row(const PpParkedRow *row, void *arg)
{
	PpParked *parked;

	if (row->damaged)
	{
		note_damaged(arg, row);
		return true;
	}
	parked = enter(row->target, row->role);

	parked->whole = true; /* we can't know better */
	note_place(parked, row->pos, row->part);
	if (row->misfit_since != 0)
	{
		parked->misfit_since = pp_steady_from_day(row->misfit_since);
		parked->noted = true;
	}
	parked->retry_at = pp_steady_now();
	return true;
}

/*
 * The last worker may have left in the middle of a turn, since another role's items came
 * (leftovers.h): its pauses go on, or what is parked would be tried by each new worker
 * before anything else.
 */
static void
recall_pauses(void)
{
	PpLane *lane = claim->lane;
	PpRetry retries[PP_RETRIES];
	int n;

	SpinLockAcquire(&lane->mutex);
	n = lane->nretries;
	memcpy(retries, lane->retries, n * sizeof(PpRetry));
	lane->nretries = 0;
	SpinLockRelease(&lane->mutex);
	for (int i = 0; i < n; i++)
	{
		PpParkedKey key = {.target = retries[i].target, .role = retries[i].role};
		PpParked *parked = hash_search(keys, &key, HASH_FIND, NULL);

		if (parked == NULL)
			continue;
		parked->failures = retries[i].failures;
		parked->sqlstate = retries[i].sqlstate;
		parked->retry_at = retries[i].retry_at;
		pp_tally_set_reason(&lane->tally, key.target, parked->sqlstate);
	}
}

/* We leave in good order: the next worker knows our pauses, as many as there is room for. */
void
pp_parking_save(void)
{
	PpLane *lane = claim->lane;
	HASH_SEQ_STATUS seq;
	PpRetry retries[PP_RETRIES];
	PpParked *parked;
	int n = 0;

	hash_seq_init(&seq, keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (n < PP_RETRIES && !is_paused(parked->key.target)) /* at once, when it is resumed */
			retries[n++] = (PpRetry){.target = parked->key.target,
									 .role = parked->key.role,
									 .failures = parked->failures,
									 .sqlstate = parked->sqlstate,
									 .retry_at = parked->retry_at};
	}
	SpinLockAcquire(&lane->mutex);
	memcpy(lane->retries, retries, n * sizeof(PpRetry));
	lane->nretries = n;
	SpinLockRelease(&lane->mutex);
}

/* Find out what is parked, in the current transaction. */
void
pp_parking_load(void)
{
	PpDamaged damaged = {0};

	pp_tally_forget_reasons(&claim->lane->tally);
	PushActiveSnapshot(GetLatestSnapshot());
	pp_parked_scan(claim->extension, load_row, &damaged);
	if (hash_get_num_entries(keys) == 0)
		pp_tally_clear_parked(&claim->lane->tally);
	pp_copied_put_damaged_aside(claim->extension, claim->lane, &damaged);
	PopActiveSnapshot();
	recall_pauses();
}

static PpParked *
find(Oid target, Oid role)
{
	PpParkedKey key = {.target = target, .role = role};

	return hash_search(keys, &key, HASH_FIND, NULL);
}

/* Are the target's items of this role to be parked without a try? */
bool
pp_parking_holds(Oid target, Oid role)
{
	PpParked *parked = find(target, role);

	return (parked && parked->whole) || is_paused(target);
}

/* Is the target parked for any role? */
static bool
is_parked(Oid target)
{
	HASH_SEQ_STATUS seq;
	PpParked *parked;

	hash_seq_init(&seq, keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (parked->key.target == target)
		{
			hash_seq_term(&seq);
			return true;
		}
	}
	return is_paused(target);
}

/*
 * May one of those that are parked come before this one?  So nobody waits for himself,
 * nor a circle for ever.  In a transaction what is deferred may need what comes later,
 * unless that waits for something, too.
 */
static bool
comes_before(const PpParked *parked, uint64 pos, uint32 part)
{
	if (parked->from != pos)
		return parked->from < pos;
	return parked->part < part || parked->sqlstate != ERRCODE_FOREIGN_KEY_VIOLATION;
}

/*
 * Is an item of the target parked that comes before this place?  Or one of any view, if
 * the target is InvalidOid.  `but`: whatever is parked there; or NULL.
 */
bool
pp_parking_any_before(Oid target, uint64 pos, uint32 part, const PpParkedKey *but)
{
	HASH_SEQ_STATUS seq;
	PpParked *parked;
	bool any = false;

	hash_seq_init(&seq, keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (!comes_before(parked, pos, part) ||
			(but && parked->key.target == but->target && parked->key.role == but->role))
			continue;
		any |= OidIsValid(target) ? parked->key.target == target
								  : get_rel_relkind(parked->key.target) == RELKIND_VIEW;
	}
	return any;
}

/* Has somebody waited for a lock in vain, and it may still be held? */
bool
pp_parking_waits_for_lock(void)
{
	HASH_SEQ_STATUS seq;
	PpParked *parked;
	bool waits = false;

	hash_seq_init(&seq, keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
		waits |= parked->sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
	return waits;
}

/* Twice as long each time, and never quite the same. */
static PpSteady
next_try(int failures, long longest_ms, long spent_ms)
{
	long ms = Min(longest_ms, RETRY_MIN_MS << Min(failures, 10));

	ms = ms * 3 / 4 + (long) (pg_prng_double(&pg_global_prng_state) * (ms / 2));
	return pp_steady_in(Max(ms, SPENT_FACTOR * spent_ms));
}

/* Move rows to the parked table, in the current transaction. */
void
pp_parking_hold(PpResults *results, Oid role, const PpRow **rows, uint64 n)
{
	PpTable table = pp_parked_open(claim->extension);

	for (uint64 i = 0; i < n; i++)
	{
		const PpRow *row = rows[i];
		PpResult *result = pp_results_of(results, row->item->target);

		pp_parked_append(&table, row->item, role, row->pos, row->part, row->parked_at, 0);
		result->parked++;
		result->parked_bytes += row->item->size;
	}
	pp_table_close(&table);
}

/*
 * An item of this target and role is being parked, in this place.  Others of its batch
 * follow: in the ring they are in the order of their commits, and so not in that of their
 * places.
 */
void
pp_parking_park(const PpRow *first, Oid role, int sqlstate, bool whole)
{
	Oid target = first->item->target;
	PpParked *parked = find(target, role);

	if (parked == NULL)
		parked = enter(target, role);
	if (parked->retry_at == 0)
		parked->retry_at = next_try(0, RETRY_MAX_MS, 0);
	note_place(parked, first->pos, first->part);
	parked->whole |= whole;
	parked->sqlstate = sqlstate;
	pp_tally_set_reason(&claim->lane->tally, target, sqlstate);
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
		if (!pp_parking_holds(target, role) &&
			!ConditionalLockRelationOid(target, RowExclusiveLock))
			pp_parking_park(rows[i], role, ERRCODE_LOCK_NOT_AVAILABLE, true);
	}
}

/* Is the relation locked, so that nothing can be inserted?  In a transaction of its own. */
bool
pp_parking_is_locked(const PpParked *parked)
{
	MemoryContext caller = CurrentMemoryContext;
	bool locked;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	locked = !ConditionalLockRelationOid(parked->key.target, RowExclusiveLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);

	return locked;
}

/* More of its items are parked, without a try. */
void
pp_parking_follow(const PpRow *row, Oid role)
{
	PpParked *parked = find(row->item->target, role);

	if (parked == NULL)
		pp_parking_park(row, role, PAUSED, true);
	else
	{
		parked->whole = true; /* it may be paused, and until then single rows were parked */
		note_place(parked, row->pos, row->part);
	}
}

/* The name of the target, for the log.  In a transaction. */
static char *
name_of(Oid target)
{
	char *name = get_rel_name(target);

	return name ? name : psprintf("%u", target);
}

/* Say that it is parked, or not any more; not in a transaction. */
static void
say(const PpParked *parked, int sqlstate)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (sqlstate != 0)
		ereport(LOG, (errcode(sqlstate),
					  errmsg("items for relation \"%s\" are parked: SQLSTATE %s",
							 name_of(parked->key.target), unpack_sql_state(sqlstate)),
					  errdetail("They are tried again, in their order; other relations' are "
								"written meanwhile.")));
	else
		ereport(LOG, (errmsg("items for relation \"%s\" are not parked any more",
							 name_of(parked->key.target))));
	CommitTransactionCommand();
}

/* It has been tried in vain, which took so long; not in a transaction. */
void
pp_parking_back_off(PpParked *parked, int sqlstate, long spent_ms)
{
	parked->failures++;
	parked->sqlstate = sqlstate;
	parked->retry_at = next_try(parked->failures,
								!parked->whole							 ? HELD_MAX_MS
								: sqlstate == ERRCODE_LOCK_NOT_AVAILABLE ? LOCK_MAX_MS
																		 : RETRY_MAX_MS,
								spent_ms);
	pp_tally_set_reason(&claim->lane->tally, parked->key.target, sqlstate);
	if (parked->failures < SAY_FAILURES || parked->said)
		return;
	parked->said = true;
	say(parked, sqlstate);
}

/*
 * To try its items has taken statement_timeout so often: others are to have their turn
 * before the next try, which is of so many items at most.
 */
void
pp_parking_delay(Oid target, Oid role, int timeouts, uint64 width)
{
	PpParked *parked = find(target, role);

	if (parked == NULL)
		return;
	parked->width = width;
	parked->retry_at = pp_steady_in((int64) SPENT_FACTOR * timeouts * pp_statement_timeout);
}

/* Some of its items have been settled; and not only by becoming dead letters. */
void
pp_parking_advance(PpParked *parked, bool landed)
{
	parked->failures = 0;
	if (landed)
		parked->misfit_since = 0;
	parked->noted = false; /* it was with the first of them */
	if (parked->width > 0)
		parked->width = Min(2 * parked->width, (uint64) pp_batch_size);
	parked->retry_at = pp_steady_now();
}

/* None of its items is left; not in a transaction. */
void
pp_parking_end(PpParked *parked)
{
	Oid target = parked->key.target;
	HASH_SEQ_STATUS seq;
	PpParked *other;

	if (parked->said)
		say(parked, 0);
	(void) hash_search(keys, &parked->key, HASH_REMOVE, NULL);
	if (hash_get_num_entries(keys) == 0)
		pp_tally_clear_parked(&claim->lane->tally);
	else if (!is_parked(target))
		pp_tally_set_reason(&claim->lane->tally, target, 0);

	/* what waits for its rows needn't wait any longer */
	hash_seq_init(&seq, keys);
	while ((other = hash_seq_search(&seq)) != NULL)
	{
		if (other->sqlstate == ERRCODE_FOREIGN_KEY_VIOLATION)
			other->retry_at = pp_steady_now();
	}
}

/* The one that is due first, or NULL. */
static PpParked *
first(void)
{
	PpParked *next = NULL;
	HASH_SEQ_STATUS seq;
	PpParked *parked;

	hash_seq_init(&seq, keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (!is_paused(parked->key.target) && (next == NULL || parked->retry_at < next->retry_at))
			next = parked;
	}
	return next;
}

/* One that is to be tried again now, or NULL. */
PpParked *
pp_parking_due(void)
{
	PpParked *next = first();

	return next && next->retry_at <= pp_steady_now() ? next : NULL;
}

/* When is the next one to be tried again?  PP_NEVER: there is none. */
PpSteady
pp_parking_next(void)
{
	PpParked *next = first();

	return next ? next->retry_at : PP_NEVER;
}

/* Somebody asks for them: the locks that they wait for may be gone, and that costs little. */
void
pp_parking_hurry(void)
{
	HASH_SEQ_STATUS seq;
	PpParked *parked;

	hash_seq_init(&seq, keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (parked->sqlstate == ERRCODE_LOCK_NOT_AVAILABLE)
			parked->retry_at = pp_steady_now();
	}
}

/* It takes none of its items, as it is now. */
void
pp_parking_begin_grace(Oid target, Oid role)
{
	PpParked *parked = enter(target, role);

	if (parked->misfit_since == 0)
		parked->misfit_since = pp_steady_now();
}

/*
 * Its first item is parked again, now with the time since when the target takes none: the
 * grace goes on, whoever ends.  Since when they are parked doesn't tell that, as they may
 * have been for another reason.
 */
void
pp_parking_note_grace(PpParked *parked, const PpRow *first)
{
	PpTable table = pp_parked_open(claim->extension);

	pp_parked_append(&table, first->item, parked->key.role, first->pos, first->part,
					 first->parked_at, pp_steady_to_day(parked->misfit_since));
	pp_table_close(&table);
}

/* Has a target that takes none of its items had the time to be mended? */
bool
pp_parking_grace_is_over(Oid target, Oid role)
{
	PpParked *parked = find(target, role);

	return pp_misfit_timeout == 0 || (parked && parked->misfit_since != 0 &&
									  pp_has_lasted(parked->misfit_since, pp_misfit_timeout));
}

/* Which targets are paused?  In the current transaction. */
void
pp_parking_look_for_pauses(void)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	List *before = paused_targets;
	HASH_SEQ_STATUS seq;
	PpParked *parked;

	paused_targets = pp_settings_paused(claim->extension);
	MemoryContextSwitchTo(caller);

	hash_seq_init(&seq, keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (is_paused(parked->key.target))
			pp_tally_set_reason(&claim->lane->tally, parked->key.target, PAUSED);
		else if (list_member_oid(before, parked->key.target))
			parked->retry_at = pp_steady_now();
	}
	list_free(before);
}
