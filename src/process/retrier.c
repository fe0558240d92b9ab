/*-------------------------------------------------------------------------
 *
 * retrier.c
 *	  The process that tries what is parked; see retrier.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/config.h"
#include "base/faults.h"
#include "base/savepoint.h"
#include "process/process.h"
#include "process/retrier.h"
#include "store/layouts.h"
#include "store/parked_table.h"
#include "worker/bad_rows.h"
#include "worker/classify.h"
#include "worker/hanging.h"
#include "worker/intake_parked.h"
#include "worker/parking.h"
#include "worker/poison.h"
#include "worker/relatives.h"
#include "worker/retry.h"
#include "worker/settle.h"
#include "worker/timer.h"
#include "worker/work_items.h"

#define TABLE_WAIT_MS 200 /* for whoever has locked the table of what is parked */
#define ABSENT_MS 2000	  /* for another database to take the slot */
#define BATCH_LOOK_MS 200 /* for the end of a batch that may be stuck */

static PpSlot *slot;
static bool paused = false;

/* ---- the process ---- */

/* Leave the slot, whatever ended this process. */
static void
detach_retrier(int code, Datum arg)
{
	(void) pp_process_note_end(code);
	pp_sleeper_detach(&slot->retrier.sleeper);
	SpinLockAcquire(&slot->mutex);
	slot->retrier.pid = 0;
	slot->retrier.database = InvalidOid;
	slot->retrier.state = PP_RETRIER_NONE;
	slot->retrier.target = InvalidOid;
	slot->retrier.overdue = slot->retrier.landing = false;
	if (code == 0)
		slot->retrier.starts = 0;
	else
		slot->retry_at = pp_steady_now();
	SpinLockRelease(&slot->mutex);
	pp_shmem_wake_launcher();
	ConditionVariableBroadcast(&slot->settled);
}

/* Is the database paused, or are targets? */
static void
look_for_retrier_pause(void)
{
	paused = pp_process_read_pauses(&slot->retrier.pause_changed);

	SpinLockAcquire(&slot->mutex);
	if (paused && !slot->retrier.pause_changed)
		slot->paused = true;
	SpinLockRelease(&slot->mutex);
}

/* Is it time to go, whatever is due?  Another process goes on. */
static bool
has_to_leave_parked(void)
{
	return ShutdownRequestPending || pp_timer_is_blocked(slot) || paused ||
		   pp_slot_is_paused(slot) || pp_role_transaction_is_spent() ||
		   !OidIsValid(pp_process.claim.extension);
}

static bool
may_retrier_be_paused(void)
{
	return *(volatile bool *) &slot->retrier.pause_changed;
}

static void
sleep_until(PpSteady until)
{
	pp_bad_rows_report_rest();
	pp_shmem_set_retrier_state(slot, PP_RETRIER_WAITING, InvalidOid);
	pgstat_report_activity(STATE_IDLE, NULL);
	pgstat_report_stat(true);
	pp_process_check_interrupts();
	PP_FAULT(retrier_naps);
	(void) pp_sleeper_sleep(&slot->retrier.sleeper, pp_steady_ms_until(until),
							pp_process.wait_event);
	pp_process_check_interrupts();
}

/* Become the slot's retrier; leave at once if that isn't wanted any more. */
static void
take_retrier_slot(int slot_number, Oid database)
{
	slot = pp_shmem_slot(slot_number);
	pp_shmem_am_retrier = true;
	pp_process_attach(slot_number, database, detach_retrier);

	pp_process.wait_event = pp_wait_event("PersistPipelineRetrier");
	pp_process_enter(database, "persist_pipeline retrier");
	if (!OidIsValid(pp_process.claim.extension))
	{
		/* it is gone, and with it what was parked */
		SpinLockAcquire(&slot->mutex);
		slot->retry_at = PP_NEVER;
		SpinLockRelease(&slot->mutex);
		return;
	}
	look_for_retrier_pause();
	while (!pp_retry_load(&pp_process.claim) && !has_to_leave_parked())
	{
		sleep_until(pp_steady_in(TABLE_WAIT_MS));
		MemoryContextReset(pp_process.batch_context);
	}
	pp_settle_init(&pp_process.claim);
	ereport(DEBUG1, (errmsg_internal("persist_pipeline retrier for database \"%s\" started",
									 pp_process.database_name)));
}

/* ---- a try ---- */

