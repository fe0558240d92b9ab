/*-------------------------------------------------------------------------
 *
 * sieve.c
 *	  Inserts what can be inserted; see sieve.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/sinval.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

#include "clock.h"
#include "config.h"
#include "identity.h"
#include "letterbox.h"
#include "parked.h"
#include "parking.h"
#include "sieve.h"
#include "trial.h"
#include "verdict.h"

#define IMPATIENT_MS 10
#define WEARY_MS 1	/* after another wait in vain in the same transaction */
#define MAX_HELD 16 /* rows of a target; with more of them it is the target that waits */
#define MISFIT_SAMPLE                                                                              \
	100				   /* rows; when all of them fail alike it is the target that doesn't fit      \
						*/
#define DENSE_STREAK 4 /* bad ones in a row; the next one may be so, too */
#define FEW_FOUND 2	   /* so few bad ones say nothing about how many there are */
#define FEWER 4		   /* that many times fewer rows, after some that have failed together ... */
#define MUCH_FEWER 16  /* ... and after all of them: where the bad ones are may be anywhere */
#define MIN_TOLD 64
#define MAX_TIMEOUTS 2 /* of one transaction */
#define DOUBTS 3
#define MAX_BAD_BYTES (16 * 1024 * 1024) /* of errors; from there on they are told in short */

static int doubts_in_a_row = 0; /* tries of one row that may be bad */

/* ---- tries ---- */

static ErrorData *
try_under_savepoint(PpSieve *sieve, const PpRow **rows, uint64 n, bool keep)
{
	bool deferred = n == 0 || (sieve->in_order && !sieve->dissecting);
	ErrorData *error = pp_trial_under_savepoint(rows, n, deferred, keep ? sieve->results : NULL,
												&sieve->timed_out);

	if (error == NULL && keep && n > 0)
		sieve->landed = sieve->moved = true;
	return error;
}

/* Insert these; NULL, or why not; *row: which one, from 1 on, or 0. */
static ErrorData *
try_rows(PpSieve *sieve, const PpRow **rows, uint64 n, uint64 *row)
{
	ErrorData *error = try_under_savepoint(sieve, rows, n, true);

	*row = 0;
	if (error && sieve->share && pp_batch_state.target == sieve->share->target &&
		pp_cut == PP_CUT_NONE && !sieve->timed_out)
		*row = Min(pp_batch_state.row, n);
	return error;
}

/* Check what is deferred; `keep`: and it is checked.  NULL, or why it fails. */
static ErrorData *
try_deferred(PpSieve *sieve, bool keep)
{
	return try_under_savepoint(sieve, NULL, 0, keep);
}

/* ---- verdicts ---- */

/* Would these rows fail in the same way, each by itself? */
static bool
fails_alike(PpSieve *sieve, const PpRow *row, const ErrorData *error)
{
	ErrorData *own = try_under_savepoint(sieve, &row, 1, false);
	bool alike = own && pp_is_alike(own, error);

	if (own)
		FreeErrorData(own);
	return alike;
}

/*
 * Have as many of these rows of one target failed as make a sample, all alike, and would the
 * last one, and one in the middle?
 */
static bool
all_fail_alike(PpSieve *sieve, const PpRow **rows, uint64 n, const ErrorData *error)
{
	Oid target = rows[0]->item->target;

	if (pp_results_of(sieve->results, target)->bad != MISFIT_SAMPLE || n <= MISFIT_SAMPLE)
		return false;
	for (uint64 i = sieve->bad_before; i < sieve->nbad; i++)
	{
		if (sieve->bad[i].row->item->target == target && !pp_is_alike(sieve->bad[i].error, error))
			return false;
	}
	return fails_alike(sieve, rows[n - 1], error) && fails_alike(sieve, rows[n / 2], error);
}

/* May a target still be parked that takes none of its rows? */
static bool
may_wait(const PpSieve *sieve, Oid target)
{
	return !pp_parking_grace_is_over(target, sieve->role) &&
		   SearchSysCacheExists1(RELOID, ObjectIdGetDatum(target));
}

/* Does it lack a column, or the role a right?  Then no row has been looked at. */
static bool
lacks_something(const ErrorData *error, bool in_rows)
{
	return !in_rows && ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
						   ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION);
}

/*
 * Is it the target that takes none of its rows, as it is now?  It lacks something, or a
 * good sample fails alike: *all.
 */
