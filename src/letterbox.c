/*-------------------------------------------------------------------------
 *
 * letterbox.c
 *	  Dead letters of rows; see letterbox.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "account.h"
#include "clock.h"
#include "config.h"
#include "faults.h"
#include "letterbox.h"
#include "poison.h"
#include "savepoint.h"
#include "shape.h"

#define MAX_REPORTS 8	/* lines at a time ... */
#define REPORT_MS 1000	/* ... so often, while the worker is busy */
#define MAX_TEXT 8192 /* bytes of a message, a detail, a context */
#define SHORT_TEXT 256

/* An error that nobody has raised. */
ErrorData *
pp_error(int sqlstate, const char *message)
{
	ErrorData *error = palloc0(sizeof(ErrorData));

	error->sqlerrcode = sqlstate;
	error->message = pstrdup(message);
	return error;
}

/* Into memory of its own, since that of the long one is for the next one then. */
static void
shorten(char **text, int max)
{
	char *longer = *text;
	int length = longer ? strlen(longer) : 0;

	if (length <= max)
		return;
	length = pg_mbcliplen(longer, length, max - 3);
	*text = palloc(length + 4);
	memcpy(*text, longer, length);
	strcpy(*text + length, "...");
	pfree(longer);
}

static void
drop(char **text)
{
	if (*text)
		pfree(*text);
	*text = NULL;
}

static void
shorten_texts(ErrorData *error, int max)
{
	shorten(&error->message, max);
	shorten(&error->detail, max);
	shorten(&error->context, max);
}

/*
 * As much of an error as a letter tells.  What code raises can be of any size, and a
 * transaction keeps one for each bad row; the name of a constraint goes to the log, too.
 */
ErrorData *
pp_error_shorten(ErrorData *error)
{
	shorten_texts(error, MAX_TEXT);
	drop(&error->hint);
	drop(&error->detail_log);
	drop(&error->internalquery);
	drop(&error->backtrace);
	shorten(&error->schema_name, NAMEDATALEN - 1);
	shorten(&error->table_name, NAMEDATALEN - 1);
	shorten(&error->column_name, NAMEDATALEN - 1);
	shorten(&error->datatype_name, NAMEDATALEN - 1);
	shorten(&error->constraint_name, NAMEDATALEN - 1);
	return error;
}

/* Of one of many that are kept: so little that they don't add up. */
void
pp_error_abridge(ErrorData *error)
{
	shorten_texts(error, SHORT_TEXT);
}

/* The bytes of its texts. */
size_t
pp_error_size(const ErrorData *error)
{
	return (error->message ? strlen(error->message) : 0) +
		   (error->detail ? strlen(error->detail) : 0) +
		   (error->context ? strlen(error->context) : 0);
}

/* Values to be shown */
typedef struct Showing
{
	Relation rel; /* NULL: it is gone */
	const PpItem *item;
	Jsonb *shown; /* NULL: nobody can read them */
} Showing;

static void
show(void *arg)
{
	Showing *showing = arg;

	showing->shown = pp_shape_show(showing->rel, showing->item);
}

/*
 * As JSON; NULL, if nobody can read them, or there are some that can't be shown, or not in
 * the time of a statement: it has a clock of its own, which may cancel it.
 */
static Jsonb *
try_to_show(const PpItem *item)
{
	Showing showing = {.rel = try_relation_open(item->target, AccessShareLock), .item = item};
	uint32 cancel_holdoffs = QueryCancelHoldoffCount;
	ErrorData *error;
	bool in_time;

	QueryCancelHoldoffCount = 0;
	pp_clock_begin_attempt();
	error = pp_under_savepoint(show, &showing);
	in_time = pp_cut != PP_CUT_TIMEOUT;
	pp_clock_end_attempt();
	QueryCancelHoldoffCount = cancel_holdoffs;
	if (error && in_time && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error); /* that says nothing of the values */
	if (showing.rel)
		relation_close(showing.rel, AccessShareLock);

	return error ? NULL : showing.shown;
}

