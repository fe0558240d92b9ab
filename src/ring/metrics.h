/*-------------------------------------------------------------------------
 *
 * metrics.h
 *	  What is counted of a database for monitoring: histograms, and errors by their class.
 *
 * A histogram has a count for each of its buckets, which are fixed, and the sum of all that was
 * observed.  A bucket has what is greater than the bound before it, and not greater than its own;
 * the last one has no bound.  Prometheus wants the counts of all buckets up to each one: whoever
 * shows them adds them up.
 *
 * Errors are counted by the first two characters of their SQLSTATE.  Anybody can raise any
 * SQLSTATE, so the classes are those of a list, and one more for all others.
 *
 * The worker and the retrier of a slot count in PpSlot.metrics, under the slot's mutex, which they
 * hold at their commit anyway.  What the slots of a database have counted before is in
 * PpDatabase.metrics.  Nothing is ever subtracted: the counts begin at 0 when the server starts,
 * and only grow until it stops; they go with the database or the extension when that is dropped.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_METRICS_H
#define PP_METRICS_H

#include "postgres.h"

#define PP_BUCKETS 17

typedef struct PpHistogram
{
	uint64 buckets[PP_BUCKETS];
	uint64 sum; /* microseconds, or items */
} PpHistogram;

#define PP_ERROR_CLASSES 26

typedef struct PpMetrics
{
	PpHistogram visible;	   /* items, by the time from their commit until they can be seen */
	PpHistogram batch_seconds; /* transactions that have settled items, by how long they took ... */
	PpHistogram batch_items;   /* ... and by how many items they had */
	uint64 errors[PP_ERROR_CLASSES];
} PpMetrics;

/* The bounds of all buckets but the last; of times in microseconds */
extern const uint64 pp_metrics_time_bounds[PP_BUCKETS - 1];
extern const uint64 pp_metrics_item_bounds[PP_BUCKETS - 1];

extern int pp_metrics_bucket(const uint64 *bounds, uint64 value);
extern int pp_metrics_error_class(int sqlstate);
extern const char *pp_metrics_error_class_name(int error_class);
extern void pp_metrics_add(PpMetrics *to, const PpMetrics *from);

/* A value was seen so many times.  It calls nothing: a spinlock may be held. */
static inline void
pp_metrics_observe(PpHistogram *histogram, int bucket, uint64 value, uint64 times)
{
	histogram->buckets[bucket] += times;
	histogram->sum += value * times;
}

/* The same */
static inline void
pp_metrics_add_histogram(PpHistogram *to, const PpHistogram *from)
{
	for (int i = 0; i < PP_BUCKETS; i++)
		to->buckets[i] += from->buckets[i];
	to->sum += from->sum;
}

#endif /* PP_METRICS_H */
