/*-------------------------------------------------------------------------
 *
 * block_database.h
 *	  Which databases our processes have to stay out of.
 *
 * A backend blocks a database while its command needs the database for itself (DROP DATABASE,
 * DROP EXTENSION, ...).  The worker then leaves, also in the middle of a batch, whose items stay
 * in the ring; so does the retrier; and the launcher starts no other until the last block has
 * ended.  All is under PpShmem.lock, and a worker that attaches looks for a block under that
 * lock, so that none can attach meanwhile.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_BLOCK_DATABASE_H
#define PP_BLOCK_DATABASE_H

#include "ring/shmem.h"

extern bool pp_block_database(Oid database);
extern void pp_block_database_end(Oid database);
extern void pp_block_database_end_all(void);
extern bool pp_block_database_is_on(Oid database);
extern bool pp_block_database_is_on_locked(Oid database);

#endif /* PP_BLOCK_DATABASE_H */
