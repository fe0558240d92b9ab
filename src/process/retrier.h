/*-------------------------------------------------------------------------
 *
 * retrier.h
 *	  The second process of a database: it tries what is parked.
 *
 * The launcher starts it when something that is parked is due, and it leaves when nothing is left
 * that it could try; or, as the worker does, when a command holds its database, when that is
 * paused, at a stop, or when it may not serve the next role (leftovers.h).  A target whose code
 * sleeps, loops or hangs delays only other parked items.  How it gets along with the worker:
 * parking.h.
 *
 *	a stop		cuts its try off at once: what it has taken stays parked
 *	stuck		code that swallows its cancellation is ended with the process, a moment after
 *				its clock.  Where even that can't be, the launcher says so, once, and in
 *				persist_queue; nobody waits for it but the end of the server.
 *
 * Targets that refer to each other by foreign keys are tried together, in commit order:
 * or else each would wait for the other with almost every row.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_RETRIER_H
#define PP_RETRIER_H

#include "postgres.h"

/* Main function of the background worker; argument: the slot's number. */
extern PGDLLEXPORT void pp_retrier_main(Datum slot_number);

#endif /* PP_RETRIER_H */
