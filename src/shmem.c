/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  Lays out the shared memory that shmem.h describes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "config.h"
#include "shmem.h"

#define TRANCHE "persist_pipeline"

PpShared *pp_shared = NULL;
bool pp_am_worker = false;
bool pp_am_retrier = false;

static char *first_lane;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static uint64
ring_bytes(void)
{
	return (uint64) pp_ring_size * 1024;
}

/* The most bytes that one item may have. */
uint64
pp_item_limit(uint64 ring_size)
{
	return ring_size / 4;
}

static Size
lane_stride(void)
{
	Size bytes = offsetof(PpLane, ring) + pp_ring_memory(ring_bytes());

	return TYPEALIGN(PP_RING_ALIGN, bytes);
}

/* Commands hold a database or two; there are not more of them than backends. */
int
pp_max_holds(void)
{
	return 2 * MaxBackends;
}

/* What comes before the lanes. */
static Size
header_bytes(void)
{
	return TYPEALIGN(PP_RING_ALIGN,
					 add_size(offsetof(PpShared, holds), mul_size(pp_max_holds(), sizeof(Oid))));
}

static Size
shared_bytes(void)
{
	/* one unit more, since ShmemInitStruct may align for less than a ring */
	return add_size(header_bytes() + PP_RING_ALIGN, mul_size(lane_stride(), pp_max_databases));
}

static void
request(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(shared_bytes());
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
init_lane(PpLane *lane)
{
	memset(lane, 0, offsetof(PpLane, ring));
	SpinLockInit(&lane->mutex);
	ConditionVariableInit(&lane->settled);
	pp_sleeper_init(&lane->worker);
	pp_sleeper_init(&lane->retrier.sleeper);
	pp_quota_init(&lane->quota);
	pp_quota_init(&lane->letters);
	pp_tally_init(&lane->tally);
	lane->retry_at = PP_NEVER;
	lane->parked_from = PG_UINT64_MAX;
	lane->owes_earlier = true;
	/* its worker keeps room for the largest item that a trigger may enqueue */
	pp_ring_init(&lane->ring, ring_bytes(), pp_entry_bytes(pp_item_limit(ring_bytes())));
}

static void
startup(void)
{
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	pp_shared = ShmemInitStruct(TRANCHE, shared_bytes(), &found);
	first_lane = (char *) TYPEALIGN(PP_RING_ALIGN, (char *) pp_shared + header_bytes());
	if (!found)
	{
		memset(pp_shared, 0, offsetof(PpShared, holds));
		pp_shared->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		SpinLockInit(&pp_shared->mutex);
		pp_sleeper_init(&pp_shared->launcher);
		ConditionVariableInit(&pp_shared->served);
		for (int i = 0; i < pp_max_databases; i++)
			init_lane(pp_lane(i));
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Called while the library is preloaded. */
void
pp_shmem_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

/* One of pp_max_databases. */
PpLane *
pp_lane(int number)
{
	return (PpLane *) (first_lane + number * lane_stride());
}

/* The database's lane, or NULL.  Under PpShared.lock. */
PpLane *
pp_lane_of(Oid database)
{
	for (int i = 0; i < pp_max_databases; i++)
	{
		if (pp_lane(i)->database == database)
			return pp_lane(i);
	}
	return NULL;
}

/* Wake the worker of a lane, or else the launcher, which starts one. */
void
pp_lane_wake(PpLane *lane)
{
	if (!pp_wake(&lane->worker))
		pp_launcher_wake();
}

void
pp_lane_set_state(PpLane *lane, PpWorkerState state)
{
	SpinLockAcquire(&lane->mutex);
	lane->worker_state = state;
	SpinLockRelease(&lane->mutex);
}

/* Wake the retrier of a lane, or else the launcher, which starts one if it is time. */
void
pp_retrier_wake(PpLane *lane)
{
	if (!pp_wake(&lane->retrier.sleeper))
		pp_launcher_wake();
}

/* Have somebody look at what is parked, now. */
void
pp_retrier_call(PpLane *lane)
{
	SpinLockAcquire(&lane->mutex);
	lane->retry_at = pp_steady_now();
	SpinLockRelease(&lane->mutex);
	pp_retrier_wake(lane);
}

/* What the retrier does from now on. */
void
pp_retrier_set_state(PpLane *lane, PpRetrierState state, Oid target)
{
	SpinLockAcquire(&lane->mutex);
	lane->retrier.state = state;
	lane->retrier.since = pp_steady_now();
	lane->retrier.target = target;
	lane->retrier.overdue = false;
	SpinLockRelease(&lane->mutex);
}

/*
 * The entry of an installation, which may be a new one that knows nothing.  Under
 * PpShared.mutex.
 */
PpLease *
pp_lease_find(Oid database, Oid extension)
{
	PpLease *oldest = &pp_shared->leases[0];

	for (int i = 0; i < PP_LEASES; i++)
	{
		PpLease *lease = &pp_shared->leases[i];

		if (lease->database == database && lease->extension == extension)
		{
			lease->used = ++pp_shared->leases_used;
			return lease;
		}
		if (lease->used < oldest->used)
			oldest = lease;
	}
	*oldest =
		(PpLease){.database = database, .extension = extension, .used = ++pp_shared->leases_used};
	return oldest;
}

void
pp_launcher_wake(void)
{
	(void) pp_wake(&pp_shared->launcher);
}
