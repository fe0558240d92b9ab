/*-------------------------------------------------------------------------
 *
 * statement.c
 *	  One INSERT for many rows of one layout; see statement.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/supportnodes.h"
#include "optimizer/optimizer.h"
#include "optimizer/paths.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "port/pg_bitutils.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/item_check.h"
#include "producer/enqueue.h"
#include "worker/identity.h"
#include "worker/row_constraints.h"
#include "worker/statement.h"

/* When there are so many plans, all are dropped, so that memory stays bounded. */
#define MAX_PLANS 512

/* The magnitude of a statement that has its row's values as parameters, and its mark */
#define ALONE UINT32_MAX
#define ALONE_MARK "/* persist_pipeline */"

#define BATCH_FUNCTION PP_BATCH_SCHEMA ".persist_batch"

typedef struct PlanKey
{
	Oid target;
	Oid role; /* rights to a schema are checked by the parser alone */
	uint32 magnitude; /* of the number of rows, which a plan is made for; or ALONE */
	uint32 conflict;  /* the hash of its clause; 0: it has none */
	PpLayout layout;
} PlanKey;

typedef struct KeptPlan
{
	PlanKey key;
	SPIPlanPtr plan; /* NULL: not prepared */
} KeptPlan;

/* The rows that persist_batch() returns, and to whom */
typedef struct Source
{
	int64 token;
	Oid row_type; /* the target's */
	const PpRowMap *map;
	const PpRow **rows;
	uint64 n;
	uint64 first;		 /* its number among the target's rows; 0: the rows are not to be counted */
	bool sent_ahead;	 /* another engine's statement: at which row it is tells nothing */
	Relation check;		 /* the target, if its constraints are checked here; or NULL */
	bool asked;			 /* the statement has, for the rows */
	uint64 begun;		 /* so many of them */
	MemoryContext query; /* of the statement, once it has asked */
	struct Source *outer; /* of the statement whose code runs this one */
} Source;

/* How rows get from items into the function's result */
typedef struct Filling
{
	const PpRowMap *map;
	TupleDesc desc;	   /* of the target */
	ExprState **casts; /* by column of the item; NULL: none is needed */
	ExprContext *econtext;
	Oid *domains; /* the same; InvalidOid: it is none, or the cast sees to it */
	void **domain_checks;
	bool has_domains;
	bool whole; /* the item's tuple is one of the target's */
	TupleTableSlot *slot;
	Datum *values; /* by column of the target */
	bool *nulls;
} Filling;

PpStatementState pp_statement_state;

static HTAB *plans = NULL;
static Source *source = NULL;
static bool in_two_phases = false; /* another engine commits this transaction so, if it can */

PG_FUNCTION_INFO_V1(persist_batch);
PG_FUNCTION_INFO_V1(persist_batch_row);
PG_FUNCTION_INFO_V1(persist_batch_support);

/* ---- the rows ---- */

static Filling
begin_filling(TupleDesc desc, const PpRowMap *map)
{
	Filling filling = {.map = map,
					   .desc = desc,
					   .casts = palloc0((map->n + 1) * sizeof(ExprState *)),
					   .econtext = CreateStandaloneExprContext(),
					   .domains = palloc0((map->n + 1) * sizeof(Oid)),
					   .domain_checks = palloc0((map->n + 1) * sizeof(void *)),
					   .whole = map->is_own && map->n == desc->natts,
					   .slot = MakeSingleTupleTableSlot(map->descriptor, &TTSOpsMinimalTuple),
					   .values = palloc0((desc->natts + 1) * sizeof(Datum)),
					   .nulls = palloc((desc->natts + 1) * sizeof(bool))};

	memset(filling.nulls, true, desc->natts + 1);
	filling.econtext->ecxt_scantuple = filling.slot;
	for (int i = 0; i < map->n; i++)
	{
		Oid type;

		if (map->casts[i])
			filling.casts[i] = ExecInitExpr(expression_planner((Expr *) map->casts[i]), NULL);
		if (map->casts[i] || map->to[i] == 0)
			continue;
		type = TupleDescAttr(desc, map->to[i] - 1)->atttypid;
		if (TupleDescAttr(map->descriptor, i)->atttypid != type)
		{
			filling.domains[i] = type;
			filling.has_domains = true;
		}
	}
	return filling;
}

