/*-------------------------------------------------------------------------
 *
 * target.c
 *	  Knows what a relation accepts, and from whom; see target.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/item.h"
#include "producer/target.h"
#include "store/settings.h"

typedef struct KnownTarget
{
	Oid relid;		  /* hash key */
	PpTarget *target; /* NULL: not known */
} KnownTarget;

static HTAB *known_targets = NULL;
static PpTarget *in_use = NULL;	 /* the innermost conversion's */
static uint64 target_invalidations = 0; /* so far ... */
static uint64 rights = 0;		 /* ... and those of roles and functions */

/*
 * Invalidation of a relation: a target, a base of views, or a composite type inside targets.
 * Only flags are set, since conversions may be running up the stack.
 */
static void
invalidate_targets(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	KnownTarget *entry;

	target_invalidations++;
	for (PpTarget *target = in_use; target; target = target->next)
	{
		if (target->composites != NIL &&
			(!OidIsValid(relid) || list_member_oid(target->composites, relid)))
			target->types_changed = true;
	}
	hash_seq_init(&scan, known_targets);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->target == NULL)
			continue;
		if (!OidIsValid(relid) || entry->relid == relid ||
			list_member_oid(entry->target->composites, relid) ||
			list_member_oid(entry->target->bases, relid))
			entry->target->valid = false;
	}
}

/* A role, what it is a member of, or a function: who may execute what? */
static void
rights_changed(Datum arg, int cache, uint32 hash)
{
	rights++;
}

static KnownTarget *
find_known_target(Oid relid)
{
	KnownTarget *entry;
	bool found;

	if (known_targets == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(KnownTarget)};

		known_targets = hash_create("persist_pipeline targets", 32, &ctl, HASH_ELEM | HASH_BLOBS);
		CacheRegisterRelcacheCallback(invalidate_targets, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHOID, rights_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, rights_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(PROCOID, rights_changed, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, rights_changed, (Datum) 0);
	}

	entry = hash_search(known_targets, &relid, HASH_ENTER, &found);
	if (!found)
		entry->target = NULL;

	return entry;
}

static void
free_expression(void *expression)
{
	FreeCachedExpression((CachedExpression *) expression);
}

/* A conversion that is running up the stack frees what it uses itself. */
static void
forget_target(KnownTarget *entry)
{
	PpTarget *target = entry->target;

	entry->target = NULL;
	if (target == NULL)
		return;
	if (target->users > 0)
		target->forgotten = true;
	else
		MemoryContextDelete(target->context);
}

/* What has changed, or gone, is made anew if it is asked for: many relations never are. */
static void
forget_changed_targets(void)
{
	HASH_SEQ_STATUS scan;
	KnownTarget *entry;

	hash_seq_init(&scan, known_targets);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->target && entry->target->valid)
			continue;
		forget_target(entry);
		(void) hash_search(known_targets, &entry->relid, HASH_REMOVE, NULL);
	}
}

/*
 * Can the entry be used?  Not while a conversion is using it, that is, where a
 * default enqueues into the same target: expressions can't be evaluated twice at
 * a time.
 */
static bool
is_target_current(PpTarget *target)
{
	if (target == NULL || !target->valid || target->users > 0)
		return false;
	for (int i = 0; i < target->natts; i++)
	{
		PpColumn *column = &target->columns[i];

		if (column->default_expression && !column->default_expression->is_valid)
			return false;
	}
	return true;
}

static void
refuse_target(Relation rel, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot enqueue into \"%s\"", RelationGetRelationName(rel)),
			 errdetail("\"%s\" is %s.", RelationGetRelationName(rel), what), errhint("%s", hint)));
}

