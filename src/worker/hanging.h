/*-------------------------------------------------------------------------
 *
 * hanging.h
 *	  Targets whose code has hung: it outlived its cancellation, and with it a process of ours; or
 *	  it waits for another server, and took too long.
 *
 * That is known to all processes, so that the next ones do without them (parking.h); in
 * PpShmem.hangers, under PpShmem.mutex.  A target that has been written to in time for some
 * transactions is trusted again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_HANGING_H
#define PP_HANGING_H

#include "ring/shmem.h"

extern void pp_hanging_note(Oid target);
extern void pp_hanging_note_outlived(Oid database, Oid target);
extern void pp_hanging_note_written(Oid target);
extern bool pp_hanging_is(Oid target);
extern bool pp_hanging_is_elsewhere(Oid target);

#endif /* PP_HANGING_H */
