/*-------------------------------------------------------------------------
 *
 * config.c
 *	  Defines the settings.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"

#include "base/config.h"

int pp_config_ring_size = 8192;
int pp_config_max_databases = 4;
int pp_config_max_workers = 2;
int pp_config_mode = PP_MODE_ASYNC;
int pp_config_flush_interval = 100;
bool pp_config_adaptive_flush = true;
int pp_config_ring_window = 600;
int pp_config_batch_size = 10000;
int pp_config_lock_timeout = 1000;
int pp_config_statement_timeout = 30000;
int pp_config_shutdown_timeout = 5000;
int pp_config_worker_idle_timeout = 60000;
int pp_config_journal_retention = 600000;
int pp_config_journal_limit = 1048576;
int pp_config_role_quota = 50;
int pp_config_max_depth = 16;
int pp_config_transaction_buffer = 4096;
bool pp_config_start_paused = false;
int pp_config_parked_limit = 262144;
int pp_config_mismatch_timeout = 60000;
int pp_config_dead_letter_limit = 100000;
int pp_config_dead_letter_retention = 0;
char *pp_config_stateless_libraries = NULL;
int pp_config_health_degraded_age = 30000;
int pp_config_health_unhealthy_age = 300000;
int pp_config_health_degraded_fill = 80;
int pp_config_health_unhealthy_fill = 95;
int pp_config_health_stall_time = 60000;
int pp_config_health_dead_letter_window = 900000;
int pp_config_health_failure_window = 300000;

static const struct config_enum_entry mode_options[] = {{"async", PP_MODE_ASYNC, false},
														{"direct", PP_MODE_DIRECT, false},
														{"reject", PP_MODE_REJECT, false},
														{NULL, 0, false}};

/* A setting of milliseconds that a reload changes. */
static void
define_ms(const char *name, const char *description, const char *details, int *variable,
		  int default_value, int minimum)
{
	DefineCustomIntVariable(name, description, details, variable, default_value, minimum, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

/* A limit of persist_health(), which the session that asks may have of its own. */
static void
define_health(const char *name, const char *description, int *variable, int maximum, int unit)
{
	DefineCustomIntVariable(name, description, NULL, variable, *variable, 0, maximum, PGC_USERSET,
							unit, NULL, NULL, NULL);
}

static void
define_health_limits(void)
{
	define_health("persist_pipeline.health_degraded_age",
				  "Sets how long an item may wait before persist_health() says \"degraded\".",
				  &pp_config_health_degraded_age, INT_MAX, GUC_UNIT_MS);
	define_health("persist_pipeline.health_unhealthy_age",
				  "Sets how long an item may wait before persist_health() says \"unhealthy\".",
				  &pp_config_health_unhealthy_age, INT_MAX, GUC_UNIT_MS);
	define_health("persist_pipeline.health_degraded_fill",
				  "Sets how many per cent of the ring, of the journal, or of what a role may "
				  "hold of the journal, may be in use before persist_health() says \"degraded\".",
				  &pp_config_health_degraded_fill, 100, 0);
	define_health("persist_pipeline.health_unhealthy_fill",
				  "Sets how many per cent of the journal may be in use before persist_health() "
				  "says \"unhealthy\".",
				  &pp_config_health_unhealthy_fill, 100, 0);
	define_health("persist_pipeline.health_stall_time",
				  "Sets how long a target may be parked, or the ring diverted, before "
				  "persist_health() says \"degraded\".",
				  &pp_config_health_stall_time, INT_MAX, GUC_UNIT_MS);
	define_health("persist_pipeline.health_dead_letter_window",
				  "Sets for how long persist_health() says \"degraded\" after an item has become "
				  "a dead letter.",
				  &pp_config_health_dead_letter_window, INT_MAX, GUC_UNIT_MS);
	define_health("persist_pipeline.health_failure_window",
				  "Sets in what time three failures of the worker are \"unhealthy\" to "
				  "persist_health().",
				  &pp_config_health_failure_window, INT_MAX, GUC_UNIT_MS);
}

void
pp_config_define(void)
{
	/* The server refuses to let these be defined once it has started. */
	if (process_shared_preload_libraries_in_progress)
	{
		DefineCustomIntVariable("persist_pipeline.ring_size",
								"Sets the size of the ring of each database.",
								"Shared memory of this size is reserved for each of "
								"\"persist_pipeline.max_databases\" databases.",
								&pp_config_ring_size, 8192, 64, MAX_KILOBYTES, PGC_POSTMASTER,
								GUC_UNIT_KB, NULL, NULL, NULL);
		DefineCustomIntVariable("persist_pipeline.max_databases",
								"Sets how many databases can have a ring at the same time.", NULL,
								&pp_config_max_databases, 4, 1, 256, PGC_POSTMASTER, 0, NULL, NULL,
								NULL);
		DefineCustomIntVariable(
			"persist_pipeline.max_workers", "Sets how many workers can run at the same time.",
			"Each takes one of \"max_worker_processes\".  When more databases have items, the "
			"workers take turns.",
			&pp_config_max_workers, 2, 1, 256, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	}

	DefineCustomEnumVariable("persist_pipeline.mode", "Sets what persist_enqueue does with a row.",
							 "\"async\" hands it to the worker, \"direct\" inserts it in the "
							 "caller's transaction, \"reject\" raises an error.",
							 &pp_config_mode, PP_MODE_ASYNC, mode_options, PGC_SUSET, 0, NULL, NULL,
							 NULL);
	define_ms("persist_pipeline.flush_interval",
			  "Sets how long an item may wait before the worker writes it.", NULL,
			  &pp_config_flush_interval, 100, 0);
	DefineCustomBoolVariable(
		"persist_pipeline.adaptive_flush",
		"Makes the worker write sooner than after \"persist_pipeline.flush_interval\".",
		"An item that comes after quiet is written at once; else a batch begins ten times as long "
		"after the last one as that took.",
		&pp_config_adaptive_flush, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	define_ms("persist_pipeline.ring_window",
			  "Sets how long, besides \"persist_pipeline.flush_interval\", items of asynchronous "
			  "commits may be in the ring alone.",
			  "A worker that takes longer writes them to the journal.  Zero: they are journalled "
			  "in their transactions.",
			  &pp_config_ring_window, 600, 0);
	DefineCustomIntVariable(
		"persist_pipeline.batch_size", "Sets how many waiting items make the worker write at once.",
		"It also bounds the items of one batch, except that the items "
		"of one transaction are not split.",
		&pp_config_batch_size, 10000, 1, 1000000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	define_ms("persist_pipeline.lock_timeout",
			  "Sets how long the worker waits for a lock before it tries again later.",
			  "Zero turns the timeout off.", &pp_config_lock_timeout, 1000, 0);
	define_ms("persist_pipeline.statement_timeout",
			  "Sets how long one transaction of the worker may run.", "Zero turns the timeout off.",
			  &pp_config_statement_timeout, 30000, 0);
	define_ms("persist_pipeline.shutdown_timeout",
			  "Sets how long a worker that was told to stop may go on writing.", NULL,
			  &pp_config_shutdown_timeout, 5000, 0);
	define_ms("persist_pipeline.worker_idle_timeout",
			  "Sets how long a worker may have nothing to do before it leaves and its database "
			  "gives its ring back.",
			  "Zero turns the timeout off.", &pp_config_worker_idle_timeout, 60000, 0);
	define_ms("persist_pipeline.journal_retention",
			  "Sets how long an old snapshot can keep a journal from being emptied.",
			  "Whoever reads the journal with a snapshot that is older sees nothing.",
			  &pp_config_journal_retention, 600000, 0);

	DefineCustomIntVariable(
		"persist_pipeline.journal_limit", "Sets how much may wait in the journal of a database.",
		"Past it, transactions with items for the journal fail.", &pp_config_journal_limit, 1048576,
		64, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("persist_pipeline.role_quota",
							"Sets how many per cent of the ring, of the journal and of the dead "
							"letters a role may hold.",
							NULL, &pp_config_role_quota, 50, 1, 100, PGC_SIGHUP, 0, NULL, NULL,
							NULL);
	DefineCustomIntVariable(
		"persist_pipeline.max_depth",
		"Sets how long a chain of items may be that triggers enqueue.",
		"What a session enqueues has depth 0, and what is enqueued while an item "
		"is inserted is one deeper; past the limit that is an error.  Zero: "
		"triggers enqueue nothing, -1: no limit.",
		&pp_config_max_depth, 16, -1, PG_UINT8_MAX - 1, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("persist_pipeline.transaction_buffer",
							"Sets how much memory a transaction's items may take until it commits.",
							"What is more goes to a temporary file, and from there to the journal.",
							&pp_config_transaction_buffer, 4096, 64, MAX_KILOBYTES, PGC_SIGHUP,
							GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("persist_pipeline.parked_limit",
							"Sets how much may be parked of one target.",
							"Past it, calls for that target fail.", &pp_config_parked_limit, 262144,
							1, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	define_ms("persist_pipeline.misfit_timeout",
			  "Sets how long a target that takes none of its items is parked before they become "
			  "dead letters.",
			  "A column that was dropped, or a right that was revoked, can be given back in that "
			  "time.",
			  &pp_config_mismatch_timeout, 60000, 0);
	DefineCustomIntVariable(
		"persist_pipeline.dead_letter_limit", "Sets how many dead letters a database may have.",
		"Past it, targets with items that can't be inserted are parked.",
		&pp_config_dead_letter_limit, 100000, 0, INT_MAX, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("persist_pipeline.dead_letter_retention",
							"Sets after what time dead letters are discarded.",
							"Zero keeps them until persist_discard() or persist_requeue().",
							&pp_config_dead_letter_retention, 0, 0, INT_MAX, PGC_SIGHUP,
							GUC_UNIT_MIN, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"persist_pipeline.stateless_libraries",
		"Lists libraries that keep nothing of a role's from one transaction to the next, and "
		"write to no other server.",
		"A worker that has loaded another one for a role's code doesn't go on for another role, "
		"and flushes its commits.",
		&pp_config_stateless_libraries,
		"plpgsql, auto_explain, btree_gin, btree_gist, citext, cube, dict_int, dict_snowball, "
		"dict_xsyn, "
		"earthdistance, file_fdw, fuzzystrmatch, hstore, intarray, llvmjit, lo, ltree, "
		"moddatetime, pg_stat_statements, pg_trgm, pgcrypto, seg, "
		"tablefunc, unaccent, uuid-ossp, vector",
		PGC_SIGHUP, GUC_LIST_INPUT, NULL, NULL, NULL);
	DefineCustomBoolVariable("persist_pipeline.start_paused",
							 "Makes items wait from the server's start on until persist_resume() "
							 "is called in their database.",
							 "For clones of a server, whose items the original writes.",
							 &pp_config_start_paused, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
	define_health_limits();

	MarkGUCPrefixReserved("persist_pipeline");
}
