/*-------------------------------------------------------------------------
 *
 * parked_functions.c
 *	  The SQL functions on parked items; see parked_functions.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/array.h"
#include "base/compat.h"
#include "base/config.h"
#include "base/errors.h"
#include "base/extension.h"
#include "base/faults.h"
#include "base/ids.h"
#include "base/item_check.h"
#include "base/reasons.h"
#include "base/savepoint.h"
#include "ring/slots.h"
#include "sql/item_rights.h"
#include "sql/parked_functions.h"
#include "sql/run_as.h"
#include "store/dead_letters.h"
#include "store/layouts.h"
#include "store/parked_table.h"
#include "store/pause.h"
#include "store/settings.h"
#include "worker/bad_rows.h"
#include "worker/outcome_counts.h"
#include "worker/row_map.h"

PG_FUNCTION_INFO_V1(persist_discard_parked);
PG_FUNCTION_INFO_V1(persist_parked_to_dead);
PG_FUNCTION_INFO_V1(persist_parked_why);
PG_FUNCTION_INFO_V1(persist_update_parked);

/* ---- why something is parked ---- */

/* What the retrier has noted of its tries; all zero: nothing, so far. */
static PpRetry
get_retry(PpSlot *slot, Oid target, Oid role)
{
	PpRetry retry = {0};

	SpinLockAcquire(&slot->mutex);
	for (int i = 0; i < slot->nretries; i++)
	{
		if (slot->retries[i].target == target && slot->retries[i].role == role)
			retry = slot->retries[i];
	}
	SpinLockRelease(&slot->mutex);
	return retry;
}

PpParkedWhy
pp_parked_functions_why(Oid target, Oid role)
{
	PpSlot *slot = pp_shmem ? pp_slot_find(MyDatabaseId) : NULL;
	Oid extension = pp_extension_oid();
	PpRetry retry = slot ? get_retry(slot, target, role) : (PpRetry){0};
	bool target_paused = pp_settings_get(extension, pp_layouts_current(target)).paused;
	PpParkedWhy why = {.sqlstate = retry.sqlstate,
					   .paused = target_paused || pp_pause_is_on(extension)};

	if (target_paused)
		why.sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE; /* as in parking.h */
	else if (slot && why.sqlstate == 0)
		why.sqlstate = pp_counters_get(&slot->counters, target).sqlstate;
	why.sentence = why.paused && !target_paused ? "the database is paused"
												: pp_reason_parked(why.sqlstate, target_paused);
	if (why.paused)
		return why;
	why.tries = retry.failures;
	why.next_try =
		retry.retry_at != 0 && retry.retry_at != PP_NEVER ? pp_steady_to_day(retry.retry_at) : 0;
	return why;
}

/* ---- what the commit tells ---- */

/* Items that are parked no more, once the subtransaction has committed */
typedef struct Gone
{
	Oid target;
	int64 items;
	int64 bytes;
	SubTransactionId in;
} Gone;

/* Of the current transaction, and in its memory */
static Gone *gone = NULL;
static int ngone = 0;
static int max_gone = 0;

/* Where the library isn't preloaded nothing is counted, and nothing told. */
static void
note_gone(const PpOutcomeCounts *counts)
{
	for (int i = 0; pp_shmem && i < counts->n; i++)
	{
		PP_ARRAY_GROW_IN(TopTransactionContext, gone, ngone, max_gone);
		gone[ngone++] = (Gone){.target = counts->of[i].delta.target,
							   .items = counts->of[i].parked,
							   .bytes = counts->of[i].parked_bytes,
							   .in = GetCurrentSubTransactionId()};
	}
}

/* The slot counts them no longer; and where nothing else is parked, there is no reason. */
static void
tell_slot(void)
{
	PpSlot *slot = pp_slot_find(MyDatabaseId);

	if (slot == NULL || !pp_counters_are_counted(&slot->counters))
		return;
	for (int i = 0; i < ngone; i++)
	{
		pp_counters_park(&slot->counters, gone[i].target, gone[i].items, gone[i].bytes);
		if (pp_counters_get(&slot->counters, gone[i].target).parked == 0)
			pp_counters_set_reason(&slot->counters, gone[i].target, 0);
	}
	ConditionVariableBroadcast(&slot->settled); /* a flush may wait for them */
}

