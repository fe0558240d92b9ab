/*-------------------------------------------------------------------------
 *
 * letterbox.h
 *	  Dead letters of rows: shown, written, told of, and not too many.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_LETTERBOX_H
#define PP_LETTERBOX_H

#include "batch.h"
#include "lane.h"
#include "letters.h"
#include "results.h"

/* Why a target is parked whose bad items may not become dead letters */
#define PP_LETTERS_FULL ERRCODE_CONFIGURATION_LIMIT_EXCEEDED

/* A row that can't be inserted; once its transaction has committed, the row may be gone */
typedef struct PpBad
{
	const PpRow *row;
	Oid target;
	int64 id;
	ErrorData *error;
	bool deferred; /* it was raised by what is deferred */
} PpBad;

extern ErrorData *pp_error(int sqlstate, const char *message);
extern ErrorData *pp_error_shorten(ErrorData *error);
extern void pp_error_abridge(ErrorData *error);
extern size_t pp_error_size(const ErrorData *error);
extern void pp_letterbox_bury(Oid extension, PpResults *results, const PpRow *row, Oid role,
							  const ErrorData *error);
extern void pp_letterbox_refuse(Oid extension, const PpLetter *letter);
extern void pp_letterbox_count(const PpClaim *claim, PpQuota *counts);
extern uint64 pp_letterbox_room(const PpClaim *claim, Oid role, uint64 wanted);
extern PpBad pp_bad(const PpRow *row, ErrorData *error);
extern void pp_letterbox_report(const PpBad *bad, uint64 n);
extern void pp_letterbox_say(void);
extern void pp_letterbox_expire(const PpClaim *claim);

#endif /* PP_LETTERBOX_H */
