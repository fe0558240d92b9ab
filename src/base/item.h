/*-------------------------------------------------------------------------
 *
 * item.h
 *	  One row as bytes, as it crosses from the producer to the worker.
 *
 *	offset	size			what
 *	0		sizeof(PpItem)	the fixed part, below
 *	..		bitmap_bytes	carried: the columns whose values are in the tuple
 *	..		bitmap_bytes	given: those of them that the caller named; the rest
 *							were filled from their DEFAULTs at the call
 *	MAXALIGN .. sizeof(PpCommitPosition), in an item that is sent again: its commit position
 *							when it first failed
 *	MAXALIGN ..				a MinimalTuple of the carried columns, by attnum
 *	MAXALIGN .. sizeof(PpItemExtra), in an item that has something to say besides its row; and
 *							its settings
 *	size					MAXALIGNed: the next item may follow
 *
 * Rules:
 *	1. A bitmap has natts bits, bit (attnum - 1); bitmap_bytes = (natts + 7) / 8.
 *	2. The tuple's columns have the *base* types of the target's columns, without
 *	   type modifiers.  The INSERT casts them back, so that domains, varchar(n) and
 *	   numeric(p,s) are checked there too.
 *	3. Values are complete: no TOAST pointer, no expanded object.
 *	4. The layout is that of the carried columns (row_layout.h).  Where the worker
 *	   computes another one, the tuple must not be read.
 *	5. Its depth is 0 if a session has enqueued it; what is enqueued while the worker
 *	   inserts an item is one deeper than that.
 *	6. An item with an unknown version must not be read, nor one that item_check.h
 *	   finds unsound.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ITEM_H
#define PP_ITEM_H

#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"

#include "base/row_layout.h"

#define PP_ITEM_VERSION 3
#define PP_DEEPEST PG_UINT8_MAX /* the highest depth that is stored */

/* What may become of it in a crash before it is written */
typedef enum PpItemDurability
{
	PP_ITEM_JOURNALLED,	   /* it has to be there */
	PP_ITEM_UNLOGGED,	   /* nothing is left of its target, either: no journal */
	PP_ITEM_RING_ONLY,	   /* it is lost: no journal, since its target is configured so */
	PP_ITEM_AS_TRANSACTION /* it is as durable as the transaction that enqueues it */
} PpItemDurability;

typedef struct PpItem
{
	uint32 size; /* of the whole item */
	uint8 version;
	uint8 durability; /* PpItemDurability */
	uint16 natts;	  /* of the target at the call */
	Oid target;
	uint8 tuple_at;	   /* where the MinimalTuple is, in units of MAXIMUM_ALIGNOF bytes */
	uint8 depth;	   /* see rule 5 */
	uint16 attempts;   /* that have failed: it has been a dead letter so many times */
	int64 id;		   /* set when the item is enqueued ... */
	int64 enqueued_at; /* (TimestampTz) ... and this, too */
	PpLayout layout;
} PpItem;

/* A commit position: which item of which transaction */
typedef struct PpCommitPosition
{
	uint64 pos;
	uint32 part; /* which item of that position */
	uint32 zero; /* no padding, which would get into the journal as it is */
} PpCommitPosition;

/* Behind the tuple, where there is any of it */
typedef struct PpItemExtra
{
	uint32 unknown_keys; /* of the object, that were passed over at the call */
	uint32 settings;	 /* bytes behind it: names and values of settings, each with a '\0' */
} PpItemExtra;

#define PpBitmapBytes(natts) (((natts) + 7) / 8)
#define PpBitmapHas(bitmap, attnum)                                                                \
	(((bitmap)[((attnum) -1) / 8] & (1 << (((attnum) -1) % 8))) != 0)
#define PpBitmapAdd(bitmap, attnum) ((bitmap)[((attnum) -1) / 8] |= (1 << (((attnum) -1) % 8)))

static inline const uint8 *
pp_item_carried(const PpItem *item)
{
	return (const uint8 *) item + sizeof(PpItem);
}

static inline const uint8 *
pp_item_given(const PpItem *item)
{
	return pp_item_carried(item) + PpBitmapBytes(item->natts);
}

static inline Size
pp_item_tuple_offset(const PpItem *item)
{
	return (Size) item->tuple_at * MAXIMUM_ALIGNOF;
}

static inline MinimalTuple
pp_item_tuple(const PpItem *item)
{
	return (MinimalTuple) ((char *) item + pp_item_tuple_offset(item));
}

/* NULL: it has none */
static inline const PpItemExtra *
pp_item_extra(const PpItem *item)
{
	Size end = pp_item_tuple_offset(item) + MAXALIGN(pp_item_tuple(item)->t_len);

	return item->size > end ? (const PpItemExtra *) ((const char *) item + end) : NULL;
}

/* *length: of the settings that its INSERT is to find; 0: none */
static inline const char *
pp_item_settings(const PpItem *item, uint32 *length)
{
	const PpItemExtra *extra = pp_item_extra(item);

	*length = extra ? extra->settings : 0;
	return extra ? (const char *) extra + sizeof(PpItemExtra) : NULL;
}

extern TupleDesc pp_item_descriptor(TupleDesc target, const uint8 *carried, int natts);
extern PpItem *pp_item_form(Oid target, PpItemDurability durability, int natts,
							TupleDesc descriptor, const uint8 *carried, const uint8 *given,
							Datum *values, bool *nulls, const PpLayout *layout,
							const PpItemExtra *extra, const char *settings);
extern const PpCommitPosition *pp_item_commit_position(const PpItem *item);
extern PpItem *pp_item_with_commit_position(const PpItem *item, const PpCommitPosition *position);
extern bool pp_item_same_settings(const PpItem *a, const PpItem *b);
extern bool pp_item_same_layout(const PpItem *a, const PpItem *b);

#endif /* PP_ITEM_H */
