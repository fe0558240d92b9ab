/*-------------------------------------------------------------------------
 *
 * apply_rows.h
 *	  In one transaction, the rows of one role: good rows are inserted, bad rows become dead
 *	  letters, and rows that have to wait are parked.
 *
 * Rows are tried in their commit order, ranges of them together (isolate.h), each under a
 * savepoint, with all that is deferred.  What an error means is decided in decide.h.
 *
 * The rows of one user transaction may need each other to satisfy deferred constraints.  So they
 * are first tried together.  If that fails, those that fail in their INSERT are left out, and the
 * rest is tried together again; if deferred constraints fail, the rest is tried in parts.  Rows
 * that fail alone may still need each other: of those only a row is bad whose own constraint
 * fails while all the others are there.  Then all good rows are inserted once more, together and
 * in their order.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_APPLY_ROWS_H
#define PP_APPLY_ROWS_H

#include "worker/decide.h"

extern void pp_apply_rows_at_once(PpApply *apply, const PpRow **rows, uint64 n);
extern void pp_apply_rows(PpApply *apply, const PpRow **rows, uint64 n);

#endif /* PP_APPLY_ROWS_H */
