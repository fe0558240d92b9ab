/*-------------------------------------------------------------------------
 *
 * target.h
 *	  What a relation accepts, and from whom.
 *
 * A backend keeps what it knows of each target it has used, so that a call takes
 * no lock and reads no catalog but the ACL: an entry is dropped when the
 * relation, one that it is a view of, a composite type in it, or anything that
 * a default depends on is invalidated.
 *
 * Looking up a target runs no code of its owner.  Its defaults are planned, which can run their
 * functions, only when a row needs them, and as the caller.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PP_TARGET_H
#define PP_TARGET_H

#include "postgres.h"

#include "access/attnum.h"
#include "access/tupdesc.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "utils/plancache.h"

#include "base/item.h"
#include "producer/conflict.h"

typedef struct PpColumn
{
	AttrNumber attnum;
	bool dropped;
	bool generated;
	bool identity_always;
	bool insertable; /* false: an expression in a view's column */
	int name_length;
	NameData name;
	PpColumnLayout layout;

	/* the type's input function, where jsonb_populate_record just calls that; or else ... */
	bool is_scalar;
	FmgrInfo input;
	Oid input_param;

	/* ... jsonb_populate_record for a row of this column alone */
	FmgrInfo populate;
	TupleDesc row_descriptor;
	Datum empty_row;

	/* what an INSERT that omits it would put there; NULL: nothing ... */
	Node *default_node;
	bool default_is_nextval;
	CachedExpression *default_expression; /* ... planned: NULL, if nobody has needed it ... */
	ExprState *default_state;			  /* ... and ready for the role `code_of` */
} PpColumn;

typedef struct PpTarget
{
	Oid relid;
	MemoryContext context; /* of this struct and all that it points to */
	bool valid;			   /* cleared by invalidation, and by a failed conversion */
	bool forgotten;		   /* to be freed by its last user */
	int users;			   /* conversions that run, at most one unless forgotten */
	bool types_changed;	   /* while a conversion ran: what it has made may be of either kind */
	struct PpTarget *next; /* of those that are used */
	char kind;			   /* pg_class.relkind */
	PpItemDurability durability; /* of its items */
	bool bad_to_dead;			 /* configured so: what doesn't fit becomes a dead letter */
	bool passes_unknown;		 /* and keys that are no column are passed over */
	PpConflict conflict;
	int flush_interval; /* ms; -1: it has none of its own */
	List *captures;		/* names of settings that go with its items */
	Oid schema;
	char *name;
	char *schema_name;
	Oid row_type;
	int natts;
	PpColumn *columns; /* by attnum - 1 */
	int nsorted;
	PpColumn **sorted;	  /* those not dropped, in the order of jsonb keys */
	List *composites;	  /* pg_class OIDs of composite types inside */
	List *bases;		  /* itself and, of a view, what its rows go to */
	TupleDesc descriptor; /* copy of the relation's */
	ExprContext *econtext;

	/* Users' code, and who may execute it: for a role at a time */
	MemoryContext code_context;
	Oid code_of;
	uint64 code_rights; /* as rights were then */

	/* The usual shape: what a row of all columns that can be carried looks like */
	uint8 *all_carried;
	TupleDesc all_descriptor;
	PpLayout all_layout;

	/* Another one, the last that was asked for: of a role that may insert some columns only */
	MemoryContext other_context;
	uint8 *other_carried; /* NULL: none */
	TupleDesc other_descriptor;
	PpLayout other_layout;
} PpTarget;

extern PpTarget *pp_target_get(Oid relid);
extern PpTarget *pp_target_get_by_row_type(Oid row_type);
extern void pp_target_check(Oid relid);
extern void pp_target_lock_own(Oid relid);
extern void pp_target_use(PpTarget *target);
extern void pp_target_release(PpTarget *target, bool failed);
extern void pp_target_begin_code(PpTarget *target);
extern ExprState *pp_target_default(PpTarget *target, PpColumn *column);
extern void pp_target_check_types(const PpTarget *target);
extern void pp_target_check_privileges(PpTarget *target, const uint8 *given, uint8 *carried);

#endif /* PP_TARGET_H */
