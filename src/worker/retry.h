/*-------------------------------------------------------------------------
 *
 * retry.h
 *	  For the retrier: which parked items to try next, and when.
 *
 * Each target and role has a pause of its own after each failed try, twice as long each time.  Of
 * those that are due, the one that was tried longest ago is next; but what waits for a target that
 * was replaced comes before the items of what has replaced it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_RETRY_H
#define PP_RETRY_H

#include "worker/parking.h"

extern bool pp_retry_load(const PpClaim *claim);
extern bool pp_retry_refresh(void);
extern void pp_retry_tell_worker(void);
extern bool pp_retry_leave(bool again, long absent_ms);
extern bool pp_retry_may_be_tried(const PpParked *parked);
extern uint64 pp_retry_width(const PpParked *parked);
extern PpParked *pp_retry_due(void);
extern PpSteady pp_retry_next(void);
extern void pp_retry_hurry(void);
extern void pp_retry_begin(PpParked *parked);
extern void pp_retry_postpone(PpParked *parked);
extern void pp_retry_back_off(PpParked *parked, int sqlstate, long spent_ms);
extern void pp_retry_note_with(PpParked *parked, uint64 pos, uint32 part);
extern void pp_retry_check_noted(PpParked *parked);
extern void pp_retry_advance(PpParked *parked, bool landed);
extern void pp_retry_end(PpParked *parked);
extern bool pp_retry_disbelieves(const PpParked *parked);

#endif /* PP_RETRY_H */
