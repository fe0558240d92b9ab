/*-------------------------------------------------------------------------
 *
 * apply_rows.c
 *	  What lands, what dies and what is parked of a role's rows; see apply_rows.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "base/errors.h"
#include "base/faults.h"
#include "store/layouts.h"
#include "worker/apply_rows.h"
#include "worker/deferred.h"
#include "worker/hanging.h"
#include "worker/identity.h"
#include "worker/isolate.h"
#include "worker/parents.h"
#include "worker/parking.h"
#include "worker/timer.h"
#include "worker/upsert.h"

#define MAX_DANGLING 64 /* rows of a transaction; with more of them all that fail alone are bad */

/* ---- what a command does in the middle ---- */

/* The target whose parked rows are tried: has its definition changed since that began? */
static struct
{
	Oid target;
	bool has_changed;
} retried;

static void
retried_changed(Datum arg, Oid relation)
{
	retried.has_changed |= !OidIsValid(relation) || relation == retried.target;
}

static void
watch_retried(Oid target)
{
	static bool watching = false;

	if (!watching)
		CacheRegisterRelcacheCallback(retried_changed, (Datum) 0);
	watching = true;
	retried.target = target;
	retried.has_changed = false;
}

/* ---- tries ---- */

static PpTry
try_rows(PpApply *apply, const PpRow **rows, uint64 n, bool deferred)
{
	return pp_try_insert(rows, n, deferred, apply->counts);
}

/* ---- transactions, and their rows ---- */

/* How many of the rows are of the first one's transaction */
static uint64
transaction_of(const PpRow **rows, uint64 n)
{
	uint64 end = 1;

	while (end < n && rows[end]->unit == rows[0]->unit)
		end++;
	return end;
}

/* So many rows, but whole transactions; at least one. */
static uint64
whole_transactions(const PpRow **rows, uint64 n, uint64 width)
{
	uint64 end = width;

	if (end >= n || rows[end]->unit != rows[end - 1]->unit)
		return Min(end, n);
	while (end > 0 && rows[end]->unit == rows[end - 1]->unit)
		end--;
	return end > 0 ? end : transaction_of(rows, n);
}

typedef enum Scope
{
	TRANSACTIONS, /* ranges are whole transactions, with what is deferred */
	ALL_BUT_BAD,  /* rows of one, without that */
	PARTS		  /* rows of one, with that */
} Scope;

static bool insert_transaction(PpApply *apply, const PpRow **rows, uint64 n, PpTry known);

static void
set_aside(PpApply *apply, const PpRow *row, const PpTry *failure, PpDecision decision)
{
	if (decision == PP_DECIDE_OUT_WAITING)
	{
		pp_decide_parked(apply, row, failure->error);
		return;
	}
	pp_decide_bad(apply, row, failure->error);
	apply->bad[apply->nbad - 1].deferred = failure->deferred;
	apply->doubts = 0;
	PP_FAULT(row_is_bad);
}

static bool
is_of_one_target(const PpRow **rows, uint64 n)
{
	for (uint64 i = 1; i < n; i++)
	{
		if (rows[i]->item->target != rows[0]->item->target)
			return false;
	}
	return true;
}

/*
 * One of these rows, which are whole transactions, fails: in the first transaction, or in the
 * one of the row that is told, or who knows.  False: all ends.
 */
static bool
narrow_to_transaction(PpApply *apply, PpIsolate *iso, const PpRow **rows, uint64 tried,
					  PpTry *failure)
{
	uint64 first = transaction_of(rows, tried);
	uint64 row = failure->row;

	while (row > 1 && rows[row - 2]->unit == rows[row - 1]->unit)
		row--;
	if (first < tried && row != 1)
	{
		pp_isolate_failed(iso, tried, row);
		return true;
	}
	if (!insert_transaction(apply, rows, first, first == tried ? *failure : (PpTry){0}))
		return false;
	iso->done += first - 1;
	/* counts as one row that is out, even if none is: only the next width depends on it */
	pp_isolate_out(iso);
	return true;
}

/* How many of the rows, from the first on, are of its target */
static uint64
of_one_target(const PpRow **rows, uint64 n)
{
	uint64 end = 1;

	while (end < n && rows[end]->item->target == rows[0]->item->target)
		end++;
	return end;
}

