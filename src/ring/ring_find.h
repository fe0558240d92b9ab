/*-------------------------------------------------------------------------
 *
 * ring_find.h
 *	  Looks for an item in a ring, from a process that is not its worker.
 *
 * Nobody waits for that: it reads without the ring's mutex, which it holds only to ask whether
 * what it has just read is still there.  An entry that was freed meanwhile has been settled: what
 * has become of its items was committed, and can be seen, before it was freed.  The same holds for
 * one whose items are settled and which is still there.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_RING_FIND_H
#define PP_RING_FIND_H

#include "postgres.h"

#include "base/item.h"
#include "ring/ring.h"

extern bool pp_ring_find(PpRing *ring, Oid extension, int64 id, PpItem *item, Oid *role);

#endif /* PP_RING_FIND_H */
