/*-------------------------------------------------------------------------
 *
 * slots_worker.c
 *	  A slot's worker and its retrier, as they come and go; and which worker has lost
 *	  its place to another one.  See slots.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "ring/slots.h"

/*
 * This process becomes the slot's worker, or its retrier, for that database.  False: the slot is
 * another database's by now, has such a process, or its database is blocked.
 */
bool
pp_slot_attach(PpSlot *slot, Oid database, uint64 *generation)
{
	bool retries = pp_shmem_am_retrier;
	bool attached;

	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	SpinLockAcquire(&slot->mutex);
	attached = OidIsValid(database) && slot->database == database && !slot->leave &&
			   (retries ? slot->retrier.pid : slot->worker_pid) == 0;
	if (attached && retries)
	{
		slot->retrier.pid = MyProcPid;
		slot->retrier.database = database;
		slot->retrier.wanted = false;
		slot->retrier.state = PP_RETRIER_WRITING;
		slot->retrier.since = pp_steady_now();
	}
	else if (attached)
	{
		slot->worker_pid = MyProcPid;
		slot->worker_database = database;
		pp_shmem_set_worker_state_locked(slot, PP_WORKER_WRITING);
		slot->in_commit = false;
		slot->overdue = 0;
		slot->owes_earlier = true; /* the last worker may have left work unfinished */
	}
	else
		*(retries ? &slot->retrier.starts : &slot->starts) = 0; /* it failed through no fault */
	SpinLockRelease(&slot->mutex);
	if (attached)
		pp_sleeper_attach(retries ? &slot->retrier.sleeper : &slot->worker_sleeper);
	*generation = pp_ring_view(&slot->ring).generation;
	LWLockRelease(pp_shmem->lock);

	return attached;
}

/* Under the slot's mutex: the worker is gone, whatever it was doing. */
void
pp_slot_vacate(PpSlot *slot)
{
	slot->worker_pid = 0;
	slot->worker_database = InvalidOid;
	pp_shmem_set_worker_state_locked(slot, PP_WORKER_NONE);
	slot->in_commit = false;
	slot->overdue = 0;
	slot->idle_since = pp_steady_now();
	if (!slot->has_batch)
		return;

	/*
	 * it was in the middle of a batch: what it has parked and committed is in the table, the rest
	 * is taken again
	 */
	slot->has_batch = false;
	slot->owes_earlier = true;
	slot->parked_seq++;
	slot->parked_from = 0;
	slot->retry_at = pp_steady_now();
}

/* Detach this process, unless another worker has replaced it already. */
void
pp_slot_detach(PpSlot *slot)
{
	bool ours;

	SpinLockAcquire(&slot->mutex);
	ours = slot->worker_pid == MyProcPid;
	if (ours)
		pp_slot_vacate(slot);
	for (int i = 0; i < PP_STUCK; i++)
	{
		if (slot->stuck[i].pid == MyProcPid)
			slot->stuck[i].pid = 0;
	}
	SpinLockRelease(&slot->mutex);
	if (ours)
		pp_sleeper_detach(&slot->worker_sleeper);
}

/*
 * The worker settles items with the transaction that is open, and may not be replaced before
 * that has ended; nor may one that is on its way out.  False: it has been.
 */
bool
pp_slot_begin_commit(PpSlot *slot)
{
	bool ours;

	SpinLockAcquire(&slot->mutex);
	ours = slot->worker_pid == MyProcPid;
	slot->in_commit |= ours;
	SpinLockRelease(&slot->mutex);
	return ours;
}

/*
 * That transaction has ended, or whatever else has taken so long.  False: another worker has
 * taken the place of this one.
 */
bool
pp_slot_end_commit(PpSlot *slot)
{
	bool ours;

	SpinLockAcquire(&slot->mutex);
	ours = slot->worker_pid == MyProcPid;
	if (ours)
	{
		slot->in_commit = false;
		slot->overdue = 0;
	}
	SpinLockRelease(&slot->mutex);
	return ours;
}

/*
 * For the launcher: where the worker runs code that can't be ended, another one takes its
 * place, if that is allowed.  *pid: of that worker, or 0; *target: of the code, if that is
 * known.  False: it keeps its place.
 */
bool
pp_slot_replace_worker(PpSlot *slot, bool allowed, pid_t *pid, Oid *database, Oid *target)
{
	PpStuck *unused = NULL;
	bool replaced = false;

	SpinLockAcquire(&slot->mutex);
	*pid = slot->overdue == slot->worker_pid ? slot->overdue : 0;
	*database = slot->worker_database;
	*target = slot->overdue_target;
	for (int i = 0; i < PP_STUCK; i++)
	{
		if (slot->stuck[i].pid == 0)
			unused = &slot->stuck[i];
	}
	if (*pid != 0 && allowed && !slot->in_commit && unused)
	{
		*unused = (PpStuck){.pid = *pid, .database = slot->worker_database};
		slot->starts = 0;
		pp_shmem_note_failure_locked(slot);
		pp_slot_vacate(slot);
		replaced = true;
	}
	SpinLockRelease(&slot->mutex);
	if (!replaced)
		return false;
	pp_sleeper_detach(&slot->worker_sleeper);
	pp_ring_attend(&slot->ring, false);
	return true;
}
