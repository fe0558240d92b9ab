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
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "copied.h"
#include "extension.h"
#include "failure.h"
#include "identity.h"
#include "settlement.h"

volatile sig_atomic_t pp_cut = PP_CUT_NONE;
volatile TimestampTz pp_attempt_began = 0;

static const PpClaim *claim;
static PpLane *lane;

#define DOUBTS 3
static int doubts_in_a_row = 0; /* tries of one item that may be bad */

static bool gave_up;	 /* it ended because something transient was in the way of an item */
static bool opening;	 /* it ended before its items could be read */
static bool was_careful; /* the works are records that stand alone */

/*
 * Called once, by the worker that has attached to its lane.  If the last one ended
 * in the middle of a transaction, be careful with the works of that.
 */
void
pp_settle_init(const PpClaim *worker_claim)
{
	claim = worker_claim;
	lane = claim->lane;
	pp_settlement_init(claim);

	SpinLockAcquire(&lane->mutex);
	if (lane->tried_items > 0)
		lane->careful = lane->tried_works;
	SpinLockRelease(&lane->mutex);
}

/* Must works be tried one at a time? */
bool
pp_settle_carefully(void)
{
	bool careful;

	SpinLockAcquire(&lane->mutex);
	careful = lane->careful > 0;
	SpinLockRelease(&lane->mutex);

	return careful;
}

/* This process is about to end, and it isn't the fault of what it tries. */
void
pp_settle_excuse(PpLane *of)
{
	SpinLockAcquire(&of->mutex);
	of->tried_items = 0;
	SpinLockRelease(&of->mutex);
}

/* Could the same items be accepted a moment later?  `alone`: there is one of them. */
bool
pp_is_transient(const ErrorData *error, bool alone)
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
 * Note what is being tried, in case that its code ends this process; nworks = 0: we
 * have come through.
 */
static void
note_attempt(const PpWork *works, int nworks)
{
	SpinLockAcquire(&lane->mutex);
	lane->tried_items = pp_count_items(works, nworks);
	lane->tried_works = nworks;
	lane->tried_pos = nworks > 0 ? works[0].pos : 0;
	lane->tried_part = nworks > 0 ? works[0].part : 0;
	SpinLockRelease(&lane->mutex);
}

/* The clock of statement_timeout starts anew. */
static void
begin_attempt(void)
{
	if (pp_cut == PP_CUT_TIMEOUT)
	{
		pp_cut = PP_CUT_NONE;
		QueryCancelPending = false;
	}
	pp_attempt_began = GetCurrentTimestamp();
}

/* Open the works in this transaction; all their items, in their order. */
static const PpItem **
open_works(PpWork *works, int n, uint64 *nitems)
{
	PpJournals journals;
	const PpItem **items;
	uint64 next = 0;

	*nitems = 0;
	PushActiveSnapshot(GetTransactionSnapshot());
	pp_journals_open(claim->extension, RowExclusiveLock, &journals);
	for (int i = 0; i < n; i++)
	{
		pp_work_open(claim, &journals, &works[i]);
		*nitems += works[i].nitems;
	}
	pp_journals_close(&journals);
	PopActiveSnapshot();
	items = palloc_extended(Max(*nitems, 1) * sizeof(PpItem *), MCXT_ALLOC_HUGE);
	for (int i = 0; i < n; i++)
	{
		memcpy(items + next, works[i].items, works[i].nitems * sizeof(PpItem *));
		next += works[i].nitems;
	}
	return items;
}

static void
insert(const PpItem **items, uint64 n)
{
	if (n > 0)
		pp_batch_insert(items, n);
	if (pp_cut != PP_CUT_NONE)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
						errmsg("a trigger went on after its cancellation")));
}

/* ---- the bad ones ---- */

typedef struct BadItem
{
	const PpItem *item;
	ErrorData *error;
} BadItem;

typedef struct BadList
{
	BadItem *bad;
	uint64 n;
	uint64 max;
	ErrorData *transient; /* that ended it all */
} BadList;

/*
 * Fire what is deferred, to see whether it passes, and forget that: what was
 * deferred stays deferred, since rows to come may belong to it.
 */
static void
check_deferred(void)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ConstraintsSetStmt *all_immediate = makeNode(ConstraintsSetStmt);

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	AfterTriggerSetState(all_immediate);
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
}

/* Insert these under a savepoint; NULL, or why not. */
static ErrorData *
try_some(const PpItem **items, uint64 n)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;
	int level = GetCurrentTransactionNestLevel();

	begin_attempt();
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		insert(items, n);
		check_deferred();
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		QueryCancelPending = false;
		while (GetCurrentTransactionNestLevel() > level)
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;

	return error;
}

