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
#include "catalog/index.h"
#include "executor/tuptable.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "extension.h"
#include "table.h"

/* Open a table; its rel is NULL if it isn't there. */
PpTable
pp_table_open(Oid extension, const char *name, LOCKMODE mode)
{
	PpTable table = {.rel = pp_extension_open(extension, name, mode)};
	ListCell *cell;

	if (table.rel == NULL)
		return table;
	foreach (cell, RelationGetIndexList(table.rel))
	{
		Relation index;

		if (table.nindexes == PP_TABLE_INDEXES)
			break; /* somebody's own, of which we have never promised anything */
		index = index_open(lfirst_oid(cell), mode);
		if (!index->rd_index->indisready)
		{
			index_close(index, NoLock); /* REINDEX CONCURRENTLY has yet to build it */
			continue;
		}
		table.indexes[table.nindexes] = index;
		table.infos[table.nindexes] = BuildIndexInfo(index);
		table.nindexes++;
	}
	return table;
}

/*
 * The index with these columns, to be read: there may be others, and REINDEX CONCURRENTLY
 * puts another in its place.  42704 if there is none.
 */
Relation
pp_table_index(const PpTable *table, const AttrNumber *columns, int n)
{
	for (int i = 0; i < table->nindexes; i++)
	{
		Form_pg_index index = table->indexes[i]->rd_index;

		if (index->indisvalid && index->indnkeyatts == n &&
			memcmp(index->indkey.values, columns, n * sizeof(AttrNumber)) == 0)
			return table->indexes[i];
	}
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
					errmsg("table \"%s\" of extension "
						   "\"persist_pipeline\" lacks an index",
						   RelationGetRelationName(table->rel)),
					errhint("Create the extension again.")));
}

/* The same for one that has to be there; 42P01 if it isn't. */
PpTable
pp_table_open_to_write(Oid extension, const char *name)
{
	PpTable table = pp_table_open(extension, name, RowExclusiveLock);

	if (table.rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s\" of extension \"persist_pipeline\" does not exist", name),
				 errhint("Create the extension again.")));
	return table;
}

/* The lock stays to the end of the transaction. */
void
pp_table_close(PpTable *table)
{
	for (int i = 0; i < table->nindexes; i++)
		index_close(table->indexes[i], NoLock);
	if (table->rel)
		relation_close(table->rel, NoLock);
	table->rel = NULL;
	table->nindexes = 0;
}

static void
insert_into_indexes(PpTable *table, HeapTuple tuple)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(table->rel), &TTSOpsHeapTuple);

	ExecStoreHeapTuple(tuple, slot, false);
	for (int i = 0; i < table->nindexes; i++)
	{
		Datum values[INDEX_MAX_KEYS];
		bool nulls[INDEX_MAX_KEYS];

		FormIndexDatum(table->infos[i], slot, NULL, values, nulls);
		index_insert(table->indexes[i], values, nulls, &tuple->t_self, table->rel, UNIQUE_CHECK_NO,
					 false, table->infos[i]);
	}
	ExecDropSingleTupleTableSlot(slot);
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
	if (table->nindexes > 0)
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
