/*-------------------------------------------------------------------------
 *
 * window.h
 *	  How long the items of asynchronous commits may be in the ring alone: flush_interval, which
 *	  the worker may wait with them, and ring_window.
 *
 * A half of ring_window is for batches: once the oldest item has waited so long, further ones are
 * journalled.  After three quarters the worker leaves what it is at, and writes to the journal
 * what is at risk; the last quarter is for that.  It was late then, and everything is journalled
 * until it has caught up.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_WINDOW_H
#define PP_WINDOW_H

#include "base/config.h"
#include "base/steady.h"
#include "ring/ring.h"

static inline bool
pp_window_has_waited(PpRing *ring, int quarters)
{
	PpSteady since = pp_ring_bounded_since(ring);

	return since > 0 &&
		   pp_steady_has_lasted(since, (int64) pp_config_flush_interval +
										   (int64) pp_config_ring_window * quarters / 4);
}

/* May an item be in the ring alone for a while? */
static inline bool
pp_window_is_open(PpRing *ring)
{
	return pp_config_ring_window > 0 && pp_ring_is_attended(ring) && !pp_ring_is_late(ring) &&
		   !pp_window_has_waited(ring, 2);
}

/* Has one to be saved now?  A signal handler may ask. */
static inline bool
pp_window_is_over(PpRing *ring)
{
	return pp_window_has_waited(ring, 3);
}

/* Has the worker caught up, with a batch that took so long? */
static inline bool
pp_window_is_kept(PpSteady began)
{
	return !pp_steady_has_lasted(began, pp_config_ring_window / 2);
}

#endif /* PP_WINDOW_H */
