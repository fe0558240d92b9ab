/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  Items to INSERTs; see batch.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "batch.h"
#include "compat.h"

/* Plans are dropped all together when there are so many: nothing grows for ever. */
#define MAX_PLANS 512

typedef struct PlanKey
{
	Oid target;
	Oid role; /* rights to a schema are checked by the parser alone */
	uint64 shape;
} PlanKey;

typedef struct KeptPlan
{
	PlanKey key;
	char *sql; /* as it was prepared; NULL: not prepared */
	SPIPlanPtr plan;
} KeptPlan;

/* The rows that persist_batch() returns, and to whom */
typedef struct Source
{
	const char *sql; /* the statement's text, by address */
	TupleDesc descriptor;
	const PpItem **items;
	int n;
} Source;

static HTAB *plans = NULL;
static MemoryContext plan_context = NULL;
static Source *source = NULL;

PG_FUNCTION_INFO_V1(persist_batch);

/*
 * persist_batch() returns setof record: the rows of the batch that is being
 * inserted.  Makes a tuplestore at every call, since a rule can make the
 * statement call it more than once.
 */
Datum
persist_batch(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	EState *estate;
	TupleTableSlot *slot;
	bool ours;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);

	estate = rsinfo->econtext->ecxt_estate;
	ours = source != NULL && estate != NULL && estate->es_sourceText == source->sql;
	if (!ours)
		return (Datum) 0;

	/* the real one: the executor compares it with what the caller expects */
	rsinfo->setDesc = CreateTupleDescCopy(source->descriptor);

	slot = MakeSingleTupleTableSlot(source->descriptor, &TTSOpsMinimalTuple);
	for (int i = 0; i < source->n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		ExecStoreMinimalTuple(pp_item_tuple(source->items[i]), slot, false);
		tuplestore_puttupleslot(rsinfo->setResult, slot);
	}
	ExecDropSingleTupleTableSlot(slot);

	return (Datum) 0;
}

/* The SQL name of a type, whatever search_path and type modifier say. */
static char *
type_name(Oid type)
{
	return format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

/*
 * The descriptor of tuples without columns: a column that nobody selects, since
 * SQL has no column definition list of none.
 */
static TupleDesc
no_columns(void)
{
	TupleDesc desc = CreateTemplateTupleDesc(1);

	TupleDescInitEntry(desc, 1, "none", BOOLOID, -1, 0);
	pp_tupdesc_finalize(desc);
	return desc;
}

/* The INSERT for rows of this shape, by the names as they are now. */
static char *
compose(Relation rel, const uint8 *carried, TupleDesc desc)
{
	Oid schema = pp_extension_schema(get_extension_oid("persist_pipeline", false));
	TupleDesc rel_desc = RelationGetDescr(rel);
	StringInfoData into;
	StringInfoData select;
	StringInfoData columns;
	bool overriding = false;
	int n = 0;

	initStringInfo(&into);
	initStringInfo(&select);
	initStringInfo(&columns);
	for (int attnum = 1; attnum <= rel_desc->natts; attnum++)
	{
		Form_pg_attribute att = TupleDescAttr(rel_desc, attnum - 1);
		const char *comma = n > 0 ? ", " : "";

		if (!PpBitmapHas(carried, attnum))
			continue;
		n++;
		appendStringInfo(&into, "%s%s", comma, quote_identifier(NameStr(att->attname)));
		appendStringInfo(&select, "%sb.c%d", comma, n);
		appendStringInfo(&columns, "%sc%d %s", comma, n,
						 type_name(TupleDescAttr(desc, n - 1)->atttypid));

		/* through a view it would let a user's value in */
		if (att->attidentity == ATTRIBUTE_IDENTITY_ALWAYS && rel->rd_rel->relkind != RELKIND_VIEW)
			overriding = true;
	}

	return psprintf(
		"INSERT INTO %s%s%s%s%s SELECT %s FROM %s AS b (%s)",
		quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
								   RelationGetRelationName(rel)),
		n > 0 ? " (" : "", into.data, n > 0 ? ")" : "",
		overriding ? " OVERRIDING SYSTEM VALUE" : "", select.data,
		psprintf("%s()", quote_qualified_identifier(get_namespace_name(schema), "persist_batch")),
		n > 0 ? columns.data : "c1 pg_catalog.bool");
}

static void
forget_plans(void)
{
	HASH_SEQ_STATUS scan;
	KeptPlan *plan;

	hash_seq_init(&scan, plans);
	while ((plan = hash_seq_search(&scan)) != NULL)
	{
		if (plan->sql)
			SPI_freeplan(plan->plan);
	}
	MemoryContextDelete(plan_context);
	plans = NULL;
}

