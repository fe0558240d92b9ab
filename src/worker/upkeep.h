/*-------------------------------------------------------------------------
 *
 * upkeep.h
 *	  What the worker does between its batches, so that nothing grows: journals are
 *	  emptied, the account is added up, dead letters that are too old go, leases of ids are
 *	  written down.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_UPKEEP_H
#define PP_UPKEEP_H

#include "ring/slots.h"

extern void pp_upkeep_init(const PpClaim *claim);
extern void pp_upkeep_batch(void);
extern bool pp_upkeep_idle(void);
extern void pp_upkeep_journals(void);

#endif /* PP_UPKEEP_H */
