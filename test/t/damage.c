/*
 * Overwrites bytes of a row where it is, so that whoever knows its place finds them; for
 * 124_mutations.pl, which compiles it.
 *
 * damage(relation oid, row tid, at int, bytes bytea): from the beginning of its values on.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "fmgr.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(damage);

Datum
damage(PG_FUNCTION_ARGS)
{
	Relation rel = relation_open(PG_GETARG_OID(0), RowExclusiveLock);
	ItemPointer row = (ItemPointer) PG_GETARG_POINTER(1);
	int32 at = PG_GETARG_INT32(2);
	bytea *bytes = PG_GETARG_BYTEA_PP(3);
	Buffer buffer = ReadBuffer(rel, ItemPointerGetBlockNumber(row));
	ItemId id;
	HeapTupleHeader tuple;
	bool done = false;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	id = PageGetItemId(BufferGetPage(buffer), ItemPointerGetOffsetNumber(row));
	if (ItemIdIsNormal(id))
	{
		tuple = (HeapTupleHeader) PageGetItem(BufferGetPage(buffer), id);
		if (at >= 0 && tuple->t_hoff + at + VARSIZE_ANY_EXHDR(bytes) <= ItemIdGetLength(id))
		{
			memcpy((char *) tuple + tuple->t_hoff + at, VARDATA_ANY(bytes),
				   VARSIZE_ANY_EXHDR(bytes));
			MarkBufferDirty(buffer);
			done = true;
		}
	}
	UnlockReleaseBuffer(buffer);
	relation_close(rel, NoLock);

	PG_RETURN_BOOL(done);
}
