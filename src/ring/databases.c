/*-------------------------------------------------------------------------
 *
 * databases.c
 *	  Which databases our processes stay out of, and what is known of those without a slot; see
 *	  databases.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "utils/wait_event.h"

#include "base/compat.h"
#include "base/config.h"
#include "ring/databases.h"

/* for our processes to leave; as long as the server's own commands wait */
#define BLOCK_WAIT_MS 5000
#define BLOCK_LOOK_MS 5

/* ---- blocked ---- */

#define MAX_BLOCKED 8
static Oid my_blocked[MAX_BLOCKED];
static int nmy_blocked = 0;

/* Is it, under PpShmem.lock? */
bool
pp_database_is_blocked_locked(Oid database)
{
	for (int i = 0; i < pp_shmem->nblocked; i++)
	{
		if (pp_shmem->blocked[i] == database)
			return true;
	}
	return false;
}

static void
unblock_at_exit(int code, Datum arg)
{
	pp_databases_unblock_all();
}

/*
 * A process of ours that is connected to the database, or 0; whom to wake, if it is a slot's.
 */
static pid_t
find_process(Oid database, PpSleeper **sleeper)
{
	pid_t pid;

	*sleeper = NULL;
	LWLockAcquire(pp_shmem->lock, LW_SHARED);
	pid = pp_shmem->probe.connected_to == database ? pp_shmem->probe.pid : 0;
	LWLockRelease(pp_shmem->lock);

	for (int i = 0; i < pp_config_max_databases && pid == 0; i++)
	{
		PpSlot *slot = pp_shmem_slot(i);

		SpinLockAcquire(&slot->mutex);
		if (slot->worker_pid != 0 && slot->worker_database == database)
		{
			pid = slot->worker_pid;
			*sleeper = &slot->worker_sleeper;
		}
		else if (slot->retrier.pid != 0 && slot->retrier.database == database)
		{
			pid = slot->retrier.pid;
			*sleeper = &slot->retrier.sleeper;
		}
		SpinLockRelease(&slot->mutex);
	}
	return pid;
}

/* Wait until no process of ours is connected to the database; false: it takes too long. */
static bool
wait_for_departure(Oid database)
{
	PpSteady start = pp_steady_now();
	uint32 wait_event = pp_wait_event("PersistPipelineBlock");
	pid_t seen = 0;

	for (;;)
	{
		PpSleeper *sleeper;
		pid_t pid = find_process(database, &sleeper);

		if (pid != 0 && pid != seen)
		{
			if (sleeper)
				(void) pp_sleeper_wake(sleeper);
			seen = pid;
		}
		/* it detaches a moment before it is no longer seen as connected */
		if (pid == 0 && (seen == 0 || BackendPidGetProc(seen) == NULL))
			return true;
		if (pp_steady_has_lasted(start, BLOCK_WAIT_MS))
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, BLOCK_LOOK_MS,
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
have_blocked(Oid database)
{
	for (int i = 0; i < nmy_blocked; i++)
	{
		if (my_blocked[i] == database)
			return true;
	}
	return false;
}

/*
 * Send our processes away from the database, and keep them away until pp_database_unblock().
 * False: one is still there, in code that can't be interrupted.  54000 if this
 * process holds too many.
 */
bool
pp_database_block(Oid database)
{
	static bool registered = false;
	PpSlot *slot;

	if (!registered)
	{
		before_shmem_exit(unblock_at_exit, (Datum) 0);
		registered = true;
	}

	if (!have_blocked(database))
	{
		LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
		if (nmy_blocked == MAX_BLOCKED || pp_shmem->nblocked == pp_shmem_max_blocked())
		{
			LWLockRelease(pp_shmem->lock);
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("too many databases are kept from their persist_pipeline workers")));
		}
		pp_shmem->blocked[pp_shmem->nblocked++] = database;
		my_blocked[nmy_blocked++] = database;
		slot = pp_shmem_slot_of(database);
		if (slot)
			slot->leave = true;
		LWLockRelease(pp_shmem->lock);
	}

	return wait_for_departure(database);
}

