/*-------------------------------------------------------------------------
 *
 * row_map.c
 *	  Maps the values of items to the columns of a relation that may have changed; see row_map.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/extension.h"
#include "store/layouts.h"
#include "worker/row_json.h"
#include "worker/row_map.h"

#define MAX_SHOWN (16 * 1024 * 1024) /* bytes of a row's values; nobody reads more as JSON */

/* The columns that an item was made for */
typedef struct Columns
{
	int n;
	PpColumnNote *of;
	bool *readable; /* their types are what they were */
	bool are_own;	/* of the relation, as it is */
} Columns;

/*
 * The relation's own columns.  Nobody can alter a type that a table has a column of, but
 * one that only a view has, or a foreign table: so those are locked.  False: the item was
 * made for others.
 */
static bool
read_own(Relation rel, const PpItem *item, Columns *columns)
{
	TupleDesc desc = RelationGetDescr(rel);
	char kind = rel->rd_rel->relkind;
	PpLayoutWalk walk = {.lock = kind == RELKIND_VIEW || kind == RELKIND_FOREIGN_TABLE};

	columns->n = 0;
	columns->are_own = true;
	if (item->natts > desc->natts)
		return false;
	for (int attnum = 1; attnum <= item->natts; attnum++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, attnum - 1);

		if (!PpBitmapHas(pp_item_carried(item), attnum))
			continue;
		if (att->attisdropped || att->attgenerated != '\0')
			return false;
		columns->readable[columns->n] = true;
		columns->of[columns->n++] = pp_layouts_describe(&walk, att);
	}
	return pp_layouts_are_those(columns->of, columns->n, item);
}

/* Has its type the layout that it had?  Nobody changes that then, as long as we need it. */
static bool
is_readable(PpLayoutWalk *walk, const PpColumnNote *column)
{
	FormData_pg_attribute att = {.attnum = column->layout.attnum,
								 .atttypid = column->layout.type,
								 .atttypmod = column->layout.typmod};
	PpColumnLayout layout;

	if (!SearchSysCacheExists1(TYPEOID, ObjectIdGetDatum(column->layout.type)))
		return false;
	layout = pp_row_layout_of_column(walk, &att);
	return memcmp(&layout, &column->layout, sizeof(layout)) == 0;
}

/* rel: NULL if it is gone.  False: nobody knows. */
static bool
read_columns(Relation rel, const PpItem *item, Columns *columns)
{
	PpLayoutWalk walk = {.lock = true};

	columns->of = palloc((item->natts + 1) * sizeof(PpColumnNote));
	columns->readable = palloc((item->natts + 1) * sizeof(bool));
	if (rel && item->target == RelationGetRelid(rel) && read_own(rel, item, columns))
		return true;
	columns->are_own = false;
	columns->of = pp_layouts_find(pp_extension_oid(), item, &columns->n);
	if (columns->of == NULL)
		return false;
	for (int i = 0; i < columns->n; i++)
		columns->readable[i] = is_readable(&walk, &columns->of[i]);
	return true;
}

/* The descriptor of the item's tuple.  What can't be read has the form of its bytes alone. */
static TupleDesc
make_map_descriptor(const Columns *columns)
{
	TupleDesc desc = CreateTemplateTupleDesc(columns->n);

	for (int i = 0; i < columns->n; i++)
	{
		const PpColumnNote *column = &columns->of[i];
		Oid type = columns->readable[i] ? column->layout.type : BYTEAOID;
		Form_pg_attribute att = TupleDescAttr(desc, i);

		TupleDescInitEntry(desc, i + 1, NameStr(column->name), type, -1, 0);
		TupleDescInitEntryCollation(desc, i + 1, get_typcollation(type));
		att->attlen = column->layout.length;
		att->attalign = column->layout.alignment;
		att->attbyval = column->layout.by_value;
		pp_tupdesc_attribute_changed(desc, i);
	}
	pp_tupdesc_finalize(desc);
	return desc;
}

static PpAttribute *
make_attributes(const Columns *columns)
{
	PpAttribute *attributes = palloc((columns->n + 1) * sizeof(PpAttribute));

	for (int i = 0; i < columns->n; i++)
		attributes[i] = (PpAttribute){.length = columns->of[i].layout.length,
									  .alignment = columns->of[i].layout.alignment};
	return attributes;
}