static void
end_filling(Filling *filling)
{
	ExecDropSingleTupleTableSlot(filling->slot);
	FreeExprContext(filling->econtext, true);
}

/* Constraints of domains may have come since the call. */
static void
check_domains(Filling *filling, MemoryContext context)
{
	MemoryContext caller = MemoryContextSwitchTo(filling->econtext->ecxt_per_tuple_memory);

	for (int i = 0; i < filling->map->n; i++)
	{
		if (OidIsValid(filling->domains[i]))
			domain_check(filling->slot->tts_values[i], filling->slot->tts_isnull[i],
						 filling->domains[i], &filling->domain_checks[i], context);
	}
	MemoryContextSwitchTo(caller);
}

/* XX001 unless the item's tuple is one that the map is for. */
void
pp_statement_check(const PpItem *item, const PpRowMap *map)
{
	if (!pp_item_check_fits(item, map->attributes, map->n))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("an item is damaged"),
						errdetail("Its id is %lld.", (long long) item->id)));
}

/* Read the item: its values are in the slot then. */
static void
read_item(Filling *filling, const PpItem *item, MemoryContext context)
{
	pp_statement_check(item, filling->map);
	ExecStoreMinimalTuple(pp_item_tuple(item), filling->slot, false);
	if (filling->has_domains || !filling->whole)
		slot_getallattrs(filling->slot);
	if (filling->has_domains)
		check_domains(filling, context);
}

/* The values of the target's columns, from those of the item. */
static void
fill_columns(Filling *filling)
{
	const PpRowMap *map = filling->map;

	for (int i = 0; i < map->n; i++)
	{
		int to = map->to[i] - 1;

		if (to < 0)
			continue;
		if (filling->casts[i])
			filling->values[to] = ExecEvalExprSwitchContext(filling->casts[i], filling->econtext,
															&filling->nulls[to]);
		else
		{
			filling->values[to] = filling->slot->tts_values[i];
			filling->nulls[to] = filling->slot->tts_isnull[i];
		}
	}
}

static void
put_row(Filling *filling, PpRowConstraints *constraints, const PpItem *item,
		Tuplestorestate *result, MemoryContext context)
{
	read_item(filling, item, context);
	if (filling->whole)
		tuplestore_puttupleslot(result, filling->slot);
	else
	{
		fill_columns(filling);
		pp_row_constraints_check(constraints, filling->values, filling->nulls);
		tuplestore_putvalues(result, filling->desc, filling->values, filling->nulls);
	}
	ResetExprContext(filling->econtext);
}

/*
 * persist_batch(token bigint, shape anyelement) returns setof anyelement: the rows of the
 * batch that is being inserted, as rows of the target.  Makes a tuplestore at every call,
 * since a rule can make the statement call it more than once.
 */
Datum
persist_batch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext context = fcinfo->flinfo->fn_mcxt;
	PpStatementState before = pp_statement_state;
	Filling filling;
	PpRowConstraints constraints;

	if (rsinfo && IsA(rsinfo, ReturnSetInfo) && rsinfo->expectedDesc == NULL)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("persist_batch() is for the INSERT of the pipeline alone")));
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (source == NULL || PG_ARGISNULL(0) || PG_GETARG_INT64(0) != source->token)
		return (Datum) 0;

	/* the name of a schema can change without a lock */
	if (get_fn_expr_argtype(fcinfo->flinfo, 1) != source->row_type)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("the relation was renamed while it was written to")));

	filling = begin_filling(rsinfo->setDesc, source->map);
	pp_row_constraints_begin(&constraints, source->check);
	filling.whole &= source->check == NULL;
	source->asked = true;
	source->query = context;
	pp_statement_state.in_rows = true;
	pp_statement_state.by_itself = source->check != NULL;
	for (uint64 i = 0; i < source->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		pp_statement_state.row = source->first > 0 ? source->first + i : 0;
		put_row(&filling, &constraints, source->rows[i]->item, rsinfo->setResult, context);
	}
	pp_statement_state = before;
	pp_row_constraints_end(&constraints);
	end_filling(&filling);
	source->begun = 0;

	return (Datum) 0;
}

/*
 * persist_batch_row() returns boolean: true.  The last row is not reported: an error after it
 * may come from an AFTER trigger.
 */
