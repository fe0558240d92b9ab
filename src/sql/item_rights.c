/*-------------------------------------------------------------------------
 *
 * item_rights.c
 *	  Says whose an item is; see item_rights.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "base/extension.h"
#include "sql/item_rights.h"
#include "store/layouts.h"

/* Superusers own all relations, but for those that are no more. */
static bool
owns_target(Oid target)
{
	return SearchSysCacheExists1(RELOID, ObjectIdGetDatum(target))
			   ? pp_owns_relation(target, GetUserId())
			   : superuser();
}

static bool
is_role_still_named(const char *name_then, const char *name)
{
	return name_then == NULL || (name && strcmp(name_then, name) == 0);
}

/* Which names are quoted says quote_all_identifiers, of the session that has written it down. */
static bool
is_target_still_named(const char *name_then, const char *name)
{
	return name_then == NULL || (name && equal(textToQualifiedNameList(cstring_to_text(name_then)),
											   textToQualifiedNameList(cstring_to_text(name))));
}

/* Has the caller the rights of who has enqueued it, or of who owns its target? */
bool
pp_item_rights_to_know(Oid target, const char *target_name, Oid role, const char *role_name)
{
	Oid extension = pp_extension_oid();

	if (superuser() || GetUserId() == pp_extension_owner(extension))
		return true;
	if (has_privs_of_role(GetUserId(), role) &&
		is_role_still_named(role_name, GetUserNameFromId(role, true)))
		return true;
	return owns_target(target) &&
		   is_target_still_named(target_name, pp_layouts_target_name(extension, target));
}

/* 42501 unless the target is the caller's. */
void
pp_item_rights_check_owner(Oid target, int64 id)
{
	char *name;

	if (owns_target(target))
		return;
	name = get_rel_name(target);
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					name ? errmsg("must be owner of relation %s", name)
						 : errmsg("must be superuser, since the relation is no more"),
					errdetail("Parked item %lld is for it.", (long long) id)));
}
