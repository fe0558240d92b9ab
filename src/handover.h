/*-------------------------------------------------------------------------
 *
 * handover.h
 *	  From a transaction that commits to the ring and the journal.
 *
 *	pp_handover_check_share	 at a call in the worker: a trigger that enqueues too much is
 *						 told so itself, since nobody could tell whose fault a commit is
 *	pp_handover_prepare	 at PRE_COMMIT: a position and room in the ring, or the
 *						 journal alone; the shares of the roles; rows into the journal.
 *						 The last things that can fail
 *	pp_handover_commit	 at COMMIT: entries into the ring, or the ring is diverted
 *	pp_handover_abort	 at ABORT, also after a prepare that has failed: all is given
 *						 back
 *
 * A database that finds all lanes in use has no ring.  Its items go to the journal
 * with positions straight from the sequence; the lane that it may get later begins
 * with higher ones.  A probe is called for at the commit, and again until a lane is
 * free.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_HANDOVER_H
#define PP_HANDOVER_H

#include "utils/hsearch.h"

#include "item.h"
#include "journal.h"
#include "lane.h"
#include "spill.h"

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

/* How many of its items go to a target */
typedef struct PpTargetCount
{
	Oid target;
	uint64 items;
} PpTargetCount;

/* All zero: nothing to give back */
typedef struct PpHandover
{
	PpSpill *bytes;
	PpPiece *pieces;
	int npieces;
	uint64 items;	 /* of all pieces */
	uint64 pos;		 /* of the first one */
	PpLane *lane;	 /* in which we have to use or to give back ... */
	uint64 reserved; /* ... so many bytes, */
	bool diverting;	 /* or to divert, */
	int nshares;	 /* and what the roles of so many pieces hold */
	bool without_lane;
	PpTargetCount *counts; /* by target */
	int ncounts;
	int max_counts;
	bool told;		/* the lane knows of them */
	HTAB *count_of; /* the place of a target among them; NULL: they are few */
} PpHandover;

extern void pp_handover_check_share(PpLane *lane, Oid role, uint64 bytes, uint64 items);
extern void pp_handover_prepare(PpHandover *handover, PpSpill *bytes, PpPiece *pieces, int npieces);
extern void pp_handover_commit(PpHandover *handover);
extern void pp_handover_abort(PpHandover *handover);
extern void pp_handover_now(const PpItem *item);

#endif /* PP_HANDOVER_H */
