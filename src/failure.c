/*-------------------------------------------------------------------------
 *
 * failure.c
 *	  Settles items, and deals with those that can't be inserted; see failure.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "attempt.h"
#include "batch.h"
#include "clock.h"
#include "compat.h"
#include "config.h"
#include "copied.h"
#include "extension.h"
#include "failure.h"
#include "identity.h"
#include "letterbox.h"
#include "parking.h"
#include "savepoint.h"
#include "settlement.h"
#include "sieve.h"
#include "trial.h"
#include "verdict.h"
#include "works.h"

static const PpClaim *claim;
static PpLane *lane;

static bool impatient; /* somebody has waited for a lock, and nobody is to wait again */
static bool opening;   /* it ended before its items could be read */
static bool careful;   /* a COMMIT has failed on one of several other servers */
static bool spent;	   /* a role's work has to wait for another process */
#define MAX_ROUNDS 64
#define NARROWER 8	 /* that many times fewer items, where too many take too long */
#define MAX_DOUBTS 2 /* of the beginning or the commit */

/*
 * Called once, by the worker that has attached to its lane.  If the last one ended in
 * the middle of a transaction, the items of that are suspects.
 */
void
pp_settle_init(const PpClaim *worker_claim)
{
	uint64 items;

	claim = worker_claim;
	lane = claim->lane;
	pp_settlement_init(claim);

	items = pp_attempt_open(MyDatabaseId, claim->extension);
	if (items > 0)
		ereport(LOG, (errmsg("a worker of persist_pipeline has ended while it wrote a batch"),
					  errdetail_plural("The %llu item that it was inserting is tried alone.",
									   "The %llu items that it was inserting are tried one by one.",
									   items, (unsigned long long) items)));
}

/* Does this process keep items waiting that another one could insert? */
bool
pp_settle_is_spent(void)
{
	return spent;
}

/* ---- transactions ---- */

/* What a transaction does with its rows */
typedef void (*Way)(PpSieve *sieve, const PpRow **rows, uint64 n);

/* Are these parked ones, and have all come to be parked again? */
static bool
is_in_vain(const PpSieve *sieve)
{
	return sieve->retrying && !sieve->moved;
}

/*
 * One transaction for works of one role.  Returns NULL when it has committed, else
 * what went wrong, and then nothing has changed; sieve->outcome tells whether another
 * way may do.
 */
static ErrorData *
try(PpWork *works, int n, Way way, PpSieve *sieve)
{
	MemoryContext caller = CurrentMemoryContext;
	PpCatcher catcher = pp_catcher();
	MemoryContext context =
		AllocSetContextCreate(caller, "persist_pipeline items", ALLOCSET_DEFAULT_SIZES);
	ErrorData *volatile error = NULL;
	PpResults *results = palloc0(sizeof(PpResults));

	pp_batch_begin_transaction();
	if (pp_identity_is_spent(works[0].role))
	{
		spent = true;
		sieve->outcome = PP_SIEVE_TRANSIENT;
		return pp_error(ERRCODE_ADMIN_SHUTDOWN, "the items wait for another process");
	}
	if (pp_cut != PP_CUT_STOP)
		pp_cut = PP_CUT_NONE;
	pp_works_note_attempt(works, n, false);
	opening = false;
	sieve->claim = claim;
	sieve->role = works[0].role;
	sieve->retrying = works[0].parked;
	sieve->impatient = impatient || works[0].parked;
	sieve->results = results;
	sieve->outcome = PP_SIEVED;
	pp_settlement_forget();
	pp_clock_begin_attempt();
	pp_batch_state = (PpBatchState){0};
	PG_TRY();
	{
		const PpRow **rows;
		uint64 nrows;

		pp_identity_begin(works[0].role);
		MemoryContextSwitchTo(context);
		opening = true;
		rows = pp_works_open(claim, works, n, &nrows);
		opening = false;
		MemoryContextSwitchTo(caller);
		if (nrows > 0)
			way(sieve, rows, nrows);
		if (sieve->outcome == PP_SIEVED && careful && pp_batch_is_scattered())
		{
			sieve->error = pp_error(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN,
									"the rows go to several servers");
			sieve->outcome = PP_SIEVE_APART;
		}
		if (sieve->outcome != PP_SIEVED || (nrows > 0 && is_in_vain(sieve)))
		{
			error = sieve->error ? sieve->error
								 : pp_error(ERRCODE_LOCK_NOT_AVAILABLE, "a row is locked");
			if (sieve->outcome == PP_SIEVED)
				sieve->outcome = PP_SIEVE_TRANSIENT;
			pp_attempt_note(NULL);
			pp_identity_abort();
		}
		else
		{
			pp_works_count_taken(results, rows, nrows, sieve->retrying);
			pp_results_write(results, claim->extension);
			pp_settlement_on_commit(works, n, results);
			pp_identity_commit();
		}
	}
	PG_CATCH();
	{
		/* the items are settled: this error is not theirs */
		if (pp_settlement_is_done())
			PG_RE_THROW();

		error = pp_trial_catch(&catcher);
		pp_attempt_began = PP_NEVER; /* that was its time, but not that of what comes now */
		pp_attempt_note(NULL);
		sieve->at = pp_batch_state;
		pp_identity_abort();
	}
	PG_END_TRY();

	pp_attempt_began = PP_NEVER;
	MemoryContextSwitchTo(caller);
	if (error == NULL)
		pp_letterbox_report(sieve->bad, sieve->nbad);
	MemoryContextDelete(context);
	ConditionVariableBroadcast(&lane->settled);
	return error;
}

