/*-------------------------------------------------------------------------
 *
 * where_function.c
 *	  persist_where: what has become of an item; see where_function.h.
 *
 * An item is in the ring alone, or in one of the tables; and it goes from the ring to the tables,
 * never back.  All tables are looked into with one snapshot, so that what goes from one to
 * another is in one of them.  What leaves the ring has been committed to the tables before:  so
 * the ring comes first.  What came to the ring after that look, and may have left it already, is
 * found by the second round; what has come to neither by then was not handed over when the call
 * began.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/errors.h"
#include "base/extension.h"
#include "base/faults.h"
#include "base/reasons.h"
#include "producer/enqueue.h"
#include "ring/lease.h"
#include "ring/ring_find.h"
#include "ring/slots.h"
#include "sql/item_rights.h"
#include "sql/parked_functions.h"
#include "sql/where_function.h"
#include "store/dead_letters.h"
#include "store/layouts.h"
#include "store/parked_table.h"
#include "store/pause.h"
#include "store/state.h"

#define COLUMNS 9
#define ROUNDS 2

PG_FUNCTION_INFO_V1(persist_where);

typedef struct Search
{
	Oid extension;
	int64 id;
	bool copied_locked; /* what came with a copy couldn't be read, in one of the rounds */
	PpPlace place;
} Search;

static void
note_pending(Search *search, const PpItem *item, Oid role, const char *message)
{
	search->place = (PpPlace){.state = "pending",
							  .target = item->target,
							  .role = role,
							  .since = item->enqueued_at,
							  .message = message,
							  .public_message = message};
}

/* Why does nobody write what waits? */
static const char *
why_pending(const Search *search)
{
	if (pp_shmem == NULL)
		return "persist_pipeline was not loaded when the server started";
	return pp_pause_is_on(search->extension) ? "the database is paused" : NULL;
}

/* ---- where to look ---- */

static void
look_in_ring(Search *search)
{
	PpSlot *slot = pp_shmem ? pp_slot_find(MyDatabaseId) : NULL;
	PpItem item;
	Oid role;

	if (slot && pp_ring_find(&slot->ring, search->extension, search->id, &item, &role))
		note_pending(search, &item, role, why_pending(search));
}

/* A row of the journal, or of what was put aside. */
static void
note_row_found(Search *search, const PpTable *table, HeapTuple tuple, const PpItem *item,
			   bool aside)
{
	PpJournalRow row =
		pp_journal_read_row(table->rel, 0, tuple, pp_state_installation(search->extension));

	if (aside || row.copied)
		note_pending(search, item, row.role,
					 "it came with a copy of another database, and waits for persist_resume() or "
					 "persist_discard()");
	else
		note_pending(search, item, row.role, why_pending(search));
}

static void
note_parked_found(Search *search, const PpTable *table, HeapTuple tuple)
{
	PpParkedRow row = pp_parked_table_row(table, tuple);
	PpParkedWhy why = pp_parked_functions_why(row.target, row.role);

	search->place =
		(PpPlace){.state = "parked",
				  .target = row.target,
				  .role = row.role,
				  .since = row.parked_at,
				  .sqlstate = why.sqlstate ? pstrdup(unpack_sql_state(why.sqlstate)) : NULL,
				  .message = why.sentence,
				  .public_message = why.sentence,
				  .tries = why.tries,
				  .next_try = why.next_try};
}

static void
look_in_rows(Search *search, PpTable table, bool parked, bool aside)
{
	HeapTuple tuple;
	PpItem item;

	pp_table_scan(&table, GetActiveSnapshot(), 0, NULL);
	while (search->place.state == NULL && (tuple = pp_table_next(&table)) != NULL)
	{
		if (!pp_journal_row_find(table.rel, tuple, search->id, &item))
			continue;
		if (parked)
			note_parked_found(search, &table, tuple);
		else
			note_row_found(search, &table, tuple, &item, aside);
	}
	pp_table_release(&table, AccessShareLock);
}

static void
look_in_table(Search *search, const char *name)
{
	look_in_rows(search, pp_table_open(search->extension, name, AccessShareLock),
				 strcmp(name, PP_PARKED_TABLE) == 0, false);
}

/*
 * persist_resume() and persist_discard() lock these to the end of their transaction.  One that ends
 * after the snapshot was taken leaves an empty table, and the snapshot doesn't see where its rows
 * are now: so what was locked in one round is not known after the next one either.
 */
static void
look_in_copied(Search *search)
{
	Oid relid = OidIsValid(search->extension)
					? pp_extension_relation(search->extension, "persist_copied")
					: InvalidOid;
	PpTable table = {.extension = search->extension};
	bool locked;

	if (!OidIsValid(relid))
		return;
	table.rel = pp_table_open_unless_locked(relid, AccessShareLock, &locked);
	search->copied_locked |= locked;
	if (table.rel)
		look_in_rows(search, table, false, true);
}

