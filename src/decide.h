/*-------------------------------------------------------------------------
 *
 * decide.h
 *	  What an error means for the rows of a transaction, and what becomes of them: noted
 *	  here, and written at its end.
 *
 *	out		a bad row; or one that waits for another's lock by itself
 *	closed	a target that waits, or takes none of its rows as it is: those that are left of it
 *			are parked, the others go on
 *	fewer	there may be enough (time, memory, temporary files) for fewer rows
 *
 * classify.h says what an error is; here it counts, too, what has happened before.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_DECIDE_H
#define PP_DECIDE_H

#include "letterbox.h"
#include "results.h"
#include "table.h"
#include "try_insert.h"

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
	bool closed;		/* its rows are parked from here on ... */
	ErrorData *error;	/* ... for this reason */
	bool mismatch;		/* it takes none of them ... */
	bool spares_bad;	/* ... so that those that were bad are parked, too */
	bool slow;			/* that takes too long */
	bool parents_free;	/* nobody has locked a table that it refers to: so rows wait for rows */
	int timeouts;		/* tries of several rows that took too long for that */
	uint64 nwaiting;	/* rows that wait by themselves */
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
	bool impatient; /* somebody has waited for a lock already */
	bool apart;		/* the rest of a transaction is not here */
	bool disbelieves; /* an error of class 40 is one like any other: it has come for too long */
	PpTry known;	/* how all of them have failed together; no error: not known */
	PpResults *results;

	/* what has come of it */
	PpApplyEnd end;
	ErrorData *error; /* the last one that wasn't a row's */
	bool moved;		  /* some have landed, or died */
	uint64 width;	  /* so many rows at a time could be done in time; 0: all */
	int timeouts;	  /* of the retrier: tries that took too long */
	uint64 nwaiting;  /* rows that wait by themselves */
	PpBad *bad;
	uint64 nbad;

	/* its own */
	uint64 maxbad;
	uint64 bad_bytes; /* of what their letters will tell of the errors */
	PpApplyParked *parked;
	uint64 nparked;
	uint64 maxparked;
	PpApplyTarget *targets;
	int ntargets;
	int nclosed;
	const PpRow **rows; /* all that are to be inserted */
	uint64 nrows;
	bool in_parts;		/* that they fail alike may be since they need each other */
	int doubts;			/* tries of one row that may be bad, one after the other */
	uint64 routes;		/* the number of invalidations, + 1, when a row had no way */
} PpApply;

typedef enum PpDecision
{
	PP_DECIDE_OUT_BAD,	   /* a row's fault: go on to find it */
	PP_DECIDE_OUT_WAITING, /* a row's, that waits: the same */
	PP_DECIDE_FEWER,	   /* fewer of them may do; of one, the same again */
	PP_DECIDE_GO_ON,	   /* without those of a target that is closed now */
	PP_DECIDE_END		   /* the transaction ends */
} PpDecision;

/* What has been noted since then is not so: its savepoint is rolled back. */
typedef struct PpDecideMark
{
	PpResults results;
	uint64 nbad;
	uint64 nparked;
} PpDecideMark;

extern PpDecision pp_decide(PpApply *apply, const PpRow **rows, uint64 n, const PpTry *failure);
extern bool pp_decide_may_be_innocent(TimestampTz parked_at);
extern bool pp_decide_is_patient(const PpApply *apply, Oid target);
extern bool pp_decide_has_another_way(PpApply *apply, const ErrorData *error);
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
