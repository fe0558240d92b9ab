/*-------------------------------------------------------------------------
 *
 * parked.pml
 *	  Who writes a target while items of it are parked, for the model checker SPIN; run it
 *	  with test/model/check.  What it covers, and what not: doc/model.md.
 *
 * W, the worker, takes items from ring and journal, in their order; it inserts them, or adds
 * them to the table of parked items.  P, the process that tries what is parked, inserts
 * items and removes them from there; it comes when the launcher starts it, and leaves.
 * Neither takes a lock that the other one wants, or waits for a message of the other's:
 *
 *	The table is the truth.  W alone adds items, P alone removes them, and inserts them in
 *	the same transaction.  Before W tries items of a target it asks the table, with a
 *	snapshot of this transaction: where something is parked, they follow it there.
 *
 *	The counter, in shared memory, saves W the question where it says that nothing is parked.
 *	It may say so late, but not early.  W raises it in its COMMIT callback, and P lowers it
 *	in its own: there the commit is visible already (CommitTransaction calls them after
 *	ProcArrayEndTransaction).  Where P lowers it by what W has yet to raise, that counts as
 *	nothing, and the counter says too much, until P finds the table empty: then it is cleared,
 *	unless W has raised it since before P looked.
 *
 *	Who raises the counter wakes the launcher; so does P when it has left.  The launcher
 *	starts P where the counter tells of something and no P is attached.
 *
 *	An item that waits by itself, for a row that somebody has locked (`alone`), lets later
 *	ones of its target pass.  One whose parent isn't there (a foreign key) waits where items
 *	of the parent's target are parked from before it, as was seen before it was tried; else
 *	it is a dead letter.
 *
 * A step is what is done under one spinlock, or what one COMMIT makes visible.  All is one
 * process here, whose `do` chooses the next step of anybody: so `else` is the end, and a
 * crash only has to set variables.
 *
 * A rollback, FATAL of W or of P, and a target that doesn't take an item may come as often
 * as they like, at any moment but between COMMIT and its callback (CommitTransaction holds
 * interrupts).
 *
 *	-DCRASH		kill -9 of the server, once; the last commits may be lost
 *	-DALONE		items that wait by themselves
 *	-DFK		two targets; each second item refers to the one before it
 *	-DN=n		items
 *
 * -DX_...: without one of its parts; the checker has to find what breaks.
 *
 * Left out: where items come from (protocol.pml has that), dead letters (to the two they are
 * as good as inserted), several roles, back-off and pauses, targets that share an entry of
 * the counter, parents that W takes after their children, a second P beside one that hangs.
 *
 *-------------------------------------------------------------------------
 */

#ifndef N
#define N 4
#endif

#define BIT(x) (1 << (x))
#define HAS(set, x) (((set) & BIT(x)) != 0)
#define BEFORE(x) (BIT(x) - 1)
#ifdef FK
#define TARGETS 2
#define TARGET(x) ((x) & 1)
#define OF(t) ((t) -> 170 : 85)
#define IS_CHILD(x) (TARGET(x) == 1)
#else
#define TARGETS 1
#define TARGET(x) 0
#define OF(t) 255
#define IS_CHILD(x) false
#endif

/* ---- what is on disk; sets of items ---- */

byte queued = BIT(N) - 1; /* in ring or journal */
byte parked;
byte alone; /* of these */
byte applied;

#ifdef CRASH
bool crashed;
bool unflushed; /* commits since these: */
byte flushed_queued, flushed_parked, flushed_alone, flushed_applied;
#endif

/* ---- what is shared ---- */

bool counted;		 /* the counter knows what was there before it */
byte counter[TARGETS]; /* parked items */
bool added;			 /* W has, since P has asked for this */
bool attached;		 /* a P */
bool wake;			 /* the launcher's latch */

/* ---- of W, and of P, where there is one ---- */

mtype = {IDLE, COUNTED, LOOKED, OPEN, READY, INSERTED, LOWERED, VISIBLE, EMPTY, LEAVING};

mtype w = IDLE;
byte w_asks; /* for items of these targets: the counter tells of parked ones */
byte w_sees, w_sees_alone; /* parked, in its snapshot */
byte w_applied, w_parked, w_alone; /* in its transaction */
#ifdef X_SNAPSHOT
byte w_saw; /* the same as w_sees, in the transaction before */
#endif
#ifdef X_PARENT
byte w_finds; /* parents that are there when it tries their children */
#define W_FINDS w_finds
#else
#define W_FINDS applied
#endif

mtype p = IDLE;
byte p_sees;
byte p_applied, p_alone;

/* SPIN prints the expression of an assertion that fails: so they have names. */
hidden byte applied_once, in_order, no_child_dies, nothing_stranded;
hidden byte x, n;

