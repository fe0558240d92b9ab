/*-------------------------------------------------------------------------
 *
 * decide.c
 *	  What an error means for the rows of a transaction; see decide.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/sinval.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/array.h"
#include "base/config.h"
#include "base/errors.h"
#include "store/layouts.h"
#include "worker/decide.h"
#include "worker/hanging.h"
#include "worker/identity.h"
#include "worker/parents.h"
#include "worker/parking.h"
#include "worker/timer.h"
#include "worker/upsert.h"

#define WEARY_MS 1	   /* after another wait in vain in the same transaction */
#define MAX_WAITING 16 /* rows of a target; with more of them it is the target that waits */
/* rows; when all of them fail alike it is the target that doesn't fit */
#define MISMATCH_SAMPLE 100
#define MAX_DOUBTS 3   /* tries of a single row with errors of class UNSURE; then it is bad */
#define MAX_TIMEOUTS 2 /* of one transaction; of the worker's, and of one target */
#define MAX_BAD_BYTES (16 * 1024 * 1024) /* of errors; from there on they are told in short */

/* ---- what has become of rows ---- */

PpApplyTarget *
pp_decide_target(PpApply *apply, Oid target)
{
	for (int i = apply->ntargets - 1; i >= 0; i--)
	{
		if (apply->targets[i].target == target)
			return &apply->targets[i];
	}
	PP_ARRAY_GROW(apply->targets, apply->ntargets, apply->maxtargets);
	apply->targets[apply->ntargets] = (PpApplyTarget){.target = target};
	return &apply->targets[apply->ntargets++];
}

void
pp_decide_bad(PpApply *apply, const PpRow *row, ErrorData *error)
{
	if (apply->bad_bytes > MAX_BAD_BYTES)
		pp_error_abridge(error);
	apply->bad_bytes += pp_error_size(error);
	PP_ARRAY_GROW(apply->bad, apply->nbad, apply->maxbad);
	apply->bad[apply->nbad++] = pp_bad_row(row, error);
	pp_decide_target(apply, row->item->target)->nbad++;
}

/*
 * `error`: it waits by itself, for this reason; NULL: it waits with the rest of its target.
 * Rows that refer to it are to know that at once, and all of them: the others of a target come
 * in the order of commits, not of places.
 */
void
pp_decide_parked(PpApply *apply, const PpRow *row, ErrorData *error)
{
	const PpApplyTarget *state = pp_decide_target(apply, row->item->target);

	if (error)
		pp_parking_note(row, apply->role, error->sqlerrcode, false);
	else if (state->error)
		pp_parking_note(row, apply->role, state->error->sqlerrcode, true);
	else
		pp_parking_follow(row, apply->role);
	PP_ARRAY_GROW(apply->parked, apply->nparked, apply->maxparked);
	apply->parked[apply->nparked++] = (PpApplyParked){.row = row, .error = error};
	if (error)
	{
		pp_decide_target(apply, row->item->target)->nwaiting++;
		apply->nwaiting++;
	}
}

PpDecideMark
pp_decide_mark(const PpApply *apply)
{
	return (PpDecideMark){.counts = pp_outcome_counts_copy(apply->counts),
						  .nbad = apply->nbad,
						  .nparked = apply->nparked};
}

void
pp_decide_back_to(PpApply *apply, const PpDecideMark *mark)
{
	*apply->counts = mark->counts;
	while (apply->nbad > mark->nbad)
		pp_decide_target(apply, apply->bad[--apply->nbad].target)->nbad--;
	while (apply->nparked > mark->nparked)
	{
		const PpApplyParked *parked = &apply->parked[--apply->nparked];

		if (parked->error == NULL)
			continue;
		pp_decide_target(apply, parked->row->item->target)->nwaiting--;
		apply->nwaiting--;
	}
}

/* What is left of the target's rows is parked. */
void
pp_decide_close(PpApply *apply, Oid target, ErrorData *error)
{
	PpApplyTarget *state = pp_decide_target(apply, target);

	apply->error = error;
	if (state->closed)
		return;
	state->closed = true;
	state->error = error;
	apply->nclosed++;
}

