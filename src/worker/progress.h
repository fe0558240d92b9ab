/*-------------------------------------------------------------------------
 *
 * progress.h
 *	  How fast the worker is, and a line in the log where a backlog takes long.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PROGRESS_H
#define PP_PROGRESS_H

#include "ring/shmem.h"

extern void pp_progress_begin(PpSlot *slot);
extern void pp_progress_note(PpSlot *slot, const char *database_name);
extern void pp_progress_end(void);

#endif /* PP_PROGRESS_H */
