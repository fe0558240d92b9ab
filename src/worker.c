/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  The process that empties one lane's ring; see worker.h.
 *
 * It sleeps without a timeout while the ring is empty.  It writes when the oldest
 * item is flush_interval old, when batch_size items wait, when the ring is half
 * full, or when persist_flush asks; and then until there is nothing to write.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "config.h"
#include "failure.h"
#include "history.h"
#include "identity.h"
#include "lease.h"
#include "shmem.h"
#include "worker.h"

#define CLOCK_MS 50	  /* how often a running statement is looked at */
#define GRACE_MS 1000 /* from its cancellation to the end of the process */
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 10000

static PpLane *lane;
static char *database_name;
static MemoryContext batch_context;
static uint32 wait_event;
static TimeoutId clock_timeout;

/* Of the stop.  Written by signal handlers. */
static volatile TimestampTz stop_requested_at = 0;

/* The ring to close at SIGTERM: ours, once we are its lane's worker */
static PpRing *volatile stop_closes = NULL;

static int failures = 0; /* transient ones in a row */

static void
request_stop(SIGNAL_ARGS)
{
	int save_errno = errno;

	if (stop_requested_at == 0)
		stop_requested_at = GetCurrentTimestamp();
	ShutdownRequestPending = true;
	if (stop_closes)
		pp_ring_close_at_once(stop_closes);
	SetLatch(MyLatch);
	errno = save_errno;
}

static bool
deadline_has_passed(int grace_ms)
{
	return stop_requested_at != 0 &&
		   TimestampDifferenceExceeds(stop_requested_at, GetCurrentTimestamp(),
									  pp_shutdown_timeout + grace_ms);
}

/* Cancel the statement; if its code catches that, end it with the process. */
static void
cut_off(PpCut why, bool for_good)
{
	if (pp_cut != PP_CUT_STOP)
		pp_cut = why;
	QueryCancelPending = true;
	if (for_good)
		ProcDiePending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

/*
 * Runs every CLOCK_MS while items are written, in a signal handler.  SIGTERM alone
 * doesn't end a statement (it should finish); this does, when the time is up.  And
 * it keeps statement_timeout, which code must not be able to change.
 */
static void
look_at_clock(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz start;

	if (deadline_has_passed(0))
		cut_off(PP_CUT_STOP, deadline_has_passed(GRACE_MS));

	if (pp_statement_timeout == 0 || !IsTransactionState())
		return;
	start = GetCurrentTransactionStartTimestamp();
	if (TimestampDifferenceExceeds(start, now, pp_statement_timeout))
		cut_off(PP_CUT_TIMEOUT,
				TimestampDifferenceExceeds(start, now, pp_statement_timeout + GRACE_MS));
}

/* Leave the lane, whatever ended this process. */
static void
detach(int code, Datum arg)
{
	if (pp_cut == PP_CUT_STOP)
		pp_settle_excuse(lane);

	SpinLockAcquire(&lane->mutex);
	lane->worker_pid = 0;
	lane->worker_latch = NULL;
	lane->worker_state = PP_WORKER_NONE;
	if (code == 0)
		lane->starts = 0;
	SpinLockRelease(&lane->mutex);

	/* from now on the next item calls the launcher, which looks for old ones too */
	(void) pp_ring_arm(&lane->ring, pp_ring_view(&lane->ring).published + 1, PG_UINT64_MAX);
	pp_launcher_wake();
	ConditionVariableBroadcast(&lane->settled);
}

/* Become the lane's worker; leave at once if it has one. */
static void
attach(void)
{
	bool taken;

	before_shmem_exit(detach, (Datum) 0);

	SpinLockAcquire(&lane->mutex);
	lane->starting = false;
	taken = lane->worker_pid != 0;
	if (!taken)
	{
		lane->worker_pid = MyProcPid;
		lane->worker_latch = MyLatch;
		lane->worker_state = PP_WORKER_WRITING;
	}
	SpinLockRelease(&lane->mutex);

	if (taken)
	{
		cancel_before_shmem_exit(detach, (Datum) 0);
		proc_exit(1); /* if this is the launcher, it has to be started again */
	}
	stop_closes = &lane->ring;
}

/* The sequence is read in a transaction of the superuser's own. */
static void
top_up_ids(void)
{
	if (!pp_lease_is_low(lane))
		return;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	pp_lease_top_up(lane);
	CommitTransactionCommand();
	MemoryContextSwitchTo(batch_context);
}

static void
start(int lane_number)
{
	char application[NAMEDATALEN];
	bool installed;

	lane = pp_lane(lane_number);
	pp_am_worker = true;
	pqsignal(SIGTERM, request_stop);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	attach();

	BackgroundWorkerInitializeConnectionByOid(pp_lane_database(lane), InvalidOid, 0);
	pp_identity_init();
	pp_settle_init(lane);
	clock_timeout = RegisterTimeout(USER_TIMEOUT, look_at_clock);
	wait_event = pp_wait_event("PersistPipelineWorker");
	batch_context =
		AllocSetContextCreate(TopMemoryContext, "persist_pipeline batch", ALLOCSET_DEFAULT_SIZES);

	StartTransactionCommand();
	database_name = MemoryContextStrdup(TopMemoryContext, get_database_name(MyDatabaseId));
	installed = OidIsValid(get_extension_oid("persist_pipeline", true));
	CommitTransactionCommand();
	MemoryContextSwitchTo(batch_context);

	snprintf(application, sizeof(application), "persist_pipeline worker");
	SetConfigOption("application_name", application, PGC_USERSET, PGC_S_OVERRIDE);
	pgstat_report_appname(application);

	if (!installed)
		ereport(FATAL,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"persist_pipeline\" does not exist in database \"%s\"",
						database_name),
				 errhint("Items that wait for it stay in the ring until it is created again.")));

	pp_ring_open(&lane->ring);
	ereport(LOG, (errmsg("persist_pipeline worker for database \"%s\" started", database_name)));
}

