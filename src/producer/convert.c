/*-------------------------------------------------------------------------
 *
 * convert.c
 *	  Decides the row at the call: values from JSON as jsonb_populate_record
 *	  converts them, or from a record as it is; the other columns from their
 *	  defaults; privileges checked.
 *
 * Everything here can run user code (input functions, domain checks, defaults),
 * which can throw, enqueue, or change the target.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/typcache.h"

#include "base/compat.h"
#include "producer/convert.h"

#define MAX_SETTINGS 8192 /* bytes of an item: names, and values */

/* A row being decided.  Arrays are by attnum - 1. */
typedef struct ConvertedRow
{
	PpTarget *target;
	PpColumn *column; /* the one at work, for error messages */
	uint8 *given;
	uint8 *carried;
	JsonbValue *json; /* of those that an object gives */
	uint32 unknown;	  /* keys of an object that are no column, and are passed over */
	Datum *values;
	bool *nulls;
	Datum *carried_values; /* without gaps, as in the item: may be the same array */
	bool *carried_nulls;
} ConvertedRow;

/* The transaction whose last WAL came from a default that draws a number, and where that ended */
static TransactionId drew_xid;
static XLogRecPtr drew_until;

static void
name_converted_column(void *arg)
{
	ConvertedRow *row = (ConvertedRow *) arg;

	/* not in the fields of the error: they may name a domain already */
	if (row->column != NULL)
		errcontext("column \"%s\" of an item for relation \"%s\"", NameStr(row->column->name),
				   row->target->name);
}

/* Its arrays are one piece of memory: this is done for each row. */
static void
start_converted_row(ConvertedRow *row, PpTarget *target)
{
	int natts = target->natts;
	Size bitmap = PpBitmapBytes(natts) + 1;
	char *at =
		palloc(MAXALIGN((sizeof(JsonbValue) + sizeof(Datum) + sizeof(bool)) * natts) + 2 * bitmap);

	row->target = target;
	row->column = NULL;
	row->unknown = 0;
	row->json = (JsonbValue *) at;
	row->values = (Datum *) (at + sizeof(JsonbValue) * natts);
	row->nulls = (bool *) (row->values + natts);
	row->carried_values = row->values;
	row->carried_nulls = row->nulls;
	row->given = (uint8 *) (row->nulls + natts);
	row->carried = row->given + bitmap;
	memset(row->nulls, true, natts);
	memset(row->given, 0, bitmap);
	memcpy(row->carried, target->all_carried, bitmap);
}

static void
give_column(ConvertedRow *row, PpColumn *column)
{
	if (!column->insertable)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot insert into column \"%s\" of view \"%s\"",
							   NameStr(column->name), row->target->name)));
	PpBitmapAdd(row->given, column->attnum);
	PpBitmapAdd(row->carried, column->attnum);
}

/* The same of a value, which some columns make themselves. */
static void
give_column_value(ConvertedRow *row, PpColumn *column)
{
	if (column->generated || column->identity_always)
		ereport(ERROR, (errcode(ERRCODE_GENERATED_ALWAYS),
						errmsg("cannot insert a non-DEFAULT value into column \"%s\"",
							   NameStr(column->name)),
						column->generated
							? errdetail("Column \"%s\" of relation \"%s\" is a generated column.",
										NameStr(column->name), row->target->name)
							: errdetail("Column \"%s\" of relation \"%s\" is an identity column "
										"defined as GENERATED ALWAYS.",
										NameStr(column->name), row->target->name)));
	give_column(row, column);
}

static Datum
convert_by_populate(PpColumn *column, Datum object, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 2);
	HeapTupleData tuple;
	HeapTupleHeader result;

	InitFunctionCallInfoData(*fcinfo, &column->populate, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = column->empty_row;
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = object;
	fcinfo->args[1].isnull = false;
	result = DatumGetHeapTupleHeader(FunctionCallInvoke(fcinfo));

	tuple.t_len = HeapTupleHeaderGetDatumLength(result);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = result;
	return heap_getattr(&tuple, 1, column->row_descriptor, isnull);
}

