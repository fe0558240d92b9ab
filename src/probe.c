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
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "connect.h"
#include "copied.h"
#include "extension.h"
#include "journal.h"
#include "hold.h"
#include "lane.h"
#include "parked.h"
#include "pause.h"
#include "probe.h"
#include "savepoint.h"

static void
forget_pid(int code, Datum arg)
{
	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	pp_shared->probe.pid = 0;
	LWLockRelease(pp_shared->lock);
}

/*
 * Which database is next?  Whatever becomes of this process, the one after it goes
 * on behind that.
 */
static Oid
take_task(Oid *after)
{
	PpProbe *probe = &pp_shared->probe;
	Oid database;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	database = probe->database;
	if (OidIsValid(database))
		probe->after = database;
	*after = probe->after;
	probe->database = InvalidOid;
	probe->connected_to = database;
	probe->pid = MyProcPid;
	LWLockRelease(pp_shared->lock);

	return database;
}

static void
set_next_task(Oid database)
{
	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	pp_shared->probe.database = database;
	pp_shared->probe.wanted = OidIsValid(database) || pp_shared->probe.again;
	if (!OidIsValid(database) && pp_shared->probe.again)
	{
		pp_shared->probe.again = false;
		pp_shared->probe.after = InvalidOid;
		pp_shared->probe.round++;
	}
	LWLockRelease(pp_shared->lock);
}

static volatile bool looking = false; /* to be interrupted */

/* It may be waiting for a lock, which is not worth waiting for any more. */
static void
request_stop(SIGNAL_ARGS)
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
	return ShutdownRequestPending || pp_is_held(MyDatabaseId);
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
		set_next_task(MyDatabaseId);
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
 * whose journal has rows gets a lane, and so a worker, or waits for one.  False: it can't.
 */
static bool
look_around(void)
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
			   (pp_journal_has_rows(extension) || pp_parked_has_rows(extension, InvalidOid));
	if (OidIsValid(extension) && !fault)
		pp_lane_know(MyDatabaseId, pp_is_paused(extension), has_work);
	ereport(DEBUG1, (errmsg_internal("persist_pipeline looked into database \"%s\": %s",
									 get_database_name(MyDatabaseId),
									 has_work				 ? "items wait"
									 : OidIsValid(extension) ? "installed"
															 : "not installed")));
	return !has_work || pp_lane_call_pass(MyDatabaseId, 0);
}

/* The connectable database with the next higher OID; InvalidOid: none. */
static Oid
find_next(Oid after)
{
	Relation rel = table_open(DatabaseRelationId, AccessShareLock);
	TableScanDesc scan = table_beginscan_catalog(rel, 0, NULL);
	Oid next = InvalidOid;
	HeapTuple tuple;

	/* not by the index: where no database is selected, that can't be */
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (database->oid > after && (database->datallowconn || !database->datistemplate) &&
			database->datconnlimit != DATCONNLIMIT_INVALID_DB &&
			(!OidIsValid(next) || database->oid < next))
			next = database->oid;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);

	return next;
}

void
pp_probe_main(Datum unused)
{
	Oid database;
	Oid after;
	Oid next;
	PpCatcher catcher;

	/* it takes milliseconds: at a stop it comes to its end, and says nothing */
	pqsignal(SIGTERM, request_stop);
	BackgroundWorkerUnblockSignals();

	before_shmem_exit(forget_pid, (Datum) 0);
	database = take_task(&after);
	if (pp_is_held(database))
	{
		set_next_task(database);
		proc_exit(0);
	}

	pp_connect(database);

	looking = true;
	catcher = pp_catcher();
	if (ShutdownRequestPending)
		proc_exit(0);
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		if (OidIsValid(database) && !look_around())
			next = database;
		else
			next = find_next(after);
		PopActiveSnapshot();
		CommitTransactionCommand();
		looking = false;
		set_next_task(next);
	}
	PG_CATCH();
	{
		looking = false;
		QueryCancelPending = false;
		if (!ShutdownRequestPending)
			PG_RE_THROW();
		(void) pp_catch(&catcher); /* the server stops, and there is nothing to say */
	}
	PG_END_TRY();
	proc_exit(0);
}