/* Between transactions there is nothing that a cancellation could mean. */
static void
check_interrupts(void)
{
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
}

/* Sleep until the latch is set, or for so many ms (-1: no limit). */
static void
nap(PpWorkerState state, long ms)
{
	pp_lane_set_state(lane, state);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (ms >= 0 ? WL_TIMEOUT : 0), ms,
					 wait_event);
	ResetLatch(MyLatch);
	check_interrupts();
}

static void
reload_settings(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

/* Nothing to do for now: let the statistics out, and sleep until called. */
static void
sleep_idle(PpRingView view)
{
	if (!pp_ring_arm(&lane->ring, view.published + 1, PG_UINT64_MAX))
		return;
	pgstat_report_activity(STATE_IDLE, NULL);
	pgstat_report_stat(true);
	nap(PP_WORKER_IDLE, -1);
}

/* The items of an entry that are not settled. */
static PpSpan
open_entry(uint64 at, PpEntry *entry)
{
	PpSpan span = {.at = at, .role = entry->role, .n = entry->items - entry->settled};
	const char *payload = pp_ring_contiguous(&lane->ring, at);
	uint64 offset = 0;

	if (payload == NULL)
	{
		char *copy = MemoryContextAllocHuge(batch_context, entry->length);

		pp_ring_read(&lane->ring, at, copy);
		payload = copy;
	}

	span.items = MemoryContextAllocHuge(batch_context, span.n * sizeof(PpItem *));
	for (uint32 i = 0; i < entry->items; i++)
	{
		const PpItem *item = (const PpItem *) (payload + offset);

		if (!pp_item_is_sound(item, entry->length - offset))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("an item in the ring of database \"%s\" is damaged", database_name)));
		if (i >= entry->settled)
			span.items[i - entry->settled] = item;
		offset += item->size;
	}

	return span;
}

/*
 * Take entries from the head, all those of a transaction, until there are
 * batch_size items; a single item where care is needed.
 */
static PpSpan *
take(PpRingView view, int *nspans, uint64 *nitems)
{
	int max = 64;
	PpSpan *spans = palloc(max * sizeof(PpSpan));
	uint64 at = view.head;
	PpEntry *entry;
	bool careful = pp_settle_carefully(lane, view.head);
	uint64 outstanding = 0; /* entries of transactions that have begun here */

	*nspans = 0;
	*nitems = 0;
	while ((*nitems < (uint64) pp_batch_size || outstanding > 0) &&
		   (entry = pp_ring_take(&lane->ring, at, view.tail)) != NULL)
	{
		if (entry->part == 0)
			outstanding += entry->parts - 1;
		else if (outstanding > 0)
			outstanding--;

		if (entry->settled < entry->items)
		{
			if (*nspans == max)
			{
				max *= 2;
				spans = repalloc_huge(spans, max * sizeof(PpSpan));
			}
			spans[*nspans] = open_entry(at, entry);
			if (careful)
				spans[*nspans].n = 1;
			*nitems += spans[*nspans].n;
			(*nspans)++;
		}
		if (careful && *nspans > 0)
			break;
		at += entry->bytes;
	}

	return spans;
}

/* A transient error: say so once, and wait, longer each time. */
static void
back_off(const ErrorData *error)
{
	long ms = Min(RETRY_MAX_MS, RETRY_MIN_MS << Min(failures, 10));
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
	long left;

	if (failures++ == 0 && pp_cut != PP_CUT_STOP)
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("persist_pipeline worker for database \"%s\" will try again: SQLSTATE %s",
						database_name, unpack_sql_state(error->sqlerrcode)),
				 errdetail("Its items stay in the ring.")));

	while ((left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until)) > 0)
	{
		/* a stop may have ended who was in the way, and there is little time */
		if (ShutdownRequestPending)
			left = Min(left, CLOCK_MS);
		nap(ShutdownRequestPending ? PP_WORKER_STOPPING : PP_WORKER_RETRYING, left);
		if (ShutdownRequestPending)
			break;
	}
}

/*
 * Settle up to batch_size items from the head.  False: there was none to take,
 * since a producer is still copying the first one.
 */
