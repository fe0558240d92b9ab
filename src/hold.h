/*-------------------------------------------------------------------------
 *
 * hold.h
 *	  Which databases our processes have to stay out of.
 *
 * A hold keeps our processes out of a database while a command needs it for
 * itself (DROP DATABASE, DROP EXTENSION, ...).  The worker leaves in the middle of a
 * batch, whose items stay in the ring, and so does the retrier; the launcher starts no
 * other; and after the last hold is gone, things go on.  All is under PpShared.lock, and a
 * worker that attaches looks for a hold under that lock, so that none can slip in.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_HOLD_H
#define PP_HOLD_H

#include "shmem.h"

extern bool pp_hold(Oid database);
extern void pp_unhold(Oid database);
extern void pp_unhold_all(void);
extern bool pp_is_held(Oid database);
extern bool pp_is_held_locked(Oid database);

#endif /* PP_HOLD_H */
