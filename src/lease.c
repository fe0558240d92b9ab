/*-------------------------------------------------------------------------
 *
 * lease.c
 *	  Hands out ids; see lease.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xlog.h"
#include "commands/sequence.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"

#include "compat.h"
#include "extension.h"
#include "lease.h"

/* What this session got from the current installation */
static Oid used_extension = InvalidOid;
static int64 last_id = 0; /* the next one has to be greater */

/* A range of this backend's own, where the lane has none or only lower ones. */
static PpIdRange own_ids;

/*
 * Flush the sequence as we have just seen it.  A sequence writes WAL for many
 * values at once, so the record may be another backend's, still unflushed; and a
 * crash before it is flushed would give the same range out again.
 */
static void
flush_sequence(Oid sequence)
{
	Relation rel = relation_open(sequence, AccessShareLock);
	Buffer buffer = ReadBuffer(rel, 0);

	XLogFlush(BufferGetLSNAtomic(buffer));
	ReleaseBuffer(buffer);
	relation_close(rel, AccessShareLock);
}

static Oid
find_sequence(Oid extension)
{
	Oid sequence = pp_extension_relation(extension, "persist_id_seq");

	if (!OidIsValid(sequence))
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("sequence \"persist_id_seq\" of extension \"persist_pipeline\" does not exist"),
			 errhint("Create the extension again.")));

	return sequence;
}

static PpIdRange
fetch_range(Oid sequence)
{
	PpIdRange range;

	range.next = nextval_internal(sequence, false);
	range.end = range.next + PP_LEASE_IDS;
	flush_sequence(sequence);

	return range;
}

/* Is the lane still the claim's?  Under the lane's mutex. */
static bool
is_ours(const PpClaim *claim)
{
	return !pp_ring_is_stale(&claim->lane->ring, claim->generation);
}

/* And of the claim's installation, which may exist in a transaction only? */
static bool
has_ids(const PpClaim *claim)
{
	return is_ours(claim) && claim->lane->ids_of == claim->extension;
}

/* An id from the lane's ranges, or 0. */
static int64
take_from_lane(const PpClaim *claim)
{
	PpLane *lane = claim->lane;
	int64 id = 0;

	SpinLockAcquire(&lane->mutex);
	if (has_ids(claim))
	{
		if (lane->ids.next >= lane->ids.end)
		{
			lane->ids = lane->spare_ids;
			lane->spare_ids.next = lane->spare_ids.end = 0;
		}
		if (lane->ids.next < lane->ids.end)
			id = lane->ids.next++;
	}
	SpinLockRelease(&lane->mutex);

	return id;
}

/* Give what is left of our own range to the lane, if nobody was faster. */
static void
share_own_ids(const PpClaim *claim)
{
	PpLane *lane = claim->lane;

	SpinLockAcquire(&lane->mutex);
	if (is_ours(claim) &&
		(!OidIsValid(lane->ids_of) || (has_ids(claim) && lane->ids.next >= lane->ids.end &&
									   lane->spare_ids.next >= lane->spare_ids.end)))
	{
		lane->ids_of = claim->extension;
		lane->spare_ids.next = lane->spare_ids.end = 0;
		lane->ids = own_ids;
		own_ids.next = own_ids.end = 0;
	}
	SpinLockRelease(&lane->mutex);
}

/*
 * The next id of this installation.  claim may be NULL: there is no lane.  May
 * assign an xid to the transaction, when no range is at hand.
 */
int64
pp_lease_next_id(const PpClaim *claim, Oid extension)
{
	int64 id;

	if (extension != used_extension)
	{
		used_extension = extension;
		last_id = 0;
		own_ids.next = own_ids.end = 0;
	}

	id = claim ? take_from_lane(claim) : 0;
	if (id <= last_id)
	{
		if (own_ids.next >= own_ids.end || own_ids.next <= last_id)
			own_ids = fetch_range(find_sequence(extension));
		id = own_ids.next++;
		if (claim)
			share_own_ids(claim);
	}

	last_id = id;
	return id;
}

/* Positions for the lane's entries come in ranges of the same sequence. */
void
pp_lease_positions(const PpClaim *claim)
{
	PpIdRange range = fetch_range(find_sequence(claim->extension));

	pp_ring_add_positions(&claim->lane->ring, claim->generation, range.next, range.end);
}

/* The first one of a range that is used for one transaction alone. */
int64
pp_lease_position(Oid extension)
{
	return fetch_range(find_sequence(extension)).next;
}

/* Should the worker fetch a range? */
bool
pp_lease_is_low(const PpClaim *claim)
{
	PpLane *lane = claim->lane;
	bool low;

	SpinLockAcquire(&lane->mutex);
	low = !has_ids(claim) || lane->spare_ids.next >= lane->spare_ids.end;
	SpinLockRelease(&lane->mutex);

	return low;
}

/*
 * Called by the worker, in a transaction.  It can wait for another time, but not
 * for a lock (somebody is dropping the extension).
 */
void
pp_lease_top_up(const PpClaim *claim)
{
	PpLane *lane = claim->lane;
	Oid sequence = find_sequence(claim->extension);
	PpIdRange range;

	if (!ConditionalLockRelationOid(sequence, RowExclusiveLock))
		return;
	range = fetch_range(sequence);

	SpinLockAcquire(&lane->mutex);
	if (has_ids(claim))
		lane->spare_ids = range;
	else if (is_ours(claim))
	{
		lane->ids_of = claim->extension;
		lane->ids = range;
		lane->spare_ids.next = lane->spare_ids.end = 0;
	}
	SpinLockRelease(&lane->mutex);
}
