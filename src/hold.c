/*-------------------------------------------------------------------------
 *
 * hold.c
 *	  Holds databases; see hold.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "config.h"
#include "hold.h"

#define HOLD_WAIT_MS 5000 /* for our processes to leave; as long as the server's own commands wait */
#define HOLD_LOOK_MS 5

#define MAX_HOLDS 8
static Oid my_holds[MAX_HOLDS];
static int nmy_holds = 0;

/* Is it, under PpShared.lock? */
bool
pp_is_held_locked(Oid database)
{
	for (int i = 0; i < pp_shared->nholds; i++)
	{
		if (pp_shared->holds[i] == database)
			return true;
	}
	return false;
}

static void
unhold_at_exit(int code, Datum arg)
{
	pp_unhold_all();
}

/*
 * A process of ours that is connected to the database, or 0; whom to wake, if it is a lane's.
 */
static pid_t
find_process(Oid database, PpSleeper **sleeper)
{
	pid_t pid;

	*sleeper = NULL;
	LWLockAcquire(pp_shared->lock, LW_SHARED);
	pid = pp_shared->probe.connected_to == database ? pp_shared->probe.pid : 0;
	LWLockRelease(pp_shared->lock);

	for (int i = 0; i < pp_max_databases && pid == 0; i++)
	{
		PpLane *lane = pp_lane(i);

		SpinLockAcquire(&lane->mutex);
		if (lane->worker_pid != 0 && lane->worker_database == database)
		{
			pid = lane->worker_pid;
			*sleeper = &lane->worker;
		}
		else if (lane->retrier.pid != 0 && lane->retrier.database == database)
		{
			pid = lane->retrier.pid;
			*sleeper = &lane->retrier.sleeper;
		}
		SpinLockRelease(&lane->mutex);
	}
	return pid;
}

/* Wait until no process of ours is connected to the database; false: it takes too long. */
static bool
wait_for_departure(Oid database)
{
	PpSteady start = pp_steady_now();
	uint32 wait_event = pp_wait_event("PersistPipelineHold");
	pid_t seen = 0;

	for (;;)
	{
		PpSleeper *sleeper;
		pid_t pid = find_process(database, &sleeper);

		if (pid != 0 && pid != seen)
		{
			if (sleeper)
				(void) pp_wake(sleeper);
			seen = pid;
		}
		/* it detaches a moment before it is no longer seen as connected */
		if (pid == 0 && (seen == 0 || BackendPidGetProc(seen) == NULL))
			return true;
		if (pp_has_lasted(start, HOLD_WAIT_MS))
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, HOLD_LOOK_MS,
						 wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
remove_one(Oid *databases, int *n, Oid database)
{
	int i = 0;

	while (databases[i] != database)
		i++;
	databases[i] = databases[--*n];
}

static bool
have_hold(Oid database)
{
	for (int i = 0; i < nmy_holds; i++)
	{
		if (my_holds[i] == database)
			return true;
	}
	return false;
}

/*
 * Send our processes away from the database, and keep them away until pp_unhold().
 * False: one is still there, in code that can't be interrupted.  54000 if this
 * process holds too many.
 */
bool
pp_hold(Oid database)
{
	static bool registered = false;
	PpLane *lane;

	if (!registered)
	{
		before_shmem_exit(unhold_at_exit, (Datum) 0);
		registered = true;
	}

	if (!have_hold(database))
	{
		LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
		if (nmy_holds == MAX_HOLDS || pp_shared->nholds == pp_max_holds())
		{
			LWLockRelease(pp_shared->lock);
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("too many databases are kept from their persist_pipeline workers")));
		}
		pp_shared->holds[pp_shared->nholds++] = database;
		my_holds[nmy_holds++] = database;
		lane = pp_lane_of(database);
		if (lane)
			lane->leave = true;
		LWLockRelease(pp_shared->lock);
	}

	return wait_for_departure(database);
}

/* Let them in again, as far as this process is concerned. */
void
pp_unhold(Oid database)
{
	PpLane *lane;

	if (!have_hold(database))
		return;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	remove_one(my_holds, &nmy_holds, database);
	remove_one(pp_shared->holds, &pp_shared->nholds, database);
	lane = pp_lane_of(database);
	if (lane)
		lane->leave = pp_is_held_locked(database);
	LWLockRelease(pp_shared->lock);

	pp_launcher_wake();
}

void
pp_unhold_all(void)
{
	while (nmy_holds > 0)
		pp_unhold(my_holds[0]);
}

/*
 * Is the database held?  A process that asks before it connects may see a hold
 * come while it does: the holder then waits for it.
 */
bool
pp_is_held(Oid database)
{
	bool held;

	LWLockAcquire(pp_shared->lock, LW_SHARED);
	held = pp_is_held_locked(database);
	LWLockRelease(pp_shared->lock);

	return held;
}
