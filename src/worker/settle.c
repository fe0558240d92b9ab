/*-------------------------------------------------------------------------
 *
 * settle.c
 *	  Settles work items; see settle.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/config.h"
#include "base/errors.h"
#include "base/extension.h"
#include "base/savepoint.h"
#include "store/dead_letters.h"
#include "worker/bad_rows.h"
#include "worker/batch.h"
#include "worker/commit.h"
#include "worker/hanging.h"
#include "worker/parking.h"
#include "worker/poison.h"
#include "worker/save_to_journal.h"
#include "worker/settle.h"
#include "worker/timer.h"
#include "worker/work_items.h"

#define NARROWER 8	 /* that many times fewer parked items, where too many take too long */
#define MAX_UNSURE 2 /* more tries after an error of class UNSURE, from the INSERTs on */
#define FITTING 64	 /* batches of a size, before larger ones are tried again */

static const PpClaim *claim;

/* What this process has found out of how large a batch may be */
static struct
{
	uint64 width; /* a batch of more items needs more than there is; 0: that isn't so */
	int fitting;  /* batches that have come through since */
} learned;

/*
 * Called once, by a process that has attached to its slot.  If the last one ended in
 * the middle of a transaction, the items of that are candidates (poison.h).
 */
void
pp_settle_init(const PpClaim *process_claim)
{
	uint64 items;

	claim = process_claim;
	pp_role_transaction_init(claim);
	items = pp_poison_open(pp_shmem_am_retrier ? PP_POISON_RETRIER : PP_POISON_WORKER, MyDatabaseId,
						   claim->extension);
	if (pp_shmem_am_retrier)
		pp_poison_take_over();
	if (items > 0)
		ereport(LOG, (errmsg("a %s of persist_pipeline has ended while it wrote a batch",
							 pp_shmem_am_retrier ? "retrier" : "worker"),
					  errdetail_plural("It was inserting %llu item.",
									   "Its %llu items are inserted one by one.", items,
									   (unsigned long long) items)));
}

/* So many items at most are to be in a batch. */
uint64
pp_settle_width(void)
{
	return learned.width > 0 ? Min(learned.width, (uint64) pp_config_batch_size)
							 : (uint64) pp_config_batch_size;
}

static bool
role_exists(Oid role)
{
	MemoryContext caller = CurrentMemoryContext;
	bool exists;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	exists = SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role));
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);

	return exists;
}

/*
 * ---- without a try, and without their role ----
 *
 * In a transaction of our own all items of work items of one role become dead letters, or are
 * parked.
 */

/* Work items that become dead letters, or are parked, without a try to insert their rows */
typedef struct Untried
{
	PpWorkItem *work_items;
	int n;
	bool dies; /* they become dead letters; or else they are parked */
	ErrorData *why;
	Oid role;
	PpOutcomeCounts *counts;
	PpBadRow *bad; /* what has become dead letters, to be reported */
	uint64 nbad;
} Untried;

static void
write_dead_letters_untried(Untried *untried, const PpRow **rows, uint64 n)
{
	untried->bad = palloc_extended(Max(n, 1) * sizeof(PpBadRow), MCXT_ALLOC_HUGE);
	for (uint64 i = 0; i < n; i++)
	{
		untried->bad[untried->nbad++] = pp_bad_row(rows[i], untried->why);
		pp_bad_rows_write_dead_letter(claim->extension, untried->counts, rows[i], untried->role,
									  untried->why);
	}
}

static void
park_untried(Untried *untried, const PpRow **rows, uint64 n)
{
	PpOutcomeCounts *counts = untried->counts;
	Oid role = untried->role;

	pp_parking_park_rows(counts, role, rows, n);
	for (uint64 i = 0; i < n; i++)
	{
		PpTargetOutcome *result = pp_outcome_counts_of(counts, rows[i]->item->target);

		if (result->delta.errors > 0)
		{
			pp_parking_follow(rows[i], role);
			continue;
		}
		pp_parking_note(rows[i], role, untried->why->sqlerrcode, true);
		pp_outcome_counts_error(counts, result->delta.target, untried->why);
	}
}