Datum
persist_batch_row(PG_FUNCTION_ARGS)
{
	if (source != NULL)
	{
		source->begun++;
		pp_statement_state.in_rows = true;
		if (source->first > 0 && !source->sent_ahead)
			pp_statement_state.row =
				source->begun < source->n || source->n == 1 ? source->first + source->begun - 1 : 0;
	}
	PG_RETURN_BOOL(true);
}

/*
 * persist_batch_support(internal) returns internal: tells the planner how many rows there are,
 * and that all of them are inserted.  A plan is made when it is first executed, with its rows
 * at hand, and used for so many rows, more or less.
 */
Datum
persist_batch_support(PG_FUNCTION_ARGS)
{
	Node *request = PG_ARGISNULL(0) ? NULL : (Node *) PG_GETARG_POINTER(0);

	if (request && source && IsA(request, SupportRequestRows))
	{
		((SupportRequestRows *) request)->rows = source->n;
		PG_RETURN_POINTER(request);
	}
	if (request && IsA(request, SupportRequestSelectivity))
	{
		((SupportRequestSelectivity *) request)->selectivity = 1;
		PG_RETURN_POINTER(request);
	}
	PG_RETURN_POINTER(NULL);
}

/* Is that the memory of the INSERT which runs, and not of one that its code runs? */
bool
pp_statement_is_within(MemoryContext query)
{
	return source && source->query == query;
}

/* ---- the statement ---- */

/*
 * The INSERT for rows of this layout, with the names as they are now.  conflict: NULL: none.
 * `alone`: for one row, whose values are its parameters.
 */
static char *
compose(Relation rel, const uint8 *carried, const PpOnConflict *conflict, bool alone)
{
	TupleDesc desc = RelationGetDescr(rel);
	const char *target = quote_qualified_identifier(
		get_namespace_name(RelationGetNamespace(rel)), RelationGetRelationName(rel));
	StringInfoData into;
	StringInfoData rows;
	bool overriding = false;
	int n = 0;

	initStringInfo(&into);
	initStringInfo(&rows);
	for (int attnum = 1; attnum <= desc->natts; attnum++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, attnum - 1);
		const char *name = quote_identifier(NameStr(att->attname));
		const char *comma = into.len > 0 ? ", " : "";

		if (!PpBitmapHas(carried, attnum))
			continue;
		appendStringInfo(&into, "%s%s", comma, name);
		if (alone)
			appendStringInfo(&rows, "%s$%d", comma, ++n);
		else
			appendStringInfo(&rows, "%sb.%s", comma, name);

		/* through a view it would let a user's value in */
		if (att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS && rel->rd_rel->relkind != RELKIND_VIEW)
			overriding = true;
	}

	return psprintf(
		"INSERT INTO %s%s%s%s%s%s %s%s", target, conflict ? " AS t" : "", into.len > 0 ? " (" : "",
		into.data, into.len > 0 ? ")" : "", overriding ? " OVERRIDING SYSTEM VALUE" : "",
		!alone ? psprintf("SELECT %s FROM " BATCH_FUNCTION
						  "($1, NULL::%s) AS b WHERE " PP_BATCH_SCHEMA ".persist_batch_row()",
						  rows.data, target)
		: n > 0 ? psprintf("VALUES (%s) " ALONE_MARK, rows.data)
				: "DEFAULT VALUES " ALONE_MARK,
		conflict ? conflict->clause : "");
}

/* Who reads the error has never heard of our statement: without SPI's line about it. */
void
pp_statement_hide_context(ErrorData *error)
{
	static const char *const begin = "SQL statement \"INSERT INTO ";
	char *context = error->context;
	char *last = NULL;

	for (char *line = context; line && (line = strstr(line, begin)) != NULL; line++)
	{
		if ((line == context || line[-1] == '\n') &&
			(strstr(line, BATCH_FUNCTION "($1, NULL::") || strstr(line, ALONE_MARK)))
			last = line;
	}
	if (last == context)
		error->context = NULL;
	else if (last)
		last[-1] = '\0';
}

static CachedPlanSource *
plan_source(SPIPlanPtr plan)
{
	return linitial(SPI_plan_get_plan_sources(plan));
}

