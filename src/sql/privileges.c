/*-------------------------------------------------------------------------
 *
 * privileges.c
 *	  Who may do what with the extension's objects: its own tables refuse every write
 *	  by SQL; nothing is granted by default; what an enqueuer needs is granted in one
 *	  call.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/logicalworker.h"
#include "replication/worker_internal.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "base/errors.h"
#include "base/extension.h"
#include "producer/target.h"
#include "ring/shmem.h"
#include "store/pause.h"
#include "store/settings.h"
#include "store/state.h"
#include "worker/item_settings.h"

PG_FUNCTION_INFO_V1(persist_refuse_write);
PG_FUNCTION_INFO_V1(persist_restore_setting);
PG_FUNCTION_INFO_V1(persist_target_in);
PG_FUNCTION_INFO_V1(persist_close);
PG_FUNCTION_INFO_V1(persist_update_rights);
PG_FUNCTION_INFO_V1(persist_update_grants);
PG_FUNCTION_INFO_V1(persist_grant);
PG_FUNCTION_INFO_V1(persist_revoke);

/* ---- the tables ---- */

static TriggerData *
trigger_data(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("the function was not called as a trigger")));
	return (TriggerData *) fcinfo->context;
}

/*
 * persist_refuse_write() returns trigger: never, but for what a subscription to all tables of
 * another server copies of its installation.  That is passed over, row by row: an error would come
 * again every few seconds, for each of these tables, and hold slots that the others need.
 */
Datum
persist_refuse_write(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_data(fcinfo);

	if (IsLogicalWorker() && am_tablesync_worker() && TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		PG_RETURN_POINTER(NULL);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("cannot write to table \"%s\" of extension \"persist_pipeline\"",
					RelationGetRelationName(trigger->tg_relation)),
			 errdetail("Only the extension itself writes to it."),
			 errhint("Use its functions: persist_enqueue(), persist_requeue(), persist_discard(), "
					 "persist_configure() and others.")));
}

/*
 * persist_restore_setting() returns trigger: a row for persist_settings is written as
 * persist_configure() would, in place of one that is there, and so not by the INSERT.
 */
Datum
persist_restore_setting(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = trigger_data(fcinfo);
	Oid extension = pp_extension_get();
	PpSettings settings;
	Oid target;

	if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) !=
			pp_extension_relation(extension, "persist_settings"))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("the trigger is not one of table \"persist_settings\"")));

	settings = pp_settings_read(trigger->tg_relation, trigger->tg_trigtuple, &target);
	if (!OidIsValid(target))
		PG_RETURN_POINTER(NULL); /* the dump was restored without it */
	pp_target_lock_own(target);
	pp_item_settings_check(settings.capture_settings);
	pp_settings_put(extension, target, &settings);
	pp_pause_target_changed();

	PG_RETURN_POINTER(NULL);
}

/*
 * persist_target_in(cstring) returns persist_target: the relation of that name, or its OID;
 * none, if it isn't there.
 */
Datum
persist_target_in(PG_FUNCTION_ARGS)
{
	char *name = PG_GETARG_CSTRING(0);
	Oid relid = InvalidOid;

	if (strspn(name, "-0123456789") < strlen(name))
		relid = RangeVarGetRelid(
			makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(name))), NoLock, true);
	else if (strcmp(name, "-") != 0)
		relid = DatumGetObjectId(DirectFunctionCall1(oidin, CStringGetDatum(name)));
	if (!OidIsValid(relid) && strcmp(name, "-") != 0)
		ereport(WARNING, (errcode(ERRCODE_UNDEFINED_TABLE),
						  errmsg("relation %s does not exist", name),
						  errdetail("Nothing is kept of it.")));
	PG_RETURN_OID(relid);
}

/* ---- in the scripts of the extension ---- */

/*
 * The members of extension $1: what, which, its name, owner, and what is granted.  Where $2 is one
 * of them, those that have become members with it or later in the same script.
 */
