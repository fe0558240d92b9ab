/*-------------------------------------------------------------------------
 *
 * altered.h
 *	  What commands do to targets: their columns are noted before they change (layouts.h),
 *	  and their settings go with them.
 *
 * A target may be replaced in one transaction: another relation is made and filled under a name of
 * its own, the target is dropped, and the other one is renamed to its name.  So does Citus where a
 * table is distributed otherwise.  An INSERT that waits for the target's lock goes into the new one
 * then; so do the items, and the settings.  A relation that is created under the name anew is
 * another target: who does that begins afresh.
 *
 * This uses the object access hook, which exists only where the library is preloaded: elsewhere
 * nothing is noted.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ALTERED_H
#define PP_ALTERED_H

#include "postgres.h"

#include "access/attnum.h"
#include "catalog/objectaccess.h"

extern void pp_altered_access(ObjectAccessType access, Oid relid, AttrNumber attnum, void *arg);
extern void pp_altered_init(void);

#endif /* PP_ALTERED_H */