static void
forget_plans(void)
{
	HASH_SEQ_STATUS scan;
	KeptPlan *kept;

	hash_seq_init(&scan, plans);
	while ((kept = hash_seq_search(&scan)) != NULL)
	{
		if (kept->plan)
			(void) SPI_freeplan(kept->plan);
	}
	hash_destroy(plans);
	plans = NULL;
}

static KeptPlan *
lookup_plan(const PlanKey *key)
{
	KeptPlan *kept;
	bool found;

	if (plans == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(PlanKey), .entrysize = sizeof(KeptPlan)};

		plans = hash_create("persist_pipeline plans", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	}

	kept = hash_search(plans, key, HASH_ENTER, &found);
	if (!found)
		kept->plan = NULL;
	return kept;
}

/* Analyze the statement as the current user. */
static SPIPlanPtr
analyze(const char *sql, int nparams, Oid *types)
{
	SPIPlanPtr plan = SPI_prepare_cursor(sql, nparams, types, CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not prepare an INSERT: %s", SPI_result_code_string(SPI_result))));
	return plan;
}

/*
 * Would a change of the target invalidate the plan?  Where a rule says DO INSTEAD
 * NOTHING, the plan is empty and depends on nothing: it must not be kept.
 */
static bool
depends_on(SPIPlanPtr plan, Oid target)
{
	return list_member_oid(plan_source(plan)->relationOids, target);
}

/*
 * A plan for this text.  It is kept, unless that would need a plan to be freed
 * that may be running: where a trigger inserts too, in direct mode, plans further
 * up the stack are in use.
 */
static SPIPlanPtr
prepare(const PlanKey *key, const char *sql, int nparams, Oid *types)
{
	bool nested = source->outer != NULL;
	SPIPlanPtr plan;
	KeptPlan *kept;

	if (plans && hash_get_num_entries(plans) >= MAX_PLANS)
	{
		if (nested)
			return analyze(sql, nparams, types);
		forget_plans();
	}

	kept = lookup_plan(key);
	if (kept->plan && strcmp(plan_source(kept->plan)->query_string, sql) == 0 &&
		depends_on(kept->plan, key->target))
		return kept->plan;

	/* new, or a name has changed */
	plan = analyze(sql, nparams, types);
	if ((kept->plan && nested) || !depends_on(plan, key->target))
		return plan;
	if (kept->plan)
		(void) SPI_freeplan(kept->plan);
	kept->plan = NULL;
	if (SPI_keepplan(plan) == 0)
		kept->plan = plan;

	return plan;
}

/*
 * May a rule have taken rows, or all of the statement?  One of the target, or of what is
 * beneath a view.
 */
static bool
has_rules(Relation rel)
{
	Query *query;
	Node *from;
	bool has = false;

	check_stack_depth();
	for (int i = 0; rel->rd_rules && i < rel->rd_rules->numLocks; i++)
	{
		if (rel->rd_rules->rules[i]->event == CMD_INSERT)
			return true;
	}
	if (rel->rd_rel->relkind != RELKIND_VIEW ||
		(rel->trigdesc && rel->trigdesc->trig_insert_instead_row))
		return false;

	query = get_view_query(rel);
	from = query->jointree->fromlist != NIL ? linitial(query->jointree->fromlist) : NULL;
	if (from && IsA(from, RangeTblRef))
	{
		RangeTblEntry *entry = rt_fetch(((RangeTblRef *) from)->rtindex, query->rtable);
		Relation base = entry->rtekind == RTE_RELATION
							? try_relation_open(entry->relid, AccessShareLock)
							: NULL;

		has = base && has_rules(base);
		if (base)
			relation_close(base, AccessShareLock);
	}
	return has;
}

/*
 * May something have passed over a row?  Of what is behind other kinds of relations nobody knows.
 */
static bool
may_skip_rows(Relation rel)
{
	return rel->rd_rel->relkind != RELKIND_RELATION ||
		   (rel->trigdesc && rel->trigdesc->trig_insert_before_row);
}

/* 39P02 if rows have got lost. */
static void
check_rows(Relation rel, const Source *rows, uint64 inserted, bool may_skip)
{
	if (!rows->asked || rows->begun < rows->n)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_SRF_PROTOCOL_VIOLATED),
				 errmsg("an INSERT into relation \"%s\" has not asked for its rows",
						RelationGetRelationName(rel)),
				 errdetail("It has asked for %llu of %llu.", (unsigned long long) rows->begun,
						   (unsigned long long) rows->n)));
	if (inserted < rows->n && !may_skip && !may_skip_rows(rel))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_SRF_PROTOCOL_VIOLATED),
				 errmsg("an INSERT into relation \"%s\" has inserted fewer rows than it was given",
						RelationGetRelationName(rel)),
				 errdetail("It has inserted %llu of %llu.", (unsigned long long) inserted,
						   (unsigned long long) rows->n)));
}

