/*-------------------------------------------------------------------------
 *
 * sieve.h
 *	  Inserts rows of one role under savepoints, and finds out which can't be: in one
 *	  transaction the good ones land, the bad ones become dead letters, and what has to
 *	  wait is parked.
 *
 *	first, target by target, parents before children:
 *		bad		an error that would come again (a constraint, a trigger's): that row
 *		held	a lock that single rows wait for: those rows
 *		parked	anything else that may be over soon, or that all rows of the target have
 *				in common: what is left of the target's rows
 *	in order	if a foreign key may want the order of things, or a deferred constraint
 *				fails: all again, transaction by transaction, then row by row
 *
 * Which row is bad is told by the statement (pp_batch_state.row), or else found by trying
 * fewer rows, and then as many as may be free of bad ones, going by those so far.  For n
 * rows with k bad ones that takes at most 2k(log2 n + 1) + 2 INSERTs, and about one a row
 * where most are bad.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SIEVE_H
#define PP_SIEVE_H

#include "letterbox.h"
#include "results.h"
#include "table.h"

typedef enum PpSieveOutcome
{
	PP_SIEVED,
	PP_SIEVE_AGAIN, /* what we know by now says that all has to be done otherwise */
	PP_SIEVE_APART, /* each target by itself: one takes too long, or they go to several servers */
	PP_SIEVE_TRANSIENT /* an error that isn't a target's */
} PpSieveOutcome;

/* Of one transaction */
typedef struct PpSieve
{
	/* the caller's */
	const PpClaim *claim;
	Oid role;
	bool retrying; /* these are parked ones, of one target */
	bool in_order;
	bool impatient; /* somebody has waited for a lock already */
	PpResults *results;
	ErrorData *known; /* why all at once failed; NULL: not known ... */
	PpBatchState at;  /* ... and where */

	/* what has come of it */
	PpSieveOutcome outcome;
	ErrorData *error; /* the last one that wasn't a row's */
	uint64 width;	  /* so many rows at a time could be done in time; 0: all */
	bool moved;		  /* some have landed, or died */
	PpBad *bad;
	uint64 nbad;
	uint64 maxbad;
	uint64 bad_bytes; /* of what their letters will tell of the errors */

	/* its own */
	const PpRow **rows; /* to be inserted */
	uint64 nrows;
	PpTargetRows *share;	  /* at work; NULL in order */
	bool only;				  /* there are no others */
	uint64 bad_before;		  /* that many are of others */
	bool landed;			  /* a row of it has */
	int streak;				  /* bad ones in a row */
	bool told;				  /* statements tell which row fails */
	bool dissecting;		  /* in order: rows of one transaction, and what is deferred waits */
	bool by_row;			  /* what its rows wait for is single ones' */
	int held;				  /* rows of it that wait by themselves */
	uint64 routes;			  /* the number of invalidations, + 1, when a row had no way */
	bool misfit;			  /* it takes none of them */
	bool timed_out;			  /* so ended the last try */
	int timeouts;			  /* tries that did */
	bool slow;				  /* for that its rows are parked */
	const PpRow **stopped_at; /* its rows from here on are parked */
} PpSieve;

extern void pp_sieve_all_at_once(PpSieve *sieve, const PpRow **rows, uint64 n);
extern void pp_sieve(PpSieve *sieve, const PpRow **rows, uint64 n);
extern void pp_sieve_park(PpSieve *sieve, const PpRow **rows, uint64 n, const ErrorData *error);

#endif /* PP_SIEVE_H */
