/*-------------------------------------------------------------------------
 *
 * control_functions.c
 *	  The SQL functions that change what the pipeline does, in general or with one
 *	  target: arguments and rights.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/errors.h"
#include "base/extension.h"
#include "producer/conflict.h"
#include "producer/target.h"
#include "store/pause.h"
#include "store/settings.h"
#include "worker/item_settings.h"

PG_FUNCTION_INFO_V1(persist_configure);
PG_FUNCTION_INFO_V1(persist_configure_1_1);
PG_FUNCTION_INFO_V1(persist_unconfigure);
PG_FUNCTION_INFO_V1(persist_pause);
PG_FUNCTION_INFO_V1(persist_resume);
PG_FUNCTION_INFO_V1(persist_discard);

/*
 * The target that argument 0 names, which nobody else configures or drops before
 * the end of the transaction.  Errors: 22004 it is NULL; 42P01 there is none; 42501
 * it is not the caller's.
 */
static Oid
lock_own_target(FunctionCallInfo fcinfo)
{
	Oid target;

	pp_error_if_null(fcinfo, 0, "target");
	target = PG_GETARG_OID(0);

	pp_target_lock_own(target);
	return target;
}

/* 42501 unless the caller owns the database. */
static void
check_owns_database(void)
{
	if (!pp_owns_database(MyDatabaseId, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_DATABASE, get_database_name(MyDatabaseId));
}

/*
 * Arguments 4 to 6 of persist_configure_1_1().  What belongs to another on_conflict goes with that.
 * Errors: 22023 no such value, or it can't be with the others; and those of
 * pp_settings_parse_names(), pp_conflict_of() and pp_conflict_table().
 */
static void
configure_conflict(FunctionCallInfo fcinfo, Oid target, PpSettings *settings)
{
	Relation rel;

	if (PG_ARGISNULL(4) && PG_ARGISNULL(5) && PG_ARGISNULL(6))
		return;
	if (!PG_ARGISNULL(4))
		settings->on_conflict =
			pp_settings_parse_on_conflict(text_to_cstring(PG_GETARG_TEXT_PP(4)));
	if (settings->on_conflict == PP_CONFLICT_ERROR)
		settings->conflict_columns = NIL;
	if (settings->on_conflict != PP_CONFLICT_UPDATE)
		settings->add_columns = NIL;
	if (!PG_ARGISNULL(5))
		settings->conflict_columns =
			pp_settings_parse_names("conflict_columns", PG_GETARG_DATUM(5));
	if (!PG_ARGISNULL(6))
		settings->add_columns = pp_settings_parse_names("add_columns", PG_GETARG_DATUM(6));

	rel = relation_open(target, AccessShareLock);
	pp_conflict_check(rel, settings);
	relation_close(rel, AccessShareLock);
}

/*
 * The settings of the target that argument 0 names, with durability and bad_items as arguments 1
 * and 2 have them.
 */
static PpSettings
begin_configure(FunctionCallInfo fcinfo, Oid extension, Oid *target)
{
	PpSettings settings;

	pp_extension_check_writable("persist_configure()");
	*target = lock_own_target(fcinfo);
	pp_target_check(*target);

	settings = pp_settings_get(extension, *target);
	if (!PG_ARGISNULL(1))
		settings.durability = pp_settings_parse_durability(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	if (!PG_ARGISNULL(2))
		settings.bad_to_dead = pp_settings_parse_bad_items(text_to_cstring(PG_GETARG_TEXT_PP(2)));
	return settings;
}

/*
 * persist_configure(target regclass, durability text, bad_items text) returns void, of SQL 1.0.
 * NULL: as it is.
 * Errors besides those of lock_own_target(): 42809 rows of it can't be enqueued;
 * 22023 no such value.
 */
Datum
persist_configure(PG_FUNCTION_ARGS)
{
	Oid extension = pp_extension_get();
	Oid target;
	PpSettings settings = begin_configure(fcinfo, extension, &target);

	pp_settings_put(extension, target, &settings);

	PG_RETURN_VOID();
}

/*
 * persist_configure(target regclass, durability text, bad_items text, unknown_keys text,
 * on_conflict text, conflict_columns text[], add_columns text[], flush_interval interval,
 * capture_settings text[]) returns void, of SQL 1.1.
 * Errors besides those of persist_configure(): those of configure_conflict(),
 * pp_settings_parse_flush_interval() and pp_item_settings_check().
 */
Datum
persist_configure_1_1(PG_FUNCTION_ARGS)
{
	Oid extension = pp_extension_get();
	Oid target;
	PpSettings settings = begin_configure(fcinfo, extension, &target);

	if (!PG_ARGISNULL(3))
		settings.passes_unknown =
			pp_settings_parse_unknown_keys(text_to_cstring(PG_GETARG_TEXT_PP(3)));
	configure_conflict(fcinfo, target, &settings);
	if (!PG_ARGISNULL(7))
		settings.flush_interval = pp_settings_parse_flush_interval(PG_GETARG_INTERVAL_P(7));
	if (!PG_ARGISNULL(8))
	{
		settings.capture_settings = pp_settings_parse_names("capture_settings", PG_GETARG_DATUM(8));
		pp_item_settings_check(settings.capture_settings);
	}
	pp_settings_put(extension, target, &settings);

	PG_RETURN_VOID();
}

/* persist_unconfigure(target regclass) returns void: back to the defaults. */
Datum
persist_unconfigure(PG_FUNCTION_ARGS)
{
	Oid extension = pp_extension_get();

	pp_extension_check_writable("persist_unconfigure()");
	(void) pp_settings_remove(extension, lock_own_target(fcinfo), NULL);
	pp_pause_target_changed();

	PG_RETURN_VOID();
}

/* From the commit on, items of the target wait, or do so no longer. */
static void
set_target_paused(FunctionCallInfo fcinfo, Oid extension, bool paused)
{
	Oid target = lock_own_target(fcinfo);
	PpSettings settings;

	settings = pp_settings_get(extension, target);
	if (paused || !settings.paused)
		pp_target_check(target); /* one that takes rows no longer can be resumed */
	settings.paused = paused;
	pp_settings_put(extension, target, &settings);
	pp_pause_target_changed();
}

/*
 * persist_pause(target regclass) returns void: from the commit on, items of the target,
 * or of the database, wait.
 */
Datum
persist_pause(PG_FUNCTION_ARGS)
{
	Oid extension = pp_extension_get();

	pp_extension_check_writable("persist_pause()");
	if (!PG_ARGISNULL(0))
	{
		set_target_paused(fcinfo, extension, true);
		PG_RETURN_VOID();
	}
	check_owns_database();
	pp_pause(extension);

	PG_RETURN_VOID();
}

/* persist_resume(target regclass) returns void: they are written, and what came with a copy. */
Datum
persist_resume(PG_FUNCTION_ARGS)
{
	Oid extension = pp_extension_get();
	uint64 items;

	pp_extension_check_writable("persist_resume()");
	if (!PG_ARGISNULL(0))
	{
		set_target_paused(fcinfo, extension, false);
		PG_RETURN_VOID();
	}
	check_owns_database();
	items = pp_pause_end(extension);
	if (items > 0)
		ereport(NOTICE, (errmsg("%llu items that came with a copy of another database are going "
								"to be written",
								(unsigned long long) items)));
	PG_RETURN_VOID();
}

/* persist_discard() returns bigint: how many items that came with a copy are gone. */
Datum
persist_discard(PG_FUNCTION_ARGS)
{
	Oid extension = pp_extension_get();

	pp_extension_check_writable("persist_discard()");
	check_owns_database();

	PG_RETURN_INT64(pp_pause_discard(extension));
}