/* Works that become dead letters, and why */
typedef struct Burial
{
	PpWork *works;
	int n;
	ErrorData *verdict;
	bool show; /* their values */
	PpSieve sieve;
} Burial;

static void
bury_all(void *arg)
{
	Burial *burial = arg;
	PpSieve *sieve = &burial->sieve;
	const PpRow **rows;
	uint64 nrows;

	/* no cancellation, no lock_timeout: then we can't wait for a lock, either */
	if (!pp_letters_try_lock(claim->extension))
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("the table of dead letters is locked")));
	ForceSyncCommit(); /* or else the next one that crashes the server takes this back */
	rows = pp_works_open(claim, burial->works, burial->n, &nrows);
	sieve->bad = palloc_extended(Max(nrows, 1) * sizeof(PpBad), MCXT_ALLOC_HUGE);
	for (uint64 i = 0; i < nrows; i++)
	{
		sieve->bad[sieve->nbad++] = pp_bad(rows[i], burial->verdict);
		pp_letterbox_bury(claim->extension, sieve->results, rows[i], sieve->role, burial->verdict,
						  burial->show);
	}
	pp_works_count_taken(sieve->results, rows, nrows, burial->works[0].parked);
	pp_results_write(sieve->results, claim->extension);
	pp_settlement_on_commit(burial->works, burial->n, sieve->results);
}

/*
 * In a transaction of our own, make dead letters of all their items, with their values or
 * not.  NULL, or what has kept us from it.
 */
static ErrorData *
give_up(PpWork *works, int n, ErrorData *verdict, bool show)
{
	Burial burial = {
		.works = works,
		.n = n,
		.verdict = verdict,
		.show = show,
		.sieve = {.claim = claim, .role = works[0].role, .results = palloc0(sizeof(PpResults))}};
	ErrorData *error;

	pp_works_note_attempt(works, n, true);
	error = pp_settle_by_ourselves(bury_all, &burial, true);
	if (error == NULL)
		pp_letterbox_report(burial.sieve.bad, burial.sieve.nbad);
	return error;
}

/*
 * Among the work's items is one that can't be had to fail under a savepoint: it fails in
 * the commit.  Find out which, and do without it.
 */
static PpOutcome
settle_deadly(PpWork *work, ErrorData *verdict, ErrorData **error)
{
	if (work->there == 1)
	{
		*error = give_up(work, 1, verdict, true);
		return *error ? PP_TRANSIENT : PP_SETTLED;
	}

	pp_attempt_suspect(work->pos, work->pos); /* its items come next, one by one */
	*error = pp_settle_to_journal(work, 1);
	return *error ? PP_TRANSIENT : PP_DIVIDED;
}

