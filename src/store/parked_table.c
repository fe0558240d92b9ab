/*-------------------------------------------------------------------------
 *
 * parked_table.c
 *	  Writes and reads the table of parked items; see parked_table.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/skey.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/array.h"
#include "base/item_check.h"
#include "store/parked_table.h"
#include "store/state.h"

/* The columns of the journal come first. */
enum
{
	COLUMN_TARGET = PP_JOURNAL_COLUMNS,
	COLUMN_PARKED_AT,
	COLUMN_MISMATCH_SINCE,
	COLUMN_ALONE,
	COLUMN_ID,
	COLUMNS
};

PpTable
pp_parked_table_open(Oid extension)
{
	return pp_table_open_to_write(extension, PP_PARKED_TABLE);
}

/* Park an item, in the current transaction, in its commit position. */
void
pp_parked_table_append(PpTable *parked, const PpItem *item, Oid role, uint64 pos, uint32 part,
					   TimestampTz parked_at, TimestampTz mismatch_since, bool alone)
{
	uint64 installation = pp_state_installation(parked->extension);
	int nrows = pp_journal_plan((const char *) item, item->size, NULL);
	PpRowPlan *rows = palloc(nrows * sizeof(PpRowPlan));

	(void) pp_journal_plan((const char *) item, item->size, rows);
	for (int i = 0; i < nrows; i++)
	{
		Datum values[COLUMNS];
		bool nulls[COLUMNS] = {false};

		CHECK_FOR_INTERRUPTS();
		rows[i].part = part + i;
		pp_journal_row_values(values, installation, pos, role, &rows[i]);
		values[COLUMN_TARGET] = ObjectIdGetDatum(item->target);
		values[COLUMN_PARKED_AT] = TimestampTzGetDatum(parked_at);
		values[COLUMN_MISMATCH_SINCE] = TimestampTzGetDatum(mismatch_since);
		nulls[COLUMN_MISMATCH_SINCE] = mismatch_since == 0;
		values[COLUMN_ALONE] = BoolGetDatum(true);
		nulls[COLUMN_ALONE] = !alone;
		values[COLUMN_ID] = Int64GetDatum(item->id);
		pp_table_insert(parked, values, nulls);
	}
	pfree(rows);
}

/* What a scan of it has found. */
PpParkedRow
pp_parked_table_row(const PpTable *parked, HeapTuple tuple)
{
	Relation rel = parked->rel;
	PpJournalRow row =
		pp_journal_read_row(rel, PP_PARKED, tuple, pp_state_installation(parked->extension));
	Oid target = pp_table_oid(rel, tuple, COLUMN_TARGET);

	return (PpParkedRow){.target = target,
						 .role = row.role,
						 .pos = row.pos,
						 .part = row.part,
						 .parked_at = pp_table_time(rel, tuple, COLUMN_PARKED_AT),
						 .mismatch_since = pp_table_time(rel, tuple, COLUMN_MISMATCH_SINCE),
						 .alone = pp_table_bool(rel, tuple, COLUMN_ALONE),
						 .ref = row.ref,
						 .header = row.header,
						 .length = row.length,
						 .damaged = row.damaged || !OidIsValid(target),
						 .copied = row.copied};
}

/* The id of its item; the row may be damaged. */
int64
pp_parked_table_id(const PpTable *parked, HeapTuple tuple)
{
	return pp_table_int64(parked->rel, tuple, COLUMN_ID);
}

/* Visit the rows that the active snapshot sees, in any order. */
void
pp_parked_table_scan(Oid extension, PpParkedVisitor visit, void *arg)
{
	PpTable parked = pp_table_open(extension, PP_PARKED_TABLE, AccessShareLock);
	HeapTuple tuple;

	pp_table_scan(&parked, GetActiveSnapshot(), 0, NULL);
	while ((tuple = pp_table_next(&parked)) != NULL)
	{
		PpParkedRow row = pp_parked_table_row(&parked, tuple);

		if (!visit(&row, arg))
			break;
	}
	pp_table_close(&parked);
}

/* What is scanned from now on comes by target and role, and then in commit order. */
void
pp_parked_table_in_order(PpTable *parked)
{
	static const AttrNumber order[] = {COLUMN_TARGET + 1, PP_JOURNAL_ROLE_COLUMN,
									   PP_JOURNAL_POS_COLUMN, PP_JOURNAL_PART_COLUMN};

	pp_table_index(parked, order, lengthof(order));
}

/* Visit those that the keys select, in commit order. */
static void
scan_by_index(Oid extension, ScanKey keys, int nkeys, PpParkedVisitor visit, void *arg)
{
	PpTable parked = pp_table_open(extension, PP_PARKED_TABLE, AccessShareLock);
	HeapTuple tuple;

	if (parked.rel == NULL)
		return;
	pp_parked_table_in_order(&parked);
	pp_table_scan(&parked, GetActiveSnapshot(), nkeys, keys);
	while ((tuple = pp_table_next(&parked)) != NULL)
	{
		PpParkedRow row = pp_parked_table_row(&parked, tuple);

		if (!row.copied && !visit(&row, arg))
			break;
	}
	pp_table_close(&parked);
}

