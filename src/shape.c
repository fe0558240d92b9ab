/*-------------------------------------------------------------------------
 *
 * shape.c
 *	  Items and tables that have changed since; see shape.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "shape.h"
#include "table.h"

#define TABLE "persist_columns"

enum
{
	COLUMN_TARGET,
	COLUMN_ATTNUM,
	COLUMN_NAME,
	COLUMN_TYPE,
	COLUMN_TYPMOD,
	COLUMNS
};

struct PpShapeMap
{
	Relation rel;
	int ncarried;
	AttrNumber *to; /* by place in the item's tuple */
	bool *given;	/* the same */
	uint8 *carried; /* of the relation as it is */
	TupleDesc from_descriptor;
	TupleDesc descriptor;
	PpLayout layout;
};

static Datum
get(Relation rel, HeapTuple tuple, int column)
{
	bool is_null;

	return heap_getattr(tuple, column + 1, RelationGetDescr(rel), &is_null);
}

/* What was noted of a column that has been dropped; false: nothing. */
static bool
recall(Oid relid, FormData_pg_attribute *att)
{
	PpTable table =
		pp_table_open(get_extension_oid("persist_pipeline", true), TABLE, AccessShareLock);
	TableScanDesc scan;
	HeapTuple tuple;
	bool found = false;

	if (table.rel == NULL)
		return false;
	PushActiveSnapshot(GetLatestSnapshot());
	scan = pp_table_beginscan(table.rel, GetActiveSnapshot());
	while (!found && (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		if (DatumGetObjectId(get(table.rel, tuple, COLUMN_TARGET)) != relid ||
			DatumGetInt16(get(table.rel, tuple, COLUMN_ATTNUM)) != att->attnum)
			continue;
		namestrcpy(&att->attname, NameStr(*DatumGetName(get(table.rel, tuple, COLUMN_NAME))));
		att->atttypid = DatumGetObjectId(get(table.rel, tuple, COLUMN_TYPE));
		att->atttypmod = DatumGetInt32(get(table.rel, tuple, COLUMN_TYPMOD));
		found = SearchSysCacheExists1(TYPEOID, ObjectIdGetDatum(att->atttypid));
	}
	table_endscan(scan);
	PopActiveSnapshot();
	pp_table_close(&table);

	return found;
}

/*
 * The layout of these columns.  Nobody can alter a type that a table has a column of, but
 * one that only a view has, or a foreign table: so those are locked.
 */
static PpLayout
layout_of(Relation rel, const FormData_pg_attribute *columns, int n)
{
	char kind = rel->rd_rel->relkind;
	PpLayoutWalk walk = {.lock = kind == RELKIND_VIEW || kind == RELKIND_FOREIGN_TABLE};
	PpColumnLayout *layouts = palloc((n + 1) * sizeof(PpColumnLayout));
	PpLayout layout;

	for (int i = 0; i < n; i++)
		layouts[i] = pp_layout_of_column(&walk, unconstify(FormData_pg_attribute *, &columns[i]));
	layout = pp_layout_of_columns(layouts, n);
	pfree(layouts);
	return layout;
}

static FormData_pg_attribute *
make_columns(const PpItem *item)
{
	return palloc((item->natts + 1) * sizeof(FormData_pg_attribute));
}

/*
 * The columns that the item's tuple has, as they were; their number, or -1 if that can't
 * be told.  `recalled`: those that the relation has no more, too.
 */
static int
read_columns(Relation rel, const PpItem *item, bool recalled, FormData_pg_attribute *columns)
{
	TupleDesc desc = RelationGetDescr(rel);
	PpLayout layout;
	int n = 0;

	if (item->natts > desc->natts)
		return -1;
	for (int attnum = 1; attnum <= item->natts; attnum++)
	{
		if (!PpBitmapHas(pp_item_carried(item), attnum))
			continue;
		columns[n] = *TupleDescAttr(desc, attnum - 1);
		if (columns[n].attisdropped && !(recalled && recall(RelationGetRelid(rel), &columns[n])))
			return -1;
		n++;
	}
	layout = layout_of(rel, columns, n);
	return pp_layout_equal(&layout, &item->layout) ? n : -1;
}

/* Does the item's tuple have columns that the relation has now? */
bool
pp_shape_fits(Relation rel, const PpItem *item)
{
	FormData_pg_attribute *columns = make_columns(item);
	int n = read_columns(rel, item, false, columns);

	for (int i = 0; i < n; i++)
	{
		if (columns[i].attgenerated != '\0')
			n = -1;
	}
	pfree(columns);
	return n >= 0;
}

static TupleDesc
make_descriptor(const FormData_pg_attribute *columns, int n)
{
	TupleDesc desc = CreateTemplateTupleDesc(n);

	for (int i = 0; i < n; i++)
	{
		TupleDescInitEntry(desc, i + 1, NameStr(columns[i].attname),
						   getBaseType(columns[i].atttypid), -1, columns[i].attndims);
		TupleDescInitEntryCollation(desc, i + 1, get_typcollation(columns[i].atttypid));
	}
	pp_tupdesc_finalize(desc);
	return desc;
}

/* The descriptor of the item's tuple, with the names of its columns; NULL: nobody knows. */
TupleDesc
pp_shape_descriptor(Relation rel, const PpItem *item)
{
	FormData_pg_attribute *columns = make_columns(item);
	int n = read_columns(rel, item, true, columns);

	return n < 0 ? NULL : make_descriptor(columns, n);
}

/* The column of that name and type; 0: there is none. */
static AttrNumber
find_column(TupleDesc desc, const FormData_pg_attribute *column)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && att->attgenerated == '\0' && att->atttypid == column->atttypid &&
			att->atttypmod == column->atttypmod &&
			strcmp(NameStr(att->attname), NameStr(column->attname)) == 0)
			return att->attnum;
	}
	return 0;
}

