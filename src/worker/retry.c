/*-------------------------------------------------------------------------
 *
 * retry.c
 *	  Knows which parked items to try next, and when; see retry.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "base/config.h"
#include "base/savepoint.h"
#include "store/copied.h"
#include "store/parked_table.h"
#include "worker/classify.h"
#include "worker/hanging.h"
#include "worker/poison.h"
#include "worker/relatives.h"
#include "worker/retry.h"
#include "worker/timer.h"

#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 10000
#define LOCKED_MAX_MS 1000 /* while later items pass those that wait */
#define LOCK_MAX_MS 2000   /* to see that a relation is locked costs next to nothing */
#define SAY_FAILURES 4	   /* what is over sooner is not worth a line */
#define BELIEVED_FAILURES 6

static const PpClaim *claim;
static uint64 seen_seq = 0; /* of PpSlot.parked_seq */

/* ---- what is parked ---- */

/* What comes before a row in its position */
typedef struct RowBefore
{
	const PpParkedRow *row;
	uint32 part;	/* of the last one */
	bool continues; /* in the next one, as far as can be read */
} RowBefore;

static bool
look_at_row_before(const PpParkedRow *row, void *arg)
{
	RowBefore *before = arg;

	if (row->pos != before->row->pos || row->part >= before->row->part)
		return false;
	if (!row->damaged)
		before->continues = row->header.continues;
	else
		before->continues &= row->part == before->part + 1;
	before->part = row->part;
	return true;
}

/* Is it a damaged continuation?  Its item is counted as lost at its own try, so not here. */
static bool
continues_item_before(const PpParkedRow *row)
{
	RowBefore before = {.row = row};

	if (row->copied)
		return false;
	pp_parked_table_scan_of(claim->extension, row->target, row->role, row->pos, look_at_row_before,
							&before);
	return before.continues && before.part + 1 == row->part;
}

/* What can't be tried, and is put aside */
typedef struct PutAside
{
	PpDamaged damaged;
	PpOutcomeCounts counts; /* so that nobody waits for it: told after the commit */
} PutAside;

static void
note_damaged(PutAside *aside, const PpParkedRow *row)
{
	uint64 items = continues_item_before(row) ? 0 : row->header.items;
	PpTargetOutcome *result;

	pp_copied_note_damaged(&aside->damaged, &row->ref, row->pos, items, row->copied);
	if (row->copied || !OidIsValid(row->target))
		return;
	result = pp_outcome_counts_of(&aside->counts, row->target);
	result->parked -= items;
	result->parked_bytes -= row->length;
}

/*
 * When to try first what the worker has parked?  What has just taken it too long gets the same
 * pause as after a try of ours; where it has met something else, it is so many ms.
 */
static PpSteady
first_retry(const PpParkedRow *row, int sqlstate, long pause_ms)
{
	PpSteady now = pp_steady_now();

	if (sqlstate == 0 || (sqlstate == ERRCODE_QUERY_CANCELED && pp_hanging_is(row->target)))
		return now;
	if (sqlstate != ERRCODE_QUERY_CANCELED)
		return pp_steady_plus(now, pause_ms);
	return Max(now, pp_steady_plus(pp_steady_from_day(row->parked_at),
								   (int64) PP_SPENT_FACTOR * pp_config_statement_timeout));
}

/* It is parked; `whole`: later ones of its target and role follow. */
static void
enter_parked_row(const PpParkedRow *row, bool whole, long pause_ms)
{
	PpParked *parked = pp_parking_enter(row->target, row->role);

	parked->whole |= whole;
	pp_parking_note_position(parked, row->pos, row->part);
	if (row->mismatch_since != 0)
	{
		parked->mismatch_since = pp_steady_from_day(row->mismatch_since);
		pp_retry_note_with(parked, row->pos, row->part);
	}
	if (parked->retry_at == 0)
	{
		parked->sqlstate = pp_counters_get(&claim->slot->counters, row->target).sqlstate;
		parked->retry_at = first_retry(row, parked->sqlstate, pause_ms);
	}
}

static bool
load_parked_row(const PpParkedRow *row, void *arg)
{
	if (row->damaged)
		note_damaged(arg, row);
	else
		enter_parked_row(row, !row->alone, 0);
	return true;
}

/*
 * The last retrier may have left in the middle, since another role's items came
 * (leftovers.h): its pauses go on, or what is parked would be tried by each new one before
 * anything else.
 */
