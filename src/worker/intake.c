/*-------------------------------------------------------------------------
 *
 * intake.c
 *	  Finds the worker's next work; see intake.h.  The order of things, and what a
 *	  pass is, is told in ring.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/array.h"
#include "base/savepoint.h"
#include "store/account.h"
#include "store/copied.h"
#include "store/parked_table.h"
#include "store/sorted_rows.h"
#include "worker/intake.h"
#include "worker/poison.h"

/* An entry that is below the mark of the pass, and not done */
typedef struct PassEntry
{
	uint64 pos;
	uint64 at;
} PassEntry;

/*
 * The pass that this process makes; context is NULL when it makes none.  What is
 * done is behind next_entry and out of rows: the set is worked off in its order.
 */
static struct
{
	MemoryContext context;
	uint64 boundary;
	PpSortedRows *rows;
	PassEntry *entries; /* by pos */
	uint64 nentries;
	uint64 next_entry;
} pass;

/* What has been left, by those before us or by us, and comes again: of a pass; in the ring */
static bool pass_owes = true;
static uint64 ring_owes_until = 0;

/* The positions whose records come one by one, from .. to */
static uint64 divided_from = PG_UINT64_MAX;
static uint64 divided_to = 0;

/* What roles hold of the journal; those that don't fit are together in the last one */
typedef struct Charges
{
	int n;
	struct
	{
		Oid role;
		uint64 bytes;
	} of[PP_QUOTA_ROLES];
} Charges;

/* To count the items of the set that are in no entry of the ring, and what all hold */
typedef struct Diverted
{
	uint64 next_entry;
	uint64 items;
	Charges charges;
	PpDamaged damaged; /* rows */
	PpJournalRow last;
} Diverted;

/* Works under construction */
typedef struct WorkItemList
{
	PpWorkItem *work_items;
	int n;
	int max;
	uint64 items;
	uint64 bytes;
	List *open; /* of transactions that have begun here, the pos of the last piece */
} WorkItemList;

/* Is there anything to do, or about to be? */
bool
pp_intake_is_pending(const PpRingView *view)
{
	return view->head < view->tail || view->recovering || view->diverted || view->pass;
}

static PpWorkItem *
add_work(WorkItemList *list)
{
	PP_ARRAY_GROW(list->work_items, list->n, list->max);
	memset(&list->work_items[list->n], 0, sizeof(PpWorkItem));
	return &list->work_items[list->n++];
}

/* The pieces of a transaction have positions that follow each other. */
static void
note_transaction(WorkItemList *list, uint64 pos, uint32 others)
{
	uint64 *end;
	ListCell *cell;

	foreach (cell, list->open)
	{
		end = lfirst(cell);
		if (*end != pos + others)
			continue;
		if (others == 0)
			list->open = foreach_delete_current(list->open, cell);
		return;
	}
	if (others > 0)
	{
		end = palloc(sizeof(uint64));
		*end = pos + others;
		list->open = lappend(list->open, end);
	}
}

/* Take the last one into account; is the batch large enough now? */
static bool
is_full(WorkItemList *list, uint64 max)
{
	PpWorkItem *last = &list->work_items[list->n - 1];
	uint64 max_bytes = PP_BATCH_BYTES;

	list->items += last->n;
	list->bytes += last->bytes;
	note_transaction(list, last->pos, last->others);
	if (list->open != NIL)
	{
		max *= PP_BATCHES_TOGETHER;
		max_bytes *= PP_BATCHES_TOGETHER;
	}
	return list->items >= max || list->bytes >= max_bytes;
}

/* The references in an entry, in the current memory context. */
static PpJournalRef *
read_refs(PpRing *ring, uint64 at, const PpEntry *entry)
{
	PpJournalRef *refs = palloc(entry->length);

	Assert(entry->length == entry->refs * sizeof(PpJournalRef));
	pp_ring_read(ring, at, refs);
	return refs;
}

