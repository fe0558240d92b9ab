/*-------------------------------------------------------------------------
 *
 * enqueue.c
 *	  The pending list of a transaction, published at its commit.
 *
 * Items wait in one buffer, in the order of the calls.  A run is a stretch of it
 * that one role enqueued.  A savepoint is the length of the list when its first
 * item came; to roll back to it is to cut the list there.
 *
 *	call		 append
 *	PRE_COMMIT	 reserve room in the ring for one entry per run; may fail
 *	COMMIT		 write the entries; can't fail
 *	ABORT		 give the room back
 *
 * ABORT can come twice, after PRE_COMMIT or without it: it only does what is left
 * to do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "commands/dbcommands.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "config.h"
#include "enqueue.h"
#include "extension.h"
#include "lease.h"

/* A stretch of the buffer that one role enqueued, with one installation */
typedef struct Run
{
	Oid role;
	Oid extension;
	uint32 items;
	uint64 start;
	uint64 length;
} Run;

/* The list as it was before the first item of a subtransaction */
typedef struct Mark
{
	int nest_level;
	int nruns;
	Run last_run; /* valid if nruns > 0 */
	uint64 length;
} Mark;

/*
 * The list of the current transaction; all zero when there is none.  Memory is
 * TopTransactionContext's.
 */
static struct
{
	char *buffer;
	uint64 length;
	uint64 size;

	Run *runs;
	int nruns;
	int max_runs;

	Mark *marks;
	int nmarks;
	int max_marks;

	bool sealed;  /* PRE_COMMIT is over: no more items */
	bool dropped; /* this transaction has dropped an installation */

	PpLane *lane;	 /* in which we have to use or to give back ... */
	uint64 reserved; /* ... so many bytes */
} list;

/*
 * The claim to the lane that takes this database's items.  53000 if all are in use
 * by other databases; the errors of pp_extension_get().  Only where there is
 * shared memory.
 */
const PpClaim *
pp_enqueue_claim(void)
{
	const PpClaim *claim = pp_lane_claim();

	if (claim == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no ring is free for database \"%s\"", get_database_name(MyDatabaseId)),
				 errdetail("All %d rings hold items of other databases.", pp_max_databases),
				 errhint("Try again, or increase \"persist_pipeline.max_databases\".")));
	return claim;
}

/*
 * Reserve so many bytes of the ring.  Returns the claim under which they are.
 * Errors: those of pp_enqueue_claim(); 53000 full, 57P01 closed.
 */
static const PpClaim *
reserve(uint64 bytes)
{
	const PpClaim *claim;
	PpReserveResult result;

	do
	{
		claim = pp_enqueue_claim();
		result = pp_ring_reserve(&claim->lane->ring, claim->generation, bytes, pp_am_worker);
	} while (result == PP_RING_STALE);

	if (result == PP_RING_CLOSED)
		ereport(ERROR,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("the ring of database \"%s\" is closed", get_database_name(MyDatabaseId)),
				 errdetail("The persist_pipeline worker is shutting down."),
				 errhint("Try the transaction again.")));
	if (result == PP_RING_FULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("the ring of database \"%s\" is full", get_database_name(MyDatabaseId)),
			 errdetail("There is no room for %llu bytes.", (unsigned long long) bytes),
			 errhint("Try the transaction again, or increase \"persist_pipeline.ring_size\".")));

	return claim;
}

/* Room for n elements of an array that grows by doubling. */
static void *
grow(void *array, int *max, int n, Size element)
{
	if (n <= *max)
		return array;
	*max = Max(8, *max * 2);
	if (array == NULL)
		return MemoryContextAlloc(TopTransactionContext, *max * element);
	return repalloc_huge(array, *max * element);
}

