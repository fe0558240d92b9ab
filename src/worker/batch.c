/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  Inserts rows of many targets, parents before children; see batch.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "partitioning/partdesc.h"
#include "utils/lsyscache.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/faults.h"
#include "base/savepoint.h"
#include "base/table.h"
#include "store/layouts.h"
#include "worker/batch.h"
#include "worker/item_settings.h"
#include "worker/poison.h"
#include "worker/row_map.h"
#include "worker/upsert.h"

/* Targets on other servers that the transaction has written to */
static struct
{
	Oid target; /* one of them; InvalidOid: none */
	bool several;
} elsewhere;

static bool checks_in_vain; /* what is deferred can't be checked before its transaction ends */

/* 42804 if one of the rows has a value that has no column any more. */
static void
check_values(const PpRowMap *map, Relation rel, const PpRow **rows, uint64 n)
{
	uint64 first = pp_statement_state.row;

	for (uint64 i = 0; i < n && map->loses_some; i++)
	{
		CHECK_FOR_INTERRUPTS();
		pp_statement_state.row = first + i;
		pp_row_map_check(map, rel, rows[i]->item);
	}
	pp_statement_state.row = first;
}

/* Does what we write go to another server, or might it? */
static bool
goes_elsewhere(Relation rel)
{
	PartitionDesc partitions;

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return rel->rd_rel->relkind == RELKIND_FOREIGN_TABLE;
	partitions = RelationGetPartitionDesc(rel, true);
	for (int i = 0; i < partitions->nparts; i++)
	{
		Oid partition = partitions->oids[i];
		char kind = get_rel_relkind(partition);

		if (kind == RELKIND_FOREIGN_TABLE)
			return true;
		if (kind == RELKIND_PARTITIONED_TABLE)
		{
			Relation child = try_relation_open(partition, AccessShareLock);
			bool elsewhere = child && goes_elsewhere(child);

			if (child)
				relation_close(child, AccessShareLock);
			if (elsewhere)
				return true;
		}
	}
	return false;
}

/* The same of a target; one that is locked just now does not, as far as we know. */
bool
pp_batch_goes_elsewhere(Oid target)
{
	bool locked;
	Relation rel = pp_layouts_open_unless_locked(target, AccessShareLock, &locked);
	bool elsewhere = rel && goes_elsewhere(rel);

	if (rel)
		relation_close(rel, NoLock);
	return elsewhere;
}

static void
note_elsewhere(Oid target)
{
	if (OidIsValid(elsewhere.target) && elsewhere.target != target)
		elsewhere.several = true;
	elsewhere.target = target;
}

void
pp_batch_begin_transaction(void)
{
	elsewhere.target = InvalidOid;
	elsewhere.several = false;
	checks_in_vain = false;
	pp_upsert_skips_none = false;
	pp_statement_begin_transaction();
}

/*
 * Does the transaction write to several targets that are on other servers?  Each of those
 * commits by itself.
 */
bool
pp_batch_is_scattered(void)
{
	return elsewhere.several;
}

/* Where the target's rows go; NULL: it is gone, and nothing has replaced it. */
static Relation
open_to_insert(Oid target)
{
	Oid current = pp_layouts_current(target);

	for (;;)
	{
		Relation rel = try_relation_open(current, RowExclusiveLock);
		Oid next = rel ? current : pp_layouts_current(target);

		if (rel || next == current)
			return rel;
		current = next; /* while we have waited */
	}
}

/* One INSERT for rows of one layout.  Returns how many are in the target now. */
static uint64
insert_run(const PpRow **rows, uint64 n)
{
	const PpItem *first = rows[0]->item;
	Relation rel = open_to_insert(first->target);
	const PpUpsert *upsert;
	PpRowMap *map;
	bool goes_away;
	uint64 inserted;

	if (rel == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("relation with OID %u does not exist", first->target)));
	map = pp_row_map_of(rel, first);
	check_values(map, rel, rows, n);
	/* another server, a view or a rule handles the rows as it likes, and when it likes */
	goes_away = goes_elsewhere(rel);
	if (goes_away)
		note_elsewhere(RelationGetRelid(rel));
	if (goes_away || rel->rd_rel->relkind == RELKIND_VIEW || rel->rd_rules)
		pp_statement_state.row = 0;
	upsert = pp_upsert_get(rel);
	inserted = upsert ? pp_upsert(rel, map, upsert, rows, n)
					  : pp_statement_insert(rel, map, NULL, rows, n);
	relation_close(rel, NoLock);

	/* a rule can make more of a row */
	return Min(inserted, n);
}

