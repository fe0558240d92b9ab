/*-------------------------------------------------------------------------
 *
 * faults.h
 *	  Fault points: where a test holds a process, has it fail, or ends it.
 *
 * A race is a moment in which one process has looked at something and another one changes it.
 * A fault point stands in such a moment, so that a test can make it last.  All of them are listed
 * here.  The library has them only if it is built with "make PP_FAULTS=1", as test/t/Faults.pm
 * does; else a fault point is nothing at all.
 *
 * A test asks for one with a file in the data directory, pp_faults/NAME, which says what is to
 * happen there, once, to the process that comes first:
 *
 *	wait	until the test removes the file, or the server has died, or an interrupt ends that,
 *			where interrupts are served
 *	hang	the same, but no interrupt is served
 *	error	an ERROR
 *	crash	it is killed
 *
 * The process renames the file to NAME.PID, which tells the test that it is there; for the next
 * one the test asks anew.
 *
 * They serve all majors alike.  The server's own injection points are there from 17 on, and only
 * in a server that is built with them, which Debian's is not.
 *
 * A fault point allocates nothing and needs no transaction, so a COMMIT callback may have one, too.
 * No fault point where a spinlock is held: others would spin for as long as it waits.
 *
 * Mistakes are another thing: what a process does wrong for as long as the file is there, so that
 * a test can show that other tests would find it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_FAULTS_H
#define PP_FAULTS_H

typedef enum PpFault
{
	/* A session has a ring to put items into.  Meanwhile another database gets that ring. */
	PP_FAULT_admits,
	/* A session has counted the dead letters that there are.  Meanwhile more are written. */
	PP_FAULT_counts_letters,
	/* A session has read an item in the ring.  Meanwhile it is settled. */
	PP_FAULT_reads_entry,
	/* A session has looked for an item in the ring.  Meanwhile it comes to a table. */
	PP_FAULT_has_looked_in_ring,
	/* A session is about to delete a parked item.  Meanwhile it is written, or parked again. */
	PP_FAULT_discards_parked,
	/* A session has looked for an item everywhere.  Meanwhile it comes to the ring. */
	PP_FAULT_has_looked_once,

	/* A worker has looked at all that it can be woken for.  Meanwhile it is woken. */
	PP_FAULT_worker_naps,
	/*
	 * A worker is about to park items, since their target is paused or parked.  Meanwhile that is
	 * resumed, or its parked items are written.
	 */
	PP_FAULT_parks,
	/* A worker's transaction is about to settle items.  Meanwhile another takes its place. */
	PP_FAULT_settles,
	/* A worker is about to commit what settles items.  Nobody takes its place now. */
	PP_FAULT_commits,
	/* A worker's batch has committed, and its end is near.  Meanwhile a flush sees what is parked. */
	PP_FAULT_ends_batch,
	/* A worker leaves, with its ring empty.  Meanwhile another database wants the ring. */
	PP_FAULT_leaves_turn,
	/* A worker removes the file that notes what it tries.  Meanwhile the next one opens it. */
	PP_FAULT_removes_note,

	/* A retrier has looked at all that it can be woken for.  Meanwhile it is woken. */
	PP_FAULT_retrier_naps,
	/* A retrier knows of nothing that is parked, and leaves.  Meanwhile something is parked. */
	PP_FAULT_retrier_leaves,
	/* A row is bad for what is wrong with its target.  Meanwhile that is mended. */
	PP_FAULT_row_is_bad,

	/* A probe has looked whether items wait.  Meanwhile some come. */
	PP_FAULT_looks_around,
} PpFault;

typedef enum PpMistake
{
	/* An INSERT is for one row less than it is thought to be. */
	PP_MISTAKE_drops_row,
	/* The first two rows of a target are swapped, if they are of one transaction. */
	PP_MISTAKE_swaps_rows,
	/* Of the rows of one key in a batch only the first one updates what is there. */
	PP_MISTAKE_keeps_first,
} PpMistake;

#ifdef PP_FAULTS
#define PP_FAULT(name) ((void) PP_FAULT_##name, pp_fault(#name))
extern void pp_fault(const char *name);
#define PP_MISTAKE(name) ((void) PP_MISTAKE_##name, pp_fault_mistake(#name))
extern bool pp_fault_mistake(const char *name);
#else
#define PP_FAULT(name) ((void) PP_FAULT_##name)
#define PP_MISTAKE(name) ((void) PP_MISTAKE_##name, false)
#endif

#endif /* PP_FAULTS_H */