/* A work that can't be read */
typedef struct Damage
{
	PpWork *work;
	PpResults results;
} Damage;

static void
put_aside(void *arg)
{
	Damage *damage = arg;
	PpWork *work = damage->work;

	if (work->nrows > 0)
		pp_copied_put_aside(claim->extension, work->rows, work->nrows);
	pp_results_write(&damage->results, claim->extension);
	pp_settlement_on_commit(work, 1, &damage->results);
}

/*
 * The work can't be read.  What is in the journal is put aside, for a person to look
 * at; what is in the ring alone can't be.
 */
static PpOutcome
settle_damaged(PpWork *work, const ErrorData *damaged, ErrorData **error)
{
	uint64 items = work->n; /* 0: a part of one, whose beginning is lost already */
	Damage damage = {.work = work, .results = {.lost = items}};

	if (work->nrows > 1 && !work->single)
	{
		pp_attempt_suspect(work->pos, work->pos); /* its records come next, in a pass */
		pp_ring_move(&lane->ring, 0, pp_steady_now());
		return PP_DIVIDED;
	}

	if (work->parked)
	{
		PpResult *result = pp_results_of(&damage.results, work->target);

		result->delta.lost = items;
		result->parked = -(int64) items;
		result->parked_bytes = -(int64) work->bytes;
	}

	work->nitems = items;
	work->opened = work->bytes; /* what it holds of the journal */
	*error = pp_settle_by_ourselves(put_aside, &damage, true);
	if (*error)
		return PP_TRANSIENT;
	if (items == 0)
		return PP_SETTLED;
	ereport(WARNING,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg_plural("%llu item, enqueued as number %llu, could not be read: %s",
						   "%llu items, enqueued as number %llu, could not be read: %s", items,
						   (unsigned long long) items, (unsigned long long) work->pos,
						   damaged->message),
			 work->nrows > 0 ? errdetail("They are in the table \"persist_copied\" now.") : 0));
	return PP_SETTLED;
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

/* FATAL, and so nothing is lost, if the extension is not what it should be. */
static void
check_extension(void)
{
	MemoryContext caller = CurrentMemoryContext;
	const char *fault;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) pp_extension_find(&fault);
	if (fault)
		ereport(FATAL, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("persist_pipeline worker for database \"%s\" cannot work: %s",
							   get_database_name(MyDatabaseId), fault)));
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}

/*
 * Has a COMMIT failed after which rows may be on one other server, and not on the next?
 * Each further try of all of them would write them there once more.  What has happened once
 * may do so again: from then on no COMMIT is for several of them.
 */
static bool
is_torn(void)
{
	careful |= pp_identity_is_committing() && pp_batch_is_scattered();
	return careful && pp_batch_is_scattered();
}

/*
 * Find out what can be inserted, and what becomes of the rest.  NULL: it is settled;
 * sieve->outcome: PP_SIEVED, if the error is that of the beginning or of the commit.
 */
static ErrorData *
sift(PpWork *works, int n, PpSieve *sieve)
{
	ErrorData *known = sieve->known;
	PpBatchState at = sieve->at;
	ErrorData *failure;
	int doubts = 0;

	check_extension(); /* no item is to blame for an extension that lacks something */
	*sieve = (PpSieve){.known = known, .at = at};
	failure = try(works, n, pp_sieve, sieve);

	/* each time there is a target less, or somebody has cancelled what is not an item's */
	for (int i = 0; failure && i < MAX_ROUNDS; i++)
	{
		bool in_doubt = sieve->outcome == PP_SIEVED && pp_is_doubtful(failure) &&
						pp_cut == PP_CUT_NONE && !is_torn() && doubts++ < MAX_DOUBTS;

		if (sieve->outcome != PP_SIEVE_AGAIN && !in_doubt)
			break;
		impatient |= failure->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
		*sieve = (PpSieve){.in_order = sieve->in_order || !in_doubt};
		failure = try(works, n, pp_sieve, sieve);
	}
	return failure;
}