/* FATAL, and so nothing is lost, if the extension is not what it should be. */
static void
check_extension(void)
{
	Oid extension = pp_extension_oid();
	const char *fault = OidIsValid(extension) ? pp_extension_fault(extension) : NULL;

	if (fault == NULL)
		return;
	note_attempt(NULL, 0);
	ereport(FATAL, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("persist_pipeline worker for database \"%s\" cannot work: %s",
						   get_database_name(MyDatabaseId), fault)));
}

/* Insert what can be inserted; false: something transient is in the way. */
static bool
bisect(const PpItem **items, uint64 n, BadList *list)
{
	ErrorData *error = try_some(items, n);

	if (error == NULL)
		return true;
	if (pp_is_transient(error, n == 1))
	{
		list->transient = error;
		return false;
	}
	if (n > 1)
	{
		FreeErrorData(error);
		return bisect(items, n / 2, list) && bisect(items + n / 2, n - n / 2, list);
	}

	if (list->n == 0)
		check_extension(); /* no item is to blame for an extension that lacks something */
	if (list->n == list->max)
	{
		list->max = Max(16, list->max * 2);
		list->bad = list->bad
						? repalloc_huge(list->bad, list->max * sizeof(BadItem))
						: MemoryContextAllocHuge(CurrentMemoryContext, list->max * sizeof(BadItem));
	}
	list->bad[list->n++] = (BadItem){.item = items[0], .error = error};
	return true;
}

/* Log an item that can't be inserted, without its values. */
static void
report(const PpItem *item, const ErrorData *error)
{
	char *name = get_rel_name(item->target);
	char *schema = name ? get_namespace_name(get_rel_namespace(item->target)) : NULL;

	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 schema
				 ? errmsg("item %lld for relation \"%s.%s\" could not be inserted: SQLSTATE %s",
						  (long long) item->id, schema, name, unpack_sql_state(error->sqlerrcode))
				 : errmsg("item %lld for relation with OID %u could not be inserted: SQLSTATE %s",
						  (long long) item->id, item->target, unpack_sql_state(error->sqlerrcode)),
			 error->constraint_name ? errdetail("Constraint \"%s\".", error->constraint_name) : 0));
}

static void
report_all(const BadList *list)
{
	MemoryContext caller = CurrentMemoryContext;

	if (list->n == 0)
		return;

	HOLD_CANCEL_INTERRUPTS();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	for (uint64 i = 0; i < list->n; i++)
		report(list->bad[i].item, list->bad[i].error);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	RESUME_CANCEL_INTERRUPTS();
}

/* ---- transactions ---- */

/* How a transaction gets its items into their tables; false: it has to roll back */
typedef bool (*Way)(const PpItem **items, uint64 n, BadList *list);

static bool
all_at_once(const PpItem **items, uint64 n, BadList *list)
{
	insert(items, n);
	return true;
}

/*
 * One transaction for works of one role.  Returns NULL when it has committed, else
 * what went wrong, and then nothing has changed.
 */
static ErrorData *
try(PpWork *works, int n, Way way)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context =
		AllocSetContextCreate(caller, "persist_pipeline items", ALLOCSET_DEFAULT_SIZES);
	ErrorData *volatile error = NULL;
	BadList bad = {0};

	if (pp_cut != PP_CUT_STOP)
		pp_cut = PP_CUT_NONE;
	note_attempt(works, n);
	gave_up = false;
	opening = false;
	pp_settlement_forget();
	begin_attempt();
	PG_TRY();
	{
		const PpItem **items;
		uint64 nitems;

		pp_identity_begin(works[0].role);
		MemoryContextSwitchTo(context);
		opening = true;
		items = open_works(works, n, &nitems);
		opening = false;
		MemoryContextSwitchTo(caller);
		if (!way(items, nitems, &bad))
		{
			error = bad.transient;
			gave_up = true;
			note_attempt(NULL, 0);
			pp_identity_abort();
		}
		else
		{
			pp_settlement_on_commit(works, n, bad.n, false);
			pp_identity_commit();
		}
	}
	PG_CATCH();
	{
		/* the items are settled: this error is not theirs */
		if (pp_settlement_is_done())
			PG_RE_THROW();

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		note_attempt(NULL, 0);
		pp_identity_abort();
	}
	PG_END_TRY();

	note_attempt(NULL, 0);
	MemoryContextSwitchTo(caller);
	if (error == NULL)
	{
		doubts_in_a_row = 0;
		report_all(&bad);
	}
	MemoryContextDelete(context);
	ConditionVariableBroadcast(&lane->settled);
	return error;
}

/*
 * In one transaction of our own, put the works' items into the journal, each in a
 * record of its own, and in the works' place in the order of things.  Rows that they
 * have there go.  Throws on error.
 */
