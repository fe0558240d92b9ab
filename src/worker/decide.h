/*-------------------------------------------------------------------------
 *
 * decide.h
 *	  Decides what an error means for the rows of a transaction, and notes what is to be done with
 *	  them; apply_rows.c writes that at the end of the transaction.
 *
 *	out		a bad row; or one that waits for another's lock by itself
 *	closed	a target that waits, or takes none of its rows as it is: those that are left of it
 *			are parked, and those of what has replaced it; the others go on
 *	fewer	there may be enough (time, memory, temporary files) for fewer rows
 *
 * classify.h says what an error is, by itself; this also looks at what has happened before in the
 * transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_DECIDE_H
#define PP_DECIDE_H

#include "base/table.h"
#include "worker/bad_rows.h"
#include "worker/outcome_counts.h"
#include "worker/try_insert.h"

#define PP_DECIDE_IMPATIENT_MS 10 /* for a lock, once the batch has waited for one in vain */

typedef enum PpApplyEnd
{
	PP_APPLY_COMMIT,
	PP_APPLY_FEWER, /* the transaction needs more than there is: with fewer rows it may do */
	PP_APPLY_LATER	/* nobody's fault: nothing changes, and all is tried again later */
} PpApplyEnd;

/* A target in this transaction */
typedef struct PpApplyTarget
{
	Oid target;
	bool closed;	  /* the rest of its rows is parked ... */
	ErrorData *error; /* ... for this reason */
	bool counted;	  /* an error, for what is parked */
	bool mismatch;	  /* it takes none of them ... */
	bool spares_bad;  /* ... and rows that were found bad before are parked, too */
	bool slow;		  /* that takes too long */
	/* no table that it refers to is locked: so a row that waits, waits for a row lock */
	bool parents_free;
	int timeouts;	 /* tries of several rows that took too long */
	uint64 nwaiting; /* rows that wait by themselves */
	uint64 nbad;
} PpApplyTarget;

/* A row that is to be parked, with the rest of its target, or by itself */
typedef struct PpApplyParked
{
	const PpRow *row;
	ErrorData *error; /* NULL: with the others */
} PpApplyParked;

typedef struct PpApply
{
	/* the caller's */
	const PpClaim *claim;
	Oid role;
	bool retrying;	/* these are parked ones */
	bool impatient; /* this batch has waited for a lock already: don't wait again */
	bool apart;		/* some rows of one of these transactions are missing */
	bool divided;	/* by the settings of their transactions (deferred.h) */
	/* treat an error of class 40 as any other: it has come again and again for too long */
	bool disbelieves;
	PpTry known; /* how all of them have failed together; no error: not known */
	PpOutcomeCounts *counts;

	/* what has come of it */
	PpApplyEnd end;
	ErrorData *error; /* the last one that wasn't a row's */
	bool moved;		  /* some rows have been inserted, or have become dead letters */
	uint64 width;	  /* so many rows at a time could be done in time; 0: all */
	int timeouts;	  /* of the retrier: tries that took too long */
	uint64 nwaiting;  /* rows that wait by themselves */
	PpBadRow *bad;
	uint64 nbad;

	/* its own */
	uint64 maxbad;
	uint64 bad_bytes; /* of what their letters will tell of the errors */
	PpApplyParked *parked;
	uint64 nparked;
	uint64 maxparked;
	PpApplyTarget *targets;
	int ntargets;
	int maxtargets;
	int nclosed;
	const PpRow **rows; /* all that are to be inserted */
	uint64 nrows;
	/* rows are tried in parts, so they may fail only because they need each other */
	bool in_parts;
	int doubts;			  /* tries in a row, of one row that may be bad */
	uint64 invalidations; /* how many there had been, + 1, when a row last found no partition */
} PpApply;

typedef enum PpDecision
{
	PP_DECIDE_OUT_BAD,	   /* a row's fault: go on to find it */
	PP_DECIDE_OUT_WAITING, /* a row's, that waits: the same */
	PP_DECIDE_FEWER,	   /* fewer of them may do; of one, the same again */
	PP_DECIDE_GO_ON,	   /* without those that a closed target keeps from it */
	PP_DECIDE_END		   /* the transaction ends */
} PpDecision;

/* What has been noted since then is not so: its savepoint is rolled back. */
typedef struct PpDecideMark
{
	PpOutcomeCounts counts;
	uint64 nbad;
	uint64 nparked;
} PpDecideMark;

extern PpDecision pp_decide(PpApply *apply, const PpRow **rows, uint64 n, const PpTry *failure);
extern bool pp_decide_lacks_parked(PpApply *apply, const PpRow **rows, uint64 n,
								   const PpTry *failure);
extern bool pp_decide_may_wait(TimestampTz parked_at);
extern bool pp_decide_is_patient(const PpApply *apply, Oid target);
extern bool pp_decide_may_have_partition(PpApply *apply, const ErrorData *error);
extern PpApplyTarget *pp_decide_target(PpApply *apply, Oid target);
extern void pp_decide_bad(PpApply *apply, const PpRow *row, ErrorData *error);
extern void pp_decide_parked(PpApply *apply, const PpRow *row, ErrorData *error);
extern ErrorData *pp_decide_too_late(void);
extern void pp_decide_close_all(PpApply *apply, const PpRow **rows, uint64 n);
extern void pp_decide_close(PpApply *apply, Oid target, ErrorData *error);
extern uint64 pp_decide_leave_closed(PpApply *apply, const PpRow **rows, uint64 n);
extern PpDecideMark pp_decide_mark(const PpApply *apply);
extern void pp_decide_back_to(PpApply *apply, const PpDecideMark *mark);

#endif /* PP_DECIDE_H */
