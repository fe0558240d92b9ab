/*-------------------------------------------------------------------------
 *
 * utility.c
 *	  Makes way for commands that concern a database or the extension as a whole.
 *
 * DROP DATABASE, ALTER DATABASE ... RENAME and SET TABLESPACE, and CREATE DATABASE
 * with that template need the database for themselves: a worker that is connected to
 * it makes them fail.  So it is sent away first, if the caller has the right to the
 * command, and kept away until the command has ended, well or not.
 *
 * DROP EXTENSION (whatever statement it comes from) and ALTER EXTENSION keep it away
 * until the end of their transaction: what they change must not be in use, and what
 * is dropped has to be counted.
 *
 * Nobody indexes the extension's own tables, or changes their columns, only superusers lock
 * them, by whatever statement, and their guards, once enabled, always fire.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_tablespace.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/extension.h"
#include "producer/enqueue.h"
#include "ring/databases.h"
#include "ring/slots.h"
#include "sql/altered.h"
#include "sql/utility.h"
#include "store/pause.h"
#include "store/settings.h"

static ProcessUtility_hook_type previous_utility_hook = NULL;
static object_access_hook_type previous_access_hook = NULL;

/* The extension that the current transaction drops or alters */
static bool extension_blocked = false;
static Oid extension_dropped = InvalidOid; /* unless that is rolled back */
static uint64 items_announced;			   /* in the ring, at the drop */

static bool database_blocked = false;	  /* until the end of the transaction */
static Oid database_created = InvalidOid; /* by the current transaction */

/* ---- database commands ---- */

static bool
may_create_databases(void)
{
	HeapTuple tuple;
	bool may = superuser();

	if (may)
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		may = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return may;
}

static bool
is_template(Oid database)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool template = false;

	if (HeapTupleIsValid(tuple))
	{
		template = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return template;
}

static char *
string_option(List *options, const char *name, char *default_value)
{
	ListCell *cell;

	foreach (cell, options)
	{
		DefElem *option = lfirst(cell);

		if (strcmp(option->defname, name) == 0 && option->arg)
			return defGetString(option);
	}
	return default_value;
}

static Oid
database_to_drop(DropdbStmt *stmt)
{
	Oid database = get_database_oid(stmt->dbname, true);

	return OidIsValid(database) && pp_owns_database(database, GetUserId()) && !is_template(database)
			   ? database
			   : InvalidOid;
}

static Oid
database_to_rename(RenameStmt *stmt)
{
	Oid database =
		stmt->renameType == OBJECT_DATABASE ? get_database_oid(stmt->subname, true) : InvalidOid;

	return OidIsValid(database) && pp_owns_database(database, GetUserId()) && may_create_databases()
			   ? database
			   : InvalidOid;
}

static Oid
database_to_move(AlterDatabaseStmt *stmt)
{
	char *name = string_option(stmt->options, "tablespace", NULL);
	Oid database = name ? get_database_oid(stmt->dbname, true) : InvalidOid;
	Oid tablespace = name ? get_tablespace_oid(name, true) : InvalidOid;

	return OidIsValid(database) && OidIsValid(tablespace) &&
				   pp_owns_database(database, GetUserId()) &&
				   pp_tablespace_aclcheck(tablespace, GetUserId(), ACL_CREATE) == ACLCHECK_OK
			   ? database
			   : InvalidOid;
}

static Oid
database_to_copy(CreatedbStmt *stmt)
{
	Oid database = get_database_oid(string_option(stmt->options, "template", "template1"), true);

	return OidIsValid(database) && may_create_databases() &&
				   (is_template(database) || pp_owns_database(database, GetUserId())) &&
				   !OidIsValid(get_database_oid(stmt->dbname, true))
			   ? database
			   : InvalidOid;
}

/* The database that the command needs for itself and may have; else InvalidOid. */
static Oid
needed_database(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			return database_to_drop((DropdbStmt *) stmt);
		case T_RenameStmt:
			return database_to_rename((RenameStmt *) stmt);
		case T_AlterDatabaseStmt:
			return database_to_move((AlterDatabaseStmt *) stmt);
		case T_CreatedbStmt:
			return database_to_copy((CreatedbStmt *) stmt);
		default:
			return InvalidOid;
	}
}

