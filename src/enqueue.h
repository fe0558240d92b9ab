/*-------------------------------------------------------------------------
 *
 * enqueue.h
 *	  The pending list of a transaction, published at its commit.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ENQUEUE_H
#define PP_ENQUEUE_H

#include "item.h"
#include "shmem.h"

extern void pp_enqueue_init(void);
extern PpLane *pp_enqueue_lane(void);
extern void pp_enqueue_check_size(PpLane *lane, const PpItem *item);
extern int64 pp_enqueue(PpLane *lane, PpItem *item, bool transactional);
extern bool pp_enqueue_is_pending(void);

#endif /* PP_ENQUEUE_H */