static KeptPlan *
lookup_plan(const PlanKey *key)
{
	KeptPlan *plan;
	bool found;

	if (plans == NULL)
	{
		HASHCTL ctl = {.keysize = sizeof(PlanKey), .entrysize = sizeof(KeptPlan)};

		plan_context =
			AllocSetContextCreate(TopMemoryContext, "persist_pipeline plans", ALLOCSET_SMALL_SIZES);
		ctl.hcxt = plan_context;
		plans =
			hash_create("persist_pipeline plans", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}

	plan = hash_search(plans, key, HASH_ENTER, &found);
	if (!found)
	{
		plan->sql = NULL;
		plan->plan = NULL;
	}
	return plan;
}

static SPIPlanPtr
prepare_once(const char *sql)
{
	SPIPlanPtr plan = SPI_prepare(sql, 0, NULL);

	if (plan == NULL)
		elog(ERROR, "could not prepare an INSERT: %s", SPI_result_code_string(SPI_result));
	return plan;
}

/*
 * A plan for this text, within SPI_connect.  It is kept, unless that would need a
 * plan to be freed that may be running: where a trigger inserts too, in direct
 * mode, plans further up the stack are in use.
 */
static SPIPlanPtr
prepare(const PlanKey *key, const char *sql)
{
	bool nested = source != NULL;
	KeptPlan *kept;
	SPIPlanPtr plan;

	if (plans && hash_get_num_entries(plans) >= MAX_PLANS)
	{
		if (nested)
			return prepare_once(sql);
		forget_plans();
	}

	kept = lookup_plan(key);
	if (kept->sql && strcmp(kept->sql, sql) == 0)
		return kept->plan;

	if (kept->sql)
	{
		/* a name has changed */
		if (nested)
			return prepare_once(sql);
		SPI_freeplan(kept->plan);
		pfree(kept->sql);
		kept->sql = NULL;
	}

	plan = prepare_once(sql);
	SPI_keepplan(plan);
	kept->plan = plan;
	kept->sql = MemoryContextStrdup(plan_context, sql);

	return plan;
}

/*
 * Run the plan.  Its statement names the target, whose lock we hold; but the
 * name of a schema can change without a lock, so the plan must have come to the
 * right table in the end.
 */
static void
execute(SPIPlanPtr plan, Source *rows, Oid target)
{
	Source *outer = source;
	CachedPlanSource *cached = linitial(SPI_plan_get_plan_sources(plan));
	int result;

	rows->sql = cached->query_string;
	source = rows;
	PG_TRY();
	{
		result = SPI_execute_plan(plan, NULL, NULL, false, 0);
	}
	PG_FINALLY();
	{
		source = outer;
	}
	PG_END_TRY();

	if (result < 0)
		elog(ERROR, "could not execute an INSERT: %s", SPI_result_code_string(result));
	if (!list_member_oid(cached->relationOids, target))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("relation with OID %u was renamed while it was written to", target)));
}

/* Does the item's tuple have the columns that the relation has now? */
static bool
fits(Relation rel, const PpItem *item)
{
	TupleDesc desc = RelationGetDescr(rel);
	uint64 fingerprint = 0;

	if (item->natts > desc->natts)
		return false;
	for (int attnum = 1; attnum <= item->natts; attnum++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, attnum - 1);

		if (!PpBitmapHas(pp_item_carried(item), attnum))
			continue;
		if (att->attisdropped || att->attgenerated != '\0')
			return false;
		fingerprint = pp_fingerprint_add(fingerprint, pp_column_fingerprint(att, NULL));
	}
	return fingerprint == item->fingerprint;
}

/* The carried columns as a bitmap of all columns that the relation has now. */
static uint8 *
widen(const PpItem *item, int natts)
{
	uint8 *carried = palloc0(PpBitmapBytes(natts) + 1);

	memcpy(carried, pp_item_carried(item), PpBitmapBytes(item->natts));
	return carried;
}

/* One INSERT for items of one shape. */
static void
insert_run(const PpItem **items, int n)
{
	const PpItem *first = items[0];
	Relation rel = try_relation_open(first->target, RowExclusiveLock);
	PlanKey key = {.target = first->target, .role = GetUserId()};
	Source rows = {.items = items, .n = n};
	uint8 *carried;
	char *sql;

	if (rel == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
						errmsg("relation with OID %u does not exist", first->target)));
	if (!fits(rel, first))
		ereport(
			ERROR,
			(errcode(ERRCODE_DATATYPE_MISMATCH),
			 errmsg("relation \"%s\" has changed since the item was enqueued",
					RelationGetRelationName(rel)),
			 errdetail(
				 "A column that the item has a value for was dropped, or its type was changed.")));

	carried = widen(first, RelationGetDescr(rel)->natts);
	rows.descriptor =
		pp_item_descriptor(RelationGetDescr(rel), carried, RelationGetDescr(rel)->natts);
	sql = compose(rel, carried, rows.descriptor);
	if (rows.descriptor->natts == 0)
		rows.descriptor = no_columns();
	key.shape = first->fingerprint;

	SPI_connect();
	execute(prepare(&key, sql), &rows, first->target);
	SPI_finish();

	relation_close(rel, NoLock);
}

