/*-------------------------------------------------------------------------
 *
 * parents.h
 *	  Rows that wait for rows that their foreign keys refer to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PARENTS_H
#define PP_PARENTS_H

#include "postgres.h"

#include "worker/statement.h"

extern bool pp_parents_lock(Oid relid);
extern bool pp_parents_may_be_parked(const PpRow *row, Oid role, bool itself,
									 const ErrorData *error);
extern Oid pp_parents_failing_table(const ErrorData *error);
extern Oid pp_parents_of_failure(const ErrorData *error);
extern bool pp_parents_covers(Oid target, Oid parent);

#endif /* PP_PARENTS_H */
