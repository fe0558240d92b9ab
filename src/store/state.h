/*-------------------------------------------------------------------------
 *
 * state.h
 *	  The one row of persist_state: which installation this is, whose files it is in, and
 *	  whether its database is paused.
 *
 * What waits belongs to one installation, and that is a random number: each row of the
 * journal has it, so that what has come from elsewhere, however, is not taken for our own.
 * Only a copy of the files has our number, too.  Whose they are is told by the database's
 * OID, the server's identifier (`system`), and a digest of what else initdb has drawn for
 * it (`cluster`).  What waits in a copy
 *
 *	belongs to it		of a base backup or a standby, and after recovery: the same server
 *						goes on with it, and all is the same
 *	belongs to it		after pg_upgrade, which moves the files into what initdb has made:
 *						the identifier is another one, and so is the rest
 *	is the original's	of CREATE DATABASE with a TEMPLATE: the database is another one
 *	is the original's	of pg_createsubscriber, which gives a standby another identifier,
 *						and nothing else
 *
 * In the latter two the installation is another one from the beginning: its number is made
 * of the original's and of what differs, so that nobody has to wait for the one who writes
 * it down (copied.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_STATE_H
#define PP_STATE_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct PpState
{
	uint64 installation; /* never 0, but where there is no row */
	Oid database;		 /* whose it was when somebody last looked */
	uint64 system;
	uint64 cluster;
	bool paused;
	TimestampTz changed_in; /* the start of the server that was to pause or resume it */
} PpState;

extern void pp_state_begin(Oid extension);
extern PpState pp_state_get(Oid extension);
extern uint64 pp_state_installation(Oid extension);
extern bool pp_state_is_known(const PpState *state);
extern bool pp_state_is_copy(const PpState *state);
extern void pp_state_set_paused(Oid extension, bool paused);
extern bool pp_state_try_lock(Oid extension);
extern bool pp_state_take_over(Oid extension);

#endif /* PP_STATE_H */
