/*
 * A transaction that others see before its commit comes to what we do at a commit; for
 * 113_account.pl, which compiles it.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "fmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(be_late);

#define MOST_MS 180000

static bool is_late = false;

/* Callbacks are called last come first served, so this one before the pipeline's. */
static void
dawdle(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT)
		return;
	for (int ms = 0; is_late && ms < MOST_MS && access("late", F_OK) == 0; ms++)
		pg_usleep(1000);
	is_late = false;
}

/*
 * be_late() returns void: the commit of this transaction takes as long as there is a file "late" in
 * the data directory.
 */
Datum
be_late(PG_FUNCTION_ARGS)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(dawdle, NULL);
	registered = true;
	is_late = true;
	PG_RETURN_VOID();
}