static bool
is_closed(Oid target, const void *arg)
{
	const PpApply *apply = arg;

	for (int i = 0; i < apply->ntargets; i++)
	{
		if (apply->targets[i].target == target)
			return apply->targets[i].closed;
	}
	return false;
}

/*
 * Park those of these rows whose target is closed, or has replaced one that is; so many are left.
 */
uint64
pp_decide_leave_closed(PpApply *apply, const PpRow **rows, uint64 n)
{
	uint64 left = 0;
	bool closed = false;

	for (uint64 i = 0; i < n; i++)
	{
		Oid target = rows[i]->item->target;

		if (i == 0 || target != rows[i - 1]->item->target)
			closed = is_closed(target, apply) || pp_parking_any_replaced(target, is_closed, apply);
		if (closed)
			pp_decide_parked(apply, rows[i], NULL);
		else
			rows[left++] = rows[i];
	}
	return left;
}

/* Would this row fail in the same way, by itself? */
static bool
fails_alike(const PpRow *row, const ErrorData *error)
{
	PpTry own = pp_try_insert(&row, 1, true, NULL);

	return own.error && pp_classify_is_alike(own.error, error);
}

/* ---- what an error means here ---- */

static PpDecision
decide_end(PpApply *apply, PpApplyEnd end, ErrorData *error)
{
	apply->end = end;
	apply->error = error;
	return PP_DECIDE_END;
}

/* May a target still be parked that takes none of its rows? */
static bool
may_target_wait(const PpApply *apply, Oid target)
{
	return !pp_parking_grace_period_is_over(target, apply->role) &&
		   SearchSysCacheExists1(RELOID, ObjectIdGetDatum(pp_layouts_current(target)));
}

/*
 * Have as many rows of the target failed as make a sample, all alike, and would the last one,
 * and one in the middle?  Then it is the target that takes none of them, and they are no worse
 * than the others.
 */
static bool
all_fail_alike(PpApply *apply, Oid target, const PpTry *failure)
{
	const ErrorData *error = failure->error;
	const PpApplyTarget *state = pp_decide_target(apply, target);
	const PpTargetOutcome *result = pp_outcome_counts_of(apply->counts, target);
	const PpRow **rows;
	uint64 n = 0;
	bool alike;

	if (state->nbad != MISMATCH_SAMPLE || state->nwaiting > 0 || result->delta.persisted > 0 ||
		result->delta.skipped > 0 || !may_target_wait(apply, target))
		return false;
	if (failure->by_itself && failure->row > 1)
		return false; /* those before it have been read, and don't fail so */
	for (uint64 i = 0; i < apply->nbad; i++)
	{
		if (apply->bad[i].target == target && !pp_classify_is_alike(apply->bad[i].error, error))
			return false;
	}
	rows = palloc_extended(apply->nrows * sizeof(PpRow *), MCXT_ALLOC_HUGE);
	for (uint64 i = 0; i < apply->nrows; i++)
	{
		if (apply->rows[i]->item->target == target)
			rows[n++] = apply->rows[i];
	}
	alike =
		n > MISMATCH_SAMPLE && fails_alike(rows[n - 1], error) && fails_alike(rows[n / 2], error);
	pfree(rows);
	return alike;
}

/* The target takes none of its rows; with_bad: those that were bad for that are no worse. */
static void
close_mismatch(PpApply *apply, Oid target, ErrorData *error, bool with_bad)
{
	PpApplyTarget *state = pp_decide_target(apply, target);

	state->mismatch = true;
	state->spares_bad |= with_bad;
	pp_decide_close(apply, target, error);
}

/* Isn't a row of the target bad that takes too long, since it may be another server that hangs? */
bool
pp_decide_is_patient(const PpApply *apply, Oid target)
{
	return !apply->disbelieves && pp_hanging_is_elsewhere(target);
}

ErrorData *
pp_decide_too_late(void)
{
	return pp_error(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
					"its batch took longer than \"persist_pipeline.statement_timeout\"");
}

