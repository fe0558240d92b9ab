/*-------------------------------------------------------------------------
 *
 * lanes.pml
 *	  Which database has which lane, and how that changes, for the model checker SPIN; run it
 *	  with test/model/check.  What it covers, and what not: doc/model.md.
 *
 * One lane, and more databases; in each a backend with a few transactions that commit or abort.
 * The lane has a ring, which is no more here than what is in it, and a worker, if somebody has
 * started one.  A worker looks at its ring, and acts on it later: so nobody may take the ring
 * from it in between.
 *
 *	step here			in src/
 *	claim				lane.c look, pp_known_want
 *	admit				ring.c pp_ring_admit, which compares generations
 *	publish				handover.c publish: pp_ring_begin, pp_ring_publish
 *	divert				ring.c pp_ring_divert
 *	call_pass			lane.c pp_lane_call_pass
 *	give_room_back		handover.c pp_handover_abort
 *	serve				lane.c serve: a free lane goes to a database that waits
 *	give_back			lane.c give_back: is_free, pp_ring_disown
 *	look, take, pass	worker.c take_turn, intake.c
 *	arm, nap			ring.c pp_ring_arm; worker.c sleep_idle
 *	launcher			launcher.c start_workers: pp_lanes_serve, then workers for lanes with work
 *
 * A step is what is done under one lock, or what one COMMIT makes visible.  Of those that wait
 * any may be the first in line.  What the launcher does only since it looks again after a while
 * is left out: it has to do without.
 *
 *	-DDBS=n				databases
 *	-DTXS=n				transactions in each database
 *	-DAWAIT				the first one is not transactional: it waits until there is a ring
 *	-DTIMEOUT			a worker that is idle gives its lane back at any moment
 *	-DLEAVE				a worker may leave when its turn is over, and gives nothing back then
 *
 * -DX_...: without one of its parts; the checker has to find what breaks.
 *
 * Left out: what protocol.pml has (positions, order, recovery, stops, crashes), pauses, holds,
 * retriers, max_workers.
 *
 *-------------------------------------------------------------------------
 */

#ifndef DBS
#define DBS 2
#endif
#ifndef TXS
#define TXS 2
#endif

#ifdef AWAIT
#define NOT_TRANSACTIONAL (tx == 0)
#else
#define NOT_TRANSACTIONAL false
#endif

#define NOBODY DBS
#define LANES 1
#define NO_LANE 1
#define LANE_OF(d) (owner[0] == (d) -> 0 : NO_LANE)
#define BIT(d) (1 << (d))
#define HAS(set, d) (((set) & BIT(d)) != 0)

/* ---- of a lane ---- */

byte owner[LANES] = NOBODY;
byte entries[LANES]; /* by the database that they are of: a digit to the base of 4 for each */
byte in_commit[LANES]; /* reserved, or about to divert */
bool diverted[LANES]; /* a pass is due */
byte attached[LANES] = NOBODY; /* a worker of this database */
byte starting[LANES] = NOBODY; /* the launcher has had one started */
bool latch[LANES];

/* ---- shared ---- */

byte waiting; /* databases */
byte owing; /* of these, those with rows that no lane knows of */
byte current; /* databases whose backend has a claim of their ring's generation */
bool lanes_wanted;
bool call; /* the launcher's latch */
#ifdef AWAIT
byte called; /* databases in which somebody waits for a lane, and looks again */
#endif

/* ---- of a database ---- */

byte journal[DBS]; /* rows that are present */
byte committed[DBS];
byte applied[DBS];

hidden byte i, own_ring, one_owner, nothing_stranded;

#define ONE(d) (1 << (2 * (d)))
#define COUNT(l, d) ((entries[l] >> (2 * (d))) & 3)
#define EMPTY(l) (entries[l] == 0 && !diverted[l])
#ifdef X_RESERVED
#define FREE(l) (owner[l] != NOBODY && EMPTY(l))
#else
#define FREE(l) (owner[l] != NOBODY && EMPTY(l) && in_commit[l] == 0)
#endif

