/*-------------------------------------------------------------------------
 *
 * plpgsql_watch.h
 *	  Functions in PL/pgSQL are compiled anew for each role.
 *
 * A compiled function keeps the types that its declarations name, as they were found along
 * the search_path of whoever ran it first in the process: a domain "label" of his own, say,
 * whose CHECK would then run as the next role.  In sessions of their own each would have
 * found his own types.  So the worker watches which functions run, as a plugin of PL/pgSQL,
 * and has them compiled again before another role's code runs.
 *
 * There can be but one plugin: where another has taken the place (a debugger, a profiler),
 * PL/pgSQL is a library that keeps something of a role's (leftovers.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PLPGSQL_WATCH_H
#define PP_PLPGSQL_WATCH_H

#include "postgres.h"

/* Called once, when the worker has connected. */
extern void pp_plpgsql_watch_init(void);

/* Do we see each function that runs? */
extern bool pp_plpgsql_watch_is_on(void);

/* What has run so far is compiled again when it runs next.  Not while one runs. */
extern void pp_plpgsql_watch_forget(void);

#endif /* PP_PLPGSQL_WATCH_H */
