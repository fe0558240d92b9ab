/*-------------------------------------------------------------------------
 *
 * snapshot_watch.h
 *	  Which transactions may still see rows that have been deleted: those that had a snapshot at
 *	  that time, one by one.
 *
 * The server's own horizon is that of the oldest running transaction, whether it has a snapshot
 * or not: so a session that has locked a table and does nothing would keep rows from being
 * removed, since LOCK TABLE takes a transaction id.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SNAPSHOT_WATCH_H
#define PP_SNAPSHOT_WATCH_H

#include "postgres.h"

#include "storage/lock.h"

/* In the worker's memory; all zero, but for `all`: nobody has looked yet */
typedef struct PpSnapshotWatch
{
	bool all; /* those of this server that have no snapshot, too */
	bool begun;
	int n;
	VirtualTransactionId *who;
} PpSnapshotWatch;

/* From now on nobody new sees the rows: who does? */
extern void pp_snapshot_watch_begin(PpSnapshotWatch *watch);

/*
 * Have all those got another snapshot, or none, or ended, if it is all?  If nobody has
 * looked yet, look.
 */
extern bool pp_snapshot_watch_is_over(PpSnapshotWatch *watch);

#endif /* PP_SNAPSHOT_WATCH_H */
