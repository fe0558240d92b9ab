/*-------------------------------------------------------------------------
 *
 * process.h
 *	  What our processes have in common: how they connect to a database; and, a worker and a
 *	  retrier, the slot and the database that the process works for, its signals and settings,
 *	  and how its end is noted.
 *
 * What the server warns of when a process connects (a collation version that doesn't match, a
 * setting that is invalid) would be told by each worker, and where they take turns one comes after
 * the other.  So it is told by the first one of a database since the server's start.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PROCESS_H
#define PP_PROCESS_H

#include "storage/ipc.h"

#include "ring/slots.h"

typedef struct PpProcess
{
	PpSlot *slot;
	PpClaim claim; /* to the slot */
	char *database_name;
	MemoryContext batch_context; /* reset for each batch */
	PpSteady since;
	uint32 wait_event; /* while it sleeps */
	PpRing *volatile stop_closes; /* at SIGTERM: the ring of its slot, once it is its worker */
	bool given_back;			  /* this process has given its slot back */
	int failures;				  /* transient ones in a row */
} PpProcess;

extern PpProcess pp_process;

extern void pp_process_connect(Oid database);
extern void pp_process_attach(int slot_number, Oid database, pg_on_exit_callback detach);
extern bool pp_process_note_end(int code);
extern bool pp_process_read_pauses(bool *changed);
extern void pp_process_enter(Oid database, const char *application);
extern void pp_process_reload_settings(void);
extern void pp_process_find_extension(void);
extern void pp_process_check_interrupts(void);

#endif /* PP_PROCESS_H */
