/*-------------------------------------------------------------------------
 *
 * shmem.c
 *	  Lays out the shared memory that shmem.h describes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "base/config.h"
#include "ring/shmem.h"

#define TRANCHE "persist_pipeline"

PpShmem *pp_shmem = NULL;
bool pp_shmem_am_worker = false;
bool pp_shmem_am_retrier = false;

static char *first_slot;

static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;

static uint64
ring_bytes(void)
{
	return (uint64) pp_config_ring_size * 1024;
}

/* The most bytes that one item may have. */
uint64
pp_shmem_item_limit(uint64 ring_size)
{
	return ring_size / 4;
}

static Size
slot_stride(void)
{
	Size bytes = offsetof(PpSlot, ring) + pp_ring_memory(ring_bytes());

	return TYPEALIGN(PP_RING_ALIGN, bytes);
}

/* Commands hold a database or two; there are not more of them than backends. */
int
pp_shmem_max_blocked(void)
{
	return 2 * MaxBackends;
}

/* What comes before the slots. */
static Size
header_bytes(void)
{
	return TYPEALIGN(PP_RING_ALIGN, add_size(offsetof(PpShmem, blocked),
											 mul_size(pp_shmem_max_blocked(), sizeof(Oid))));
}

static Size
shared_bytes(void)
{
	/* one unit more, since ShmemInitStruct may align for less than a ring */
	return add_size(header_bytes() + PP_RING_ALIGN,
					mul_size(slot_stride(), pp_config_max_databases));
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
init_slot(PpSlot *slot)
{
	memset(slot, 0, offsetof(PpSlot, ring));
	SpinLockInit(&slot->mutex);
	ConditionVariableInit(&slot->settled);
	pp_sleeper_init(&slot->worker_sleeper);
	pp_sleeper_init(&slot->retrier.sleeper);
	/* its worker keeps room for the largest item that a trigger may enqueue */
	pp_ring_init(&slot->ring, ring_bytes(), pp_ring_entry_bytes(pp_shmem_item_limit(ring_bytes())));
	pp_quota_init(&slot->quota, &slot->ring.mutex);
	pp_quota_init(&slot->letters, NULL);
	pp_counters_init(&slot->counters, &slot->ring.mutex);
	slot->retry_at = PP_NEVER;
	slot->parked_from = PG_UINT64_MAX;
	slot->owes_earlier = true;
}

static void
startup(void)
{
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	pp_shmem = ShmemInitStruct(TRANCHE, shared_bytes(), &found);
	first_slot = (char *) TYPEALIGN(PP_RING_ALIGN, (char *) pp_shmem + header_bytes());
	if (!found)
	{
		memset(pp_shmem, 0, offsetof(PpShmem, blocked));
		pp_shmem->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		SpinLockInit(&pp_shmem->mutex);
		pp_sleeper_init(&pp_shmem->launcher);
		ConditionVariableInit(&pp_shmem->served);
		for (int i = 0; i < pp_config_max_databases; i++)
			init_slot(pp_shmem_slot(i));
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

/* One of pp_config_max_databases. */
PpSlot *
pp_shmem_slot(int number)
{
	return (PpSlot *) (first_slot + number * slot_stride());
}

/* The database's slot, or NULL.  Under PpShmem.lock. */
PpSlot *
pp_shmem_slot_of(Oid database)
{
	for (int i = 0; i < pp_config_max_databases; i++)
	{
		if (pp_shmem_slot(i)->database == database)
			return pp_shmem_slot(i);
	}
	return NULL;
}

/* Wake the worker of a slot, or else the launcher, which starts one. */
void
pp_shmem_wake_worker(PpSlot *slot)
{
	if (!pp_sleeper_wake(&slot->worker_sleeper))
		pp_shmem_wake_launcher();
}

/* Under the slot's mutex. */
void
pp_shmem_set_worker_state_locked(PpSlot *slot, PpWorkerState state)
{
	if (slot->worker_state != state)
		slot->worker_since = pp_steady_now();
	slot->worker_state = state;
}

void
pp_shmem_set_worker_state(PpSlot *slot, PpWorkerState state)
{
	SpinLockAcquire(&slot->mutex);
	pp_shmem_set_worker_state_locked(slot, state);
	SpinLockRelease(&slot->mutex);
}

/* Under the slot's mutex: an error, for people to see. */
void
pp_shmem_note_error_locked(PpSlot *slot, int sqlstate)
{
	slot->trouble.sqlstate = sqlstate;
	slot->trouble.error_at = pp_steady_now();
}

/* The same of one that isn't a row's: it is counted here. */
void
pp_shmem_count_error_locked(PpSlot *slot, int sqlstate)
{
	pp_shmem_note_error_locked(slot, sqlstate);
	slot->metrics.errors[pp_metrics_error_class(sqlstate)]++;
}

/* Under the slot's mutex: its worker has failed. */
void
pp_shmem_note_failure_locked(PpSlot *slot)
{
	PpTrouble *trouble = &slot->trouble;

	trouble->failures++;
	memmove(trouble->failed_at + 1, trouble->failed_at,
			sizeof(trouble->failed_at) - sizeof(trouble->failed_at[0]));
	trouble->failed_at[0] = pp_steady_now();
}

/* What has been settled survives a crash from now on: the worker commits asynchronously. */
void
pp_shmem_flush_settled(void)
{
	XLogRecPtr lsn;

	SpinLockAcquire(&pp_shmem->mutex);
	lsn = pp_shmem->settled_lsn;
	SpinLockRelease(&pp_shmem->mutex);
	XLogFlush(lsn);
}

/* Wake the retrier of a slot, or else the launcher, which starts one if it is time. */
void
pp_shmem_wake_retrier(PpSlot *slot)
{
	if (!pp_sleeper_wake(&slot->retrier.sleeper))
		pp_shmem_wake_launcher();
}

/* Have somebody look at what is parked, now. */
void
pp_shmem_call_retrier(PpSlot *slot)
{
	SpinLockAcquire(&slot->mutex);
	slot->retry_at = pp_steady_now();
	SpinLockRelease(&slot->mutex);
	pp_shmem_wake_retrier(slot);
}

/* What the retrier does from now on. */
void
pp_shmem_set_retrier_state(PpSlot *slot, PpRetrierState state, Oid target)
{
	SpinLockAcquire(&slot->mutex);
	slot->retrier.state = state;
	slot->retrier.since = pp_steady_now();
	slot->retrier.target = target;
	slot->retrier.overdue = false;
	SpinLockRelease(&slot->mutex);
}

/*
 * The entry of an installation, which may be a new one that knows nothing.  Under
 * PpShmem.mutex.
 */
PpLease *
pp_shmem_find_lease(Oid database, Oid extension)
{
	PpLease *oldest = &pp_shmem->leases[0];

	for (int i = 0; i < PP_LEASES; i++)
	{
		PpLease *lease = &pp_shmem->leases[i];

		if (lease->database == database && lease->extension == extension)
		{
			lease->used = ++pp_shmem->leases_used;
			return lease;
		}
		if (lease->used < oldest->used)
			oldest = lease;
	}
	*oldest =
		(PpLease){.database = database, .extension = extension, .used = ++pp_shmem->leases_used};
	return oldest;
}

void
pp_shmem_wake_launcher(void)
{
	(void) pp_sleeper_wake(&pp_shmem->launcher);
}