/* A letter that is to be written, as it is or with less of it */
typedef struct Writing
{
	Oid extension;
	PpLetter letter;
	MemoryContext context; /* of one try */
} Writing;

static void
write_letter(void *arg)
{
	Writing *writing = arg;
	MemoryContext caller = MemoryContextSwitchTo(writing->context);
	PpTable letters = pp_letters_open(writing->extension);

	pp_letter_put(&letters, &writing->letter);
	pp_table_close(&letters);
	MemoryContextSwitchTo(caller);
}

/* Is it the size of the letter that has kept it from being written? */
static bool
is_too_large(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_PROGRAM_LIMIT_EXCEEDED ||
		   error->sqlerrcode == ERRCODE_OUT_OF_MEMORY;
}

/*
 * Write it with as much as can be written: the bytes, which it can be sent again by, before
 * the values.
 */
static void
write_what_fits(Writing *writing)
{
	const PpItem *item = writing->letter.item;
	Jsonb *shown = writing->letter.shown;
	struct
	{
		const PpItem *item;
		Jsonb *shown;
	} parts[] = {{item, shown}, {item, NULL}, {NULL, shown}, {NULL, NULL}};

	for (int i = 0; i < lengthof(parts); i++)
	{
		ErrorData *error;

		if (shown == NULL && i % 2 == 1)
			continue; /* that has been tried */
		writing->letter.item = parts[i].item;
		writing->letter.shown = parts[i].shown;
		writing->letter.left_out = parts[i].item == NULL;
		error = pp_under_savepoint(write_letter, writing);
		MemoryContextReset(writing->context);
		if (error == NULL)
			return;
		if (!is_too_large(error) || (parts[i].item == NULL && parts[i].shown == NULL))
			ReThrowError(error);
	}
}

/* Its values, unless they have ended a process when they were shown (poison.h). */
static Jsonb *
values_of(const PpRow *row)
{
	Jsonb *shown;

	if (pp_poison_is_unshown(row->pos, row->part))
		return NULL;
	pp_poison_note_item(PP_AT_HAND_LETTER, row->pos, row->part);
	shown = try_to_show(row->item);
	pp_poison_note_item(PP_AT_HAND_ALL, 0, 0);
	return shown;
}

static void
put(Oid extension, const PpRow *row, Oid role, const ErrorData *error)
{
	MemoryContext context = AllocSetContextCreate(
		CurrentMemoryContext, "persist_pipeline dead letter", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	const PpItem *item = row->item;
	const PpPlace *place =
		pp_item_place(item); /* ids don't tell the order, if it has failed before */
	Writing writing = {.extension = extension,
					   .letter = {.id = item->id,
								  .target = item->target,
								  .role = role,
								  .shown = values_of(row),
								  .error = error,
								  .enqueued_at = item->enqueued_at,
								  .attempts = item->attempts + 1,
								  .depth = item->depth,
								  .pos = place ? place->pos : row->pos,
								  .part = place ? place->part : row->part,
								  .item = item},
					   .context = AllocSetContextCreate(context, "persist_pipeline letter",
														ALLOCSET_DEFAULT_SIZES)};

	/* what is smaller than a page fits in any case */
	if (item->size + (writing.letter.shown ? VARSIZE(writing.letter.shown) : 0) < BLCKSZ)
		write_letter(&writing);
	else
		write_what_fits(&writing);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
}

/* Make a dead letter of the row, in the current transaction. */
void
pp_letterbox_bury(Oid extension, PpResults *results, const PpRow *row, Oid role,
				  const ErrorData *error)
{
	PpResult *result = pp_results_of(results, row->item->target);

	put(extension, row, role, error);
	result->delta.dead++;
	results->dead++;
	results->failed += row->item->attempts == 0 ? 1 : 0;
	pp_results_error(result, error, 1);
}

/* ---- retention ---- */

typedef struct Expiry
{
	TimestampTz before;
	PpResults results;
} Expiry;

static bool
is_old(Oid role, const char *role_name, Oid target, TimestampTz failed_at, void *arg)
{
	return failed_at < ((Expiry *) arg)->before;
}

static void
discard(const PpLetter *letter, void *arg)
{
	PpResult *result;

	if (letter->damaged)
		return; /* which target's it was can't be told */
	result = pp_results_of(&((Expiry *) arg)->results, letter->target);
	result->delta.dead--;
	result->delta.discarded++;
}

/* Discard those that are too old, in the current transaction.  Returns how many. */
static uint64
expire(Oid extension)
{
	Expiry expiry = {.before = GetCurrentTimestamp() -
							   pp_dead_letter_retention * INT64CONST(60) * USECS_PER_SEC};
	uint64 expired;

	if (pp_dead_letter_retention == 0)
		return 0;
	expired = pp_letters_take(extension, NULL, 0, true, false, is_old, discard, &expiry);
	pp_results_write(&expiry.results, extension);
	return expired;
}

/* The same for the worker, in a transaction of its own. */
void
pp_letterbox_expire(const PpClaim *claim)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (pp_letters_try_lock(claim->extension))
		(void) expire(claim->extension);
	CommitTransactionCommand();
}

