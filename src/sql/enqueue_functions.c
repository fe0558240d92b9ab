/*-------------------------------------------------------------------------
 *
 * enqueue_functions.c
 *	  The SQL functions that hand items over, arguments and rights, and the trigger function that
 *	  does; see enqueue_functions.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/primnodes.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"
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
#include "sql/enqueue_functions.h"
#include "worker/bad_rows.h"
#include "worker/batch.h"
#include "worker/classify.h"
#include "worker/statement.h"

PG_FUNCTION_INFO_V1(persist_enqueue);
PG_FUNCTION_INFO_V1(persist_enqueue_json);
PG_FUNCTION_INFO_V1(persist_enqueue_text);
PG_FUNCTION_INFO_V1(persist_enqueue_record);
PG_FUNCTION_INFO_V1(persist_enqueue_many);
PG_FUNCTION_INFO_V1(persist_enqueue_trigger);

/* ---- to the worker, or into the target ---- */

/*
 * Before a call looks at its arguments.  Errors: 25006 read-only transaction or recovery; 55000
 * mode is "reject", or there is no worker that could write the item.
 */
void
pp_enqueue_functions_check(const char *function)
{
	pp_extension_check_writable(function);

	if (pp_config_mode == PP_MODE_REJECT)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("persist_pipeline does not accept items"),
						errdetail("\"persist_pipeline.mode\" is \"reject\".")));
	if (pp_config_mode == PP_MODE_ASYNC && pp_shmem && !IsUnderPostmaster)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("persist_pipeline has no worker in single-user mode"),
						errhint("Set \"persist_pipeline.mode\" to \"direct\".")));
	if (pp_config_mode == PP_MODE_ASYNC && pp_shmem == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("persist_pipeline was not loaded when the server started"),
				 errhint("Add persist_pipeline to \"shared_preload_libraries\" and restart the "
						 "server, or set \"persist_pipeline.mode\" to \"direct\".")));
}

/* Insert the item here and now, as the caller. */
static int64
insert_directly(PpItem *item)
{
	PpRow row = {.item = item};
	const PpRow *rows[] = {&row};
	PpTargetRows group = {.target = item->target, .rows = rows, .n = 1};
	const PpClaim *claim = pp_shmem ? pp_slot_claimed() : NULL;

	item->id = pp_lease_next_id(claim, claim ? claim->extension : pp_extension_get());
	(void) pp_batch_insert(&group);
	return item->id;
}

/*
 * The item goes to the worker, or, in mode "direct", into its target.  flush_interval: of that, as
 * for pp_enqueue().  Returns its id.  Errors: those of pp_enqueue(), or of the INSERT.
 */
int64
pp_enqueue_functions_hand_over(PpItem *item, bool transactional, int flush_interval)
{
	if (pp_config_mode == PP_MODE_DIRECT)
		return insert_directly(item);
	return pp_enqueue(item, transactional, flush_interval);
}

/* ---- persist_enqueue and its like ---- */

typedef struct EnqueueConversion
{
	Oid target;
	Jsonb *object;
	char *text; /* the same, as it has come; NULL: as jsonb */
	PpItem *item;
} EnqueueConversion;

static Jsonb *
object_of(EnqueueConversion *conversion)
{
	if (conversion->object == NULL)
		conversion->object =
			DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(conversion->text)));
	return conversion->object;
}

static void
convert_object(void *arg)
{
	EnqueueConversion *conversion = arg;
	Jsonb *object = object_of(conversion);

	conversion->item = pp_convert_jsonb(pp_target_get(conversion->target), object);
}

/* NULL: it is an item now; or why it can't be one, which is its own fault. */
static ErrorData *
try_to_convert(EnqueueConversion *conversion)
{
	ErrorData *fault = pp_savepoint_run(convert_object, conversion);

	if (fault && !pp_classify_is_items_fault(fault))
		ReThrowError(fault);
	return fault ? pp_error_shorten(fault) : NULL;
}

