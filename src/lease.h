/*-------------------------------------------------------------------------
 *
 * lease.h
 *	  Ids: unique in a database for ever, increasing within a session.
 *
 * They come in ranges of PP_LEASE_IDS from the sequence persist_id_seq, whose
 * increment is that number: a call takes the next id of the lane's range without
 * an xid and without WAL.  The worker fetches the next range ahead of time; a
 * backend that finds none fetches one itself.  The sequence's WAL record is
 * flushed before an id of its range is handed out.  What is left of a range at a
 * restart is never used.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_LEASE_H
#define PP_LEASE_H

#include "shmem.h"

#define PP_LEASE_IDS 1000000 /* INCREMENT of persist_id_seq */

extern int64 pp_lease_next_id(PpLane *lane);
extern bool pp_lease_is_low(PpLane *lane);
extern void pp_lease_top_up(PpLane *lane);

#endif /* PP_LEASE_H */
