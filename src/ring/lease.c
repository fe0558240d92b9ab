/*-------------------------------------------------------------------------
 *
 * lease.c
 *	  Hands out ids; see lease.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "storage/bufmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/table.h"
#include "ring/lease.h"

#define TABLE "persist_leases"
#define COLUMN_MARK 0 /* its only one */

#define MAX_AHEAD (INT64CONST(1) << 40)					   /* of what was last written down */
#define SUSPICIOUS 3 /* values in a row that can't be right */
/* for ranges that have been leased but not yet noted */
#define MENDING_GAP (INT64CONST(1000) * PP_LEASE_IDS)

/* What this session got from the current installation */
static Oid used_extension = InvalidOid;
static int64 last_id = 0; /* the next one has to be greater */

/* A range of this backend's own, where the slot has none or only lower ones. */
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

/* ---- what has been leased ---- */

/* All that was leased is below that, as far as the table persist_leases says. */
static int64
read_mark(Oid extension)
{
	PpTable leases = pp_table_open(extension, TABLE, AccessShareLock);
	HeapTuple tuple;
	int64 mark = 0;

	pp_table_scan(&leases, SnapshotSelf, 0, NULL); /* which no serializable one minds */
	while ((tuple = pp_table_next(&leases)) != NULL)
		mark = Max(mark, pp_table_int64(leases.rel, tuple, COLUMN_MARK));
	pp_table_close(&leases);

	return mark;
}

