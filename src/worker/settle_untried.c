/*-------------------------------------------------------------------------
 *
 * settle_untried.c
 *	  Settles work items without a try to insert their rows; see settle_untried.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"

#include "store/dead_letters.h"
#include "worker/bad_rows.h"
#include "worker/parking.h"
#include "worker/settle_untried.h"
#include "worker/work_rows.h"

/* What becomes of work items */
typedef struct Deed
{
	const PpClaim *claim;
	PpWorkItem *work_items;
	int n;
	bool dies; /* they become dead letters; or else they are parked */
	ErrorData *why;
	Oid role;
	PpOutcomeCounts *counts;
	PpBadRow *bad; /* what has become dead letters, to be reported */
	uint64 nbad;
} Deed;

static void
write_dead_letters(Deed *deed, const PpRow **rows, uint64 n)
{
	deed->bad = palloc_extended(Max(n, 1) * sizeof(PpBadRow), MCXT_ALLOC_HUGE);
	for (uint64 i = 0; i < n; i++)
	{
		deed->bad[deed->nbad++] = pp_bad_row(rows[i], deed->why);
		pp_bad_rows_write_dead_letter(deed->claim->extension, deed->counts, rows[i], deed->role,
									  deed->why);
	}
}

static void
park(Deed *deed, const PpRow **rows, uint64 n)
{
	PpOutcomeCounts *counts = deed->counts;
	Oid role = deed->role;

	pp_parking_park_rows(counts, role, rows, n);
	for (uint64 i = 0; i < n; i++)
	{
		PpTargetOutcome *result = pp_outcome_counts_of(counts, rows[i]->item->target);

		if (result->delta.errors > 0)
		{
			pp_parking_follow(rows[i], role);
			continue;
		}
		pp_parking_note(rows[i], role, deed->why->sqlerrcode, true);
		pp_outcome_counts_error(counts, result->delta.target, deed->why);
	}
}

static void
do_to_all(void *arg)
{
	Deed *deed = arg;
	PpOutcomeCounts *counts = deed->counts;
	const PpRow **rows;
	uint64 nrows;
	int opened;

	/* no cancellation, no lock_timeout: then we can't wait for a lock, either */
	if (deed->dies && !pp_dead_letters_try_lock(deed->claim->extension))
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("the table of dead letters is locked")));
	ForceSyncCommit(); /* or else the next one that crashes the server takes this back */
	rows = pp_work_rows_open(deed->claim, deed->work_items, deed->n, &opened, &nrows);
	if (deed->dies)
		write_dead_letters(deed, rows, nrows);
	else
		park(deed, rows, nrows);
	pp_work_rows_count_taken(counts, rows, nrows, deed->work_items[0].parked);
	pp_commit_settles(deed->work_items, deed->n, counts);
	pp_work_rows_take(deed->claim, deed->work_items, deed->n);
	pp_outcome_counts_write(counts, deed->claim->extension);
}

static PpOutcome
settle(Deed *deed, ErrorData **error)
{
	if (deed->dies)
		pp_work_rows_note(deed->work_items, deed->n);
	deed->role = deed->work_items[0].role;
	deed->counts = palloc0(sizeof(PpOutcomeCounts));
	*error = pp_commit_by_ourselves(do_to_all, deed, deed->dies);
	if (*error)
		return PP_TRANSIENT;
	pp_bad_rows_report(deed->bad, deed->nbad);
	pp_parking_errors_are_counted(deed->counts, deed->role);
	return PP_SETTLED;
}

/* Make dead letters of all their items. */
PpOutcome
pp_settle_untried_as_dead(const PpClaim *claim, PpWorkItem *work_items, int n, ErrorData *why,
						  ErrorData **error)
{
	return settle(&(Deed){claim, work_items, n, true, why}, error);
}

/* Park them all, so that each target is tried by itself. */
PpOutcome
pp_settle_untried_as_parked(const PpClaim *claim, PpWorkItem *work_items, int n, ErrorData *why,
							ErrorData **error)
{
	return settle(&(Deed){claim, work_items, n, false, why}, error);
}
