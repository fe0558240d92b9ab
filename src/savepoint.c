/*-------------------------------------------------------------------------
 *
 * savepoint.c
 *	  Something that may fail, and then leaves no trace; see savepoint.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"

#include "savepoint.h"

PpCatcher
pp_catcher(void)
{
	return (PpCatcher){.context = CurrentMemoryContext,
					   .owner = CurrentResourceOwner,
					   .level = GetCurrentTransactionNestLevel(),
					   .holdoffs = InterruptHoldoffCount,
					   .cancel_holdoffs = QueryCancelHoldoffCount};
}

ErrorData *
pp_catch(const PpCatcher *catcher)
{
	ErrorData *error;

	MemoryContextSwitchTo(catcher->context);
	error = CopyErrorData();
	FlushErrorState();
	InterruptHoldoffCount = catcher->holdoffs;
	QueryCancelHoldoffCount = catcher->cancel_holdoffs;
	return error;
}

PpCatcher
pp_savepoint_begin(void)
{
	PpCatcher savepoint = pp_catcher();

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(savepoint.context);
	return savepoint;
}

void
pp_savepoint_end(const PpCatcher *savepoint, bool keep)
{
	if (keep)
		ReleaseCurrentSubTransaction();
	else
		while (GetCurrentTransactionNestLevel() > savepoint->level)
			RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(savepoint->context);
	CurrentResourceOwner = savepoint->owner;
}

ErrorData *
pp_under_savepoint(void (*deed)(void *arg), void *arg)
{
	PpCatcher savepoint = pp_savepoint_begin();
	ErrorData *volatile error = NULL;

	PG_TRY();
	{
		deed(arg);
		pp_savepoint_end(&savepoint, true);
	}
	PG_CATCH();
	{
		error = pp_catch(&savepoint);
		pp_savepoint_end(&savepoint, false);
	}
	PG_END_TRY();

	return error;
}

ErrorData *
pp_in_transaction(void (*deed)(void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	PpCatcher catcher = pp_catcher();
	ErrorData *volatile error = NULL;

	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		MemoryContextSwitchTo(caller);
		deed(arg);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		error = pp_catch(&catcher);
		QueryCancelPending = false;
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);

	return error;
}
