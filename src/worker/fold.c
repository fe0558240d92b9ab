/*-------------------------------------------------------------------------
 *
 * fold.c
 *	  Makes one item of several of one key; see fold.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "worker/fold.h"

/* A column of the table */
typedef struct Column
{
	bool may_be_set;
	bool is_added;
	bool not_null;
	Oid type;
	int32 typmod;
} Column;

struct PpFoldable
{
	int natts;
	Column *columns; /* by attnum - 1 */
};

/* ---- the table ---- */

/* Does code see each row, or each version of it? */
static bool
is_watched(Relation rel)
{
	const TriggerDesc *triggers = rel->trigdesc;

	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relispartition ||
		rel->rd_rel->relrowsecurity || rel->rd_rules)
		return true;
	return triggers && (triggers->trig_insert_before_row || triggers->trig_insert_after_row ||
						triggers->trig_update_before_row || triggers->trig_update_after_row ||
						triggers->trig_insert_new_table || triggers->trig_update_old_table ||
						triggers->trig_update_new_table);
}

/* Do we add values of this type, as its operator does?  A column can be of any by now. */
static bool
is_exact(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID;
}

/* What indexes have is not to be set; of the key's own columns nothing is.  False: nobody knows. */
static bool
find_indexed(Relation rel, PpFoldable *table)
{
	bool known = true;
	ListCell *cell;

	foreach (cell, RelationGetIndexList(rel))
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);

		if (!heap_attisnull(index->rd_indextuple, Anum_pg_index_indexprs, NULL) ||
			!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
			known = false;
		for (int i = 0; i < index->rd_index->indnatts && known; i++)
			table->columns[index->rd_index->indkey.values[i] - 1].may_be_set = false;
		index_close(index, AccessShareLock);
	}
	return known;
}

/*
 * What is known of a table, which is open and locked, in the current memory context; NULL: its
 * items are not to be folded.
 */
PpFoldable *
pp_fold_table(Relation rel, const PpConflict *conflict)
{
	TupleDesc desc = RelationGetDescr(rel);
	PpFoldable *table = palloc(sizeof(PpFoldable));

	if (is_watched(rel) || (desc->constr && desc->constr->num_check > 0))
		return NULL;
	table->natts = desc->natts;
	table->columns = palloc0(Max(desc->natts, 1) * sizeof(Column));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped)
			continue;
		if (att->attgenerated != '\0' || get_typtype(att->atttypid) == TYPTYPE_DOMAIN)
			return NULL;
		table->columns[i] = (Column){.may_be_set = true,
									 .is_added = PpBitmapHas(conflict->is_added, i + 1),
									 .not_null = att->attnotnull,
									 .type = att->atttypid,
									 .typmod = att->atttypmod};
		if (table->columns[i].is_added && !is_exact(att->atttypid))
			table->columns[i].may_be_set = false;
	}
	return find_indexed(rel, table) ? table : NULL;
}

/* ---- items ---- */

static const Column *
column_of(const PpFold *fold, int i)
{
	return &fold->table->columns[fold->map->to[i] - 1];
}

static bool
is_set(const PpFold *fold, int i)
{
	return PpBitmapHas(fold->set, fold->map->to[i]);
}

/* For items of this layout, in the current memory context, where what is made of them will be. */
PpFold
pp_fold_make(const PpFoldable *table, const PpRowMap *map)
{
	return (PpFold){.table = table,
					.map = map,
					.slot = MakeSingleTupleTableSlot(map->descriptor, &TTSOpsMinimalTuple),
					.values = palloc0((map->n + 1) * sizeof(Datum)),
					.nulls = palloc0((map->n + 1) * sizeof(bool)),
					.signs = palloc0((map->n + 1) * sizeof(int))};
}

