/*-------------------------------------------------------------------------
 *
 * trial.h
 *	  One try to insert rows: under a savepoint, and with the clock of statement_timeout.
 *
 * One that fails leaves no trace but its error.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_TRIAL_H
#define PP_TRIAL_H

#include "results.h"
#include "savepoint.h"
#include "statement.h"

extern ErrorData *pp_trial_catch(const PpCatcher *catcher);
extern void pp_trial_insert(const PpRow **rows, uint64 n, PpResults *results);
extern ErrorData *pp_trial_under_savepoint(const PpRow **rows, uint64 n, bool deferred,
										   PpResults *results, bool *timed_out);

#endif /* PP_TRIAL_H */
