/*
 * Who looks into a database takes longer than the pause to the next look, as on a busy
 * machine; for 132_slow_probes.pl, which compiles it and has it preloaded.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "postmaster/bgworker.h"

PG_MODULE_MAGIC;

void _PG_init(void);

static void
dawdle(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_PRE_COMMIT || MyBgworkerEntry == NULL ||
		strcmp(MyBgworkerEntry->bgw_type, "persist_pipeline probe") != 0)
		return;
	pg_usleep(1500 * 1000L);
}

void
_PG_init(void)
{
	RegisterXactCallback(dawdle, NULL);
}
