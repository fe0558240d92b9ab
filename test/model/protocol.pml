/*-------------------------------------------------------------------------
 *
 * protocol.pml
 *	  The protocol of ring and journal, for the model checker SPIN; run it with
 *	  test/model/check.  What it covers, and what not: doc/model.md.
 *
 * Two producers, each with two transactions that commit or abort; a worker; and what
 * may happen to them.  One step here is what the code does under one spinlock, or
 * what one COMMIT makes visible; between two steps anything may come.
 *
 *	step here			in src/
 *	admit				publish.c pp_publish_prepare: ring.c pp_ring_admit_locked, then the rows, which
 *						nobody sees before the commit
 *	give_back			publish.c pp_publish_abort: pp_ring_release, pp_ring_undivert
 *	commit_rows			the server: the commit record is flushed, the rows are visible
 *	begin, publish		publish.c publish_piece, ring.c pp_ring_put: BUSY, then READY
 *	divert				publish.c pp_publish_commit: pp_ring_divert
 *	look				worker.c take_turn, intake.c pp_intake_next: pp_ring_view
 *	take_entries		intake.c take_entries, and the batch up to its COMMIT
 *	begin_pass			ring_worker.c pp_ring_begin_pass
 *	collect				intake.c begin_pass: collect_entries, then a snapshot and the scan
 *	take_from_pass		intake.c take_from_pass, and the batch up to its COMMIT
 *	settle				commit.c at_commit: pp_ring_settle, pp_ring_free
 *	end_pass			intake.c pp_intake_next: pp_ring_end_pass, pp_ring_free
 *	save, move			worker.c save_volatile_items, save_at_worker_exit: save_to_journal.c pp_save_to_journal,
 *						at_commit; then pp_ring_move
 *	start				worker.c take_worker_slot: pp_ring_open, pp_ring_attend
 *	recover				worker.c recover: pp_ring_recover
 *	lease				worker.c top_up_ids, publish.c admit: pp_ring_add_positions
 *	stop				worker.c stop: pp_ring_close, and the view from which last_pass is
 *	arm, nap			ring_worker.c pp_ring_arm; worker.c worker_sleep without a limit
 *	save_at_risk		save_to_journal.c pp_save_to_journal_at_risk
 *	launcher			launcher.c needs_worker
 *	probe				probe.c look_around
 *	crash				all that is shared is as in ring.c pp_ring_init; the journal stays
 *
 * A batch is one step up to its COMMIT: only the worker settles items, and a batch that is
 * rolled back leaves no trace.  It takes one item or all; so it may divide a transaction,
 * which src/ avoids where it can.  Between COMMIT
 * and settle no signal ends the worker (CommitTransaction holds interrupts), but the
 * server may crash there.
 *
 * Left out: bytes and their wrapping (an entry is one unit; test/unit has them), memory
 * that reorders, several roles and targets in a batch, bad items, rotation and rewriting
 * of the journal (a row is found by its position here), rings that change hands (slots.pml), holds,
 * several slots, persist_resume, enqueueing triggers, transactional => false, journalled
 * transactions with synchronous_commit = off.  That the worker goes on for ever without getting
 * anywhere isn't looked for, either.
 *
 * What may happen, each once:
 *
 *	-DRESTART	the worker ends by FATAL, and another one comes
 *	-DTERMINATE	SIGTERM to the worker alone, and another one comes
 *	-DSHUTDOWN	a fast shutdown, of a database that is paused or not, and a start
 *	-DLEAVE		the worker's turn ends, and another one comes
 *	-DDIVIDE	a work that ended its worker is divided (needs RESTART)
 *	-DCRASH		kill -9 of the server, and a start; the worker's last commits may be lost
 *	-DWINDOW	what producer 1 has in the ring alone has waited too long (window.h)
 *
 * Without any of them, -DWAKE: the worker sleeps until it is woken.  Else it goes on as
 * soon as there is something, that is, it may or may not sleep before.
 *
 * -DFRESH begins with a ring that is new, without a worker.  -DFLUSH: one persist_flush
 * at any moment.  -DTXS=n transactions of each producer, or -DTXS1=m of the second one,
 * -DPIECES=n entries in each, -DSIZE=n of the ring.  -DJOURNALLED: nothing is ring-only.
 *
 * -DX_...: the protocol without one of its parts; the checker has to find what breaks.
 * Some of these parts src/ doesn't have yet: check names them.
 *
 *-------------------------------------------------------------------------
 */

