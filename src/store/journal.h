/*-------------------------------------------------------------------------
 *
 * journal.h
 *	  The durable path: rows of the tables persist_journal_1 to _3.
 *
 * The rule is: a row that is present is not yet applied.  Whoever deletes a row inserts its
 * items, in the same transaction.  So each item is inserted exactly once, also after aborts,
 * crashes, failover and recovery to a point in time:  MVCC sees to that.
 *
 *	pos			int8	the entry's commit position (ring.h)
 *	part		int4	which of its rows, in steps of PP_PART_STEP
 *	role		oid		the enqueuer
 *	installation int8	that it was handed to; others are no business of ours (state.h,
 *						copied.h)
 *	data		bytea	a PpRowHeader and the bytes of items; never compressed, and
 *						never elsewhere (STORAGE PLAIN), so a row is 8 kB at most
 *
 * The header has a CRC of all the row says (but for the parked table's own columns).  A row that
 * doesn't match its CRC is damaged: nothing in it is used, and it is put aside (copied.h).  The
 * CRC is no signature: whoever can write rows here can also write a CRC.  SECURITY.md says how
 * people are kept from that.
 *
 * A record is a row with whole items, or several rows, one after the other, with
 * one item that is too large for one: all but its last `continue`.
 *
 * Code that reads rows treats the table of parked items (parked_table.h) as the last of these
 * tables.
 *
 * Rows are not decoded for logical replication: another server must not insert them.  If rows
 * reach another server nevertheless (the initial copy of a subscription), they are put aside
 * there.
 *
 * Deleted rows leave a table that grows.  So the worker has producers turn to another
 * when it is ROTATE_BLOCKS large, and gives the old one a new, empty file once all
 * its rows are applied and no snapshot needs them any more; or at the latest, for
 * the sake of the disk, when journal_retention is over.
 *
 * Rows are written by producers before their commit (pp_journal_append), and by the worker for
 * what is in a ring that it leaves; nobody but the worker deletes them.  They take
 * RowExclusiveLock and keep it to the end of the transaction: so whoever gets AccessExclusiveLock
 * knows that no row is of a transaction in progress.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_JOURNAL_H
#define PP_JOURNAL_H

#include "postgres.h"

#include "storage/block.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"

#include "base/item.h"
#include "ring/shmem.h"
#include "store/row_check.h"

#define PP_JOURNAL_COLUMNS 5
#define PP_JOURNAL_POS_COLUMN 1
#define PP_JOURNAL_PART_COLUMN 2
#define PP_JOURNAL_ROLE_COLUMN 3
#define PP_PARKED_TABLE "persist_parked"
#define PP_PARKED PP_JOURNALS /* its number */
#define PP_PART_STEP 1024	  /* room for a record to be divided, keeping its place */

/* A row, as an entry of the ring names it */
typedef struct PpJournalRef
{
	uint16 journal; /* from 0 */
	uint16 offset;
	uint32 block;
	Oid file; /* that it was written to; VACUUM FULL makes another one */
} PpJournalRef;

/* How many bytes of the journal's limit these items are charged with (quota.h) */
static inline uint64
pp_journal_cost(uint64 bytes, uint64 items)
{
	return bytes + items * PP_ITEM_COST;
}

/* A stretch of items that becomes one row */
typedef struct PpRowPlan
{
	const char *bytes;
	uint32 length;
	uint32 part;
	PpRowHeader header;
} PpRowPlan;

/* A row that a scan has found */
typedef struct PpJournalRow
{
	uint64 pos;
	uint32 part;
	Oid role;
	PpJournalRef ref;
	PpRowHeader header;
	uint32 length; /* of the items' bytes in it */
	bool damaged;  /* the other fields may be wrong; or */
	bool copied;   /* the row is another installation's; `damaged` is true, too */
} PpJournalRow;

/*
 * Is the row the same as the one before it, in commit order?  That happens if somebody has
 * written to the tables.  The two are taken together, as one.
 */
