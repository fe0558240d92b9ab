/*-------------------------------------------------------------------------
 *
 * upsert_cache.h
 *	  What is configured for a target whose rows may be there: its key, and what an upsert may meet.
 *
 * It is remembered until the target's relation cache is invalidated, as it is by each change of
 * its settings (settings.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_UPSERT_CACHE_H
#define PP_UPSERT_CACHE_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/relcache.h"

#include "producer/conflict.h"
#include "worker/fold.h"

/* A column of the key, as its index has it */
typedef struct PpUpsertKey
{
	AttrNumber attnum; /* of the target */
	Oid collation;
	FmgrInfo compare;
} PpUpsertKey;

typedef struct PpUpsert
{
	PpConflict conflict;
	int nkeys; /* columns that the batch can compare; 0: it can't */
	PpUpsertKey *keys;
	bool nulls_differ; /* two NULLs are not the same key */
	bool may_surprise; /* the INSERT may find other keys than we do */
	bool keeps_order;  /* rows of different keys may see each other */
	bool may_skip;	   /* a trigger may take the update away */
	PpFoldable *table; /* NULL: items of one key don't become one */
} PpUpsert;

extern const PpUpsert *pp_upsert_cache_get(Relation rel);
extern bool pp_upsert_cache_is_update(Oid target);

#endif /* PP_UPSERT_CACHE_H */