static void
recall_pauses(void)
{
	PpSlot *slot = claim->slot;
	PpRetry retries[PP_RETRIES];
	int n;

	SpinLockAcquire(&slot->mutex);
	n = slot->nretries;
	memcpy(retries, slot->retries, n * sizeof(PpRetry));
	SpinLockRelease(&slot->mutex);
	for (int i = 0; i < n; i++)
	{
		PpParked *parked = pp_parking_find(retries[i].target, retries[i].role);

		if (parked == NULL)
			continue;
		parked->failures = retries[i].failures;
		parked->sqlstate = retries[i].sqlstate;
		parked->tried_at = retries[i].tried_at;
		parked->retry_at = retries[i].retry_at;
		parked->believed_since = retries[i].believed_since;
	}
}

/* Whoever looks is told why they wait, and of nothing else. */
static void
tell_retry_reasons(void)
{
	PpCounters *counters = &claim->slot->counters;
	HASH_SEQ_STATUS seq;
	PpParked *parked;

	pp_counters_forget_reasons(counters);
	hash_seq_init(&seq, pp_parking_keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (pp_parking_is_paused(parked->key.target))
			pp_counters_set_reason(counters, parked->key.target,
								   ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE);
		else if (parked->sqlstate != 0)
			pp_counters_set_reason(counters, parked->key.target, parked->sqlstate);
	}
}

/* Something has been parked that we don't know of; from here on. */
static uint64
take_news_for_retry(void)
{
	PpSlot *slot = claim->slot;
	uint64 from;

	SpinLockAcquire(&slot->mutex);
	seen_seq = slot->parked_seq;
	from = slot->parked_from;
	slot->parked_from = PG_UINT64_MAX;
	slot->retry_at = PP_NEVER; /* we see to it */
	SpinLockRelease(&slot->mutex);
	return from;
}

static void
load_parked(void *arg)
{
	PutAside *aside = arg;

	PushActiveSnapshot(GetLatestSnapshot());
	pp_parked_table_scan(claim->extension, load_parked_row, aside);
	pp_copied_put_damaged_aside(claim->extension, claim->slot, &aside->damaged);
	PopActiveSnapshot();
}

/*
 * Look at what is parked, in a transaction of our own; as that can be much, the clock runs.
 * False: it has to be a moment later.  The table is locked, say, or we are to go.  Any other
 * error is thrown.
 */
static bool
look_for_retry(void (*deed)(void *arg), void *arg)
{
	ErrorData *error;

	pp_timer_attempt_began = PP_NEVER; /* it is no statement of anybody's */
	if (pp_timer_cut != PP_CUT_STOP)
		pp_timer_cut = PP_CUT_NONE;
	pp_timer_start();
	error = pp_savepoint_run_in_transaction(deed, arg);
	pp_timer_stop();
	QueryCancelPending = false;
	if (error && !pp_classify_is_transient(error, pp_timer_cut))
		ReThrowError(error);
	return error == NULL;
}

/* Find out what is parked; called until it is true, outside a transaction. */
bool
pp_retry_load(const PpClaim *retrier_claim)
{
	PutAside aside = {0};

	claim = retrier_claim;
	(void) take_news_for_retry();
	if (!look_for_retry(load_parked, &aside))
		return false;
	if (pp_counters_are_counted(&claim->slot->counters))
		pp_outcome_counts_tell(&aside.counts, &claim->slot->counters);
	recall_pauses();
	tell_retry_reasons();
	return true;
}

static void
look_for_new_keys(void *arg)
{
	Oid target = InvalidOid;
	Oid role = InvalidOid;
	PpParkedRow row;

	while (pp_parked_table_next_key(claim->extension, &target, &role, &row))
	{
		if (pp_parking_find(target, role) == NULL)
			/* others may be whole: we can't know better */
			enter_parked_row(&row, true, RETRY_MIN_MS);
	}
}

/*
 * If more has been parked, note what we don't know of; in a transaction of its own.  False:
 * that has to wait.
 */
