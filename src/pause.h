/*-------------------------------------------------------------------------
 *
 * pause.h
 *	  A database is paused: its items wait, in the journal, until it is resumed.
 *
 * Either persist_pause() said so, or the setting start_paused does and nobody has
 * called persist_resume() since the server's start.  A worker finds that out when
 * it starts, and is told to look again at the commit of either function; it notes it
 * in the lane (PpLane.paused), and leaves.  The launcher starts no other.  Nothing
 * that has been committed depends on a worker to come, then, since without one
 * even what is meant for the ring alone goes to the journal.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PAUSE_H
#define PP_PAUSE_H

#include "postgres.h"

extern void pp_pause_init(void);
extern bool pp_is_paused(Oid extension);
extern void pp_pause(Oid extension);
extern void pp_pause_target_changed(void);
extern uint64 pp_resume(Oid extension);
extern uint64 pp_discard(Oid extension);

#endif /* PP_PAUSE_H */