#ifndef TXS
#define TXS 2
#endif
#ifndef TXS1
#define TXS1 TXS
#endif
#ifndef PIECES
#define PIECES 1
#endif
#ifndef SIZE
#define SIZE 2
#endif

#define PER_PRODUCER (TXS * PIECES)
#define N (2 * PER_PRODUCER) /* entries, named from 0; all sets are bits of a byte */
#define NO_BOUNDARY 15

#define BIT(e) (1 << (e))
#define HAS(set, e) (((set) & BIT(e)) != 0)

#if defined(RESTART) || defined(TERMINATE) || defined(SHUTDOWN) || defined(LEAVE) || defined(CRASH)
#define HAS_STARTS
#endif
#if defined(SHUTDOWN) || defined(CRASH)
#define HAS_NEW_SERVER
#endif

#define BOUNDED (BIT(N) - BIT(PER_PRODUCER)) /* the risk of producer 1; that of 0 is chosen */

/* ---- what is on disk ---- */

byte rows;		 /* committed, and not deleted */
byte committed;	 /* transactions; ring-only ones, too: no state, but history */
byte applied;	 /* in their targets */
unsigned next : 4 = 1; /* position; a lease begins there after a new start, too */

#ifdef X_MOVE_ALL
byte rows_again;
#endif
#ifdef X_SNAPSHOT
byte snapshot;
#endif

/* ---- what is shared ---- */

bool closed, diverted, pass;
#ifdef FRESH
bool recovering = true, attended = false;
#else
bool recovering = false, attended = true;
#endif
unsigned head : 4, tail : 4, reserved : 3, mark : 4;
#ifdef FRESH
unsigned boundary : 4, base : 4 = 1;
#else
unsigned boundary : 4, base : 4;
#endif
byte slot[N];	 /* the entry at a place of the ring; without reuse, to keep it simple */
byte busy, ready; /* neither of them: DONE */
#ifdef HAS_NEW_SERVER
bool leased = true; /* next_end != 0 */
#define NEXT (leased -> next : 0)
#define LEASED leased
#else
#define LEASED true
#define NEXT next
#endif

/* ---- of an entry, by its producer ---- */

byte pos[N];
byte ring_only; /* has no row of its own */
#ifdef SHUTDOWN
byte in_ring;	/* admitted to the ring */
#endif

/* ---- of the worker ---- */

#ifdef FRESH
bool up = false;
#else
bool up = true;
#endif
bool starting;	 /* attached, but not ready */
bool recovered;	 /* its ring, by this worker */
bool committing; /* from COMMIT to settle, no signal counts */
byte batch;		 /* committed, to be settled */
bool has_set;	 /* pass.context != NULL */
byte set;		 /* of the pass, left to do */
bool kill, terminate, leave; /* what it has been told */
bool stopping, forced, paused;
unsigned passes_to_go : 3; /* last_pass - passes */
bool divide;
bool was_stopped; /* the launcher's */

/* ---- for the properties ---- */

byte acked;		/* as soon as it can be */
byte before[N];	/* acked when this one reached PRE_COMMIT */
byte lost;		/* ring-only, and a crash came */
byte excused;	/* in commit when a forced stop ended; its WARNING says so */
byte at_close;	/* acked when the ring was closed */

bool shutdown;
bool in_tx[2];
#ifdef CRASH
bool reset_worker, reset_producer[2];
#endif
#ifdef CRASH
byte unflushed; /* applied by the worker's asynchronous commits */
#endif
#ifdef WINDOW
bool over, late;
byte safe; /* ring-only, and at risk no more */
#endif
#ifdef FLUSH
unsigned flush_tail : 4, flush_passes : 3;
unsigned moved_to_go : 3; /* moved - passes */
byte flush_acked;
#endif
#ifdef WAKE
bool latch, armed;
unsigned published : 3, wake_items : 3, seen_published : 3;
bool seen_diverted;
#endif

