/*-------------------------------------------------------------------------
 *
 * settings_values.c
 *	  The values that a target's settings can have, as arguments of persist_configure() and as
 *	  columns of persist_settings; see settings.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "store/settings.h"

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

const char *
pp_settings_durability_name(PpDurability durability)
{
	return durability_names[durability];
}

/* 22023 if there is none of that name. */
PpDurability
pp_settings_parse_durability(const char *name)
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
pp_settings_parse_bad_items(const char *name)
{
	if (strcmp(name, "error") == 0)
		return false;
	if (strcmp(name, "dead") == 0)
		return true;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid value for argument \"bad_items\": \"%s\"", name),
					errhint("Available values: error, dead.")));
}

/* Are unknown keys passed over?  22023 if there is no such value. */
bool
pp_settings_parse_unknown_keys(const char *name)
{
	if (strcmp(name, "error") == 0)
		return false;
	if (strcmp(name, "ignore") == 0)
		return true;
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid value for argument \"unknown_keys\": \"%s\"", name),
					errhint("Available values: error, ignore.")));
}

const char *
pp_settings_on_conflict_name(PpConflictAction action)
{
	return conflict_names[action];
}

/* 22023 if there is none of that name. */
PpConflictAction
pp_settings_parse_on_conflict(const char *name)
{
	for (int i = 0; i < lengthof(conflict_names); i++)
	{
		if (strcmp(name, conflict_names[i]) == 0)
			return i;
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("invalid value for argument \"on_conflict\": \"%s\"", name),
					errhint("Available values: error, nothing, update.")));
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
