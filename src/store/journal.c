/*-------------------------------------------------------------------------
 *
 * journal.c
 *	  Appends to the journal, scans it, reads and deletes its rows; see journal.h.
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
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/config.h"
#include "base/extension.h"
#include "base/table.h"
#include "store/journal.h"
#include "store/state.h"

enum
{
	COLUMN_POS,
	COLUMN_PART,
	COLUMN_ROLE,
	COLUMN_INSTALLATION,
	COLUMN_DATA,
	COLUMNS
};

StaticAssertDecl(COLUMNS == PP_JOURNAL_COLUMNS && COLUMN_ROLE + 1 == PP_JOURNAL_ROLE_COLUMN,
				 "the columns of the journal");

/* What fits into a row's data, with its PpRowHeader, on a page of its own; in the parked table, too
 */
#define JOURNAL_ROW_BYTES                                                                          \
	(MaxHeapTupleSize - MAXALIGN(SizeofHeapTupleHeader) - 8 - 4 - 4 - 8 - VARHDRSZ - 4 - 8 -       \
	 sizeof(PpRowHeader) - 8 - 2 * MAXIMUM_ALIGNOF)

/*
 * One of the tables; InvalidOid: it isn't there.  Names are looked up once for an
 * installation: its tables keep their OIDs for as long as it lives.
 */
Oid
pp_journal_oid(Oid extension, int number)
{
	static Oid known_extension = InvalidOid;
	static Oid relids[PP_JOURNALS + 1];

	if (extension != known_extension)
	{
		known_extension = InvalidOid;
		for (int i = 0; i <= PP_PARKED; i++)
		{
			char name[NAMEDATALEN];

			if (i == PP_PARKED)
				strlcpy(name, PP_PARKED_TABLE, sizeof(name));
			else
				snprintf(name, sizeof(name), "persist_journal_%d", i + 1);
			relids[i] = OidIsValid(extension) ? pp_extension_relation(extension, name) : InvalidOid;
		}
		known_extension = extension;
	}
	return relids[number];
}

/* Open one of the tables; NULL: it isn't there. */
static Relation
open_journal(Oid extension, int number, LOCKMODE mode)
{
	Oid relid = pp_journal_oid(extension, number);

	return OidIsValid(relid) ? try_relation_open(relid, mode) : NULL;
}

static void
plan_journal_row(PpRowPlan *rows, int n, const char *bytes, uint64 length, uint32 items,
				 bool continues)
{
	if (rows)
		rows[n] = (PpRowPlan){
			.bytes = bytes,
			.length = length,
			.part = n * PP_PART_STEP,
			.header = {.version = PP_ROW_VERSION, .continues = continues, .items = items}};
}

/*
 * Divide a stretch of whole items into rows.  Returns how many there are; rows may
 * be NULL, to count.
 */
int
pp_journal_plan(const char *bytes, uint64 length, PpRowPlan *rows)
{
	const char *end = bytes + length;
	int n = 0;

	while (bytes < end)
	{
		const char *next = bytes;
		uint32 items = 0;

		while (next < end && items < PG_UINT16_MAX &&
			   next + ((const PpItem *) next)->size - bytes <= JOURNAL_ROW_BYTES)
		{
			next += ((const PpItem *) next)->size;
			items++;
		}
		if (items > 0)
		{
			plan_journal_row(rows, n++, bytes, next - bytes, items, false);
			bytes = next;
			continue;
		}

		/* an item larger than a row */
		next = bytes + ((const PpItem *) bytes)->size;
		for (items = 1; bytes < next; items = 0)
		{
			uint64 piece = Min(JOURNAL_ROW_BYTES, next - bytes);

			plan_journal_row(rows, n++, bytes, piece, items, bytes + piece < next);
			bytes += piece;
		}
	}

	return n;
}