static void
forget_database(Oid database, const char *name)
{
	uint64 items = pp_slot_drop(database);

	if (items > 0)
		ereport(LOG, (errmsg("database \"%s\" was dropped, and with it %llu items that had not "
							 "been written",
							 name, (unsigned long long) items),
					  errhidestmt(true)));
}

/* ---- extension commands ---- */

/* Nobody uses the extension until the end of this transaction. */
static void
block_extension(void)
{
	if (pp_shmem_am_worker)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot change extension \"persist_pipeline\" while it writes a batch")));

	extension_blocked = true;
	pp_slot_forget_claim();
	if (!pp_database_block(MyDatabaseId))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("extension \"persist_pipeline\" is in use by its worker"),
						errdetail("The worker runs code that can't be interrupted."),
						errhint("Try again.")));
}

static bool
names_extension(const char *name)
{
	return strcmp(name, "persist_pipeline") == 0;
}

static bool
lists_extension(List *names)
{
	ListCell *cell;

	foreach (cell, names)
	{
		if (names_extension(strVal(lfirst(cell))))
			return true;
	}
	return false;
}

/* Does the list of schemas have that of the extension, and may the user drop it? */
static bool
lists_schema(List *names, Oid extension)
{
	Oid schema = pp_extension_schema(extension);
	ListCell *cell;

	foreach (cell, names)
	{
		if (get_namespace_oid(strVal(lfirst(cell)), true) == schema)
			return pp_owns_namespace(schema, GetUserId());
	}
	return false;
}

static bool
lists_owner(List *roles, Oid owner)
{
	ListCell *cell;

	foreach (cell, roles)
	{
		if (get_rolespec_oid(lfirst_node(RoleSpec, cell), true) == owner)
			return true;
	}
	return false;
}

/*
 * Does the command drop or alter the extension, with the right to do so?  It will
 * lock the journal before the hook below hears of it, and the worker, in the middle
 * of a batch, holds a lock on that.
 */
static bool
concerns_extension(Node *stmt)
{
	Oid extension;
	Oid owner;
	bool may;

	if (!IsA(stmt, DropStmt) && !IsA(stmt, DropOwnedStmt))
		return false;
	extension = pp_extension_oid();
	if (!OidIsValid(extension))
		return false;
	owner = pp_extension_owner(extension);
	may = has_privs_of_role(GetUserId(), owner);

	switch (nodeTag(stmt))
	{
		case T_DropStmt:
		{
			DropStmt *drop = (DropStmt *) stmt;

			if (drop->removeType == OBJECT_SCHEMA)
				return drop->behavior == DROP_CASCADE && lists_schema(drop->objects, extension);
			return drop->removeType == OBJECT_EXTENSION && may && lists_extension(drop->objects);
		}
		case T_DropOwnedStmt:
			return may && lists_owner(((DropOwnedStmt *) stmt)->roles, owner);
		default:
			return false;
	}
}

static uint64
items_in_ring(void)
{
	PpSlot *slot = pp_slot_find(MyDatabaseId);
	PpRingView view;

	if (slot == NULL)
		return 0;
	view = pp_ring_view(&slot->ring);
	return pp_ring_pending(&view);
}

/* What waits for the extension goes with it, and who drops it is told. */
static void
announce_drop(Oid extension)
{
	uint64 items = pp_enqueue_drop(extension);

	/* a second one in this transaction can have nothing in the ring yet */
	if (!OidIsValid(extension_dropped))
	{
		extension_dropped = extension;
		items_announced = items_in_ring();
		items += items_announced;
	}
	if (items > 0)
		ereport(NOTICE, (errmsg("%llu items that have not been written are dropped with extension "
								"\"persist_pipeline\"",
								(unsigned long long) items)));
}

