/*-------------------------------------------------------------------------
 *
 * lane_attach.c
 *	  Which processes are attached to a lane: its worker, its retrier; and which worker has lost
 *	  its place to another one.  See lane.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "lane.h"

/*
 * This process becomes the lane's worker, for that database.  False: the lane is
 * another's by now, has a worker, or its database is held.
 */
bool
pp_lane_attach(PpLane *lane, Oid database, uint64 *generation)
{
	bool attached = false;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	SpinLockAcquire(&lane->mutex);
	if (OidIsValid(database) && lane->database == database && !lane->leave && lane->worker_pid == 0)
	{
		lane->worker_pid = MyProcPid;
		lane->worker_database = database;
		lane->worker_state = PP_WORKER_WRITING;
		lane->commits = false;
		lane->overdue = 0;
		lane->owes_earlier = true; /* it doesn't know what the last one has left */
		attached = true;
	}
	else
		lane->starts = 0; /* that start came to nothing, but through no fault */
	SpinLockRelease(&lane->mutex);
	if (attached)
		pp_sleeper_attach(&lane->worker);
	*generation = pp_ring_view(&lane->ring).generation;
	LWLockRelease(pp_shared->lock);

	return attached;
}

/* Under the lane's mutex: it has no worker any more, wherever that was. */
void
pp_lane_vacate(PpLane *lane)
{
	lane->worker_pid = 0;
	lane->worker_database = InvalidOid;
	lane->worker_state = PP_WORKER_NONE;
	lane->commits = false;
	lane->overdue = 0;
	lane->idle_since = pp_steady_now();
	if (!lane->has_batch)
		return;

	/* in the middle of a batch: what it has parked is there, the rest comes again */
	lane->has_batch = false;
	lane->owes_earlier = true;
	lane->parked_seq++;
	lane->parked_from = 0;
	lane->retry_at = pp_steady_now();
}

/* Has another worker taken the place of this one? */
bool
pp_lane_is_replaced(PpLane *lane)
{
	pid_t pid;

	SpinLockAcquire(&lane->mutex);
	pid = lane->worker_pid;
	SpinLockRelease(&lane->mutex);
	return pid != MyProcPid;
}

/* This process was the lane's worker, or is it still. */
void
pp_lane_detach(PpLane *lane)
{
	bool ours;

	SpinLockAcquire(&lane->mutex);
	ours = lane->worker_pid == MyProcPid;
	if (ours)
		pp_lane_vacate(lane);
	for (int i = 0; i < PP_STUCK; i++)
	{
		if (lane->stuck[i].pid == MyProcPid)
			lane->stuck[i].pid = 0;
	}
	SpinLockRelease(&lane->mutex);
	if (ours)
		pp_sleeper_detach(&lane->worker);
}

/*
 * The worker settles items with the transaction that is open, and may not be replaced before
 * that has ended.  False: it has been.
 */
bool
pp_lane_begin_commit(PpLane *lane)
{
	bool ours;

	SpinLockAcquire(&lane->mutex);
	ours = lane->worker_pid == MyProcPid;
	lane->commits |= ours;
	SpinLockRelease(&lane->mutex);
	return ours;
}

/*
 * That transaction has ended, or whatever else has taken so long.  False: another worker has
 * taken the place of this one.
 */
bool
pp_lane_end_commit(PpLane *lane)
{
	bool ours;

	SpinLockAcquire(&lane->mutex);
	ours = lane->worker_pid == MyProcPid;
	if (ours)
	{
		lane->commits = false;
		lane->overdue = 0;
	}
	SpinLockRelease(&lane->mutex);
	return ours;
}

/*
 * For the launcher: where the worker runs code that can't be ended, another one takes its
 * place, if that is allowed.  *pid: of that worker, or 0; *target: of the code, if that is known.  False: it keeps
 * its place.
 */
bool
pp_lane_replace_worker(PpLane *lane, bool allowed, pid_t *pid, Oid *database, Oid *target)
{
	PpStuck *unused = NULL;
	bool replaced = false;

	SpinLockAcquire(&lane->mutex);
	*pid = lane->overdue == lane->worker_pid ? lane->overdue : 0;
	*database = lane->worker_database;
	*target = lane->overdue_target;
	for (int i = 0; i < PP_STUCK; i++)
	{
		if (lane->stuck[i].pid == 0)
			unused = &lane->stuck[i];
	}
	if (*pid != 0 && allowed && !lane->commits && unused)
	{
		*unused = (PpStuck){.pid = *pid, .database = lane->worker_database};
		lane->starts = 0;
		pp_lane_vacate(lane);
		replaced = true;
	}
	SpinLockRelease(&lane->mutex);
	if (!replaced)
		return false;
	pp_sleeper_detach(&lane->worker);
	pp_ring_attend(&lane->ring, false);
	return true;
}

/*
 * This process tries what is parked of the lane's database from now on.  False: the lane is
 * another's by now, has a retrier, or its database is held.
 */
bool
pp_lane_attach_retrier(PpLane *lane, Oid database, uint64 *generation)
{
	bool attached = false;

	LWLockAcquire(pp_shared->lock, LW_EXCLUSIVE);
	SpinLockAcquire(&lane->mutex);
	if (OidIsValid(database) && lane->database == database && !lane->leave &&
		lane->retrier.pid == 0)
	{
		lane->retrier.pid = MyProcPid;
		lane->retrier.database = database;
		lane->retrier.wanted = false;
		lane->retrier.state = PP_RETRIER_WRITING;
		lane->retrier.since = pp_steady_now();
		attached = true;
	}
	else
		lane->retrier.starts = 0; /* that start came to nothing, but through no fault */
	SpinLockRelease(&lane->mutex);
	if (attached)
		pp_sleeper_attach(&lane->retrier.sleeper);
	*generation = pp_ring_view(&lane->ring).generation;
	LWLockRelease(pp_shared->lock);

	return attached;
}