/* The values of a row's columns.  In the current memory context. */
void
pp_journal_row_values(Datum *values, uint64 installation, uint64 pos, Oid role,
					  const PpRowPlan *row)
{
	Size size = VARHDRSZ + sizeof(PpRowHeader) + row->length;
	char *data = palloc(size);
	PpRowHeader header = row->header;
	PpRowColumns columns = {
		.pos = pos, .part = row->part, .role = role, .installation = installation};

	header.crc = pp_row_check_crc(&columns, header, row->bytes, row->length);
	SET_VARSIZE(data, size);
	memcpy(VARDATA(data), &header, sizeof(PpRowHeader));
	memcpy(VARDATA(data) + sizeof(PpRowHeader), row->bytes, row->length);
	values[COLUMN_POS] = Int64GetDatum(pos);
	values[COLUMN_PART] = Int32GetDatum(row->part);
	values[COLUMN_ROLE] = ObjectIdGetDatum(role);
	values[COLUMN_INSTALLATION] = Int64GetDatum(installation);
	values[COLUMN_DATA] = PointerGetDatum(data);
}

static HeapTuple
form_journal_row(TupleDesc desc, uint64 installation, uint64 pos, Oid role, const PpRowPlan *row)
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {false};
	HeapTuple tuple;

	pp_journal_row_values(values, installation, pos, role, row);
	tuple = heap_form_tuple(desc, values, nulls);
	pfree(DatumGetPointer(values[COLUMN_DATA]));

	return tuple;
}

static PpJournalRef
make_journal_ref(Relation rel, int journal, const ItemPointerData *tid)
{
	return (PpJournalRef){.journal = journal,
						  .offset = ItemPointerGetOffsetNumber(tid),
						  .block = ItemPointerGetBlockNumber(tid),
						  .file = rel->rd_rel->relfilenode};
}

/*
 * The journal to write to for somebody who has no time to wait for a lock: the
 * preferred one, or another, if that is locked; -1: all are.
 */
int
pp_journal_unlocked(Oid extension, int preferred)
{
	for (int i = 0; i < PP_JOURNALS; i++)
	{
		int journal = (preferred + i) % PP_JOURNALS;
		Oid relid = pp_journal_oid(extension, journal);

		if (OidIsValid(relid) && ConditionalLockRelationOid(relid, RowExclusiveLock))
			return journal;
	}
	return -1;
}

/*
 * Write the rows of an entry; refs tells where they are.  The lock on the journal
 * stays to the end of the transaction.
 *
 * One by one: a row is about as large as a page, so that there is little to win, and
 * heap_multi_insert can't keep them from being decoded.
 */
void
pp_journal_append(Oid extension, int journal, uint64 pos, Oid role, const PpRowPlan *rows,
				  int nrows, PpJournalRef *refs)
{
	uint64 installation = pp_state_installation(extension);
	Relation rel = open_journal(extension, journal, RowExclusiveLock);
	CommandId command = GetCurrentCommandId(true);

	if (rel == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("the journal of extension \"persist_pipeline\" does not exist"),
						errhint("Create the extension again.")));

	for (int i = 0; i < nrows; i++)
	{
		HeapTuple tuple =
			form_journal_row(RelationGetDescr(rel), installation, pos, role, &rows[i]);

		CHECK_FOR_INTERRUPTS();
		heap_insert(rel, tuple, command, HEAP_INSERT_NO_LOGICAL, NULL);
		refs[i] = make_journal_ref(rel, journal, &tuple->t_self);
		heap_freetuple(tuple);
	}
	relation_close(rel, NoLock);
}

/* A row, its bytes where they lie */
typedef struct RawJournalRow
{
	PpRowColumns columns;
	PpRowData data;
} RawJournalRow;

uint64
pp_journal_row_installation(Relation rel, HeapTuple tuple)
{
	return pp_table_int64(rel, tuple, COLUMN_INSTALLATION);
}

uint64
pp_journal_row_pos(Relation rel, HeapTuple tuple)
{
	return pp_table_int64(rel, tuple, COLUMN_POS);
}

