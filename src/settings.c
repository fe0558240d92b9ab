/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  Reads and writes the settings of a database; see settings.h.
 *
 * The tables are small, and are written without SQL: no trigger or rule comes into it,
 * and no right to them is needed.  And what is written is not decoded: these are
 * settings of this database, and OIDs in them are this server's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/skey.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "config.h"
#include "extension.h"
#include "settings.h"

/* persist_settings */
enum
{
	SETTING_TARGET,
	SETTING_DURABILITY,
	SETTING_BAD_ITEMS,
	SETTING_PAUSED,
	SETTING_COLUMNS
};

/* persist_state */
enum
{
	STATE_DATABASE,
	STATE_PAUSED,
	STATE_CHANGED_AT,
	STATE_COLUMNS
};

static const char *const durability_names[] = {
	[PP_DURABILITY_AUTO] = "auto",
	[PP_DURABILITY_JOURNAL] = "journal",
	[PP_DURABILITY_RING] = "ring",
};

/* 22023 if there is none of that name. */
PpDurability
pp_durability_parse(const char *name)
{
	for (int i = 0; i < lengthof(durability_names); i++)
	{
		if (strcmp(name, durability_names[i]) == 0)
			return i;
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid value for argument \"durability\": \"%s\"", name),
					errhint("Available values: auto, journal, ring.")));
}

/* Do bad items become dead letters?  22023 if there is no such value. */
bool
pp_bad_items_parse(const char *name)
{
	if (strcmp(name, "error") == 0)
		return false;
	if (strcmp(name, "dead") == 0)
		return true;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid value for argument \"bad_items\": \"%s\"", name),
					errhint("Available values: error, dead.")));
}

/* One of the tables, which has to be there. */
static Relation
open_table_to_write(Oid extension, const char *name, LOCKMODE mode)
{
	Relation rel = pp_extension_open(extension, name, mode);

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s\" of extension \"persist_pipeline\" does not exist", name),
				 errhint("Create the extension again.")));
	return rel;
}

/* The target's row. */
static SysScanDesc
find_setting(Relation rel, Oid target, HeapTuple *tuple)
{
	ScanKeyData key;
	SysScanDesc scan;

	ScanKeyInit(&key, SETTING_TARGET + 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(target));
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
	*tuple = systable_getnext(scan);
	return scan;
}

/*
 * Write a row, in place of the old one, if there is one.  The tables have no indexes,
 * so that this can be done in a way that is not decoded.
 */
static void
put_row(Relation rel, HeapTuple old, Datum *values)
{
	bool nulls[SETTING_COLUMNS + STATE_COLUMNS] = {false}; /* for either */
	HeapTuple tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);

	if (HeapTupleIsValid(old))
		simple_heap_delete(rel, &old->t_self);
	heap_insert(rel, tuple, GetCurrentCommandId(true), HEAP_INSERT_NO_LOGICAL, NULL);
	heap_freetuple(tuple);
}

static char *
get_text(Relation rel, HeapTuple tuple, int column)
{
	bool is_null;
	Datum value = heap_getattr(tuple, column + 1, RelationGetDescr(rel), &is_null);

	return is_null ? "" : TextDatumGetCString(value);
}

/* A row of persist_settings.  22023 if it has a value that isn't one. */
PpSettings
pp_settings_read(Relation rel, HeapTuple tuple, Oid *target)
{
	TupleDesc desc = RelationGetDescr(rel);
	PpSettings settings;
	bool is_null;

	*target = DatumGetObjectId(heap_getattr(tuple, SETTING_TARGET + 1, desc, &is_null));
	settings.durability = pp_durability_parse(get_text(rel, tuple, SETTING_DURABILITY));
	settings.bad_to_dead = pp_bad_items_parse(get_text(rel, tuple, SETTING_BAD_ITEMS));
	settings.paused = DatumGetBool(heap_getattr(tuple, SETTING_PAUSED + 1, desc, &is_null));
	return settings;
}

/* What has been configured; the defaults, where nothing has. */
PpSettings
pp_settings_get(Oid extension, Oid target)
{
	PpSettings settings = {.durability = PP_DURABILITY_AUTO};
	Relation rel = pp_extension_open(extension, "persist_settings", AccessShareLock);
	HeapTuple tuple;
	SysScanDesc scan;

	if (rel == NULL)
		return settings;
	scan = find_setting(rel, target, &tuple);
	if (HeapTupleIsValid(tuple))
		settings = pp_settings_read(rel, tuple, &target);
	systable_endscan(scan);
	relation_close(rel, AccessShareLock);

	return settings;
}

/*
 * The caller holds a lock on the target that keeps others from its row: so none on the
 * table does.  With one, those who change several targets would wait for each other.
 */
void
pp_settings_put(Oid extension, Oid target, const PpSettings *settings)
{
	Relation rel = open_table_to_write(extension, "persist_settings", RowExclusiveLock);
	Datum values[SETTING_COLUMNS];
	HeapTuple old;
	SysScanDesc scan = find_setting(rel, target, &old);

	values[SETTING_TARGET] = ObjectIdGetDatum(target);
	values[SETTING_DURABILITY] = CStringGetTextDatum(durability_names[settings->durability]);
	values[SETTING_BAD_ITEMS] = CStringGetTextDatum(settings->bad_to_dead ? "dead" : "error");
	values[SETTING_PAUSED] = BoolGetDatum(settings->paused);
	for (; HeapTupleIsValid(old); old = systable_getnext(scan))
		simple_heap_delete(rel, &old->t_self); /* data restored without triggers may be doubled */
	put_row(rel, NULL, values);
	systable_endscan(scan);
	relation_close(rel, NoLock);
	CacheInvalidateRelcacheByRelid(target);
	CommandCounterIncrement();
}