static void
forget_gone(void)
{
	gone = NULL;
	ngone = max_gone = 0;
}

/* The array goes with the transaction, also where a rollback to a savepoint has emptied it. */
static void
parked_xact_event(XactEvent event, void *arg)
{
	if (gone == NULL)
		return;
	if (event == XACT_EVENT_COMMIT)
		tell_slot();
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		forget_gone();
	else if (event == XACT_EVENT_PRE_PREPARE && ngone > 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot PREPARE a transaction that has discarded parked items, or made dead "
					"letters of them")));
}

static void
parked_subxact_event(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	while (event == SUBXACT_EVENT_ABORT_SUB && ngone > 0 && gone[ngone - 1].in == subid)
		ngone--;
	for (int i = ngone - 1; i >= 0 && gone[i].in == subid; i--)
		gone[i].in = parent;
}

/* Called once, while the library is preloaded. */
void
pp_parked_functions_init(void)
{
	RegisterXactCallback(parked_xact_event, NULL);
	RegisterSubXactCallback(parked_subxact_event, NULL);
}

/* ---- persist_discard_parked, persist_parked_to_dead ---- */

typedef struct ParkedDeed
{
	Oid extension;
	const int64 *ids; /* sorted */
	int nids;
	bool to_dead;
	PpTable parked;
	PpOutcomeCounts counts;
	uint64 items;

	/* the item whose rows are being taken, if it is to become a dead letter */
	MemoryContext context; /* of one letter */
	PpJournals journals;
	PpRecord record;
	PpRowHeader header;
	PpParkedRow *rows; /* from its first one on */
	int nrows;
	int max_rows;
} ParkedDeed;

/* For pp_run_as() and pp_savepoint_run() */
typedef struct ParkedShowing
{
	const PpItem *item;
	Jsonb *shown;
} ParkedShowing;

static void
show_parked(void *arg)
{
	ParkedShowing *showing = arg;
	Relation rel = try_relation_open(showing->item->target, AccessShareLock);

	showing->shown = pp_row_map_show(rel, showing->item);
	if (rel)
		relation_close(rel, AccessShareLock);
}

typedef struct ShowingAs
{
	ParkedShowing showing;
	Oid role;
} ShowingAs;

static void
show_as(void *arg)
{
	pp_run_as(((ShowingAs *) arg)->role, show_parked, &((ShowingAs *) arg)->showing);
}

/* The item's values as JSON, read with the rights of its role; NULL: that can't be done. */
static Jsonb *
try_to_show_parked(const PpItem *item, Oid role)
{
	ShowingAs showing = {.showing.item = item, .role = role};
	ErrorData *error;

	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)))
		return NULL;
	error = pp_savepoint_run(show_as, &showing);
	if (error && ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
		ReThrowError(error); /* that says nothing of the values */
	return error ? NULL : showing.showing.shown;
}

/* 53400 if there are too many letters, or too many of the role. */
static void
check_room(const ParkedDeed *deed, PpSlot *slot, const PpItem *item, Oid role)
{
	PpClaim claim = {.slot = slot, .extension = deed->extension};

	if (pp_bad_rows_room(&claim, role, 1) > 0)
		return;
	ereport(
		ERROR,
		(errcode(PP_DEAD_LETTERS_FULL),
		 errmsg("parked item %lld cannot become a dead letter", (long long) item->id),
		 errdetail("\"persist_pipeline.dead_letter_limit\" is %d, of which a role may have %d %%: "
				   "\"persist_pipeline.role_quota\".",
				   pp_config_dead_letter_limit, pp_config_role_quota),
		 errhint("Call persist_requeue() or persist_discard().")));
}