/* ERRCODE_WRONG_OBJECT_TYPE unless rows of the relation can be enqueued. */
static void
check_target_kind(Relation rel)
{
	static const char *const hint =
		"Items go into tables, partitioned tables, foreign tables, and views that take INSERT.";

	switch (rel->rd_rel->relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_FOREIGN_TABLE:
		case RELKIND_VIEW:
			break;
		case RELKIND_SEQUENCE:
			refuse_target(rel, "a sequence", hint);
			break;
		case RELKIND_MATVIEW:
			refuse_target(rel, "a materialized view", hint);
			break;
		case RELKIND_INDEX:
		case RELKIND_PARTITIONED_INDEX:
			refuse_target(rel, "an index", hint);
			break;
		case RELKIND_COMPOSITE_TYPE:
			refuse_target(rel, "a composite type", hint);
			break;
		default:
			refuse_target(rel, "not a table", hint);
	}

	if (IsCatalogRelation(rel) || IsToastRelation(rel) ||
		IsCatalogNamespace(RelationGetNamespace(rel)))
		refuse_target(rel, "a system catalog", hint);
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		refuse_target(rel, "temporary",
					  "Another process inserts the items, and can't see temporary objects.");
	if ((relation_is_updatable(RelationGetRelid(rel), NIL, true, NULL) & (1 << CMD_INSERT)) == 0)
		refuse_target(rel, "a relation that does not take INSERT",
					  "For a view, provide an INSTEAD OF INSERT trigger or an unconditional "
					  "ON INSERT DO INSTEAD rule.");
}

/* Can a value be given for this column?  Only views have some that can't. */
static bool
is_insertable(Relation rel, AttrNumber attnum)
{
	Bitmapset *column;

	if (rel->rd_rel->relkind != RELKIND_VIEW)
		return true;
	column = bms_make_singleton(attnum - FirstLowInvalidHeapAttributeNumber);
	return (relation_is_updatable(RelationGetRelid(rel), NIL, true, column) & (1 << CMD_INSERT)) !=
		   0;
}

/* Does somebody else's code stand between an INSERT and the view's base table? */
static bool
has_instead(Relation view)
{
	if (view->trigdesc && view->trigdesc->trig_insert_instead_row)
		return true;
	for (int i = 0; view->rd_rules && i < view->rd_rules->numLocks; i++)
	{
		RewriteRule *rule = view->rd_rules->rules[i];

		if (rule->event == CMD_INSERT && rule->isInstead)
			return true;
	}
	return false;
}

/* Is the column generated or identity-always, in the end, if it is a view's? */
static void
find_generated(PpTarget *target, Oid relid, AttrNumber attnum, PpColumn *column)
{
	Relation rel;

	check_stack_depth();
	target->bases = list_append_unique_oid(target->bases, relid);
	rel = relation_open(relid, AccessShareLock);
	if (rel->rd_rel->relkind != RELKIND_VIEW)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attnum - 1);

		column->generated = att->attgenerated != '\0';
		column->identity_always = att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS;
	}
	else if (!has_instead(rel))
	{
		Query *query = get_view_query(rel);
		TargetEntry *entry = get_tle_by_resno(query->targetList, attnum);
		Var *var = entry && IsA(entry->expr, Var) ? (Var *) entry->expr : NULL;

		if (var && var->varattno > 0 &&
			rt_fetch(var->varno, query->rtable)->rtekind == RTE_RELATION)
			find_generated(target, rt_fetch(var->varno, query->rtable)->relid, var->varattno,
						   column);
	}
	relation_close(rel, AccessShareLock);
}

/*
 * What an INSERT that omits the column would put there, or NULL where that is
 * nothing: a plain NULL, or, in a view, whatever its base table says.
 */
static Node *
default_expression(Relation rel, Form_pg_attribute att)
{
	Node *expression = build_column_default(rel, att->attnum);
	Oid base;
	int32 base_typmod = att->atttypmod;

	if (expression != NULL || rel->rd_rel->relkind == RELKIND_VIEW)
		return expression;

	/* a domain may refuse the NULL: find out at the call */
	base = getBaseTypeAndTypmod(att->atttypid, &base_typmod);
	if (base == att->atttypid)
		return NULL;
	return coerce_to_domain((Node *) makeNullConst(base, base_typmod, att->attcollation), base,
							base_typmod, att->atttypid, COERCION_IMPLICIT, COERCE_IMPLICIT_CAST, -1,
							false);
}

/*
 * Prepare jsonb_populate_record for rows with this one column.  One column at a
 * time, so that an error can name it.
 */
