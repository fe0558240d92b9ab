/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  Starts a worker for each slot that has work and none.
 *
 * Connected to the shared catalogs alone, asleep without a timeout, and in no transaction
 * then.  It is woken by the first item of a slot without a worker, by a worker that leaves,
 * and by the postmaster when a worker has started or ended.
 *
 * From pg_database it takes which databases are to be looked into (probe.h).  It waits for no
 * lock, so that nobody keeps it from starting workers.
 *
 * At most max_workers run.  When more slots have work, the one that has waited longest is next;
 * the workers see that (PpShmem.crowded), and leave when their turn is over (worker.c).
 *
 * Where databases wait for a slot, it asks the worker that has been idle for longest, and gives
 * back itself what is empty and has no worker (slots.h).
 *
 * A worker that fails before it has written anything is started again after a
 * second, then four, and so on up to a minute; one that left in good order, at
 * once.  If the server has no slot for another process, the log says so once, and
 * the launcher tries again, with pauses.
 *
 * A worker that runs code that can't be interrupted loses its place to another one; see
 * PpStuck.
 *
 * Beside its worker a slot has a retrier when something that is parked is to be tried.  Those
 * count for nothing in max_workers, since what they run may hang.  One that can't even be
 * ended is named in the log.
 *
 * When the server stops, the postmaster starts no process any more.  The workers save what is
 * in their rings, and without a worker a ring has nothing that is not journalled (ring.h).  The
 * launcher names those that can't be ended, and says what a worker that failed has left.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "storage/sinval.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/config.h"
#include "process/launcher.h"
#include "process/probe.h"
#include "process/process.h"
#include "process/worker.h"
#include "ring/databases.h"
#include "ring/slots.h"
#include "worker/hanging.h"

#define RESTART_MIN_MS 1000
#define RESTART_MAX_MS 60000
#define SLOT_MIN_MS 1000 /* from one look for a free slot to the next */
#define SLOT_MAX_MS 15000
#define EARLY_MS 1000	   /* for the workers to see the signal that we have seen */
#define STOP_GRACE_MS 1500 /* after shutdown_timeout, for workers to leave */
#define COMPLAINT_MS 60000 /* from one complaint that there is none to the next */

/* What we know of a slot's worker */
typedef struct Post
{
	BackgroundWorkerHandle *handle; /* registered, and not known to have ended */
	BackgroundWorkerHandle *retrier;
	PpSteady waiting_since;			/* 0: the slot doesn't need one */
	bool was_stopped;				/* its worker was told to stop, alone */
	pid_t named;					/* the worker that was named last, since it can't be ended */
	Oid database;					/* whose it was when it was looked at */
} Post;

static Post *posts; /* by slot */

static BackgroundWorkerHandle *probe; /* that looks into a database now */
static Oid probed;
static PpSteady probed_at;
static bool probed_last; /* and no worker was started since */

/* Of the server's slots */
static int refusals = 0; /* in a row */
static PpSteady refused_at = 0;
static bool complained = false; /* about that, and somebody still waits */
static PpSteady complained_at = 0;

static void
note_stop(SIGNAL_ARGS)
{
	int save_errno = errno;

	ShutdownRequestPending = true;
	pp_sleeper_wake_self();
	errno = save_errno;
}

/*
 * The server, too, says that a process has started or ended: that must not be lost when we wait
 * for something else, as for a page of pg_database (sleeper.h).
 */
static void
note_signal(SIGNAL_ARGS)
{
	procsignal_sigusr1_handler(PP_SIGNAL_ARGS);
	pp_sleeper_wake_self();
}

/* Before a nap, and after it; it is for as long as the server runs that we are connected. */
static void
serve_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
	ProcessCatchupInterrupt();
}

static void
forget_latch(int code, Datum arg)
{
	pp_sleeper_detach(&pp_shmem->launcher);
}

