/*-------------------------------------------------------------------------
 *
 * errors.c
 *	  Makes errors, and shortens them; see errors.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "base/errors.h"

#define MAX_TEXT 8192 /* bytes of a message, a detail, a context */
#define SHORT_TEXT 256

/* An error that nobody has raised. */
ErrorData *
pp_error(int sqlstate, const char *message)
{
	ErrorData *error = palloc0(sizeof(ErrorData));

	error->sqlerrcode = sqlstate;
	error->message = pstrdup(message);
	return error;
}

/* The short text is a copy, and the long one is freed, so that its memory can be used again. */
static void
shorten(char **text, int max)
{
	char *longer = *text;
	int length = longer ? strlen(longer) : 0;

	if (length <= max)
		return;
	length = pg_mbcliplen(longer, length, max - 3);
	*text = palloc(length + 4);
	memcpy(*text, longer, length);
	strcpy(*text + length, "...");
	pfree(longer);
}

static void
drop(char **text)
{
	if (*text)
		pfree(*text);
	*text = NULL;
}

static void
shorten_texts(ErrorData *error, int max)
{
	shorten(&error->message, max);
	shorten(&error->detail, max);
	shorten(&error->context, max);
}

/*
 * As much of an error as a letter tells.  What code raises can be of any size, and a
 * transaction keeps one for each bad row; the name of a constraint goes to the log, too.
 */
ErrorData *
pp_error_shorten(ErrorData *error)
{
	shorten_texts(error, MAX_TEXT);
	drop(&error->hint);
	drop(&error->detail_log);
	drop(&error->internalquery);
	drop(&error->backtrace);
	shorten(&error->schema_name, NAMEDATALEN - 1);
	shorten(&error->table_name, NAMEDATALEN - 1);
	shorten(&error->column_name, NAMEDATALEN - 1);
	shorten(&error->datatype_name, NAMEDATALEN - 1);
	shorten(&error->constraint_name, NAMEDATALEN - 1);
	return error;
}

/* Shorten an error of which many are kept, so that they don't need much memory together. */
void
pp_error_abridge(ErrorData *error)
{
	shorten_texts(error, SHORT_TEXT);
}

/* The bytes of its texts. */
size_t
pp_error_size(const ErrorData *error)
{
	return (error->message ? strlen(error->message) : 0) +
		   (error->detail ? strlen(error->detail) : 0) +
		   (error->context ? strlen(error->context) : 0);
}

/* 22004 if this argument of a SQL function is NULL. */
void
pp_error_if_null(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("argument \"%s\" must not be null", name)));
}