/* As if it were one of that installation. */
static RawJournalRow
read_journal_row_as(Relation rel, HeapTuple tuple, uint64 installation)
{
	RawJournalRow row = {.columns = {.pos = pp_journal_row_pos(rel, tuple),
									 .part = pp_table_int32(rel, tuple, COLUMN_PART),
									 .role = pp_table_oid(rel, tuple, COLUMN_ROLE),
									 .installation = installation}};
	struct varlena *data =
		(struct varlena *) DatumGetPointer(pp_table_get(rel, tuple, COLUMN_DATA));
	bool is_plain = data != NULL && !VARATT_IS_EXTERNAL(data) && !VARATT_IS_COMPRESSED(data);

	row.data = pp_row_check_parse(&row.columns, is_plain ? VARDATA_ANY(data) : NULL,
								  is_plain ? VARSIZE_ANY_EXHDR(data) : 0);
	return row;
}

static RawJournalRow
read_journal_row(Relation rel, HeapTuple tuple)
{
	return read_journal_row_as(rel, tuple, pp_journal_row_installation(rel, tuple));
}

static void
append_to_record(PpRecord *record, const char *bytes, uint32 length)
{
	if (record->bytes == NULL)
	{
		record->room = length;
		record->bytes = palloc(Max(length, 1));
	}
	else if (record->length + length > record->room)
	{
		record->room = Max(record->length + length, 2 * record->room);
		record->bytes = repalloc_huge(record->bytes, record->room);
	}
	memcpy(record->bytes + record->length, bytes, length);
	record->length += length;
}

/* Would the row be sound, if it were one of that installation? */
bool
pp_journal_row_is_sound(Relation rel, HeapTuple tuple, uint64 installation)
{
	return read_journal_row_as(rel, tuple, installation).data.sound;
}

/* How many items begin in the row? */
uint64
pp_journal_row_items(Relation rel, HeapTuple tuple)
{
	return read_journal_row(rel, tuple).data.header.items;
}

/* The same row as one of that installation, at that pos, in another of these tables. */
HeapTuple
pp_journal_row_for(Relation rel, HeapTuple tuple, Relation to, uint64 installation, uint64 pos)
{
	int natts = RelationGetDescr(rel)->natts;
	Datum *values = palloc(natts * sizeof(Datum));
	bool *nulls = palloc(natts * sizeof(bool));
	RawJournalRow row = read_journal_row(rel, tuple);
	HeapTuple copy;

	if (!row.data.sound)
		row = read_journal_row_as(rel, tuple, installation); /* it may have been repaired */
	heap_deform_tuple(tuple, RelationGetDescr(rel), values, nulls);
	values[COLUMN_POS] = Int64GetDatum(pos);
	nulls[COLUMN_POS] = false;
	values[COLUMN_INSTALLATION] = Int64GetDatum(installation);
	nulls[COLUMN_INSTALLATION] = false;
	if (row.data.sound) /* or else it stays damaged */
	{
		char *data = (char *) PG_DETOAST_DATUM_COPY(values[COLUMN_DATA]);

		row.columns.pos = pos;
		row.columns.installation = installation;
		row.data.header.crc =
			pp_row_check_crc(&row.columns, row.data.header, row.data.bytes, row.data.length);
		memcpy(VARDATA(data), &row.data.header, sizeof(PpRowHeader));
		values[COLUMN_DATA] = PointerGetDatum(data);
	}
	copy = heap_form_tuple(RelationGetDescr(to), values, nulls); /* its columns come first */
	pfree(values);
	pfree(nulls);
	return copy;
}

static PpJournalRow
make_journal_row(Relation rel, int journal, HeapTuple tuple, const RawJournalRow *row, uint64 ours)
{
	bool copied = row->data.sound && row->columns.installation != ours;

	return (PpJournalRow){.pos = row->columns.pos,
						  .part = row->columns.part,
						  .role = row->columns.role,
						  .ref = make_journal_ref(rel, journal, &tuple->t_self),
						  .header = row->data.header,
						  .length = row->data.length,
						  .damaged = !row->data.sound || copied,
						  .copied = copied};
}

PpJournalRow
pp_journal_read_row(Relation rel, int journal, HeapTuple tuple, uint64 ours)
{
	RawJournalRow row = read_journal_row(rel, tuple);

	return make_journal_row(rel, journal, tuple, &row, ours);
}

