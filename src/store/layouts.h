/*-------------------------------------------------------------------------
 *
 * layouts.h
 *	  The columns that targets had: the table persist_layouts.
 *
 * An item names its columns by number, and has a digest of their layout (row_layout.h).  Before a
 * command drops a target or a column of one, or changes a column's type, it notes the columns as
 * they are, in its own transaction: names, types, and what is needed to find a value among an
 * item's bytes.  The item's digest tells which of the noted columns it was made for; nothing else
 * in the table is trusted.
 *
 * A relation that is renamed to the name of a target which its transaction has dropped replaces
 * that: what waits for the target is written to the relation.  Another row says so.  If that is
 * replaced, too, one of its own does, and the target's stays as it is.
 *
 * The worker takes a row away when nothing can need it any more.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_LAYOUTS_H
#define PP_LAYOUTS_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

#include "base/item.h"

/* A column of a target; padding is zero, since it is compared */
typedef struct PpColumnNote
{
	NameData name;
	PpColumnLayout layout; /* attnum 0: it was dropped before */
	uint8 hidden;		   /* GENERATED ALWAYS AS IDENTITY: nobody gives it */
	uint8 unused[3];
} PpColumnNote;

extern PpColumnNote pp_layouts_describe(PpLayoutWalk *walk, Form_pg_attribute att);
extern bool pp_layouts_are_those(const PpColumnNote *columns, int n, const PpItem *item);
/* A relation that was dropped, and the one that has replaced it */
typedef struct PpReplaced
{
	Oid target;
	Oid by;
} PpReplaced;

extern void pp_layouts_note(Oid extension, Relation rel, bool dropped);
extern PpColumnNote *pp_layouts_find(Oid extension, const PpItem *item, int *n);
extern char *pp_layouts_target_name(Oid extension, Oid target);
extern void pp_layouts_replace(Oid extension, Oid target, const char *name, Oid by, bool again);
extern List *pp_layouts_successors(Oid target);
extern Oid pp_layouts_current(Oid target);
extern Relation pp_layouts_open_unless_locked(Oid target, LOCKMODE mode, bool *locked);
extern PpReplaced *pp_layouts_replaced(Oid extension, int *n);
extern List *pp_layouts_add_those(List *targets, const PpReplaced *replaced, int n);
extern List *pp_layouts_add_replaced(Oid extension, List *targets);
extern bool pp_layouts_any(Oid extension);
extern void pp_layouts_forget(Oid extension, TransactionId before, const List *targets);

#endif /* PP_LAYOUTS_H */