static void
prepare_populate(PpColumn *column, Form_pg_attribute att, MemoryContext context)
{
	Datum value = (Datum) 0;
	bool null = true;
	Node *row;

	column->row_descriptor = CreateTemplateTupleDesc(1);
	TupleDescInitEntry(column->row_descriptor, 1, NameStr(att->attname), att->atttypid,
					   att->atttypmod, att->attndims);
	TupleDescInitEntryCollation(column->row_descriptor, 1, att->attcollation);
	pp_tupdesc_finalize(column->row_descriptor);
	column->row_descriptor = BlessTupleDesc(column->row_descriptor);
	column->empty_row = heap_copy_tuple_as_datum(
		heap_form_tuple(column->row_descriptor, &value, &null), column->row_descriptor);

	/* the function finds out the row type by the type of its first argument */
	row = (Node *) makeNullConst(RECORDOID, -1, InvalidOid);
	fmgr_info_cxt(F_JSONB_POPULATE_RECORD, &column->populate, context);
	fmgr_info_set_expr(
		(Node *) makeFuncExpr(F_JSONB_POPULATE_RECORD, RECORDOID,
							  list_make2(row, makeNullConst(JSONBOID, -1, InvalidOid)), InvalidOid,
							  InvalidOid, COERCE_EXPLICIT_CALL),
		&column->populate);
}

/*
 * Where the type isn't made of others jsonb_populate_record calls its input function with the
 * value as text, so that its record isn't needed.  json is another matter: it keeps quotes.
 */
static void
prepare_input(PpColumn *column, Form_pg_attribute att, MemoryContext context)
{
	char kind = get_typtype(att->atttypid);
	Oid input;

	column->is_scalar = kind != TYPTYPE_DOMAIN && kind != TYPTYPE_COMPOSITE &&
						kind != TYPTYPE_PSEUDO && !OidIsValid(get_element_type(att->atttypid)) &&
						att->atttypid != JSONOID;
	if (!column->is_scalar)
		return;
	getTypeInputInfo(att->atttypid, &input, &column->input_param);
	fmgr_info_cxt(input, &column->input, context);
}

/* Does it nothing but draw a number from a sequence, of whatever integer type? */
static bool
is_nextval(Node *node)
{
	FuncExpr *call = (FuncExpr *) node;

	if (node == NULL || !IsA(node, FuncExpr))
		return node && IsA(node, NextValueExpr);
	if (call->funcid == F_INT2_INT8 || call->funcid == F_INT4_INT8)
		return is_nextval(linitial(call->args));
	return call->funcid == F_NEXTVAL && IsA(linitial(call->args), Const);
}

static void
fill_target_column(PpTarget *target, Relation rel, Form_pg_attribute att, PpLayoutWalk *walk)
{
	PpColumn *column = &target->columns[att->attnum - 1];

	column->attnum = att->attnum;
	column->dropped = att->attisdropped;
	if (column->dropped)
		return;

	column->name = att->attname;
	column->name_length = strlen(NameStr(att->attname));
	find_generated(target, target->relid, att->attnum, column);
	column->insertable = is_insertable(rel, att->attnum);
	column->layout = pp_row_layout_of_column(walk, att);
	prepare_input(column, att, target->context);
	if (!column->is_scalar)
		prepare_populate(column, att, target->context);
	if (!column->generated)
		column->default_node = default_expression(rel, att);
	column->default_is_nextval = is_nextval(column->default_node);
}

/* jsonb keeps the keys of an object by length, then by their bytes. */
static int
compare_names(const void *a, const void *b)
{
	const PpColumn *left = *(PpColumn *const *) a;
	const PpColumn *right = *(PpColumn *const *) b;

	if (left->name_length != right->name_length)
		return left->name_length - right->name_length;
	return memcmp(NameStr(left->name), NameStr(right->name), left->name_length);
}

/* How durable are its items? */
static PpItemDurability
durability_of(Relation rel, const PpSettings *settings)
{
	if (settings->durability == PP_DURABILITY_JOURNAL)
		return PP_ITEM_JOURNALLED;
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
		return PP_ITEM_UNLOGGED;
	return settings->durability == PP_DURABILITY_RING ? PP_ITEM_RING_ONLY : PP_ITEM_AS_TRANSACTION;
}

