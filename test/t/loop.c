/*
 * A trigger in code that can't be interrupted; for 143_retrier.pl, which compiles it.  It
 * ends when the file that it is told of is there.
 */
#include "postgres.h"

#include <unistd.h>

#include "commands/trigger.h"
#include "fmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(loop);

Datum
loop(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	while (access(trigger->tg_trigger->tgargs[0], F_OK) != 0)
		(void) usleep(10000);
	return PointerGetDatum(trigger->tg_trigtuple);
}