static void
park(PpSieve *sieve, const PpRow **rows, uint64 n)
{
	pp_sieve_park(sieve, rows, n, sieve->known);
}

/* Is it about the transaction as such, and soon over? */
static bool
is_nobodys(const PpSieve *sieve, const ErrorData *failure)
{
	return sieve->outcome == PP_SIEVE_TRANSIENT || pp_cut == PP_CUT_STOP || pp_cut == PP_CUT_HOLD ||
		   (opening && pp_is_transient(failure));
}

/* Park all that the works have, so that each target is tried by itself. */
static PpOutcome
settle_parking(PpWork *works, int n, PpSieve *sieve, ErrorData *failure)
{
	*sieve = (PpSieve){.known = failure};
	return try(works, n, park, sieve) == NULL ? PP_SETTLED : PP_TRANSIENT;
}

/*
 * All at once they take longer than statement_timeout, for which everybody waits.  A
 * single item is parked: if the next try takes as long, it is bad.  Of parked ones fewer
 * are tried the next time.
 */
static PpOutcome
settle_slow(PpWork *works, int n, PpSieve *sieve, ErrorData *failure, ErrorData **error)
{
	if (!works[0].parked)
	{
		*sieve = (PpSieve){.known = failure, .slow = true, .timeouts = 1, .width = 1};
		return try(works, n, park, sieve) == NULL ? PP_SETTLED : PP_TRANSIENT;
	}
	if (n > 1)
	{
		sieve->width = Max(n / NARROWER, 1);
		return PP_TRANSIENT;
	}
	sieve->timeouts = 1;
	*error = give_up(works, 1, failure, true);
	return *error ? PP_TRANSIENT : PP_SETTLED;
}

/* Settle works of one role, in order. */
static PpOutcome
settle_role(PpWork *works, int n, bool failed_already, PpSieve *sieve, ErrorData **error)
{
	ErrorData *failure = NULL;
	PpOutcome outcome;
	bool damaged;

	*sieve = (PpSieve){0};
	if (!failed_already)
	{
		failure = try(works, n, pp_sieve_all_at_once, sieve);
		if (failure == NULL)
			return PP_SETTLED;
		*error = failure;
		if (is_torn())
			return settle_parking(works, n, sieve, failure);
		if (is_nobodys(sieve, failure))
			return PP_TRANSIENT;
		if (!opening && pp_cut == PP_CUT_TIMEOUT &&
			(works[0].parked || (n == 1 && works[0].there == 1)))
			return settle_slow(works, n, sieve, failure, error);
		impatient |= failure->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
		sieve->known = opening ? NULL : failure;
	}

	failure = sift(works, n, sieve);
	if (failure == NULL)
		return PP_SETTLED;
	*error = failure;
	if (is_torn())
		return settle_parking(works, n, sieve, failure);
	if (is_nobodys(sieve, failure))
		return PP_TRANSIENT;

	/* the bad ones were left out: so it is the beginning that fails, or the commit */
	if (sieve->outcome == PP_SIEVE_APART || (!opening && pp_cut == PP_CUT_TIMEOUT))
		return works[0].parked ? settle_slow(works, n, sieve, failure, error)
							   : settle_parking(works, n, sieve, failure);
	if (!opening && pp_is_transient(failure))
		return works[0].parked ? PP_TRANSIENT : settle_parking(works, n, sieve, failure);
	damaged = opening && failure->sqlerrcode == ERRCODE_DATA_CORRUPTED;
	if (!opening && !role_exists(works[0].role))
	{
		failure = give_up(works, n, failure, true);
		if (failure == NULL)
			return PP_SETTLED;
		*error = failure;
		if (failure->sqlerrcode != ERRCODE_DATA_CORRUPTED)
			return PP_TRANSIENT;
		damaged = true;
	}
	if (n == 1)
		return damaged ? settle_damaged(&works[0], failure, error)
					   : settle_deadly(&works[0], failure, error);
	outcome = settle_role(works, n / 2, true, sieve, error);
	if (outcome == PP_SETTLED)
		outcome = settle_role(works + n / 2, n - n / 2, true, sieve, error);
	return outcome;
}