/* What a target's foreign keys refer to; a view has none of its own. */
void
pp_batch_find_relatives(PpTargetRows *group)
{
	bool locked;
	Oid target;
	Relation rel;
	ListCell *cell;

	group->successors = pp_layouts_successors(group->target);
	target = group->successors != NIL ? llast_oid(group->successors) : group->target;
	rel = pp_table_open_unless_locked(target, AccessShareLock, &locked);
	group->covers = list_make1_oid(target);
	if (rel == NULL)
		return; /* whoever inserts into it has to wait, but not we; or insert_run says so */
	foreach (cell, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fkey = lfirst(cell);

		group->parents = list_append_unique_oid(group->parents, fkey->confrelid);
	}
	if (rel->rd_rel->relispartition)
		group->covers = list_concat(group->covers, get_partition_ancestors(target));
	relation_close(rel, NoLock);
}

/* Does a foreign key of the child refer to the parent? */
bool
pp_batch_is_parent(const PpTargetRows *parent, const PpTargetRows *child)
{
	ListCell *cell;

	foreach (cell, parent->covers)
	{
		if (list_member_oid(child->parents, lfirst_oid(cell)))
			return true;
	}
	return false;
}

/* Do rows of both go into the same relation, which has replaced one of them, or both? */
bool
pp_batch_are_one(const PpTargetRows *first, const PpTargetRows *second)
{
	return first == second || linitial_oid(first->covers) == linitial_oid(second->covers);
}

/* Append it to the order, but before what has replaced it, which comes last there. */
static void
append(PpTargetRows *group, PpTargetRows **order, int *nplaced)
{
	int at = (*nplaced)++;

	for (; at > 0 && pp_batch_are_one(order[at - 1], group) &&
		   list_length(order[at - 1]->successors) < list_length(group->successors);
		 at--)
		order[at] = order[at - 1];
	order[at] = group;
}

/*
 * Append the rows of one target to the order, after those of its parents, and with them those of
 * what it has replaced, and of what has replaced it; a circle of references is cut somewhere, but
 * never between these.
 */
static void
place(PpTargetRows *groups, int ngroups, int i, PpTargetRows **order, int *nplaced)
{
	check_stack_depth();

	if (groups[i].placed)
		return;
	for (int j = 0; j < ngroups; j++)
		groups[j].placed |= pp_batch_are_one(&groups[j], &groups[i]);
	for (int j = 0; j < ngroups; j++)
	{
		if (!groups[j].placed && pp_batch_is_parent(&groups[j], &groups[i]))
			place(groups, ngroups, j, order, nplaced);
	}
	for (int j = 0; j < ngroups; j++)
	{
		if (pp_batch_are_one(&groups[j], &groups[i]))
			append(&groups[j], order, nplaced);
	}
}

typedef struct ShareEntry
{
	Oid target; /* hash key */
	int group;
} ShareEntry;

