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
 * That allocates nothing and needs no transaction, so a COMMIT callback may have a fault point,
 * too.  No fault point where a spinlock is held: others would spin for as long as it waits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_FAULTS_H
#define PP_FAULTS_H

typedef enum PpFault
{
	/* a session */
	/* it has a ring to put items into: meanwhile another database gets that */
	PP_FAULT_admits,
	PP_FAULT_counts_letters, /* it has counted those that there are: meanwhile more are written */

	/* a worker */
	/* it has looked at all that it can be woken for: meanwhile it is woken */
	PP_FAULT_worker_naps,
	/* its target is paused, or parked: meanwhile it is resumed, or written */
	PP_FAULT_parks,
	/* items, in its transaction: meanwhile another worker takes its place */
	PP_FAULT_settles,
	PP_FAULT_commits,		/* what settles items: nobody takes its place now */
	PP_FAULT_leaves_turn,	/* its ring is empty: meanwhile another database wants that */
	PP_FAULT_removes_note,	/* about items at hand: meanwhile the next worker opens it */

	/* a retrier */
	PP_FAULT_retrier_naps,	 /* as the worker */
	PP_FAULT_retrier_leaves, /* it knows of nothing that is parked: meanwhile something is */
	PP_FAULT_row_is_bad,	 /* for what is wrong with its target: meanwhile that is mended */
} PpFault;

#ifdef PP_FAULTS
#define PP_FAULT(name) ((void) PP_FAULT_##name, pp_fault(#name))
extern void pp_fault(const char *name);
#else
#define PP_FAULT(name) ((void) PP_FAULT_##name)
#endif

#endif /* PP_FAULTS_H */
