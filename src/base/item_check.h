/*-------------------------------------------------------------------------
 *
 * item_check.h
 *	  Can these bytes be an item, and its tuple a row of such columns?
 *
 * An item that waits in a table may be damaged there.  What is read of it before this
 * says yes is nothing but lengths that this has checked.  Pure: no memory, no error, no
 * catalog; test/fuzz tries it with whatever bytes there are.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ITEM_CHECK_H
#define PP_ITEM_CHECK_H

#include "postgres.h"

#include "base/item.h"

/* What the bytes of a column look like */
typedef struct PpAttribute
{
	int16 length; /* -1: a varlena, -2: a C string */
	char alignment;
} PpAttribute;

extern bool pp_item_check_is_sound(const PpItem *item, uint64 available);
extern bool pp_item_check_fits(const PpItem *item, const PpAttribute *attributes, int n);

#endif /* PP_ITEM_CHECK_H */
