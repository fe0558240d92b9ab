/*-------------------------------------------------------------------------
 *
 * table.c
 *	  Reads and writes rows of the extension's own tables; see table.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/table.h"

/*
 * Of now, to be pushed, or for a scan.  Who calls a function parallel safe that calls one of
 * ours, which aren't, sees what his transaction sees: no other snapshot can be had there.
 */
Snapshot
pp_table_snapshot(void)
{
	return IsInParallelMode() ? GetTransactionSnapshot() : GetLatestSnapshot();
}

/* Open a table; its rel is NULL if it isn't there. */
PpTable
pp_table_open(Oid extension, const char *name, LOCKMODE mode)
{
	return (PpTable){.extension = extension, .rel = pp_extension_open(extension, name, mode)};
}

/* Has the index just these columns, in the order of a plain CREATE INDEX, of all rows? */
static bool
is_plain_index(Relation index, const AttrNumber *columns, int n)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisvalid || form->indnkeyatts != n || index->rd_rel->relam != BTREE_AM_OID ||
		memcmp(form->indkey.values, columns, n * sizeof(AttrNumber)) != 0 ||
		RelationGetIndexPredicate(index) != NIL)
		return false;
	for (int i = 0; i < n; i++)
	{
		if (index->rd_indoption[i] != 0)
			return false;
	}
	return true;
}

/*
 * The index with these columns, to be read until the table is closed: there may be others,
 * and REINDEX CONCURRENTLY puts another in its place.  42704 if there is none.
 */
void
pp_table_index(PpTable *table, const AttrNumber *columns, int n)
{
	ListCell *cell;

	foreach (cell, RelationGetIndexList(table->rel))
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);

		if (is_plain_index(index, columns, n))
		{
			Assert(table->index == NULL);
			table->index = index;
			return;
		}
		index_close(index, AccessShareLock);
	}
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("table \"%s\" of extension "
						   "\"persist_pipeline\" lacks an index",
						   RelationGetRelationName(table->rel)),
					errhint("Create the extension again.")));
}

/* The same for one that has to be there; 42P01 if it isn't. */
PpTable
pp_table_open_existing(Oid extension, const char *name, LOCKMODE mode)
{
	PpTable table = pp_table_open(extension, name, mode);

	if (table.rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s\" of extension \"persist_pipeline\" does not exist", name),
				 errhint("Create the extension again.")));
	return table;
}

PpTable
pp_table_open_to_write(Oid extension, const char *name)
{
	return pp_table_open_existing(extension, name, RowExclusiveLock);
}

/*
 * Begin a scan, in place of the one before: of the rows that the keys select and the snapshot,
 * which is kept for as long, sees; NULL: one of now, as for a catalog.  It is by the index, if
 * there is one; keys have the numbers of the table's columns.
 */
void
pp_table_scan(PpTable *table, Snapshot snapshot, int nkeys, ScanKey keys)
{
	pp_table_end_scan(table);
	if (table->rel == NULL)
		return;
	if (snapshot && IsMVCCSnapshot(snapshot))
		table->snapshot = snapshot = RegisterSnapshot(snapshot);
	table->scan =
		table->index
			? systable_beginscan_ordered(table->rel, table->index, snapshot, nkeys, keys)
			: systable_beginscan(table->rel, InvalidOid, false, snapshot, nkeys, keys);
}

/* The next row, which stays until the one after it is asked for; NULL: there is none. */
HeapTuple
pp_table_next(PpTable *table)
{
	CHECK_FOR_INTERRUPTS();
	if (table->scan == NULL)
		return NULL;
	return table->index ? systable_getnext_ordered(table->scan, ForwardScanDirection)
						: systable_getnext(table->scan);
}

/* For who keeps the table open. */
void
pp_table_end_scan(PpTable *table)
{
	if (table->scan == NULL)
		return;
	if (table->index)
		systable_endscan_ordered(table->scan);
	else
		systable_endscan(table->scan);
	table->scan = NULL;
	if (table->snapshot)
		UnregisterSnapshot(table->snapshot);
	table->snapshot = NULL;
}

/* Close it, and let go of its lock; NoLock: that stays to the end of the transaction. */
void
pp_table_release(PpTable *table, LOCKMODE mode)
{
	pp_table_end_scan(table);
	if (table->index)
		index_close(table->index, NoLock);
	if (table->result)
	{
		ExecCloseIndices(table->result);
		FreeExecutorState(table->estate);
	}
	if (table->rel)
		relation_close(table->rel, mode);
	*table = (PpTable){0};
}

void
pp_table_close(PpTable *table)
{
	pp_table_release(table, NoLock);
}

/*
 * Whoever may index the table may do so as he likes, by expressions, partially, uniquely:
 * the executor knows how.
 */
static void
insert_into_indexes(PpTable *table, HeapTuple tuple)
{
	TupleTableSlot *slot;

	if (table->result == NULL)
	{
		table->estate = CreateExecutorState();
		table->result = makeNode(ResultRelInfo);
		InitResultRelInfo(table->result, table->rel, 0, NULL, 0);
		ExecOpenIndices(table->result, false);
	}
	slot = MakeSingleTupleTableSlot(RelationGetDescr(table->rel), &TTSOpsHeapTuple);
	ExecStoreHeapTuple(tuple, slot, false);
	slot->tts_tableOid = RelationGetRelid(table->rel);
	pp_insert_index_tuples(table->result, slot, table->estate);
	ExecDropSingleTupleTableSlot(slot);
	ResetPerTupleExprContext(table->estate);
}

/* Insert a row, in the current transaction. */
void
pp_table_insert(PpTable *table, Datum *values, bool *nulls)
{
	HeapTuple tuple = heap_form_tuple(RelationGetDescr(table->rel), values, nulls);
	bool push = !ActiveSnapshotSet();

	if (push)
		PushActiveSnapshot(GetTransactionSnapshot()); /* the heap wants one, for TOAST */
	heap_insert(table->rel, tuple, GetCurrentCommandId(true), HEAP_INSERT_NO_LOGICAL, NULL);
	if (table->rel->rd_rel->relhasindex)
		insert_into_indexes(table, tuple);
	if (push)
		PopActiveSnapshot();
	heap_freetuple(tuple);
}

/*
 * Delete a row, in the current transaction.  False: somebody else has, or, if not to
 * wait for that, is about to.
 */
bool
pp_table_delete(PpTable *table, ItemPointer tid, bool wait)
{
	TM_FailureData failure;

	/* heap_delete() can't be told: with REPLICA IDENTITY FULL the row would be decoded */
	table->rel->rd_rel->relreplident = REPLICA_IDENTITY_NOTHING;
	return pp_heap_delete(table->rel, tid, GetCurrentCommandId(true), wait, &failure) == TM_Ok;
}

/*
 * Open a relation, whose lock nobody waits for.  NULL: somebody has locked it in a mode that
 * conflicts, as *locked says, or it is gone.
 */
Relation
pp_table_open_unless_locked(Oid relid, LOCKMODE mode, bool *locked)
{
	*locked = !ConditionalLockRelationOid(relid, mode);
	return *locked ? NULL : try_relation_open(relid, NoLock);
}
