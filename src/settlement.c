/*-------------------------------------------------------------------------
 *
 * settlement.c
 *	  What the worker's COMMIT does to the lane; see settlement.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "copied.h"
#include "faults.h"
#include "leftovers.h"
#include "savepoint.h"
#include "settlement.h"
#include "work_open.h"

static const PpClaim *claim;
static PpLane *lane;
static bool done;

/* What the transaction that is open settles when it commits */
static struct
{
	PpWork *works; /* NULL: nothing */
	int n;
	const PpResults *results; /* NULL: they have only been moved */
} committing;

/*
 * Have the work's rows only been divided?  Then its entry of the ring waits for the new
 * ones, which have the same place.
 */
static bool
stays_in_ring(const PpWork *work)
{
	return committing.results == NULL && work->nrows > 0 && work->at != PP_NOT_IN_RING;
}

/* Whose items have been settled holds that much less; or it is in the journal now. */
static void
give_shares(void)
{
	for (int i = 0; i < committing.n; i++)
	{
		PpWork *work = &committing.works[i];
		uint64 journalled = pp_journal_cost(work->opened, work->nitems);

		if (work->nrows == 0 && !work->applied)
		{
			pp_quota_give(&lane->quota, PP_STORE_RING, work->role,
						  pp_ring_entry(&lane->ring, work->at)->bytes);
			if (committing.results == NULL)
				(void) pp_quota_take(&lane->quota, PP_STORE_JOURNAL, work->role, journalled,
									 PG_UINT64_MAX, PG_UINT64_MAX);
		}
		else if (committing.results && !work->parked)
			pp_quota_give(&lane->quota, PP_STORE_JOURNAL, work->role, journalled);
	}
}

/*
 * Settle the work's items in its entry.  How many there are is known from the entry: of a
 * row that is damaged it is a guess.
 */
static uint32
settle_entry(const PpWork *work)
{
	PpEntry *entry = pp_ring_entry(&lane->ring, work->at);
	uint32 items = Min(work->n, entry->items - entry->settled);

	if (pg_atomic_read_u32(&entry->state) != PP_ENTRY_READY)
		return 0;
	pp_ring_settle(&lane->ring, work->at, items);
	return items;
}

/*
 * Only here are items settled: after this point no ERROR and no signal can undo the
 * transaction, before it any could.
 */
static void
at_commit(void)
{
	uint64 in_ring = 0;
	uint64 not_in_ring = 0;
	uint64 opened = 0;

	for (int i = 0; i < committing.n; i++)
	{
		const PpWork *work = &committing.works[i];

		if (work->parked || stays_in_ring(work))
			continue;
		opened += work->nitems;
		if (work->at == PP_NOT_IN_RING)
			not_in_ring += work->n;
	}

	/* first what is told of it: once the ring is free it may be another's */
	SpinLockAcquire(&lane->mutex);
	lane->batches++;
	if (committing.results)
	{
		lane->written += committing.results->persisted;
		lane->failed += committing.results->failed + committing.results->lost;
	}
	SpinLockRelease(&lane->mutex);
	if (committing.results && committing.results->dead > 0)
		(void) pp_quota_take(&lane->letters, PP_STORE_LETTERS, committing.works[0].role,
							 committing.results->dead, PG_UINT64_MAX, PG_UINT64_MAX);
	SpinLockAcquire(&pp_shared->mutex);
	pp_shared->settled_lsn = Max(pp_shared->settled_lsn, XactLastCommitEnd);
	SpinLockRelease(&pp_shared->mutex);

	/* before the ring is free: a flush must find one or the other */
	if (committing.results)
		pp_results_tell(committing.results, &lane->tally);
	else
		pp_ring_move(&lane->ring, opened, pp_steady_now());
	if (!committing.works[0].parked) /* the ring is the worker's */
	{
		give_shares();
		for (int i = 0; i < committing.n; i++)
		{
			if (committing.works[i].at != PP_NOT_IN_RING && !stays_in_ring(&committing.works[i]))
				in_ring += settle_entry(&committing.works[i]);
		}
		pp_ring_free(&lane->ring, in_ring);
		pp_ring_settle_pass_items(&lane->ring, not_in_ring);
	}

	committing.works = NULL;
	done = true;
}

static void
xact_event(XactEvent event, void *arg)
{
	if (committing.works == NULL)
		return;
	if (event == XACT_EVENT_PRE_COMMIT)
		PP_FAULT(commits);
	if (event == XACT_EVENT_PRE_COMMIT && pp_leftovers_may_write_elsewhere())
		ForceSyncCommit(); /* a crash could lose our commit and not theirs */
	else if (event == XACT_EVENT_COMMIT)
	{
		at_commit();
		(void) pp_lane_end_commit(lane);
	}
	else if (event == XACT_EVENT_ABORT)
		pp_settlement_forget();
}

