/*-------------------------------------------------------------------------
 *
 * classify.h
 *	  What an error says of the rows that it came from.
 *
 * A pure function: it looks at the error and at where it came from, and at nothing else.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_CLASSIFY_H
#define PP_CLASSIFY_H

#include "postgres.h"

/* Why the statement was cancelled; set in a signal handler (timer.h) */
typedef enum PpCut
{
	PP_CUT_NONE,
	PP_CUT_TIMEOUT, /* statement_timeout: its items' own fault */
	/*
	 * a command wants the database, the clock was set back, or what is at risk has to be saved:
	 * nobody's fault
	 */
	PP_CUT_BLOCKED,
	PP_CUT_STOP		/* the time to stop is up: nobody's fault; stays */
} PpCut;

/* What is wrong: the row, the target, or neither? */
typedef enum PpErrorClass
{
	PP_CLASS_ROW,			/* the row's: it would come again */
	PP_CLASS_UNPROVEN,		/* it may be the row's: there is no SQLSTATE that says so */
	PP_CLASS_LOCK,			/* another's lock: of one row, or of the relation */
	PP_CLASS_TARGET_WAITS,	/* the target's, of all its rows, and may be over soon */
	PP_CLASS_MISMATCH,		/* the target's: it lacks something, or the role lacks a right */
	PP_CLASS_SLOW,			/* it takes longer than statement_timeout */
	PP_CLASS_RESOURCES,		/* there may be enough of it for fewer rows */
	PP_CLASS_UNSURE,		/* a person's cancellation, or that of code; a full ring */
	PP_CLASS_TRANSACTION	/* nobody's: all is to be tried again, later */
} PpErrorClass;

/*
 * `in_rows`: the INSERT had begun with its rows, or there was none.  `cut`: why it was
 * cancelled, if it was.
 */
extern PpErrorClass pp_classify(const ErrorData *error, bool in_rows, PpCut cut);

/* May the same items be inserted without an error a moment later? */
extern bool pp_classify_is_transient(const ErrorData *error, PpCut cut);

/* Does it say that the same transaction may come through (class 40)?  Code can raise that, too. */
extern bool pp_classify_is_rollback(const ErrorData *error);

/* At the call: is it the item that is wrong, and not its caller or the server? */
extern bool pp_classify_is_items_fault(const ErrorData *error);

/*
 * Has the row no place among the partitions?  Which there are may have changed while it
 * waited for the lock of one: a default partition, beside which another was attached.
 */
extern bool pp_classify_is_of_route(const ErrorData *error);

/* Is it the same thing that is wrong? */
extern bool pp_classify_is_alike(const ErrorData *a, const ErrorData *b);

#endif /* PP_CLASSIFY_H */
