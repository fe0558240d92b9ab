/*-------------------------------------------------------------------------
 *
 * dead_letter_functions.c
 *	  The SQL functions on dead letters and on the account: arguments and rights.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/errors.h"
#include "base/extension.h"
#include "base/ids.h"
#include "base/savepoint.h"
#include "producer/convert.h"
#include "producer/enqueue.h"
#include "producer/target.h"
#include "sql/run_as.h"
#include "store/account.h"
#include "store/layouts.h"
#include "worker/bad_rows.h"
#include "worker/classify.h"
#include "worker/outcome_counts.h"

PG_FUNCTION_INFO_V1(persist_requeue);
PG_FUNCTION_INFO_V1(persist_requeue_repaired);
PG_FUNCTION_INFO_V1(persist_requeue_elsewhere);
PG_FUNCTION_INFO_V1(persist_discard_letters);
PG_FUNCTION_INFO_V1(persist_stats_reset);

/* What one of these functions does to letters */
typedef struct LetterDeed
{
	PpOutcomeCounts counts; /* first, for pp_bad_rows_discard() */
	Oid extension;
	bool named;		   /* the caller has named them: what isn't his is an error */
	const Oid *target; /* another one; NULL: its own */
	Jsonb *repaired;   /* other values; NULL: as it is */
	uint64 kept;	   /* they have failed again, and stay letters */
} LetterDeed;

/*
 * Has the role its name of the failure?  Else it was renamed, or is another one that has got
 * its OID since.
 */
static bool
is_same_role(Oid role, const char *role_name)
{
	char *name = GetUserNameFromId(role, true);
	bool is_same = name && role_name && strcmp(name, role_name) == 0;

	if (name)
		pfree(name); /* there may be many letters */
	return is_same;
}

/* May the caller do something with letters of that role? */
static bool
may_take(Oid role, const char *role_name)
{
	return superuser() || GetUserId() == pp_extension_owner(pp_extension_oid()) ||
		   (is_same_role(role, role_name) && has_privs_of_role(GetUserId(), role));
}

static bool
is_letter_wanted(Oid role, const char *role_name, Oid target, TimestampTz failed_at, void *arg)
{
	const LetterDeed *deed = arg;

	if (!deed->named && role_name && SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)) &&
		!is_same_role(role, role_name))
		return false; /* it would run as another one */
	if (may_take(role, role_name))
		return deed->named || !pp_enqueue_is_full(target); /* none would be sent again */
	if (deed->named)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for dead letter"),
						errdetail("Its item was enqueued by role \"%s\".",
								  role_name ? role_name : psprintf("%u", role)),
						errhint("Become a member of that role.")));
	return false;
}

/* For pp_run_as() */
typedef struct LetterConverting
{
	Oid target;
	Jsonb *object;
	PpItem *item;
} LetterConverting;

static void
convert_letter(void *arg)
{
	LetterConverting *converting = arg;

	converting->item = pp_convert_jsonb(pp_target_get(converting->target), converting->object);
}

/* Make an item of these values, as the letter's role: defaults and domains are others' code. */
static PpItem *
convert_as(Oid role, Oid target, Jsonb *object)
{
	LetterConverting converting = {.target = target, .object = object};

	pp_run_as(role, convert_letter, &converting);
	return converting.item;
}

/* The item to be sent.  What has never been one can fail, as at its call. */
static PpItem *
make_item(const PpDeadLetter *letter, Oid target, Jsonb *object)
{
	PpCommitPosition position = {.pos = letter->pos, .part = letter->part};
	char *name = GetUserNameFromId(letter->role, true);
	PpItem *item;

	if (letter->role_name && name && !is_same_role(letter->role, letter->role_name))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist", letter->role_name),
				 errdetail("It has enqueued item %lld.  Its OID is that of role \"%s\" now.",
						   (long long) letter->id, name),
				 errhint("If it was renamed, rename it back for the moment; else discard the "
						 "letter, and enqueue its values as another role.")));
	if (object == NULL)
		return pp_item_with_commit_position(letter->item, &position);
	if (name == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("role with OID %u does not exist", letter->role),
						errdetail("It has enqueued item %lld.", (long long) letter->id)));
	item = convert_as(letter->role, target, object);
	return letter->pos > 0 ? pp_item_with_commit_position(item, &position) : item;
}

/* Is the error that of the letter, of its item, target or role? */
static bool
is_letters_fault(const ErrorData *error)
{
	return pp_classify_is_items_fault(error) ||
		   ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
			   ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION);
}

typedef struct LetterMaking
{
	const PpDeadLetter *letter;
	Jsonb *object;
	PpItem *item;
} LetterMaking;

static void
make(void *arg)
{
	LetterMaking *making = arg;

	making->item =
		make_item(making->letter, pp_layouts_current(making->letter->target), making->object);
}

/* The same; NULL, and why, if it is the letter's own fault. */
static PpItem *
try_to_make_item(const PpDeadLetter *letter, Jsonb *object, ErrorData **fault)
{
	LetterMaking making = {.letter = letter, .object = object};

	*fault = pp_savepoint_run(make, &making);
	if (*fault == NULL)
		return making.item;
	if (!is_letters_fault(*fault))
		ReThrowError(*fault);
	*fault = pp_error_shorten(*fault);
	return NULL;
}

/* It has failed again, at the call. */
static void
put_letter_back(LetterDeed *deed, const PpDeadLetter *letter, const ErrorData *fault)
{
	PpTable letters = pp_dead_letters_open(deed->extension);
	PpDeadLetter again = *letter;

	again.error = fault;
	again.attempts = Min(letter->attempts, PG_UINT16_MAX - 1) + 1;
	pp_dead_letter_put(&letters, &again);
	pp_table_close(&letters);
	pp_outcome_counts_error(&deed->counts, letter->target, fault);
	deed->kept++;
}

