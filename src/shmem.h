/*-------------------------------------------------------------------------
 *
 * shmem.h
 *	  The one shared struct: a lane for each database in use, which is a ring,
 *	  the worker that empties it, and the ids that are leased for it.
 *
 * Locks, in the order in which they may be taken:
 *
 *	1 PpShared.lock		LWLock: which lane is whose, and which databases are held
 *	2 a spinlock		of one of six kinds; no process ever holds two of them,
 *						nothing is called while one is held, and each is held for a
 *						few dozen instructions:
 *		PpShared.mutex	settled_lsn, leases, hangers
 *		PpLane.mutex	the fields of a lane that are listed under it
 *		PpRing.mutex	the ring (ring.h)
 *		PpQuota.mutex	what roles hold of ring and journal, and of dead letters (quota.h)
 *		PpTally.mutex	what waits for each target (tally.h)
 *		PpSleeper.mutex	whom to wake (nap.h)
 *
 * Who may write what, besides the locks:
 *	PpShared.launcher			anyone who wakes it
 *	PpShared.crowded			the launcher; anyone may read it without a lock
 *	PpShared.lanes_wanted		whoever wants a lane, or gives one away, under the lock; anyone may
 *								read it without
 *	PpShared.probe				the launcher, its probes, and whoever wants one
 *	PpShared.leases				anyone who leases ids (lease.h)
 *	PpShared.known				whoever wants a lane, gets it or gives it back, and probes
 *	PpShared.warned				who connects to a database (connect.h)
 *	PpShared.holds				whoever holds a database (hold.h)
 *	PpLane.database				whoever claims the lane or gives it back (lane.h)
 *	PpLane.leave				whoever holds its database; anyone may read it
 *								without a lock, a signal handler too
 *	PpLane.worker_*, retired,
 *	  idle_since,
 *	  stuck_*, rate, expired_at,
 *	  has_batch, owes_earlier,
 *	  batch_parked_at,
 *	  parked_seq				the worker of the lane; worker_pid is 0 exactly while no
 *								worker is attached.  The launcher takes an overdue one out
 *	PpLane.commits				the worker; false: also the launcher, which takes its place
 *	PpLane.overdue, _target		the worker's signal handler, without the lock; 0: the
 *								worker, and the launcher
 *	PpLane.stuck				the launcher; a process takes itself out
 *	PpLane.batches, written,
 *	  failed					the worker and the retrier
 *	PpLane.retrier				its process, but for pause_changed (true: anyone), wanted (true: the
 *								launcher), and what is the launcher's; pid is 0 exactly while none is attached
 *	PpLane.retries,
 *	  retries_done				the retrier
 *	PpLane.retry_at, parked_from,
 *	  waits_for_lock			the worker makes it sooner, lower, true; the retrier sets it
 *	PpLane.worker				anyone who wakes it
 *	PpLane.wanted_until			whoever waits for the worker, or doesn't any more
 *	PpLane.paused				the worker, the retrier; false: anyone who has reason to doubt it
 *	PpLane.pause_changed		true: anyone, false: the worker
 *	PpLane.starts, last_start	the launcher; the worker that has shown that it
 *								works sets `starts` to 0
 *	PpLane.flush_to, _passes,
 *	  retries_asked				anyone, upwards only
 *	PpLane.letters				anyone who writes a dead letter, or has counted them
 *	PpLane.ids, spare_ids		anyone, see lease.h
 * A lane that changes hands has its counters, ids and starts set to 0 by whoever
 * claims it, or gives it to a database that waits, under PpShared.lock.  No process is attached
 * to it then: who is keeps its lane, and a worker that gives it back detaches by that (lane.h).
 *
 * A latch that was read here may belong to another process by the time it is
 * set; every process has to bear a latch set for no reason, so that is harmless.
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

#include "nap.h"
#include "quota.h"
#include "ring.h"
#include "steady.h"
#include "tally.h"

typedef enum PpWorkerState
{
	PP_WORKER_NONE,		 /* no worker attached */
	PP_WORKER_IDLE,		 /* nothing to do, sleeps without a timeout */
	PP_WORKER_GATHERING, /* waits for flush_interval or batch_size */
	PP_WORKER_WRITING,	 /* a transaction is open */
	PP_WORKER_RETRYING,	 /* waits to try again: parked items, or after an error */
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
 * A process that was the lane's worker, until another took its place, since it runs code that
 * can't be interrupted.  It can't commit what it has begun, and ends when its code does.
 */