/* The works of one role, in their order. */
static PpWork *
select_role(const PpWork *works, int n, Oid role, int *nselected)
{
	PpWork *selected = palloc_extended(n * sizeof(PpWork), MCXT_ALLOC_HUGE);

	*nselected = 0;
	for (int i = 0; i < n; i++)
	{
		if (works[i].role == role)
			selected[(*nselected)++] = works[i];
	}
	return selected;
}

/*
 * Settle works of several roles.  First a transaction for each role; what fails is
 * done again in the order of things, since one role's rows may need another's (a
 * foreign key).
 */
static PpOutcome
settle_roles(PpWork *works, int n, List *roles, ErrorData **error)
{
	List *again = NIL;
	PpOutcome outcome = PP_SETTLED;
	PpSieve sieve;
	ListCell *cell;

	foreach (cell, roles)
	{
		int nselected;
		PpWork *selected = select_role(works, n, lfirst_oid(cell), &nselected);
		ErrorData *failure;

		sieve = (PpSieve){0};
		failure = try(selected, nselected, pp_sieve_all_at_once, &sieve);
		if (failure == NULL)
			continue;
		*error = failure;
		if (is_torn())
		{
			outcome = settle_parking(selected, nselected, &sieve, failure);
			if (outcome != PP_SETTLED)
				return outcome;
			continue;
		}
		if (is_nobodys(&sieve, failure))
			return PP_TRANSIENT;
		impatient |= failure->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
		again = lappend_oid(again, lfirst_oid(cell));
	}

	for (int i = 0; i < n && again != NIL;)
	{
		Oid role = works[i].role;
		int end = i + 1;

		while (end < n && works[end].role == role)
			end++;
		if (list_member_oid(again, role))
			outcome = settle_role(works + i, end - i, true, &sieve, error);
		if (outcome != PP_SETTLED)
			return outcome;
		i = end;
	}

	return PP_SETTLED;
}

/* ---- suspects ---- */

/*
 * What may end its worker is divided before it is tried: so the next time names the item.
 * What can't be read is put aside.
 */
static PpOutcome
divide_suspects(PpWork *works, int n, ErrorData **error)
{
	PpOutcome outcome;

	*error = pp_settle_to_journal(works, n);
	if (*error == NULL)
		return PP_DIVIDED;
	if ((*error)->sqlerrcode != ERRCODE_DATA_CORRUPTED)
		return PP_TRANSIENT;
	if (n == 1)
	{
		outcome = settle_damaged(works, *error, error);
		return outcome == PP_SETTLED ? PP_DIVIDED : outcome;
	}
	outcome = divide_suspects(works, n / 2, error);
	return outcome == PP_DIVIDED ? divide_suspects(works + n / 2, n - n / 2, error) : outcome;
}

/* Has it ended a worker when it was tried alone?  Then nobody tries it again. */
static bool
is_culprit(const PpWork *work)
{
	return pp_attempt_guilt(work->pos, work->part) != PP_INNOCENT;
}

static PpOutcome
bury_culprit(PpWork *work, ErrorData **error)
{
	bool show = pp_attempt_guilt(work->pos, work->part) == PP_CULPRIT;

	*error = give_up(
		work, 1, pp_error(ERRCODE_INTERNAL_ERROR, "the worker ended while it was inserted"), show);
	if (*error)
		return PP_TRANSIENT;
	pp_attempt_close_case(work->pos, work->part);
	return PP_SETTLED;
}

/*
 * Settle the works: insert their items, or find out which can't be.  PP_DIVIDED: some
 * are not settled, and come again.  PP_TRANSIENT: they are not, for the reason that
 * *error tells; try again later.  Call it outside a transaction.
 */
