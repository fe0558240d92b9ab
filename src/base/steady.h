/*-------------------------------------------------------------------------
 *
 * steady.h
 *	  A clock that nobody sets.
 *
 * The time of the day is set back now and then: by NTP, or where a virtual machine goes on.  So
 * durations are measured with this clock, which never goes back, and which is the same for all
 * processes of a server.  The time of the day is for people, and for what outlives the server:
 * its tables.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_STEADY_H
#define PP_STEADY_H

#include "postgres.h"

#include <limits.h>
#include <time.h>

#include "utils/timestamp.h"

typedef int64 PpSteady; /* microseconds; 0: it hasn't been */

#define PP_NEVER PG_INT64_MAX /* comes after everything */

/* A signal handler may call it. */
static inline PpSteady
pp_steady_now(void)
{
	struct timespec now;

	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return (PpSteady) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* How long a processor has worked for this process */
static inline int64
pp_steady_cpu(void)
{
	struct timespec used;

	(void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return (int64) used.tv_sec * 1000000 + used.tv_nsec / 1000;
}

/* So many ms later */
static inline PpSteady
pp_steady_plus(PpSteady since, int64 ms)
{
	return since == PP_NEVER ? PP_NEVER : since + ms * 1000;
}

static inline PpSteady
pp_steady_in(int64 ms)
{
	return pp_steady_plus(pp_steady_now(), ms);
}

/* How many ms until then, from 0 to INT_MAX; what is left of the last one counts. */
static inline long
pp_steady_ms_until(PpSteady until)
{
	PpSteady now = pp_steady_now();

	if (until <= now)
		return 0;
	return Min((until - now - 1) / 1000 + 1, INT_MAX);
}

/* Has it been so many ms? */
static inline bool
pp_steady_has_lasted(PpSteady since, int64 ms)
{
	return since == 0 || pp_steady_now() >= pp_steady_plus(since, ms);
}

/*
 * When was it, by a time of the day that a table has?  One that is still to come was set back
 * since: then it is now.
 */
static inline PpSteady
pp_steady_from_day(TimestampTz then)
{
	return pp_steady_now() - Max(GetCurrentTimestamp() - then, 0);
}

/* The other way round, for a table */
static inline TimestampTz
pp_steady_to_day(PpSteady then)
{
	return GetCurrentTimestamp() - (pp_steady_now() - then);
}

#endif /* PP_STEADY_H */
