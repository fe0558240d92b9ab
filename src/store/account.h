/*-------------------------------------------------------------------------
 *
 * account.h
 *	  What has become of the items of each target: the table persist_account.
 *
 * Each transaction that settles items, or changes dead letters, adds a row for each of its
 * targets: so the counts commit and abort with what they count, also in a crash.  No transaction
 * updates another's row, so none waits for another.  Now and then the worker, or one of many
 * callers, replaces all rows of a target by their sum.
 *
 * "dead" is how many dead letters there are: whoever removes one adds -1.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ACCOUNT_H
#define PP_ACCOUNT_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* What a transaction adds to the account of a target */
typedef struct PpDelta
{
	Oid target; /* InvalidOid: relations that are no more, or nobody knows which */
	int64 persisted;
	int64 skipped; /* by a trigger or a rule, or since their keys are there */
	int64 dead;
	int64 discarded;
	int64 lost;
	int64 batches;
	int64 errors;
	int64 unknown_keys;		/* of the objects that items were made from */
	const char *last_error; /* NULL: none */
	TimestampTz last_error_at;
	TimestampTz last_persisted_at; /* 0: none has been */
	TimestampTz last_dead_at;	   /* set where it is added; 0: none has died */
} PpDelta;

#define PP_ACCOUNT_COMPACT 256 /* rows, more or less, from one compaction to the next */

extern void pp_account_add(Oid extension, const PpDelta *deltas, int n);
extern bool pp_account_has(Oid extension, Oid target);
extern void pp_account_reset(Oid extension);
extern void pp_account_compact(Oid extension);

#endif /* PP_ACCOUNT_H */
