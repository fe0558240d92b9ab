/*-------------------------------------------------------------------------
 *
 * save_to_journal.h
 *	  The worker moves items to the journal: what it can't write soon, since a crash would take
 *	  it; what it leaves; and work items that are to be tried in parts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SAVE_TO_JOURNAL_H
#define PP_SAVE_TO_JOURNAL_H

#include "worker/intake.h"

extern ErrorData *pp_save_to_journal(const PpClaim *claim, PpWorkItem *work_items, int n,
									 bool may_wait);
extern void pp_save_to_journal_at_risk(const PpClaim *claim);

#endif /* PP_SAVE_TO_JOURNAL_H */