static void
forget_if_ended(BackgroundWorkerHandle **handle)
{
	pid_t pid;

	if (*handle && GetBackgroundWorkerPid(*handle, &pid) == BGWH_STOPPED)
	{
		pfree(*handle);
		*handle = NULL;
		refused_at = 0; /* so there is a slot */
	}
}

/* Has the slot a worker, or one that is being started? */
static bool
has_worker(PpSlot *slot, Post *post)
{
	bool attached;

	forget_if_ended(&post->handle);

	SpinLockAcquire(&slot->mutex);
	attached = slot->worker_pid != 0;
	SpinLockRelease(&slot->mutex);

	return attached || post->handle != NULL;
}

/*
 * Does the slot need a worker, and may it have one?  A worker that was told to stop
 * while the server goes on is replaced, work or not; until then items may come.
 */
static bool
needs_worker(PpSlot *slot, Post *post)
{
	PpRingView view = pp_ring_view(&slot->ring);
	bool wanted = pp_slot_is_wanted(slot);
	bool is_asked;
	bool paused;
	bool resumed;
	bool blocked;

	SpinLockAcquire(&slot->mutex);
	is_asked = pp_slot_awaits_pass(slot, &view);
	paused = slot->paused;
	resumed = slot->pause_changed; /* perhaps; who knows when to try is a worker */
	SpinLockRelease(&slot->mutex);
	LWLockAcquire(pp_shmem->lock, LW_SHARED);
	post->database = slot->database;
	blocked = slot->leave;
	LWLockRelease(pp_shmem->lock);

	if (view.closed)
	{
		pp_ring_open(&slot->ring);
		post->was_stopped = OidIsValid(post->database);
	}

	/* what is in commit calls us when it comes */
	return OidIsValid(post->database) && !blocked && !paused &&
		   (post->was_stopped || wanted || view.head < view.tail || view.diverted || view.pass ||
			is_asked || (resumed && pp_counters_any_parked(&slot->counters)));
}

/* How long to wait after so many starts in a row that came to nothing, in ms. */
static long
pause_of(PpSteady last_start, int starts)
{
	if (starts == 0)
		return 0;
	return pp_steady_ms_until(pp_steady_plus(
		last_start, Min(RESTART_MAX_MS, RESTART_MIN_MS << (2 * Min(starts - 1, 3)))));
}

/* How long the slot's next start has to wait, in ms. */
static long
restart_delay(PpSlot *slot)
{
	PpSteady last_start;
	int starts;

	SpinLockAcquire(&slot->mutex);
	last_start = slot->last_start;
	starts = slot->starts;
	SpinLockRelease(&slot->mutex);

	return pause_of(last_start, starts);
}

/* How long to wait until the server may have a slot again, in ms. */
static long
slot_delay(void)
{
	if (refusals == 0)
		return 0;
	return pp_steady_ms_until(
		pp_steady_plus(refused_at, Min(SLOT_MAX_MS, SLOT_MIN_MS << Min(refusals - 1, 4))));
}

static void
complain_of_start(void)
{
	if (complained)
		return;
	complained = true;
	complained_at = pp_steady_now();
	ereport(LOG,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg("no background worker slot is free for persist_pipeline"),
			 errdetail("Items wait in the ring, and parked ones where they are, until one is."),
			 errhint("Increase \"max_worker_processes\".")));
}

/* Have the server start a process of ours.  NULL: it has no slot. */
static BackgroundWorkerHandle *
start_process(const char *type, const char *function, int argument, Oid database)
{
	BackgroundWorker worker = {.bgw_flags = BGWORKER_SHMEM_ACCESS |
											BGWORKER_BACKEND_DATABASE_CONNECTION |
											PP_BGWORKER_INTERRUPTIBLE,
							   .bgw_start_time = BgWorkerStart_RecoveryFinished,
							   .bgw_restart_time = BGW_NEVER_RESTART,
							   .bgw_main_arg = Int32GetDatum(argument),
							   .bgw_notify_pid = MyProcPid};
	BackgroundWorkerHandle *handle;

	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "persist_pipeline");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "%s", function);
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "%s", type);
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "%s for database %u", type, database);
	memcpy(worker.bgw_extra, &database, sizeof(database));

	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		refused_at = pp_steady_now();
		refusals++;
		return NULL;
	}
	refusals = 0;
	return handle;
}

