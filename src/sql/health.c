/*-------------------------------------------------------------------------
 *
 * health.c
 *	  What persist_health() can't ask in SQL.
 *
 * It judges in SQL (the view persist_health_reasons): what is there to be judged is rows, of the
 * views and of our own tables.  This runs no matter what is broken: where the library isn't
 * preloaded, on a standby, in a read-only transaction, and with the SQL of another version.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "base/config.h"
#include "base/extension.h"
#include "ring/shmem.h"
#include "store/pause.h"

#define COLUMNS 14

PG_FUNCTION_INFO_V1(persist_health_facts);

static Datum
seconds(int64 ms)
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
 * persist_health_facts(): one row: whether the library is preloaded; what keeps the installation
 * from working, or that its SQL is older than the library; whether calls hand items to the worker;
 * whether the database is paused; and the limits.
 */
Datum
persist_health_facts(PG_FUNCTION_ARGS)
{
	TupleDesc desc;
	Datum values[COLUMNS] = {0};
	bool nulls[COLUMNS] = {false};
	const char *fault;
	Oid extension = pp_extension_find(&fault);
	int i = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (OidIsValid(extension) && fault == NULL)
		fault = pp_extension_outdated(extension);
	values[i++] = BoolGetDatum(pp_shmem != NULL);
	nulls[i] = fault == NULL;
	values[i++] = fault ? CStringGetTextDatum(fault) : (Datum) 0;
	values[i++] = BoolGetDatum(pp_config_mode == PP_MODE_ASYNC);
	values[i++] = BoolGetDatum(OidIsValid(extension) && pp_pause_is_on(extension));
	nulls[i] = pp_shmem == NULL;
	values[i++] = Int64GetDatum(pp_shmem ? ring_room() : 0);
	values[i++] = Int64GetDatum((int64) pp_config_journal_limit * 1024);
	values[i++] = seconds((int64) pp_config_flush_interval + pp_config_ring_window);
	values[i++] = seconds(pp_config_health_degraded_age);
	values[i++] = seconds(pp_config_health_unhealthy_age);
	values[i++] = Float8GetDatum(pp_config_health_degraded_fill);
	values[i++] = Float8GetDatum(pp_config_health_unhealthy_fill);
	values[i++] = seconds(pp_config_health_stall_time);
	values[i++] = seconds(pp_config_health_dead_letter_window);
	values[i++] = seconds(pp_config_health_failure_window);
	Assert(i == COLUMNS);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}
