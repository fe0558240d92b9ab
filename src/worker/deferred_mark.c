/*-------------------------------------------------------------------------
 *
 * deferred_mark.c
 *	  A mark in the queue of deferred triggers; see deferred_mark.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "utils/rel.h"

#include "base/table.h"
#include "worker/deferred_mark.h"

static bool passed = false;

PG_FUNCTION_INFO_V1(persist_pass_mark);

/* persist_pass_mark() returns trigger */
Datum
persist_pass_mark(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("persist_pass_mark() must be called as a trigger")));
	passed = true;
	return PointerGetDatum(NULL);
}

void
pp_deferred_mark_put(Oid extension)
{
	PpTable table = pp_table_open_to_write(extension, "persist_mark");
	Datum values[] = {Int32GetDatum(0)};
	bool nulls[] = {false};
	HeapTuple tuple = heap_form_tuple(RelationGetDescr(table.rel), values, nulls);
	TupleTableSlot *slot =
		MakeSingleTupleTableSlot(RelationGetDescr(table.rel), &TTSOpsHeapTuple);
	EState *estate = CreateExecutorState();
	ResultRelInfo *result = makeNode(ResultRelInfo);

	passed = false;
	InitResultRelInfo(result, table.rel, 0, NULL, 0);
	AfterTriggerBeginQuery();
	heap_insert(table.rel, tuple, GetCurrentCommandId(true), HEAP_INSERT_NO_LOGICAL, NULL);
	ExecStoreHeapTuple(tuple, slot, false);
	slot->tts_tableOid = RelationGetRelid(table.rel);
	ExecARInsertTriggers(estate, result, slot, NIL, NULL);
	AfterTriggerEndQuery(estate);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
	pp_table_close(&table);
	CommandCounterIncrement();
}

bool
pp_deferred_mark_is_passed(void)
{
	return passed;
}