static bool
is_misfit(PpSieve *sieve, const ErrorData *error, bool in_rows, bool *all)
{
	PpTargetRows *share = sieve->share;

	*all = false;
	if (share == NULL || !may_wait(sieve, share->target))
		return false;
	if (lacks_something(error, in_rows))
		return true;
	*all =
		!sieve->landed && sieve->held == 0 && all_fail_alike(sieve, share->rows, share->n, error);
	return *all;
}

/*
 * The same in order, where some may be deferred: does the target of this row, which has
 * failed alone, take none of them?
 */
static bool
is_misfit_in_order(PpSieve *sieve, const PpRow *row, const ErrorData *error, bool in_rows)
{
	Oid target = row->item->target;
	const PpResult *result = pp_results_of(sieve->results, target);
	const PpRow **rows;
	uint64 n = 0;
	bool all;

	if (sieve->share || !may_wait(sieve, target))
		return false;
	if (lacks_something(error, in_rows))
		return true;
	if (result->bad != MISFIT_SAMPLE || result->delta.persisted > 0 || result->delta.skipped > 0)
		return false;
	rows = palloc_extended(sieve->nrows * sizeof(PpRow *), MCXT_ALLOC_HUGE);
	for (uint64 i = 0; i < sieve->nrows; i++)
	{
		if (sieve->rows[i]->item->target == target)
			rows[n++] = sieve->rows[i];
	}
	all = all_fail_alike(sieve, rows, n, error);
	pfree(rows);
	return all;
}

/* The rest of the target's rows are parked. */
static bool
stop_share(PpSieve *sieve, const PpRow **rows, ErrorData *error)
{
	sieve->error = error;
	sieve->stopped_at = rows;
	return false;
}

static bool
start_again(PpSieve *sieve, ErrorData *error)
{
	sieve->error = error;
	sieve->outcome = PP_SIEVE_AGAIN;
	return false;
}

/* The first of these that goes into the target. */
static const PpRow *
first_of(Oid target, const PpRow **rows, uint64 n)
{
	for (uint64 i = 0; i < n; i++)
	{
		if (rows[i]->item->target == target)
			return rows[i];
	}
	return rows[0];
}

/* In order: the target is parked, and all the rest is done again without it. */
static bool
park_and_start_again(PpSieve *sieve, const PpRow *first, ErrorData *error)
{
	pp_parking_park(first, sieve->role, error->sqlerrcode, true);
	return start_again(sieve, error);
}

static void
be_impatient(PpSieve *sieve)
{
	pp_identity_set_lock_timeout(sieve->impatient ? WEARY_MS : IMPATIENT_MS);
	sieve->impatient = true;
}

static void
add_bad(PpSieve *sieve, const PpRow *row, ErrorData *error)
{
	if (sieve->bad_bytes > MAX_BAD_BYTES)
		pp_error_abridge(error);
	sieve->bad_bytes += pp_error_size(error);
	if (sieve->nbad == sieve->maxbad)
	{
		sieve->maxbad = Max(16, sieve->maxbad * 2);
		sieve->bad = sieve->bad ? repalloc_huge(sieve->bad, sieve->maxbad * sizeof(PpBad))
								: MemoryContextAllocHuge(CurrentMemoryContext,
														 sieve->maxbad * sizeof(PpBad));
	}
	sieve->bad[sieve->nbad++] = pp_bad(row, error);
	pp_results_of(sieve->results, row->item->target)->bad++;
	sieve->streak++;
	doubts_in_a_row = 0;
}

static void
hold_row(PpSieve *sieve, const PpRow *row, ErrorData *error)
{
	pp_parking_hold(sieve->results, sieve->role, &row, 1);
	pp_parking_park(row, sieve->role, error->sqlerrcode, false);
	pp_results_error(pp_results_of(sieve->results, row->item->target), error, 1);
}

typedef enum Verdict
{
	VERDICT_BAD,   /* a row's fault: go on to find it */
	VERDICT_HELD,  /* a row's, that waits: the same */
	VERDICT_HALVE, /* fewer of them may do */
	VERDICT_END	   /* it has been seen to */
} Verdict;

