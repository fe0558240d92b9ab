/*-------------------------------------------------------------------------
 *
 * seat.h
 *	  A worker's seat: the lane that it empties, and the database that it is connected to.  Its
 *	  retrier has such a one, too.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SEAT_H
#define PP_SEAT_H

#include "lane.h"

typedef struct PpSeat
{
	PpLane *lane;
	PpClaim claim; /* to the lane */
	char *database_name;
	MemoryContext batch_context; /* reset for each batch */
	PpSteady since;
	bool given_back; /* the lane isn't ours any more */
	int failures;	 /* transient ones in a row */
} PpSeat;

extern PpSeat pp_seat;

extern void pp_seat_handle_signals(void);
extern bool pp_seat_note_end(int code);
extern bool pp_seat_read_pauses(bool *changed);
extern void pp_seat_enter(Oid database, const char *application);
extern void pp_seat_reload_settings(void);
extern void pp_seat_take(int lane_number, Oid database);
extern bool pp_seat_give_back(bool to_others);
extern void pp_seat_top_up_ids(void);
extern void pp_seat_find_extension(void);
extern void pp_seat_look_for_pause(void);
extern bool pp_seat_may_be_paused(void);
extern void pp_seat_check_interrupts(void);
extern bool pp_seat_nap(PpWorkerState state, long ms);

#endif /* PP_SEAT_H */
