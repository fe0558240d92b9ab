/*-------------------------------------------------------------------------
 *
 * commit.c
 *	  What the worker's COMMIT does to the slot; see commit.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "base/faults.h"
#include "base/savepoint.h"
#include "store/copied.h"
#include "worker/commit.h"
#include "worker/leftovers.h"

static const PpClaim *claim;
static PpSlot *slot;
static bool done;

/* What the transaction that is open settles when it commits */
static struct
{
	PpWorkItem *work_items; /* NULL: nothing */
	int n;
	const PpOutcomeCounts *counts; /* NULL: they have only been moved */
} committing;

static PpSteady began; /* the transaction that is open */

/*
 * Were the work item's rows only replaced by smaller ones?  Then its entry in the ring is settled
 * with those, which have the same commit position.
 */
static bool
stays_in_ring(const PpWorkItem *work)
{
	return committing.counts == NULL && work->nrows > 0 && work->at != PP_NOT_IN_RING;
}

/* Give back what a role was charged with; or charge the journal instead of the ring. */
static void
give_settled_back(Oid role, uint64 ring, uint64 journal, uint64 moved)
{
	if (ring > 0)
		pp_quota_give(&slot->quota, PP_STORE_RING, role, ring);
	if (journal > 0)
		pp_quota_give(&slot->quota, PP_STORE_JOURNAL, role, journal);
	if (moved > 0)
		(void) pp_quota_charge(&slot->quota, PP_STORE_JOURNAL, role, moved, PG_UINT64_MAX,
							   PG_UINT64_MAX);
}

/* The same for all roles of the settled items, for each stretch of one role at once. */
static void
give_back_quotas(void)
{
	uint64 ring = 0;
	uint64 journal = 0;
	uint64 moved = 0;

	for (int i = 0; i < committing.n; i++)
	{
		PpWorkItem *work = &committing.work_items[i];
		uint64 journalled = pp_journal_cost(work->opened, work->nitems);

		if (work->nrows == 0 && !work->applied)
		{
			ring += pp_ring_entry(&slot->ring, work->at)->bytes;
			if (committing.counts == NULL)
				moved += journalled;
		}
		else if (committing.counts && !work->parked)
			journal += journalled;
		if (i + 1 < committing.n && committing.work_items[i + 1].role == work->role)
			continue;
		give_settled_back(work->role, ring, journal, moved);
		ring = journal = moved = 0;
	}
}

/*
 * Settle the work item's items in its entry.  How many there are is known from the entry: of a
 * row that is damaged it is a guess.
 */
static uint32
settle_entry(const PpWorkItem *work)
{
	PpEntry *entry = pp_ring_entry(&slot->ring, work->at);
	uint32 items = Min(work->n, entry->items - entry->settled);

	if (pg_atomic_read_u32(&entry->state) != PP_ENTRY_READY)
		return 0;
	pp_ring_settle(&slot->ring, work->at, items);
	return items;
}

/*
 * How long its items have waited since they were handed over, in microseconds: since the commit.
 * Of those that are in the journal alone only the time of the call is known: of the last one, which
 * is nearest to it.  -1: nobody knows, since it is a dead letter that was sent again.
 */
static int64
waited(const PpWorkItem *work, PpSteady now, TimestampTz time_of_day)
{
	const PpItem *last;

	if (work->at != PP_NOT_IN_RING)
		return Max(now - pp_ring_entry(&slot->ring, work->at)->published_at, 0);
	last = work->items[work->nitems - 1];
	return last->attempts > 0 ? -1 : Max(time_of_day - last->enqueued_at, 0);
}

/* The items that can be seen from now on, by the time that they have waited. */
static PpHistogram
count_visible(PpSteady now)
{
	PpHistogram visible = {0};
	TimestampTz time_of_day = GetCurrentTransactionStopTimestamp();

	for (int i = 0; i < committing.n; i++)
	{
		const PpWorkItem *work = &committing.work_items[i];
		int64 us = work->nitems > work->unseen ? waited(work, now, time_of_day) : -1;

		if (us >= 0)
			pp_metrics_observe(&visible, pp_metrics_bucket(pp_metrics_time_bounds, us), us,
							   work->nitems - work->unseen);
	}
	return visible;
}

