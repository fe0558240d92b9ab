/*-------------------------------------------------------------------------
 *
 * row_constraints.h
 *	  A table's NOT NULL and CHECK constraints, checked before another engine gets the rows.
 *
 * Its nodes don't say which of many rows they refuse.  What these constraints refuse is known here
 * before anything is sent, with its row.
 *
 *	pp_row_constraints_begin(&constraints, rel)		NULL: nothing is checked
 *	pp_row_constraints_check(&constraints, values, nulls)	for each row
 *	pp_row_constraints_end(&constraints)			after an error the caller's context is enough
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ROW_CONSTRAINTS_H
#define PP_ROW_CONSTRAINTS_H

#include "postgres.h"

#include "nodes/execnodes.h"
#include "utils/rel.h"

typedef struct PpRowConstraints
{
	ResultRelInfo *target; /* NULL: nothing is checked */
	EState *estate;
	TupleTableSlot *row;
} PpRowConstraints;

extern void pp_row_constraints_begin(PpRowConstraints *constraints, Relation target);
extern void pp_row_constraints_check(PpRowConstraints *constraints, const Datum *values,
									 const bool *nulls);
extern void pp_row_constraints_end(PpRowConstraints *constraints);

#endif /* PP_ROW_CONSTRAINTS_H */
