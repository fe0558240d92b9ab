/*-------------------------------------------------------------------------
 *
 * history.c
 *	  Records stops; see history.h.
 *
 * The statements run as the superuser: every name and operator is qualified, and
 * nobody but superusers can attach code to the table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "history.h"

#define KEPT_STOPS 1000

/* persist_shutdowns, locked; InvalidOid if it isn't there or can't be locked now. */
static Oid
lock_table(void)
{
	Oid extension = get_extension_oid("persist_pipeline", true);
	Oid table;

	if (!OidIsValid(extension))
		return InvalidOid;
	table = get_relname_relid("persist_shutdowns", pp_extension_schema(extension));
	if (!OidIsValid(table) || !ConditionalLockRelationOid(table, RowExclusiveLock))
		return InvalidOid;
	return table;
}

static void
insert(Oid table, const PpStop *stop)
{
	char *name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)),
											get_rel_name(table));
	Oid types[4] = {FLOAT8OID, INT8OID, INT8OID, BOOLOID};
	Datum values[4] = {Float8GetDatum(stop->seconds), Int64GetDatum(stop->drained),
					   Int64GetDatum(stop->journalled), BoolGetDatum(stop->forced)};

	SPI_connect();
	SPI_execute_with_args(psprintf("INSERT INTO %s (stopped_at, seconds, drained, journalled, "
								   "forced) VALUES (pg_catalog.clock_timestamp(), $1, $2, $3, $4)",
								   name),
						  4, types, values, NULL, false, 0);
	SPI_execute(psprintf("DELETE FROM %s WHERE stopped_at OPERATOR(pg_catalog.<=) "
						 "(SELECT s.stopped_at FROM %s AS s ORDER BY s.stopped_at DESC "
						 "OFFSET %d LIMIT 1)",
						 name, name, KEPT_STOPS),
				false, 0);
	SPI_finish();
}

/*
 * Record a stop, outside a transaction.  A stop must not hang or fail for the
 * sake of its record: where that can't be written at once, the log has to do.
 */
void
pp_history_record(const PpStop *stop)
{
	MemoryContext caller = CurrentMemoryContext;

	PG_TRY();
	{
		Oid table;

		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		table = lock_table();
		if (OidIsValid(table))
			insert(table, stop);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		ereport(LOG, (errcode(error->sqlerrcode), errmsg("the stop was not recorded: SQLSTATE %s",
														 unpack_sql_state(error->sqlerrcode))));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
}
