/*-------------------------------------------------------------------------
 *
 * trial.h
 *	  One try to insert rows: under a savepoint, and with the clock of statement_timeout.
 *
 * A try that fails leaves no trace but its error, and whether it was the clock that ended
 * it (sieve->timed_out); what one that doesn't has done is in the sieve's results.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_TRIAL_H
#define PP_TRIAL_H

#include "sieve.h"

extern void pp_trial_begin(void);
extern ErrorData *pp_trial_take_error(void);
extern void pp_trial_insert(const PpRow **rows, uint64 n, PpResults *results);
extern ErrorData *pp_try_rows(PpSieve *sieve, const PpRow **rows, uint64 n, uint64 *row);
extern ErrorData *pp_try_for_nothing(PpSieve *sieve, const PpRow *row);
extern ErrorData *pp_try_deferred(PpSieve *sieve, bool keep);

#endif /* PP_TRIAL_H */