/* Does the server's own executor write the rows? */
static bool
is_servers(const Plan *plan)
{
	ListCell *cell;

	if (!IsA(plan, CustomScan))
		return true;
	foreach (cell, ((const CustomScan *) plan)->custom_plans)
	{
		if (IsA(lfirst(cell), ModifyTable))
			return true;
	}
	return false;
}

/*
 * Is the statement's plan one of another engine's, which writes the rows in its own way?  Then it
 * may need to know the parameter (Citus does), and each execution gets a plan of its own.  Where
 * nobody else has a part in planning, that isn't asked: it takes the plan's locks once more.
 */
static bool
is_engines(SPIPlanPtr plan)
{
	CachedPlanSource *planned = plan_source(plan);
	CachedPlan *cached;
	PlannedStmt *first = NULL;

	if (planner_hook == NULL && set_rel_pathlist_hook == NULL && create_upper_paths_hook == NULL)
		return false;
	if (planned->cursor_options & CURSOR_OPT_CUSTOM_PLAN)
		return true;
	cached = SPI_plan_get_cached_plan(plan);
	if (cached == NULL)
		return false;
	if (cached->stmt_list != NIL)
		first = linitial_node(PlannedStmt, cached->stmt_list);
	if (first && first->planTree && !is_servers(first->planTree))
		planned->cursor_options = CURSOR_OPT_CUSTOM_PLAN;
	ReleaseCachedPlan(cached, planned->is_saved ? CurrentResourceOwner : NULL);
	return (planned->cursor_options & CURSOR_OPT_CUSTOM_PLAN) != 0;
}

