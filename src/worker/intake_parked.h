/*-------------------------------------------------------------------------
 *
 * intake_parked.h
 *	  What the retrier does next: parked items as work items.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_INTAKE_PARKED_H
#define PP_INTAKE_PARKED_H

#include "worker/intake.h"

/* Those of a target and role, with at least that pos */
typedef struct PpParkedFrom
{
	Oid target;
	Oid role;
	uint64 from;
	bool any; /* there are some */
} PpParkedFrom;

/* Work items of a role, each of one item */
typedef struct PpParkedWorkItems
{
	PpWorkItem *work_items;
	int n;
	bool all;	/* there are no more of them */
	bool waits; /* for the end of the batch that has parked the next ones */
	bool apart; /* the rest of a transaction is left out, since it has candidates (poison.h) */
} PpParkedWorkItems;

extern ErrorData *pp_intake_parked(const PpClaim *claim, PpParkedFrom *of, int nof, uint64 max,
								   PpParkedWorkItems *parked);

#endif /* PP_INTAKE_PARKED_H */