/* Is there no time left for what others wait for?  The retrier has time. */
static bool
is_over(const PpApply *apply)
{
	return !apply->retrying && pp_timer_is_over();
}

/*
 * Insert what can be inserted of these rows, in their order; false: the transaction ends.
 * `known`: how all of them have failed together; no error: that isn't known.
 */
static bool
insert_rows(PpApply *apply, const PpRow **rows, uint64 n, Scope scope, PpTry known)
{
	int nclosed = 0;
	uint64 retried = 0; /* rows up to that one have been tried again for another partition */
	PpTry told = {0};	/* how the row that is guilty has failed */
	PpIsolate iso;

	pp_isolate_begin(&iso, n);
	while (iso.done < iso.n)
	{
		const PpRow **next = rows + iso.done;
		uint64 left = iso.n - iso.done;
		uint64 tried = left;
		PpTry failure = known;
		PpDecision decision;

		CHECK_FOR_INTERRUPTS();
		known.error = NULL;
		if (nclosed < apply->nclosed)
		{
			nclosed = apply->nclosed;
			pp_isolate_drop(&iso, left - pp_decide_leave_closed(apply, next, left));
			continue;
		}
		if (failure.error == NULL && is_over(apply))
		{
			pp_decide_close_all(apply, next, left);
			continue;
		}
		if (pp_isolate_is_known(&iso))
		{
			tried = scope == TRANSACTIONS ? transaction_of(next, left) : 1;
			failure = told;
			failure.row = 0;
		}
		else if (failure.error == NULL)
		{
			tried = pp_isolate_next(&iso);
			if (apply->width > 0)
				tried = Min(tried, apply->width);
			if (pp_timer_is_short())
				tried = Min(tried, of_one_target(next, left));
			if (scope == TRANSACTIONS && apply->divided)
				tried = Min(tried, pp_deferred_settings_same(next, left));
			if (scope == TRANSACTIONS)
				tried = whole_transactions(next, left, tried);
		}
		if (failure.error == NULL)
			failure = try_rows(apply, next, tried, scope != ALL_BUT_BAD);
		if (failure.error == NULL)
		{
			pp_isolate_passed(&iso, tried);
			apply->doubts = 0;
			continue;
		}

		decision = pp_decide(apply, next, tried, &failure);
		if (decision == PP_DECIDE_END)
			return false;
		if (decision == PP_DECIDE_GO_ON)
			continue;
		if (decision == PP_DECIDE_FEWER)
			failure.row = 0;
		if (decision == PP_DECIDE_FEWER && (scope != TRANSACTIONS || tried == 1))
		{
			pp_isolate_narrow(&iso, tried);
			continue;
		}
		/*
		 * An INSERT goes target by target, so rows before this one in commit order may not have
		 * been inserted yet: then it is tried again after them.
		 */
		if (failure.row > 0)
			told = is_of_one_target(next, tried) ? failure : (PpTry){0};
		if (failure.row > 0 && told.by_itself && tried > 1)
		{
			/* it fails with or without others; they are tried again without it */
			set_aside(apply, next[failure.row - 1], &failure, decision);
			memmove(&next[failure.row - 1], &next[failure.row],
					(left - failure.row) * sizeof(PpRow *));
			pp_isolate_take_out(&iso, failure.row);
		}
		else if (tried > 1 && scope == TRANSACTIONS)
		{
			if (!narrow_to_transaction(apply, &iso, next, tried, &failure))
				return false;
		}
		else if (tried > 1)
			pp_isolate_failed(&iso, tried, failure.row);
		else if (retried <= iso.done && pp_decide_may_have_partition(apply, failure.error))
		{
			retried = iso.done + 1;
			pp_isolate_narrow(&iso, 1);
		}
		else
		{
			set_aside(apply, next[0], &failure, decision);
			pp_isolate_out(&iso);
		}
	}
	return true;
}

/* ---- rows that need each other ---- */

/* The targets of the rows.  Rows of one often follow each other. */
static List *
targets_of(const PpRow **rows, uint64 n)
{
	List *targets = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		if (i == 0 || rows[i]->item->target != rows[i - 1]->item->target)
			targets = list_append_unique_oid(targets, rows[i]->item->target);
	}
	return targets;
}

