/*-------------------------------------------------------------------------
 *
 * parked_table.h
 *	  Items whose target can't be written just now: the table persist_parked.
 *
 * Its rows are those of the journal (journal.h), with each item in a record of its
 * own, and five columns more: the target, since when the item is parked, with the first
 * item alone since when the target takes none of its items, if that is so, whether the
 * item waits by itself, so that later ones pass it, and its id, for people.  They are claimed like those of the
 * journal, which this table is the last one of: a row that is here is not yet applied.  Its
 * index has the items of each target and role in commit order.  Who writes here, and
 * when: parking.h.  And persist_discard_parked() deletes rows, which a process that is just trying
 * them then can't delete: its transaction fails, and it tries the others.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PARKED_TABLE_H
#define PP_PARKED_TABLE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "base/table.h"
#include "store/journal.h"

/* A row that a scan has found */
typedef struct PpParkedRow
{
	Oid target;
	Oid role;
	uint64 pos;
	uint32 part;
	TimestampTz parked_at;
	TimestampTz mismatch_since; /* 0: that is not told */
	bool alone;				  /* later ones pass it */
	PpJournalRef ref;
	PpRowHeader header;
	uint32 length; /* of the item's bytes in it */
	bool damaged;  /* the rest is a guess; or else */
	bool copied;   /* it is another installation's, and counts as damaged */
} PpParkedRow;

/* False: that is enough */
typedef bool (*PpParkedVisitor)(const PpParkedRow *row, void *arg);

extern PpTable pp_parked_table_open(Oid extension);
extern void pp_parked_table_append(PpTable *parked, const PpItem *item, Oid role, uint64 pos,
								   uint32 part, TimestampTz parked_at, TimestampTz mismatch_since,
								   bool alone);
extern PpParkedRow pp_parked_table_row(const PpTable *parked, HeapTuple tuple);
extern void pp_parked_table_in_order(PpTable *parked);
extern int64 pp_parked_table_id(const PpTable *parked, HeapTuple tuple);
extern void pp_parked_table_rewrite(Oid extension);
extern void pp_parked_table_scan(Oid extension, PpParkedVisitor visit, void *arg);
extern void pp_parked_table_scan_of(Oid extension, Oid target, Oid role, uint64 from,
									PpParkedVisitor visit, void *arg);
extern bool pp_parked_table_next_key(Oid extension, Oid *target, Oid *role, PpParkedRow *first);
extern bool pp_parked_table_has_rows(Oid extension, Oid target);

#endif /* PP_PARKED_TABLE_H */
