/*-------------------------------------------------------------------------
 *
 * altered.h
 *	  What commands do to targets: their columns are noted before they change (layouts.h),
 *	  and their settings go with them.
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

#endif /* PP_ALTERED_H */
