/*-------------------------------------------------------------------------
 *
 * mark.h
 *	  A mark in the queue of deferred triggers, to see which of them have come through.
 *
 * Deferred triggers are fired in the order in which their rows were inserted.  The mark is a
 * row of a table of ours, between others', with a deferred trigger: when that is called, all
 * before it have come through.  The row is rolled back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_MARK_H
#define PP_MARK_H

#include "postgres.h"

/* In the current transaction; not passed yet. */
extern void pp_mark_put(Oid extension);

extern bool pp_mark_is_passed(void);

#endif /* PP_MARK_H */