static void
add_entry(PpRing *ring, uint64 at, const PpEntry *entry, WorkItemList *list)
{
	PpWorkItem *work = add_work(list);

	work->pos = entry->pos;
	work->at = at;
	work->role = entry->role;
	work->nrows = entry->refs;
	work->rows = entry->refs > 0 ? read_refs(ring, at, entry) : NULL;
	work->n = work->there = entry->items - entry->settled;
	work->others = entry->parts - 1 - entry->part;

	/* all rows but the last one are full, more or less */
	work->bytes = entry->refs > 0 ? (entry->refs - 1) * (BLCKSZ / 2) : entry->length;
}

/* ---- undisturbed: READY entries, in the order of the ring ---- */

static PpIntake
take_entries(PpRing *ring, const PpRingView *view, uint64 max, WorkItemList *list)
{
	uint64 at = view->head;
	PpEntry *entry;

	while ((entry = pp_ring_take(ring, at, view->tail)) != NULL)
	{
		if (pg_atomic_read_u32(&entry->state) != PP_ENTRY_DONE)
		{
			add_entry(ring, at, entry, list);
			if (is_full(list, max))
				break;
		}
		else if (list->n > 0)
			note_transaction(list, entry->pos, entry->parts - 1 - entry->part);
		at += entry->bytes;
	}

	/* a transaction that is being published will be there at once, with all it has */
	if (list->n > 0 && (entry || list->open == NIL))
		return PP_INTAKE_WORK;
	return view->head < view->tail ? PP_INTAKE_BUSY : PP_INTAKE_NOTHING;
}

/* ---- a pass ---- */

static int
compare_entries(const void *a, const void *b)
{
	const PassEntry *left = a;
	const PassEntry *right = b;

	if (left->pos != right->pos)
		return left->pos < right->pos ? -1 : 1;
	return left->at < right->at ? -1 : left->at > right->at;
}

/* The entries of the set; false: one is BUSY. */
static bool
collect_entries(PpRing *ring, const PpRingView *view)
{
	uint64 max = 64;
	uint64 at = view->head;

	pass.entries = MemoryContextAlloc(pass.context, max * sizeof(PassEntry));
	pass.nentries = 0;
	while (at < view->mark)
	{
		PpEntry *entry = pp_ring_take(ring, at, view->mark);

		if (entry == NULL)
			return false;
		if (pg_atomic_read_u32(&entry->state) != PP_ENTRY_DONE)
		{
			if (pass.nentries == max)
			{
				max *= 2;
				pass.entries = repalloc_huge(pass.entries, max * sizeof(PassEntry));
			}
			pass.entries[pass.nentries++] = (PassEntry){.pos = entry->pos, .at = at};
		}
		at += entry->bytes;
	}
	qsort(pass.entries, pass.nentries, sizeof(PassEntry), compare_entries);
	return true;
}

static void
add_charge(Charges *charges, const PpJournalRow *row)
{
	int i = 0;

	while (i < charges->n && charges->of[i].role != row->role && i < PP_QUOTA_ROLES - 1)
		i++;
	if (i == charges->n)
		charges->of[charges->n++].role = row->role;
	charges->of[i].bytes += pp_journal_cost(row->length, row->header.items);
}

/* What the journal had before us is held by its roles: that is counted once. */
static void
charge_roles(PpQuota *quota, const Charges *charges)
{
	if (!pp_quota_begin_count(quota))
		return;
	for (int i = 0; i < charges->n; i++)
		(void) pp_quota_charge(quota, PP_STORE_JOURNAL, charges->of[i].role, charges->of[i].bytes,
							   PG_UINT64_MAX, PG_UINT64_MAX);
}

static void
count_diverted(const PpJournalRow *row, void *arg)
{
	Diverted *diverted = arg;
	bool is_copy = pp_journal_is_copy(row, &diverted->last);

	diverted->last = *row;
	if (is_copy)
		return;
	add_charge(&diverted->charges, row);

	while (diverted->next_entry < pass.nentries &&
		   pass.entries[diverted->next_entry].pos < row->pos)
		diverted->next_entry++;
	if (diverted->next_entry == pass.nentries || pass.entries[diverted->next_entry].pos != row->pos)
		diverted->items += row->header.items;
}