/*
 * How items of this shape fit the relation by their columns' names; NULL: they don't.  In
 * the current memory context, while the relation is open.
 */
PpShapeMap *
pp_shape_map(Relation rel, const PpItem *item)
{
	TupleDesc desc = RelationGetDescr(rel);
	FormData_pg_attribute *columns = make_columns(item);
	int n = read_columns(rel, item, true, columns);
	PpShapeMap *map = palloc0(sizeof(PpShapeMap));

	if (n < 0)
		return NULL;
	map->rel = rel;
	map->ncarried = n;
	map->to = palloc((n + 1) * sizeof(AttrNumber));
	map->given = palloc((n + 1) * sizeof(bool));
	map->carried = palloc0(PpBitmapBytes(desc->natts) + 1);
	for (int i = 0; i < n; i++)
	{
		map->to[i] = find_column(desc, &columns[i]);
		if (map->to[i] == 0 || PpBitmapHas(map->carried, map->to[i]))
			return NULL;
		map->given[i] = PpBitmapHas(pp_item_given(item), columns[i].attnum);
		PpBitmapAdd(map->carried, map->to[i]);
	}
	map->from_descriptor = make_descriptor(columns, n);
	map->descriptor = pp_item_descriptor(desc, map->carried, desc->natts);
	n = 0;
	for (int attnum = 1; attnum <= desc->natts; attnum++)
	{
		if (PpBitmapHas(map->carried, attnum))
			columns[n++] = *TupleDescAttr(desc, attnum - 1);
	}
	map->layout = layout_of(rel, columns, n);
	return map;
}

/* An item that fits, with the same values. */
PpItem *
pp_shape_apply(const PpShapeMap *map, const PpItem *item)
{
	int natts = RelationGetDescr(map->rel)->natts;
	TupleTableSlot *slot = MakeSingleTupleTableSlot(map->from_descriptor, &TTSOpsMinimalTuple);
	Datum *by_attnum = palloc0((natts + 1) * sizeof(Datum));
	bool *is_null = palloc0((natts + 1) * sizeof(bool));
	uint8 *given = palloc0(PpBitmapBytes(natts) + 1);
	int n = 0;
	PpItem *fitting;

	ExecStoreMinimalTuple(pp_item_tuple(item), slot, false);
	slot_getallattrs(slot);
	for (int i = 0; i < map->ncarried; i++)
	{
		by_attnum[map->to[i]] = slot->tts_values[i];
		is_null[map->to[i]] = slot->tts_isnull[i];
		if (map->given[i])
			PpBitmapAdd(given, map->to[i]);
	}

	/* close the gaps, as in the descriptor */
	for (int attnum = 1; attnum <= natts; attnum++)
	{
		if (!PpBitmapHas(map->carried, attnum))
			continue;
		by_attnum[n] = by_attnum[attnum];
		is_null[n++] = is_null[attnum];
	}
	fitting = pp_item_form(item->target, item->ring_only, natts, map->descriptor, map->carried,
						   given, by_attnum, is_null, &map->layout);
	fitting->id = item->id;
	fitting->enqueued_at = item->enqueued_at;
	fitting->attempts = item->attempts;
	ExecDropSingleTupleTableSlot(slot);
	pfree(by_attnum);
	pfree(is_null);
	pfree(given);

	return fitting;
}

/* Note a column that is about to be dropped, in the current transaction. */
void
pp_shape_remember(Oid extension, Oid relid, AttrNumber attnum)
{
	HeapTuple tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(attnum));
	Form_pg_attribute att;
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {false};
	PpTable table;

	if (!HeapTupleIsValid(tuple))
		return;
	att = (Form_pg_attribute) GETSTRUCT(tuple);
	table = pp_table_open(extension, TABLE, RowExclusiveLock);
	if (table.rel && !att->attisdropped)
	{
		values[COLUMN_TARGET] = ObjectIdGetDatum(relid);
		values[COLUMN_ATTNUM] = Int16GetDatum(attnum);
		values[COLUMN_NAME] = NameGetDatum(&att->attname);
		values[COLUMN_TYPE] = ObjectIdGetDatum(att->atttypid);
		values[COLUMN_TYPMOD] = Int32GetDatum(att->atttypmod);
		pp_table_insert(&table, values, nulls);
	}
	pp_table_close(&table);
	ReleaseSysCache(tuple);
}

/* The relation is about to be dropped. */
void
pp_shape_forget(Oid extension, Oid relid)
{
	PpTable table = pp_table_open(extension, TABLE, RowExclusiveLock);
	TableScanDesc scan;
	HeapTuple tuple;

	if (table.rel == NULL)
		return;
	PushActiveSnapshot(GetLatestSnapshot());
	scan = pp_table_beginscan(table.rel, GetActiveSnapshot());
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		if (DatumGetObjectId(get(table.rel, tuple, COLUMN_TARGET)) == relid)
			(void) pp_table_delete(&table, &tuple->t_self, false);
	}
	table_endscan(scan);
	PopActiveSnapshot();
	pp_table_close(&table);
}
