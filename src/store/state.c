/*-------------------------------------------------------------------------
 *
 * state.c
 *	  Reads and writes the state of a database; see state.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_control.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/extension.h"
#include "base/table.h"
#include "store/state.h"

#define TABLE "persist_state"

enum
{
	COLUMN_INSTALLATION,
	COLUMN_DATABASE,
	COLUMN_SYSTEM,
	COLUMN_CLUSTER,
	COLUMN_PAUSED,
	COLUMN_CHANGED_IN,
	COLUMNS
};

/* The only one; NULL: there is none. */
static HeapTuple
find_row(PpTable *table)
{
	pp_table_scan(table, NULL, 0, NULL);
	return pp_table_next(table);
}

static PpState
read_state_row(PpTable *table)
{
	Relation rel = table->rel;
	HeapTuple tuple = find_row(table);

	if (tuple == NULL)
		return (PpState){.changed_in = DT_NOBEGIN};
	return (PpState){.installation = pp_table_int64(rel, tuple, COLUMN_INSTALLATION),
					 .database = pp_table_oid(rel, tuple, COLUMN_DATABASE),
					 .system = pp_table_int64(rel, tuple, COLUMN_SYSTEM),
					 .cluster = pp_table_int64(rel, tuple, COLUMN_CLUSTER),
					 .paused = pp_table_bool(rel, tuple, COLUMN_PAUSED),
					 .changed_in = pp_table_time(rel, tuple, COLUMN_CHANGED_IN)};
}

/* Instead of the row that is there. */
static void
put_state_row(PpTable *table, const PpState *state)
{
	Datum values[] = {[COLUMN_INSTALLATION] = Int64GetDatum(state->installation),
					  [COLUMN_DATABASE] = ObjectIdGetDatum(state->database),
					  [COLUMN_SYSTEM] = Int64GetDatum(state->system),
					  [COLUMN_CLUSTER] = Int64GetDatum(state->cluster),
					  [COLUMN_PAUSED] = BoolGetDatum(state->paused),
					  [COLUMN_CHANGED_IN] = TimestampTzGetDatum(state->changed_in)};
	bool nulls[COLUMNS] = {false};
	HeapTuple old = find_row(table);

	if (old)
		(void) pp_table_delete(table, &old->t_self, true);
	pp_table_end_scan(table);
	pp_table_insert(table, values, nulls);
	CommandCounterIncrement();
}

/* All zero if the table isn't there. */
PpState
pp_state_get(Oid extension)
{
	PpTable table = pp_table_open(extension, TABLE, AccessShareLock);
	PpState state = {0};

	if (table.rel)
		state = read_state_row(&table);
	pp_table_close(&table);
	return state;
}

/* The state, to be changed; the lock is kept, so that no change gets lost. */
static PpTable
lock_state(Oid extension, PpState *state)
{
	PpTable table = pp_table_open_existing(extension, TABLE, ShareRowExclusiveLock);

	*state = read_state_row(&table);
	return table;
}

/* ---- whose it is ---- */

/* Of what initdb has drawn for this cluster, besides its identifier: no secret any more. */
static uint64
cluster_digest(void)
{
	return hash_bytes_extended((unsigned char *) GetMockAuthenticationNonce(),
							   MOCK_AUTH_NONCE_LEN, 0);
}

/* Has somebody looked into it, here? */
bool
pp_state_is_known(const PpState *state)
{
	return state->database == MyDatabaseId && state->system == GetSystemIdentifier() &&
		   state->cluster == cluster_digest();
}

/* Are these files a copy, whose original writes what waits in them? */
bool
pp_state_is_copy(const PpState *state)
{
	return state->database != MyDatabaseId ||
		   (state->system != GetSystemIdentifier() && state->cluster == cluster_digest());
}

static uint64
state_number_of(const PpState *state)
{
	uint64 values[] = {state->installation, MyDatabaseId, GetSystemIdentifier()};

	if (!pp_state_is_copy(state))
		return state->installation;
	return hash_bytes_extended((unsigned char *) values, sizeof(values), 0) | 1;
}

/* The number of the current installation; it stays the same for as long as that lives. */
uint64
pp_state_installation(Oid extension)
{
	static Oid known_extension = InvalidOid;
	static uint64 known = 0;

	if (extension != known_extension)
	{
		PpState state = pp_state_get(extension);

		if (state.installation == 0)
			return state_number_of(&state);
		known = state_number_of(&state);
		known_extension = extension;
	}
	return known;
}

static void
note_owner(PpState *state)
{
	state->installation = state_number_of(state);
	state->database = MyDatabaseId;
	state->system = GetSystemIdentifier();
	state->cluster = cluster_digest();
}

/*
 * Write down whose it is from now on.  True: it was a copy; and who gets that is alone with
 * it to the transaction's end.
 */
bool
pp_state_take_over(Oid extension)
{
	PpState state;
	PpTable table = lock_state(extension, &state);
	bool is_copy = pp_state_is_copy(&state);

	if (!pp_state_is_known(&state))
	{
		note_owner(&state);
		put_state_row(&table, &state);
	}
	pp_table_close(&table);
	return is_copy;
}

/* For CREATE EXTENSION: a new installation. */
void
pp_state_begin(Oid extension)
{
	PpState state;
	PpTable table = lock_state(extension, &state);

	state.database = MyDatabaseId;
	do
	{
		if (!pg_strong_random(&state.installation, sizeof(state.installation)))
			ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
							errmsg("could not generate a random number")));
	} while (state.installation == 0);
	note_owner(&state);
	put_state_row(&table, &state);
	pp_table_close(&table);
}

/* ---- whether it is paused ---- */

void
pp_state_set_paused(Oid extension, bool paused)
{
	PpState state;
	PpTable table = lock_state(extension, &state);

	state.paused = paused;
	state.changed_in = PgStartTime;
	put_state_row(&table, &state);
	pp_table_close(&table);
}

/* For somebody who has no time to wait: can the state be changed now? */
bool
pp_state_try_lock(Oid extension)
{
	return OidIsValid(pp_extension_try_lock(extension, TABLE, ShareRowExclusiveLock));
}
