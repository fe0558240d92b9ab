/*-------------------------------------------------------------------------
 *
 * work_item.h
 *	  The items of a work item: read where they wait, checked, and taken from there.
 *
 * The rows are deleted last, just before the commit: so a worker that hangs in a target's code
 * has no lock on them that the worker which replaces it would wait for.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_WORK_ITEM_H
#define PP_WORK_ITEM_H

#include "worker/intake.h"

extern void pp_work_item_open(const PpClaim *claim, PpJournals *journals, PpWorkItem *work);
extern void pp_work_item_take(const PpClaim *claim, PpJournals *journals, const PpWorkItem *work);

#endif /* PP_WORK_ITEM_H */
