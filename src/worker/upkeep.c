/*-------------------------------------------------------------------------
 *
 * upkeep.c
 *	  What the worker does between its batches; see upkeep.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/savepoint.h"
#include "ring/lease.h"
#include "store/account.h"
#include "store/copied.h"
#include "store/dead_letters.h"
#include "store/journal.h"
#include "store/layouts.h"
#include "store/snapshot_watch.h"
#include "worker/bad_rows.h"
#include "worker/intake.h"
#include "worker/poison.h"
#include "worker/timer.h"
#include "worker/upkeep.h"

#define ROTATE_BATCHES 4 /* from one look at the journals' size to the next */
#define EXPIRE_MS 60000	 /* ... for letters that are too old, at least, and for layouts */

static const PpClaim *claim;
static int since_journals = 0;	   /* batches since they were looked at ... */
static int since_account = 0;	   /* ... and since it was */
static bool journal_waits = false; /* to be emptied */

/*
 * Called once, by the worker that has attached to its slot: how many dead letters there are
 * was known to the last one.
 */
void
pp_upkeep_init(const PpClaim *worker_claim)
{
	PpQuota letters;

	claim = worker_claim;

	/* where workers take turns none may live to see so many batches: one in so many does */
	since_account = pg_prng_double(&pg_global_prng_state) * (PP_ACCOUNT_COMPACT / 4);

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (pp_dead_letters_try_lock(claim->extension)) /* else who needs to know it will count them */
		pp_bad_rows_count_dead_letters(claim, &letters);
	CommitTransactionCommand();
}

/*
 * Do a part of it, unless there is no extension.  All of it can wait: where the disk is
 * full, for example, it is done at its next time.  *waits: the last time it had to.
 */
static void
look_after(void (*part)(void), bool *waits)
{
	MemoryContext caller = CurrentMemoryContext;
	PpCatcher catcher = pp_savepoint_catcher();
	ErrorData *volatile error = NULL;

	if (!OidIsValid(claim->extension))
		return;
	PG_TRY();
	{
		part();
	}
	PG_CATCH();
	{
		error = pp_savepoint_catch(&catcher);
		if (!pp_classify_is_transient(error, pp_timer_cut))
			ReThrowError(error);
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	if (error && !*waits)
		ereport(LOG, (errcode(error->sqlerrcode),
					  errmsg("the upkeep of persist_pipeline's tables has to wait: SQLSTATE %s",
							 unpack_sql_state(error->sqlerrcode)),
					  errdetail("Until then they may grow.")));
	*waits = error != NULL;
	if (error)
		FreeErrorData(error);
}

static void
rotate(void)
{
	journal_waits = pp_journal_rotate(claim->extension, claim->slot);
}

static void
compact(void)
{
	pp_account_compact(claim->extension);
}

static void
expire(void)
{
	pp_bad_rows_expire_dead_letters(claim);
}

/* Is nothing there, or on its way?  Then nobody holds anything. */
static bool
is_settled(const PpRingView *view)
{
	return view->head == view->tail && view->reserved == 0 && view->diverting == 0 &&
		   !pp_intake_is_pending(view);
}

/* Add the targets that items wait for; false: they can't all be told. */
static bool
add_waiting_targets(List **targets)
{
	PpCounters *counters = &claim->slot->counters;
	PpCounter entries[PP_COUNTER_WAYS + 1];

	for (int bucket = 0; bucket < PP_COUNTER_BUCKETS; bucket++)
	{
		int n = pp_counters_read(counters, bucket, entries);

		for (int i = 0; i < n; i++)
		{
			if (!OidIsValid(entries[i].target))
				return false;
			*targets = lappend_oid(*targets, entries[i].target);
		}
	}
	return pp_counters_are_counted(counters);
}

/* What was noted of targets by transactions before that one was seen when the watch began. */
static PpSnapshotWatch layouts_watch = {.all = true};
static TransactionId layouts_before;

static void
watch_layouts(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (pp_layouts_any(claim->extension))
	{
		layouts_before = GetLatestSnapshot()->xmin;
		pp_snapshot_watch_begin(&layouts_watch);
	}
	CommitTransactionCommand();
}

/*
 * All transactions have ended that may have made items for what was noted then: where none
 * of these is left, it is needed no more.  Letters first, since they may be on their way back.
 */
static void
forget_layouts(void)
{
	List *needed;

	layouts_watch.begun = false;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	needed = pp_dead_letters_targets(claim->extension);
	PushActiveSnapshot(GetLatestSnapshot());
	if (pp_copied_count(claim->extension) == 0 && add_waiting_targets(&needed))
		pp_layouts_forget(claim->extension, layouts_before, needed);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

static void
write_leases(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pp_lease_write_down(claim);
	CommitTransactionCommand();
}

/* What shared memory knows is enough until a crash, and the sequence is enough after it. */
static void
look_after_leases(void)
{
	static bool waits = false;

	if (OidIsValid(claim->extension) && pp_lease_is_unwritten(claim))
		look_after(write_leases, &waits);
}

void
pp_upkeep_journals(void)
{
	static bool waits = false;

	since_journals = 0;
	look_after(rotate, &waits);
	look_after_leases();
}

static void
look_after_account(void)
{
	static bool waits = false;

	since_account = 0;
	look_after(compact, &waits);
}

/* It takes a scan of all letters, but it mustn't need many batches: there may be none. */
static void
look_after_letters(void)
{
	static bool waits = false;
	PpSlot *slot = claim->slot;
	bool is_time;

	SpinLockAcquire(&slot->mutex);
	is_time = pp_steady_has_lasted(slot->expired_at, EXPIRE_MS);
	if (is_time)
		slot->expired_at = pp_steady_now();
	SpinLockRelease(&slot->mutex);
	if (is_time)
		look_after(expire, &waits);
}

static void
look_after_layouts(void)
{
	static bool waits = false;
	static PpSteady watched_at = 0; /* by this worker */

	if (!layouts_watch.begun && pp_steady_has_lasted(watched_at, EXPIRE_MS))
	{
		watched_at = pp_steady_now();
		look_after(watch_layouts, &waits);
	}
	if (layouts_watch.begun && pp_snapshot_watch_is_over(&layouts_watch))
		look_after(forget_layouts, &waits);
}

/* A batch has been settled. */
void
pp_upkeep_batch(void)
{
	since_account++;
	if (++since_journals >= ROTATE_BATCHES)
		pp_upkeep_journals();
	if (since_account < PP_ACCOUNT_COMPACT)
		return;
	look_after_account();
	look_after_letters();
	look_after_layouts();
}

/* If nothing waits, what is counted nevertheless is a mistake, and there are no candidates. */
static void
mend_counts(void)
{
	uint64 added = pp_counters_added(&claim->slot->counters); /* before the look at the ring */
	PpRingView view = pp_ring_view(&claim->slot->ring);

	if (!is_settled(&view))
		return;
	pp_quota_clear(&claim->slot->quota);
	pp_counters_clear_pending(&claim->slot->counters, added);
	if (pp_counters_parked(&claim->slot->counters) == 0)
		pp_poison_forget();
}

/* There is nothing else to do, or others wait for their turn.  True: a journal has to wait. */
bool
pp_upkeep_idle(void)
{
	mend_counts();
	if (since_journals > 0)
		pp_upkeep_journals();
	look_after_leases();
	if (since_account >= PP_ACCOUNT_COMPACT / 4)
		look_after_account();
	look_after_letters();
	look_after_layouts();
	return journal_waits;
}
