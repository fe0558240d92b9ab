/*-------------------------------------------------------------------------
 *
 * altered.c
 *	  What commands do to targets; see altered.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/extension.h"
#include "producer/enqueue.h"
#include "ring/slots.h"
#include "sql/altered.h"
#include "store/account.h"
#include "store/journal.h"
#include "store/layouts.h"
#include "store/parked_table.h"
#include "store/pause.h"
#include "store/settings.h"

static bool
may_be_target(Oid relid)
{
	switch (get_rel_relkind(relid))
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_FOREIGN_TABLE:
		case RELKIND_VIEW:
			return get_rel_persistence(relid) != RELPERSISTENCE_TEMP;
		default:
			return false;
	}
}

/* May items wait for this relation?  As long as they aren't counted, those of any may. */
static bool
may_wait_for(Oid extension, Oid relid)
{
	PpSlot *slot = pp_slot_find(MyDatabaseId);
	bool has_rows;

	if (slot)
	{
		PpCounter entry = pp_counters_get(&slot->counters, relid);

		if (entry.pending > 0 || entry.parked > 0)
			return true;
		if (pp_counters_are_counted(&slot->counters))
			return false;
	}
	PushActiveSnapshot(GetLatestSnapshot());
	has_rows = pp_journal_has_rows(extension) || pp_parked_table_has_rows(extension, InvalidOid);
	PopActiveSnapshot();
	return has_rows;
}

/*
 * Are there items of this relation, or have there been?  Where there is a ring, transactions
 * may have some that nobody else knows of.
 */
static bool
may_have_items(Oid extension, Oid relid)
{
	return pp_slot_find(MyDatabaseId) || may_wait_for(extension, relid) ||
		   pp_account_has(extension, relid);
}

/*
 * The relation is about to be changed, or dropped: items may need its columns as they are.
 * One that the transaction itself has created has none but that transaction's.
 */
static void
note_columns(Oid extension, Oid relid, bool dropped)
{
	Relation rel = relation_open(relid, AccessShareLock);

	if (rel->rd_createSubid == InvalidSubTransactionId || pp_enqueue_is_pending())
		pp_layouts_note(extension, rel, dropped);
	relation_close(rel, AccessShareLock);
}

#define MAX_SAID 10 /* relations, each with a NOTICE of its own, in a transaction */

/* How many has this transaction said?  With the one that is next. */
static int
count_said(void)
{
	static TransactionId transaction = InvalidTransactionId;
	static int said = 0;

	if (transaction != GetTopTransactionId()) /* who drops something has one */
		said = 0;
	transaction = GetTopTransactionId();
	return ++said;
}

/*
 * Who drops a target is told of what waits for it, as far as that is counted: it can't be written
 * any more.  A look at the counter, and no more.  Of a schema with a thousand of them he gets the
 * first ones, as the server's own list of them has an end.
 */
static void
say_waiting(Oid relid)
{
	PpSlot *slot = pp_slot_find(MyDatabaseId);
	PpCounter entry = slot ? pp_counters_get(&slot->counters, relid) : (PpCounter){0};
	unsigned long long items = entry.pending + entry.parked;
	int said = items > 0 ? count_said() : 0;

	if (said == MAX_SAID + 1)
		ereport(NOTICE, (errmsg("items wait to be written to other relations that are dropped")));
	if (items == 0 || said > MAX_SAID)
		return;
	ereport(
		NOTICE,
		(errmsg_plural("%llu item waits to be written to relation \"%s\"",
					   "%llu items wait to be written to relation \"%s\"", (unsigned long) items,
					   items, get_rel_name(relid)),
		 errdetail("Once the relation is gone, what waits becomes dead letters, unless this "
				   "transaction renames another one to its name."),
		 errhint("Call persist_flush() before, to have it written; or send the letters elsewhere "
				 "then, with persist_requeue(id, target, item), or discard them.")));
}

/* ---- targets that are replaced ---- */

/* What the current transaction has dropped, in its memory */
typedef struct Dropped
{
	Oid extension;
	Oid target;
	Oid schema;
	NameData name;
	bool replaced; /* unless that was rolled back */
	bool configured;
	PpSettings settings; /* if it is */
} Dropped;

static List *dropped = NIL;

