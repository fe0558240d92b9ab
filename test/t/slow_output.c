/*
 * A type of numbers of which none ends to be written that is below zero; for 140_letters.pl,
 * which compiles it.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(slow_in);
PG_FUNCTION_INFO_V1(slow_out);

Datum
slow_in(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(atoi(PG_GETARG_CSTRING(0)));
}

Datum
slow_out(PG_FUNCTION_ARGS)
{
	while (PG_GETARG_INT32(0) < 0)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(10000);
	}
	PG_RETURN_CSTRING(psprintf("%d", PG_GETARG_INT32(0)));
}