/* Those of one target and role with at least that pos, in commit order. */
void
pp_parked_table_scan_of(Oid extension, Oid target, Oid role, uint64 from, PpParkedVisitor visit,
						void *arg)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], COLUMN_TARGET + 1, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(target));
	ScanKeyInit(&keys[1], PP_JOURNAL_ROLE_COLUMN, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	ScanKeyInit(&keys[2], PP_JOURNAL_POS_COLUMN, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(from));
	scan_by_index(extension, keys, lengthof(keys), visit, arg);
}

/* The first row that is sound */
typedef struct First
{
	PpParkedRow row;
	bool found;
} First;

static bool
note_first(const PpParkedRow *row, void *arg)
{
	First *first = arg;

	first->row = *row;
	first->found = !row->damaged;
	return row->damaged;
}

/*
 * The next target and role after these (at first InvalidOid) that the active snapshot sees
 * items parked of, and the first of those.  False: there are no more.
 */
bool
pp_parked_table_next_key(Oid extension, Oid *target, Oid *role, PpParkedRow *row)
{
	First first = {.found = false};
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], COLUMN_TARGET + 1, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(*target));
	ScanKeyInit(&keys[1], PP_JOURNAL_ROLE_COLUMN, BTGreaterStrategyNumber, F_OIDGT,
				ObjectIdGetDatum(*role));
	scan_by_index(extension, keys, 2, note_first, &first);
	if (!first.found)
	{
		ScanKeyInit(&keys[0], COLUMN_TARGET + 1, BTGreaterStrategyNumber, F_OIDGT,
					ObjectIdGetDatum(*target));
		scan_by_index(extension, keys, 1, note_first, &first);
	}
	*target = first.row.target;
	*role = first.row.role;
	*row = first.row;
	return first.found;
}

typedef struct Wanted
{
	Oid target; /* InvalidOid: any */
	bool found;
} Wanted;

static bool
note_row(const PpParkedRow *row, void *arg)
{
	Wanted *wanted = arg;

	wanted->found = !OidIsValid(wanted->target) || row->target == wanted->target;
	return !wanted->found;
}

/* Is an item parked, of this target or, InvalidOid, of any?  It may have to be put aside. */
bool
pp_parked_table_has_rows(Oid extension, Oid target)
{
	Wanted wanted = {.target = target};

	pp_parked_table_scan(extension, note_row, &wanted);
	return wanted.found;
}

/* The item whose rows are being read, to be written again */
typedef struct Rewriting
{
	Oid extension;
	PpJournals journals;
	MemoryContext context; /* of the item */
	PpRecord record;
	PpParkedRow *rows;
	int nrows;
	int max_rows;
} Rewriting;

/* All rows of the item have been read.  In its memory context. */
static void
rewrite_item(Rewriting *item)
{
	const PpParkedRow *first = &item->rows[0];
	PpTable parked;

	if (!pp_item_check_is_sound((const PpItem *) item->record.bytes, item->record.length))
		return; /* who tries it says so */
	for (int i = 0; i < item->nrows; i++)
		pp_journal_delete(&item->journals, &item->rows[i].ref);
	parked = pp_parked_table_open(item->extension);
	pp_parked_table_append(&parked, (const PpItem *) item->record.bytes, first->role, first->pos,
						   first->part, first->parked_at, first->mismatch_since, first->alone);
	pp_table_close(&parked);
}

/* A row that has no place is damaged, or another one lacks. */
static bool
rewrite_row(const PpParkedRow *row, void *arg)
{
	Rewriting *item = arg;
	const PpParkedRow *previous = item->nrows > 0 ? &item->rows[item->nrows - 1] : NULL;
	MemoryContext caller = MemoryContextSwitchTo(item->context);
	PpRowHeader header = {0};

	if (row->header.items > 0 || row->damaged)
	{
		MemoryContextReset(item->context);
		item->record = (PpRecord){0};
		item->rows = NULL;
		item->nrows = item->max_rows = 0;
	}
	if (!row->damaged && (row->header.items > 0 || (previous && row->pos == previous->pos &&
													row->part == previous->part + 1)))
	{
		PP_ARRAY_GROW(item->rows, item->nrows, item->max_rows);
		item->rows[item->nrows++] = *row;
		if (pp_journals_have(&item->journals, &row->ref) &&
			pp_journal_read(&item->journals, &row->ref, row->pos, &item->record, &header) ==
				PP_ROW_FOUND &&
			!row->header.continues)
			rewrite_item(item);
	}
	MemoryContextSwitchTo(caller);
	return true;
}

/*
 * Write the items again that 1.0 has parked: its rows have no id, and some no room for one.  The
 * caller has locked the table, and nobody has read in it where they are.
 */
void
pp_parked_table_rewrite(Oid extension)
{
	Rewriting item = {.extension = extension};

	item.context = AllocSetContextCreate(CurrentMemoryContext, "persist_pipeline parked item",
										 ALLOCSET_DEFAULT_SIZES);
	PushActiveSnapshot(GetLatestSnapshot());
	pp_journals_open_parked(extension, RowExclusiveLock, &item.journals);
	scan_by_index(extension, NULL, 0, rewrite_row, &item);
	pp_journals_close(&item.journals, NoLock);
	PopActiveSnapshot();
	MemoryContextDelete(item.context);
}
