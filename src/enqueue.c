/*-------------------------------------------------------------------------
 *
 * enqueue.c
 *	  The pending list of a transaction, published at its commit.
 *
 * Items wait in one list, in the order of the calls; above transaction_buffer, its
 * beginning is in a temporary file (spill.h).  A piece is a stretch of it that one role
 * enqueued, and becomes one entry.  A savepoint is the length of the list when its
 * first item came; to roll back to it is to cut the list there.
 *
 *	call		 append
 *	PRE_COMMIT	 reserve room in the ring for the entries, write the journal; may fail
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
#include "spill.h"

/*
 * A stretch of the list that one role enqueued, with one installation: what becomes
 * one entry
 */
typedef struct Piece
{
	Oid role;
	Oid extension;
	bool ring_only;
	uint32 items;
	uint64 start;
	uint64 length;
	PpJournalRef *refs; /* to where it is in the journal */
	int nrefs;			/* 0: it isn't */
} Piece;

/* An entry has so many bytes of items at most, or one item */
#define PIECE_BYTES (256 * 1024)

#define MORE_THAN_ANY_RING (PG_UINT64_MAX / PP_RING_ALIGN * PP_RING_ALIGN)

/* The list as it was before the first item of a subtransaction */
typedef struct Mark
{
	int nest_level;
	int npieces;
	Piece last_piece; /* valid if npieces > 0 */
	uint64 length;
} Mark;

/*
 * The list of the current transaction; all zero when there is none.  Memory is
 * TopTransactionContext's.
 */
static struct
{
	PpSpill bytes; /* of the items */

	Piece *pieces;
	int npieces;
	int max_pieces;

	Mark *marks;
	int nmarks;
	int max_marks;

	bool sealed;  /* PRE_COMMIT is over: no more items */
	bool dropped; /* this transaction has dropped an installation */

	uint64 pos;		 /* of the first piece */
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
	mark->npieces = list.npieces;
	mark->length = list.bytes.length;
	if (list.npieces > 0)
		mark->last_piece = list.pieces[list.npieces - 1];
}

/* The piece that the next item belongs to, or a new one. */
static Piece *
piece_for(const PpClaim *claim, Oid role, const PpItem *item)
{
	Piece *last = list.npieces > 0 ? &list.pieces[list.npieces - 1] : NULL;

	if (last && last->role == role && last->extension == claim->extension &&
		last->ring_only == item->ring_only && last->length < PIECE_BYTES)
		return last;

	/* their positions follow each other, and come from one range */
	if (list.npieces == PP_LEASE_IDS)
		ereport(
			ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("the transaction has enqueued too much"),
			 errdetail("Its items change between roles, or between durabilities, or fill 256 kB, "
					   "%d times.",
					   PP_LEASE_IDS),
			 errhint("Divide the transaction.")));
	list.pieces = grow(list.pieces, &list.max_pieces, list.npieces + 1, sizeof(Piece));
	list.pieces[list.npieces] = (Piece){.role = role,
										.extension = claim->extension,
										.ring_only = item->ring_only,
										.start = list.bytes.length};
	return &list.pieces[list.npieces++];
}

static void
append(const PpClaim *claim, const PpItem *item)
{
	Piece *piece;

	if (list.sealed)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("cannot enqueue an item while the transaction is being committed")));

	mark_savepoint();
	pp_spill_reserve(&list.bytes, item->size, (uint64) pp_transaction_buffer * 1024);
	piece = piece_for(claim, GetUserId(), item);

	/* after the last thing that can fail */
	pp_spill_append(&list.bytes, item, item->size);
	piece->length += item->size;
	piece->items++;
}

/* Bytes of payload that a piece puts into the ring. */
static uint64
payload(const Piece *piece)
{
	return piece->nrefs > 0 ? piece->nrefs * sizeof(PpJournalRef) : piece->length;
}

