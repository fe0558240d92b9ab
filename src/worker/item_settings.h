/*-------------------------------------------------------------------------
 *
 * item_settings.h
 *	  Settings that go with items (capture_settings): set for their INSERT and what it defers,
 *	  and gone after it.
 *
 * The value is that of the session that has enqueued the item; one that wasn't set there is
 * what it is.  It is set as the enqueuer, who could set it in a session of his own: what asks
 * for more is refused when it is configured, and again when it is set.  Nor does it say who he is,
 * or how long his transaction may take (identity.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ITEM_SETTINGS_H
#define PP_ITEM_SETTINGS_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "base/item.h"

extern void pp_item_settings_check(List *names);
extern int pp_item_settings_set(const PpItem *item);
extern void pp_item_settings_reset(int level);
extern void pp_item_settings_explain(ErrorData *error);

#endif /* PP_ITEM_SETTINGS_H */
