/*-------------------------------------------------------------------------
 *
 * hanging.c
 *	  Notes which targets hang; see hanging.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "worker/batch.h"
#include "worker/hanging.h"

#define TRUSTED_AFTER 10 /* transactions without trouble */

static PpHanger *
find_hanger(Oid database, Oid target)
{
	for (int i = 0; i < PP_HANGERS; i++)
	{
		PpHanger *hanger = &pp_shmem->hangers[i];

		if (hanger->database == database && hanger->target == target)
			return hanger;
	}
	return NULL;
}

static PpHanger
get_hanger(Oid target)
{
	PpHanger *found;
	PpHanger hanger = {.database = InvalidOid};

	if (*(volatile uint32 *) &pp_shmem->nhangers == 0)
		return hanger;
	SpinLockAcquire(&pp_shmem->mutex);
	found = find_hanger(MyDatabaseId, target);
	if (found)
		hanger = *found;
	SpinLockRelease(&pp_shmem->mutex);
	return hanger;
}

bool
pp_hanging_is(Oid target)
{
	return OidIsValid(get_hanger(target).database);
}

/* May it be another server that hangs, and not the row? */
bool
pp_hanging_is_elsewhere(Oid target)
{
	return get_hanger(target).elsewhere;
}

static void
note_hanger(Oid database, Oid target, bool elsewhere)
{
	PpHanger *hanger;

	SpinLockAcquire(&pp_shmem->mutex);
	hanger = find_hanger(database, target);
	if (hanger)
		elsewhere |= hanger->elsewhere;
	else
		hanger = find_hanger(InvalidOid, InvalidOid); /* unused */
	if (hanger == NULL)
		hanger = &pp_shmem->hangers[pp_shmem->nhangers % PP_HANGERS];
	pp_shmem->nhangers++;
	*hanger = (PpHanger){.database = database, .target = target, .elsewhere = elsewhere};
	SpinLockRelease(&pp_shmem->mutex);
}

/* The code of a target has outlived its cancellation, and with it the worker of this database. */
void
pp_hanging_note_outlived(Oid database, Oid target)
{
	note_hanger(database, target, false);
}

/*
 * A try of this target's has taken too long.  If it goes to another server the next one may
 * hang, too, and not even a cancellation ends it.  In a transaction.
 */
void
pp_hanging_note(Oid target)
{
	if (pp_batch_goes_elsewhere(target))
		note_hanger(MyDatabaseId, target, true);
}

/* The retrier has written to it, in time. */
void
pp_hanging_note_written(Oid target)
{
	PpHanger *hanger;

	if (!pp_hanging_is(target))
		return;
	SpinLockAcquire(&pp_shmem->mutex);
	hanger = find_hanger(MyDatabaseId, target);
	if (hanger && ++hanger->written >= TRUSTED_AFTER)
		*hanger = (PpHanger){.database = InvalidOid, .target = InvalidOid};
	SpinLockRelease(&pp_shmem->mutex);
}
