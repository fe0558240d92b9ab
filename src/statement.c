/*-------------------------------------------------------------------------
 *
 * statement.c
 *	  One INSERT for many rows of one shape; see statement.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/portal.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "statement.h"

/* Plans are dropped all together when there are so many: nothing grows for ever. */
#define MAX_PLANS 512

typedef struct PlanKey
{
	Oid target;
	Oid role;			/* rights to a schema are checked by the parser alone */
	uint64 fingerprint; /* of the columns, by number and type */
} PlanKey;

typedef struct KeptPlan
{
	PlanKey key;
	CachedPlanSource *source; /* NULL: not prepared */
} KeptPlan;

/* The rows that persist_batch() returns, and to whom */
typedef struct Source
{
	const char *sql; /* the statement's text, by address */
	TupleDesc descriptor;
	const PpRow **rows;
	uint64 n;
	uint64 first; /* its number in the share; 0: the rows are not to be counted */
	uint64 begun; /* so many of them */
} Source;

PpBatchState pp_batch_state;

static HTAB *plans = NULL;
static Source *source = NULL;

PG_FUNCTION_INFO_V1(persist_batch);
PG_FUNCTION_INFO_V1(persist_batch_row);

/*
 * persist_batch() returns setof record: the rows of the batch that is being
 * inserted.  Makes a tuplestore at every call, since a rule can make the
 * statement call it more than once.
 */