/* SPIN prints the expression of an assertion that fails: so they have names. */
hidden byte applied_once, committed_only, in_order, within_size, nothing_stranded,
	nothing_lost_at_a_stop, stop_is_complete, flush_is_true, safe_is_safe;
hidden byte i, k, e, at, n, max, found;
hidden byte mine;

#if defined(X_SETTLE) || defined(X_DELETE)
#define IN_COMMIT false
#else
#define IN_COMMIT true
#endif

#ifdef FLUSH
#define FLUSH_WAITS || flush_passes > 0
#else
#define FLUSH_WAITS
#endif
#define THROUGH (reserved == 0 && (paused || (head == tail && passes_to_go == 0)))
#ifdef X_LEASE
#define MAY_WORK (stopping -> !paused : recovered && LEASED && !terminate && !leave)
#else
#define MAY_WORK (LEASED && recovered && (stopping -> !paused : !terminate && !leave))
#endif
#define PENDING (head < tail || recovering || diverted || pass)

inline check_size()
{
	within_size = tail - head + reserved <= SIZE;
	assert(within_size)
}

/* The transaction that is open inserts this entry's items. */
inline apply(x)
{
	committed_only = HAS(committed, x);
	assert(committed_only);
	applied_once = !HAS(applied, x);
	assert(applied_once);
	in_order = (before[x] & ~applied & ~lost) == 0;
	assert(in_order);
	applied = applied | BIT(x);
#ifdef CRASH
	unflushed = unflushed | BIT(x)
#else
	before[x] = 0;
	pos[x] = 0
#endif
}

/* Open a work: what is in the ring alone is there, a row may have been claimed. */
inline claim_and_apply(x)
{
	if
	:: HAS(ring_only, x) && HAS(ready, x) ->
		apply(x)
	:: else ->
		if
		:: HAS(rows, x) ->
#ifndef X_DELETE
			rows = rows & ~BIT(x);
#endif
			apply(x)
#ifdef X_MOVE_ALL
			;
			if
			:: HAS(rows_again, x) -> apply(x)
			:: else
			fi
#endif
		:: else
		fi
	fi
}

/* Move head over DONE entries.  An empty ring begins anew, which only saves states. */
inline free()
{
	do
	:: head < tail && !HAS(busy | ready, slot[head]) -> slot[head] = 0; head++
	:: else -> break
	od;
#ifndef FLUSH
	if
	:: head == tail -> head = 0; tail = 0; mark = 0
	:: else
	fi;
#endif
	at = 0
}

inline settle()
{
	d_step {
#ifdef WINDOW
		safe = safe | (batch & ring_only);
#if defined(CRASH) && !defined(X_ASYNC)
		/* the commit is on disk before its callback */
		if
		:: (batch & ring_only) -> unflushed = 0
		:: else
		fi;
#endif
#endif
#ifdef X_DELETE
		rows = rows & ~batch;
#endif
		ready = ready & ~batch;
#ifndef CRASH
		ring_only = ring_only & ~batch;
#endif
		batch = 0;
		free();
		committing = false
	}
}

/* The places below a mark whose entries are in `states`. */
inline find_below(upto, states)
{
	found = 0;
	at = head;
	do
	:: at < upto ->
		found = found | (BIT(slot[at]) & (states));
		at++
	:: else -> break
	od;
	at = 0
}

/* READY entries below the mark, as far as collect_entries gets. */
inline find_ready()
{
	found = 0;
	at = head;
	do
	:: at < mark && !HAS(busy, slot[at]) ->
		found = found | (BIT(slot[at]) & ready);
		at++
	:: else -> break
	od;
	at = 0
}