inline wake(l)
{
	if
	:: attached[l] != NOBODY -> latch[l] = true
	:: else -> call = true
	fi
}

inline assign(l, d)
{
	one_owner = LANE_OF(d) == NO_LANE;
	assert(one_owner);
	owner[l] = d;
	waiting = waiting & ~BIT(d);
	owing = owing & ~BIT(d)
}

inline give(l, d)
{
#ifndef X_SERVED
	diverted[l] = HAS(owing, d);
#endif
	assign(l, d)
}

/* Under the lock.  Which of them has waited for longest isn't known here. */
inline serve()
{
	do
	:: waiting != 0 && LANE_OF(NOBODY) != NO_LANE ->
		lane = LANE_OF(NOBODY);
		if
		:: HAS(waiting, 0) -> give(lane, 0)
		:: HAS(waiting, 1) -> give(lane, 1)
#if DBS > 2
		:: HAS(waiting, 2) -> give(lane, 2)
#endif
		fi;
#ifdef AWAIT
		called = BIT(DBS) - 1;
#endif
		call = true
	:: else -> break
	od;
	lanes_wanted = waiting != 0;
	lane = NO_LANE
}

inline disown(l)
{
	current = current & ~BIT(owner[l]); /* another generation */
	owner[l] = NOBODY;
	diverted[l] = false
}

inline want(d)
{
	waiting = waiting | BIT(d);
	lanes_wanted = true;
	call = true
}

proctype backend(byte me)
{
	byte lane = NO_LANE, tx;
	bool diverts;

next_tx:
	do
	:: tx == TXS -> break
	:: tx < TXS ->
claim:
		atomic {
#ifdef AWAIT
			called = called & ~BIT(me);
#endif
			/* what it knows already is looked at by whoever admits it */
			if
			:: HAS(current, me)
			:: else ->
				lane = LANE_OF(me);
				if
				:: lane != NO_LANE
				:: lane == NO_LANE && LANE_OF(NOBODY) != NO_LANE ->
					lane = LANE_OF(NOBODY);
					assign(lane, me)
				:: else ->
#ifdef X_EVICT
					if
					:: FREE(0) -> disown(0); lane = 0; assign(lane, me); wake(0)
					:: else -> want(me)
					fi
#else
					want(me)
#endif
				fi;
				if
				:: lane != NO_LANE -> current = current | BIT(me)
				:: else
				fi
			fi
		}
#ifdef AWAIT
		if
		:: NOT_TRANSACTIONAL && lane == NO_LANE -> HAS(called, me) -> goto claim
		:: else
		fi;
#endif
		if
		:: lane != NO_LANE ->
			atomic { /* admit */
				if
#ifndef X_STALE
				:: !HAS(current, me) -> goto claim
				:: else ->
#else
				:: true ->
#endif
					in_commit[lane]++;
					if
					:: NOT_TRANSACTIONAL -> diverts = false
					:: !NOT_TRANSACTIONAL -> diverts = true /* full, closed, in recovery */
					:: !NOT_TRANSACTIONAL && !diverted[lane] -> diverts = false
					fi
				fi
			}
			if
			:: !diverts -> /* COMMIT */
				d_step { /* publish */
					committed[me]++;
					entries[lane] = entries[lane] + ONE(me);
					in_commit[lane]--;
					wake(lane)
				}
			:: diverts ->
				d_step { committed[me]++; journal[me]++ }
				d_step { /* divert */
					in_commit[lane]--;
					diverted[lane] = true;
					wake(lane)
				}
			:: d_step { in_commit[lane]-- } /* ABORT, give_room_back */
#ifndef X_ABORT
				d_step {
					if
					:: lanes_wanted -> call = true
					:: else
					fi
				}
#endif
			fi
		:: else ->
			if
			:: d_step { committed[me]++; journal[me]++ }
				atomic { /* call_pass */
					lane = LANE_OF(me);
					if
					:: lane != NO_LANE -> diverted[lane] = true; wake(lane)
					:: else -> want(me); owing = owing | BIT(me); serve()
					fi;
					lane = NO_LANE
				}
			:: true /* ABORT */
			fi
		fi;
		diverts = false;
		tx++
	od
}