bool
pp_retry_refresh(void)
{
	static bool owed = false;
	HASH_SEQ_STATUS seq;
	PpParked *parked;
	uint64 from;

	if (!owed && *(volatile uint64 *) &claim->slot->parked_seq == seen_seq)
		return true;
	from = take_news_for_retry();
	pp_poison_take_over(); /* they may be candidates, whatever their target has waited for */
	hash_seq_init(&seq, pp_parking_keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (from < parked->from)
		{
			parked->from = from;
			parked->part = 0;
		}
		if (parked->waits)
			parked->retry_at = pp_steady_now();
		parked->waits = false;
	}
	owed = !look_for_retry(look_for_new_keys, NULL);
	return !owed;
}

/*
 * Tell the worker whether something that is parked waits for a lock, as far as we have
 * looked, and whether something is coming in.
 */
void
pp_retry_tell_worker(void)
{
	PpSlot *slot = claim->slot;
	bool waits = false;
	bool landing = false;
	HASH_SEQ_STATUS seq;
	PpParked *parked;

	hash_seq_init(&seq, pp_parking_keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		waits |= parked->sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
		landing |= parked->landing && pp_retry_may_be_tried(parked);
	}
	SpinLockAcquire(&slot->mutex);
	if (slot->parked_seq == seen_seq)
		slot->waits_for_lock = waits;
	slot->retrier.landing = landing;
	SpinLockRelease(&slot->mutex);
	if (!landing)
		ConditionVariableBroadcast(&slot->settled);
}

static PpRetry
retry_of(const PpParked *parked)
{
	return (PpRetry){.target = parked->key.target,
					 .role = parked->key.role,
					 .failures = parked->failures,
					 .sqlstate = parked->sqlstate,
					 .tried_at = parked->tried_at,
					 .retry_at = parked->retry_at,
					 .believed_since = parked->believed_since};
}

/* For the next retrier, whatever ends this one; 0 in `retry_at`: nothing is parked any more. */
static void
note_retry(PpRetry retry)
{
	PpSlot *slot = claim->slot;
	int i = 0;

	SpinLockAcquire(&slot->mutex);
	while (i < slot->nretries &&
		   (slot->retries[i].target != retry.target || slot->retries[i].role != retry.role))
		i++;
	if (retry.retry_at == 0 && i < slot->nretries)
		slot->retries[i] = slot->retries[--slot->nretries];
	else if (retry.retry_at != 0 && i < PP_RETRIES)
	{
		slot->retries[i] = retry;
		slot->nretries = Max(slot->nretries, i + 1);
	}
	SpinLockRelease(&slot->mutex);
}

/*
 * We leave in good order: the next retrier knows our pauses, as many as there is room for.
 * False: something has been parked since we looked.  `again`: another process is to go on;
 * or else not before so many ms.
 */
bool
pp_retry_leave(bool again, long absent_ms)
{
	PpSlot *slot = claim->slot;
	HASH_SEQ_STATUS seq;
	PpRetry retries[PP_RETRIES];
	PpParked *parked;
	PpSteady next = again ? pp_steady_now() : Max(pp_retry_next(), pp_steady_in(absent_ms));
	bool is_news;
	int n = 0;

	hash_seq_init(&seq, pp_parking_keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (n < PP_RETRIES && !pp_parking_is_paused(parked->key.target)) /* at once, then */
			retries[n++] = retry_of(parked);
	}
	SpinLockAcquire(&slot->mutex);
	is_news = slot->parked_seq != seen_seq || slot->retrier.pause_changed;
	if (!is_news || again || absent_ms > 0)
	{
		memcpy(slot->retries, retries, n * sizeof(PpRetry));
		slot->nretries = n;
		slot->retry_at = Min(slot->retry_at, next);
		slot->waits_for_lock = false;
	}
	SpinLockRelease(&slot->mutex);
	return !is_news || again || absent_ms > 0;
}

/* ---- when to try it ---- */

/* Twice as long each time, and never quite the same. */
static PpSteady
next_retry(int failures, long longest_ms, long spent_ms)
{
	long ms = Min(longest_ms, RETRY_MIN_MS << Min(failures, 10));

	ms = ms * 3 / 4 + (long) (pg_prng_double(&pg_global_prng_state) * (ms / 2));
	return pp_steady_in(Max(ms, PP_SPENT_FACTOR * spent_ms));
}

/* The name of the target, for the log.  In a transaction. */
static char *
name_of_parked(Oid target)
{
	char *name = get_rel_name(target);

	return name ? name : psprintf("%u", target);
}

