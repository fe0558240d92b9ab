/*-------------------------------------------------------------------------
 *
 * deferred_mark.h
 *	  A mark in the queue of deferred triggers, to see which of them have come through.
 *
 * Deferred triggers are fired in the order in which their rows were inserted.  The mark is a row
 * of one of our tables, inserted between the other rows, with a deferred trigger: when that
 * trigger is called, those of all rows before it have succeeded.  The row is rolled back.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_DEFERRED_MARK_H
#define PP_DEFERRED_MARK_H

#include "postgres.h"

/* In the current transaction; not passed yet. */
extern void pp_deferred_mark_put(Oid extension);

extern bool pp_deferred_mark_is_passed(void);

#endif /* PP_DEFERRED_MARK_H */
