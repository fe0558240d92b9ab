/*-------------------------------------------------------------------------
 *
 * work_rows.h
 *	  The items of work items (intake.h) as rows that can be inserted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_WORK_ROWS_H
#define PP_WORK_ROWS_H

#include "worker/intake.h"
#include "worker/outcome_counts.h"
#include "worker/statement.h"

extern void pp_work_rows_note(const PpWorkItem *work_items, int n);
extern const PpRow **pp_work_rows_open(const PpClaim *claim, PpWorkItem *work_items, int n,
									   int *opened, uint64 *nrows);
extern void pp_work_rows_take(const PpClaim *claim, const PpWorkItem *work_items, int n);
extern void pp_work_rows_count_taken(PpOutcomeCounts *counts, const PpRow **rows, uint64 n,
									 bool parked);

#endif /* PP_WORK_ROWS_H */
