/*-------------------------------------------------------------------------
 *
 * try_insert.h
 *	  One try to insert rows: under a savepoint, and with the clock of statement_timeout.
 *
 * A try that fails is rolled back; PpTry tells why it has failed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_TRY_INSERT_H
#define PP_TRY_INSERT_H

#include "base/savepoint.h"
#include "worker/classify.h"
#include "worker/outcome_counts.h"
#include "worker/statement.h"

/* How a try has failed */
typedef struct PpTry
{
	ErrorData *error; /* NULL: it hasn't */
	PpCut cut;		  /* why it was cancelled, if it was ... */
	bool was_short;	  /* ... and that try had little time (timer.h) */
	Oid target;		  /* whose INSERT it was; InvalidOid: that can't be told, or it was none */
	bool in_rows;	  /* the INSERT had begun with its rows, or it was none */
	uint64 row;		  /* which of the rows, from 1 on; 0: that can't be told */
	bool by_itself;	  /* that row, whatever the others are */
	bool deferred;	  /* in what is deferred: all INSERTs have come through ... */
	bool past_mark;	  /* ... and so has what is deferred of the rows before the mark */
} PpTry;

extern PpTry pp_try_insert(const PpRow **rows, uint64 n, bool deferred, PpOutcomeCounts *counts);
extern PpTry pp_try_insert_deferred(const PpRow **rows, uint64 n, PpOutcomeCounts *counts);
extern PpTry pp_try_insert_marked(Oid extension, const PpRow **rows, uint64 n, uint64 mark,
								  PpOutcomeCounts *counts);
extern ErrorData *pp_try_insert_catch(const PpCatcher *catcher);
extern PpTry pp_try_insert_failure(const PpRow **rows, uint64 n, ErrorData *error);
extern void pp_try_insert_all(const PpRow **rows, uint64 n, PpOutcomeCounts *counts);

#endif /* PP_TRY_INSERT_H */