/* False: the server has no slot. */
static bool
start_worker(int number)
{
	PpSlot *slot = pp_shmem_slot(number);
	Post *post = &posts[number];
	PpSteady now = pp_steady_now();

	post->handle =
		start_process("persist_pipeline worker", "pp_worker_main", number, post->database);
	if (post->handle == NULL)
	{
		complain_of_start();
		return false;
	}

	probed_last = false;
	post->waiting_since = 0;
	post->was_stopped = false;
	SpinLockAcquire(&slot->mutex);
	slot->last_start = now;
	slot->starts++;
	SpinLockRelease(&slot->mutex);
	return true;
}

/*
 * Look into the next database, if one is left.  It takes milliseconds, so that it goes before the
 * workers; but what is tried again may lack what only a worker can free, so that the last place is
 * not for it twice while `others` are due.  Returns the ms until it can be tried again, or -1;
 * *waits: there is no room for it.
 */
static long
start_probe(int running, bool others, bool *waits)
{
	Oid database;
	bool again;
	long delay;

	*waits = false;
	if (probe)
		return -1;
	database = pp_probe_next(&delay);
	if (!OidIsValid(database))
		return delay;

	again = probed_at != 0 && database == probed; /* the last one didn't get anywhere */
	delay = again ? pp_steady_ms_until(pp_steady_plus(probed_at, RESTART_MIN_MS)) : 0;
	delay = Max(delay, slot_delay());
	if (delay > 0)
		return delay;
	if (refusals > 0 && others)
		return -1; /* the place is for a worker, and the log says so if there is none */
	if (again && probed_last && others)
		running++;
	if (running >= pp_config_max_workers)
	{
		*waits = true;
		return -1;
	}

	probed = database;
	probed_at = pp_steady_now();
	probe = start_process("persist_pipeline probe", "pp_probe_main", 0, database);
	probed_last = true;
	return probe ? -1 : Max(slot_delay(), 1);
}

/* Tell the workers whether others wait, so that they take turns. */
static void
set_crowded(bool crowded)
{
	bool was_crowded = pp_shmem->crowded;

	pp_shmem->crowded = crowded;
	if (!crowded || was_crowded)
		return;
	for (int number = 0; number < pp_config_max_databases; number++)
		(void) pp_sleeper_wake(&pp_shmem_slot(number)->worker_sleeper);
}

/* The sooner of two waits, of which -1 is none. */
static long
sooner(long a, long b)
{
	return a < 0 ? b : b < 0 ? a : Min(a, b);
}

/* How long until what is parked needs a retrier, in ms; -1: it doesn't, or it has one. */
static long
retry_delay(PpSlot *slot, Post *post)
{
	PpSteady retry_at;
	PpSteady last_start;
	int starts;
	bool paused;
	bool attached;

	forget_if_ended(&post->retrier);
	SpinLockAcquire(&slot->mutex);
	attached = slot->retrier.pid != 0;
	retry_at = slot->retry_at;
	last_start = slot->retrier.last_start;
	starts = slot->retrier.starts;
	paused = slot->paused;
	SpinLockRelease(&slot->mutex);
	if (attached || post->retrier || retry_at == PP_NEVER || paused ||
		!OidIsValid(post->database) || pp_database_is_blocked(post->database))
		return -1;
	return Max(Max(pp_steady_ms_until(retry_at), pause_of(last_start, starts)), slot_delay());
}