/* The value as text, as jsonb_populate_record gives it to an input function */
static char *
json_as_text(JsonbValue *json)
{
	switch (json->type)
	{
		case jbvString:
			return pnstrdup(json->val.string.val, json->val.string.len);
		case jbvBool:
			return pstrdup(json->val.boolean ? "true" : "false");
		case jbvNumeric:
			return DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(json->val.numeric)));
		default:
			Assert(json->type == jbvBinary);
			return JsonbToCString(NULL, json->val.binary.data, json->val.binary.len);
	}
}

/* What jsonb_populate_record makes of the value, for a column whose type isn't made of others. */
static Datum
convert_scalar(PpColumn *column, JsonbValue *json, bool *isnull)
{
	Oid type = column->layout.type; /* which is no domain's base */
	int32 typmod = column->layout.typmod;

	*isnull = json->type == jbvNull;
	if (*isnull)
		return (Datum) 0;
	if (type == JSONBOID)
		return JsonbPGetDatum(JsonbValueToJsonb(json));
	/* what the input function would come to, without the way through text */
	if (json->type == jbvString && (type == TEXTOID || (type == VARCHAROID && typmod < 0)))
		return PointerGetDatum(
			cstring_to_text_with_len(json->val.string.val, json->val.string.len));
	if (json->type == jbvBool && type == BOOLOID)
		return BoolGetDatum(json->val.boolean);
	if (json->type == jbvNumeric && type == NUMERICOID && typmod < 0)
		return NumericGetDatum(json->val.numeric);
	return InputFunctionCall(&column->input, json_as_text(json), column->input_param, typmod);
}

static int
compare_key_to_column(const JsonbValue *key, const PpColumn *column)
{
	if (key->val.string.len != column->name_length)
		return key->val.string.len - column->name_length;
	return memcmp(key->val.string.val, NameStr(column->name), column->name_length);
}

/*
 * Mark the columns that the object names, and take their values.  Both the keys and
 * target->sorted are in jsonb's order, so one walk over the two is enough.
 */
static void
give_object_columns(ConvertedRow *row, Jsonb *object)
{
	PpTarget *target = row->target;
	JsonbIterator *it = JsonbIteratorInit(&object->root);
	JsonbIteratorToken token;
	JsonbValue key;
	int next = 0;

	while ((token = JsonbIteratorNext(&it, &key, true)) != WJB_DONE)
	{
		PpColumn *column;

		if (token != WJB_KEY)
			continue;
		while (next < target->nsorted && compare_key_to_column(&key, target->sorted[next]) > 0)
			next++;
		if (next == target->nsorted || compare_key_to_column(&key, target->sorted[next]) != 0)
		{
			if (target->passes_unknown)
			{
				row->unknown++;
				continue;
			}
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
							errmsg("column \"%.*s\" of relation \"%s\" does not exist",
								   key.val.string.len, key.val.string.val, target->name),
							errdetail("The item has a key of that name.")));
		}

		column = target->sorted[next];
		give_column_value(row, column);
		(void) JsonbIteratorNext(&it, &row->json[column->attnum - 1], true);
	}
}

/*
 * Has this transaction written anything, but for what its items' defaults have?  nextval() logs the
 * sequence once in 32 calls, and has an xid assigned to its transaction for that.
 */
bool
pp_convert_has_written(void)
{
	TransactionId xid = GetTopTransactionIdIfAny();

	return TransactionIdIsValid(xid) && (xid != drew_xid || XactLastRecEnd != drew_until);
}

static Datum
draw_default(ExprState *state, ExprContext *econtext, bool *isnull)
{
	bool had_written = pp_convert_has_written();
	Datum number = ExecEvalExpr(state, econtext, isnull);

	if (!had_written)
	{
		drew_xid = GetTopTransactionIdIfAny();
		drew_until = XactLastRecEnd;
	}
	return number;
}