/* What to do about these rows, which have failed with this error, in this one if row > 0? */
static Verdict
judge(PpSieve *sieve, const PpRow **rows, uint64 n, ErrorData *error, uint64 row, bool in_rows)
{
	bool alone = n == 1;
	bool all;
	Oid target = sieve->share ? sieve->share->target
				 : alone	  ? rows[0]->item->target
							  : pp_batch_state.target;
	const PpRow *suspect = rows[row > 0 ? row - 1 : 0];

	if (pp_cut == PP_CUT_STOP || pp_cut == PP_CUT_HOLD)
	{
		sieve->error = error;
		sieve->outcome = PP_SIEVE_TRANSIENT;
		return VERDICT_END;
	}
	if (sieve->timed_out)
	{
		/* others wait meanwhile: so it gets another chance, but not now */
		sieve->width = Max(n / 2, 1);
		if (++sieve->timeouts <= MAX_TIMEOUTS && !alone)
			return VERDICT_HALVE;
		if (alone && sieve->retrying && sieve->timeouts <= MAX_TIMEOUTS + 1)
			return VERDICT_BAD;
		if (sieve->share || sieve->retrying)
		{
			sieve->slow = true;
			(void) stop_share(sieve, rows, error);
		}
		else
		{
			sieve->error = error;
			sieve->outcome = PP_SIEVE_APART;
		}
		return VERDICT_END;
	}
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE && sieve->share)
	{
		be_impatient(sieve);
		if (!sieve->by_row && pp_lock_parents(target))
		{
			sieve->by_row = true;
			return VERDICT_HALVE; /* what was locked may be free by now */
		}
		if (sieve->by_row && sieve->held < MAX_HELD)
			return VERDICT_HELD;
		(void) stop_share(sieve, rows, error);
		return VERDICT_END;
	}
	if (!alone && ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES)
		return VERDICT_HALVE; /* there may be enough of it for fewer */
	if (pp_is_doubtful(error))
		return alone && ++doubts_in_a_row >= DOUBTS ? VERDICT_BAD : VERDICT_HALVE;
	if (pp_is_transient(error) ||
		((alone || row > 0) &&
		 pp_waits_for_parent(suspect, sieve->role, sieve->held > 0 || !sieve->retrying, error)))
	{
		if (sieve->share || sieve->retrying)
			(void) stop_share(sieve, rows, error);
		else if (OidIsValid(target))
			(void) park_and_start_again(sieve, first_of(target, rows, n), error);
		else
			return VERDICT_HALVE;
		return VERDICT_END;
	}
	if (sieve->share && !sieve->only && error->sqlerrcode == ERRCODE_FOREIGN_KEY_VIOLATION)
	{
		(void) start_again(sieve, error); /* another order may help */
		return VERDICT_END;
	}
	if (is_misfit(sieve, error, in_rows, &all))
	{
		/* what has failed of it so far is no better, if it has failed alike */
		if (all)
			sieve->nbad = sieve->bad_before;
		sieve->misfit = true;
		(void) stop_share(sieve, all ? sieve->share->rows : rows, error);
		return VERDICT_END;
	}
	if (alone && is_misfit_in_order(sieve, rows[0], error, in_rows))
	{
		pp_parking_begin_grace(rows[0]->item->target, sieve->role);
		if (!sieve->retrying)
			(void) park_and_start_again(
				sieve, first_of(rows[0]->item->target, sieve->rows, sieve->nrows), error);
		else
		{
			sieve->error = error; /* they are parked */
			sieve->outcome = PP_SIEVE_TRANSIENT;
		}
		return VERDICT_END;
	}
	return VERDICT_BAD;
}

/* Did the target's INSERT look at a row at all? */
static bool
has_begun(const PpSieve *sieve, const PpBatchState *state)
{
	return !OidIsValid(state->target) || state->in_rows ||
		   (sieve->share && state->target != sieve->share->target);
}

/*
 * How many rows to try next: so many, but whole transactions, where their order matters
 * and they haven't failed by themselves.
 */
static uint64
next_stretch(const PpSieve *sieve, const PpRow **rows, uint64 n, uint64 width, uint32 dissected)
{
	uint64 end = Min(width, n);

	if (!sieve->in_order || sieve->dissecting || end == n || rows[0]->unit == dissected ||
		rows[end]->unit != rows[end - 1]->unit)
		return end;
	while (end > 0 && rows[end]->unit == rows[end - 1]->unit)
		end--;
	if (end > 0)
		return end;
	for (end = 1; end < n && rows[end]->unit == rows[0]->unit;)
		end++;
	return end;
}

