/*-------------------------------------------------------------------------
 *
 * row_json.c
 *	  A row's values as JSON, as a person would write it to persist_enqueue.
 *
 * jsonb_populate_record, and so persist_enqueue, makes the same values of it,
 * but for what JSON, or jsonb, has no place for:
 *
 *	- JSON's null inside a json or jsonb column: null is SQL's NULL;
 *	- in json: white space, the order of keys, all but the last of equal keys;
 *	- json that jsonb cannot hold (\u0000, a number beyond numeric): a string of
 *	  its text, which comes back as a JSON string.
 *
 * None of this runs user-defined SQL: a superuser's worker calls it.  to_jsonb
 * would call a user's cast to json; an output function is C, and a superuser's.
 *
 * The JSON is composed as text, and jsonb_in reads it: that is the same code in
 * all versions, while jsonb's own construction functions are not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

#include "base/savepoint.h"
#include "worker/row_json.h"

/* An array on its way into JSON, element by element. */
typedef struct Elements
{
	Oid type; /* never a domain */
	int ndims;
	const int *dims;
	ArrayIterator next;
} Elements;

static void add_value(StringInfo json, Oid type, Datum value, bool isnull);

/*
 * What output functions write must mean the same to readers with other settings:
 * intervals, ranges of dates, floats inside a point, the name of a regclass.
 */
static int
begin_exact_output(void)
{
	static const char *const settings[][2] = {{"datestyle", "ISO"},
											  {"intervalstyle", "postgres"},
											  {"extra_float_digits", "3"},
											  {"search_path", "pg_catalog, pg_temp"}};
	int guc_level = NewGUCNestLevel();

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);

	return guc_level;
}

static void
add_string(StringInfo json, const char *string)
{
	/* jsonb_in would say so too, but after two more copies of it */
	if (strlen(string) > JENTRY_OFFLENMASK)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("string too long to represent as jsonb string")));
	escape_json(json, string);
}

static char *
output_of(Oid type, Datum value)
{
	Oid function;
	bool is_varlena;

	getTypeOutputInfo(type, &function, &is_varlena);
	return OidOutputFunctionCall(function, value);
}

static void
add_output(StringInfo json, Oid type, Datum value)
{
	char *output = output_of(type, value);

	add_string(json, output);
	pfree(output);
}

/* NaN and the infinities are no JSON numbers, and a numeric, so jsonb's, has no -0. */
static void
add_number(StringInfo json, Oid type, Datum value)
{
	char *output = output_of(type, value);

	if (isdigit((unsigned char) output[strlen(output) - 1]) && strcmp(output, "-0") != 0)
		appendStringInfoString(json, output);
	else
		add_string(json, output);
	pfree(output);
}

/* ISO 8601, as to_jsonb writes it. */
static void
add_datetime(StringInfo json, Oid type, Datum value)
{
	char output[MAXDATELEN + 1];

	JsonEncodeDateTime(output, value, type, NULL);
	add_string(json, output);
}

static void
add_jsonb(StringInfo json, Jsonb *value)
{
	(void) JsonbToCString(json, &value->root, VARSIZE(value));
}

/*
 * NULL if jsonb cannot hold it.  Catches the error without a subtransaction:
 * jsonb_in does nothing but allocate memory.
 */
static Jsonb *
jsonb_or_null(char *document)
{
	PpCatcher catcher = pp_savepoint_catcher();
	Jsonb *volatile result = NULL;

	PG_TRY();
	{
		result = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(document)));
	}
	PG_CATCH();
	{
		switch (geterrcode())
		{
			case ERRCODE_UNTRANSLATABLE_CHARACTER:	  /* \u0000; not in the encoding */
			case ERRCODE_FEATURE_NOT_SUPPORTED:		  /* no conversion to the encoding */
			case ERRCODE_INVALID_TEXT_REPRESENTATION: /* half a surrogate pair */
			case ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE:
			case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
			case ERRCODE_STATEMENT_TOO_COMPLEX: /* too deep */
				break;
			default:
				PG_RE_THROW();
		}
		FreeErrorData(pp_savepoint_catch(&catcher));
	}
	PG_END_TRY();

	return result;
}

static void
add_json(StringInfo json, Datum value)
{
	char *document = TextDatumGetCString(value);
	Jsonb *jsonb = jsonb_or_null(document);

	if (jsonb != NULL)
		add_jsonb(json, jsonb);
	else
		add_string(json, document);
}