static void
look_in_letters(Search *search)
{
	PpDeadLetterNote note;

	if (!pp_dead_letters_find(search->extension, search->id, &note))
		return;
	search->place =
		(PpPlace){.state = "dead",
				  .target = note.target,
				  .role = note.role,
				  .target_name = note.target_name,
				  .role_name = note.role_name ? note.role_name : "",
				  .since = note.failed_at,
				  .sqlstate = note.sqlstate,
				  .message = note.message,
				  .public_message =
					  pp_reason(MAKE_SQLSTATE(note.sqlstate[0], note.sqlstate[1], note.sqlstate[2],
											  note.sqlstate[3], note.sqlstate[4])),
				  .tries = note.attempts};
}

/* In all of them, as of one moment. */
static void
look_in_tables(Search *search)
{
	PushActiveSnapshot(pp_table_snapshot());
	look_in_letters(search);
	look_in_table(search, PP_PARKED_TABLE);
	look_in_table(search, "persist_journal_1");
	look_in_table(search, "persist_journal_2");
	look_in_table(search, "persist_journal_3");
	look_in_copied(search);
	PopActiveSnapshot();
}

/* What the transaction itself has enqueued is with it. */
static void
look_at_own(Search *search)
{
	PpItem item;
	Oid role;

	if (pp_enqueue_find(search->id, &item, &role))
		note_pending(search, &item, role, "this transaction has not committed yet");
}

/* Ids are leased before they are used. */
static PpPlace
not_found(const Search *search)
{
	if (!pp_lease_was_leased(search->extension, search->id))
		return (PpPlace){.state = "unknown", .message = "no item of this database has this id"};
	if (search->copied_locked)
		return (PpPlace){.state = "unknown",
						 .message = "it may have come with a copy of another database: ask again "
									"after the transaction that has called persist_resume() or "
									"persist_discard()"};
	return (PpPlace){.state = "settled",
					 .message = "it does not wait and is no dead letter: it was written, skipped, "
								"discarded or lost, or its transaction has not committed"};
}

static void
look_everywhere(Search *search)
{
	look_at_own(search);
	for (int round = 0; round < ROUNDS && search->place.state == NULL; round++)
	{
		if (round > 0)
			PP_FAULT(has_looked_once);
		look_in_ring(search);
		PP_FAULT(has_looked_in_ring);
		if (search->place.state == NULL)
			look_in_tables(search);
	}
	if (search->place.state == NULL)
		search->place = not_found(search);
}

/* What has become of the item of that id?  It may be anybody's. */
PpPlace
pp_where_function_find(Oid extension, int64 id)
{
	Search search = {.extension = extension, .id = id};

	look_everywhere(&search);
	return search.place;
}

/* ---- who may be told ---- */

/*
 * May the caller know of the item?  42501 if he may not.  A member of pg_monitor is told of the
 * state, but not what an error has said of the item's values.
 */
static void
check_rights(const Search *search, PpPlace *place)
{
	if (!OidIsValid(place->role) ||
		pp_item_rights_to_know(place->target, place->target_name, place->role, place->role_name))
		return;
	if (!has_privs_of_role(GetUserId(), ROLE_PG_MONITOR))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for item %lld", (long long) search->id),
						errdetail("Another role has enqueued it, for another's relation."),
						errhint("Become a member of that role, or of pg_monitor.")));
	place->message = place->public_message;
}

/* ---- persist_where ---- */

static void
set_place_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	if (text)
		values[column] = CStringGetTextDatum(text);
}

static Datum
make_result(FunctionCallInfo fcinfo, const Search *search)
{
	const PpPlace *place = &search->place;
	bool is_item = OidIsValid(place->role);
	const char *target_name = place->target_name;
	const char *role_name = place->role_name;
	Datum values[COLUMNS] = {0};
	bool nulls[COLUMNS] = {false};
	TupleDesc desc;
	NameData name;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (target_name == NULL && is_item)
		target_name = pp_layouts_target_name(search->extension, place->target);
	if (role_name == NULL && is_item)
		role_name = GetUserNameFromId(place->role, true);
	set_place_text(values, nulls, 0, place->state);
	nulls[1] = !is_item;
	values[1] = ObjectIdGetDatum(place->target);
	set_place_text(values, nulls, 2, target_name);
	nulls[3] = role_name == NULL || role_name[0] == '\0';
	namestrcpy(&name, role_name ? role_name : "");
	values[3] = NameGetDatum(&name);
	nulls[4] = place->since == 0;
	values[4] = TimestampTzGetDatum(place->since);
	set_place_text(values, nulls, 5, place->sqlstate);
	set_place_text(values, nulls, 6, place->message);
	nulls[7] = place->tries == 0;
	values[7] = Int32GetDatum(place->tries);
	nulls[8] = place->next_try == 0;
	values[8] = TimestampTzGetDatum(place->next_try);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

/* persist_where(id bigint) returns record: one row, whatever the id. */
Datum
persist_where(PG_FUNCTION_ARGS)
{
	Search search = {.extension = pp_extension_oid()};

	pp_error_if_null(fcinfo, 0, "id");
	search.id = PG_GETARG_INT64(0);
	look_everywhere(&search);
	check_rights(&search, &search.place);

	PG_RETURN_DATUM(make_result(fcinfo, &search));
}
