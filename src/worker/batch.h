/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  Inserts rows of many targets, with one INSERT for each target and layout, in the current
 *	  transaction, as the current user.
 *
 * What is deferred (constraints and triggers) is fired by the COMMIT; pp_batch_fire_deferred()
 * fires it earlier, where an error is to be of the rows that have just been inserted.
 *
 * Rows of a foreign table "go elsewhere": that server may hang, and commits by itself.  A
 * transaction that has written to several of those is "scattered": a COMMIT that fails may have
 * happened on one of them.  pp_batch_begin_transaction() forgets both.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_BATCH_H
#define PP_BATCH_H

#include "nodes/pg_list.h"

#include "worker/statement.h"

/* The rows of one target, in their order */
typedef struct PpTargetRows
{
	Oid target;
	List *parents;	  /* OIDs that its foreign keys refer to */
	List *covers;	  /* where its rows go, and the partitioned tables above that */
	List *successors; /* what has replaced it, and so on: the last one is where its rows go */
	const PpRow **rows;
	uint64 n;
	bool placed;
} PpTargetRows;

extern PpTargetRows **pp_batch_divide(const PpRow **rows, uint64 n, int *ngroups);
extern void pp_batch_find_relatives(PpTargetRows *group);
extern bool pp_batch_are_one(const PpTargetRows *first, const PpTargetRows *second);
extern bool pp_batch_is_parent(const PpTargetRows *parent, const PpTargetRows *child);
extern uint64 pp_batch_insert(const PpTargetRows *group);
extern void pp_batch_fire_deferred(void);
extern void pp_batch_begin_transaction(void);
extern bool pp_batch_is_scattered(void);
extern bool pp_batch_goes_elsewhere(Oid target);

#endif /* PP_BATCH_H */
