/*-------------------------------------------------------------------------
 *
 * process.c
 *	  What our processes have in common; see process.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/extension.h"
#include "process/process.h"
#include "store/pause.h"
#include "worker/hanging.h"
#include "worker/identity.h"
#include "worker/parking.h"
#include "worker/poison.h"
#include "worker/role_settings.h"
#include "worker/statement.h"
#include "worker/timer.h"

PpProcess pp_process;

static emit_log_hook_type previous_log_hook = NULL;

/* ---- the connection ---- */

static emit_log_hook_type hook_before_connect;

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
drop_warning_of_connect(ErrorData *error)
{
	if (error->elevel == WARNING)
		error->output_to_server = false;
	else if (hook_before_connect)
		hook_before_connect(error);
}

/*
 * InvalidOid: to no database, but to the catalogs that all share.  ALLOW_CONNECTIONS is for new
 * work; what has been committed has to be written.
 */
void
pp_process_connect(Oid database)
{
	if (!OidIsValid(database))
		BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	else
	{
		hook_before_connect = emit_log_hook;
		if (was_warned(database))
			emit_log_hook = drop_warning_of_connect;
		BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
		emit_log_hook = hook_before_connect;
	}

	/* a serializable transaction that is read-only and deferrable waits for others to end */
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	if (GetConfigOption("transaction_timeout", true, false) != NULL)
		SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
}

/* ---- a worker, a retrier ---- */

static void
request_stop(SIGNAL_ARGS)
{
	int save_errno = errno;

	if (pp_timer_stop_requested_at == 0)
		pp_timer_stop_requested_at = pp_steady_now();
	ShutdownRequestPending = true;
	/* whoever has lost its place has no ring */
	if (pp_process.stop_closes && *(volatile pid_t *) &pp_process.slot->worker_pid == MyProcPid)
		pp_ring_close_at_once(pp_process.stop_closes);
	pp_sleeper_wake_self();
	errno = save_errno;
}

/* An error that comes so far ends this process: whoever looks at the slot is told. */
static void
note_error(ErrorData *error)
{
	if (error->elevel >= ERROR)
	{
		SpinLockAcquire(&pp_process.slot->mutex);
		pp_shmem_count_error_locked(pp_process.slot, error->sqlerrcode);
		SpinLockRelease(&pp_process.slot->mutex);
	}
	if (previous_log_hook)
		previous_log_hook(error);
}

/*
 * Become the slot's worker, or its retrier (pp_shmem_am_retrier); leave at once if that isn't
 * wanted any more.
 */
void
pp_process_attach(int slot_number, Oid database, pg_on_exit_callback detach)
{
	pp_process.slot = pp_process.claim.slot = pp_shmem_slot(slot_number);
	pp_process.since = pp_steady_now();
	pp_shmem_am_worker = true;
	pqsignal(SIGTERM, request_stop);
	pqsignal(SIGHUP, pp_sleeper_handle_reload);
	ConfigReloadPending = true; /* until now it was ignored */
	BackgroundWorkerUnblockSignals();

	if (!pp_slot_attach(pp_process.slot, database, &pp_process.claim.generation))
		proc_exit(0);
	before_shmem_exit(detach, (Datum) 0);
	previous_log_hook = emit_log_hook;
	emit_log_hook = note_error;
}

/*
 * The timer had to end this worker.  If the target is known, the next worker parks its items for
 * the retrier, and no item becomes a candidate.
 */
static bool
leave_to_retrier(void)
{
	Oid target = pp_statement_state.target;

	if (pp_shmem_am_retrier || pp_timer_cut != PP_CUT_TIMEOUT || !OidIsValid(target) ||
		pp_hanging_is(target))
		return false;
	pp_hanging_note_outlived(MyDatabaseId, target);
	return true;
}

/*
 * Either process of the slot: this is how it ends, if that says something of what it tries.
 * True: another one can go on at once.
 */
bool
pp_process_note_end(int code)
{
	bool left = code != 0 && leave_to_retrier();

	if (code == 0)
		pp_poison_close(PP_END_CLEAN);
	else if (left || pp_timer_cut == PP_CUT_STOP || pp_timer_cut == PP_CUT_BLOCKED ||
			 !PostmasterIsAlive())
		pp_poison_close(PP_END_BY_OTHERS);
	else
	{
		if (pp_timer_cut == PP_CUT_TIMEOUT)
			pp_poison_note_outlived();
		pp_poison_close(PP_END_BY_ITSELF);
	}
	return left;
}

/* What is installed in the database?  FATAL if it can't be used. */
void
pp_process_find_extension(void)
{
	pp_process.claim.extension = pp_extension_find_or_end();
}

/*
 * Is the database paused, or are targets?  *changed: the slot's word that this process has to
 * look, which is true again if it has to look once more.
 */
bool
pp_process_read_pauses(bool *changed)
{
	bool paused;

	SpinLockAcquire(&pp_process.slot->mutex);
	*changed = false;
	SpinLockRelease(&pp_process.slot->mutex);

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	paused = OidIsValid(pp_process.claim.extension) && pp_pause_is_on(pp_process.claim.extension);
	pp_parking_look_for_pauses();
	CommitTransactionCommand();
	MemoryContextSwitchTo(pp_process.batch_context);

	return paused;
}

/* Connect this process, which is attached to its slot; what both kinds of them need. */
void
pp_process_enter(Oid database, const char *application)
{
	pp_role_settings_note_server();
	pp_process_connect(database);
	pp_identity_init();
	pp_timer_init(pp_process.slot);
	pp_process.batch_context =
		AllocSetContextCreate(TopMemoryContext, "persist_pipeline batch", ALLOCSET_DEFAULT_SIZES);

	StartTransactionCommand();
	pp_process.database_name =
		MemoryContextStrdup(TopMemoryContext, get_database_name(MyDatabaseId));
	CommitTransactionCommand();

	SetConfigOption("application_name", application, PGC_USERSET, PGC_S_OVERRIDE);
	pgstat_report_appname(application);

	pp_process_find_extension();
	pp_parking_init(&pp_process.claim);
	MemoryContextSwitchTo(pp_process.batch_context);
}

void
pp_process_reload_settings(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

/* Between transactions there is nothing that a cancellation could mean. */
void
pp_process_check_interrupts(void)
{
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
}
