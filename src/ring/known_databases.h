/*-------------------------------------------------------------------------
 *
 * known_databases.h
 *	  What is known of databases with the extension that have no slot, and which of them wait for
 *	  one.
 *
 * All is under PpShmem.lock, held exclusively by who changes something.  PpDatabase.wanted_at is
 * set by a backend that has found no free slot, or when a database gives its slot back while it
 * has parked items to try; it is cleared when the database gets a slot, or is dropped.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_KNOWN_DATABASES_H
#define PP_KNOWN_DATABASES_H

#include "ring/shmem.h"

extern PpDatabase *pp_known_databases_find(Oid database, bool create);
extern void pp_known_databases_forget(Oid database);
extern void pp_known_databases_enter(Oid database);
extern bool pp_known_databases_want_slot(Oid database, PpSteady at);
extern PpDatabase *pp_known_databases_first(void);
extern PpSteady pp_known_databases_next(void);

#endif /* PP_KNOWN_DATABASES_H */