/* What is in the ring alone, up to the first that is BUSY: pp_intake_volatile. */
inline find_volatile()
{
	found = 0;
	at = head;
	do
	:: at < tail && !HAS(busy, slot[at]) ->
		found = found | (BIT(slot[at]) & ready & ring_only);
		at++
	:: else -> break
	od;
	at = 0
}

/* The entry of the set with the lowest position. */
inline lowest()
{
	e = N;
	k = 0;
	do
	:: k < N ->
		if
		:: HAS(set, k) && (e == N || pos[k] < pos[e]) -> e = k
		:: else
		fi;
		k++
	:: else -> break
	od;
	k = 0
}

/* What nobody asks for any more would only multiply the states. */
inline forget_history(x)
{
	n = 0;
	do
	:: n < PIECES -> pos[x + n] = 0; before[x + n] = 0; n++
	:: else -> break
	od;
	n = 0
}

#ifdef CRASH
/* What a crash can't bring back. */
inline forget_applied()
{
	i = 0;
	do
	:: i < N ->
		if
		:: HAS(applied & ~unflushed, i) -> pos[i] = 0; before[i] = 0
		:: else
		fi;
		i++
	:: else -> break
	od;
	ring_only = ring_only & ~(applied & ~ready)
}
#endif

inline see()
{
#ifdef WAKE
	seen_published = published;
	seen_diverted = diverted
#else
	skip
#endif
}

#ifdef WAKE
inline arm()
{
	d_step {
		armed = published < seen_published + 1 && diverted == seen_diverted;
		wake_items = (armed -> seen_published + 1 : 7)
	}
}
#endif

/* worker.c detach_worker; with the process goes what it knew of a pass. */
inline gone()
{
	up = false;
	starting = false;
	attended = false;
	stopping = false;
	forced = false;
	terminate = false;
	passes_to_go = 0;
	at_close = 0;
	has_set = false;
	recovered = false;
	set = 0
}

/* ================ producers ================ */

proctype producer(bit me)
{
	byte first = me * PER_PRODUCER;
	byte piece;
	bit to_ring;

next_tx:
	{
		do
		:: first < (me -> PER_PRODUCER + TXS1 * PIECES : PER_PRODUCER) ->
			/* what is ring-only is decided by its target; a transaction may have both */
			atomic {
				piece = 0;
				do
				:: piece < PIECES ->
#ifndef JOURNALLED
					if
					:: true
					:: ring_only = ring_only | BIT(first + piece)
					fi;
#endif
					piece++
				:: else -> break
				od;
				piece = 0;
			d_step { /* admit */
#ifdef HAS_NEW_SERVER
				if
				:: !leased -> leased = true; base = next
				:: else
				fi;
#endif
				in_tx[me] = true;
				n = 0;
				do
				:: n < PIECES ->
					pos[first + n] = next;
					next++;
					before[first + n] = acked | (BIT(first + n) - BIT(first));
					n++
				:: else -> break
				od;
				mine = BIT(first + PIECES) - BIT(first);
#ifndef X_MIXED
				/* all in the journal, or nothing */
				if
				:: (ring_only & mine) != mine -> ring_only = ring_only & ~mine
				:: else
				fi;
#endif
#ifdef WINDOW
				if
				:: late && (mine & BOUNDED) -> ring_only = ring_only & ~mine
				:: else
				fi;
#endif
				if
				:: !closed && !recovering && !diverted && (attended || !(ring_only & mine)) &&
				   tail - head + reserved + PIECES <= SIZE ->
					reserved = reserved + PIECES;
#ifdef SHUTDOWN
					in_ring = in_ring | mine;
#endif
					to_ring = true
				:: else -> /* diverting++; to the journal, all of it */
					to_ring = false;
					ring_only = ring_only & ~mine
				fi;
				check_size()
			}
			}
			if
			:: d_step { /* give_back */
				true ->
				if
				:: to_ring -> reserved = reserved - PIECES
				:: else
				fi;
#ifdef SHUTDOWN
				in_ring = in_ring & ~(BIT(first + PIECES) - BIT(first));
#endif
				ring_only = ring_only & ~(BIT(first + PIECES) - BIT(first));
				forget_history(first);
				first = first + PIECES;
				in_tx[me] = false
			}
			:: d_step { /* commit_rows */
				true ->
				mine = BIT(first + PIECES) - BIT(first);
				committed = committed | mine;
				rows = rows | (mine & ~ring_only);
#ifdef CRASH
				/* a flush of ours is one of all before; what is ring-only alone flushes nothing */
				if
				:: (mine & ~ring_only) -> unflushed = 0; forget_applied()
				:: else
				fi
#endif
			}
				if
				:: to_ring ->
					do
					:: piece < PIECES ->
						d_step { /* begin */
							slot[tail] = first + piece;
							tail++;
							reserved--;
							busy = busy | BIT(first + piece);
							check_size()
						}
						d_step { /* publish */
							busy = busy & ~BIT(first + piece);
							ready = ready | BIT(first + piece);
							piece++;
							if
							:: piece == PIECES ->
								acked = acked | (BIT(first + PIECES) - BIT(first));
								first = first + PIECES;
								in_tx[me] = false
							:: else
							fi;
#ifdef WAKE
							published++;
							if
							:: published >= wake_items -> wake_items = 7; latch = true
							:: else
							fi
#endif
						}
					:: else -> break
					od
				:: else ->
					d_step { /* divert */
#ifdef WAKE
						latch = latch || !diverted;
#endif
#ifndef X_DIVERT
						diverted = true;
#endif
						acked = acked | (BIT(first + PIECES) - BIT(first));
						first = first + PIECES;
						in_tx[me] = false
					}
				fi
			fi
		:: else -> break
		od
	}
#ifdef CRASH
	unless {
		d_step { /* the connection is gone; what had committed by then has, unacknowledged */
			reset_producer[me] ->
			reset_producer[me] = false;
			if
			:: in_tx[me] -> first = first + PIECES
			:: else
			fi;
			in_tx[me] = false;
			piece = 0;
			to_ring = false
		}
		goto next_tx
	}
#endif
}

