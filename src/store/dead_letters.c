/*-------------------------------------------------------------------------
 *
 * dead_letters.c
 *	  Writes dead letters, and takes them away; see dead_letters.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/extension.h"
#include "base/ids.h"
#include "base/item_check.h"
#include "store/dead_letters.h"
#include "store/layouts.h"

#define TABLE "persist_dead_letters"
#define MAX_BYTES (MaxAllocSize - 1024 * 1024) /* of item and values: the rest is short */

enum
{
	COLUMN_ID,
	COLUMN_TARGET,
	COLUMN_TARGET_NAME,
	COLUMN_ROLE,
	COLUMN_ROLE_NAME,
	COLUMN_ITEM,
	COLUMN_SQLSTATE,
	COLUMN_MESSAGE,
	COLUMN_DETAIL,
	COLUMN_CONSTRAINT_NAME,
	COLUMN_CONTEXT,
	COLUMN_ENQUEUED_AT,
	COLUMN_FAILED_AT,
	COLUMN_ATTEMPTS,
	COLUMN_POS,
	COLUMN_PART,
	COLUMN_DATA,
	COLUMN_CHECKSUM,
	COLUMN_DATA_CHECKSUM,
	COLUMN_ITEM_CHECKSUM,
	COLUMN_DEPTH,
	COLUMN_LEFT_OUT,
	COLUMNS
};

PpTable
pp_dead_letters_open(Oid extension)
{
	return pp_table_open_to_write(extension, TABLE);
}

static void
set_letter_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	values[column] = text ? CStringGetTextDatum(text) : (Datum) 0;
}

static Datum
letter_item_bytes(const PpItem *item)
{
	bytea *data = palloc(VARHDRSZ + item->size);

	SET_VARSIZE(data, VARHDRSZ + item->size);
	memcpy(VARDATA(data), item, item->size);
	return PointerGetDatum(data);
}

/* Of whose the letter is, and of something in it: that of another one doesn't fit. */
static int64
checksum(const PpDeadLetter *letter, const void *bytes, Size length)
{
	uint64 columns[] = {letter->id,	  letter->target, letter->role,	 letter->attempts,
						letter->pos,  letter->part,	  letter->depth, letter->left_out};
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, columns, sizeof(columns));
	COMP_CRC32C(crc, bytes, length);
	FIN_CRC32C(crc);
	return crc;
}

/* Of its item; 0: there is none. */
static int64
checksum_of_item(const PpDeadLetter *letter)
{
	return letter->item ? checksum(letter, letter->item, letter->item->size) : 0;
}

/* Of its values as JSON; 0: they aren't told. */
static int64
checksum_of_shown(const PpDeadLetter *letter)
{
	return letter->shown ? checksum(letter, VARDATA_ANY(letter->shown),
									VARSIZE_ANY_EXHDR(letter->shown))
						 : 0;
}

/* What is in its row, or more; but for the parts that have a limit of their own. */
static Size
letter_size(const PpDeadLetter *letter)
{
	return (letter->item ? letter->item->size : 0) + (letter->shown ? VARSIZE(letter->shown) : 0);
}

/* Write a letter, in the current transaction.  54000 if it is too large for a row. */
void
pp_dead_letter_put(PpTable *letters, const PpDeadLetter *letter)
{
	const ErrorData *error = letter->error;
	char *role_name = GetUserNameFromId(letter->role, true);
	Datum values[COLUMNS] = {0};
	bool nulls[COLUMNS] = {false};
	NameData name;

	if (letter_size(letter) > MAX_BYTES)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("a dead letter is too large to be written"),
						errdetail("It has %zu bytes; the limit is %zu.", letter_size(letter),
								  (Size) MAX_BYTES)));
	values[COLUMN_ID] = Int64GetDatum(letter->id);
	values[COLUMN_TARGET] = ObjectIdGetDatum(letter->target);
	set_letter_text(values, nulls, COLUMN_TARGET_NAME,
					pp_layouts_target_name(pp_extension_oid(), letter->target));
	values[COLUMN_ROLE] = ObjectIdGetDatum(letter->role);
	nulls[COLUMN_ROLE_NAME] = role_name == NULL;
	if (role_name)
		namestrcpy(&name, role_name);
	values[COLUMN_ROLE_NAME] = NameGetDatum(&name);
	nulls[COLUMN_ITEM] = letter->shown == NULL;
	values[COLUMN_ITEM] = JsonbPGetDatum(letter->shown);
	set_letter_text(values, nulls, COLUMN_SQLSTATE, unpack_sql_state(error->sqlerrcode));
	set_letter_text(values, nulls, COLUMN_MESSAGE, error->message ? error->message : "");
	set_letter_text(values, nulls, COLUMN_DETAIL, error->detail);
	set_letter_text(values, nulls, COLUMN_CONSTRAINT_NAME, error->constraint_name);
	set_letter_text(values, nulls, COLUMN_CONTEXT, error->context);
	values[COLUMN_ENQUEUED_AT] = TimestampTzGetDatum(letter->enqueued_at);
	values[COLUMN_FAILED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[COLUMN_ATTEMPTS] = Int32GetDatum(letter->attempts);
	values[COLUMN_POS] = Int64GetDatum(letter->pos);
	values[COLUMN_PART] = Int32GetDatum(letter->part);
	nulls[COLUMN_DATA] = letter->item == NULL;
	if (letter->item)
		values[COLUMN_DATA] = letter_item_bytes(letter->item);
	values[COLUMN_CHECKSUM] = Int64GetDatum(checksum(letter, NULL, 0));
	values[COLUMN_DATA_CHECKSUM] = Int64GetDatum(checksum_of_item(letter));
	values[COLUMN_ITEM_CHECKSUM] = Int64GetDatum(checksum_of_shown(letter));
	values[COLUMN_DEPTH] = Int32GetDatum(letter->depth);
	values[COLUMN_LEFT_OUT] = BoolGetDatum(letter->left_out);
	pp_table_insert(letters, values, nulls);
}

