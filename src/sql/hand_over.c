/*-------------------------------------------------------------------------
 *
 * hand_over.c
 *	  Items on their way out of a call; see hand_over.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/config.h"
#include "base/extension.h"
#include "producer/enqueue.h"
#include "ring/lease.h"
#include "sql/hand_over.h"
#include "worker/batch.h"

/*
 * Before a call looks at its arguments.  Errors: 25006 read-only transaction or recovery; 55000
 * mode is "reject", or there is no worker that could write the item.
 */
void
pp_hand_over_check(const char *function)
{
	pp_extension_check_writable(function);

	if (pp_config_mode == PP_MODE_REJECT)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("persist_pipeline does not accept items"),
						errdetail("\"persist_pipeline.mode\" is \"reject\".")));
	if (pp_config_mode == PP_MODE_ASYNC && pp_shmem && !IsUnderPostmaster)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("persist_pipeline has no worker in single-user mode"),
						errhint("Set \"persist_pipeline.mode\" to \"direct\".")));
	if (pp_config_mode == PP_MODE_ASYNC && pp_shmem == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("persist_pipeline was not loaded when the server started"),
				 errhint("Add persist_pipeline to \"shared_preload_libraries\" and restart the "
						 "server, or set \"persist_pipeline.mode\" to \"direct\".")));
}

/* Insert the item here and now, as the caller. */
static int64
insert_directly(PpItem *item)
{
	PpRow row = {.item = item};
	const PpRow *rows[] = {&row};
	PpTargetRows group = {.target = item->target, .rows = rows, .n = 1};
	const PpClaim *claim = pp_shmem ? pp_slot_claimed() : NULL;

	item->id = pp_lease_next_id(claim, claim ? claim->extension : pp_extension_get());
	(void) pp_batch_insert(&group);
	return item->id;
}

/*
 * The item goes to the worker, or, in mode "direct", into its target.  flush_interval: of that, as
 * for pp_enqueue().  Returns its id.  Errors: those of pp_enqueue(), or of the INSERT.
 */
int64
pp_hand_over(PpItem *item, bool transactional, int flush_interval)
{
	if (pp_config_mode == PP_MODE_DIRECT)
		return insert_directly(item);
	return pp_enqueue(item, transactional, flush_interval);
}