/* Write that down, in the current transaction, instead of what was less. */
static void
write_mark(Oid extension, int64 mark)
{
	PpTable leases = pp_table_open_to_write(extension, TABLE);
	Datum values[] = {Int64GetDatum(mark)};
	bool nulls[] = {false};
	HeapTuple tuple;

	pp_table_scan(&leases, SnapshotSelf, 0, NULL);
	while ((tuple = pp_table_next(&leases)) != NULL)
	{
		/* our own of this command can't be deleted yet */
		if (pp_table_int64(leases.rel, tuple, COLUMN_MARK) <= mark &&
			!TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
			(void) pp_table_delete(&leases, &tuple->t_self, false);
	}
	pp_table_insert(&leases, values, nulls);
	pp_table_close(&leases);
}

/* Does the slot still belong to the claim's database?  Under the slot's mutex. */
static bool
is_ours(const PpClaim *claim)
{
	return !pp_ring_is_stale(&claim->slot->ring, claim->generation);
}

/*
 * Are its ranges of the claim's installation?  (That may have been created by this very
 * transaction.)
 */
static bool
has_ids(const PpClaim *claim)
{
	return is_ours(claim) && claim->slot->ids_of == claim->extension;
}

/* What is known in shared memory; 0: nothing. */
static int64
shared_mark(Oid extension)
{
	int64 mark;

	if (pp_shmem == NULL)
		return 0;
	SpinLockAcquire(&pp_shmem->mutex);
	mark = pp_shmem_find_lease(MyDatabaseId, extension)->leased;
	SpinLockRelease(&pp_shmem->mutex);
	return mark;
}

/* Take a range, unless it has been leased before: looked at and noted in one step. */
static bool
take_range(Oid extension, int64 begin, int64 end)
{
	PpLease *lease;
	bool taken;

	if (pp_shmem == NULL)
		return true;
	SpinLockAcquire(&pp_shmem->mutex);
	lease = pp_shmem_find_lease(MyDatabaseId, extension);
	taken = begin >= lease->leased;
	if (taken)
		lease->leased = end;
	SpinLockRelease(&pp_shmem->mutex);
	return taken;
}

/*
 * What the last slot of this installation has left of such a range, unless somebody has
 * leased since: what is above must not be in use already.  Empty: nothing.
 */
static PpIdRange
take_left(Oid extension, PpRangeKind kind)
{
	PpIdRange range = {0};
	PpLease *lease;

	if (pp_shmem == NULL)
		return range;
	SpinLockAcquire(&pp_shmem->mutex);
	lease = pp_shmem_find_lease(MyDatabaseId, extension);
	if (lease->left_at == lease->leased)
		range = lease->left[kind];
	lease->left[kind] = (PpIdRange){0};
	SpinLockRelease(&pp_shmem->mutex);
	return range;
}

/* ---- the sequence ---- */

/* Can the sequence have reached this value without anybody setting it, after the mark was read? */
static bool
is_plausible(int64 value, int64 mark)
{
	return value >= mark && value - mark < MAX_AHEAD;
}

/* Set the sequence, as its owner: nobody else has the right. */
static void
set_sequence(Oid sequence, int64 value)
{
	Oid user;
	int context;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
	(void) DirectFunctionCall2(setval_oid, ObjectIdGetDatum(sequence), Int64GetDatum(value));
	SetUserIdAndSecContext(user, context);
}

/*
 * A range that nobody has had.  Who finds that somebody has set the sequence sets it right,
 * well above what others may just be about to take.  `keeps_mark`: the worker will write it
 * down.
 */
static PpIdRange
fetch_range(Oid extension, bool keeps_mark)
{
	Oid sequence = find_sequence(extension);
	int64 mark = Max(read_mark(extension), shared_mark(extension)); /* before the sequence */
	bool read_only = XactReadOnly; /* which an ERROR restores */
	PpIdRange range;
	int refused = 0;

	/* a transaction may have been made so since it enqueued: that is about what comes then */
	XactReadOnly = false;
	for (;;)
	{
		range.next = nextval_internal(sequence, false);
		range.end = range.next + PP_LEASE_IDS;
		if (is_plausible(range.next, mark) && take_range(extension, range.next, range.end))
			break;
		CHECK_FOR_INTERRUPTS();
		mark = Max(mark, shared_mark(extension));
		if (++refused % SUSPICIOUS != 0)
			continue; /* somebody else may have been faster with the next one */
		set_sequence(sequence, mark + MENDING_GAP);
		ereport(LOG,
				(errmsg("sequence \"persist_id_seq\" of extension \"persist_pipeline\" was set by "
						"somebody"),
				 errdetail("Ids go on above %lld.", (long long) (mark + MENDING_GAP))));
	}
	XactReadOnly = read_only;
	flush_sequence(sequence);
	if (!keeps_mark)
		write_mark(extension, range.end);

	return range;
}

/* The same for a slot; one that the slot before has left will do. */
static PpIdRange
fetch_range_for(const PpClaim *claim, PpRangeKind kind)
{
	PpIdRange range = take_left(claim->extension, kind);

	return range.next < range.end ? range : fetch_range(claim->extension, true);
}

/* An id from the slot's ranges, or 0. */
static int64
take_from_slot(const PpClaim *claim)
{
	PpSlot *slot = claim->slot;
	int64 id = 0;

	SpinLockAcquire(&slot->mutex);
	if (has_ids(claim))
	{
		if (slot->ids.next >= slot->ids.end)
		{
			slot->ids = slot->spare_ids;
			slot->spare_ids.next = slot->spare_ids.end = 0;
		}
		if (slot->ids.next < slot->ids.end)
			id = slot->ids.next++;
	}
	SpinLockRelease(&slot->mutex);

	return id;
}

/* Give what is left of our own range to the slot, if nobody was faster. */
static void
share_own_ids(const PpClaim *claim)
{
	PpSlot *slot = claim->slot;

	SpinLockAcquire(&slot->mutex);
	if (is_ours(claim) &&
		(!OidIsValid(slot->ids_of) || (has_ids(claim) && slot->ids.next >= slot->ids.end &&
									   slot->spare_ids.next >= slot->spare_ids.end)))
	{
		slot->ids_of = claim->extension;
		slot->spare_ids.next = slot->spare_ids.end = 0;
		slot->ids = own_ids;
		own_ids.next = own_ids.end = 0;
	}
	SpinLockRelease(&slot->mutex);
}

/*
 * The next id of this installation.  claim may be NULL: there is no slot.  May
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

	id = claim ? take_from_slot(claim) : 0;
	if (id <= last_id)
	{
		if (own_ids.next >= own_ids.end || own_ids.next <= last_id)
		{
			own_ids =
				claim ? fetch_range_for(claim, PP_RANGE_IDS) : fetch_range(extension, false);
			if (own_ids.next <= last_id)
				own_ids = fetch_range(extension, claim != NULL);
		}
		id = own_ids.next++;
		if (claim)
			share_own_ids(claim);
	}

	last_id = id;
	return id;
}

/* Positions for the slot's entries come in ranges of the same sequence. */
void
pp_lease_positions(const PpClaim *claim)
{
	PpIdRange range = fetch_range_for(claim, PP_RANGE_POSITIONS);

	pp_ring_add_positions(&claim->slot->ring, claim->generation, range.next, range.end);
}

/* The first one of a range that is used for one transaction alone. */
int64
pp_lease_position(Oid extension)
{
	return fetch_range(extension, false).next;
}

/* Should the worker fetch a range? */
bool
pp_lease_is_low(const PpClaim *claim)
{
	PpSlot *slot = claim->slot;
	bool low;

	SpinLockAcquire(&slot->mutex);
	low = !has_ids(claim) || slot->spare_ids.next >= slot->spare_ids.end;
	SpinLockRelease(&slot->mutex);

	return low;
}

/*
 * Called by the worker, in a transaction.  It can wait for another time, but not
 * for a lock (somebody is dropping the extension).
 */
void
pp_lease_top_up(const PpClaim *claim)
{
	PpSlot *slot = claim->slot;
	Oid sequence = find_sequence(claim->extension);
	PpIdRange range;

	if (!ConditionalLockRelationOid(sequence, RowExclusiveLock))
		return;
	range = fetch_range_for(claim, PP_RANGE_SPARE_IDS);

	SpinLockAcquire(&slot->mutex);
	if (has_ids(claim))
		slot->spare_ids = range;
	else if (is_ours(claim))
	{
		slot->ids_of = claim->extension;
		slot->ids = range;
		slot->spare_ids.next = slot->spare_ids.end = 0;
	}
	SpinLockRelease(&slot->mutex);
}

/* What this process has written down, or found written, for its installation */
static int64 written_mark = 0;
static Oid written_for = InvalidOid;

/* Has somebody leased what isn't written down? */
bool
pp_lease_is_unwritten(const PpClaim *claim)
{
	return written_for != claim->extension || shared_mark(claim->extension) > written_mark;
}

/* The same, in a transaction of the worker's. */
void
pp_lease_write_down(const PpClaim *claim)
{
	int64 mark = shared_mark(claim->extension);

	if (mark > read_mark(claim->extension)) /* the last worker may have */
		write_mark(claim->extension, mark);
	written_mark = mark;
	written_for = claim->extension;
}

static bool
is_in(const PpIdRange *range, int64 id)
{
	return id >= range->next && id < range->end;
}

/*
 * Is it in a range that was leased, as far as we know, and not among those that nobody has used
 * yet?  A range that was lost, in a restart say, or by a session without a slot, counts as used.
 */
bool
pp_lease_was_leased(Oid extension, int64 id)
{
	PpSlot *slot = pp_shmem ? pp_slot_find(MyDatabaseId) : NULL;
	bool is_left = extension == used_extension && is_in(&own_ids, id);

	if (id <= 0 || id >= Max(read_mark(extension), shared_mark(extension)))
		return false;
	if (slot && !is_left)
	{
		PpRingView view = pp_ring_view(&slot->ring);
		PpIdRange positions = {.next = (int64) view.next_end - PP_LEASE_IDS,
							   .end = (int64) view.next_end};

		SpinLockAcquire(&slot->mutex);
		is_left = slot->ids_of == extension &&
				  (is_in(&slot->ids, id) || is_in(&slot->spare_ids, id) || is_in(&positions, id));
		SpinLockRelease(&slot->mutex);
	}
	return !is_left;
}
