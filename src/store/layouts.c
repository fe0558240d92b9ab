/*-------------------------------------------------------------------------
 *
 * layouts.c
 *	  Notes the columns that targets had, and finds them; see layouts.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "lib/qunique.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/array.h"
#include "base/extension.h"
#include "base/table.h"
#include "store/layouts.h"

#define TABLE "persist_layouts"

enum
{
	COLUMN_TARGET,
	COLUMN_TARGET_NAME,
	COLUMN_COLUMNS,		/* of the target: PpColumnNote, by attnum - 1; none, if ... */
	COLUMN_REPLACED_BY, /* ... it says what has replaced it; or else NULL */
	COLUMNS
};

/* To read all that is noted now */
static PpTable
open_scan(Oid extension, LOCKMODE mode)
{
	PpTable table = pp_table_open(extension, TABLE, mode);

	pp_table_scan(&table, pp_table_snapshot(), 0, NULL);
	return table;
}

/* 42704 if its type has gone. */
PpColumnNote
pp_layouts_describe(PpLayoutWalk *walk, Form_pg_attribute att)
{
	PpColumnNote column;

	memset(&column, 0, sizeof(column));
	namestrcpy(&column.name, NameStr(att->attname));
	column.layout = pp_row_layout_of_column(walk, att);
	column.hidden = att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS;
	return column;
}

/* The relation's columns as they are. */
static bytea *
describe_all(Relation rel)
{
	TupleDesc desc = RelationGetDescr(rel);
	Size size = VARHDRSZ + desc->natts * sizeof(PpColumnNote);
	bytea *columns = palloc0(size);
	PpLayoutWalk walk = {0};

	SET_VARSIZE(columns, size);
	for (int i = 0; i < desc->natts; i++)
	{
		PpColumnNote column;

		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		column = pp_layouts_describe(&walk, TupleDescAttr(desc, i));
		memcpy(VARDATA(columns) + i * sizeof(PpColumnNote), &column, sizeof(column));
	}
	return columns;
}

/* Its name as it is, with its schema; NULL if it is no more. */
static char *
relation_name(Oid relid)
{
	char *name = get_rel_name(relid);
	char *schema = name ? get_namespace_name(get_rel_namespace(relid)) : NULL;

	return schema ? quote_qualified_identifier(schema, name) : NULL;
}

/*
 * Take away just that, if it is there: it is going to be noted anew, by a transaction that
 * nobody has seen end.
 */
static void
forget_same(Oid extension, Oid target, const char *name, const bytea *columns)
{
	PpTable table = open_scan(extension, RowExclusiveLock);
	HeapTuple tuple;

	while ((tuple = pp_table_next(&table)) != NULL)
	{
		bytea *noted;

		if (pp_table_oid(table.rel, tuple, COLUMN_TARGET) != target ||
			strcmp(pp_table_text(table.rel, tuple, COLUMN_TARGET_NAME), name) != 0)
			continue;
		noted = DatumGetByteaP(pp_table_get(table.rel, tuple, COLUMN_COLUMNS));
		if (VARSIZE(noted) == VARSIZE(columns) && memcmp(noted, columns, VARSIZE(noted)) == 0)
			(void) pp_table_delete(&table, &tuple->t_self, false);
	}
	pp_table_close(&table);
}

/*
 * Note the columns of a relation, in the current transaction, which is about to change it, or
 * to drop it: then once more doesn't matter, and many may be dropped.
 */
void
pp_layouts_note(Oid extension, Relation rel, bool dropped)
{
	Oid target = RelationGetRelid(rel);
	char *name = relation_name(target);
	bytea *columns = describe_all(rel);
	PpTable table;
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {false};

	if (name == NULL)
		return;
	if (!dropped)
		forget_same(extension, target, name, columns);
	table = pp_table_open(extension, TABLE, RowExclusiveLock);
	if (table.rel == NULL)
		return;
	values[COLUMN_TARGET] = ObjectIdGetDatum(target);
	values[COLUMN_TARGET_NAME] = CStringGetTextDatum(name);
	values[COLUMN_COLUMNS] = PointerGetDatum(columns);
	nulls[COLUMN_REPLACED_BY] = true;
	pp_table_insert(&table, values, nulls);
	pp_table_close(&table);
	pfree(columns);
}

/* Are these the columns that the item carries, in their order? */
bool
pp_layouts_are_those(const PpColumnNote *columns, int n, const PpItem *item)
{
	PpColumnLayout *layouts = palloc((n + 1) * sizeof(PpColumnLayout));
	PpLayout layout;

	for (int i = 0; i < n; i++)
		layouts[i] = columns[i].layout;
	layout = pp_row_layout_of_columns(layouts, n);
	pfree(layouts);
	return pp_row_layout_equal(&layout, &item->layout);
}

