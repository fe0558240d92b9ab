/*-------------------------------------------------------------------------
 *
 * copied.h
 *	  Items that are put aside, above all those that came with the files of another
 *	  installation: CREATE DATABASE with a TEMPLATE copies the journal, too.
 *
 * The original database inserts them.  The copy must not, until its owner says so: so a pass
 * doesn't see rows of the journal that belong to another installation (state.h).  The probe,
 * which looks into each new database, or whoever resumes it before that, puts them aside, into
 * the table persist_copied; from there persist_resume() puts them back into the journal as our
 * own, in their order, after all that has been enqueued here, and persist_discard() drops them. 
 * What comes later, as by logical replication, a pass puts there.
 *
 * Rows that can't be read go into persist_copied, too, with installation 0.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_COPIED_H
#define PP_COPIED_H

#include "postgres.h"

#include "store/journal.h"

typedef struct PpFound
{
	PpJournalRef *refs;
	uint64 *positions; /* as they say */
	uint32 n;
	uint64 items; /* items that begin in them, as far as their headers can be trusted */
} PpFound;

/* Rows that a scan has found and that are not to be written; all zero: none */
typedef struct PpDamaged
{
	PpFound damaged;
	PpFound copied; /* another installation's */
} PpDamaged;

/* Called now and then during a long scan: shall it stop? */
typedef bool (*PpWantsStop)(void);

#define PP_COPIED_UNKNOWN PG_UINT64_MAX /* how many there are */

extern bool pp_copied_find(Oid extension, PpWantsStop wants_stop, uint64 *items);
extern void pp_copied_put_aside(Oid extension, const PpJournalRef *refs, uint32 nrefs);
extern void pp_copied_note_damaged(PpDamaged *damaged, const PpJournalRef *ref, uint64 pos,
								   uint64 items, bool copied);
extern void pp_copied_put_damaged_aside(Oid extension, PpSlot *slot, const PpDamaged *damaged);
extern uint64 pp_copied_count(Oid extension);
extern uint64 pp_copied_adopt(Oid extension, int journal, PpTargetVisitor visit, void *arg);
extern uint64 pp_copied_discard(Oid extension);

#endif /* PP_COPIED_H */
