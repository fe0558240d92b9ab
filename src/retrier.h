/*-------------------------------------------------------------------------
 *
 * retrier.h
 *	  The second process of a database: it tries what is parked.
 *
 * The launcher starts it when something that is parked is due, and it leaves when nothing is
 * left that it could try; or, as the worker does, when a command holds its database, when
 * that is paused, at a stop, or when it may not serve the next role (leftovers.h).  What
 * sleeps, loops or hangs keeps only other parked items waiting.  How it gets along with the
 * worker: parking.h.
 *
 *	a stop		cuts its try off at once: what it has taken stays parked
 *	stuck		code that swallows its cancellation is ended with the process, a moment after
 *				its clock.  Where even that can't be, the launcher says so, once, and in
 *				persist_queue; nobody waits for it but the end of the server.
 *
 * Targets that refer to each other by foreign keys are tried together, in the order of things:
 * or else each would wait for the other with almost every row.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_RETRIER_H
#define PP_RETRIER_H

#include "postgres.h"

/* Main function of the background worker; argument: the lane's number. */
extern PGDLLEXPORT void pp_retrier_main(Datum lane_number);

#endif /* PP_RETRIER_H */
