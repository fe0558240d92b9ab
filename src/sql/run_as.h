/*-------------------------------------------------------------------------
 *
 * run_as.h
 *	  Runs something with a role's rights, in a security-restricted operation, and comes back as the
 *	  caller, with his settings: what is others' code there, such as defaults, domains and casts,
 *	  has no rights of the caller's.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_RUN_AS_H
#define PP_RUN_AS_H

#include "postgres.h"

extern void pp_run_as(Oid role, void (*deed)(void *arg), void *arg);

#endif /* PP_RUN_AS_H */
