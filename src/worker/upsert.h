/*-------------------------------------------------------------------------
 *
 * upsert.h
 *	  Rows whose keys may be there, or in the same batch: which statements, in which order.
 *
 * Where a target is configured so, its INSERT has a clause:
 *
 *	ON CONFLICT (key) DO NOTHING
 *	ON CONFLICT (key) DO UPDATE SET a = excluded.a,
 *		n = COALESCE(t.n + excluded.n, excluded.n, t.n)
 *
 * The second one sets what the items have given, of that what is not in the key; so each statement
 * is for items that have given the same.  And it can't come to the same row twice (21000).  So of
 * the items of one key, as its index compares it, each one goes into a statement of its own: the
 * n-th into the n-th; or several of them become one, where that makes no difference (fold.h).
 * Keys don't change their order; nor do items of different keys that go into
 * the same statement.  Where rows of different keys may see each other (by another unique index,
 * or a trigger), all keep their order: then a statement ends where the next item has given other
 * columns, or has a key that the statement has had.  A statement that fails doesn't tell its row if
 * rows have changed their order, so that those before it are tried first.
 *
 * Where nobody knows the keys before the INSERT, its rows go one by one: one that is not in the
 * item, or not of its type any more.  Where code may change them (row triggers), that is found out:
 * if the INSERT comes to a row twice, it is rolled back, and its rows go one by one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_UPSERT_H
#define PP_UPSERT_H

#include "postgres.h"

#include "utils/relcache.h"

#include "worker/row_map.h"
#include "worker/statement.h"

/* What is configured for a target whose rows may be there */
typedef struct PpUpsert PpUpsert;

/* Now a row is to fail that DO NOTHING would skip: it is asked whether it can be inserted. */
extern bool pp_upsert_skips_none;

extern const PpUpsert *pp_upsert_get(Relation rel);
extern bool pp_upsert_is_update(Oid target);
extern uint64 pp_upsert(Relation rel, const PpRowMap *map, const PpUpsert *upsert,
						const PpRow **rows, uint64 n);

#endif /* PP_UPSERT_H */
