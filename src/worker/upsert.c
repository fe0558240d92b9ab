/*-------------------------------------------------------------------------
 *
 * upsert.c
 *	  Inserts rows whose keys may be there; see upsert.h.
 *
 * What is configured for a target is remembered until its relation cache is invalidated, as it is
 * by each change of its settings (settings.h).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_trigger.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "lib/rbtree.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/faults.h"
#include "base/savepoint.h"
#include "producer/conflict.h"
#include "store/layouts.h"
#include "store/settings.h"
#include "worker/fold.h"
#include "worker/upsert.h"

#define MAX_KNOWN 1024 /* targets; then all are forgotten */

bool pp_upsert_skips_none = false;

/* ---- what is configured ---- */

/* A column of the key, as its index has it */
typedef struct UpsertKey
{
	AttrNumber attnum; /* of the target */
	Oid collation;
	FmgrInfo compare;
} UpsertKey;

/* What is configured for a target, and what an upsert may meet there */
struct PpUpsert
{
	PpConflict conflict;
	int nkeys; /* columns that the batch can compare; 0: it can't */
	UpsertKey *keys;
	bool nulls_differ; /* two NULLs are not the same key */
	bool may_surprise; /* the INSERT may find other keys than we do */
	bool keeps_order;  /* rows of different keys may see each other */
	bool may_skip;	   /* a trigger may take the update away */
	PpFoldable *table; /* NULL: items of one key don't become one */
};

/* What is known of a target */
typedef struct KnownUpsert
{
	Oid target; /* hash key */
	bool valid; /* cleared by invalidation */
	MemoryContext context;
	PpUpsert *upsert; /* NULL: nothing is configured */
} KnownUpsert;

static HTAB *known_upserts = NULL;
static uint64 upsert_invalidations = 0;

static void
invalidate_upserts(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	KnownUpsert *entry;

	upsert_invalidations++;
	if (OidIsValid(relid))
	{
		entry = hash_search(known_upserts, &relid, HASH_FIND, NULL);
		if (entry)
			entry->valid = false;
		return;
	}
	hash_seq_init(&scan, known_upserts);
	while ((entry = hash_seq_search(&scan)) != NULL)
		entry->valid = false;
}

/* In direct mode a trigger that inserts can be within a statement that still uses it. */
static void
drop_known_upsert(KnownUpsert *entry)
{
	if (entry->context)
		MemoryContextSetParent(entry->context, TopTransactionContext);
	entry->context = NULL;
}

static void
forget_known_upserts(void)
{
	HASH_SEQ_STATUS scan;
	KnownUpsert *entry;

	hash_seq_init(&scan, known_upserts);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		drop_known_upsert(entry);
		(void) hash_search(known_upserts, &entry->target, HASH_REMOVE, NULL);
	}
}

static KnownUpsert *
find_known_upsert(Oid target)
{
	KnownUpsert *entry;
	bool found;

	if (known_upserts == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(KnownUpsert)};

		known_upserts = hash_create("persist_pipeline upserts", 32, &ctl, HASH_ELEM | HASH_BLOBS);
		CacheRegisterRelcacheCallback(invalidate_upserts, (Datum) 0);
	}
	entry = hash_search(known_upserts, &target, HASH_ENTER, &found);
	if (!found)
		*entry = (KnownUpsert){.target = target};
	return entry;
}

