/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  Items of many targets to INSERTs, one for each target and shape, in the
 *	  current transaction, as the current user.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_BATCH_H
#define PP_BATCH_H

#include "item.h"

extern Oid pp_batch_target; /* that is being written to, or was when it failed */

extern void pp_batch_insert(const PpItem **items, int n);

#endif /* PP_BATCH_H */
