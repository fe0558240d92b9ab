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
#include "lane.h"

extern void pp_enqueue_init(void);
extern int64 pp_enqueue(PpItem *item, bool transactional);
extern uint64 pp_enqueue_drop(Oid extension);
extern void pp_enqueue_again(const PpItem *item, Oid role);
extern bool pp_enqueue_is_full(Oid target);
extern bool pp_enqueue_is_pending(void);

#endif /* PP_ENQUEUE_H */
