/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  Rows of many targets to INSERTs, in the right order.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "batch.h"
#include "poison.h"
#include "savepoint.h"
#include "shape.h"

/* Where else than here the transaction has written */
static struct
{
	Oid target; /* that goes to another server; InvalidOid: none */
	bool several;
} elsewhere;

static bool checks_in_vain; /* what is deferred can't be checked before its transaction ends */

/* 42804 if one of the rows has a value that has no column any more. */
static void
check_values(const PpShape *shape, Relation rel, const PpRow **rows, uint64 n)
{
	uint64 first = pp_batch_state.row;

	for (uint64 i = 0; i < n && shape->loses_some; i++)
	{
		CHECK_FOR_INTERRUPTS();
		pp_batch_state.row = first + i;
		pp_shape_check(shape, rel, rows[i]->item);
	}
	pp_batch_state.row = first;
}

/* Does what we write go to another server, or might it? */
static bool
goes_elsewhere(Relation rel)
{
	PartitionDesc partitions;

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return rel->rd_rel->relkind == RELKIND_FOREIGN_TABLE;
	partitions = RelationGetPartitionDesc(rel, true);
	for (int i = 0; i < partitions->nparts; i++)
	{
		Oid partition = partitions->oids[i];
		char kind = get_rel_relkind(partition);

		if (kind == RELKIND_FOREIGN_TABLE)
			return true;
		if (kind == RELKIND_PARTITIONED_TABLE)
		{
			Relation child = try_relation_open(partition, AccessShareLock);
			bool elsewhere = child && goes_elsewhere(child);

			if (child)
				relation_close(child, AccessShareLock);
			if (elsewhere)
				return true;
		}
	}
	return false;
}

/* The same of a target; one that is locked just now does not, as far as we know. */
bool
pp_batch_goes_elsewhere(Oid target)
{
	Relation rel;
	bool elsewhere;

	if (!ConditionalLockRelationOid(target, AccessShareLock))
		return false;
	rel = try_relation_open(target, NoLock);
	elsewhere = rel && goes_elsewhere(rel);
	if (rel)
		relation_close(rel, NoLock);
	return elsewhere;
}

static void
note_elsewhere(Oid target)
{
	if (OidIsValid(elsewhere.target) && elsewhere.target != target)
		elsewhere.several = true;
	elsewhere.target = target;
}

void
pp_batch_begin_transaction(void)
{
	elsewhere.target = InvalidOid;
	elsewhere.several = false;
	checks_in_vain = false;
}

/*
 * Does the transaction write to several targets that are on other servers?  Each of those
 * commits by itself.
 */
bool
pp_batch_is_scattered(void)
{
	return elsewhere.several;
}

/* One INSERT for rows of one shape.  Returns how many are in the target now. */
static uint64
insert_run(const PpRow **rows, uint64 n)
{
	const PpItem *first = rows[0]->item;
	Relation rel = try_relation_open(first->target, RowExclusiveLock);
	PpShape *shape;
	bool goes_away;
	uint64 inserted;

	if (rel == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("relation with OID %u does not exist", first->target)));
	shape = pp_shape_of(rel, first);
	check_values(shape, rel, rows, n);
	/* others may do with the rows what they like, and when */
	goes_away = goes_elsewhere(rel);
	if (goes_away)
		note_elsewhere(first->target);
	if (goes_away || rel->rd_rel->relkind == RELKIND_VIEW || rel->rd_rules)
		pp_batch_state.row = 0;
	inserted = pp_statement_insert(rel, shape, rows, n);
	relation_close(rel, NoLock);

	/* a rule can make more of a row */
	return Min(inserted, n);
}

/* What a target's foreign keys refer to; a view has none of its own. */
void
pp_batch_find_relatives(PpTargetRows *share)
{
	Relation rel;
	ListCell *cell;

	share->covers = list_make1_oid(share->target);
	if (!ConditionalLockRelationOid(share->target, AccessShareLock))
		return; /* whoever inserts into it has to wait, but not we */
	rel = try_relation_open(share->target, NoLock);
	if (rel == NULL)
		return; /* insert_run says so */
	foreach (cell, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fkey = lfirst(cell);

		share->parents = list_append_unique_oid(share->parents, fkey->confrelid);
	}
	if (rel->rd_rel->relispartition)
		share->covers = list_concat(share->covers, get_partition_ancestors(share->target));
	relation_close(rel, NoLock);
}

/* Do foreign keys of the child refer to the parent? */
bool
pp_batch_is_parent(const PpTargetRows *parent, const PpTargetRows *child)
{
	ListCell *cell;

	foreach (cell, parent->covers)
	{
		if (list_member_oid(child->parents, lfirst_oid(cell)))
			return true;
	}
	return false;
}

/* Put a share into the order, after its parents; a circle is cut somewhere. */
static void
place(PpTargetRows *shares, int nshares, int i, PpTargetRows **order, int *nplaced)
{
	check_stack_depth();

	if (shares[i].placed)
		return;
	shares[i].placed = true;
	for (int j = 0; j < nshares; j++)
	{
		if (pp_batch_is_parent(&shares[j], &shares[i]))
			place(shares, nshares, j, order, nplaced);
	}
	order[(*nplaced)++] = &shares[i];
}

