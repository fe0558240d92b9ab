/*-------------------------------------------------------------------------
 *
 * shutdowns.c
 *	  Records stops; see shutdowns.h.
 *
 * Without SQL: no code that is attached to the table runs, and what is written is not
 * decoded (a publication of all tables would else forbid to delete).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/extension.h"
#include "base/savepoint.h"
#include "base/table.h"
#include "store/shutdowns.h"

#define TABLE "persist_shutdowns"
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
forget_old(PpTable *table)
{
	int max = KEPT_STOPS + 16;
	int n = 0;
	Record *records = palloc(max * sizeof(Record));
	HeapTuple tuple;

	pp_table_scan(table, GetActiveSnapshot(), 0, NULL);
	while ((tuple = pp_table_next(table)) != NULL)
	{
		if (n == max)
		{
			max *= 2;
			records = repalloc(records, max * sizeof(Record));
		}
		records[n].stopped_at = pp_table_time(table->rel, tuple, COLUMN_STOPPED_AT);
		records[n++].tid = tuple->t_self;
	}
	qsort(records, n, sizeof(Record), compare_records);
	for (int i = KEPT_STOPS - 1; i < n; i++)
		(void) pp_table_delete(table, &records[i].tid, true);
}

static void
insert(PpTable *table, const PpStop *stop)
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {false};

	values[COLUMN_STOPPED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[COLUMN_SECONDS] = Float8GetDatum(stop->seconds);
	values[COLUMN_DRAINED] = Int64GetDatum(stop->drained);
	values[COLUMN_JOURNALLED] = Int64GetDatum(stop->journalled);
	values[COLUMN_FORCED] = BoolGetDatum(stop->forced);
	pp_table_insert(table, values, nulls);
}

static void
record(void *stop)
{
	Oid extension = pp_extension_oid();
	PpTable table;

	if (!OidIsValid(pp_extension_try_lock(extension, TABLE, RowExclusiveLock)))
		return;
	table = pp_table_open_to_write(extension, TABLE);
	forget_old(&table);
	insert(&table, stop);
	pp_table_close(&table);
}

/*
 * Record a stop, outside a transaction.  A stop must not hang or fail for the
 * sake of its record: where that can't be written at once, the log has to do.
 */
void
pp_shutdowns_record(const PpStop *stop)
{
	ErrorData *error = pp_savepoint_run_in_transaction(record, unconstify(PpStop *, stop));

	if (error)
		ereport(LOG, (errcode(error->sqlerrcode), errmsg("the stop was not recorded: SQLSTATE %s",
														 unpack_sql_state(error->sqlerrcode))));
}

/* Say it in the log: a line, or a WARNING for one that was forced. */
void
pp_shutdowns_log(const PpStop *report, const char *database_name, uint64 reserved)
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
