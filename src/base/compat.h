/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  What differs between PostgreSQL 15 and 19, spelled as in the newest.
 *	  The only file that tests PG_VERSION_NUM.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_COMPAT_H
#define PP_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tupdesc.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "commands/extension.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/origin.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/lsyscache.h"
#include "utils/wait_event.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif
/* 19: get_database_name is in lsyscache.h */
#if PG_VERSION_NUM < 190000
#include "commands/dbcommands.h"
#endif

#if PG_VERSION_NUM < 150000
#error "persist_pipeline needs PostgreSQL 15 or later"
#endif

/* 18: a module says its name and version */
#if PG_VERSION_NUM >= 180000
#define PP_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "persist_pipeline", .version = "1.1")
#else
#define PP_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* 17: extensions name their waits; before, all of them are "Extension" */
static inline uint32
pp_wait_event(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	return PG_WAIT_EXTENSION;
#endif
}

/* 16: one function checks the rights on any kind of object */
#if PG_VERSION_NUM < 160000
static inline AclResult
pp_namespace_aclcheck(Oid namespace_oid, Oid role, AclMode mode)
{
	return pg_namespace_aclcheck(namespace_oid, role, mode);
}

static inline AclResult
pp_function_aclcheck(Oid function, Oid role, AclMode mode)
{
	return pg_proc_aclcheck(function, role, mode);
}
#else
static inline AclResult
pp_namespace_aclcheck(Oid namespace_oid, Oid role, AclMode mode)
{
	return object_aclcheck(NamespaceRelationId, namespace_oid, role, mode);
}

static inline AclResult
pp_function_aclcheck(Oid function, Oid role, AclMode mode)
{
	return object_aclcheck(ProcedureRelationId, function, role, mode);
}
#endif

/* 16: get_extension_schema is exported */
#if PG_VERSION_NUM < 160000
static inline Oid
pp_extension_schema(Oid extension)
{
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid schema = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	return schema;
}
#else
#define pp_extension_schema(extension) get_extension_schema(extension)
#endif

/* 16: settings are in a hash table, and a list of them is made for who asks */
static inline struct config_generic **
pp_config_records(int *n)
{
#if PG_VERSION_NUM >= 160000
	return get_guc_variables(n);
#else
	*n = GetNumConfigOptions();
	return get_guc_variables();
#endif
}

static inline void
pp_config_records_free(struct config_generic **records)
{
#if PG_VERSION_NUM >= 160000
	pfree(records);
#endif
}

/*
 * The value of a setting that anybody may see; NULL if there is none of that name.  17: one that
 * has no value, as after SET LOCAL of a name that nobody has defined, is empty, as SQL sees it.
 */
static inline const char *
pp_config_option(const char *name)
{
	const char *value = GetConfigOption(name, true, true);

#if PG_VERSION_NUM < 170000
	if (value == NULL && GetConfigOptionFlags(name, true) != 0)
		value = "";
#endif
	return value;
}

/* 17: or a stronger lock, if that will do, too */
static inline bool
pp_relation_lock_held(Oid relid, LOCKMODE mode)
{
	LOCKTAG tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
#if PG_VERSION_NUM >= 170000
	return LockHeldByMe(&tag, mode, false);
#else
	return LockHeldByMe(&tag, mode);
#endif
}

/* 18: heap_form_minimal_tuple can leave room before the tuple */
static inline MinimalTuple
pp_form_minimal_tuple(TupleDesc desc, Datum *values, bool *nulls)
{
#if PG_VERSION_NUM >= 180000
	return heap_form_minimal_tuple(desc, values, nulls, 0);
#else
	return heap_form_minimal_tuple(desc, values, nulls);
#endif
}

/* 16: for BRIN an update may do without; 19: flags, and another order */
static inline void
pp_insert_index_tuples(ResultRelInfo *result, TupleTableSlot *slot, EState *estate)
{
#if PG_VERSION_NUM >= 190000
	(void) ExecInsertIndexTuples(result, estate, 0, slot, NIL, NULL);
#elif PG_VERSION_NUM >= 160000
	(void) ExecInsertIndexTuples(result, slot, estate, false, false, NULL, NIL, false);
#else
	(void) ExecInsertIndexTuples(result, slot, estate, false, false, NULL, NIL);
#endif
}