/* A relation is about to be dropped, and with it what is configured for it. */
static Dropped
take_dropped(Oid extension, Oid relid)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	Dropped entry = {.extension = extension, .target = relid, .schema = get_rel_namespace(relid)};
	char *name = get_rel_name(relid);

	namestrcpy(&entry.name, name ? name : "");
	entry.configured = pp_settings_remove(extension, relid, &entry.settings);
	MemoryContextSwitchTo(caller);
	return entry;
}

static void
remember_dropped(const Dropped *entry)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);

	dropped = lappend(dropped, memcpy(palloc(sizeof(Dropped)), entry, sizeof(Dropped)));
	MemoryContextSwitchTo(caller);
}

/* A row of a catalog as the current command has left it, as a copy; or NULL. */
static HeapTuple
fetch_altered(Oid catalog, Oid index, int nkeys, ScanKey keys)
{
	Relation rel = table_open(catalog, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, index, true, SnapshotSelf, nkeys, keys);
	HeapTuple tuple = systable_getnext(scan);

	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return tuple;
}

static bool
has_name(Form_pg_class class, const Dropped *entry)
{
	return class->relnamespace == entry->schema &&
		   strcmp(NameStr(class->relname), NameStr(entry->name)) == 0;
}

/* Is it gone, and has this one dropped it?  What was rolled back is in the list, too. */
static bool
is_gone(int i)
{
	Oid target = ((const Dropped *) list_nth(dropped, i))->target;

	for (int later = i + 1; later < list_length(dropped); later++)
	{
		if (((const Dropped *) list_nth(dropped, later))->target == target)
			return false;
	}
	return !SearchSysCacheExists1(RELOID, ObjectIdGetDatum(target));
}

/*
 * A relation has been altered: if it was given the name of one that was dropped, it replaces that.
 * Of several it has the settings of the last one, which may have got them from those before it.
 */
static void
replace_dropped(Oid extension, Oid relid)
{
	HeapTuple before = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	HeapTuple after;
	ScanKeyData key;
	bool is_there;
	const Dropped *last = NULL;

	ScanKeyInit(&key, Anum_pg_class_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	after = fetch_altered(RelationRelationId, ClassOidIndexId, 1, &key);
	is_there = HeapTupleIsValid(before) && HeapTupleIsValid(after);
	for (int i = 0; is_there && i < list_length(dropped); i++)
	{
		Dropped *entry = list_nth(dropped, i);

		if (entry->extension != extension || !has_name((Form_pg_class) GETSTRUCT(after), entry) ||
			has_name((Form_pg_class) GETSTRUCT(before), entry) || !is_gone(i))
			continue;
		pp_layouts_replace(
			extension, entry->target,
			quote_qualified_identifier(get_namespace_name(entry->schema), NameStr(entry->name)),
			relid, entry->replaced);
		entry->replaced = true;
		last = entry;
	}
	if (last && last->configured && !pp_settings_has(extension, relid))
		pp_settings_write(extension, relid, &last->settings);
	if (last)
	{
		pp_settings_announce(extension);
		pp_pause_target_altered();
	}
	if (HeapTupleIsValid(before))
		ReleaseSysCache(before);
}

/*
 * Whose items are paused, and lose their target, become dead letters at the commit, or are written
 * to what has replaced it, unless that is paused, too.  The retrier has to be told: nobody is there
 * to do that when a prepared transaction commits.
 */
static void
check_prepare(void)
{
	Oid extension = dropped != NIL ? pp_extension_oid() : InvalidOid;
	ListCell *cell;

	foreach (cell, OidIsValid(extension) ? dropped : NIL)
	{
		const Dropped *entry = lfirst(cell);

		if (entry->settings.paused &&
			!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(entry->target)) &&
			!pp_settings_get(extension, pp_layouts_current(entry->target)).paused)
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							errmsg("cannot PREPARE a transaction that has dropped relation \"%s\", "
								   "which is paused",
								   NameStr(entry->name)),
							errhint("Call persist_resume() for it before.")));
	}
}

/* The list goes with its transaction. */
static void
xact_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE)
		check_prepare();
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		dropped = NIL;
}

/* What may be a target is about to be dropped; `transient`: the server's own, as of a rewrite. */
static void
drop_target(Oid extension, Oid relid, bool transient)
{
	bool has_items = OidIsValid(extension) && !transient && may_have_items(extension, relid);
	Dropped entry = take_dropped(extension, relid);

	if (has_items || entry.configured)
		remember_dropped(&entry);
	if (entry.configured)
		pp_pause_target_altered(); /* it may have been paused */
	if (has_items)
		note_columns(extension, relid, true);
	if (OidIsValid(extension) && !transient)
		say_waiting(relid);
}

