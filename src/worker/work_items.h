/*-------------------------------------------------------------------------
 *
 * work_items.h
 *	  The items of work items (intake.h): read where they wait, checked, made rows that can be
 *	  inserted, and taken from there.
 *
 * The rows of the journal are deleted last, just before the commit: so a worker that hangs in a
 * target's code has no lock on them that the worker which replaces it would wait for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_WORK_ITEMS_H
#define PP_WORK_ITEMS_H

#include "worker/intake.h"
#include "worker/outcome_counts.h"
#include "worker/statement.h"

/* One */
extern void pp_work_item_open(const PpClaim *claim, PpJournals *journals, PpWorkItem *work);
extern void pp_work_item_take(const PpClaim *claim, PpJournals *journals, const PpWorkItem *work);

/* Several, as rows */
extern void pp_work_items_note(const PpWorkItem *work_items, int n);
extern const PpRow **pp_work_items_open(const PpClaim *claim, PpWorkItem *work_items, int n,
										int *opened, uint64 *nrows);
extern void pp_work_items_take(const PpClaim *claim, const PpWorkItem *work_items, int n);
extern void pp_work_items_count_taken(PpOutcomeCounts *counts, const PpRow **rows, uint64 n,
									  bool parked);

#endif /* PP_WORK_ITEMS_H */
