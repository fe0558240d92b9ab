/*-------------------------------------------------------------------------
 *
 * extension.h
 *	  The installation of the extension in the current database: is it there, is
 *	  it whole, and does its SQL fit this library?
 *
 * What is for users is in the schema that the extension was created in.  What is its own
 * is in schemas of its own, where nobody else can put something of the same name: its tables
 * in PP_INTERNAL_SCHEMA, where nobody else can name them, and the functions that the
 * worker's INSERT calls as the enqueuer in PP_BATCH_SCHEMA.  But for persist_settings:
 * pg_dump has to get at that, whoever runs it.
 *
 * An installation is named by the OID of its pg_extension row: DROP and CREATE
 * EXTENSION make another one.  Items belong to the installation that they were
 * handed to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_EXTENSION_H
#define PP_EXTENSION_H

#include "postgres.h"

#include "storage/lockdefs.h"
#include "utils/relcache.h"

#define PP_INTERNAL_SCHEMA "persist_pipeline_internal"
#define PP_BATCH_SCHEMA "persist_pipeline_batch"

extern Oid pp_extension_oid(void);
extern Oid pp_extension_find(const char **fault);
extern const char *pp_extension_outdated(Oid extension);
extern Oid pp_extension_find_or_end(void);
extern Oid pp_extension_get(void);
extern void pp_extension_check_writable(const char *function);
extern bool pp_extension_is_uncommitted(Oid extension);
extern Oid pp_extension_owner(Oid extension);
extern Oid pp_extension_relation(Oid extension, const char *name);
extern Relation pp_extension_open(Oid extension, const char *name, LOCKMODE mode);
extern Oid pp_extension_refused_to(Oid extension, Oid role);
extern Oid pp_extension_try_lock(Oid extension, const char *name, LOCKMODE mode);

#endif /* PP_EXTENSION_H */