/* What one command changes */
typedef struct Change
{
	Oid extension;
	HTAB *types; /* whose inside it changes: a type may be in another one in many ways */
} Change;

static void change_type(Change *change, Oid type);

/*
 * The columns of a relation are about to change: it may be a target, or its rows be values in
 * others.
 */
static void
change_columns(Change *change, Oid relid)
{
	if (may_be_target(relid) && may_have_items(change->extension, relid))
		note_columns(change->extension, relid, false);
	change_type(change, get_rel_type_id(relid));
}

static bool
is_first_time(Change *change, Oid type)
{
	bool found;

	if (change->types == NULL)
	{
		HASHCTL ctl = {
			.keysize = sizeof(Oid), .entrysize = sizeof(Oid), .hcxt = CurrentMemoryContext};

		change->types = hash_create("persist_pipeline changed types", 16, &ctl,
									HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	(void) hash_search(change->types, &type, HASH_ENTER, &found);
	return !found;
}

/* The inside of a type is about to change, and so that of all that have it inside. */
static void
change_type(Change *change, Oid type)
{
	Relation rel;
	ScanKeyData key[2];
	SysScanDesc scan;
	HeapTuple tuple;

	check_stack_depth();
	if (!is_first_time(change, type))
		return;
	rel = table_open(DependRelationId, AccessShareLock);
	ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(TypeRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(type));
	scan = systable_beginscan(rel, DependReferenceIndexId, true, NULL, 2, key);
	while ((tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_depend user = (Form_pg_depend) GETSTRUCT(tuple);

		CHECK_FOR_INTERRUPTS();
		if (user->classid == TypeRelationId)
			change_type(change, user->objid);
		else if (user->classid == RelationRelationId && user->objsubid > 0)
			change_columns(change, user->objid);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* Has the current command given the column another type? */
static bool
has_new_type(Oid relid, AttrNumber attnum)
{
	HeapTuple before = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid), Int16GetDatum(attnum));
	ScanKeyData key[2];
	HeapTuple after;
	bool is_new = false;

	ScanKeyInit(&key[0], Anum_pg_attribute_attrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	ScanKeyInit(&key[1], Anum_pg_attribute_attnum, BTEqualStrategyNumber, F_INT2EQ,
				Int16GetDatum(attnum));
	after = fetch_altered(AttributeRelationId, AttributeRelidNumIndexId, 2, key);
	if (HeapTupleIsValid(before) && HeapTupleIsValid(after))
	{
		Form_pg_attribute was = (Form_pg_attribute) GETSTRUCT(before);
		Form_pg_attribute is = (Form_pg_attribute) GETSTRUCT(after);

		is_new = was->atttypid != is->atttypid || was->atttypmod != is->atttypmod;
	}
	if (HeapTupleIsValid(before))
		ReleaseSysCache(before);
	return is_new;
}

/* For the object access hook: something happens to a relation, or to a column of it. */
void
pp_altered_access(ObjectAccessType access, Oid relid, AttrNumber attnum, void *arg)
{
	Change change = {0};

	if (attnum == 0 ? !(access == OAT_DROP || (access == OAT_POST_ALTER && dropped != NIL)) ||
						  !may_be_target(relid)
					: access != OAT_DROP && access != OAT_POST_CREATE &&
						  (access != OAT_POST_ALTER || !has_new_type(relid, attnum)))
		return;
	change.extension = pp_extension_oid();
	if (attnum == 0 && access == OAT_POST_ALTER)
	{
		if (OidIsValid(change.extension))
			replace_dropped(change.extension, relid);
	}
	else if (attnum == 0)
		drop_target(change.extension, relid,
					(((ObjectAccessDrop *) arg)->dropflags & PERFORM_DELETION_INTERNAL) != 0);
	else if (OidIsValid(change.extension) && access == OAT_POST_CREATE)
		change_type(&change, get_rel_type_id(relid)); /* its items have no such column */
	else if (OidIsValid(change.extension))
		change_columns(&change, relid);
	if (change.types)
		hash_destroy(change.types);
}

/* Called once, while the library is preloaded. */
void
pp_altered_init(void)
{
	RegisterXactCallback(xact_event, NULL);
}
