/*-------------------------------------------------------------------------
 *
 * attempt.h
 *	  What a worker is trying, and which items may have ended one; noted where a crash of
 *	  the server doesn't reach it.
 *
 * An item can end its worker (code that makes an error FATAL), or the server: a broken C
 * function in a trigger.  Shared memory is lost with that, so the worker notes in a file
 * what it tries:
 *
 *	suspect		what a worker was trying when it ended, told by the places in the order of
 *				things: each of them is tried alone from now on, wherever it waits
 *	culprit		a suspect that was tried alone when a worker ended: nobody tries it again
 *
 * So the second crash names the item, if it is known that the worker has crashed by itself.
 * Of a worker that was killed (SIGKILL: a person, the kernel that is out of memory, the item
 * itself) nobody knows that; then it takes some more, with the same item in hand.
 *
 * A place is never used again: whoever is a suspect for longer than need be has long been
 * settled.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ATTEMPT_H
#define PP_ATTEMPT_H

#include "postgres.h"

/* Items that are tried in one transaction */
typedef struct PpAttempt
{
	uint64 items; /* so many; 0: nothing is being tried */
	uint64 from;  /* their places, the lowest ... */
	uint64 to;	  /* ... and the highest */
	uint32 part;  /* if it is alone: which one of that place */
	bool alone;
	bool burying; /* it is a culprit, and is being shown in a dead letter */
} PpAttempt;

typedef enum PpGuilt
{
	PP_INNOCENT,
	PP_CULPRIT,
	PP_CULPRIT_UNSHOWN /* to show its values has ended a worker, too */
} PpGuilt;

/*
 * Called once, by a worker at its start: returns how many items the last one of this
 * database and installation was trying when it ended; they are suspects now, or one is
 * a culprit.  `kind`: of the process, if it is not the worker.  Takes over SIGQUIT: it ends this process as before, with an excuse; and the
 * signals of a crash: with blame, or an excuse if another process has sent them.
 */
extern uint64 pp_attempt_open(Oid database, Oid extension, const char *kind);

/* We are about to try this; NULL: we have come through.  Can't fail. */
extern void pp_attempt_note(const PpAttempt *attempt);

/*
 * Whatever ends this process now, it isn't the fault of what it tries.  Until the next
 * note.  A signal handler may call it.
 */
extern void pp_attempt_excuse(void);

/* What ends this process now is the fault of what it tries.  The same. */
extern void pp_attempt_blame(void);

/* Those in these places are suspects, too. */
extern void pp_attempt_suspect(uint64 from, uint64 to);

extern bool pp_attempt_is_suspect(uint64 pos);
extern PpGuilt pp_attempt_guilt(uint64 pos, uint32 part);

/* The culprit is a dead letter. */
extern void pp_attempt_close_case(uint64 pos, uint32 part);

/* Nothing is left that was there when a worker ended. */
extern void pp_attempt_acquit(void);

/* The worker leaves in good order. */
extern void pp_attempt_close(void);

#endif /* PP_ATTEMPT_H */
