/*-------------------------------------------------------------------------
 *
 * spill.c
 *	  Bytes in memory, or in a temporary file; see spill.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "base/compat.h"
#include "producer/spill.h"

#define FIRST_ROOM 1024

/*
 * The parts of a temporary file are of this size; a position in it is a part and an
 * offset.
 */
#define FILE_BYTES (UINT64CONST(1) << 30)

static void
seek(PpSpill *spill, uint64 at)
{
	if (BufFileSeek(spill->file, at / FILE_BYTES, at % FILE_BYTES, SEEK_SET) != 0)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not seek in the temporary file of enqueued items: %m")));
}

/* Move what is in the buffer to the file. */
static void
spill_buffer(PpSpill *spill)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	ResourceOwner owner = CurrentResourceOwner;

	/* it has to outlive the subtransaction that fills it */
	CurrentResourceOwner = TopTransactionResourceOwner;
	PG_TRY();
	{
		if (spill->file == NULL)
			spill->file = BufFileCreateTemp(false);
		seek(spill, spill->spilled);
		BufFileWrite(spill->file, spill->buffer, spill->length - spill->spilled);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = owner;
		MemoryContextSwitchTo(caller);
	}
	PG_END_TRY();
	spill->spilled = spill->length;
}

/* Make room for so many bytes; the limit is of the buffer. */
void
pp_spill_reserve(PpSpill *spill, uint64 length, uint64 limit)
{
	uint64 used = spill->length - spill->spilled;
	uint64 room = Max(spill->room, FIRST_ROOM);

	if (used > 0 && used + length > limit)
	{
		spill_buffer(spill);
		used = 0;

		/* a large item was there: that much isn't needed again */
		if (spill->room > 2 * limit)
		{
			pfree(spill->buffer);
			spill->buffer = NULL;
			spill->room = 0;
			room = FIRST_ROOM;
		}
	}
	while (room < used + length)
		room *= 2;
	if (room <= spill->room)
		return;
	if (spill->buffer == NULL)
		spill->buffer = MemoryContextAllocHuge(TopTransactionContext, room);
	else
		spill->buffer = repalloc_huge(spill->buffer, room);
	spill->room = room;
}

/* Add bytes for which there is room.  Can't fail. */
void
pp_spill_append(PpSpill *spill, const void *bytes, uint64 length)
{
	Assert(spill->length - spill->spilled + length <= spill->room);
	memcpy(spill->buffer + (spill->length - spill->spilled), bytes, length);
	spill->length += length;
}

/* Forget all but the first so many bytes.  Can't fail. */
void
pp_spill_cut(PpSpill *spill, uint64 length)
{
	Assert(length <= spill->length);
	spill->length = length;
	spill->spilled = Min(spill->spilled, length);
}

/* Bytes as they are in the buffer; they must not be in the file. */
const char *
pp_spill_in_memory(const PpSpill *spill, uint64 start)
{
	Assert(start >= spill->spilled);
	return spill->buffer + (start - spill->spilled);
}

/* Copy bytes.  A stretch may begin in the file and end in the buffer. */
void
pp_spill_copy(PpSpill *spill, uint64 start, uint64 length, void *to)
{
	uint64 in_file = start < spill->spilled ? Min(length, spill->spilled - start) : 0;

	if (in_file > 0)
	{
		seek(spill, start);
		pp_buffile_read(spill->file, to, in_file);
	}
	if (in_file < length) /* or else there may be no buffer */
		memcpy((char *) to + in_file, pp_spill_in_memory(spill, start + in_file), length - in_file);
}

/* Bytes, where they are or as a copy in the current memory context. */
const char *
pp_spill_read(PpSpill *spill, uint64 start, uint64 length)
{
	char *copy;

	if (start >= spill->spilled)
		return pp_spill_in_memory(spill, start);
	copy = MemoryContextAllocHuge(CurrentMemoryContext, length);
	pp_spill_copy(spill, start, length, copy);
	return copy;
}

/* What is in the file is not needed any more. */
void
pp_spill_close(PpSpill *spill)
{
	if (spill->file)
		BufFileClose(spill->file);
	spill->file = NULL;
}
