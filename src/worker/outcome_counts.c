/*-------------------------------------------------------------------------
 *
 * outcome_counts.c
 *	  Collects what a transaction does to its targets; see outcome_counts.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "base/array.h"
#include "base/steady.h"
#include "worker/outcome_counts.h"

PpTargetOutcome *
pp_outcome_counts_of(PpOutcomeCounts *counts, Oid target)
{
	/* most often it is the last one */
	for (int i = counts->n - 1; i >= 0; i--)
	{
		if (counts->of[i].delta.target == target)
			return &counts->of[i];
	}
	PP_ARRAY_GROW(counts->of, counts->n, counts->max);
	memset(&counts->of[counts->n], 0, sizeof(PpTargetOutcome));
	counts->of[counts->n].delta.target = target;
	return &counts->of[counts->n++];
}

PpOutcomeCounts
pp_outcome_counts_copy(const PpOutcomeCounts *counts)
{
	PpOutcomeCounts copy = *counts;

	copy.of = palloc(Max(counts->max, 1) * sizeof(PpTargetOutcome));
	if (counts->n > 0) /* or else there may be none to copy from */
		memcpy(copy.of, counts->of, counts->n * sizeof(PpTargetOutcome));
	return copy;
}

/* Rows that have come through, or were passed over; or are parked, or not any more. */
void
pp_outcome_counts_add(PpOutcomeCounts *to, const PpOutcomeCounts *from)
{
	for (int i = 0; i < from->n; i++)
	{
		PpTargetOutcome *result = pp_outcome_counts_of(to, from->of[i].delta.target);

		result->delta.persisted += from->of[i].delta.persisted;
		result->delta.skipped += from->of[i].delta.skipped;
		result->parked += from->of[i].parked;
		to->persisted += from->of[i].delta.persisted;
	}
}

/* Of so many parked items that have been taken, have some been parked again? */
bool
pp_outcome_counts_parked_more(const PpOutcomeCounts *counts, uint64 taken)
{
	int64 net = 0;

	for (int i = 0; i < counts->n; i++)
		net += counts->of[i].parked;
	return net != -(int64) taken;
}

/* Note an error, without its message: that may have values, and more people look here. */
void
pp_outcome_counts_error(PpOutcomeCounts *counts, Oid target, const ErrorData *error)
{
	PpTargetOutcome *result = pp_outcome_counts_of(counts, target);

	counts->any_errors = true;
	counts->errors[pp_metrics_error_class(error->sqlerrcode)]++;
	result->delta.errors++;
	result->delta.last_error =
		error->constraint_name
			? psprintf("%s (constraint \"%s\")", unpack_sql_state(error->sqlerrcode),
					   error->constraint_name)
			: pstrdup(unpack_sql_state(error->sqlerrcode));
	result->delta.last_error_at = GetCurrentTimestamp();
	result->sqlstate = error->sqlerrcode;
}

/* Of an error of one of the targets; 0: there was none. */
int
pp_outcome_counts_sqlstate(const PpOutcomeCounts *counts)
{
	for (int i = 0; i < counts->n; i++)
	{
		if (counts->of[i].sqlstate != 0)
			return counts->of[i].sqlstate;
	}
	return 0;
}

/* Does the transaction change the account of the target? */
static bool
is_worth_a_row(const PpDelta *delta)
{
	return delta->persisted != 0 || delta->skipped != 0 || delta->dead != 0 ||
		   delta->discarded != 0 || delta->lost != 0 || delta->errors != 0 ||
		   delta->unknown_keys != 0;
}

/* Add it to the account, in the current transaction. */
void
pp_outcome_counts_write(const PpOutcomeCounts *counts, Oid extension)
{
	PpDelta *deltas = palloc(Max(counts->n + 1, 1) * sizeof(PpDelta));
	uint64 nobodys = counts->lost;
	int n = 0;

	for (int i = 0; i < counts->n; i++)
	{
		PpDelta *delta = &counts->of[i].delta;

		if (!is_worth_a_row(delta))
			continue;
		nobodys -= delta->lost;
		if (delta->persisted > 0)
		{
			delta->batches = 1;
			delta->last_persisted_at = GetCurrentTimestamp();
		}
		deltas[n++] = *delta;
	}
	if (nobodys > 0)
		deltas[n++] = (PpDelta){.lost = nobodys};
	pp_account_add(extension, deltas, n);
	pfree(deltas);
}

/* At the commit: can't fail. */
void
pp_outcome_counts_tell(const PpOutcomeCounts *counts, PpCounters *counters)
{
	for (int i = 0; i < counts->n; i++)
	{
		const PpTargetOutcome *result = &counts->of[i];

		if (result->parked != 0)
			pp_counters_park(counters, result->delta.target, result->parked, result->parked_bytes);
		if (result->parked > 0)
			pp_counters_note_parked(counters, result->delta.target, pp_steady_now());
		if (result->taken > 0)
			pp_counters_settle(counters, result->delta.target, result->taken);
	}
}