static void
settle_untried_items(void *arg)
{
	Untried *untried = arg;
	PpOutcomeCounts *counts = untried->counts;
	const PpRow **rows;
	uint64 nrows;
	int opened;

	/* no cancellation, no lock_timeout: then we can't wait for a lock, either */
	if (untried->dies && !pp_dead_letters_try_lock(claim->extension))
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("the table of dead letters is locked")));
	ForceSyncCommit(); /* or else the next one that crashes the server takes this back */
	rows = pp_work_items_open(claim, untried->work_items, untried->n, &opened, &nrows);
	if (untried->dies)
		write_dead_letters_untried(untried, rows, nrows);
	else
		park_untried(untried, rows, nrows);
	pp_work_items_count_taken(counts, rows, nrows, untried->work_items[0].parked);
	pp_commit_settles(untried->work_items, untried->n, counts);
	pp_work_items_take(claim, untried->work_items, untried->n);
	pp_outcome_counts_write(counts, claim->extension);
}

static PpOutcome
settle_untried(Untried *untried, ErrorData **error)
{
	if (untried->dies)
		pp_work_items_note(untried->work_items, untried->n);
	untried->role = untried->work_items[0].role;
	untried->counts = palloc0(sizeof(PpOutcomeCounts));
	*error = pp_commit_by_ourselves(settle_untried_items, untried, untried->dies);
	if (*error)
		return PP_TRANSIENT;
	pp_bad_rows_report(untried->bad, untried->nbad);
	pp_parking_errors_are_counted(untried->counts, untried->role);
	return PP_SETTLED;
}

/* Make dead letters of all their items. */
static PpOutcome
settle_untried_as_dead(PpWorkItem *work_items, int n, ErrorData *why, ErrorData **error)
{
	return settle_untried(&(Untried){work_items, n, true, why}, error);
}

/* Park them all, so that each target is tried by itself. */
static PpOutcome
settle_untried_as_parked(PpWorkItem *work_items, int n, ErrorData *why, ErrorData **error)
{
	return settle_untried(&(Untried){work_items, n, false, why}, error);
}

/* ---- one role ---- */

/*
 * The batch needs more than there is, and so less is to be tried at a time.  What is a single
 * work item is divided, so that less of it can be taken.
 */
static PpOutcome
settle_fewer(PpRoleTransaction *transaction, ErrorData **error)
{
	uint64 items = pp_intake_count_items(transaction->work_items, transaction->n);

	if (transaction->work_items[0].parked)
	{
		transaction->apply.width = Max(transaction->n / 2, 1);
		return PP_TRANSIENT;
	}
	if (items == 1 || learned.width == 1)
		return settle_untried_as_parked(transaction->work_items, transaction->n, transaction->error,
										error);
	/* those of a transaction come together, up to several times as many */
	learned.width = Max(Min(items, pp_settle_width()) / 2, 1);
	learned.fitting = 0;
	if (transaction->n == 1)
	{
		*error = pp_save_to_journal(claim, transaction->work_items, 1, true);
		if (*error)
			return PP_TRANSIENT;
	}
	return PP_DIVIDED;
}

static void
note_hang(void *arg)
{
	pp_hanging_note(*(Oid *) arg);
}

/*
 * All parked items of a target together take longer than statement_timeout.  Fewer are tried
 * the next time; an item that takes as long by itself is bad.
 */
static PpOutcome
settle_slow(PpRoleTransaction *transaction, ErrorData **error)
{
	transaction->apply.timeouts = 1;
	(void) pp_savepoint_run_in_transaction(note_hang, &transaction->work_items[0].target);
	if (transaction->n == 1 &&
		pp_decide_is_patient(&transaction->apply, transaction->work_items[0].target))
		return PP_TRANSIENT;
	if (transaction->n == 1)
		return settle_untried_as_dead(transaction->work_items, 1, transaction->error, error);
	transaction->apply.width = Max(transaction->n / NARROWER, 1);
	return PP_TRANSIENT;
}

/* Is it about the transaction as such, and soon over? */
static bool
is_role_transaction_nobodys(const PpRoleTransaction *transaction)
{
	return transaction->apply.end == PP_APPLY_LATER || pp_timer_cut == PP_CUT_STOP ||
		   pp_timer_cut == PP_CUT_BLOCKED;
}

/*
 * The work item's items come next, in a pass, each by itself.  NULL, or what has kept us from it.
 */
static ErrorData *
divide_work_item(PpWorkItem *work)
{
	pp_intake_divide(work->pos);
	return pp_save_to_journal(claim, work, 1, true);
}