/* What is tried at once: of one target, or of several that refer to each other */
typedef struct TriedTogether
{
	PpParked *parked[PP_RELATIVES];
	int n;
	PpParkedWorkItems work_items;
} TriedTogether;

/*
 * Is the relation locked, so that nothing can be inserted?  In a transaction of its own, after
 * which it is known what is paused, and what replaced.
 */
static bool
is_target_locked(Oid target)
{
	bool locked;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	locked = !ConditionalLockRelationOid(pp_layouts_current(target), RowExclusiveLock);
	pp_parking_refresh();
	CommitTransactionCommand();
	MemoryContextSwitchTo(pp_process.batch_context);

	return locked;
}

static ErrorData *
take_parked_items(TriedTogether *together, uint64 max)
{
	PpParkedFrom of[PP_RELATIVES];
	ErrorData *error;
	bool again;

	for (int i = 0; i < together->n; i++)
		of[i] = (PpParkedFrom){.target = together->parked[i]->key.target,
							   .role = together->parked[i]->key.role,
							   .from = together->parked[i]->from};
	do
	{
		again = false;
		error = pp_intake_parked(&pp_process.claim, of, together->n, max, &together->work_items);
		for (int i = 0; i < together->n && error == NULL; i++)
		{
			if (of[i].any || of[i].from == 0)
				continue;
			of[i].from = 0; /* look once more, at all of them */
			again = true;
		}
	} while (again);

	for (int i = together->n - 1; i >= 0 && error == NULL; i--)
	{
		if (of[i].any)
			continue;
		pp_retry_end(together->parked[i]);
		together->parked[i] = together->parked[--together->n];
	}
	return error;
}

/* Their items have no lower pos than the first of these, or the last of them. */
static void
note_positions(const PpParkedWorkItems *work_items, bool done)
{
	for (int i = 0; i < work_items->n; i++)
	{
		const PpWorkItem *work = &work_items->work_items[done ? i : work_items->n - 1 - i];
		PpParked *parked = pp_parking_find(work->target, work->role);

		if (parked == NULL)
			continue;
		parked->from = work->pos;
		parked->part = done ? 0 : work->part;
	}
}

/* Items that are parked again as they are, with something that is noted with them */
typedef struct GracePeriodNote
{
	PpWorkItem *work_items;
	int n;
	PpSteady mismatch_since;
	bool alone;
} GracePeriodNote;

static void
park_again(void *arg)
{
	GracePeriodNote *note = arg;
	uint64 nrows;
	int opened;
	const PpRow **rows =
		pp_work_items_open(&pp_process.claim, note->work_items, note->n, &opened, &nrows);
	PpTable table = pp_parked_table_open(pp_process.claim.extension);

	for (uint64 i = 0; i < nrows; i++)
		pp_parked_table_append(&table, rows[i]->item, note->work_items[0].role, rows[i]->pos,
							   rows[i]->part, rows[i]->parked_at,
							   note->mismatch_since ? pp_steady_to_day(note->mismatch_since) : 0,
							   note->alone);
	pp_table_close(&table);
	pp_work_items_take(&pp_process.claim, note->work_items, note->n);
}

/*
 * The first item is parked again, now with the time since when the target takes none of its
 * items: so the grace period goes on when this process ends.  parked_at doesn't tell that time,
 * since the items may have been parked for another reason first.
 */
static void
note_grace_period(const TriedTogether *together, PpParked *parked)
{
	for (int i = 0; i < together->work_items.n; i++)
	{
		PpWorkItem *work = &together->work_items.work_items[i];

		if (work->target != parked->key.target)
			continue;
		if (pp_savepoint_run_in_transaction(
				park_again, &(GracePeriodNote){.work_items = work,
											   .n = 1,
											   .mismatch_since = parked->mismatch_since,
											   .alone = work->alone}) == NULL)
			pp_retry_note_with(parked, work->pos, work->part);
		return;
	}
}

/* Nothing but single rows is left, which wait by themselves: later ones pass them from now on. */
static void
let_others_pass(TriedTogether *together)
{
	PpParkedWorkItems *work_items = &together->work_items;
	bool are_alone = true;

	for (int i = 0; i < work_items->n; i++)
		are_alone &= work_items->work_items[i].alone;
	if (are_alone || pp_savepoint_run_in_transaction(
						 park_again, &(GracePeriodNote){.work_items = work_items->work_items,
														.n = work_items->n,
														.alone = true}) == NULL)
		together->parked[0]->whole = false;
}