#define MEMBERS                                                                                    \
	"WITH object AS ("                                                                             \
	" SELECT 'pg_catalog.pg_class'::pg_catalog.regclass AS classid, c.oid,"                        \
	"  CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,"                          \
	"  pg_catalog.format('%I.%I', n.nspname, c.relname) AS name, c.relacl AS acl,"                 \
	"  CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\" AS default_kind,"                   \
	"  c.relowner AS owner"                                                                        \
	" FROM pg_catalog.pg_class AS c"                                                               \
	" JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace"            \
	" WHERE c.relkind IN ('r', 'v', 'S')"                                                          \
	" UNION ALL"                                                                                   \
	" SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid, 'FUNCTION',"                        \
	"  p.oid::pg_catalog.regprocedure::pg_catalog.text, p.proacl, 'f', p.proowner"                 \
	" FROM pg_catalog.pg_proc AS p"                                                                \
	" UNION ALL"                                                                                   \
	" SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass, n.oid, 'SCHEMA',"                     \
	"  pg_catalog.quote_ident(n.nspname), n.nspacl, 'n', n.nspowner"                               \
	" FROM pg_catalog.pg_namespace AS n), member AS ("                                             \
	" SELECT d.classid, d.objid, d.xmin AS made_by, d.cmin::pg_catalog.text::bigint AS made_at"    \
	" FROM pg_catalog.pg_depend AS d"                                                              \
	" WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass"    \
	"  AND d.refobjid OPERATOR(pg_catalog.=) $1 AND d.deptype OPERATOR(pg_catalog.=) 'e'"          \
	"), members AS ("                                                                              \
	" SELECT o.* FROM member AS m"                                                                 \
	" JOIN object AS o ON o.classid OPERATOR(pg_catalog.=) m.classid"                              \
	"  AND o.oid OPERATOR(pg_catalog.=) m.objid"                                                   \
	" WHERE $2 OPERATOR(pg_catalog.=) 0 OR EXISTS (SELECT FROM member AS f"                        \
	"  WHERE f.objid OPERATOR(pg_catalog.=) $2"                                                    \
	"   AND f.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass"            \
	"   AND f.made_by OPERATOR(pg_catalog.=) m.made_by"                                            \
	"   AND f.made_at OPERATOR(pg_catalog.<=) m.made_at))"

/* What is granted to others than the owner, as REVOKEs */
static const char *const grants_query = MEMBERS
	" SELECT DISTINCT pg_catalog.format('REVOKE ALL ON %s %s FROM %s CASCADE', o.kind, o.name,"
	"  CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'"
	"  ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END)"
	" FROM members AS o, pg_catalog.aclexplode("
	"  COALESCE(o.acl, pg_catalog.acldefault(o.default_kind, o.owner))) AS a"
	" WHERE a.grantee OPERATOR(pg_catalog.<>) o.owner";

/* What somebody else than the extension's owner has made, as ALTER ... OWNER */
static const char *const owners_query = MEMBERS
	" SELECT pg_catalog.format('ALTER %s %s OWNER TO %I', o.kind, o.name,"
	"  pg_catalog.pg_get_userbyid(e.extowner))"
	" FROM members AS o JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) $1"
	" WHERE o.owner OPERATOR(pg_catalog.<>) e.extowner";

/*
 * What makes the grants of function $2 those of function $1: REVOKEs of what it has, and GRANTs of
 * what that one has.  The owners need none.
 */
static const char *const same_grants_query =
	"SELECT CASE WHEN p.oid OPERATOR(pg_catalog.=) $2"
	"  THEN pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM %s', $2::pg_catalog.regprocedure, r.name)"
	"  ELSE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %s%s', $2::pg_catalog.regprocedure,"
	"   r.name, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END) END"
	" FROM pg_catalog.pg_proc AS p, pg_catalog.aclexplode("
	"  COALESCE(p.proacl, pg_catalog.acldefault('f', p.proowner))) AS a,"
	" LATERAL (SELECT CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'"
	"  ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS name) AS r"
	" WHERE p.oid IN ($1, $2) AND a.grantee OPERATOR(pg_catalog.<>) p.proowner"
	" ORDER BY p.oid OPERATOR(pg_catalog.<>) $2";

/*
 * Who, other than superusers, may create objects in schema $1?  PUBLIC, a role, or the
 * database's owner by way of pg_database_owner.
 */
static const char *const creators_query =
	"WITH grantee AS ("
	" SELECT a.grantee AS oid FROM pg_catalog.pg_namespace AS n,"
	"  pg_catalog.aclexplode(COALESCE(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) AS a"
	" WHERE n.oid OPERATOR(pg_catalog.=) $1 AND a.privilege_type OPERATOR(pg_catalog.=) 'CREATE'"
	" UNION SELECT n.nspowner FROM pg_catalog.pg_namespace AS n"
	" WHERE n.oid OPERATOR(pg_catalog.=) $1), real AS ("
	" SELECT CASE WHEN g.oid OPERATOR(pg_catalog.=) r.oid THEN d.datdba ELSE g.oid END AS oid"
	" FROM grantee AS g, pg_catalog.pg_database AS d, pg_catalog.pg_roles AS r"
	" WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()"
	"  AND r.rolname OPERATOR(pg_catalog.=) 'pg_database_owner')"
	" SELECT pg_catalog.string_agg(DISTINCT"
	"  CASE WHEN x.oid OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'"
	"  ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(x.oid)) END, ', ')"
	" FROM real AS x LEFT JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) x.oid"
	" WHERE r.rolsuper IS NOT TRUE";