void
pp_settle_to_journal(PpWork *works, int n)
{
	MemoryContext caller = CurrentMemoryContext;
	PpJournals journals;
	bool has_rows = false;
	int number;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(caller);
	memset(&journals, 0, sizeof(journals));
	for (int i = 0; i < n && !has_rows; i++)
		has_rows = works[i].nrows > 0;
	if (has_rows)
		pp_journals_open(claim->extension, RowExclusiveLock, &journals);
	number = pp_journal_unlocked(claim->extension, pp_ring_view(&lane->ring).journal);
	for (int i = 0; i < n; i++)
	{
		PpWork *work = &works[i];
		uint32 part = work->part;

		pp_work_open(claim, &journals, work);
		for (uint64 k = 0; k < work->nitems; k++)
		{
			const PpItem *item = work->items[k];
			int nrows = pp_journal_plan((const char *) item, item->size, NULL);
			PpRowPlan *rows = palloc(nrows * sizeof(PpRowPlan));
			PpJournalRef *refs = palloc(nrows * sizeof(PpJournalRef));

			(void) pp_journal_plan((const char *) item, item->size, rows);
			for (int r = 0; r < nrows; r++)
				rows[r].part = part++;
			pp_journal_append(claim->extension, number, work->pos, work->role, rows, nrows, refs);
			pfree(rows);
			pfree(refs);
		}
	}
	pp_journals_close(&journals);
	PopActiveSnapshot();
	pp_settlement_on_commit(works, n, 0, true);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}

/* In a transaction of our own, settle the works without inserting anything. */
static void
give_up(PpWork *works, int n, ErrorData *verdict)
{
	MemoryContext caller = CurrentMemoryContext;
	BadList list = {0};
	const PpItem **items;

	HOLD_CANCEL_INTERRUPTS();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	MemoryContextSwitchTo(caller);
	items = open_works(works, n, &list.n);
	list.bad = palloc_extended(Max(list.n, 1) * sizeof(BadItem), MCXT_ALLOC_HUGE);
	for (uint64 i = 0; i < list.n; i++)
		list.bad[i] = (BadItem){.item = items[i], .error = verdict};
	pp_settlement_on_commit(works, n, list.n, false);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	report_all(&list);
	ConditionVariableBroadcast(&lane->settled);
	RESUME_CANCEL_INTERRUPTS();
}

/* So many more works are to be tried alone. */
static void
be_careful(uint64 works)
{
	SpinLockAcquire(&lane->mutex);
	lane->careful += works;
	SpinLockRelease(&lane->mutex);
}

/*
 * Among the work's items is one that can't be had to fail under a savepoint: it
 * ended its worker, or the commit itself.  Find out which, and do without it.
 */
static PpOutcome
settle_deadly(PpWork *work, ErrorData *verdict)
{
	if (work->n == 1)
	{
		give_up(work, 1, verdict);
		return PP_SETTLED;
	}

	be_careful(work->n); /* its records come next, one by one */
	pp_settle_to_journal(work, 1);
	return PP_DIVIDED;
}

/*
 * The work can't be read.  What is in the journal is put aside, for a person to look
 * at; what is in the ring alone can't be.
 */
static PpOutcome
settle_damaged(PpWork *work, const ErrorData *error)
{
	MemoryContext caller = CurrentMemoryContext;
	uint64 items = Max(work->n, 1);
	PpJournals journals;

	if (work->nrows > 1 && !was_careful)
	{
		be_careful(work->nrows); /* its records come next, one by one, in a pass */
		pp_ring_move(&lane->ring, 0, GetCurrentTimestamp());
		return PP_DIVIDED;
	}

	HOLD_CANCEL_INTERRUPTS();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	pp_journals_open(claim->extension, RowExclusiveLock, &journals);
	pp_copied_put_damaged_aside(claim->extension, &journals, work->rows, work->nrows);
	pp_journals_close(&journals);
	PopActiveSnapshot();
	work->nitems = items;
	work->opened = work->bytes; /* what it holds of the journal */
	pp_settlement_on_commit(work, 1, items, false);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	ereport(
		WARNING,
		(errcode(ERRCODE_DATA_CORRUPTED),
		 errmsg_plural("%llu item, enqueued as number %llu, could not be read: %s",
					   "%llu items, enqueued as number %llu, could not be read: %s", items,
					   (unsigned long long) items, (unsigned long long) work->pos, error->message),
		 work->nrows > 0 ? errdetail("They are in the table \"persist_copied\" now.") : 0));
	ConditionVariableBroadcast(&lane->settled);
	RESUME_CANCEL_INTERRUPTS();
	return PP_SETTLED;
}