inline insert(mine, mine_alone)
{
	applied_once = !HAS(applied, x);
	assert(applied_once);
	in_order = (BEFORE(x) & OF(TARGET(x)) & ~(applied | mine | alone | mine_alone)) == 0;
	assert(in_order);
	mine = mine | BIT(x)
}

inline count_items(set)
{
	n = 0;
	x = 0;
	do
	:: x < N -> n = n + (HAS(set, x) -> 1 : 0); x++
	:: else -> break
	od;
	x = 0
}

inline raise(set)
{
	count_items((set) & OF(0));
	counter[0] = counter[0] + n;
#ifdef FK
	count_items((set) & OF(1));
	counter[1] = counter[1] + n;
#endif
	n = 0
}

/* What is taken back by mistake counts as nothing. */
inline lower_one(t, set)
{
	count_items((set) & OF(t));
	counter[t] = (counter[t] < n -> 0 : counter[t] - n)
}

inline lower(set)
{
	lower_one(0, set);
#ifdef FK
	lower_one(1, set);
#endif
	n = 0
}

#ifdef FK
#define COUNTER_TELLS (counter[0] > 0 || counter[1] > 0)
#else
#define COUNTER_TELLS (counter[0] > 0)
#endif

inline forget_flushed()
{
	unflushed = false;
	flushed_queued = 0;
	flushed_parked = 0;
	flushed_alone = 0;
	flushed_applied = 0
}

/* Before a commit: it flushes itself and all before, or is left to a later one. */
inline flush_or_not()
{
#ifdef CRASH
	if
	:: unflushed
	:: !unflushed && !crashed ->
		unflushed = true;
		flushed_queued = queued;
		flushed_parked = parked;
		flushed_alone = alone;
		flushed_applied = applied
	:: forget_flushed()
	fi
#else
	skip
#endif
}

inline w_ends()
{
#ifdef X_PARENT
	w_finds = 0;
#endif
	w = IDLE;
	w_asks = 0;
	w_applied = 0;
	w_parked = 0;
	w_alone = 0;
	w_sees = 0;
	w_sees_alone = 0
}

inline p_ends(state)
{
	p = state;
	p_sees = 0;
	p_applied = 0;
	p_alone = 0
}

/*
 * W comes to x: it follows what is parked; or it is inserted, waits by itself, or parks
 * the target.
 */
inline w_try()
{
	if
	:: (((w_sees & ~w_sees_alone) | (w_parked & ~w_alone)) & OF(TARGET(x))) != 0 ->
		w_parked = w_parked | BIT(x)
	:: else ->
		if
		:: IS_CHILD(x) && !HAS(W_FINDS | w_applied, x - 1) ->
#ifdef X_PARENT
			w_sees = parked & w_asks;
#endif
			no_child_dies = ((w_sees | w_parked) & OF(0) & BEFORE(x)) != 0;
			assert(no_child_dies);
			w_parked = w_parked | BIT(x)
		:: else ->
			if
			:: insert(w_applied, w_alone)
			:: w_parked = w_parked | BIT(x)
#ifdef ALONE
			:: w_parked = w_parked | BIT(x); w_alone = w_alone | BIT(x)
#endif
			fi
		fi
	fi
}

/* P comes to x, as far as it gets: the same, but what stays parked needs no step. */
inline p_try()
{
	if
	:: IS_CHILD(x) && !HAS(applied | p_applied, x - 1) ->
		no_child_dies = (p_sees & OF(0) & BEFORE(x)) != 0;
		assert(no_child_dies);
		break
	:: else ->
		if
		:: insert(p_applied, p_alone)
#ifdef ALONE
		:: p_alone = p_alone | BIT(x)
#endif
		:: break
		fi
	fi
}

