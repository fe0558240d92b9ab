/*-------------------------------------------------------------------------
 *
 * run_as.c
 *	  Runs something with a role's rights; see run_as.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "sql/run_as.h"

/* Is a type, perhaps of the current command, a domain, enum or range in pg_temp? */
static bool
is_temporary_type(Oid type)
{
	Relation rel = table_open(TypeRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool found = false;

	ScanKeyInit(&key, Anum_pg_type_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(type));
	scan = systable_beginscan(rel, TypeOidIndexId, true, SnapshotSelf, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_type form = (Form_pg_type) GETSTRUCT(tuple);

		found = isTempNamespace(form->typnamespace) &&
				(form->typtype == TYPTYPE_DOMAIN || form->typtype == TYPTYPE_ENUM ||
				 form->typtype == TYPTYPE_RANGE);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

static object_access_hook_type outer_access_hook = NULL;

/*
 * Types are looked for in pg_temp first: a domain "text" that is left there would run its
 * CHECK with the rights of who has called us.  In a security-restricted operation servers
 * from 15.20 and 17.12 on refuse it themselves; those before, and 18.6, don't.
 */
static void
refuse_temporary_type(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (outer_access_hook)
		outer_access_hook(access, class, object, sub, arg);
	if (access == OAT_POST_CREATE && class == TypeRelationId && is_temporary_type(object))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("cannot create a type in a temporary schema within "
							   "security-restricted operation")));
}

/* Errors are thrown to the caller; settings that it leaves changed, search_path for one, aren't. */
void
pp_run_as(Oid role, void (*deed)(void *arg), void *arg)
{
	int guc_level = NewGUCNestLevel();
	object_access_hook_type access_hook = object_access_hook;
	Oid caller;
	int context;

	GetUserIdAndSecContext(&caller, &context);
	SetUserIdAndSecContext(role,
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	if (access_hook != refuse_temporary_type)
		outer_access_hook = access_hook;
	object_access_hook = refuse_temporary_type;
	PG_TRY();
	{
		deed(arg);
	}
	PG_FINALLY();
	{
		object_access_hook = access_hook;
		SetUserIdAndSecContext(caller, context);
	}
	PG_END_TRY();
	AtEOXact_GUC(false, guc_level);
}
