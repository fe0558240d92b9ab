/*
 * A transaction that others see before its commit comes to what we do at a commit; for
 * 113_account.pl, which compiles it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(be_late);

static int late_ms = 0;

/* Callbacks are called last come first served, so this one before the pipeline's. */
static void
dawdle(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT)
		return;
	for (; late_ms > 0; late_ms--)
		pg_usleep(1000);
}

/* be_late(ms integer) returns void: the commit of this transaction takes that long. */
Datum
be_late(PG_FUNCTION_ARGS)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(dawdle, NULL);
	registered = true;
	late_ms = PG_GETARG_INT32(0);
	PG_RETURN_VOID();
}
