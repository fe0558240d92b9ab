/*-------------------------------------------------------------------------
 *
 * results.c
 *	  Collects what a transaction does to its targets; see results.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "results.h"

PpResult *
pp_results_of(PpResults *results, Oid target)
{
	/* most often it is the last one */
	for (int i = results->n - 1; i >= 0; i--)
	{
		if (results->of[i].delta.target == target)
			return &results->of[i];
	}
	if (results->n == results->max)
	{
		results->max = Max(16, results->max * 2);
		results->of = results->of ? repalloc(results->of, results->max * sizeof(PpResult))
								  : palloc(results->max * sizeof(PpResult));
	}
	memset(&results->of[results->n], 0, sizeof(PpResult));
	results->of[results->n].delta.target = target;
	return &results->of[results->n++];
}

PpResults
pp_results_copy(const PpResults *results)
{
	PpResults copy = *results;

	copy.of = palloc(Max(results->max, 1) * sizeof(PpResult));
	if (results->n > 0) /* or else there may be none to copy from */
		memcpy(copy.of, results->of, results->n * sizeof(PpResult));
	return copy;
}

/* Rows that have come through, or were passed over; or are parked, or not any more. */
void
pp_results_add(PpResults *to, const PpResults *from)
{
	for (int i = 0; i < from->n; i++)
	{
		PpResult *result = pp_results_of(to, from->of[i].delta.target);

		result->delta.persisted += from->of[i].delta.persisted;
		result->delta.skipped += from->of[i].delta.skipped;
		result->parked += from->of[i].parked;
		to->persisted += from->of[i].delta.persisted;
	}
}

/* Of so many parked items that have been taken, have some been parked again? */
bool
pp_results_parked_more(const PpResults *results, uint64 taken)
{
	int64 net = 0;

	for (int i = 0; i < results->n; i++)
		net += results->of[i].parked;
	return net != -(int64) taken;
}

/* Note an error, without its message: that may have values, and more people look here. */
void
pp_results_error(PpResult *result, const ErrorData *error, uint64 times)
{
	result->delta.errors += times;
	result->delta.last_error =
		error->constraint_name
			? psprintf("%s (constraint \"%s\")", unpack_sql_state(error->sqlerrcode),
					   error->constraint_name)
			: pstrdup(unpack_sql_state(error->sqlerrcode));
	result->delta.last_error_at = GetCurrentTimestamp();
}

/* Does the transaction change the account of the target? */
static bool
is_worth_a_row(const PpDelta *delta)
{
	return delta->persisted != 0 || delta->skipped != 0 || delta->dead != 0 ||
		   delta->discarded != 0 || delta->lost != 0 || delta->errors != 0;
}

/* Add it to the account, in the current transaction. */
void
pp_results_write(const PpResults *results, Oid extension)
{
	PpDelta *deltas = palloc(Max(results->n + 1, 1) * sizeof(PpDelta));
	uint64 nobodys = results->lost;
	int n = 0;

	for (int i = 0; i < results->n; i++)
	{
		PpDelta *delta = &results->of[i].delta;

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
pp_results_tell(const PpResults *results, PpTally *tally)
{
	for (int i = 0; i < results->n; i++)
	{
		const PpResult *result = &results->of[i];

		if (result->parked != 0)
			pp_tally_park(tally, result->delta.target, result->parked, result->parked_bytes);
		if (result->taken > 0)
			pp_tally_settle(tally, result->delta.target, result->taken);
	}
}
