/*-------------------------------------------------------------------------
 *
 * spill.c
 *	  Bytes in memory, or in a temporary file; see spill.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/tablespace.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/wait_event.h"

#include "producer/spill.h"

#define FIRST_ROOM 1024
#define AT_ONCE (1 << 30) /* bytes: the server counts them in an int */

/* It has to outlive the subtransaction that fills it. */
static File
open_file(void)
{
	ResourceOwner owner = CurrentResourceOwner;
	File file;

	CurrentResourceOwner = TopTransactionResourceOwner;
	PG_TRY();
	{
		PrepareTempTablespaces();
		file = OpenTemporaryFile(false);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = owner;
	}
	PG_END_TRY();
	return file;
}

/*
 * Move what is in the buffer to the file.  An error leaves both as they were, but for bytes behind
 * `spilled`: the transaction may go back to a savepoint, and go on.  (A BufFile would keep what it
 * could not write, and write it later, where it may not belong.)
 */
static void
spill_buffer(PpSpill *spill)
{
	uint64 length = spill->length - spill->spilled;
	uint64 written = 0;

	if (spill->file == 0)
		spill->file = open_file();
	while (written < length)
	{
		int n = FileWrite(spill->file, spill->buffer + written, Min(length - written, AT_ONCE),
						  spill->spilled + written, WAIT_EVENT_BUFFILE_WRITE);

		if (n <= 0)
			ereport(ERROR, (errcode_for_file_access(),
							errmsg("could not write to the temporary file of enqueued items: %m")));
		written += n;
	}
	spill->spilled = spill->length;
}

static void
read_spill_file(PpSpill *spill, uint64 start, uint64 length, char *to)
{
	uint64 done = 0;

	while (done < length)
	{
		int n = FileRead(spill->file, to + done, Min(length - done, AT_ONCE), start + done,
						 WAIT_EVENT_BUFFILE_READ);

		if (n < 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read from the temporary file of enqueued items: %m")));
		if (n == 0)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
							errmsg("the temporary file of enqueued items has ended too early")));
		done += n;
	}
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
		read_spill_file(spill, start, in_file, to);
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
	if (spill->file != 0)
		FileClose(spill->file);
	spill->file = 0;
}
