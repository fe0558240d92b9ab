/*-------------------------------------------------------------------------
 *
 * savepoint.h
 *	  Something that may fail, and then leaves no trace.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SAVEPOINT_H
#define PP_SAVEPOINT_H

#include "postgres.h"

/*
 * Do it in a subtransaction, which is rolled back if it fails, in the current memory
 * context.  NULL, or the error.
 */
extern ErrorData *pp_under_savepoint(void (*deed)(void *arg), void *arg);

/* The same in a transaction of our own, by a process that is in none. */
extern ErrorData *pp_in_transaction(void (*deed)(void *arg), void *arg);

#endif /* PP_SAVEPOINT_H */
