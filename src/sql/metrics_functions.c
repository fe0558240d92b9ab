/*-------------------------------------------------------------------------
 *
 * metrics_functions.c
 *	  The functions behind the view persist_metrics: what shared memory has counted of this
 *	  database, and how long its stops have taken.
 *
 * No item is looked at: what a scrape costs doesn't depend on how many wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/config.h"
#include "base/extension.h"
#include "ring/slots.h"
#include "store/shutdowns.h"

PG_FUNCTION_INFO_V1(persist_metric_rows);
PG_FUNCTION_INFO_V1(persist_counted_rows);

/* label: NULL: it has none */
static void
put(ReturnSetInfo *rsinfo, const char *metric, const char *label, double value)
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
		put(rsinfo, bucket, i < PP_BUCKETS - 1 ? psprintf("%.10g", bounds[i] / unit) : "+Inf", n);
	}
	put(rsinfo, psprintf("%s_sum", metric), NULL, histogram->sum / unit);
	put(rsinfo, psprintf("%s_count", metric), NULL, n);
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
	put(rsinfo, "forced_shutdowns_total", NULL, stops.forced);
	put(rsinfo, "journal_limit_bytes", NULL, pp_config_journal_limit * 1024.0);
	put(rsinfo, "dead_letter_limit", NULL, pp_config_dead_letter_limit);
	put(rsinfo, "preloaded", NULL, pp_shmem != NULL);
	if (pp_shmem == NULL)
		return (Datum) 0;

	counts = pp_slot_counts(MyDatabaseId); /* all 0 if nothing has been counted */
	put(rsinfo, "enqueued_total", NULL, counts.enqueued);
	put(rsinfo, "persisted_total", NULL, counts.written);
	put(rsinfo, "dead_total", NULL, counts.failed);
	put(rsinfo, "batches_total", NULL, counts.batches);
	put(rsinfo, "worker_failures_total", NULL, counts.trouble.failures);
	put_histogram(rsinfo, "commit_to_visible_seconds", &counts.metrics.visible,
				  pp_metrics_time_bounds, 1e6);
	put_histogram(rsinfo, "batch_seconds", &counts.metrics.batch_seconds, pp_metrics_time_bounds,
				  1e6);
	put_histogram(rsinfo, "batch_items", &counts.metrics.batch_items, pp_metrics_item_bounds, 1);
	for (int i = 0; i < PP_ERROR_CLASSES; i++)
		put(rsinfo, "errors_total", pp_metrics_error_class_name(i), counts.metrics.errors[i]);

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
has_nothing(void)
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
	if (pp_shmem == NULL || (slot ? !pp_counters_are_counted(&slot->counters) : !has_nothing()))
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