/* Count the transaction, and what has become of its items. */
static void
count_batch(void)
{
	const PpOutcomeCounts *counts = committing.counts;
	PpMetrics *metrics = &slot->metrics;
	PpSteady now = pp_steady_now();
	int64 us = now - began;
	PpHistogram visible = count_visible(now);
	int time_bucket = pp_metrics_bucket(pp_metrics_time_bounds, us);
	uint64 items = pp_intake_count_items(committing.work_items, committing.n);
	int item_bucket = pp_metrics_bucket(pp_metrics_item_bounds, items);
	int sqlstate = pp_outcome_counts_sqlstate(counts);

	SpinLockAcquire(&slot->mutex);
	slot->batches++;
	slot->written += counts->persisted;
	slot->failed += counts->failed + counts->lost;
	pp_metrics_add_histogram(&metrics->visible, &visible);
	pp_metrics_observe(&metrics->batch_seconds, time_bucket, us, 1);
	pp_metrics_observe(&metrics->batch_items, item_bucket, items, 1);
	for (int i = 0; counts->any_errors && i < PP_ERROR_CLASSES; i++)
		metrics->errors[i] += counts->errors[i];
	if (sqlstate != 0)
		pp_shmem_note_error_locked(slot, sqlstate);
	SpinLockRelease(&slot->mutex);
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
	PpSteady oldest;

	for (int i = 0; i < committing.n; i++)
	{
		const PpWorkItem *work = &committing.work_items[i];

		if (work->parked || stays_in_ring(work))
			continue;
		opened += work->nitems;
		if (work->at == PP_NOT_IN_RING)
			not_in_ring += work->n;
	}

	/* first the counters: once the ring is free, it may go to another database */
	if (committing.counts)
		count_batch();
	else
	{
		SpinLockAcquire(&slot->mutex);
		slot->batches++;
		SpinLockRelease(&slot->mutex);
	}
	if (committing.counts && committing.counts->dead > 0)
		(void) pp_quota_charge(&slot->letters, PP_STORE_LETTERS, committing.work_items[0].role,
							   committing.counts->dead, PG_UINT64_MAX, PG_UINT64_MAX);
	SpinLockAcquire(&pp_shmem->mutex);
	pp_shmem->settled_lsn = Max(pp_shmem->settled_lsn, XactLastCommitEnd);
	SpinLockRelease(&pp_shmem->mutex);

	/* before the ring is freed: a flush must see the items in one place or the other */
	if (committing.counts)
		pp_outcome_counts_tell(committing.counts, &slot->counters);
	else
	{
		oldest = pp_ring_oldest(&slot->ring);
		pp_ring_move(&slot->ring, opened, oldest != 0 ? oldest : pp_steady_now());
	}
	if (!committing.work_items[0].parked) /* the ring is the worker's */
	{
		give_back_quotas();
		for (int i = 0; i < committing.n; i++)
		{
			if (committing.work_items[i].at != PP_NOT_IN_RING &&
				!stays_in_ring(&committing.work_items[i]))
				in_ring += settle_entry(&committing.work_items[i]);
		}
		pp_ring_free(&slot->ring, in_ring);
		pp_ring_settle_pass_items(&slot->ring, not_in_ring);
	}

	committing.work_items = NULL;
	done = true;
}

/* Does it settle something that a crash takes until its tables have it, and not they themselves? */
static bool
ends_risk(void)
{
	for (int i = 0; i < committing.n; i++)
	{
		const PpWorkItem *work = &committing.work_items[i];

		if (work->nrows == 0 && work->at != PP_NOT_IN_RING &&
			pp_ring_entry(&slot->ring, work->at)->risk != PP_RISK_NONE)
			return true;
	}
	return false;
}

