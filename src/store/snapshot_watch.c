/*-------------------------------------------------------------------------
 *
 * snapshot_watch.c
 *	  Who may still see rows that have been deleted; see snapshot_watch.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/memutils.h"

#include "store/snapshot_watch.h"

/* Those of this database that have a snapshot, or all, but for ours. */
static VirtualTransactionId *
get_current(const PpSnapshotWatch *watch, int *n)
{
	return GetCurrentVirtualXIDs(InvalidTransactionId, !watch->all, false, PROC_IN_VACUUM, n);
}

void
pp_snapshot_watch_begin(PpSnapshotWatch *watch)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	if (watch->who)
		pfree(watch->who);
	watch->who = get_current(watch, &watch->n);
	watch->begun = true;
	MemoryContextSwitchTo(caller);
}

/* A standby that tells us of its snapshots tells only how old they are. */
static bool
has_feedback(void)
{
	TransactionId xmin;
	TransactionId catalog_xmin;

	ProcArrayGetReplicationSlotXmin(&xmin, &catalog_xmin);
	if (TransactionIdIsValid(xmin))
		return true;
	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		const PGPROC *proc = &ProcGlobal->allProcs[i];

		if ((*(const volatile uint8 *) &proc->statusFlags & PROC_AFFECTS_ALL_HORIZONS) != 0)
			return true;
	}
	return false;
}

static bool
is_among(const VirtualTransactionId *who, const VirtualTransactionId *those, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (VirtualTransactionIdEquals(*who, those[i]))
			return true;
	}
	return false;
}

bool
pp_snapshot_watch_is_over(PpSnapshotWatch *watch)
{
	VirtualTransactionId *current;
	int ncurrent;
	int left = 0;

	if (!watch->begun)
		pp_snapshot_watch_begin(watch);
	current = get_current(watch, &ncurrent);
	for (int i = 0; i < watch->n; i++)
	{
		if (is_among(&watch->who[i], current, ncurrent))
			watch->who[left++] = watch->who[i];
	}
	watch->n = left;
	pfree(current);

	return left == 0 && (watch->all || !has_feedback());
}
