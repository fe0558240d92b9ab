/*
 * A trigger and a type that end the server; for 112_poison.pl and 118_candidates.pl, which
 * compile them.
 *
 * Of a relation with the columns n and how: a row with how = 'abort' and so on ends the
 * process that inserts it, any other is inserted; but 'many' does so only after some others
 * of its transaction, as if these took all the memory there is.  A bomb is a number; who wants to read
 * 13 is ended.
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"

PG_MODULE_MAGIC;

#define TOO_MANY 9

/* Are there so many of them in this transaction? */
static bool
are_many(void)
{
	static TransactionId transaction = InvalidTransactionId;
	static int rows = 0;

	if (transaction != GetTopTransactionId())
		rows = 0;
	transaction = GetTopTransactionId();
	return ++rows == TOO_MANY;
}

PG_FUNCTION_INFO_V1(crash);

Datum
crash(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple row = trigger->tg_trigtuple;
	TupleDesc desc = trigger->tg_relation->rd_att;
	char *how = SPI_getvalue(row, desc, SPI_fnumber(desc, "how"));

	if (how && strcmp(how, "abort") == 0)
		abort();
	if (how && strcmp(how, "null") == 0)
		*(volatile int *) NULL = 1;
	if (how && strcmp(how, "kill") == 0)
		kill(getpid(), SIGKILL);
	if (how && strcmp(how, "many") == 0 && are_many())
		kill(getpid(), SIGKILL);
	if (how && strcmp(how, "exit") == 0)
		_exit(0); /* the postmaster takes it for a crash, too */

	return PointerGetDatum(row);
}

PG_FUNCTION_INFO_V1(bomb_in);
PG_FUNCTION_INFO_V1(bomb_out);

Datum
bomb_in(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(atoi(PG_GETARG_CSTRING(0)));
}

Datum
bomb_out(PG_FUNCTION_ARGS)
{
	if (PG_GETARG_INT32(0) == 13)
		abort();
	PG_RETURN_CSTRING(psprintf("%d", PG_GETARG_INT32(0)));
}
