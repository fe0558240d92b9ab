/*-------------------------------------------------------------------------
 *
 * item_rights.h
 *	  Whose an item is: who may know of it, and who may do something with it.
 *
 * A name is that of the failure, of a dead letter: another role or relation may have got the OID
 * since.  NULL: it is not known, and the OID is believed, as the worker believes it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_ITEM_RIGHTS_H
#define PP_ITEM_RIGHTS_H

#include "postgres.h"

extern bool pp_item_rights_to_know(Oid target, const char *target_name, Oid role,
								   const char *role_name);
extern void pp_item_rights_check_owner(Oid target, int64 id);

#endif /* PP_ITEM_RIGHTS_H */
