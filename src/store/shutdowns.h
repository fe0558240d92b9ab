/*-------------------------------------------------------------------------
 *
 * shutdowns.h
 *	  What outlives the processes: a row of persist_shutdowns for each stop.
 *
 * The last 1000 of them are kept.  Each row also has the histogram of the seconds of all stops
 * until then (metrics.h), so that this only grows, whatever is forgotten.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SHUTDOWNS_H
#define PP_SHUTDOWNS_H

#include "postgres.h"

#include "ring/metrics.h"

typedef struct PpStop
{
	double seconds;	   /* from the signal to the last commit */
	uint64 drained;	   /* items settled in that time */
	uint64 journalled; /* items left, in the journal */
	bool forced;	   /* shutdown_timeout was not enough */
} PpStop;

/* All that there have been */
typedef struct PpStops
{
	PpHistogram seconds;
	uint64 forced;
} PpStops;

extern PpStops pp_shutdowns_all(Oid extension);
extern void pp_shutdowns_record(const PpStop *stop);
extern void pp_shutdowns_log(const PpStop *report, const char *database_name, uint64 reserved);

#endif /* PP_SHUTDOWNS_H */