/* Say that it is parked, or not any more; not in a transaction. */
static void
log_parked(const PpParked *parked, int sqlstate)
{
	MemoryContext caller = CurrentMemoryContext;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (sqlstate != 0)
		ereport(LOG, (errcode(sqlstate),
					  errmsg("items for relation \"%s\" are parked: SQLSTATE %s",
							 name_of_parked(parked->key.target), unpack_sql_state(sqlstate)),
					  errdetail("They are tried again, in their order; other relations' are "
								"written meanwhile.")));
	else
		ereport(LOG, (errmsg("items for relation \"%s\" are not parked any more",
							 name_of_parked(parked->key.target))));
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}

/* It is about to be tried.  If that ends us, others come first, and it has a pause. */
void
pp_retry_begin(PpParked *parked)
{
	PpRetry retry;

	parked->tried_at = pp_steady_now();
	retry = retry_of(parked);
	retry.failures++;
	retry.retry_at = next_retry(retry.failures, RETRY_MAX_MS, 0);
	note_retry(retry);
}

/* The process may not try it: it comes first in the next one. */
void
pp_retry_postpone(PpParked *parked)
{
	parked->tried_at = 0;
	note_retry(retry_of(parked));
}

/* It has been tried in vain, which took so long; not in a transaction. */
void
pp_retry_back_off(PpParked *parked, int sqlstate, long spent_ms)
{
	parked->failures++;
	parked->landing = false;
	parked->sqlstate = sqlstate;
	if (ERRCODE_TO_CATEGORY(sqlstate) != ERRCODE_TRANSACTION_ROLLBACK &&
		!(sqlstate == ERRCODE_QUERY_CANCELED && pp_hanging_is_elsewhere(parked->key.target)))
		parked->believed_since = 0;
	else if (parked->believed_since == 0)
		parked->believed_since = pp_steady_now();
	parked->retry_at = next_retry(parked->failures,
								  !parked->whole						   ? LOCKED_MAX_MS
								  : sqlstate == ERRCODE_LOCK_NOT_AVAILABLE ? LOCK_MAX_MS
																		   : RETRY_MAX_MS,
								  spent_ms);
	pp_counters_set_reason(&claim->slot->counters, parked->key.target, sqlstate);
	SpinLockAcquire(&claim->slot->mutex);
	pp_shmem_count_error_locked(claim->slot, sqlstate);
	SpinLockRelease(&claim->slot->mutex);
	note_retry(retry_of(parked));
	if (parked->failures < SAY_FAILURES || parked->said)
		return;
	parked->said = true;
	log_parked(parked, sqlstate);
}

/*
 * An error of class 40 says that another try may do, and a server that hangs may answer again.
 * Code can raise such an error, too, and a row can be what hangs: so that is believed for a
 * while.
 */
bool
pp_retry_disbelieves(const PpParked *parked)
{
	return parked->believed_since != 0 &&
		   (parked->failures >= BELIEVED_FAILURES || parked->sqlstate == ERRCODE_QUERY_CANCELED) &&
		   pp_steady_has_lasted(parked->believed_since, pp_config_mismatch_timeout);
}

/* mismatch_since is noted with that item. */
void
pp_retry_note_with(PpParked *parked, uint64 pos, uint32 part)
{
	parked->noted = true;
	parked->noted_pos = pos;
	parked->noted_part = part;
}

/*
 * Its first item is known now.  If the one that mismatch_since was noted with is gone, somebody has
 * discarded it; what is there may have come since, and the target may have taken items meanwhile.
 */
void
pp_retry_check_noted(PpParked *parked)
{
	if (!parked->noted || parked->from < parked->noted_pos ||
		(parked->from == parked->noted_pos && parked->part <= parked->noted_part))
		return;
	parked->noted = false;
	parked->mismatch_since = 0;
	parked->believed_since = 0;
}

/* Some of its items have been settled; and not only by becoming dead letters. */
void
pp_retry_advance(PpParked *parked, bool landed)
{
	parked->landing = landed;
	if (landed)
	{
		parked->mismatch_since = 0;
		parked->believed_since = 0;
	}
	if (parked->believed_since == 0)
		parked->failures = 0;
	parked->noted = false; /* it was with the first of them */
	if (parked->width > 0)
		parked->width = Min(2 * parked->width, (uint64) pp_config_batch_size);
	parked->retry_at = pp_steady_now();
	note_retry(retry_of(parked));
	SpinLockAcquire(&claim->slot->mutex);
	claim->slot->retrier.starts = 0; /* this one works */
	SpinLockRelease(&claim->slot->mutex);
}

