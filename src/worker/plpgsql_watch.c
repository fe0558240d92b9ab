/*-------------------------------------------------------------------------
 *
 * plpgsql_watch.c
 *	  Functions in PL/pgSQL are compiled anew for each role; see plpgsql_watch.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "plpgsql.h"
#include "utils/hsearch.h"

#include "base/compat.h"
#include "worker/plpgsql_watch.h"

static void note_function(PLpgSQL_execstate *estate, PLpgSQL_function *function);

static PLpgSQL_plugin plugin = {.func_setup = note_function};
static PLpgSQL_plugin **place = NULL;
static HTAB *functions = NULL; /* that have run: pointers, which stay good */

/* A function is about to run; one that belongs to a DO goes with it, and has no OID. */
static void
note_function(PLpgSQL_execstate *estate, PLpgSQL_function *function)
{
	if (!OidIsValid(function->fn_oid))
		return;
	if (functions == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(PLpgSQL_function *),
					   .entrysize = sizeof(PLpgSQL_function *)};

		functions = hash_create("persist_pipeline functions", 32, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	(void) hash_search(functions, &function, HASH_ENTER, NULL);
}

void
pp_plpgsql_watch_init(void)
{
	place = (PLpgSQL_plugin **) find_rendezvous_variable("PLpgSQL_plugin");
	if (*place == NULL)
		*place = &plugin;
}

bool
pp_plpgsql_watch_is_on(void)
{
	return *place == &plugin;
}

void
pp_plpgsql_watch_forget(void)
{
	HASH_SEQ_STATUS scan;
	PLpgSQL_function **function;

	if (functions == NULL)
		return;
	hash_seq_init(&scan, functions);
	while ((function = hash_seq_search(&scan)) != NULL)
		pp_plpgsql_xmin(*function) = InvalidTransactionId; /* that of no row in pg_proc */
	hash_destroy(functions);
	functions = NULL;
}
