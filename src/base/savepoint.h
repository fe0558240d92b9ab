/*-------------------------------------------------------------------------
 *
 * savepoint.h
 *	  Runs something that may fail, and then rolls it back.
 *
 * Raising an error resets the counts that hold off interrupts and cancellations, since the code
 * that holds them off may never continue.  So code that catches an error, and doesn't rethrow it,
 * has to restore these counts:
 *
 *	PpCatcher catcher = pp_savepoint_catcher();
 *
 *	PG_TRY(); ...
 *	PG_CATCH();
 *	{
 *		error = pp_savepoint_catch(&catcher);
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SAVEPOINT_H
#define PP_SAVEPOINT_H

#include "postgres.h"

#include "utils/resowner.h"

/* What an error undoes */
typedef struct PpCatcher
{
	MemoryContext context;
	ResourceOwner owner;
	int level; /* of subtransactions */
	uint32 holdoffs;
	uint32 cancel_holdoffs;
} PpCatcher;

extern PpCatcher pp_savepoint_catcher(void);

/* The error that is being handled, which ends here, in the catcher's memory context. */
extern ErrorData *pp_savepoint_catch(const PpCatcher *catcher);

/* Begin a subtransaction, in the current memory context. */
extern PpCatcher pp_savepoint_begin(void);

/* Keep what has been done since, or roll it back. */
extern void pp_savepoint_end(const PpCatcher *savepoint, bool keep);

/*
 * Do it in a subtransaction, which is rolled back if it fails, in the current memory
 * context.  NULL, or the error.
 */
extern ErrorData *pp_savepoint_run(void (*deed)(void *arg), void *arg);

/* The same in a transaction of our own, by a process that is in none. */
extern ErrorData *pp_savepoint_run_in_transaction(void (*deed)(void *arg), void *arg);

#endif /* PP_SAVEPOINT_H */
