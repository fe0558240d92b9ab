/*-------------------------------------------------------------------------
 *
 * enqueue_functions.c
 *	  The SQL functions that hand items over: arguments and rights.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "base/config.h"
#include "base/errors.h"
#include "base/extension.h"
#include "base/savepoint.h"
#include "producer/convert.h"
#include "producer/enqueue.h"
#include "producer/target.h"
#include "ring/lease.h"
#include "sql/hand_over.h"
#include "worker/bad_rows.h"
#include "worker/classify.h"

PG_FUNCTION_INFO_V1(persist_enqueue);
PG_FUNCTION_INFO_V1(persist_enqueue_json);
PG_FUNCTION_INFO_V1(persist_enqueue_text);
PG_FUNCTION_INFO_V1(persist_enqueue_record);
PG_FUNCTION_INFO_V1(persist_enqueue_many);

typedef struct Conversion
{
	Oid target;
	Jsonb *object;
	char *text; /* the same, as it has come; NULL: as jsonb */
	PpItem *item;
} Conversion;

static Jsonb *
object_of(Conversion *conversion)
{
	if (conversion->object == NULL)
		conversion->object =
			DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(conversion->text)));
	return conversion->object;
}

static void
convert(void *arg)
{
	Conversion *conversion = arg;
	Jsonb *object = object_of(conversion);

	conversion->item = pp_convert_jsonb(pp_target_get(conversion->target), object);
}

/* NULL: it is an item now; or why it can't be one, which is its own fault. */
static ErrorData *
try_to_convert(Conversion *conversion)
{
	ErrorData *fault = pp_savepoint_run(convert, conversion);

	if (fault && !pp_classify_is_items_fault(fault))
		ReThrowError(fault);
	return fault ? pp_error_shorten(fault) : NULL;
}

/* For a letter; what jsonb cannot hold is a string. */
static Jsonb *
show(const Conversion *conversion)
{
	JsonbValue string = {.type = jbvString};

	if (conversion->object)
		return conversion->object;
	string.val.string.val = conversion->text;
	string.val.string.len = strlen(conversion->text);
	return JsonbValueToJsonb(&string);
}

/* What doesn't fit is found out before who sends it is asked for his rights.  42501. */
static void
check_may_insert(Oid relid)
{
	PpTarget *target = pp_target_get(relid);
	Size bytes = PpBitmapBytes(target->natts);

	pp_target_check_privileges(target, palloc0(bytes + 1), palloc0(bytes + 1));
}

/* Convert the object and hand it over; or make a dead letter of it, where that is wanted. */
static int64
convert_and_hand_over(Oid relid, Jsonb *object, char *text, bool transactional)
{
	PpTarget *target = pp_target_get(relid);
	Conversion conversion = {.target = relid, .object = object, .text = text};
	int flush_interval = target->flush_interval; /* converting may make it anew */
	const PpClaim *claim;
	PpDeadLetter letter;
	ErrorData *fault;

	if (!target->bad_to_dead || !transactional || pp_config_mode != PP_MODE_ASYNC)
		return pp_hand_over(pp_convert_jsonb(target, object_of(&conversion)), transactional,
							flush_interval);

	fault = try_to_convert(&conversion);
	if (fault == NULL)
		return pp_hand_over(conversion.item, true, flush_interval);
	check_may_insert(relid);
	claim = pp_slot_claim();
	letter = (PpDeadLetter){.target = relid,
						.role = GetUserId(),
						.shown = show(&conversion),
						.error = fault,
						.enqueued_at = GetCurrentStatementStartTimestamp(),
						.attempts = 1,
						.depth = pp_enqueue_depth()};
	letter.id = pp_lease_next_id(claim, claim ? claim->extension : pp_extension_get());
	pp_bad_rows_write_refused(claim ? claim->extension : pp_extension_get(), &letter);
	return letter.id;
}

/*
 * persist_enqueue(target regclass, item jsonb, transactional boolean) returns
 * bigint: the id.  See the COMMENT in SQL for the errors.
 */