/* Compare keys as their index does, if that is one that can. */
static void
read_key_index(PpUpsert *upsert, const PpConflictTable *table)
{
	Relation index = index_open(linitial_oid(table->indexes), AccessShareLock);
	int n = upsert->conflict.nkeys;

	if (index->rd_rel->relam == BTREE_AM_OID)
	{
		upsert->nkeys = n;
		upsert->keys = palloc0(n * sizeof(UpsertKey));
		upsert->nulls_differ = !index->rd_index->indnullsnotdistinct;
	}
	for (int i = 0; i < upsert->nkeys; i++)
	{
		UpsertKey *key = &upsert->keys[i];

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
	read_key_index(upsert, &table);
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
pp_upsert_get(Relation rel)
{
	KnownUpsert *entry = find_known_upsert(RelationGetRelid(rel));
	MemoryContext context;
	MemoryContext caller;
	PpUpsert *upsert;
	uint64 before;

	if (entry->valid)
		return entry->upsert;

	before = upsert_invalidations;
	context = AllocSetContextCreate(CurrentMemoryContext, "persist_pipeline upsert",
									ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(context);
	upsert = make_upsert(rel);
	MemoryContextSwitchTo(caller);

	/* complete: from now on it stays, unless something has come meanwhile */
	if (hash_get_num_entries(known_upserts) > MAX_KNOWN)
		forget_known_upserts();
	entry = find_known_upsert(RelationGetRelid(rel));
	drop_known_upsert(entry);
	MemoryContextSetParent(context, CacheMemoryContext);
	entry->context = context;
	entry->upsert = upsert;
	entry->valid = upsert_invalidations == before;
	return upsert;
}

/*
 * Does an item that comes after another one of its key make a difference?  Then none may go on
 * while others of its target wait.  As far as this process has seen.
 */
bool
pp_upsert_is_update(Oid target)
{
	Oid current = pp_layouts_current(target);
	KnownUpsert *entry =
		known_upserts ? hash_search(known_upserts, &current, HASH_FIND, NULL) : NULL;

	return entry && entry->upsert && entry->upsert->conflict.action == PP_CONFLICT_UPDATE;
}

/* ---- the clause ---- */

/* The target's columns that what an item gives goes into, but for those of the key. */
static uint8 *
columns_set(Relation rel, const PpRowMap *map, const PpUpsert *upsert, const PpItem *item)
{
	uint8 *set = palloc0(PpBitmapBytes(RelationGetNumberOfAttributes(rel)) + 1);
	int i = 0;

	for (int attnum = 1; attnum <= item->natts; attnum++)
	{
		AttrNumber to;

		if (!PpBitmapHas(pp_item_carried(item), attnum))
			continue;
		to = map->to[i++];
		if (to != 0 && PpBitmapHas(pp_item_given(item), attnum) &&
			!PpBitmapHas(upsert->conflict.is_key, to))
			PpBitmapAdd(set, to);
	}
	return set;
}

static bool
is_empty(const uint8 *bitmap, int natts)
{
	for (int i = 0; i < PpBitmapBytes(natts); i++)
	{
		if (bitmap[i] != 0)
			return false;
	}
	return true;
}

static const char *
column_name(Relation rel, AttrNumber attnum)
{
	return quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attname));
}

/* set: NULL: none, DO NOTHING */
static PpOnConflict
make_clause(Relation rel, const PpUpsert *upsert, const uint8 *set)
{
	const PpConflict *conflict = &upsert->conflict;
	PpOnConflict result = {.may_skip = set == NULL || upsert->may_skip};
	const char *comma = "";
	StringInfoData clause;

	initStringInfo(&clause);
	appendStringInfoString(&clause, " ON CONFLICT");
	for (int i = 0; i < conflict->nkeys; i++)
		appendStringInfo(&clause, "%s%s", i == 0 ? " (" : ", ",
						 column_name(rel, conflict->keys[i]));
	if (conflict->nkeys > 0)
		appendStringInfoChar(&clause, ')');
	appendStringInfoString(&clause, set ? " DO UPDATE SET " : " DO NOTHING");
	for (int attnum = 1; set && attnum <= RelationGetNumberOfAttributes(rel); attnum++)
	{
		const char *name;

		if (!PpBitmapHas(set, attnum))
			continue;
		name = column_name(rel, attnum);
		/* a NULL counts for nothing, whichever it is */
		if (PpBitmapHas(conflict->is_added, attnum))
			appendStringInfo(&clause,
							 "%s%s = COALESCE(t.%s OPERATOR(pg_catalog.+) excluded.%s,"
							 " excluded.%s, t.%s)",
							 comma, name, name, name, name, name);
		else
			appendStringInfo(&clause, "%s%s = excluded.%s", comma, name, name);
		comma = ", ";
	}
	result.clause = clause.data;
	result.hash = hash_bytes((const unsigned char *) clause.data, clause.len);
	return result;
}

/* ---- which statements ---- */

/* A row on its way into a statement */
typedef struct UpsertRow
{
	const PpRow *row;
	struct UpsertRow *next; /* of the same key, while they are sorted */
	uint64 number;		/* among the rows */
	uint64 n;			/* of so many of them */
	const uint8 *set;
	uint64 key;	  /* the number of its key */
	uint64 round; /* how many statements come before its own, for its key or for all */
	Datum *keys;
	bool *nulls;
} UpsertRow;

/* What is being inserted */
typedef struct UpsertWork
{
	Relation rel;
	const PpRowMap *map;
	const PpUpsert *upsert;
	const PpRow **rows;
	uint64 n;
	uint64 inserted;
} UpsertWork;

/* These rows have given the same columns. */
static uint64
insert_alike(const UpsertWork *work, const uint8 *set, const PpRow **rows, uint64 n)
{
	PpOnConflict clause =
		make_clause(work->rel, work->upsert,
					is_empty(set, RelationGetNumberOfAttributes(work->rel)) ? NULL : set);

	return pp_statement_insert(work->rel, work->map, &clause, rows, n);
}

static void
insert_one_by_one(UpsertWork *work)
{
	uint64 first = pp_statement_state.row;

	work->inserted = 0;
	for (uint64 i = 0; i < work->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (i > 0)
			CommandCounterIncrement();
		pp_statement_state.row = first > 0 ? first + i : 0;
		pp_statement_state.in_rows = false;
		work->inserted +=
			insert_alike(work, columns_set(work->rel, work->map, work->upsert, work->rows[i]->item),
						 &work->rows[i], 1);
	}
}

/* Where the key's columns are in the items' tuples, from 0 on; NULL: they aren't all there. */
static int *
find_keys(const UpsertWork *work)
{
	const PpUpsert *upsert = work->upsert;
	int *at = palloc((upsert->nkeys + 1) * sizeof(int));

	if (upsert->nkeys == 0 || !work->map->is_own)
		return NULL;
	for (int k = 0; k < upsert->nkeys; k++)
	{
		at[k] = -1;
		for (int i = 0; i < work->map->n; i++)
		{
			if (work->map->to[i] == upsert->keys[k].attnum)
				at[k] = i;
		}
		if (at[k] < 0)
			return NULL;
	}
	return at;
}

static UpsertRow *
make_entries(const UpsertWork *work, const int *at)
{
	int nkeys = work->upsert->nkeys;
	UpsertRow *entries = palloc_extended(work->n * sizeof(UpsertRow), MCXT_ALLOC_HUGE);
	Datum *keys = palloc_extended(work->n * nkeys * sizeof(Datum), MCXT_ALLOC_HUGE);
	bool *nulls = palloc_extended(work->n * nkeys * sizeof(bool), MCXT_ALLOC_HUGE);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(work->map->descriptor, &TTSOpsMinimalTuple);
	uint64 first_row = pp_statement_state.row;
	const PpItem *last = NULL;
	const uint8 *set = NULL;

	for (uint64 i = 0; i < work->n; i++)
	{
		const PpItem *item = work->rows[i]->item;

		CHECK_FOR_INTERRUPTS();
		pp_statement_state.row = first_row > 0 ? first_row + i : 0;
		pp_statement_check(item, work->map);
		if (last == NULL ||
			memcmp(pp_item_given(item), pp_item_given(last), PpBitmapBytes(item->natts)) != 0)
			set = columns_set(work->rel, work->map, work->upsert, item);
		last = item;
		entries[i] = (UpsertRow){.row = work->rows[i],
								 .number = i,
								 .n = 1,
								 .set = set,
								 .keys = keys + i * nkeys,
								 .nulls = nulls + i * nkeys};
		/* what isn't passed by value lies in the item, and stays there */
		ExecStoreMinimalTuple(pp_item_tuple(item), slot, false);
		for (int k = 0; k < nkeys; k++)
			entries[i].keys[k] = slot_getattr(slot, at[k] + 1, &entries[i].nulls[k]);
	}
	ExecDropSingleTupleTableSlot(slot);
	return entries;
}

/* NULLs come last, and are equal here. */
static int
compare_keys(const UpsertRow *a, const UpsertRow *b, const PpUpsert *upsert)
{
	for (int k = 0; k < upsert->nkeys; k++)
	{
		UpsertKey *key = &upsert->keys[k];
		int result;

		if (a->nulls[k] || b->nulls[k])
			result = (int) a->nulls[k] - (int) b->nulls[k];
		else
			result = DatumGetInt32(
				FunctionCall2Coll(&key->compare, key->collation, a->keys[k], b->keys[k]));
		if (result != 0)
			return result;
	}
	return 0;
}

/* The entries of a key, as they came */
typedef struct SameKey
{
	RBTNode node;
	UpsertRow *first;
	UpsertRow *last;
} SameKey;

static int
compare_nodes(const RBTNode *a, const RBTNode *b, void *upsert)
{
	return compare_keys(((const SameKey *) a)->first, ((const SameKey *) b)->first, upsert);
}

static void
append_entry(RBTNode *existing, const RBTNode *added, void *upsert)
{
	SameKey *same = (SameKey *) existing;

	same->last->next = ((const SameKey *) added)->first;
	same->last = same->last->next;
}

static RBTNode *
allocate_node(void *upsert)
{
	return palloc(sizeof(SameKey));
}

static bool
are_sorted(const UpsertRow *entries, uint64 n, const PpUpsert *upsert)
{
	for (uint64 i = 1; i < n; i++)
	{
		if (compare_keys(&entries[i - 1], &entries[i], upsert) > 0)
			return false;
	}
	return true;
}

/* By their keys, and those of a key as they came.  Many items often have few keys. */
static UpsertRow *
sort_by_key(UpsertRow *entries, uint64 n, const PpUpsert *upsert)
{
	RBTree *tree;
	RBTreeIterator keys;
	SameKey *same;
	UpsertRow *sorted;
	uint64 nsorted = 0;

	if (are_sorted(entries, n, upsert))
		return entries;
	tree = rbt_create(sizeof(SameKey), compare_nodes, append_entry, allocate_node, NULL,
					  (void *) upsert);
	for (uint64 i = 0; i < n; i++)
	{
		bool is_new;

		CHECK_FOR_INTERRUPTS();
		(void) rbt_insert(tree, &(SameKey){.first = &entries[i], .last = &entries[i]}.node,
						  &is_new);
	}
	sorted = palloc_extended(n * sizeof(UpsertRow), MCXT_ALLOC_HUGE);
	rbt_begin_iterate(tree, LeftRightWalk, &keys);
	while ((same = (SameKey *) rbt_iterate(&keys)) != NULL)
	{
		for (const UpsertRow *entry = same->first; entry; entry = entry->next)
			sorted[nsorted++] = *entry;
	}
	return sorted;
}

/* By statement, and in each of them as they came */
static int
compare_places(const void *a, const void *b, void *arg)
{
	const UpsertRow *left = a;
	const UpsertRow *right = b;
	int result;

	if (left->round != right->round)
		return left->round < right->round ? -1 : 1;
	result = memcmp(left->set, right->set, PpBitmapBytes(*(int *) arg));
	if (result != 0)
		return result;
	return left->number < right->number ? -1 : 1;
}

static bool
has_null(const UpsertRow *entry, const PpUpsert *upsert)
{
	for (int k = 0; k < upsert->nkeys; k++)
	{
		if (entry->nulls[k])
			return true;
	}
	return false;
}

static bool
is_same_key(const UpsertRow *a, const UpsertRow *b, const PpUpsert *upsert)
{
	return compare_keys(a, b, upsert) == 0 && !(upsert->nulls_differ && has_null(a, upsert));
}

/* The fold's items, the last of which this entry has taken, are one row now. */
static void
end_fold(UpsertRow *entry, PpFold *fold)
{
	PpRow *row;

	if (fold->n == 1)
		return;
	row = palloc(sizeof(PpRow));
	*row = *entry->row;
	row->item = pp_fold_end(fold);
	entry->row = row;
	entry->n = fold->n;
}

/*
 * They are sorted by their keys: give each a round, or have it folded into the one before it.  What
 * sets nothing can meet its like in a statement.  Returns how many are left.
 */
static uint64
find_rounds(const UpsertWork *work, UpsertRow *entries)
{
	const PpUpsert *upsert = work->upsert;
	int natts = RelationGetNumberOfAttributes(work->rel);
	PpFold fold = {0};
	uint64 n = 0;

	if (upsert->table)
		fold = pp_fold_make(upsert->table, work->map);
	for (uint64 i = 0; i < work->n; i++)
	{
		UpsertRow *last = n > 0 ? &entries[n - 1] : NULL;
		UpsertRow entry = entries[i];

		CHECK_FOR_INTERRUPTS();
		if (last && is_same_key(last, &entry, upsert))
		{
			bool alike = memcmp(last->set, entry.set, PpBitmapBytes(natts)) == 0;
			bool empty = alike && is_empty(entry.set, natts);

			if (PP_MISTAKE(keeps_first))
			{
				last->n++;
				continue;
			}
			if (alike && !empty && upsert->table && pp_fold_add(&fold, entry.row->item))
				continue;
			entry.round = last->round + (empty ? 0 : 1);
			entry.key = last->key;
		}
		else if (last)
			entry.key = last->key + 1;
		if (upsert->table)
		{
			if (last)
				end_fold(last, &fold);
			pp_fold_begin(&fold, entry.row->item, entry.set);
		}
		entries[n++] = entry;
	}
	if (upsert->table)
		end_fold(&entries[n - 1], &fold);
	return n;
}

static int
compare_numbers(const void *a, const void *b)
{
	return ((const UpsertRow *) a)->number < ((const UpsertRow *) b)->number ? -1 : 1;
}

/*
 * Rows of different keys may see each other: so all are to keep their order.  A statement ends
 * where the next row sets other columns, or has a key that it has had.
 */
static void
keep_order(const UpsertWork *work, UpsertRow *entries, uint64 n)
{
	int nbytes = PpBitmapBytes(RelationGetNumberOfAttributes(work->rel));
	uint64 *last = palloc_extended(n * sizeof(uint64), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	uint64 round = 1; /* 0: a key has had none */

	qsort(entries, n, sizeof(UpsertRow), compare_numbers);
	for (uint64 i = 0; i < n; i++)
	{
		UpsertRow *entry = &entries[i];

		CHECK_FOR_INTERRUPTS();
		if (last[entry->key] == round ||
			(i > 0 && memcmp(entry->set, entries[i - 1].set, nbytes) != 0))
			round++;
		entry->round = last[entry->key] = round;
	}
}

static void
insert_entries(UpsertWork *work, UpsertRow *entries, uint64 n, uint64 first_row)
{
	int natts = RelationGetNumberOfAttributes(work->rel);
	const PpRow **rows = palloc_extended(n * sizeof(PpRow *), MCXT_ALLOC_HUGE);
	uint64 end;

	qsort_arg(entries, n, sizeof(UpsertRow), compare_places, &natts);
	for (uint64 start = 0; start < n; start = end)
	{
		const UpsertRow *first = &entries[start];
		uint64 items = 0;
		uint64 inserted;

		for (end = start; end < n && entries[end].round == first->round &&
						  memcmp(entries[end].set, first->set, PpBitmapBytes(natts)) == 0;
			 end++)
		{
			rows[end - start] = entries[end].row;
			items += entries[end].n;
		}
		if (start > 0)
			CommandCounterIncrement();
		/* an error can be told from which row it came, if all have kept their places */
		pp_statement_state.row = end - start == work->n ? first_row : 0;
		pp_statement_state.in_rows = false;
		inserted = insert_alike(work, first->set, rows, end - start);
		/* where items are folded, nothing takes a row away */
		work->inserted += items > end - start ? items : inserted;
	}
}

static void
insert_in_rounds(void *arg)
{
	UpsertWork *work = arg;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "persist_pipeline upsert",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	uint64 first_row = pp_statement_state.row;
	int *at = find_keys(work);

	if (at == NULL)
		insert_one_by_one(work);
	else
	{
		UpsertRow *entries = sort_by_key(make_entries(work, at), work->n, work->upsert);
		uint64 n = find_rounds(work, entries);

		if (work->upsert->keeps_order)
			keep_order(work, entries, n);
		pp_statement_state.row = 0;
		insert_entries(work, entries, n, first_row);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/*
 * Insert rows of one layout, as pp_statement_insert() does.  Returns how many have been inserted,
 * or have updated a row.
 */
uint64
pp_upsert(Relation rel, const PpRowMap *map, const PpUpsert *upsert, const PpRow **rows, uint64 n)
{
	UpsertWork work = {.rel = rel, .map = map, .upsert = upsert, .rows = rows, .n = n};
	PpStatementState before = pp_statement_state;
	ErrorData *error;

	if (upsert->conflict.action == PP_CONFLICT_NOTHING)
	{
		PpOnConflict clause = make_clause(rel, upsert, NULL);

		return pp_statement_insert(rel, map, pp_upsert_skips_none ? NULL : &clause, rows, n);
	}
	if (n == 1)
		insert_one_by_one(&work);
	else if (!upsert->may_surprise)
		insert_in_rounds(&work);
	else if ((error = pp_savepoint_run(insert_in_rounds, &work)) != NULL)
	{
		if (error->sqlerrcode != ERRCODE_CARDINALITY_VIOLATION)
			ReThrowError(error);
		pp_statement_state = before;
		insert_one_by_one(&work);
	}
	return work.inserted;
}