PpOutcome
pp_settle(PpWork *works, int n, ErrorData **error)
{
	List *roles = NIL;
	PpSieve sieve;

	impatient = pp_parking_waits_for_lock();
	if (pp_attempt_is_suspect(works[0].pos) && !works[0].applied)
	{
		if (works[0].there > 1)
			return divide_suspects(works, n, error);
		if (is_culprit(&works[0]))
			return bury_culprit(&works[0], error);
	}

	for (int i = 0; i < n; i++)
	{
		if (i == 0 || works[i].role != works[i - 1].role)
			roles = list_append_unique_oid(roles, works[i].role);
	}

	if (list_length(roles) == 1)
		return settle_role(works, n, false, &sieve, error);
	return settle_roles(works, n, roles, error);
}

/* ---- parked items ---- */

/* A grace, and the first item that it is for */
typedef struct Grace
{
	PpParked *parked;
	PpWork *first;
} Grace;

static void
note_grace(void *arg)
{
	Grace *grace = arg;
	uint64 nrows;
	const PpRow **rows = pp_works_open(claim, grace->first, 1, &nrows);

	if (nrows > 0)
		pp_parking_note_grace(grace->parked, rows[0]);
}

/*
 * Try those again that are parked for a target and role, as many as fit into a batch.
 * Call it outside a transaction.
 */
void
pp_settle_parked(PpParked *parked)
{
	uint64 max = parked->width > 0 ? parked->width : (uint64) pp_batch_size;
	PpSteady began = pp_steady_now();
	ErrorData *error = NULL;
	PpSieve sieve = {0};
	PpOutcome outcome;
	PpParkedWorks next;
	long spent_ms;

	if (pp_parking_is_locked(parked))
	{
		pp_parking_back_off(parked, ERRCODE_LOCK_NOT_AVAILABLE, 0);
		return;
	}
	pp_attempt_began = PP_NEVER; /* this is no statement of anybody's */
	error = pp_intake_parked(claim, parked->key.target, parked->key.role, parked->from, max, &next);
	if (error)
	{
		if (!pp_is_transient(error))
			ReThrowError(error);
		if (pp_cut == PP_CUT_NONE)
			pp_parking_back_off(parked, error->sqlerrcode, (pp_steady_now() - began) / 1000);
		return;
	}
	if (next.n == 0 && parked->from > 0)
	{
		parked->from = 0; /* look once more, at all of them */
		parked->part = 0;
		return;
	}
	if (next.n == 0)
	{
		pp_parking_end(parked);
		return;
	}
	parked->from = next.works[0].pos;
	parked->part = next.works[0].part;
	impatient = true;
	if (is_culprit(&next.works[0]))
		outcome = bury_culprit(&next.works[0], &error);
	else
		outcome = settle_role(next.works, next.n, false, &sieve, &error);
	if (spent)
		return; /* it is due for the next process */
	spent_ms = (pp_steady_now() - began) / 1000;
	if (outcome == PP_SETTLED)
	{
		pp_parking_advance(parked, sieve.results && sieve.results->persisted > 0);
		if (pp_statement_timeout > 0 && 2 * spent_ms > pp_statement_timeout)
			parked->width = next.n; /* twice as many would take too long */
		if (sieve.timeouts > 0)
			pp_parking_delay(parked->key.target, parked->key.role, sieve.timeouts, sieve.width);
		/* an old snapshot keeps what has been deleted in our way */
		if (sieve.results && !pp_results_parked_more(sieve.results, next.n))
		{
			parked->from = next.works[next.n - 1].pos;
			parked->part = 0;
		}
		return;
	}
	if (sieve.width > 0)
		parked->width = sieve.width;
	if (sieve.held > 0 && sieve.stopped_at == NULL && next.all)
		parked->whole = false; /* nothing but single rows is left of it */
	pp_parking_back_off(parked, error ? error->sqlerrcode : ERRCODE_INTERNAL_ERROR, spent_ms);
	if (parked->misfit_since != 0 && !parked->noted)
		parked->noted = pp_in_transaction(note_grace, &(Grace){parked, &next.works[0]}) == NULL;
}