/* A single work item fails in the commit.  If it has several items, they come next, one by one. */
static PpOutcome
settle_deadly(PpRoleTransaction *transaction, ErrorData **error)
{
	PpWorkItem *work = &transaction->work_items[0];

	if (work->there == 1 &&
		pp_classify(transaction->error, true, pp_timer_cut) == PP_CLASS_UNPROVEN &&
		pp_decide_may_wait(work->parked ? work->parked_at : 0))
		return work->parked ? PP_TRANSIENT
							: settle_untried_as_parked(work, 1, transaction->error, error);
	if (work->there == 1)
		return settle_untried_as_dead(work, 1, transaction->error, error);
	*error = divide_work_item(work);
	return *error ? PP_TRANSIENT : PP_DIVIDED;
}

static bool
is_settling_transient(const PpRoleTransaction *transaction)
{
	return pp_classify_is_transient(transaction->error, pp_timer_cut) &&
		   !(transaction->disbelieves && pp_classify_is_rollback(transaction->error));
}

/* Neither all of the rows nor a part of them can be had to commit.  *halve: a half may. */
static PpOutcome
settle_failed(PpRoleTransaction *transaction, bool *halve, ErrorData **error)
{
	bool parked = transaction->work_items[0].parked;
	PpOutcome outcome;

	*halve = false;
	if (transaction->stage == PP_STAGE_TAKING)
		return PP_TRANSIENT;
	if (transaction->stage == PP_STAGE_OPENING)
	{
		if (transaction->error->sqlerrcode != ERRCODE_DATA_CORRUPTED)
			return PP_TRANSIENT;
		outcome = pp_commit_damaged(&transaction->work_items[transaction->opened],
									transaction->error, error);
		return outcome == PP_SETTLED && transaction->n > 1 ? PP_DIVIDED : outcome;
	}
	if (transaction->stage == PP_STAGE_BEGINNING && !role_exists(transaction->work_items[0].role))
		return settle_untried_as_dead(transaction->work_items, transaction->n, transaction->error,
									  error);
	if (pp_timer_cut == PP_CUT_TIMEOUT && parked)
		return settle_slow(transaction, error);
	if (pp_timer_cut == PP_CUT_TIMEOUT || is_settling_transient(transaction) ||
		pp_role_transaction_is_unsafe())
		return parked ? PP_TRANSIENT
					  : settle_untried_as_parked(transaction->work_items, transaction->n,
												 transaction->error, error);
	*halve = transaction->n > 1;
	return *halve ? PP_DIVIDED : settle_deadly(transaction, error);
}

/* It has committed. */
static PpOutcome
settle_committed(const PpRoleTransaction *transaction)
{
	if (transaction->committed)
		pp_outcome_counts_add(transaction->committed, transaction->apply.counts);
	return PP_SETTLED;
}

/* Find out what can be inserted of the work items of one role, and settle them. */
static PpOutcome
settle_role_in_parts(PpRoleTransaction *some, bool impatient, PpTry known, ErrorData **error)
{
	PpWorkItem *work_items = some->work_items;
	int n = some->n;
	int tries = 0;
	bool halve;
	PpOutcome outcome;

	/* no item is to blame for an extension that lacks something */
	(void) pp_extension_find_or_end();
	while (!pp_role_transaction_run(some, false, impatient, &known))
	{
		known.error = NULL;
		*error = some->error;
		if (is_role_transaction_nobodys(some))
			return PP_TRANSIENT;
		if (some->apply.end == PP_APPLY_FEWER)
			return settle_fewer(some, error);
		if (some->stage >= PP_STAGE_INSERTING && tries < MAX_UNSURE && !pp_batch_is_scattered() &&
			pp_classify(some->error, true, pp_timer_cut) == PP_CLASS_UNSURE)
		{
			tries++;
			continue;
		}
		outcome = settle_failed(some, &halve, error);
		if (!halve)
			return outcome;
		some->n = n / 2;
		outcome = settle_role_in_parts(some, impatient, known, error);
		if (outcome != PP_SETTLED)
			return outcome;
		some->work_items = work_items + n / 2;
		some->n = n - n / 2;
		outcome = settle_role_in_parts(some, impatient, known, error);
		some->work_items = work_items;
		some->n = n;
		return outcome;
	}
	return settle_committed(some);
}

/* Does the transaction as a whole need too much, of locks or memory?  What has landed has it. */
static bool
needs_too_much(const PpRoleTransaction *all)
{
	return all->stage >= PP_STAGE_INSERTING && all->error->sqlerrcode == ERRCODE_OUT_OF_MEMORY &&
		   pp_intake_count_items(all->work_items, all->n) > 1;
}

