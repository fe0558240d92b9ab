/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  Items of many targets to INSERTs, in the right order.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "miscadmin.h"
#include "partitioning/partdesc.h"
#include "utils/lsyscache.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "batch.h"
#include "statement.h"

Oid pp_batch_target = InvalidOid;

/* Does the item's tuple have the columns that the relation has now? */
static bool
fits(Relation rel, const PpItem *item)
{
	TupleDesc desc = RelationGetDescr(rel);
	uint64 fingerprint = 0;

	if (item->natts > desc->natts)
		return false;
	for (int attnum = 1; attnum <= item->natts; attnum++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, attnum - 1);

		if (!PpBitmapHas(pp_item_carried(item), attnum))
			continue;
		if (att->attisdropped || att->attgenerated != '\0')
			return false;
		fingerprint = pp_fingerprint_add(fingerprint, pp_column_fingerprint(att, NULL));
	}
	return fingerprint == item->fingerprint;
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

/* One INSERT for items of one shape. */
static void
insert_run(const PpItem **items, int n)
{
	Relation rel;

	pp_batch_target = items[0]->target;
	rel = try_relation_open(items[0]->target, RowExclusiveLock);
	if (rel == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("relation with OID %u does not exist", items[0]->target)));
	if (!fits(rel, items[0]))
		ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
						errmsg("relation \"%s\" has changed since the item was enqueued",
							   RelationGetRelationName(rel)),
						errdetail("A column that the item has a value for was dropped, or its "
								  "type was changed.")));
	pp_statement_insert(rel, items, n);

	/* or else a crash could lose our commit and not theirs, and they get it twice */
	if (goes_elsewhere(rel))
		ForceSyncCommit();
	relation_close(rel, NoLock);
}

/* Items of one target, as indexes into the batch */
typedef struct Share
{
	Oid target;
	List *parents; /* OIDs that its foreign keys refer to */
	List *covers;  /* itself and the partitioned tables above it */
	const PpItem **items;
	int n;
	bool placed;
} Share;

/* What a target's foreign keys refer to; a view has none of its own. */
static void
find_relatives(Share *share)
{
	Relation rel;
	ListCell *cell;

	pp_batch_target = share->target;
	rel = try_relation_open(share->target, RowExclusiveLock);

	share->covers = list_make1_oid(share->target);
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

static bool
is_parent(const Share *parent, const Share *child)
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
place(Share *shares, int nshares, int i, int *order, int *nplaced)
{
	check_stack_depth();

	if (shares[i].placed)
		return;
	shares[i].placed = true;
	for (int j = 0; j < nshares; j++)
	{
		if (is_parent(&shares[j], &shares[i]))
			place(shares, nshares, j, order, nplaced);
	}
	order[(*nplaced)++] = i;
}

typedef struct ShareEntry
{
	Oid target; /* hash key */
	int share;
} ShareEntry;

/* Sort the items by target, each target's in their own order. */
static Share *
divide(const PpItem **items, int n, int *nshares)
{
	HASHCTL ctl = {
		.keysize = sizeof(Oid), .entrysize = sizeof(ShareEntry), .hcxt = CurrentMemoryContext};
	HTAB *by_target =
		hash_create("persist_pipeline shares", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	int max = 16;
	Share *shares = palloc0(max * sizeof(Share));
	int *share_of = palloc(n * sizeof(int));

	*nshares = 0;
	for (int i = 0; i < n; i++)
	{
		ShareEntry *entry;
		bool found;

		if (i > 0 && items[i]->target == items[i - 1]->target)
		{
			share_of[i] = share_of[i - 1];
			shares[share_of[i]].n++;
			continue;
		}
		entry = hash_search(by_target, &items[i]->target, HASH_ENTER, &found);
		if (!found)
		{
			if (*nshares == max)
			{
				shares = repalloc(shares, 2 * max * sizeof(Share));
				memset(shares + max, 0, max * sizeof(Share));
				max *= 2;
			}
			entry->share = (*nshares)++;
			shares[entry->share].target = items[i]->target;
		}
		share_of[i] = entry->share;
		shares[entry->share].n++;
	}

	for (int s = 0; s < *nshares; s++)
	{
		shares[s].items = palloc(shares[s].n * sizeof(PpItem *));
		shares[s].n = 0;
	}
	for (int i = 0; i < n; i++)
	{
		Share *share = &shares[share_of[i]];

		share->items[share->n++] = items[i];
	}
	hash_destroy(by_target);

	return shares;
}

static void
insert_share(Share *share)
{
	int start = 0;

	while (start < share->n)
	{
		int end = start + 1;

		while (end < share->n && pp_item_same_shape(share->items[start], share->items[end]))
			end++;
		insert_run(share->items + start, end - start);
		CommandCounterIncrement();
		start = end;
	}
}

/*
 * Insert the items, in the current transaction, as the current user: each
 * target's in their order, parents before children.  Allocates in the current
 * memory context.  Errors: 42P01 and 42804 where a target is gone or has changed;
 * all that an INSERT can raise.
 */
void
pp_batch_insert(const PpItem **items, int n)
{
	int nshares;
	Share *shares = divide(items, n, &nshares);
	int *order = palloc(nshares * sizeof(int));
	int nplaced = 0;

	if (nshares > 1)
	{
		for (int i = 0; i < nshares; i++)
			find_relatives(&shares[i]);
	}
	for (int i = 0; i < nshares; i++)
		place(shares, nshares, i, order, &nplaced);

	PushActiveSnapshot(GetTransactionSnapshot());
	for (int i = 0; i < nshares; i++)
		insert_share(&shares[order[i]]);
	PopActiveSnapshot();
}
