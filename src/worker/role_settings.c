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

/*
 * What ALTER DATABASE ... SET and ALTER ROLE ... SET must not change for the
 * worker.  A setting that this server doesn't have is passed over.
 */
static const struct
{
	const char *name;
	const char *value;
} forced_settings[] = {
	/* a connection to each server, not to each shard: each of them takes part in the commit */
	{"citus.multi_shard_modify_mode", "sequential"},
	{"default_transaction_deferrable", "off"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_read_only", "off"},
	{"exit_on_error", "off"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	{"lock_timeout", "1s"}, /* for what we do ourselves; below for the role */
	{"jit", "off"},			/* its INSERTs are too simple to gain */
	{"row_security", "on"},
	{"session_replication_role", "origin"},
	{"statement_timeout", "0"},	   /* the worker keeps its own */
	{"synchronous_commit", "off"}, /* persist_flush flushes for those who ask */
	{"temp_file_limit", "-1"},	   /* its own files count, and are not the role's */
	{"transaction_timeout", "0"},
};

/*
 * Nor what says whom or what it is for, or belongs to a connection that there isn't; nor
 * what raises an error, once a session has begun, where it names what there isn't.
 */
static const char *const kept_out_settings[] = {
	"application_name",		 "client_encoding",		   "role",
	"session_authorization", "temp_tablespaces",	   "transaction_deferrable",
	"transaction_isolation", "transaction_read_only",
};

/* Called for each setting of an entry */
typedef void (*SettingVisitor)(const char *name, const char *value);

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
visit_array(ArrayType *array, SettingVisitor visit)
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
		/* not with ParseLongOption(), whose memory stays before 16 */
		name = TextDatumGetCString(elements[i]);
		value = strchr(name, '=');
		if (value == NULL)
			continue;
		*value = '\0';
		visit(name, value + 1);
	}
}

/* The settings of one role in one database; either may be InvalidOid: of all. */
static void
visit_entry(Relation rel, Oid database, Oid role, SettingVisitor visit)
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
			visit_array(DatumGetArrayTypeP(value), visit);
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
set_back(const char *name, const char *value)
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

	visit_entry(rel, InvalidOid, role, set_back);
	visit_entry(rel, MyDatabaseId, role, set_back);
	table_close(rel, AccessShareLock);
	MemoryContextDelete(server_context);
	server_context = NULL;
	nserver_settings = 0;
}

/* The worker's own, once those of its role are undone. */
void
pp_role_settings_force(void)
{
	for (int i = 0; i < lengthof(forced_settings); i++)
	{
		if (GetConfigOption(forced_settings[i].name, true, false) != NULL)
			SetConfigOption(forced_settings[i].name, forced_settings[i].value, PGC_SUSET,
							PGC_S_OVERRIDE);
	}
}

/* ---- an enqueuer's ---- */

/* Is a setting not for a role to say? */
bool
pp_role_settings_keeps_out(const char *name)
{
	for (int i = 0; i < lengthof(forced_settings); i++)
	{
		if (pg_strcasecmp(name, forced_settings[i].name) == 0)
			return true;
	}
	for (int i = 0; i < lengthof(kept_out_settings); i++)
	{
		if (pg_strcasecmp(name, kept_out_settings[i]) == 0)
			return true;
	}
	return false;
}

static void
apply(const char *name, const char *value)
{
	/* one that can't be set is passed over: a new session would only be warned */
	if (!pp_role_settings_keeps_out(name))
		(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
								 DEBUG1, false);
}

/*
 * In the current transaction, and until its GUC level closes; what is more specific comes
 * later.
 */
void
pp_role_settings_apply(Oid role)
{
	Relation rel = table_open(DbRoleSettingRelationId, AccessShareLock);

	/* most servers have never had any: a look at the file costs less than four at the index */
	if (RelationGetNumberOfBlocks(rel) > 0)
	{
		visit_entry(rel, InvalidOid, InvalidOid, apply);
		visit_entry(rel, MyDatabaseId, InvalidOid, apply);
		visit_entry(rel, InvalidOid, role, apply);
		visit_entry(rel, MyDatabaseId, role, apply);
	}
	table_close(rel, AccessShareLock);
}
