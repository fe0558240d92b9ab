/*-------------------------------------------------------------------------
 *
 * metrics.c
 *	  Buckets and classes; see metrics.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/elog.h"

#include "ring/metrics.h"

/* from a millisecond to ten minutes */
const uint64 pp_metrics_time_bounds[PP_BUCKETS - 1] = {
	1000,	2500,	 5000,	  10000,   25000,	 50000,	   100000,	 250000,
	500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 600000000};

const uint64 pp_metrics_item_bounds[PP_BUCKETS - 1] = {
	1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 100000, 1000000};

#define CLASS(a, b) MAKE_SQLSTATE(a, b, '0', '0', '0')

/* The classes that an insert may meet with; others are counted together, after them. */
static const int error_classes[PP_ERROR_CLASSES - 1] = {
	CLASS('0', '8'), CLASS('0', '9'), CLASS('0', 'A'), CLASS('2', '1'), CLASS('2', '2'),
	CLASS('2', '3'), CLASS('2', '5'), CLASS('2', '6'), CLASS('2', '7'), CLASS('2', '8'),
	CLASS('2', 'F'), CLASS('3', '9'), CLASS('3', 'D'), CLASS('3', 'F'), CLASS('4', '0'),
	CLASS('4', '2'), CLASS('4', '4'), CLASS('5', '3'), CLASS('5', '4'), CLASS('5', '5'),
	CLASS('5', '7'), CLASS('5', '8'), CLASS('H', 'V'), CLASS('P', '0'), CLASS('X', 'X'),
};

/* The bucket that the value belongs into */
int
pp_metrics_bucket(const uint64 *bounds, uint64 value)
{
	int bucket = 0;

	while (bucket < PP_BUCKETS - 1 && value > bounds[bucket])
		bucket++;
	return bucket;
}

int
pp_metrics_error_class(int sqlstate)
{
	int error_class = 0;

	while (error_class < PP_ERROR_CLASSES - 1 &&
		   error_classes[error_class] != ERRCODE_TO_CATEGORY(sqlstate))
		error_class++;
	return error_class;
}

/* In the current memory context. */
const char *
pp_metrics_error_class_name(int error_class)
{
	return error_class < PP_ERROR_CLASSES - 1
			   ? pnstrdup(unpack_sql_state(error_classes[error_class]), 2)
			   : "other";
}

void
pp_metrics_add(PpMetrics *to, const PpMetrics *from)
{
	pp_metrics_add_histogram(&to->visible, &from->visible);
	pp_metrics_add_histogram(&to->batch_seconds, &from->batch_seconds);
	pp_metrics_add_histogram(&to->batch_items, &from->batch_items);
	for (int i = 0; i < PP_ERROR_CLASSES; i++)
		to->errors[i] += from->errors[i];
}
