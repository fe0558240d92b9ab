/*-------------------------------------------------------------------------
 *
 * poison.h
 *	  Which item has ended a process of ours, or the server with it.
 *
 * Code on a target can end the process that inserts into it (an error that it makes FATAL), or
 * crash the server (a broken C function in a trigger), and then shared memory is lost, too.  So
 * each process writes a note of what it tries into a file:
 *
 *	1.	Before a transaction: its commit positions.  Its end takes them back.  A process that
 *		finds them at its start knows that the one before it ended in the middle; the items in
 *		these positions are the *candidates*.
 *	2.	Candidates are inserted one a statement (batch.c), as many in a transaction as always,
 *		and each is noted while it is.  So the second end names the item.  It is *condemned*:
 *		a dead letter that nobody tries again.
 *	3.	An end that names none (in the COMMIT), or by a kill, leads to smaller transactions:
 *		the candidates are parked, so that other items go on, and at most pp_poison_width() of
 *		them are tried at a time, half as many after each such end; and twice as many after a
 *		try that comes to nothing, since rows may need each other.
 *
 * How a process ends tells how much that proves:
 *
 *	by itself	it has crashed, or has exited with an error: the item at hand is condemned
 *	by others	others have ended it (the postmaster, since another process has crashed; a person;
 *				a stop): nothing is a candidate for that
 *	unknown		SIGKILL or _exit(), which may be a person's doing, or the kernel's, which is out
 *				of memory: the item is tried alone in its transaction, and condemned after four
 *				such ends in a row
 *
 * The files need not survive a crash of the machine, since no item causes that; so nothing is
 * synced.  A file that is too old makes candidates of positions that are no longer used, which is
 * harmless: a position is never used again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_POISON_H
#define PP_POISON_H

#include "base/item.h"

/* The two processes of a database that try items: each has a file of its own */
typedef enum PpPoisonFile
{
	PP_POISON_WORKER,
	PP_POISON_RETRIER
} PpPoisonFile;

/* What a process is trying: all items of the transaction, or one of them */
typedef enum PpAtHand
{
	PP_AT_HAND_NOTHING,
	PP_AT_HAND_ALL,
	PP_AT_HAND_ITEM,  /* being inserted */
	PP_AT_HAND_LETTER /* being shown in its dead letter */
} PpAtHand;

typedef enum PpEnd
{
	PP_END_UNKNOWN,
	PP_END_BY_OTHERS,
	PP_END_BY_ITSELF,
	PP_END_CLEAN
} PpEnd;

/*
 * Called once, by a process at its start: returns how many items the last one of its kind was
 * trying when it ended.  Takes over SIGQUIT, which ends the process as before, and the signals
 * of a crash.
 */
extern uint64 pp_poison_open(PpPoisonFile kind, Oid database, Oid extension);

/* A transaction is about to try so many items, in these positions.  Can't fail. */
extern void pp_poison_note(PpCommitPosition from, PpCommitPosition to, uint64 items);

/* ... and now this one of them; PP_AT_HAND_ALL: no single one any more. */
extern void pp_poison_note_item(PpAtHand what, uint64 pos, uint32 part);

/* Is there any candidate?  Then what follows has to be asked. */
extern bool pp_poison_has_candidates(void);
extern bool pp_poison_is_candidate(uint64 pos, uint32 part);

/* How many candidates at most may a transaction have?  0: as many as always. */
extern uint64 pp_poison_width(void);

/* Must this candidate be alone in its transaction? */
extern bool pp_poison_is_alone(uint64 pos, uint32 part);

/* Why the item is condemned; NULL: it isn't.  In the current memory context. */
extern ErrorData *pp_poison_error(uint64 pos, uint32 part);

/*
 * So many candidates have been tried, and none of them could be inserted, nor has the process
 * ended: they may need others, so more of them are tried at a time.
 */
extern void pp_poison_widen(void);
extern bool pp_poison_may_widen(void); /* false: that has ended too many processes */

/* Is one in this position, or with this part of it? */
extern bool pp_poison_has_condemned(uint64 pos, uint32 part, bool any_part);

/* Has it ended a process to show its values? */
extern bool pp_poison_is_unshown(uint64 pos, uint32 part);

/*
 * The retrier takes over the candidates that the worker has noted, since the worker may have
 * parked them, beside its own.
 */
extern void pp_poison_take_over(void);

/* Nothing waits that was there when a process ended. */
extern void pp_poison_forget(void);

/* The process ends, in this way.  A signal handler may say so, but for PP_END_CLEAN. */
extern void pp_poison_close(PpEnd end);

/* The code of the item at hand did not end when it was cancelled: that becomes the item's error. */
extern void pp_poison_note_outlived(void);

/*
 * Write to the file no more: it belongs to another process now.  Also called by a signal handler.
 */
extern void pp_poison_mute(void);

#endif /* PP_POISON_H */