static void
send_again(const PpDeadLetter *letter, void *arg)
{
	LetterDeed *deed = arg;
	Jsonb *object = deed->repaired ? deed->repaired : letter->item ? NULL : letter->shown;
	ErrorData *fault = NULL;
	PpItem *item;

	if (letter->damaged)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("dead letter %lld is damaged", (long long) letter->id),
						errhint("Discard it, and enqueue its values anew.")));
	if (letter->left_out && !deed->repaired)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("dead letter %lld was too large to be kept whole", (long long) letter->id),
				 errdetail("The bytes of its item are not in it, and its values may not tell "
						   "all of them."),
				 errhint("Call persist_requeue() with its values, or persist_discard().")));
	if (object == NULL && letter->item == NULL)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
						errmsg("dead letter %lld cannot be read", (long long) letter->id),
						errhint("Call persist_requeue() with its values.")));

	/* who hasn't named it can't leave it out */
	if (object == NULL || deed->named)
		item = make_item(letter, deed->target ? *deed->target : pp_layouts_current(letter->target),
						 object);
	else
		item = try_to_make_item(letter, object, &fault);
	if (item == NULL)
	{
		put_letter_back(deed, letter, fault);
		return;
	}
	item->id = letter->id;
	item->enqueued_at = letter->enqueued_at;
	item->attempts = Min(letter->attempts, PG_UINT16_MAX - 1);
	item->depth = Min(letter->depth, PP_DEEPEST); /* it doesn't begin anew */
	item->durability = PP_ITEM_JOURNALLED; /* as a letter it survives a crash: so it goes on */
	pp_enqueue_again(item, letter->role);
	pp_outcome_counts_of(&deed->counts, letter->target)->delta.dead--;
	pfree(item);
}

/* Do it to the letters of these ids, or to all. */
static uint64
do_to_letters(LetterDeed *deed, const int64 *ids, int nids, PpDeadLetterTaker take)
{
	uint64 taken;

	deed->extension = pp_extension_get();
	deed->named = ids != NULL;
	taken = pp_dead_letters_take(deed->extension, ids, nids, deed->named, true, is_letter_wanted,
								 take, deed);
	pp_outcome_counts_write(&deed->counts, deed->extension);
	return taken - deed->kept;
}

/* The ids that argument 0 has, without NULLs; NULL if it is NULL. */
static int64 *
get_ids(FunctionCallInfo fcinfo, int *n)
{
	*n = 0;
	return PG_ARGISNULL(0) ? NULL : pp_ids_of_array(PG_GETARG_ARRAYTYPE_P(0), n);
}

/* Who sends items needs the pipeline. */
static void
check_pipeline(void)
{
	if (pp_shmem == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("persist_pipeline was not loaded when the server started"),
				 errhint("Add persist_pipeline to \"shared_preload_libraries\" and restart the "
						 "server.")));
}

/* persist_requeue(ids bigint[]) returns bigint: how many are sent again at the commit. */
Datum
persist_requeue(PG_FUNCTION_ARGS)
{
	LetterDeed deed = {0};
	int64 *ids;
	int n;

	pp_extension_check_writable("persist_requeue()");
	check_pipeline();
	ids = get_ids(fcinfo, &n);

	PG_RETURN_INT64(do_to_letters(&deed, ids, n, send_again));
}

/* Send a letter with other values.  True: there is such a letter. */
static bool
send_repaired(int64 id, const Oid *target, Jsonb *item)
{
	LetterDeed deed = {.target = target, .repaired = item};

	pp_extension_check_writable("persist_requeue()");
	check_pipeline();
	return do_to_letters(&deed, &id, 1, send_again) > 0;
}

/* persist_requeue(id bigint, item jsonb) returns boolean: is there such a letter? */
Datum
persist_requeue_repaired(PG_FUNCTION_ARGS)
{
	pp_error_if_null(fcinfo, 0, "id");
	pp_error_if_null(fcinfo, 1, "item");
	PG_RETURN_BOOL(send_repaired(PG_GETARG_INT64(0), NULL, PG_GETARG_JSONB_P(1)));
}

/* persist_requeue(id bigint, target regclass, item jsonb) returns boolean: the same. */
Datum
persist_requeue_elsewhere(PG_FUNCTION_ARGS)
{
	Oid target = PG_GETARG_OID(1);

	pp_error_if_null(fcinfo, 0, "id");
	pp_error_if_null(fcinfo, 1, "target");
	pp_error_if_null(fcinfo, 2, "item");
	PG_RETURN_BOOL(send_repaired(PG_GETARG_INT64(0), &target, PG_GETARG_JSONB_P(2)));
}

/* persist_discard(ids bigint[]) returns bigint: how many are gone at the commit. */
Datum
persist_discard_letters(PG_FUNCTION_ARGS)
{
	LetterDeed deed = {0};
	int64 *ids;
	int n;

	pp_extension_check_writable("persist_discard()");
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" must not be null", "ids"),
						errhint("For all of them: ARRAY(SELECT id FROM persist_dead_letters).")));
	ids = get_ids(fcinfo, &n);

	PG_RETURN_INT64(do_to_letters(&deed, ids, n, pp_bad_rows_discard));
}

/* persist_stats_reset() returns void. */
Datum
persist_stats_reset(PG_FUNCTION_ARGS)
{
	pp_extension_check_writable("persist_stats_reset()");
	pp_account_reset(pp_extension_get());

	PG_RETURN_VOID();
}
