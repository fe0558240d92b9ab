/*-------------------------------------------------------------------------
 *
 * isolate.h
 *	  Which of n rows to try next, to find those that fail.
 *
 * It only counts, and knows nothing of rows.  The caller tries a range of them together, under a
 * savepoint, and tells the result:
 *
 *	pp_isolate_begin(&iso, n)
 *	while ((width = pp_isolate_next(&iso)) > 0)
 *		try those from iso.done on, `width` of them (or another number of them), then one of
 *		pp_isolate_passed(&iso, width)		they have come through
 *		pp_isolate_failed(&iso, width, row)	one of them fails; this one, from 1 on, or 0
 *		pp_isolate_narrow(&iso, width)		fewer of them may do; nobody's fault
 *		pp_isolate_out(&iso)				the first one is out: bad, or it waits
 *		pp_isolate_take_out(&iso, row)		this one, from 1 on, is out by itself; the caller
 *											closes the gap
 *
 * When a failure tells its row, those before it are tried next.  When they have come through,
 * pp_isolate_is_known() returns true: the next row is the one that was told, and need not be
 * tried again.
 *
 * For n rows with k that fail that takes at most 2k(log2 n + 1) + 2 tries, and about one a
 * row where most fail; and where statements tell which row fails, 2k + log2 n + 1.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ISOLATE_H
#define PP_ISOLATE_H

#include "postgres.h"

typedef struct PpIsolate
{
	uint64 n;
	uint64 done;		/* so many have come through, or are out */
	uint64 width;		/* of the next try */
	uint64 found;		/* so many are out */
	uint64 failing_end; /* before that there is one that fails */
	uint64 failing;		/* the number of the row that has been told, from 1 on; 0: none */
	int streak;			/* out in a row */
	bool told;			/* failures tell their row */
} PpIsolate;

extern void pp_isolate_begin(PpIsolate *iso, uint64 n);
extern uint64 pp_isolate_next(const PpIsolate *iso);
extern void pp_isolate_passed(PpIsolate *iso, uint64 n);
extern void pp_isolate_failed(PpIsolate *iso, uint64 n, uint64 row);
extern void pp_isolate_narrow(PpIsolate *iso, uint64 n);
extern bool pp_isolate_is_known(const PpIsolate *iso);
extern void pp_isolate_out(PpIsolate *iso);
extern void pp_isolate_take_out(PpIsolate *iso, uint64 row);
extern void pp_isolate_drop(PpIsolate *iso, uint64 n);

#endif /* PP_ISOLATE_H */