/* For a letter; what jsonb cannot hold is a string. */
static Jsonb *
object_for_letter(const EnqueueConversion *conversion)
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
	EnqueueConversion conversion = {.target = relid, .object = object, .text = text};
	int flush_interval = target->flush_interval; /* converting may make it anew */
	const PpClaim *claim;
	PpDeadLetter letter;
	ErrorData *fault;

	if (!target->bad_to_dead || !transactional || pp_config_mode != PP_MODE_ASYNC)
		return pp_enqueue_functions_hand_over(pp_convert_jsonb(target, object_of(&conversion)),
											  transactional, flush_interval);

	fault = try_to_convert(&conversion);
	if (fault == NULL)
		return pp_enqueue_functions_hand_over(conversion.item, true, flush_interval);
	check_may_insert(relid);
	claim = pp_slot_claim();
	letter = (PpDeadLetter){.target = relid,
							.role = GetUserId(),
							.shown = object_for_letter(&conversion),
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
	pp_enqueue_functions_check("persist_enqueue()");

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
	pp_enqueue_functions_check("persist_enqueue()");

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
	pp_enqueue_functions_check("persist_enqueue()");

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
	pp_enqueue_functions_check("persist_enqueue()");

	record = PG_GETARG_HEAPTUPLEHEADER(0);
	target = pp_target_get_by_row_type(HeapTupleHeaderGetTypeId(record));

	PG_RETURN_INT64(pp_enqueue_functions_hand_over(pp_convert_record(target, record), true,
												   target->flush_interval));
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
	pp_enqueue_functions_check("persist_enqueue()");

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

/*
 * ---- persist_enqueue_trigger ----
 *
 * Rows of INSERT and COPY are handed over, and the client needs to know nothing of it.
 *
 * BEFORE INSERT on a table: the row is handed over, and the INSERT passes over it.  The INSERT of
 * a batch comes by here, too, and goes through: it is told by its memory (statement.h), so that
 * what other triggers of the same batch insert into the table becomes items of its own.
 *
 * INSTEAD OF INSERT on a view: the row is handed over for the table beneath, and counts as
 * inserted.  What has been decided of it (ids, defaults) goes back to the statement, for RETURNING.
 */

/* Where rows of this relation go; it is found out once a statement, in whose memory it is */
typedef struct TriggerRoute
{
	Oid target;
	TupleConversionMap *map; /* of a partition's rows; NULL: they are as the target's */
	AttrNumber *columns;	 /* of a view: by its columns, those of the target; 0: an expression */
} TriggerRoute;

/* 39P01 unless it is one of the two kinds that we are for. */
static TriggerData *
check_trigger(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(data->tg_event) || TRIGGER_FIRED_AFTER(data->tg_event))
		ereport(
			ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("persist_enqueue_trigger() is for INSERT alone, before each row of a table "
					"or instead of each row of a view"),
			 CALLED_AS_TRIGGER(fcinfo)
				 ? errdetail("Trigger \"%s\" of relation \"%s\" is another one.",
							 data->tg_trigger->tgname, RelationGetRelationName(data->tg_relation))
				 : errdetail("It was not called by a trigger."),
			 errhint("CREATE TRIGGER enqueue BEFORE INSERT ON my_table FOR EACH ROW EXECUTE "
					 "FUNCTION persist_enqueue_trigger(), or INSTEAD OF INSERT ON my_view.")));
	return data;
}

/* Whose trigger is this?  Those of partitions are copies of that of a partitioned table. */
static Oid
origin_of(Oid trigger, Oid relid)
{
	Relation triggers = table_open(TriggerRelationId, AccessShareLock);

	while (OidIsValid(trigger))
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple tuple;

		ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(trigger));
		scan = systable_beginscan(triggers, TriggerOidIndexId, true, NULL, 1, &key);
		trigger = InvalidOid;
		tuple = systable_getnext(scan);
		if (HeapTupleIsValid(tuple))
		{
			Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

			relid = form->tgrelid;
			trigger = form->tgparentid;
		}
		systable_endscan(scan);
	}
	table_close(triggers, AccessShareLock);
	return relid;
}

static void
route_table(TriggerRoute *route, const TriggerData *data)
{
	Relation rel = data->tg_relation;
	Relation origin;

	route->target = RelationGetRelid(rel);
	if (data->tg_trigger->tgisclone)
		route->target = origin_of(data->tg_trigger->tgoid, route->target);
	if (route->target == RelationGetRelid(rel))
		return;
	origin = table_open(route->target, AccessShareLock);
	route->map = convert_tuples_by_name(CreateTupleDescCopy(RelationGetDescr(rel)),
										CreateTupleDescCopy(RelationGetDescr(origin)));
	table_close(origin, NoLock);
}

static void
refuse_view(Relation view, const char *detail)
{
	ereport(
		ERROR,
		(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		 errmsg("cannot enqueue what is inserted into view \"%s\"", RelationGetRelationName(view)),
		 errdetail_internal("%s", detail),
		 errhint("Let the view be SELECT columns FROM one table, or enqueue the rows with a "
				 "trigger that calls persist_enqueue().")));
}