/* ---- into the relation as it is ---- */

/* Can the value go into this column?  Then it does: *cast, if it needs one. */
static bool
take_column(PpRowMap *map, int i, const PpColumnNote *column, Form_pg_attribute att)
{
	PpLayoutWalk walk = {0};
	PpColumnLayout layout;
	Var *value;

	if (att->attisdropped || att->attgenerated != '\0' || PpBitmapHas(map->carried, att->attnum))
		return false;
	layout = pp_row_layout_of_column(&walk, att);
	if (layout.type != column->layout.type || layout.typmod != column->layout.typmod)
	{
		value =
			makeVar(1, i + 1, column->layout.type, -1, get_typcollation(column->layout.type), 0);
		map->casts[i] =
			coerce_to_target_type(NULL, (Node *) value, column->layout.type, att->atttypid,
								  att->atttypmod, COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);
		if (map->casts[i] == NULL)
			return false;
	}
	map->to[i] = att->attnum;
	PpBitmapAdd(map->carried, att->attnum);
	return true;
}

/* Is it there still, whatever its name and type?  Another relation's columns are others. */
static bool
is_there(const PpRowMap *map, TupleDesc desc, const PpColumnNote *column)
{
	return !map->replaces && column->layout.attnum <= desc->natts &&
		   !TupleDescAttr(desc, column->layout.attnum - 1)->attisdropped;
}

static void
take_columns(PpRowMap *map, TupleDesc desc, const Columns *columns)
{
	for (int i = 0; i < columns->n; i++)
	{
		const PpColumnNote *column = &columns->of[i];

		if (columns->readable[i] && is_there(map, desc, column))
			(void) take_column(map, i, column, TupleDescAttr(desc, column->layout.attnum - 1));
	}
	for (int i = 0; i < columns->n; i++)
	{
		const PpColumnNote *column = &columns->of[i];

		if (!columns->readable[i] || is_there(map, desc, column))
			continue;
		for (int j = 0; j < desc->natts; j++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, j);

			if (strcmp(NameStr(att->attname), NameStr(column->name)) == 0 &&
				take_column(map, i, column, att))
				break;
		}
	}
	for (int i = 0; i < columns->n; i++)
		map->loses_some |= map->to[i] == 0;
}

/*
 * The map for items of this layout to the relation, which is open and locked; in the current
 * memory context.  42804 if no columns are known that the items were made for.
 */
PpRowMap *
pp_row_map_of(Relation rel, const PpItem *item)
{
	TupleDesc desc = RelationGetDescr(rel);
	PpRowMap *map = palloc0(sizeof(PpRowMap));
	Columns columns;

	if (!read_columns(rel, item, &columns))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("relation \"%s\" has changed since the item was enqueued",
							   RelationGetRelationName(rel)),
						errdetail("What its columns were like is not known.")));
	map->n = columns.n;
	map->is_own = columns.are_own;
	map->replaces = item->target != RelationGetRelid(rel);
	map->to = palloc0((columns.n + 1) * sizeof(AttrNumber));
	map->casts = palloc0((columns.n + 1) * sizeof(Node *));
	map->carried = palloc0(PpBitmapBytes(desc->natts) + 1);
	map->attributes = make_attributes(&columns);
	if (!columns.are_own)
	{
		map->descriptor = make_map_descriptor(&columns);
		take_columns(map, desc, &columns);
		return map;
	}
	memcpy(map->carried, pp_item_carried(item), PpBitmapBytes(item->natts));
	map->descriptor = pp_item_descriptor(desc, map->carried, desc->natts);
	for (int i = 0; i < columns.n; i++)
		map->to[i] = columns.of[i].layout.attnum;
	return map;
}

static bool
is_null(const PpItem *item, int column)
{
	MinimalTuple tuple = pp_item_tuple(item);

	return (tuple->t_infomask & HEAP_HASNULL) != 0 && att_isnull(column, tuple->t_bits);
}

