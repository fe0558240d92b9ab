/*-------------------------------------------------------------------------
 *
 * failure.c
 *	  Settles items, and deals with those that can't be inserted; see failure.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "batch.h"
#include "extension.h"
#include "failure.h"
#include "identity.h"

volatile sig_atomic_t pp_cut = PP_CUT_NONE;

/* What the transaction that is open settles when it commits */
static struct
{
	PpLane *lane; /* NULL: nothing */
	const PpSpan *spans;
	int n;
} committing;

#define DOUBTS 3
static int doubts_in_a_row = 0; /* tries of one item that may be bad */

static bool committed; /* the last transaction got as far as that */

static uint64
count_items(const PpSpan *spans, int n)
{
	uint64 items = 0;

	for (int i = 0; i < n; i++)
		items += spans[i].n;
	return items;
}

/*
 * Only here are items settled that were inserted: after this point no ERROR and
 * no signal can undo the transaction, before it any could.
 */
static void
at_commit(void)
{
	PpLane *lane = committing.lane;

	/* first what is told of it: once the ring is free it may be another's */
	SpinLockAcquire(&lane->mutex);
	lane->batches++;
	lane->tried_items = 0; /* whatever ends this process now is not their fault */
	SpinLockRelease(&lane->mutex);
	SpinLockAcquire(&pp_shared->mutex);
	pp_shared->settled_lsn = Max(pp_shared->settled_lsn, XactLastCommitEnd);
	SpinLockRelease(&pp_shared->mutex);

	for (int i = 0; i < committing.n; i++)
		pp_ring_settle(&lane->ring, committing.spans[i].at, committing.spans[i].n);
	pp_ring_free(&lane->ring, count_items(committing.spans, committing.n));

	committing.lane = NULL;
	committed = true;
	doubts_in_a_row = 0;
}

static void
xact_event(XactEvent event, void *arg)
{
	if (committing.lane == NULL)
		return;
	if (event == XACT_EVENT_COMMIT)
		at_commit();
	else if (event == XACT_EVENT_ABORT)
		committing.lane = NULL;
}

/*
 * Called once, by the worker that has attached to the lane.  If the last one ended
 * in the middle of a transaction, be careful with the items of that.
 */
void
pp_settle_init(PpLane *lane)
{
	RegisterXactCallback(xact_event, NULL);

	SpinLockAcquire(&lane->mutex);
	if (lane->tried_items > 0)
		lane->careful_end = lane->tried_end;
	SpinLockRelease(&lane->mutex);
}

/* Must items from this ring position on be tried one at a time? */
bool
pp_settle_carefully(PpLane *lane, uint64 head)
{
	bool careful;

	SpinLockAcquire(&lane->mutex);
	careful = head < lane->careful_end;
	SpinLockRelease(&lane->mutex);

	return careful;
}

/* This process is about to end, and it isn't the fault of what it tries. */
void
pp_settle_excuse(PpLane *lane)
{
	SpinLockAcquire(&lane->mutex);
	lane->tried_items = 0;
	SpinLockRelease(&lane->mutex);
}

/* Could the same items be accepted a moment later?  `alone`: there is one of them. */
static bool
is_transient(const ErrorData *error, bool alone)
{
	/* whatever code makes of its cancellation, by a stop or a command */
	if (pp_cut == PP_CUT_STOP || pp_cut == PP_CUT_HOLD)
		return true;

	/*
	 * A full ring: triggers on targets enqueue, and those of fewer items less;
	 * only the worker makes room, so with one item there is little to hope for.
	 * A cancellation: by a person, nobody's fault; but a trigger can raise that
	 * error, too, and statement_timeout's is its item's own.
	 */
	if (error->sqlerrcode == ERRCODE_INSUFFICIENT_RESOURCES ||
		error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		return pp_cut == PP_CUT_NONE && alone && ++doubts_in_a_row < DOUBTS;

	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_CONNECTION_EXCEPTION:
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_SYSTEM_ERROR:
			return true;
	}

	switch (error->sqlerrcode)
	{
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_OBJECT_IN_USE:
		case ERRCODE_ADMIN_SHUTDOWN:
		case ERRCODE_CRASH_SHUTDOWN:
		case ERRCODE_CANNOT_CONNECT_NOW:
			return true;
		default:
			return false;
	}
}