/* Settle work items of one role. */
static PpOutcome
settle_role(PpRoleTransaction *all, bool impatient, ErrorData **error)
{
	PpTry none = {0};
	PpTry known;
	bool halve;

	if (pp_role_transaction_run(all, true, impatient, &none))
	{
		if (learned.width > 0 && ++learned.fitting >= FITTING)
		{
			learned.width *= 2;
			learned.fitting = 0;
		}
		return settle_committed(all);
	}
	*error = all->error;
	if (is_role_transaction_nobodys(all))
		return PP_TRANSIENT;
	if (all->stage == PP_STAGE_COMMITTING && pp_role_transaction_is_unsafe())
		return settle_failed(all, &halve, error);
	if (needs_too_much(all))
		return settle_fewer(all, error);
	if (all->work_items[0].parked && pp_timer_cut == PP_CUT_TIMEOUT)
		return settle_slow(all, error);
	known = all->apply.known;
	if (all->stage < PP_STAGE_INSERTING)
		known.error = NULL;
	return settle_role_in_parts(
		all, impatient || all->error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE, known, error);
}

/* The work items of one role, in their order. */
static PpWorkItem *
select_role(const PpWorkItem *work_items, int n, Oid role, int *nselected)
{
	PpWorkItem *selected = palloc_extended(n * sizeof(PpWorkItem), MCXT_ALLOC_HUGE);

	*nselected = 0;
	for (int i = 0; i < n; i++)
	{
		if (work_items[i].role == role)
			selected[(*nselected)++] = work_items[i];
	}
	return selected;
}

/*
 * Settle work items of several roles.  First a transaction for each role; what fails is
 * done again in commit order, since one role's rows may need another's (a foreign key).
 */
static PpOutcome
settle_roles(PpWorkItem *work_items, int n, List *roles, bool impatient, ErrorData **error)
{
	PpTry none = {0};
	List *again = NIL;
	PpOutcome outcome = PP_SETTLED;
	ListCell *cell;
	bool halve;

	foreach (cell, roles)
	{
		int nselected;
		PpWorkItem *selected = select_role(work_items, n, lfirst_oid(cell), &nselected);
		PpRoleTransaction all = {.work_items = selected, .n = nselected};

		if (pp_timer_is_over())
		{
			outcome = settle_untried_as_parked(selected, nselected, pp_decide_too_late(), error);
			if (outcome != PP_SETTLED)
				return outcome;
			continue;
		}
		if (pp_role_transaction_run(&all, true, impatient, &none))
			continue;
		*error = all.error;
		if (is_role_transaction_nobodys(&all))
			return PP_TRANSIENT;
		impatient |= all.error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
		if (all.stage == PP_STAGE_COMMITTING && pp_role_transaction_is_unsafe())
			outcome = settle_failed(&all, &halve, error);
		else if (needs_too_much(&all))
			outcome = settle_fewer(&all, error);
		else
			again = lappend_oid(again, lfirst_oid(cell));
		if (outcome != PP_SETTLED)
			return outcome;
	}

	for (int i = 0; i < n && again != NIL;)
	{
		PpRoleTransaction some = {.work_items = work_items + i, .n = 1};

		while (i + some.n < n && work_items[i + some.n].role == work_items[i].role)
			some.n++;
		i += some.n;
		if (!list_member_oid(again, some.work_items[0].role))
			continue;
		outcome = settle_role_in_parts(&some, impatient, none, error);
		if (outcome != PP_SETTLED)
			return outcome;
		impatient |= some.apply.impatient;
	}

	return PP_SETTLED;
}

/* ---- after the end of a process (poison.h) ---- */

static bool
is_work_candidate(const PpWorkItem *work)
{
	return !work->applied && pp_poison_is_candidate(work->pos, work->part);
}

/*
 * Whoever ends the server takes along what is in the ring alone: save it.  What can't be read
 * is found out by the try.
 */
static PpOutcome
save_candidates(PpWorkItem *work_items, int n, ErrorData **error)
{
	PpWorkItem *fleeting = palloc_extended(Max(n, 1) * sizeof(PpWorkItem), MCXT_ALLOC_HUGE);
	int nfleeting = 0;

	for (int i = 0; i < n; i++)
	{
		if (work_items[i].nrows == 0 && is_work_candidate(&work_items[i]))
			fleeting[nfleeting++] = work_items[i];
	}
	if (nfleeting == 0)
		return PP_SETTLED;
	*error = pp_save_to_journal(claim, fleeting, nfleeting, true);
	if (*error == NULL)
		return PP_DIVIDED;
	return (*error)->sqlerrcode == ERRCODE_DATA_CORRUPTED ? PP_SETTLED : PP_TRANSIENT;
}

