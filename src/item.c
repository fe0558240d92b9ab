/*-------------------------------------------------------------------------
 *
 * item.c
 *	  Makes, checks and opens the bytes that item.h describes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/relation.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "compat.h"
#include "item.h"

static uint64
add(uint64 fingerprint, uint64 value)
{
	return hash_bytes_extended((const unsigned char *) &value, sizeof(value), fingerprint);
}

/*
 * What the bytes of a type depend on, besides its OID: ALTER TYPE can change
 * the members of a composite, at any depth.
 */
static uint64
type_fingerprint(Oid type, List **composites)
{
	Oid base = getBaseType(type);
	uint64 fingerprint = base;
	Oid inner;
	Oid relid;

	if (OidIsValid(inner = get_element_type(base)) || OidIsValid(inner = get_range_subtype(base)))
		return add(fingerprint, type_fingerprint(inner, composites));
	if (OidIsValid(inner = get_multirange_range(base)))
		return add(fingerprint, type_fingerprint(inner, composites));

	relid = get_typ_typrelid(base);
	if (OidIsValid(relid))
	{
		TupleDesc desc = lookup_rowtype_tupdesc_copy(base, -1);

		if (composites)
			*composites = list_append_unique_oid(*composites, relid);
		for (int i = 0; i < desc->natts; i++)
		{
			Form_pg_attribute att = TupleDescAttr(desc, i);

			if (!att->attisdropped)
				fingerprint = add(fingerprint, pp_column_fingerprint(att, composites));
		}
		FreeTupleDesc(desc);
	}

	return fingerprint;
}

/*
 * The fingerprint of one column.  Adds to *composites, unless NULL, the pg_class
 * OIDs of the composite types it depends on.
 */
uint64
pp_column_fingerprint(Form_pg_attribute att, List **composites)
{
	uint64 fingerprint = att->attnum;

	fingerprint = add(fingerprint, (uint32) att->atttypmod);
	return add(fingerprint, type_fingerprint(att->atttypid, composites));
}

/* Start from 0 and add the carried columns' fingerprints by ascending attnum. */
uint64
pp_fingerprint_add(uint64 fingerprint, uint64 column)
{
	return add(fingerprint, column);
}

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

/*
 * Make an item in the current memory context.  `values` and `nulls` are those
 * of the carried columns, in the order of the descriptor.  The id is left 0.
 */
PpItem *
pp_item_form(Oid target, bool ring_only, int natts, TupleDesc descriptor, const uint8 *carried,
			 const uint8 *given, Datum *values, bool *nulls, uint64 fingerprint)
{
	int bitmap = PpBitmapBytes(natts);
	Size tuple_offset = bitmaps_end(natts);
	MinimalTuple tuple;
	Size size;
	PpItem *item;

	for (int i = 0; i < descriptor->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(descriptor, i);

		if (!nulls[i] && att->attlen == -1 && VARATT_IS_EXTERNAL(DatumGetPointer(values[i])))
			values[i] = PointerGetDatum(
				detoast_external_attr((struct varlena *) DatumGetPointer(values[i])));
	}

	tuple = pp_form_minimal_tuple(descriptor, values, nulls);
	size = MAXALIGN(tuple_offset + tuple->t_len);

	item = palloc_extended(size, MCXT_ALLOC_HUGE);
	memset(item, 0, tuple_offset);
	item->size = (uint32) size;
	item->version = PP_ITEM_VERSION;
	item->ring_only = ring_only;
	item->natts = natts;
	item->target = target;
	item->tuple_offset = (uint16) tuple_offset;
	item->fingerprint = fingerprint;
	memcpy((char *) item + sizeof(PpItem), carried, bitmap);
	memcpy((char *) item + sizeof(PpItem) + bitmap, given, bitmap);
	memcpy((char *) item + tuple_offset, tuple, tuple->t_len);
	memset((char *) item + tuple_offset + tuple->t_len, 0, size - tuple_offset - tuple->t_len);
	heap_free_minimal_tuple(tuple);

	return item;
}

/* Where it was when it first failed; NULL: it hasn't. */
const PpPlace *
pp_item_place(const PpItem *item)
{
	Size offset = bitmaps_end(item->natts);

	return item->tuple_offset > offset ? (const PpPlace *) ((const char *) item + offset) : NULL;
}

/* The same item, in the current memory context, with a place, if it has none. */
PpItem *
pp_item_with_place(const PpItem *item, const PpPlace *place)
{
	Size offset = bitmaps_end(item->natts);
	Size room = pp_item_place(item) ? 0 : MAXALIGN(sizeof(PpPlace));
	PpItem *copy = palloc_extended(item->size + room, MCXT_ALLOC_HUGE);

	memcpy(copy, item, offset);
	memcpy((char *) copy + offset + room, (const char *) item + offset, item->size - offset);
	if (room > 0)
	{
		memset((char *) copy + offset, 0, room);
		*(PpPlace *) ((char *) copy + offset) = *place;
		copy->size += room;
		copy->tuple_offset += room;
	}
	return copy;
}

/* Can these bytes be an item, as far as its own lengths tell? */
bool
pp_item_is_sound(const PpItem *item, uint64 available)
{
	return available >= sizeof(PpItem) && item->version == PP_ITEM_VERSION &&
		   item->size <= available && item->size == MAXALIGN(item->size) &&
		   (item->tuple_offset == bitmaps_end(item->natts) ||
			item->tuple_offset == bitmaps_end(item->natts) + MAXALIGN(sizeof(PpPlace))) &&
		   item->size >= item->tuple_offset + SizeofMinimalTupleHeader &&
		   pp_item_tuple(item)->t_len <= item->size - item->tuple_offset;
}

/* Can both items be rows of the same INSERT? */
bool
pp_item_same_shape(const PpItem *a, const PpItem *b)
{
	return a->target == b->target && a->natts == b->natts && a->fingerprint == b->fingerprint &&
		   memcmp(pp_item_carried(a), pp_item_carried(b), PpBitmapBytes(a->natts)) == 0;
}
