/*-------------------------------------------------------------------------
 *
 * flush_notice.c
 *	  Says why persist_flush returns false; see flush_notice.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/reasons.h"
#include "ring/slots.h"
#include "sql/flush_notice.h"
#include "store/layouts.h"
#include "store/settings.h"

#define MAX_NAMED 5 /* relations, each with a NOTICE of its own */

/* How many items wait, parked ones too? */
static uint64
count_waiting(PpSlot *slot)
{
	PpRingView view = pp_ring_view(&slot->ring);

	return pp_ring_pending(&view) + pp_counters_parked(&slot->counters);
}

/* Why the worker waits, as a sentence; NULL: it does not, or not after an error. */
char *
pp_flush_notice_backs_off(PpSlot *slot)
{
	int sqlstate;

	SpinLockAcquire(&slot->mutex);
	sqlstate = slot->worker_state == PP_WORKER_RETRYING ? slot->backs_off_sqlstate : 0;
	SpinLockRelease(&slot->mutex);
	return sqlstate == 0
			   ? NULL
			   : psprintf("The worker has met an error, and tries again: SQLSTATE %s, %s.",
						  unpack_sql_state(sqlstate), pp_reason(sqlstate));
}

/* How much waits, and for what else than the time that it takes. */
static char *
describe_waiting(PpSlot *slot, bool paused)
{
	uint64 n;
	char *wait;
	char *error;

	if (slot == NULL)
		return paused ? "Items wait."
					  : "Items wait for a ring: see \"persist_pipeline.max_databases\".";
	n = count_waiting(slot);
	wait = psprintf(n == 1 ? "%llu item waits." : "%llu items wait.", (unsigned long long) n);
	error = pp_flush_notice_backs_off(slot);
	return error ? psprintf("%s %s", wait, error) : wait;
}

/* As shared memory knows it: the time is over, so this must not wait for the lock of a table. */
static bool
is_paused(PpSlot *slot)
{
	return slot ? pp_slot_is_paused(slot) : pp_slot_counts(MyDatabaseId).paused;
}

/* Not all is settled: the database is paused, or the time is over. */
void
pp_flush_notice_unsettled(void)
{
	PpSlot *slot = pp_slot_find(MyDatabaseId);
	bool paused = is_paused(slot);
	char *waiting = describe_waiting(slot, paused);

	if (paused)
		ereport(NOTICE, (errmsg("database \"%s\" is paused", get_database_name(MyDatabaseId)),
						 errdetail("%s", waiting), errhint("persist_resume() has them written.")));
	else
		ereport(NOTICE, (errmsg("not all was settled before the timeout of persist_flush"),
						 errdetail("%s", waiting)));
}

/* May the caller be told what waits for the relation? */
static bool
may_know(Oid relid)
{
	bool is_missing = false;

	return has_privs_of_role(GetUserId(), ROLE_PG_MONITOR) ||
		   (OidIsValid(relid) && pg_class_aclcheck_ext(relid, GetUserId(), ACL_SELECT | ACL_INSERT,
													   &is_missing) == ACLCHECK_OK);
}

static void
say_parked(const PpCounter *entry, List *paused)
{
	char *name = pp_layouts_target_name(pp_extension_oid(), entry->target);
	bool target_paused = list_member_oid(paused, entry->target);

	if (name == NULL)
		name = psprintf("with OID %u", entry->target);
	ereport(
		NOTICE,
		(errmsg_plural("%llu item for relation %s is parked: %s",
					   "%llu items for relation %s are parked: %s", (unsigned long) entry->parked,
					   (unsigned long long) entry->parked, name,
					   pp_reason_parked(entry->sqlstate, target_paused)),
		 target_paused ? errhint("persist_resume(%s) has them written.", quote_literal_cstr(name))
		 : entry->sqlstate != 0 ? errdetail("SQLSTATE %s. They are tried again, in their order.",
											unpack_sql_state(entry->sqlstate))
								: 0));
}

/* What is parked, of the target or, InvalidOid, of any, stays so for the moment. */
void
pp_flush_notice_parked(Oid target)
{
	PpSlot *slot = pp_slot_find(MyDatabaseId);
	Oid extension = pp_extension_oid();
	List *paused = pp_layouts_add_replaced(extension, pp_settings_paused(extension));
	List *targets = pp_layouts_add_replaced(extension, list_make1_oid(target));
	PpCounter entries[PP_COUNTER_WAYS + 1];
	uint64 others = 0;
	int named = 0;

	for (int bucket = 0; slot && bucket < PP_COUNTER_BUCKETS; bucket++)
	{
		int n = pp_counters_read(&slot->counters, bucket, entries);

		for (int i = 0; i < n; i++)
		{
			const PpCounter *entry = &entries[i];

			if (entry->parked == 0 || (OidIsValid(target) && !list_member_oid(targets, entry->target)))
				continue;
			if (OidIsValid(entry->target) && named < MAX_NAMED && may_know(entry->target))
			{
				say_parked(entry, paused);
				named++;
			}
			else
				others += entry->parked;
		}
	}
	if (others > 0)
		ereport(NOTICE, (errmsg_plural("%llu item for %s is parked", "%llu items for %s are parked",
									   (unsigned long) others, (unsigned long long) others,
									   named > 0 ? "other relations" : "relations of others"),
						 errhint("persist_stats says which, and why, to members of pg_monitor.")));
}

/* `waits`: there are items that a worker has to write. */
void
pp_flush_notice_not_preloaded(bool waits)
{
	ereport(waits ? WARNING : NOTICE,
			(errmsg("%s, since persist_pipeline was not loaded when the server started",
					waits ? "nobody writes the items that wait" : "nothing waits"),
			 errhint("Add persist_pipeline to \"shared_preload_libraries\" and restart the "
					 "server.")));
}