/* May a row that fails so need one of these targets'?  Does its foreign key refer to one? */
static bool
may_need(const List *targets, const ErrorData *error)
{
	Oid parent = error->sqlerrcode == ERRCODE_FOREIGN_KEY_VIOLATION ? pp_parents_of_failure(error)
																	: InvalidOid;
	ListCell *cell;

	if (!OidIsValid(parent))
		return true; /* nobody knows what it needs */
	foreach (cell, targets)
	{
		if (pp_parents_covers(lfirst_oid(cell), parent))
			return true;
	}
	return false;
}

/*
 * These rows of a transaction fail by themselves in what is deferred.  Insert them together,
 * without those that fail even then, which are left at the beginning of the list; false: that
 * can't be found out.
 *
 * Which row fails is found with a mark in the queue of what is deferred: all rows are there,
 * and an error from before the mark is of a row before it.
 */
static bool
insert_together(PpApply *apply, PpBadRow *bad, uint64 n, uint64 *nfailed)
{
	const PpRow **rows = palloc_extended(n * sizeof(PpRow *), MCXT_ALLOC_HUGE);
	uint64 from = 0; /* those before that are bad */
	uint64 low = 0;
	uint64 high = n;

	*nfailed = 0;
	while (from < n)
	{
		uint64 middle = low + (high - low) / 2;
		PpBadRow failed;
		PpTry failure;

		CHECK_FOR_INTERRUPTS();
		if (is_over(apply))
			return false;
		for (uint64 i = from; i < n; i++)
			rows[i - from] = bad[i].row;
		failure =
			pp_try_insert_marked(apply->claim->extension, rows, n - from, middle - from, NULL);
		if (failure.error == NULL) /* the mark is not to stay */
			return pp_try_insert(rows, n - from, true, apply->counts).error == NULL;
		if (failure.cut != PP_CUT_NONE || *nfailed == MAX_DANGLING)
			return false;
		if (!failure.deferred && n - from == 1)
			failure.row = 1;
		if (!failure.deferred && failure.row == 0)
			return false;

		/* the first one that fails is one of those from low to high */
		if (!failure.deferred)
			low = from + failure.row - 1;
		else if (high - low > 1)
		{
			if (failure.past_mark)
				low = middle;
			else
				high = middle;
			continue;
		}
		failed = bad[low];
		if (failure.deferred)
			failed.error = failure.error;

		/* others may need it: so all begins anew */
		memmove(&bad[from + 1], &bad[from], (low - from) * sizeof(PpBadRow));
		bad[from++] = failed;
		(*nfailed)++;
		low = from;
		high = n;
	}
	return true;
}

/*
 * Those of a transaction's rows that have failed by themselves since then in what is deferred:
 * if they need each other, or what has come after them, they are inserted together.  True: some
 * have been, behind all others.
 */
static bool
reconsider(PpApply *apply, const PpRow **all, uint64 nall, uint64 since)
{
	PpBadRow *others = apply->bad + since;
	uint64 nothers = apply->nbad - since;
	PpBadRow *bad = palloc_extended(Max(nothers, 1) * sizeof(PpBadRow), MCXT_ALLOC_HUGE);
	List *targets = targets_of(all, nall);
	bool needed = false;
	uint64 nkept = 0;
	uint64 n = 0;
	uint64 nfailed;
	bool together;

	for (uint64 i = 0; i < nothers; i++)
	{
		if (others[i].deferred)
			bad[n++] = others[i];
	}
	for (uint64 i = 0; i < n && !needed; i++)
	{
		CHECK_FOR_INTERRUPTS();
		needed = may_need(targets, bad[i].error);
	}
	if (!needed)
		return false;
	pp_upsert_skips_none = true;
	together = insert_together(apply, bad, n, &nfailed);
	pp_upsert_skips_none = false;
	if (!together)
	{
		/* they may be good, but there is no time to find out */
		for (uint64 i = 0; i < n && is_over(apply); i++)
		{
			pp_decide_target(apply, bad[i].target)->spares_bad = true;
			pp_decide_close(apply, bad[i].target, pp_decide_too_late());
		}
		return false;
	}

	/*
	 * They don't fail any more since the target has been mended, perhaps: then they don't belong
	 * behind the others.  The retrier can try all once more.
	 */
	if (apply->retrying && retried.has_changed)
	{
		apply->end = PP_APPLY_LATER;
		apply->error = bad[0].error;
		return false;
	}

	/* what has landed is not bad any more */
	for (uint64 i = 0; i < nothers; i++)
	{
		bool landed = others[i].deferred;

		for (uint64 k = 0; landed && k < nfailed; k++)
			landed = bad[k].row != others[i].row;
		if (landed)
			pp_decide_target(apply, others[i].target)->nbad--;
		else
			others[nkept++] = others[i];
	}
	apply->nbad = since + nkept;
	return nfailed < n;
}

