/*-------------------------------------------------------------------------
 *
 * role_settings.h
 *	  The settings that a new session of a role in this database would begin with
 *	  (ALTER ROLE ... SET, ALTER DATABASE ... SET), for a transaction of the worker's.
 *
 * A role that has set its search_path is protected by that in its own sessions: a name
 * that its trigger uses can't be somebody else's.  So it has to be in the worker.
 *
 * They are read anew for each transaction, by four look-ups in an index: the catalog has
 * no cache, and changes of it invalidate none.
 *
 * Some are passed over: what the worker forces, what it is, and what says whom it is for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ROLE_SETTINGS_H
#define PP_ROLE_SETTINGS_H

#include "postgres.h"

extern void pp_role_settings_note_server(void);
extern void pp_role_settings_undo_own(Oid role);
extern void pp_role_settings_force(void);
extern bool pp_role_settings_keeps_out(const char *name);
extern void pp_role_settings_apply(Oid role);

#endif /* PP_ROLE_SETTINGS_H */