inline recover()
{
	if
#ifdef X_ONE_PASS
	:: !recovering -> recovering = true; base = NEXT; mark = tail
#else
	/* what is left of a pass is in the first one of ours */
	:: !recovering ->
		recovering = true;
		base = NEXT;
		mark = tail;
		diverted = diverted || pass;
		pass = false
#endif
	:: else
	fi;
	recovered = true
}

inline start()
{
	d_step {
		attended = true;
		starting = false;
		up = true;
		terminate = terminate || shutdown /* SIGTERM has been waiting */
	}
}

inline take_entries(upto)
{
	d_step {
		batch = 0;
		n = 0;
		at = head;
		do
		:: at < upto && n < max && !HAS(busy, slot[at]) ->
			e = slot[at];
			if
			:: HAS(ready, e) ->
				batch = batch | BIT(e);
				n++;
				claim_and_apply(e)
			:: else
			fi;
			at++
		:: else -> break
		od;
		committing = IN_COMMIT && batch != 0
	}
}

inline begin_pass()
{
	d_step {
		if
		:: !pass ->
			pass = true;
			if
			:: recovering ->
				boundary = base;
				base = 0;
				recovering = false
			:: else ->
				mark = tail;
				boundary = NEXT;
				diverted = false
			fi
		:: else
		fi
	}
}

/* The journal's rows of the pass that a snapshot sees now. */
inline scan()
{
	e = 0;
	do
	:: e < N ->
#ifdef X_BOUNDARY
		if
		:: HAS(rows, e) -> set = set | BIT(e)
#else
		if
		:: HAS(rows, e) && pos[e] < boundary -> set = set | BIT(e)
#endif
		:: else
		fi;
		e++
	:: else -> break
	od;
	e = 0
}

inline take_from_pass()
{
	d_step {
		find_below(mark, ready);
		batch = 0;
		n = 0;
		do
		:: n < max && set != 0 ->
			lowest();
			set = set & ~BIT(e);
			/* an entry from the mark on isn't settled, even if its row is in the set */
			batch = batch | (BIT(e) & found);
			claim_and_apply(e);
			n++
		:: else -> break
		od;
		k = 0;
		e = 0;
		committing = IN_COMMIT
	}
}

