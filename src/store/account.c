/*-------------------------------------------------------------------------
 *
 * account.c
 *	  Keeps the account of each target; see account.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/extension.h"
#include "base/table.h"
#include "ring/shmem.h"
#include "store/account.h"

#define TABLE "persist_account"

enum
{
	COLUMN_TARGET,
	COLUMN_PERSISTED,
	COLUMN_SKIPPED,
	COLUMN_DEAD,
	COLUMN_DISCARDED,
	COLUMN_LOST,
	COLUMN_BATCHES,
	COLUMN_ERRORS,
	COLUMN_LAST_ERROR,
	COLUMN_LAST_ERROR_AT,
	COLUMN_LAST_PERSISTED_AT,
	COLUMN_UNKNOWN_KEYS, /* from 1.1 on */
	COLUMN_LAST_DEAD_AT,
	COLUMNS
};

static void
put_account(PpTable *table, const PpDelta *delta)
{
	Datum values[COLUMNS];
	bool nulls[COLUMNS] = {false};

	values[COLUMN_TARGET] = ObjectIdGetDatum(delta->target);
	values[COLUMN_PERSISTED] = Int64GetDatum(delta->persisted);
	values[COLUMN_SKIPPED] = Int64GetDatum(delta->skipped);
	values[COLUMN_DEAD] = Int64GetDatum(delta->dead);
	values[COLUMN_DISCARDED] = Int64GetDatum(delta->discarded);
	values[COLUMN_LOST] = Int64GetDatum(delta->lost);
	values[COLUMN_BATCHES] = Int64GetDatum(delta->batches);
	values[COLUMN_ERRORS] = Int64GetDatum(delta->errors);
	values[COLUMN_UNKNOWN_KEYS] = Int64GetDatum(delta->unknown_keys);
	nulls[COLUMN_LAST_ERROR] = nulls[COLUMN_LAST_ERROR_AT] = delta->last_error == NULL;
	values[COLUMN_LAST_ERROR] =
		delta->last_error ? CStringGetTextDatum(delta->last_error) : (Datum) 0;
	values[COLUMN_LAST_ERROR_AT] = TimestampTzGetDatum(delta->last_error_at);
	nulls[COLUMN_LAST_PERSISTED_AT] = delta->last_persisted_at == 0;
	values[COLUMN_LAST_PERSISTED_AT] = TimestampTzGetDatum(delta->last_persisted_at);
	nulls[COLUMN_LAST_DEAD_AT] = delta->last_dead_at == 0;
	values[COLUMN_LAST_DEAD_AT] = TimestampTzGetDatum(delta->last_dead_at);
	pp_table_insert(table, values, nulls);
}

/* The row; strings are allocated in the current memory context. */
static PpDelta
get_account(Relation rel, HeapTuple tuple)
{
	return (PpDelta){.target = pp_table_oid(rel, tuple, COLUMN_TARGET),
					 .persisted = pp_table_int64(rel, tuple, COLUMN_PERSISTED),
					 .skipped = pp_table_int64(rel, tuple, COLUMN_SKIPPED),
					 .dead = pp_table_int64(rel, tuple, COLUMN_DEAD),
					 .discarded = pp_table_int64(rel, tuple, COLUMN_DISCARDED),
					 .lost = pp_table_int64(rel, tuple, COLUMN_LOST),
					 .batches = pp_table_int64(rel, tuple, COLUMN_BATCHES),
					 .errors = pp_table_int64(rel, tuple, COLUMN_ERRORS),
					 .unknown_keys = pp_table_int64(rel, tuple, COLUMN_UNKNOWN_KEYS),
					 .last_error = pp_table_text(rel, tuple, COLUMN_LAST_ERROR),
					 .last_error_at = pp_table_time(rel, tuple, COLUMN_LAST_ERROR_AT),
					 .last_persisted_at = pp_table_time(rel, tuple, COLUMN_LAST_PERSISTED_AT),
					 .last_dead_at = pp_table_time(rel, tuple, COLUMN_LAST_DEAD_AT)};
}

static void
add_up(PpDelta *sum, const PpDelta *delta)
{
	sum->persisted += delta->persisted;
	sum->skipped += delta->skipped;
	sum->dead += delta->dead;
	sum->discarded += delta->discarded;
	sum->lost += delta->lost;
	sum->batches += delta->batches;
	sum->errors += delta->errors;
	sum->unknown_keys += delta->unknown_keys;
	if (delta->last_error && (sum->last_error == NULL || sum->last_error_at < delta->last_error_at))
	{
		sum->last_error = delta->last_error;
		sum->last_error_at = delta->last_error_at;
	}
	sum->last_persisted_at = Max(sum->last_persisted_at, delta->last_persisted_at);
	sum->last_dead_at = Max(sum->last_dead_at, delta->last_dead_at);
}

/*
 * Sum up the rows that the active snapshot sees, by target; rows that could be deleted
 * now are, if that is wanted.  Returns how many rows there were.
 */
static uint64
sum_up(PpTable *table, HTAB *sums, bool take)
{
	uint64 rows = 0;
	HeapTuple tuple;

	pp_table_scan(table, GetActiveSnapshot(), 0, NULL);
	while ((tuple = pp_table_next(table)) != NULL)
	{
		PpDelta delta = get_account(table->rel, tuple);
		PpDelta *sum;
		bool found;

		if (take && !pp_table_delete(table, &tuple->t_self, false))
			continue;
		sum = hash_search(sums, &delta.target, HASH_ENTER, &found);
		if (found)
			add_up(sum, &delta);
		else
			*sum = delta;
		rows++;
	}
	return rows;
}

