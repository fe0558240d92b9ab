/*-------------------------------------------------------------------------
 *
 * launcher.h
 *	  The one static process: it starts a worker for each slot that has work.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_LAUNCHER_H
#define PP_LAUNCHER_H

#include "postgres.h"

extern void pp_launcher_register(void);
extern PGDLLEXPORT void pp_launcher_main(Datum unused);

#endif /* PP_LAUNCHER_H */
