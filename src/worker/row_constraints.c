/*-------------------------------------------------------------------------
 *
 * row_constraints.c
 *	  A table's constraints, checked before another engine gets the rows; see row_constraints.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/executor.h"
#include "executor/tuptable.h"

#include "worker/row_constraints.h"

void
pp_row_constraints_begin(PpRowConstraints *constraints, Relation target)
{
	*constraints = (PpRowConstraints){.target = NULL};
	if (target == NULL)
		return;
	constraints->target = makeNode(ResultRelInfo);
	InitResultRelInfo(constraints->target, target, 0, NULL, 0);
	constraints->estate = CreateExecutorState();
	constraints->row = MakeSingleTupleTableSlot(RelationGetDescr(target), &TTSOpsVirtual);
	constraints->row->tts_tableOid = RelationGetRelid(target);
}

void
pp_row_constraints_end(PpRowConstraints *constraints)
{
	if (constraints->target == NULL)
		return;
	ExecDropSingleTupleTableSlot(constraints->row);
	FreeExecutorState(constraints->estate);
}

/* 23502, 23514, as the server says it. */
void
pp_row_constraints_check(PpRowConstraints *constraints, const Datum *values, const bool *nulls)
{
	TupleTableSlot *row = constraints->row;
	int n;

	if (constraints->target == NULL)
		return;
	n = row->tts_tupleDescriptor->natts;
	ExecClearTuple(row);
	memcpy(row->tts_values, values, n * sizeof(Datum));
	memcpy(row->tts_isnull, nulls, n * sizeof(bool));
	ExecStoreVirtualTuple(row);
	ExecConstraints(constraints->target, row, constraints->estate);
	ResetPerTupleExprContext(constraints->estate);
}