/* ---- at the call ---- */

/*
 * What doesn't fit its target at the call becomes a dead letter, in the current
 * transaction.  53400 if there are too many, or too many of the role.
 */
void
pp_letterbox_refuse(Oid extension, const PpLetter *letter)
{
	PpLane *lane = pp_lane_find(MyDatabaseId);
	PpClaim claim = {.lane = lane, .extension = extension};
	Oid role = letter->role;
	PpDelta delta = {.target = letter->target,
					 .dead = 1,
					 .errors = 1,
					 .last_error = unpack_sql_state(letter->error->sqlerrcode),
					 .last_error_at = GetCurrentTimestamp()};
	PpTable letters;

	/* where letters come from calls alone no worker has a look at them */
	if (pp_letterbox_room(&claim, role, 1) == 0 &&
		(expire(extension) == 0 || pp_letterbox_room(&claim, role, 1) == 0))
		ereport(
			ERROR,
			(errcode(PP_LETTERS_FULL),
			 errmsg("the item for relation \"%s\" cannot become a dead letter",
					get_rel_name(letter->target)),
			 errdetail("SQLSTATE %s; \"persist_pipeline.dead_letter_limit\" is %d, of which a role "
					   "may have %d %%: \"persist_pipeline.role_quota\".",
					   unpack_sql_state(letter->error->sqlerrcode), pp_dead_letter_limit,
					   pp_role_quota),
			 errhint("Call persist_requeue() or persist_discard().")));
	PushActiveSnapshot(GetTransactionSnapshot());
	letters = pp_letters_open(extension);
	pp_letter_put(&letters, letter);
	pp_table_close(&letters);
	pp_account_add(extension, &delta, 1);
	PopActiveSnapshot();
	if (lane)
		(void) pp_quota_take(&lane->letters, PP_STORE_LETTERS, role, 1, PG_UINT64_MAX,
							 PG_UINT64_MAX);
}

/* ---- not too many ---- */

/* Count those that there are, in a transaction; claim->lane may be NULL. */
void
pp_letterbox_count(const PpClaim *claim, PpQuota *counts)
{
	uint64 takes = claim->lane ? pp_quota_takes(&claim->lane->letters) : 0;

	pp_letters_count(claim->extension, counts);
	PP_FAULT(counts_letters);
	if (claim->lane)
		pp_quota_assign(&claim->lane->letters, counts, takes);
}

/* For how many more is there room, going by these? */
static uint64
room_in(PpQuota *letters, Oid role)
{
	uint64 limit = pp_dead_letter_limit;
	uint64 share = (limit * pp_role_quota + 99) / 100;
	uint64 all = pp_quota_held(letters, PP_STORE_LETTERS);
	uint64 own = pp_quota_held_by(letters, PP_STORE_LETTERS, role);

	return Min(limit - Min(limit, all), share - Min(share, own));
}

