/*-------------------------------------------------------------------------
 *
 * pause.c
 *	  Pauses and resumes a database; see pause.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/config.h"
#include "ring/slots.h"
#include "store/copied.h"
#include "store/pause.h"
#include "store/state.h"

#define MIN_COUNTS 16

/* The current transaction has changed it, or tried to; its worker is to be told */
static bool changed = false;
static bool altered = false;		/* a target; whoever isn't told finds out by himself */
static uint64 adopted = 0;			/* so many items came into the journal by that ... */
static SubTransactionId adopted_in; /* ... in this subtransaction ... */
static PpTargetCount *counts;		/* ... by target; in the transaction's memory */
static int ncounts;

/* Is the database paused, as the current transaction sees it? */
bool
pp_pause_is_on(Oid extension)
{
	PpState state = pp_state_get(extension);

	return state.paused || (pp_config_start_paused && state.changed_in != PgStartTime);
}

void
pp_pause(Oid extension)
{
	pp_state_set_paused(extension, true);
	changed = true;
}

/* A target has been paused or resumed: from the commit on the worker knows it. */
void
pp_pause_target_changed(void)
{
	changed = true;
}

/* A target was dropped, or replaced: the same, but for a transaction that is prepared. */
void
pp_pause_target_altered(void)
{
	altered = true;
}

static void
count_target(Oid target, uint64 items, void *arg)
{
	int i = 0;

	while (i < ncounts && counts[i].target != target)
		i++;
	if (i == ncounts)
	{
		if (i == 0)
			counts = MemoryContextAlloc(TopTransactionContext, MIN_COUNTS * sizeof(PpTargetCount));
		else if (i >= MIN_COUNTS && (i & (i - 1)) == 0)
			counts = repalloc(counts, 2 * i * sizeof(PpTargetCount));
		counts[ncounts++] = (PpTargetCount){.target = target};
	}
	counts[i].items += items;
}

/*
 * What came with a copy of another database is written, too.  Returns how many items
 * that are.
 */
uint64
pp_pause_end(Oid extension)
{
	PpSlot *slot = pp_shmem ? pp_slot_find(MyDatabaseId) : NULL;
	uint64 items;

	pp_state_set_paused(extension, false);
	if (adopted == 0)
		ncounts = 0; /* or else this transaction has called us before */
	items = pp_copied_adopt(extension, slot ? pp_ring_view(&slot->ring).journal : 0, count_target,
							NULL);
	changed = true;
	if (items > 0 && pp_shmem) /* or else nobody is to be told, and pause_xact_event() not called */
	{
		adopted = items; /* at once all there are */
		adopted_in = GetCurrentSubTransactionId();
	}

	return items;
}

/* What came with a copy of another database is dropped.  Returns how many items. */
uint64
pp_pause_discard(Oid extension)
{
	changed = true;
	return pp_copied_discard(extension);
}

/* Who has counted before must know of these; who hasn't will see them. */
static void
tell_counts(void)
{
	PpSlot *slot = pp_slot_find(MyDatabaseId);

	for (int i = 0; i < ncounts && slot && pp_counters_are_counted(&slot->counters); i++)
		pp_counters_add(&slot->counters, counts[i].target, counts[i].items);
}

static void
pause_xact_event(XactEvent event, void *arg)
{
	bool known;

	if (!changed && !altered)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			/* it may have lost its slot, or never had one, and have a journal */
			known = pp_slot_pause_changed(MyDatabaseId);
			if (adopted > 0)
			{
				tell_counts();
				known = pp_slot_call_pass(MyDatabaseId, adopted);
			}
			if (!known)
				pp_slot_probe_database(MyDatabaseId);
			pg_fallthrough;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			changed = altered = false;
			adopted = 0;
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (!changed)
				break;
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("cannot PREPARE a transaction that has paused or resumed "
								   "persist_pipeline, or discarded items")));
			break;
		default:
			break;
	}
}

static void
pause_subxact_event(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (adopted == 0 || subid != adopted_in)
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		adopted_in = parent;
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		adopted = 0;
}

/* Called once, while the library is preloaded. */
void
pp_pause_init(void)
{
	RegisterXactCallback(pause_xact_event, NULL);
	RegisterSubXactCallback(pause_subxact_event, NULL);
}