/* Start what is due of the slot; the ms until it is, or -1. */
static long
start_retrier(int number)
{
	PpSlot *slot = pp_shmem_slot(number);
	Post *post = &posts[number];
	long delay = retry_delay(slot, post);

	if (delay != 0)
		return delay;
	post->retrier =
		start_process("persist_pipeline retrier", "pp_retrier_main", number, post->database);
	if (post->retrier == NULL)
		complain_of_start();
	SpinLockAcquire(&slot->mutex);
	slot->retrier.refused = post->retrier == NULL;
	if (post->retrier)
	{
		slot->retrier.last_start = pp_steady_now();
		slot->retrier.starts++;
	}
	SpinLockRelease(&slot->mutex);
	if (post->retrier)
		return -1;
	ConditionVariableBroadcast(&slot->settled); /* who waits for it needn't */
	return Max(slot_delay(), 1);
}

static void
name_stuck_worker(pid_t pid, Oid database, Oid target, const char *hint)
{
	ereport(WARNING, (errmsg("persist_pipeline worker (PID %d) for database %u cannot be ended",
							 (int) pid, database),
					  OidIsValid(target)
						  ? errdetail("It has been inserting into relation %u, and runs code that "
									  "can't be interrupted.",
									  target)
						  : errdetail("It runs code that can't be interrupted."),
					  errhint("%s  The server can't stop before it has ended, but for an "
							  "immediate stop.",
							  hint)));
}

/*
 * A worker that can't be ended is named, once, and another one takes its place; what goes to
 * the target is the retrier's from now on.  `stopping`: none can be started.
 */
static void
replace_worker(int number, bool stopping)
{
	PpSlot *slot = pp_shmem_slot(number);
	Post *post = &posts[number];
	pid_t pid;
	Oid database;
	Oid target;

	if (pp_slot_replace_worker(slot, !stopping, &pid, &database, &target))
	{
		if (post->handle)
			pfree(post->handle);
		post->handle = NULL;
		if (OidIsValid(target))
			pp_hanging_note_outlived(database, target);
		name_stuck_worker(pid, database, target, "Another worker has taken its place.");
	}
	else if (pid != 0 && pid != post->named)
		name_stuck_worker(pid, database, target, "The items of the database wait for it.");
	post->named = pid;
}

/* The server stops: name those that keep it from that. */
static void
name_replaced(int number)
{
	PpSlot *slot = pp_shmem_slot(number);
	PpStuck stuck[PP_STUCK];

	SpinLockAcquire(&slot->mutex);
	memcpy(stuck, slot->stuck, sizeof(stuck));
	SpinLockRelease(&slot->mutex);
	for (int i = 0; i < PP_STUCK; i++)
	{
		if (stuck[i].pid != 0)
			name_stuck_worker(stuck[i].pid, stuck[i].database, InvalidOid,
							  "Another worker has taken its place.");
	}
}

/* Name a retrier that outlives its clock, once; `all`: or its time to stop. */
static void
name_overdue(int number, bool all)
{
	PpSlot *slot = pp_shmem_slot(number);
	Oid database = pp_slot_database(slot);
	PpRetrier retrier;

	SpinLockAcquire(&slot->mutex);
	retrier = slot->retrier;
	if (retrier.overdue && retrier.pid != 0)
		slot->retrier.state = PP_RETRIER_STUCK;
	SpinLockRelease(&slot->mutex);
	if (retrier.pid == 0 || (!all && (!retrier.overdue || retrier.state == PP_RETRIER_STUCK)))
		return;
	ereport(WARNING,
			(errmsg("persist_pipeline retrier (PID %d) for database %u cannot be ended",
					(int) retrier.pid, database),
			 errdetail("It has been inserting into relation %u for %lld s, and runs code that "
					   "can't be interrupted.",
					   retrier.target, (long long) (pp_steady_now() - retrier.since) / 1000000),
			 errhint("Only parked items wait for it.  The server can't stop before it has ended, "
					 "but for an immediate stop.")));
}

