/*-------------------------------------------------------------------------
 *
 * known.c
 *	  What is known of databases without a lane; see known.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "hold.h"
#include "known.h"

/* Nothing would be lost without it but how much has been written. */
static bool
is_dispensable(const PpKnown *known)
{
	return known->wanted_at == 0 && known->parked == 0 && !known->waits &&
		   pp_lane_of(known->database) == NULL;
}

/* What is known of a database; NULL: nothing, and there is no room to `create` it. */
PpKnown *
pp_known_find(Oid database, bool create)
{
	PpKnown *unused = NULL;

	for (int i = 0; i < PP_KNOWN; i++)
	{
		PpKnown *known = &pp_shared->known[i];

		if (known->database == database)
			return known;
		if (unused == NULL && !OidIsValid(known->database))
			unused = known;
	}
	for (int i = 0; i < PP_KNOWN && create && unused == NULL; i++)
	{
		if (is_dispensable(&pp_shared->known[i]))
			unused = &pp_shared->known[i];
	}
	if (!create || unused == NULL)
		return NULL;
	*unused = (PpKnown){.database = database};
	return unused;
}

void
pp_known_forget(Oid database)
{
	PpKnown *known = pp_known_find(database, false);

	if (known)
		*known = (PpKnown){0};
}

/* It has a lane, which knows better. */
void
pp_known_enter(Oid database)
{
	PpKnown *known = pp_known_find(database, true);

	if (known)
	{
		known->waits = false;
		known->wanted_at = 0;
	}
}

/* From then on the database waits for a lane.  False: there is no room to note that. */
bool
pp_known_want(Oid database, PpSteady at)
{
	PpKnown *known = pp_known_find(database, true);

	if (known == NULL)
		return false;
	if (known->wanted_at == 0 || known->wanted_at > at)
	{
		known->wanted_at = at;
		pp_launcher_wake();
	}
	if (at <= pp_steady_now())
		pp_shared->lanes_wanted = true;
	return true;
}

/* The database that has waited for a lane for longest; NULL: none does. */
PpKnown *
pp_known_first(void)
{
	PpSteady now = pp_steady_now();
	PpKnown *first = NULL;

	for (int i = 0; i < PP_KNOWN; i++)
	{
		PpKnown *known = &pp_shared->known[i];

		if (OidIsValid(known->database) && known->wanted_at != 0 && known->wanted_at <= now &&
			(first == NULL || known->wanted_at < first->wanted_at) &&
			!pp_is_held_locked(known->database))
			first = known;
	}
	return first;
}

/* When the next one begins to wait; PP_NEVER: none will, as far as is known. */
PpSteady
pp_known_next(void)
{
	PpSteady now = pp_steady_now();
	PpSteady next = PP_NEVER;

	for (int i = 0; i < PP_KNOWN; i++)
	{
		if (pp_shared->known[i].wanted_at > now)
			next = Min(next, pp_shared->known[i].wanted_at);
	}
	return next;
}
