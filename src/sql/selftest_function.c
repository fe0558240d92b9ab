/*-------------------------------------------------------------------------
 *
 * selftest_function.c
 *	  persist_selftest: one item through the whole pipeline, with the time of each step.
 *
 * Its target is a table of ours, persist_selftest.  Nothing grows there: a trigger deletes the row
 * in the transaction that inserts it, and refuses every other INSERT than the pipeline's.  The
 * item is handed over at once (transactional => false), since a function can't commit; so it takes
 * the ring, and the journal only where the worker leaves meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/config.h"
#include "base/errors.h"
#include "base/extension.h"
#include "base/reasons.h"
#include "base/savepoint.h"
#include "base/table.h"
#include "producer/convert.h"
#include "producer/target.h"
#include "ring/ring_find.h"
#include "ring/slots.h"
#include "sql/flush_function.h"
#include "sql/enqueue_functions.h"
#include "sql/where_function.h"
#include "store/pause.h"
#include "store/settings.h"
#include "worker/statement.h"

#define TABLE "persist_selftest"

PG_FUNCTION_INFO_V1(persist_selftest);
PG_FUNCTION_INFO_V1(persist_selftest_row);

/* ---- the table ---- */

/* Delete a row that this command has inserted. */
static void
delete_selftest_row(Relation rel, HeapTuple tuple)
{
	PpTable table = {.rel = rel};

	CommandCounterIncrement();
	(void) pp_table_delete(&table, &tuple->t_self, false);
}

/*
 * persist_selftest_row() returns trigger: before the statement and each row, that is the pipeline's
 * INSERT, or refused; after a row is inserted, it is deleted.  The statement can't be told from
 * another one before it has asked for its rows: then it counts which target is being written.
 */
Datum
persist_selftest_row(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool for_row;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) != pp_extension_relation(pp_extension_oid(), TABLE))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("the trigger is not one of table \"%s\"", TABLE)));
	for_row = TRIGGER_FIRED_FOR_ROW(trigger->tg_event);
	if (TRIGGER_FIRED_AFTER(trigger->tg_event))
		delete_selftest_row(trigger->tg_relation, trigger->tg_trigtuple);
	else if (for_row ? !pp_statement_is_within(fcinfo->flinfo->fn_mcxt)
					 : pp_statement_state.target != RelationGetRelid(trigger->tg_relation))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot write to table \"%s\" of extension \"persist_pipeline\"", TABLE),
				 errdetail("Only the extension itself writes to it."),
				 errhint("Call persist_selftest().")));
	PG_RETURN_POINTER(for_row ? trigger->tg_trigtuple : NULL);
}

/* ---- the steps: each returns what stands in the way, as a sentence; NULL: nothing ---- */

typedef struct Test
{
	PpSteady deadline;
	Oid extension;
	PpItem *item;
	int flush_interval; /* of the table */
	char *note;			/* what a step that is done has to say; NULL: nothing */
} Test;

static const char *
check_library(Test *test)
{
	if (pp_shmem)
		return NULL;
	return "The library was not loaded when the server started: add persist_pipeline to "
		   "\"shared_preload_libraries\" and restart the server.";
}

/* May this session write, and wait for the worker? */
static const char *
check_session(Test *test)
{
	if (RecoveryInProgress())
		return "This server is a standby, where nothing is written.";
	if (XactReadOnly)
		return "The transaction is read-only.";
	if (!IsUnderPostmaster)
		return "There is no worker in single-user mode.";
	if (pp_shmem_am_worker)
		return "A process of the pipeline can't wait for itself.";
	return NULL;
}

static const char *
check_extension(Test *test)
{
	const char *fault;

	test->extension = pp_extension_find(&fault);
	if (fault)
		return psprintf("%s Run ALTER EXTENSION persist_pipeline UPDATE; or restart the server, if "
						"it has not been restarted since the library was replaced.",
						fault);
	if (!OidIsValid(test->extension))
		return "The extension is not there any more.";
	if (pp_extension_is_uncommitted(test->extension))
		return "This transaction has created or altered the extension: commit first.";
	return NULL;
}

static const char *
check_mode(Test *test)
{
	switch (pp_config_mode)
	{
		case PP_MODE_ASYNC:
			return NULL;
		case PP_MODE_DIRECT:
			return "\"persist_pipeline.mode\" is \"direct\": calls insert their rows themselves.";
		case PP_MODE_REJECT:
			return "\"persist_pipeline.mode\" is \"reject\": calls fail.";
	}
	return NULL;
}

/* An item that would only wait is not sent. */
static const char *
check_pause(Test *test)
{
	if (pp_pause_is_on(test->extension))
		return "The database is paused, and its items wait for persist_resume().";
	if (list_member_oid(pp_settings_paused(test->extension),
						pp_extension_relation(test->extension, TABLE)))
		return "Table " PP_INTERNAL_SCHEMA "." TABLE
			   " is paused, and its items wait for persist_resume('" PP_INTERNAL_SCHEMA "." TABLE
			   "').";
	return NULL;
}

/* An error that stands in the way; one that ends the call isn't that. */
static const char *
describe_error(ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	return psprintf("SQLSTATE %s: %s%s%s", unpack_sql_state(error->sqlerrcode), error->message,
					error->detail ? ". " : "", error->detail ? error->detail : "");
}

static void
do_convert(void *arg)
{
	Test *test = arg;
	Datum object = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}"));
	Oid relid = pp_extension_relation(test->extension, TABLE);
	PpTarget *target;

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s\" of extension \"persist_pipeline\" does not exist", TABLE)));
	target = pp_target_get(relid);
	test->flush_interval = target->flush_interval; /* converting may make it anew */
	test->item = pp_convert_jsonb(target, DatumGetJsonbP(object));
}