inline end_pass()
{
	d_step {
		has_set = false;
		pass = false;
		boundary = 0;
		if
		:: !recovering -> mark = 0
		:: else
		fi;
		if
		:: passes_to_go > 0 -> passes_to_go--
		:: else
		fi;
#ifdef FLUSH
		if
		:: flush_passes > 0 -> flush_passes--
		:: else
		fi;
		if
		:: moved_to_go > 0 -> moved_to_go--
		:: else
		fi;
#endif
		free()
	}
}

inline settle_moved()
{
	d_step {
		ready = ready & ~batch;
		ring_only = ring_only & ~batch;
		batch = 0;
		free()
	}
}

inline divert_moved()
{
	d_step {
		diverted = true;
#ifdef FLUSH
		moved_to_go = 1 + pass
#endif
	}
}

/* The transaction that has moved works to the journal has committed. */
inline move()
{
#ifdef X_MOVED
	settle_moved();
	divert_moved();
#else
	divert_moved();
	settle_moved();
#endif
	committing = false
}

/* Room in the ring that somebody has, who has no journal: reserved_alone */
#if defined(SHUTDOWN) && !defined(X_COMMITS)
#define ALONE_MAY_COME (!forced && (in_ring & ring_only & ~ready & ~applied))
#else
#define ALONE_MAY_COME false
#endif

/* What is in the ring alone goes to the journal, under its own position. */
inline save()
{
	d_step {
#ifndef X_SAVE
		!busy && !ALONE_MAY_COME ->
#endif
		find_volatile();
#ifdef X_MOVE_ALL
		rows_again = rows_again | (ready & ~ring_only & rows);
		found = found | ready;
#endif
		rows = rows | found;
		batch = found;
#ifdef SHUTDOWN
		excused = excused | (forced -> in_ring & ~ready & ~applied & ~batch : 0);
#endif
		committing = true
	}
	move()
}

/*
 * One work goes to the journal as records of its own, in its place.  If it has rows there,
 * its entry stays: a pass finds the new ones under it.
 */
inline divide_first()
{
	divide = false;
	batch = 0;
	if
	:: pass ->
		find_below(mark, ready);
		lowest();
		batch = BIT(e) & found & ring_only;
		has_set = false;
		set = 0
	:: else ->
		at = head;
		do
		:: at < tail && !HAS(ready | busy, slot[at]) -> at++
		:: else -> break
		od;
		e = slot[at];
		batch = BIT(e) & ready & ring_only
	fi;
	rows = rows | (BIT(e) & ring_only & ready);
	committing = true;
	e = 0
}

/* The worker has found an entry BUSY. */
inline nap_busy()
{
#ifdef WAKE
	arm();
	if
	:: armed -> d_step { latch -> latch = false; armed = false }
	:: else
	fi
#else
	skip
#endif
}

/* ================ the worker ================ */

