/*-------------------------------------------------------------------------
 *
 * probe.h
 *	  Looks into every database once, after a start or a promotion.
 *
 * The launcher is connected to no database and can look into none.  So it has one
 * process after another look: each into one database, and for the next one's OID.
 * What they find is in PpShared.probe, which only they and the launcher write.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_PROBE_H
#define PP_PROBE_H

#include "postgres.h"

/* Main function of the background worker; takes what PpShared.probe says. */
extern PGDLLEXPORT void pp_probe_main(Datum unused);

#endif /* PP_PROBE_H */
