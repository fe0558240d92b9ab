/*-------------------------------------------------------------------------
 *
 * ring_find.c
 *	  Looks for an item in a ring, from a process that is not its worker; see ring_find.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/faults.h"
#include "ring/ring_find.h"

#define BUSY_US 1000 /* a producer copies its bytes: that takes less */

/* Where reading is: what has been read of an entry that is not there any more was anything */
typedef struct Look
{
	PpRing *ring;
	uint64 generation;
	uint64 at;
	Oid extension;
	int64 id;
} Look;

/* Has the entry not been freed, after all that was read of it? */
static bool
is_entry_there(const Look *look)
{
	PpRingView view;

	pg_read_barrier();
	view = pp_ring_view(look->ring);
	return view.generation == look->generation && view.head <= look->at;
}

/* Bytes at a position; they may wrap. */
static void
copy_bytes(const PpRing *ring, uint64 at, void *dst, uint64 length)
{
	uint64 start = at % ring->size;
	uint64 first = Min(length, ring->size - start);

	memcpy(dst, ring->data + start, first);
	memcpy((char *) dst + first, ring->data, length - first);
}

/* The entry's header, once its payload is there.  False: it has been freed. */
static bool
read_header(const Look *look, PpEntry *header)
{
	PpEntry *entry = pp_ring_entry(look->ring, look->at);

	while (pg_atomic_read_u32(&entry->state) == PP_ENTRY_BUSY && is_entry_there(look))
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(BUSY_US);
	}
	pg_read_barrier(); /* as in pp_ring_take */
	memcpy(header, entry, sizeof(PpEntry));
	return is_entry_there(look);
}

/*
 * Is the item in the entry, and not settled?  What is settled has left the ring, though the entry
 * is still there.
 */
static bool
find_in_entry(const Look *look, const PpEntry *header, PpItem *item)
{
	uint64 offset = 0;

	for (uint32 i = 0; i < header->items && offset + sizeof(PpItem) <= header->length; i++)
	{
		copy_bytes(look->ring, look->at + sizeof(PpEntry) + offset, item, sizeof(PpItem));
		if (item->id == look->id)
		{
			PP_FAULT(reads_entry);
			return ((volatile PpEntry *) pp_ring_entry(look->ring, look->at))->settled <= i &&
				   is_entry_there(look);
		}
		if (item->size < sizeof(PpItem))
			return false; /* it has been freed */
		offset += item->size;
	}
	return false;
}

/*
 * Is the item in the ring itself, and not in the journal?  Then the fixed part of it, and its
 * role.
 */
bool
pp_ring_find(PpRing *ring, Oid extension, int64 id, PpItem *item, Oid *role)
{
	PpRingView view = pp_ring_view(ring);
	Look look = {.ring = ring,
				 .generation = view.generation,
				 .at = view.head,
				 .extension = extension,
				 .id = id};

	while (look.at < view.tail)
	{
		PpEntry header;

		CHECK_FOR_INTERRUPTS();
		if (read_header(&look, &header))
		{
			if (header.refs == 0 && header.extension == extension &&
				find_in_entry(&look, &header, item))
			{
				*role = header.role;
				return true;
			}
			look.at += header.bytes;
		}
		else
		{
			PpRingView now = pp_ring_view(ring);

			if (now.generation != look.generation)
				return false; /* whatever was in it is somewhere else, or gone */
			look.at = now.head;
		}
	}
	return false;
}