inline mine()
{
	own_ring = owner[me] == its;
	assert(own_ring)
}

inline gone()
{
	mine();
	disown(me);
	attached[me] = NOBODY;
	its = NOBODY;
	latch[me] = false;
	call = true
}

/* The process that is attached to the lane, whichever database it is of. */
proctype worker(byte me)
{
	byte its = NOBODY, lane = NO_LANE;
	bool has_entries, has_pass;

end_none:
	do
	:: starting[me] != NOBODY ->
		atomic { /* attach */
			its = starting[me];
			starting[me] = NOBODY;
			if
			:: owner[me] == its -> attached[me] = its
			:: else -> its = NOBODY; call = true; goto end_none
			fi
		}
loop:
		do
		:: d_step { /* look */
				has_entries = entries[me] != 0;
				has_pass = diverted[me]
			}
			if
			:: has_pass || has_entries ->
				if
				:: has_pass -> d_step { mine(); diverted[me] = false } /* a pass begins */
				:: else
				fi;
				d_step { /* what it finds in the ring, and what a fresh snapshot sees */
					mine();
					own_ring = entries[me] == COUNT(me, its) * ONE(its);
					assert(own_ring);
					applied[its] = applied[its] + COUNT(me, its);
					entries[me] = 0;
					if
					:: has_pass -> applied[its] = applied[its] + journal[its]; journal[its] = 0
					:: else
					fi;
					has_pass = false;
					has_entries = false
				}
			:: else ->
				if
				:: EMPTY(me) -> /* armed */
#ifndef X_WANTED
					if
					:: lanes_wanted ->
						atomic { /* give_back, to others */
							if
							:: waiting != 0 && FREE(me) -> gone(); serve(); goto end_none
							:: else
							fi
						}
					:: else
					fi;
#endif
end_idle:			if
					:: latch[me] -> latch[me] = false
#ifdef TIMEOUT
					:: atomic { /* worker_idle_timeout */
							FREE(me) -> gone(); serve(); goto end_none
						}
#endif
					fi
				:: !EMPTY(me)
				fi
			fi
#ifdef LEAVE
		:: atomic { mine(); attached[me] = NOBODY; its = NOBODY; latch[me] = false; call = true }
			break
#endif
		od
	od
}

proctype launcher()
{
	byte lane = NO_LANE;

end_asleep:
	do
	:: call ->
		call = false;
		atomic { serve() }
		atomic { /* those that become idle from now on see that somebody waits */
			if
			:: lanes_wanted && FREE(0) && attached[0] == NOBODY -> disown(0); serve()
			:: lanes_wanted && FREE(0) && attached[0] != NOBODY -> latch[0] = true
			:: else
			fi
		}
		d_step {
			if
			:: owner[0] != NOBODY && !EMPTY(0) && attached[0] == NOBODY && starting[0] == NOBODY ->
				starting[0] = owner[0]
			:: else
			fi
		}
	od
}

/* When nobody can take a step: has all that was committed been applied, and nobody waits? */
proctype judge()
{
	timeout;
	d_step {
		nothing_stranded = waiting == 0;
		for (i : 0 .. DBS - 1) {
			nothing_stranded = nothing_stranded && applied[i] == committed[i] && journal[i] == 0
		}
		i = 0
	}
	assert(nothing_stranded)
}

init
{
	atomic {
		run backend(0);
		run backend(1);
#if DBS > 2
		run backend(2);
#endif
		run worker(0);
		run launcher();
		run judge()
	}
}
