/*-------------------------------------------------------------------------
 *
 * where_function.h
 *	  What has become of an item.
 *
 * All that waits is read for that, and nobody waits for it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_WHERE_FUNCTION_H
#define PP_WHERE_FUNCTION_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* What is told of an item; NULL or 0: that isn't known */
typedef struct PpPlace
{
	const char *state; /* as persist_where() says it */
	Oid target;
	Oid role;
	const char *target_name; /* of the failure, of a dead letter; else as it is now ... */
	const char *role_name;	 /* ... and this, too */
	TimestampTz since;
	const char *sqlstate;
	const char *message;
	const char *public_message; /* for those who may know the state alone */
	int tries;
	TimestampTz next_try;
} PpPlace;

extern PpPlace pp_where_function_find(Oid extension, int64 id);

#endif /* PP_WHERE_FUNCTION_H */