/* 42804 if somebody has given a value that has no column. */
void
pp_row_map_check(const PpRowMap *map, Relation rel, const PpItem *item)
{
	int i = -1;

	for (int attnum = 1; attnum <= item->natts; attnum++)
	{
		if (!PpBitmapHas(pp_item_carried(item), attnum))
			continue;
		i++;
		if (map->to[i] != 0 || !PpBitmapHas(pp_item_given(item), attnum) || is_null(item, i))
			continue;
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("relation \"%s\" has changed since the item was enqueued",
							   RelationGetRelationName(rel)),
						errdetail("Column \"%s\", which the item has a value for, was dropped, or "
								  "its type was changed to one that it can't be assigned to.",
								  NameStr(TupleDescAttr(map->descriptor, i)->attname))));
	}
}

/* ---- as JSON ---- */

/* The bytes of a value whose type isn't what it was. */
static Datum
attribute_bytes(const PpColumnLayout *column, Datum value)
{
	char buffer[sizeof(Datum)];
	const char *bytes = DatumGetPointer(value);
	Size length = column->length;
	bytea *result;

	if (column->length == -1)
		return PointerGetDatum(PG_DETOAST_DATUM(value));
	if (column->length == -2)
		length = strlen(bytes);
	else if (column->by_value)
	{
		store_att_byval(buffer, value, column->length);
		bytes = buffer;
	}
	result = palloc(VARHDRSZ + length);
	SET_VARSIZE(result, VARHDRSZ + length);
	memcpy(VARDATA(result), bytes, length);
	return PointerGetDatum(result);
}

/* The item's tuple, with bytea in place of what can't be read, and *desc, the descriptor. */
static MinimalTuple
make_readable(const Columns *columns, const PpItem *item, TupleDesc *desc)
{
	TupleDesc readable = CreateTupleDescCopy(*desc);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(*desc, &TTSOpsMinimalTuple);
	MinimalTuple tuple;

	ExecStoreMinimalTuple(pp_item_tuple(item), slot, false);
	slot_getallattrs(slot);
	for (int i = 0; i < columns->n; i++)
	{
		if (columns->readable[i])
			continue;
		TupleDescInitEntry(readable, i + 1, NameStr(columns->of[i].name), BYTEAOID, -1, 0);
		if (!slot->tts_isnull[i])
			slot->tts_values[i] = attribute_bytes(&columns->of[i].layout, slot->tts_values[i]);
	}
	pp_tupdesc_finalize(readable);
	*desc = readable;
	tuple = pp_form_minimal_tuple(readable, slot->tts_values, slot->tts_isnull);
	ExecDropSingleTupleTableSlot(slot);
	return tuple;
}

/* Would it take memory that a letter isn't worth?  Values may be compressed. */
static bool
is_too_large(TupleDesc desc, MinimalTuple tuple)
{
	HeapTupleData row = {.t_len = tuple->t_len + MINIMAL_TUPLE_OFFSET,
						 .t_data = (HeapTupleHeader) ((char *) tuple - MINIMAL_TUPLE_OFFSET)};
	Datum *values = palloc((desc->natts + 1) * sizeof(Datum));
	bool *nulls = palloc((desc->natts + 1) * sizeof(bool));
	Size size = 0;

	heap_deform_tuple(&row, desc, values, nulls);
	for (int i = 0; i < desc->natts; i++)
	{
		if (!nulls[i] && TupleDescAttr(desc, i)->attlen == -1)
			size += toast_raw_datum_size(values[i]);
	}
	return size > MAX_SHOWN;
}

/*
 * The values of an item as JSON, without those that nobody can give, in the current memory
 * context.  rel: NULL if it is gone.  NULL: nobody can read them,
 * or they are too many.  Throws as pp_row_json does.
 */
Jsonb *
pp_row_map_show(Relation rel, const PpItem *item)
{
	Columns columns;
	MinimalTuple tuple;
	TupleDesc desc;
	bool *hidden;

	if (!read_columns(rel, item, &columns) ||
		!pp_item_check_fits(item, make_attributes(&columns), columns.n))
		return NULL;
	desc = make_map_descriptor(&columns);
	if (is_too_large(desc, pp_item_tuple(item)))
		return NULL;
	hidden = palloc((columns.n + 1) * sizeof(bool));
	for (int i = 0; i < columns.n; i++)
		hidden[i] = columns.of[i].hidden;
	tuple = make_readable(&columns, item, &desc);
	return pp_row_json(desc, tuple, NULL, hidden);
}
