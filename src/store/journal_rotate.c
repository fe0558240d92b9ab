/*-------------------------------------------------------------------------
 *
 * journal_rotate.c
 *	  Turns producers to another table of the journal, and empties those that are
 *	  retired; see journal.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/relation.h"
#include "access/relscan.h"
#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/config.h"
#include "base/table.h"
#include "store/journal.h"
#include "store/snapshot_watch.h"

#define ROTATE_BLOCKS (32 * 1024 * 1024 / BLCKSZ)

/*
 * Is every row deleted, by a transaction before `applied_at`?  Whoever writes to it
 * holds a lock to the end, and we have one against that: nothing is in doubt.
 */
static bool
is_applied(Relation rel, TransactionId applied_at)
{
	PpTable table = {.rel = rel};
	TransactionId xmin;
	HeapTuple tuple;
	bool applied = true;

	pp_table_scan(&table, SnapshotAny, 0, NULL);
	while (applied && (tuple = pp_table_next(&table)) != NULL)
	{
		/* a late producer's: applied after that, if it is */
		xmin = HeapTupleHeaderGetXmin(tuple->t_data);
		if (TransactionIdIsNormal(xmin) && TransactionIdFollowsOrEquals(xmin, applied_at) &&
			TransactionIdDidCommit(xmin))
			applied = false;
	}
	pp_table_end_scan(&table);
	return applied;
}

/*
 * Does it have a row that is not yet applied, from this block on?  If so, *from is
 * where: what is before that needs no second look, or a long backlog would be scanned
 * over and over.
 */
static bool
has_live_rows(Relation rel, BlockNumber *from)
{
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);
	PpTable table = {.rel = rel};
	HeapTuple tuple;

	if (*from >= blocks)
		return false;
	pp_table_scan(&table, GetActiveSnapshot(), 0, NULL);
	heap_setscanlimits(table.scan->scan, *from, blocks - *from);
	tuple = pp_table_next(&table);
	*from = tuple ? ItemPointerGetBlockNumber(&tuple->t_self) : blocks;
	pp_table_end_scan(&table);

	return *from < blocks;
}

/* Could a snapshot that is in use see a row that has been deleted from it? */
static bool
is_needed(Relation rel, const PpRetired *retired, PpSnapshotWatch *watch)
{
	if (TransactionIdPrecedesOrEquals(retired->applied_at,
									  GetOldestNonRemovableTransactionId(rel)) ||
		pp_snapshot_watch_is_over(watch))
		return false;
	return !pp_steady_has_lasted(retired->since, pp_config_journal_retention);
}

/*
 * Give a retired journal a new file, if that can be done at once.  It is scanned
 * when it may have been applied, and once more before it goes, and not at every look.
 */
static bool
empty_journal(Oid extension, int number, PpRetired *retired)
{
	static PpSnapshotWatch watches[PP_JOURNALS];
	Oid relid = pp_journal_oid(extension, number);
	Relation rel;
	BlockNumber start = 0;
	bool done = false;

	if (!OidIsValid(relid) || !ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return false;
	rel = try_relation_open(relid, NoLock);
	if (rel == NULL)
		return false;

	PushActiveSnapshot(GetLatestSnapshot());
	if (!TransactionIdIsValid(retired->applied_at) && !has_live_rows(rel, &retired->from))
	{
		retired->applied_at = ReadNextTransactionId();
		pp_snapshot_watch_begin(&watches[number]);
	}
	if (TransactionIdIsValid(retired->applied_at) && !is_needed(rel, retired, &watches[number]))
	{
		done = !has_live_rows(rel, &start) && is_applied(rel, retired->applied_at);
		if (done)
			pp_relation_set_new_file(rel);
		else
		{
			retired->applied_at = InvalidTransactionId;
			retired->from = 0;
		}
	}
	PopActiveSnapshot();
	relation_close(rel, NoLock);

	return done;
}

/* InvalidBlockNumber: that can't be told, since somebody has locked it. */
static BlockNumber
count_blocks(Oid extension, int number)
{
	Oid relid = pp_journal_oid(extension, number);
	Relation rel;
	BlockNumber blocks;
	bool locked;

	if (!OidIsValid(relid))
		return InvalidBlockNumber;
	rel = pp_table_open_unless_locked(relid, AccessShareLock, &locked);
	if (rel == NULL)
		return InvalidBlockNumber;
	blocks = RelationGetNumberOfBlocks(rel);
	relation_close(rel, AccessShareLock);

	return blocks;
}

/* Bytes of all of them on disk. */
uint64
pp_journal_size(Oid extension)
{
	uint64 size = 0;

	for (int i = 0; i < PP_JOURNALS; i++)
	{
		BlockNumber blocks = count_blocks(extension, i);

		if (blocks != InvalidBlockNumber)
			size += (uint64) blocks * BLCKSZ;
	}
	return size;
}

/* Have one that isn't written to emptied; false: it has to wait. */
static bool
look_after_retired(Oid extension, int number, PpRetired *retired)
{
	bool done;

	if (retired->since == 0)
	{
		retired->since = pp_steady_now();
		retired->applied_at = InvalidTransactionId;
		retired->from = 0;
	}
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	done = empty_journal(extension, number, retired);
	CommitTransactionCommand();
	if (done)
		retired->since = 0;

	return done;
}

/*
 * Turn to another journal if this one is large, and empty those that are retired.
 * For the worker, in transactions of its own.  True: some have to wait.
 */
bool
pp_journal_rotate(Oid extension, PpSlot *slot)
{
	BlockNumber blocks[PP_JOURNALS];
	bool waiting;
	int current;
	int empty;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	for (int i = 0; i < PP_JOURNALS; i++)
		blocks[i] = count_blocks(extension, i);
	CommitTransactionCommand();

	for (;;)
	{
		current = pp_ring_view(&slot->ring).journal;
		waiting = false;
		empty = -1;
		for (int i = 0; i < PP_JOURNALS; i++)
		{
			if (i == current)
				continue;
			if (blocks[i] != 0 && blocks[i] != InvalidBlockNumber &&
				look_after_retired(extension, i, &slot->retired[i]))
				blocks[i] = 0;
			if (blocks[i] == 0)
				empty = i;
			else
				waiting = true;
		}
		if (blocks[current] < ROTATE_BLOCKS || blocks[current] == InvalidBlockNumber || empty < 0)
			return waiting;

		/* and look after the one that is retired by this */
		slot->retired[current].since = 0;
		pp_ring_set_journal(&slot->ring, empty);
	}
}
