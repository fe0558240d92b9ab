/*
 * The worker waits in its transactions, on its latch, as for I/O or for a lock; for
 * 026_wakeups.pl, which compiles it and has it preloaded.
 *
 * In the data directory: a file doze_after with a number n has the worker wait in its nth
 * transaction from now on.  There is a file dozing then, and it goes on when that is gone.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;

void _PG_init(void);

static bool
is_last_before_dozing(void)
{
	int n = 0;
	FILE *file = fopen("doze_after", "r");

	if (file == NULL)
		return false;
	if (fscanf(file, "%d", &n) != 1)
		elog(ERROR, "doze_after");
	fclose(file);
	if (n <= 1)
		return true;
	file = fopen("doze_after", "w");
	fprintf(file, "%d", n - 1);
	fclose(file);
	return false;
}

static void
doze(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_PRE_COMMIT || MyBgworkerEntry == NULL ||
		strcmp(MyBgworkerEntry->bgw_type, "persist_pipeline worker") != 0 ||
		!is_last_before_dozing())
		return;
	if (rename("doze_after", "dozing") != 0)
		elog(ERROR, "dozing");
	while (access("dozing", F_OK) == 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 5,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

void
_PG_init(void)
{
	RegisterXactCallback(doze, NULL);
}
