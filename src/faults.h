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
 *	wait	until the test removes the file, or an interrupt ends that, where interrupts are served
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
	PP_FAULT_worker_naps,  /* it has looked at all that it can be woken for, and sleeps now ... */
	PP_FAULT_retrier_naps, /* ... the same; what they are woken for just then is seen */
	PP_FAULT_parks,		   /* a worker has seen that a target is paused, or parked: meanwhile that
							* is resumed, or the retrier has written all of it, and left */
	PP_FAULT_row_is_bad,   /* its target is mended between two tries: order holds */
	PP_FAULT_retrier_leaves, /* it knows of nothing that is parked: meanwhile something is */
	PP_FAULT_removes_note, /* about items at hand: meanwhile the next worker has opened it */
	PP_FAULT_leaves_turn,  /* a worker whose ring is empty: nobody else gets that meanwhile */
	PP_FAULT_settles,	   /* items, with its transaction: meanwhile another worker takes its place */
	PP_FAULT_has_committed, /* but they are still in the ring: nobody takes its place now */
} PpFault;

#ifdef PP_FAULTS
#define PP_FAULT(name) pp_fault(PP_FAULT_##name, #name)
extern void pp_fault(PpFault fault, const char *name);
#else
#define PP_FAULT(name) ((void) PP_FAULT_##name)
#endif

#endif /* PP_FAULTS_H */
