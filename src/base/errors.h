/*-------------------------------------------------------------------------
 *
 * errors.h
 *	  Makes an ErrorData without raising it, and shortens long ones; refuses arguments that are
 *	  NULL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ERRORS_H
#define PP_ERRORS_H

#include "postgres.h"

#include "fmgr.h"

extern ErrorData *pp_error(int sqlstate, const char *message);
extern ErrorData *pp_error_shorten(ErrorData *error);
extern void pp_error_abridge(ErrorData *error);
extern size_t pp_error_size(const ErrorData *error);
extern void pp_error_if_null(FunctionCallInfo fcinfo, int number, const char *name);

#endif /* PP_ERRORS_H */