/* All rows of the item have been read, and deleted. */
static void
write_letter_of_parked(ParkedDeed *deed)
{
	const PpParkedRow *first = &deed->rows[0];
	PpSlot *slot = pp_shmem ? pp_slot_find(MyDatabaseId) : NULL;
	const PpItem *item = (const PpItem *) deed->record.bytes;
	const PpCommitPosition *position;
	PpParkedWhy why = pp_parked_functions_why(first->target, first->role);
	PpTable letters;

	if (!pp_item_check_is_sound(item, deed->record.length))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a parked item is damaged"),
						errhint("Discard it.")));
	check_room(deed, slot, item, first->role);
	position = pp_item_commit_position(item);
	letters = pp_dead_letters_open(deed->extension);
	pp_dead_letter_put(
		&letters,
		&(PpDeadLetter){.id = item->id,
						.target = item->target,
						.role = first->role,
						.shown = try_to_show_parked(item, first->role),
						.error = pp_error(why.sqlstate ? why.sqlstate
													   : ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
										  psprintf("it was parked: %s", why.sentence)),
						.enqueued_at = item->enqueued_at,
						.attempts = Min(item->attempts, PG_UINT16_MAX - 1) + 1,
						.depth = item->depth,
						.pos = position ? position->pos : first->pos,
						.part = position ? position->part : first->part,
						.item = item});
	pp_table_close(&letters);
	pp_bad_rows_charge_dead_letter(first->role);
}

static void
count_parked_row(ParkedDeed *deed, const PpParkedRow *row)
{
	PpTargetOutcome *outcome = pp_outcome_counts_of(&deed->counts, row->target);

	outcome->parked -= row->header.items;
	outcome->parked_bytes -= row->length;
	if (deed->to_dead)
		outcome->delta.dead += row->header.items;
	else
		outcome->delta.discarded += row->header.items;
	deed->items += row->header.items;
}

/* Take a row away.  False: it was not there any more. */
static bool
take_row(ParkedDeed *deed, const PpParkedRow *row)
{
	ItemPointerData tid;

	ItemPointerSet(&tid, row->ref.block, row->ref.offset);
	if (!pp_table_delete(&deed->parked, &tid, true))
		return false;
	count_parked_row(deed, row);
	return true;
}

/* Is it the first row of an item, or the next one of the item at hand? */
static bool
fits_among_letters(ParkedDeed *deed, const PpParkedRow *row)
{
	const PpParkedRow *previous = deed->nrows > 0 ? &deed->rows[deed->nrows - 1] : NULL;

	return row->header.items > 0 ||
		   (previous && row->pos == previous->pos && row->part == previous->part + 1);
}

/* Read a row of the item at hand, or of the next one.  False: it is gone. */
static bool
read_row_to_bury(ParkedDeed *deed, const PpParkedRow *row)
{
	if (row->header.items > 0)
	{
		MemoryContextReset(deed->context);
		deed->record = (PpRecord){0};
		deed->header = (PpRowHeader){0};
		deed->rows = NULL;
		deed->nrows = deed->max_rows = 0;
	}
	PP_ARRAY_GROW_IN(deed->context, deed->rows, deed->nrows, deed->max_rows);
	deed->rows[deed->nrows++] = *row;
	return pp_journals_have(&deed->journals, &row->ref) &&
		   pp_journal_read(&deed->journals, &row->ref, row->pos, &deed->record, &deed->header) !=
			   PP_ROW_GONE;
}

/*
 * A row of an item that is to become a dead letter: its rows are taken together, when all have been
 * read.  One that lacks a row, since that is damaged, stays.  False: a row was not there any more.
 */
static bool
bury_row(ParkedDeed *deed, const PpParkedRow *row)
{
	MemoryContext caller = MemoryContextSwitchTo(deed->context);
	bool fitting = fits_among_letters(deed, row);
	bool all = !fitting || read_row_to_bury(deed, row);

	MemoryContextSwitchTo(caller);
	if (!fitting || !all || row->header.continues)
		return all;
	for (int i = 0; i < deed->nrows && all; i++)
		all = take_row(deed, &deed->rows[i]);
	deed->nrows = 0;
	if (!all)
		return false;
	MemoryContextSwitchTo(deed->context);
	write_letter_of_parked(deed);
	MemoryContextSwitchTo(caller);
	return true;
}

/*
 * Take the rows of these ids that are there now.  False: one was not there any more when
 * we came to it.  Its item has been settled, or put back as it is.
 */
