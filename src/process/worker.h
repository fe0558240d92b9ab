/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  The process that empties one slot's ring into the tables of its database.
 *
 *	starting --> IDLE <--> GATHERING --> WRITING --> IDLE
 *									   ^	 |
 *									   +- RETRYING
 *	any, at SIGTERM --> STOPPING --> exit 0
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_WORKER_H
#define PP_WORKER_H

#include "postgres.h"

/* Main function of the background worker; argument: the slot's number. */
extern PGDLLEXPORT void pp_worker_main(Datum slot_number);

#endif /* PP_WORKER_H */
