/*-------------------------------------------------------------------------
 *
 * item_check.c
 *	  Checks the bytes of items; see item_check.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"

#include "base/compat.h"
#include "base/item_check.h"

/* How many columns a bitmap names; -1: some that there aren't. */
static int
count_bits(const uint8 *bitmap, int natts)
{
	int n = 0;

	if (natts % 8 != 0 && bitmap[natts / 8] >> (natts % 8) != 0)
		return -1;
	for (int i = 0; i < PpBitmapBytes(natts); i++)
		n += __builtin_popcount(bitmap[i]);
	return n;
}

/* Where the values begin, from the start of the tuple. */
static uint32
values_offset(MinimalTuple tuple)
{
	return tuple->t_hoff - MINIMAL_TUPLE_OFFSET;
}

/* Is what is behind the tuple an item's: nothing, or pairs of strings that end where they should?
 */
static bool
is_extra_sound(const char *end, uint64 available)
{
	const PpItemExtra *extra = (const PpItemExtra *) end;
	uint32 strings = 0;

	if (available == 0)
		return true;
	if (available < sizeof(PpItemExtra) ||
		available != sizeof(PpItemExtra) + MAXALIGN((uint64) extra->settings))
		return false;
	for (uint32 i = 0; i < extra->settings; i++)
		strings += end[sizeof(PpItemExtra) + i] == '\0' ? 1 : 0;
	return extra->settings == 0 ||
		   (strings % 2 == 0 && end[sizeof(PpItemExtra) + extra->settings - 1] == '\0');
}

/* Is the tuple's header one of a row of n columns, and is there room for it, and no more? */
static bool
is_tuple_sound(MinimalTuple tuple, uint32 available, int n)
{
	int natts;
	uint32 begin;

	if (available < SizeofMinimalTupleHeader || tuple->t_len > available ||
		tuple->t_len < SizeofMinimalTupleHeader || MAXALIGN((uint64) tuple->t_len) > available ||
		!is_extra_sound((const char *) tuple + MAXALIGN(tuple->t_len),
						available - MAXALIGN((uint64) tuple->t_len)))
		return false;
	natts = tuple->t_infomask2 & HEAP_NATTS_MASK;
	begin = MAXALIGN(SizeofHeapTupleHeader +
					 ((tuple->t_infomask & HEAP_HASNULL) ? BITMAPLEN(natts) : 0));
	return natts == n && tuple->t_hoff == begin && begin - MINIMAL_TUPLE_OFFSET <= tuple->t_len;
}

/* Can these bytes be an item, as far as its own lengths tell? */
bool
pp_item_check_is_sound(const PpItem *item, uint64 available)
{
	Size bitmaps;
	Size tuple;
	int carried;

	if (available < sizeof(PpItem) || item->version != PP_ITEM_VERSION || item->size > available ||
		item->size != MAXALIGN(item->size) || item->natts > MaxHeapAttributeNumber ||
		!OidIsValid(item->target) || item->durability > PP_ITEM_AS_TRANSACTION)
		return false;
	bitmaps = MAXALIGN(sizeof(PpItem) + 2 * PpBitmapBytes(item->natts));
	tuple = pp_item_tuple_offset(item);
	if ((tuple != bitmaps && tuple != bitmaps + MAXALIGN(sizeof(PpCommitPosition))) ||
		item->size < tuple)
		return false;
	carried = count_bits(pp_item_carried(item), item->natts);
	return carried >= 0 && count_bits(pp_item_given(item), item->natts) >= 0 &&
		   is_tuple_sound(pp_item_tuple(item), item->size - tuple, carried);
}

/* The size of the varlena at the beginning of so many bytes; 0: it can't be one. */
static uint32
varlena_size(const char *value, uint32 available)
{
	if (available == 0 || VARATT_IS_1B_E(value))
		return 0; /* a TOAST pointer would be one */
	if (VARATT_IS_1B(value))
		return VARSIZE_1B(value);
	if (available < VARHDRSZ || VARSIZE_4B(value) < VARHDRSZ ||
		(VARATT_IS_4B_C(value) && VARSIZE_4B(value) < VARHDRSZ_COMPRESSED))
		return 0;
	return VARSIZE_4B(value);
}

/*
 * Where the value ends that is the next one of such a column; 0: there can't be one.
 * A short varlena isn't aligned, and padding is zero.
 */
static inline uint64
end_of_value(const PpAttribute *attribute, const char *values, uint32 offset, uint32 available)
{
	uint64 begin = att_align_nominal(offset, attribute->alignment);
	uint64 size;

	if (attribute->length > 0)
		return begin + attribute->length;
	if (attribute->length == -1 && offset < available && values[offset] != 0)
	{
		if (offset != begin && !VARATT_IS_1B(values + offset))
			return 0;
		begin = offset;
	}
	if (begin >= available)
		return 0;
	size = attribute->length == -1 ? varlena_size(values + begin, available - begin)
								   : strnlen(values + begin, available - begin) + 1;
	return size > 0 ? begin + size : 0;
}

/*
 * Is its tuple, whose header is sound, one of such columns: does each value end within
 * it?  Only then may it be read with their descriptor.
 */
bool
pp_item_check_fits(const PpItem *item, const PpAttribute *attributes, int n)
{
	MinimalTuple tuple = pp_item_tuple(item);
	const char *values = (const char *) tuple + values_offset(tuple);
	uint32 available = tuple->t_len - values_offset(tuple);
	uint32 offset = 0;

	if ((tuple->t_infomask2 & HEAP_NATTS_MASK) != n)
		return false;
	for (int i = 0; i < n; i++)
	{
		uint64 end;

		if ((tuple->t_infomask & HEAP_HASNULL) && att_isnull(i, tuple->t_bits))
			continue;
		end = end_of_value(&attributes[i], values, offset, available);
		if (end == 0 || end > available)
			return false;
		offset = end;
	}
	return true;
}
