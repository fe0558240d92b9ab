/*-------------------------------------------------------------------------
 *
 * classify_test.c
 *	  What src/worker/classify.c says of each SQLSTATE.
 *
 * The server's own list of them, $ERRCODES, may have more than are written down here, in
 * a version to come: then somebody has to say what they are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/elog.h"

#include "worker/classify.h"
#include "tap.h"

typedef struct Line
{
	PpErrorClass class;
	bool at_call; /* the item is wrong, when it is handed over */
	const char *sqlstates;
} Line;

static const Line lines[] = {
	/* success, warnings, no data: a person has raised that */
	{PP_CLASS_ROW, false, "00000 01000 0100C 01008 01003 01007 01006 01004 01P01 02000 02001"},
	{PP_CLASS_ROW, false, "03000"},
	/* the connection to another server */
	{PP_CLASS_TARGET_WAITS, false, "08000 08003 08006 08001 08004 08007 08P01"},
	{PP_CLASS_ROW, false, "09000"},
	{PP_CLASS_ROW, true, "0A000"},
	{PP_CLASS_ROW, false, "0B000 0F000 0F001 0L000 0LP01 0P000 0Z000 0Z002 10608 20000 21000"},
	/* data */
	{PP_CLASS_ROW, true,
	 "22000 2202E 22021 22008 22012 22005 2200B 22022 22015 2201E 22014 22016 2201F 2201G 22018 "
	 "22007 22019 2200D 22025 22P06 22010 22023 22013 2201B 2201W 2201X 2202H 2202G 22009 2200C "
	 "2200G 22004 22002 22003 2200H 22026 22001 22011 22027 22024 2200F 22P01 22P02 22P03 22P04 "
	 "22P05 22P07 2200L 2200M 2200N 2200S 2200T 22030 22031 22032 22033 22034 22035 22036 22037 "
	 "22038 22039 2203A 2203B 2203C 2203D 2203E 2203F 2203G"},
	/* constraints */
	{PP_CLASS_ROW, true, "23000 23001 23502 23503 23505 23514 23P01"},
	{PP_CLASS_ROW, false, "24000"},
	/* the state of the transaction */
	{PP_CLASS_ROW, false,
	 "25000 25001 25002 25008 25003 25004 25005 25007 25P01 25P02 "
	 "25P03 25P04"},
	/* another server has become a standby, or its disk is full */
	{PP_CLASS_UNPROVEN, false, "25006"},
	{PP_CLASS_ROW, false, "26000 27000 28000 28P01 2B000 2BP01 2D000"},
	{PP_CLASS_ROW, false, "2F000 2F005 2F002 2F003 2F004 34000 38000 38001 38002 38003 38004"},
	{PP_CLASS_ROW, false, "39000 39001 39004 39P01 39P03"},
	/* the statement hasn't asked for its rows */
	{PP_CLASS_TARGET_WAITS, false, "39P02"},
	{PP_CLASS_ROW, false, "3B000 3B001 3D000 3F000"},
	/* rolled back for others */
	{PP_CLASS_TARGET_WAITS, false, "40000 40002 40001 40003 40P01"},
	/* of a trigger, say; but see without_rows */
	{PP_CLASS_ROW, false,
	 "42000 42601 42501 42803 42P20 42P19 42830 42602 42622 42939 42P18 42P21 42P22 42809 42883 "
	 "42P01 42P02 42704 42701 42P03 42P04 42723 42P05 42P06 42P07 42712 42710 42702 42725 42P08 "
	 "42P09 42P10 42611 42P11 42P12 42P13 42P14 42P15 42P16 42P17"},
	{PP_CLASS_ROW, true, "42846 42804 428C9 42703"},
	{PP_CLASS_ROW, false, "44000"},
	/* resources; the first one is the full ring, when a trigger enqueues */
	{PP_CLASS_UNSURE, false, "53000"},
	{PP_CLASS_RESOURCES, false, "53100 53200 53300 53400"},
	/* limits of the program */
	{PP_CLASS_ROW, false, "54000 54001 54011 54023"},
	{PP_CLASS_ROW, false, "55000 55P02 55P04"},
	{PP_CLASS_TARGET_WAITS, false, "55006"},
	{PP_CLASS_LOCK, false, "55P03"},
	{PP_CLASS_ROW, false, "57000 57P04 57P05"},
	{PP_CLASS_UNSURE, false, "57014"},
	/* shutdown, of this server or another one */
	{PP_CLASS_TARGET_WAITS, false, "57P01 57P02 57P03"},
	/* the operating system */
	{PP_CLASS_TARGET_WAITS, false, "58000 58030 58P01 58P02 58P03"},
	{PP_CLASS_ROW, false, "72000 F0000 F0001"},
	/* foreign tables */
	{PP_CLASS_TARGET_WAITS, false,
	 "HV000 HV005 HV002 HV010 HV021 HV024 HV007 HV008 HV004 HV006 HV091 HV00B HV00C HV00D HV090 "
	 "HV00A HV009 HV014 HV001 HV00P HV00J HV00K HV00Q HV00R HV00L HV00M HV00N"},
	/* what functions raise */
	{PP_CLASS_ROW, true, "P0000 P0001 P0002 P0003 P0004"},
	/* of the server, an index, another server */
	{PP_CLASS_UNPROVEN, false, "XX000 XX002"},
	/* an item that is damaged, too */
	{PP_CLASS_ROW, false, "XX001"},
	/* a person's own */
	{PP_CLASS_ROW, false, "99999 AB123 ZZZZZ"},
	{PP_CLASS_TARGET_WAITS, false, "08ABC 40ABC 58ABC HVABC"},
	{PP_CLASS_RESOURCES, false, "53ABC"},
	{PP_CLASS_ROW, true, "22ABC 23ABC P0ABC"},
};

