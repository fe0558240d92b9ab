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
#include "commands/extension.h"
#include "commands/sequence.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "lease.h"

/* The last id that this session got: the next one has to be greater. */
static int64 last_id = 0;

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
find_sequence(void)
{
	Oid schema = pp_extension_schema(get_extension_oid("persist_pipeline", false));
	Oid sequence = get_relname_relid("persist_id_seq", schema);

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

/*
 * The next id.  lane may be NULL, where there is no shared memory.  May assign
 * an xid to the transaction, when no range is at hand.
 */
int64
pp_lease_next_id(PpLane *lane)
{
	int64 id = 0;

	if (lane)
	{
		SpinLockAcquire(&lane->mutex);
		if (lane->ids.next >= lane->ids.end)
		{
			lane->ids = lane->spare_ids;
			lane->spare_ids.next = lane->spare_ids.end = 0;
		}
		if (lane->ids.next < lane->ids.end)
			id = lane->ids.next++;
		SpinLockRelease(&lane->mutex);
	}

	if (id <= last_id)
	{
		if (own_ids.next >= own_ids.end || own_ids.next <= last_id)
			own_ids = fetch_range(find_sequence());
		id = own_ids.next++;
		if (lane)
		{
			/* share the rest, if nobody was faster */
			SpinLockAcquire(&lane->mutex);
			if (lane->ids.next >= lane->ids.end && lane->spare_ids.next >= lane->spare_ids.end)
			{
				lane->ids = own_ids;
				own_ids.next = own_ids.end = 0;
			}
			SpinLockRelease(&lane->mutex);
		}
	}

	last_id = id;
	return id;
}

/* Should the worker fetch a range? */
bool
pp_lease_is_low(PpLane *lane)
{
	bool low;

	SpinLockAcquire(&lane->mutex);
	low = lane->spare_ids.next >= lane->spare_ids.end;
	SpinLockRelease(&lane->mutex);

	return low;
}

/*
 * Called by the worker, in a transaction.  It can wait for another time, but not
 * for a lock (somebody is dropping the extension).
 */
void
pp_lease_top_up(PpLane *lane)
{
	Oid sequence = find_sequence();
	PpIdRange range;

	if (!ConditionalLockRelationOid(sequence, RowExclusiveLock))
		return;
	range = fetch_range(sequence);

	SpinLockAcquire(&lane->mutex);
	lane->spare_ids = range;
	SpinLockRelease(&lane->mutex);
}
