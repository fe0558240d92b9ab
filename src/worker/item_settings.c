/*-------------------------------------------------------------------------
 *
 * item_settings.c
 *	  Settings that go with items; see item_settings.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/guc.h"
#include "utils/guc_tables.h"

#include "base/compat.h"
#include "worker/identity.h"
#include "worker/item_settings.h"
#include "worker/leftovers.h"
#include "worker/role_settings.h"

#define MAX_CAPTURED 16
#define OURS "persist_pipeline."

/* Who may set it?  A custom one that nobody has heard of: everybody. */
static GucContext
context_of(const char *name, bool *known)
{
	GucContext context = PGC_USERSET;
	int n;
	struct config_generic **records = pp_config_records(&n);

	*known = false;
	for (int i = 0; i < n && !*known; i++)
	{
		if (pg_strcasecmp(records[i]->name, name) != 0)
			continue;
		*known = true;
		context = records[i]->context;
	}
	pp_config_records_free(records);
	return context;
}

/* Does it look like a.b?  A name that nobody knows has to. */
static bool
is_custom(const char *name)
{
	static const char *const letters =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789$";
	bool dot = false;

	for (;;)
	{
		Size length = strspn(name, letters);

		if (length == 0 || strchr("0123456789$", name[0]))
			return false;
		if (name[length] == '\0')
			return dot;
		if (name[length] != '.')
			return false;
		dot = true;
		name += length + 1;
	}
}

/*
 * May these settings go with items?  Errors: 54000 they are too many; 42704 there is none of that
 * name; 42501 not everybody may set it; 0A000 it is none that an item's INSERT could have.
 */
void
pp_item_settings_check(List *names)
{
	ListCell *cell;

	if (list_length(names) > MAX_CAPTURED)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("\"capture_settings\" has %d names", list_length(names)),
						errdetail("The limit is %d.", MAX_CAPTURED)));
	foreach (cell, names)
	{
		const char *name = lfirst(cell);
		bool known;
		GucContext context = context_of(name, &known);

		if (!known && !is_custom(name))
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
							errmsg("unrecognized configuration parameter \"%s\"", name)));
		if (context != PGC_USERSET)
			ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
							errmsg("setting \"%s\" cannot go with items", name),
							errdetail("Not every role may set it.")));
		if (pp_role_settings_keeps_out(name) || pg_strncasecmp(name, OURS, strlen(OURS)) == 0)
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("setting \"%s\" cannot go with items", name),
							errdetail("It is about the session, or its transaction, and not about "
									  "rows.")));
	}
}

/*
 * Set the item's, as the current user; returns the level to be reset: 0: it has none, or the
 * session that inserts it has them.  After an error the end of the transaction, or of the
 * subtransaction, resets them.
 */
int
pp_item_settings_set(const PpItem *item)
{
	uint32 length;
	const char *at = pp_item_settings(item, &length);
	const char *end = at + length;
	int level;

	if (length == 0 || !pp_identity_is_ours())
		return 0;
	level = NewGUCNestLevel();
	while (at < end)
	{
		const char *name = at;
		const char *value = name + strlen(name) + 1;
		bool known;

		at = value + strlen(value) + 1;
		(void) context_of(name, &known);
		if (pp_role_settings_keeps_out(name))
			continue; /* the configuration was restored from who knows where */
		(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true,
								 ERROR, false);
		if (!known)
			pp_leftovers_expect_placeholder();
	}
	return level;
}

/* Code that has set one of them for its session has set it for this INSERT alone, too. */
void
pp_item_settings_reset(int level)
{
	if (level > 0)
		AtEOXact_GUC(false, level);
}

/* Has code asked for a setting that the worker doesn't have?  Its session had it, perhaps. */
void
pp_item_settings_explain(ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_UNDEFINED_OBJECT && error->detail == NULL &&
		error->message_id &&
		strcmp(error->message_id, "unrecognized configuration parameter \"%s\"") == 0)
		error->detail = pstrdup("Settings of the session that has enqueued the item are there when "
								"it is inserted only if the target's \"capture_settings\" names "
								"them.");
}