static void
add_dimension(StringInfo json, Elements *elements, int dim)
{
	appendStringInfoChar(json, '[');
	for (int i = 0; i < elements->dims[dim]; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (i > 0)
			appendStringInfoChar(json, ',');
		if (dim + 1 < elements->ndims)
			add_dimension(json, elements, dim + 1);
		else
		{
			Datum value;
			bool isnull;

			(void) array_iterate(elements->next, &value, &isnull);
			add_value(json, elements->type, value, isnull);
		}
	}
	appendStringInfoChar(json, ']');
}

/* Nested JSON arrays, or, where these would say something else, SQL's notation. */
static void
add_array(StringInfo json, Oid type, Datum value)
{
	ArrayType *array = DatumGetArrayTypeP(value);
	Elements elements = {.type = getBaseType(ARR_ELEMTYPE(array)),
						 .ndims = ARR_NDIM(array),
						 .dims = ARR_DIMS(array),
						 .next = array_create_iterator(array, 0, NULL)};
	int start = json->len;

	if (elements.ndims == 0)
	{
		appendStringInfoString(json, "[]");
		return;
	}
	for (int i = 0; i < elements.ndims; i++)
	{
		if (ARR_LBOUND(array)[i] != 1)
		{
			add_output(json, type, PointerGetDatum(array));
			return;
		}
	}

	add_dimension(json, &elements, 0);

	/* an element that is an array, as jsonb or by its domain, would read as a dimension */
	if (json->data[start + elements.ndims] == '[')
	{
		json->len = start;
		add_output(json, type, PointerGetDatum(array));
	}
}

/* An object.  names: NULL for the descriptor's own; hidden: NULL for none. */
static void
add_row(StringInfo json, TupleDesc descriptor, HeapTuple tuple, char *const *names,
		const bool *hidden)
{
	Datum *values = palloc(sizeof(Datum) * (descriptor->natts + 1));
	bool *nulls = palloc(sizeof(bool) * (descriptor->natts + 1));
	bool first = true;

	heap_deform_tuple(tuple, descriptor, values, nulls);
	appendStringInfoChar(json, '{');
	for (int i = 0; i < descriptor->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(descriptor, i);

		if (att->attisdropped || (hidden != NULL && hidden[i]))
			continue;
		if (!first)
			appendStringInfoChar(json, ',');
		first = false;
		add_string(json, names != NULL ? names[i] : NameStr(att->attname));
		appendStringInfoChar(json, ':');
		add_value(json, getBaseType(att->atttypid), values[i], nulls[i]);
	}
	appendStringInfoChar(json, '}');
}

static void
add_composite(StringInfo json, Datum value)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(value);
	TupleDesc descriptor = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(header),
													   HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};

	add_row(json, descriptor, &tuple, NULL, NULL);
	FreeTupleDesc(descriptor);
}

/* The type is no domain. */
static void
add_value(StringInfo json, Oid type, Datum value, bool isnull)
{
	check_stack_depth();

	if (isnull)
	{
		appendStringInfoString(json, "null");
		return;
	}

	switch (type)
	{
		case BOOLOID:
			appendStringInfoString(json, DatumGetBool(value) ? "true" : "false");
			break;
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
			add_number(json, type, value);
			break;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			add_datetime(json, type, value);
			break;
		case JSONOID:
			add_json(json, value);
			break;
		case JSONBOID:
			add_jsonb(json, DatumGetJsonbP(value));
			break;
		default:
			if (OidIsValid(get_element_type(type)))
				add_array(json, type, value);
			else if (type_is_rowtype(type))
				add_composite(json, value);
			else
				add_output(json, type, value);
	}
}

/*
 * An object with a key for each column, in the current memory context.  names: by
 * column, or NULL for the descriptor's own; hidden: columns to leave out, or NULL.
 * Throws as output functions do, and where jsonb cannot hold so much.  An error
 * must end the (sub)transaction, which puts the settings back.
 */
Jsonb *
pp_row_json(TupleDesc descriptor, MinimalTuple tuple, char *const *names, const bool *hidden)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "persist_pipeline show",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	HeapTupleData row = {.t_len = tuple->t_len + MINIMAL_TUPLE_OFFSET,
						 .t_data = (HeapTupleHeader) ((char *) tuple - MINIMAL_TUPLE_OFFSET)};
	int guc_level = begin_exact_output();
	StringInfoData json;
	Jsonb *shown;
	Jsonb *result;

	initStringInfo(&json);
	add_row(&json, descriptor, &row, names, hidden);
	AtEOXact_GUC(true, guc_level);
	shown = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));

	MemoryContextSwitchTo(caller);
	result = palloc(VARSIZE(shown));
	memcpy(result, shown, VARSIZE(shown));
	MemoryContextDelete(context);

	return result;
}
