/*-------------------------------------------------------------------------
 *
 * poison.h
 *	  Which item has ended a process of ours, or the server with it.
 *
 * Code on a target can end the process that inserts into it (an error that it makes FATAL),
 * or the server (a broken C function in a trigger), which takes shared memory along.  So each
 * process notes in a file what it tries:
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
 *	blamed		it has crashed, or exits, by itself: the item that it had is condemned
 *	excused		others want it to end (the postmaster, since somebody else has crashed; a person;
 *				a stop): nothing is a candidate for that
 *	neither		SIGKILL or _exit(), which may be a person's doing, or the kernel's, which is out
 *				of memory: the item is tried alone in its transaction, and condemned after four
 *				such ends in a row
 *
 * The files need not outlive the machine: what ends that is no item.  Nothing is synced, and
 * a file that is older than it should be makes old positions candidates, which are in use no
 * more: a position is never used again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_POISON_H
#define PP_POISON_H

#include "item.h"

/* Processes of a database that may try items at the same time: each has a file */
typedef enum PpPoisonFile
{
	PP_POISON_WORKER,
	PP_POISON_RETRIER
} PpPoisonFile;

/* What a process has at hand: the transaction's items, or one of them */
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
	PP_END_EXCUSED,
	PP_END_BLAMED,
	PP_END_CLEAN
} PpEnd;

/*
 * Called once, by a process at its start: returns how many items the last one of its kind was
 * trying when it ended.  Takes over SIGQUIT, which ends the process as before, and the signals
 * of a crash.
 */
extern uint64 pp_poison_open(PpPoisonFile kind, Oid database, Oid extension);

/* A transaction is about to try so many items, in these positions.  Can't fail. */
extern void pp_poison_note(PpPlace from, PpPlace to, uint64 items);

/* ... and now this one of them; PP_AT_HAND_ALL: no single one any more. */
extern void pp_poison_note_item(PpAtHand what, uint64 pos, uint32 part);

/* Is there any candidate?  Then what follows has to be asked. */
extern bool pp_poison_is_suspected(void);
extern bool pp_poison_is_candidate(uint64 pos, uint32 part);

/* How many candidates at most may a transaction have?  0: as many as always. */
extern uint64 pp_poison_width(void);

/* Must this candidate be alone in its transaction? */
extern bool pp_poison_is_alone(uint64 pos, uint32 part);

/* Why the item is condemned; NULL: it isn't.  In the current memory context. */
extern ErrorData *pp_poison_verdict(uint64 pos, uint32 part);

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
 * The retrier goes on with what the worker has found out of candidates, which it may have
 * parked, and with what it has found out itself.
 */
extern void pp_poison_take_over(void);

/* Nothing waits that was there when a process ended. */
extern void pp_poison_forget(void);

/* The process ends, in this way.  A signal handler may say so, but for PP_END_CLEAN. */
extern void pp_poison_close(PpEnd end);

/* Its code has outlived its cancellation: that is the error of what it is at. */
extern void pp_poison_note_outlived(void);

/* The file is another process's by now.  Also called by a signal handler. */
extern void pp_poison_mute(void);

#endif /* PP_POISON_H */