/* Some have landed, or died; the rest is parked as it was. */
static void
advance(TriedTogether *together, PpApply *apply, long spent_ms)
{
	bool is_slow = pp_config_statement_timeout > 0 && 2 * spent_ms > pp_config_statement_timeout;
	bool all = !pp_outcome_counts_parked_more(apply->counts, together->work_items.n);

	for (int i = 0; i < together->n; i++)
	{
		PpParked *parked = together->parked[i];
		bool landed = pp_outcome_counts_of(apply->counts, parked->key.target)->delta.persisted > 0;

		if (all && parked->sqlstate == ERRCODE_LOCK_NOT_AVAILABLE)
			parked->sqlstate = 0; /* what is left hasn't been tried since the lock went */
		pp_retry_advance(parked, landed);
		if (is_slow)
			parked->width = together->work_items.n; /* twice as many would take too long */
		if (apply->timeouts > 0)
		{
			parked->width = apply->width;
			parked->retry_at = pp_steady_in((int64) PP_SPENT_FACTOR * apply->timeouts *
											pp_config_statement_timeout);
		}
		else if (landed)
			pp_hanging_note_written(parked->key.target);
	}
	/* an old snapshot keeps what has been deleted in our way */
	if (all)
		note_positions(&together->work_items, true);
}

static void
back_off_together(TriedTogether *together, int sqlstate, long spent_ms)
{
	for (int i = 0; i < together->n; i++)
	{
		PpParked *parked = together->parked[i];

		pp_retry_back_off(parked, sqlstate, spent_ms);
		if (parked->mismatch_since != 0 && !parked->noted)
			note_grace_period(together, parked);
	}
}

/* Try those again that are parked for a target and role, as many as fit into a batch. */
static void
try_parked(PpParked *first)
{
	PpSteady began = pp_steady_now();
	bool disbelieved = pp_retry_disbelieves(first);
	uint64 max = pp_retry_width(first);
	TriedTogether together = {.parked = {first}, .n = 1};
	PpApply apply = {0};
	PpOutcome outcome;
	ErrorData *error;
	long spent_ms;

	pp_retry_begin(first);
	pp_timer_attempt_began = PP_NEVER; /* here no user's code runs */
	if (pp_timer_cut != PP_CUT_STOP)
		pp_timer_cut = PP_CUT_NONE;
	if (is_target_locked(first->key.target))
	{
		pp_retry_back_off(first, ERRCODE_LOCK_NOT_AVAILABLE, 0);
		return;
	}
	if (!pp_retry_may_be_tried(first)) /* something has been paused, or replaced */
	{
		pp_retry_postpone(first);
		return;
	}
	if (first->sqlstate == ERRCODE_FOREIGN_KEY_VIOLATION)
		pp_relatives_add(together.parked, &together.n);
	error = take_parked_items(&together, max);
	if (error)
	{
		if (!pp_classify_is_transient(error, pp_timer_cut))
			ReThrowError(error);
		if (pp_timer_cut == PP_CUT_NONE)
			back_off_together(&together, error->sqlerrcode, (pp_steady_now() - began) / 1000);
		return;
	}
	if (together.n == 0)
		return;
	if (together.work_items.n == 0)
	{
		for (int i = 0; i < together.n; i++)
		{
			together.parked[i]->waits = true;
			together.parked[i]->retry_at = pp_steady_in(BATCH_LOOK_MS);
		}
		return;
	}
	note_positions(&together.work_items, false);
	if (!pp_retry_may_be_tried(first)) /* its next item is behind another target's */
	{
		pp_retry_postpone(first);
		return;
	}

	for (int i = 0; i < together.n; i++)
	{
		pp_retry_check_noted(together.parked[i]);
		together.parked[i]->trying = true;
	}
	outcome = pp_settle_parked(together.work_items.work_items, together.work_items.n, disbelieved,
							   together.work_items.apart, &apply, &error);
	for (int i = 0; i < together.n; i++)
		together.parked[i]->trying = false;

	if (pp_role_transaction_is_spent())
		pp_retry_postpone(first);
	if (pp_role_transaction_is_spent() || pp_timer_cut == PP_CUT_STOP ||
		pp_timer_cut == PP_CUT_BLOCKED)
		return; /* it is due for the next process */
	spent_ms = (pp_steady_now() - began) / 1000;
	if (outcome == PP_SETTLED || apply.counts->n > 0)
	{
		advance(&together, &apply, spent_ms);
		return;
	}
	for (int i = 0; i < together.n && apply.width > 0; i++)
		together.parked[i]->width = apply.width;
	if (apply.nwaiting > 0 && apply.nclosed == 0 && together.work_items.all && together.n == 1)
		let_others_pass(&together);
	if (pp_poison_is_candidate(together.work_items.work_items[0].pos,
							   together.work_items.work_items[0].part))
		pp_poison_widen();
	back_off_together(&together, error ? error->sqlerrcode : ERRCODE_INTERNAL_ERROR, spent_ms);
}

