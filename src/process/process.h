/*-------------------------------------------------------------------------
 *
 * process.h
 *	  What a worker and a retrier have in common: the slot and the database that the process works
 *	  for, its signals, and how it sleeps.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PROCESS_H
#define PP_PROCESS_H

#include "ring/slots.h"

typedef struct PpProcess
{
	PpSlot *slot;
	PpClaim claim; /* to the slot */
	char *database_name;
	MemoryContext batch_context; /* reset for each batch */
	PpSteady since;
	bool given_back; /* this process has given its slot back */
	int failures;	 /* transient ones in a row */
} PpProcess;

extern PpProcess pp_process;

extern void pp_process_handle_signals(void);
extern bool pp_process_note_end(int code);
extern bool pp_process_read_pauses(bool *changed);
extern void pp_process_enter(Oid database, const char *application);
extern void pp_process_reload_settings(void);
extern void pp_process_take_slot(int slot_number, Oid database);
extern bool pp_process_give_back(bool to_others);
extern void pp_process_top_up_ids(void);
extern void pp_process_find_extension(void);
extern void pp_process_look_for_pause(void);
extern bool pp_process_may_be_paused(void);
extern void pp_process_check_interrupts(void);
extern bool pp_process_sleep(PpWorkerState state, long ms);

#endif /* PP_PROCESS_H */