proctype worker()
{
	unsigned upto : 4;

end_start:
	{
end_down:
		do
		:: up -> break
		:: d_step { /* launcher, needs_worker: the ring of one that was stopped alone */
			!up && !shutdown && closed -> closed = false; was_stopped = true
		}
		:: d_step { /* launcher: the same, and start */
			!up && !shutdown && !closed &&
				(was_stopped || head < tail || diverted || pass FLUSH_WAITS) -> was_stopped = false; starting = true
		}
			start();
			break
		od;

end_loop:
		do
		:: d_step { /* stop */
			terminate && !stopping ->
			stopping = true;
			closed = true;
			if
			:: !paused && !recovered -> recover()
			:: else
			fi;
			passes_to_go = pass + recovering + diverted;
			at_close = acked
		}
		:: stopping && THROUGH -> break
		:: d_step { stopping && !(THROUGH) -> forced = true } break /* the deadline */
		:: leave && !terminate -> break
		:: d_step { !recovered && !stopping && !terminate && !leave -> recover() }
#ifdef HAS_NEW_SERVER
		:: d_step { /* lease */
#ifdef X_LEASE
			!leased && recovered && !stopping && !terminate && !leave ->
#else
			!leased && recovered && (stopping || !terminate && !leave) ->
#endif
			leased = true;
			base = next
		}
#endif
		:: d_step { /* look */
			MAY_WORK && !recovering && !diverted && !pass && head < tail ->
			upto = tail;
			see()
		}
			if
			:: atomic {
				if
				:: max = 1
				:: max = N
				fi;
				take_entries(upto)
			}
				if
				:: batch != 0 -> settle()
				:: else -> nap_busy()
				fi
#ifdef DIVIDE
			:: d_step { divide && !HAS(busy, slot[head]) -> divide_first() }
				move()
#endif
			fi;
			upto = 0
		/* to look is no step of its own here: only the worker ends a pass or a diversion */
		:: atomic {
			MAY_WORK && (recovering || diverted) && !pass;
#ifdef X_SNAPSHOT
			d_step { set = 0; scan(); snapshot = set; set = 0 }
		}
#endif
			see();
			begin_pass()
#ifndef X_SNAPSHOT
		}
#endif
		:: atomic { /* collect */
			MAY_WORK && pass && !has_set ->
			see();
			d_step { find_below(mark, busy) }
			if
#ifndef X_BUSY
			:: found -> nap_busy()
			:: else ->
#else
			:: true ->
#endif
				d_step {
					has_set = true;
#ifdef X_SNAPSHOT
					set = snapshot & rows;
#else
					scan();
#endif
#ifndef X_DRAIN
					find_ready();
					set = set | found
#endif
				}
			fi
		}
		:: atomic {
			MAY_WORK && has_set && set != 0 ->
			if
			:: max = 1
			:: max = N
			fi;
			take_from_pass()
		}
			settle()
#ifdef DIVIDE
		:: d_step { MAY_WORK && has_set && set != 0 && divide -> divide_first() }
			move();
#endif
#ifdef WINDOW
		:: d_step { /* save_at_risk; what is behind a BUSY one, the next time */
			MAY_WORK && over ->
			late = true;
			has_set = false;
			set = 0;
			find_volatile();
			batch = found & BOUNDED;
			rows = rows | batch;
			safe = safe | batch;
			over = (ready & ring_only & BOUNDED & ~batch) != 0;
			committing = batch != 0
		}
			if
			:: batch != 0 -> move()
			:: else
			fi
		:: d_step { MAY_WORK && late && !over -> late = false } /* a batch was quick */
#endif
		:: d_step { MAY_WORK && has_set && set != 0 -> has_set = false; set = 0 } /* transient */
		:: MAY_WORK && has_set && set == 0 -> end_pass()
#ifdef WAKE
		:: d_step { MAY_WORK && !PENDING -> see() }
			arm();
			if
			:: armed ->
end_idle:		d_step { latch -> latch = false; armed = false }
			:: else
			fi
#endif
		od;

		if
		:: stopping ->
			d_step {
				stop_is_complete = forced || paused || !(at_close & ~applied & ~lost);
				assert(stop_is_complete)
			}
			if
			:: forced || paused -> save()
			:: else
			fi;
			d_step { gone() }
		:: else ->
			d_step { attended = false; leave = false }
			save();
			d_step { gone() }
		fi;
		goto end_start
	}
	unless {
		if
		:: d_step { /* FATAL */
			kill && !committing ->
			kill = false;
			upto = 0;
#ifdef DIVIDE
			divide = true;
#endif
			batch = 0;
			has_set = false;
			set = 0;
			attended = false
		}
#ifndef X_FATAL
			save();
#endif
			d_step { gone() }
#ifdef CRASH
		:: d_step { reset_worker -> reset_worker = false; upto = 0 }
#endif
		fi;
		goto end_start
	}
}

/* ================ what may happen ================ */