/*
 * Note what is being tried, in case that its code ends this process; nitems = 0:
 * we have come through.
 */
static void
note_attempt(PpLane *lane, uint64 nitems, const PpSpan *first, const PpSpan *last)
{
	uint64 end = last ? last->at + pp_ring_entry(&lane->ring, last->at)->bytes : 0;

	SpinLockAcquire(&lane->mutex);
	lane->tried_items = nitems;
	lane->tried_at = first ? first->at : 0;
	lane->tried_end = end;
	SpinLockRelease(&lane->mutex);
}

/*
 * One transaction for items of one role.  Returns NULL when it has committed,
 * else what went wrong, and then nothing has changed.
 */
static ErrorData *
try(PpLane *lane, const PpSpan *spans, int n)
{
	MemoryContext caller = CurrentMemoryContext;
	uint64 nitems = count_items(spans, n);
	const PpItem **items = palloc_extended(nitems * sizeof(PpItem *), MCXT_ALLOC_HUGE);
	ErrorData *volatile error = NULL;
	uint64 next = 0;

	for (int i = 0; i < n; i++)
	{
		memcpy(items + next, spans[i].items, spans[i].n * sizeof(PpItem *));
		next += spans[i].n;
	}

	if (pp_cut != PP_CUT_STOP)
		pp_cut = PP_CUT_NONE;
	note_attempt(lane, nitems, &spans[0], &spans[n - 1]);
	committed = false;
	PG_TRY();
	{
		pp_identity_begin(spans[0].role);
		pp_batch_insert(items, nitems);
		if (pp_cut != PP_CUT_NONE)
			ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
							errmsg("a trigger went on after its cancellation")));
		committing.lane = lane;
		committing.spans = spans;
		committing.n = n;
		pp_identity_commit();
	}
	PG_CATCH();
	{
		/* the items are settled: this error is not theirs */
		if (committed)
			PG_RE_THROW();

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		note_attempt(lane, 0, NULL, NULL);
		pp_identity_abort();
	}
	PG_END_TRY();

	note_attempt(lane, 0, NULL, NULL);
	MemoryContextSwitchTo(caller);
	pfree(items);
	return error;
}

/* FATAL, and so nothing is lost, if the extension is not what it should be. */
static void
check_extension(void)
{
	Oid extension = pp_extension_oid();
	const char *fault = OidIsValid(extension) ? pp_extension_fault(extension) : NULL;

	if (fault)
		ereport(FATAL, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("persist_pipeline worker for database \"%s\" cannot work: %s",
							   get_database_name(MyDatabaseId), fault)));
}

/* Log an item that can't be inserted, without its values, and pass on. */
static void
give_up(PpLane *lane, const PpSpan *span, const ErrorData *error)
{
	const PpItem *item = span->items[0];
	MemoryContext caller = CurrentMemoryContext;
	char *name;
	char *schema;

	/* not to be cut short by the clock: logged is settled */
	HOLD_CANCEL_INTERRUPTS();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	check_extension(); /* no item is to blame for an extension that lacks something */
	name = get_rel_name(item->target);
	schema = name ? get_namespace_name(get_rel_namespace(item->target)) : NULL;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 schema
				 ? errmsg("item %lld for relation \"%s.%s\" could not be inserted: SQLSTATE %s",
						  (long long) item->id, schema, name, unpack_sql_state(error->sqlerrcode))
				 : errmsg("item %lld for relation with OID %u could not be inserted: SQLSTATE %s",
						  (long long) item->id, item->target, unpack_sql_state(error->sqlerrcode)),
			 error->constraint_name ? errdetail("Constraint \"%s\".", error->constraint_name) : 0));
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);

	SpinLockAcquire(&lane->mutex);
	lane->failed++;
	SpinLockRelease(&lane->mutex);
	pp_ring_settle(&lane->ring, span->at, 1);
	pp_ring_free(&lane->ring, 1);
	doubts_in_a_row = 0;
	RESUME_CANCEL_INTERRUPTS();
}

