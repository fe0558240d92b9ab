/*-------------------------------------------------------------------------
 *
 * sorted_rows.h
 *	  What a scan of the journal finds, in commit order: more than memory
 *	  holds goes to temporary files, for as long as the store lives.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SORTED_ROWS_H
#define PP_SORTED_ROWS_H

#include "store/journal.h"

typedef struct PpSortedRows PpSortedRows;

extern PpSortedRows *pp_sorted_rows_fill(Oid extension, uint64 boundary, PpRowVisitor visit,
										 PpRowVisitor damaged, void *arg);
extern const PpJournalRow *pp_sorted_rows_next(PpSortedRows *store);
extern void pp_sorted_rows_advance(PpSortedRows *store);
extern void pp_sorted_rows_end(PpSortedRows *store);

#endif /* PP_SORTED_ROWS_H */
