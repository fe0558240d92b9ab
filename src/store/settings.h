/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  The settings of a database's targets: the table persist_settings, with a row for
 *	  each that has been configured.
 *
 * A change of a target's settings invalidates the target, so that whoever knows it
 * looks again; a pause is told at the commit (pause.h).  Where a target is replaced (altered.h)
 * the table is invalidated, too: that reaches the worker from a prepared transaction as well.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_SETTINGS_H
#define PP_SETTINGS_H

#include "postgres.h"

#include "access/htup.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

typedef enum PpDurability
{
	PP_DURABILITY_AUTO, /* as durable as the target, and as the transaction */
	PP_DURABILITY_JOURNAL,
	PP_DURABILITY_RING
} PpDurability;

/* What becomes of a row whose key is there */
typedef enum PpConflictAction
{
	PP_CONFLICT_ERROR, /* as with any INSERT */
	PP_CONFLICT_NOTHING,
	PP_CONFLICT_UPDATE
} PpConflictAction;

typedef struct PpSettings
{
	PpDurability durability;
	bool bad_to_dead;	 /* what doesn't fit at the call becomes a dead letter */
	bool passes_unknown; /* keys of an object that are no column are passed over */
	bool paused;
	PpConflictAction on_conflict;
	List *conflict_columns; /* of char *: the key; NIL: any */
	List *add_columns;		/* of char *: an update adds to these */
	int flush_interval;		/* ms; -1: none of its own */
	List *capture_settings; /* of char *: names */
} PpSettings;

/* Values, by their names; 22023 if there is none of that name */
extern PpDurability pp_settings_parse_durability(const char *name);
extern bool pp_settings_parse_bad_items(const char *name);
extern bool pp_settings_parse_unknown_keys(const char *name);
extern PpConflictAction pp_settings_parse_on_conflict(const char *name);
extern List *pp_settings_parse_names(const char *argument, Datum array);
extern int pp_settings_parse_flush_interval(const Interval *interval);

/* The table */
extern PpSettings pp_settings_read(Relation rel, HeapTuple tuple, Oid *target);
extern PpSettings pp_settings_get(Oid extension, Oid target);
extern bool pp_settings_has(Oid extension, Oid target);
extern Oid pp_settings_relation(Oid extension);
extern void pp_settings_announce(Oid extension);
extern void pp_settings_write(Oid extension, Oid target, const PpSettings *settings);
extern void pp_settings_put(Oid extension, Oid target, const PpSettings *settings);
extern bool pp_settings_remove(Oid extension, Oid target, PpSettings *settings);
extern void pp_settings_restored(Oid extension);
extern List *pp_settings_paused(Oid extension);

#endif /* PP_SETTINGS_H */