Datum
persist_enqueue(PG_FUNCTION_ARGS)
{
	pp_error_if_null(fcinfo, 0, "target");
	pp_error_if_null(fcinfo, 1, "item");
	pp_error_if_null(fcinfo, 2, "transactional");
	pp_hand_over_check("persist_enqueue()");

	PG_RETURN_INT64(
		convert_and_hand_over(PG_GETARG_OID(0), PG_GETARG_JSONB_P(1), NULL, PG_GETARG_BOOL(2)));
}

/* persist_enqueue(target oid, item json, transactional boolean) returns bigint. */
Datum
persist_enqueue_json(PG_FUNCTION_ARGS)
{
	pp_error_if_null(fcinfo, 0, "target");
	pp_error_if_null(fcinfo, 1, "item");
	pp_error_if_null(fcinfo, 2, "transactional");
	pp_hand_over_check("persist_enqueue()");

	PG_RETURN_INT64(convert_and_hand_over(
		PG_GETARG_OID(0), NULL, text_to_cstring(PG_GETARG_TEXT_PP(1)), PG_GETARG_BOOL(2)));
}

/* The same with the target's name, and text, for drivers that send varchar, or json. */
Datum
persist_enqueue_text(PG_FUNCTION_ARGS)
{
	RangeVar *name;
	Oid relid;

	pp_error_if_null(fcinfo, 0, "target");
	pp_error_if_null(fcinfo, 1, "item");
	pp_error_if_null(fcinfo, 2, "transactional");
	pp_hand_over_check("persist_enqueue()");

	name = makeRangeVarFromNameList(textToQualifiedNameList(PG_GETARG_TEXT_PP(0)));
	relid = RangeVarGetRelid(name, NoLock, false);

	PG_RETURN_INT64(convert_and_hand_over(relid, NULL, text_to_cstring(PG_GETARG_TEXT_PP(1)),
										  PG_GETARG_BOOL(2)));
}

/* persist_enqueue(item record) returns bigint: a row of a table's own type. */
Datum
persist_enqueue_record(PG_FUNCTION_ARGS)
{
	HeapTupleHeader record;
	PpTarget *target;

	pp_error_if_null(fcinfo, 0, "item");
	pp_hand_over_check("persist_enqueue()");

	record = PG_GETARG_HEAPTUPLEHEADER(0);
	target = pp_target_get_by_row_type(HeapTupleHeaderGetTypeId(record));

	PG_RETURN_INT64(
		pp_hand_over(pp_convert_record(target, record), true, target->flush_interval));
}

/* persist_enqueue_many(target regclass, items jsonb) returns bigint[]: the ids. */
Datum
persist_enqueue_many(PG_FUNCTION_ARGS)
{
	Jsonb *array;
	uint32 n;
	Datum *ids;
	MemoryContext one_item;
	MemoryContext caller = CurrentMemoryContext;

	pp_error_if_null(fcinfo, 0, "target");
	pp_error_if_null(fcinfo, 1, "items");
	pp_hand_over_check("persist_enqueue()");

	array = PG_GETARG_JSONB_P(1);
	if (!JB_ROOT_IS_ARRAY(array) || JB_ROOT_IS_SCALAR(array))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"items\" must be a JSON array of objects")));

	n = JB_ROOT_COUNT(array);
	if (n == 0)
		pp_target_check(PG_GETARG_OID(0)); /* the target is checked even if there are no items */
	ids = palloc(Max(n, 1) * sizeof(Datum));
	one_item = AllocSetContextCreate(caller, "persist_enqueue_many item", ALLOCSET_DEFAULT_SIZES);
	for (uint32 i = 0; i < n; i++)
	{
		JsonbValue *element;

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(one_item);
		element = getIthJsonbValueFromContainer(&array->root, i);
		ids[i] = Int64GetDatum(
			convert_and_hand_over(PG_GETARG_OID(0), JsonbValueToJsonb(element), NULL, true));
		MemoryContextSwitchTo(caller);
		MemoryContextReset(one_item);
	}

	PG_RETURN_ARRAYTYPE_P(
		construct_array(ids, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}
