/*-------------------------------------------------------------------------
 *
 * lease.h
 *	  Ids: unique in a database for ever, increasing within a session.
 *
 * They come in ranges of PP_LEASE_IDS from the sequence persist_id_seq, whose
 * increment is that number: a call takes the next id of the slot's range without
 * an xid and without WAL.  The worker fetches the next range ahead of time; a
 * backend that finds none fetches one itself.  The sequence's WAL record is
 * flushed before an id of its range is handed out.  What is left of a range when the
 * slot changes hands is for the next slot of the database, unless somebody without one
 * has leased higher ones in between; at a restart it is never used.  Another installation
 * of the extension has another sequence, and begins again.
 *
 * Nobody has a right to the sequence, but a member of pg_write_all_data can set any; and
 * an id or a position that comes a second time would break the order of items, or name
 * two of them.  So the end of the highest range that was leased is kept in shared memory,
 * where it is looked at and moved on in one step; and in the table persist_leases, where
 * the worker writes it down, or whoever leases without a slot.  A value below that, or far
 * above what is written down, isn't used: the sequence is set right.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_LEASE_H
#define PP_LEASE_H

#include "ring/slots.h"

#define PP_LEASE_IDS 1000000 /* INCREMENT of persist_id_seq */

extern int64 pp_lease_next_id(const PpClaim *claim, Oid extension);
extern void pp_lease_positions(const PpClaim *claim);
extern int64 pp_lease_position(Oid extension);
extern bool pp_lease_was_leased(Oid extension, int64 id);
extern bool pp_lease_is_low(const PpClaim *claim);
extern bool pp_lease_is_unwritten(const PpClaim *claim);
extern void pp_lease_top_up(const PpClaim *claim);
extern void pp_lease_write_down(const PpClaim *claim);

#endif /* PP_LEASE_H */