/* Fill in the carried columns that were not given. */
static void
evaluate_defaults(ConvertedRow *row)
{
	ExprContext *econtext = row->target->econtext;

	for (int i = 0; i < row->target->natts; i++)
	{
		PpColumn *column = &row->target->columns[i];
		ExprState *state;

		if (column->default_node == NULL || !PpBitmapHas(row->carried, column->attnum) ||
			PpBitmapHas(row->given, column->attnum))
			continue;
		row->column = column;
		state = pp_target_default(row->target, column);
		row->values[i] = column->default_is_nextval ? draw_default(state, econtext, &row->nulls[i])
													: ExecEvalExpr(state, econtext, &row->nulls[i]);
		row->column = NULL;
	}
	ResetExprContext(econtext);
}

/* Convert what an object has given, if there is one, and fill in the rest: this runs user code. */
static void
convert_values(ConvertedRow *row, Jsonb *object)
{
	ErrorContextCallback context = {
		.previous = error_context_stack, .callback = name_converted_column, .arg = row};

	error_context_stack = &context;
	pp_target_begin_code(row->target);
	for (int i = 0; object && i < row->target->natts; i++)
	{
		if (!PpBitmapHas(row->given, i + 1))
			continue;
		row->column = &row->target->columns[i];
		row->values[i] =
			row->column->is_scalar
				? convert_scalar(row->column, &row->json[i], &row->nulls[i])
				: convert_by_populate(row->column, JsonbPGetDatum(object), &row->nulls[i]);
		row->column = NULL;
	}
	evaluate_defaults(row);
	error_context_stack = context.previous;
}

/* Have the target's other layout be that of what the row carries. */
static void
find_other_layout(const ConvertedRow *row)
{
	PpTarget *target = row->target;
	Size bitmap = PpBitmapBytes(target->natts);
	MemoryContext caller;
	PpColumnLayout *columns;
	int n = 0;

	if (target->other_carried && memcmp(row->carried, target->other_carried, bitmap) == 0)
		return;
	target->other_carried = NULL;
	MemoryContextReset(target->other_context);
	caller = MemoryContextSwitchTo(target->other_context);
	target->other_descriptor = pp_item_descriptor(target->descriptor, row->carried, target->natts);
	columns = palloc((target->natts + 1) * sizeof(PpColumnLayout));
	for (int attnum = 1; attnum <= target->natts; attnum++)
	{
		if (PpBitmapHas(row->carried, attnum))
			columns[n++] = target->columns[attnum - 1].layout;
	}
	target->other_layout = pp_row_layout_of_columns(columns, n);
	target->other_carried = memcpy(palloc(bitmap + 1), row->carried, bitmap);
	MemoryContextSwitchTo(caller);
}

/* Those of the session that go with the item; one that isn't set doesn't.  54000: too much. */
static void
capture_settings(List *names, StringInfo settings)
{
	ListCell *cell;

	initStringInfo(settings);
	foreach (cell, names)
	{
		const char *value = pp_config_option(lfirst(cell));

		if (value == NULL)
			continue;
		appendBinaryStringInfo(settings, lfirst(cell), strlen(lfirst(cell)) + 1);
		appendBinaryStringInfo(settings, value, strlen(value) + 1);
	}
	if (settings->len > MAX_SETTINGS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the settings that go with the item are too large"),
				 errdetail("They have %d bytes; the limit is %d.", settings->len, MAX_SETTINGS),
				 errhint("See \"capture_settings\" of persist_configure().")));
}

