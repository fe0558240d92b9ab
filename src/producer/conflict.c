/*-------------------------------------------------------------------------
 *
 * conflict.c
 *	  Which columns and indexes a target's on_conflict is about; see conflict.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/item.h"
#include "producer/conflict.h"

/* ---- columns ---- */

/* 42703 if there is none of that name. */
static AttrNumber
find_column(Relation rel, const char *argument, const char *name)
{
	TupleDesc desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), name) == 0)
			return att->attnum;
	}
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
					errmsg("column \"%s\" of relation \"%s\" does not exist", name,
						   RelationGetRelationName(rel)),
					errdetail("It is one of the target's \"%s\".", argument),
					errhint("Name its columns anew with persist_configure().")));
}

/* In the current memory context.  42703 if a column isn't there any more. */
PpConflict
pp_conflict_of(Relation rel, const PpSettings *settings)
{
	Size bitmap = PpBitmapBytes(RelationGetNumberOfAttributes(rel)) + 1;
	PpConflict conflict = {.action = settings->on_conflict};
	ListCell *cell;

	if (conflict.action == PP_CONFLICT_ERROR)
		return conflict;
	conflict.keys = palloc((list_length(settings->conflict_columns) + 1) * sizeof(AttrNumber));
	conflict.is_key = palloc0(bitmap);
	conflict.is_added = palloc0(bitmap);
	foreach (cell, settings->conflict_columns)
	{
		AttrNumber attnum = find_column(rel, "conflict_columns", lfirst(cell));

		conflict.keys[conflict.nkeys++] = attnum;
		PpBitmapAdd(conflict.is_key, attnum);
	}
	foreach (cell, settings->add_columns)
		PpBitmapAdd(conflict.is_added, find_column(rel, "add_columns", lfirst(cell)));
	return conflict;
}

/* ---- the table ---- */

/* 0A000: INSERT ... ON CONFLICT can't go through these. */
static void
refuse(Relation rel, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot insert into \"%s\" with \"on_conflict\"", RelationGetRelationName(rel)),
			 errdetail("\"%s\" %s.", RelationGetRelationName(rel), why)));
}

static void
check_code(Relation rel)
{
	for (int i = 0; rel->rd_rules && i < rel->rd_rules->numLocks; i++)
	{
		CmdType event = rel->rd_rules->rules[i]->event;

		if (event == CMD_INSERT || event == CMD_UPDATE)
			refuse(rel, "has rules for INSERT or UPDATE");
	}
	if (rel->trigdesc &&
		(rel->trigdesc->trig_insert_instead_row || rel->trigdesc->trig_update_instead_row))
		refuse(rel, "has INSTEAD OF triggers");
}

/* What is beneath a view, and its columns in place of the view's.  0A000: nobody can tell. */
static Oid
beneath(Relation view, AttrNumber *columns, int n)
{
	Query *query = get_view_query(view);
	Node *from =
		list_length(query->jointree->fromlist) == 1 ? linitial(query->jointree->fromlist) : NULL;
	RangeTblEntry *entry = from && IsA(from, RangeTblRef)
							   ? rt_fetch(((RangeTblRef *) from)->rtindex, query->rtable)
							   : NULL;

	if (entry == NULL || entry->rtekind != RTE_RELATION)
		refuse(view, "is not a view of one relation");
	for (int i = 0; i < n; i++)
	{
		TargetEntry *column = get_tle_by_resno(query->targetList, columns[i]);
		Var *var = column && IsA(column->expr, Var) ? (Var *) column->expr : NULL;

		if (var == NULL || var->varno != ((RangeTblRef *) from)->rtindex || var->varattno <= 0)
			refuse(view, "has an expression in place of a column of the key");
		columns[i] = var->varattno;
	}
	return entry->relid;
}

/* Is the index one of exactly these columns? */
static bool
has_columns(Form_pg_index form, const AttrNumber *columns, int n)
{
	if (form->indnkeyatts != n)
		return false;
	for (int i = 0; i < n; i++)
	{
		bool found = false;

		for (int k = 0; k < n; k++)
			found |= form->indkey.values[k] == columns[i];
		if (!found)
			return false;
	}
	return true;
}

/* The unique indexes with the columns; *unfit: one of them that won't do, and *why. */
static List *
find_indexes(Relation rel, const AttrNumber *columns, int n, char **unfit, const char **why)
{
	List *found = NIL;
	ListCell *cell;

	foreach (cell, RelationGetIndexList(rel))
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);
		Form_pg_index form = index->rd_index;
		const char *fault = NULL;

		if (form->indisunique)
		{
			if (!heap_attisnull(index->rd_indextuple, Anum_pg_index_indexprs, NULL))
				fault = *unfit ? NULL : "has an expression"; /* of which columns nobody asks */
			else if (!has_columns(form, columns, n))
				fault = NULL;
			else if (!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
				fault = "is partial";
			else if (!form->indimmediate)
				fault = "is of a deferrable constraint";
			else if (!form->indisvalid)
				fault = "is not valid";
			else
				found = lappend_oid(found, form->indexrelid);
		}
		if (fault)
		{
			*unfit = pstrdup(RelationGetRelationName(index));
			*why = fault;
		}
		index_close(index, AccessShareLock);
	}
	return found;
}

