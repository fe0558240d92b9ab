/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  The one shared struct: a slot for each database in use, which is a ring,
 *	  the worker that empties it, and the ids that are leased for it.
 *
 * Locks, in the order in which they may be taken:
 *
 *	1 PpShmem.lock		LWLock: which slot is whose, and which databases are blocked
 *	2 a spinlock		of one of five kinds; no process ever holds two of them,
 *						nothing is called while one is held, and each is held for a
 *						few dozen instructions:
 *		PpShmem.mutex	settled_lsn, leases, hangers
 *		PpSlot.mutex	the fields of a slot that are listed under it
 *		PpRing.mutex	the ring (ring.h), what roles are charged with for it and the journal
 *						(quota.h), and what waits for each target (counters.h)
 *		PpQuota.own		of dead letters (quota.h)
 *		PpSleeper.mutex	whom to wake (sleeper.h)
 *
 * Who may write what, besides the locks:
 *	PpShmem.launcher			anyone who wakes it
 *	PpShmem.crowded			the launcher; anyone may read it without a lock
 *	PpShmem.slots_wanted		whoever wants a slot, or gives one away, under the lock; anyone may
 *								read it without
 *	PpShmem.probe				the launcher, its probes, and whoever wants one
 *	PpShmem.leases				anyone who leases ids (lease.h)
 *	PpShmem.known				whoever wants a slot, gets it or gives it back, and probes
 *	PpShmem.warned				who connects to a database (process.h)
 *	PpShmem.blocked, nblocked	whoever blocks a database (databases.h)
 *	PpSlot.database				whoever claims the slot or gives it back (slots.h)
 *	PpSlot.leave				whoever blocks its database; anyone may read it
 *								without a lock, a signal handler too
 *	PpSlot.worker_*, backs_off_*,
 *	  rate, expired_at,
 *	  has_batch, owes_earlier,
 *	  batch_parked_at,
 *	  parked_seq				the worker of the slot; worker_pid is 0 exactly while no
 *								worker is attached.  The launcher takes an overdue one out
 *	PpSlot.idle_since			the worker; the launcher, when it has asked it for its slot
 *	PpSlot.trouble				the worker and the retrier; a failure: also the launcher, when it
 *								replaces a worker; none: whoever drops the extension
 *	PpSlot.retired				the worker, without a lock; whoever drops the extension, under
 *								mutex, while the database is blocked and so has no worker
 *	PpSlot.discarded			under mutex: whoever drops the extension, with the items that are in
 *								the ring then; the worker, with those that come later
 *	PpSlot.in_commit			the worker; false: also the launcher, which takes its place
 *	PpSlot.overdue, _target		the worker's signal handler, without the lock; 0: the
 *								worker, and the launcher
 *	PpSlot.stuck				the launcher; a process takes itself out
 *	PpSlot.batches, written,
 *	  failed, metrics			the worker and the retrier
 *	PpSlot.retrier				its process, but for pause_changed (true: anyone), wanted (true: the
 *								launcher), state (STUCK: the launcher), and what is the launcher's,
 *								of which `starts` is also set to 0 by a retrier that has written
 *								something, leaves in good order, or can't attach, and by whoever
 *								alters or drops the extension; pid is 0 exactly while none is
 *								attached
 *	PpSlot.retries, nretries,
 *	  retries_done				the retrier; whoever drops the extension sets nretries to 0
 *	PpSlot.retry_at				the worker, persist_flush, and whoever has found parked items or
 *								doubts a pause: sooner; the launcher, when it replaces a worker in
 *								the middle of a batch: at once; the retrier; whoever drops the
 *								extension: PP_NEVER
 *	PpSlot.parked_from			the worker: lower; the launcher, when it replaces one: 0; the retrier
 *	PpSlot.waits_for_lock		the worker: true, or false where nothing is parked and no retrier is
 *								attached; the retrier
 *	PpSlot.worker_sleeper		anyone who wakes it
 *	PpSlot.wanted_until			whoever waits for the worker, or doesn't any more
 *	PpSlot.paused				the worker, the retrier; false: anyone who has reason to doubt it
 *	PpSlot.pause_changed		true: anyone, false: the worker
 *	PpSlot.starts, last_start	under mutex: the launcher, at each start; `starts` is set to 0 by a
 *								worker that has written something, leaves in good order, or can't
 *								attach; by the launcher, when it replaces a worker; and by whoever
 *								alters or drops the extension
 *	PpSlot.flush_to, _passes,
 *	  retries_asked				anyone, upwards only
 *	PpSlot.due					whoever has committed items: sooner, unless all that it was about is
 *								written
 *	PpSlot.due_to				the same, upwards only
 *	PpSlot.letters				anyone who writes a dead letter, or has counted them
 *	PpSlot.ids, spare_ids,
 *	  ids_of					anyone, see lease.h
 * Of these worker_since and trouble are only for people to see: persist_queue shows them.
 *
 * Whoever assigns a free slot to a database sets all that the last one has left there to what it
 * is at the beginning (slots.c assign), under PpShmem.lock.  No process is attached to the slot at
 * that moment: as long as one is attached the slot keeps its database, and a worker that gives its
 * slot back is detached by that (slots.h).
 *
 * A latch that was read here may belong to another process by the time it is set.  That is
 * harmless: every process has to cope with a latch that is set for no reason.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SHMEM_H