/*
 * For how many more of the role is there room, of so many?  What the lane knows may be too
 * much, if some have been taken away, or are rolled back: so they are counted.  In a
 * transaction; claim->lane may be NULL.
 */
uint64
pp_letterbox_room(const PpClaim *claim, Oid role, uint64 wanted)
{
	PpQuota counts;

	if (wanted == 0 || (claim->lane && pp_quota_is_counted(&claim->lane->letters) &&
						room_in(&claim->lane->letters, role) >= wanted))
		return wanted;
	pp_letterbox_count(claim, &counts);
	return Min(wanted, room_in(&counts, role));
}

/* ---- the log ---- */

PpBad
pp_bad(const PpRow *row, ErrorData *error)
{
	return (PpBad){.row = row, .target = row->item->target, .id = row->item->id, .error = error};
}

/* Items of one target that have failed alike, and that the log doesn't know of yet */
typedef struct Report
{
	Oid target;
	int sqlstate;
	char constraint[NAMEDATALEN]; /* "": none */
	int64 first_id;
	uint64 n;
} Report;

static Report reports[MAX_REPORTS];
static int nreports = 0;
static PpSteady reports_since;

/* A line for the items of one target that have failed alike. */
static void
say(const Report *report)
{
	char *name = get_rel_name(report->target);
	char *schema = name ? get_namespace_name(get_rel_namespace(report->target)) : NULL;
	char *relation = schema ? psprintf("relation \"%s.%s\"", schema, name)
							: psprintf("relation with OID %u", report->target);

	ereport(WARNING,
			(errcode(report->sqlstate),
			 report->n == 1
				 ? errmsg("item %lld for %s could not be inserted: SQLSTATE %s",
						  (long long) report->first_id, relation,
						  unpack_sql_state(report->sqlstate))
				 : errmsg("%llu items for %s, the first of them %lld, could not be inserted: "
						  "SQLSTATE %s",
						  (unsigned long long) report->n, relation, (long long) report->first_id,
						  unpack_sql_state(report->sqlstate)),
			 report->constraint[0] ? errdetail("Constraint \"%s\".", report->constraint) : 0));
}

static bool
is_of(const Report *report, const PpBad *bad)
{
	const char *constraint = bad->error->constraint_name;

	return report->target == bad->target && report->sqlstate == bad->error->sqlerrcode &&
		   strcmp(report->constraint, constraint ? constraint : "") == 0;
}

/* What is of one kind too many is told with the last one. */
static void
add_to_reports(const PpBad *bad)
{
	const char *constraint = bad->error->constraint_name;
	int k = 0;

	while (k < nreports && !is_of(&reports[k], bad) && k < MAX_REPORTS - 1)
		k++;
	if (k == nreports)
	{
		reports[nreports++] = (Report){
			.target = bad->target, .sqlstate = bad->error->sqlerrcode, .first_id = bad->id};
		strlcpy(reports[k].constraint, constraint ? constraint : "", NAMEDATALEN);
	}
	reports[k].n++;
}

/*
 * Log what has died, without the values, and without a line for each: before the worker
 * sleeps, or when it hasn't for a while; not in a transaction.
 */
void
pp_letterbox_say(void)
{
	MemoryContext caller = CurrentMemoryContext;

	if (nreports == 0)
		return;
	HOLD_CANCEL_INTERRUPTS();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	for (int k = 0; k < nreports; k++)
		say(&reports[k]);
	nreports = 0;
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	RESUME_CANCEL_INTERRUPTS();
}

/* These have died: it is going to be logged. */
void
pp_letterbox_report(const PpBad *bad, uint64 n)
{
	if (n == 0)
		return;
	if (nreports == 0)
		reports_since = pp_steady_now();
	for (uint64 i = 0; i < n; i++)
		add_to_reports(&bad[i]);
	if (pp_has_lasted(reports_since, REPORT_MS))
		pp_letterbox_say();
}
