/*-------------------------------------------------------------------------
 *
 * table.h
 *	  Rows of the extension's own tables, written without SQL: no trigger, rule or
 *	  right comes into it, and what is written is not decoded, since it is no business
 *	  of another server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_TABLE_H
#define PP_TABLE_H

#include "postgres.h"

#include "access/htup.h"
#include "nodes/execnodes.h"
#include "storage/itemptr.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef struct PpTable
{
	Oid extension;
	Relation rel;		   /* NULL: it isn't there */
	Relation index;		   /* that is read; NULL: none */
	ResultRelInfo *result; /* once a row is inserted, what the executor wants for indexes */
	EState *estate;
} PpTable;

extern Snapshot pp_table_snapshot(void);
extern PpTable pp_table_open(Oid extension, const char *name, LOCKMODE mode);
extern PpTable pp_table_open_existing(Oid extension, const char *name, LOCKMODE mode);
extern PpTable pp_table_open_to_write(Oid extension, const char *name);
extern Relation pp_table_index(PpTable *table, const AttrNumber *columns, int n);
extern void pp_table_close(PpTable *table);
extern void pp_table_insert(PpTable *table, Datum *values, bool *nulls);
extern bool pp_table_delete(PpTable *table, ItemPointer tid, bool wait);

#endif /* PP_TABLE_H */