static PpItem *
form_converted_row(ConvertedRow *row)
{
	PpTarget *target = row->target;
	Size bitmap = PpBitmapBytes(target->natts);
	TupleDesc descriptor = target->all_descriptor;
	const PpLayout *layout = &target->all_layout;
	PpItemExtra extra = {.unknown_keys = row->unknown};
	StringInfoData settings = {0};
	int ncarried = 0;

	if (memcmp(row->carried, target->all_carried, bitmap) != 0)
	{
		find_other_layout(row);
		descriptor = target->other_descriptor;
		layout = &target->other_layout;
	}

	if (target->captures != NIL)
	{
		capture_settings(target->captures, &settings);
		extra.settings = settings.len;
	}

	/* close the gaps, as in the descriptor */
	for (int i = 0; i < target->natts; i++)
	{
		if (!PpBitmapHas(row->carried, i + 1))
			continue;
		row->carried_values[ncarried] = row->values[i];
		row->carried_nulls[ncarried] = row->nulls[i];
		ncarried++;
	}

	return pp_item_form(target->relid, target->durability, target->natts, descriptor, row->carried,
						row->given, row->carried_values, row->carried_nulls, layout,
						extra.unknown_keys > 0 || extra.settings > 0 ? &extra : NULL,
						settings.data);
}

/* An item, where it is known which columns are given: what is missing is decided. */
static PpItem *
convert_row(ConvertedRow *row, Jsonb *object)
{
	PpTarget *target = row->target;
	PpItem *volatile item = NULL;

	pp_target_check_privileges(target, row->given, row->carried);

	pp_target_use(target);
	PG_TRY();
	{
		convert_values(row, object);
		pp_target_check_types(target);
		item = form_converted_row(row);
	}
	PG_CATCH();
	{
		pp_target_release(target, true);
		PG_RE_THROW();
	}
	PG_END_TRY();
	pp_target_release(target, false);

	return item;
}

/*
 * An item from a JSON object.  Errors: 22023 not an object; 42703 unknown key, unless those are
 * passed over; 428C9 a generated or identity-always column is given; 42501 no privilege; those of
 * the types' input functions, domains and defaults, which name the column.
 */
PpItem *
pp_convert_jsonb(PpTarget *target, Jsonb *object)
{
	ConvertedRow row;

	if (!JB_ROOT_IS_OBJECT(object))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an item for relation \"%s\" must be a JSON object", target->name),
						errdetail("The item is %s.",
								  JB_ROOT_IS_SCALAR(object) ? "a scalar" : "an array")));

	start_converted_row(&row, target);
	give_object_columns(&row, object);

	return convert_row(&row, object);
}

/*
 * An item from a row of the target's own type: every column counts as given,
 * but generated ones.  Errors: 42501 no privilege.
 */
PpItem *
pp_convert_record(PpTarget *target, HeapTupleHeader record)
{
	ConvertedRow row;
	HeapTupleData tuple;

	start_converted_row(&row, target);
	for (int i = 0; i < target->natts; i++)
	{
		PpColumn *column = &target->columns[i];

		if (!column->dropped && !column->generated)
			give_column(&row, column);
	}
	pp_target_check_privileges(target, row.given, row.carried);

	tuple.t_len = HeapTupleHeaderGetDatumLength(record);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = record;
	heap_deform_tuple(&tuple, target->descriptor, row.values, row.nulls);

	return form_converted_row(&row);
}

/*
 * An item from a row that is about to be inserted, with its defaults filled in: nobody knows what
 * was given.  So whatever the role may insert counts as given, and nothing else is carried.
 * Errors: 42501 no privilege.
 */
PpItem *
pp_convert_tuple(PpTarget *target, HeapTuple tuple)
{
	ConvertedRow row;

	start_converted_row(&row, target);
	pp_target_check_privileges(target, row.given, row.carried);
	heap_deform_tuple(tuple, target->descriptor, row.values, row.nulls);
	memcpy(row.given, row.carried, PpBitmapBytes(target->natts));

	return form_converted_row(&row);
}

/*
 * An item from values, by column, of which NULLs are absent: in their place what is decided
 * instead is returned.  Errors: 428C9 a generated or identity-always column has a value; 42501
 * no privilege; those of domains and defaults, which name the column.
 */
PpItem *
pp_convert_values(PpTarget *target, Datum *values, bool *nulls)
{
	ConvertedRow row;

	start_converted_row(&row, target);
	row.values = values;
	row.nulls = nulls;
	for (int i = 0; i < target->natts; i++)
	{
		if (!nulls[i])
			give_column_value(&row, &target->columns[i]);
	}

	return convert_row(&row, NULL);
}