/* The batch has had its time: nothing more of these rows is tried in it. */
void
pp_decide_close_all(PpApply *apply, const PpRow **rows, uint64 n)
{
	for (uint64 i = 0; i < n; i++)
		pp_decide_close(apply, rows[i]->item->target, pp_decide_too_late());
}

/* Of the retrier's: fewer are tried at a time, down to a single row, which has its own time. */
static PpDecision
decide_slow_parked(PpApply *apply, const PpRow **rows, uint64 n, const PpTry *failure)
{
	Oid target = rows[0]->item->target;

	if (++apply->timeouts <= MAX_TIMEOUTS && n > 1)
		return PP_DECIDE_FEWER;
	pp_hanging_note(target);
	if (n == 1 && apply->timeouts <= MAX_TIMEOUTS + 1 && !pp_decide_is_patient(apply, target))
		return PP_DECIDE_OUT_BAD;
	for (uint64 i = 0; i < n; i++)
	{
		target = rows[i]->item->target;
		if (OidIsValid(failure->target) && target != failure->target)
			continue;
		pp_decide_target(apply, target)->slow = true;
		pp_decide_close(apply, target, failure->error);
	}
	return PP_DECIDE_GO_ON;
}

/* It takes too long, and others wait meanwhile: it is to be tried by itself, and later. */
static PpDecision
decide_slow(PpApply *apply, const PpRow **rows, uint64 n, const PpTry *failure)
{
	bool is_told = OidIsValid(failure->target) && !failure->deferred;
	Oid target = is_told ? failure->target : rows[0]->item->target;
	PpApplyTarget *state;

	apply->width = Max(n / 2, 1);
	if (apply->retrying)
		return decide_slow_parked(apply, rows, n, failure);
	if (n > 1 && !is_told)
		return PP_DECIDE_FEWER;
	state = pp_decide_target(apply, target);
	state->slow |= !failure->was_short;
	if (n > 1 && state->timeouts++ < MAX_TIMEOUTS)
		return PP_DECIDE_FEWER;
	pp_decide_close(apply, target, state->slow ? failure->error : pp_decide_too_late());
	return PP_DECIDE_GO_ON;
}

/* Somebody has a lock: on a row, or on the relation. */
static PpDecision
decide_lock(PpApply *apply, Oid target, uint64 n, const PpTry *failure)
{
	PpApplyTarget *state;

	pp_identity_set_lock_timeout(apply->impatient ? WEARY_MS : PP_DECIDE_IMPATIENT_MS);
	apply->impatient = true;
	if (!OidIsValid(target))
		return PP_DECIDE_FEWER;
	state = pp_decide_target(apply, target);
	if (!state->parents_free && pp_parents_lock(target))
	{
		state->parents_free = true;
		return PP_DECIDE_FEWER; /* what was locked may be free by now */
	}
	if (state->parents_free && state->nwaiting < MAX_WAITING && !pp_upsert_is_update(target))
		return PP_DECIDE_OUT_WAITING;
	pp_decide_close(apply, target, failure->error);
	return PP_DECIDE_GO_ON;
}

/* A row that no SQLSTATE condemns, parked since then (0: it isn't): may it wait? */
bool
pp_decide_may_wait(TimestampTz parked_at)
{
	return pp_config_mismatch_timeout > 0 &&
		   (parked_at == 0 || !TimestampDifferenceExceeds(parked_at, GetCurrentTimestamp(),
														  pp_config_mismatch_timeout));
}

/* May this row lack one that is parked? */
static bool
may_need_parked(const PpApply *apply, const PpRow *row, const ErrorData *error)
{
	bool itself = apply->nwaiting > 0 || apply->nclosed > 0 || !apply->retrying;

	return pp_parents_may_be_parked(row, apply->role, itself, error);
}

