/*-------------------------------------------------------------------------
 *
 * publish.h
 *	  From a transaction that commits to the ring and the journal.
 *
 *	pp_publish_prepare	 at PRE_COMMIT: a position and room in the ring, or the
 *						 journal alone; the shares of the roles; rows into the journal.
 *						 The last things that can fail
 *	pp_publish_commit	 at COMMIT: entries into the ring, or the ring is diverted
 *	pp_publish_abort	 at ABORT, also after a prepare that has failed: all is given
 *						 back
 *	pp_publish_now		 at once, into the ring alone, for an item that is not transactional
 *
 * A database that finds no free slot has no ring.  Its items go to the journal, with positions
 * that are taken from the sequence directly; if it gets a slot later, that begins with higher
 * ones.  The commit says that the database waits for a slot (slots.h); a probe is asked for only
 * where there is no room to note that.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PUBLISH_H
#define PP_PUBLISH_H

#include "base/item.h"
#include "producer/admission.h"

extern void pp_publish_prepare(PpPublish *publish, PpSpill *bytes, PpPiece *pieces, int npieces);
extern void pp_publish_commit(PpPublish *publish, int flush_interval);
extern void pp_publish_abort(PpPublish *publish);
extern void pp_publish_now(const PpItem *item, int flush_interval);

#endif /* PP_PUBLISH_H */
