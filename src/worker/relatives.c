/*-------------------------------------------------------------------------
 *
 * relatives.c
 *	  Which parked targets are tried together; see relatives.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/lmgr.h"

#include "store/layouts.h"
#include "worker/batch.h"
#include "worker/relatives.h"

/* What is tried together, of a role */
typedef struct Together
{
	PpParked *const *parked;
	int n;
	Oid role;
} Together;

/* Are items of this target parked, but not among these? */
static bool
is_left_out(Oid target, const void *arg)
{
	const Together *together = arg;
	const PpParked *other = pp_parking_find(target, together->role);

	for (int i = 0; i < together->n; i++)
	{
		if (together->parked[i] == other)
			return false;
	}
	return other && other->whole;
}

/* Does a target that it has replaced wait, and not together with it, among these? */
bool
pp_relatives_leave_out(const PpParked *parked, PpParked *const *together, int n)
{
	Together those = {together, n, parked->key.role};

	return pp_parking_any_replaced(parked->key.target, is_left_out, &those);
}

/* May it be tried together with another one of its role, which waits for a parent? */
static bool
may_join(const PpParked *parked, const PpParked *first)
{
	return parked != first && parked->key.role == first->key.role &&
		   !pp_parking_is_paused(parked->key.target) &&
		   (parked->sqlstate == ERRCODE_FOREIGN_KEY_VIOLATION ||
			parked->retry_at <= pp_steady_now()) &&
		   ConditionalLockRelationOid(pp_layouts_current(parked->key.target), RowExclusiveLock);
}

/* Does one refer to the other, or do the rows of both go into the same relation? */
static bool
are_relatives(const PpTargetRows *one, const PpTargetRows *other)
{
	return pp_batch_is_parent(one, other) || pp_batch_is_parent(other, one) ||
		   pp_batch_are_one(one, other);
}

/* What may be tried together */
typedef struct Relatives
{
	PpParked *parked[PP_RELATIVES];
	PpTargetRows groups[PP_RELATIVES];
	int n;
} Relatives;

static void
add_relative(Relatives *relatives, PpParked *parked)
{
	relatives->parked[relatives->n] = parked;
	relatives->groups[relatives->n] = (PpTargetRows){.target = parked->key.target};
	pp_batch_find_relatives(&relatives->groups[relatives->n++]);
}

/* Those of the others that are relatives of one of these, and of those, and so on */
static void
add_relatives_of(Relatives *relatives, Relatives *others)
{
	for (int i = 0; i < relatives->n; i++) /* which becomes more */
	{
		for (int k = 0; k < others->n; k++)
		{
			PpParked *other = others->parked[k];

			if (!are_relatives(&others->groups[k], &relatives->groups[i]) ||
				pp_relatives_leave_out(other, relatives->parked, relatives->n))
				continue;
			relatives->parked[relatives->n] = other;
			relatives->groups[relatives->n++] = others->groups[k];
			others->n--;
			others->parked[k] = others->parked[others->n];
			others->groups[k--] = others->groups[others->n];
		}
	}
}

/*
 * The rows of the first one wait for parents.  Add those whose target it refers to, or is referred
 * to by, or that go into the same relation, and so on, up to PP_RELATIVES: they are tried
 * together.  Not in a transaction.
 */
void
pp_relatives_add(PpParked **together, int *n)
{
	Relatives relatives = {.n = 0};
	Relatives others = {.n = 0};
	int before;
	MemoryContext caller = CurrentMemoryContext;
	HASH_SEQ_STATUS seq;
	PpParked *parked;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	hash_seq_init(&seq, pp_parking_keys);
	while ((parked = hash_seq_search(&seq)) != NULL)
	{
		if (others.n < PP_RELATIVES - 1 && may_join(parked, together[0]))
			add_relative(&others, parked);
	}
	add_relative(&relatives, together[0]);
	do
	{
		before = relatives.n;
		add_relatives_of(&relatives, &others);
	} while (relatives.n > before); /* one of them may have been what another waited for */
	memcpy(together, relatives.parked, relatives.n * sizeof(PpParked *));
	*n = relatives.n;
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}
