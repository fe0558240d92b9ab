/*-------------------------------------------------------------------------
 *
 * progress.c
 *	  Measures the worker; see progress.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/config.h"
#include "worker/progress.h"

#define RATE_SECONDS 0.5 /* that the rate is measured over, at least */
#define LINE_MS 10000	 /* until the first line; the next ones take longer and longer */

static PpSteady measured_at = 0; /* 0: it is idle, and nothing is to be measured */
static uint64 measured_items;	 /* that were settled then */
static PpSteady behind_since = 0;
static int64 next_line_ms;

static uint64
settled_items(PpSlot *slot)
{
	return slot->written + slot->failed;
}

/* A batch begins. */
void
pp_progress_begin(PpSlot *slot)
{
	if (measured_at != 0)
		return;
	measured_at = pp_steady_now();
	measured_items = settled_items(slot);
}

static void
measure(PpSlot *slot, PpSteady now)
{
	double seconds = (now - measured_at) / 1e6;
	uint64 items = settled_items(slot);

	if (seconds < RATE_SECONDS)
		return;
	SpinLockAcquire(&slot->mutex);
	slot->rate = (items - measured_items) / seconds;
	SpinLockRelease(&slot->mutex);
	measured_at = now;
	measured_items = items;
}

/* A batch has ended well. */
void
pp_progress_note(PpSlot *slot, const char *database_name)
{
	PpSteady now = pp_steady_now();
	PpRingView view = pp_ring_view(&slot->ring);
	uint64 pending = pp_ring_pending(&view);

	measure(slot, now);
	if (pending < (uint64) pp_config_batch_size)
	{
		behind_since = 0;
		return;
	}
	if (behind_since == 0)
	{
		behind_since = now;
		next_line_ms = LINE_MS;
	}
	if (!pp_steady_has_lasted(behind_since, next_line_ms))
		return;
	next_line_ms *= 2;
	ereport(LOG,
			(errmsg("persist_pipeline worker for database \"%s\" is catching up: %llu items wait, "
					"%.0f are written per second",
					database_name, (unsigned long long) pending, slot->rate)));
}

/* There is nothing more to do. */
void
pp_progress_end(void)
{
	measured_at = 0;
	behind_since = 0;
}
