/*-------------------------------------------------------------------------
 *
 * identity.c
 *	  Run a transaction of the worker as another role; see identity.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "commands/async.h"
#include "commands/prepare.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/config.h"
#include "worker/identity.h"
#include "worker/leftovers.h"
#include "worker/role_settings.h"

static Oid worker_role;
static int guc_level;
static volatile bool committing = false;

/* Called once, when the worker has connected. */
void
pp_identity_init(void)
{
	worker_role = GetSessionUserId();

	StartTransactionCommand();
	pp_role_settings_undo_own(worker_role);
	CommitTransactionCommand();
	pp_leftovers_init();
	pp_role_settings_force();
}

/* Does this process insert as others, and not as its session (mode "direct")? */
bool
pp_identity_is_ours(void)
{
	return OidIsValid(worker_role);
}

/* Wait for locks no longer than that, in this transaction. */
void
pp_identity_set_lock_timeout(int ms)
{
	char value[32];

	snprintf(value, sizeof(value), "%d", ms);
	(void) set_config_option("lock_timeout", value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
							 true, 0, false);
}

/* Has code of another role left something here that this one's must not find? */
bool
pp_identity_is_spent(Oid role)
{
	return !pp_leftovers_may_serve(role);
}

/* Start a transaction as this role, with this lock_timeout, in ms.  42704 if the role is gone. */
void
pp_identity_begin(Oid role, int lock_timeout)
{
	char *name;

	committing = false;
	SetCurrentStatementStartTimestamp(); /* a transaction's now() is this */
	StartTransactionCommand();

	name = GetUserNameFromId(role, true);
	if (name == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("role with OID %u does not exist", role)));

	/* as a setting, since code may look at it */
	guc_level = NewGUCNestLevel();
	(void) set_config_option("session_authorization", name, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SetUserIdAndSecContext(role, SECURITY_LOCAL_USERID_CHANGE);
	pp_role_settings_apply(role); /* some ask for the role's rights */
	pp_identity_set_lock_timeout(lock_timeout);
	pp_leftovers_begin(role);
}

/* Be the superuser again, in a session without traces of the role's code. */
static void
come_back(void)
{
	Oid temp_namespace;
	Oid temp_toast_namespace;

	/* a cancellation that came too late must not hit this */
	HOLD_CANCEL_INTERRUPTS();
	committing = false;

	SetUserIdAndSecContext(worker_role, 0);
	SetSessionAuthorization(worker_role, true);

	ResetAllOptions();
	LockReleaseAll(USER_LOCKMETHOD, true);
	DropAllPreparedStatements();
	PortalHashTableDeleteAll();
	pp_leftovers_reset();

	GetTempNamespaceState(&temp_namespace, &temp_toast_namespace);
	if (OidIsValid(temp_namespace))
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		ResetTempTableNamespace();
		PopActiveSnapshot();
		CommitTransactionCommand();
	}

	QueryCancelPending = false;
	RESUME_CANCEL_INTERRUPTS();
}

/*
 * The settings go back, and the transaction stays the role's.  With session_authorization goes
 * "role", which makes the session's user the current one, and must not do so where that is
 * restricted.
 */
static void
take_settings_back(void)
{
	Oid role;
	int context;

	GetUserIdAndSecContext(&role, &context);
	SetUserIdAndSecContext(worker_role, 0);
	AtEOXact_GUC(false, guc_level);
	SetUserIdAndSecContext(role, context);
}

/*
 * Check what was deferred, and commit.  On error the transaction is still open:
 * pp_identity_abort() is due.
 */
void
pp_identity_commit(void)
{
	ConstraintsSetStmt *all_immediate = makeNode(ConstraintsSetStmt);

	/* before the settings go back, so that deferred code sees what the rest saw */
	AfterTriggerSetState(all_immediate);

	Async_UnlistenAll();
	take_settings_back();
	committing = true;
	/* what a tick has left before that would hit another server's COMMIT */
	CHECK_FOR_INTERRUPTS();
	CommitTransactionCommand();

	come_back();
}

/* Has the last transaction come to its COMMIT?  Other servers may have committed before. */
bool
pp_identity_is_committing(void)
{
	return committing;
}

/*
 * Roll the transaction back, if one is open; all of it, wherever the error has come from:
 * in a subtransaction AbortCurrentTransaction() would end just that.
 */
void
pp_identity_abort(void)
{
	QueryCancelPending = false;
	AbortOutOfAnyTransaction();
	come_back();
}
