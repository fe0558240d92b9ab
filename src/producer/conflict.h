/*-------------------------------------------------------------------------
 *
 * conflict.h
 *	  What becomes of a row whose key is there: which columns and indexes that is about.
 *
 * persist_configure() names columns.  The key is on a table, which has unique indexes on exactly
 * these columns: of a view, the one beneath it.  An INSERT infers the same ones.  Partial indexes
 * and those with expressions are none of them, nor deferrable constraints: an INSERT can't use
 * these at all, and the others don't know all rows by their columns.
 *
 * Nothing here runs code of the target's owner.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_CONFLICT_H
#define PP_CONFLICT_H

#include "postgres.h"

#include "access/attnum.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

#include "store/settings.h"

typedef struct PpConflict
{
	PpConflictAction action;
	int nkeys;
	AttrNumber *keys; /* the target's columns */
	uint8 *is_key;	  /* the same as a bitmap (item.h) */
	uint8 *is_added;  /* those that an update adds to */
} PpConflict;

/* The table that has the key, as the target's INSERT comes to it */
typedef struct PpConflictTable
{
	Oid relid;
	AttrNumber *keys; /* its columns, in the order of the target's */
	List *indexes;	  /* OIDs of all indexes that an INSERT infers */
} PpConflictTable;

extern PpConflict pp_conflict_of(Relation rel, const PpSettings *settings);
extern PpConflictTable pp_conflict_table(Relation rel, const PpConflict *conflict);
extern void pp_conflict_check(Relation rel, const PpSettings *settings);

#endif /* PP_CONFLICT_H */
