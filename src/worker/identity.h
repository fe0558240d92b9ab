/*-------------------------------------------------------------------------
 *
 * identity.h
 *	  Run a transaction of the worker as another role, and come back clean.
 *
 * The worker connects as superuser, while triggers, constraints, generated
 * columns, rules and policies of its targets are other people's code.  So the
 * whole transaction, through its COMMIT, runs with the enqueuer as both
 * session_user and current_user:
 *
 *	pp_identity_begin	StartTransaction; a GUC level opens, with the settings that the
 *						role's own sessions have (role_settings.h); session_user and
 *						current_user become the role, under SECURITY_LOCAL_USERID_CHANGE,
 *						so that RESET ROLE and SET SESSION AUTHORIZATION are refused
 *	...					INSERTs
 *	pp_identity_commit	deferred constraints are checked as the role; the GUC level
 *						closes; CommitTransaction, still as the role; back to the
 *						superuser; whatever the code left in the session is cleared, or
 *						the process serves no other role any more (leftovers.h)
 *	pp_identity_abort	the same after an error
 *
 * In between, no statement of our own may depend on search_path: names of tables,
 * types, functions and operators are qualified.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_IDENTITY_H
#define PP_IDENTITY_H

#include "postgres.h"

extern void pp_identity_init(void);
extern bool pp_identity_is_spent(Oid role);
extern void pp_identity_begin(Oid role, int lock_timeout);
extern bool pp_identity_is_ours(void);
extern void pp_identity_set_lock_timeout(int ms);
extern void pp_identity_commit(void);
extern bool pp_identity_is_committing(void);
extern void pp_identity_abort(void);

#endif /* PP_IDENTITY_H */