typedef struct ShareEntry
{
	Oid target; /* hash key */
	int share;
} ShareEntry;

/* Sort the rows by target, each target's in their own order. */
static PpTargetRows *
divide(const PpRow **rows, uint64 n, int *nshares)
{
	HASHCTL ctl = {
		.keysize = sizeof(Oid), .entrysize = sizeof(ShareEntry), .hcxt = CurrentMemoryContext};
	HTAB *by_target =
		hash_create("persist_pipeline shares", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	int max = 16;
	PpTargetRows *shares = palloc0(max * sizeof(PpTargetRows));
	int *share_of = palloc_extended(Max(n, 1) * sizeof(int), MCXT_ALLOC_HUGE);

	*nshares = 0;
	for (uint64 i = 0; i < n; i++)
	{
		ShareEntry *entry;
		bool found;

		if (i > 0 && rows[i]->item->target == rows[i - 1]->item->target)
		{
			share_of[i] = share_of[i - 1];
			shares[share_of[i]].n++;
			continue;
		}
		entry = hash_search(by_target, &rows[i]->item->target, HASH_ENTER, &found);
		if (!found)
		{
			if (*nshares == max)
			{
				shares = repalloc(shares, 2 * max * sizeof(PpTargetRows));
				memset(shares + max, 0, max * sizeof(PpTargetRows));
				max *= 2;
			}
			entry->share = (*nshares)++;
			shares[entry->share].target = rows[i]->item->target;
		}
		share_of[i] = entry->share;
		shares[entry->share].n++;
	}

	for (int s = 0; s < *nshares; s++)
	{
		shares[s].rows = palloc_extended(shares[s].n * sizeof(PpRow *), MCXT_ALLOC_HUGE);
		shares[s].n = 0;
	}
	for (uint64 i = 0; i < n; i++)
	{
		PpTargetRows *share = &shares[share_of[i]];

		share->rows[share->n++] = rows[i];
	}
	hash_destroy(by_target);

	return shares;
}

/*
 * Divide the rows by target, in the order in which that should be done: parents before
 * children.  In the current memory context.
 */
PpTargetRows **
pp_batch_divide(const PpRow **rows, uint64 n, int *nshares)
{
	PpTargetRows *shares = divide(rows, n, nshares);
	PpTargetRows **order = palloc(Max(*nshares, 1) * sizeof(PpTargetRows *));
	int nplaced = 0;

	for (int i = 0; i<*nshares && * nshares> 1; i++)
		pp_batch_find_relatives(&shares[i]);
	for (int i = 0; i < *nshares; i++)
		place(shares, *nshares, i, order, &nplaced);

	return order;
}

static void
fire_deferred(void *arg)
{
	pp_batch_fire_deferred();
}

/*
 * A candidate (poison.h) has been inserted by itself: what is deferred may end this process,
 * too.  What rows to come may still mend is checked with all the others, in the end.
 */
static void
check_candidate(void)
{
	ErrorData *error = checks_in_vain ? NULL : pp_under_savepoint(fire_deferred, NULL);

	if (error && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	checks_in_vain |= error != NULL;
	pp_poison_note_item(PP_AT_HAND_ALL, 0, 0);
}

static bool
is_candidate(const PpRow *row)
{
	return pp_poison_is_suspected() && pp_poison_is_candidate(row->pos, row->part);
}

/*
 * Insert the rows of a target, in the current transaction, as the current user.
 * Returns how many of them are in it now; a trigger or a rule has passed over the
 * others.  Allocates in the current memory context.  Errors: 42P01 and 42804 where
 * the target is gone or has changed; all that an INSERT can raise; pp_batch_state
 * tells where.
 */
uint64
pp_batch_insert(const PpTargetRows *share)
{
	PpBatchState outer = pp_batch_state; /* in direct mode, of a trigger */
	uint64 inserted = 0;
	uint64 start = 0;

	pp_batch_state = (PpBatchState){.target = share->target};
	PushActiveSnapshot(GetTransactionSnapshot());
	while (start < share->n)
	{
		const PpRow *first = share->rows[start];
		bool alone = is_candidate(first);
		uint64 end = start + 1;

		while (!alone && end < share->n &&
			   pp_item_same_shape(first->item, share->rows[end]->item) &&
			   !is_candidate(share->rows[end]))
			end++;
		if (alone)
			pp_poison_note_item(PP_AT_HAND_ITEM, first->pos, first->part);

		/* whatever is wrong before it has begun is wrong with the first one, too */
		pp_batch_state.in_rows = false;
		pp_batch_state.row = start + 1;
		inserted += insert_run(share->rows + start, end - start);
		pp_batch_state.row = 0; /* triggers may be to blame that fire after it */
		CommandCounterIncrement();
		if (alone)
			check_candidate();
		start = end;
	}
	PopActiveSnapshot();
	pp_batch_state = outer;

	return inserted;
}

/*
 * Fire what is deferred.  What passes need not be fired again; what comes after it is
 * deferred again, since rows to come may belong to it.
 */
void
pp_batch_fire_deferred(void)
{
	ConstraintsSetStmt *all = makeNode(ConstraintsSetStmt);

	all->deferred = false;
	AfterTriggerSetState(all);
	all->deferred = true;
	AfterTriggerSetState(all);
}
