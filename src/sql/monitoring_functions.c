/*-------------------------------------------------------------------------
 *
 * monitoring_functions.c
 *	  The functions behind the views persist_queue, persist_stats, persist_metrics and their like,
 *	  and what persist_health() can't ask in SQL: what shared memory has counted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/config.h"
#include "base/extension.h"
#include "base/reasons.h"
#include "base/table.h"
#include "producer/admission.h"
#include "ring/slots.h"
#include "store/copied.h"
#include "store/journal.h"
#include "store/parked_table.h"
#include "store/pause.h"
#include "store/settings.h"
#include "store/shutdowns.h"

#define QUEUE_COLUMNS_1_0 23
#define QUEUE_COLUMNS 32
#define WAITING_COLUMNS_1_0 4
#define WAITING_COLUMNS 6
#define FIRST_SLOT_COLUMN 1
#define STATE_COLUMN 2
#define PENDING_COLUMN 7 /* items_parked, items_persisted and items_failed follow */
#define BATCHES_COLUMN 11
#define RETRIER_COLUMN 17 /* its pid; state, target, since follow */
#define COPIED_COLUMN 21
#define STUCK_COLUMN 22
#define STATE_SINCE_COLUMN 23 /* diverted_since follows */
#define OLDEST_COLUMN 25	  /* parked_since follows */
#define ERROR_COLUMN 27		  /* its time, failures, and their times follow */
#define BOUNDED_COLUMN 31
#define HEALTH_COLUMNS 17

PG_FUNCTION_INFO_V1(persist_queue_rows);
PG_FUNCTION_INFO_V1(persist_queue_rows_1_1);
PG_FUNCTION_INFO_V1(persist_waiting_rows);
PG_FUNCTION_INFO_V1(persist_waiting_rows_1_1);
PG_FUNCTION_INFO_V1(persist_metric_rows);
PG_FUNCTION_INFO_V1(persist_counted_rows);
PG_FUNCTION_INFO_V1(persist_health_facts);

/* ---- persist_queue_rows ---- */

/*
 * A set of rows with so many columns, which the function's version of the SQL has: the first ones
 * of what is put into it, since a newer version has its own behind them.
 */
static void
begin_rows(FunctionCallInfo fcinfo, int columns)
{
	InitMaterializedSRF(fcinfo, 0);
	if (((ReturnSetInfo *) fcinfo->resultinfo)->setDesc->natts != columns)
		elog(ERROR, "incorrect number of output arguments");
}

static const char *
state_name(PpWorkerState state)
{
	switch (state)
	{
		case PP_WORKER_NONE:
			return "not running";
		case PP_WORKER_IDLE:
			return "idle";
		case PP_WORKER_GATHERING:
			return "gathering";
		case PP_WORKER_WRITING:
			return "writing";
		case PP_WORKER_RETRYING:
			return "retrying";
		case PP_WORKER_STOPPING:
			return "stopping";
	}
	return "unknown"; /* not reached */
}

static const char *
retrier_state_name(PpRetrierState state)
{
	switch (state)
	{
		case PP_RETRIER_NONE:
			return "not running";
		case PP_RETRIER_WAITING:
			return "waiting";
		case PP_RETRIER_WRITING:
			return "writing";
		case PP_RETRIER_STUCK:
			return "stuck";
	}
	return "unknown"; /* not reached */
}

static Interval *
interval_of(double n)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = (TimeOffset) (n * USECS_PER_SEC);
	return interval;
}

static void
put_time(Datum *values, bool *nulls, int column, PpSteady then)
{
	nulls[column] = then == 0;
	values[column] = TimestampTzGetDatum(then == 0 ? 0 : pp_steady_to_day(then));
}

