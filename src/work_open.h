/*-------------------------------------------------------------------------
 *
 * work_open.h
 *	  The items of a piece of work: read where they wait, checked, and taken from there.
 *
 * They are taken last, when nothing is left to do but to commit: who hangs in somebody's code
 * keeps nothing from the one who takes its place.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_WORK_OPEN_H
#define PP_WORK_OPEN_H

#include "intake.h"

extern void pp_work_open(const PpClaim *claim, PpJournals *journals, PpWork *work);
extern void pp_work_take(const PpClaim *claim, PpJournals *journals, const PpWork *work);

#endif /* PP_WORK_OPEN_H */