/*
 * How many are there, of whom?  With those that other transactions have written, or are about
 * to take away: whatever becomes of them, there won't be more.
 */
void
pp_dead_letters_count(Oid extension, PpQuota *counts)
{
	PpTable letters = pp_table_open(extension, TABLE, AccessShareLock);
	SnapshotData dirty;
	HeapTuple tuple;

	pp_quota_init(counts, NULL);
	InitDirtySnapshot(dirty);
	pp_table_scan(&letters, &dirty, 0, NULL);
	while ((tuple = pp_table_next(&letters)) != NULL)
		(void) pp_quota_charge(counts, PP_STORE_LETTERS,
							   pp_table_oid(letters.rel, tuple, COLUMN_ROLE), 1, PG_UINT64_MAX,
							   PG_UINT64_MAX);
	pp_table_close(&letters);
}

/* The targets that there are letters of: their OIDs. */
List *
pp_dead_letters_targets(Oid extension)
{
	PpTable letters = pp_table_open(extension, TABLE, AccessShareLock);
	List *targets = NIL;
	HeapTuple tuple;

	pp_table_scan(&letters, GetLatestSnapshot(), 0, NULL);
	while ((tuple = pp_table_next(&letters)) != NULL)
		targets =
			list_append_unique_oid(targets, pp_table_oid(letters.rel, tuple, COLUMN_TARGET));
	pp_table_close(&letters);

	return targets;
}

/*
 * For those who can do without, but not wait for whoever has locked the table: lock it,
 * to write to it, in the current transaction, if that can be had at once.
 */
bool
pp_dead_letters_try_lock(Oid extension)
{
	return OidIsValid(pp_extension_try_lock(extension, TABLE, RowExclusiveLock));
}

/* Of the failure, where it lies; NULL: it was gone. */
static const char *
role_name_of(Relation rel, HeapTuple tuple)
{
	Datum name = pp_table_get(rel, tuple, COLUMN_ROLE_NAME);

	return name ? NameStr(*DatumGetName(name)) : NULL;
}

