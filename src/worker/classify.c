/*-------------------------------------------------------------------------
 *
 * classify.c
 *	  What an error says of the rows that it came from; see classify.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/elog.h"

#include "worker/classify.h"

/* By its SQLSTATE alone. */
static PpErrorClass
class_of(int sqlstate)
{
	switch (sqlstate)
	{
		case ERRCODE_LOCK_NOT_AVAILABLE:
			return PP_CLASS_LOCK;
		case ERRCODE_QUERY_CANCELED:
		case ERRCODE_INSUFFICIENT_RESOURCES: /* the ring is full: a trigger enqueues */
			return PP_CLASS_UNSURE;
		case ERRCODE_OBJECT_IN_USE:
		case ERRCODE_ADMIN_SHUTDOWN:
		case ERRCODE_CRASH_SHUTDOWN:
		case ERRCODE_CANNOT_CONNECT_NOW:
		case ERRCODE_E_R_I_E_SRF_PROTOCOL_VIOLATED: /* statement.h */
			return PP_CLASS_TARGET_WAITS;
		case ERRCODE_READ_ONLY_SQL_TRANSACTION: /* another server's, or a trigger has said so */
		case ERRCODE_INDEX_CORRUPTED:
		case ERRCODE_INTERNAL_ERROR: /* engines and other servers have no better one */
			return PP_CLASS_UNPROVEN;
	}
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_CONNECTION_EXCEPTION:
		case ERRCODE_FDW_ERROR:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_SYSTEM_ERROR:
			return PP_CLASS_TARGET_WAITS;
		case ERRCODE_INSUFFICIENT_RESOURCES:
			return PP_CLASS_RESOURCES;
		default:
			return PP_CLASS_ROW;
	}
}

PpErrorClass
pp_classify(const ErrorData *error, bool in_rows, PpCut cut)
{
	PpErrorClass class = class_of(error->sqlerrcode);

	/* whatever code makes of its cancellation */
	if (cut == PP_CUT_STOP || cut == PP_CUT_BLOCKED)
		return PP_CLASS_TRANSACTION;
	if (cut == PP_CUT_TIMEOUT)
		return PP_CLASS_SLOW;
	if (class == PP_CLASS_ROW && !in_rows &&
		ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
			ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION))
		return PP_CLASS_MISMATCH;
	return class;
}

bool
pp_classify_is_transient(const ErrorData *error, PpCut cut)
{
	switch (pp_classify(error, true, cut == PP_CUT_TIMEOUT ? PP_CUT_NONE : cut))
	{
		case PP_CLASS_LOCK:
		case PP_CLASS_TARGET_WAITS:
		case PP_CLASS_RESOURCES:
		case PP_CLASS_TRANSACTION:
			return true;
		default:
			return false;
	}
}

bool
pp_classify_is_rollback(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK;
}

bool
pp_classify_is_items_fault(const ErrorData *error)
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

bool
pp_classify_is_of_route(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_CHECK_VIOLATION && error->constraint_name == NULL &&
		   error->table_name != NULL;
}

bool
pp_classify_is_alike(const ErrorData *a, const ErrorData *b)
{
	if (a->sqlerrcode != b->sqlerrcode)
		return false;
	if (a->constraint_name == NULL || b->constraint_name == NULL)
		return a->constraint_name == b->constraint_name;
	return strcmp(a->constraint_name, b->constraint_name) == 0;
}