static void
access_object(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (previous_access_hook)
		previous_access_hook(access, class, object, sub, arg);

	if (class == RelationRelationId)
		pp_altered_access(access, object, sub, arg);

	if (class != ExtensionRelationId || (access != OAT_DROP && access != OAT_POST_ALTER) ||
		object != pp_extension_oid())
		return;

	block_extension();
	if (access == OAT_DROP)
		announce_drop(object);
}

/* Is it gone, in the end?  And with it more than was there when it was announced? */
static void
before_commit(void)
{
	uint64 items;

	if (OidIsValid(extension_dropped) && pp_extension_oid() == extension_dropped)
		extension_dropped = InvalidOid; /* back to a savepoint */
	items = OidIsValid(extension_dropped) ? items_in_ring() : 0;
	if (items > items_announced)
		ereport(NOTICE, (errmsg("%llu items that have come since are dropped with extension "
								"\"persist_pipeline\"",
								(unsigned long long) (items - items_announced))));
}

static void
xact_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && OidIsValid(database_created))
		pp_slot_probe_database(database_created);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
	{
		database_created = InvalidOid;
		if (database_blocked && !extension_blocked)
			pp_databases_unblock_all();
		database_blocked = false;
	}
	if (!extension_blocked)
		return;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			before_commit();
			break;
		case XACT_EVENT_PRE_PREPARE:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot PREPARE a transaction that has dropped or altered extension "
							"\"persist_pipeline\""),
					 errhint("Where another extension sends commands to several servers, run this one on "
							 "each of them by itself; for Citus, with citus.enable_ddl_propagation off.")));
			break;
		case XACT_EVENT_COMMIT:
			(void) pp_slot_renew(MyDatabaseId, extension_dropped);
			pg_fallthrough;
		case XACT_EVENT_ABORT:
			pp_databases_unblock_all();
			pp_slot_forget_claim();
			extension_blocked = false;
			extension_dropped = InvalidOid;
			break;
		default:
			break;
	}
}

/* ---- our own tables ---- */

static const char *const own_tables[] = {
	"persist_account",	 "persist_copied",	  "persist_dead_letters", "persist_journal_1",
	"persist_journal_2", "persist_journal_3", "persist_layouts",	  "persist_leases",
	"persist_mark",		 "persist_parked",	  "persist_selftest",	  "persist_settings",
	"persist_shutdowns", "persist_state",
};

static bool
is_own_table(const RangeVar *name)
{
	Oid relid = RangeVarGetRelid(name, NoLock, true);
	Oid extension = OidIsValid(relid) ? pp_extension_oid() : InvalidOid;

	for (int i = 0; i < lengthof(own_tables) && OidIsValid(extension); i++)
	{
		if (pp_extension_relation(extension, own_tables[i]) == relid)
			return true;
	}
	return false;
}

/* How many strong locks on our tables does this transaction hold? */
static int
count_locks(void)
{
	Oid extension = pp_extension_oid();
	int locks = 0;

	for (int i = 0; i < lengthof(own_tables) && OidIsValid(extension); i++)
	{
		Oid relid = pp_extension_relation(extension, own_tables[i]);

		for (LOCKMODE mode = RowShareLock; mode <= AccessExclusiveLock && OidIsValid(relid); mode++)
			locks += pp_relation_lock_held(relid, mode) ? 1 : 0;
	}
	return locks;
}

/* 42501, for somebody who has locked one of them, by its name or through a view. */
static void
refuse_lock(void)
{
	ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					errmsg("cannot lock a table of extension \"persist_pipeline\""),
					errdetail("All who enqueue would wait for it.")));
}

static bool
lists_own_table(List *names)
{
	ListCell *cell;

	foreach (cell, names)
	{
		if (is_own_table(lfirst_node(RangeVar, cell)))
			return true;
	}
	return false;
}

/* Does one of these constraints, or of these columns', refer to a table of ours? */
static bool
refers_to_own_table(List *elements)
{
	ListCell *cell;

	foreach (cell, elements)
	{
		Node *element = lfirst(cell);

		if (IsA(element, ColumnDef) && refers_to_own_table(((ColumnDef *) element)->constraints))
			return true;
		if (IsA(element, Constraint) && ((Constraint *) element)->pktable &&
			is_own_table(((Constraint *) element)->pktable))
			return true;
	}
	return false;
}

