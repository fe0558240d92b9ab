/*-------------------------------------------------------------------------
 *
 * parents.c
 *	  Rows that wait for rows that their foreign keys refer to; see parents.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/table.h"
#include "store/layouts.h"
#include "worker/intake.h"
#include "worker/parents.h"
#include "worker/parking.h"

/*
 * Whose foreign keys are looked at may have been named by a user's code, in the error that it has
 * raised.  That can be any relation, so nobody waits for its lock.
 */

/*
 * Lock the tables that this relation's foreign keys refer to, without waiting for them, until the
 * transaction ends: whatever else rows wait for then concerns single ones.  False: somebody has
 * locked one of them, or the relation itself.
 */
bool
pp_parents_lock(Oid relid)
{
	bool locked; /* by somebody else */
	Relation rel = pp_layouts_open_unless_locked(relid, AccessShareLock, &locked);
	ListCell *cell;

	if (rel == NULL)
		return !locked;
	foreach (cell, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fkey = lfirst(cell);

		locked = locked || !ConditionalLockRelationOid(fkey->confrelid, RowShareLock);
	}
	relation_close(rel, AccessShareLock);
	return !locked;
}

/*
 * May this row of the role need one that is parked, by this relation's foreign keys?  If that is
 * locked nobody knows.
 */
static bool
refers_to_parked(Oid relid, const PpRow *row, Oid role, bool itself)
{
	bool refers;
	Relation rel = pp_layouts_open_unless_locked(relid, AccessShareLock, &refers);
	ListCell *cell;

	if (rel == NULL)
		return refers;
	foreach (cell, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fkey = lfirst(cell);
		List *parents = list_make1_oid(fkey->confrelid);
		ListCell *parent;

		/* rows of a partition may be parked as those of what it is a part of */
		if (get_rel_relispartition(fkey->confrelid))
			parents = list_concat(parents, get_partition_ancestors(fkey->confrelid));
		parents = pp_parking_add_replaced(parents);
		foreach (parent, parents)
			refers |= pp_parking_any_needed(lfirst_oid(parent), row, role, itself);
	}
	relation_close(rel, AccessShareLock);
	return refers;
}

/* The table whose constraint has failed: a partition, or what a view or a trigger writes. */
Oid
pp_parents_failing_table(const ErrorData *error)
{
	Oid schema;

	if (error->schema_name == NULL || error->table_name == NULL)
		return InvalidOid;
	schema = get_namespace_oid(error->schema_name, true);
	return OidIsValid(schema) ? get_relname_relid(error->table_name, schema) : InvalidOid;
}

/*
 * May the row that this row of the role refers to be one that is parked, or, where this one
 * is tried again, one that should have come before it?  `itself`: it can be one of the same
 * target and role.  Nobody knows what is behind a view that is parked.
 */
bool
pp_parents_may_be_parked(const PpRow *row, Oid role, bool itself, const ErrorData *error)
{
	Oid target = row->item->target;
	Oid table;

	if (error->sqlerrcode != ERRCODE_FOREIGN_KEY_VIOLATION)
		return false;
	if ((row->parked_at != 0 && pp_intake_owes_earlier()) ||
		pp_parking_any_needed(InvalidOid, row, role, false) ||
		refers_to_parked(target, row, role, itself))
		return true;
	table = pp_parents_failing_table(error);
	return OidIsValid(table) && table != target && refers_to_parked(table, row, role, itself);
}

/* What the foreign key refers to that has failed; InvalidOid: that can't be told. */
Oid
pp_parents_of_failure(const ErrorData *error)
{
	Oid table = pp_parents_failing_table(error);
	Oid parent = InvalidOid;
	Relation rel;
	bool locked;
	ListCell *cell;

	if (!OidIsValid(table) || error->constraint_name == NULL)
		return InvalidOid;
	rel = pp_table_open_unless_locked(table, AccessShareLock, &locked);
	if (rel == NULL)
		return InvalidOid;
	foreach (cell, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fkey = lfirst(cell);
		char *name = get_constraint_name(fkey->conoid);

		if (name && strcmp(name, error->constraint_name) == 0)
			parent = fkey->confrelid;
	}
	relation_close(rel, AccessShareLock);
	return parent;
}

/* Do rows of the target come into this table: is it itself, or one that it is a part of? */
bool
pp_parents_covers(Oid target, Oid parent)
{
	target = pp_layouts_current(target);
	if (target == parent || get_rel_relkind(target) == RELKIND_VIEW)
		return true;
	if (get_rel_relispartition(target))
		return list_member_oid(get_partition_ancestors(target), parent);
	return get_rel_relispartition(parent) &&
		   list_member_oid(get_partition_ancestors(parent), target);
}
