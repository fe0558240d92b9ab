/*-------------------------------------------------------------------------
 *
 * history.c
 *	  Records stops; see history.h.
 *
 * Without SQL: no code that is attached to the table runs, and what is written is not
 * decoded (a publication of all tables would else forbid to delete).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "extension.h"
#include "history.h"
#include "savepoint.h"

#define KEPT_STOPS 1000

enum
{
	COLUMN_STOPPED_AT,
	COLUMN_SECONDS,
	COLUMN_DRAINED,
	COLUMN_JOURNALLED,
	COLUMN_FORCED,
	COLUMNS
};

/* When it was, and where that is written */
typedef struct Record
{
	TimestampTz stopped_at;
	ItemPointerData tid;
} Record;

static int
compare_records(const void *a, const void *b)
{
	TimestampTz left = ((const Record *) a)->stopped_at;
	TimestampTz right = ((const Record *) b)->stopped_at;

	return left < right ? 1 : left > right ? -1 : 0;
}

/* Delete all but the latest. */
static void
forget_old(Relation rel)
{
	TableScanDesc scan = pp_table_beginscan(rel, GetActiveSnapshot());
	int max = KEPT_STOPS + 16;
	int n = 0;
	Record *records = palloc(max * sizeof(Record));
	HeapTuple tuple;

	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		bool is_null;

		if (n == max)
		{
			max *= 2;
			records = repalloc(records, max * sizeof(Record));
		}
		records[n].stopped_at = DatumGetTimestampTz(
			heap_getattr(tuple, COLUMN_STOPPED_AT + 1, RelationGetDescr(rel), &is_null));
		records[n++].tid = tuple->t_self;
	}
	table_endscan(scan);

	qsort(records, n, sizeof(Record), compare_records);
	for (int i = KEPT_STOPS - 1; i < n; i++)
		simple_heap_delete(rel, &records[i].tid);
}

static void
insert(Relation rel, const PpStop *stop)
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {false};

	values[COLUMN_STOPPED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[COLUMN_SECONDS] = Float8GetDatum(stop->seconds);
	values[COLUMN_DRAINED] = Int64GetDatum(stop->drained);
	values[COLUMN_JOURNALLED] = Int64GetDatum(stop->journalled);
	values[COLUMN_FORCED] = BoolGetDatum(stop->forced);
	heap_insert(rel, heap_form_tuple(RelationGetDescr(rel), values, nulls),
				GetCurrentCommandId(true), HEAP_INSERT_NO_LOGICAL, NULL);
}

/*
 * Record a stop, outside a transaction.  A stop must not hang or fail for the
 * sake of its record: where that can't be written at once, the log has to do.
 */
void
pp_history_record(const PpStop *stop)
{
	MemoryContext caller = CurrentMemoryContext;
	PpCatcher catcher = pp_catcher();

	PG_TRY();
	{
		Oid table;

		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		table = pp_extension_try_lock(pp_extension_oid(), "persist_shutdowns", RowExclusiveLock);
		if (OidIsValid(table))
		{
			Relation rel = relation_open(table, NoLock);

			forget_old(rel);
			insert(rel, stop);
			relation_close(rel, NoLock);
		}
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		ErrorData *error = pp_catch(&catcher);

		AbortCurrentTransaction();
		ereport(LOG, (errcode(error->sqlerrcode), errmsg("the stop was not recorded: SQLSTATE %s",
														 unpack_sql_state(error->sqlerrcode))));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
}

/* Say it in the log: a line, or a WARNING for one that was forced. */
void
pp_history_log(const PpStop *report, const char *database_name, uint64 reserved)
{
	if (!report->forced && report->journalled == 0)
		ereport(LOG,
				(errmsg("persist_pipeline worker for database \"%s\" stopped: %.3f s, "
						"%llu items drained, none left",
						database_name, report->seconds, (unsigned long long) report->drained)));
	else if (!report->forced)
		ereport(LOG, (errmsg("persist_pipeline worker for database \"%s\" stopped: %.3f s, "
							 "%llu items drained, %llu in the journal",
							 database_name, report->seconds, (unsigned long long) report->drained,
							 (unsigned long long) report->journalled)));
	else
		ereport(WARNING,
				(errmsg("persist_pipeline worker for database \"%s\" was forced to stop: %.3f s, "
						"%llu items drained, %llu in the journal, %llu bytes in commit",
						database_name, report->seconds, (unsigned long long) report->drained,
						(unsigned long long) report->journalled, (unsigned long long) reserved),
				 errdetail("Items in the journal are written after the next start."),
				 errhint("Increase \"persist_pipeline.shutdown_timeout\".")));
}
