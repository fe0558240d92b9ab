/*-------------------------------------------------------------------------
 *
 * table.c
 *	  Writes rows of the extension's own tables; see table.h.
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
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "extension.h"
#include "table.h"

/*
 * Of now, to be pushed.  Who calls a function parallel safe that calls one of ours, which
 * aren't, sees what his transaction sees: no other snapshot can be had there.
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
Relation
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
			return index;
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

/* The lock stays to the end of the transaction. */
void
pp_table_close(PpTable *table)
{
	if (table->index)
		index_close(table->index, NoLock);
	if (table->result)
	{
		ExecCloseIndices(table->result);
		FreeExecutorState(table->estate);
	}
	if (table->rel)
		relation_close(table->rel, NoLock);
	*table = (PpTable){0};
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

	return pp_heap_delete(table->rel, tid, GetCurrentCommandId(true), wait, &failure) == TM_Ok;
}
