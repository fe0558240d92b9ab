/*-------------------------------------------------------------------------
 *
 * bad_rows.h
 *	  Rows that can't be inserted: their dead letters, the limit of those, and messages in the
 *	  log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_BAD_ROWS_H
#define PP_BAD_ROWS_H

#include "ring/slots.h"
#include "store/dead_letters.h"
#include "worker/batch.h"
#include "worker/outcome_counts.h"

/* Why a target is parked when there are too many dead letters already */
#define PP_DEAD_LETTERS_FULL ERRCODE_CONFIGURATION_LIMIT_EXCEEDED

/* A row that can't be inserted; once its transaction has committed, the row may be gone */
typedef struct PpBadRow
{
	const PpRow *row;
	Oid target;
	int64 id;
	ErrorData *error;
	bool deferred; /* it was raised by a deferred trigger or constraint */
} PpBadRow;

extern void pp_bad_rows_write_dead_letter(Oid extension, PpOutcomeCounts *counts, const PpRow *row,
										  Oid role, const ErrorData *error);
extern void pp_bad_rows_write_refused(Oid extension, const PpDeadLetter *letter);
extern void pp_bad_rows_discard(const PpDeadLetter *letter, void *counts);
extern void pp_bad_rows_count_dead_letters(const PpClaim *claim, PpQuota *counts);
extern uint64 pp_bad_rows_room(const PpClaim *claim, Oid role, uint64 wanted);
extern void pp_bad_rows_charge_dead_letter(Oid role);
extern PpBadRow pp_bad_row(const PpRow *row, ErrorData *error);
extern void pp_bad_rows_report(const PpBadRow *bad, uint64 n);
extern void pp_bad_rows_report_rest(void);
extern void pp_bad_rows_expire_dead_letters(const PpClaim *claim);

#endif /* PP_BAD_ROWS_H */