#define PP_SHMEM_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "storage/block.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#include "base/steady.h"
#include "ring/counters.h"
#include "ring/metrics.h"
#include "ring/quota.h"
#include "ring/ring.h"
#include "ring/sleeper.h"

typedef enum PpWorkerState
{
	PP_WORKER_NONE,		 /* no worker attached */
	PP_WORKER_IDLE,		 /* nothing to do, sleeps without a timeout */
	PP_WORKER_GATHERING, /* waits for more items */
	PP_WORKER_WRITING,	 /* a transaction is open */
	PP_WORKER_RETRYING,	 /* waits to try again after an error; its items wait, too */
	PP_WORKER_STOPPING	 /* was told to stop, drains */
} PpWorkerState;

/* Ids [next, end) that nobody has used */
typedef struct PpIdRange
{
	int64 next;
	int64 end;
} PpIdRange;

/* A journal that is not written to any more, on its way to be emptied */
typedef struct PpRetired
{
	TransactionId applied_at; /* all its rows were deleted before this one */
	PpSteady since;			  /* 0: it isn't retired */
	BlockNumber from;		  /* until there all rows have been deleted */
} PpRetired;

#define PP_JOURNALS 3

/*
 * A process that was the slot's worker, and runs code that can't be interrupted, so that the
 * launcher has given its place to another one.  It can't commit what it has begun; it ends as
 * soon as that code returns.
 */
typedef struct PpStuck
{
	pid_t pid; /* 0: unused */
	Oid database;
} PpStuck;

#define PP_STUCK 2 /* if all are used, the next worker that hangs is not replaced */

#define PP_FAILURES 3

/* What has gone wrong in a database: it goes with it from one slot to the next */
typedef struct PpTrouble
{
	/* of the last error by which items died or were parked, or a process had to wait or to end */
	int sqlstate; /* 0: there was none */
	PpSteady error_at;
	/* how often a worker has failed: it was ended by an error, or lost its place to another one */
	uint64 failures;
	PpSteady failed_at[PP_FAILURES]; /* the last ones, latest first; 0: none */
} PpTrouble;

/*
 * When to try parked items again: written by a retrier when it leaves or begins a try, read by
 * the next one
 */
typedef struct PpRetry
{
	Oid target;
	Oid role;
	int failures;
	int sqlstate;
	PpSteady tried_at;
	PpSteady retry_at;
	PpSteady believed_since;
} PpRetry;

#define PP_RETRIES 64

typedef enum PpRetrierState
{
	PP_RETRIER_NONE,	/* no retrier attached */
	PP_RETRIER_WAITING, /* until the next try is due */
	PP_RETRIER_WRITING, /* it tries something */
	PP_RETRIER_STUCK	/* its time for that is over, and it can't be ended */
} PpRetrierState;

/* The process that tries what is parked (retrier.h) */
typedef struct PpRetrier
{
	pid_t pid;
	Oid database; /* that it is connected to */
	PpRetrierState state;
	PpSteady since;		/* it is in that state */
	Oid target;			/* at work; InvalidOid: none */
	/*
	 * the launcher wants its slot for another database, and clears this when the retrier has left
	 */
	bool wanted;
	/* it has just written parked items of a target that new ones still follow */
	bool landing;
	bool pause_changed; /* the same as the slot's, for the retrier */
	/* set by its signal handler: its code can't be ended; cleared when its state changes */
	bool overdue;

	/* the launcher's */
	bool refused; /* the server had no background worker slot for it */
	/*
	 * starts in a row after which nothing was written; the retrier sets it to 0 when it has
	 * written
	 */
	int starts;
	PpSteady last_start;

	PpSleeper sleeper;
} PpRetrier;