/* Fill in, in its context, what a relation that is open and locked accepts. */
static void
fill_target(PpTarget *target, Relation rel)
{
	TupleDesc desc = RelationGetDescr(rel);
	PpSettings settings = pp_settings_get(pp_extension_oid(), RelationGetRelid(rel));
	PpLayoutWalk walk = {0};
	PpColumnLayout *carried = palloc(sizeof(PpColumnLayout) * Max(desc->natts, 1));
	int ncarried = 0;

	target->relid = RelationGetRelid(rel);
	target->kind = rel->rd_rel->relkind;
	target->durability = durability_of(rel, &settings);
	target->bad_to_dead = settings.bad_to_dead;
	target->passes_unknown = settings.passes_unknown;
	target->conflict = pp_conflict_of(rel, &settings);
	target->flush_interval = settings.flush_interval;
	target->captures = settings.capture_settings;
	target->schema = RelationGetNamespace(rel);
	target->name = pstrdup(RelationGetRelationName(rel));
	target->schema_name = get_namespace_name(target->schema);
	target->row_type = rel->rd_rel->reltype;
	target->natts = desc->natts;
	target->descriptor = CreateTupleDescCopyConstr(desc);
	target->econtext = CreateStandaloneExprContext();
	target->code_context = AllocSetContextCreate(target->context, "persist_pipeline users' code",
												 ALLOCSET_SMALL_SIZES);
	target->other_context = AllocSetContextCreate(target->context, "persist_pipeline other layout",
												  ALLOCSET_SMALL_SIZES);
	target->columns = palloc0(sizeof(PpColumn) * Max(desc->natts, 1));
	target->sorted = palloc(sizeof(PpColumn *) * Max(desc->natts, 1));
	target->all_carried = palloc0(PpBitmapBytes(desc->natts) + 1);

	for (int i = 0; i < desc->natts; i++)
	{
		PpColumn *column = &target->columns[i];

		fill_target_column(target, rel, TupleDescAttr(desc, i), &walk);
		if (column->dropped)
			continue;
		target->sorted[target->nsorted++] = column;
		if (column->generated || !column->insertable)
			continue;

		/* a view's base tables have defaults of their own: don't hide them */
		if (target->kind == RELKIND_VIEW && column->default_node == NULL)
			continue;
		PpBitmapAdd(target->all_carried, column->attnum);
		carried[ncarried++] = column->layout;
	}
	target->composites = walk.composites;
	target->all_layout = pp_row_layout_of_columns(carried, ncarried);
	qsort(target->sorted, target->nsorted, sizeof(PpColumn *), compare_names);
	target->all_descriptor = pp_item_descriptor(desc, target->all_carried, target->natts);
}

static PpTarget *
make_target(Relation rel)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "persist_pipeline target",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	PpTarget *target = palloc0(sizeof(PpTarget));

	target->context = context;
	target->valid = true;
	fill_target(target, rel);
	MemoryContextSwitchTo(caller);

	/* complete: from now on it stays */
	MemoryContextSetParent(context, CacheMemoryContext);

	return target;
}

static Relation
open_target(Oid relid)
{
	Relation rel = try_relation_open(relid, AccessShareLock);

	if (rel == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("relation with OID %u does not exist", relid)));
	return rel;
}

/*
 * The target with this OID, ready to take rows, whoever calls.  Errors: 42P01 if
 * there is no such relation, 42809 if rows of it can't be enqueued.
 *
 * The result may be used until the next call, for whatever relation, or as long as it is held
 * by pp_target_use.
 */
PpTarget *
pp_target_get(Oid relid)
{
	KnownTarget *entry;
	PpTarget *target;
	Relation rel;
	uint64 before;

	/* nothing below takes a lock, so ask for the news here */
	AcceptInvalidationMessages();

	entry = find_known_target(relid);
	if (is_target_current(entry->target))
		return entry->target;
	forget_target(entry);
	forget_changed_targets();

	rel = open_target(relid);
	check_target_kind(rel);
	before = target_invalidations;
	target = make_target(rel);
	relation_close(rel, AccessShareLock);

	/* what came while it was made may be about it: its settings are under no lock */
	if (target_invalidations != before)
		target->valid = false;

	/* making it may have run code that used the same target */
	entry = find_known_target(relid);
	forget_target(entry);
	entry->target = target;

	return target;
}

