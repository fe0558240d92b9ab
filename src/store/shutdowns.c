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

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/extension.h"
#include "base/savepoint.h"
#include "base/table.h"
#include "ring/metrics.h"
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
	COLUMN_ALL_STOPS, /* from 1.1 on, and those behind it */
	COLUMN_ALL_SECONDS,
	COLUMN_ALL_FORCED,
	COLUMNS
};

/* When it was, and where that is written */
typedef struct Record
{
	TimestampTz stopped_at;
	ItemPointerData tid;
} Record;

static uint64
count(const PpStops *stops)
{
	uint64 n = 0;

	for (int i = 0; i < PP_BUCKETS; i++)
		n += stops->seconds.buckets[i];
	return n;
}

static void
add_stop(PpStops *stops, double seconds, bool forced)
{
	uint64 us = seconds * 1e6;

	pp_metrics_observe(&stops->seconds, pp_metrics_bucket(pp_metrics_time_bounds, us), us, 1);
	stops->forced += forced;
}

/* All stops until the one of this row; none, if 1.0 has written it */
static PpStops
get_all(Relation rel, HeapTuple tuple)
{
	Datum array = pp_table_get(rel, tuple, COLUMN_ALL_STOPS);
	PpStops all = {0};
	Datum *elements;
	int n;

	if (DatumGetPointer(array) == NULL)
		return all;
	all.seconds.sum = DatumGetFloat8(pp_table_get(rel, tuple, COLUMN_ALL_SECONDS)) * 1e6;
	all.forced = pp_table_int64(rel, tuple, COLUMN_ALL_FORCED);
	deconstruct_array(DatumGetArrayTypeP(array), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, NULL, &n);
	for (int i = 0; i < Min(n, PP_BUCKETS); i++)
		all.seconds.buckets[i] = DatumGetInt64(elements[i]);
	return all;
}

static void
put_all(const PpStops *all, Datum *values)
{
	Datum elements[PP_BUCKETS];

	for (int i = 0; i < PP_BUCKETS; i++)
		elements[i] = Int64GetDatum(all->seconds.buckets[i]);
	values[COLUMN_ALL_STOPS] = PointerGetDatum(construct_array(
		elements, PP_BUCKETS, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[COLUMN_ALL_SECONDS] = Float8GetDatum(all->seconds.sum / 1e6);
	values[COLUMN_ALL_FORCED] = Int64GetDatum(all->forced);
}

/* The later one: the clock may have been set back, but there are more and more stops. */
static PpStops
later(PpStops a, PpStops b)
{
	return count(&a) > count(&b) ? a : b;
}

/* All stops, as rows are read one after the other */
typedef struct Sum
{
	PpStops all;  /* as the latest row has it */
	PpStops rows; /* where no row has it yet: those that are there */
} Sum;

static void
sum_row(Sum *sum, Relation rel, HeapTuple tuple)
{
	sum->all = later(sum->all, get_all(rel, tuple));
	add_stop(&sum->rows, DatumGetFloat8(pp_table_get(rel, tuple, COLUMN_SECONDS)),
			 pp_table_bool(rel, tuple, COLUMN_FORCED));
}

static PpStops
total_of(const Sum *sum)
{
	return count(&sum->all) > 0 ? sum->all : sum->rows;
}

static int
compare_records(const void *a, const void *b)
{
	TimestampTz left = ((const Record *) a)->stopped_at;
	TimestampTz right = ((const Record *) b)->stopped_at;

	return left < right ? 1 : left > right ? -1 : 0;
}

/* Delete all but the latest.  Returns all that there have been. */
static PpStops
forget_old(PpTable *table)
{
	Sum sum = {0};
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
		sum_row(&sum, table->rel, tuple);
		records[n].stopped_at = pp_table_time(table->rel, tuple, COLUMN_STOPPED_AT);
		records[n++].tid = tuple->t_self;
	}
	qsort(records, n, sizeof(Record), compare_records);
	for (int i = KEPT_STOPS - 1; i < n; i++)
		(void) pp_table_delete(table, &records[i].tid, true);
	return total_of(&sum);
}

static void
insert_shutdown(PpTable *table, const PpStop *stop, PpStops all)
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {false};

	add_stop(&all, stop->seconds, stop->forced);
	values[COLUMN_STOPPED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[COLUMN_SECONDS] = Float8GetDatum(stop->seconds);
	values[COLUMN_DRAINED] = Int64GetDatum(stop->drained);
	values[COLUMN_JOURNALLED] = Int64GetDatum(stop->journalled);
	values[COLUMN_FORCED] = BoolGetDatum(stop->forced);
	put_all(&all, values);
	pp_table_insert(table, values, nulls);
}

static void
record(void *stop)
{
	Oid extension = pp_extension_oid();
	PpTable table;
	PpStops all;

	if (!OidIsValid(pp_extension_try_lock(extension, TABLE, RowExclusiveLock)))
		return;
	table = pp_table_open_to_write(extension, TABLE);
	all = forget_old(&table);
	insert_shutdown(&table, stop, all);
	pp_table_close(&table);
}

/* All stops that there have been. */
PpStops
pp_shutdowns_all(Oid extension)
{
	PpTable table = pp_table_open(extension, TABLE, AccessShareLock);
	Sum sum = {0};
	HeapTuple tuple;

	pp_table_scan(&table, pp_table_snapshot(), 0, NULL);
	while ((tuple = pp_table_next(&table)) != NULL)
		sum_row(&sum, table.rel, tuple);
	pp_table_close(&table);

	return total_of(&sum);
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