static const PpRow **
copy_rows(const PpRow **rows, uint64 n)
{
	const PpRow **copy = palloc_extended(Max(n, 1) * sizeof(PpRow *), MCXT_ALLOC_HUGE);

	memcpy(copy, rows, n * sizeof(PpRow *));
	return copy;
}

static int
compare_addresses(const void *a, const void *b)
{
	const PpRow *one = *(const PpRow *const *) a;
	const PpRow *other = *(const PpRow *const *) b;

	return (one > other) - (one < other);
}

/* What is left of a transaction's rows without those that are bad, or parked, since then. */
static uint64
leave_good(const PpApply *apply, const PpDecideMark *since, const PpRow **rows, uint64 n)
{
	uint64 max = apply->nbad - since->nbad + apply->nparked - since->nparked;
	const PpRow **others = palloc_extended(Max(max, 1) * sizeof(PpRow *), MCXT_ALLOC_HUGE);
	uint64 nothers = 0;
	uint64 left = 0;

	for (uint64 k = since->nbad; k < apply->nbad; k++)
		others[nothers++] = apply->bad[k].row;
	for (uint64 k = since->nparked; k < apply->nparked; k++)
		others[nothers++] = apply->parked[k].row;
	qsort(others, nothers, sizeof(PpRow *), compare_addresses);
	for (uint64 i = 0; i < n; i++)
	{
		if (bsearch(&rows[i], others, nothers, sizeof(PpRow *), compare_addresses) == NULL)
			rows[left++] = rows[i];
	}
	pfree(others);
	return left;
}

static bool
try_parts(PpApply *apply, const PpRow **rows, uint64 n, bool in_parts)
{
	bool through;

	apply->in_parts = in_parts;
	through = insert_rows(apply, copy_rows(rows, n), n, PARTS, (PpTry){0});
	apply->in_parts = false;
	return through;
}

/*
 * All rows but the bad ones of a transaction fail together, in what is deferred: try them in
 * parts.  If more of them pass together, insert those that pass once more, all in their order.
 */
static bool
insert_in_parts(PpApply *apply, const PpRow **rows, uint64 n, bool foreign_key)
{
	PpDecideMark before = pp_decide_mark(apply);
	PpCatcher savepoint = pp_savepoint_begin();
	bool through = try_parts(apply, rows, n, foreign_key);
	const PpRow **good;

	if (!through || !reconsider(apply, rows, n, before.nbad))
	{
		pp_savepoint_end(&savepoint, through);
		return through && apply->end == PP_APPLY_COMMIT;
	}
	pp_timer_begin_undo();
	pp_savepoint_end(&savepoint, false);
	pp_timer_end_undo();
	good = copy_rows(rows, n);
	*apply->counts = before.counts;
	if (try_rows(apply, good, leave_good(apply, &before, good, n), true).error == NULL)
		return true;
	/* some pass only behind the others, which is not their place */
	pp_decide_back_to(apply, &before);
	return try_parts(apply, rows, n, foreign_key);
}

/*
 * A transaction fails by itself, as `known` says.  First do without those that fail at once,
 * and see whether the others pass together; else try them in parts.
 */
