/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  Reads and writes the settings of a database, and knows the values that they can have; see
 *	  settings.h.
 *
 * The table is small, and is written without SQL: no trigger or rule comes into it,
 * and no right to it is needed.  And what is written is not decoded: these are
 * settings of this database, and OIDs in them are this server's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/skey.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/extension.h"
#include "base/table.h"
#include "store/settings.h"

#define TABLE "persist_settings"

enum
{
	SETTING_TARGET,
	SETTING_DURABILITY,
	SETTING_BAD_ITEMS,
	SETTING_PAUSED,
	SETTING_UNKNOWN_KEYS, /* from 1.1 on, and those behind it */
	SETTING_ON_CONFLICT,
	SETTING_CONFLICT_COLUMNS,
	SETTING_ADD_COLUMNS,
	SETTING_FLUSH_INTERVAL,
	SETTING_CAPTURE_SETTINGS,
	SETTING_COLUMNS
};

/* ---- values, as arguments of persist_configure() and as columns ---- */

static const char *const durability_names[] = {
	[PP_DURABILITY_AUTO] = "auto",
	[PP_DURABILITY_JOURNAL] = "journal",
	[PP_DURABILITY_RING] = "ring",
};

static const char *const conflict_names[] = {
	[PP_CONFLICT_ERROR] = "error",
	[PP_CONFLICT_NOTHING] = "nothing",
	[PP_CONFLICT_UPDATE] = "update",
};

static const char *const bad_items_names[] = {"error", "dead"};
static const char *const unknown_keys_names[] = {"error", "ignore"};

/* The number of this name among those; 22023 if it is none of them. */
static int
parse_setting(const char *argument, const char *const *names, int n, const char *name)
{
	StringInfoData available;

	initStringInfo(&available);
	for (int i = 0; i < n; i++)
	{
		if (strcmp(name, names[i]) == 0)
			return i;
		appendStringInfo(&available, "%s%s", i == 0 ? "" : ", ", names[i]);
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid value for argument \"%s\": \"%s\"", argument, name),
					errhint("Available values: %s.", available.data)));
}

PpDurability
pp_settings_parse_durability(const char *name)
{
	return parse_setting("durability", durability_names, lengthof(durability_names), name);
}

/* Do bad items become dead letters? */
bool
pp_settings_parse_bad_items(const char *name)
{
	return parse_setting("bad_items", bad_items_names, lengthof(bad_items_names), name);
}

/* Are unknown keys passed over? */
bool
pp_settings_parse_unknown_keys(const char *name)
{
	return parse_setting("unknown_keys", unknown_keys_names, lengthof(unknown_keys_names), name);
}

PpConflictAction
pp_settings_parse_on_conflict(const char *name)
{
	return parse_setting("on_conflict", conflict_names, lengthof(conflict_names), name);
}

/* In ms; -1: it is negative.  22023 if it is too long. */
int
pp_settings_parse_flush_interval(const Interval *interval)
{
	/* as long as the server says that days and months are */
	double ms = interval->time / 1000.0 +
				(interval->day + interval->month * (double) DAYS_PER_MONTH) * SECS_PER_DAY * 1000.0;

	if (ms > INT_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"flush_interval\" is too long"),
						errdetail("The limit is %d ms.", INT_MAX)));
	return ms < 0 ? -1 : (int) ms;
}

/*
 * The names in an array of text, in the current memory context.  Errors: 22004 one is NULL;
 * 42701 one is there twice.
 */
List *
pp_settings_parse_names(const char *argument, Datum array)
{
	List *names = NIL;
	Datum *elements;
	bool *nulls;
	int n;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		ListCell *cell;
		char *name;

		CHECK_FOR_INTERRUPTS(); /* there may be many */
		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
							errmsg("argument \"%s\" must not have NULLs", argument)));
		name = TextDatumGetCString(elements[i]);
		foreach (cell, names)
		{
			if (strcmp(lfirst(cell), name) == 0)
				ereport(ERROR,
						(errcode(ERRCODE_DUPLICATE_COLUMN),
						 errmsg("argument \"%s\" has \"%s\" more than once", argument, name)));
		}
		names = lappend(names, name);
	}
	return names;
}

/* ---- the table ---- */