static HTAB *
make_sums(void)
{
	HASHCTL ctl = {
		.keysize = sizeof(Oid), .entrysize = sizeof(PpDelta), .hcxt = CurrentMemoryContext};

	return hash_create("persist_pipeline account", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Of a relation that is no more nobody asks, once nothing of it is left. */
static bool
is_forgotten(const PpDelta *sum)
{
	return OidIsValid(sum->target) && sum->dead == 0 &&
		   !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(sum->target));
}

/*
 * Make one row of all those of a target that the active snapshot sees; those of relations
 * that are no more become one.
 */
static void
compact_account(PpTable *table)
{
	PpDelta forgotten = {0};
	HASH_SEQ_STATUS seq;
	PpDelta *sum;
	HTAB *sums = make_sums();

	bool worth_it = sum_up(table, sums, false) > hash_get_num_entries(sums);

	hash_destroy(sums);
	if (!worth_it)
		return;
	sums = make_sums();
	sum_up(table, sums, true);
	hash_seq_init(&seq, sums);
	while ((sum = hash_seq_search(&seq)) != NULL)
	{
		if (is_forgotten(sum) || !OidIsValid(sum->target))
			add_up(&forgotten, sum);
		else
			put_account(table, sum);
	}
	forgotten.last_error = NULL;
	if (forgotten.persisted != 0 || forgotten.skipped != 0 || forgotten.dead != 0 ||
		forgotten.discarded != 0 || forgotten.lost != 0 || forgotten.errors != 0 ||
		forgotten.unknown_keys != 0)
		put_account(table, &forgotten);
	hash_destroy(sums);
}

/* The same, for the worker, in a transaction of its own. */
void
pp_account_compact(Oid extension)
{
	PpTable table;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (!OidIsValid(pp_extension_try_lock(extension, TABLE, RowExclusiveLock)))
	{
		CommitTransactionCommand();
		return;
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	table = pp_table_open_to_write(extension, TABLE);
	compact_account(&table);
	pp_table_close(&table);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * The worker compacts after so many batches; but where letters come from calls and are
 * discarded there are none.  Has this session, or have so many short ones, added enough?
 */
static bool
is_time_to_compact(int n)
{
	static int since = -1;

	if (pp_shmem_am_worker || IsolationIsSerializable()) /* a scan would conflict with all others */
		return false;
	if (since < 0)
		since = pg_prng_double(&pg_global_prng_state) * PP_ACCOUNT_COMPACT;
	since += n;
	if (since < PP_ACCOUNT_COMPACT)
		return false;
	since = 0;
	return true;
}

/* Add to the account, in the current transaction. */
void
pp_account_add(Oid extension, const PpDelta *deltas, int n)
{
	PpTable table;

	if (n == 0)
		return;
	table = pp_table_open_to_write(extension, TABLE);
	for (int i = 0; i < n; i++)
	{
		PpDelta delta = deltas[i];

		delta.last_dead_at = delta.dead > 0 ? GetCurrentTimestamp() : 0;
		put_account(&table, &delta);
	}
	if (is_time_to_compact(n))
	{
		PushActiveSnapshot(GetLatestSnapshot());
		compact_account(&table);
		PopActiveSnapshot();
	}
	pp_table_close(&table);
}

/* Has anything become of items of this target? */
bool
pp_account_has(Oid extension, Oid target)
{
	PpTable table = pp_table_open(extension, TABLE, AccessShareLock);
	HeapTuple tuple;
	bool found = false;

	pp_table_scan(&table, pp_table_snapshot(), 0, NULL);
	while (!found && (tuple = pp_table_next(&table)) != NULL)
		found = pp_table_oid(table.rel, tuple, COLUMN_TARGET) == target;
	pp_table_close(&table);

	return found;
}

/*
 * Begin to count anew, in the current transaction; dead letters stay what they are.
 * Nobody who adds has to wait for us: we add, too, what makes the sums 0.
 */
void
pp_account_reset(Oid extension)
{
	PpTable table = pp_table_open_to_write(extension, TABLE);
	TimestampTz now = GetCurrentTimestamp();
	HTAB *sums = make_sums();
	HASH_SEQ_STATUS seq;
	PpDelta *sum;

	/* one at a time */
	LockRelationOid(RelationGetRelid(table.rel), ShareUpdateExclusiveLock);
	PushActiveSnapshot(GetLatestSnapshot());
	sum_up(&table, sums, false);
	PopActiveSnapshot();
	hash_seq_init(&seq, sums);
	while ((sum = hash_seq_search(&seq)) != NULL)
	{
		PpDelta delta = {.target = sum->target,
						 .persisted = -sum->persisted,
						 .skipped = -sum->skipped,
						 .discarded = -sum->discarded,
						 .lost = -sum->lost,
						 .batches = -sum->batches,
						 .errors = -sum->errors,
						 .unknown_keys = -sum->unknown_keys,
						 .last_error = "",
						 .last_error_at = now};

		put_account(&table, &delta);
	}
	pp_table_close(&table);
	CommandCounterIncrement();
}
