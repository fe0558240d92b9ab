/*
 * An engine that executes INSERTs in its own way, and loses rows by that; for
 * 125_engine.pl, which compiles it and has it preloaded.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "fmgr.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

void _PG_init(void);

static char *fault = NULL;
static ExecutorRun_hook_type previous = NULL;

static bool
is_batch(const QueryDesc *query)
{
	return query->operation == CMD_INSERT && strstr(query->sourceText, ".persist_batch($1,") &&
		   strstr(query->sourceText, "INSERT INTO public.engine");
}

/* "deaf": it doesn't execute the statement; "forgetful": it says that a row is missing. */
static void
#if PG_VERSION_NUM >= 180000
run(QueryDesc *query, ScanDirection direction, uint64 count)
#else
run(QueryDesc *query, ScanDirection direction, uint64 count, bool once)
#endif
{
	if (is_batch(query) && strcmp(fault, "deaf") == 0)
		return;
#if PG_VERSION_NUM >= 180000
	standard_ExecutorRun(query, direction, count);
#else
	standard_ExecutorRun(query, direction, count, once);
#endif
	if (is_batch(query) && strcmp(fault, "forgetful") == 0 && query->estate->es_processed > 0)
		query->estate->es_processed--;
}

void
_PG_init(void)
{
	DefineCustomStringVariable("engine.fault", "What it does wrong.", NULL, &fault, "", PGC_SIGHUP, 0,
							   NULL, NULL, NULL);
	previous = ExecutorRun_hook;
	ExecutorRun_hook = run;
}