/* What a slot needs; returns the ms until its start is due, 0: now, -1: none is. */
static long
look_at(int number, int *running)
{
	PpSlot *slot = pp_shmem_slot(number);
	Post *post = &posts[number];
	long delay = -1;

	if (has_worker(slot, post))
		(*running)++;
	else if (needs_worker(slot, post))
		delay = restart_delay(slot);

	if (delay < 0)
		post->waiting_since = 0;
	else if (post->waiting_since == 0)
		post->waiting_since = pp_steady_now();
	return delay;
}

/*
 * The worker of the slot may have made way for others, with nothing left to do: then nobody
 * but us gives it back.  Returns the ms until it has been idle for long enough, or -1.
 */
static long
give_back_idle(PpSlot *slot, const Post *post)
{
	PpSteady idle_since;
	PpSteady retry_at;
	bool paused;
	bool attached;
	long ms;

	SpinLockAcquire(&slot->mutex);
	attached = slot->worker_pid != 0 || slot->retrier.pid != 0;
	idle_since = slot->idle_since;
	retry_at = slot->retry_at;
	paused = slot->paused;
	SpinLockRelease(&slot->mutex);
	if (pp_config_worker_idle_timeout == 0 || attached || post->handle || post->retrier || paused ||
		retry_at != PP_NEVER || !OidIsValid(post->database) ||
		pp_database_is_blocked(post->database) || pp_counters_any_parked(&slot->counters))
		return -1;
	ms = pp_steady_ms_until(pp_steady_plus(idle_since, pp_config_worker_idle_timeout));
	if (ms > 0)
		return ms;
	(void) pp_slot_give_back(slot, false);
	return -1;
}

/* The slot that has waited longest among those that are due, or -1. */
static int
next_in_line(const long *delays)
{
	int next = -1;

	for (int number = 0; number < pp_config_max_databases; number++)
	{
		if (delays[number] == 0 && posts[number].waiting_since != 0 &&
			(next < 0 || posts[number].waiting_since < posts[next].waiting_since))
			next = number;
	}
	return next;
}

/* Start what is due; returns the ms until the next start is, or -1. */
static long
start_workers(void)
{
	long *delays = palloc(pp_config_max_databases * sizeof(long));
	long next_start;
	int running;
	int number;
	bool probe_waits;
	bool had_probe;

	forget_if_ended(&probe);
	had_probe = probe != NULL;
	running = had_probe ? 1 : 0;
	next_start = pp_slots_serve();
	for (number = 0; number < pp_config_max_databases; number++)
	{
		name_overdue(number, false);
		replace_worker(number, false);
		delays[number] = look_at(number, &running);
		if (delays[number] > 0)
			next_start = sooner(next_start, delays[number]);
		else if (delays[number] < 0)
			next_start = sooner(next_start, give_back_idle(pp_shmem_slot(number), &posts[number]));
	}

	next_start = sooner(next_start, start_probe(running, next_in_line(delays) >= 0, &probe_waits));
	if (probe && !had_probe)
		running++;

	while ((number = next_in_line(delays)) >= 0 && running < pp_config_max_workers &&
		   slot_delay() <= 0 && start_worker(number))
		running++;

	/* workers first, where slots are few */
	for (int i = 0; i < pp_config_max_databases; i++)
		next_start = sooner(next_start, start_retrier(i));

	/* whoever makes room wakes us */
	set_crowded(number >= 0 || probe_waits);
	if (number < 0 && slot_delay() <= 0)
	{
		refusals = 0;
		if (pp_steady_has_lasted(complained_at, COMPLAINT_MS))
			complained = false;
	}
	else if (running < pp_config_max_workers)
		next_start = sooner(next_start, Max(slot_delay(), 1));

	pfree(delays);
	return next_start;
}

/*
 * Does a process of the slot still have to leave?  A worker that is told to stop closes its
 * ring; `early`: it may not have seen its signal yet.
 */