/* Write a piece, one of so many, into room that was reserved.  Can't fail. */
static void
publish(PpLane *lane, const Piece *piece, uint64 pos, int part, int parts, const char *items)
{
	const void *bytes = piece->nrefs > 0 ? (const void *) piece->refs : items;
	uint64 at = pp_ring_begin(&lane->ring, piece->role, piece->items, payload(piece),
							  GetCurrentTimestamp());
	PpEntry *entry = pp_ring_entry(&lane->ring, at);

	entry->extension = piece->extension;
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
	Piece piece = {
		.role = GetUserId(), .extension = claim->extension, .items = 1, .length = item->size};

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
	return list.bytes.length > 0;
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
	for (int i = 0; i < list.npieces; i++)
	{
		if (list.pieces[i].extension == extension)
			items += list.pieces[i].items;
	}
	return items;
}

/* ---- the life of a transaction ---- */

/* Keep only the pieces of one installation. */
static void
keep_pieces_of(Oid extension)
{
	int kept = 0;

	for (int i = 0; i < list.npieces; i++)
	{
		if (list.pieces[i].extension == extension)
			list.pieces[kept++] = list.pieces[i];
	}
	list.npieces = kept;
}

/*
 * The items of an installation that is no more, or not this one, have nowhere to
 * go.  Where this very transaction has dropped it, that was meant.
 */
static void
check_pieces(Oid extension)
{
	for (int i = 0; i < list.npieces; i++)
	{
		if (list.pieces[i].extension != extension)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("extension \"persist_pipeline\" was dropped while the transaction's "
							"items waited for its commit"),
					 errhint("Try the transaction again.")));
	}
}

/*
 * How many bytes of the ring do the pieces need?  What is in the file can't be read
 * during the commit: that needs more than there is.
 */
static uint64
count_ring_bytes(bool *ring_only)
{
	uint64 bytes = 0;

	*ring_only = false;
	if (list.bytes.spilled > 0)
		return MORE_THAN_ANY_RING;
	for (int i = 0; i < list.npieces; i++)
	{
		Piece *piece = &list.pieces[i];

		if (!piece->ring_only)
			piece->nrefs = pp_journal_plan(pp_spill_read(&list.bytes, piece->start, piece->length),
										   piece->length, NULL);
		bytes += pp_entry_bytes(payload(piece));
		*ring_only |= piece->ring_only;
	}
	return bytes;
}

/* Write a piece to the journal; keep the references, if they are for the ring. */
static void
journal(Piece *piece, int number, uint64 pos, int follows)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "persist_pipeline piece",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	const char *bytes = pp_spill_read(&list.bytes, piece->start, piece->length);
	int nrows = pp_journal_plan(bytes, piece->length, NULL);
	PpRowPlan *rows = palloc(nrows * sizeof(PpRowPlan));
	PpJournalRef *refs = MemoryContextAlloc(list.diverting ? context : TopTransactionContext,
											nrows * sizeof(PpJournalRef));

	(void) pp_journal_plan(bytes, piece->length, rows);
	for (int i = 0; i < nrows; i++)
		rows[i].header.follows = follows;
	pp_journal_append(piece->extension, number, pos, piece->role, rows, nrows, refs);
	if (!list.diverting)
	{
		piece->refs = refs;
		piece->nrefs = nrows;
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
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
			check_pieces(claim->extension);
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
	bool ring_only;
	uint64 bytes;
	PpAdmission admission;

	list.sealed = true;
	if (list.dropped)
		keep_pieces_of(pp_extension_oid());
	if (list.npieces == 0)
	{
		pp_spill_close(&list.bytes);
		return;
	}

	bytes = count_ring_bytes(&ring_only);
	admission = admit(bytes, ring_only);
	PushActiveSnapshot(GetTransactionSnapshot()); /* the heap wants one */
	for (int i = 0; i < list.npieces; i++)
	{
		Piece *piece = &list.pieces[i];

		CHECK_FOR_INTERRUPTS();
		list.items += piece->items;
		if (list.diverting || !piece->ring_only)
			journal(piece, admission.journal, list.pos + i, list.npieces - 1 - i);
	}
	PopActiveSnapshot();
	pp_spill_close(&list.bytes);
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
			publish(lane, &list.pieces[i], list.pos + i, i, list.npieces,
					pp_spill_in_memory(&list.bytes, list.pieces[i].start));
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
			if (list.bytes.length > 0)
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

	pp_spill_cut(&list.bytes, top->length);
	list.npieces = top->npieces;
	if (list.npieces > 0)
		list.pieces[list.npieces - 1] = top->last_piece;
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
