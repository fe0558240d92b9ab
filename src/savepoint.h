/*-------------------------------------------------------------------------
 *
 * savepoint.h
 *	  Something that may fail, and then leaves no trace.
 *
 * An error lets go of all that holds off interrupts and cancellations, since whoever holds
 * them off may not be reached again.  So whoever catches an error, and doesn't throw it on,
 * holds off again what was held off before:
 *
 *	PpCatcher catcher = pp_catcher();
 *
 *	PG_TRY(); ...
 *	PG_CATCH();
 *	{
 *		error = pp_catch(&catcher);
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

extern PpCatcher pp_catcher(void);

/* The error that is being handled, which ends here, in the catcher's memory context. */
extern ErrorData *pp_catch(const PpCatcher *catcher);

/* Begin a subtransaction, in the current memory context. */
extern PpCatcher pp_savepoint_begin(void);

/* Keep what has been done since, or roll it back. */
extern void pp_savepoint_end(const PpCatcher *savepoint, bool keep);

/*
 * Do it in a subtransaction, which is rolled back if it fails, in the current memory
 * context.  NULL, or the error.
 */
extern ErrorData *pp_under_savepoint(void (*deed)(void *arg), void *arg);

/* The same in a transaction of our own, by a process that is in none. */
extern ErrorData *pp_in_transaction(void (*deed)(void *arg), void *arg);

#endif /* PP_SAVEPOINT_H */
