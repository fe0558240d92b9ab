/*-------------------------------------------------------------------------
 *
 * work_items.c
 *	  The items of work items, from the ring or the journal, and as rows; see work_items.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/array.h"
#include "base/item_check.h"
#include "worker/poison.h"
#include "worker/work_items.h"

/* It can't be read. */
static void
complain_of_work_item(const PpWorkItem *work, const char *message)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg_internal("%s", message),
					errdetail("It was enqueued as number %llu.", (unsigned long long) work->pos)));
}

/* The first of them is this part of the position; one that takes several rows takes as many. */
static void
add_items(PpWorkItem *work, const char *bytes, uint64 length, uint32 part, uint64 *max)
{
	uint64 offset = 0;

	while (offset < length)
	{
		const PpItem *item = (const PpItem *) (bytes + offset);

		if (!pp_item_check_is_sound(item, length - offset))
			complain_of_work_item(work, "an item is damaged");
		if (work->parked && item->target != work->target)
			complain_of_work_item(work, "an item is parked for another target");
		if (work->nitems == *max)
		{
			*max = Max(16, *max * 2);
			work->items = pp_array_resize(work->items, *max * sizeof(PpItem *));
			work->parts = pp_array_resize(work->parts, *max * sizeof(uint32));
		}
		work->parts[work->nitems] = part;
		part += pp_journal_plan((const char *) item, item->size, NULL);
		work->items[work->nitems++] = item;
		work->opened += item->size;
		offset += item->size;
	}
}

/* Is it the next row of the same item?  Those of the parked table are numbered one by one. */
static bool
follows(uint32 part, const PpJournalRef *ref, uint32 previous)
{
	return part == previous + 1 || (ref->journal != PP_PARKED && part == previous + PP_PART_STEP);
}

/*
 * A row whose table has a new file (by VACUUM FULL, say) is not where it was: 40001, and the
 * next try makes a pass, which finds it.
 */
static void
check_ref(const PpClaim *claim, const PpJournals *journals, const PpJournalRef *ref)
{
	if (pp_journals_have(journals, ref))
		return;
	pp_ring_move(&claim->slot->ring, 0, pp_steady_now());
	ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					errmsg("the journal has been rewritten")));
}

/* Read the rows.  A record that is gone has been applied, all of it. */
static void
open_rows(const PpClaim *claim, PpJournals *journals, PpWorkItem *work, uint64 *max)
{
	PpRowHeader header = {.continues = false};
	PpRecord record = {0};
	uint32 first_part = 0;

	work->present = palloc_extended(work->nrows * sizeof(bool), MCXT_ALLOC_HUGE);
	for (uint32 i = 0; i < work->nrows; i++)
	{
		bool begun = header.continues;
		uint32 previous = record.part;
		PpRowFound found;

		check_ref(claim, journals, &work->rows[i]);
		if (!begun)
			record = (PpRecord){.part = record.part};
		found = pp_journal_read(journals, &work->rows[i], work->pos, &record, &header);
		work->present[i] = found != PP_ROW_GONE;
		if (found == PP_ROW_COPY)
			continue;
		if (begun && found == PP_ROW_GONE)
			complain_of_work_item(work, "a part of an item is missing");
		if (found == PP_ROW_GONE)
			continue;
		if (!begun)
			first_part = record.part;
		/* the middle of one must not be taken for another */
		if (begun && (header.items > 0 || !follows(record.part, &work->rows[i], previous)))
			complain_of_work_item(work, "a part of an item is missing");
		if (!begun && header.items == 0)
			complain_of_work_item(work, "the beginning of an item is missing");
		if (!header.continues)
			add_items(work, record.bytes, record.length, first_part, max);
	}
	if (header.continues)
		complain_of_work_item(work, "the end of an item is missing");
}

/*
 * The items in the ring, where they are or, if the payload wraps, copied.  A worker that hangs,
 * and has lost its place, doesn't read them again: a statement has copied all its rows before it
 * runs anybody's code, and the process ends before the next one.
 */
static void
open_entry(PpRing *ring, PpWorkItem *work, uint64 *max)
{
	PpEntry *entry = pp_ring_entry(ring, work->at);
	const char *payload = pp_ring_contiguous(ring, work->at);

	if (payload == NULL)
	{
		char *copy = MemoryContextAllocHuge(CurrentMemoryContext, entry->length);

		pp_ring_read(ring, work->at, copy);
		payload = copy;
	}
	add_items(work, payload, entry->length, 0, max);
}

/*
 * Get at the items; whoever applies them takes their rows with pp_work_item_take(), in the same
 * transaction.  In the current memory context.
 */
void
pp_work_item_open(const PpClaim *claim, PpJournals *journals, PpWorkItem *work)
{
	uint64 max = 0;

	work->items = NULL;
	work->parts = NULL;
	work->nitems = 0;
	work->opened = 0;
	work->unseen = 0;
	work->present = NULL;
	if (work->applied)
		return;
	if (work->nrows > 0)
		open_rows(claim, journals, work, &max);
	else
		open_entry(&claim->slot->ring, work, &max);
}

/* Delete the rows of a work item that is open. */
void
pp_work_item_take(const PpClaim *claim, PpJournals *journals, const PpWorkItem *work)
{
	for (uint32 i = 0; work->present && i < work->nrows; i++)
	{
		if (!work->present[i])
			continue;
		check_ref(claim, journals, &work->rows[i]);
		pp_journal_delete(journals, &work->rows[i]);
	}
}

/* ---- several, as rows ---- */

/* Note what is being tried, in case that its code ends this process. */
void
pp_work_items_note(const PpWorkItem *work_items, int n)
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
pp_work_items_open(const PpClaim *claim, PpWorkItem *work_items, int n, int *opened, uint64 *nrows)
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
pp_work_items_take(const PpClaim *claim, const PpWorkItem *work_items, int n)
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
pp_work_items_count_taken(PpOutcomeCounts *counts, const PpRow **rows, uint64 n, bool parked)
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
