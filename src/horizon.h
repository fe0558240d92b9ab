/*-------------------------------------------------------------------------
 *
 * horizon.h
 *	  Who may still see rows that have been deleted: the transactions that had a snapshot
 *	  at that time, one by one.
 *
 * The server's own horizon is that of the oldest transaction that is running, whether it
 * has a snapshot or not: somebody who holds a lock and does nothing holds it, too, since
 * LOCK TABLE takes a transaction id.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_HORIZON_H
#define PP_HORIZON_H

#include "postgres.h"

#include "storage/lock.h"

/* In the worker's memory; all zero, but for `all`: nobody has looked yet */
typedef struct PpWatch
{
	bool all; /* those of this server that have no snapshot, too */
	bool begun;
	int n;
	VirtualTransactionId *who;
} PpWatch;

/* From now on nobody new sees the rows: who does? */
extern void pp_horizon_watch(PpWatch *watch);

/*
 * Have all those got another snapshot, or none, or ended, if it is all?  If nobody has
 * looked yet, look.
 */
extern bool pp_horizon_is_over(PpWatch *watch);

#endif /* PP_HORIZON_H */
