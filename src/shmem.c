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

typedef struct PpShared
{
	slock_t mutex;
	Latch *launcher_latch; /* NULL: no launcher */
						   /* followed by pp_max_databases lanes, each aligned for its ring */
} PpShared;

bool pp_am_worker = false;

static PpShared *shared = NULL;
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

static Size
shared_bytes(void)
{
	/* one unit more, since ShmemInitStruct may align for less than a ring */
	return add_size(TYPEALIGN(PP_RING_ALIGN, sizeof(PpShared)) + PP_RING_ALIGN,
					mul_size(lane_stride(), pp_max_databases));
}

static void
request(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(shared_bytes());
}

static void
startup(void)
{
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("persist_pipeline", shared_bytes(), &found);
	if (!found)
	{
		SpinLockInit(&shared->mutex);
		shared->launcher_latch = NULL;
		for (int i = 0; i < pp_max_databases; i++)
		{
			PpLane *lane = pp_lane(i);

			memset(lane, 0, offsetof(PpLane, ring));
			SpinLockInit(&lane->mutex);
			ConditionVariableInit(&lane->settled);
			/* its worker keeps room for the largest item that a trigger may enqueue */
			pp_ring_init(&lane->ring, ring_bytes(), pp_entry_bytes(pp_item_limit(ring_bytes())));
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Called while the library is preloaded. */
void
pp_shmem_request(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request;
}

void
pp_shmem_startup(void)
{
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

/* Is there shared memory, that is: was the library preloaded? */
bool
pp_shmem_ready(void)
{
	return shared != NULL;
}

int
pp_lane_count(void)
{
	return pp_max_databases;
}

PpLane *
pp_lane(int number)
{
	char *first = (char *) TYPEALIGN(PP_RING_ALIGN, (char *) shared + sizeof(PpShared));

	return (PpLane *) (first + number * lane_stride());
}

Oid
pp_lane_database(PpLane *lane)
{
	Oid database;

	SpinLockAcquire(&shared->mutex);
	database = lane->database;
	SpinLockRelease(&shared->mutex);

	return database;
}

/* The lane of the current database, or NULL. */
PpLane *
pp_my_lane(void)
{
	static PpLane *mine = NULL;

	if (mine == NULL && shared != NULL)
	{
		for (int i = 0; i < pp_max_databases && mine == NULL; i++)
		{
			if (pp_lane_database(pp_lane(i)) == MyDatabaseId)
				mine = pp_lane(i);
		}
	}

	return mine;
}

/* The lane of the current database; a free one if it has none; else NULL. */
PpLane *
pp_claim_lane(void)
{
	PpLane *lane = pp_my_lane();
	PpLane *free_lane = NULL;

	if (lane != NULL || shared == NULL)
		return lane;

	SpinLockAcquire(&shared->mutex);
	for (int i = 0; i < pp_max_databases && lane == NULL; i++)
	{
		PpLane *candidate = pp_lane(i);

		if (candidate->database == MyDatabaseId)
			lane = candidate;
		else if (!OidIsValid(candidate->database) && free_lane == NULL)
			free_lane = candidate;
	}
	if (lane == NULL && free_lane != NULL)
	{
		free_lane->database = MyDatabaseId;
		lane = free_lane;
	}
	SpinLockRelease(&shared->mutex);

	return lane;
}

/* Wake the worker of a lane, or else the launcher, which starts one. */
void
pp_lane_wake(PpLane *lane)
{
	Latch *latch;

	SpinLockAcquire(&lane->mutex);
	latch = lane->worker_latch;
	SpinLockRelease(&lane->mutex);

	if (latch)
		SetLatch(latch);
	else
		pp_launcher_wake();
}

void
pp_lane_set_state(PpLane *lane, PpWorkerState state)
{
	SpinLockAcquire(&lane->mutex);
	lane->worker_state = state;
	SpinLockRelease(&lane->mutex);
}

void
pp_set_launcher_latch(Latch *latch)
{
	SpinLockAcquire(&shared->mutex);
	shared->launcher_latch = latch;
	SpinLockRelease(&shared->mutex);
}

void
pp_launcher_wake(void)
{
	Latch *latch;

	SpinLockAcquire(&shared->mutex);
	latch = shared->launcher_latch;
	SpinLockRelease(&shared->mutex);

	if (latch)
		SetLatch(latch);
}
