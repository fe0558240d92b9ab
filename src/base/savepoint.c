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

#include "base/savepoint.h"

PpCatcher
pp_savepoint_catcher(void)
{
	return (PpCatcher){.context = CurrentMemoryContext,
					   .owner = CurrentResourceOwner,
					   .level = GetCurrentTransactionNestLevel(),
					   .holdoffs = InterruptHoldoffCount,
					   .cancel_holdoffs = QueryCancelHoldoffCount};
}

ErrorData *
pp_savepoint_catch(const PpCatcher *catcher)
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
	PpCatcher savepoint = pp_savepoint_catcher();

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
pp_savepoint_run(void (*deed)(void *arg), void *arg)
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
		error = pp_savepoint_catch(&savepoint);
		pp_savepoint_end(&savepoint, false);
	}
	PG_END_TRY();

	return error;
}

ErrorData *
pp_savepoint_run_in_transaction(void (*deed)(void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	PpCatcher catcher = pp_savepoint_catcher();
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
		error = pp_savepoint_catch(&catcher);
		QueryCancelPending = false;
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);

	return error;
}
