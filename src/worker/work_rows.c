/*-------------------------------------------------------------------------
 *
 * work_rows.c
 *	  The rows of work items; see work_rows.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "worker/commit.h"
#include "worker/poison.h"
#include "worker/work_item.h"
#include "worker/work_rows.h"

/* Note what is being tried, in case that its code ends this process. */
void
pp_work_rows_note(const PpWorkItem *work_items, int n)
{
	PpCommitPosition from = {.pos = PG_UINT64_MAX, .part = PG_UINT32_MAX};
	PpCommitPosition to = {.pos = 0};

	for (int i = 0; i < n; i++)
	{
		const PpWorkItem *work = &work_items[i];
		uint32 last = work->there > 1 ? PG_UINT32_MAX : work->part;

		if (work->pos < from.pos || (work->pos == from.pos && work->part < from.part))
			from = (PpCommitPosition){.pos = work->pos, .part = work->part};
		if (work->pos > to.pos || (work->pos == to.pos && last > to.part))
			to = (PpCommitPosition){.pos = work->pos, .part = last};
	}
	pp_poison_note(from, to, pp_intake_count_items(work_items, n));
}

/* Records of a piece of one have the same place, and its pieces follow each other. */
static bool
is_same_transaction(const PpWorkItem *work, const PpWorkItem *next)
{
	return work->pos == next->pos || (work->others > 0 && work->pos + 1 == next->pos);
}

/*
 * Open the work items; all their items, in their order.  Whoever has locked their tables is waited
 * for here, and not after all has been tried.  *opened: so many are open, if that ends.
 */
const PpRow **
pp_work_rows_open(const PpClaim *claim, PpWorkItem *work_items, int n, int *opened, uint64 *nrows)
{
	PpJournals journals;
	const PpRow **rows;
	PpRow *row;
	uint32 unit = 0;

	*nrows = 0;
	PushActiveSnapshot(GetTransactionSnapshot());
	if (n > 0 && work_items[0].parked)
		pp_journals_open_parked(claim->extension, RowExclusiveLock, &journals);
	else
		pp_journals_open(claim->extension, RowExclusiveLock, &journals);
	for (*opened = 0; *opened < n; (*opened)++)
	{
		pp_work_item_open(claim, &journals, &work_items[*opened]);
		*nrows += work_items[*opened].nitems;
	}
	pp_journals_close(&journals, RowExclusiveLock);
	PopActiveSnapshot();

	row = palloc_extended(Max(*nrows, 1) * sizeof(PpRow), MCXT_ALLOC_HUGE);
	rows = palloc_extended(Max(*nrows, 1) * sizeof(PpRow *), MCXT_ALLOC_HUGE);
	*nrows = 0;
	for (int i = 0; i < n; i++)
	{
		PpWorkItem *work = &work_items[i];

		if (i == 0 || !is_same_transaction(&work_items[i - 1], work))
			unit++;
		for (uint64 k = 0; k < work->nitems; k++)
		{
			const PpItem *item = work->items[k];

			*row = (PpRow){.item = item,
						   .pos = work->pos,
						   .part = work->parts[k],
						   .unit = unit,
						   .parked_at = work->parked_at,
						   .work = work};
			rows[(*nrows)++] = row++;
		}
	}
	return rows;
}

/* Take the rows of work items that are open: this transaction has applied them. */
void
pp_work_rows_take(const PpClaim *claim, const PpWorkItem *work_items, int n)
{
	PpJournals journals;
	bool any = false;

	for (int i = 0; i < n && !any; i++)
		any = work_items[i].present != NULL;
	if (!any)
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	if (work_items[0].parked)
		pp_journals_open_parked(claim->extension, RowExclusiveLock, &journals);
	else
		pp_journals_open(claim->extension, RowExclusiveLock, &journals);
	for (int i = 0; i < n; i++)
		pp_work_item_take(claim, &journals, &work_items[i]);
	pp_journals_close(&journals, NoLock);
	PopActiveSnapshot();
}

/* Where did the items come from?  There they wait no longer. */
void
pp_work_rows_count_taken(PpOutcomeCounts *counts, const PpRow **rows, uint64 n, bool parked)
{
	for (uint64 i = 0; i < n; i++)
	{
		const PpItem *item = rows[i]->item;
		PpTargetOutcome *result = pp_outcome_counts_of(counts, item->target);
		const PpItemExtra *extra = pp_item_extra(item);

		if (parked)
		{
			result->parked--;
			result->parked_bytes -= item->size;
			continue;
		}
		result->taken++;
		if (extra && item->attempts == 0)
			result->delta.unknown_keys += extra->unknown_keys;
	}
}
