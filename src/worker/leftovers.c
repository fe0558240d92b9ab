/*-------------------------------------------------------------------------
 *
 * leftovers.c
 *	  What code leaves behind; see leftovers.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <link.h>

#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "base/config.h"
#include "worker/leftovers.h"
#include "worker/plpgsql_watch.h"

/* They may keep something of a role's even where they were there before */
static const char *const stateful_libraries[] = {
	"dblink",  "mysql_fdw", "oracle_fdw", "plperl", "plpgsql",		"plpython3",
	"pljava", "pltcl",	   "plv8",		  "postgres_fdw", "tds_fdw",
};

/* So many names of settings may stay that targets' owners have chosen: each costs memory */
#define MAX_EXPECTED_PLACEHOLDERS 1000

static int libraries_at_start;
static bool others_preloaded;
static bool always_spent = false;
static Oid current_role = InvalidOid;
static Oid last_role = InvalidOid;
static int placeholders; /* before the role's code ran */
static int expected_placeholders;
static Oid spent_by = InvalidOid;

/* ---- libraries ---- */

/* What a walk over the shared objects of this process finds */
typedef struct Libraries
{
	List *stateless; /* names */
	int others;
	bool stateful;
} Libraries;

/* The name of a library without its folder and what follows a dot. */
static void
get_name(const char *path, char *name, Size size)
{
	const char *slash = strrchr(path, '/');

	strlcpy(name, slash ? slash + 1 : path, size);
	name[strcspn(name, ".")] = '\0';
}

static bool
is_listed(List *names, const char *name)
{
	ListCell *cell;

	foreach (cell, names)
	{
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	}
	return false;
}

/* Is it one that keeps nothing, as the list says?  PL/pgSQL does, unless we see to it. */
static bool
is_stateless(List *names, const char *name)
{
	return is_listed(names, name) && (strcmp(name, "plpgsql") != 0 || pp_plpgsql_watch_is_on());
}

/*
 * Libraries of the system come with those of the server; and conversions of encodings are the
 * server's own.
 */
static bool
is_systems(const char *path, const char *name)
{
	if (strncmp(path, pkglib_path, strlen(pkglib_path)) == 0)
		return strstr(name, "_and_") != NULL || strcmp(name, "euc2004_sjis2004") == 0;
	return path[0] == '\0' || strncmp(name, "lib", 3) == 0;
}

static int
look_at_library(struct dl_phdr_info *info, size_t size, void *arg)
{
	Libraries *libraries = arg;
	char name[MAXPGPATH];

	get_name(info->dlpi_name, name, sizeof(name));
	if (is_systems(info->dlpi_name, name) || is_stateless(libraries->stateless, name))
		return 0;
	libraries->others++;
	for (int i = 0; i < lengthof(stateful_libraries); i++)
		libraries->stateful |= strcmp(name, stateful_libraries[i]) == 0;
	return 0;
}

/* The names in a setting that lists libraries. */
static List *
split_list(const char *setting)
{
	char *list = pstrdup(setting);
	List *names;

	(void) SplitDirectoriesString(list, ',', &names);
	pfree(list);
	return names;
}

static Libraries
find_libraries(List *stateless)
{
	Libraries libraries = {.stateless = stateless};

	(void) dl_iterate_phdr(look_at_library, &libraries);
	return libraries;
}

/* How often a library has been loaded, by anybody; unchanged: that isn't told. */
static int
count_loads(struct dl_phdr_info *info, size_t size, void *arg)
{
	if (size >= offsetof(struct dl_phdr_info, dlpi_adds) + sizeof(info->dlpi_adds))
		*(long long *) arg = info->dlpi_adds;
	return 1; /* it is the same with each of them */
}

/* Has code loaded a library that may keep something? */
static bool
has_loaded_library(void)
{
	static long long loads_before = -1;
	static bool loaded = false;
	long long loads = -1;
	List *stateless;

	(void) dl_iterate_phdr(count_loads, &loads);
	if (loads == loads_before && loads >= 0)
		return loaded;
	loads_before = loads;
	stateless = split_list(pp_config_stateless_libraries);
	loaded = find_libraries(stateless).others > libraries_at_start;
	list_free_deep(stateless);
	return loaded;
}

/*
 * May the transaction have written to another server?  A trigger on a table of ours can; but
 * nobody can without a library.
 */
bool
pp_leftovers_may_write_elsewhere(void)
{
	return others_preloaded || has_loaded_library();
}

/* ---- other things ---- */

static int
count_placeholders(void)
{
	int n;
	int found = 0;
	struct config_generic **records = pp_config_records(&n);

	for (int i = 0; i < n; i++)
		found += (records[i]->flags & GUC_CUSTOM_PLACEHOLDER) != 0 ? 1 : 0;
	pp_config_records_free(records);
	return found;
}

static bool
has_temp_schema(void)
{
	Oid schema;
	Oid toast_schema;

	GetTempNamespaceState(&schema, &toast_schema);
	return OidIsValid(schema);
}

/* Called once, when the worker has connected. */
void
pp_leftovers_init(void)
{
	List *stateless = split_list(pp_config_stateless_libraries);
	Libraries libraries;
	ListCell *cell;

	pp_plpgsql_watch_init();
	libraries = find_libraries(stateless);
	foreach (cell, split_list(shared_preload_libraries_string))
	{
		char name[MAXPGPATH];

		get_name(lfirst(cell), name, sizeof(name));
		others_preloaded |=
			strcmp(name, "persist_pipeline") != 0 && !is_listed(stateless, name);
	}
	libraries_at_start = libraries.others;
	always_spent = libraries.stateful;
}

/* The role's code is about to run; its own settings are in place. */
void
pp_leftovers_begin(Oid role)
{
	if (role != last_role)
		pp_plpgsql_watch_forget();
	current_role = last_role = role;
	placeholders = count_placeholders();
}

/* We leave the name of a custom setting ourselves. */
void
pp_leftovers_expect_placeholder(void)
{
	if (expected_placeholders == MAX_EXPECTED_PLACEHOLDERS)
		return;
	expected_placeholders++;
	placeholders++;
}

/* The seed of random(), so that nobody knows what the next role gets. */
static void
reset_seed(void)
{
	uint32 bits;

	if (!pg_strong_random(&bits, sizeof(bits)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random number")));
	(void) DirectFunctionCall1(setseed, Float8GetDatum(bits / (PG_UINT32_MAX / 2.0) - 1));
}

/* Its transaction has ended: clear what can be cleared, and find what can't. */
void
pp_leftovers_reset(void)
{
	if (!OidIsValid(current_role))
		return;
	ResetSequenceCaches();
	reset_seed();
	if (always_spent || has_loaded_library() || has_temp_schema() ||
		count_placeholders() > placeholders || pp_has_replication_origin())
		spent_by = current_role;
	current_role = InvalidOid;
}

/* May code of this role run in this process? */
bool
pp_leftovers_may_serve(Oid role)
{
	return !OidIsValid(spent_by) || spent_by == role;
}
