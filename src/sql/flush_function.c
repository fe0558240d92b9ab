/*-------------------------------------------------------------------------
 *
 * flush_function.c
 *	  persist_flush: waits until all that had been handed over is settled; see flush_function.h.
 *
 * Why it returns false it says in NOTICEs.  They name relations that the caller has a right to read
 * or to insert into, or all of them, if he is a member of pg_monitor.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/errors.h"
#include "base/extension.h"
#include "base/reasons.h"
#include "base/table.h"
#include "producer/enqueue.h"
#include "producer/target.h"
#include "ring/slots.h"
#include "sql/flush_function.h"
#include "store/journal.h"
#include "store/layouts.h"
#include "store/parked_table.h"
#include "store/settings.h"

#define MAX_NAMED 5 /* relations, each with a NOTICE of its own */

PG_FUNCTION_INFO_V1(persist_flush);

/* ---- why it returns false ---- */

/* How many items wait, parked ones too? */
static uint64
count_waiting(PpSlot *slot)
{
	PpRingView view = pp_ring_view(&slot->ring);

	return pp_ring_pending(&view) + pp_counters_parked(&slot->counters);
}

/* Why the worker waits, as a sentence; NULL: it does not, or not after an error. */
char *
pp_flush_function_backs_off(PpSlot *slot)
{
	int sqlstate;

	SpinLockAcquire(&slot->mutex);
	sqlstate = slot->worker_state == PP_WORKER_RETRYING ? slot->backs_off_sqlstate : 0;
	SpinLockRelease(&slot->mutex);
	return sqlstate == 0
			   ? NULL
			   : psprintf("The worker has met an error, and tries again: SQLSTATE %s, %s.",
						  unpack_sql_state(sqlstate), pp_reason(sqlstate));
}

/* How much waits, and for what else than the time that it takes. */
static char *
describe_waiting(PpSlot *slot, bool paused)
{
	uint64 n;
	char *wait;
	char *error;

	if (slot == NULL)
		return paused ? "Items wait."
					  : "Items wait for a ring: see \"persist_pipeline.max_databases\".";
	n = count_waiting(slot);
	wait = psprintf(n == 1 ? "%llu item waits." : "%llu items wait.", (unsigned long long) n);
	error = pp_flush_function_backs_off(slot);
	return error ? psprintf("%s %s", wait, error) : wait;
}

/* As shared memory knows it: the time is over, so this must not wait for the lock of a table. */
static bool
is_database_paused(PpSlot *slot)
{
	return slot ? pp_slot_is_paused(slot) : pp_slot_counts(MyDatabaseId).paused;
}

/* Not all is settled: the database is paused, or the time is over. */
static void
say_unsettled(void)
{
	PpSlot *slot = pp_slot_find(MyDatabaseId);
	bool paused = is_database_paused(slot);
	char *waiting = describe_waiting(slot, paused);

	if (paused)
		ereport(NOTICE, (errmsg("database \"%s\" is paused", get_database_name(MyDatabaseId)),
						 errdetail("%s", waiting), errhint("persist_resume() has them written.")));
	else
		ereport(NOTICE, (errmsg("not all was settled before the timeout of persist_flush"),
						 errdetail("%s", waiting)));
}

/* May the caller be told what waits for the relation? */
static bool
may_know(Oid relid)
{
	bool is_missing = false;

	return has_privs_of_role(GetUserId(), ROLE_PG_MONITOR) ||
		   (OidIsValid(relid) && pg_class_aclcheck_ext(relid, GetUserId(), ACL_SELECT | ACL_INSERT,
													   &is_missing) == ACLCHECK_OK);
}

static void
say_target_parked(const PpCounter *entry, List *paused)
{
	char *name = pp_layouts_target_name(pp_extension_oid(), entry->target);
	bool target_paused = list_member_oid(paused, entry->target);

	if (name == NULL)
		name = psprintf("with OID %u", entry->target);
	ereport(
		NOTICE,
		(errmsg_plural("%llu item for relation %s is parked: %s",
					   "%llu items for relation %s are parked: %s", (unsigned long) entry->parked,
					   (unsigned long long) entry->parked, name,
					   pp_reason_parked(entry->sqlstate, target_paused)),
		 target_paused ? errhint("persist_resume(%s) has them written.", quote_literal_cstr(name))
		 : entry->sqlstate != 0 ? errdetail("SQLSTATE %s. They are tried again, in their order.",
											unpack_sql_state(entry->sqlstate))
								: 0));
}