inline new_server()
{
	closed = false;
	recovering = true;
	diverted = false;
	pass = false;
	head = 0;
	tail = 0;
	reserved = 0;
	mark = 0;
	boundary = 0;
	base = 0;
	i = 0;
	do
	:: i < N -> slot[i] = 0; i++
	:: else -> break
	od;
	busy = 0;
	ready = 0;
#ifdef SHUTDOWN
	in_ring = 0;
#endif
	ring_only = ring_only & ~rows;
	leased = false;
	was_stopped = false;
	shutdown = false;
	paused = false;
	committing = false;
	batch = 0;
	leave = false;
	kill = false;
	divide = false;
#ifdef WINDOW
	over = false;
	late = false;
#endif
	gone()
}

/* probe.c look_around; only once, so that who comes first may be a producer */
inline probe()
{
	if
	:: d_step { rows != 0 -> diverted = true }
	:: else
	fi
}

#ifdef RESTART
proctype killer()
{
	if
	:: d_step { up -> kill = true }
	:: true
	fi
}
#endif

#ifdef WINDOW
proctype clock()
{
	if
	:: over = true
	:: true
	fi
}
#endif

#ifdef LEAVE
proctype leaver()
{
	if
	:: d_step { up && !terminate -> leave = true }
	:: true
	fi
}
#endif

#ifdef TERMINATE
proctype terminator()
{
	if
	:: d_step { up -> terminate = true; closed = true }
	:: true
	fi
}
#endif

#ifdef SHUTDOWN
/* The postmaster, which waits for all */
proctype stopper()
{
	if
	:: true -> goto done
	:: true
	fi;
	if
	:: paused = true
	:: true
	fi;
	d_step {
		shutdown = true;
		if
		:: up -> terminate = true; closed = true
		:: else
		fi
	}
	true;
	d_step { /* the server has ended */
		!up && !starting && !in_tx[0] && !in_tx[1] ->
		found = committed & ring_only & ~rows & ~applied & ~lost;
		nothing_lost_at_a_stop = !(found & ~excused);
		assert(nothing_lost_at_a_stop);
		lost = lost | found;
		new_server()
	}
	probe();
done:
	skip
}
#endif

#ifdef CRASH
proctype crasher()
{
	if
	:: true -> goto done
	:: atomic {
		if
		:: true
		:: d_step { /* the latest asynchronous commits are lost */
			unflushed != 0 ->
			applied = applied & ~unflushed;
			rows = rows | (unflushed & ~ring_only);
		}
		fi;
		d_step {
			unflushed = 0;
#ifdef WINDOW
			safe_is_safe = !(safe & committed & ring_only & ~rows & ~applied);
			assert(safe_is_safe);
			safe = 0;
#endif
			lost = lost | (committed & ring_only & ~rows & ~applied);
			new_server();
			reset_worker = true;
			reset_producer[0] = true;
			reset_producer[1] = true
		}
	}
	fi;
	probe();
done:
	skip
}
#endif

#ifdef FLUSH
/* flush_function.c wait_until_settled, is_settled */
proctype flusher()
{
	d_step {
		flush_tail = tail;
		flush_passes = pass + recovering + diverted;
		flush_acked = acked
	}
	d_step {
		head >= flush_tail && moved_to_go == 0 && flush_passes == 0 ->
		flush_is_true = !(flush_acked & ~applied & ~lost);
		assert(flush_is_true)
	}
}
#endif

/* When nobody can take a step: has all that was committed been applied? */
proctype judge()
{
	timeout;
	nothing_stranded = !(committed & ~applied & ~lost);
	assert(nothing_stranded);
	assert(reserved == 0)
}

init
{
	atomic {
#ifndef FRESH
		recovered = true;
#endif
#ifdef WAKE
		wake_items = 7;
#endif
		run producer(0);
		run producer(1);
		run worker();
#ifdef RESTART
		run killer();
#endif
#ifdef WINDOW
		run clock();
#endif
#ifdef LEAVE
		run leaver();
#endif
#ifdef TERMINATE
		run terminator();
#endif
#ifdef SHUTDOWN
		run stopper();
#endif
#ifdef CRASH
		run crasher();
#endif
#ifdef FLUSH
		run flusher();
#endif
		run judge()
	}
}
