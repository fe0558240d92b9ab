/*-------------------------------------------------------------------------
 *
 * pause.h
 *	  A database is paused: its items wait, in the journal, until it is resumed.
 *
 * Either persist_pause() said so, or the setting start_paused does and nobody has called
 * persist_resume() since the server's start.  A worker finds that out when it starts, and is told
 * to look again at the commit of either function; it notes it in the slot (PpSlot.paused), and
 * leaves.  The launcher starts no other.  While there is no worker, items that are meant for the
 * ring alone go to the journal, too: so nothing that has been committed is lost if no worker ever
 * comes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PAUSE_H
#define PP_PAUSE_H

#include "postgres.h"

extern void pp_pause_init(void);
extern bool pp_pause_is_on(Oid extension);
extern void pp_pause(Oid extension);
extern void pp_pause_target_changed(void);
extern void pp_pause_target_altered(void);
extern uint64 pp_pause_end(Oid extension);
extern uint64 pp_pause_discard(Oid extension);

#endif /* PP_PAUSE_H */