/* ---- turns ---- */

/* How often persist_flush has asked for those that are parked; each time they are due. */
static uint64
hurry_for_flush(void)
{
	static uint64 hurried = 0;
	uint64 asked;

	SpinLockAcquire(&slot->mutex);
	asked = slot->retries_asked;
	SpinLockRelease(&slot->mutex);
	if (asked != hurried)
	{
		pp_retry_hurry();
		hurried = asked;
	}
	return hurried;
}

/* Nothing is due any more. */
static void
answer_flush(uint64 asked)
{
	SpinLockAcquire(&slot->mutex);
	slot->retries_done = asked;
	SpinLockRelease(&slot->mutex);
	ConditionVariableBroadcast(&slot->settled);
}

/*
 * Nothing is parked, as far as we know: then nothing is counted, and nothing is suspected.
 * A row that was damaged after our first look may be of no target and role that we know, so
 * all are looked at once more.  False: that can't be done now.
 */
static bool
mend_parked_counts(void)
{
	uint64 parks = pp_counters_parks(&slot->counters); /* before the look at the table */

	if (!pp_retry_load(&pp_process.claim))
		return false;
	if (hash_get_num_entries(pp_parking_keys) == 0)
	{
		pp_counters_clear_parked(&slot->counters, parks);
		pp_poison_forget();
	}
	else
		pp_poison_take_over();
	return true;
}

/* One turn of the loop: try what is due, or sleep until something is.  False: nothing will be. */
static bool
take_retry_turn(void)
{
	uint64 asked;
	PpParked *parked;

	MemoryContextReset(pp_process.batch_context);
	MemoryContextSwitchTo(pp_process.batch_context);
	if (!pp_retry_refresh())
	{
		sleep_until(pp_steady_in(TABLE_WAIT_MS));
		return true;
	}
	asked = hurry_for_flush();
	parked = pp_retry_due();
	if (parked == NULL)
	{
		answer_flush(asked);
		if (hash_get_num_entries(pp_parking_keys) == 0 && !mend_parked_counts())
		{
			sleep_until(pp_steady_in(TABLE_WAIT_MS));
			return true;
		}
		PP_FAULT(retrier_leaves);
		if (pp_retry_next() == PP_NEVER)
			return !pp_retry_leave(false, 0);
		if (*(volatile bool *) &slot->retrier.wanted)
			return !pp_retry_leave(false, ABSENT_MS);
		sleep_until(pp_retry_next());
		return true;
	}
	pp_shmem_set_retrier_state(slot, PP_RETRIER_WRITING, parked->key.target);
	pgstat_report_activity(STATE_RUNNING, "writing parked items");
	pp_timer_start();
	try_parked(parked);
	pp_timer_stop();
	pp_process_check_interrupts(); /* its last tick must not hit what comes now */
	pgstat_report_stat(false);
	pp_retry_tell_worker();
	return true;
}

void
pp_retrier_main(Datum slot_number)
{
	Oid database;

	memcpy(&database, MyBgworkerEntry->bgw_extra, sizeof(Oid));
	take_retrier_slot(DatumGetInt32(slot_number), database);
	while (!has_to_leave_parked())
	{
		pp_process_check_interrupts();
		pp_process_reload_settings();
		if (may_retrier_be_paused())
			look_for_retrier_pause();
		else if (!take_retry_turn())
			break;
	}
	if (has_to_leave_parked() && OidIsValid(pp_process.claim.extension))
		(void) pp_retry_leave(true, 0);
	pp_bad_rows_report_rest();
	ereport(DEBUG1, (errmsg_internal("persist_pipeline retrier for database \"%s\" left",
									 pp_process.database_name)));
	pgstat_report_stat(true);
	proc_exit(0);
}
