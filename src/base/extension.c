/*-------------------------------------------------------------------------
 *
 * extension.c
 *	  Finds the installation of the extension; see extension.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/extension.h"

#define EXTENSION_NAME "persist_pipeline"

/* The versions of the SQL that this library serves, the newest one last */
static const char *const served_versions[] = {"1.0", "1.1"};

/* What nothing works without, with as many columns as the library knows */
static const struct
{
	const char *name;
	int columns;
} needed_relations[] = {
	{"persist_account", 13},  {"persist_copied", 5},	{"persist_dead_letters", 22},
	{"persist_id_seq", 3},	  {"persist_journal_1", 5}, {"persist_journal_2", 5},
	{"persist_journal_3", 5}, {"persist_layouts", 4},	{"persist_leases", 1},
	{"persist_mark", 1},	  {"persist_parked", 10},	{"persist_settings", 10},
	{"persist_shutdowns", 8}, {"persist_state", 6},
};

/*
 * The current installation; InvalidOid if there is none.  From 18 on that is a look into a
 * cache, without a lock that would bring it up to date.
 */
Oid
pp_extension_oid(void)
{
	AcceptInvalidationMessages();
	return get_extension_oid(EXTENSION_NAME, true);
}

/* For functions that write: 25006 where nobody can, 25000 in a parallel query. */
void
pp_extension_check_writable(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandDuringRecovery(function);
	PreventCommandIfParallelMode(function);
}

/* The row of pg_extension, as a copy; NULL if it has just gone. */
static HeapTuple
fetch_row(Oid extension, TupleDesc *desc)
{
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = heap_copytuple(systable_getnext(scan));
	*desc = CreateTupleDescCopy(RelationGetDescr(rel));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	return tuple;
}

/* The version that pg_extension names; "" if the row has just gone. */
static char *
installed_version(Oid extension)
{
	TupleDesc desc;
	HeapTuple tuple = fetch_row(extension, &desc);
	bool is_null;
	Datum value;

	if (tuple == NULL)
		return "";
	value = heap_getattr(tuple, Anum_pg_extension_extversion, desc, &is_null);
	return is_null ? "" : TextDatumGetCString(value);
}

/* InvalidOid if it has just gone. */
Oid
pp_extension_owner(Oid extension)
{
	TupleDesc desc;
	HeapTuple tuple = fetch_row(extension, &desc);

	return tuple ? ((Form_pg_extension) GETSTRUCT(tuple))->extowner : InvalidOid;
}

/* Has the current transaction made it, or changed it?  Then that may still come to nothing. */
bool
pp_extension_is_uncommitted(Oid extension)
{
	TupleDesc desc;
	HeapTuple tuple;

	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return false;
	tuple = fetch_row(extension, &desc);
	return tuple == NULL ||
		   TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
}

/* A schema of the installation's own; known by its OID, once it has been found */
typedef struct OwnSchema
{
	const char *name;
	Oid oid;
	Oid extension;
} OwnSchema;

static OwnSchema internal_schema = {.name = PP_INTERNAL_SCHEMA};
static OwnSchema batch_schema = {.name = PP_BATCH_SCHEMA};

/* InvalidOid if it isn't there, or is somebody else's of that name. */
static Oid
find_schema(OwnSchema *schema, Oid extension)
{
	Oid oid;

	if (extension == schema->extension)
		return schema->oid;
	oid = get_namespace_oid(schema->name, true);
	if (!OidIsValid(oid) || getExtensionOfObject(NamespaceRelationId, oid) != extension)
		return InvalidOid;
	schema->oid = oid;
	schema->extension = extension;
	return oid;
}

/* A relation of the installation, by its name; InvalidOid if it isn't there. */
Oid
pp_extension_relation(Oid extension, const char *name)
{
	Oid schema = strcmp(name, "persist_settings") == 0 ? pp_extension_schema(extension)
													   : find_schema(&internal_schema, extension);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

/* Open one of its relations; NULL: it isn't there, or about to go. */
Relation
pp_extension_open(Oid extension, const char *name, LOCKMODE mode)
{
	Oid relid = OidIsValid(extension) ? pp_extension_relation(extension, name) : InvalidOid;

	return OidIsValid(relid) ? try_relation_open(relid, mode) : NULL;
}

/* Lock one, if that can be done at once; InvalidOid: it can't, or it isn't there. */
Oid
pp_extension_try_lock(Oid extension, const char *name, LOCKMODE mode)
{
	Oid relid = OidIsValid(extension) ? pp_extension_relation(extension, name) : InvalidOid;

	return OidIsValid(relid) && ConditionalLockRelationOid(relid, mode) ? relid : InvalidOid;
}

/* What the worker's INSERT calls, as the enqueuer */
enum
{
	FUNCTION_BATCH,
	FUNCTION_BATCH_ROW,
	FUNCTIONS
};

static const struct
{
	const char *name;
	int narguments;
	Oid arguments[2];
} functions[FUNCTIONS] = {
	[FUNCTION_BATCH] = {"persist_batch", 2, {INT8OID, ANYELEMENTOID}},
	[FUNCTION_BATCH_ROW] = {"persist_batch_row", 0, {InvalidOid}},
};

/* InvalidOid if it isn't there. */
static Oid
find_function(Oid extension, int which)
{
	oidvector *arguments = buildoidvector(functions[which].arguments, functions[which].narguments);

	return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
						   CStringGetDatum(functions[which].name), PointerGetDatum(arguments),
						   ObjectIdGetDatum(find_schema(&batch_schema, extension)));
}