/* Remember the list as it is, if a new subtransaction is about to change it. */
static void
mark_savepoint(void)
{
	int level = GetCurrentTransactionNestLevel();
	Mark *mark;

	if (level == 1 || (list.nmarks > 0 && list.marks[list.nmarks - 1].nest_level == level))
		return;

	list.marks = grow(list.marks, &list.max_marks, list.nmarks + 1, sizeof(Mark));
	mark = &list.marks[list.nmarks++];
	mark->nest_level = level;
	mark->nruns = list.nruns;
	mark->length = list.length;
	if (list.nruns > 0)
		mark->last_run = list.runs[list.nruns - 1];
}

static void
append(const PpClaim *claim, const PpItem *item)
{
	Oid role = GetUserId();
	uint64 limit = claim->lane->ring.size - claim->lane->ring.kept;
	Run *run;

	if (list.sealed)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("cannot enqueue an item while the transaction is being committed")));

	if (list.length + item->size + (list.nruns + 1) * 2 * PP_RING_ALIGN > limit)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the items of this transaction do not fit into the ring"),
						errdetail("They are more than %llu bytes.", (unsigned long long) limit),
						errhint("Commit more often, or increase \"persist_pipeline.ring_size\".")));

	mark_savepoint();

	if (list.length + item->size > list.size)
	{
		uint64 size = Max(list.size * 2, 1024);

		while (size < list.length + item->size)
			size *= 2;
		if (list.buffer == NULL)
			list.buffer = MemoryContextAllocHuge(TopTransactionContext, size);
		else
			list.buffer = repalloc_huge(list.buffer, size);
		list.size = size;
	}
	if (list.nruns == 0 || list.runs[list.nruns - 1].role != role ||
		list.runs[list.nruns - 1].extension != claim->extension)
	{
		list.runs = grow(list.runs, &list.max_runs, list.nruns + 1, sizeof(Run));
		run = &list.runs[list.nruns++];
		run->role = role;
		run->extension = claim->extension;
		run->items = 0;
		run->start = list.length;
		run->length = 0;
	}

	/* after the last thing that can fail */
	run = &list.runs[list.nruns - 1];
	memcpy(list.buffer + list.length, item, item->size);
	list.length += item->size;
	run->length += item->size;
	run->items++;
}

/* Write a run, one of so many, into room that was reserved.  Can't fail. */
static void
publish(PpLane *lane, const Run *run, int part, int parts, const char *buffer)
{
	uint64 at =
		pp_ring_begin(&lane->ring, run->role, run->items, run->length, GetCurrentTimestamp());
	PpEntry *entry = pp_ring_entry(&lane->ring, at);

	entry->extension = run->extension;
	entry->part = part;
	entry->parts = parts;
	pp_ring_write(&lane->ring, at, 0, buffer + run->start, run->length);
	if (pp_ring_publish(&lane->ring, at))
		pp_lane_wake(lane);
}

/* Hand an item over at once, whatever becomes of the transaction. */
static void
publish_now(const PpItem *item)
{
	const PpClaim *claim = reserve(pp_entry_bytes(item->size));
	Run run = {
		.role = GetUserId(), .extension = claim->extension, .items = 1, .length = item->size};

	publish(claim->lane, &run, 0, 1, (const char *) item);
}

/* 54000 if the item is larger than a quarter of the ring. */
static void
check_size(const PpLane *lane, const PpItem *item)
{
	uint64 limit = pp_item_limit(lane->ring.size);

	if (item->size > limit)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the item for relation \"%s\" is too large", get_rel_name(item->target)),
				 errdetail("It has %u bytes; the limit is %llu, a quarter of the ring.", item->size,
						   (unsigned long long) limit),
				 errhint("Increase \"persist_pipeline.ring_size\", or set "
						 "\"persist_pipeline.mode\" to \"direct\".")));
}

/*
 * Enqueue the item as the current user and return its id.  Errors: those of
 * pp_enqueue_claim(); 54000 too large; 55000 the transaction is past PRE_COMMIT;
 * if not transactional also 53000 ring full, 57P01 ring closed, which else come at
 * the commit.
 */
int64
pp_enqueue(PpItem *item, bool transactional)
{
	const PpClaim *claim = pp_enqueue_claim();

	check_size(claim->lane, item);
	item->id = pp_lease_next_id(claim, claim->extension);

	if (transactional)
		append(claim, item);
	else
		publish_now(item);
	return item->id;
}