static void
note_damaged_row(const PpJournalRow *row, void *arg)
{
	Diverted *diverted = arg;

	pp_copied_note_damaged(&diverted->damaged, &row->ref, row->pos, row->header.items, row->copied);
}

/* Forget what this process knows of a pass; the next call begins it again. */
void
pp_intake_forget(void)
{
	if (pass.rows)
		pp_sorted_rows_end(pass.rows);
	if (pass.context)
		MemoryContextDelete(pass.context);
	memset(&pass, 0, sizeof(pass));
}

/* What waits for a target, counted by a scan */
typedef struct TargetCount
{
	Oid target; /* hash key */
	uint64 pending;
	uint64 parked;
	uint64 parked_bytes;
	TimestampTz parked_at; /* the first of them; 0: there is none */
	bool to_put_aside; /* a row is damaged, or a copy of another installation's */
} TargetCount;

static TargetCount *
count_of(HTAB *counts, Oid target)
{
	bool found;
	TargetCount *count = hash_search(counts, &target, HASH_ENTER, &found);

	if (!found)
		*count = (TargetCount){.target = target};
	return count;
}

static void
count_pending(Oid target, uint64 items, void *arg)
{
	count_of(arg, target)->pending += items;
}

static bool
count_parked(const PpParkedRow *row, void *arg)
{
	TargetCount *count = count_of(arg, row->damaged ? InvalidOid : row->target);

	count->parked += row->header.items;
	count->parked_bytes += row->length;
	if (count->parked_at == 0 || row->parked_at < count->parked_at)
		count->parked_at = row->parked_at;
	count->to_put_aside |= row->damaged;
	return true;
}

/*
 * What the tables had before the slot did is counted once, by target.  Positions have to
 * be there: what is below the first of them is older.
 */
static void
count_targets(const PpClaim *claim)
{
	PpCounters *counters = &claim->slot->counters;
	HASHCTL ctl = {
		.keysize = sizeof(Oid), .entrysize = sizeof(TargetCount), .hcxt = CurrentMemoryContext};
	HTAB *counts;
	HASH_SEQ_STATUS seq;
	TargetCount *count;
	bool to_put_aside = false;

	if (pp_counters_are_counted(counters))
		return;
	counts = hash_create("persist_pipeline targets' items", 64, &ctl,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	pp_journal_scan_targets(claim->extension, pp_ring_view(&claim->slot->ring).base, count_pending,
							counts);
	pp_parked_table_scan(claim->extension, count_parked, counts);
	(void) pp_counters_begin_count(counters);
	hash_seq_init(&seq, counts);
	while ((count = hash_seq_search(&seq)) != NULL)
	{
		to_put_aside |= count->to_put_aside;
		if (!OidIsValid(count->target))
			continue;
		pp_counters_add(counters, count->target, count->pending);
		pp_counters_park(counters, count->target, count->parked, count->parked_bytes);
		if (count->parked > 0)
			pp_counters_note_parked(counters, count->target, pp_steady_from_day(count->parked_at));
	}
	if (to_put_aside || pp_counters_any_parked(counters))
		pp_shmem_call_retrier(claim->slot);
}

/* False: a producer is still copying an entry of the set. */
static bool
begin_pass(const PpClaim *claim)
{
	PpRing *ring = &claim->slot->ring;
	MemoryContext caller = CurrentMemoryContext;
	PpRingView view = pp_ring_begin_pass(ring);
	Diverted diverted = {0};

	pass.boundary = view.boundary;
	pass.context =
		AllocSetContextCreate(TopMemoryContext, "persist_pipeline pass", ALLOCSET_DEFAULT_SIZES);
	if (!collect_entries(ring, &view))
	{
		pp_intake_forget();
		return false;
	}

	/* what was in the middle of its commit is READY now: a fresh snapshot sees it */
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(pass.context);
	pass.rows = pp_sorted_rows_fill(claim->extension, view.boundary, count_diverted,
									note_damaged_row, &diverted);
	count_targets(claim);
	pp_copied_put_damaged_aside(claim->extension, claim->slot, &diverted.damaged);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);

	pp_ring_set_pass_items(ring, diverted.items);
	charge_roles(&claim->slot->quota, &diverted.charges);
	return true;
}

