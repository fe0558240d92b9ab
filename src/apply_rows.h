/*-------------------------------------------------------------------------
 *
 * apply_rows.h
 *	  In one transaction, the rows of one role: the good ones land, the bad ones become dead
 *	  letters, and what has to wait is parked.
 *
 * Rows are tried in their commit order, ranges of them together (isolate.h), each under a
 * savepoint, with all that is deferred.  What an error means is decided in decide.h.
 *
 * The rows of a transaction may need each other by what is deferred.  So they are tried
 * together; if they fail, then all of them but those that fail at once; if what is deferred
 * fails, then in parts.  Those that fail by themselves may still need each other: of them only
 * those are bad whose own constraints fail while all the others are there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_APPLY_ROWS_H
#define PP_APPLY_ROWS_H

#include "decide.h"

extern void pp_apply_rows_at_once(PpApply *apply, const PpRow **rows, uint64 n);
extern void pp_apply_rows(PpApply *apply, const PpRow **rows, uint64 n);

#endif /* PP_APPLY_ROWS_H */