/* How somebody looks at a row, besides what is in its columns */
typedef void (*RawJournalVisitor)(Relation rel, int journal, HeapTuple tuple,
								  const RawJournalRow *row, void *arg);

/*
 * Visit the rows of this installation below a position that the active snapshot sees, and,
 * with another function or with none, those that are damaged: which they were nobody knows;
 * and those of others.
 */
static void
scan_journals(Oid extension, uint64 boundary, RawJournalVisitor visit, RawJournalVisitor damaged,
			  void *arg)
{
	uint64 ours = pp_state_installation(extension);

	for (int journal = 0; journal < PP_JOURNALS; journal++)
	{
		PpTable table = {.rel = open_journal(extension, journal, RowExclusiveLock)};
		HeapTuple tuple;

		pp_table_scan(&table, GetActiveSnapshot(), 0, NULL);
		while ((tuple = pp_table_next(&table)) != NULL)
		{
			RawJournalRow row = read_journal_row(table.rel, tuple);

			if (!row.data.sound || row.columns.installation != ours)
			{
				if (damaged)
					damaged(table.rel, journal, tuple, &row, arg);
			}
			else if (row.columns.pos < boundary)
				visit(table.rel, journal, tuple, &row, arg);
		}
		pp_table_release(&table, RowExclusiveLock);
	}
}

/* For scan_journals(): to whom to show a row */
typedef struct JournalScan
{
	uint64 ours;
	PpRowVisitor visit;
	PpRowVisitor damaged;
	void *arg;
} JournalScan;

static void
show_journal_row(Relation rel, int journal, HeapTuple tuple, const RawJournalRow *raw, void *arg)
{
	JournalScan *to = arg;
	PpJournalRow row = make_journal_row(rel, journal, tuple, raw, to->ours);

	(row.damaged ? to->damaged : to->visit)(&row, to->arg);
}

void
pp_journal_scan(Oid extension, uint64 boundary, PpRowVisitor visit, PpRowVisitor damaged, void *arg)
{
	JournalScan to = {
		.ours = pp_state_installation(extension), .visit = visit, .damaged = damaged, .arg = arg};

	scan_journals(extension, boundary, show_journal_row, damaged ? show_journal_row : NULL, &to);
}

/* The same for the targets of the items in a row */
typedef struct JournalTargetScan
{
	PpTargetVisitor visit;
	void *arg;
} JournalTargetScan;

static void
visit_journal_targets(const RawJournalRow *row, PpTargetVisitor visit, void *arg)
{
	uint64 offset = 0;
	uint32 n = 0;
	Oid target;

	while (pp_row_check_next_target(&row->data, n++, &offset, &target))
		visit(target, 1, arg);
}

static void
show_journal_targets(Relation rel, int journal, HeapTuple tuple, const RawJournalRow *row,
					 void *arg)
{
	JournalTargetScan *to = arg;

	visit_journal_targets(row, to->visit, to->arg);
}

/* Visit the targets of the items that begin in a row; of one that is damaged, none. */
void
pp_journal_row_targets(Relation rel, HeapTuple tuple, PpTargetVisitor visit, void *arg)
{
	RawJournalRow row = read_journal_row(rel, tuple);

	visit_journal_targets(&row, visit, arg);
}

/* Does the item begin in the row, whosever that is?  Then the fixed part of it. */
bool
pp_journal_row_find(Relation rel, HeapTuple tuple, int64 id, PpItem *item)
{
	RawJournalRow row = read_journal_row(rel, tuple);
	uint64 offset = 0;
	uint32 n = 0;

	while (pp_row_check_next_item(&row.data, n++, &offset, item))
	{
		if (item->id == id)
			return true;
	}
	return false;
}

/* Visit the targets of the items that begin in the rows which pp_journal_scan visits. */
void
pp_journal_scan_targets(Oid extension, uint64 boundary, PpTargetVisitor visit, void *arg)
{
	JournalTargetScan to = {.visit = visit, .arg = arg};

	scan_journals(extension, boundary, show_journal_targets, NULL, &to);
}