/* Is that the end of a record, also of one whose end is missing? */
static bool
ends_record(const PpJournalRow *last, const PpJournalRow *next)
{
	if (last->header.version == 0 || pp_journal_is_copy(next, last))
		return false; /* it has not begun, or comes twice */
	return !last->header.continues || next->header.items > 0;
}

/*
 * Records of the journal with the next position, up to so many items; one of them only, if it
 * is divided.
 */
static void
add_rows(WorkItemList *list, uint64 at, uint64 max_items)
{
	PpWorkItem *work = add_work(list);
	const PpJournalRow *row = pp_sorted_rows_next(pass.rows);
	PpJournalRow last = {0};
	uint64 max = 4;

	work->pos = row->pos;
	work->at = at;
	work->role = row->role;
	work->part = row->part;
	work->others = row->header.follows;
	work->rows = palloc(max * sizeof(PpJournalRef));
	work->single = work->pos >= divided_from && work->pos <= divided_to;
	while (row && row->pos == work->pos && row->role == work->role &&
		   !((work->single || work->n >= max_items) && ends_record(&last, row)))
	{
		if (work->nrows == max)
		{
			max *= 2;
			work->rows = repalloc_huge(work->rows, max * sizeof(PpJournalRef));
		}
		work->rows[work->nrows++] = row->ref;
		if (!pp_journal_is_copy(row, &last))
		{
			work->n += row->header.items;
			work->there = work->n;
			work->bytes += row->length;
		}
		last = *row;
		pp_sorted_rows_advance(pass.rows);
		row = pp_sorted_rows_next(pass.rows);
	}
}

/* Items of the last work's entry that other work items in the list have. */
static uint64
others_of(const WorkItemList *list)
{
	const PpWorkItem *last = &list->work_items[list->n - 1];
	uint64 items = 0;

	for (const PpWorkItem *work = last - 1; work >= list->work_items && work->at == last->at;
		 work--)
		items += work->n;
	return items;
}

static PpIntake
take_from_pass(PpRing *ring, uint64 max, WorkItemList *list)
{
	for (;;)
	{
		PassEntry *entry = pass.next_entry < pass.nentries ? &pass.entries[pass.next_entry] : NULL;
		const PpJournalRow *row = pp_sorted_rows_next(pass.rows);

		if (entry == NULL && row == NULL)
			break;
		if (entry && (row == NULL || entry->pos < row->pos))
		{
			PpEntry *header = pp_ring_entry(ring, entry->at);
			bool done = pg_atomic_read_u32(&header->state) == PP_ENTRY_DONE;

			/* a row that the scan has not found is no more */
			bool applied = header->refs > 0 && entry->pos < pass.boundary;

			pass.next_entry++;
			if (done)
				continue;
			add_entry(ring, entry->at, header, list);
			list->work_items[list->n - 1].applied = applied;
		}
		else
		{
			bool in_ring = entry && entry->pos == row->pos;

			add_rows(list, in_ring ? entry->at : PP_NOT_IN_RING, max);
			row = pp_sorted_rows_next(pass.rows);
			if (in_ring && (row == NULL || row->pos != entry->pos))
			{
				PpEntry *header = pp_ring_entry(ring, entry->at);
				uint64 others = header->settled + others_of(list);

				/* whatever rows are missing: with the last one the entry is done */
				list->work_items[list->n - 1].n = header->items - Min(header->items, others);
				pass.next_entry++;
			}
		}
		if (is_full(list, max))
			break;
	}
	return list->n > 0 ? PP_INTAKE_WORK : PP_INTAKE_NOTHING;
}

