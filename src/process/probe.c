/*-------------------------------------------------------------------------
 *
 * probe.c
 *	  Looks into one database; see probe.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/faults.h"
#include "base/savepoint.h"
#include "process/probe.h"
#include "process/process.h"
#include "ring/databases.h"
#include "ring/slots.h"
#include "store/copied.h"
#include "store/journal.h"
#include "store/parked_table.h"
#include "store/pause.h"

#define READ_AGAIN_MS 60000	 /* when pg_database couldn't be read */
#define LOCKED_MS 1000		 /* when it was locked */
#define FAILED_MIN_MS 1000	 /* from a round in which a process has failed to the next ... */
#define FAILED_MAX_MS 600000 /* ... and from one to the next, if that goes on */

static Oid task = InvalidOid; /* that isn't done */

/*
 * An error, or somebody, may have ended this process before its task was done.  That is no reason
 * to keep others waiting; and it may pass, so that all databases are looked into once more.
 */
static void
end_task(int code, Datum arg)
{
	PpProbe *probe = &pp_shmem->probe;

	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	probe->pid = 0;
	if (OidIsValid(task))
	{
		probe->again_at =
			pp_steady_in(Min(FAILED_MAX_MS, FAILED_MIN_MS << Min(2 * probe->failures, 12)));
		probe->again = true;
		probe->failures++;
	}
	LWLockRelease(pp_shmem->lock);
	pp_shmem_wake_launcher();
}

/* Which database?  InvalidOid: it has been dropped meanwhile. */
static Oid
take_task(void)
{
	PpProbe *probe = &pp_shmem->probe;
	Oid database;

	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	database = probe->database;
	probe->database = InvalidOid;
	probe->connected_to = database;
	probe->pid = MyProcPid;
	LWLockRelease(pp_shmem->lock);

	task = database;
	return database;
}

/* Another process is to look into it, another time. */
static void
put_task_back(Oid database)
{
	PpProbe *probe = &pp_shmem->probe;

	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	if (OidIsValid(probe->database) && probe->database != database)
	{
		probe->again = true;
		probe->again_at = 0;
	}
	else
		probe->database = database;
	LWLockRelease(pp_shmem->lock);
	task = InvalidOid;
}

static volatile bool looking = false; /* to be interrupted */

/* It may be waiting for a lock, which is not worth waiting for any more. */
static void
request_probe_stop(SIGNAL_ARGS)
{
	int save_errno = errno;

	ShutdownRequestPending = true;
	if (looking)
		InterruptPending = QueryCancelPending = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

/* Has somebody, in the meantime, told the server to stop, or wants the database? */
static bool
wants_stop(void)
{
	return ShutdownRequestPending || pp_database_is_blocked(MyDatabaseId);
}

/*
 * The journal is that of the database which this one was copied from: what is in it
 * must not be written here, unless somebody says so.
 */
static void
put_copied_aside(Oid extension)
{
	uint64 items;

	if (!pp_copied_find(extension, wants_stop, &items))
	{
		/* another time */
		AbortCurrentTransaction();
		put_task_back(MyDatabaseId);
		proc_exit(0);
	}
	if (items > 0)
		ereport(LOG, (errmsg("database \"%s\" is a copy, and with it came %llu items that the "
							 "original writes, too",
							 get_database_name(MyDatabaseId), (unsigned long long) items),
					  errdetail("They wait in its table \"persist_copied\"."),
					  errhint("Call persist_resume() there to have them written, or "
							  "persist_discard() to drop them.")));
}

/*
 * An installation that can't work is worth a line before somebody needs it.  One
 * whose journal has rows gets a slot, and so a worker, or waits for one; `enqueued`: so many items
 * had come before our snapshot.  False: it can't.
 */
static bool
look_around(uint64 enqueued)
{
	const char *fault;
	Oid extension = pp_extension_find(&fault);
	bool has_work;

	if (fault)
		ereport(LOG, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					  errmsg("extension \"persist_pipeline\" in database \"%s\" cannot be used as "
							 "it is",
							 get_database_name(MyDatabaseId)),
					  errdetail("%s", fault)));
	if (OidIsValid(extension) && !fault)
		put_copied_aside(extension);
	has_work = OidIsValid(extension) && !fault &&
			   (pp_journal_has_rows(extension) || pp_parked_table_has_rows(extension, InvalidOid));
	PP_FAULT(looks_around);
	if (OidIsValid(extension) && !fault)
		pp_slot_know(MyDatabaseId, pp_pause_is_on(extension), has_work, enqueued);
	ereport(DEBUG1, (errmsg_internal("persist_pipeline looked into database \"%s\": %s",
									 get_database_name(MyDatabaseId),
									 has_work				 ? "items wait"
									 : OidIsValid(extension) ? "installed"
															 : "not installed")));
	return !has_work || pp_slot_call_first_pass(MyDatabaseId);
}