#define SQLSTATE_LENGTH 5
#define SQLSTATE_CHARS "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

static ErrorData
error_of(const char *s)
{
	return (ErrorData){.sqlerrcode = MAKE_SQLSTATE(s[0], s[1], s[2], s[3], s[4])};
}

static const char *
next_sqlstate(const char *s)
{
	s += SQLSTATE_LENGTH;
	return *s == ' ' ? s + 1 : s;
}

/* Says which SQLSTATE a check has failed for. */
static bool
check_sqlstate(bool ok, const char *s)
{
	if (!ok)
		printf("# it is %.5s\n", s);
	return ok;
}

typedef void (*Visitor)(const Line *line, const char *sqlstate, ErrorData *error);

static void
for_each(Visitor visit)
{
	for (size_t i = 0; i < lengthof(lines); i++)
	{
		for (const char *s = lines[i].sqlstates; *s; s = next_sqlstate(s))
		{
			ErrorData error = error_of(s);

			visit(&lines[i], s, &error);
		}
	}
}

static void
in_rows(const Line *line, const char *s, ErrorData *error)
{
	CHECK(check_sqlstate(pp_classify(error, true, PP_CUT_NONE) == line->class, s));
}

static void
without_rows(const Line *line, const char *s, ErrorData *error)
{
	PpErrorClass class = strncmp(s, "42", 2) == 0 ? PP_CLASS_MISMATCH : line->class;

	CHECK(check_sqlstate(pp_classify(error, false, PP_CUT_NONE) == class, s));
}

static void
cut(const Line *line, const char *s, ErrorData *error)
{
	(void) line;
	for (int rows = false; rows <= true; rows++)
	{
		CHECK(check_sqlstate(pp_classify(error, rows, PP_CUT_STOP) == PP_CLASS_TRANSACTION, s));
		CHECK(check_sqlstate(pp_classify(error, rows, PP_CUT_BLOCKED) == PP_CLASS_TRANSACTION, s));
		CHECK(check_sqlstate(pp_classify(error, rows, PP_CUT_TIMEOUT) == PP_CLASS_SLOW, s));
	}
}