/* Does the active snapshot see a row?  It may have to be put aside. */
bool
pp_journal_has_rows(Oid extension)
{
	bool found = false;

	for (int journal = 0; journal < PP_JOURNALS && !found; journal++)
	{
		PpTable table = {.rel = open_journal(extension, journal, AccessShareLock)};

		pp_table_scan(&table, GetActiveSnapshot(), 0, NULL);
		found = pp_table_next(&table) != NULL;
		pp_table_release(&table, AccessShareLock);
	}
	return found;
}

static void
open_one_journal(Oid extension, LOCKMODE mode, PpJournals *journals, int i)
{
	Relation rel = open_journal(extension, i, mode);

	journals->rels[i] = rel;
	journals->blocks[i] = rel ? RelationGetNumberOfBlocks(rel) : 0;
}

/* Open the tables, for rows that the caller knows of already, say. */
void
pp_journals_open(Oid extension, LOCKMODE mode, PpJournals *journals)
{
	for (int i = 0; i <= PP_PARKED; i++)
		open_one_journal(extension, mode, journals, i);
}

/* Only the table of parked items: whoever tries those may hang, and journals are to be emptied. */
void
pp_journals_open_parked(Oid extension, LOCKMODE mode, PpJournals *journals)
{
	memset(journals, 0, sizeof(*journals));
	open_one_journal(extension, mode, journals, PP_PARKED);
}

/* NoLock: the locks stay to the end of the transaction. */
void
pp_journals_close(PpJournals *journals, LOCKMODE mode)
{
	for (int i = 0; i <= PP_PARKED; i++)
	{
		if (journals->rels[i])
			relation_close(journals->rels[i], mode);
	}
}

/* Is the row where the reference says, if it is still there at all? */
bool
pp_journals_have(const PpJournals *journals, const PpJournalRef *ref)
{
	Relation rel = journals->rels[ref->journal];

	return rel && rel->rd_rel->relfilenode == ref->file &&
		   ref->block < journals->blocks[ref->journal];
}

/*
 * Append the row's bytes to the record, unless it is a copy of the row before, whose header
 * is passed in.  It stays until pp_journal_delete().  XX001 if it can't be read.
 */
PpRowFound
pp_journal_read(PpJournals *journals, const PpJournalRef *ref, uint64 pos, PpRecord *record,
				PpRowHeader *header)
{
	Relation rel = journals->rels[ref->journal];
	HeapTupleData tuple;
	Buffer buffer;
	RawJournalRow row;
	bool copy;

	Assert(pp_journals_have(journals, ref));
	ItemPointerSet(&tuple.t_self, ref->block, ref->offset);
	if (!heap_fetch(rel, SnapshotSelf, &tuple, &buffer, false))
		return PP_ROW_GONE;
	row = read_journal_row(rel, &tuple);
	copy = row.columns.part == record->part && row.data.header.crc == header->crc &&
		   row.data.header.version == header->version;
	if (row.data.sound && row.columns.pos == pos && !copy)
		append_to_record(record, row.data.bytes, row.data.length);
	record->part = row.columns.part;
	*header = row.data.header;
	ReleaseBuffer(buffer);
	if (!row.data.sound)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						header->version != PP_ROW_VERSION
							? errmsg("a row of \"%s\" has the unknown format %d",
									 RelationGetRelationName(rel), header->version)
							: errmsg("a row of \"%s\" is damaged", RelationGetRelationName(rel))));
	if (row.columns.pos != pos)
		return PP_ROW_GONE;
	return copy ? PP_ROW_COPY : PP_ROW_FOUND;
}

/* Delete a row that has been read: this transaction applies it.  40001 if somebody else has. */
void
pp_journal_delete(PpJournals *journals, const PpJournalRef *ref)
{
	PpTable table = {.rel = journals->rels[ref->journal]};
	ItemPointerData tid;

	ItemPointerSet(&tid, ref->block, ref->offset);
	if (!pp_table_delete(&table, &tid, false))
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("a row of \"%s\" is being changed by another process",
							   RelationGetRelationName(table.rel))));
}