/* Called once, by the worker that has attached to its lane. */
void
pp_settlement_init(const PpClaim *worker_claim)
{
	claim = worker_claim;
	lane = claim->lane;
	RegisterXactCallback(xact_event, NULL);
}

/*
 * When the open transaction commits, these works are settled, with these results;
 * without any, they are in the journal now.  Call it before their rows are taken.  FATAL where
 * another worker has taken our place.
 */
void
pp_settlement_on_commit(PpWork *works, int n, const PpResults *results)
{
	PP_FAULT(settles);
	if (!pp_am_retrier && !pp_lane_begin_commit(lane))
		ereport(FATAL, (errcode(ERRCODE_ADMIN_SHUTDOWN),
						errmsg("another persist_pipeline worker has taken the place of this one")));
	committing.works = works;
	committing.n = n;
	committing.results = results;
}

/* Another transaction is about to begin, or this one has failed. */
void
pp_settlement_forget(void)
{
	if (committing.works)
		(void) pp_lane_end_commit(lane);
	committing.works = NULL;
	done = false;
}

/* Has it come to that? */
bool
pp_settlement_is_done(void)
{
	return done;
}

uint64
pp_count_items(const PpWork *works, int n)
{
	uint64 items = 0;

	for (int i = 0; i < n; i++)
		items += works[i].n;
	return items;
}

/* Put the items of a work into the journal, each in a record of its own. */
static void
append_items(const PpWork *work, int number)
{
	for (uint64 k = 0; k < work->nitems; k++)
	{
		const PpItem *item = work->items[k];
		int nrows = pp_journal_plan((const char *) item, item->size, NULL);
		PpRowPlan *rows = palloc(nrows * sizeof(PpRowPlan));
		PpJournalRef *refs = palloc(nrows * sizeof(PpJournalRef));

		(void) pp_journal_plan((const char *) item, item->size, rows);
		for (int r = 0; r < nrows; r++)
			rows[r].part = work->parts[k] + r;
		pp_journal_append(claim->extension, number, work->pos, work->role, rows, nrows, refs);
		pfree(rows);
		pfree(refs);
	}
}

/*
 * Settle something in a transaction of our own.  `held`: nobody cancels it.  NULL, or what
 * has kept us from it.
 */
ErrorData *
pp_settle_by_ourselves(void (*deed)(void *arg), void *arg, bool held)
{
	ErrorData *error;

	if (held)
		HOLD_CANCEL_INTERRUPTS();
	pp_settlement_forget();
	error = pp_in_transaction(deed, arg);
	if (error && done)
		ReThrowError(error);
	ConditionVariableBroadcast(&lane->settled);
	if (held)
		RESUME_CANCEL_INTERRUPTS();

	return error;
}

typedef struct Works
{
	PpWork *works;
	int n;
	bool may_wait; /* for a lock on the journal */
} Works;

static void
move_to_journal(void *arg)
{
	PpWork *works = ((Works *) arg)->works;
	int n = ((Works *) arg)->n;
	PpJournals journals = {0};
	bool has_rows = false;
	int number = pp_journal_unlocked(claim->extension, pp_ring_view(&lane->ring).journal);

	if (number < 0)
	{
		if (!((Works *) arg)->may_wait)
			return;
		number = pp_ring_view(&lane->ring).journal;
	}
	for (int i = 0; i < n && !has_rows; i++)
		has_rows = works[i].nrows > 0;
	if (has_rows)
		pp_journals_open(claim->extension, RowExclusiveLock, &journals);
	pp_settlement_on_commit(works, n, NULL);
	for (int i = 0; i < n; i++)
	{
		pp_work_open(claim, &journals, &works[i]);
		append_items(&works[i], number);
		pp_work_take(claim, &journals, &works[i]);
	}
	pp_journals_close(&journals, NoLock);
	ForceSyncCommit(); /* the server may be about to end, or to crash */
}

/*
 * Put the works' items into the journal, each in a record of its own, and in the works'
 * place in the order of things.  Rows that they have there go.  NULL, or what has kept us
 * from it.  Nothing happens if the journal is locked and this process may not wait for that.
 */
ErrorData *
pp_settle_to_journal(PpWork *works, int n, bool may_wait)
{
	return pp_settle_by_ourselves(move_to_journal, &(Works){works, n, may_wait}, false);
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

	pp_settlement_on_commit(work, 1, &damage->results);
	if (work->nrows > 0)
		pp_copied_put_aside(claim->extension, work->rows, work->nrows);
	pp_results_write(&damage->results, claim->extension);
}

/*
 * The work can't be read.  What is in the journal is put aside, for a person to look
 * at; what is in the ring alone can't be.
 */
PpOutcome
pp_settle_damaged(PpWork *work, const ErrorData *damaged, ErrorData **error)
{
	uint64 items = work->n; /* 0: a part of one, whose beginning is lost already */
	Damage damage = {.work = work, .results = {.lost = items}};

	if (work->nrows > 1 && !work->single)
	{
		pp_intake_divide(work->pos); /* its records come next, in a pass */
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