Datum
persist_batch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	EState *estate;
	TupleTableSlot *slot;
	bool ours;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);

	estate = rsinfo->econtext->ecxt_estate;
	ours = source != NULL && estate != NULL && estate->es_sourceText == source->sql;
	if (!ours)
		return (Datum) 0;

	/* the real one: the executor compares it with what the caller expects */
	rsinfo->setDesc = CreateTupleDescCopy(source->descriptor);

	slot = MakeSingleTupleTableSlot(source->descriptor, &TTSOpsMinimalTuple);
	for (uint64 i = 0; i < source->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(pp_item_tuple(source->rows[i]->item), slot, false);
		tuplestore_puttupleslot(rsinfo->setResult, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	source->begun = 0;

	return (Datum) 0;
}

/*
 * persist_batch_row() returns boolean: true.  Of the last row nothing is told: after it
 * come the triggers that wait for the end of the statement.
 */
Datum
persist_batch_row(PG_FUNCTION_ARGS)
{
	if (source != NULL)
	{
		source->begun++;
		pp_batch_state.in_rows = true;
		if (source->first > 0)
			pp_batch_state.row =
				source->begun < source->n || source->n == 1 ? source->first + source->begun - 1 : 0;
	}
	PG_RETURN_BOOL(true);
}

/* The SQL name of a type, whatever search_path and type modifier say. */
static char *
type_name(Oid type)
{
	return format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

/*
 * The descriptor of tuples without columns: a column that nobody selects, since
 * SQL has no column definition list of none.
 */
static TupleDesc
no_columns(void)
{
	TupleDesc desc = CreateTemplateTupleDesc(1);

	TupleDescInitEntry(desc, 1, "none", BOOLOID, -1, 0);
	pp_tupdesc_finalize(desc);
	return desc;
}

/* The INSERT for rows of this shape, by the names as they are now. */
static char *
compose(Relation rel, const uint8 *carried, TupleDesc desc)
{
	Oid schema = pp_extension_schema(get_extension_oid("persist_pipeline", false));
	TupleDesc rel_desc = RelationGetDescr(rel);
	StringInfoData into;
	StringInfoData select;
	StringInfoData columns;
	bool overriding = false;
	int n = 0;

	initStringInfo(&into);
	initStringInfo(&select);
	initStringInfo(&columns);
	for (int attnum = 1; attnum <= rel_desc->natts; attnum++)
	{
		Form_pg_attribute att = TupleDescAttr(rel_desc, attnum - 1);
		const char *comma = n > 0 ? ", " : "";

		if (!PpBitmapHas(carried, attnum))
			continue;
		n++;
		appendStringInfo(&into, "%s%s", comma, quote_identifier(NameStr(att->attname)));
		appendStringInfo(&select, "%sb.c%d", comma, n);
		appendStringInfo(&columns, "%sc%d %s", comma, n,
						 type_name(TupleDescAttr(desc, n - 1)->atttypid));

		/* through a view it would let a user's value in */
		if (att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS && rel->rd_rel->relkind != RELKIND_VIEW)
			overriding = true;
	}

	return psprintf(
		"INSERT INTO %s%s%s%s%s SELECT %s FROM %s AS b (%s) WHERE %s",
		quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
								   RelationGetRelationName(rel)),
		n > 0 ? " (" : "", into.data, n > 0 ? ")" : "",
		overriding ? " OVERRIDING SYSTEM VALUE" : "", select.data,
		psprintf("%s()", quote_qualified_identifier(get_namespace_name(schema), "persist_batch")),
		n > 0 ? columns.data : "c1 pg_catalog.bool",
		psprintf("%s()",
				 quote_qualified_identifier(get_namespace_name(schema), "persist_batch_row")));
}

static void
forget_plans(void)
{
	HASH_SEQ_STATUS scan;
	KeptPlan *plan;

	hash_seq_init(&scan, plans);
	while ((plan = hash_seq_search(&scan)) != NULL)
	{
		if (plan->source)
			DropCachedPlan(plan->source);
	}
	hash_destroy(plans);
	plans = NULL;
}

static KeptPlan *
lookup_plan(const PlanKey *key)
{
	KeptPlan *plan;
	bool found;

	if (plans == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(PlanKey), .entrysize = sizeof(KeptPlan)};

		plans = hash_create("persist_pipeline plans", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	}

	plan = hash_search(plans, key, HASH_ENTER, &found);
	if (!found)
		plan->source = NULL;
	return plan;
}

/*
 * Name the types of the column definition list by their OIDs.  By name the role
 * would need USAGE on their schemas, which an INSERT doesn't need.
 */
static void
set_types(RawStmt *raw, TupleDesc desc)
{
	InsertStmt *insert = castNode(InsertStmt, raw->stmt);
	SelectStmt *select = castNode(SelectStmt, insert->selectStmt);
	RangeFunction *function = linitial_node(RangeFunction, select->fromClause);

	for (int i = 0; i < desc->natts; i++)
	{
		ColumnDef *column = list_nth_node(ColumnDef, function->coldeflist, i);

		column->typeName = makeTypeNameFromOid(TupleDescAttr(desc, i)->atttypid, -1);
	}
}

/* Analyze the statement as the current user. */
static CachedPlanSource *
analyze(const char *sql, TupleDesc desc)
{
	RawStmt *raw = linitial_node(RawStmt, raw_parser(sql, RAW_PARSE_DEFAULT));
	CachedPlanSource *plan;

	set_types(raw, desc);
	plan = CreateCachedPlan(raw, sql, CMDTAG_INSERT);
	CompleteCachedPlan(plan,
					   pg_analyze_and_rewrite_fixedparams(raw, plan->query_string, NULL, 0, NULL),
					   NULL, NULL, 0, NULL, NULL, 0, false);

	return plan;
}

/*
 * Would a change of the target invalidate the plan?  Where a rule says DO INSTEAD
 * NOTHING, the plan is empty and depends on nothing: it must not be kept.
 */
static bool
depends_on(CachedPlanSource *plan, Oid target)
{
	return list_member_oid(plan->relationOids, target);
}

/*
 * A plan for this text.  It is kept, unless that would need a plan to be freed
 * that may be running: where a trigger inserts too, in direct mode, plans further
 * up the stack are in use.
 */
static CachedPlanSource *
prepare(const PlanKey *key, const char *sql, TupleDesc desc)
{
	bool nested = source != NULL;
	CachedPlanSource *plan;
	KeptPlan *kept;

	if (plans && hash_get_num_entries(plans) >= MAX_PLANS)
	{
		if (nested)
			return analyze(sql, desc);
		forget_plans();
	}

	kept = lookup_plan(key);
	if (kept->source && strcmp(kept->source->query_string, sql) == 0 &&
		depends_on(kept->source, key->target))
		return kept->source;

	/* new, or a name has changed */
	plan = analyze(sql, desc);
	if ((kept->source && nested) || !depends_on(plan, key->target))
		return plan;
	if (kept->source)
		DropCachedPlan(kept->source);
	SaveCachedPlan(plan);
	kept->source = plan;

	return plan;
}

/* Returns the number that the statement's command tag has. */
static uint64
run(CachedPlanSource *plan)
{
	Portal portal = CreateNewPortal();
	CachedPlan *ready = GetCachedPlan(plan, NULL, NULL, NULL);
	QueryCompletion completion;

	portal->visible = false;
	PortalDefineQuery(portal, NULL, plan->query_string, CMDTAG_INSERT, ready->stmt_list, ready);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	InitializeQueryCompletion(&completion);
	pp_portal_run(portal, &completion);
	PortalDrop(portal, false);

	return completion.commandTag == CMDTAG_INSERT ? completion.nprocessed : 0;
}

/*
 * Run the plan with these rows.  Its statement names the target, whose lock we
 * hold; but the name of a schema can change without a lock, so the plan must have
 * come to the right table in the end.
 */
static uint64
execute(CachedPlanSource *plan, Source *rows, Oid target)
{
	Source *outer = source;
	uint64 volatile inserted = 0;

	rows->sql = plan->query_string;
	source = rows;
	PG_TRY();
	{
		inserted = run(plan);
	}
	PG_FINALLY();
	{
		source = outer;
	}
	PG_END_TRY();

	/* a rule DO INSTEAD NOTHING leaves nothing to go wrong */
	if (plan->query_list != NIL && !depends_on(plan, target))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("relation with OID %u was renamed while it was written to", target)));
	if (!plan->is_saved)
		DropCachedPlan(plan);
	return inserted;
}

/* The carried columns as a bitmap of all columns that the relation has now. */
static uint8 *
widen(const PpItem *item, int natts)
{
	uint8 *carried = palloc0(PpBitmapBytes(natts) + 1);

	memcpy(carried, pp_item_carried(item), PpBitmapBytes(item->natts));
	return carried;
}

/*
 * Insert rows of one shape, which fits the relation, as the current user.  The
 * relation is open and locked; a snapshot is active.  Returns how many rows the INSERT
 * says to have inserted.
 */
uint64
pp_statement_insert(Relation rel, const PpRow **rows, uint64 n)
{
	const PpItem *first = rows[0]->item;
	PlanKey key = {.target = first->target, .role = GetUserId(), .fingerprint = first->fingerprint};
	int natts = RelationGetDescr(rel)->natts;
	uint8 *carried = widen(first, natts);
	Source from = {.rows = rows, .n = n, .first = pp_batch_state.row};
	char *sql;

	from.descriptor = pp_item_descriptor(RelationGetDescr(rel), carried, natts);
	sql = compose(rel, carried, from.descriptor);
	if (from.descriptor->natts == 0)
		from.descriptor = no_columns();

	return execute(prepare(&key, sql, from.descriptor), &from, first->target);
}
