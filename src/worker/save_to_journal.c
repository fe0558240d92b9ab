/*-------------------------------------------------------------------------
 *
 * save_to_journal.c
 *	  Moves items from the ring to the journal; see save_to_journal.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"

#include "worker/commit.h"
#include "worker/save_to_journal.h"
#include "worker/work_items.h"

/* Put the items of a work item into the journal, each in a record of its own. */
static void
append_items(Oid extension, const PpWorkItem *work, int number)
{
	for (uint64 k = 0; k < work->nitems; k++)
	{
		const PpItem *item = work->items[k];
		int nrows = pp_journal_plan((const char *) item, item->size, NULL);
		PpRowPlan *rows = palloc(nrows * sizeof(PpRowPlan));
		PpJournalRef *refs = palloc(nrows * sizeof(PpJournalRef));

		(void) pp_journal_plan((const char *) item, item->size, rows);
		for (int r = 0; r < nrows; r++)
		{
			rows[r].part = work->parts[k] + r;
			rows[r].header.follows = work->others; /* or a batch could end between its pieces */
		}
		pp_journal_append(extension, number, work->pos, work->role, rows, nrows, refs);
		pfree(rows);
		pfree(refs);
	}
}

typedef struct ItemsToSave
{
	const PpClaim *claim;
	PpWorkItem *work_items;
	int n;
	bool may_wait; /* for a lock on the journal */
} ItemsToSave;

static void
move_to_journal(void *arg)
{
	const PpClaim *claim = ((ItemsToSave *) arg)->claim;
	PpRing *ring = &claim->slot->ring;
	PpWorkItem *work_items = ((ItemsToSave *) arg)->work_items;
	int n = ((ItemsToSave *) arg)->n;
	PpJournals journals = {0};
	bool has_rows = false;
	int number = pp_journal_unlocked(claim->extension, pp_ring_view(ring).journal);

	if (number < 0)
	{
		if (!((ItemsToSave *) arg)->may_wait)
			return;
		number = pp_ring_view(ring).journal;
	}
	for (int i = 0; i < n && !has_rows; i++)
		has_rows = work_items[i].nrows > 0;
	if (has_rows)
		pp_journals_open(claim->extension, RowExclusiveLock, &journals);
	pp_commit_settles(work_items, n, NULL);
	for (int i = 0; i < n; i++)
	{
		pp_work_item_open(claim, &journals, &work_items[i]);
		append_items(claim->extension, &work_items[i], number);
		pp_work_item_take(claim, &journals, &work_items[i]);
	}
	pp_journals_close(&journals, NoLock);
	ForceSyncCommit(); /* the server may be about to end, or to crash */
}

/*
 * Write the items of these work items to the journal, each as a record of its own, with the
 * commit position of its work item.  Rows that they have there are deleted.  NULL, or the error
 * that has prevented it.  Nothing happens if the journal is locked and this process may not wait
 * for that.
 */
ErrorData *
pp_save_to_journal(const PpClaim *claim, PpWorkItem *work_items, int n, bool may_wait)
{
	return pp_commit_by_ourselves(move_to_journal, &(ItemsToSave){claim, work_items, n, may_wait},
								  false);
}

/*
 * What is at bounded risk goes to the journal, since this worker can't say when it will write it;
 * and so does all that comes, until it has caught up.  Of what can't be saved the next call tries
 * it again.
 */
void
pp_save_to_journal_at_risk(const PpClaim *claim)
{
	PpRing *ring = &claim->slot->ring;
	PpWorkItem *work_items;
	int n;
	int nbounded = 0;

	pp_ring_set_late(ring, true);
	if (pp_ring_bounded_since(ring) == 0)
		return;
	pp_intake_volatile(claim, &work_items, &n);
	for (int i = 0; i < n; i++)
	{
		if (pp_ring_entry(ring, work_items[i].at)->risk == PP_RISK_BOUNDED)
			work_items[nbounded++] = work_items[i];
	}
	if (nbounded == 0)
		return;
	(void) pp_save_to_journal(claim, work_items, nbounded, false);
	pp_intake_forget(); /* a pass has to find them there */
}