/*
 * The next work items, up to so many items, and all of a transaction.  In the current memory
 * context.
 */
PpIntake
pp_intake_next(const PpClaim *claim, uint64 max, PpWorkItem **work_items, int *nwork_items)
{
	PpRing *ring = &claim->slot->ring;
	PpRingView view = pp_ring_view(ring);
	WorkItemList list = {0};
	PpIntake result;

	if (!view.recovering && !view.diverted && !view.pass)
		result = take_entries(ring, &view, max, &list);
	else if (pass.context == NULL && !begin_pass(claim))
		result = PP_INTAKE_BUSY;
	else
	{
		result = take_from_pass(ring, max, &list);
		if (result == PP_INTAKE_NOTHING)
		{
			pp_intake_forget();
			pp_ring_end_pass(ring);
			pass_owes = false;
			pp_ring_free(ring, 0);
		}
	}
	*work_items = list.work_items;
	*nwork_items = list.n;

	return result;
}

/* The records of the journal in this position come one by one from now on. */
void
pp_intake_divide(uint64 pos)
{
	divided_from = Min(divided_from, pos);
	divided_to = Max(divided_to, pos);
}

/* Have the work items that were taken last been settled, or do some of them come again? */
void
pp_intake_note_settled(const PpClaim *claim, bool settled)
{
	PpRingView view = pp_ring_view(&claim->slot->ring);

	if (!settled)
	{
		pp_intake_forget();
		pass_owes |= view.pass;
		ring_owes_until = view.tail;
	}
	else if (view.head >= ring_owes_until)
		ring_owes_until = 0;
}

/*
 * May something come that belongs before items that are parked?  A batch is a transaction for
 * each role: one may have parked its items, and another, whose items come before them, may
 * not have committed when its worker ended, or has had to be put off.
 */
bool
pp_intake_owes_earlier(void)
{
	return pass_owes || ring_owes_until > 0;
}

/* The same for the retrier, which is told. */
void
pp_intake_note_owes(bool owes)
{
	pass_owes = owes;
}

/* What is in the ring alone, whatever else there is. */
void
pp_intake_volatile(const PpClaim *claim, PpWorkItem **work_items, int *nwork_items)
{
	PpRing *ring = &claim->slot->ring;
	PpRingView view = pp_ring_view(ring);
	uint64 at = view.head;
	WorkItemList list = {0};
	PpEntry *entry;

	while ((entry = pp_ring_take(ring, at, view.tail)) != NULL)
	{
		if (entry->refs == 0 && pg_atomic_read_u32(&entry->state) != PP_ENTRY_DONE)
			add_entry(ring, at, entry, &list);
		at += entry->bytes;
	}
	*work_items = list.work_items;
	*nwork_items = list.n;
}

static void
count_journal_row(const PpJournalRow *row, void *arg)
{
	Diverted *count = arg;

	count->items += row->header.items;
	add_charge(&count->charges, row);
}

/*
 * Take what the journal had before us into account, for a database that is paused:
 * nobody makes a pass that would.  Positions have to be there.
 */
void
pp_intake_count(const PpClaim *claim)
{
	PpRing *ring = &claim->slot->ring;
	Diverted count = {0};

	if (pp_quota_is_counted(&claim->slot->quota))
		return;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	pp_journal_scan(claim->extension, pp_ring_view(ring).base, count_journal_row, NULL, &count);
	count_targets(claim);
	PopActiveSnapshot();
	CommitTransactionCommand();
	charge_roles(&claim->slot->quota, &count.charges);
	if (count.items > 0)
		pp_ring_move(ring, count.items, pp_steady_now());
}

uint64
pp_intake_count_items(const PpWorkItem *work_items, int n)
{
	uint64 items = 0;

	for (int i = 0; i < n; i++)
		items += work_items[i].n;
	return items;
}
