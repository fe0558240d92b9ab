/*-------------------------------------------------------------------------
 *
 * slots_claim.c
 *	  The claim of this process to its database's slot, or its wait for one; see slots.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "base/config.h"
#include "base/extension.h"
#include "ring/known_databases.h"
#include "ring/slots.h"

static PpClaim mine = {NULL, 0, InvalidOid};
static bool mine_is_new = false; /* of an installation that hasn't been committed */

static bool
is_good(const PpClaim *claim)
{
	return claim->slot != NULL && !pp_ring_is_stale(&claim->slot->ring, claim->generation);
}

/* The current database's slot; `create`: a free one, if it has none, or else it waits for one. */
static PpClaim
look(bool create)
{
	PpClaim claim = {NULL, 0, InvalidOid};

	LWLockAcquire(pp_shmem->lock, LW_EXCLUSIVE);
	claim.slot = pp_shmem_slot_of(MyDatabaseId);
	if (claim.slot && create)
		pp_known_databases_enter(MyDatabaseId);
	else if (create)
	{
		claim.slot = pp_shmem_slot_of(InvalidOid);
		if (claim.slot)
			pp_slot_assign_locked(claim.slot, MyDatabaseId);
		else
			(void) pp_known_databases_want_slot(MyDatabaseId, pp_steady_now());
	}
	if (claim.slot)
		claim.generation = pp_ring_view(&claim.slot->ring).generation;
	LWLockRelease(pp_shmem->lock);

	return claim;
}

/*
 * The claim to the current database's slot.  NULL: all slots have items of other
 * databases.  The errors of pp_extension_get().
 */
const PpClaim *
pp_slot_claim(void)
{
	while (!is_good(&mine))
	{
		PpClaim claim;

		/* if the extension can't be used here, another database should have the slot */
		(void) pp_extension_get();

		claim = look(true);
		if (claim.slot == NULL)
			return NULL;

		/* after the generation: if it changes from now on, so does that */
		claim.extension = pp_extension_oid();
		mine = claim;
		mine_is_new = pp_extension_is_uncommitted(claim.extension);
	}
	return &mine;
}

/* The same, but NULL if the database has no slot. */
const PpClaim *
pp_slot_claimed(void)
{
	if (!is_good(&mine) && look(false).slot == NULL)
		return NULL;
	return pp_slot_claim();
}

/* This transaction changes the extension: the claim has to be looked up again. */
void
pp_slot_forget_claim(void)
{
	mine.slot = NULL;
}

/* Could a database do without its slot, now or after a try? */
static bool
any_is_empty(void)
{
	bool any = false;

	LWLockAcquire(pp_shmem->lock, LW_SHARED);
	for (int i = 0; i < pp_config_max_databases && !any; i++)
		any = pp_slot_is_empty_locked(pp_shmem_slot(i));
	LWLockRelease(pp_shmem->lock);

	return any;
}

/*
 * The same, but wait for one.  NULL: there was none up to the deadline, or, unless
 * `patient`, all have items of other databases.
 */
const PpClaim *
pp_slot_await(PpSteady deadline, bool patient, uint32 wait_event)
{
	const PpClaim *claim;
	long ms;

	if ((claim = pp_slot_claim()) != NULL)
		return claim;
	ConditionVariablePrepareToSleep(&pp_shmem->served);
	while ((claim = pp_slot_claim()) == NULL && (patient || any_is_empty()) &&
		   (ms = pp_steady_ms_until(deadline)) > 0)
		(void) ConditionVariableTimedSleep(&pp_shmem->served, Min(ms, PP_SLOT_LOOK_MS), wait_event);
	ConditionVariableCancelSleep();
	return claim;
}

/*
 * A transaction, or a subtransaction that didn't commit, has ended.  Forget a claim that names an
 * installation which was created in it.  Other claims are kept, since looking one up costs more
 * than a savepoint.
 */
void
pp_slot_end_transaction(bool committed)
{
	if (!committed && mine_is_new)
		pp_slot_forget_claim();
	if (committed || mine.slot == NULL)
		mine_is_new = false;
}