typedef struct PpStuck
{
	pid_t pid; /* 0: unused */
	Oid database;
} PpStuck;

#define PP_STUCK 2 /* with as many, the next one keeps its place */

/* When to try parked items again, as the last retrier knew when it left, or began a try */
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
	PP_RETRIER_STUCK	/* that has outlived its clock, and can't be ended */
} PpRetrierState;

/* The process that tries what is parked (retrier.h) */
typedef struct PpRetrier
{
	pid_t pid;
	Oid database; /* that it is connected to */
	PpRetrierState state;
	PpSteady since;		/* it is in that state */
	Oid target;			/* at work; InvalidOid: none */
	bool wanted;		/* its lane is, by another database: by the launcher, until it has left */
	bool landing;		/* what follows parked items keeps a target parked that isn't any more */
	bool pause_changed; /* as of the worker */
	bool overdue;		/* by a signal handler: its code can't be ended; until it is seen to be at something else */

	/* the launcher's */
	bool refused; /* the server had no slot for it */
	int starts;	  /* in a row that came to nothing; 0: also the retrier, when it works */
	PpSteady last_start;

	PpSleeper sleeper;
} PpRetrier;

typedef struct PpLane
{
	Oid database; /* InvalidOid: free; under PpShared.lock */
	bool leave;	  /* its database is held; written under PpShared.lock */

	slock_t mutex;
	pid_t worker_pid;
	Oid worker_database; /* that it is connected to */
	PpWorkerState worker_state;
	PpSteady wanted_until; /* somebody waits for a worker to be there; 0: nobody */
	bool paused;		/* a worker has found its database paused */
	bool pause_changed; /* ... or not, but that may have changed: look again */
	int starts;			/* in a row that came to nothing */
	PpSteady last_start;
	uint64 flush_passes; /* the same, until so many passes have ended */
	uint64 flush_to;	 /* write without delay up to this ring position */
	uint64 batches;		 /* transactions that settled items */
	uint64 written;		 /* items that are in their tables */
	uint64 failed;		 /* items that could not be inserted */
	uint64 discarded;	 /* items that went with their extension */
	PpRetired retired[PP_JOURNALS];
	PpSteady idle_since; /* when the worker last found nothing to do, or left */
	Oid ids_of;			 /* the installation that the ranges below are of */
	PpIdRange ids;
	PpIdRange spare_ids; /* follows `ids`, fetched ahead of time */

	bool commits;		/* the worker settles items: from here on nobody takes its place */
	pid_t overdue;		/* by its signal handler: its code can't be ended ... */
	Oid overdue_target; /* ... that this one runs; InvalidOid: not known */
	PpStuck stuck[PP_STUCK];

	int stuck_sqlstate; /* why the worker backs off; 0: it doesn't */
	Oid stuck_target;	/* where; InvalidOid: no matter where */
	double rate;		/* items per second that it has written of late */

	/* between the worker, which parks, and the retrier (parking.h) */
	bool has_batch;			 /* one is at work */
	TimestampTz batch_parked_at; /* of all that it has parked; 0: nothing, so far */
	bool owes_earlier;		 /* what belongs before parked items may still come */
	uint64 parked_seq;		 /* batches that have parked something */
	uint64 parked_from;		 /* nothing below has been since the retrier looked */
	bool waits_for_lock;	 /* something that is parked */

	PpRetrier retrier;
	PpSteady retry_at; /* parked items are to be tried; PP_NEVER: when somebody says so */
	uint64 retries_asked; /* by persist_flush: those that wait for a lock, too ... */
	uint64 retries_done;  /* ... and what was due then has been tried */
	int nretries;		  /* so many are known: the next retrier's */
	PpRetry retries[PP_RETRIES];
	PpSteady expired_at; /* when the worker has looked for those that are too old */

	PpSleeper worker;

	PpQuota quota; /* what roles hold, under a mutex of its own (quota.h) */
	PpQuota letters; /* dead letters that there are of roles, or more */
	PpTally tally; /* what waits for each target, under a mutex of its own (tally.h) */

	ConditionVariable settled; /* broadcast after items are settled */

	PpRing ring; /* last: its data follow */
} PpLane;

