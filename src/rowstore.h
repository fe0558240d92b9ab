/*-------------------------------------------------------------------------
 *
 * rowstore.h
 *	  What a scan of the journal finds, in the order of things: more than memory
 *	  holds goes to temporary files, for as long as the store lives.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ROWSTORE_H
#define PP_ROWSTORE_H

#include "journal.h"

typedef struct PpRowStore PpRowStore;

extern PpRowStore *pp_rowstore_fill(Oid extension, uint64 boundary, PpRowVisitor visit,
									PpRowVisitor damaged, void *arg);
extern const PpJournalRow *pp_rowstore_next(PpRowStore *store);
extern void pp_rowstore_advance(PpRowStore *store);
extern void pp_rowstore_end(PpRowStore *store);

#endif /* PP_ROWSTORE_H */