/* What to do about these rows, which have failed so? */
PpDecision
pp_decide(PpApply *apply, const PpRow **rows, uint64 n, const PpTry *failure)
{
	ErrorData *error = failure->error;
	bool alone = n == 1;
	bool told = alone || failure->row > 0;
	const PpRow *told_row = rows[failure->row > 0 ? failure->row - 1 : 0];
	Oid target = told ? told_row->item->target : failure->target;
	PpErrorClass class = pp_classify(error, failure->in_rows, failure->cut);

	if (class == PP_CLASS_TARGET_WAITS && apply->disbelieves && pp_classify_is_rollback(error))
		class = PP_CLASS_ROW;
	if (class == PP_CLASS_TRANSACTION)
		return decide_end(apply, PP_APPLY_LATER, error);
	if (class == PP_CLASS_SLOW)
		return decide_slow(apply, rows, n, failure);
	if (class == PP_CLASS_LOCK)
		return decide_lock(apply, target, n, failure);
	if (class == PP_CLASS_RESOURCES && !alone)
	{
		/* there may be enough of it for fewer, if not now */
		apply->width = Max(n / 2, 1);
		return PP_DECIDE_FEWER;
	}
	if (class == PP_CLASS_RESOURCES && apply->counts->persisted > 0)
		return decide_end(apply, PP_APPLY_FEWER, error); /* what has landed needs it */
	if (class == PP_CLASS_UNSURE)
		return alone && ++apply->doubts >= MAX_DOUBTS ? PP_DECIDE_OUT_BAD : PP_DECIDE_FEWER;
	if (class == PP_CLASS_TARGET_WAITS || class == PP_CLASS_RESOURCES ||
		(told && may_need_parked(apply, told_row, error)))
	{
		if (!OidIsValid(target))
			return PP_DECIDE_FEWER;
		pp_decide_close(apply, target, error);
		return PP_DECIDE_GO_ON;
	}
	if (apply->apart && (failure->deferred || error->sqlerrcode == ERRCODE_FOREIGN_KEY_VIOLATION))
	{
		if (!OidIsValid(target))
			return PP_DECIDE_FEWER;
		pp_decide_close(apply, target, error); /* it may need that */
		return PP_DECIDE_GO_ON;
	}
	if (class == PP_CLASS_UNPROVEN && told && pp_decide_may_wait(told_row->parked_at))
	{
		if (pp_decide_target(apply, target)->nwaiting < MAX_WAITING && !pp_upsert_is_update(target))
			return PP_DECIDE_OUT_WAITING;
		pp_decide_close(apply, target, error);
		return PP_DECIDE_GO_ON;
	}
	if (class == PP_CLASS_MISMATCH && OidIsValid(target) && may_target_wait(apply, target))
	{
		close_mismatch(apply, target, error, false);
		return PP_DECIDE_GO_ON;
	}
	if (OidIsValid(target) && !apply->in_parts && all_fail_alike(apply, target, failure))
	{
		close_mismatch(apply, target, error, true);
		return PP_DECIDE_GO_ON;
	}
	return PP_DECIDE_OUT_BAD;
}

/*
 * What is deferred of these rows of one transaction fails.  Do rows of a target lack one that their
 * foreign key refers to, which may be parked?  Then they wait, before anybody calls those bad that
 * need them.
 */
bool
pp_decide_lacks_parked(PpApply *apply, const PpRow **rows, uint64 n, const PpTry *failure)
{
	Oid table = failure->error->sqlerrcode == ERRCODE_FOREIGN_KEY_VIOLATION
					? pp_parents_failing_table(failure->error)
					: InvalidOid;

	for (uint64 i = 0; i < n && OidIsValid(table); i++)
	{
		if (!pp_parents_covers(rows[i]->item->target, table) ||
			!may_need_parked(apply, rows[i], failure->error))
			continue;
		pp_decide_close(apply, rows[i]->item->target, failure->error);
		return true;
	}
	return false;
}

/*
 * Has the row found no partition, and have invalidations come since?  Then it may have one now.
 */
bool
pp_decide_may_have_partition(PpApply *apply, const ErrorData *error)
{
	uint64 invalidations;

	if (!pp_classify_is_of_route(error))
		return false;
	AcceptInvalidationMessages();
	invalidations = SharedInvalidMessageCounter + 1;
	if (apply->invalidations == invalidations)
		return false;
	apply->invalidations = invalidations;
	return true;
}
