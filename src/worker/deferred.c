/*-------------------------------------------------------------------------
 *
 * deferred.c
 *	  What rows defer: a mark in the queue of deferred triggers, and the settings that they see; see
 *	  deferred.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/relation.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "nodes/pg_list.h"
#include "utils/rel.h"

#include "base/table.h"
#include "store/layouts.h"
#include "worker/batch.h"
#include "worker/deferred.h"
#include "worker/item_settings.h"

/* ---- the mark ---- */

static bool mark_passed = false;

PG_FUNCTION_INFO_V1(persist_pass_mark);

/* persist_pass_mark() returns trigger */
Datum
persist_pass_mark(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("persist_pass_mark() must be called as a trigger")));
	mark_passed = true;
	return PointerGetDatum(NULL);
}

void
pp_deferred_mark_put(Oid extension)
{
	PpTable table = pp_table_open_to_write(extension, "persist_mark");
	Datum values[] = {Int32GetDatum(0)};
	bool nulls[] = {false};
	HeapTuple tuple = heap_form_tuple(RelationGetDescr(table.rel), values, nulls);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(table.rel), &TTSOpsHeapTuple);
	EState *estate = CreateExecutorState();
	ResultRelInfo *result = makeNode(ResultRelInfo);

	mark_passed = false;
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
	return mark_passed;
}

/* ---- settings ---- */

static bool
has_settings(const PpRow *row)
{
	uint32 length;

	(void) pp_item_settings(row->item, &length);
	return length > 0;
}

/*
 * May a row of the target defer code that a user has written?  So may a trigger's own statements,
 * and whatever is behind a view or a partition.  The lock is the INSERT's own, so that nobody
 * creates a trigger before that.
 */
static bool
may_run_deferred_code(Oid target)
{
	bool locked;
	Relation rel = pp_layouts_open_unless_locked(target, RowExclusiveLock, &locked);
	bool may;

	if (rel == NULL)
		return locked; /* nobody knows; if it is gone, insert_run says so */
	may = rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rules != NULL;
	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
		may |= !rel->trigdesc->triggers[i].tgisinternal;
	relation_close(rel, NoLock);
	return may;
}

/* Have any of these rows settings that what they defer may see? */
bool
pp_deferred_settings_matter(const PpRow **rows, uint64 n)
{
	List *seen = NIL;

	for (uint64 i = 0; i < n; i++)
	{
		Oid target = rows[i]->item->target;

		if (!has_settings(rows[i]) || list_member_oid(seen, target))
			continue;
		if (may_run_deferred_code(target))
			return true;
		seen = lappend_oid(seen, target);
	}
	return false;
}

/* The first one of the rows' first transaction that has settings, or NULL; *n: its rows. */
static const PpItem *
settings_of_transaction(const PpRow **rows, uint64 *n, bool *several)
{
	const PpItem *first = NULL;
	uint64 end = 0;

	*several = false;
	for (; end < *n && rows[end]->unit == rows[0]->unit; end++)
	{
		if (!has_settings(rows[end]))
			continue;
		if (first == NULL)
			first = rows[end]->item;
		*several |= !pp_item_same_settings(first, rows[end]->item);
	}
	*n = end;
	return first;
}

/* How many of the rows, from the first on, are of transactions that have the same settings? */
uint64
pp_deferred_settings_same(const PpRow **rows, uint64 n)
{
	const PpItem *first = NULL;
	uint64 same = 0;

	while (same < n)
	{
		uint64 left = n - same;
		bool several;
		const PpItem *next = settings_of_transaction(rows + same, &left, &several);

		if (same == 0)
			first = next;
		else if (several || (first == NULL) != (next == NULL) ||
				 (first && !pp_item_same_settings(first, next)))
			break;
		same += left;
		if (several)
			break; /* which are set one after the other */
	}
	return same;
}

/* Fire what these rows have deferred, with their settings, if all their transactions have those. */
void
pp_deferred_settings_fire(const PpRow **rows, uint64 n)
{
	bool same = pp_deferred_settings_same(rows, n) == n;
	const PpItem *last = NULL;
	int level = 0;

	for (uint64 i = 0; i < n && same; i++)
	{
		int own;

		if (!has_settings(rows[i]) || (last && pp_item_same_settings(last, rows[i]->item)))
			continue;
		last = rows[i]->item;
		own = pp_item_settings_set(last);
		if (level == 0)
			level = own;
	}
	pp_batch_fire_deferred();
	pp_item_settings_reset(level);
}
