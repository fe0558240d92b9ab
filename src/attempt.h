/*-------------------------------------------------------------------------
 *
 * attempt.h
 *	  What a worker is trying, noted where a crash of the server doesn't reach it.
 *
 * An item can end the server: a broken C function in a trigger.  Shared memory is
 * lost with it, so the worker notes in a file what it tries, and the next worker of
 * the database asks what the last one died of.
 *
 * A note stands until the next one, or an excuse, or pp_attempt_close.  One that a
 * worker finds stands until its own first one, however it ends before that.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ATTEMPT_H
#define PP_ATTEMPT_H

#include "postgres.h"

/* Works that are tried in one transaction */
typedef struct PpAttempt
{
	uint64 pos;		 /* of the first one */
	uint32 part;	 /* of the first one */
	uint32 works;	 /* so many */
	uint64 items;	 /* in all of them; 0: nothing is being tried */
	bool parked;	 /* they are parked ones */
	bool careful;	 /* it is tried alone, since something has crashed a worker ... */
	uint64 suspects; /* ... and so many more items may have done so */
} PpAttempt;

/*
 * Called once, by a worker at its start: what was the last one of this database
 * trying when it ended?  Takes over SIGQUIT, too: it ends this process as before,
 * with an excuse.
 */
extern PpAttempt pp_attempt_open(Oid database);

/* We are about to try this; NULL: we have come through. */
extern void pp_attempt_note(const PpAttempt *attempt);

/*
 * Whatever ends this process now, it isn't the fault of what it tries.  Until the
 * next note.  A signal handler may call it.
 */
extern void pp_attempt_excuse(void);

/* The worker leaves in good order. */
extern void pp_attempt_close(void);

#endif /* PP_ATTEMPT_H */
