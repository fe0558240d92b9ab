/*-------------------------------------------------------------------------
 *
 * parked_why.c
 *	  Says why something is parked; see parked_why.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/extension.h"
#include "base/reasons.h"
#include "ring/slots.h"
#include "sql/parked_why.h"
#include "store/layouts.h"
#include "store/pause.h"
#include "store/settings.h"

/* What the retrier has noted of its tries; all zero: nothing, so far. */
static PpRetry
get_retry(PpSlot *slot, Oid target, Oid role)
{
	PpRetry retry = {0};

	SpinLockAcquire(&slot->mutex);
	for (int i = 0; i < slot->nretries; i++)
	{
		if (slot->retries[i].target == target && slot->retries[i].role == role)
			retry = slot->retries[i];
	}
	SpinLockRelease(&slot->mutex);
	return retry;
}

PpParkedWhy
pp_parked_why(Oid target, Oid role)
{
	PpSlot *slot = pp_shmem ? pp_slot_find(MyDatabaseId) : NULL;
	Oid extension = pp_extension_oid();
	PpRetry retry = slot ? get_retry(slot, target, role) : (PpRetry){0};
	bool target_paused = pp_settings_get(extension, pp_layouts_current(target)).paused;
	PpParkedWhy why = {.sqlstate = retry.sqlstate,
					   .paused = target_paused || pp_pause_is_on(extension)};

	if (target_paused)
		why.sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE; /* as in parking.h */
	else if (slot && why.sqlstate == 0)
		why.sqlstate = pp_counters_get(&slot->counters, target).sqlstate;
	why.sentence = why.paused && !target_paused ? "the database is paused"
												: pp_reason_parked(why.sqlstate, target_paused);
	if (why.paused)
		return why;
	why.tries = retry.failures;
	why.next_try =
		retry.retry_at != 0 && retry.retry_at != PP_NEVER ? pp_steady_to_day(retry.retry_at) : 0;
	return why;
}