typedef struct PpSlot
{
	Oid database; /* InvalidOid: free; under PpShmem.lock */
	bool leave;	  /* its database is blocked; written under PpShmem.lock */

	slock_t mutex;
	pid_t worker_pid;
	Oid worker_database; /* that it is connected to */
	PpWorkerState worker_state;
	PpSteady worker_since; /* it is in that state */
	PpTrouble trouble;
	PpSteady wanted_until; /* somebody waits for a worker to be there; 0: nobody */
	bool paused;		/* a worker or retrier has found its database paused */
	bool pause_changed; /* that may have changed: the worker has to look again */
	int starts;			/* starts of a worker in a row after which it wrote nothing */
	PpSteady last_start;
	uint64 flush_passes; /* where a pass is due: write without delay until so many have ended */
	uint64 flush_to;	 /* write without delay up to this ring position */
	PpSteady due;		 /* begin a batch by then, ... */
	uint64 due_to;		 /* as long as it has not been written up to this ring position */
	uint64 batches;		 /* transactions that settled items */
	uint64 written;		 /* items that are in their tables */
	uint64 failed;		 /* items that could not be inserted */
	PpMetrics metrics;
	uint64 discarded;	 /* items that were in the ring when their extension was dropped */
	PpRetired retired[PP_JOURNALS];
	PpSteady idle_since; /* since when the worker has had nothing to do, or there is none */
	Oid ids_of;			 /* the installation that the ranges below are of */
	PpIdRange ids;
	PpIdRange spare_ids; /* follows `ids`, fetched ahead of time */

	bool in_commit;		/* the worker is about to commit: the launcher doesn't replace it now */
	/* the worker's pid, set by its signal handler: its code can't be ended ... */
	pid_t overdue;
	Oid overdue_target; /* ... the target whose code that is; InvalidOid: not known */
	PpStuck stuck[PP_STUCK]; /* workers that have been replaced */

	int backs_off_sqlstate; /* why the worker backs off; 0: it doesn't */
	Oid backs_off_target;	/* where; InvalidOid: no matter where */
	double rate;		/* items per second that it has written of late */

	/* between the worker, which parks, and the retrier (parking.h) */
	bool has_batch;			 /* one is at work */
	/* parked_at of all items that this batch has parked; 0: it has parked none */
	TimestampTz batch_parked_at;
	/* items that come before parked ones may still be unwritten (parking.h) */
	bool owes_earlier;
	uint64 parked_seq;		 /* counts the batches that have parked something */
	uint64 parked_from;		 /* lowest commit position that was parked since the retrier looked */
	bool waits_for_lock;	 /* something that is parked waits for a lock */

	PpRetrier retrier;
	PpSteady retry_at; /* when parked items are to be tried; PP_NEVER: not until somebody asks */
	/* counts requests by persist_flush to try all that is parked, also what waits for a lock ... */
	uint64 retries_asked;
	uint64 retries_done;  /* ... and how many of them have been done */
	int nretries;		  /* entries of `retries`, for the next retrier */
	PpRetry retries[PP_RETRIES];
	PpSteady expired_at; /* when the worker last looked for dead letters that are too old */

	PpSleeper worker_sleeper;

	PpQuota quota; /* what roles hold, under the ring's mutex (quota.h) */
	PpQuota letters; /* dead letters of each role; it may say too much (quota.h) */
	PpCounters counters; /* what waits for each target, under the ring's mutex (counters.h) */

	ConditionVariable settled; /* broadcast after items are settled */

	PpRing ring; /* last: its data follow */
} PpSlot;

/* The round of the probes, which look into one database after the other (probe.h) */
typedef struct PpProbe
{
	bool round;		  /* all are, in the order of their OIDs ... */
	Oid after;		  /* ... those behind this one are left ... */
	bool again;		  /* ... and when they are through, all once more, ... */
	PpSteady again_at; /* ... not before that: a process has failed; 0: at once */
	int failures;	  /* of processes, since all databases were looked into */
	bool passed_over; /* one, since it was blocked: all once more when a block has ended */
	Oid database;	  /* the next one, of a round or by itself; InvalidOid: none, so far */
	pid_t pid;		  /* of the process that looks; 0: none */
	Oid connected_to; /* that it is connected to */
} PpProbe;

typedef enum PpRangeKind
{
	PP_RANGE_IDS,
	PP_RANGE_SPARE_IDS,
	PP_RANGE_POSITIONS,
	PP_RANGES
} PpRangeKind;