static void
transient(const Line *line, const char *s, ErrorData *error)
{
	bool waits = line->class == PP_CLASS_LOCK || line->class == PP_CLASS_TARGET_WAITS ||
				 line->class == PP_CLASS_RESOURCES;

	CHECK(check_sqlstate(pp_classify_is_transient(error, PP_CUT_NONE) == waits, s));
	CHECK(check_sqlstate(pp_classify_is_transient(error, PP_CUT_TIMEOUT) == waits, s));
	CHECK(check_sqlstate(pp_classify_is_transient(error, PP_CUT_STOP), s));
	CHECK(check_sqlstate(pp_classify_is_transient(error, PP_CUT_BLOCKED), s));
}

static void
at_call(const Line *line, const char *s, ErrorData *error)
{
	CHECK(check_sqlstate(pp_classify_is_items_fault(error) == line->at_call, s));
}

/* How often is it written down? */
static int
times_written(const char *sqlstate)
{
	int times = 0;

	for (size_t i = 0; i < lengthof(lines); i++)
	{
		for (const char *s = lines[i].sqlstates; *s; s = next_sqlstate(s))
			times += strncmp(s, sqlstate, SQLSTATE_LENGTH) == 0;
	}
	return times;
}

static void
once(const Line *line, const char *s, ErrorData *error)
{
	(void) line;
	(void) error;
	CHECK(check_sqlstate(strspn(s, SQLSTATE_CHARS) == SQLSTATE_LENGTH, s));
	CHECK(check_sqlstate(times_written(s) == 1, s));
}

/* ---- tests ---- */

static void
test_in_rows(void)
{
	for_each(in_rows);
}

static void
test_without_rows(void)
{
	for_each(without_rows);
}

static void
test_cut(void)
{
	for_each(cut);
}

static void
test_transient(void)
{
	for_each(transient);
}

static void
test_at_call(void)
{
	for_each(at_call);
}

static void
test_complete(void)
{
	const char *path = getenv("ERRCODES");
	FILE *file = path ? fopen(path, "r") : NULL;
	char buffer[1000];
	int n = 0;

	for_each(once);
	if (file == NULL)
	{
		printf("# there is no list of the server's\n");
		return;
	}
	while (fgets(buffer, sizeof(buffer), file))
	{
		if (strspn(buffer, SQLSTATE_CHARS) != SQLSTATE_LENGTH)
			continue;
		CHECK(check_sqlstate(times_written(buffer) == 1, buffer));
		n++;
	}
	fclose(file);
	CHECK(n > 250);
}

static void
test_of_route(void)
{
	char table[] = "t";
	char constraint[] = "c";
	ErrorData no_partition = error_of("23514");
	ErrorData other = error_of("23505");

	CHECK(!pp_classify_is_of_route(&no_partition)); /* a person's */
	no_partition.table_name = table;
	CHECK(pp_classify_is_of_route(&no_partition));
	no_partition.constraint_name = constraint;
	CHECK(!pp_classify_is_of_route(&no_partition));
	other.table_name = table;
	CHECK(!pp_classify_is_of_route(&other));
}

static void
test_alike(void)
{
	char one[] = "one";
	char same[] = "one";
	char another[] = "another";
	ErrorData a = error_of("23505");
	ErrorData b = error_of("23505");

	CHECK(pp_classify_is_alike(&a, &b));
	a.constraint_name = one;
	CHECK(!pp_classify_is_alike(&a, &b) && !pp_classify_is_alike(&b, &a));
	b.constraint_name = same;
	CHECK(pp_classify_is_alike(&a, &b));
	b.constraint_name = another;
	CHECK(!pp_classify_is_alike(&a, &b));
	b = error_of("23514");
	b.constraint_name = same;
	CHECK(!pp_classify_is_alike(&a, &b));
}

int
main(void)
{
	tap_start();
	TEST(test_complete, "each SQLSTATE of the server is written down, once");
	TEST(test_in_rows, "an error that comes of rows");
	TEST(test_without_rows, "an error before the first row");
	TEST(test_cut, "an error after a cancellation of ours");
	TEST(test_transient, "which may be over a moment later");
	TEST(test_at_call, "which are an item's fault when it is handed over");
	TEST(test_of_route, "a row that no partition takes");
	TEST(test_alike, "errors that are alike");
	return tap_finish();
}
