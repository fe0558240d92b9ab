/*-------------------------------------------------------------------------
 *
 * views.c
 *	  The functions behind the views: rows from shared memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "config.h"
#include "copied.h"
#include "extension.h"
#include "lane.h"

#define QUEUE_COLUMNS 16
#define FIRST_LANE_COLUMN 1
#define COPIED_COLUMN 15

PG_FUNCTION_INFO_V1(persist_queue_rows);

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

static Interval *
seconds(double n)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->time = (TimeOffset) (n * USECS_PER_SEC);
	return interval;
}

/* The columns of a database's lane; `paused` is a state of a lane without worker. */
static void
fill_lane(PpLane *lane, Datum *values, bool *nulls)
{
	PpRingView view = pp_ring_view(&lane->ring);
	pid_t pid;
	PpWorkerState state;
	bool paused;
	uint64 batches;
	uint64 failed;
	uint64 written;
	uint64 pending = pp_ring_pending(&view);
	double rate;
	int i = FIRST_LANE_COLUMN;

	SpinLockAcquire(&lane->mutex);
	pid = lane->worker_pid;
	state = lane->worker_state;
	paused = lane->paused;
	batches = lane->batches;
	failed = lane->failed;
	written = lane->written;
	rate = lane->rate;
	SpinLockRelease(&lane->mutex);

	nulls[i] = pid == 0;
	values[i++] = Int32GetDatum(pid);
	values[i++] = CStringGetTextDatum(pid == 0 && paused ? "paused" : state_name(state));
	values[i++] = Int64GetDatum(view.tail - view.head + view.reserved);
	values[i++] = Int64GetDatum(lane->ring.size);
	values[i++] = Int64GetDatum(view.peak);
	values[i++] = BoolGetDatum(view.closed);
	values[i++] = Int64GetDatum(pending);
	values[i++] = Int64GetDatum(written);
	values[i++] = Int64GetDatum(failed);
	values[i++] = Int64GetDatum(batches);
	values[i++] = BoolGetDatum(view.diverted || view.pass || view.recovering);
	values[i++] = Int64GetDatum(pp_quota_held(&lane->quota, PP_STORE_JOURNAL));
	nulls[i] = rate <= 0;
	values[i++] = Float8GetDatum(rate);
	nulls[i] = rate <= 0 || pid == 0;
	values[i++] = IntervalPGetDatum(seconds(rate > 0 ? pending / rate : 0));
	Assert(i == COPIED_COLUMN);
}

/* lane: NULL, if it has none; copied: only known of our own database. */
static void
put_database(ReturnSetInfo *rsinfo, Oid database, PpLane *lane, uint64 copied)
{
	Datum values[QUEUE_COLUMNS] = {0};
	bool nulls[QUEUE_COLUMNS] = {false};

	values[0] = ObjectIdGetDatum(database);
	if (lane)
		fill_lane(lane, values, nulls);
	else
		memset(nulls + FIRST_LANE_COLUMN, true, COPIED_COLUMN - FIRST_LANE_COLUMN);
	nulls[COPIED_COLUMN] = database != MyDatabaseId;
	values[COPIED_COLUMN] = Int64GetDatum(copied);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/*
 * persist_queue_rows(): a row per database in use, and one for ours if items wait in
 * it that came with a copy; see the view persist_queue.
 */
Datum
persist_queue_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	uint64 copied;
	bool seen = false;

	InitMaterializedSRF(fcinfo, 0);
	if (pp_shared == NULL)
		return (Datum) 0;

	copied = pp_copied_count(pp_extension_oid());
	for (int i = 0; i < pp_max_databases; i++)
	{
		Oid database = pp_lane_database(pp_lane(i));

		if (!OidIsValid(database))
			continue;
		seen |= database == MyDatabaseId;
		put_database(rsinfo, database, pp_lane(i), copied);
	}
	if (!seen && copied > 0)
		put_database(rsinfo, MyDatabaseId, NULL, copied);

	return (Datum) 0;
}