/* Databases that are looked into, one after the other (probe.h) */
typedef struct PpProbe
{
	bool round;		  /* all are, in the order of their OIDs ... */
	Oid after;		  /* ... those behind this one are left ... */
	bool again;		  /* ... and when they are through, all once more */
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
	PpIdRange left[PP_RANGES]; /* by a lane that was given back ... */
	int64 left_at;			   /* ... and good as long as `leased` is that */
	uint64 used;			   /* the one that was used longest ago makes way for another */
} PpLease;

#define PP_LEASES 128

/*
 * A target that has been seen to hang, since it goes to another server, or so that the worker
 * had to be ended: its items are parked without a try, until the retrier has written some often
 * enough.
 */
typedef struct PpHanger
{
	Oid database; /* InvalidOid: unused */
	Oid target;
	bool elsewhere; /* if not, its code has outlived its cancellation */
	int written;	/* so often in a row, by now */
} PpHanger;

#define PP_HANGERS 64 /* with more of them the first one is tried again */

/* A database with the extension, as the lanes that it had have left it (lane.h) */
typedef struct PpKnown
{
	Oid database; /* InvalidOid: unused */
	bool paused;
	bool waits;		/* something that no lane has counted */
	PpSteady wanted_at; /* it has no lane, and from then on waits for one; 0: it doesn't */
	uint64 parked;	/* items */
	uint64 written; /* as in PpLane */
	uint64 failed;
	uint64 batches;
} PpKnown;

#define PP_KNOWN 128 /* there may be more databases: then some aren't known without a lane */
#define PP_WARNED 256

typedef struct PpShared
{
	LWLock *lock;

	slock_t mutex;
	XLogRecPtr settled_lsn; /* end of the last commit that settled items */
	uint64 leases_used;
	PpLease leases[PP_LEASES];
	uint32 nhangers; /* so often has one been noted; 0 may be read without the mutex */
	PpHanger hangers[PP_HANGERS];

	PpSleeper launcher;

	bool crowded; /* lanes with work wait for a worker: take turns */

	PpProbe probe; /* under lock */
	PpKnown known[PP_KNOWN]; /* under lock */
	bool lanes_wanted;		 /* some of them wait for a lane now */
	ConditionVariable served; /* broadcast when some have got one */

	Oid warned[PP_WARNED]; /* databases whose start-up warnings have been told; under lock */
	uint32 nwarned;

	/*
	 * Databases whose workers have to stay out, once for each backend that holds
	 * one.
	 */
	int nholds;
	Oid holds[FLEXIBLE_ARRAY_MEMBER]; /* pp_max_holds(); then the lanes, aligned for their rings */
} PpShared;

extern PpShared *pp_shared; /* NULL: the library was not preloaded */
extern bool pp_am_worker;	/* this process is the worker of a lane, or its retrier ... */
extern bool pp_am_retrier;	/* ... that one */

extern void pp_shmem_init(void);
extern int pp_max_holds(void);

extern uint64 pp_item_limit(uint64 ring_size);
extern PpLane *pp_lane(int number);
extern PpLane *pp_lane_of(Oid database);
extern void pp_lane_wake(PpLane *lane);
extern void pp_lane_set_state(PpLane *lane, PpWorkerState state);
extern void pp_retrier_wake(PpLane *lane);
extern void pp_retrier_call(PpLane *lane);
extern void pp_retrier_set_state(PpLane *lane, PpRetrierState state, Oid target);

extern PpLease *pp_lease_find(Oid database, Oid extension);
extern void pp_launcher_wake(void);

#endif /* PP_SHMEM_H */
