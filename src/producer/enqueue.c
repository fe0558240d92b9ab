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
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "base/array.h"
#include "base/config.h"
#include "base/extension.h"
#include "producer/admission.h"
#include "producer/enqueue.h"
#include "producer/publish.h"
#include "producer/spill.h"
#include "ring/lease.h"

/* An entry has so many bytes of items at most, or one item */
#define PIECE_BYTES (256 * 1024)

/* The list as it was before the first item of a subtransaction */
typedef struct Mark
{
	int nest_level;
	int npieces;
	PpPiece last_piece; /* valid if npieces > 0 */
	uint64 length;
	uint64 items;
} Mark;

/*
 * The list of the current transaction; all zero when there is none.  Memory is
 * TopTransactionContext's.
 */
static struct
{
	PpSpill bytes; /* of the items */
	uint64 items;

	PpPiece *pieces;
	int npieces;
	int max_pieces;

	Mark *marks;
	int nmarks;
	int max_marks;

	bool hurries;		/* they have to be written within ... */
	int flush_interval; /* ... so many ms, the shortest of their targets */

	bool sealed; /* PRE_COMMIT is over: no more items */
	Oid dropped; /* the installation that this transaction has dropped, the first one */

	PpPublish publish;   /* from PRE_COMMIT on */
} list;

static PpInsert within; /* that runs */
static int deepest;		/* what is enqueued outside of any: by what is deferred */

/* Remember the list as it is, if a new subtransaction is about to change it. */
static void
mark_savepoint(void)
{
	int level = GetCurrentTransactionNestLevel();
	Mark *mark;

	if (level == 1 || (list.nmarks > 0 && list.marks[list.nmarks - 1].nest_level == level))
		return;

	PP_ARRAY_GROW_IN(TopTransactionContext, list.marks, list.nmarks, list.max_marks);
	mark = &list.marks[list.nmarks++];
	mark->nest_level = level;
	mark->npieces = list.npieces;
	mark->length = list.bytes.length;
	mark->items = list.items;
	if (list.npieces > 0)
		mark->last_piece = list.pieces[list.npieces - 1];
}

/* The piece that the next item belongs to, or a new one. */
static PpPiece *
piece_for(Oid extension, Oid role, const PpItem *item)
{
	PpPiece *last = list.npieces > 0 ? &list.pieces[list.npieces - 1] : NULL;

	if (last && last->role == role && last->extension == extension &&
		last->durability == item->durability && last->length < PIECE_BYTES)
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
	PP_ARRAY_GROW_IN(TopTransactionContext, list.pieces, list.npieces, list.max_pieces);
	list.pieces[list.npieces] = (PpPiece){.role = role,
										  .extension = extension,
										  .durability = item->durability,
										  .start = list.bytes.length};
	return &list.pieces[list.npieces++];
}

static void
append(Oid extension, Oid role, const PpItem *item)
{
	PpPiece *piece;

	if (list.sealed)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("cannot enqueue an item while the transaction is being committed")));

	mark_savepoint();
	pp_spill_reserve(&list.bytes, item->size, (uint64) pp_config_transaction_buffer * 1024);
	piece = piece_for(extension, role, item);

	/* after the last thing that can fail */
	pp_spill_append(&list.bytes, item, item->size);
	piece->length += item->size;
	piece->items++;
	list.items++;
}

/* ---- what the worker's triggers enqueue ---- */

/*
 * The INSERT begins, or, with what this has returned, ends.  What is enqueued until then is
 * one deeper than its items.
 */
PpInsert
pp_enqueue_within(PpInsert insert)
{
	PpInsert outer = within;

	within = insert;
	if (OidIsValid(insert.target))
		deepest = Max(deepest, insert.depth + 1);
	return outer;
}

/*
 * How deep is what is enqueued now?  What is deferred may be any item's, and so is deeper
 * than all of them.
 */
int
pp_enqueue_depth(void)
{
	int depth = OidIsValid(within.target) ? within.depth + 1 : deepest;

	return pp_shmem_am_worker ? Min(depth, PP_DEEPEST) : 0;
}

/* 54001 if the worker's code enqueues too deep. */
static void
check_depth(const PpItem *item)
{
	if (pp_shmem_am_worker && item->depth > pp_config_max_depth && pp_config_max_depth >= 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
			 errmsg("the chain of items that enqueue items is too long"),
			 errdetail("The item for relation \"%s\" would be the one at depth %d; "
					   "\"persist_pipeline.max_depth\" is %d.",
					   get_rel_name(item->target), item->depth, pp_config_max_depth),
			 errhint("Let no trigger enqueue rows whose triggers enqueue rows without an end, or "
					 "increase \"persist_pipeline.max_depth\".")));
}

/* 53400 if there is no room for what its code enqueues for the commit, with this item. */
static void
check_quota(PpSlot *slot, Oid role, const PpItem *item)
{
	if (pp_shmem_am_worker)
		pp_admission_check_quota(slot, role, list.bytes.length + item->size, list.items + 1);
}

/* 53400 if too much of it is parked: then its callers are told, and nobody else. */
static void
check_parked(PpSlot *slot, Oid target)
{
	PpCounter entry;

	if (!pp_admission_is_full(slot, target, &entry))
		return;
	/* an item for one that comes out is no more than there was */
	if (pp_shmem_am_worker && target == within.target && within.rows > 0)
		within.rows--;
	else
		pp_admission_refuse(target, &entry);
}