void
pp_probe_main(Datum unused)
{
	Oid database;
	PpCatcher catcher;

	/* it takes milliseconds: at a stop it comes to its end, and says nothing */
	pqsignal(SIGTERM, request_probe_stop);
	BackgroundWorkerUnblockSignals();

	before_shmem_exit(end_task, (Datum) 0);
	database = take_task();
	if (!OidIsValid(database))
		proc_exit(0);
	if (pp_database_is_blocked(database))
	{
		put_task_back(database);
		proc_exit(0);
	}

	pp_process_connect(database);

	looking = true;
	catcher = pp_savepoint_catcher();
	if (ShutdownRequestPending)
		proc_exit(0);
	PG_TRY();
	{
		uint64 enqueued = pp_slot_counts(MyDatabaseId).enqueued;
		bool looked;

		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		looked = look_around(enqueued);
		PopActiveSnapshot();
		CommitTransactionCommand();
		looking = false;
		if (!looked)
			put_task_back(database);
		task = InvalidOid;
	}
	PG_CATCH();
	{
		looking = false;
		QueryCancelPending = false;
		if (!ShutdownRequestPending)
			PG_RE_THROW();
		(void) pp_savepoint_catch(&catcher); /* the server stops, and there is nothing to say */
	}
	PG_END_TRY();
	proc_exit(0);
}

/* ---- the launcher ---- */

static PpSteady read_at = 0; /* pg_database, not before that */

/* All databases are to be looked into, from the first on. */
void
pp_probe_all(void)
{
	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	pp_shmem->probe.round = true;
	pp_shmem->probe.after = InvalidOid;
	pp_shmem->probe.database = InvalidOid;
	LWLockRelease(pp_shmem->lock);
}

/* A look into pg_database */
typedef struct Look
{
	Oid after;
	Oid next; /* InvalidOid: none */
	bool locked;
} Look;

/*
 * The connectable database with the next higher OID.  Whoever has locked pg_database for himself
 * isn't waited for, since there is other work; nobody gets into a database just then, anyway.
 */
static void
find_next(void *arg)
{
	Look *look = arg;
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;

	look->locked = !ConditionalLockRelationOid(DatabaseRelationId, AccessShareLock);
	if (look->locked)
		return;
	rel = table_open(DatabaseRelationId, NoLock);
	scan = table_beginscan_catalog(rel, 0, NULL);

	/* not by the index: where no database is selected, that can't be */
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (database->oid > look->after && (database->datallowconn || !database->datistemplate) &&
			database->datconnlimit != DATCONNLIMIT_INVALID_DB &&
			(!OidIsValid(look->next) || database->oid < look->next))
			look->next = database->oid;
	}
	table_endscan(scan);
	table_close(rel, NoLock);
}

/*
 * The database after that; false: it can't be told just now, which the log says if it is an
 * error.
 */
static bool
read_databases(Oid after, Oid *next)
{
	Look look = {.after = after};
	ErrorData *error = pp_savepoint_run_in_transaction(find_next, &look);

	*next = look.next;
	if (error)
	{
		ereport(
			LOG,
			(errcode(error->sqlerrcode),
			 errmsg("persist_pipeline cannot read which databases there are: %s", error->message),
			 errdetail("In those that it hasn't looked into what waits is written once something "
					   "is enqueued.")));
		FreeErrorData(error);
		read_at = pp_steady_in(READ_AGAIN_MS);
	}
	else if (look.locked)
		read_at = pp_steady_in(LOCKED_MS);
	return error == NULL && !look.locked;
}

/* The one to look into next.  InvalidOid: none, or none before *ms have passed (-1: none). */
Oid
pp_probe_next(long *ms)
{
	PpProbe *probe = &pp_shmem->probe;

	for (;;)
	{
		PpProbe seen;
		Oid next;

		LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
		if (!probe->round && !OidIsValid(probe->database) && probe->again &&
			probe->again_at <= pp_steady_now())
		{
			probe->round = true;
			probe->after = InvalidOid;
			probe->again = false;
		}
		if (pp_database_is_blocked_locked(probe->database))
		{
			/* a command may take long, as CREATE DATABASE does: others don't wait for its end */
			probe->database = InvalidOid;
			probe->passed_over = true;
		}
		seen = *probe;
		LWLockRelease(pp_shmem->lock);

		*ms = -1;
		if (seen.pid != 0)
			return InvalidOid; /* who looks now wakes us when it ends */
		if (OidIsValid(seen.database))
			return seen.database;
		if (!seen.round && seen.again)
			*ms = Max(pp_steady_ms_until(seen.again_at), 1);
		if (!seen.round)
			return InvalidOid;
		*ms = pp_steady_ms_until(read_at);
		if (*ms > 0)
			return InvalidOid;
		if (!read_databases(seen.after, &next))
			continue;

		LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
		probe->round = OidIsValid(next);
		probe->after = next;
		probe->database = next;
		if (!probe->round && !probe->again)
			probe->failures = 0;
		LWLockRelease(pp_shmem->lock);
	}
}