static Datum
array_of(List *names)
{
	Datum *elements = palloc((list_length(names) + 1) * sizeof(Datum));
	ListCell *cell;
	int n = 0;

	foreach (cell, names)
		elements[n++] = CStringGetTextDatum(lfirst(cell));
	return PointerGetDatum(construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* The target's row; NULL: there is none.  Where a restore has doubled it there are more. */
static HeapTuple
find_setting(PpTable *table, Oid target)
{
	ScanKeyData key;

	ScanKeyInit(&key, SETTING_TARGET + 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(target));
	pp_table_scan(table, NULL, 1, &key);
	return pp_table_next(table);
}

/* absent: what a table says that doesn't have the column yet */
static const char *
get_text(Relation rel, HeapTuple tuple, int column, const char *absent)
{
	const char *text = pp_table_text(rel, tuple, column);

	if (!pp_table_has(rel, column))
		return absent;
	return text ? text : "";
}

static List *
get_names(Relation rel, HeapTuple tuple, const char *argument, int column)
{
	Datum array = pp_table_get(rel, tuple, column);

	return DatumGetPointer(array) ? pp_settings_parse_names(argument, array) : NIL;
}

static int
get_flush_interval(Relation rel, HeapTuple tuple)
{
	Datum interval = pp_table_get(rel, tuple, SETTING_FLUSH_INTERVAL);

	return DatumGetPointer(interval) ? pp_settings_parse_flush_interval(DatumGetIntervalP(interval))
									 : -1;
}

/* A row of persist_settings.  22023 if it has a value that isn't one. */
PpSettings
pp_settings_read(Relation rel, HeapTuple tuple, Oid *target)
{
	PpSettings settings;

	*target = pp_table_oid(rel, tuple, SETTING_TARGET);
	settings.durability =
		pp_settings_parse_durability(get_text(rel, tuple, SETTING_DURABILITY, NULL));
	settings.bad_to_dead =
		pp_settings_parse_bad_items(get_text(rel, tuple, SETTING_BAD_ITEMS, NULL));
	settings.paused = pp_table_bool(rel, tuple, SETTING_PAUSED);
	settings.passes_unknown =
		pp_settings_parse_unknown_keys(get_text(rel, tuple, SETTING_UNKNOWN_KEYS, "error"));
	settings.on_conflict =
		pp_settings_parse_on_conflict(get_text(rel, tuple, SETTING_ON_CONFLICT, "error"));
	settings.conflict_columns = get_names(rel, tuple, "conflict_columns", SETTING_CONFLICT_COLUMNS);
	settings.add_columns = get_names(rel, tuple, "add_columns", SETTING_ADD_COLUMNS);
	settings.flush_interval = get_flush_interval(rel, tuple);
	settings.capture_settings = get_names(rel, tuple, "capture_settings", SETTING_CAPTURE_SETTINGS);
	return settings;
}

/* What has been configured; the defaults, where nothing has. */
PpSettings
pp_settings_get(Oid extension, Oid target)
{
	PpSettings settings = {.durability = PP_DURABILITY_AUTO, .flush_interval = -1};
	PpTable table = pp_table_open(extension, TABLE, AccessShareLock);
	HeapTuple tuple = find_setting(&table, target);

	if (tuple)
		settings = pp_settings_read(table.rel, tuple, &target);
	pp_table_release(&table, AccessShareLock);

	return settings;
}

/* Has anything been configured? */
bool
pp_settings_has(Oid extension, Oid target)
{
	PpTable table = pp_table_open(extension, TABLE, AccessShareLock);
	bool found = find_setting(&table, target) != NULL;

	pp_table_release(&table, AccessShareLock);
	return found;
}

Oid
pp_settings_relation(Oid extension)
{
	return pp_extension_relation(extension, TABLE);
}

/* Whoever knows which targets are paused has to look again, once this transaction has committed. */
void
pp_settings_announce(Oid extension)
{
	Oid relid = pp_settings_relation(extension);

	if (OidIsValid(relid))
		CacheInvalidateRelcacheByRelid(relid);
}

/*
 * From the next command on.  The caller holds a lock on the target that keeps others from its row:
 * so none on the table does.  With one, those who change several targets would wait for each other.
 */
void
pp_settings_write(Oid extension, Oid target, const PpSettings *settings)
{
	PpTable table = pp_table_open_to_write(extension, TABLE);
	Datum values[SETTING_COLUMNS];
	bool nulls[SETTING_COLUMNS] = {false};
	Interval interval = {0};

	values[SETTING_TARGET] = ObjectIdGetDatum(target);
	values[SETTING_DURABILITY] = CStringGetTextDatum(durability_names[settings->durability]);
	values[SETTING_BAD_ITEMS] = CStringGetTextDatum(bad_items_names[settings->bad_to_dead]);
	values[SETTING_PAUSED] = BoolGetDatum(settings->paused);
	values[SETTING_UNKNOWN_KEYS] =
		CStringGetTextDatum(unknown_keys_names[settings->passes_unknown]);
	values[SETTING_ON_CONFLICT] = CStringGetTextDatum(conflict_names[settings->on_conflict]);
	values[SETTING_CONFLICT_COLUMNS] = array_of(settings->conflict_columns);
	values[SETTING_ADD_COLUMNS] = array_of(settings->add_columns);
	nulls[SETTING_FLUSH_INTERVAL] = settings->flush_interval < 0;
	interval.time = settings->flush_interval * INT64CONST(1000);
	values[SETTING_FLUSH_INTERVAL] = IntervalPGetDatum(&interval);
	values[SETTING_CAPTURE_SETTINGS] = array_of(settings->capture_settings);
	for (HeapTuple old = find_setting(&table, target); old; old = pp_table_next(&table))
		(void) pp_table_delete(&table, &old->t_self, true);
	pp_table_insert(&table, values, nulls);
	pp_table_close(&table);
	CacheInvalidateRelcacheByRelid(target);
}

void
pp_settings_put(Oid extension, Oid target, const PpSettings *settings)
{
	pp_settings_write(extension, target, settings);
	CommandCounterIncrement();
}

/*
 * Back to the defaults.  Also called for each relation that is dropped: so it
 * locks the table no more than it must.  False: nothing was configured; or else that is in
 * *settings, in the current memory context, unless it is NULL.
 */
bool
pp_settings_remove(Oid extension, Oid target, PpSettings *settings)
{
	PpTable table = pp_table_open(extension, TABLE, AccessShareLock);
	HeapTuple tuple = find_setting(&table, target);
	bool found = tuple != NULL;

	if (found)
	{
		if (settings)
			*settings = pp_settings_read(table.rel, tuple, &target);
		LockRelationOid(RelationGetRelid(table.rel), RowExclusiveLock);
		for (; tuple; tuple = pp_table_next(&table))
			(void) pp_table_delete(&table, &tuple->t_self, true);
		if (get_rel_relkind(target) != '\0')
			CacheInvalidateRelcacheByRelid(target);
	}
	pp_table_release(&table, found ? NoLock : AccessShareLock);
	return found;
}

/*
 * Somebody has written rows by a restore that disables triggers: from now on they hold,
 * the last one of each target.
 */
void
pp_settings_restored(Oid extension)
{
	PpTable table = pp_table_open(extension, TABLE, RowExclusiveLock);
	List *rows = NIL;
	ListCell *cell;
	HeapTuple tuple;

	pp_table_scan(&table, NULL, 0, NULL);
	while ((tuple = pp_table_next(&table)) != NULL)
		rows = lappend(rows, heap_copytuple(tuple));
	foreach (cell, rows)
	{
		Oid target;
		PpSettings settings = pp_settings_read(table.rel, lfirst(cell), &target);

		if (get_rel_relkind(target) == '\0')
			(void) pp_settings_remove(extension, target, NULL);
		else
			pp_settings_put(extension, target, &settings);
	}
	pp_table_close(&table);
}

/*
 * The OIDs of the targets that are paused, in the current memory context.  One that was dropped
 * where the library isn't preloaded still has its row, and nobody can name it to resume it.
 */
List *
pp_settings_paused(Oid extension)
{
	PpTable table = pp_table_open(extension, TABLE, AccessShareLock);
	List *paused = NIL;
	HeapTuple tuple;

	pp_table_scan(&table, NULL, 0, NULL);
	while ((tuple = pp_table_next(&table)) != NULL)
	{
		Oid target = pp_table_oid(table.rel, tuple, SETTING_TARGET);

		if (pp_table_bool(table.rel, tuple, SETTING_PAUSED) && get_rel_relkind(target) != '\0')
			paused = lappend_oid(paused, target);
	}
	pp_table_release(&table, AccessShareLock);

	return paused;
}