/*
 * Back to the defaults.  Also called for each relation that is dropped: so it
 * locks the table no more than it must.  False: nothing was configured.
 */
bool
pp_settings_remove(Oid extension, Oid target)
{
	Relation rel = pp_extension_open(extension, "persist_settings", AccessShareLock);
	LOCKMODE lock = AccessShareLock;
	HeapTuple tuple;
	SysScanDesc scan;

	if (rel == NULL)
		return false;
	scan = find_setting(rel, target, &tuple);
	if (HeapTupleIsValid(tuple))
	{
		LockRelationOid(RelationGetRelid(rel), RowExclusiveLock);
		for (; HeapTupleIsValid(tuple); tuple = systable_getnext(scan))
			simple_heap_delete(rel, &tuple->t_self);
		CacheInvalidateRelcacheByRelid(target);
		lock = NoLock;
	}
	systable_endscan(scan);
	relation_close(rel, lock);
	return lock == NoLock;
}

/* The OIDs of the targets that are paused, in the current memory context. */
List *
pp_settings_paused(Oid extension)
{
	Relation rel = pp_extension_open(extension, "persist_settings", AccessShareLock);
	List *paused = NIL;
	HeapTuple tuple;
	SysScanDesc scan;

	if (rel == NULL)
		return NIL;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TupleDesc desc = RelationGetDescr(rel);
		bool is_null;

		if (DatumGetBool(heap_getattr(tuple, SETTING_PAUSED + 1, desc, &is_null)))
			paused = lappend_oid(
				paused, DatumGetObjectId(heap_getattr(tuple, SETTING_TARGET + 1, desc, &is_null)));
	}
	systable_endscan(scan);
	relation_close(rel, AccessShareLock);

	return paused;
}

/* ---- the state ---- */

static PpState
read_state(Relation rel, HeapTuple tuple)
{
	PpState state = {.changed_at = DT_NOBEGIN};
	TupleDesc desc = RelationGetDescr(rel);
	bool is_null;

	if (HeapTupleIsValid(tuple))
	{
		state.database = DatumGetObjectId(heap_getattr(tuple, STATE_DATABASE + 1, desc, &is_null));
		state.paused = DatumGetBool(heap_getattr(tuple, STATE_PAUSED + 1, desc, &is_null));
		state.changed_at =
			DatumGetTimestampTz(heap_getattr(tuple, STATE_CHANGED_AT + 1, desc, &is_null));
	}
	return state;
}

static SysScanDesc
find_state(Relation rel, HeapTuple *tuple)
{
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);

	*tuple = systable_getnext(scan);
	return scan;
}

PpState
pp_state_get(Oid extension)
{
	Relation rel = pp_extension_open(extension, "persist_state", AccessShareLock);
	PpState state = {0};
	HeapTuple tuple;
	SysScanDesc scan;

	if (rel == NULL)
		return state;
	scan = find_state(rel, &tuple);
	state = read_state(rel, tuple);
	systable_endscan(scan);
	relation_close(rel, AccessShareLock);

	return state;
}

/* The state, to be changed; the lock is kept, so that no change gets lost. */
static Relation
lock_state(Oid extension, PpState *state)
{
	Relation rel = open_table_to_write(extension, "persist_state", ShareRowExclusiveLock);
	HeapTuple tuple;
	SysScanDesc scan = find_state(rel, &tuple);

	*state = read_state(rel, tuple);
	systable_endscan(scan);
	return rel;
}

static void
put_state(Relation rel, const PpState *state)
{
	Datum values[STATE_COLUMNS];
	HeapTuple old;
	SysScanDesc scan = find_state(rel, &old);

	values[STATE_DATABASE] = ObjectIdGetDatum(state->database);
	values[STATE_PAUSED] = BoolGetDatum(state->paused);
	values[STATE_CHANGED_AT] = TimestampTzGetDatum(state->changed_at);
	put_row(rel, old, values);
	systable_endscan(scan);
	CommandCounterIncrement();
}

void
pp_state_set_paused(Oid extension, bool paused)
{
	PpState state;
	Relation rel = lock_state(extension, &state);

	state.paused = paused;
	state.changed_at = GetCurrentTimestamp();
	put_state(rel, &state);
	relation_close(rel, NoLock);
}

/* For somebody who has no time to wait: can the state be changed now? */
bool
pp_state_try_lock(Oid extension)
{
	return OidIsValid(pp_extension_try_lock(extension, "persist_state", ShareRowExclusiveLock));
}

/* False: it is so already.  Who gets true is alone with that to the transaction's end. */
bool
pp_state_change_database(Oid extension, Oid database)
{
	PpState state;
	Relation rel = lock_state(extension, &state);
	bool changes = state.database != database;

	state.database = database;
	if (changes)
		put_state(rel, &state);
	relation_close(rel, NoLock);
	return changes;
}
