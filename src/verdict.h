/*-------------------------------------------------------------------------
 *
 * verdict.h
 *	  What an error says of the items that it came from.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_VERDICT_H
#define PP_VERDICT_H

#include "postgres.h"

#include "statement.h"

extern bool pp_is_transient(const ErrorData *error);
extern bool pp_is_doubtful(const ErrorData *error);
extern bool pp_is_items_fault(const ErrorData *error);
extern bool pp_is_of_route(const ErrorData *error);
extern bool pp_is_alike(const ErrorData *a, const ErrorData *b);
extern bool pp_lock_parents(Oid relid);
extern bool pp_waits_for_parent(const PpRow *row, Oid role, bool itself, const ErrorData *error);

#endif /* PP_VERDICT_H */
