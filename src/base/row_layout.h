/*-------------------------------------------------------------------------
 *
 * row_layout.h
 *	  What the bytes of a row mean: its columns' numbers, types and type modifiers, and,
 *	  as deep as that goes, the members of composite types.
 *
 * ALTER TABLE and ALTER TYPE can change that while an item waits.  A tuple that is read
 * with another descriptor than it was made with is a wild pointer in a superuser's
 * process, and whoever owns a table chooses its types and their modifiers.  So an item
 * carries a SHA-256 digest of its layout: two layouts with the same digest can't be
 * constructed.
 *
 * A walk goes once over each distinct type, however often it is used, and can be
 * interrupted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ROW_LAYOUT_H
#define PP_ROW_LAYOUT_H

#include "postgres.h"

#include "catalog/pg_attribute.h"
#include "common/sha2.h"
#include "nodes/pg_list.h"

typedef struct PpLayout
{
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
} PpLayout;

/* A column, or the element of a container; padding is zero, since it is digested */
typedef struct PpColumnLayout
{
	int32 attnum; /* 0: an element */
	int32 typmod;
	Oid type; /* the base type, and its typmod, where it is a domain */
	int16 length;
	char alignment;
	bool by_value;
	uint8 nested;	/* it has a layout of its own: */
	uint8 dropped;	/* a member that is no more, and has left a gap */
	uint8 unused[2];
	PpLayout inner;
} PpColumnLayout;

/* Types that have been seen; in the memory context that was current */
typedef struct PpLayoutWalk
{
	struct HTAB *seen; /* NULL: none that is nested */
	List *composites;  /* their pg_class OIDs */
	bool lock;		   /* keep composite types from being altered, to the end of the transaction */
} PpLayoutWalk;

extern PpColumnLayout pp_row_layout_of_column(PpLayoutWalk *walk, Form_pg_attribute att);
extern PpLayout pp_row_layout_of_columns(const PpColumnLayout *columns, int n);

static inline bool
pp_row_layout_equal(const PpLayout *a, const PpLayout *b)
{
	return memcmp(a, b, sizeof(PpLayout)) == 0;
}

#endif /* PP_ROW_LAYOUT_H */