static void
fill_trouble(const PpTrouble *trouble, Datum *values, bool *nulls)
{
	Datum failed_at[PP_FAILURES];
	int n = 0;
	int i = ERROR_COLUMN;

	nulls[i] = trouble->sqlstate == 0;
	values[i++] = CStringGetTextDatum(unpack_sql_state(trouble->sqlstate));
	put_time(values, nulls, i++, trouble->error_at);
	nulls[i] = false;
	values[i++] = Int64GetDatum(trouble->failures);
	while (n < PP_FAILURES && trouble->failed_at[n] != 0)
	{
		failed_at[n] = TimestampTzGetDatum(pp_steady_to_day(trouble->failed_at[n]));
		n++;
	}
	nulls[i] = n == 0;
	values[i] = PointerGetDatum(construct_array(failed_at, n, TIMESTAMPTZOID, sizeof(TimestampTz),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static void
fill_stuck(PpSlot *slot, Oid database, Datum *values, bool *nulls)
{
	PpStuck stuck[PP_STUCK];
	Datum pids[PP_STUCK];
	int n = 0;

	SpinLockAcquire(&slot->mutex);
	memcpy(stuck, slot->stuck, sizeof(stuck));
	SpinLockRelease(&slot->mutex);
	for (int i = 0; i < PP_STUCK; i++)
	{
		if (stuck[i].pid != 0 && stuck[i].database == database)
			pids[n++] = Int32GetDatum(stuck[i].pid);
	}
	nulls[STUCK_COLUMN] = n == 0;
	values[STUCK_COLUMN] =
		PointerGetDatum(construct_array(pids, n, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

/*
 * The columns of a database's slot, with what slots before have counted; `paused` is a state
 * of a slot without worker.
 */
static void
fill_slot(const PpDatabase *known, PpSlot *slot, Datum *values, bool *nulls)
{
	PpRingView view = pp_ring_view(&slot->ring);
	pid_t pid;
	PpWorkerState state;
	bool paused;
	uint64 batches;
	uint64 failed;
	uint64 written;
	uint64 pending = pp_ring_pending(&view);
	uint64 parked = pp_counters_parked(&slot->counters);
	double rate;
	PpRetrier retrier;
	PpSteady since;
	PpTrouble trouble;
	int i = FIRST_SLOT_COLUMN;

	SpinLockAcquire(&slot->mutex);
	pid = slot->worker_pid;
	state = slot->worker_state;
	paused = slot->paused;
	batches = slot->batches;
	failed = slot->failed;
	written = slot->written;
	rate = slot->rate;
	retrier = slot->retrier;
	since = slot->worker_since;
	trouble = slot->trouble;
	SpinLockRelease(&slot->mutex);

	nulls[i] = pid == 0;
	values[i++] = Int32GetDatum(pid);
	values[i++] = CStringGetTextDatum(pid == 0 && paused ? "paused" : state_name(state));
	values[i++] = Int64GetDatum(view.tail - view.head + view.reserved);
	values[i++] = Int64GetDatum(slot->ring.size);
	values[i++] = Int64GetDatum(view.peak);
	values[i++] = BoolGetDatum(view.closed);
	values[i++] = Int64GetDatum(pending + parked);
	values[i++] = Int64GetDatum(parked);
	values[i++] = Int64GetDatum(known->written + written);
	values[i++] = Int64GetDatum(known->failed + failed);
	values[i++] = Int64GetDatum(known->batches + batches);
	values[i++] = BoolGetDatum(view.diverted || view.pass || view.recovering);
	values[i++] = Int64GetDatum(pp_quota_charged(&slot->quota, PP_STORE_JOURNAL));
	nulls[i] = rate <= 0;
	values[i++] = Float8GetDatum(rate);
	nulls[i] = rate <= 0 || pid == 0;
	values[i++] = IntervalPGetDatum(interval_of(rate > 0 ? pending / rate : 0));
	nulls[i] = view.at_risk_since == 0;
	values[i++] = TimestampTzGetDatum(pp_steady_to_day(view.at_risk_since));
	Assert(i == RETRIER_COLUMN);
	nulls[i] = retrier.pid == 0;
	values[i++] = Int32GetDatum(retrier.pid);
	values[i++] = CStringGetTextDatum(retrier_state_name(retrier.state));
	nulls[i] = !OidIsValid(retrier.target);
	values[i++] = ObjectIdGetDatum(retrier.target);
	nulls[i] = retrier.pid == 0;
	values[i++] = TimestampTzGetDatum(retrier.pid != 0 ? pp_steady_to_day(retrier.since) : 0);
	Assert(i == COPIED_COLUMN);
	fill_stuck(slot, known->database, values, nulls);
	put_time(values, nulls, STATE_SINCE_COLUMN, since);
	put_time(values, nulls, STATE_SINCE_COLUMN + 1, view.diverted_since);
	put_time(values, nulls, OLDEST_COLUMN, pp_ring_oldest(&slot->ring));
	put_time(values, nulls, OLDEST_COLUMN + 1, pp_counters_parked_since(&slot->counters));
	fill_trouble(&trouble, values, nulls);
	put_time(values, nulls, BOUNDED_COLUMN, pp_ring_bounded_since(&slot->ring));
}

/* The same of one without a slot: what it had is known, unless something has come since. */
static void
fill_known(const PpDatabase *known, Datum *values, bool *nulls)
{
	memset(nulls + FIRST_SLOT_COLUMN, true, QUEUE_COLUMNS - FIRST_SLOT_COLUMN);
	nulls[STATE_COLUMN] = false;
	memset(nulls + PENDING_COLUMN, false, BATCHES_COLUMN - PENDING_COLUMN + 1);
	nulls[PENDING_COLUMN] = known->waits;
	values[STATE_COLUMN] =
		CStringGetTextDatum(known->paused ? "paused" : state_name(PP_WORKER_NONE));
	values[PENDING_COLUMN] = Int64GetDatum(known->parked);
	values[PENDING_COLUMN + 1] = Int64GetDatum(known->parked);
	values[PENDING_COLUMN + 2] = Int64GetDatum(known->written);
	values[PENDING_COLUMN + 3] = Int64GetDatum(known->failed);
	values[BATCHES_COLUMN] = Int64GetDatum(known->batches);
	nulls[RETRIER_COLUMN + 1] = false;
	values[RETRIER_COLUMN + 1] = CStringGetTextDatum(retrier_state_name(PP_RETRIER_NONE));
	put_time(values, nulls, OLDEST_COLUMN,
			 known->waits && known->wanted_at <= pp_steady_now() ? known->wanted_at : 0);
	put_time(values, nulls, OLDEST_COLUMN + 1, known->parked > 0 ? known->parked_since : 0);
	fill_trouble(&known->trouble, values, nulls);
}

/* slot: NULL, if it has none; copied: only known of our own database. */
static void
put_database(ReturnSetInfo *rsinfo, const PpDatabase *known, PpSlot *slot, uint64 copied)
{
	Oid database = known->database;
	Datum values[QUEUE_COLUMNS] = {0};
	bool nulls[QUEUE_COLUMNS] = {false};

	values[0] = ObjectIdGetDatum(database);
	if (slot)
		fill_slot(known, slot, values, nulls);
	else
		fill_known(known, values, nulls);
	nulls[COPIED_COLUMN] = database != MyDatabaseId || copied == PP_COPIED_UNKNOWN;
	values[COPIED_COLUMN] = Int64GetDatum(copied);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static Datum
queue_rows(FunctionCallInfo fcinfo, int columns)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	uint64 copied;
	List *shown = NIL;

	begin_rows(fcinfo, columns);
	if (pp_shmem == NULL)
		return (Datum) 0;

	copied = pp_copied_count(pp_extension_oid());
	for (int i = 0; i < PP_DATABASES; i++)
	{
		PpDatabase known;
		PpSlot *slot;

		if (!pp_slot_known(i, &known, &slot))
			continue;
		shown = list_append_unique_oid(shown, known.database);
		put_database(rsinfo, &known, slot, copied);
	}
	for (int i = 0; i < pp_config_max_databases; i++)
	{
		PpDatabase known = {.database = pp_slot_database(pp_shmem_slot(i))};

		if (!OidIsValid(known.database) || list_member_oid(shown, known.database))
			continue;
		shown = lappend_oid(shown, known.database);
		put_database(rsinfo, &known, pp_shmem_slot(i), copied);
	}
	if (copied > 0 && !list_member_oid(shown, MyDatabaseId))
		put_database(rsinfo, &(PpDatabase){.database = MyDatabaseId, .waits = true}, NULL, copied);

	return (Datum) 0;
}

/*
 * persist_queue_rows(): a row per database that has a slot, or is known otherwise; and one
 * for ours if items wait in it that came with a copy; see the view persist_queue.
 */
Datum
persist_queue_rows(PG_FUNCTION_ARGS)
{
	return queue_rows(fcinfo, QUEUE_COLUMNS_1_0);
}

/* The same of SQL 1.1 */
Datum
persist_queue_rows_1_1(PG_FUNCTION_ARGS)
{
	return queue_rows(fcinfo, QUEUE_COLUMNS);
}

/* ---- persist_waiting_rows ---- */

static void
put_waiting(ReturnSetInfo *rsinfo, Oid target, uint64 pending, uint64 parked, int sqlstate,
			TimestampTz parked_since, bool paused)
{
	const char *message = pp_reason_parked(sqlstate, paused);
	Datum values[WAITING_COLUMNS] = {ObjectIdGetDatum(target),
									 Int64GetDatum(pending + parked),
									 Int64GetDatum(parked),
									 sqlstate ? CStringGetTextDatum(unpack_sql_state(sqlstate))
											  : (Datum) 0,
									 TimestampTzGetDatum(parked_since),
									 CStringGetTextDatum(message)};
	bool nulls[WAITING_COLUMNS] = {false,		 false, false, sqlstate == 0, parked_since == 0,
								   sqlstate == 0};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
put_pending(Oid target, uint64 items, void *arg)
{
	put_waiting(arg, target, items, 0, 0, 0, false);
}

static bool
put_parked(const PpParkedRow *row, void *arg)
{
	if (!row->damaged)
		put_waiting(arg, row->target, 0, row->header.items, 0, row->parked_at, false);
	return true;
}

static Datum
waiting_rows(FunctionCallInfo fcinfo, int columns)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PpSlot *slot = pp_shmem ? pp_slot_find(MyDatabaseId) : NULL;
	Oid extension = pp_extension_oid();
	List *paused = pp_settings_paused(extension);
	PpCounter entries[PP_COUNTER_WAYS + 1];

	begin_rows(fcinfo, columns);
	if (slot == NULL || !pp_counters_are_counted(&slot->counters))
	{
		PushActiveSnapshot(pp_table_snapshot());
		pp_journal_scan_targets(extension, PG_UINT64_MAX, put_pending, rsinfo);
		pp_parked_table_scan(extension, put_parked, rsinfo);
		PopActiveSnapshot();
		return (Datum) 0;
	}
	for (int bucket = 0; bucket < PP_COUNTER_BUCKETS; bucket++)
	{
		int n = pp_counters_read(&slot->counters, bucket, entries);

		for (int i = 0; i < n; i++)
			put_waiting(rsinfo, entries[i].target, entries[i].pending, entries[i].parked,
						entries[i].sqlstate,
						entries[i].parked_since ? pp_steady_to_day(entries[i].parked_since) : 0,
						list_member_oid(paused, entries[i].target));
	}
	return (Datum) 0;
}

/*
 * persist_waiting_rows(): what waits for each target, in one row or more.  The slot knows
 * it; but one that no worker has had yet doesn't know what is older.
 */
Datum
persist_waiting_rows(PG_FUNCTION_ARGS)
{
	return waiting_rows(fcinfo, WAITING_COLUMNS_1_0);
}

/* The same of SQL 1.1 */
Datum
persist_waiting_rows_1_1(PG_FUNCTION_ARGS)
{
	return waiting_rows(fcinfo, WAITING_COLUMNS);
}

/*
 * ---- persist_metrics ----
 *
 * What shared memory has counted of this database, and how long its stops have taken.  No item is
 * looked at: what a scrape costs doesn't depend on how many wait.
 */

/* label: NULL: it has none */
static void
put_metric(ReturnSetInfo *rsinfo, const char *metric, const char *label, double value)
{
	Datum values[] = {CStringGetTextDatum(metric), label ? CStringGetTextDatum(label) : (Datum) 0,
					  Float8GetDatum(value)};
	bool nulls[] = {false, label == NULL, false};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* unit: how many of what it counts make one of what is shown */
static void
put_histogram(ReturnSetInfo *rsinfo, const char *metric, const PpHistogram *histogram,
			  const uint64 *bounds, double unit)
{
	char *bucket = psprintf("%s_bucket", metric);
	uint64 n = 0;

	for (int i = 0; i < PP_BUCKETS; i++)
	{
		n += histogram->buckets[i];
		put_metric(rsinfo, bucket,
				   i < PP_BUCKETS - 1 ? psprintf("%.10g", bounds[i] / unit) : "+Inf", n);
	}
	put_metric(rsinfo, psprintf("%s_sum", metric), NULL, histogram->sum / unit);
	put_metric(rsinfo, psprintf("%s_count", metric), NULL, n);
}

/* persist_metric_rows(): histograms and counters; see the view persist_metrics. */
Datum
persist_metric_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PpStops stops = pp_shutdowns_all(pp_extension_oid());
	PpDatabase counts;

	InitMaterializedSRF(fcinfo, 0);
	put_histogram(rsinfo, "shutdown_seconds", &stops.seconds, pp_metrics_time_bounds, 1e6);
	put_metric(rsinfo, "forced_shutdowns_total", NULL, stops.forced);
	put_metric(rsinfo, "journal_limit_bytes", NULL, pp_config_journal_limit * 1024.0);
	put_metric(rsinfo, "dead_letter_limit", NULL, pp_config_dead_letter_limit);
	put_metric(rsinfo, "preloaded", NULL, pp_shmem != NULL);
	if (pp_shmem == NULL)
		return (Datum) 0;

	counts = pp_slot_counts(MyDatabaseId); /* all 0 if nothing has been counted */
	put_metric(rsinfo, "enqueued_total", NULL, counts.enqueued);
	put_metric(rsinfo, "persisted_total", NULL, counts.written);
	put_metric(rsinfo, "dead_total", NULL, counts.failed);
	put_metric(rsinfo, "batches_total", NULL, counts.batches);
	put_metric(rsinfo, "worker_failures_total", NULL, counts.trouble.failures);
	put_histogram(rsinfo, "commit_to_visible_seconds", &counts.metrics.visible,
				  pp_metrics_time_bounds, 1e6);
	put_histogram(rsinfo, "batch_seconds", &counts.metrics.batch_seconds, pp_metrics_time_bounds,
				  1e6);
	put_histogram(rsinfo, "batch_items", &counts.metrics.batch_items, pp_metrics_item_bounds, 1);
	for (int i = 0; i < PP_ERROR_CLASSES; i++)
		put_metric(rsinfo, "errors_total", pp_metrics_error_class_name(i),
				   counts.metrics.errors[i]);

	return (Datum) 0;
}

static void
put_counted(ReturnSetInfo *rsinfo, Oid target, uint64 pending, uint64 parked)
{
	Datum values[] = {ObjectIdGetDatum(target), Int64GetDatum(pending + parked),
					  Int64GetDatum(parked)};
	bool nulls[] = {false, false, false};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Our database has no slot: does nothing wait in it? */
static bool
is_nothing_known(void)
{
	for (int i = 0; i < PP_DATABASES; i++)
	{
		PpDatabase known;
		PpSlot *slot;

		if (pp_slot_known(i, &known, &slot) && known.database == MyDatabaseId)
			return !known.waits && known.parked == 0;
	}
	return false;
}

/*
 * persist_counted_rows(): what waits for each target of this database, as persist_waiting_rows()
 * says, but without a look at the items: nothing at all, not even a row for target 0, where it
 * takes that to know.
 */
Datum
persist_counted_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	PpSlot *slot = pp_shmem ? pp_slot_find(MyDatabaseId) : NULL;
	PpCounter entries[PP_COUNTER_WAYS + 1];

	InitMaterializedSRF(fcinfo, 0);
	if (pp_shmem == NULL ||
		(slot ? !pp_counters_are_counted(&slot->counters) : !is_nothing_known()))
		return (Datum) 0;
	put_counted(rsinfo, InvalidOid, 0, 0);
	for (int bucket = 0; slot && bucket < PP_COUNTER_BUCKETS; bucket++)
	{
		int n = pp_counters_read(&slot->counters, bucket, entries);

		for (int i = 0; i < n; i++)
			put_counted(rsinfo, entries[i].target, entries[i].pending, entries[i].parked);
	}
	return (Datum) 0;
}

/*
 * ---- persist_health ----
 *
 * It judges in SQL (the view persist_health_reasons): what is there to be judged is rows, of the
 * views and of our own tables.  This runs no matter what is broken: where the library isn't
 * preloaded, on a standby, in a read-only transaction, and with the SQL of another version.
 */

static Datum
seconds_of(int64 ms)
{
	return Float8GetDatum(ms / 1000.0);
}

/* Bytes of a ring that callers may use: its worker keeps the rest. */
static uint64
ring_room(void)
{
	const PpRing *ring = &pp_shmem_slot(0)->ring; /* these are constant, and all the same */

	return ring->size - ring->kept;
}

/*
 * How many per cent of what it may hold of the journal does the role hold that is nearest to that?
 * 0 where a role may hold everything.  *role: InvalidOid: all that are counted as one.
 */
static double
find_fullest_role(Oid *role)
{
	PpSlot *slot = pp_shmem ? pp_slot_find(MyDatabaseId) : NULL;
	PpRoleQuota greatest;

	*role = InvalidOid;
	if (slot == NULL || pp_config_role_quota == 100)
		return 0;
	greatest = pp_quota_greatest(&slot->quota, PP_STORE_JOURNAL);
	*role = greatest.role;
	return 100.0 * greatest.charged[PP_STORE_JOURNAL] /
		   Max(1, pp_admission_quota(slot, PP_STORE_JOURNAL));
}

/* As text: a role that was dropped has but its OID. */
static Datum
role_name(Oid role)
{
	char *name = GetUserNameFromId(role, true);

	return CStringGetTextDatum(name ? name : psprintf("%u", role));
}

/*
 * persist_health_facts(): one row: whether the library is preloaded; what keeps the installation
 * from working, or that its SQL is older than the library, and which of both it is; whether calls
 * hand items to the worker; whether the database is paused; which role is nearest to its limit; and
 * the limits.
 */
Datum
persist_health_facts(PG_FUNCTION_ARGS)
{
	TupleDesc desc;
	Datum values[HEALTH_COLUMNS] = {0};
	bool nulls[HEALTH_COLUMNS] = {false};
	const char *fault;
	Oid extension = pp_extension_find(&fault);
	bool works = OidIsValid(extension) && fault == NULL;
	Oid role;
	double role_fill = find_fullest_role(&role);
	int i = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (desc->natts != HEALTH_COLUMNS)
		elog(ERROR, "incorrect number of output arguments");
	if (works)
		fault = pp_extension_outdated(extension);
	values[i++] = BoolGetDatum(pp_shmem != NULL);
	nulls[i] = fault == NULL;
	values[i++] = fault ? CStringGetTextDatum(fault) : (Datum) 0;
	values[i++] = BoolGetDatum(works);
	values[i++] = BoolGetDatum(pp_config_mode == PP_MODE_ASYNC);
	values[i++] = BoolGetDatum(OidIsValid(extension) && pp_pause_is_on(extension));
	nulls[i] = pp_shmem == NULL;
	values[i++] = Int64GetDatum(pp_shmem ? ring_room() : 0);
	values[i++] = Int64GetDatum((int64) pp_config_journal_limit * 1024);
	values[i++] = seconds_of((int64) pp_config_flush_interval + pp_config_ring_window);
	values[i++] = seconds_of(pp_config_health_degraded_age);
	values[i++] = seconds_of(pp_config_health_unhealthy_age);
	values[i++] = Float8GetDatum(pp_config_health_degraded_fill);
	values[i++] = Float8GetDatum(pp_config_health_unhealthy_fill);
	values[i++] = seconds_of(pp_config_health_stall_time);
	values[i++] = seconds_of(pp_config_health_dead_letter_window);
	values[i++] = seconds_of(pp_config_health_failure_window);
	values[i++] = Float8GetDatum(role_fill);
	nulls[i] = !OidIsValid(role);
	values[i++] = OidIsValid(role) ? role_name(role) : (Datum) 0;
	Assert(i == HEALTH_COLUMNS);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}