/* 42P10: without columns it is about each key, also one that is checked later, which can't be. */
static void
refuse_deferrable(Relation rel)
{
	ListCell *cell;

	foreach (cell, RelationGetIndexList(rel))
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if ((form->indisunique || form->indisexclusion) && !form->indimmediate)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
					 errmsg("\"on_conflict\" without \"conflict_columns\" can't be for relation "
							"\"%s\"",
							RelationGetRelationName(rel)),
					 errdetail("Index \"%s\" is of a deferrable constraint.",
							   RelationGetRelationName(index)),
					 errhint("Name the columns of another key with \"conflict_columns\".")));
		index_close(index, AccessShareLock);
	}
}

static char *
list_columns(Relation rel, const AttrNumber *columns, int n)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < n; i++)
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(NameStr(
							 TupleDescAttr(RelationGetDescr(rel), columns[i] - 1)->attname)));
	return list.data;
}

/* As below.  above: the views by which we have come here: a change can make a circle of them. */
static PpConflictTable
find_table(Relation rel, const PpConflict *conflict, List *above)
{
	PpConflictTable table = {.relid = RelationGetRelid(rel)};
	int n = conflict->nkeys;
	char *unfit = NULL;
	const char *why = NULL;
	LOCKMODE lock = NoLock; /* we have it */
	Relation base;

	check_stack_depth();
	if (list_member_oid(above, table.relid))
		ereport(ERROR, (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
						errmsg("infinite recursion detected in rules for relation \"%s\"",
							   RelationGetRelationName(rel))));
	check_code(rel);
	table.keys = palloc((n + 1) * sizeof(AttrNumber));
	memcpy(table.keys, conflict->keys, n * sizeof(AttrNumber));
	if (rel->rd_rel->relkind == RELKIND_VIEW)
	{
		table.relid = beneath(rel, table.keys, n);
		lock = AccessShareLock;
	}
	base = relation_open(table.relid, lock);
	if (lock != NoLock)
	{
		if (base->rd_rel->relkind == RELKIND_VIEW)
		{
			PpConflict inner = {.nkeys = n, .keys = table.keys};

			table = find_table(base, &inner, lappend_oid(above, RelationGetRelid(rel)));
			relation_close(base, lock);
			return table;
		}
		check_code(base);
	}
	if (n > 0 && base->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
		refuse(base, "is a foreign table: its keys are another server's");
	if (n > 0)
		table.indexes = find_indexes(base, table.keys, n, &unfit, &why);
	else
		refuse_deferrable(base);
	if (n > 0 && table.indexes == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("relation \"%s\" has no unique index or constraint on exactly the columns "
						"of \"conflict_columns\"",
						RelationGetRelationName(base)),
				 unfit ? errdetail("They are (%s). Index \"%s\" %s.",
								   list_columns(base, table.keys, n), unfit, why)
					   : errdetail("They are (%s).", list_columns(base, table.keys, n)),
				 errhint("Create one: CREATE UNIQUE INDEX ON %s (%s).",
						 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(base)),
													RelationGetRelationName(base)),
						 list_columns(base, table.keys, n))));
	relation_close(base, lock);
	return table;
}

/*
 * The table that has the key of a target, which is open and locked; in the current memory context.
 * Errors: 42P10 no index on its columns will do; 0A000 INSERT can't come to it with ON CONFLICT;
 * 42P17 its views have become a circle.
 */
PpConflictTable
pp_conflict_table(Relation rel, const PpConflict *conflict)
{
	return find_table(rel, conflict, NIL);
}

/* ---- when it is configured ---- */

static void
check_added(Relation rel, const PpConflict *conflict, AttrNumber attnum)
{
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), attnum - 1);

	if (PpBitmapHas(conflict->is_key, attnum))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("column \"%s\" is in both \"conflict_columns\" and \"add_columns\"",
							   NameStr(att->attname))));
	if (att->attgenerated != '\0')
		ereport(ERROR, (errcode(ERRCODE_GENERATED_ALWAYS),
						errmsg("column \"%s\" can't be added to", NameStr(att->attname)),
						errdetail("It is a generated column.")));
	switch (getBaseType(att->atttypid))
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
			break;
		default:
			ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
							errmsg("column \"%s\" can't be added to", NameStr(att->attname)),
							errdetail("It is of type %s.", format_type_be(att->atttypid)),
							errhint("Columns of \"add_columns\" are of type smallint, integer, "
									"bigint, numeric, real or double precision.")));
	}
}

/* Would a target with these settings, which is open and locked, take rows?  See the COMMENT in SQL.
 */
void
pp_conflict_check(Relation rel, const PpSettings *settings)
{
	PpConflict conflict;

	if (settings->on_conflict == PP_CONFLICT_ERROR && settings->conflict_columns != NIL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"conflict_columns\" needs \"on_conflict\""),
						errhint("Set it to \"nothing\" or \"update\".")));
	if (settings->on_conflict != PP_CONFLICT_UPDATE && settings->add_columns != NIL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"add_columns\" needs \"on_conflict\" to be \"update\"")));
	if (settings->on_conflict == PP_CONFLICT_UPDATE && settings->conflict_columns == NIL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"on_conflict\" \"update\" needs \"conflict_columns\""),
						errhint("Name the columns of the key whose row is to be updated.")));
	if (settings->on_conflict == PP_CONFLICT_ERROR)
		return;
	conflict = pp_conflict_of(rel, settings);
	for (int attnum = 1; attnum <= RelationGetNumberOfAttributes(rel); attnum++)
	{
		if (PpBitmapHas(conflict.is_added, attnum))
			check_added(rel, &conflict, attnum);
	}
	(void) pp_conflict_table(rel, &conflict);
}