/* Items of one target, as indexes into the batch */
typedef struct Share
{
	Oid target;
	List *parents; /* OIDs that its foreign keys refer to */
	List *covers;  /* itself and the partitioned tables above it */
	const PpItem **items;
	int n;
	bool placed;
} Share;

/* What a target's foreign keys refer to; a view has none of its own. */
static void
find_relatives(Share *share)
{
	Relation rel = try_relation_open(share->target, RowExclusiveLock);
	ListCell *cell;

	share->covers = list_make1_oid(share->target);
	if (rel == NULL)
		return; /* insert_run says so */
	foreach (cell, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *fkey = lfirst(cell);

		share->parents = list_append_unique_oid(share->parents, fkey->confrelid);
	}
	if (rel->rd_rel->relispartition)
		share->covers = list_concat(share->covers, get_partition_ancestors(share->target));
	relation_close(rel, NoLock);
}

static bool
is_parent(const Share *parent, const Share *child)
{
	ListCell *cell;

	foreach (cell, parent->covers)
	{
		if (list_member_oid(child->parents, lfirst_oid(cell)))
			return true;
	}
	return false;
}

/* Put a share into the order, after its parents; a circle is cut somewhere. */
static void
place(Share *shares, int nshares, int i, int *order, int *nplaced)
{
	check_stack_depth();

	if (shares[i].placed)
		return;
	shares[i].placed = true;
	for (int j = 0; j < nshares; j++)
	{
		if (is_parent(&shares[j], &shares[i]))
			place(shares, nshares, j, order, nplaced);
	}
	order[(*nplaced)++] = i;
}

typedef struct ShareEntry
{
	Oid target; /* hash key */
	int share;
} ShareEntry;

/* Sort the items by target, each target's in their own order. */
static Share *
divide(const PpItem **items, int n, int *nshares)
{
	HASHCTL ctl = {
		.keysize = sizeof(Oid), .entrysize = sizeof(ShareEntry), .hcxt = CurrentMemoryContext};
	HTAB *by_target =
		hash_create("persist_pipeline shares", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	int max = 16;
	Share *shares = palloc0(max * sizeof(Share));
	int *share_of = palloc(n * sizeof(int));

	*nshares = 0;
	for (int i = 0; i < n; i++)
	{
		ShareEntry *entry;
		bool found;

		if (i > 0 && items[i]->target == items[i - 1]->target)
		{
			share_of[i] = share_of[i - 1];
			shares[share_of[i]].n++;
			continue;
		}
		entry = hash_search(by_target, &items[i]->target, HASH_ENTER, &found);
		if (!found)
		{
			if (*nshares == max)
			{
				shares = repalloc(shares, 2 * max * sizeof(Share));
				memset(shares + max, 0, max * sizeof(Share));
				max *= 2;
			}
			entry->share = (*nshares)++;
			shares[entry->share].target = items[i]->target;
		}
		share_of[i] = entry->share;
		shares[entry->share].n++;
	}

	for (int s = 0; s < *nshares; s++)
	{
		shares[s].items = palloc(shares[s].n * sizeof(PpItem *));
		shares[s].n = 0;
	}
	for (int i = 0; i < n; i++)
	{
		Share *share = &shares[share_of[i]];

		share->items[share->n++] = items[i];
	}
	hash_destroy(by_target);

	return shares;
}

static void
insert_share(Share *share)
{
	int start = 0;

	while (start < share->n)
	{
		int end = start + 1;

		while (end < share->n && pp_item_same_shape(share->items[start], share->items[end]))
			end++;
		insert_run(share->items + start, end - start);
		CommandCounterIncrement();
		start = end;
	}
}

/*
 * Insert the items, in the current transaction, as the current user: each
 * target's in their order, parents before children.  Allocates in the current
 * memory context.  Errors: 42P01 and 42804 where a target is gone or has changed;
 * all that an INSERT can raise.
 */
void
pp_batch_insert(const PpItem **items, int n)
{
	int nshares;
	Share *shares = divide(items, n, &nshares);
	int *order = palloc(nshares * sizeof(int));
	int nplaced = 0;

	if (nshares > 1)
	{
		for (int i = 0; i < nshares; i++)
			find_relatives(&shares[i]);
	}
	for (int i = 0; i < nshares; i++)
		place(shares, nshares, i, order, &nplaced);

	PushActiveSnapshot(GetTransactionSnapshot());
	for (int i = 0; i < nshares; i++)
		insert_share(&shares[order[i]]);
	PopActiveSnapshot();
}