/*
 * How many rows to try after these have come through, or a bad one has been found: so
 * many as may be free of bad ones, going by those so far.
 */
static uint64
next_width(const PpSieve *sieve, uint64 width, uint64 done, uint64 found, bool came_through)
{
	uint64 apart = found > 0 ? done / found : 0;

	/* a try in vain costs all its rows, one more INSERT next to nothing */
	if (came_through)
		width =
			sieve->told || found <= FEW_FOUND ? 2 * width : Min(2 * width, Max(apart * 7 / 20, 1));
	else if (sieve->told)
		width = Max(4 * apart, MIN_TOLD); /* more would only be read in vain */
	else
		width = sieve->streak >= DENSE_STREAK ? 1 : Max(apart / 4, 1);
	return sieve->width > 0 ? Min(width, sieve->width) : width;
}

/* This row is bad, or waits by itself. */
static void
set_aside(PpSieve *sieve, const PpRow *row, ErrorData *error, Verdict verdict)
{
	if (verdict == VERDICT_HELD)
	{
		hold_row(sieve, row, error);
		sieve->held++;
	}
	else
		add_bad(sieve, row, error);
}

/*
 * Is it the way that has ended this row, which may be another one by now?  If nothing has
 * changed since one was in vain, this one is, too.
 */
static bool
may_have_another_way(PpSieve *sieve, const ErrorData *error)
{
	uint64 routes;

	if (!pp_is_of_route(error))
		return false;
	AcceptInvalidationMessages();
	routes = SharedInvalidMessageCounter + 1;
	if (sieve->routes == routes)
		return false;
	sieve->routes = routes;
	return true;
}

/* An error of rows that are tried again, in parts: there can be one for each. */
static void
forget(const PpSieve *sieve, ErrorData *error)
{
	if (error != sieve->known)
		FreeErrorData(error);
}

static bool sift(PpSieve *sieve, const PpRow **rows, uint64 n, ErrorData *error, uint64 row,
				 bool in_rows);

/*
 * A transaction fails by itself.  Its rows may need each other by what is deferred: so
 * first do without those that fail at once, and see whether the others pass together.
 * False: they don't, and nothing has changed.
 */
static bool
dissect(PpSieve *sieve, const PpRow **rows, uint64 n)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	PpResults before = pp_results_copy(sieve->results);
	uint64 nbad = sieve->nbad;
	bool landed = sieve->landed;
	bool moved = sieve->moved;
	ErrorData *error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	sieve->dissecting = true;
	if (sift(sieve, rows, n, NULL, 0, true))
		error = try_deferred(sieve, true);
	sieve->timeouts += error && sieve->timed_out;
	sieve->dissecting = false;
	if (error == NULL && sieve->outcome == PP_SIEVED && sieve->stopped_at == NULL &&
		sieve->nbad - nbad < n)
	{
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		return true;
	}
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
	*sieve->results = before;
	sieve->nbad = nbad;
	sieve->landed = landed;
	sieve->moved = moved;
	sieve->stopped_at = NULL;
	return false;
}

/*
 * Insert what can be inserted of these rows; false: something ends it.  `error`: why all
 * of them fail together, if that is known, and in which row, if that is told.
 */