/* Those that the item carries of what is noted; NULL: it was made for others. */
static PpColumnNote *
pick(const bytea *noted, const PpItem *item, int *n)
{
	const char *columns = VARDATA_ANY(noted);
	Size natts = VARSIZE_ANY_EXHDR(noted) / sizeof(PpColumnNote);
	PpColumnNote *picked;

	if (item->natts > natts)
		return NULL;
	picked = palloc((item->natts + 1) * sizeof(PpColumnNote));
	*n = 0;
	for (int attnum = 1; attnum <= item->natts; attnum++)
	{
		if (PpBitmapHas(pp_item_carried(item), attnum))
			memcpy(&picked[(*n)++], columns + (attnum - 1) * sizeof(PpColumnNote),
				   sizeof(PpColumnNote));
	}
	if (pp_layouts_are_those(picked, *n, item))
		return picked;
	pfree(picked);
	return NULL;
}

/*
 * The columns that the item was made for, as they were when they were last noted; their
 * number is *n.  NULL: nobody knows.
 */
PpColumnNote *
pp_layouts_find(Oid extension, const PpItem *item, int *n)
{
	PpColumnNote *found = NULL;
	PpTable table = open_scan(extension, AccessShareLock);
	HeapTuple tuple;

	while ((tuple = pp_table_next(&table)) != NULL)
	{
		PpColumnNote *columns = NULL;
		int picked;

		if (pp_table_oid(table.rel, tuple, COLUMN_TARGET) == item->target)
			columns = pick(DatumGetByteaPP(pp_table_get(table.rel, tuple, COLUMN_COLUMNS)), item,
						   &picked);
		if (columns)
		{
			found = columns;
			*n = picked;
		}
	}
	pp_table_close(&table);
	return found;
}

/* The name of a target as it is, or was when it was last noted; NULL: nobody knows. */
char *
pp_layouts_target_name(Oid extension, Oid target)
{
	char *name = relation_name(target);
	PpTable table;
	HeapTuple tuple;

	if (name)
		return name;
	table = open_scan(extension, AccessShareLock);
	while ((tuple = pp_table_next(&table)) != NULL)
	{
		if (pp_table_oid(table.rel, tuple, COLUMN_TARGET) == target)
			name = pp_table_text(table.rel, tuple, COLUMN_TARGET_NAME);
	}
	pp_table_close(&table);
	return name;
}

/*
 * Take away, in the current transaction, that the target has been replaced.  False: by one that is
 * gone, too, and so may have been replaced itself.
 */
static bool
forget_replaced(Oid extension, Oid target)
{
	PpTable table = open_scan(extension, RowExclusiveLock);
	bool done = true;
	HeapTuple tuple;

	while ((tuple = pp_table_next(&table)) != NULL)
	{
		Oid by = pp_table_oid(table.rel, tuple, COLUMN_REPLACED_BY);

		if (!OidIsValid(by) || pp_table_oid(table.rel, tuple, COLUMN_TARGET) != target)
			continue;
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(by)))
			(void) pp_table_delete(&table, &tuple->t_self, false);
		else
			done = false;
	}
	pp_table_close(&table);
	return done;
}

/*
 * Note that rows of the target, which the current transaction has dropped, go into another one.
 * `again`: it may have noted that before, of another one.  A scan for each target would make many
 * of them slow.  What the target has replaced itself still names it, so that all know in which
 * order they came.
 */
void
pp_layouts_replace(Oid extension, Oid target, const char *name, Oid by, bool again)
{
	PpTable table;
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {false};

	if (again && !forget_replaced(extension, target))
		return;
	table = pp_table_open(extension, TABLE, RowExclusiveLock);
	if (table.rel && pp_table_has(table.rel, COLUMN_REPLACED_BY))
	{
		values[COLUMN_TARGET] = ObjectIdGetDatum(target);
		values[COLUMN_TARGET_NAME] = CStringGetTextDatum(name);
		values[COLUMN_COLUMNS] = PointerGetDatum(cstring_to_text_with_len("", 0)); /* of a bytea */
		values[COLUMN_REPLACED_BY] = ObjectIdGetDatum(by);
		pp_table_insert(&table, values, nulls);
	}
	pp_table_close(&table);
}

static int
compare_replaced(const void *left, const void *right)
{
	Oid a = ((const PpReplaced *) left)->target;
	Oid b = ((const PpReplaced *) right)->target;

	return a < b ? -1 : a > b;
}

