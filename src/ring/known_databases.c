/*-------------------------------------------------------------------------
 *
 * known_databases.c
 *	  What is known of databases without a slot; see known_databases.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "ring/block_database.h"
#include "ring/known_databases.h"

/* Nothing would be lost without it but how much has been written. */
static bool
is_dispensable(const PpDatabase *known)
{
	return known->wanted_at == 0 && known->parked == 0 && !known->waits &&
		   pp_shmem_slot_of(known->database) == NULL;
}

/* What is known of a database; NULL: nothing, and there is no room to `create` it. */
PpDatabase *
pp_known_databases_find(Oid database, bool create)
{
	PpDatabase *unused = NULL;

	for (int i = 0; i < PP_DATABASES; i++)
	{
		PpDatabase *known = &pp_shmem->known[i];

		if (known->database == database)
			return known;
		if (unused == NULL && !OidIsValid(known->database))
			unused = known;
	}
	for (int i = 0; i < PP_DATABASES && create && unused == NULL; i++)
	{
		if (is_dispensable(&pp_shmem->known[i]))
			unused = &pp_shmem->known[i];
	}
	if (!create || unused == NULL)
		return NULL;
	*unused = (PpDatabase){.database = database};
	return unused;
}

void
pp_known_databases_forget(Oid database)
{
	PpDatabase *known = pp_known_databases_find(database, false);

	if (known)
		*known = (PpDatabase){0};
}

/* The database has a slot now: what is noted here is no longer used. */
void
pp_known_databases_enter(Oid database)
{
	PpDatabase *known = pp_known_databases_find(database, true);

	if (known)
	{
		known->waits = false;
		known->wanted_at = 0;
	}
}

/* From then on the database waits for a slot.  False: there is no room to note that. */
bool
pp_known_databases_want_slot(Oid database, PpSteady at)
{
	PpDatabase *known = pp_known_databases_find(database, true);

	if (known == NULL)
		return false;
	if (known->wanted_at == 0 || known->wanted_at > at)
	{
		known->wanted_at = at;
		pp_shmem_wake_launcher();
	}
	if (at <= pp_steady_now())
		pp_shmem->slots_wanted = true;
	return true;
}

/* The database that has waited for a slot for longest; NULL: none does. */
PpDatabase *
pp_known_databases_first(void)
{
	PpSteady now = pp_steady_now();
	PpDatabase *first = NULL;

	for (int i = 0; i < PP_DATABASES; i++)
	{
		PpDatabase *known = &pp_shmem->known[i];

		if (OidIsValid(known->database) && known->wanted_at != 0 && known->wanted_at <= now &&
			(first == NULL || known->wanted_at < first->wanted_at) &&
			!pp_block_database_is_on_locked(known->database))
			first = known;
	}
	return first;
}

/* When the next one begins to wait; PP_NEVER: none will, as far as is known. */
PpSteady
pp_known_databases_next(void)
{
	PpSteady now = pp_steady_now();
	PpSteady next = PP_NEVER;

	for (int i = 0; i < PP_DATABASES; i++)
	{
		if (pp_shmem->known[i].wanted_at > now)
			next = Min(next, pp_shmem->known[i].wanted_at);
	}
	return next;
}