/* 0A000 unless the view would take INSERT without a trigger, too: then its rows are one table's. */
static void
route_view(TriggerRoute *route, Relation view)
{
	Query *query = get_view_query(view);
	const char *why_not = view_query_is_auto_updatable(query, true);
	int index;
	ListCell *cell;

	if (why_not)
		refuse_view(view, _(why_not));
	if (RelationHasCheckOption(view))
		refuse_view(view, "It has a CHECK OPTION, which nobody checks where a trigger inserts.");

	index = linitial_node(RangeTblRef, query->jointree->fromlist)->rtindex;
	route->target = rt_fetch(index, query->rtable)->relid;
	route->columns = palloc0(sizeof(AttrNumber) * RelationGetNumberOfAttributes(view));
	foreach (cell, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);
		Var *var = (Var *) entry->expr;

		if (entry->resjunk || !IsA(var, Var) || (int) var->varno != index || var->varattno <= 0)
			continue;
		for (int i = 0; i < entry->resno - 1; i++)
		{
			if (route->columns[i] == var->varattno)
				refuse_view(view, psprintf("It has column \"%s\" twice.",
										   get_attname(route->target, var->varattno, false)));
		}
		route->columns[entry->resno - 1] = var->varattno;
	}
}

static const TriggerRoute *
route_of(FunctionCallInfo fcinfo, const TriggerData *data)
{
	MemoryContext caller;
	TriggerRoute *route;

	if (fcinfo->flinfo->fn_extra)
		return fcinfo->flinfo->fn_extra;
	caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	route = palloc0(sizeof(TriggerRoute));
	if (TRIGGER_FIRED_INSTEAD(data->tg_event))
		route_view(route, data->tg_relation);
	else
		route_table(route, data);
	MemoryContextSwitchTo(caller);
	fcinfo->flinfo->fn_extra = route;
	return route;
}

/* Hand the row over; no row for the INSERT, unless it isn't ours to take. */
static HeapTuple
before_insert(FunctionCallInfo fcinfo, const TriggerData *data)
{
	HeapTuple row = data->tg_trigtuple;
	const TriggerRoute *route;
	PpTarget *target;

	if (pp_config_mode == PP_MODE_DIRECT || pp_statement_is_within(fcinfo->flinfo->fn_mcxt))
		return row;
	pp_enqueue_functions_check("persist_enqueue_trigger()");

	route = route_of(fcinfo, data);
	if (route->map)
		row = execute_attr_map_tuple(row, route->map);
	target = pp_target_get(route->target);
	(void) pp_enqueue_functions_hand_over(pp_convert_tuple(target, row), true,
										  target->flush_interval);
	return NULL;
}

/* Hand the row over; it comes back as it will be in the table, as far as that is decided. */
static HeapTuple
instead_of_insert(FunctionCallInfo fcinfo, const TriggerData *data)
{
	TupleDesc desc = RelationGetDescr(data->tg_relation);
	Datum *values = palloc(sizeof(Datum) * desc->natts);
	bool *nulls = palloc(sizeof(bool) * desc->natts);
	const TriggerRoute *route;
	PpTarget *target;
	Datum *row;
	bool *absent;
	int flush_interval;

	/* what was accepted for the view itself is written in any mode */
	if (!pp_statement_is_within(fcinfo->flinfo->fn_mcxt))
		pp_enqueue_functions_check("persist_enqueue_trigger()");

	route = route_of(fcinfo, data);
	target = pp_target_get(route->target);
	row = palloc0(sizeof(Datum) * target->natts);
	absent = palloc(sizeof(bool) * target->natts);
	memset(absent, true, target->natts);

	heap_deform_tuple(data->tg_trigtuple, desc, values, nulls);
	for (int i = 0; i < desc->natts; i++)
	{
		if (nulls[i])
			continue;
		if (route->columns[i] == 0)
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("cannot insert into column \"%s\" of view \"%s\"",
								   NameStr(TupleDescAttr(desc, i)->attname),
								   RelationGetRelationName(data->tg_relation)),
							errdetail("It is not a column of table \"%s\".", target->name)));
		row[route->columns[i] - 1] = values[i];
		absent[route->columns[i] - 1] = false;
	}
	flush_interval = target->flush_interval; /* deciding the row may make it anew */
	(void) pp_enqueue_functions_hand_over(pp_convert_values(target, row, absent), true,
										  flush_interval);

	for (int i = 0; i < desc->natts; i++)
	{
		if (route->columns[i] == 0)
			continue;
		values[i] = row[route->columns[i] - 1];
		nulls[i] = absent[route->columns[i] - 1];
	}
	return heap_form_tuple(desc, values, nulls);
}

/* persist_enqueue_trigger() returns trigger.  See the COMMENT in SQL for the errors. */
Datum
persist_enqueue_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *data = check_trigger(fcinfo);

	PG_RETURN_POINTER(TRIGGER_FIRED_INSTEAD(data->tg_event) ? instead_of_insert(fcinfo, data)
															: before_insert(fcinfo, data));
}