static bool
insert_transaction(PpApply *apply, const PpRow **rows, uint64 n, PpTry known)
{
	PpCatcher savepoint;
	PpDecideMark before = pp_decide_mark(apply);
	PpTry failure = {0};
	PpDecision decision;
	bool through;

	if (known.deferred)
		known.error = NULL; /* all INSERTs have come through */
	savepoint = pp_savepoint_begin();
	through = insert_rows(apply, copy_rows(rows, n), n, ALL_BUT_BAD, known);
	if (through)
		failure = pp_try_insert_deferred(rows, n, apply->counts);
	if (through && failure.error == NULL)
	{
		pp_savepoint_end(&savepoint, true);
		return true;
	}
	pp_timer_begin_undo();
	pp_savepoint_end(&savepoint, false);
	pp_timer_end_undo();
	pp_decide_back_to(apply, &before);
	if (!through)
		return false;
	decision = pp_decide_lacks_parked(apply, rows, n, &failure)
				   ? PP_DECIDE_GO_ON
				   : pp_decide(apply, rows, n, &failure);
	if (decision == PP_DECIDE_END)
		return false;
	if (decision == PP_DECIDE_GO_ON)
	{
		n = pp_decide_leave_closed(apply, rows, n);
		return n == 0 || insert_transaction(apply, rows, n, (PpTry){0});
	}
	return insert_in_parts(apply, rows, n,
						   failure.error->sqlerrcode == ERRCODE_FOREIGN_KEY_VIOLATION);
}

/* ---- what becomes of the others ---- */

/* Those of closed targets, and rows that wait by themselves. */
static void
park_rest(PpApply *apply)
{
	Oid role = apply->role;
	const PpRow **rows = palloc_extended(Max(apply->nparked, 1) * sizeof(PpRow *), MCXT_ALLOC_HUGE);
	uint64 n = 0;
	int sqlstate;

	for (uint64 i = 0; i < apply->nparked; i++)
	{
		const PpRow *row = apply->parked[i].row;
		ErrorData *error = apply->parked[i].error;
		PpApplyTarget *state = pp_decide_target(apply, row->item->target);

		if (error == NULL)
			rows[n++] = row;
		if (error)
		{
			pp_outcome_counts_error(apply->counts, state->target, error);
			state->counted = true;
		}
		else if (state->error)
		{
			if (state->mismatch)
				pp_parking_begin_grace_period(state->target, role);
			if (state->slow)
				pp_hanging_note(state->target);
			pp_outcome_counts_error(apply->counts, state->target, state->error);
			state->error = NULL; /* once */
			state->counted = true;
		}
		/* without a try; or a transaction that was rolled back has counted it */
		else if (!state->counted &&
				 (sqlstate = pp_parking_uncounted_error(state->target, role)) != 0)
		{
			pp_outcome_counts_error(apply->counts, state->target,
									&(ErrorData){.sqlerrcode = sqlstate});
			state->counted = true;
		}
	}
	/* what would be rolled back is not worth a row */
	if (apply->retrying && !apply->moved)
		return;
	if (apply->nparked > 0)
		PP_FAULT(parks);
	pp_parking_park_rows(apply->counts, role, rows, n);
	for (uint64 i = 0; i < apply->nparked; i++)
	{
		if (apply->parked[i].error)
			pp_parking_park_row_alone(apply->counts, role, apply->parked[i].row);
	}
}

/* Rows that were bad for what is wrong with their target are parked with the others of it. */
static void
spare_bad(PpApply *apply)
{
	uint64 nbad = 0;

	for (uint64 i = 0; i < apply->nbad; i++)
	{
		if (pp_decide_target(apply, apply->bad[i].target)->spares_bad)
			pp_decide_parked(apply, apply->bad[i].row, NULL);
		else
			apply->bad[nbad++] = apply->bad[i];
	}
	apply->nbad = nbad;
}

/* XX000 if something has not become of each row. */
static void
check_all_are_there(const PpApply *apply, uint64 n)
{
	uint64 rows = apply->nbad + apply->nparked;

	for (int i = 0; i < apply->counts->n; i++)
		rows += apply->counts->of[i].delta.persisted + apply->counts->of[i].delta.skipped;
	if (rows != n)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg_internal("of %llu rows %llu have been seen to",
										(unsigned long long) n, (unsigned long long) rows)));
}

/* Bad ones become dead letters, unless there are too many; then their targets wait. */
static void
write_dead_letters(PpApply *apply)
{
	uint64 room = pp_bad_rows_room(apply->claim, apply->role, apply->nbad);

	if (apply->nbad == 0)
		return;
	for (uint64 i = 0; i < apply->nbad; i++)
	{
		PpBadRow *bad = &apply->bad[i];

		CHECK_FOR_INTERRUPTS();
		if (i < room)
			pp_bad_rows_write_dead_letter(apply->claim->extension, apply->counts, bad->row,
										  apply->role, bad->error);
		else
		{
			pp_decide_close(apply, bad->target,
							pp_error(PP_DEAD_LETTERS_FULL, "there are too many dead letters"));
			pp_decide_parked(apply, bad->row, NULL);
		}
	}
	apply->nbad = Min(apply->nbad, room);
}