active proctype database()
{
	byte t;

end:
	do

	/* ---- W ---- */

	/* The first one counts what is parked. */
	:: d_step { w == IDLE && !counted -> w_sees = parked; w = COUNTED }
	:: d_step {
			w == COUNTED ->
#ifndef X_COUNT
			raise(w_sees);
#endif
			counted = true;
			wake = true;
			w_ends()
		}

	/* There is something to do: look at the counter, then begin a transaction. */
	:: d_step {
			w == IDLE && counted && queued != 0 ->
			w_asks = (counter[0] > 0 -> OF(0) : 0);
#ifdef FK
			w_asks = w_asks | (counter[1] > 0 -> OF(1) : 0);
#endif
			w = LOOKED
		}
	:: d_step {
			w == LOOKED ->
#ifdef X_SNAPSHOT
			w_sees = w_saw & w_asks;
#else
			w_sees = parked & w_asks;
			w_sees_alone = alone & w_asks;
#endif
#ifdef X_PARENT
			w_finds = applied;
#endif
			w = OPEN
		}
	/* A batch of any length. */
	:: atomic {
			w == OPEN ->
			x = 0;
			do
			:: x < N && HAS(queued, x) -> w_try(); x++
			:: x < N && !HAS(queued, x) -> x++
			:: (w_applied | w_parked) != 0 -> break
			od;
			x = 0;
			w = INSERTED
		}
	:: atomic {
			w == INSERTED ->
			flush_or_not();
			d_step {
#ifdef X_SNAPSHOT
				w_saw = parked & ~alone;
#endif
				queued = queued & ~(w_applied | w_parked);
				applied = applied | w_applied;
				parked = parked | w_parked;
				alone = alone | w_alone;
				w = VISIBLE
			}
		}
	:: d_step { /* its callback */
			w == VISIBLE ->
			raise(w_parked);
			added = added || w_parked != 0;
			wake = wake || w_parked != 0;
			w_ends()
		}
	/* Rolled back; and perhaps it is another W that comes next. */
	:: d_step { w == COUNTED || w == LOOKED || w == OPEN || w == INSERTED -> w_ends() }
#ifdef X_RAISE
	:: d_step { w == VISIBLE -> w_ends() }
#endif

	/* ---- the launcher ---- */

	:: d_step {
			wake ->
			wake = false;
			if
			:: COUNTER_TELLS && !attached -> attached = true; p = LOOKED
			:: else
			fi
		}

	/* ---- P ---- */

	/* Has W added something? That is asked from before the scan. */
	:: d_step { p == LOOKED -> added = false; p = OPEN }
	:: d_step { p == OPEN -> p_sees = parked; p = (parked != 0 -> READY : EMPTY) }
	/* The items of one target, as many as it takes. */
	:: atomic {
			p == READY ->
			t = 0;
#ifdef FK
			if
			:: t = 1
			:: true
			fi;
#endif
			x = 0;
			do
			:: x < N && HAS(p_sees & OF(t), x) -> p_try(); x++
			:: x < N && !HAS(p_sees & OF(t), x) -> x++
			:: x == N -> break
			od;
			x = 0;
			t = 0;
			if
			:: (p_applied | p_alone) != 0 -> p = INSERTED
			:: else -> p_ends(LOOKED)
			fi
		}
#ifdef X_LOWER
	:: d_step { p == INSERTED -> lower(p_applied); p = LOWERED }
	:: atomic {
			p == LOWERED ->
#else
	:: atomic {
			p == INSERTED ->
#endif
			flush_or_not();
			d_step {
				applied = applied | p_applied;
#ifndef X_TWO
				parked = parked & ~p_applied;
				alone = (alone | p_alone) & ~p_applied;
#endif
				p = VISIBLE
			}
		}
	:: d_step { /* its callback */
			p == VISIBLE ->
#ifdef X_TWO
			parked = parked & ~p_applied;
			alone = (alone | p_alone) & ~p_applied;
#endif
#ifndef X_LOWER
			lower(p_applied);
#endif
			p_ends(LOOKED)
		}
	:: d_step { p == READY || p == INSERTED -> p_ends(LOOKED) }
#ifdef X_TWO
	:: d_step { p == VISIBLE -> p_ends(LEAVING) }
#endif

	/* Nothing is parked; so what the counter tells is a mistake, or W has just added it. */
	:: d_step {
			p == EMPTY ->
#ifdef X_CLEAR
			added = false;
#endif
			if
			:: !added ->
				counter[0] = 0;
#ifdef FK
				counter[1] = 0
#endif
			:: else
			fi;
			p_ends(LEAVING)
		}
	/* Also by FATAL, from anywhere. */
	:: d_step { p == LOOKED || p == OPEN || p == READY || p == INSERTED || p == EMPTY -> p_ends(LEAVING) }
	:: d_step {
			p == LEAVING ->
			attached = false;
			added = false;
#ifndef X_LEAVE
			wake = true;
#endif
			p_ends(IDLE)
		}

#ifdef CRASH
	:: atomic {
			!crashed ->
			if
			:: unflushed ->
				queued = flushed_queued;
				parked = flushed_parked;
				alone = flushed_alone;
				applied = flushed_applied
			:: true
			fi;
			d_step {
				crashed = true;
				forget_flushed();
				counted = false;
				counter[0] = 0;
#ifdef FK
				counter[1] = 0;
#endif
				added = false;
				attached = false;
				wake = false;
				w_ends();
				p_ends(IDLE)
			}
		}
#endif
	:: else ->
		nothing_stranded = queued == 0 && parked == 0 && applied == BIT(N) - 1;
		assert(nothing_stranded);
		break
	od
}
