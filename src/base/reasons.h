/*-------------------------------------------------------------------------
 *
 * reasons.h
 *	  What an SQLSTATE says, as a sentence for people.
 *
 * Of an error that a target has raised more people are told its SQLSTATE than its message, which
 * may have values of an item.  So do the log, and whoever looks at what is parked.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_REASONS_H
#define PP_REASONS_H

#include "postgres.h"

extern const char *pp_reason(int sqlstate);
extern const char *pp_reason_parked(int sqlstate, bool paused);

#endif /* PP_REASONS_H */
