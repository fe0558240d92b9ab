/*-------------------------------------------------------------------------
 *
 * verdict.c
 *	  What an error says of the items that it came from.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "clock.h"
#include "intake.h"
#include "parking.h"
#include "verdict.h"

/*
 * Is the error worth another try at once?  A full ring: triggers on targets enqueue, and
 * those of fewer items less; only the worker makes room, so with one item there is
 * little to hope for.  A cancellation: by a person, nobody's fault; but a trigger can
 * raise that error, too, and statement_timeout's is its item's own.
 */
bool
pp_is_doubtful(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_INSUFFICIENT_RESOURCES ||
		   error->sqlerrcode == ERRCODE_QUERY_CANCELED;
}

/* Could the same items be accepted a moment later? */
bool
pp_is_transient(const ErrorData *error)
{
	/* whatever code makes of its cancellation, by a stop or a command */
	if (pp_cut == PP_CUT_STOP || pp_cut == PP_CUT_HOLD)
		return true;

	if (pp_is_doubtful(error))
		return false;

	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_CONNECTION_EXCEPTION:
		case ERRCODE_FDW_ERROR:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_SYSTEM_ERROR:
			return true;
	}

	switch (error->sqlerrcode)
	{
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_OBJECT_IN_USE:
		case ERRCODE_ADMIN_SHUTDOWN:
		case ERRCODE_CRASH_SHUTDOWN:
		case ERRCODE_CANNOT_CONNECT_NOW:
		case ERRCODE_E_R_I_E_SRF_PROTOCOL_VIOLATED: /* statement.h */
			return true;
		default:
			return false;
	}
}

/* At the call: is it the item that is wrong, and not its caller or the server? */
bool
pp_is_items_fault(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:
		case ERRCODE_PLPGSQL_ERROR: /* what domains and defaults raise */
			return true;
	}
	switch (error->sqlerrcode)
	{
		case ERRCODE_UNDEFINED_COLUMN:
		case ERRCODE_GENERATED_ALWAYS:
		case ERRCODE_DATATYPE_MISMATCH:
		case ERRCODE_CANNOT_COERCE:
		case ERRCODE_FEATURE_NOT_SUPPORTED:
			return true;
		default:
			return false;
	}
}

/*
 * Has the row no place among the partitions?  Which there are may have changed while it
 * waited for the lock of one: a default partition, beside which another was attached.
 */
bool
pp_is_of_route(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_CHECK_VIOLATION && error->constraint_name == NULL &&
		   error->table_name != NULL;
}

/* Is it the same thing that is wrong? */
bool
pp_is_alike(const ErrorData *a, const ErrorData *b)
{
	if (a->sqlerrcode != b->sqlerrcode)
		return false;
	if (a->constraint_name == NULL || b->constraint_name == NULL)
		return a->constraint_name == b->constraint_name;
	return strcmp(a->constraint_name, b->constraint_name) == 0;
}

/*
 * Has nobody locked a table that this relation's foreign keys refer to?  Then nobody can
 * until the transaction ends, and whatever else rows wait for concerns single ones.
 */
bool
pp_lock_parents(Oid relid)
{
	Relation rel = try_relation_open(relid, AccessShareLock);
	bool locked = true;
	ListCell *cell;

	if (rel == NULL)
		return true;
	foreach (cell, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fkey = lfirst(cell);

		locked = locked && ConditionalLockRelationOid(fkey->confrelid, RowShareLock);
	}
	relation_close(rel, AccessShareLock);
	return locked;
}

/* May a row that this relation's foreign keys refer to be parked, from before that row? */
static bool
refers_to_parked(Oid relid, const PpRow *row, const PpParkedKey *but)
{
	Relation rel = try_relation_open(relid, AccessShareLock);
	bool refers = false;
	ListCell *cell;

	if (rel == NULL)
		return false;
	foreach (cell, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fkey = lfirst(cell);
		List *parents = list_make1_oid(fkey->confrelid);
		ListCell *parent;

		/* rows of a partition may be parked as those of what it is a part of */
		if (get_rel_relispartition(fkey->confrelid))
			parents = list_concat(parents, get_partition_ancestors(fkey->confrelid));
		foreach (parent, parents)
			refers |= pp_parking_any_before(lfirst_oid(parent), row->pos, row->part, but);
	}
	relation_close(rel, AccessShareLock);
	return refers;
}

/* The table whose constraint has failed: a partition, or what a view or a trigger writes. */
static Oid
failing_table(const ErrorData *error)
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
pp_waits_for_parent(const PpRow *row, Oid role, bool itself, const ErrorData *error)
{
	Oid target = row->item->target;
	PpParkedKey own = {.target = target, .role = role};
	const PpParkedKey *but = itself ? NULL : &own;
	Oid table;

	if (error->sqlerrcode != ERRCODE_FOREIGN_KEY_VIOLATION)
		return false;
	if ((row->parked_at != 0 && pp_intake_owes_earlier()) ||
		pp_parking_any_before(InvalidOid, row->pos, row->part, &own) ||
		refers_to_parked(target, row, but))
		return true;
	table = failing_table(error);
	return OidIsValid(table) && table != target && refers_to_parked(table, row, but);
}
