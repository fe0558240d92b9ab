/*-------------------------------------------------------------------------
 *
 * relatives.h
 *	  For the retrier: parked targets of a role that are tried together, since rows of one may need
 *	  rows of another: their foreign keys refer to each other, or both are written to the same
 *	  relation, which has replaced one of them.
 *
 * What has replaced a target is tried only together with what waits for that, or after it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_RELATIVES_H
#define PP_RELATIVES_H

#include "worker/parking.h"

#define PP_RELATIVES 64 /* that are tried at once, at most */

extern bool pp_relatives_leave_out(const PpParked *parked, PpParked *const *together, int n);
extern void pp_relatives_add(PpParked **together, int *n);

#endif /* PP_RELATIVES_H */