/* Settle items of one role, in order, as many at a time as will go together. */
static PpOutcome
settle_role(PpLane *lane, PpSpan *spans, int n, ErrorData **error)
{
	ErrorData *failure = try(lane, spans, n);
	PpSpan halves[2];
	int half = n / 2;
	bool alone = n == 1 && spans[0].n == 1;

	ConditionVariableBroadcast(&lane->settled);

	if (failure == NULL)
		return PP_SETTLED;
	if (is_transient(failure, alone))
	{
		*error = failure;
		return PP_TRANSIENT;
	}
	if (alone)
	{
		give_up(lane, &spans[0], failure);
		ConditionVariableBroadcast(&lane->settled);
		FreeErrorData(failure);
		return PP_SETTLED;
	}
	FreeErrorData(failure);

	if (n == 1)
	{
		halves[0] = halves[1] = spans[0];
		halves[0].n = spans[0].n / 2;
		halves[1].n = spans[0].n - halves[0].n;
		halves[1].items += halves[0].n;
		spans = halves;
		half = 1;
		n = 2;
	}
	if (settle_role(lane, spans, half, error) == PP_TRANSIENT)
		return PP_TRANSIENT;
	return settle_role(lane, spans + half, n - half, error);
}

/* The spans of one role, in their order. */
static PpSpan *
select_role(const PpSpan *spans, int n, Oid role, int *nselected)
{
	PpSpan *selected = palloc(n * sizeof(PpSpan));

	*nselected = 0;
	for (int i = 0; i < n; i++)
	{
		if (spans[i].role == role)
			selected[(*nselected)++] = spans[i];
	}
	return selected;
}

/*
 * Settle items of several roles.  First a transaction for each role; what fails
 * is done again in the order of the ring, since one role's rows may need
 * another's (a foreign key).
 */
static PpOutcome
settle_roles(PpLane *lane, PpSpan *spans, int n, List *roles, ErrorData **error)
{
	List *again = NIL;
	PpOutcome outcome = PP_SETTLED;
	ListCell *cell;

	foreach (cell, roles)
	{
		int nselected;
		PpSpan *selected = select_role(spans, n, lfirst_oid(cell), &nselected);
		ErrorData *failure = try(lane, selected, nselected);

		ConditionVariableBroadcast(&lane->settled);
		if (failure == NULL)
			continue;
		if (is_transient(failure, nselected == 1 && selected[0].n == 1))
		{
			*error = failure;
			outcome = PP_TRANSIENT;
		}
		else
			again = lappend_oid(again, lfirst_oid(cell));
	}

	/* what waits may be what the others need: nothing is bad before it is there */
	if (outcome == PP_TRANSIENT)
		return outcome;

	for (int i = 0; i < n && again != NIL;)
	{
		Oid role = spans[i].role;
		int end = i + 1;

		while (end < n && spans[end].role == role)
			end++;
		if (list_member_oid(again, role) &&
			settle_role(lane, spans + i, end - i, error) == PP_TRANSIENT)
			return PP_TRANSIENT;
		i = end;
	}

	return PP_SETTLED;
}

/* Did the first item of this entry, tried alone, end the worker before us? */
static bool
ended_its_worker(PpLane *lane, uint64 at)
{
	bool ended;

	SpinLockAcquire(&lane->mutex);
	ended = lane->tried_items == 1 && lane->tried_at == at;
	lane->tried_items = 0;
	SpinLockRelease(&lane->mutex);

	return ended;
}

/*
 * Settle the items: insert them, or find out which can't be.  PP_TRANSIENT: some
 * are not settled, for the reason that *error tells; try again later.  Call it
 * outside a transaction.
 */
PpOutcome
pp_settle(PpLane *lane, PpSpan *spans, int n, ErrorData **error)
{
	List *roles = NIL;

	if (ended_its_worker(lane, spans[0].at))
	{
		ErrorData fatal = {.sqlerrcode = ERRCODE_INTERNAL_ERROR};

		/* carefully, so the first span has that one item */
		Assert(n == 1 && spans[0].n == 1);
		give_up(lane, &spans[0], &fatal);
		ConditionVariableBroadcast(&lane->settled);
		return PP_SETTLED;
	}

	for (int i = 0; i < n; i++)
	{
		if (i == 0 || spans[i].role != spans[i - 1].role)
			roles = list_append_unique_oid(roles, spans[i].role);
	}

	if (list_length(roles) == 1)
		return settle_role(lane, spans, n, error);
	return settle_roles(lane, spans, n, roles, error);
}