/* Is the target parked for any role? */
static bool
is_parked_for_any_role(Oid target)
{
	HASH_SEQ_STATUS seq;
	PpParked *parked;

	hash_seq_init(&seq, pp_parking_keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (parked->key.target == target)
		{
			hash_seq_term(&seq);
			return true;
		}
	}
	return pp_parking_is_paused(target);
}

/* None of its items is left; not in a transaction. */
void
pp_retry_end(PpParked *parked)
{
	Oid target = parked->key.target;
	HASH_SEQ_STATUS seq;
	PpParked *other;

	if (parked->said)
		log_parked(parked, 0);
	note_retry((PpRetry){.target = target, .role = parked->key.role});
	(void) hash_search(pp_parking_keys, &parked->key, HASH_REMOVE, NULL);
	if (!is_parked_for_any_role(target))
		pp_counters_set_reason(&claim->slot->counters, target, 0);

	/* what waits for its rows needn't wait any longer */
	hash_seq_init(&seq, pp_parking_keys);
	while ((other = hash_seq_search(&seq)) != NULL)
	{
		if (other->sqlstate == ERRCODE_FOREIGN_KEY_VIOLATION)
			other->retry_at = pp_steady_now();
	}
}

/* Does its code hang, so that all others would wait for the next try? */
static bool
hangs_when_retried(const PpParked *parked)
{
	return pp_hanging_is(parked->key.target) && !pp_hanging_is_elsewhere(parked->key.target);
}

/*
 * Are items of this target, which another one has replaced, to be tried before that one's?  Not
 * those that wait by themselves.  If they wait for rows of others they may need one of those that
 * were enqueued before them.
 */
static bool
comes_before(Oid target, const void *arg)
{
	const PpParked *parked = arg;
	const PpParked *other = pp_parking_find(target, parked->key.role);

	return other && other->whole &&
		   (other->sqlstate != ERRCODE_FOREIGN_KEY_VIOLATION || other->from < parked->from ||
			(other->from == parked->from && other->part <= parked->part));
}

/* Not while it is paused, nor before those of a target that it has replaced. */
bool
pp_retry_may_be_tried(const PpParked *parked)
{
	return !pp_parking_is_paused(parked->key.target) &&
		   !pp_parking_any_replaced(parked->key.target, comes_before, parked);
}

/* So many items at most are tried of it; only its first one, where something may come behind that.
 */
uint64
pp_retry_width(const PpParked *parked)
{
	if (pp_retry_disbelieves(parked) || pp_relatives_leave_out(parked, NULL, 0))
		return 1;
	return parked->width > 0 ? parked->width : (uint64) pp_config_batch_size;
}

/* Of those that are due, the one that was tried longest ago, but what hangs comes last; or NULL. */
PpParked *
pp_retry_due(void)
{
	PpSteady now = pp_steady_now();
	PpParked *next = NULL;
	HASH_SEQ_STATUS seq;
	PpParked *parked;

	hash_seq_init(&seq, pp_parking_keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (parked->retry_at <= now && pp_retry_may_be_tried(parked) &&
			(next == NULL || hangs_when_retried(parked) < hangs_when_retried(next) ||
			 (hangs_when_retried(parked) == hangs_when_retried(next) &&
			  parked->tried_at < next->tried_at)))
			next = parked;
	}
	return next;
}

/* When is the next one to be tried?  PP_NEVER: there is none. */
PpSteady
pp_retry_next(void)
{
	PpSteady next = PP_NEVER;
	HASH_SEQ_STATUS seq;
	PpParked *parked;

	hash_seq_init(&seq, pp_parking_keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (pp_retry_may_be_tried(parked))
			next = Min(next, parked->retry_at);
	}
	return next;
}

/* Somebody asks for them: the locks that they wait for may be gone, and that costs little. */
void
pp_retry_hurry(void)
{
	HASH_SEQ_STATUS seq;
	PpParked *parked;

	hash_seq_init(&seq, pp_parking_keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (parked->sqlstate == ERRCODE_LOCK_NOT_AVAILABLE)
			parked->retry_at = pp_steady_now();
	}
}
