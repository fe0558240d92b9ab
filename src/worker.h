/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  The process that empties one lane's ring into the tables of its database.
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

/* Main function of the background worker; argument: the lane's number. */
extern PGDLLEXPORT void pp_worker_main(Datum lane_number);

#endif /* PP_WORKER_H */
