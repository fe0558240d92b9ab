/*-------------------------------------------------------------------------
 *
 * slots.pml
 *	  Which database has which slot, and how that changes, for the model checker SPIN; run it
 *	  with test/model/check.  What it covers, and what not: doc/model.md.
 *
 * One slot, and more databases; in each a backend with a few transactions that commit or abort.
 * The slot has a ring, which is no more here than what is in it, and a worker, if somebody has
 * started one.  A worker looks at its ring, and acts on it later: so nobody may take the ring
 * from it in between.
 *
 *	step here			in src/
 *	claim				slots.c look, pp_databases_want_slot
 *	admit				ring.c pp_ring_admit_locked, which compares generations
 *	publish				publish.c publish_piece: pp_ring_put
 *	divert				ring.c pp_ring_divert
 *	call_pass			slots_commands.c pp_slot_call_pass
 *	give_room_back		publish.c pp_publish_abort
 *	serve				slots.c pp_slots_serve_locked: a free slot goes to a database that waits
 *	give_back			slots.c give_slot_back: is_slot_empty_locked, pp_ring_disown
 *	look, take, pass	worker.c take_turn, intake.c
 *	arm, nap			ring_worker.c pp_ring_arm; worker.c sleep_idle
 *	launcher			launcher.c: pp_slots_serve, then workers for slots with work
 *
 * A step is what is done under one lock, or what one COMMIT makes visible.  Of those that wait
 * any may be the first in line.  What the launcher does only since it looks again after a while
 * is left out: it has to do without.
 *
 *	-DDBS=n				databases
 *	-DTXS=n				transactions in each database
 *	-DAWAIT				the first one is not transactional: it waits until there is a ring
 *	-DTIMEOUT			a worker that is idle gives its slot back at any moment
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
#define SLOTS 1
#define NO_SLOT 1
#define SLOT_OF(d) (owner[0] == (d) -> 0 : NO_SLOT)
#define BIT(d) (1 << (d))
#define HAS(set, d) (((set) & BIT(d)) != 0)

/* ---- of a slot ---- */

byte owner[SLOTS] = NOBODY;
byte entries[SLOTS]; /* by the database that they are of: a digit to the base of 4 for each */
byte in_commit[SLOTS]; /* reserved, or about to divert */
bool diverted[SLOTS]; /* a pass is due */
byte attached[SLOTS] = NOBODY; /* a worker of this database */
byte starting[SLOTS] = NOBODY; /* the launcher has had one started */
bool latch[SLOTS];

/* ---- shared ---- */

byte waiting; /* databases */
byte owing; /* of these, those with rows that no slot knows of */
byte current; /* databases whose backend has a claim of their ring's generation */
bool slots_wanted;
bool call; /* the launcher's latch */
#ifdef AWAIT
byte called; /* databases in which somebody waits for a slot, and looks again */
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
	one_owner = SLOT_OF(d) == NO_SLOT;
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
	:: waiting != 0 && SLOT_OF(NOBODY) != NO_SLOT ->
		slot = SLOT_OF(NOBODY);
		if
		:: HAS(waiting, 0) -> give(slot, 0)
		:: HAS(waiting, 1) -> give(slot, 1)
#if DBS > 2
		:: HAS(waiting, 2) -> give(slot, 2)
#endif
		fi;
#ifdef AWAIT
		called = BIT(DBS) - 1;
#endif
		call = true
	:: else -> break
	od;
	slots_wanted = waiting != 0;
	slot = NO_SLOT
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
	slots_wanted = true;
	call = true
}

proctype backend(byte me)
{
	byte slot = NO_SLOT, tx;
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
				slot = SLOT_OF(me);
				if
				:: slot != NO_SLOT
				:: slot == NO_SLOT && SLOT_OF(NOBODY) != NO_SLOT ->
					slot = SLOT_OF(NOBODY);
					assign(slot, me)
				:: else ->
#ifdef X_EVICT
					if
					:: FREE(0) -> disown(0); slot = 0; assign(slot, me); wake(0)
					:: else -> want(me)
					fi
#else
					want(me)
#endif
				fi;
				if
				:: slot != NO_SLOT -> current = current | BIT(me)
				:: else
				fi
			fi
		}
#ifdef AWAIT
		if
		:: NOT_TRANSACTIONAL && slot == NO_SLOT -> HAS(called, me) -> goto claim
		:: else
		fi;
#endif
		if
		:: slot != NO_SLOT ->
			atomic { /* admit */
				if
#ifndef X_STALE
				:: !HAS(current, me) -> goto claim
				:: else ->
#else
				:: true ->
#endif
					in_commit[slot]++;
					if
					:: NOT_TRANSACTIONAL -> diverts = false
					:: !NOT_TRANSACTIONAL -> diverts = true /* full, closed, in recovery */
					:: !NOT_TRANSACTIONAL && !diverted[slot] -> diverts = false
					fi
				fi
			}
			if
			:: !diverts -> /* COMMIT */
				d_step { /* publish */
					committed[me]++;
					entries[slot] = entries[slot] + ONE(me);
					in_commit[slot]--;
					wake(slot)
				}
			:: diverts ->
				d_step { committed[me]++; journal[me]++ }
				d_step { /* divert */
					in_commit[slot]--;
					diverted[slot] = true;
					wake(slot)
				}
			:: d_step { in_commit[slot]-- } /* ABORT, give_room_back */
#ifndef X_ABORT
				d_step {
					if
					:: slots_wanted -> call = true
					:: else
					fi
				}
#endif
			fi
		:: else ->
			if
			:: d_step { committed[me]++; journal[me]++ }
				atomic { /* call_pass */
					slot = SLOT_OF(me);
					if
					:: slot != NO_SLOT -> diverted[slot] = true; wake(slot)
					:: else -> want(me); owing = owing | BIT(me); serve()
					fi;
					slot = NO_SLOT
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

/* The process that is attached to the slot, whichever database it is of. */
proctype worker(byte me)
{
	byte its = NOBODY, slot = NO_SLOT;
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
					:: slots_wanted ->
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
	byte slot = NO_SLOT;

end_asleep:
	do
	:: call ->
		call = false;
		atomic { serve() }
		atomic { /* those that become idle from now on see that somebody waits */
			if
			:: slots_wanted && FREE(0) && attached[0] == NOBODY -> disown(0); serve()
			:: slots_wanted && FREE(0) && attached[0] != NOBODY -> latch[0] = true
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
