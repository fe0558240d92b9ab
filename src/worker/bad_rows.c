/*-------------------------------------------------------------------------
 *
 * bad_rows.c
 *	  Rows that can't be inserted: their dead letters, how many of those there may be, and what the
 *	  log says; see bad_rows.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/config.h"
#include "base/errors.h"
#include "base/extension.h"
#include "base/faults.h"
#include "base/reasons.h"
#include "base/savepoint.h"
#include "store/account.h"
#include "worker/bad_rows.h"
#include "worker/intake.h"
#include "worker/poison.h"
#include "worker/row_map.h"
#include "worker/timer.h"

#define MAX_REPORTS 8  /* lines at a time ... */
#define REPORT_MS 1000 /* ... so often, while the worker is busy */

/* Values to be shown */
typedef struct Showing
{
	Relation rel; /* NULL: it is gone */
	const PpItem *item;
	Jsonb *shown; /* NULL: nobody can read them */
} Showing;

static void
show_bad_row(void *arg)
{
	Showing *showing = arg;

	showing->shown = pp_row_map_show(showing->rel, showing->item);
}

/*
 * The item's values as JSON; NULL if they can't be read, or can't be shown, or not within
 * statement_timeout, which this has for itself.
 */
static Jsonb *
try_to_show_bad_row(const PpItem *item)
{
	Showing showing = {.rel = try_relation_open(item->target, AccessShareLock), .item = item};
	uint32 cancel_holdoffs = QueryCancelHoldoffCount;
	ErrorData *error;
	bool in_time;

	QueryCancelHoldoffCount = 0;
	pp_timer_begin_attempt();
	error = pp_savepoint_run(show_bad_row, &showing);
	in_time = pp_timer_cut != PP_CUT_TIMEOUT;
	pp_timer_end_attempt();
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
	PpDeadLetter letter;
	MemoryContext context; /* of one try */
} Writing;

static void
write_letter(void *arg)
{
	Writing *writing = arg;
	MemoryContext caller = MemoryContextSwitchTo(writing->context);
	PpTable letters = pp_dead_letters_open(writing->extension);

	pp_dead_letter_put(&letters, &writing->letter);
	pp_table_close(&letters);
	MemoryContextSwitchTo(caller);
}

/* Is it the size of the letter that has kept it from being written? */
static bool
is_letter_too_large(const ErrorData *error)
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
		error = pp_savepoint_run(write_letter, writing);
		MemoryContextReset(writing->context);
		if (error == NULL)
			return;
		if (!is_letter_too_large(error) || (parts[i].item == NULL && parts[i].shown == NULL))
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
	shown = try_to_show_bad_row(row->item);
	pp_poison_note_item(PP_AT_HAND_ALL, 0, 0);
	return shown;
}