static void
commit_xact_event(XactEvent event, void *arg)
{
	if (committing.work_items == NULL)
		return;
	if (event == XACT_EVENT_PRE_COMMIT)
		PP_FAULT(commits);
	/*
	 * a crash could lose our commit, and not that of another server; or with it what is in the
	 * ring alone, whose time that is over
	 */
	if (event == XACT_EVENT_PRE_COMMIT && (pp_leftovers_may_write_elsewhere() || ends_risk()))
		ForceSyncCommit();
	else if (event == XACT_EVENT_COMMIT)
	{
		at_commit();
		(void) pp_slot_end_commit(slot);
	}
	else if (event == XACT_EVENT_ABORT)
		pp_commit_forget();
}

/* Called once, by the worker that has attached to its slot. */
void
pp_commit_init(const PpClaim *worker_claim)
{
	claim = worker_claim;
	slot = claim->slot;
	RegisterXactCallback(commit_xact_event, NULL);
}

/*
 * When the open transaction commits, these work items are settled, with these results;
 * without any, they are in the journal now.  Call it before their rows are taken.  FATAL where
 * another worker has taken our place.
 */
void
pp_commit_settles(PpWorkItem *work_items, int n, const PpOutcomeCounts *counts)
{
	PP_FAULT(settles);
	if (!pp_shmem_am_retrier && !pp_slot_begin_commit(slot))
		ereport(FATAL, (errcode(ERRCODE_ADMIN_SHUTDOWN),
						errmsg("another persist_pipeline worker has taken the place of this one")));
	committing.work_items = work_items;
	committing.n = n;
	committing.counts = counts;
}

/* Another transaction is about to begin, or this one has failed. */
void
pp_commit_forget(void)
{
	if (committing.work_items)
		(void) pp_slot_end_commit(slot);
	committing.work_items = NULL;
	done = false;
	began = pp_steady_now();
}

/* Has it come to that? */
bool
pp_commit_is_done(void)
{
	return done;
}

/*
 * Settle something in a transaction of our own.  `uncancelled`: nobody cancels it.  NULL, or what
 * has kept us from it.
 */
ErrorData *
pp_commit_by_ourselves(void (*deed)(void *arg), void *arg, bool uncancelled)
{
	ErrorData *error;

	if (uncancelled)
		HOLD_CANCEL_INTERRUPTS();
	pp_commit_forget();
	error = pp_savepoint_run_in_transaction(deed, arg);
	if (error && done)
		ReThrowError(error);
	ConditionVariableBroadcast(&slot->settled);
	if (uncancelled)
		RESUME_CANCEL_INTERRUPTS();

	return error;
}

/* A work item that can't be read */
typedef struct Damage
{
	PpWorkItem *work;
	PpOutcomeCounts counts;
} Damage;

static void
put_damaged_aside(void *arg)
{
	Damage *damage = arg;
	PpWorkItem *work = damage->work;

	pp_commit_settles(work, 1, &damage->counts);
	if (work->nrows > 0)
		pp_copied_put_aside(claim->extension, work->rows, work->nrows);
	pp_outcome_counts_write(&damage->counts, claim->extension);
}

/*
 * The work item can't be read.  What is in the journal is put aside, for a person to look
 * at; what is in the ring alone can't be.
 */
PpOutcome
pp_commit_damaged(PpWorkItem *work, const ErrorData *damaged, ErrorData **error)
{
	uint64 items = work->n; /* 0: a part of one, whose beginning is lost already */
	Damage damage = {.work = work, .counts = {.lost = items}};

	if (work->nrows > 1 && !work->single)
	{
		pp_intake_divide(work->pos); /* its records come next, in a pass */
		pp_ring_move(&slot->ring, 0, pp_steady_now());
		return PP_DIVIDED;
	}

	if (work->parked)
	{
		PpTargetOutcome *result = pp_outcome_counts_of(&damage.counts, work->target);

		result->delta.lost = items;
		result->parked = -(int64) items;
		result->parked_bytes = -(int64) work->bytes;
	}

	work->nitems = work->unseen = items;
	work->opened = work->bytes; /* what it holds of the journal */
	*error = pp_commit_by_ourselves(put_damaged_aside, &damage, true);
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
