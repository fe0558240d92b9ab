/*-------------------------------------------------------------------------
 *
 * database_init.h
 *	  Connects a process of ours to a database.
 *
 * What the server warns of then (a collation version that doesn't match, a setting that is
 * invalid) would be told by each worker, and where they take turns one comes after the other.
 * So it is told by the first one of a database since the server's start.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_DATABASE_INIT_H
#define PP_DATABASE_INIT_H

#include "postgres.h"

extern void pp_database_init(Oid database);

#endif /* PP_DATABASE_INIT_H */