/* Its values go to the slot.  False: it has a NULL where none may be. */
static bool
read_item_to_fold(PpFold *fold, const PpItem *item)
{
	ExecStoreMinimalTuple(pp_item_tuple(item), fold->slot, false);
	slot_getallattrs(fold->slot);
	for (int i = 0; i < fold->map->n; i++)
	{
		if (fold->slot->tts_isnull[i] && column_of(fold, i)->not_null)
			return false;
	}
	return true;
}

static int
sign_of(Oid type, Datum value)
{
	int64 number;

	if (type == NUMERICOID)
		return DatumGetInt32(
			DirectFunctionCall2(numeric_cmp, value, NumericGetDatum(int64_to_numeric(0))));
	number = type == INT2OID ? DatumGetInt16(value)
							 : (type == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value));
	return number > 0 ? 1 : (number < 0 ? -1 : 0);
}

static int
sign_in_slot(const PpFold *fold, int i)
{
	return fold->slot->tts_isnull[i] ? 0
									 : sign_of(column_of(fold, i)->type, fold->slot->tts_values[i]);
}

/* 22003 if it is out of the column's range. */
static Datum
add_to_fold(const Column *column, Datum a, Datum b)
{
	Datum sum;

	switch (column->type)
	{
		case INT2OID:
			return DirectFunctionCall2(int2pl, a, b);
		case INT4OID:
			return DirectFunctionCall2(int4pl, a, b);
		case INT8OID:
			return DirectFunctionCall2(int8pl, a, b);
		default:
			Assert(column->type == NUMERICOID);
			sum = DirectFunctionCall2(numeric_add, a, b);
			return column->typmod < 0
					   ? sum
					   : DirectFunctionCall2(numeric, sum, Int32GetDatum(column->typmod));
	}
}

/* Others may be added to this one, which sets or adds to these columns. */
void
pp_fold_begin(PpFold *fold, const PpItem *item, const uint8 *set)
{
	fold->first = item;
	fold->set = set;
	fold->n = 1;
	if (!read_item_to_fold(fold, item))
		fold->set = NULL;
	for (int i = 0; i < fold->map->n && fold->set; i++)
	{
		fold->values[i] = fold->slot->tts_values[i];
		fold->nulls[i] = fold->slot->tts_isnull[i];
		fold->signs[i] = 0;
		if (!is_set(fold, i))
			continue;
		if (!column_of(fold, i)->may_be_set)
			fold->set = NULL;
		else if (column_of(fold, i)->is_added)
			fold->signs[i] = sign_in_slot(fold, i);
	}
}

/* Add one of the same key, which gives the same columns.  False: it can't be. */
bool
pp_fold_add(PpFold *fold, const PpItem *item)
{
	const TupleTableSlot *slot = fold->slot;

	if (fold->set == NULL || !read_item_to_fold(fold, item))
		return false;
	for (int i = 0; i < fold->map->n; i++)
	{
		if (is_set(fold, i) && column_of(fold, i)->is_added &&
			sign_in_slot(fold, i) * fold->signs[i] < 0)
			return false;
	}
	for (int i = 0; i < fold->map->n; i++)
	{
		const Column *column = column_of(fold, i);

		if (!is_set(fold, i) || (column->is_added && slot->tts_isnull[i]))
			continue;
		if (column->is_added && fold->signs[i] == 0)
			fold->signs[i] = sign_in_slot(fold, i);
		fold->values[i] = column->is_added && !fold->nulls[i]
							  ? add_to_fold(column, fold->values[i], slot->tts_values[i])
							  : slot->tts_values[i];
		fold->nulls[i] = slot->tts_isnull[i];
	}
	fold->n++;
	return true;
}

/* What has become of more than one. */
const PpItem *
pp_fold_end(PpFold *fold)
{
	const PpItem *first = fold->first;
	PpItem *item = pp_item_form(first->target, first->durability, first->natts,
								fold->map->descriptor, pp_item_carried(first), pp_item_given(first),
								fold->values, fold->nulls, &first->layout, NULL, NULL);
	item->id = first->id;
	item->depth = first->depth;
	return item;
}
