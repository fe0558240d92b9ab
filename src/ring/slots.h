/*-------------------------------------------------------------------------
 *
 * slots.h
 *	  Which database has which slot.
 *
 * A database gets a slot at its first item, if one is free.  Only its own worker gives it back,
 * or the launcher where there is no worker: when it has been idle for worker_idle_timeout, or
 * another database waits for one; besides, it goes with a database that is dropped.  So a process
 * that is attached to a slot keeps it.  A producer keeps a claim: its slot, and the generation of
 * the slot's ring.  It compares the generation before each use, and pp_ring_reserve refuses a
 * claim that is stale.
 *
 * A database that finds no free slot waits for one (PpDatabase.wanted_at), and its items go to
 * the journal meanwhile.  A database that has given its slot back waits for one from the time on
 * when something parked is to be tried.  A slot that is given back goes to the one that has
 * waited longest, under the same lock; PpShmem.slots_wanted tells workers that become idle that
 * somebody waits, and the launcher asks the one that has been idle for longest.
 *
 * What a database's slots have counted is kept until the server stops, for persist_queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SLOTS_H
#define PP_SLOTS_H

#include "ring/shmem.h"

#define PP_SLOT_LOOK_MS 100 /* from one look at a slot to the next, of who waits for something in it */

/* What this process knows of its database's slot */
typedef struct PpClaim
{
	PpSlot *slot;
	uint64 generation; /* of the slot's ring */
	Oid extension;	   /* the installation in this database */
} PpClaim;

/*
 * Under the slot's mutex: does a flush wait for a pass that is due?  Of a ring that has moved on
 * since it asked, so many passes may never come.
 */
static inline bool
pp_slot_awaits_pass(const PpSlot *slot, const PpRingView *view)
{
	return view->passes < slot->flush_passes &&
		   (view->recovering || view->diverted || view->pass || view->passes < view->moved);
}

/*
 * Under the slot's mutex: is `due` of something that still waits?  What is diverted has no
 * position; a time of before the diversion isn't its.
 */
static inline bool
pp_slot_is_due(const PpSlot *slot, const PpRingView *view)
{
	return view->head < slot->due_to || (view->diverted && slot->due >= view->diverted_at);
}

/* Producers */
extern const PpClaim *pp_slot_claim(void);
extern const PpClaim *pp_slot_claimed(void);
extern const PpClaim *pp_slot_await(PpSteady deadline, bool patient, uint32 wait_event);
extern void pp_slot_want_worker(PpSlot *slot, PpSteady until);
extern bool pp_slot_is_wanted(PpSlot *slot);
extern bool pp_slot_is_paused(PpSlot *slot);
extern void pp_slot_forget_claim(void);
extern void pp_slot_end_transaction(bool committed);
extern PpSlot *pp_slot_find(Oid database);
extern Oid pp_slot_database(PpSlot *slot);
extern bool pp_slot_is_owed(Oid database);
extern void pp_slot_know(Oid database, bool paused, bool waits, uint64 enqueued);
extern PpDatabase pp_slot_counts(Oid database);
extern bool pp_slot_known(int number, PpDatabase *known, PpSlot **slot);

/* The slot's worker; pp_slot_attach() also its retrier */
extern bool pp_slot_attach(PpSlot *slot, Oid database, uint64 *generation);
extern void pp_slot_vacate(PpSlot *slot);
extern void pp_slot_detach(PpSlot *slot);
extern bool pp_slot_begin_commit(PpSlot *slot);
extern bool pp_slot_end_commit(PpSlot *slot);
extern bool pp_slot_replace_worker(PpSlot *slot, bool allowed, pid_t *pid, Oid *database,
								   Oid *target);
extern bool pp_slot_give_back(PpSlot *slot, bool to_others);

/* The launcher */
extern long pp_slots_serve(void);

/* Under PpShmem.lock, which pp_slots_unlock() releases */
extern bool pp_slots_serve_locked(void);
extern void pp_slots_unlock(bool served);
extern void pp_slot_want_probe_locked(Oid database);

/* Commands */
extern void pp_slot_probe_database(Oid database);
extern bool pp_slot_pause_changed(Oid database);
extern bool pp_slot_call_pass(Oid database, uint64 items);
extern bool pp_slot_call_first_pass(Oid database);
extern void pp_slots_doubt_pauses(void);
extern uint64 pp_slot_drop(Oid database);
extern uint64 pp_slot_renew(Oid database, Oid gone);

#endif /* PP_SLOTS_H */