/* Run a query with two OIDs as its parameters; SPI is connected. */
static void
query_with_oids(const char *sql, Oid first, Oid second)
{
	Oid types[] = {OIDOID, OIDOID};
	Datum values[] = {ObjectIdGetDatum(first), ObjectIdGetDatum(second)};
	int result = SPI_execute_with_args(sql, lengthof(types), types, values, NULL, false, 0);

	if (result != SPI_OK_SELECT)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not read the catalogs: %s", SPI_result_code_string(result))));
}

/* Run a statement that returns nothing; SPI is connected. */
static void
execute(const char *sql)
{
	int result = SPI_execute(sql, false, 0);

	if (result < 0)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not execute \"%s\": %s", sql,
																SPI_result_code_string(result))));
}

/* Run the statements that such a query returns; SPI is connected. */
static void
execute_rows(const char *sql, Oid first, Oid second)
{
	SPITupleTable *table;

	query_with_oids(sql, first, second);
	table = SPI_tuptable;
	for (uint64 i = 0; i < table->numvals; i++)
		execute(SPI_getvalue(table->vals[i], table->tupdesc, 1));
}

/* 55000 unless the function is called by a script of the extension. */
static void
check_in_script(const char *function, const char *command)
{
	if (!creating_extension)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("%s is for %s alone", function, command)));
}

/* Who can create a function there can have it called instead of one of ours. */
static void
warn_of_creators(Oid schema)
{
	char *creators;

	query_with_oids(creators_query, schema, InvalidOid);
	creators = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (creators == NULL)
		return;
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("others than superusers can create objects in schema \"%s\"",
					get_namespace_name(schema)),
			 errdetail("These can: %s. A function of theirs may be called instead of one of the "
					   "extension's.",
					   creators),
			 errhidecontext(true),
			 errhint("CREATE SCHEMA persist; CREATE EXTENSION persist_pipeline SCHEMA persist;")));
}

/* Who creates it needs to know before he calls anything. */
static void
warn_if_not_preloaded(void)
{
	if (pp_shmem == NULL)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("persist_pipeline was not loaded when the server started"),
				 errdetail("Nothing can be handed over until it is; but where "
						   "\"persist_pipeline.mode\" is \"direct\", each call is an INSERT."),
				 errhidecontext(true),
				 errhint("Add persist_pipeline to \"shared_preload_libraries\" and restart the "
						 "server.")));
}

/*
 * persist_close() returns void: by the extension's script, at its end.  55000 elsewhere.
 */
Datum
persist_close(PG_FUNCTION_ARGS)
{
	Oid schema;

	check_in_script("persist_close()", "CREATE EXTENSION");
	warn_if_not_preloaded();
	SPI_connect();
	execute_rows(grants_query, CurrentExtensionObject, InvalidOid);
	schema = pp_extension_schema(CurrentExtensionObject);
	warn_of_creators(schema);
	/* who may dump the database reads persist_settings */
	execute(psprintf("GRANT USAGE ON SCHEMA %s TO pg_database_owner",
					 quote_identifier(get_namespace_name(schema))));
	SPI_finish();
	pp_state_begin(CurrentExtensionObject);

	PG_RETURN_VOID();
}

/*
 * persist_update_rights() returns void: by a script that updates the extension, which has created
 * the function before anything else.  What it has created since is as if CREATE EXTENSION had: the
 * extension's owner has it, and nobody else has a right to it by default.  What was there keeps
 * what has been granted.  55000 elsewhere.
 */
Datum
persist_update_rights(PG_FUNCTION_ARGS)
{
	check_in_script("persist_update_rights()", "ALTER EXTENSION ... UPDATE");
	SPI_connect();
	execute_rows(owners_query, CurrentExtensionObject, fcinfo->flinfo->fn_oid);
	execute_rows(grants_query, CurrentExtensionObject, fcinfo->flinfo->fn_oid);
	SPI_finish();

	PG_RETURN_VOID();
}

/*
 * persist_update_grants(old regprocedure, new regprocedure) returns void: by such a script, after
 * that, and after it has granted what is granted by default.  Who may execute the old function, and
 * nobody else, may execute the new one, which takes its place.  The difference is the users', as it
 * was, and not the extension's: else pg_dump would leave it out.
 */