/* What has replaced a target, according to that, and what has replaced that, and so on. */
static List *
successors_of(Oid target, const PpReplaced *replaced, int n)
{
	List *successors = NIL;
	PpReplaced key = {.target = target};
	const PpReplaced *found;

	while (list_length(successors) < n &&
		   (found = bsearch(&key, replaced, n, sizeof(key), compare_replaced)) != NULL)
	{
		successors = lappend_oid(successors, found->by);
		key.target = found->by;
	}
	return successors;
}

/* The same of one that is gone. */
List *
pp_layouts_successors(Oid target)
{
	PpReplaced *replaced;
	List *successors;
	int n;

	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(target)))
		return NIL;
	replaced = pp_layouts_replaced(pp_extension_oid(), &n);
	successors = successors_of(target, replaced, n);
	if (replaced)
		pfree(replaced);
	return successors;
}

/*
 * The relation that items of a target go into: the target itself, as long as it is there, or what
 * has replaced it.
 */
Oid
pp_layouts_current(Oid target)
{
	List *successors = pp_layouts_successors(target);

	return successors != NIL ? llast_oid(successors) : target;
}

/*
 * Open that relation, as pp_table_open_unless_locked() does.  It may be replaced just when it is to
 * be opened.
 */
Relation
pp_layouts_open_unless_locked(Oid target, LOCKMODE mode, bool *locked)
{
	Oid current = pp_layouts_current(target);
	Oid opened;
	Relation rel;

	do
	{
		CHECK_FOR_INTERRUPTS();
		opened = current;
		rel = pp_table_open_unless_locked(opened, mode, locked);
		current = rel ? opened : pp_layouts_current(target);
	} while (current != opened);
	return rel;
}

/*
 * All that have been replaced, in the current memory context, each once, and in the order of their
 * OIDs; *n: their number.
 */
PpReplaced *
pp_layouts_replaced(Oid extension, int *n)
{
	PpReplaced *replaced = NULL;
	int max = 0;
	PpTable table = open_scan(extension, AccessShareLock);
	HeapTuple tuple;

	*n = 0;
	while ((tuple = pp_table_next(&table)) != NULL)
	{
		PpReplaced next = {.target = pp_table_oid(table.rel, tuple, COLUMN_TARGET),
						   .by = pp_table_oid(table.rel, tuple, COLUMN_REPLACED_BY)};

		if (!OidIsValid(next.by))
			continue;
		PP_ARRAY_GROW(replaced, *n, max);
		replaced[(*n)++] = next;
	}
	pp_table_close(&table);
	qsort(replaced, *n, sizeof(PpReplaced), compare_replaced);
	*n = qunique(replaced, *n, sizeof(PpReplaced), compare_replaced);
	return replaced;
}

/* Add what these targets have replaced, according to that, and what those have, and so on. */
List *
pp_layouts_add_those(List *targets, const PpReplaced *replaced, int n)
{
	for (int i = 0; i < list_length(targets); i++) /* which becomes longer */
	{
		for (int j = 0; j < n; j++)
		{
			if (replaced[j].by == list_nth_oid(targets, i))
				targets = list_append_unique_oid(targets, replaced[j].target);
		}
	}
	return targets;
}

/* Add what these targets have replaced: items may wait for that. */
List *
pp_layouts_add_replaced(Oid extension, List *targets)
{
	int n;
	PpReplaced *replaced = pp_layouts_replaced(extension, &n);

	return pp_layouts_add_those(targets, replaced, n);
}

/* Is anything noted? */
bool
pp_layouts_any(Oid extension)
{
	PpTable table = open_scan(extension, AccessShareLock);
	bool any = pp_table_next(&table) != NULL;

	pp_table_close(&table);
	return any;
}

/*
 * Take away, in the current transaction, what transactions before that one have noted, but
 * of these targets, and of what has replaced them.
 */
void
pp_layouts_forget(Oid extension, TransactionId before, const List *targets)
{
	List *but = list_copy(targets);
	int n;
	PpReplaced *replaced = pp_layouts_replaced(extension, &n);
	PpTable table = open_scan(extension, RowExclusiveLock);
	HeapTuple tuple;
	ListCell *cell;

	foreach (cell, targets)
		but = list_concat_unique_oid(but, successors_of(lfirst_oid(cell), replaced, n));
	while ((tuple = pp_table_next(&table)) != NULL)
	{
		if (TransactionIdPrecedes(HeapTupleHeaderGetXmin(tuple->t_data), before) &&
			!list_member_oid(but, pp_table_oid(table.rel, tuple, COLUMN_TARGET)))
			(void) pp_table_delete(&table, &tuple->t_self, false);
	}
	pp_table_close(&table);
}
