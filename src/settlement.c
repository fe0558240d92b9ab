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
#include "utils/timestamp.h"

#include "settlement.h"

static PpLane *lane;
static bool done;

/* What the transaction that is open settles when it commits */
static struct
{
	PpWork *works; /* NULL: nothing */
	int n;
	uint64 failed;
	bool moved; /* they have neither been written nor failed */
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
			if (committing.moved)
				(void) pp_quota_take(&lane->quota, PP_STORE_JOURNAL, work->role, journalled,
									 PG_UINT64_MAX, PG_UINT64_MAX);
		}
		else if (!committing.moved)
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
		if (committing.works[i].at == PP_NOT_IN_RING)
			not_in_ring += committing.works[i].n;
		else
			in_ring += committing.works[i].n;
	}

	/* first what is told of it: once the ring is free it may be another's */
	SpinLockAcquire(&lane->mutex);
	lane->batches++;
	if (!committing.moved)
		lane->written += opened - Min(opened, committing.failed);
	lane->failed += committing.failed;
	lane->tried_items = 0; /* whatever ends this process now is not their fault */
	SpinLockRelease(&lane->mutex);
	SpinLockAcquire(&pp_shared->mutex);
	pp_shared->settled_lsn = Max(pp_shared->settled_lsn, XactLastCommitEnd);
	SpinLockRelease(&pp_shared->mutex);

	/* before the ring is free: a flush must find one or the other */
	if (committing.moved)
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
pp_settlement_init(const PpClaim *claim)
{
	lane = claim->lane;
	RegisterXactCallback(xact_event, NULL);
}

/*
 * When the open transaction commits, these works are settled.  Of their items so many
 * have failed, and the others are in their tables; moved: they are in the journal.
 */
void
pp_settlement_on_commit(PpWork *works, int n, uint64 failed, bool moved)
{
	committing.works = works;
	committing.n = n;
	committing.failed = failed;
	committing.moved = moved;
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
