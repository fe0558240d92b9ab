/*-------------------------------------------------------------------------
 *
 * item.c
 *	  Makes and opens the bytes that item.h describes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/item.h"

/*
 * Bytes of its values of any length: with all the rest, the row of a dead letter has to hold them
 */
#define MAX_VALUES (MaxAllocSize - 1024 * 1024)

/* The descriptor of an item's tuple; see rule 2 of item.h. */
TupleDesc
pp_item_descriptor(TupleDesc target, const uint8 *carried, int natts)
{
	int ncarried = 0;
	TupleDesc desc;
	AttrNumber column = 0;

	for (int attnum = 1; attnum <= natts; attnum++)
		ncarried += PpBitmapHas(carried, attnum) ? 1 : 0;

	desc = CreateTemplateTupleDesc(ncarried);
	for (int attnum = 1; attnum <= natts; attnum++)
	{
		Form_pg_attribute att = TupleDescAttr(target, attnum - 1);

		if (!PpBitmapHas(carried, attnum))
			continue;
		column++;
		TupleDescInitEntry(desc, column, NameStr(att->attname), getBaseType(att->atttypid), -1,
						   att->attndims);
		TupleDescInitEntryCollation(desc, column, att->attcollation);
	}
	pp_tupdesc_finalize(desc);

	return desc;
}

/* The end of the bitmaps, where the tuple is, or a place before it. */
static Size
bitmaps_end(int natts)
{
	return MAXALIGN(sizeof(PpItem) + 2 * PpBitmapBytes(natts));
}

static void
check_size(Oid target, uint64 bytes)
{
	if (bytes > MAX_VALUES)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the item for relation \"%s\" is too large", get_rel_name(target)),
						errdetail("Its values have %llu bytes; the limit is %llu.",
								  (unsigned long long) bytes, (unsigned long long) MAX_VALUES),
						errhint("Insert the row into its table.")));
}

/*
 * Make an item in the current memory context.  `values` and `nulls` are those
 * of the carried columns, in the order of the descriptor.  extra: NULL: there is none.
 * The id is left 0.
 * 54000 if it is too large for a dead letter.
 */
PpItem *
pp_item_form(Oid target, PpItemDurability durability, int natts, TupleDesc descriptor,
			 const uint8 *carried, const uint8 *given, Datum *values, bool *nulls,
			 const PpLayout *layout, const PpItemExtra *extra, const char *settings)
{
	int bitmap = PpBitmapBytes(natts);
	Size tuple_offset = bitmaps_end(natts);
	MinimalTuple tuple;
	uint64 bytes = 0;
	Size row_end;
	Size size;
	PpItem *item;

	for (int i = 0; i < descriptor->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(descriptor, i);

		if (nulls[i] || att->attlen != -1)
			continue;
		if (VARATT_IS_EXTERNAL(DatumGetPointer(values[i])))
			values[i] = PointerGetDatum(
				detoast_external_attr((struct varlena *) DatumGetPointer(values[i])));
		bytes += VARSIZE_ANY(DatumGetPointer(values[i]));
	}
	check_size(target, bytes);

	tuple = pp_form_minimal_tuple(descriptor, values, nulls);
	row_end = MAXALIGN(tuple_offset + tuple->t_len);
	size = row_end + (extra ? sizeof(PpItemExtra) + MAXALIGN(extra->settings) : 0);

	item = palloc_extended(size, MCXT_ALLOC_HUGE);
	memset(item, 0, tuple_offset);
	item->size = (uint32) size;
	item->version = PP_ITEM_VERSION;
	item->durability = durability;
	item->natts = natts;
	item->target = target;
	item->tuple_at = tuple_offset / MAXIMUM_ALIGNOF;
	item->layout = *layout;
	memcpy((char *) item + sizeof(PpItem), carried, bitmap);
	memcpy((char *) item + sizeof(PpItem) + bitmap, given, bitmap);
	memcpy((char *) item + tuple_offset, tuple, tuple->t_len);
	memset((char *) item + tuple_offset + tuple->t_len, 0, size - tuple_offset - tuple->t_len);
	if (extra)
		memcpy((char *) item + row_end, extra, sizeof(PpItemExtra));
	if (extra && extra->settings > 0)
		memcpy((char *) item + row_end + sizeof(PpItemExtra), settings, extra->settings);
	heap_free_minimal_tuple(tuple);

	return item;
}

StaticAssertDecl(sizeof(PpCommitPosition) == MAXALIGN(sizeof(PpCommitPosition)),
				 "a place has no padding behind it");
StaticAssertDecl(sizeof(PpItemExtra) == MAXALIGN(sizeof(PpItemExtra)),
				 "an item's size is aligned with it, too");
StaticAssertDecl(sizeof(PpItem) + 2 * PpBitmapBytes(MaxHeapAttributeNumber) +
						 sizeof(PpCommitPosition) <
					 PG_UINT8_MAX * MAXIMUM_ALIGNOF,
				 "the offset of any tuple fits into its field");

/* Where it was when it first failed; NULL: it hasn't. */
const PpCommitPosition *
pp_item_commit_position(const PpItem *item)
{
	Size offset = bitmaps_end(item->natts);

	return pp_item_tuple_offset(item) > offset
			   ? (const PpCommitPosition *) ((const char *) item + offset)
			   : NULL;
}

/* The same item, in the current memory context, with a place, if it has none. */
PpItem *
pp_item_with_commit_position(const PpItem *item, const PpCommitPosition *position)
{
	Size offset = bitmaps_end(item->natts);
	Size room = pp_item_commit_position(item) ? 0 : sizeof(PpCommitPosition);
	PpItem *copy = palloc_extended(item->size + room, MCXT_ALLOC_HUGE);

	memcpy(copy, item, offset);
	memcpy((char *) copy + offset + room, (const char *) item + offset, item->size - offset);
	if (room > 0)
	{
		*(PpCommitPosition *) ((char *) copy + offset) = *position;
		copy->size += room;
		copy->tuple_at += room / MAXIMUM_ALIGNOF;
	}
	return copy;
}

/* Do both bring the same settings along, or none? */
bool
pp_item_same_settings(const PpItem *a, const PpItem *b)
{
	uint32 length_a;
	uint32 length_b;
	const char *settings_a = pp_item_settings(a, &length_a);
	const char *settings_b = pp_item_settings(b, &length_b);

	return length_a == length_b && (length_a == 0 || memcmp(settings_a, settings_b, length_a) == 0);
}

/* Can both items be rows of the same INSERT?  What its triggers enqueue has one depth. */
bool
pp_item_same_layout(const PpItem *a, const PpItem *b)
{
	return a->target == b->target && a->natts == b->natts && a->depth == b->depth &&
		   pp_row_layout_equal(&a->layout, &b->layout) &&
		   memcmp(pp_item_carried(a), pp_item_carried(b), PpBitmapBytes(a->natts)) == 0 &&
		   pp_item_same_settings(a, b);
}