static void
put_dead_letter(Oid extension, const PpRow *row, Oid role, const ErrorData *error)
{
	MemoryContext context = AllocSetContextCreate(
		CurrentMemoryContext, "persist_pipeline dead letter", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	const PpItem *item = row->item;
	const PpCommitPosition *position =
		pp_item_commit_position(item); /* ids don't tell the order, if it has failed before */
	Writing writing = {.extension = extension,
					   .letter = {.id = item->id,
								  .target = item->target,
								  .role = role,
								  .shown = values_of(row),
								  .error = error,
								  .enqueued_at = item->enqueued_at,
								  .attempts = item->attempts + 1,
								  .depth = item->depth,
								  .pos = position ? position->pos : row->pos,
								  .part = position ? position->part : row->part,
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
pp_bad_rows_write_dead_letter(Oid extension, PpOutcomeCounts *counts, const PpRow *row, Oid role,
							  const ErrorData *error)
{
	PpTargetOutcome *result = pp_outcome_counts_of(counts, row->item->target);

	put_dead_letter(extension, row, role, error);
	result->delta.dead++;
	row->work->unseen++;
	counts->dead++;
	counts->failed += row->item->attempts == 0 ? 1 : 0;
	pp_outcome_counts_error(counts, row->item->target, error);
}

/* ---- retention ---- */

typedef struct Expiry
{
	PpOutcomeCounts counts; /* first, for pp_bad_rows_discard() */
	TimestampTz before;
} Expiry;

static bool
is_old(Oid role, const char *role_name, Oid target, TimestampTz failed_at, void *arg)
{
	return failed_at < ((Expiry *) arg)->before;
}

/*
 * Count a letter that is discarded.  `counts`: PpOutcomeCounts, or a struct that begins with them.
 */
void
pp_bad_rows_discard(const PpDeadLetter *letter, void *counts)
{
	PpTargetOutcome *result;

	if (letter->damaged)
		return; /* which target's it was can't be told */
	result = pp_outcome_counts_of(counts, letter->target);
	result->delta.dead--;
	result->delta.discarded++;
}

/* Discard those that are too old, in the current transaction.  Returns how many. */
static uint64
expire_letters(Oid extension)
{
	Expiry expiry = {.before = GetCurrentTimestamp() -
							   pp_config_dead_letter_retention * INT64CONST(60) * USECS_PER_SEC};
	uint64 expired;

	if (pp_config_dead_letter_retention == 0)
		return 0;
	expired =
		pp_dead_letters_take(extension, NULL, 0, true, false, is_old, pp_bad_rows_discard, &expiry);
	pp_outcome_counts_write(&expiry.counts, extension);
	return expired;
}

/* The same for the worker, in a transaction of its own. */
void
pp_bad_rows_expire_dead_letters(const PpClaim *claim)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (pp_dead_letters_try_lock(claim->extension))
		(void) expire_letters(claim->extension);
	CommitTransactionCommand();
}

/* ---- at the call ---- */

/*
 * What doesn't fit its target at the call becomes a dead letter, in the current
 * transaction.  53400 if there are too many, or too many of the role.
 */
void
pp_bad_rows_write_refused(Oid extension, const PpDeadLetter *letter)
{
	PpSlot *slot = pp_slot_find(MyDatabaseId);
	PpClaim claim = {.slot = slot, .extension = extension};
	Oid role = letter->role;
	PpDelta delta = {.target = letter->target,
					 .dead = 1,
					 .errors = 1,
					 .last_error = unpack_sql_state(letter->error->sqlerrcode),
					 .last_error_at = GetCurrentTimestamp()};
	PpTable letters;

	/* where all dead letters come from calls, no worker removes old ones */
	if (pp_bad_rows_room(&claim, role, 1) == 0 &&
		(expire_letters(extension) == 0 || pp_bad_rows_room(&claim, role, 1) == 0))
		ereport(
			ERROR,
			(errcode(PP_DEAD_LETTERS_FULL),
			 errmsg("the item for relation \"%s\" cannot become a dead letter",
					get_rel_name(letter->target)),
			 errdetail("SQLSTATE %s; \"persist_pipeline.dead_letter_limit\" is %d, of which a role "
					   "may have %d %%: \"persist_pipeline.role_quota\".",
					   unpack_sql_state(letter->error->sqlerrcode), pp_config_dead_letter_limit,
					   pp_config_role_quota),
			 errhint("Call persist_requeue() or persist_discard().")));
	PushActiveSnapshot(GetTransactionSnapshot());
	letters = pp_dead_letters_open(extension);
	pp_dead_letter_put(&letters, letter);
	pp_table_close(&letters);
	pp_account_add(extension, &delta, 1);
	PopActiveSnapshot();
	pp_bad_rows_charge_dead_letter(role);
}

/* ---- not too many ---- */

/*
 * A session has written a dead letter of the role.  The database may have got its slot only since
 * there was found to be room; whoever has counted the letters for that may not have seen this one.
 */
void
pp_bad_rows_charge_dead_letter(Oid role)
{
	PpSlot *slot = pp_shmem ? pp_slot_find(MyDatabaseId) : NULL;

	if (slot)
		(void) pp_quota_charge(&slot->letters, PP_STORE_LETTERS, role, 1, PG_UINT64_MAX,
							   PG_UINT64_MAX);
}

/* Count those that there are, in a transaction; claim->slot may be NULL. */
void
pp_bad_rows_count_dead_letters(const PpClaim *claim, PpQuota *counts)
{
	uint64 takes = claim->slot ? pp_quota_charges(&claim->slot->letters) : 0;

	pp_dead_letters_count(claim->extension, counts);
	PP_FAULT(counts_letters);
	if (claim->slot)
		pp_quota_assign(&claim->slot->letters, counts, takes);
}

/* For how many more is there room, going by these? */
static uint64
room_in(PpQuota *letters, Oid role)
{
	uint64 limit = pp_config_dead_letter_limit;
	uint64 quota = (limit * pp_config_role_quota + 99) / 100;
	uint64 all = pp_quota_charged(letters, PP_STORE_LETTERS);
	uint64 own = pp_quota_charged_to(letters, PP_STORE_LETTERS, role);

	return Min(limit - Min(limit, all), quota - Min(quota, own));
}

/*
 * For how many more of the role is there room, of so many?  What the slot knows may be too
 * much, if some have been taken away, or are rolled back: so they are counted.  In a
 * transaction; claim->slot may be NULL.
 */
uint64
pp_bad_rows_room(const PpClaim *claim, Oid role, uint64 wanted)
{
	PpQuota counts;

	if (wanted == 0 || (claim->slot && pp_quota_is_counted(&claim->slot->letters) &&
						room_in(&claim->slot->letters, role) >= wanted))
		return wanted;
	pp_bad_rows_count_dead_letters(claim, &counts);
	return Min(wanted, room_in(&counts, role));
}

/* ---- messages in the log ---- */

PpBadRow
pp_bad_row(const PpRow *row, ErrorData *error)
{
	return (PpBadRow){.row = row, .target = row->item->target, .id = row->item->id, .error = error};
}

/* Items of one target that have failed alike, and that the log doesn't know of yet */
typedef struct BadRowReport
{
	Oid target;
	int sqlstate;
	char constraint[NAMEDATALEN]; /* "": none */
	int64 first_id;
	uint64 n;
} BadRowReport;

static BadRowReport reports[MAX_REPORTS];
static int nreports = 0;
static PpSteady reports_since;

/* Where to look for them, in that database. */
static char *
where_to_look(const BadRowReport *report)
{
	Oid schema = pp_extension_schema(pp_extension_oid());
	char *name = OidIsValid(schema) ? get_namespace_name(schema) : NULL;
	char *view =
		name ? psprintf("%s.persist_dead_letters", quote_identifier(name)) : "persist_dead_letters";

	return report->n == 1
			   ? psprintf("SELECT * FROM %s WHERE id = %lld", view, (long long) report->first_id)
			   : psprintf("SELECT * FROM %s WHERE target = %u AND sqlstate = '%s'", view,
						  report->target, unpack_sql_state(report->sqlstate));
}

/*
 * A line for the items of one target that have failed alike.  What the error says is told without
 * its message, which may have values.
 */
static void
log_report(const BadRowReport *report)
{
	char *name = get_rel_name(report->target);
	char *schema = name ? get_namespace_name(get_rel_namespace(report->target)) : NULL;
	char *relation = schema ? psprintf("relation \"%s.%s\"", schema, name)
							: psprintf("relation with OID %u", report->target);
	char *database = get_database_name(MyDatabaseId);

	ereport(
		WARNING,
		(errcode(report->sqlstate),
		 report->n == 1
			 ? errmsg("item %lld for %s could not be inserted: SQLSTATE %s",
					  (long long) report->first_id, relation, unpack_sql_state(report->sqlstate))
			 : errmsg("%llu items for %s, the first of them %lld, could not be inserted: "
					  "SQLSTATE %s",
					  (unsigned long long) report->n, relation, (long long) report->first_id,
					  unpack_sql_state(report->sqlstate)),
		 report->constraint[0]
			 ? errdetail("In database \"%s\": %s. Constraint \"%s\".", database,
						 pp_reason(report->sqlstate), report->constraint)
			 : errdetail("In database \"%s\": %s.", database, pp_reason(report->sqlstate)),
		 report->n == 1 ? errhint("It is a dead letter: %s.", where_to_look(report))
						: errhint("They are dead letters: %s.", where_to_look(report))));
}

static bool
is_report_of(const BadRowReport *report, const PpBadRow *bad)
{
	const char *constraint = bad->error->constraint_name;

	return report->target == bad->target && report->sqlstate == bad->error->sqlerrcode &&
		   strcmp(report->constraint, constraint ? constraint : "") == 0;
}

/* If there are more kinds than lines, the last line tells of the rest. */
static void
add_to_reports(const PpBadRow *bad)
{
	const char *constraint = bad->error->constraint_name;
	int k = 0;

	while (k < nreports && !is_report_of(&reports[k], bad) && k < MAX_REPORTS - 1)
		k++;
	if (k == nreports)
	{
		reports[nreports++] = (BadRowReport){
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
pp_bad_rows_report_rest(void)
{
	MemoryContext caller = CurrentMemoryContext;

	if (nreports == 0)
		return;
	HOLD_CANCEL_INTERRUPTS();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	for (int k = 0; k < nreports; k++)
		log_report(&reports[k]);
	nreports = 0;
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	RESUME_CANCEL_INTERRUPTS();
}

/* These have died: it is going to be logged. */
void
pp_bad_rows_report(const PpBadRow *bad, uint64 n)
{
	if (n == 0)
		return;
	if (nreports == 0)
		reports_since = pp_steady_now();
	for (uint64 i = 0; i < n; i++)
		add_to_reports(&bad[i]);
	if (pp_steady_has_lasted(reports_since, REPORT_MS))
		pp_bad_rows_report_rest();
}