/* Nobody can insert their items.  NULL, or that one of the works can't be read either. */
static ErrorData *
settle_without_role(PpWork *works, int n, ErrorData *verdict)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData *volatile error = NULL;

	PG_TRY();
	{
		give_up(works, n, verdict);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_DATA_CORRUPTED)
			PG_RE_THROW();
		FlushErrorState();
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);

	return error;
}

static bool
role_exists(Oid role)
{
	MemoryContext caller = CurrentMemoryContext;
	bool exists;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	exists = SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role));
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);

	return exists;
}

/* Settle works of one role, in order. */
static PpOutcome
settle_role(PpWork *works, int n, bool failed_already, ErrorData **error)
{
	bool alone = pp_count_items(works, n) == 1;
	ErrorData *failure = NULL;
	PpOutcome outcome;
	bool damaged;

	if (!failed_already)
	{
		failure = try(works, n, all_at_once);
		if (failure == NULL)
			return PP_SETTLED;
		if (pp_is_transient(failure, alone))
		{
			*error = failure;
			return PP_TRANSIENT;
		}
	}

	failure = try(works, n, bisect);
	if (failure == NULL)
		return PP_SETTLED;
	if (gave_up || pp_is_transient(failure, false))
	{
		*error = failure;
		return PP_TRANSIENT;
	}

	/* the bad ones were left out: so it is the beginning that fails, or the commit */
	damaged = opening && failure->sqlerrcode == ERRCODE_DATA_CORRUPTED;
	if (!opening && !role_exists(works[0].role))
	{
		failure = settle_without_role(works, n, failure);
		if (failure == NULL)
			return PP_SETTLED;
		damaged = true;
	}
	if (n == 1)
		return damaged ? settle_damaged(&works[0], failure) : settle_deadly(&works[0], failure);
	outcome = settle_role(works, n / 2, true, error);
	if (outcome == PP_SETTLED)
		outcome = settle_role(works + n / 2, n - n / 2, true, error);
	return outcome;
}

/* The works of one role, in their order. */
static PpWork *
select_role(const PpWork *works, int n, Oid role, int *nselected)
{
	PpWork *selected = palloc_extended(n * sizeof(PpWork), MCXT_ALLOC_HUGE);

	*nselected = 0;
	for (int i = 0; i < n; i++)
	{
		if (works[i].role == role)
			selected[(*nselected)++] = works[i];
	}
	return selected;
}

/*
 * Settle works of several roles.  First a transaction for each role; what fails is
 * done again in the order of things, since one role's rows may need another's (a
 * foreign key).
 */
static PpOutcome
settle_roles(PpWork *works, int n, List *roles, ErrorData **error)
{
	List *again = NIL;
	PpOutcome outcome = PP_SETTLED;
	ListCell *cell;

	foreach (cell, roles)
	{
		int nselected;
		PpWork *selected = select_role(works, n, lfirst_oid(cell), &nselected);
		ErrorData *failure = try(selected, nselected, all_at_once);

		if (failure == NULL)
			continue;
		if (pp_is_transient(failure, pp_count_items(selected, nselected) == 1))
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
		Oid role = works[i].role;
		int end = i + 1;

		while (end < n && works[end].role == role)
			end++;
		if (list_member_oid(again, role))
			outcome = settle_role(works + i, end - i, true, error);
		if (outcome != PP_SETTLED)
			return outcome;
		i = end;
	}

	return PP_SETTLED;
}

/* Did this work, tried alone, end the worker before us?  And be less careful. */
static bool
ended_its_worker(const PpWork *work)
{
	bool ended;

	SpinLockAcquire(&lane->mutex);
	was_careful = lane->careful > 0;
	ended = lane->tried_works == 1 && lane->tried_items > 0 && lane->tried_pos == work->pos &&
			lane->tried_part == work->part;
	lane->tried_items = 0;
	if (lane->careful > 0)
		lane->careful--;
	SpinLockRelease(&lane->mutex);

	return ended;
}

/*
 * Settle the works: insert their items, or find out which can't be.  PP_DIVIDED: some
 * are not settled, and come again.  PP_TRANSIENT: they are not, for the reason that
 * *error tells; try again later.  Call it outside a transaction.
 */
PpOutcome
pp_settle(PpWork *works, int n, ErrorData **error)
{
	List *roles = NIL;

	if (ended_its_worker(&works[0]))
	{
		ErrorData *fatal = palloc0(sizeof(ErrorData));

		Assert(n == 1);
		fatal->sqlerrcode = ERRCODE_INTERNAL_ERROR;
		return settle_deadly(&works[0], fatal);
	}

	for (int i = 0; i < n; i++)
	{
		if (i == 0 || works[i].role != works[i - 1].role)
			roles = list_append_unique_oid(roles, works[i].role);
	}

	if (list_length(roles) == 1)
		return settle_role(works, n, false, error);
	return settle_roles(works, n, roles, error);
}
