/*-------------------------------------------------------------------------
 *
 * verdict.c
 *	  What an error says of the items that it came from.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "utils/rel.h"

#include "clock.h"
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
 * May the row that a row of this target refers to be one that is parked?  `itself`: that
 * can be one of the same target.  Nobody knows what a view refers to, or what is behind
 * one that is parked.
 */
bool
pp_waits_for_parent(Oid target, const ErrorData *error, bool itself)
{
	Relation rel;
	ListCell *cell;
	bool waits;

	if (error->sqlerrcode != ERRCODE_FOREIGN_KEY_VIOLATION)
		return false;
	rel = try_relation_open(target, AccessShareLock);
	if (rel == NULL)
		return false;
	waits = pp_parking_any_view(target) ||
			(rel->rd_rel->relkind == RELKIND_VIEW && pp_parking_any_but(target));
	foreach (cell, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fkey = lfirst(cell);

		waits |= (fkey->confrelid != target || itself) && pp_parking_any(fkey->confrelid);
	}
	relation_close(rel, AccessShareLock);
	return waits;
}
