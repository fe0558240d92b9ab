/*-------------------------------------------------------------------------
 *
 * work_open.h
 *	  The items of a piece of work: found where they wait, claimed, and checked.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_WORK_OPEN_H
#define PP_WORK_OPEN_H

#include "intake.h"

extern void pp_work_open(const PpClaim *claim, PpJournals *journals, PpWork *work);

#endif /* PP_WORK_OPEN_H */