/* Make a dead letter of the item that is condemned; a work item of many items is divided first. */
static PpOutcome
settle_condemned_item(PpWorkItem *work, ErrorData **error)
{
	if (work->there == 1)
		return settle_untried_as_dead(work, 1, pp_poison_error(work->pos, work->part), error);
	*error = divide_work_item(work);
	return *error ? PP_TRANSIENT : PP_DIVIDED;
}

/* Make dead letters of the items that are condemned, and take their work items out. */
static PpOutcome
settle_condemned(PpWorkItem *work_items, int *n, ErrorData **error)
{
	int left = 0;

	for (int i = 0; i < *n; i++)
	{
		PpWorkItem *work = &work_items[i];

		if (!work->applied && pp_poison_has_condemned(work->pos, work->part, work->there > 1))
		{
			PpOutcome outcome = settle_condemned_item(work, error);

			if (outcome == PP_SETTLED)
				continue;
			/* what can't be read is found out by the try */
			if (outcome == PP_DIVIDED || (*error)->sqlerrcode != ERRCODE_DATA_CORRUPTED)
				return outcome;
		}
		work_items[left++] = *work;
	}
	*n = left;
	return PP_SETTLED;
}

/* Where candidates are to be tried fewer at a time, park them: so all others go on. */
static PpOutcome
park_candidates(PpWorkItem *work_items, int *n, ErrorData **error)
{
	int left = 0;
	int end;

	if (pp_poison_width() == 0)
		return PP_SETTLED;
	for (int i = 0; i < *n; i = end)
	{
		end = i + 1;
		if (!is_work_candidate(&work_items[i]))
		{
			work_items[left++] = work_items[i];
			continue;
		}
		while (end < *n && work_items[end].role == work_items[i].role &&
			   is_work_candidate(&work_items[end]))
			end++;
		if (settle_untried_as_parked(work_items + i, end - i,
									 pp_error(ERRCODE_CRASH_SHUTDOWN, "a worker ended"),
									 error) != PP_SETTLED)
			return PP_TRANSIENT;
	}
	*n = left;
	return PP_SETTLED;
}

/*
 * Settle the work items: insert their items, or find out which can't be.  PP_DIVIDED: some
 * are not settled, and come again.  PP_TRANSIENT: they are not, for the reason that
 * *error tells; try again later.  Call it outside a transaction.
 */
PpOutcome
pp_settle(PpWorkItem *work_items, int n, ErrorData **error)
{
	bool impatient = pp_parking_waits_for_lock();
	PpRoleTransaction all = {.work_items = work_items, .n = n};
	List *roles = NIL;

	if (pp_poison_has_candidates())
	{
		PpOutcome outcome = settle_condemned(work_items, &all.n, error);

		if (outcome == PP_SETTLED)
			outcome = save_candidates(work_items, all.n, error);
		if (outcome == PP_SETTLED)
			outcome = park_candidates(work_items, &all.n, error);
		if (outcome != PP_SETTLED || all.n == 0)
			return outcome;
		n = all.n;
	}

	for (int i = 0; i < n; i++)
	{
		if (i == 0 || work_items[i].role != work_items[i - 1].role)
			roles = list_append_unique_oid(roles, work_items[i].role);
	}
	pp_timer_begin_batch(list_length(roles));
	return list_length(roles) == 1 ? settle_role(&all, impatient, error)
								   : settle_roles(work_items, n, roles, impatient, error);
}

/*
 * The same for work items of parked items of one role, which the retrier has taken.  What has
 * come of the last transaction is in *apply, but of all of them in apply->counts.
 */
PpOutcome
pp_settle_parked(PpWorkItem *work_items, int n, bool disbelieves, bool apart, PpApply *apply,
				 ErrorData **error)
{
	PpRoleTransaction again = {.work_items = work_items,
							   .n = n,
							   .disbelieves = disbelieves,
							   .apart = apart,
							   .committed = palloc0(sizeof(PpOutcomeCounts))};
	PpOutcome outcome;

	outcome = settle_condemned(work_items, &again.n, error);
	if (outcome == PP_SETTLED && again.n > 0)
		outcome = settle_role(&again, true, error);
	*apply = again.apply;
	apply->counts = again.committed;
	return outcome;
}
