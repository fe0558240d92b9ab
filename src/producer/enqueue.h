/*-------------------------------------------------------------------------
 *
 * enqueue.h
 *	  The pending list of a transaction, published at its commit.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ENQUEUE_H
#define PP_ENQUEUE_H

#include "base/item.h"
#include "ring/slots.h"

/* An INSERT whose triggers may enqueue; all zero: none */
typedef struct PpInsert
{
	Oid target;
	uint64 rows;
	int depth; /* of its items, all of which have the same */
} PpInsert;

extern void pp_enqueue_init(void);
extern PpInsert pp_enqueue_within(PpInsert insert);
extern int pp_enqueue_depth(void);
extern int64 pp_enqueue(PpItem *item, bool transactional, int flush_interval);
extern uint64 pp_enqueue_drop(Oid extension);
extern void pp_enqueue_again(PpItem *item, Oid role);
extern bool pp_enqueue_is_full(Oid target);
extern bool pp_enqueue_is_pending(void);
extern bool pp_enqueue_find(int64 id, PpItem *item, Oid *role);

#endif /* PP_ENQUEUE_H */
