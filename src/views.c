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
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "compat.h"
#include "config.h"
#include "lane.h"

#define QUEUE_COLUMNS 11

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

static void
put_lane(ReturnSetInfo *rsinfo, PpLane *lane, Oid database)
{
	Datum values[QUEUE_COLUMNS];
	bool nulls[QUEUE_COLUMNS] = {false};
	PpRingView view = pp_ring_view(&lane->ring);
	pid_t pid;
	PpWorkerState state;
	uint64 batches;
	uint64 failed;
	uint64 written;
	int i = 0;

	SpinLockAcquire(&lane->mutex);
	pid = lane->worker_pid;
	state = lane->worker_state;
	batches = lane->batches;
	failed = lane->failed;
	written = lane->written;
	SpinLockRelease(&lane->mutex);

	values[i++] = ObjectIdGetDatum(database);
	nulls[i] = pid == 0;
	values[i++] = Int32GetDatum(pid);
	values[i++] = CStringGetTextDatum(state_name(state));
	values[i++] = Int64GetDatum(view.tail - view.head + view.reserved);
	values[i++] = Int64GetDatum(lane->ring.size);
	values[i++] = Int64GetDatum(view.peak);
	values[i++] = BoolGetDatum(view.closed);
	values[i++] = Int64GetDatum(view.published - view.settled + view.diverted_items);
	values[i++] = Int64GetDatum(written);
	values[i++] = Int64GetDatum(failed);
	values[i++] = Int64GetDatum(batches);
	Assert(i == QUEUE_COLUMNS);

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* persist_queue_rows(): a row per database in use; see the view persist_queue. */
Datum
persist_queue_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	if (pp_shared == NULL)
		return (Datum) 0;

	for (int i = 0; i < pp_max_databases; i++)
	{
		Oid database = pp_lane_database(pp_lane(i));

		if (OidIsValid(database))
			put_lane(rsinfo, pp_lane(i), database);
	}
	return (Datum) 0;
}
