/*-------------------------------------------------------------------------
 *
 * reasons.c
 *	  Tells what an SQLSTATE says; see reasons.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "base/reasons.h"

typedef struct Reason
{
	int sqlstate; /* of a class: the first one, XX000 */
	const char *sentence;
} Reason;

static const Reason reasons[] = {
	{ERRCODE_NOT_NULL_VIOLATION, "a column that must not be null is null"},
	{ERRCODE_FOREIGN_KEY_VIOLATION, "the row that a foreign key refers to is missing"},
	{ERRCODE_UNIQUE_VIOLATION, "a unique constraint has that key already"},
	{ERRCODE_CHECK_VIOLATION, "a check constraint refuses the row, or no partition takes it"},
	{ERRCODE_EXCLUSION_VIOLATION, "an exclusion constraint refuses the row"},
	{ERRCODE_WITH_CHECK_OPTION_VIOLATION, "the view's check option refuses the row"},
	{ERRCODE_INSUFFICIENT_PRIVILEGE,
	 "the role that enqueued it lacks a privilege, or row-level security refuses the row"},
	{ERRCODE_UNDEFINED_TABLE, "a relation does not exist any more"},
	{ERRCODE_UNDEFINED_COLUMN, "a column does not exist any more"},
	{ERRCODE_UNDEFINED_FUNCTION, "a function does not exist any more"},
	{ERRCODE_UNDEFINED_OBJECT, "a role, a type or another object does not exist any more"},
	{ERRCODE_LOCK_NOT_AVAILABLE, "another session holds a lock that is needed"},
	{ERRCODE_OBJECT_IN_USE, "an object is in use by another session"},
	{ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "an object is not in the state that is needed"},
	{ERRCODE_QUERY_CANCELED, "the insert takes longer than statement_timeout"},
	{ERRCODE_CRASH_SHUTDOWN, "the insert has ended a process of the server"},
	{ERRCODE_CANNOT_CONNECT_NOW, "a server takes no connections just now"},
	{ERRCODE_DISK_FULL, "a disk is full"},
	{ERRCODE_OUT_OF_MEMORY, "there is not enough memory"},
	{ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
	 "a limit that is configured was reached: of time, or of what may wait or be a dead letter"},
	{ERRCODE_T_R_DEADLOCK_DETECTED, "other transactions were in a deadlock with the insert"},
	{ERRCODE_STATEMENT_TOO_COMPLEX, "triggers call or enqueue one another too often"},
	{ERRCODE_READ_ONLY_SQL_TRANSACTION, "a server that the row goes to takes no writes"},
	{ERRCODE_DATA_CORRUPTED, "data are damaged"},
	{ERRCODE_INDEX_CORRUPTED, "an index is damaged"},
};

/* Where there is none of its own */
static const Reason classes[] = {
	{ERRCODE_CONNECTION_EXCEPTION, "another server can't be reached"},
	{ERRCODE_DATA_EXCEPTION, "a value is not what its column takes"},
	{ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION, "a constraint refuses the row"},
	{ERRCODE_TRANSACTION_ROLLBACK, "the insert and other transactions were in each other's way"},
	{ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
	 "the target, or code on it, has changed and does not work any more"},
	{ERRCODE_INSUFFICIENT_RESOURCES, "the server has run out of something"},
	{ERRCODE_PROGRAM_LIMIT_EXCEEDED, "a limit of the server is exceeded"},
	{ERRCODE_OPERATOR_INTERVENTION, "an administrator, or the system, has ended the insert"},
	{ERRCODE_SYSTEM_ERROR, "the operating system reports an error"},
	{ERRCODE_FDW_ERROR, "another server, or what connects to it, reports an error"},
	{ERRCODE_PLPGSQL_ERROR, "code on the target raises an error"},
	{ERRCODE_INTERNAL_ERROR,
	 "an internal error, of this server or another one, or of an extension"},
};

static const char *
find(const Reason *in, int n, int sqlstate)
{
	for (int i = 0; i < n; i++)
	{
		if (in[i].sqlstate == sqlstate)
			return in[i].sentence;
	}
	return NULL;
}

/* What the error says, without a full stop; code may have raised it to say something else. */
const char *
pp_reason(int sqlstate)
{
	const char *sentence = find(reasons, lengthof(reasons), sqlstate);

	if (sentence == NULL)
		sentence = find(classes, lengthof(classes), ERRCODE_TO_CATEGORY(sqlstate));
	return sentence ? sentence : "code on the target raises an error";
}

/* Why is a target parked?  `paused`: persist_pause() said so; sqlstate 0: it waits for a try. */
const char *
pp_reason_parked(int sqlstate, bool paused)
{
	if (paused)
		return "persist_pause() has paused the target";
	return sqlstate == 0 ? "items wait behind others of their target" : pp_reason(sqlstate);
}
