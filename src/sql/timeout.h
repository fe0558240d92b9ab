/*-------------------------------------------------------------------------
 *
 * timeout.h
 *	  When a wait ends that a caller has given as an interval.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_TIMEOUT_H
#define PP_TIMEOUT_H

#include "postgres.h"

#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/steady.h"

/* When a wait of this length ends; an interval is longer than it looks. */
static inline PpSteady
pp_timeout_end(Interval *timeout)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz end = DatumGetTimestampTz(DirectFunctionCall2(
		timestamptz_pl_interval, TimestampTzGetDatum(now), IntervalPGetDatum(timeout)));

	if (TIMESTAMP_NOT_FINITE(end))
		return TIMESTAMP_IS_NOEND(end) ? PP_NEVER : 0;
	return pp_steady_now() + (end - now);
}

#endif /* PP_TIMEOUT_H */