/* Is it a table that takes rows, as far as its row in pg_class says? */
static bool
is_plain_table(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool is_plain = false;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_class form = (Form_pg_class) GETSTRUCT(tuple);

		is_plain =
			(form->relkind == RELKIND_RELATION || form->relkind == RELKIND_PARTITIONED_TABLE) &&
			form->relpersistence != RELPERSISTENCE_TEMP && !IsCatalogRelationOid(relid) &&
			!IsCatalogNamespace(form->relnamespace);
		ReleaseSysCache(tuple);
	}
	return is_plain;
}

/*
 * For who hands nothing over: can rows of this relation be enqueued at all?  Runs nothing
 * of its owner's, and doesn't wait for a table's lock: persist_flush() says at once that
 * items are parked for it.  Errors as for pp_target_get().
 */
void
pp_target_check(Oid relid)
{
	Relation rel;

	AcceptInvalidationMessages();
	if (is_plain_table(relid))
		return;
	rel = open_target(relid);
	check_target_kind(rel);
	relation_close(rel, AccessShareLock);
}

/* 42P01 if there is no such relation, 42501 unless it is the current user's. */
static void
check_own_target(Oid relid)
{
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("relation with OID %u does not exist", relid)));
	if (!pp_owns_relation(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(relid)),
					   get_rel_name(relid));
}

/*
 * Have nobody else configure or drop this relation before the end of the transaction.
 * Errors: 42P01 there is none; 42501 it is not the current user's, who may not lock it then.
 */
void
pp_target_lock_own(Oid relid)
{
	check_own_target(relid);
	LockRelationOid(relid, ShareUpdateExclusiveLock);
	check_own_target(relid); /* it may have gone or changed hands meanwhile */
}

/* A conversion starts: the target must not go away under it. */
void
pp_target_use(PpTarget *target)
{
	target->users++;
	target->types_changed = false;
	target->next = in_use;
	in_use = target;
}

/*
 * A conversion ends.  One that failed may have left functions' private state
 * half made, so that the target is made anew for the next.
 */
void
pp_target_release(PpTarget *target, bool failed)
{
	Assert(in_use == target);
	in_use = target->next;
	target->users--;
	if (failed)
		target->valid = false;
	if (target->forgotten && target->users == 0)
		MemoryContextDelete(target->context);
}

/*
 * Defaults and domains are about to be evaluated, as the current user.  For another role,
 * or when rights have changed since, who may execute their functions is asked anew, as each
 * INSERT would.
 */
void
pp_target_begin_code(PpTarget *target)
{
	if (target->code_of == GetUserId() && target->code_rights == rights)
		return;
	MemoryContextReset(target->code_context);
	for (int i = 0; i < target->natts; i++)
	{
		target->columns[i].default_expression = NULL;
		target->columns[i].default_state = NULL;
		target->columns[i].input.fn_extra = target->columns[i].populate.fn_extra = NULL;
		target->columns[i].input.fn_mcxt = target->code_context;
		target->columns[i].populate.fn_mcxt = target->code_context;
	}
	target->code_of = GetUserId();
	target->code_rights = rights;
}

/*
 * The default of a column that has one, ready to be evaluated.  It is planned for this
 * role: functions that say that they are immutable are called for that, and SQL functions
 * become a part of it, so that nobody asks for their rights any more.
 */
ExprState *
pp_target_default(PpTarget *target, PpColumn *column)
{
	MemoryContextCallback *callback;
	MemoryContext caller;

	if (column->default_state)
		return column->default_state;
	callback = MemoryContextAllocZero(target->code_context, sizeof(MemoryContextCallback));
	column->default_expression = GetCachedExpression(column->default_node);
	callback->func = free_expression;
	callback->arg = column->default_expression;
	MemoryContextRegisterResetCallback(target->code_context, callback);
	caller = MemoryContextSwitchTo(target->code_context);
	column->default_state = ExecInitExpr((Expr *) column->default_expression->expr, NULL);
	MemoryContextSwitchTo(caller);
	return column->default_state;
}

/*
 * 40001 if a composite type has changed since the target is used: nobody knows whether
 * what was converted is of the old or of the new kind.
 */
void
pp_target_check_types(const PpTarget *target)
{
	if (target->types_changed)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("a type in relation \"%s\" was changed while an item for it was made",
						target->name),
				 errhint("Try the transaction again.")));
}