static bool
alters_for_own_table(const AlterTableStmt *stmt)
{
	ListCell *cell;

	foreach (cell, stmt->cmds)
	{
		Node *definition = lfirst_node(AlterTableCmd, cell)->def;

		if (definition && IsA(definition, PartitionCmd) && ((PartitionCmd *) definition)->name &&
			is_own_table(((PartitionCmd *) definition)->name))
			return true;
		if (definition && refers_to_own_table(list_make1(definition)))
			return true;
	}
	return false;
}

/*
 * Does the statement name a table of ours, to wait for a strong lock on it, before anything
 * asks who may do that, or has said no?  Those who enqueue would wait behind it.
 */
static bool
would_lock(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_CreateTrigStmt:
			return is_own_table(((CreateTrigStmt *) stmt)->relation);
		case T_RuleStmt:
			return is_own_table(((RuleStmt *) stmt)->relation);
		case T_CreateStmt:
			return refers_to_own_table(((CreateStmt *) stmt)->tableElts);
		case T_AlterTableStmt:
			return alters_for_own_table((AlterTableStmt *) stmt);
		case T_TruncateStmt:
			return lists_own_table(((TruncateStmt *) stmt)->relations);
		case T_LockStmt:
			/* as a parallel pg_dump has it, nobody who enqueues waits for it */
			return ((LockStmt *) stmt)->mode > AccessShareLock &&
				   lists_own_table(((LockStmt *) stmt)->relations);
		default:
			return false;
	}
}

/* Does it make one, for a constraint? */
static bool
adds_index(const AlterTableStmt *stmt)
{
	ListCell *cell;

	foreach (cell, stmt->cmds)
	{
		Node *definition = lfirst_node(AlterTableCmd, cell)->def;
		List *constraints = definition && IsA(definition, ColumnDef)
								? ((ColumnDef *) definition)->constraints
								: list_make1(definition);
		ListCell *other;

		foreach (other, constraints)
		{
			Constraint *constraint = lfirst(other);

			if (constraint && IsA(constraint, Constraint) &&
				(constraint->contype == CONSTR_PRIMARY || constraint->contype == CONSTR_UNIQUE ||
				 constraint->contype == CONSTR_EXCLUSION))
				return true;
		}
	}
	return false;
}

/* Does it change which columns a table has, or how its rows are kept? */
static bool
changes_rows(const AlterTableStmt *stmt)
{
	ListCell *cell;

	foreach (cell, stmt->cmds)
	{
		switch (lfirst_node(AlterTableCmd, cell)->subtype)
		{
			case AT_AddColumn:
			case AT_DropColumn:
			case AT_AlterColumnType:
			case AT_AddInherit:
			case AT_SetAccessMethod:
			case AT_SetUnLogged:
				return true;
			default:
				break;
		}
	}
	return false;
}

/*
 * An index, unique or of an expression that fails, would keep the worker from writing.  And the
 * library reads and writes rows as its scripts have made them, and not by SQL.  42501.
 */
static void
check_own_table(const RangeVar *relation, bool is_indexed)
{
	if (creating_extension || relation == NULL || !is_own_table(relation))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 is_indexed ? errmsg("cannot index table \"%s\" of extension \"persist_pipeline\"",
								 relation->relname)
						: errmsg("cannot change table \"%s\" of extension \"persist_pipeline\"",
								 relation->relname),
			 errdetail("Only the extension itself uses it.")));
}

/* Does the statement enable triggers of a table of ours, as a restore of data does? */
static bool
enables_guards(const AlterTableStmt *stmt)
{
	ListCell *cell;

	foreach (cell, stmt->cmds)
	{
		AlterTableType type = lfirst_node(AlterTableCmd, cell)->subtype;

		if (type == AT_EnableTrig || type == AT_EnableTrigAll || type == AT_EnableTrigUser)
			return stmt->relation && is_own_table(stmt->relation);
	}
	return false;
}