/* What is parked, of the target or, InvalidOid, of any, stays so for the moment. */
static void
say_still_parked(Oid target)
{
	PpSlot *slot = pp_slot_find(MyDatabaseId);
	Oid extension = pp_extension_oid();
	List *paused = pp_layouts_add_replaced(extension, pp_settings_paused(extension));
	List *targets = pp_layouts_add_replaced(extension, list_make1_oid(target));
	PpCounter entries[PP_COUNTER_WAYS + 1];
	uint64 others = 0;
	int named = 0;

	for (int bucket = 0; slot && bucket < PP_COUNTER_BUCKETS; bucket++)
	{
		int n = pp_counters_read(&slot->counters, bucket, entries);

		for (int i = 0; i < n; i++)
		{
			const PpCounter *entry = &entries[i];

			if (entry->parked == 0 ||
				(OidIsValid(target) && !list_member_oid(targets, entry->target)))
				continue;
			if (OidIsValid(entry->target) && named < MAX_NAMED && may_know(entry->target))
			{
				say_target_parked(entry, paused);
				named++;
			}
			else
				others += entry->parked;
		}
	}
	if (others > 0)
		ereport(NOTICE, (errmsg_plural("%llu item for %s is parked", "%llu items for %s are parked",
									   (unsigned long) others, (unsigned long long) others,
									   named > 0 ? "other relations" : "relations of others"),
						 errhint("persist_stats says which, and why, to members of pg_monitor.")));
}

/* `waits`: there are items that a worker has to write. */
static void
say_not_preloaded(bool waits)
{
	ereport(waits ? WARNING : NOTICE,
			(errmsg("%s, since persist_pipeline was not loaded when the server started",
					waits ? "nobody writes the items that wait" : "nothing waits"),
			 errhint("Add persist_pipeline to \"shared_preload_libraries\" and restart the "
					 "server.")));
}

/* ---- persist_flush ---- */

/* When a wait of this length ends; an interval is longer than it looks. */
PpSteady
pp_flush_function_deadline(Interval *timeout)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz end = DatumGetTimestampTz(DirectFunctionCall2(
		timestamptz_pl_interval, TimestampTzGetDatum(now), IntervalPGetDatum(timeout)));

	if (TIMESTAMP_NOT_FINITE(end))
		return TIMESTAMP_IS_NOEND(end) ? PP_NEVER : 0;
	return pp_steady_now() + (end - now);
}

/* How many passes will have ended when all that was diverted then is settled? */
static uint64
passes_needed(const PpRingView *then)
{
	/* one that had begun has what was diverted before it */
	return then->passes + then->pass + then->recovering + then->diverted;
}

typedef enum FlushState
{
	NOT_SETTLED, /* by the deadline, or the database is paused */
	SETTLED,
	RING_MOVED_ON /* it has been given back, or its extension altered */
} FlushState;

/*
 * Ask the worker for everything that had been handed over when the ring looked like that.
 * A ring that has moved on owes nothing any more, least of all the pass with which a new
 * one begins: its next owner's worker may never come.
 */
static FlushState
wait_until_settled(PpSlot *slot, const PpRingView *then, PpSteady deadline)
{
	uint64 passes = passes_needed(then);
	FlushState settled = NOT_SETTLED;

	SpinLockAcquire(&slot->mutex);
	slot->flush_to = Max(slot->flush_to, then->tail);
	slot->flush_passes = Max(slot->flush_passes, passes);
	SpinLockRelease(&slot->mutex);
	pp_shmem_wake_worker(slot);

	ConditionVariablePrepareToSleep(&slot->settled);
	for (;;)
	{
		PpRingView now = pp_ring_view(&slot->ring);
		long ms = pp_steady_ms_until(deadline);

		if (now.generation != then->generation)
			settled = RING_MOVED_ON;
		else if (now.head >= then->tail && now.passes >= now.moved && now.passes >= passes)
			settled = SETTLED;
		if (settled != NOT_SETTLED || ms <= 0 || pp_slot_is_paused(slot))
			break;
		(void) ConditionVariableTimedSleep(&slot->settled, Min(ms, 60 * 1000),
										   pp_wait_event("PersistPipelineFlush"));
	}
	ConditionVariableCancelSleep();

	return settled;
}