/* 19: a descriptor that was built by hand has to be completed */
static inline void
pp_tupdesc_finalize(TupleDesc desc)
{
#if PG_VERSION_NUM >= 190000
	TupleDescFinalize(desc);
#endif
}

/* 18: what is read most of an attribute is kept a second time */
static inline void
pp_tupdesc_attribute_changed(TupleDesc desc, int i)
{
#if PG_VERSION_NUM >= 180000
	populate_compact_attribute(desc, i);
#endif
}

/* 19: a database command may end such a worker; before, only our hook sends it away */
#if PG_VERSION_NUM >= 190000
#define PP_BGWORKER_INTERRUPTIBLE BGWORKER_INTERRUPTIBLE
#else
#define PP_BGWORKER_INTERRUPTIBLE 0
#endif

/* 19: comments don't say any more that a case falls through */
#if PG_VERSION_NUM < 190000
#if __has_attribute(fallthrough)
#define pg_fallthrough __attribute__((fallthrough))
#else
#define pg_fallthrough
#endif
#endif

/* 19: a session's replication origin is part of a struct, and its type has another name */
static inline bool
pp_has_replication_origin(void)
{
#if PG_VERSION_NUM >= 190000
	return replorigin_xact_state.origin != InvalidReplOriginId;
#else
	return replorigin_session_origin != InvalidRepOriginId;
#endif
}

/* 18: not only PL/pgSQL keeps functions; which row of pg_proc one was compiled from */
#if PG_VERSION_NUM >= 180000
#define pp_plpgsql_xmin(function) ((function)->cfunc.fn_xmin)
#else
#define pp_plpgsql_xmin(function) ((function)->fn_xmin)
#endif

/* 16: one function checks whose an object is, and the rights to a tablespace */
#if PG_VERSION_NUM < 160000
#define pp_owns_database(database, role) pg_database_ownercheck(database, role)
#define pp_owns_namespace(schema, role) pg_namespace_ownercheck(schema, role)
#define pp_owns_relation(relid, role) pg_class_ownercheck(relid, role)
#define pp_tablespace_aclcheck(tablespace, role, mode)                                             \
	pg_tablespace_aclcheck(tablespace, role, mode)
#else
#define pp_owns_database(database, role) object_ownercheck(DatabaseRelationId, database, role)
#define pp_owns_namespace(schema, role) object_ownercheck(NamespaceRelationId, schema, role)
#define pp_owns_relation(relid, role) object_ownercheck(RelationRelationId, relid, role)
#define pp_tablespace_aclcheck(tablespace, role, mode)                                             \
	object_aclcheck(TableSpaceRelationId, tablespace, role, mode)
#endif

/* 16: a file is named by a number */
#if PG_VERSION_NUM < 160000
#define pp_relation_set_new_file(rel) RelationSetNewRelfilenode(rel, (rel)->rd_rel->relpersistence)
#else
#define pp_relation_set_new_file(rel)                                                              \
	RelationSetNewRelfilenumber(rel, (rel)->rd_rel->relpersistence)
#endif

/* 19: heap_delete takes options */
#if PG_VERSION_NUM >= 190000
#define pp_heap_delete(rel, tid, command, wait, failure)                                           \
	heap_delete(rel, tid, command, 0, InvalidSnapshot, wait, failure)
#else
#define pp_heap_delete(rel, tid, command, wait, failure)                                           \
	heap_delete(rel, tid, command, InvalidSnapshot, wait, failure, false)
#endif

/* A signal handler hands on what it has been given; from 19 on that says who has sent the signal. */
#if PG_VERSION_NUM >= 190000
#define PP_SIGNAL_ARGS postgres_signal_arg, pg_siginfo
#else
#define PP_SIGNAL_ARGS postgres_signal_arg
#define PG_SIG_IGN SIG_IGN
#endif

#endif /* PP_COMPAT_H */