static const char *
convert(Test *test)
{
	ErrorData *error = pp_savepoint_run(do_convert, test);

	return error ? describe_error(error) : NULL;
}

static void
do_hand_over(void *arg)
{
	Test *test = arg;

	(void) pp_enqueue_functions_hand_over(test->item, false, test->flush_interval);
}

/* To the ring; if there is no ring or worker yet, it is waited for. */
static const char *
hand_over(Test *test)
{
	ErrorData *error = pp_savepoint_run(do_hand_over, test);

	if (error)
		return describe_error(error);
	test->note = psprintf("item %lld", (long long) test->item->id);
	return NULL;
}

/* What is the worker at, if it doesn't write the item? */
static const char *
describe_worker(void)
{
	PpSlot *slot = pp_slot_find(MyDatabaseId);
	PpWorkerState state;
	const char *error;

	if (slot == NULL)
		return "The database has no ring: see \"persist_pipeline.max_databases\".";
	SpinLockAcquire(&slot->mutex);
	state = slot->worker_state;
	SpinLockRelease(&slot->mutex);
	if (state == PP_WORKER_NONE)
		return "No worker runs: see the server's log, \"max_worker_processes\" and "
			   "\"persist_pipeline.max_workers\".";
	error = pp_flush_function_backs_off(slot);
	return error ? error : "The worker runs: see persist_queue for what it is at.";
}

/* Where is an item that isn't written, and why? */
static const char *
describe_place(const PpPlace *place)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "The item is %s",
					 strcmp(place->state, "dead") == 0 ? "a dead letter" : place->state);
	if (place->sqlstate)
		appendStringInfo(&text, ", SQLSTATE %s", place->sqlstate);
	if (place->message)
		appendStringInfo(&text, ": %s", place->message);
	appendStringInfoChar(&text, '.');
	if (strcmp(place->state, "pending") == 0 && place->message == NULL)
		appendStringInfo(&text, " %s", describe_worker());
	return text.data;
}

static bool
is_in_ring(PpSlot *slot, const Test *test)
{
	PpItem item;
	Oid role;

	return slot && pp_ring_find(&slot->ring, test->extension, test->item->id, &item, &role);
}

/* Wait until something is settled, or for a moment. */
static void
wait_a_moment(PpSlot *slot, long ms)
{
	ms = Min(ms, PP_SLOT_LOOK_MS);
	(void) ConditionVariableTimedSleep(slot ? &slot->settled : &pp_shmem->served, ms,
									   pp_wait_event("PersistPipelineFlush"));
}

/*
 * Wait until the worker has settled it.  While it is in the ring nothing else is looked at; what
 * has left the ring is settled, or in a table.
 */
static const char *
await_settled(Test *test)
{
	for (;;)
	{
		PpSlot *slot = pp_slot_find(MyDatabaseId);
		long ms = pp_steady_ms_until(test->deadline);

		ConditionVariablePrepareToSleep(slot ? &slot->settled : &pp_shmem->served);
		if (ms == 0 || !is_in_ring(slot, test))
		{
			PpPlace place;

			ConditionVariableCancelSleep(); /* the look may wait for locks */
			place = pp_where_function_find(test->extension, test->item->id);
			if (strcmp(place.state, "settled") == 0)
				return NULL;
			if (ms == 0 || strcmp(place.state, "dead") == 0)
				return describe_place(&place);
		}
		wait_a_moment(slot, ms);
		ConditionVariableCancelSleep();
	}
}

static const char *
flush(Test *test)
{
	pp_shmem_flush_settled();
	return NULL;
}

static const struct
{
	const char *name;
	const char *(*run)(Test *test);
} steps[] = {
	{"library", check_library}, {"session", check_session}, {"extension", check_extension},
	{"mode", check_mode},		{"pause", check_pause},		{"convert", convert},
	{"hand over", hand_over},	{"write", await_settled},	{"flush", flush},
};

/* ---- persist_selftest ---- */

/* Run a step, and put a row for it.  False: something stands in the way. */
static bool
run_step(ReturnSetInfo *rsinfo, Test *test, int step)
{
	PpSteady begin = pp_steady_now();
	const char *obstacle = steps[step].run(test);
	const char *detail = obstacle ? obstacle : test->note;
	Datum values[] = {
		CStringGetTextDatum(steps[step].name), Float8GetDatum((pp_steady_now() - begin) / 1000.0),
		BoolGetDatum(obstacle == NULL), detail ? CStringGetTextDatum(detail) : (Datum) 0};
	bool nulls[] = {false, false, false, detail == NULL};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	test->note = NULL;
	return obstacle == NULL;
}

/*
 * persist_selftest(timeout interval): a row for each step, up to the one that fails.  See the
 * COMMENT in SQL for the errors.
 */
Datum
persist_selftest(PG_FUNCTION_ARGS)
{
	Test test = {0};

	pp_error_if_null(fcinfo, 0, "timeout");
	if (!superuser() && !has_privs_of_role(GetUserId(), pp_extension_owner(pp_extension_oid())))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of extension %s", "persist_pipeline")));
	test.deadline = pp_flush_function_deadline(PG_GETARG_INTERVAL_P(0));

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < lengthof(steps); i++)
	{
		if (!run_step((ReturnSetInfo *) fcinfo->resultinfo, &test, i))
			break;
	}
	return (Datum) 0;
}