/*
 * Which of the functions that the worker's INSERT calls as this role, may it not execute?
 * InvalidOid: none.
 */
Oid
pp_extension_refused_to(Oid extension, Oid role)
{
	bool may_look = pp_namespace_aclcheck(find_schema(&batch_schema, extension), role, ACL_USAGE) ==
					ACLCHECK_OK;

	for (int i = 0; i < FUNCTIONS; i++)
	{
		Oid function = find_function(extension, i);

		if (!OidIsValid(function))
			continue; /* the worker says so */
		if (!may_look || pp_function_aclcheck(function, role, ACL_EXECUTE) != ACLCHECK_OK)
			return function;
	}
	return InvalidOid;
}

static bool
is_served(const char *version)
{
	for (int i = 0; i < lengthof(served_versions); i++)
	{
		if (strcmp(version, served_versions[i]) == 0)
			return true;
	}
	return false;
}

/* With those that were dropped; 0 if it has just gone. */
static int
count_columns(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	int n;

	if (!HeapTupleIsValid(tuple))
		return 0;
	n = ((Form_pg_class) GETSTRUCT(tuple))->relnatts;
	ReleaseSysCache(tuple);
	return n;
}

/* What keeps the installation from working, as a sentence; NULL: nothing. */
static const char *
find_fault(Oid extension)
{
	char *version = installed_version(extension);

	if (!is_served(version))
		return psprintf("Its SQL has version \"%s\", and the library that the server has loaded "
						"serves version \"%s\".",
						version, served_versions[lengthof(served_versions) - 1]);
	for (int i = 0; i < lengthof(needed_relations); i++)
	{
		const char *name = needed_relations[i].name;
		Oid relid = pp_extension_relation(extension, name);

		if (!OidIsValid(relid))
			return psprintf("Its relation \"%s\" does not exist.", name);
		if (count_columns(relid) > needed_relations[i].columns)
			return psprintf("Its relation \"%s\" has been given columns.", name);
	}
	for (int i = 0; i < FUNCTIONS; i++)
	{
		if (!OidIsValid(find_function(extension, i)))
			return psprintf("Its function \"%s\" does not exist.", functions[i].name);
	}
	return NULL;
}

/*
 * The current installation, and what keeps it from working, as a sentence; InvalidOid if
 * there is none.  One that is being dropped meanwhile has no fault: it is not there.
 */
Oid
pp_extension_find(const char **fault)
{
	for (;;)
	{
		Oid extension = pp_extension_oid();

		*fault = OidIsValid(extension) ? find_fault(extension) : NULL;
		if (*fault == NULL || pp_extension_oid() == extension)
			return extension;
	}
}

/* That the SQL of an installation that works is older than the library, as a sentence; NULL: no. */
const char *
pp_extension_outdated(Oid extension)
{
	const char *newest = served_versions[lengthof(served_versions) - 1];
	char *version = installed_version(extension);

	return strcmp(version, newest) == 0
			   ? NULL
			   : psprintf("Its SQL has version \"%s\", and the library that the server has loaded "
						  "serves it, but what is new in version \"%s\" is missing.",
						  version, newest);
}

/*
 * pp_extension_find() for a process of ours, in a transaction of its own.  FATAL, and so nothing is
 * lost, if it is not what it should be.
 */
Oid
pp_extension_find_or_end(void)
{
	MemoryContext caller = CurrentMemoryContext;
	const char *fault;
	Oid extension;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	extension = pp_extension_find(&fault);
	if (fault)
		ereport(FATAL, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("persist_pipeline worker for database \"%s\" cannot work: %s",
							   get_database_name(MyDatabaseId), fault)));
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return extension;
}

/*
 * The current installation, which works.  Errors: 42704 there is none; 55000 it
 * is not whole, or of another version than the library.
 */
Oid
pp_extension_get(void)
{
	const char *fault;
	Oid extension = pp_extension_find(&fault);

	if (!OidIsValid(extension))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("extension \"%s\" does not exist in database \"%s\"", EXTENSION_NAME,
							   get_database_name(MyDatabaseId)),
						errhint("Create it with CREATE EXTENSION.")));
	if (fault)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"%s\" in database \"%s\" cannot be used as it is",
						EXTENSION_NAME, get_database_name(MyDatabaseId)),
				 errdetail("%s", fault),
				 errhint("Run ALTER EXTENSION %s UPDATE; or restart the server, if it has not "
						 "been restarted since the library was replaced; or create the extension "
						 "again.",
						 EXTENSION_NAME)));

	return extension;
}
