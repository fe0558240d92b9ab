/*-------------------------------------------------------------------------
 *
 * table.h
 *	  Rows of the extension's own tables, read and written without SQL: no trigger, rule or
 *	  right comes into it, and what is written is not decoded, since it is no business
 *	  of another server.
 *
 * A scan reads the rows that a snapshot sees: where they lie, or, if an index has been asked
 * for, in its order:
 *
 *	PpTable table = pp_table_open(extension, TABLE, AccessShareLock);
 *
 *	pp_table_scan(&table, GetLatestSnapshot(), 0, NULL);
 *	while ((tuple = pp_table_next(&table)) != NULL)
 *		... pp_table_oid(table.rel, tuple, COLUMN_TARGET) ...
 *	pp_table_close(&table);
 *
 * Of a table that isn't there it finds nothing.  Columns are only ever added behind the others, so
 * that the SQL of an older version, whose table lacks the last ones, can be served: these are null,
 * and what is given for them isn't written.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_TABLE_H
#define PP_TABLE_H

#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "nodes/execnodes.h"
#include "storage/itemptr.h"
#include "storage/lockdefs.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"

typedef struct PpTable
{
	Oid extension;
	Relation rel;		   /* NULL: it isn't there */
	Relation index;		   /* that is read; NULL: none */
	SysScanDesc scan;	   /* NULL: none */
	Snapshot snapshot;	   /* that the scan has registered; NULL: none */
	ResultRelInfo *result; /* once a row is inserted, what the executor wants for indexes */
	EState *estate;
} PpTable;

static inline bool
pp_table_has(Relation rel, int column)
{
	return column < RelationGetNumberOfAttributes(rel);
}

/* What a row has in a column, as an enum counts them, from 0; 0 if it is null. */
static inline Datum
pp_table_get(Relation rel, HeapTuple tuple, int column)
{
	bool is_null;
	Datum value;

	if (!pp_table_has(rel, column))
		return (Datum) 0;
	value = heap_getattr(tuple, column + 1, RelationGetDescr(rel), &is_null);
	return is_null ? (Datum) 0 : value;
}

/* The same, by type */
#define pp_table_bool(rel, tuple, column) DatumGetBool(pp_table_get(rel, tuple, column))
#define pp_table_int32(rel, tuple, column) DatumGetInt32(pp_table_get(rel, tuple, column))
#define pp_table_int64(rel, tuple, column) DatumGetInt64(pp_table_get(rel, tuple, column))
#define pp_table_oid(rel, tuple, column) DatumGetObjectId(pp_table_get(rel, tuple, column))
#define pp_table_time(rel, tuple, column) DatumGetTimestampTz(pp_table_get(rel, tuple, column))

/* In the current memory context; NULL if it is null. */
static inline char *
pp_table_text(Relation rel, HeapTuple tuple, int column)
{
	Datum value = pp_table_get(rel, tuple, column);

	return DatumGetPointer(value) ? TextDatumGetCString(value) : NULL;
}

extern Snapshot pp_table_snapshot(void);
extern PpTable pp_table_open(Oid extension, const char *name, LOCKMODE mode);
extern PpTable pp_table_open_existing(Oid extension, const char *name, LOCKMODE mode);
extern PpTable pp_table_open_to_write(Oid extension, const char *name);
extern void pp_table_index(PpTable *table, const AttrNumber *columns, int n);
extern void pp_table_scan(PpTable *table, Snapshot snapshot, int nkeys, ScanKey keys);
extern HeapTuple pp_table_next(PpTable *table);
extern void pp_table_end_scan(PpTable *table);
extern void pp_table_close(PpTable *table);
extern void pp_table_release(PpTable *table, LOCKMODE mode);
extern void pp_table_insert(PpTable *table, Datum *values, bool *nulls);
extern bool pp_table_delete(PpTable *table, ItemPointer tid, bool wait);

/* Any relation */
extern Relation pp_table_open_unless_locked(Oid relid, LOCKMODE mode, bool *locked);

#endif /* PP_TABLE_H */
