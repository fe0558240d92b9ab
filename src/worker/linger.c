/*-------------------------------------------------------------------------
 *
 * linger.c
 *	  How long the worker gathers items between two batches; see linger.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "worker/linger.h"

/*
 * When the next batch begins, if nothing asks for it before; `oldest` is when the first item that
 * waits came, PG_INT64_MAX: there is none.
 */
int64
pp_linger_until(const PpLinger *last, int64 oldest, int64 longest, bool adaptive)
{
	int64 latest = oldest < PG_INT64_MAX - longest ? oldest + longest : PG_INT64_MAX;

	if (!adaptive)
		return latest;
	return Min(latest, last->began + Min(last->took * PP_LINGER_BATCHES, longest));
}