/* Sort the rows by target, each target's in their own order. */
static PpTargetRows *
divide(const PpRow **rows, uint64 n, int *ngroups)
{
	HASHCTL ctl = {
		.keysize = sizeof(Oid), .entrysize = sizeof(ShareEntry), .hcxt = CurrentMemoryContext};
	HTAB *by_target =
		hash_create("persist_pipeline shares", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	int max = 16;
	PpTargetRows *groups = palloc0(max * sizeof(PpTargetRows));
	int *group_of = palloc_extended(Max(n, 1) * sizeof(int), MCXT_ALLOC_HUGE);

	*ngroups = 0;
	for (uint64 i = 0; i < n; i++)
	{
		ShareEntry *entry;
		bool found;

		if (i > 0 && rows[i]->item->target == rows[i - 1]->item->target)
		{
			group_of[i] = group_of[i - 1];
			groups[group_of[i]].n++;
			continue;
		}
		entry = hash_search(by_target, &rows[i]->item->target, HASH_ENTER, &found);
		if (!found)
		{
			if (*ngroups == max)
			{
				groups = repalloc(groups, 2 * max * sizeof(PpTargetRows));
				memset(groups + max, 0, max * sizeof(PpTargetRows));
				max *= 2;
			}
			entry->group = (*ngroups)++;
			groups[entry->group].target = rows[i]->item->target;
		}
		group_of[i] = entry->group;
		groups[entry->group].n++;
	}

	for (int s = 0; s < *ngroups; s++)
	{
		groups[s].rows = palloc_extended(groups[s].n * sizeof(PpRow *), MCXT_ALLOC_HUGE);
		groups[s].n = 0;
	}
	for (uint64 i = 0; i < n; i++)
	{
		PpTargetRows *group = &groups[group_of[i]];

		group->rows[group->n++] = rows[i];
		if (group->n == 2 && group->rows[0]->unit == rows[i]->unit && PP_MISTAKE(swaps_rows))
		{
			group->rows[1] = group->rows[0];
			group->rows[0] = rows[i];
		}
	}
	hash_destroy(by_target);

	return groups;
}

/*
 * Divide the rows by target, in the order in which that should be done: parents before
 * children, and what was replaced before what has replaced it.  In the current memory context.
 */
PpTargetRows **
pp_batch_divide(const PpRow **rows, uint64 n, int *ngroups)
{
	PpTargetRows *groups = divide(rows, n, ngroups);
	PpTargetRows **order = palloc(Max(*ngroups, 1) * sizeof(PpTargetRows *));
	int nplaced = 0;

	for (int i = 0; i<*ngroups && * ngroups> 1; i++)
		pp_batch_find_relatives(&groups[i]);
	for (int i = 0; i < *ngroups; i++)
		place(groups, *ngroups, i, order, &nplaced);

	return order;
}

static void
fire_deferred(void *arg)
{
	pp_batch_fire_deferred();
}

/* May a row of the target, which is locked, have deferred something? */
static bool
may_defer(Oid target)
{
	Relation rel = relation_open(pp_layouts_current(target), NoLock);
	bool may = rel->rd_rel->relkind != RELKIND_RELATION || rel->trigdesc || rel->rd_rules;

	relation_close(rel, NoLock);
	return may;
}

/*
 * A candidate (poison.h) has been inserted by itself: what is deferred may end this process,
 * too.  What rows to come may still mend is checked with all the others, in the end.
 */
static void
check_candidate(Oid target)
{
	ErrorData *error =
		checks_in_vain || !may_defer(target) ? NULL : pp_savepoint_run(fire_deferred, NULL);

	if (error && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	checks_in_vain |= error != NULL;
	pp_poison_note_item(PP_AT_HAND_ALL, 0, 0);
}

static bool
is_row_candidate(const PpRow *row)
{
	return pp_poison_has_candidates() && pp_poison_is_candidate(row->pos, row->part);
}

/*
 * Insert the rows of a target, in the current transaction, as the current user.
 * Returns how many of them are in it now; a trigger or a rule has passed over the
 * others.  Allocates in the current memory context.  Errors: 42P01 and 42804 where
 * the target is gone or has changed; all that an INSERT can raise; pp_statement_state
 * tells where.
 */
uint64
pp_batch_insert(const PpTargetRows *group)
{
	PpStatementState outer = pp_statement_state; /* in direct mode, of a trigger */
	uint64 inserted = 0;
	uint64 start = 0;

	pp_statement_state = (PpStatementState){.target = group->target};
	PushActiveSnapshot(GetTransactionSnapshot());
	while (start < group->n)
	{
		const PpRow *first = group->rows[start];
		bool alone = is_row_candidate(first);
		uint64 end = start + 1;
		uint64 dropped;
		int level;

		while (!alone && end < group->n &&
			   pp_item_same_layout(first->item, group->rows[end]->item) &&
			   !is_row_candidate(group->rows[end]))
			end++;
		if (alone)
			pp_poison_note_item(PP_AT_HAND_ITEM, first->pos, first->part);

		/* whatever is wrong before it has begun is wrong with the first one, too */
		pp_statement_state.in_rows = false;
		pp_statement_state.row = start + 1;
		level = pp_item_settings_set(first->item);
		dropped = end - start > 1 && PP_MISTAKE(drops_row) ? 1 : 0;
		inserted += insert_run(group->rows + start, end - start - dropped) + dropped;
		pp_statement_state.row = 0; /* triggers may be to blame that fire after it */
		CommandCounterIncrement();
		if (alone)
			check_candidate(group->target);
		pp_item_settings_reset(level);
		start = end;
	}
	PopActiveSnapshot();
	pp_statement_state = outer;

	return inserted;
}

/*
 * Fire what is deferred.  What passes need not be fired again; what comes after it is
 * deferred again, since rows to come may belong to it.
 */
void
pp_batch_fire_deferred(void)
{
	ConstraintsSetStmt *all = makeNode(ConstraintsSetStmt);

	all->deferred = false;
	AfterTriggerSetState(all);
	all->deferred = true;
	AfterTriggerSetState(all);
}