/* All ids of an installation below that have been leased (lease.h) */
typedef struct PpLease
{
	Oid database; /* InvalidOid: unused */
	Oid extension;
	int64 leased;
	PpIdRange left[PP_RANGES]; /* ids that a slot has left over when it was given back ... */
	int64 left_at;			   /* ... which may be used as long as `leased` is still this */
	/* when it was last used, as a count: if all entries are used, the oldest is replaced */
	uint64 used;
} PpLease;

#define PP_LEASES 128

/*
 * A target whose INSERT has hung: because it goes to another server, or so that the worker had to
 * be ended.  The worker parks its items without a try, until the retrier has written to it often
 * enough.
 */
typedef struct PpHanger
{
	Oid database; /* InvalidOid: unused */
	Oid target;
	/* it goes to another server; false: its code did not end when it was cancelled */
	bool elsewhere;
	int written;	/* how often in a row the retrier has written to it since */
} PpHanger;

#define PP_HANGERS 64 /* if all are used, the first one is forgotten */

/* What is known of a database with the extension after it has given its slot back (databases.h) */
typedef struct PpDatabase
{
	Oid database; /* InvalidOid: unused */
	bool paused;
	bool waits;		/* it has items that no slot has counted */
	PpSteady wanted_at; /* when it begins or began to wait for a slot; 0: it doesn't wait */
	uint64 parked;	/* items */
	uint64 written; /* as in PpSlot */
	uint64 failed;
	uint64 batches;
	PpSteady parked_since; /* of what is parked, the oldest */
	PpTrouble trouble;
	uint64 enqueued;	   /* as in PpRing */
	PpMetrics metrics;
} PpDatabase;

/* if there are more databases, some are not known while they have no slot; a test has that */
#ifdef PP_FAULTS
#define PP_DATABASES 4
#else
#define PP_DATABASES 128
#endif
#define PP_WARNED 256

typedef struct PpShmem
{
	LWLock *lock;

	slock_t mutex;
	XLogRecPtr settled_lsn; /* end of the last commit that settled items */
	uint64 leases_used;
	PpLease leases[PP_LEASES];
	uint32 nhangers; /* how often one has been noted; may be compared with 0 without the mutex */
	PpHanger hangers[PP_HANGERS];

	PpSleeper launcher;

	bool crowded; /* more slots have work than there may be workers: workers take turns */

	PpProbe probe; /* under lock */
	PpDatabase known[PP_DATABASES]; /* under lock */
	bool slots_wanted;		 /* a database waits for a slot now */
	ConditionVariable served; /* broadcast when a database that waited has got a slot */

	Oid warned[PP_WARNED]; /* databases whose start-up warnings have been told; under lock */
	uint32 nwarned;

	/*
	 * Databases whose workers have to stay out, once for each backend that holds
	 * one.
	 */
	int nblocked;
	/* pp_shmem_max_blocked(); then the slots, aligned for their rings */
	Oid blocked[FLEXIBLE_ARRAY_MEMBER];
} PpShmem;

extern PpShmem *pp_shmem;   /* NULL: the library was not preloaded */
extern bool pp_shmem_am_worker; /* this process is the worker of a slot, or its retrier ... */
extern bool pp_shmem_am_retrier; /* ... that one */

extern void pp_shmem_init(void);
extern int pp_shmem_max_blocked(void);

extern uint64 pp_shmem_item_limit(uint64 ring_size);
extern PpSlot *pp_shmem_slot(int number);
extern PpSlot *pp_shmem_slot_of(Oid database);
extern void pp_shmem_wake_worker(PpSlot *slot);
extern void pp_shmem_set_worker_state_locked(PpSlot *slot, PpWorkerState state);
extern void pp_shmem_set_worker_state(PpSlot *slot, PpWorkerState state);
extern void pp_shmem_note_error_locked(PpSlot *slot, int sqlstate);
extern void pp_shmem_count_error_locked(PpSlot *slot, int sqlstate);
extern void pp_shmem_note_failure_locked(PpSlot *slot);
extern void pp_shmem_flush_settled(void);
extern void pp_shmem_wake_retrier(PpSlot *slot);
extern void pp_shmem_call_retrier(PpSlot *slot);
extern void pp_shmem_set_retrier_state(PpSlot *slot, PpRetrierState state, Oid target);

extern PpLease *pp_shmem_find_lease(Oid database, Oid extension);
extern void pp_shmem_wake_launcher(void);

#endif /* PP_SHMEM_H */
