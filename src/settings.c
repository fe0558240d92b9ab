/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  Reads and writes the settings of a database; see settings.h.
 *
 * The table is small, and is written without SQL: no trigger or rule comes into it,
 * and no right to it is needed.  And what is written is not decoded: these are
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
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "config.h"
#include "extension.h"
#include "settings.h"
#include "table.h"

/* persist_settings */
enum
{
	SETTING_TARGET,
	SETTING_DURABILITY,
	SETTING_BAD_ITEMS,
	SETTING_PAUSED,
	SETTING_COLUMNS
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
	PpTable table = pp_table_open_to_write(extension, "persist_settings");
	Datum values[SETTING_COLUMNS];
	bool nulls[SETTING_COLUMNS] = {false};
	HeapTuple old;
	SysScanDesc scan = find_setting(table.rel, target, &old);

	values[SETTING_TARGET] = ObjectIdGetDatum(target);
	values[SETTING_DURABILITY] = CStringGetTextDatum(durability_names[settings->durability]);
	values[SETTING_BAD_ITEMS] = CStringGetTextDatum(settings->bad_to_dead ? "dead" : "error");
	values[SETTING_PAUSED] = BoolGetDatum(settings->paused);
	/* restored without triggers it may be doubled */
	for (; HeapTupleIsValid(old); old = systable_getnext(scan))
		(void) pp_table_delete(&table, &old->t_self, true);
	systable_endscan(scan);
	pp_table_insert(&table, values, nulls);
	pp_table_close(&table);
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
		if (get_rel_relkind(target) != '\0')
			CacheInvalidateRelcacheByRelid(target);
		lock = NoLock;
	}
	systable_endscan(scan);
	relation_close(rel, lock);
	return lock == NoLock;
}

/*
 * Somebody has written rows by a restore that disables triggers: from now on they hold,
 * the last one of each target.
 */
void
pp_settings_restored(Oid extension)
{
	Relation rel = pp_extension_open(extension, "persist_settings", RowExclusiveLock);
	List *rows = NIL;
	ListCell *cell;
	HeapTuple tuple;
	SysScanDesc scan;

	if (rel == NULL)
		return;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		rows = lappend(rows, heap_copytuple(tuple));
	systable_endscan(scan);
	foreach (cell, rows)
	{
		Oid target;
		PpSettings settings = pp_settings_read(rel, lfirst(cell), &target);

		if (get_rel_relkind(target) == '\0')
			(void) pp_settings_remove(extension, target);
		else
			pp_settings_put(extension, target, &settings);
	}
	relation_close(rel, NoLock);
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