/* Does anything wait in the journal now, whatever the transaction sees? */
static bool
has_journal(void)
{
	bool has_rows;

	PushActiveSnapshot(pp_table_snapshot());
	has_rows = pp_journal_has_rows(pp_extension_oid());
	PopActiveSnapshot();
	return has_rows;
}

/* The database's slot, and how its ring looks; NULL: it has none. */
static PpSlot *
look_at_slot(PpRingView *view)
{
	PpSlot *slot;

	/* what was looked at while another had it is not ours */
	do
	{
		slot = pp_slot_find(MyDatabaseId);
		if (slot)
			*view = pp_ring_view(&slot->ring);
	} while (slot && pp_slot_database(slot) != MyDatabaseId);
	return slot;
}

/* All that there is now is settled; false: by the deadline it isn't. */
static bool
flush_all(PpSteady deadline)
{
	PpRingView then;
	PpSlot *slot;
	FlushState settled = RING_MOVED_ON;

	while (settled == RING_MOVED_ON)
	{
		slot = look_at_slot(&then);
		if (slot)
			settled = wait_until_settled(slot, &then, deadline);
		else if (!has_journal() && !pp_slot_is_owed(MyDatabaseId))
			settled = SETTLED; /* without a slot nothing is being written */
		else if (pp_slot_await(deadline, true, pp_wait_event("PersistPipelineFlush")))
			/* nobody has looked into it since the start, or no slot was free; or what is parked
			 * was to be tried later */
			(void) pp_slot_call_pass(MyDatabaseId, 0);
		else
			settled = NOT_SETTLED;
	}
	return settled == SETTLED;
}

/* Does something of these targets, or, NIL, of any, wait that nobody can hurry? */
static bool
is_any_parked(PpSlot *slot, const List *targets)
{
	bool parked = slot && targets == NIL && pp_counters_parked(&slot->counters) > 0;
	ListCell *cell;

	foreach (cell, slot ? targets : NIL)
		parked |= pp_counters_get(&slot->counters, lfirst_oid(cell)).parked > 0;
	if (slot && pp_slot_database(slot) == MyDatabaseId)
		return parked;

	/* it has none, or has lost it */
	PushActiveSnapshot(pp_table_snapshot());
	parked = targets == NIL && pp_parked_table_has_rows(pp_extension_oid(), InvalidOid);
	foreach (cell, targets)
		parked |= pp_parked_table_has_rows(pp_extension_oid(), lfirst_oid(cell));
	PopActiveSnapshot();
	return parked;
}

/* Is all that is parked paused, of these targets or of any? */
static bool
only_paused(PpSlot *slot, const List *targets)
{
	PpCounter entries[PP_COUNTER_WAYS + 1];
	List *paused = pp_settings_paused(pp_extension_oid());

	if (targets != NIL)
		return list_member_oid(paused, linitial_oid(targets));
	paused = pp_layouts_add_replaced(pp_extension_oid(), paused);
	for (int bucket = 0; bucket < PP_COUNTER_BUCKETS; bucket++)
	{
		int n = pp_counters_read(&slot->counters, bucket, entries);

		for (int i = 0; i < n; i++)
		{
			if (entries[i].parked > 0 && !list_member_oid(paused, entries[i].target))
				return false;
		}
	}
	return true;
}

/* Is there no retrier, and none that is being started? */
static bool
is_left_alone(PpSlot *slot)
{
	bool alone;

	SpinLockAcquire(&slot->mutex);
	alone = slot->retrier.refused || slot->retrier.state == PP_RETRIER_STUCK ||
			(slot->retrier.pid == 0 && slot->retry_at == PP_NEVER);
	SpinLockRelease(&slot->mutex);
	return alone || pp_slot_is_paused(slot);
}

/*
 * Has the batch at work committed, and has something parked?  The retrier hears of that, and why, at
 * its end.
 */