/* The relation whose rows have this type; 42809 if it isn't one's. */
PpTarget *
pp_target_get_by_row_type(Oid row_type)
{
	Oid relid = OidIsValid(row_type) ? get_typ_typrelid(getBaseType(row_type)) : InvalidOid;

	if (row_type == RECORDOID || !OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("the item is not a row of a table"),
				 errdetail("Its type is %s.", format_type_be(row_type)),
				 errhint("Cast it to the row type of a table: ROW(...)::my_table.")));

	return pp_target_get(relid);
}

/*
 * 42501 unless the role may execute what the worker's INSERT calls as this role: where
 * EXECUTE was taken from PUBLIC, that is better said at the call.
 */
static void
check_functions_for_target(Oid role)
{
	static Oid known_role = InvalidOid;
	static uint64 known_rights = 0;
	uint64 rights_now = rights;
	Oid function;

	if (role == known_role && rights_now == known_rights)
		return;
	function = pp_extension_refused_to(pp_extension_oid(), role);
	if (OidIsValid(function))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for function %s", get_func_name(function)),
						errdetail("Items are inserted with it, as the role that enqueues them."),
						errhint("Call persist_grant() for the role.")));
	known_role = role;
	known_rights = rights_now;
}

/* 42501 unless the role has the right to this column, which on_conflict needs. */
static void
check_conflict_privilege(PpTarget *target, AttrNumber attnum, Oid role, AclMode right)
{
	if (pg_class_aclcheck(target->relid, role, right) == ACLCHECK_OK ||
		pg_attribute_aclcheck(target->relid, attnum, role, right) == ACLCHECK_OK)
		return;
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("permission denied for %s %s",
						   target->kind == RELKIND_VIEW ? "view" : "table", target->name),
					errdetail("Its \"on_conflict\" needs %s of column \"%s\".",
							  right == ACL_UPDATE ? "UPDATE" : "SELECT",
							  NameStr(target->columns[attnum - 1].name))));
}

/* The same of what the INSERT may do to a row that is there. */
static void
check_conflict_privileges(PpTarget *target, const uint8 *given, Oid role)
{
	const PpConflict *conflict = &target->conflict;
	AclMode both = ACL_SELECT | ACL_UPDATE;

	if (pg_class_aclmask(target->relid, role, both, ACLMASK_ALL) == both)
		return; /* as nearly always: one look instead of some for each column */
	for (int i = 0; i < conflict->nkeys; i++)
		check_conflict_privilege(target, conflict->keys[i], role, ACL_SELECT);
	if (conflict->action != PP_CONFLICT_UPDATE)
		return;
	for (int attnum = 1; attnum <= target->natts; attnum++)
	{
		if (!PpBitmapHas(given, attnum) || PpBitmapHas(conflict->is_key, attnum))
			continue;
		check_conflict_privilege(target, attnum, role, ACL_UPDATE);
		check_conflict_privilege(target, attnum, role, ACL_SELECT); /* for its name in "excluded" */
	}
}

/*
 * 42501 unless the current user may insert a row with the given columns.  What
 * else such a row would carry, columns filled from defaults, is cut down to what
 * the user may insert; the worker's INSERT fills in the rest.
 */
void
pp_target_check_privileges(PpTarget *target, const uint8 *given, uint8 *carried)
{
	Oid role = GetUserId();
	bool any = false;

	check_functions_for_target(role);
	if (pp_namespace_aclcheck(target->schema, role, ACL_USAGE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_SCHEMA, target->schema_name);
	if (target->conflict.action != PP_CONFLICT_ERROR)
		check_conflict_privileges(target, given, role);

	if (pg_class_aclcheck(target->relid, role, ACL_INSERT) == ACLCHECK_OK)
		return;

	for (int attnum = 1; attnum <= target->natts; attnum++)
	{
		bool may = !target->columns[attnum - 1].dropped &&
				   pg_attribute_aclcheck(target->relid, attnum, role, ACL_INSERT) == ACLCHECK_OK;

		any |= may;
		if (may)
			continue;
		if (PpBitmapHas(given, attnum))
			aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(target->kind), target->name);
		carried[(attnum - 1) / 8] &= ~(1 << ((attnum - 1) % 8));
	}
	if (!any)
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(target->kind), target->name);
}
