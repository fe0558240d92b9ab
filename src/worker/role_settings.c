/*-------------------------------------------------------------------------
 *
 * role_settings.c
 *	  Settings of roles and databases; see role_settings.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "worker/role_settings.h"

/* Called for each setting of an entry */
typedef void (*SettingVisitor)(const char *name, const char *value, void *arg);

/* A setting as the server has it, before a database or a role has had a say */
typedef struct ServerSetting
{
	char *name;
	char *value;
} ServerSetting;

static MemoryContext server_context = NULL;
static ServerSetting *server_settings;
static int nserver_settings;

static void
visit_array(ArrayType *array, SettingVisitor visit, void *arg)
{
	Datum *elements;
	bool *nulls;
	int n;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		char *name;
		char *value;

		if (nulls[i])
			continue;
		ParseLongOption(TextDatumGetCString(elements[i]), &name, &value);
		if (value)
			visit(name, value, arg);
	}
}

/* The settings of one role in one database; either may be InvalidOid: of all. */
static void
visit_entry(Relation rel, Oid database, Oid role, SettingVisitor visit, void *arg)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&keys[0], Anum_pg_db_role_setting_setdatabase, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(database));
	ScanKeyInit(&keys[1], Anum_pg_db_role_setting_setrole, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(role));
	scan =
		systable_beginscan(rel, DbRoleSettingDatidRolidIndexId, true, NULL, lengthof(keys), keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool is_null;
		Datum value = heap_getattr(tuple, Anum_pg_db_role_setting_setconfig, RelationGetDescr(rel),
								   &is_null);

		if (!is_null)
			visit_array(DatumGetArrayTypeP(value), visit, arg);
	}
	systable_endscan(scan);
}

/* ---- the worker's own ---- */

/*
 * Before the worker connects: the settings of the role that it connects as are for that
 * role's sessions, and not for those that it writes for.
 */
void
pp_role_settings_note_server(void)
{
	MemoryContext caller;
	struct config_generic **records;
	int n;

	server_context = AllocSetContextCreate(TopMemoryContext, "persist_pipeline server settings",
										   ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(server_context);
	records = pp_config_records(&n);
	server_settings = palloc(n * sizeof(ServerSetting));
	for (int i = 0; i < n; i++)
	{
		const char *value;

		if (records[i]->context != PGC_USERSET && records[i]->context != PGC_SUSET)
			continue;
		value = GetConfigOption(records[i]->name, true, false);
		if (value == NULL)
			continue;
		server_settings[nserver_settings++] =
			(ServerSetting){.name = pstrdup(records[i]->name), .value = pstrdup(value)};
	}
	MemoryContextSwitchTo(caller);
}

static void
set_back(const char *name, const char *value, void *arg)
{
	for (int i = 0; i < nserver_settings; i++)
	{
		if (pg_strcasecmp(server_settings[i].name, name) == 0)
			SetConfigOption(name, server_settings[i].value, PGC_SUSET, PGC_S_OVERRIDE);
	}
}

/* Once it has connected, as that role, in a transaction: as if that had none. */
void
pp_role_settings_undo_own(Oid role)
{
	Relation rel = table_open(DbRoleSettingRelationId, AccessShareLock);

	visit_entry(rel, InvalidOid, role, set_back, NULL);
	visit_entry(rel, MyDatabaseId, role, set_back, NULL);
	table_close(rel, AccessShareLock);
	MemoryContextDelete(server_context);
	server_context = NULL;
	nserver_settings = 0;
}

/* ---- an enqueuer's ---- */

static void
apply(const char *name, const char *value, void *arg)
{
	PpSettingFilter keep_out = (PpSettingFilter) arg;

	/* one that can't be set is passed over: a new session would only be warned */
	if (!keep_out(name))
		(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
								 DEBUG1, false);
}

/*
 * In the current transaction, and until its GUC level closes; what is more specific comes
 * later.
 */
void
pp_role_settings_apply(Oid role, PpSettingFilter keep_out)
{
	Relation rel = table_open(DbRoleSettingRelationId, AccessShareLock);

	/* most servers have never had any: a look at the file costs less than four at the index */
	if (RelationGetNumberOfBlocks(rel) > 0)
	{
		visit_entry(rel, InvalidOid, InvalidOid, apply, (void *) keep_out);
		visit_entry(rel, MyDatabaseId, InvalidOid, apply, (void *) keep_out);
		visit_entry(rel, InvalidOid, role, apply, (void *) keep_out);
		visit_entry(rel, MyDatabaseId, role, apply, (void *) keep_out);
	}
	table_close(rel, AccessShareLock);
}