/* The same statement, after which the guards fire always: ENABLE TRIGGER ALL says less. */
static PlannedStmt *
with_guards(const PlannedStmt *planned)
{
	PlannedStmt *copy = copyObject(unconstify(PlannedStmt *, planned));
	AlterTableStmt *stmt = castNode(AlterTableStmt, copy->utilityStmt);
	Relation rel = relation_openrv(stmt->relation, AccessShareLock);
	Oid extension = pp_extension_oid();

	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];
		AlterTableCmd *command;

		if (getExtensionOfObject(ProcedureRelationId, trigger->tgfoid) != extension)
			continue;
		command = makeNode(AlterTableCmd);
		command->subtype = AT_EnableAlwaysTrig;
		command->name = pstrdup(trigger->tgname);
		stmt->cmds = lappend(stmt->cmds, command);
	}
	relation_close(rel, AccessShareLock);
	return copy;
}

/* ---- the hook ---- */

static void
process_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
				DestReceiver *receiver, QueryCompletion *completion)
{
	ProcessUtility_hook_type next =
		previous_utility_hook ? previous_utility_hook : standard_ProcessUtility;
	Node *stmt = planned->utilityStmt;
	Oid database = InvalidOid;
	bool alone;

	/* elsewhere all but RENAME are refused; our own database can only be copied */
	alone = context == PROCESS_UTILITY_TOPLEVEL && !IsTransactionBlock();
	if (IsTransactionState() && (alone || IsA(stmt, RenameStmt)))
		database = needed_database(stmt);
	if (IsTransactionState() && concerns_extension(stmt))
		block_extension();
	if (IsTransactionState() && !superuser() && would_lock(stmt))
		refuse_lock();
	if (IsTransactionState() && IsA(stmt, IndexStmt))
		check_own_table(((IndexStmt *) stmt)->relation, true);
	if (IsTransactionState() && IsA(stmt, AlterTableStmt) && adds_index((AlterTableStmt *) stmt))
		check_own_table(((AlterTableStmt *) stmt)->relation, true);
	if (IsTransactionState() && IsA(stmt, AlterTableStmt) && changes_rows((AlterTableStmt *) stmt))
		check_own_table(((AlterTableStmt *) stmt)->relation, false);
	if (IsTransactionState() && IsA(stmt, AlterTableStmt) &&
		enables_guards((AlterTableStmt *) stmt))
	{
		next(with_guards(planned), query, read_only_tree, context, params, environment, receiver,
			 completion);
		pp_settings_restored(pp_extension_oid());
		pp_pause_target_changed();
		return;
	}
	if (IsTransactionState() && IsA(stmt, LockStmt) && !superuser())
	{
		int locks = count_locks();

		next(planned, query, read_only_tree, context, params, environment, receiver, completion);
		if (count_locks() > locks)
			refuse_lock();
		return;
	}
	if (!OidIsValid(database) || (database == MyDatabaseId && !IsA(stmt, CreatedbStmt)))
	{
		next(planned, query, read_only_tree, context, params, environment, receiver, completion);
		return;
	}

	if (!alone)
	{
		/* its lock stays to the end of the transaction, and so do we */
		database_blocked = true;
		(void) pp_database_block(database);
		next(planned, query, read_only_tree, context, params, environment, receiver, completion);
		return;
	}

	PG_TRY();
	{
		(void) pp_database_block(database); /* if it won't go, the command says so */
		next(planned, query, read_only_tree, context, params, environment, receiver, completion);
		if (IsA(stmt, DropdbStmt))
			forget_database(database, ((DropdbStmt *) stmt)->dbname);
		else if (IsA(stmt, CreatedbStmt))
			database_created = get_database_oid(((CreatedbStmt *) stmt)->dbname, true);
	}
	PG_FINALLY();
	{
		pp_database_unblock(database);
	}
	PG_END_TRY();
}

/* Called once, while the library is preloaded. */
void
pp_utility_init(void)
{
	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	previous_access_hook = object_access_hook;
	object_access_hook = access_object;
	pp_altered_init();
	RegisterXactCallback(xact_event, NULL);
}
