/*-------------------------------------------------------------------------
 *
 * settings.h
 *	  What a database keeps: its targets' settings, and the state that it is in.
 *
 *	persist_settings	a row for each target that has been configured
 *	persist_state		one row
 *
 * A change of a target's settings invalidates the target, so that whoever knows it
 * looks again; a pause is told at the commit (pause.h).
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
	PP_DURABILITY_AUTO, /* as durable as the target */
	PP_DURABILITY_JOURNAL,
	PP_DURABILITY_RING
} PpDurability;

typedef struct PpSettings
{
	PpDurability durability;
	bool bad_to_dead; /* what doesn't fit at the call becomes a dead letter */
	bool paused;
} PpSettings;

typedef struct PpState
{
	Oid database; /* whose journal this was when somebody last looked; see copied.h */
	bool paused;
	TimestampTz changed_at; /* paused, or resumed */
} PpState;

extern PpDurability pp_durability_parse(const char *name);
extern bool pp_bad_items_parse(const char *name);
extern PpSettings pp_settings_read(Relation rel, HeapTuple tuple, Oid *target);
extern PpSettings pp_settings_get(Oid extension, Oid target);
extern void pp_settings_put(Oid extension, Oid target, const PpSettings *settings);
extern bool pp_settings_remove(Oid extension, Oid target);
extern List *pp_settings_paused(Oid extension);

extern PpState pp_state_get(Oid extension);
extern void pp_state_set_paused(Oid extension, bool paused);
extern bool pp_state_try_lock(Oid extension);
extern bool pp_state_change_database(Oid extension, Oid database);

#endif /* PP_SETTINGS_H */