/* Is there a letter of that id, for the active snapshot?  In the current memory context. */
bool
pp_dead_letters_find(Oid extension, int64 id, PpDeadLetterNote *note)
{
	static const AttrNumber key_column[] = {COLUMN_ID + 1};
	PpTable letters = pp_table_open(extension, TABLE, AccessShareLock);
	ScanKeyData key;
	HeapTuple tuple;

	if (letters.rel == NULL)
		return false;
	pp_table_index(&letters, key_column, lengthof(key_column));
	ScanKeyInit(&key, COLUMN_ID + 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	pp_table_scan(&letters, GetActiveSnapshot(), 1, &key);
	tuple = pp_table_next(&letters);
	if (tuple)
	{
		const char *role_name = role_name_of(letters.rel, tuple);

		*note = (PpDeadLetterNote){
			.target = pp_table_oid(letters.rel, tuple, COLUMN_TARGET),
			.target_name = pp_table_text(letters.rel, tuple, COLUMN_TARGET_NAME),
			.role = pp_table_oid(letters.rel, tuple, COLUMN_ROLE),
			.role_name = role_name ? pstrdup(role_name) : NULL,
			.sqlstate = pp_table_text(letters.rel, tuple, COLUMN_SQLSTATE),
			.message = pp_table_text(letters.rel, tuple, COLUMN_MESSAGE),
			.failed_at = pp_table_time(letters.rel, tuple, COLUMN_FAILED_AT),
			.attempts = pp_table_int32(letters.rel, tuple, COLUMN_ATTEMPTS)};
	}
	pp_table_release(&letters, AccessShareLock);
	return tuple != NULL;
}

/* Allocates in the current memory context. */
static PpDeadLetter
read_letter(Relation rel, HeapTuple tuple)
{
	PpDeadLetter letter = {.id = pp_table_int64(rel, tuple, COLUMN_ID),
					   .target = pp_table_oid(rel, tuple, COLUMN_TARGET),
					   .role = pp_table_oid(rel, tuple, COLUMN_ROLE),
					   .enqueued_at = pp_table_time(rel, tuple, COLUMN_ENQUEUED_AT),
					   .attempts = pp_table_int32(rel, tuple, COLUMN_ATTEMPTS),
					   .pos = pp_table_int64(rel, tuple, COLUMN_POS),
					   .part = pp_table_int32(rel, tuple, COLUMN_PART),
					   .depth = pp_table_int32(rel, tuple, COLUMN_DEPTH),
					   .left_out = pp_table_bool(rel, tuple, COLUMN_LEFT_OUT)};
	const char *role_name = role_name_of(rel, tuple);
	Datum shown = pp_table_get(rel, tuple, COLUMN_ITEM);
	Datum bytes = pp_table_get(rel, tuple, COLUMN_DATA);

	if (role_name)
		letter.role_name = pstrdup(role_name);
	if (shown)
		letter.shown = (Jsonb *) PG_DETOAST_DATUM_COPY(shown);
	if (bytes)
	{
		struct varlena *data = PG_DETOAST_DATUM(bytes);
		uint64 size = VARSIZE_ANY_EXHDR(data);
		char *item = palloc_extended(size, MCXT_ALLOC_HUGE); /* aligned */

		memcpy(item, VARDATA_ANY(data), size);
		if (pp_item_check_is_sound((PpItem *) item, size))
			letter.item = (PpItem *) item;
	}

	/* what isn't as it was written isn't there */
	letter.damaged =
		pp_table_int64(rel, tuple, COLUMN_CHECKSUM) != checksum(&letter, NULL, 0);
	if (pp_table_int64(rel, tuple, COLUMN_DATA_CHECKSUM) != checksum_of_item(&letter))
		letter.item = NULL;
	if (pp_table_int64(rel, tuple, COLUMN_ITEM_CHECKSUM) != checksum_of_shown(&letter))
		letter.shown = NULL;
	return letter;
}

/* What pp_dead_letters_take() is asked for */
typedef struct Taking
{
	PpTable letters;
	bool damaged_too;
	bool wait;
	PpDeadLetterFilter filter;
	PpDeadLetterTaker take;
	void *arg;
	MemoryContext context; /* of one letter */
	uint64 taken;
	int64 last_id; /* of the last one, if any */
} Taking;

/* Has code that was called on the way, a default for one, taken it since the scan began? */
static bool
has_been_taken(HeapTuple tuple)
{
	HeapTupleHeader header = tuple->t_data;

	return (header->t_infomask & HEAP_XMAX_INVALID) == 0 &&
		   !HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask) &&
		   TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetUpdateXid(header));
}

/*
 * Has the one before it, in their order, the same id?  Then somebody who has written to the
 * table has doubled it.
 */
static bool
is_copied_letter(const Taking *taking, const PpDeadLetter *letter)
{
	return taking->taken > 0 && !letter->damaged && letter->id == taking->last_id;
}

static void
take_letter(Taking *taking, HeapTuple tuple)
{
	Relation rel = taking->letters.rel;
	MemoryContext caller;
	PpDeadLetter letter;

	if (!taking->filter(pp_table_oid(rel, tuple, COLUMN_ROLE), role_name_of(rel, tuple),
						pp_table_oid(rel, tuple, COLUMN_TARGET),
						pp_table_time(rel, tuple, COLUMN_FAILED_AT), taking->arg) ||
		has_been_taken(tuple))
		return;
	caller = MemoryContextSwitchTo(taking->context);
	letter = read_letter(rel, tuple);
	MemoryContextSwitchTo(caller);
	if ((!pp_dead_letter_is_lost(&letter) || taking->damaged_too) &&
		pp_table_delete(&taking->letters, &tuple->t_self, taking->wait) &&
		!is_copied_letter(taking, &letter))
	{
		taking->take(&letter, taking->arg);
		taking->taken++;
		if (!letter.damaged)
			taking->last_id = letter.id;
	}
	MemoryContextReset(taking->context);
}

