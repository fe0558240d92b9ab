/*-------------------------------------------------------------------------
 *
 * upsert_cache.c
 *	  Remembers what is configured for targets whose rows may be there; see upsert_cache.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/relation.h"
#include "catalog/pg_am.h"
#include "catalog/pg_trigger.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/extension.h"
#include "store/layouts.h"
#include "store/settings.h"
#include "worker/upsert_cache.h"

/* What is known of a target */
typedef struct KnownUpsert
{
	Oid target; /* hash key */
	bool valid; /* cleared by invalidation */
	MemoryContext context;
	PpUpsert *upsert; /* NULL: nothing is configured */
} KnownUpsert;

#define MAX_KNOWN 1024 /* targets; then all are forgotten */

static HTAB *known = NULL;
static uint64 invalidations = 0;

static void
relation_changed(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	KnownUpsert *entry;

	invalidations++;
	if (OidIsValid(relid))
	{
		entry = hash_search(known, &relid, HASH_FIND, NULL);
		if (entry)
			entry->valid = false;
		return;
	}
	hash_seq_init(&scan, known);
	while ((entry = hash_seq_search(&scan)) != NULL)
		entry->valid = false;
}

/* In direct mode a trigger that inserts can be within a statement that still uses it. */
static void
drop(KnownUpsert *entry)
{
	if (entry->context)
		MemoryContextSetParent(entry->context, TopTransactionContext);
	entry->context = NULL;
}

static void
forget_all(void)
{
	HASH_SEQ_STATUS scan;
	KnownUpsert *entry;

	hash_seq_init(&scan, known);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		drop(entry);
		(void) hash_search(known, &entry->target, HASH_REMOVE, NULL);
	}
}

static KnownUpsert *
lookup(Oid target)
{
	KnownUpsert *entry;
	bool found;

	if (known == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(KnownUpsert)};

		known = hash_create("persist_pipeline upserts", 32, &ctl, HASH_ELEM | HASH_BLOBS);
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	}
	entry = hash_search(known, &target, HASH_ENTER, &found);
	if (!found)
		*entry = (KnownUpsert){.target = target};
	return entry;
}

/* Compare keys as their index does, if that is one that can. */
static void
read_index(PpUpsert *upsert, const PpConflictTable *table)
{
	Relation index = index_open(linitial_oid(table->indexes), AccessShareLock);
	int n = upsert->conflict.nkeys;

	if (index->rd_rel->relam == BTREE_AM_OID)
	{
		upsert->nkeys = n;
		upsert->keys = palloc0(n * sizeof(PpUpsertKey));
		upsert->nulls_differ = !index->rd_index->indnullsnotdistinct;
	}
	for (int i = 0; i < upsert->nkeys; i++)
	{
		PpUpsertKey *key = &upsert->keys[i];

		for (int k = 0; k < n; k++)
		{
			if (table->keys[k] == index->rd_index->indkey.values[i])
				key->attnum = upsert->conflict.keys[k];
		}
		key->collation = index->rd_indcollation[i];
		fmgr_info_copy(&key->compare, index_getprocinfo(index, i + 1, BTORDER_PROC),
					   CurrentMemoryContext);
	}
	index_close(index, AccessShareLock);
}

/* May the same key be another one once row triggers have run?  Nobody knows all of partitions. */
static bool
may_change_keys(Relation rel)
{
	return rel->rd_rel->relkind != RELKIND_RELATION ||
		   (rel->trigdesc &&
			(rel->trigdesc->trig_insert_before_row || rel->trigdesc->trig_update_before_row));
}

/* Is there code that sees each row?  Foreign keys' own doesn't mind the order. */
static bool
has_row_triggers(Relation rel)
{
	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		if (!trigger->tgisinternal && TRIGGER_FOR_ROW(trigger->tgtype))
			return true;
	}
	return false;
}

/* Can a row be in another one's way though their keys differ? */
static bool
has_other_keys(Relation rel, const PpConflictTable *table)
{
	ListCell *cell;

	foreach (cell, RelationGetIndexList(rel))
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);
		bool other = (index->rd_index->indisunique || index->rd_index->indisexclusion) &&
					 !list_member_oid(table->indexes, lfirst_oid(cell));

		index_close(index, AccessShareLock);
		if (other)
			return true;
	}
	return false;
}

/* In the current memory context.  NULL: nothing is configured. */
static PpUpsert *
make_upsert(Relation rel)
{
	PpSettings settings = pp_settings_get(pp_extension_oid(), RelationGetRelid(rel));
	PpUpsert *upsert;
	PpConflictTable table;

	if (settings.on_conflict == PP_CONFLICT_ERROR)
		return NULL;
	upsert = palloc0(sizeof(PpUpsert));
	upsert->conflict = pp_conflict_of(rel, &settings);
	table = pp_conflict_table(rel, &upsert->conflict);
	if (upsert->conflict.action == PP_CONFLICT_NOTHING)
		return upsert;
	read_index(upsert, &table);
	upsert->may_surprise = may_change_keys(rel) || list_length(table.indexes) > 1;
	upsert->keeps_order =
		upsert->may_surprise || has_row_triggers(rel) || has_other_keys(rel, &table);
	upsert->may_skip = rel->trigdesc && rel->trigdesc->trig_update_before_row;
	if (!upsert->may_surprise)
		upsert->table = pp_fold_table(rel, &upsert->conflict);
	return upsert;
}

/*
 * What is configured for a target, which is open and locked; NULL: nothing.  Good until the
 * transaction ends.  Errors as for pp_conflict_of() and pp_conflict_table(), where it doesn't fit
 * any more.
 */
const PpUpsert *
pp_upsert_cache_get(Relation rel)
{
	KnownUpsert *entry = lookup(RelationGetRelid(rel));
	MemoryContext context;
	MemoryContext caller;
	PpUpsert *upsert;
	uint64 before;

	if (entry->valid)
		return entry->upsert;

	before = invalidations;
	context = AllocSetContextCreate(CurrentMemoryContext, "persist_pipeline upsert",
									ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(context);
	upsert = make_upsert(rel);
	MemoryContextSwitchTo(caller);

	/* complete: from now on it stays, unless something has come meanwhile */
	if (hash_get_num_entries(known) > MAX_KNOWN)
		forget_all();
	entry = lookup(RelationGetRelid(rel));
	drop(entry);
	MemoryContextSetParent(context, CacheMemoryContext);
	entry->context = context;
	entry->upsert = upsert;
	entry->valid = invalidations == before;
	return upsert;
}

/*
 * Does an item that comes after another one of its key make a difference?  Then none may go on
 * while others of its target wait.  As far as this process has seen.
 */
bool
pp_upsert_cache_is_update(Oid target)
{
	Oid current = pp_layouts_current(target);
	KnownUpsert *entry = known ? hash_search(known, &current, HASH_FIND, NULL) : NULL;

	return entry && entry->upsert && entry->upsert->conflict.action == PP_CONFLICT_UPDATE;
}
