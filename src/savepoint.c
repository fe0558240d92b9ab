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
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "savepoint.h"

PpCatcher
pp_catcher(void)
{
	return (PpCatcher){.context = CurrentMemoryContext,
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

ErrorData *
pp_under_savepoint(void (*deed)(void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	PpCatcher catcher = pp_catcher();
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		deed(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		error = pp_catch(&catcher);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;

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