static bool
batch_parks(PpSlot *slot)
{
	bool parks;

	SpinLockAcquire(&slot->mutex);
	parks = slot->has_batch && slot->batch_parked_at != 0;
	SpinLockRelease(&slot->mutex);
	return parks;
}

/* Sleep until something of the slot may have changed.  False: there is no time left. */
static bool
sleep_for_settled(PpSlot *slot, PpSteady deadline)
{
	long ms = pp_steady_ms_until(deadline);

	if (ms <= 0)
		return false;
	(void) ConditionVariableTimedSleep(&slot->settled, Min(ms, PP_SLOT_LOOK_MS),
									   pp_wait_event("PersistPipelineFlush"));
	return true;
}

/*
 * Is something still parked, after the retrier has tried what is due, or waits for a lock, that
 * may be gone?  What is paused is not for it to try.
 */
static bool
stays_parked(const List *targets, PpSteady deadline)
{
	PpSlot *slot = pp_slot_find(MyDatabaseId);
	uint64 asked;
	uint64 done = 0;

	/* nobody has looked at it since the start, or it was to be tried later: have it counted */
	if (slot == NULL && is_any_parked(NULL, targets) &&
		pp_slot_await(deadline, false, pp_wait_event("PersistPipelineFlush")))
	{
		(void) pp_slot_call_pass(MyDatabaseId, 0);
		if (!flush_all(deadline))
			return true;
		slot = pp_slot_find(MyDatabaseId);
	}
	if (slot == NULL || !is_any_parked(slot, targets) || only_paused(slot, targets))
		return is_any_parked(slot, targets);

	ConditionVariablePrepareToSleep(&slot->settled);
	while (batch_parks(slot) && sleep_for_settled(slot, deadline))
		;
	SpinLockAcquire(&slot->mutex);
	asked = ++slot->retries_asked;
	slot->retry_at = pp_steady_now();
	SpinLockRelease(&slot->mutex);
	while (done < asked && is_any_parked(slot, targets) && !is_left_alone(slot))
	{
		pp_shmem_wake_retrier(slot);
		if (!sleep_for_settled(slot, deadline))
			break;
		SpinLockAcquire(&slot->mutex);
		done = slot->retries_done;
		SpinLockRelease(&slot->mutex);
	}
	ConditionVariableCancelSleep();
	return is_any_parked(slot, targets);
}

/* The library isn't preloaded: what waits in the tables stays there. */
static bool
has_nothing_to_flush(void)
{
	bool waits = has_journal();

	PushActiveSnapshot(pp_table_snapshot());
	waits |= pp_parked_table_has_rows(pp_extension_oid(), InvalidOid);
	PopActiveSnapshot();
	say_not_preloaded(waits);
	return !waits;
}

/*
 * persist_flush(timeout interval, target regclass) returns boolean.  All items
 * of a database leave its ring in one order, so the flush of one target is that
 * of all that came before its last item.
 */
Datum
persist_flush(PG_FUNCTION_ARGS)
{
	Oid target = PG_ARGISNULL(1) ? InvalidOid : PG_GETARG_OID(1);
	List *targets = NIL;
	PpSteady deadline;

	pp_error_if_null(fcinfo, 0, "timeout");
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()) || pp_enqueue_is_pending() ||
		pp_shmem_am_worker)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("persist_flush cannot run in a transaction that has written or enqueued"),
				 errdetail("It could wait for the worker while the worker waits for its locks."),
				 errhint("Commit first.")));
	PreventCommandDuringRecovery("persist_flush()");
	if (!PG_ARGISNULL(1))
		pp_target_check(target);
	if (pp_shmem == NULL)
		PG_RETURN_BOOL(has_nothing_to_flush());

	deadline = pp_flush_function_deadline(PG_GETARG_INTERVAL_P(0));
	if (!flush_all(deadline))
	{
		say_unsettled();
		PG_RETURN_BOOL(false);
	}
	if (OidIsValid(target))
		targets = pp_layouts_add_replaced(pp_extension_oid(), list_make1_oid(target));
	if (stays_parked(targets, deadline))
	{
		say_still_parked(target);
		PG_RETURN_BOOL(false);
	}

	pp_shmem_flush_settled();
	PG_RETURN_BOOL(true);
}
