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
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/array.h"
#include "base/compat.h"
#include "base/extension.h"
#include "base/table.h"
#include "ring/lease.h"
#include "store/account.h"
#include "store/copied.h"
#include "store/journal.h"
#include "store/state.h"

#define LOOK_ROWS 256 /* from one question whether to stop to the next */
#define MAX_WARNINGS 8 /* for rows that one scan has found damaged */

/*
 * Write the row into another of these tables, which are all alike.  Returns how many
 * items begin in it.
 */
static uint64
copy_row(Relation from, HeapTuple tuple, Relation to, uint64 installation, uint64 pos)
{
	HeapTuple copy = pp_journal_row_for(from, tuple, to, installation, pos);
	uint64 items = pp_journal_row_items(from, tuple);

	heap_insert(to, copy, GetCurrentCommandId(true), HEAP_INSERT_NO_LOGICAL, NULL);
	heap_freetuple(copy);
	return items;
}

/* For who is alone with it. */
static void
delete_row(Relation rel, ItemPointer tid)
{
	PpTable table = {.rel = rel};

	if (!pp_table_delete(&table, tid, false))
		elog(ERROR, "a row that nobody else changes has been changed");
}

/*
 * Put the rows of other installations aside; *items: how many items.  False: not all of
 * them, since wants_stop said so.
 */
static bool
put_aside(Oid extension, PpWantsStop wants_stop, uint64 *items)
{
	uint64 ours = pp_state_installation(extension);
	Relation copied = pp_extension_open(extension, "persist_copied", RowExclusiveLock);
	PpJournals journals;
	bool done = copied != NULL;
	uint64 rows = 0;

	*items = 0;
	pp_journals_open(extension, RowExclusiveLock, &journals);
	for (int i = 0; i <= PP_PARKED && done; i++)
	{
		Relation rel = journals.rels[i];
		PpTable table = {.rel = rel};
		HeapTuple tuple;

		pp_table_scan(&table, GetActiveSnapshot(), 0, NULL);
		while (done && (tuple = pp_table_next(&table)) != NULL)
		{
			uint64 installation = pp_journal_row_installation(rel, tuple);

			if (++rows % LOOK_ROWS == 0 && wants_stop)
				done = !wants_stop();
			if (installation == ours || !done)
				continue;
			*items += copy_row(rel, tuple, copied, installation, pp_journal_row_pos(rel, tuple));
			delete_row(rel, &tuple->t_self);
		}
		pp_table_end_scan(&table);
	}
	pp_journals_close(&journals, NoLock);
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
	PpState state = pp_state_get(extension);
	bool done;

	*items = 0;
	if (pp_state_is_known(&state))
		return true;
	if (wants_stop &&
		!(pp_state_try_lock(extension) &&
		  OidIsValid(pp_extension_try_lock(extension, "persist_copied", RowExclusiveLock))))
		return false;
	if (!pp_state_take_over(extension))
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
	uint64 ours = pp_state_installation(extension);
	Relation copied = pp_extension_open(extension, "persist_copied", RowExclusiveLock);
	PpJournals opened;
	PpJournals *journals = &opened;

	pp_journals_open(extension, RowExclusiveLock, journals);
	for (uint32 i = 0; i < nrefs && copied; i++)
	{
		Relation rel = journals->rels[refs[i].journal];
		HeapTupleData tuple;
		Buffer buffer;
		uint64 installation;

		if (!pp_journals_have(journals, &refs[i]))
			continue;
		ItemPointerSet(&tuple.t_self, refs[i].block, refs[i].offset);
		if (!heap_fetch(rel, SnapshotSelf, &tuple, &buffer, false))
			continue;
		installation = pp_journal_row_installation(rel, &tuple);
		if (installation == ours || !pp_journal_row_is_sound(rel, &tuple, installation))
			installation = 0;
		(void) copy_row(rel, &tuple, copied, installation, pp_journal_row_pos(rel, &tuple));
		ReleaseBuffer(buffer);
		delete_row(rel, &tuple.t_self);
	}
	pp_journals_close(journals, NoLock);
	if (copied)
		relation_close(copied, NoLock);
}

