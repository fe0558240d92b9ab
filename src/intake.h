/*-------------------------------------------------------------------------
 *
 * intake.h
 *	  What the worker does next: pieces of work, from the ring or from the journal.
 *
 * A piece of work is what one entry of the ring holds, or, where entries can't be
 * had, records of the journal with one position.  It is done as a whole, in one
 * transaction with the removal of its rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_INTAKE_H
#define PP_INTAKE_H

#include "item.h"
#include "journal.h"
#include "lane.h"

#define PP_NOT_IN_RING PG_UINT64_MAX

typedef struct PpWork
{
	uint64 pos;
	uint64 at; /* the entry, or PP_NOT_IN_RING */
	Oid role;
	bool applied; /* all of it, already: there is nothing to do but to settle it */
	uint32 nrows; /* of the journal; 0: the items are in the ring alone */
	PpJournalRef *rows;
	uint32 part;		   /* of the first row */
	bool parked;		   /* its rows are those of the parked table ... */
	Oid target;			   /* ... for this one ... */
	TimestampTz parked_at; /* ... since then ... */
	bool alone;			   /* ... and later ones pass it */
	uint64 n;			   /* items to settle */
	uint64 there;		   /* so many does it have, at most */
	bool single;		   /* a single record of the journal (or an item that is parked) */
	uint64 bytes;		   /* of them, at least */
	uint32 others;		   /* pieces of the same transaction that come after it */

	/* once it is open */
	const PpItem **items;
	uint32 *parts; /* which one of its position each is, however it is taken */
	uint64 nitems; /* fewer than n, if some have been applied already */
	uint64 opened; /* their bytes */
	bool *present; /* by row: it is there; NULL: none has been looked for */
} PpWork;

/*
 * A batch is full when it has so many items as the caller asks for, or so many bytes.
 * The pieces of one transaction stay together, though: where it needs several roles,
 * their rows may need each other.  But one that is larger than several batches is
 * taken in parts, in its order: nothing here grows with it.
 */
#define PP_BATCH_BYTES (16 * 1024 * 1024)
#define PP_BATCHES_TOGETHER 4

typedef enum PpIntake
{
	PP_INTAKE_WORK,	  /* here it is */
	PP_INTAKE_BUSY,	  /* a producer is still copying what comes first */
	PP_INTAKE_NOTHING /* there is nothing left */
} PpIntake;

extern bool pp_intake_is_pending(const PpRingView *view);
extern PpIntake pp_intake_next(const PpClaim *claim, uint64 max, PpWork **works, int *nworks);
extern void pp_intake_volatile(const PpClaim *claim, PpWork **works, int *nworks);
extern void pp_intake_forget(void);
extern void pp_intake_divide(uint64 pos);
extern void pp_intake_note_settled(const PpClaim *claim, bool settled);
extern bool pp_intake_owes_earlier(void);
extern void pp_intake_note_owes(bool owes);
extern void pp_intake_count(const PpClaim *claim);

#endif /* PP_INTAKE_H */