static bool
take_rows(ParkedDeed *deed)
{
	bool all = true;
	HeapTuple tuple;

	PushActiveSnapshot(GetLatestSnapshot());
	if (deed->to_dead)
		pp_journals_open_parked(deed->extension, RowExclusiveLock, &deed->journals);
	pp_table_scan(&deed->parked, GetActiveSnapshot(), 0, NULL);
	while ((tuple = pp_table_next(&deed->parked)) != NULL)
	{
		int64 id = pp_parked_table_id(&deed->parked, tuple);
		PpParkedRow row;

		if (bsearch(&id, deed->ids, deed->nids, sizeof(int64), pp_ids_compare) == NULL)
			continue;
		row = pp_parked_table_row(&deed->parked, tuple);
		if (row.damaged)
			continue; /* the retrier puts it aside */
		pp_item_rights_check_owner(row.target, id);
		PP_FAULT(discards_parked);
		all &= deed->to_dead ? bury_row(deed, &row) : take_row(deed, &row);
	}
	pp_table_end_scan(&deed->parked);
	pp_journals_close(&deed->journals, NoLock);
	deed->journals = (PpJournals){0};
	PopActiveSnapshot();
	CommandCounterIncrement(); /* the next scan doesn't see what we have deleted */
	return all;
}

/* Do it to the items that argument 0 names; how many. */
static uint64
do_to_parked(FunctionCallInfo fcinfo, bool to_dead)
{
	ParkedDeed deed = {.extension = pp_extension_get(), .to_dead = to_dead};
	int64 *ids;

	pp_error_if_null(fcinfo, 0, "ids");
	ids = pp_ids_of_array(PG_GETARG_ARRAYTYPE_P(0), &deed.nids);
	qsort(ids, deed.nids, sizeof(int64), pp_ids_compare);
	deed.ids = ids;
	deed.parked = pp_parked_table_open(deed.extension);
	if (to_dead)
	{
		pp_parked_table_in_order(&deed.parked); /* the rows of an item, one after the other */
		deed.context = AllocSetContextCreate(CurrentMemoryContext, "persist_pipeline letter",
											 ALLOCSET_DEFAULT_SIZES);
	}
	while (!take_rows(&deed))
		CHECK_FOR_INTERRUPTS();
	pp_table_close(&deed.parked);
	note_gone(&deed.counts);
	pp_outcome_counts_write(&deed.counts, deed.extension);
	return deed.items;
}

/* persist_discard_parked(ids bigint[]) returns bigint: how many are gone at the commit. */
Datum
persist_discard_parked(PG_FUNCTION_ARGS)
{
	pp_extension_check_writable("persist_discard_parked()");
	PG_RETURN_INT64(do_to_parked(fcinfo, false));
}

/* persist_parked_to_dead(ids bigint[]) returns bigint: how many are dead letters at the commit. */
Datum
persist_parked_to_dead(PG_FUNCTION_ARGS)
{
	pp_extension_check_writable("persist_parked_to_dead()");
	PG_RETURN_INT64(do_to_parked(fcinfo, true));
}

/* ---- persist_parked_why ---- */

/* persist_parked_why(target oid, role oid) returns record: for the view persist_parked. */
Datum
persist_parked_why(PG_FUNCTION_ARGS)
{
	Datum values[4] = {0};
	bool nulls[4] = {true, true, true, true};
	TupleDesc desc;

	pp_error_if_null(fcinfo, 0, "target");
	pp_error_if_null(fcinfo, 1, "role");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (pp_item_rights_to_know(PG_GETARG_OID(0), NULL, PG_GETARG_OID(1), NULL) ||
		has_privs_of_role(GetUserId(), ROLE_PG_MONITOR))
	{
		PpParkedWhy why = pp_parked_functions_why(PG_GETARG_OID(0), PG_GETARG_OID(1));

		nulls[0] = why.sqlstate == 0;
		values[0] = CStringGetTextDatum(unpack_sql_state(why.sqlstate));
		nulls[1] = false;
		values[1] = CStringGetTextDatum(why.sentence);
		nulls[2] = why.tries == 0;
		values[2] = Int32GetDatum(why.tries);
		nulls[3] = why.next_try == 0;
		values[3] = TimestampTzGetDatum(why.next_try);
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* ---- persist_update_parked ---- */

/*
 * persist_update_parked() returns void: by the script that updates the extension from 1.0, which
 * has altered the table, and so locked it.
 */
Datum
persist_update_parked(PG_FUNCTION_ARGS)
{
	pp_parked_table_rewrite(pp_extension_oid());

	PG_RETURN_VOID();
}
