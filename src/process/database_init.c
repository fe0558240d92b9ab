/*-------------------------------------------------------------------------
 *
 * database_init.c
 *	  Connects a process of ours to a database; see database_init.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "postmaster/bgworker.h"
#include "utils/elog.h"
#include "utils/guc.h"

#include "process/database_init.h"
#include "ring/shmem.h"

static emit_log_hook_type previous_hook;

/* True: somebody was.  From now on somebody is. */
static bool
was_warned(Oid database)
{
	bool warned = false;

	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	for (int i = 0; i < PP_WARNED && !warned; i++)
		warned = pp_shmem->warned[i] == database;
	if (!warned)
		pp_shmem->warned[pp_shmem->nwarned++ % PP_WARNED] = database;
	LWLockRelease(pp_shmem->lock);

	return warned;
}

static void
drop_warning(ErrorData *error)
{
	if (error->elevel == WARNING)
		error->output_to_server = false;
	else if (previous_hook)
		previous_hook(error);
}

/*
 * InvalidOid: to none, but to the catalogs that all share.  ALLOW_CONNECTIONS is for new work;
 * what has been committed has to be written.
 */
void
pp_database_init(Oid database)
{
	if (!OidIsValid(database))
		BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	else
	{
		previous_hook = emit_log_hook;
		if (was_warned(database))
			emit_log_hook = drop_warning;
		BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
		emit_log_hook = previous_hook;
	}

	/* a serializable transaction that is read-only and deferrable waits for others to end */
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET,
					PGC_S_OVERRIDE);
	if (GetConfigOption("transaction_timeout", true, false) != NULL)
		SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
}
