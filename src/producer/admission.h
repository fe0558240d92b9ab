/*-------------------------------------------------------------------------
 *
 * admission.h
 *	  What a transaction takes of its database's ring before it commits.
 *
 * That is a position, room in the ring or else the journal alone, what its roles are charged
 * with, and its targets' counts.  All of it is under the ring's mutex (shmem.h), and is taken
 * under one hold of that, unless the items are of many roles or targets.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ADMISSION_H
#define PP_ADMISSION_H

#include "utils/hsearch.h"

#include "producer/spill.h"
#include "ring/slots.h"
#include "store/journal.h"

/* more than there is: the journal alone */
#define PP_MORE_THAN_ANY_RING (PG_UINT64_MAX / PP_RING_ALIGN * PP_RING_ALIGN)

/*
 * A stretch of a transaction's items that one role enqueued, with one installation:
 * what becomes one entry
 */
typedef struct PpPiece
{
	Oid role;
	Oid extension;
	PpItemDurability durability; /* of all its items */
	uint32 items;
	uint64 start; /* in the list's bytes */
	uint64 length;
	PpJournalRef *refs; /* to where it is in the journal */
	int nrefs;			/* 0: it isn't */
} PpPiece;

/* What the pieces of a role cost it, in the ring or in the journal */
typedef struct PpShare
{
	Oid role;
	uint64 bytes[PP_STORES];
} PpShare;

/* All zero: nothing to give back */
typedef struct PpPublish
{
	PpSpill *bytes;
	PpPiece *pieces;
	int npieces;
	bool ring_only;	 /* the journal isn't needed for any of them, if the ring takes them */
	uint64 items;	 /* of all pieces */
	uint64 pos;		 /* of the first one */
	PpSlot *slot;	 /* in which we have to use or to give back ... */
	uint64 reserved; /* ... so many bytes, */
	bool diverting;	 /* or to divert, */
	int ncharged;	 /* what so many shares are charged with, */
	int ntold;		 /* and so many of the counts */
	bool without_slot;
	bool anew; /* its installation comes with it, instead of the one that the ring is of */
	PpShare first_share;
	PpShare *more_shares; /* the others */
	int nshares;
	PpTargetCount *counts; /* by target */
	int ncounts;
	int max_counts;
	HTAB *count_of; /* the place of a target among them; NULL: they are few */
} PpPublish;

extern char *pp_admission_backlog_reason(PpSlot *slot);
extern bool pp_admission_is_full(PpSlot *slot, Oid target, PpCounter *entry);
extern void pp_admission_refuse(Oid target, const PpCounter *entry);
extern bool pp_admission_is_full_on_disk(uint64 size);
extern void pp_admission_check_disk(Oid extension);
extern uint64 pp_admission_quota(PpSlot *slot, PpStore store);
extern void pp_admission_check_quota(PpSlot *slot, Oid role, uint64 bytes, uint64 items);
extern void pp_admission_charge_ring(PpSlot *slot, Oid role, uint64 bytes);
extern void pp_admission_sum_up(PpPublish *publish);
extern void pp_admission_count(PpPublish *publish, const char *bytes, uint64 length);
extern PpAdmission pp_admission_take(PpPublish *publish, const PpClaim *claim, uint64 bytes);
extern void pp_admission_take_rest(PpPublish *publish);
extern void pp_admission_tell_counts(const PpPublish *publish, PpSlot *slot);
extern void pp_admission_give_back(PpPublish *publish);

#endif /* PP_ADMISSION_H */