static bool
is_leaving(PpSlot *slot, bool early)
{
	PpRingView view = pp_ring_view(&slot->ring);
	bool has_worker;
	bool has_retrier;

	SpinLockAcquire(&slot->mutex);
	has_worker = slot->worker_pid != 0;
	has_retrier = slot->retrier.pid != 0;
	SpinLockRelease(&slot->mutex);
	return has_retrier || (has_worker && (view.closed || (early && view.head < view.tail)));
}

/* Say what a worker that failed has left in the ring alone, and nobody can save. */
static void
report_lost(PpSlot *slot)
{
	uint64 items;
	bool has_worker;

	SpinLockAcquire(&slot->mutex);
	has_worker = slot->worker_pid != 0;
	SpinLockRelease(&slot->mutex);
	items = has_worker ? 0 : pp_ring_volatile_items(&slot->ring);
	if (items > 0)
		ereport(WARNING,
				(errmsg("no persist_pipeline worker is left for database %u",
						pp_slot_database(slot)),
				 errdetail("%llu items stay in the ring; they are lost if the server stops.",
						   (unsigned long long) items)));
}

/* The server stops, or so it seems.  Workers and retriers wake us when they leave. */
static void
finish(uint32 wait_event)
{
	PpSteady early_until = pp_steady_in(EARLY_MS);
	PpSteady until = pp_steady_in((int64) pp_config_shutdown_timeout + STOP_GRACE_MS);

	for (;;)
	{
		PpSteady now = pp_steady_now();
		bool early = now < early_until;
		bool pending = false;

		for (int number = 0; number < pp_config_max_databases; number++)
		{
			replace_worker(number, true);
			pending |= is_leaving(pp_shmem_slot(number), early);
		}
		if (!pending || now >= until)
			break;
		serve_interrupts();
		(void) pp_sleeper_sleep(&pp_shmem->launcher,
								pp_steady_ms_until(early ? early_until : until), wait_event);
		serve_interrupts();
	}

	for (int number = 0; number < pp_config_max_databases; number++)
	{
		name_replaced(number);
		name_overdue(number, true);
		report_lost(pp_shmem_slot(number));
	}
}

void
pp_launcher_main(Datum unused)
{
	uint32 wait_event;

	pqsignal(SIGTERM, note_stop);
	pqsignal(SIGINT, PG_SIG_IGN); /* there is nothing to cancel */
	pqsignal(SIGHUP, pp_sleeper_handle_reload);
	pqsignal(SIGUSR1, note_signal);
	ConfigReloadPending = true; /* until now it was ignored */
	BackgroundWorkerUnblockSignals();

	wait_event = pp_wait_event("PersistPipelineLauncher");
	posts = MemoryContextAllocZero(TopMemoryContext, pp_config_max_databases * sizeof(Post));
	before_shmem_exit(forget_latch, (Datum) 0);
	pp_sleeper_attach(&pp_shmem->launcher);
	pp_process_connect(InvalidOid);
	pp_probe_all();

	while (!ShutdownRequestPending)
	{
		long ms = start_workers();

		serve_interrupts();
		(void) pp_sleeper_sleep(&pp_shmem->launcher, ms, wait_event);
		serve_interrupts();

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			pp_slots_doubt_pauses();
		}
	}

	finish(wait_event);

	/* not 0: the postmaster starts it again, unless the server is stopping */
	proc_exit(1);
}

/* Called while the library is preloaded. */
void
pp_launcher_register(void)
{
	BackgroundWorker worker = {.bgw_flags =
								   BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
							   .bgw_start_time = BgWorkerStart_RecoveryFinished,
							   .bgw_restart_time = 1};

	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "persist_pipeline");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "pp_launcher_main");
	snprintf(worker.bgw_type, sizeof(worker.bgw_type), "persist_pipeline launcher");
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "persist_pipeline launcher");
	RegisterBackgroundWorker(&worker);
}