/* In a transaction that has items; what is rolled back of it does no harm. */
static void
note_interval(int flush_interval)
{
	if (flush_interval < 0)
		return;
	list.flush_interval = list.hurries ? Min(list.flush_interval, flush_interval) : flush_interval;
	list.hurries = true;
}

/*
 * Enqueue the item as the current user and return its id.  flush_interval: its target's, in ms;
 * -1: it has none.  Errors: those of
 * pp_extension_get(); 53400 too much is parked of the target; 54000 too large, or too much
 * of a transaction; 55000 the transaction is past PRE_COMMIT; in the worker 54001 too deep,
 * 53400 the role's share of the journal is taken; if not transactional those of pp_publish_now().
 */
int64
pp_enqueue(PpItem *item, bool transactional, int flush_interval)
{
	const PpClaim *claim = pp_slot_claim();
	Oid extension = claim ? claim->extension : pp_extension_get();

	/* what this transaction has installed is seen by no worker before it commits */
	transactional = transactional || pp_extension_is_uncommitted(extension);
	item->depth = pp_enqueue_depth();
	check_depth(item);
	if (claim)
	{
		check_parked(claim->slot, item->target);
		if (transactional)
			check_quota(claim->slot, GetUserId(), item);
	}
	item->id = pp_lease_next_id(claim, extension);
	item->enqueued_at = GetCurrentStatementStartTimestamp();
	if (!transactional)
	{
		pp_publish_now(item, flush_interval);
		return item->id;
	}
	append(extension, GetUserId(), item);
	note_interval(flush_interval);
	return item->id;
}

/*
 * Enqueue an item that has an id and a depth, as that role: it is sent again.  Errors as for
 * pp_enqueue().
 */
void
pp_enqueue_again(PpItem *item, Oid role)
{
	const PpClaim *claim = pp_slot_claim();

	item->depth = Max(item->depth, pp_enqueue_depth());
	check_depth(item);
	if (claim)
	{
		check_parked(claim->slot, item->target);
		check_quota(claim->slot, role, item);
	}
	append(claim ? claim->extension : pp_extension_get(), role, item);
}

/* Would items of that target be refused just now? */
bool
pp_enqueue_is_full(Oid target)
{
	const PpClaim *claim = pp_slot_claim();
	PpCounter entry;

	return claim && pp_admission_is_full(claim->slot, target, &entry);
}

/* Does the current transaction hold items that wait for its commit? */
bool
pp_enqueue_is_pending(void)
{
	return list.bytes.length > 0;
}

/*
 * Is the item one of the current transaction's?  Then the fixed part of it, and its role.  Of the
 * others, too, only that part is read, one at a time: they may be more than fit into memory.
 */
bool
pp_enqueue_find(int64 id, PpItem *item, Oid *role)
{
	for (int i = 0; i < list.npieces; i++)
	{
		const PpPiece *piece = &list.pieces[i];

		for (uint64 offset = 0; offset < piece->length; offset += item->size)
		{
			CHECK_FOR_INTERRUPTS();
			pp_spill_copy(&list.bytes, piece->start + offset, sizeof(PpItem), item);
			*role = piece->role;
			if (item->id == id)
				return true;
		}
	}
	return false;
}

/*
 * This transaction drops the installation that its items were handed to: they go
 * with it, if it commits.  Returns how many there are.
 */
uint64
pp_enqueue_drop(Oid extension)
{
	uint64 items = 0;

	if (!OidIsValid(list.dropped))
		list.dropped = extension;
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

static void
enqueue_before_commit(void)
{
	list.sealed = true;
	if (OidIsValid(list.dropped))
	{
		Oid extension = pp_extension_oid();

		keep_pieces_of(extension);
		list.publish.anew = extension != list.dropped; /* or back to a savepoint */
	}
	if (list.npieces > 0)
		pp_publish_prepare(&list.publish, &list.bytes, list.pieces, list.npieces);
	pp_spill_close(&list.bytes);
}

static void
forget(void)
{
	memset(&list, 0, sizeof(list));
}

static void
enqueue_at_commit(void)
{
	if (list.npieces > 0)
		pp_publish_commit(&list.publish, list.hurries ? list.flush_interval : -1);
	forget();
}

static void
at_abort(void)
{
	PpPublish publish = list.publish;

	forget(); /* once is enough */
	pp_publish_abort(&publish);
}

static void
enqueue_xact_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		deepest = 0;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			enqueue_before_commit();
			break;
		case XACT_EVENT_COMMIT:
			enqueue_at_commit();
			pp_slot_end_transaction(true);
			break;
		case XACT_EVENT_ABORT:
			at_abort();
			pp_slot_end_transaction(false);
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (list.bytes.length > 0)
				ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
								errmsg("cannot PREPARE a transaction that has enqueued items")));
			pp_spill_close(&list.bytes);
			break;
		case XACT_EVENT_PREPARE:
			forget();
			pp_slot_end_transaction(false);
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
	list.items = top->items;
	list.npieces = top->npieces;
	if (list.npieces > 0)
		list.pieces[list.npieces - 1] = top->last_piece;
}

static void
enqueue_subxact_event(SubXactEvent event, SubTransactionId subid, SubTransactionId parent,
					  void *arg)
{
	int level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
		pp_slot_end_transaction(false);
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
	RegisterXactCallback(enqueue_xact_event, NULL);
	RegisterSubXactCallback(enqueue_subxact_event, NULL);
}