/* Returns the number that the statement's command tag has. */
static uint64
run(SPIPlanPtr plan, Datum *values, const char *nulls)
{
	int result = SPI_execute_plan(plan, values, nulls, false, 0);

	if (result < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not execute an INSERT: %s", SPI_result_code_string(result))));
	return result == SPI_OK_INSERT ? SPI_processed : 0;
}

/* An INSERT of the rows at hand */
typedef struct Statement
{
	Relation rel;
	const PpOnConflict *conflict; /* NULL: none */
	PlanKey key;
	SPIPlanPtr plan;
} Statement;

/*
 * Engines commit in two phases what INSERT ... SELECT has written (Citus), and a crash can't have
 * it there and not here; but what has one row, or ON CONFLICT, they may commit before us.  So one
 * of the first kind comes before those of the second; it needs no rows.
 */
static void
begin_two_phases(const Statement *statement)
{
	Oid types[] = {INT8OID};
	Datum token = Int64GetDatum(source->token);
	uint64 n = source->n;
	SPIPlanPtr plan;

	if (in_two_phases || !pp_identity_is_ours())
		return;
	plan = analyze(compose(statement->rel, source->map->carried, NULL, false), lengthof(types),
				   types);
	plan_source(plan)->cursor_options = CURSOR_OPT_CUSTOM_PLAN;
	source->n = 0;
	(void) run(plan, &token, NULL);
	source->n = n;
	in_two_phases = true;
}

/* With the row's values as parameters: so the engine finds out where it goes. */
static uint64
insert_alone(Statement *statement)
{
	TupleDesc desc = RelationGetDescr(statement->rel);
	Filling filling = begin_filling(desc, source->map);
	Oid *types = palloc((desc->natts + 1) * sizeof(Oid));
	Datum *values = palloc((desc->natts + 1) * sizeof(Datum));
	char *nulls = palloc((desc->natts + 1) * sizeof(char));
	int n = 0;
	uint64 inserted;

	filling.whole = false;
	read_item(&filling, source->rows[0]->item, CurrentMemoryContext);
	fill_columns(&filling);
	for (int attnum = 1; attnum <= desc->natts; attnum++)
	{
		if (!PpBitmapHas(source->map->carried, attnum))
			continue;
		types[n] = TupleDescAttr(desc, attnum - 1)->atttypid;
		values[n] = filling.values[attnum - 1];
		nulls[n++] = filling.nulls[attnum - 1] ? 'n' : ' ';
	}
	pp_statement_state.in_rows = true;
	statement->key.magnitude = ALONE;
	statement->plan =
		prepare(&statement->key,
				compose(statement->rel, source->map->carried, statement->conflict, true), n, types);
	inserted = run(statement->plan, values, nulls);
	end_filling(&filling);
	return inserted;
}

/*
 * Are the rows, as the items have them, those that the table's constraints are for?  Another
 * engine's nodes don't say which of many rows they refuse; so what can be known here is.
 */
static bool
is_as_inserted(Relation rel, const PpRowMap *map)
{
	const TupleConstr *constraints = RelationGetDescr(rel)->constr;

	if (constraints == NULL || constraints->has_generated_stored || has_rules(rel) ||
		may_skip_rows(rel))
		return false;
	for (int attnum = 1; attnum <= RelationGetNumberOfAttributes(rel); attnum++)
	{
		if (!TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attisdropped &&
			!PpBitmapHas(map->carried, attnum))
			return false;
	}
	return true;
}

/* Insert the rows at hand. */
static uint64
insert(Statement *statement)
{
	const PpOnConflict *conflict = statement->conflict;
	Oid types[] = {INT8OID};
	Datum token = Int64GetDatum(source->token);
	uint64 inserted;

	statement->plan = prepare(&statement->key,
							  compose(statement->rel, source->map->carried, conflict, false),
							  lengthof(types), types);
	if (is_engines(statement->plan))
	{
		if (source->n == 1 || conflict)
			begin_two_phases(statement);
		if (source->n == 1)
			return insert_alone(statement);
		pp_statement_state.row = 0;
		source->sent_ahead = true;
		source->check = is_as_inserted(statement->rel, source->map) ? statement->rel : NULL;
	}
	inserted = run(statement->plan, &token, NULL);
	if (!has_rules(statement->rel))
		check_rows(statement->rel, source, inserted, conflict && conflict->may_skip);
	return inserted;
}

/* A transaction of the worker's begins. */
void
pp_statement_begin_transaction(void)
{
	in_two_phases = false;
}

/*
 * Insert rows of one layout, as the current user.  The relation is open and locked; a snapshot is
 * active.  conflict: NULL: a row whose key is there is an error.  Returns how many rows the INSERT
 * says to have inserted, or updated.
 *
 * The statement names the target, whose lock we hold; but the name of a schema can change
 * without a lock, so the plan must have come to the right table in the end.
 */
uint64
pp_statement_insert(Relation rel, const PpRowMap *map, const PpOnConflict *conflict,
					const PpRow **rows, uint64 n)
{
	const PpItem *first = rows[0]->item;
	Statement statement = {.rel = rel,
						   .conflict = conflict,
						   .key = {.target = RelationGetRelid(rel),
								   .role = GetUserId(),
								   .magnitude = pg_leftmost_one_pos64(n) / 3,
								   .conflict = conflict ? conflict->hash : 0,
								   .layout = first->layout}};
	Source from = {.row_type = rel->rd_rel->reltype,
				   .map = map,
				   .rows = rows,
				   .n = n,
				   .first = pp_statement_state.row,
				   .outer = source};
	PpInsert outer_insert;
	uint64 volatile inserted = 0;

	if (!pg_strong_random(&from.token, sizeof(from.token)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random number")));

	SPI_connect();
	outer_insert = pp_enqueue_within(
		(PpInsert){.target = statement.key.target, .rows = n, .depth = first->depth});
	source = &from;
	PG_TRY();
	{
		inserted = insert(&statement);
	}
	PG_FINALLY();
	{
		source = from.outer;
		(void) pp_enqueue_within(outer_insert);
	}
	PG_END_TRY();
	/* a rule DO INSTEAD NOTHING leaves nothing to go wrong */
	if (plan_source(statement.plan)->query_list != NIL &&
		!depends_on(statement.plan, statement.key.target))
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("relation with OID %u was renamed while it was written to",
							   statement.key.target)));
	SPI_finish();
	return inserted;
}