Datum
persist_update_grants(PG_FUNCTION_ARGS)
{
	check_in_script("persist_update_grants()", "ALTER EXTENSION ... UPDATE");
	SPI_connect();
	creating_extension = false; /* who runs the script sets it back, whatever happens */
	execute_rows(same_grants_query, PG_GETARG_OID(0), PG_GETARG_OID(1));
	creating_extension = true;
	SPI_finish();

	PG_RETURN_VOID();
}

/* ---- roles ---- */

/* Of the extension's schema */
static const char *const enqueuers_functions[] = {
	"persist_enqueue(pg_catalog.regclass, pg_catalog.jsonb, pg_catalog.bool)",
	"persist_enqueue(pg_catalog.text, pg_catalog.text, pg_catalog.bool)",
	"persist_enqueue(pg_catalog.oid, pg_catalog.json, pg_catalog.bool)",
	"persist_enqueue(pg_catalog.text, pg_catalog.json, pg_catalog.bool)",
	"persist_enqueue(pg_catalog.record)",
	"persist_enqueue_many(pg_catalog.regclass, pg_catalog.jsonb)",
	"persist_flush(pg_catalog.interval, pg_catalog.regclass)",
};

/* Of PP_BATCH_SCHEMA */
static const char *const batch_functions[] = {
	"persist_batch(pg_catalog.int8, pg_catalog.anyelement)",
	"persist_batch_row()",
};

/* Is anything else than the extension in its schema? */
static const char *const strangers_query =
	"SELECT FROM pg_catalog.pg_depend AS o"
	" WHERE o.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass"
	"  AND o.refobjid OPERATOR(pg_catalog.=) $1"
	"  AND o.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_extension'::pg_catalog.regclass"
	"  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS m"
	"   WHERE m.classid OPERATOR(pg_catalog.=) o.classid"
	"    AND m.objid OPERATOR(pg_catalog.=) o.objid"
	"    AND m.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass)"
	" LIMIT 1";

/*
 * The role that argument 0 names, which the caller may grant our functions to.  Errors: 22004
 * it is NULL; 42704 there is none; 42501 they aren't the caller's to grant.
 */
static const char *
get_grantee(FunctionCallInfo fcinfo, const char *function, Oid extension)
{
	pp_error_if_null(fcinfo, 0, "role");
	PreventCommandIfReadOnly(function);
	PreventCommandDuringRecovery(function);
	if (!superuser() && !has_privs_of_role(GetUserId(), pp_extension_owner(extension)))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("must be owner of extension %s", "persist_pipeline")));
	return quote_identifier(GetUserNameFromId(PG_GETARG_OID(0), false));
}

/* "GRANT", "TO", or "REVOKE", "FROM": the same for all functions in a list. */
static void
change_execute(const char *verb, const char *preposition, const char *schema,
			   const char *const *functions, int n, const char *role)
{
	for (int i = 0; i < n; i++)
		execute(psprintf("%s EXECUTE ON FUNCTION %s.%s %s %s", verb, schema, functions[i],
						 preposition, role));
}

static void
change_rights(const char *verb, const char *preposition, const char *schema, const char *role,
			  bool with_schema)
{
	SPI_connect();
	if (with_schema)
		execute(psprintf("%s USAGE ON SCHEMA %s %s %s", verb, schema, preposition, role));
	execute(psprintf("%s USAGE ON SCHEMA " PP_BATCH_SCHEMA " %s %s", verb, preposition, role));
	change_execute(verb, preposition, schema, enqueuers_functions, lengthof(enqueuers_functions),
				   role);
	change_execute(verb, preposition, PP_BATCH_SCHEMA, batch_functions,
				   lengthof(batch_functions), role);
	SPI_finish();
}

/* persist_grant(role regrole) returns void. */
Datum
persist_grant(PG_FUNCTION_ARGS)
{
	Oid extension = pp_extension_get();
	const char *role = get_grantee(fcinfo, "persist_grant()", extension);
	const char *schema = quote_identifier(get_namespace_name(pp_extension_schema(extension)));

	change_rights("GRANT", "TO", schema, role, true);

	PG_RETURN_VOID();
}

/* persist_revoke(role regrole) returns void. */
Datum
persist_revoke(PG_FUNCTION_ARGS)
{
	Oid extension = pp_extension_get();
	const char *role = get_grantee(fcinfo, "persist_revoke()", extension);
	Oid schema = pp_extension_schema(extension);
	bool is_ours;

	SPI_connect();
	query_with_oids(strangers_query, schema, InvalidOid);
	is_ours = SPI_processed == 0;
	SPI_finish();
	change_rights("REVOKE", "FROM", quote_identifier(get_namespace_name(schema)), role, is_ours);

	PG_RETURN_VOID();
}
