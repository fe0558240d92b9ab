/*-------------------------------------------------------------------------
 *
 * leftovers.h
 *	  What a role's code leaves behind in the worker: cleared, or else the process is spent.
 *
 * The next role's code must find a session of its own.  What the server can reset is reset
 * after each transaction (identity.c), and what is compiled in PL/pgSQL before another role's
 * (plpgsql_watch.h).  What nobody can reset spends the process: it goes
 * on for that role, and makes way for a new one before another role's turn.  These do:
 *
 *	a library that the code has loaded, which may keep connections, an interpreter or
 *	variables (postgres_fdw, dblink, plperl), but for those that are known to keep nothing
 *	of a role's (persist_pipeline.stateless_libraries)
 *	one of the first kind that was preloaded: nobody can tell whether it was used
 *	a temporary schema
 *	the name of a custom setting (its value is reset)
 *	a replication origin of the session
 *
 * Who has no such library, preloaded or loaded by code, has written nowhere else, either.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_LEFTOVERS_H
#define PP_LEFTOVERS_H

#include "postgres.h"

extern void pp_leftovers_init(void);
extern void pp_leftovers_begin(Oid role);
extern void pp_leftovers_reset(void);
extern bool pp_leftovers_may_serve(Oid role);
extern bool pp_leftovers_may_write_elsewhere(void);

#endif /* PP_LEFTOVERS_H */