/* Those that nobody is to try are parked; the others, and *n of them. */
static const PpRow **
without_parked(PpApply *apply, const PpRow **rows, uint64 *n)
{
	const PpRow **others = palloc_extended(Max(*n, 1) * sizeof(PpRow *), MCXT_ALLOC_HUGE);
	uint64 nothers = 0;
	bool follows = false;

	for (uint64 i = 0; i < *n; i++)
	{
		Oid target = rows[i]->item->target;

		if (!apply->retrying && (i == 0 || target != rows[i - 1]->item->target))
			follows = pp_parking_has_to_follow(target, apply->role);
		if (follows)
			pp_decide_parked(apply, rows[i], NULL);
		else
			others[nothers++] = rows[i];
	}
	*n = nothers;
	return others;
}

/* Those of transactions with the same settings together, with what they defer. */
static void
insert_divided(PpApply *apply, const PpRow **rows, uint64 n, PpOutcomeCounts *counts)
{
	for (uint64 done = 0; done < n; done += apply->nrows)
	{
		apply->rows = rows + done;
		apply->nrows = pp_deferred_settings_same(rows + done, n - done);
		pp_try_insert_all(apply->rows, apply->nrows, counts);
		pp_deferred_settings_fire(apply->rows, apply->nrows);
	}
}

/*
 * Insert the rows of one role, all or none, in the current transaction, as that role;
 * but those of targets that are parked follow the others there.
 */
void
pp_apply_rows_at_once(PpApply *apply, const PpRow **rows, uint64 n)
{
	PpOutcomeCounts counts = {0};

	rows = without_parked(apply, rows, &n);
	apply->rows = rows;
	apply->nrows = n;
	apply->divided = pp_deferred_settings_matter(rows, n);
	if (apply->impatient)
		pp_identity_set_lock_timeout(PP_DECIDE_IMPATIENT_MS);
	if (n > 0)
	{
		if (apply->divided)
			insert_divided(apply, rows, n, &counts);
		else
			pp_try_insert_all(rows, n, &counts);
		pp_outcome_counts_add(apply->counts, &counts);
		apply->moved = true;
	}
	park_rest(apply);
}

/*
 * Insert what can be inserted of these rows of one role, in the current transaction, as
 * that role.
 */
void
pp_apply_rows(PpApply *apply, const PpRow **rows, uint64 n)
{
	PpTry known = apply->known;
	uint64 given = n;

	if (!apply->retrying)
		pp_parking_park_locked(rows, n, apply->role);
	rows = without_parked(apply, rows, &n);
	apply->rows = copy_rows(rows, n);
	apply->nrows = n;
	apply->divided = pp_deferred_settings_matter(rows, n);
	pp_timer_set_targets(Max(list_length(targets_of(rows, n)), 1));
	if (apply->impatient)
		pp_identity_set_lock_timeout(PP_DECIDE_IMPATIENT_MS);
	/* what has waited for a lock, or was cancelled, may come through now; or other rows failed */
	if (apply->nparked > 0 || apply->divided ||
		(known.cut != PP_CUT_NONE && known.cut != PP_CUT_TIMEOUT) ||
		(known.error && (known.error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
						 pp_classify(known.error, true, known.cut) == PP_CLASS_UNSURE)))
		known.error = NULL;
	if (apply->retrying && n > 0)
		watch_retried(pp_layouts_current(rows[0]->item->target));
	if (!insert_rows(apply, rows, n, TRANSACTIONS, known))
		return;
	pp_timer_end_attempt(); /* the rest is no part of what the rows do */
	spare_bad(apply);
	check_all_are_there(apply, given);
	write_dead_letters(apply);
	apply->moved = apply->nbad > 0;
	for (int i = 0; i < apply->counts->n; i++)
		apply->moved |=
			apply->counts->of[i].delta.persisted > 0 || apply->counts->of[i].delta.skipped > 0;
	park_rest(apply);
}
