/*-------------------------------------------------------------------------
 *
 * enqueue_trigger.c
 *	  persist_enqueue_trigger(): rows of INSERT and COPY are handed over, and the client needs
 *	  to know nothing of it.
 *
 * BEFORE INSERT on a table: the row is handed over, and the INSERT passes over it.  The INSERT of
 * a batch comes by here, too, and goes through: it is told by its memory (statement.h), so that
 * what other triggers of the same batch insert into the table becomes items of its own.
 *
 * INSTEAD OF INSERT on a view: the row is handed over for the table beneath, and counts as
 * inserted.  What has been decided of it (ids, defaults) goes back to the statement, for RETURNING.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tupconvert.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "nodes/primnodes.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/config.h"
#include "producer/convert.h"
#include "producer/enqueue.h"
#include "producer/target.h"
#include "sql/hand_over.h"
#include "worker/statement.h"

/* Where rows of this relation go; it is found out once a statement, in whose memory it is */
typedef struct Route
{
	Oid target;
	TupleConversionMap *map; /* of a partition's rows; NULL: they are as the target's */
	AttrNumber *columns;	 /* of a view: by its columns, those of the target; 0: an expression */
} Route;

PG_FUNCTION_INFO_V1(persist_enqueue_trigger);

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
route_table(Route *route, const TriggerData *data)
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
route_view(Route *route, Relation view)
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

static const Route *
route_of(FunctionCallInfo fcinfo, const TriggerData *data)
{
	MemoryContext caller;
	Route *route;

	if (fcinfo->flinfo->fn_extra)
		return fcinfo->flinfo->fn_extra;
	caller = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	route = palloc0(sizeof(Route));
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
	const Route *route;
	PpTarget *target;

	if (pp_config_mode == PP_MODE_DIRECT || pp_statement_is_within(fcinfo->flinfo->fn_mcxt))
		return row;
	pp_hand_over_check("persist_enqueue_trigger()");

	route = route_of(fcinfo, data);
	if (route->map)
		row = execute_attr_map_tuple(row, route->map);
	target = pp_target_get(route->target);
	(void) pp_hand_over(pp_convert_tuple(target, row), true, target->flush_interval);
	return NULL;
}

/* Hand the row over; it comes back as it will be in the table, as far as that is decided. */
static HeapTuple
instead_of_insert(FunctionCallInfo fcinfo, const TriggerData *data)
{
	TupleDesc desc = RelationGetDescr(data->tg_relation);
	Datum *values = palloc(sizeof(Datum) * desc->natts);
	bool *nulls = palloc(sizeof(bool) * desc->natts);
	const Route *route;
	PpTarget *target;
	Datum *row;
	bool *absent;
	int flush_interval;

	/* what was accepted for the view itself is written in any mode */
	if (!pp_statement_is_within(fcinfo->flinfo->fn_mcxt))
		pp_hand_over_check("persist_enqueue_trigger()");

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
	(void) pp_hand_over(pp_convert_values(target, row, absent), true, flush_interval);

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
