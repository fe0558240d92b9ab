/*-------------------------------------------------------------------------
 *
 * parked_functions.c
 *	  The SQL functions on parked items; see parked_functions.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "base/array.h"
#include "base/compat.h"
#include "base/errors.h"
#include "base/extension.h"
#include "base/faults.h"
#include "ring/slots.h"
#include "sql/item_rights.h"
#include "sql/parked_functions.h"
#include "sql/parked_why.h"
#include "store/parked_table.h"
#include "worker/outcome_counts.h"

PG_FUNCTION_INFO_V1(persist_discard_parked);
PG_FUNCTION_INFO_V1(persist_parked_why);

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

static void
note_gone(const PpOutcomeCounts *counts)
{
	for (int i = 0; i < counts->n; i++)
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

static void
xact_event(XactEvent event, void *arg)
{
	if (ngone == 0)
		return;
	if (event == XACT_EVENT_COMMIT)
		tell_slot();
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		forget_gone();
	else if (event == XACT_EVENT_PRE_PREPARE)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot PREPARE a transaction that has discarded parked items")));
}

static void
subxact_event(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
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
	RegisterXactCallback(xact_event, NULL);
	RegisterSubXactCallback(subxact_event, NULL);
}

/* ---- ids ---- */

static int
compare_ids(const void *a, const void *b)
{
	int64 left = *(const int64 *) a;
	int64 right = *(const int64 *) b;

	return left < right ? -1 : left > right;
}

/* Those that argument 0 has, sorted. */
static int64 *
get_ids(FunctionCallInfo fcinfo, int *n)
{
	Datum *elements;
	bool *nulls;
	int nelements;
	int64 *ids;

	pp_error_if_null(fcinfo, 0, "ids");
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, &nulls, &nelements);
	ids = palloc(Max(nelements, 1) * sizeof(int64));
	*n = 0;
	for (int i = 0; i < nelements; i++)
	{
		if (!nulls[i])
			ids[(*n)++] = DatumGetInt64(elements[i]);
	}
	qsort(ids, *n, sizeof(int64), compare_ids);
	return ids;
}

/* ---- persist_discard_parked ---- */

typedef struct Discard
{
	PpTable parked;
	const int64 *ids;
	int nids;
	PpOutcomeCounts counts;
	uint64 items;
} Discard;

static void
count_discarded(Discard *discard, const PpParkedRow *row)
{
	PpTargetOutcome *outcome = pp_outcome_counts_of(&discard->counts, row->target);

	outcome->parked -= row->header.items;
	outcome->parked_bytes -= row->length;
	outcome->delta.discarded += row->header.items;
	discard->items += row->header.items;
}

/*
 * Delete the rows of these ids that are there now.  False: one was not there any more when
 * we came to it.  Its item has been settled, or put back as it is.
 */
static bool
discard_rows(Discard *discard)
{
	bool all = true;
	HeapTuple tuple;

	PushActiveSnapshot(GetLatestSnapshot());
	pp_table_scan(&discard->parked, GetActiveSnapshot(), 0, NULL);
	while ((tuple = pp_table_next(&discard->parked)) != NULL)
	{
		int64 id = pp_parked_table_id(&discard->parked, tuple);
		PpParkedRow row;

		if (bsearch(&id, discard->ids, discard->nids, sizeof(int64), compare_ids) == NULL)
			continue;
		row = pp_parked_table_row(&discard->parked, tuple);
		if (row.damaged)
			continue; /* the retrier puts it aside */
		pp_item_rights_check_owner(row.target, id);
		PP_FAULT(discards_parked);
		if (pp_table_delete(&discard->parked, &tuple->t_self, true))
			count_discarded(discard, &row);
		else
			all = false;
	}
	pp_table_end_scan(&discard->parked);
	PopActiveSnapshot();
	CommandCounterIncrement(); /* the next scan doesn't see what we have deleted */
	return all;
}

/* persist_discard_parked(ids bigint[]) returns bigint: how many are gone at the commit. */
Datum
persist_discard_parked(PG_FUNCTION_ARGS)
{
	Discard discard = {.nids = 0};
	Oid extension = pp_extension_get();

	pp_extension_check_writable("persist_discard_parked()");
	discard.ids = get_ids(fcinfo, &discard.nids);
	discard.parked = pp_parked_table_open(extension);
	while (!discard_rows(&discard))
		CHECK_FOR_INTERRUPTS();
	pp_table_close(&discard.parked);
	note_gone(&discard.counts);
	pp_outcome_counts_write(&discard.counts, extension);

	PG_RETURN_INT64(discard.items);
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
		PpParkedWhy why = pp_parked_why(PG_GETARG_OID(0), PG_GETARG_OID(1));

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
