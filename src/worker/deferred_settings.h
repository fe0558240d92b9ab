/*-------------------------------------------------------------------------
 *
 * deferred_settings.h
 *	  Settings that go with items, for what their rows defer (constraint triggers).
 *
 * In a session, what is deferred finds the settings as they are at its COMMIT.  Here it finds those
 * that the items of its transaction have brought along, the last one of each.  So transactions
 * whose settings differ are inserted one after the other, each with what it defers, where code may
 * see the difference.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_DEFERRED_SETTINGS_H
#define PP_DEFERRED_SETTINGS_H

#include "worker/statement.h"

extern bool pp_deferred_settings_matter(const PpRow **rows, uint64 n);
extern uint64 pp_deferred_settings_same(const PpRow **rows, uint64 n);
extern void pp_deferred_settings_fire(const PpRow **rows, uint64 n);

#endif /* PP_DEFERRED_SETTINGS_H */