static inline bool
pp_journal_is_copy(const PpJournalRow *row, const PpJournalRow *previous)
{
	return row->pos == previous->pos && row->part == previous->part &&
		   row->role == previous->role && row->header.crc == previous->header.crc &&
		   row->header.version == previous->header.version && !row->damaged && !previous->damaged;
}

typedef void (*PpRowVisitor)(const PpJournalRow *row, void *arg);

/* Called with the first bytes of the items that begin in a row */
typedef void (*PpTargetVisitor)(Oid target, uint64 items, void *arg);

/* The tables, open to read rows that are known, or to delete them */
typedef struct PpJournals
{
	Relation rels[PP_JOURNALS + 1]; /* NULL: it isn't there */
	BlockNumber blocks[PP_JOURNALS + 1];
} PpJournals;

/* The bytes of a record, put together from its rows; all zero: none yet */
typedef struct PpRecord
{
	char *bytes; /* in the memory context that was current */
	uint64 length;
	uint64 room;
	uint32 part; /* of the row that was read last, of this record or the one before */
} PpRecord;

typedef enum PpRowFound
{
	PP_ROW_FOUND,
	PP_ROW_COPY, /* of the one that was read before it: that is enough */
	PP_ROW_GONE, /* it has been applied */
} PpRowFound;

extern Oid pp_journal_oid(Oid extension, int number);
extern int pp_journal_plan(const char *bytes, uint64 length, PpRowPlan *rows);
extern int pp_journal_unlocked(Oid extension, int preferred);
extern void pp_journal_append(Oid extension, int journal, uint64 pos, Oid role,
							  const PpRowPlan *rows, int nrows, PpJournalRef *refs);
extern void pp_journal_scan(Oid extension, uint64 boundary, PpRowVisitor visit,
							PpRowVisitor damaged, void *arg);
extern void pp_journal_scan_targets(Oid extension, uint64 boundary, PpTargetVisitor visit,
									void *arg);
extern bool pp_journal_has_rows(Oid extension);
extern void pp_journals_open(Oid extension, LOCKMODE mode, PpJournals *journals);
extern void pp_journals_open_parked(Oid extension, LOCKMODE mode, PpJournals *journals);
extern void pp_journals_close(PpJournals *journals, LOCKMODE mode);
extern bool pp_journals_have(const PpJournals *journals, const PpJournalRef *ref);
extern PpRowFound pp_journal_read(PpJournals *journals, const PpJournalRef *ref, uint64 pos,
							   PpRecord *record, PpRowHeader *header);
extern void pp_journal_delete(PpJournals *journals, const PpJournalRef *ref);

/* Single rows, for those who move them to another table */
extern void pp_journal_row_values(Datum *values, uint64 installation, uint64 pos, Oid role,
								  const PpRowPlan *row);
extern PpJournalRow pp_journal_read_row(Relation rel, int journal, HeapTuple tuple,
										uint64 installation);
extern uint64 pp_journal_row_installation(Relation rel, HeapTuple tuple);
extern uint64 pp_journal_row_pos(Relation rel, HeapTuple tuple);
extern bool pp_journal_row_is_sound(Relation rel, HeapTuple tuple, uint64 installation);
extern uint64 pp_journal_row_items(Relation rel, HeapTuple tuple);
extern void pp_journal_row_targets(Relation rel, HeapTuple tuple, PpTargetVisitor visit, void *arg);
extern bool pp_journal_row_find(Relation rel, HeapTuple tuple, int64 id, PpItem *item);
extern HeapTuple pp_journal_row_for(Relation rel, HeapTuple tuple, Relation to,
									uint64 installation, uint64 pos);

/* journal_rotate.c */
extern uint64 pp_journal_size(Oid extension);
extern bool pp_journal_rotate(Oid extension, PpSlot *slot);

#endif /* PP_JOURNAL_H */