/* Does the current transaction hold items that wait for its commit? */
bool
pp_enqueue_is_pending(void)
{
	return list.length > 0;
}

/*
 * This transaction drops the installation that its items were handed to: they go
 * with it, if it commits.  Returns how many there are.
 */
uint64
pp_enqueue_drop(Oid extension)
{
	uint64 items = 0;

	list.dropped = true;
	for (int i = 0; i < list.nruns; i++)
	{
		if (list.runs[i].extension == extension)
			items += list.runs[i].items;
	}
	return items;
}

/* ---- the life of a transaction ---- */

/* Keep only the runs of one installation. */
static void
keep_runs_of(Oid extension)
{
	int kept = 0;

	for (int i = 0; i < list.nruns; i++)
	{
		if (list.runs[i].extension == extension)
			list.runs[kept++] = list.runs[i];
	}
	list.nruns = kept;
}

/*
 * The items of an installation that is no more, or not this one, have nowhere to
 * go.  Where this very transaction has dropped it, that was meant.
 */
static void
check_runs(Oid extension)
{
	for (int i = 0; i < list.nruns; i++)
	{
		if (list.runs[i].extension != extension)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("extension \"persist_pipeline\" was dropped while the transaction's "
							"items waited for its commit"),
					 errhint("Try the transaction again.")));
	}
}

static void
before_commit(void)
{
	const PpClaim *claim;
	uint64 bytes = 0;

	list.sealed = true;
	if (list.dropped)
		keep_runs_of(pp_extension_oid());
	if (list.nruns == 0)
		return;

	for (int i = 0; i < list.nruns; i++)
		bytes += pp_entry_bytes(list.runs[i].length);
	claim = reserve(bytes);
	list.lane = claim->lane;
	list.reserved = bytes;
	check_runs(claim->extension);
}

static void
forget(void)
{
	memset(&list, 0, sizeof(list));
}

static void
at_commit(void)
{
	for (int i = 0; i < list.nruns; i++)
		publish(list.lane, &list.runs[i], i, list.nruns, list.buffer);
	forget();
}

static void
at_abort(void)
{
	PpLane *lane = list.lane;
	uint64 reserved = list.reserved;

	forget();
	if (reserved > 0 && pp_ring_release(&lane->ring, reserved))
		pp_lane_wake(lane);
}

static void
xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			before_commit();
			break;
		case XACT_EVENT_COMMIT:
			at_commit();
			pp_lane_end_transaction(true);
			break;
		case XACT_EVENT_ABORT:
			at_abort();
			pp_lane_end_transaction(false);
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (list.length > 0)
				ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
								errmsg("cannot PREPARE a transaction that has enqueued items")));
			break;
		case XACT_EVENT_PREPARE:
			forget();
			pp_lane_end_transaction(false);
			break;
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			break; /* parallel workers enqueue nothing */
	}
}

/* The subtransaction's items now belong to its parent. */
static void
keep_items(int level)
{
	Mark *top = &list.marks[list.nmarks - 1];
	bool parent_marked = list.nmarks > 1 && top[-1].nest_level == level - 1;

	if (level - 1 == 1 || parent_marked)
		list.nmarks--;
	else
		top->nest_level = level - 1;
}

static void
drop_items(void)
{
	Mark *top = &list.marks[--list.nmarks];

	list.length = top->length;
	list.nruns = top->nruns;
	if (list.nruns > 0)
		list.runs[list.nruns - 1] = top->last_run;
}

static void
subxact_event(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
		pp_lane_end_transaction(false);
	if (list.nmarks == 0 || list.marks[list.nmarks - 1].nest_level != level)
		return;

	if (event == SUBXACT_EVENT_COMMIT_SUB)
		keep_items(level);
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		drop_items();
}

/* Called once, while the library is preloaded. */
void
pp_enqueue_init(void)
{
	RegisterXactCallback(xact_event, NULL);
	RegisterSubXactCallback(subxact_event, NULL);
}
