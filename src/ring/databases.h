/*-------------------------------------------------------------------------
 *
 * databases.h
 *	  Which databases our processes have to stay out of; and what is known of databases with the
 *	  extension that have no slot, and which of them wait for one.
 *
 * A backend blocks a database while its command needs the database for itself (DROP DATABASE,
 * DROP EXTENSION, ...).  The worker then leaves, also in the middle of a batch, whose items stay
 * in the ring; so does the retrier; and the launcher starts no other until the last block has
 * ended.  A worker that attaches looks for a block under PpShmem.lock, so that none can attach
 * meanwhile.
 *
 * PpDatabase.wanted_at is set by a backend that has found no free slot, or when a database gives
 * its slot back while it has parked items to try; it is cleared when the database gets a slot, or
 * is dropped.
 *
 * All is under PpShmem.lock, held exclusively by who changes something.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_DATABASES_H
#define PP_DATABASES_H

#include "ring/shmem.h"

/* Blocked */
extern bool pp_database_block(Oid database);
extern void pp_database_unblock(Oid database);
extern void pp_databases_unblock_all(void);
extern bool pp_database_is_blocked(Oid database);
extern bool pp_database_is_blocked_locked(Oid database);

/* Known; the caller holds the lock */
extern PpDatabase *pp_database_find(Oid database, bool create);
extern void pp_database_forget(Oid database);
extern void pp_database_enter(Oid database);
extern bool pp_database_want_slot(Oid database, PpSteady at);
extern PpDatabase *pp_databases_first_waiting(void);
extern PpSteady pp_databases_next_wait(void);

#endif /* PP_DATABASES_H */
