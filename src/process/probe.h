/*-------------------------------------------------------------------------
 *
 * probe.h
 *	  Looks into every database once, after a start or a promotion.
 *
 * The launcher is connected to no database and can look into none.  So it has one process
 * after another look, each into one database; which ones there are it reads itself.  What is to
 * be done is in PpShmem.probe.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PROBE_H
#define PP_PROBE_H

#include "postgres.h"

/* Main function of the background worker; takes what PpShmem.probe says. */
extern PGDLLEXPORT void pp_probe_main(Datum unused);

/* The launcher */
extern void pp_probe_all(void);
extern Oid pp_probe_next(long *ms);

#endif /* PP_PROBE_H */
