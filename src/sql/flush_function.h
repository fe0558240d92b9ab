/*-------------------------------------------------------------------------
 *
 * flush_function.h
 *	  persist_flush, and what persist_selftest has in common with it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_FLUSH_FUNCTION_H
#define PP_FLUSH_FUNCTION_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "ring/shmem.h"

extern char *pp_flush_function_backs_off(PpSlot *slot);
extern PpSteady pp_flush_function_deadline(Interval *timeout);

#endif /* PP_FLUSH_FUNCTION_H */
