/*-------------------------------------------------------------------------
 *
 * flush_notice.h
 *	  Says in NOTICEs why persist_flush returns false.
 *
 * It names relations that the caller has a right to read or to insert into, or all of them, if he
 * is a member of pg_monitor.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_FLUSH_NOTICE_H
#define PP_FLUSH_NOTICE_H

#include "postgres.h"

#include "ring/shmem.h"

extern char *pp_flush_notice_backs_off(PpSlot *slot);
extern void pp_flush_notice_unsettled(void);
extern void pp_flush_notice_parked(Oid target);
extern void pp_flush_notice_not_preloaded(bool waits);

#endif /* PP_FLUSH_NOTICE_H */
