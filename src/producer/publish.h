/*-------------------------------------------------------------------------
 *
 * publish.h
 *	  From a transaction that commits to the ring and the journal.
 *
 *	pp_publish_check_quota	 at a call in the worker: a trigger that enqueues too much is
 *						 told so itself, since nobody could tell whose fault a commit is
 *	pp_publish_prepare	 at PRE_COMMIT: a position and room in the ring, or the
 *						 journal alone; the shares of the roles; rows into the journal.
 *						 The last things that can fail
 *	pp_publish_commit	 at COMMIT: entries into the ring, or the ring is diverted
 *	pp_publish_abort	 at ABORT, also after a prepare that has failed: all is given
 *						 back
 *
 * A database that finds no free slot has no ring.  Its items go to the journal, with positions
 * that are taken from the sequence directly; if it gets a slot later, that begins with higher
 * ones.  The commit says that the database waits for a slot (slots.h); a probe is asked for only
 * where there is no room to note that.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PUBLISH_H
#define PP_PUBLISH_H

#include "utils/hsearch.h"

#include "base/item.h"
#include "producer/spill.h"
#include "ring/slots.h"
#include "store/journal.h"

/*
 * A stretch of a transaction's items that one role enqueued, with one installation:
 * what becomes one entry
 */
typedef struct PpPiece
{
	Oid role;
	Oid extension;
	bool ring_only;
	uint32 items;
	uint64 start; /* in the list's bytes */
	uint64 length;
	PpJournalRef *refs; /* to where it is in the journal */
	int nrefs;			/* 0: it isn't */
} PpPiece;

/* All zero: nothing to give back */
typedef struct PpPublish
{
	PpSpill *bytes;
	PpPiece *pieces;
	int npieces;
	uint64 items;	 /* of all pieces */
	uint64 pos;		 /* of the first one */
	PpSlot *slot;	 /* in which we have to use or to give back ... */
	uint64 reserved; /* ... so many bytes, */
	bool diverting;	 /* or to divert, */
	int ncharged;	 /* and what the roles of so many pieces hold */
	bool without_slot;
	PpTargetCount *counts; /* by target */
	int ncounts;
	int max_counts;
	bool told;		/* the slot knows of them */
	HTAB *count_of; /* the place of a target among them; NULL: they are few */
} PpPublish;

extern void pp_publish_check_quota(PpSlot *slot, Oid role, uint64 bytes, uint64 items);
extern void pp_publish_prepare(PpPublish *publish, PpSpill *bytes, PpPiece *pieces, int npieces);
extern void pp_publish_commit(PpPublish *publish);
extern void pp_publish_abort(PpPublish *publish);
extern void pp_publish_now(const PpItem *item);

#endif /* PP_PUBLISH_H */
