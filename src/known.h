/*-------------------------------------------------------------------------
 *
 * known.h
 *	  What is known of databases with the extension beyond what their lanes know, and which
 *	  of them wait for one.
 *
 * All is under PpShared.lock, held exclusively by who changes something.  A wish for a lane
 * (PpKnown.wanted_at) is a backend's that has found none, or that of a database which has given
 * its lane back and has parked items to try; it ends when the database gets a lane, or is
 * dropped.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_KNOWN_H
#define PP_KNOWN_H

#include "shmem.h"

extern PpKnown *pp_known_find(Oid database, bool create);
extern void pp_known_forget(Oid database);
extern void pp_known_enter(Oid database);
extern bool pp_known_want(Oid database, PpSteady at);
extern PpKnown *pp_known_first(void);
extern PpSteady pp_known_next(void);

#endif /* PP_KNOWN_H */