/* All of them, in order. */
static void
take_all(Taking *taking)
{
	static const AttrNumber order[] = {COLUMN_POS + 1, COLUMN_PART + 1, COLUMN_ID + 1};
	HeapTuple tuple;

	pp_table_index(&taking->letters, order, lengthof(order));
	pp_table_scan(&taking->letters, GetActiveSnapshot(), 0, NULL);
	while ((tuple = pp_table_next(&taking->letters)) != NULL)
		take_letter(taking, tuple);
}

/* A letter whose place in the order is known */
typedef struct Found
{
	int64 pos;
	int32 part;
	int64 id;
	ItemPointerData tid;
} Found;

static int
compare_found(const void *a, const void *b)
{
	const Found *left = a;
	const Found *right = b;

	if (left->pos != right->pos)
		return left->pos < right->pos ? -1 : 1;
	if (left->part != right->part)
		return left->part < right->part ? -1 : 1;
	return left->id < right->id ? -1 : left->id > right->id;
}

/* Where are the letters of these ids?  In their order. */
static Found *
find_letters(PpTable *letters, const int64 *ids, int nids, uint64 *nfound)
{
	static const AttrNumber key_column[] = {COLUMN_ID + 1};
	int64 *sorted = palloc_extended(Max(nids, 1) * sizeof(int64), MCXT_ALLOC_HUGE);
	uint64 max = Max(nids, 1);
	Found *found = palloc_extended(max * sizeof(Found), MCXT_ALLOC_HUGE);

	pp_table_index(letters, key_column, lengthof(key_column));
	memcpy(sorted, ids, nids * sizeof(int64));
	qsort(sorted, nids, sizeof(int64), pp_ids_compare);
	*nfound = 0;
	for (int i = 0; i < nids; i++)
	{
		ScanKeyData key;
		HeapTuple tuple;

		if (i > 0 && sorted[i] == sorted[i - 1])
			continue;
		ScanKeyInit(&key, COLUMN_ID + 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(sorted[i]));
		pp_table_scan(letters, GetActiveSnapshot(), 1, &key);
		while ((tuple = pp_table_next(letters)) != NULL)
		{
			if (*nfound == max)
				found = repalloc_huge(found, (max *= 2) * sizeof(Found));
			found[(*nfound)++] =
				(Found){.pos = pp_table_int64(letters->rel, tuple, COLUMN_POS),
						.part = pp_table_int32(letters->rel, tuple, COLUMN_PART),
						.id = sorted[i],
						.tid = tuple->t_self};
		}
	}
	pp_table_end_scan(letters);
	qsort(found, *nfound, sizeof(Found), compare_found);
	pfree(sorted);

	return found;
}

static void
take_some_letters(Taking *taking, const int64 *ids, int nids)
{
	uint64 n;
	Found *found = find_letters(&taking->letters, ids, nids, &n);
	TupleTableSlot *slot = table_slot_create(taking->letters.rel, NULL);

	for (uint64 i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (table_tuple_fetch_row_version(taking->letters.rel, &found[i].tid, GetActiveSnapshot(),
										  slot))
			take_letter(taking, ExecFetchSlotHeapTuple(slot, false, NULL));
		ExecClearTuple(slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	pfree(found);
}

/*
 * Take letters away, in the current transaction: those of these ids, or all, if ids is
 * NULL, that the filter wants; with damaged_too, whatever is in them.  Those that somebody
 * else is taking are waited for, or passed over.  `take` is called for each in the order in which
 * the items came to their commits.  Returns how many.
 */
uint64
pp_dead_letters_take(Oid extension, const int64 *ids, int nids, bool damaged_too, bool wait,
					 PpDeadLetterFilter filter, PpDeadLetterTaker take, void *arg)
{
	Taking taking = {.letters = pp_dead_letters_open(extension),
					 .damaged_too = damaged_too,
					 .wait = wait,
					 .filter = filter,
					 .take = take,
					 .arg = arg,
					 .context = AllocSetContextCreate(
						 CurrentMemoryContext, "persist_pipeline letter", ALLOCSET_DEFAULT_SIZES)};

	PushActiveSnapshot(GetLatestSnapshot());
	if (ids)
		take_some_letters(&taking, ids, nids);
	else
		take_all(&taking);
	PopActiveSnapshot();
	pp_table_close(&taking.letters);
	MemoryContextDelete(taking.context);
	CommandCounterIncrement();

	return taking.taken;
}
