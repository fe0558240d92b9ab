/*-------------------------------------------------------------------------
 *
 * parked_functions.h
 *	  The SQL functions on parked items.
 *
 * They delete rows of the parked table, which the retrier may be trying at that moment.  Who of
 * the two deletes a row first has it: the other one's transaction fails (the retrier's), or finds
 * that it is gone (the function's, which has waited).  So no item is lost, or counted twice.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PARKED_FUNCTIONS_H
#define PP_PARKED_FUNCTIONS_H

#include "postgres.h"

#include "datatype/timestamp.h"

/*
 * Why the items of a target and role are parked, and when they are tried again, as far as shared
 * memory knows
 */
typedef struct PpParkedWhy
{
	int sqlstate;		  /* of the last try; 0: not known */
	bool paused;		  /* the target is, or the database: there are no tries */
	const char *sentence; /* that says so */
	int tries;			  /* in a row, in vain, with one that is under way; 0: not known */
	TimestampTz next_try; /* 0: not known, or there will be none */
} PpParkedWhy;

extern PpParkedWhy pp_parked_functions_why(Oid target, Oid role);
extern void pp_parked_functions_init(void);

#endif /* PP_PARKED_FUNCTIONS_H */
