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

#include "ring/slots.h"

/* Main function of the background worker; argument: the slot's number. */
extern PGDLLEXPORT void pp_worker_main(Datum slot_number);

/* Its slot and its database */
extern void pp_worker_take_slot(int slot_number, Oid database);
extern bool pp_worker_give_back(bool to_others);
extern void pp_worker_top_up_ids(void);
extern void pp_worker_look_for_pause(void);
extern bool pp_worker_may_be_paused(void);
extern bool pp_worker_sleep(PpWorkerState state, long ms);

#endif /* PP_WORKER_H */