/* In the current memory context. */
void
pp_copied_note_damaged(PpDamaged *damaged, const PpJournalRef *ref, uint64 pos, uint64 items,
					   bool copied)
{
	PpFound *found = copied ? &damaged->copied : &damaged->damaged;
	uint32 max = found->n;

	if ((max & (max - 1)) == 0) /* 0, or a power of 2: that many have room */
	{
		max = Max(2 * max, 1);
		found->refs = pp_array_resize(found->refs, max * sizeof(PpJournalRef));
		found->positions = pp_array_resize(found->positions, max * sizeof(uint64));
	}
	found->refs[found->n] = *ref;
	found->positions[found->n++] = pos;
	found->items += items;
}

/* What begins in them is lost. */
static void
put_damaged_aside(Oid extension, PpSlot *slot, const PpFound *damaged)
{
	PpDelta delta = {.lost = damaged->items};

	pp_copied_put_aside(extension, damaged->refs, damaged->n);
	pp_account_add(extension, &delta, 1);
	SpinLockAcquire(&slot->mutex);
	slot->failed += damaged->items;
	SpinLockRelease(&slot->mutex);
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

/* In a copy that nobody has looked into they are left to who does, and has the time. */
static void
put_others_aside(Oid extension, const PpFound *copied)
{
	PpState state = pp_state_get(extension);

	if (!pp_state_is_known(&state))
		return;
	pp_copied_put_aside(extension, copied->refs, copied->n);
	ereport(LOG,
			(errmsg("%llu items came to database \"%s\" from elsewhere, where they are written",
					(unsigned long long) copied->items, get_database_name(MyDatabaseId)),
			 errdetail("They wait in its table \"persist_copied\"."),
			 errhint("Call persist_resume() there to have them written, or persist_discard() "
					 "to drop them.")));
}

/* The same for rows that a scan has found, so that they don't stand in anybody's way. */
void
pp_copied_put_damaged_aside(Oid extension, PpSlot *slot, const PpDamaged *damaged)
{
	if (damaged->damaged.n > 0)
		put_damaged_aside(extension, slot, &damaged->damaged);
	if (damaged->copied.n > 0)
		put_others_aside(extension, &damaged->copied);
}

/* Those of that installation don't count; 0: all do. */
static uint64
count_items(Relation rel, uint64 without)
{
	PpTable table = {.rel = rel};
	uint64 items = 0;
	HeapTuple tuple;

	pp_table_scan(&table, GetActiveSnapshot(), 0, NULL);
	while ((tuple = pp_table_next(&table)) != NULL)
	{
		if (without == 0 || pp_journal_row_installation(rel, tuple) != without)
			items += pp_journal_row_items(rel, tuple);
	}
	pp_table_end_scan(&table);
	return items;
}

/*
 * How many items are put aside, or will be?  PP_COPIED_UNKNOWN where a transaction adopts or drops
 * them: who asks whether all is well doesn't wait for its end.
 */
uint64
pp_copied_count(Oid extension)
{
	Oid relid =
		OidIsValid(extension) ? pp_extension_relation(extension, "persist_copied") : InvalidOid;
	Relation copied;
	PpJournals journals;
	PpState state;
	uint64 items = 0;
	bool locked;

	if (!OidIsValid(relid))
		return 0;
	copied = pp_table_open_unless_locked(relid, AccessShareLock, &locked);
	if (copied == NULL)
		return locked ? PP_COPIED_UNKNOWN : 0;
	items = count_items(copied, 0);
	relation_close(copied, AccessShareLock);

	state = pp_state_get(extension);
	if (!pp_state_is_copy(&state))
		return items;
	pp_journals_open(extension, AccessShareLock, &journals);
	for (int i = 0; i <= PP_PARKED; i++)
	{
		if (journals.rels[i])
			items += count_items(journals.rels[i], pp_state_installation(extension));
	}
	pp_journals_close(&journals, NoLock);

	return items;
}

/* ---- adopted, or dropped ---- */

/* A pos that rows have, of one installation, and the one that they get */
typedef struct NewPosition
{
	uint64 pos;
	uint64 installation;
	uint64 new_pos;
} NewPosition;

typedef struct NewPositions
{
	NewPosition *positions; /* in their order */
	uint64 n;
	uint64 max;
} NewPositions;

static int
compare_positions(const void *a, const void *b)
{
	const NewPosition *left = a;
	const NewPosition *right = b;

	if (left->pos != right->pos)
		return left->pos < right->pos ? -1 : 1;
	if (left->installation != right->installation)
		return left->installation < right->installation ? -1 : 1;
	return 0;
}

static NewPosition
position_of(Relation rel, HeapTuple tuple)
{
	return (NewPosition){.pos = pp_journal_row_pos(rel, tuple),
				   .installation = pp_journal_row_installation(rel, tuple)};
}

/* Can it be read, as it is or as one of ours that has been repaired? */
static bool
is_sound(Relation rel, HeapTuple tuple, uint64 ours)
{
	return pp_journal_row_is_sound(rel, tuple, ours) ||
		   pp_journal_row_is_sound(rel, tuple, pp_journal_row_installation(rel, tuple));
}

/* The next position for items that are handed over now; *own: of a range of our own. */
static uint64
take_position(Oid extension, PpIdRange *own)
{
	while (own->next >= own->end)
	{
		const PpClaim *claim = pp_shmem ? pp_slot_claim() : NULL;
		uint64 pos;

		CHECK_FOR_INTERRUPTS();
		if (claim == NULL)
		{
			own->next = pp_lease_position(extension);
			own->end = own->next + PP_LEASE_IDS;
			break;
		}
		pos = pp_ring_take_position(&claim->slot->ring, claim->generation);
		if (pos > 0)
			return pos;
		pp_lease_positions(claim);
	}
	return own->next++;
}

/*
 * New positions for all rows that can be read: where they come from these may be ours, or
 * higher than any of ours.
 */
static NewPositions
find_positions(Oid extension, Relation copied)
{
	uint64 ours = pp_state_installation(extension);
	PpTable table = {.rel = copied};
	NewPositions positions = {0};
	PpIdRange own = {0};
	uint64 n = 0;
	HeapTuple tuple;

	pp_table_scan(&table, GetActiveSnapshot(), 0, NULL);
	while ((tuple = pp_table_next(&table)) != NULL)
	{
		NewPosition position = position_of(copied, tuple);

		if (!is_sound(copied, tuple, ours) ||
			(positions.n > 0 &&
			 compare_positions(&positions.positions[positions.n - 1], &position) == 0))
			continue;
		PP_ARRAY_GROW(positions.positions, positions.n, positions.max);
		positions.positions[positions.n++] = position;
	}
	pp_table_end_scan(&table);

	if (positions.n > 1)
		qsort(positions.positions, positions.n, sizeof(NewPosition), compare_positions);
	for (uint64 i = 0; i < positions.n; i++)
	{
		if (n > 0 && compare_positions(&positions.positions[n - 1], &positions.positions[i]) == 0)
			continue;
		positions.positions[n] = positions.positions[i];
		positions.positions[n++].new_pos = take_position(extension, &own);
	}
	positions.n = n;
	return positions;
}

static uint64
new_pos_of(const NewPositions *positions, Relation rel, HeapTuple tuple)
{
	NewPosition key = position_of(rel, tuple);
	NewPosition *position =
		bsearch(&key, positions->positions, positions->n, sizeof(NewPosition), compare_positions);

	return position->new_pos;
}

/*
 * Empty the table, in the current transaction, after its rows have become our own in
 * this journal, if that isn't NULL; what can't be read stays, unless it has been repaired.
 * Returns how many items were in it.
 */
static uint64
empty(Oid extension, Relation journal, PpTargetVisitor visit, void *arg)
{
	uint64 ours = pp_state_installation(extension);
	Relation copied = pp_extension_open(extension, "persist_copied", AccessShareLock);
	uint64 items = 0;
	uint64 rows = 0;
	NewPositions positions = {0};
	List *damaged = NIL;
	ListCell *cell;
	PpTable table = {.rel = copied};
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
	if (journal)
		positions = find_positions(extension, copied);
	pp_table_scan(&table, GetActiveSnapshot(), 0, NULL);
	while ((tuple = pp_table_next(&table)) != NULL)
	{
		rows++;
		if (journal && !is_sound(copied, tuple, ours))
		{
			damaged = lappend(damaged, heap_copytuple(tuple));
			continue;
		}
		if (visit)
			pp_journal_row_targets(copied, tuple, visit, arg);
		if (journal)
			items += copy_row(copied, tuple, journal, ours, new_pos_of(&positions, copied, tuple));
		else
			items += pp_journal_row_items(copied, tuple);
	}
	pp_table_end_scan(&table);
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
	pp_journals_close(&journals, NoLock);

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
