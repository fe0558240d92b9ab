/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  Starts a worker for each lane that has work and none.
 *
 * Connected to no database, asleep without a timeout.  It is woken by the first
 * item of a lane without a worker, by a worker that leaves, and by the
 * postmaster when a worker could not be started.  A worker that fails before it
 * has written anything is started again after a second, then two, and so on up
 * to a minute; one that left in good order, at once.
 *
 * When the server stops, the postmaster starts no worker any more.  So the
 * launcher then closes the rings that have none, and if one holds items, becomes
 * its worker.  (It has room for one: a process connects to one database.  Two
 * databases whose workers are both just starting when the server stops would be
 * one too many; it says so.)
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "config.h"
#include "launcher.h"
#include "shmem.h"
#include "worker.h"

#define RESTART_MIN_MS 1000
#define RESTART_MAX_MS 60000

/* Workers that were registered and have not attached yet; by lane */
static BackgroundWorkerHandle **handles;

static void
forget_latch(int code, Datum arg)
{
	pp_set_launcher_latch(NULL);
}

/* A worker that died before it attached must not be waited for. */
static void
check_start(PpLane *lane, int number)
{
	pid_t pid;

	if (handles[number] == NULL || GetBackgroundWorkerPid(handles[number], &pid) != BGWH_STOPPED)
		return;
	pfree(handles[number]);
	handles[number] = NULL;
	SpinLockAcquire(&lane->mutex);
	lane->starting = false;
	SpinLockRelease(&lane->mutex);
}

static bool
needs_worker(PpLane *lane)
{
	PpRingView view;
	bool busy;

	if (!OidIsValid(pp_lane_database(lane)))
		return false;
	SpinLockAcquire(&lane->mutex);
	busy = lane->worker_pid != 0 || lane->starting;
	SpinLockRelease(&lane->mutex);
	view = pp_ring_view(&lane->ring);

	/* a closed ring refuses items until a worker opens it */
	return !busy && (view.head < view.tail || view.reserved > 0 || view.closed);
}

/* How long the lane's next start has to wait, in ms. */
static long
restart_delay(PpLane *lane)
{
	TimestampTz last_start;
	TimestampTz next_start;
	int starts;

	SpinLockAcquire(&lane->mutex);
	last_start = lane->last_start;
	starts = lane->starts;
	SpinLockRelease(&lane->mutex);

	if (starts == 0)
		return 0;
	next_start = TimestampTzPlusMilliseconds(
		last_start, Min(RESTART_MAX_MS, RESTART_MIN_MS << Min(starts - 1, 6)));
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next_start);
}

static void
start_worker(PpLane *lane, int number)
{
	BackgroundWorker worker = {.bgw_flags =
								   BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
							   .bgw_start_time = BgWorkerStart_RecoveryFinished,
							   .bgw_restart_time = BGW_NEVER_RESTART,
							   .bgw_main_arg = Int32GetDatum(number),
							   .bgw_notify_pid = MyProcPid};
	TimestampTz now = GetCurrentTimestamp();
	int starts;
	bool registered;

	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "persist_pipeline");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "pp_worker_main");
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "persist_pipeline worker");
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "persist_pipeline worker for database %u",
			 pp_lane_database(lane));

	SpinLockAcquire(&lane->mutex);
	lane->starting = true;
	lane->last_start = now;
	starts = lane->starts++;
	SpinLockRelease(&lane->mutex);

	if (handles[number])
		pfree(handles[number]);
	handles[number] = NULL;
	registered = RegisterDynamicBackgroundWorker(&worker, &handles[number]);
	if (registered)
		return;

	SpinLockAcquire(&lane->mutex);
	lane->starting = false;
	SpinLockRelease(&lane->mutex);
	if (starts == 0)
		ereport(LOG, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					  errmsg("no background worker slot is free for persist_pipeline"),
					  errdetail("Items wait in the ring until one is."),
					  errhint("Increase \"max_worker_processes\".")));
}

/* Start what is due; returns the ms until the next start is, or -1. */
static long
start_workers(void)
{
	long next = -1;

	for (int number = 0; number < pp_lane_count(); number++)
	{
		PpLane *lane = pp_lane(number);
		long delay;

		check_start(lane, number);
		if (!needs_worker(lane))
			continue;
		delay = restart_delay(lane);
		if (delay <= 0)
		{
			start_worker(lane, number);
			if (!needs_worker(lane))
				continue;
			delay = restart_delay(lane);
		}
		if (next < 0 || delay < next)
			next = delay;
	}

	return next;
}

/*
 * What a launcher before us has left: a ring that it closed for a stop that didn't
 * come, a start whose end it didn't live to see.
 */
static void
take_over(void)
{
	for (int number = 0; number < pp_lane_count(); number++)
	{
		PpLane *lane = pp_lane(number);

		SpinLockAcquire(&lane->mutex);
		lane->starting = false;
		SpinLockRelease(&lane->mutex);
		if (!OidIsValid(pp_lane_database(lane)))
			pp_ring_open(&lane->ring);
	}
}

/* Nothing may get into a ring that no worker will empty. */
static void
close_lanes(void)
{
	int rescue = -1;

	for (int number = 0; number < pp_lane_count(); number++)
	{
		PpLane *lane = pp_lane(number);
		PpRingView view;
		bool attached;

		SpinLockAcquire(&lane->mutex);
		attached = lane->worker_pid != 0;
		SpinLockRelease(&lane->mutex);
		if (attached)
			continue;

		pp_ring_close(&lane->ring);
		view = pp_ring_view(&lane->ring);
		if (view.head == view.tail && view.reserved == 0)
			continue;
		if (rescue < 0)
			rescue = number;
		else
			ereport(WARNING,
					(errmsg("no persist_pipeline worker is left for database %u",
							pp_lane_database(lane)),
					 errdetail("%llu items stay in the ring; they are lost if the server stops.",
							   (unsigned long long) (view.published - view.settled))));
	}

	if (rescue >= 0)
		pp_worker_rescue(rescue);
}

void
pp_launcher_main(Datum unused)
{
	uint32 wait_event;

	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	wait_event = pp_wait_event("PersistPipelineLauncher");
	handles = MemoryContextAllocZero(TopMemoryContext, pp_lane_count() * sizeof(*handles));
	before_shmem_exit(forget_latch, (Datum) 0);
	take_over();
	pp_set_launcher_latch(MyLatch);

	while (!ShutdownRequestPending)
	{
		long ms = start_workers();

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (ms >= 0 ? WL_TIMEOUT : 0),
						 ms, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}

	close_lanes();

	/* not 0: the postmaster starts it again, unless the server is stopping */
	proc_exit(1);
}

/* Called while the library is preloaded. */
void
pp_launcher_register(void)
{
	/* the connection is for close_lanes */
	BackgroundWorker worker = {.bgw_flags =
								   BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
							   .bgw_start_time = BgWorkerStart_RecoveryFinished,
							   .bgw_restart_time = 1};

	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "persist_pipeline");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "pp_launcher_main");
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "persist_pipeline launcher");
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "persist_pipeline launcher");
	RegisterBackgroundWorker(&worker);
}
