/*-------------------------------------------------------------------------
 *
 * intake.h
 *	  What the worker does next: work items, from the ring or from the journal.
 *
 * A work item is the content of one entry of the ring or, in a pass where there is no entry, the
 * records of the journal with one position.  Its items are inserted, and its rows deleted, in one
 * transaction.
 *
 * `applied`	The journal is the truth.  In a pass, an entry whose rows the scan hasn't found has
 *				been inserted by a transaction that a worker did not live to settle: it is only
 *				settled.
 * divided		A record of the journal holds the items of one piece of a user transaction.  Where
 *				they have to be tried by themselves (pp_save_to_journal) each gets a record of
 *				its own, with the same position.  pp_intake_divide() says that those come as work
 *				items of their own.
 * volatile		Items that are in the ring alone: a worker that leaves moves them to the journal.
 * owes			Work items that were not settled come again, in a pass or in the ring.  Until
 *				then something may come that belongs before items that are parked (parking.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_INTAKE_H
#define PP_INTAKE_H

#include "base/item.h"
#include "ring/slots.h"
#include "store/journal.h"

#define PP_NOT_IN_RING PG_UINT64_MAX

typedef struct PpWorkItem
{
	uint64 pos;
	uint64 at; /* the entry, or PP_NOT_IN_RING */
	Oid role;
	bool applied; /* all its items have been inserted before: it only has to be settled */
	uint32 nrows; /* of the journal; 0: the items are in the ring alone */
	PpJournalRef *rows;
	uint32 part;		   /* of the first row */
	bool parked;		   /* its rows are those of the parked table ... */
	Oid target;			   /* ... for this one ... */
	TimestampTz parked_at; /* ... since then ... */
	bool alone;			   /* ... and later ones pass it */
	uint64 n;			   /* items that are settled with it, whether they are there or not */
	uint64 there;		   /* items that it has, at most: some may have been inserted before */
	bool single;		   /* a single record of the journal (or an item that is parked) */
	uint64 bytes;		   /* of them, at least */
	uint32 others;		   /* how many work items of the same user transaction come after it */

	/* once it is open */
	const PpItem **items;
	uint32 *parts; /* the number of each item in its commit position */
	uint64 nitems; /* items that have been read: fewer than n if some were inserted before */
	uint64 opened; /* bytes of those */
	uint64 unseen; /* items of those that this transaction parks, or makes dead letters of */
	bool *present; /* for each of `rows`: was it found?  NULL: not read yet */
} PpWorkItem;

/*
 * A batch is full when it has as many items as the caller asks for, or PP_BATCH_BYTES.  All work
 * items of one user transaction are taken together, since rows of its roles may need each other.
 * But a transaction that is larger than PP_BATCHES_TOGETHER batches is taken in parts, in order,
 * so that memory stays bounded.
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
extern PpIntake pp_intake_next(const PpClaim *claim, uint64 max, PpWorkItem **work_items,
							   int *nwork_items);
extern void pp_intake_volatile(const PpClaim *claim, PpWorkItem **work_items, int *nwork_items);
extern void pp_intake_forget(void);
extern void pp_intake_divide(uint64 pos);
extern void pp_intake_note_settled(const PpClaim *claim, bool settled);
extern bool pp_intake_owes_earlier(void);
extern void pp_intake_note_owes(bool owes);
extern void pp_intake_count(const PpClaim *claim);
extern uint64 pp_intake_count_items(const PpWorkItem *work_items, int n);

#endif /* PP_INTAKE_H */