static bool
sift(PpSieve *sieve, const PpRow **rows, uint64 n, ErrorData *error, uint64 row, bool in_rows)
{
	uint64 done = 0;
	uint64 tried = n;
	uint64 width = n;
	uint64 found = 0;
	uint64 failing_end = 0; /* before that there is a bad one */
	uint64 rerouted = 0;	/* rows up to that have been tried again for their way */
	uint32 dissected = 0;	/* the number of a transaction that fails by itself */

	while (done < n)
	{
		Verdict verdict;

		CHECK_FOR_INTERRUPTS();
		if (error == NULL)
		{
			tried = next_stretch(sieve, rows + done, n - done, width, dissected);
			error = try_rows(sieve, rows + done, tried, &row);
			in_rows = has_begun(sieve, &pp_batch_state);
		}
		if (error == NULL)
		{
			done += tried;
			sieve->streak = doubts_in_a_row = 0;
			width = next_width(sieve, tried, done, found, true);
			if (done < failing_end)
				width = Min(width, Max((failing_end - done) / 2, 1));
			continue;
		}

		verdict = judge(sieve, rows + done, tried, error, row, in_rows);
		if (verdict == VERDICT_END)
			return false;
		if (verdict == VERDICT_HALVE || (tried > 1 && row == 0))
		{
			failing_end = done + tried;
			if (tried > 1)
				sieve->told = false;
			if (sieve->in_order && !sieve->dissecting && tried > 1 &&
				rows[done]->unit != dissected && rows[done]->unit == rows[failing_end - 1]->unit)
			{
				dissected = rows[done]->unit;
				if (dissect(sieve, rows + done, tried))
				{
					done = failing_end;
					width = 1;
					error = NULL;
					continue;
				}
				if (sieve->outcome != PP_SIEVED)
					return false;
			}
			width = Max(tried / (tried == n ? MUCH_FEWER : FEWER), 1);
			forget(sieve, error);
			error = NULL;
			continue;
		}
		if (tried > 1 && row > 1)
		{
			/* those before it may pass, or not, without it */
			uint64 other;
			ErrorData *before = try_rows(sieve, rows + done, row - 1, &other);

			if (before)
			{
				forget(sieve, error);
				error = before;
				tried = row - 1;
				row = other;
				in_rows = has_begun(sieve, &pp_batch_state);
				continue;
			}
			done += row - 1;
			sieve->streak = 0;
		}
		if (tried > 1)
			sieve->told = true;
		if (rerouted <= done && may_have_another_way(sieve, error))
		{
			rerouted = done + 1;
			forget(sieve, error);
			error = NULL;
			width = 1;
			continue;
		}
		set_aside(sieve, rows[done], error, verdict);
		done++;
		found++;
		failing_end = done;
		width = next_width(sieve, 1, done, found, false);
		error = NULL;
	}
	return true;
}

/* ---- what becomes of the others ---- */

static void
park_rest(PpSieve *sieve, const PpRow **from, const PpRow **end)
{
	Oid target = from[0]->item->target;

	/* what would be rolled back is not worth a row */
	if (!sieve->retrying || sieve->moved || sieve->nbad > 0)
		pp_parking_hold(sieve->results, sieve->role, from, end - from);
	if (sieve->misfit)
		pp_parking_begin_grace(target, sieve->role);
	pp_parking_park(from[0], sieve->role, sieve->error->sqlerrcode, true);
	if (sieve->slow)
		pp_parking_delay(target, sieve->role, sieve->timeouts, sieve->width);
	for (const PpRow **row = from + 1; row < end; row++)
		pp_parking_follow(*row, sieve->role); /* its place may come before the first one's */
	pp_results_error(pp_results_of(sieve->results, target), sieve->error, 1);
}

/* Bad ones become dead letters, unless there are too many; then their targets wait. */
static void
bury(PpSieve *sieve)
{
	uint64 room = pp_letterbox_room(sieve->claim, sieve->nbad);

	if (sieve->nbad == 0)
		return;
	pp_clock_end_attempt(); /* that is no part of what the rows do */
	for (uint64 i = 0; i < sieve->nbad; i++)
	{
		PpBad *bad = &sieve->bad[i];

		CHECK_FOR_INTERRUPTS();
		if (i < room)
			pp_letterbox_bury(sieve->claim->extension, sieve->results, bad->row, sieve->role,
							  bad->error, true);
		else
		{
			pp_parking_hold(sieve->results, sieve->role, &bad->row, 1);
			pp_parking_park(bad->row, sieve->role, PP_LETTERS_FULL, true);
			sieve->error = pp_error(PP_LETTERS_FULL, "there are too many dead letters");
		}
	}
	sieve->nbad = Min(sieve->nbad, room);
	sieve->moved |= sieve->nbad > 0;
	pp_clock_begin_attempt(); /* the commit is */
}

/* ---- ways ---- */

