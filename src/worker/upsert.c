/*-------------------------------------------------------------------------
 *
 * upsert.c
 *	  Inserts rows whose keys may be there; see upsert.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "lib/rbtree.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "base/faults.h"
#include "base/savepoint.h"
#include "worker/upsert.h"

bool pp_upsert_skips_none = false;

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
typedef struct Entry
{
	const PpRow *row;
	struct Entry *next; /* of the same key, while they are sorted */
	uint64 number;		/* among the rows */
	uint64 n;			/* of so many of them */
	const uint8 *set;
	uint64 key;	  /* the number of its key */
	uint64 round; /* how many statements come before its own, for its key or for all */
	Datum *keys;
	bool *nulls;
} Entry;

/* What is being inserted */
typedef struct Work
{
	Relation rel;
	const PpRowMap *map;
	const PpUpsert *upsert;
	const PpRow **rows;
	uint64 n;
	uint64 inserted;
} Work;

/* These rows have given the same columns. */
static uint64
insert_alike(const Work *work, const uint8 *set, const PpRow **rows, uint64 n)
{
	PpOnConflict clause =
		make_clause(work->rel, work->upsert,
					is_empty(set, RelationGetNumberOfAttributes(work->rel)) ? NULL : set);

	return pp_statement_insert(work->rel, work->map, &clause, rows, n);
}

static void
insert_one_by_one(Work *work)
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
find_keys(const Work *work)
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

static Entry *
make_entries(const Work *work, const int *at)
{
	int nkeys = work->upsert->nkeys;
	Entry *entries = palloc_extended(work->n * sizeof(Entry), MCXT_ALLOC_HUGE);
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
		entries[i] = (Entry){.row = work->rows[i],
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
compare_keys(const Entry *a, const Entry *b, const PpUpsert *upsert)
{
	for (int k = 0; k < upsert->nkeys; k++)
	{
		PpUpsertKey *key = &upsert->keys[k];
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
	Entry *first;
	Entry *last;
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
are_sorted(const Entry *entries, uint64 n, const PpUpsert *upsert)
{
	for (uint64 i = 1; i < n; i++)
	{
		if (compare_keys(&entries[i - 1], &entries[i], upsert) > 0)
			return false;
	}
	return true;
}

/* By their keys, and those of a key as they came.  Many items often have few keys. */
static Entry *
sort_by_key(Entry *entries, uint64 n, const PpUpsert *upsert)
{
	RBTree *tree;
	RBTreeIterator keys;
	SameKey *same;
	Entry *sorted;
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
	sorted = palloc_extended(n * sizeof(Entry), MCXT_ALLOC_HUGE);
	rbt_begin_iterate(tree, LeftRightWalk, &keys);
	while ((same = (SameKey *) rbt_iterate(&keys)) != NULL)
	{
		for (const Entry *entry = same->first; entry; entry = entry->next)
			sorted[nsorted++] = *entry;
	}
	return sorted;
}

/* By statement, and in each of them as they came */
static int
compare_places(const void *a, const void *b, void *arg)
{
	const Entry *left = a;
	const Entry *right = b;
	int result;

	if (left->round != right->round)
		return left->round < right->round ? -1 : 1;
	result = memcmp(left->set, right->set, PpBitmapBytes(*(int *) arg));
	if (result != 0)
		return result;
	return left->number < right->number ? -1 : 1;
}

static bool
has_null(const Entry *entry, const PpUpsert *upsert)
{
	for (int k = 0; k < upsert->nkeys; k++)
	{
		if (entry->nulls[k])
			return true;
	}
	return false;
}

static bool
is_same_key(const Entry *a, const Entry *b, const PpUpsert *upsert)
{
	return compare_keys(a, b, upsert) == 0 && !(upsert->nulls_differ && has_null(a, upsert));
}

/* The fold's items, the last of which this entry has taken, are one row now. */
static void
end_fold(Entry *entry, PpFold *fold)
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
find_rounds(const Work *work, Entry *entries)
{
	const PpUpsert *upsert = work->upsert;
	int natts = RelationGetNumberOfAttributes(work->rel);
	PpFold fold = {0};
	uint64 n = 0;

	if (upsert->table)
		fold = pp_fold_make(upsert->table, work->map);
	for (uint64 i = 0; i < work->n; i++)
	{
		Entry *last = n > 0 ? &entries[n - 1] : NULL;
		Entry entry = entries[i];

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
	return ((const Entry *) a)->number < ((const Entry *) b)->number ? -1 : 1;
}

/*
 * Rows of different keys may see each other: so all are to keep their order.  A statement ends
 * where the next row sets other columns, or has a key that it has had.
 */
static void
keep_order(const Work *work, Entry *entries, uint64 n)
{
	int nbytes = PpBitmapBytes(RelationGetNumberOfAttributes(work->rel));
	uint64 *last = palloc_extended(n * sizeof(uint64), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	uint64 round = 1; /* 0: a key has had none */

	qsort(entries, n, sizeof(Entry), compare_numbers);
	for (uint64 i = 0; i < n; i++)
	{
		Entry *entry = &entries[i];

		CHECK_FOR_INTERRUPTS();
		if (last[entry->key] == round ||
			(i > 0 && memcmp(entry->set, entries[i - 1].set, nbytes) != 0))
			round++;
		entry->round = last[entry->key] = round;
	}
}

static void
insert_entries(Work *work, Entry *entries, uint64 n, uint64 first_row)
{
	int natts = RelationGetNumberOfAttributes(work->rel);
	const PpRow **rows = palloc_extended(n * sizeof(PpRow *), MCXT_ALLOC_HUGE);
	uint64 end;

	qsort_arg(entries, n, sizeof(Entry), compare_places, &natts);
	for (uint64 start = 0; start < n; start = end)
	{
		const Entry *first = &entries[start];
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
	Work *work = arg;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "persist_pipeline upsert",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	uint64 first_row = pp_statement_state.row;
	int *at = find_keys(work);

	if (at == NULL)
		insert_one_by_one(work);
	else
	{
		Entry *entries = sort_by_key(make_entries(work, at), work->n, work->upsert);
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
	Work work = {.rel = rel, .map = map, .upsert = upsert, .rows = rows, .n = n};
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