/* End this process's block. */
void
pp_database_unblock(Oid database)
{
	PpSlot *slot;

	if (!have_blocked(database))
		return;

	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	remove_one(my_blocked, &nmy_blocked, database);
	remove_one(pp_shmem->blocked, &pp_shmem->nblocked, database);
	slot = pp_shmem_slot_of(database);
	if (slot)
		slot->leave = pp_database_is_blocked_locked(database);
	if (pp_shmem->probe.passed_over)
	{
		pp_shmem->probe.passed_over = false;
		pp_shmem->probe.again = true; /* by then this one may have been dropped */
		pp_shmem->probe.again_at = 0;
	}
	LWLockRelease(pp_shmem->lock);

	pp_shmem_wake_launcher();
}

void
pp_databases_unblock_all(void)
{
	while (nmy_blocked > 0)
		pp_database_unblock(my_blocked[0]);
}

/*
 * Is the database blocked?  If a block begins after a process has asked, and before it has
 * connected, the process that blocks waits for it.
 */
bool
pp_database_is_blocked(Oid database)
{
	bool is_on;

	LWLockAcquire(pp_shmem->lock, LW_SHARED);
	is_on = pp_database_is_blocked_locked(database);
	LWLockRelease(pp_shmem->lock);

	return is_on;
}

/* ---- known ---- */

/* Nothing would be lost without it but how much has been written. */
static bool
is_dispensable(const PpDatabase *known)
{
	return known->wanted_at == 0 && known->parked == 0 && !known->waits &&
		   pp_shmem_slot_of(known->database) == NULL;
}

/* What is known of a database; NULL: nothing, and there is no room to `create` it. */
PpDatabase *
pp_database_find(Oid database, bool create)
{
	PpDatabase *unused = NULL;

	for (int i = 0; i < PP_DATABASES; i++)
	{
		PpDatabase *known = &pp_shmem->known[i];

		if (known->database == database)
			return known;
		if (unused == NULL && !OidIsValid(known->database))
			unused = known;
	}
	for (int i = 0; i < PP_DATABASES && create && unused == NULL; i++)
	{
		if (is_dispensable(&pp_shmem->known[i]))
			unused = &pp_shmem->known[i];
	}
	if (!create || unused == NULL)
		return NULL;
	*unused = (PpDatabase){.database = database};
	return unused;
}

void
pp_database_forget(Oid database)
{
	PpDatabase *known = pp_database_find(database, false);

	if (known)
		*known = (PpDatabase){0};
}

/* The database has a slot now: what is noted here is no longer used. */
void
pp_database_enter(Oid database)
{
	PpDatabase *known = pp_database_find(database, true);

	if (known)
	{
		known->waits = false;
		known->wanted_at = 0;
	}
}

/* From then on the database waits for a slot.  False: there is no room to note that. */
bool
pp_database_want_slot(Oid database, PpSteady at)
{
	PpDatabase *known = pp_database_find(database, true);

	if (known == NULL)
		return false;
	if (known->wanted_at == 0 || known->wanted_at > at)
	{
		known->wanted_at = at;
		pp_shmem_wake_launcher();
	}
	if (at <= pp_steady_now())
		pp_shmem->slots_wanted = true;
	return true;
}

/* The database that has waited for a slot for longest; NULL: none does. */
PpDatabase *
pp_databases_first_waiting(void)
{
	PpSteady now = pp_steady_now();
	PpDatabase *first = NULL;

	for (int i = 0; i < PP_DATABASES; i++)
	{
		PpDatabase *known = &pp_shmem->known[i];

		if (OidIsValid(known->database) && known->wanted_at != 0 && known->wanted_at <= now &&
			(first == NULL || known->wanted_at < first->wanted_at) &&
			!pp_database_is_blocked_locked(known->database))
			first = known;
	}
	return first;
}

/* When the next one begins to wait; PP_NEVER: none will, as far as is known. */
PpSteady
pp_databases_next_wait(void)
{
	PpSteady now = pp_steady_now();
	PpSteady next = PP_NEVER;

	for (int i = 0; i < PP_DATABASES; i++)
	{
		if (pp_shmem->known[i].wanted_at > now)
			next = Min(next, pp_shmem->known[i].wanted_at);
	}
	return next;
}
