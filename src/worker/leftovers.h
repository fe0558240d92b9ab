/*-------------------------------------------------------------------------
 *
 * leftovers.h
 *	  What a role's code leaves behind in the worker: it is cleared, or the process serves no
 *	  other role.
 *
 * The next role's code must find a clean session.  What the server can reset is reset after each
 * transaction (identity.c); functions in PL/pgSQL are compiled again before another role's run
 * (plpgsql_watch.h).  What can't be reset makes the process unfit for other roles ("spent"): it
 * goes on for the same role, and ends before another role's items are due, so that a new process
 * inserts those.  That is what these do:
 *
 *	- a library that the code has loaded, which may keep connections, an interpreter or variables
 *	  (postgres_fdw, dblink, plperl), but for those that are known to keep nothing of a role's
 *	  (persist_pipeline.stateless_libraries)
 *	- such a library that was preloaded: it can't be told whether it was used
 *	- a temporary schema
 *	- the name of a custom setting (its value is reset), unless a target's owner has chosen it:
 *	  1,000 of those may stay
 *	- a replication origin of the session
 *
 * A process that has no such library, preloaded or loaded by code, can't have written to another
 * server, either.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_LEFTOVERS_H
#define PP_LEFTOVERS_H

#include "postgres.h"

extern void pp_leftovers_init(void);
extern void pp_leftovers_begin(Oid role);
extern void pp_leftovers_expect_placeholder(void);
extern void pp_leftovers_reset(void);
extern bool pp_leftovers_may_serve(Oid role);
extern bool pp_leftovers_may_write_elsewhere(void);

#endif /* PP_LEFTOVERS_H */
