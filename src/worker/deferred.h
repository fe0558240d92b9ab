/*-------------------------------------------------------------------------
 *
 * deferred.h
 *	  What rows defer to the end of their transaction: triggers and constraints.
 *
 * Deferred triggers are fired in the order in which their rows were inserted.  The mark shows which
 * of them have come through: it is a row of one of our tables, inserted between the other rows,
 * with a deferred trigger.  When that trigger is called, those of all rows before it have
 * succeeded.  The row is rolled back.
 *
 * Settings that go with items: in a session, what is deferred finds the settings as they are at its
 * COMMIT.  Here it finds those that the items of its transaction have brought along, the last one
 * of each.  So transactions whose settings differ are inserted one after the other, each with what
 * it defers, where code may see the difference.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_DEFERRED_H
#define PP_DEFERRED_H

#include "worker/statement.h"

/* In the current transaction; not passed yet. */
extern void pp_deferred_mark_put(Oid extension);

extern bool pp_deferred_mark_is_passed(void);

extern bool pp_deferred_settings_matter(const PpRow **rows, uint64 n);
extern uint64 pp_deferred_settings_same(const PpRow **rows, uint64 n);
extern void pp_deferred_settings_fire(const PpRow **rows, uint64 n);

#endif /* PP_DEFERRED_H */
