/*-------------------------------------------------------------------------
 *
 * intake_parked.c
 *	  Finds parked items to try; see intake_parked.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/array.h"
#include "base/savepoint.h"
#include "store/parked_table.h"
#include "worker/intake_parked.h"
#include "worker/poison.h"

/* Work items under construction */
typedef struct ParkedIntake
{
	const PpClaim *claim;
	PpParkedFrom *of;
	int nof;
	int max;
	PpWorkItem *work_items;
	int n;
	int room;
	bool more; /* there are */

	/* of the target and role at hand */
	int first; /* its first work item */
	uint64 bytes;
	PpParkedRow last;
	bool within; /* the last row continues in the next one */
} ParkedIntake;

/* The same as pp_journal_is_copy(): the scan is of one role. */
static bool
is_copy(const PpParkedRow *row, const PpParkedRow *previous)
{
	return row->pos == previous->pos && row->part == previous->part &&
		   row->header.crc == previous->header.crc &&
		   row->header.version == previous->header.version && !row->damaged && !previous->damaged;
}

static bool
take_parked_row(const PpParkedRow *row, void *arg)
{
	ParkedIntake *intake = arg;
	bool copy = is_copy(row, &intake->last);
	PpWorkItem *work;

	/* with an item that begins, the one before it is at its end, or has none; a row that is
	 * damaged may say anything */
	if (!copy && (!intake->within || (row->header.items > 0 && !row->damaged)))
	{
		if (intake->n - intake->first >= intake->max || intake->bytes >= PP_BATCH_BYTES)
		{
			intake->more = true;
			return false;
		}
		PP_ARRAY_GROW(intake->work_items, intake->n, intake->room);
		work = &intake->work_items[intake->n++];
		*work = (PpWorkItem){.pos = row->pos,
						 .at = PP_NOT_IN_RING,
						 .role = row->role,
						 .part = row->part,
						 .n = Min(row->header.items, 1), /* 0: its beginning is gone */
						 .there = Min(row->header.items, 1),
						 .single = true,
						 .parked = true,
						 .target = row->target,
						 .parked_at = row->parked_at,
						 .alone = row->alone,
						 .rows = palloc(sizeof(PpJournalRef))};
	}
	else
	{
		work = &intake->work_items[intake->n - 1];
		work->rows = repalloc_huge(work->rows, (work->nrows + 1) * sizeof(PpJournalRef));
	}
	work->rows[work->nrows++] = row->ref;
	if (!copy)
	{
		work->bytes += row->length;
		intake->bytes += row->length;
	}
	intake->last = *row;
	intake->within = row->header.continues;
	return true;
}

static int
compare_work_items(const void *a, const void *b)
{
	const PpWorkItem *left = a;
	const PpWorkItem *right = b;

	if (left->pos != right->pos)
		return left->pos < right->pos ? -1 : 1;
	return left->part < right->part ? -1 : left->part > right->part;
}

static void
take_parked(void *arg)
{
	ParkedIntake *intake = arg;

	for (int i = 0; i < intake->nof; i++)
	{
		PpParkedFrom *of = &intake->of[i];

		intake->first = intake->n;
		intake->bytes = 0;
		intake->last = (PpParkedRow){0};
		intake->within = false;
		pp_parked_table_scan_of(intake->claim->extension, of->target, of->role, of->from,
								take_parked_row, intake);
		of->any = intake->n > intake->first;
	}
	if (intake->nof > 1 && intake->n > 0)
		qsort(intake->work_items, intake->n, sizeof(PpWorkItem), compare_work_items);
}

/*
 * How many of them make a batch?  One with a candidate has no more than may be together; what
 * has been in hand at a kill comes alone.
 */
static int
cut_parked_off(const PpWorkItem *work_items, int n, uint64 max, bool *apart)
{
	uint64 width = pp_poison_width();
	uint64 most = PG_UINT64_MAX; /* of candidates */
	uint64 bytes = 0;

	*apart = false;
	for (int i = 0; i < n; i++)
	{
		if (width > 0 && pp_poison_is_candidate(work_items[i].pos, work_items[i].part))
			most = width;
		if (i > 0 && (i >= most || pp_poison_is_alone(work_items[i].pos, work_items[i].part) ||
					  pp_poison_is_alone(work_items[i - 1].pos, work_items[i - 1].part)))
		{
			*apart = work_items[i].pos == work_items[i - 1].pos && pp_poison_may_widen();
			return i;
		}
		if (i >= max || bytes >= PP_BATCH_BYTES)
			return i;
		bytes += work_items[i].bytes;
	}
	return n;
}

/*
 * The first items, so many at most, that are parked for these targets and their role, in
 * their order; but none that the batch at work has parked, nor what comes after it
 * (parking.h).  In the current memory context, and in a transaction of its own.  NULL, or why
 * they can't be had: somebody may have locked the table.
 */
ErrorData *
pp_intake_parked(const PpClaim *claim, PpParkedFrom *of, int nof, uint64 max,
				 PpParkedWorkItems *parked)
{
	PpSlot *slot = claim->slot;
	ParkedIntake intake = {.claim = claim, .of = of, .nof = nof, .max = max};
	ErrorData *error = pp_savepoint_run_in_transaction(take_parked, &intake);
	TimestampTz batch_parked_at;
	bool owes_earlier;
	int n = error ? 0 : intake.n;

	/* after the look at the table: what it has found is of a batch that is over, or of this */
	SpinLockAcquire(&slot->mutex);
	batch_parked_at = slot->has_batch ? slot->batch_parked_at : 0;
	owes_earlier = slot->owes_earlier;
	SpinLockRelease(&slot->mutex);
	pp_intake_note_owes(owes_earlier);

	*parked = (PpParkedWorkItems){.work_items = intake.work_items};
	for (int i = 0; i < n && batch_parked_at != 0; i++)
	{
		if (intake.work_items[i].parked_at == batch_parked_at)
		{
			parked->waits = true;
			n = i;
		}
	}
	parked->n = cut_parked_off(intake.work_items, n, max, &parked->apart);
	parked->all = error == NULL && !intake.more && parked->n == intake.n;

	return error;
}