/* False: all ends here. */
static bool
sift_share(PpSieve *sieve, PpTargetRows *share, bool alone)
{
	ErrorData *known = NULL;
	bool ok;

	sieve->share = share;
	sieve->only = alone;
	sieve->bad_before = sieve->nbad;
	sieve->landed = false;
	sieve->streak = sieve->held = 0;
	sieve->misfit = sieve->by_row = false;
	sieve->timed_out = sieve->slow = false;
	sieve->stopped_at = NULL;
	if (!ConditionalLockRelationOid(share->target, RowExclusiveLock))
	{
		sieve->error = pp_error(ERRCODE_LOCK_NOT_AVAILABLE, "the relation is locked");
		park_rest(sieve, share->rows, share->rows + share->n);
		return true;
	}
	if (alone && sieve->known && sieve->at.target == share->target && pp_cut == PP_CUT_NONE &&
		sieve->known->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		known = sieve->known;
	ok = sift(sieve, share->rows, share->n, known, known ? Min(sieve->at.row, share->n) : 0,
			  has_begun(sieve, &sieve->at));
	if (sieve->outcome != PP_SIEVED)
		return false;

	if (!ok)
		park_rest(sieve, sieve->stopped_at, share->rows + share->n);
	return true;
}

/* Those that nobody is to try are parked; the others, and *n of them. */
static const PpRow **
without_held(PpSieve *sieve, const PpRow **rows, uint64 *n)
{
	const PpRow **rest = palloc_extended(Max(*n, 1) * sizeof(PpRow *), MCXT_ALLOC_HUGE);
	const PpRow **held = palloc_extended(Max(*n, 1) * sizeof(PpRow *), MCXT_ALLOC_HUGE);
	uint64 nrest = 0;
	uint64 nheld = 0;

	for (uint64 i = 0; i < *n; i++)
	{
		if (!sieve->retrying && pp_parking_holds(rows[i]->item->target, sieve->role))
		{
			pp_parking_follow(rows[i], sieve->role);
			held[nheld++] = rows[i];
		}
		else
			rest[nrest++] = rows[i];
	}
	if (nheld > 0)
		pp_parking_hold(sieve->results, sieve->role, held, nheld);
	*n = nrest;
	return rest;
}

/*
 * Insert the rows of one role, all or none, in the current transaction, as that role;
 * but those of targets that are parked follow the others there.
 */
void
pp_sieve_all_at_once(PpSieve *sieve, const PpRow **rows, uint64 n)
{
	PpResults results = {0};

	rows = without_held(sieve, rows, &n);
	if (sieve->impatient)
		pp_identity_set_lock_timeout(IMPATIENT_MS);
	if (n == 0)
		return;
	pp_trial_insert(rows, n, &results);
	pp_results_add(sieve->results, &results);
	sieve->moved = true;
}

/* Park the rows, without a try; each target is to be tried by itself, and soon. */
void
pp_sieve_park(PpSieve *sieve, const PpRow **rows, uint64 n, const ErrorData *error)
{
	pp_parking_hold(sieve->results, sieve->role, rows, n);
	for (uint64 i = 0; i < n; i++)
	{
		Oid target = rows[i]->item->target;

		PpResult *result = pp_results_of(sieve->results, target);

		if (result->delta.errors > 0)
		{
			pp_parking_follow(rows[i], sieve->role);
			continue;
		}
		pp_parking_park(rows[i], sieve->role, error->sqlerrcode, true);
		if (sieve->slow)
			pp_parking_delay(target, sieve->role, sieve->timeouts, sieve->width);
		pp_results_error(result, error, 1);
	}
}

/*
 * Insert what can be inserted of these rows of one role, in the current transaction, as
 * that role.  Errors that are not a target's end it all.
 */
void
pp_sieve(PpSieve *sieve, const PpRow **rows, uint64 n)
{
	sieve->outcome = PP_SIEVED;
	if (sieve->in_order && !sieve->retrying)
		pp_parking_park_locked(rows, n, sieve->role);
	rows = without_held(sieve, rows, &n);
	if (sieve->impatient)
		pp_identity_set_lock_timeout(IMPATIENT_MS);
	sieve->rows = rows;
	sieve->nrows = n;
	if (sieve->in_order)
	{
		bool ok = sift(sieve, rows, n, NULL, 0, true);

		if (!ok && sieve->outcome == PP_SIEVED)
			park_rest(sieve, sieve->stopped_at, rows + n);
	}
	else if (n > 0)
	{
		int nshares;
		PpTargetRows **shares = pp_batch_divide(rows, n, &nshares);

		for (int i = 0; i < nshares; i++)
		{
			if (!sift_share(sieve, shares[i], nshares == 1))
				break;
		}
		sieve->share = NULL;
		if (sieve->outcome == PP_SIEVED)
		{
			ErrorData *error = try_deferred(sieve, false);

			if (error)
				(void) start_again(sieve, error);
		}
	}
	if (sieve->outcome == PP_SIEVED)
		bury(sieve);
}
