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
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "settlement.h"

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
		opened += committing.works[i].nitems;
		if (committing.works[i].parked)
			continue;
		if (committing.works[i].at == PP_NOT_IN_RING)
			not_in_ring += committing.works[i].n;
		else
			in_ring += committing.works[i].n;
	}

	/* first what is told of it: once the ring is free it may be another's */
	SpinLockAcquire(&lane->mutex);
	lane->batches++;
	if (committing.results)
	{
		lane->written += committing.results->persisted;
		lane->failed += committing.results->dead + committing.results->lost;
		lane->letters += committing.results->dead;
	}
	lane->tried_items = 0; /* whatever ends this process now is not their fault */
	SpinLockRelease(&lane->mutex);
	SpinLockAcquire(&pp_shared->mutex);
	pp_shared->settled_lsn = Max(pp_shared->settled_lsn, XactLastCommitEnd);
	SpinLockRelease(&pp_shared->mutex);

	/* before the ring is free: a flush must find one or the other */
	if (committing.results)
		pp_results_tell(committing.results, &lane->tally);
	else
		pp_ring_move(&lane->ring, opened, GetCurrentTimestamp());
	give_shares();
	for (int i = 0; i < committing.n; i++)
	{
		if (committing.works[i].at != PP_NOT_IN_RING)
			pp_ring_settle(&lane->ring, committing.works[i].at, committing.works[i].n);
	}
	pp_ring_free(&lane->ring, in_ring);
	pp_ring_settle_pass_items(&lane->ring, not_in_ring);

	committing.works = NULL;
	done = true;
}

static void
xact_event(XactEvent event, void *arg)
{
	if (committing.works == NULL)
		return;
	if (event == XACT_EVENT_COMMIT)
		at_commit();
	else if (event == XACT_EVENT_ABORT)
		committing.works = NULL;
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
 * without any, they are in the journal now.
 */
void
pp_settlement_on_commit(PpWork *works, int n, const PpResults *results)
{
	committing.works = works;
	committing.n = n;
	committing.results = results;
}

/* Another transaction is about to begin. */
void
pp_settlement_forget(void)
{
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

/*
 * In one transaction of our own, put the works' items into the journal, each in a
 * record of its own, and in the works' place in the order of things.  Rows that they
 * have there go.  Throws on error.
 */
void
pp_settle_to_journal(PpWork *works, int n)
{
	MemoryContext caller = CurrentMemoryContext;
	PpJournals journals;
	bool has_rows = false;
	int number;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(caller);
	memset(&journals, 0, sizeof(journals));
	for (int i = 0; i < n && !has_rows; i++)
		has_rows = works[i].nrows > 0;
	if (has_rows)
		pp_journals_open(claim->extension, RowExclusiveLock, &journals);
	number = pp_journal_unlocked(claim->extension, pp_ring_view(&lane->ring).journal);
	for (int i = 0; i < n; i++)
	{
		PpWork *work = &works[i];
		uint32 part = work->part;

		pp_work_open(claim, &journals, work);
		for (uint64 k = 0; k < work->nitems; k++)
		{
			const PpItem *item = work->items[k];
			int nrows = pp_journal_plan((const char *) item, item->size, NULL);
			PpRowPlan *rows = palloc(nrows * sizeof(PpRowPlan));
			PpJournalRef *refs = palloc(nrows * sizeof(PpJournalRef));

			(void) pp_journal_plan((const char *) item, item->size, rows);
			for (int r = 0; r < nrows; r++)
				rows[r].part = part++;
			pp_journal_append(claim->extension, number, work->pos, work->role, rows, nrows, refs);
			pfree(rows);
			pfree(refs);
		}
	}
	pp_journals_close(&journals);
	PopActiveSnapshot();
	pp_settlement_on_commit(works, n, NULL);
	ForceSyncCommit(); /* the server may be about to end, or to crash */
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}
