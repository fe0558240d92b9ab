/*-------------------------------------------------------------------------
 *
 * parked_why.h
 *	  Why the items of a target and role are parked, and when they are tried again, as far as shared
 *	  memory knows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PARKED_WHY_H
#define PP_PARKED_WHY_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct PpParkedWhy
{
	int sqlstate;		  /* of the last try; 0: not known */
	bool paused;		  /* the target is, or the database: there are no tries */
	const char *sentence; /* that says so */
	int tries;			  /* in a row, in vain, with one that is under way; 0: not known */
	TimestampTz next_try; /* 0: not known, or there will be none */
} PpParkedWhy;

extern PpParkedWhy pp_parked_why(Oid target, Oid role);

#endif /* PP_PARKED_WHY_H */
