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
#include "miscadmin.h"
#include "utils/builtins.h"

#include "base/config.h"
#include "base/extension.h"
#include "producer/admission.h"
#include "ring/slots.h"
#include "store/pause.h"

#define COLUMNS 17

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
	Datum values[COLUMNS] = {0};
	bool nulls[COLUMNS] = {false};
	const char *fault;
	Oid extension = pp_extension_find(&fault);
	bool works = OidIsValid(extension) && fault == NULL;
	Oid role;
	double role_fill = find_fullest_role(&role);
	int i = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (desc->natts != COLUMNS)
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
	values[i++] = seconds((int64) pp_config_flush_interval + pp_config_ring_window);
	values[i++] = seconds(pp_config_health_degraded_age);
	values[i++] = seconds(pp_config_health_unhealthy_age);
	values[i++] = Float8GetDatum(pp_config_health_degraded_fill);
	values[i++] = Float8GetDatum(pp_config_health_unhealthy_fill);
	values[i++] = seconds(pp_config_health_stall_time);
	values[i++] = seconds(pp_config_health_dead_letter_window);
	values[i++] = seconds(pp_config_health_failure_window);
	values[i++] = Float8GetDatum(role_fill);
	nulls[i] = !OidIsValid(role);
	values[i++] = OidIsValid(role) ? role_name(role) : (Datum) 0;
	Assert(i == COLUMNS);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}
