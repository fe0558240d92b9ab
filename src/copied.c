/*-------------------------------------------------------------------------
 *
 * copied.c
 *	  Moves items that came with a copy of another database; see copied.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "account.h"
#include "compat.h"
#include "copied.h"
#include "extension.h"
#include "journal.h"
#include "settings.h"

#define LOOK_ROWS 256 /* from one question whether to stop to the next */
#define MAX_WARNINGS 8 /* for rows that one scan has found damaged */

/*
 * Write the row into another of these tables, which are all alike.  Returns how many
 * items begin in it.
 */
static uint64
copy_row(Relation from, HeapTuple tuple, Relation to, Oid database)
{
	HeapTuple copy = pp_journal_row_for(from, tuple, to, database);
	uint64 items = pp_journal_row_items(from, tuple);

	heap_insert(to, copy, GetCurrentCommandId(true), HEAP_INSERT_NO_LOGICAL, NULL);
	heap_freetuple(copy);
	return items;
}

/*
 * Put the rows of other databases aside; *items: how many items.  False: not all of
 * them, since wants_stop said so.
 */
static bool
put_aside(Oid extension, PpWantsStop wants_stop, uint64 *items)
{
	Relation copied = pp_extension_open(extension, "persist_copied", RowExclusiveLock);
	PpJournals journals;
	bool done = copied != NULL;
	uint64 rows = 0;

	*items = 0;
	pp_journals_open(extension, RowExclusiveLock, &journals);
	for (int i = 0; i <= PP_PARKED && done; i++)
	{
		Relation rel = journals.rels[i];
		TableScanDesc scan;
		HeapTuple tuple;

		if (rel == NULL)
			continue;
		scan = pp_table_beginscan(rel, GetActiveSnapshot());
		while (done && (tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
		{
			TM_FailureData failure;
			Oid database = pp_journal_row_database(rel, tuple);

			CHECK_FOR_INTERRUPTS();
			if (++rows % LOOK_ROWS == 0 && wants_stop)
				done = !wants_stop();
			if (database == MyDatabaseId || !done)
				continue;
			*items += copy_row(rel, tuple, copied, database);
			if (pp_heap_delete(rel, &tuple->t_self, GetCurrentCommandId(true), false, &failure) !=
				TM_Ok)
				elog(ERROR, "a row that nobody else changes has been changed");
		}
		table_endscan(scan);
	}
	pp_journals_close(&journals);
	if (copied)
		relation_close(copied, NoLock);

	return done;
}

/*
 * If this database is a copy that nobody has looked into, put what came with it aside,
 * in the current transaction; *items: how many items.  False: there was no time, and
 * the transaction has to be rolled back.
 */
bool
pp_copied_find(Oid extension, PpWantsStop wants_stop, uint64 *items)
{
	bool done;

	*items = 0;
	if (pp_state_get(extension).database == MyDatabaseId)
		return true;
	if (wants_stop &&
		!(pp_state_try_lock(extension) &&
		  OidIsValid(pp_extension_try_lock(extension, "persist_copied", RowExclusiveLock))))
		return false;
	if (!pp_state_change_database(extension, MyDatabaseId))
		return true;
	PushActiveSnapshot(GetLatestSnapshot());
	done = put_aside(extension, wants_stop, items);
	PopActiveSnapshot();
	CommandCounterIncrement();

	return done;
}

/* In the current transaction, put these rows aside, whatever is in them. */
void
pp_copied_put_aside(Oid extension, const PpJournalRef *refs, uint32 nrefs)
{
	Relation copied = pp_extension_open(extension, "persist_copied", RowExclusiveLock);
	PpJournals opened;
	PpJournals *journals = &opened;

	pp_journals_open(extension, RowExclusiveLock, journals);
	for (uint32 i = 0; i < nrefs && copied; i++)
	{
		HeapTupleData tuple;
		Buffer buffer;
		TM_FailureData failure;

		if (!pp_journals_have(journals, &refs[i]))
			continue;
		ItemPointerSet(&tuple.t_self, refs[i].block, refs[i].offset);
		if (!heap_fetch(journals->rels[refs[i].journal], SnapshotSelf, &tuple, &buffer, false))
			continue;
		(void) copy_row(journals->rels[refs[i].journal], &tuple, copied, InvalidOid);
		ReleaseBuffer(buffer);
		if (pp_heap_delete(journals->rels[refs[i].journal], &tuple.t_self,
						   GetCurrentCommandId(true), false, &failure) != TM_Ok)
			elog(ERROR, "a row that nobody else changes has been changed");
	}
	pp_journals_close(journals);
	if (copied)
		relation_close(copied, NoLock);
}

/* In the current memory context. */
void
pp_damaged_note(PpDamaged *damaged, const PpJournalRef *ref, uint64 pos, uint64 items)
{
	uint32 max = damaged->n;

	if ((max & (max - 1)) == 0) /* 0, or a power of 2: that many have room */
	{
		max = Max(2 * max, 1);
		damaged->refs = damaged->refs ? repalloc_huge(damaged->refs, max * sizeof(PpJournalRef))
									  : palloc(max * sizeof(PpJournalRef));
		damaged->positions = damaged->positions
								 ? repalloc_huge(damaged->positions, max * sizeof(uint64))
								 : palloc(max * sizeof(uint64));
	}
	damaged->refs[damaged->n] = *ref;
	damaged->positions[damaged->n++] = pos;
	damaged->items += items;
}

/*
 * The same for rows that a scan has found damaged, so that they don't stand in anybody's
 * way; what begins in them is lost.
 */
void
pp_copied_put_damaged_aside(Oid extension, PpLane *lane, const PpDamaged *damaged)
{
	PpDelta delta = {.lost = damaged->items};

	if (damaged->n == 0)
		return;
	pp_copied_put_aside(extension, damaged->refs, damaged->n);
	pp_account_add(extension, &delta, 1);
	SpinLockAcquire(&lane->mutex);
	lane->failed += damaged->items;
	SpinLockRelease(&lane->mutex);
	for (uint32 i = 0; i < Min(damaged->n, MAX_WARNINGS); i++)
		ereport(WARNING, (errcode(ERRCODE_DATA_CORRUPTED),
						  errmsg("items, enqueued as number %llu, could not be read: their row is "
								 "damaged",
								 (unsigned long long) damaged->positions[i]),
						  errdetail("It is in the table \"persist_copied\" now.")));
	if (damaged->n > MAX_WARNINGS)
		ereport(WARNING, (errcode(ERRCODE_DATA_CORRUPTED),
						  errmsg("items of %u more rows could not be read: they are damaged",
								 damaged->n - MAX_WARNINGS)));
}

static uint64
count_items(Relation rel, bool others_only)
{
	TableScanDesc scan = pp_table_beginscan(rel, GetActiveSnapshot());
	uint64 items = 0;
	HeapTuple tuple;

	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (!others_only || pp_journal_row_database(rel, tuple) != MyDatabaseId)
			items += pp_journal_row_items(rel, tuple);
	}
	table_endscan(scan);
	return items;
}

/* How many items are put aside, or will be? */
uint64
pp_copied_count(Oid extension)
{
	Relation copied = pp_extension_open(extension, "persist_copied", AccessShareLock);
	PpJournals journals;
	uint64 items = 0;

	if (copied == NULL)
		return 0;
	items = count_items(copied, false);
	relation_close(copied, AccessShareLock);

	if (pp_state_get(extension).database == MyDatabaseId)
		return items;
	pp_journals_open(extension, AccessShareLock, &journals);
	for (int i = 0; i <= PP_PARKED; i++)
	{
		if (journals.rels[i])
			items += count_items(journals.rels[i], true);
	}
	pp_journals_close(&journals);

	return items;
}

/*
 * Empty the table, in the current transaction, after its rows have become our own in
 * this journal, if that isn't NULL; what can't be read stays, unless it has been repaired.
 * Returns how many items were in it.
 */
static uint64
empty(Oid extension, Relation journal, PpTargetVisitor visit, void *arg)
{
	Relation copied = pp_extension_open(extension, "persist_copied", AccessShareLock);
	uint64 items = 0;
	uint64 rows = 0;
	List *damaged = NIL;
	ListCell *cell;
	TableScanDesc scan;
	HeapTuple tuple;

	if (copied == NULL)
		return 0;
	if (RelationGetNumberOfBlocks(copied) == 0)
	{
		relation_close(copied, AccessShareLock); /* and nobody has to wait for us */
		return 0;
	}
	LockRelationOid(RelationGetRelid(copied), AccessExclusiveLock);
	PushActiveSnapshot(GetLatestSnapshot()); /* of now that it is locked */
	scan = pp_table_beginscan(copied, GetActiveSnapshot());
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		rows++;
		if (journal && !pp_journal_row_is_sound(copied, tuple, MyDatabaseId) &&
			!pp_journal_row_is_sound(copied, tuple, pp_journal_row_database(copied, tuple)))
		{
			damaged = lappend(damaged, heap_copytuple(tuple));
			continue;
		}
		if (visit)
			pp_journal_row_targets(copied, tuple, visit, arg);
		items += journal ? copy_row(copied, tuple, journal, MyDatabaseId)
						 : pp_journal_row_items(copied, tuple);
	}
	table_endscan(scan);
	PopActiveSnapshot();
	if (rows > 0)
		pp_relation_set_new_file(copied);
	foreach (cell, damaged)
		heap_insert(copied, lfirst(cell), GetCurrentCommandId(true), HEAP_INSERT_NO_LOGICAL, NULL);
	relation_close(copied, NoLock);
	CommandCounterIncrement();

	return items;
}

/*
 * They become items of this database, in the transaction of the caller, who is told
 * their targets.
 */
uint64
pp_copied_adopt(Oid extension, int journal, PpTargetVisitor visit, void *arg)
{
	PpJournals journals;
	uint64 items;

	(void) pp_copied_find(extension, NULL, &items);
	pp_journals_open(extension, RowExclusiveLock, &journals);
	items = empty(extension, journals.rels[journal], visit, arg);
	pp_journals_close(&journals);

	return items;
}

/* They go. */
uint64
pp_copied_discard(Oid extension)
{
	uint64 items;

	(void) pp_copied_find(extension, NULL, &items);
	return empty(extension, NULL, NULL, NULL);
}
