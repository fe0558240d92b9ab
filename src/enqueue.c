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
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "config.h"
#include "enqueue.h"
#include "extension.h"
#include "journal.h"
#include "lease.h"

/* A stretch of the buffer that one role enqueued, with one installation */
typedef struct Run
{
	Oid role;
	Oid extension;
	bool ring_only;
	uint32 items;
	uint64 start;
	uint64 length;
} Run;

/* What becomes one entry: a stretch of a run, made before the commit */
typedef struct Piece
{
	const Run *run;
	uint32 items;
	uint64 start;
	uint64 length;
	PpJournalRef *refs; /* to where it is in the journal */
	int nrefs;			/* 0: it isn't */
} Piece;

/* An entry has so many bytes of items at most, or one item */
#define PIECE_BYTES (256 * 1024)

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

	Piece *pieces;
	int npieces;
	uint64 pos; /* of the first one */

	PpLane *lane;	 /* in which we have to use or to give back ... */
	uint64 reserved; /* ... so many bytes, */
	bool diverting;	 /* or to divert */
	uint64 items;	 /* of all pieces */
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
	Run *run;

	if (list.sealed)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("cannot enqueue an item while the transaction is being committed")));

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
		list.runs[list.nruns - 1].extension != claim->extension ||
		list.runs[list.nruns - 1].ring_only != item->ring_only)
	{
		list.runs = grow(list.runs, &list.max_runs, list.nruns + 1, sizeof(Run));
		run = &list.runs[list.nruns++];
		run->role = role;
		run->extension = claim->extension;
		run->ring_only = item->ring_only;
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

/* Bytes of payload that a piece puts into the ring. */
static uint64
payload(const Piece *piece)
{
	return piece->nrefs > 0 ? piece->nrefs * sizeof(PpJournalRef) : piece->length;
}

/* Write a piece, one of so many, into room that was reserved.  Can't fail. */
static void
publish(PpLane *lane, const Piece *piece, uint64 pos, int part, int parts, const char *buffer)
{
	const void *bytes = piece->nrefs > 0 ? (const void *) piece->refs : buffer + piece->start;
	uint64 at = pp_ring_begin(&lane->ring, piece->run->role, piece->items, payload(piece),
							  GetCurrentTimestamp());
	PpEntry *entry = pp_ring_entry(&lane->ring, at);

	entry->extension = piece->run->extension;
	entry->part = part;
	entry->parts = parts;
	entry->pos = pos;
	entry->refs = piece->nrefs;
	pp_ring_write(&lane->ring, at, 0, bytes, payload(piece));
	if (pp_ring_publish(&lane->ring, at))
		pp_lane_wake(lane);
}

/* A position for an entry of its own. */
static uint64
take_position(void)
{
	for (;;)
	{
		const PpClaim *claim = pp_enqueue_claim();
		uint64 pos = pp_ring_take_position(&claim->lane->ring, claim->generation);

		if (pos > 0)
			return pos;
		CHECK_FOR_INTERRUPTS();
		pp_lease_positions(claim);
	}
}

/* Hand an item over at once, whatever becomes of the transaction. */
static void
publish_now(const PpItem *item)
{
	uint64 pos = take_position();
	const PpClaim *claim = reserve(pp_entry_bytes(item->size));
	Run run = {.role = GetUserId(), .extension = claim->extension};
	Piece piece = {.run = &run, .items = 1, .length = item->size};

	publish(claim->lane, &piece, pos, 0, 1, (const char *) item);
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

	if (!transactional)
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

/* Cut the runs into pieces. */
static void
make_pieces(void)
{
	int max = 0;

	for (int i = 0; i < list.nruns; i++)
	{
		const Run *run = &list.runs[i];
		uint64 end = run->start + run->length;

		for (uint64 start = run->start; start < end;)
		{
			Piece *piece;

			list.pieces = grow(list.pieces, &max, list.npieces + 1, sizeof(Piece));
			piece = &list.pieces[list.npieces++];
			*piece = (Piece){.run = run, .start = start};
			while (start < end && (piece->items == 0 || piece->length < PIECE_BYTES))
			{
				const PpItem *item = (const PpItem *) (list.buffer + start);

				piece->items++;
				piece->length += item->size;
				start += item->size;
			}
			if (!run->ring_only)
				piece->nrefs = pp_journal_plan(list.buffer + piece->start, piece->length, NULL);
			list.items += piece->items;
		}
	}

	/* their positions follow each other, and come from one range */
	if (list.npieces > PP_LEASE_IDS)
		ereport(
			ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("the transaction has enqueued too much"),
			 errdetail("Its items change between roles, or between durabilities, or fill 256 kB, "
					   "%d times; the limit is %d.",
					   list.npieces, PP_LEASE_IDS),
			 errhint("Divide the transaction.")));
}

/* Write a piece to the journal. */
static void
journal(Piece *piece, int number, uint64 pos, int follows)
{
	PpRowPlan *rows;

	piece->nrefs = pp_journal_plan(list.buffer + piece->start, piece->length, NULL);
	rows = MemoryContextAlloc(TopTransactionContext, piece->nrefs * sizeof(PpRowPlan));
	piece->refs = MemoryContextAlloc(TopTransactionContext, piece->nrefs * sizeof(PpJournalRef));
	(void) pp_journal_plan(list.buffer + piece->start, piece->length, rows);
	for (int i = 0; i < piece->nrefs; i++)
		rows[i].header.follows = follows;
	pp_journal_append(piece->run->extension, number, pos, piece->run->role, rows, piece->nrefs,
					  piece->refs);
	pfree(rows);
}

/* Room for our pieces in the ring, or else in the journal alone. */
static PpAdmission
admit(uint64 bytes, bool ring_only)
{
	for (;;)
	{
		const PpClaim *claim = pp_enqueue_claim();
		PpRing *ring = &claim->lane->ring;
		PpAdmission admission =
			pp_ring_admit(ring, claim->generation, bytes, list.npieces, pp_am_worker, ring_only);

		if (admission.result == PP_RESERVED || admission.result == PP_RING_DIVERTED)
		{
			/* from here on ABORT has something to undo */
			list.lane = claim->lane;
			list.reserved = admission.result == PP_RESERVED ? bytes : 0;
			list.diverting = admission.result == PP_RING_DIVERTED;
			list.pos = admission.pos;
			check_runs(claim->extension);
			return admission;
		}
		CHECK_FOR_INTERRUPTS();
		if (admission.result == PP_NO_POSITIONS)
			pp_lease_positions(claim);
	}
}

static void
before_commit(void)
{
	uint64 bytes = 0;
	bool ring_only = false;
	PpAdmission admission;

	list.sealed = true;
	if (list.dropped)
		keep_runs_of(pp_extension_oid());
	if (list.nruns == 0)
		return;

	make_pieces();
	for (int i = 0; i < list.npieces; i++)
	{
		bytes += pp_entry_bytes(payload(&list.pieces[i]));
		ring_only |= list.pieces[i].run->ring_only;
	}
	admission = admit(bytes, ring_only);
	PushActiveSnapshot(GetTransactionSnapshot()); /* the heap wants one */
	for (int i = 0; i < list.npieces; i++)
	{
		Piece *piece = &list.pieces[i];

		if (list.diverting || !piece->run->ring_only)
			journal(piece, admission.journal, list.pos + i, list.npieces - 1 - i);
	}
	PopActiveSnapshot();
}

static void
forget(void)
{
	memset(&list, 0, sizeof(list));
}

static void
at_commit(void)
{
	PpLane *lane = list.lane;

	if (list.diverting)
	{
		if (pp_ring_divert(&lane->ring, list.items, pp_batch_size, GetCurrentTimestamp()))
			pp_lane_wake(lane);
	}
	else
	{
		for (int i = 0; i < list.npieces; i++)
			publish(lane, &list.pieces[i], list.pos + i, i, list.npieces, list.buffer);
	}
	forget();
}

static void
at_abort(void)
{
	PpLane *lane = list.lane;
	uint64 reserved = list.reserved;
	bool diverting = list.diverting;

	forget();
	if ((reserved > 0 && pp_ring_release(&lane->ring, reserved)) ||
		(diverting && pp_ring_undivert(&lane->ring)))
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