static bool
write_batch(PpRingView view)
{
	ErrorData *error = NULL;
	int nspans;
	uint64 nitems;
	PpSpan *spans;
	PpOutcome outcome = PP_SETTLED;

	MemoryContextReset(batch_context);
	MemoryContextSwitchTo(batch_context);
	spans = take(view, &nspans, &nitems);
	if (nspans == 0)
		return false;

	pp_lane_set_state(lane, ShutdownRequestPending ? PP_WORKER_STOPPING : PP_WORKER_WRITING);
	pgstat_report_activity(STATE_RUNNING, "writing a batch");
	enable_timeout_every(clock_timeout,
						 TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CLOCK_MS), CLOCK_MS);
	outcome = pp_settle(lane, spans, nspans, &error);
	disable_timeout(clock_timeout, false);
	pgstat_report_stat(false);

	if (outcome == PP_TRANSIENT)
		back_off(error);
	else
	{
		failures = 0;
		SpinLockAcquire(&lane->mutex);
		lane->starts = 0; /* this worker works */
		SpinLockRelease(&lane->mutex);
	}

	return true;
}

/* Does anything ask for a batch right now?  Else how many ms to wait for it. */
static bool
is_due(PpRingView view, long *ms)
{
	TimestampTz oldest;
	uint64 flush_to;

	SpinLockAcquire(&lane->mutex);
	flush_to = lane->flush_to;
	SpinLockRelease(&lane->mutex);

	oldest = pp_ring_entry(&lane->ring, view.head)->published_at;
	*ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
										  TimestampTzPlusMilliseconds(oldest, pp_flush_interval));

	return *ms <= 0 || view.head < flush_to ||
		   view.published - view.settled >= (uint64) pp_batch_size ||
		   view.tail - view.head >= lane->ring.size / 2;
}

/* One turn of the loop: write what is due, or sleep until something may be. */
static void
take_turn(void)
{
	PpRingView view = pp_ring_view(&lane->ring);
	long ms;

	if (view.head == view.tail)
		sleep_idle(view);
	else if (!is_due(view, &ms))
	{
		if (pp_ring_arm(&lane->ring, view.settled + pp_batch_size, view.head + lane->ring.size / 2))
			nap(PP_WORKER_GATHERING, ms);
	}
	else if (!write_batch(view))
	{
		if (pp_ring_arm(&lane->ring, view.published + 1, PG_UINT64_MAX))
			nap(PP_WORKER_GATHERING, -1);
	}
}

static void
log_stop(const PpStop *report, uint64 reserved)
{
	if (!report->forced)
		ereport(LOG,
				(errmsg("persist_pipeline worker for database \"%s\" stopped: %.3f s, "
						"%llu items drained, none left",
						database_name, report->seconds, (unsigned long long) report->drained)));
	else
		ereport(
			WARNING,
			(errmsg("persist_pipeline worker for database \"%s\" was forced to stop: %.3f s, "
					"%llu items drained, %llu left, %llu bytes in commit",
					database_name, report->seconds, (unsigned long long) report->drained,
					(unsigned long long) report->remaining, (unsigned long long) reserved),
			 errdetail("Items that are left stay in the ring; they are lost if the server stops."),
			 errhint("Increase \"persist_pipeline.shutdown_timeout\".")));
}

/*
 * The way out: nobody gets in any more, those in commit come through, what is
 * there is written, as far as the time allows.
 */
static void
stop(void)
{
	PpRingView view;
	uint64 settled_before;
	PpStop report;

	pp_lane_set_state(lane, PP_WORKER_STOPPING);
	pp_ring_close(&lane->ring);
	view = pp_ring_view(&lane->ring);
	settled_before = view.settled;

	while ((view.head < view.tail || view.reserved > 0) && !deadline_has_passed(0))
	{
		if (view.head == view.tail || !write_batch(view))
		{
			if (pp_ring_arm(&lane->ring, view.published + 1, PG_UINT64_MAX))
				nap(PP_WORKER_STOPPING, CLOCK_MS);
		}
		view = pp_ring_view(&lane->ring);
	}

	report.seconds = (GetCurrentTimestamp() - stop_requested_at) / 1e6;
	report.drained = view.settled - settled_before;
	report.remaining = view.published - view.settled;
	report.forced = view.head < view.tail || view.reserved > 0;
	pp_history_record(&report);
	pgstat_report_stat(true);
	log_stop(&report, view.reserved);
}

void
pp_worker_main(Datum lane_number)
{
	start(DatumGetInt32(lane_number));

	while (!ShutdownRequestPending)
	{
		check_interrupts();
		reload_settings();
		top_up_ids();
		take_turn();
	}

	stop();
	proc_exit(0);
}

/*
 * For the launcher: the server is stopping, the lane has items and no worker, and
 * the postmaster starts none any more.
 */
void
pp_worker_rescue(int lane_number)
{
	stop_requested_at = GetCurrentTimestamp();
	start(lane_number);
	stop();
	proc_exit(1); /* as the launcher does */
}
