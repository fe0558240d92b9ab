/*-------------------------------------------------------------------------
 *
 * bad_rows_log.c
 *	  Messages in the log about rows that can't be inserted; see bad_rows.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/reasons.h"
#include "worker/bad_rows.h"

#define MAX_REPORTS 8  /* lines at a time ... */
#define REPORT_MS 1000 /* ... so often, while the worker is busy */

PpBadRow
pp_bad_row(const PpRow *row, ErrorData *error)
{
	return (PpBadRow){.row = row, .target = row->item->target, .id = row->item->id, .error = error};
}

/* Items of one target that have failed alike, and that the log doesn't know of yet */
typedef struct Report
{
	Oid target;
	int sqlstate;
	char constraint[NAMEDATALEN]; /* "": none */
	int64 first_id;
	uint64 n;
} Report;

static Report reports[MAX_REPORTS];
static int nreports = 0;
static PpSteady reports_since;

/* Where to look for them, in that database. */
static char *
where_to_look(const Report *report)
{
	Oid schema = pp_extension_schema(pp_extension_oid());
	char *name = OidIsValid(schema) ? get_namespace_name(schema) : NULL;
	char *view =
		name ? psprintf("%s.persist_dead_letters", quote_identifier(name)) : "persist_dead_letters";

	return report->n == 1
			   ? psprintf("SELECT * FROM %s WHERE id = %lld", view, (long long) report->first_id)
			   : psprintf("SELECT * FROM %s WHERE target = %u AND sqlstate = '%s'", view,
						  report->target, unpack_sql_state(report->sqlstate));
}

/*
 * A line for the items of one target that have failed alike.  What the error says is told without
 * its message, which may have values.
 */
static void
say(const Report *report)
{
	char *name = get_rel_name(report->target);
	char *schema = name ? get_namespace_name(get_rel_namespace(report->target)) : NULL;
	char *relation = schema ? psprintf("relation \"%s.%s\"", schema, name)
							: psprintf("relation with OID %u", report->target);
	char *database = get_database_name(MyDatabaseId);

	ereport(
		WARNING,
		(errcode(report->sqlstate),
		 report->n == 1
			 ? errmsg("item %lld for %s could not be inserted: SQLSTATE %s",
					  (long long) report->first_id, relation, unpack_sql_state(report->sqlstate))
			 : errmsg("%llu items for %s, the first of them %lld, could not be inserted: "
					  "SQLSTATE %s",
					  (unsigned long long) report->n, relation, (long long) report->first_id,
					  unpack_sql_state(report->sqlstate)),
		 report->constraint[0]
			 ? errdetail("In database \"%s\": %s. Constraint \"%s\".", database,
						 pp_reason(report->sqlstate), report->constraint)
			 : errdetail("In database \"%s\": %s.", database, pp_reason(report->sqlstate)),
		 report->n == 1 ? errhint("It is a dead letter: %s.", where_to_look(report))
						: errhint("They are dead letters: %s.", where_to_look(report))));
}

static bool
is_of(const Report *report, const PpBadRow *bad)
{
	const char *constraint = bad->error->constraint_name;

	return report->target == bad->target && report->sqlstate == bad->error->sqlerrcode &&
		   strcmp(report->constraint, constraint ? constraint : "") == 0;
}

/* If there are more kinds than lines, the last line tells of the rest. */
static void
add_to_reports(const PpBadRow *bad)
{
	const char *constraint = bad->error->constraint_name;
	int k = 0;

	while (k < nreports && !is_of(&reports[k], bad) && k < MAX_REPORTS - 1)
		k++;
	if (k == nreports)
	{
		reports[nreports++] = (Report){
			.target = bad->target, .sqlstate = bad->error->sqlerrcode, .first_id = bad->id};
		strlcpy(reports[k].constraint, constraint ? constraint : "", NAMEDATALEN);
	}
	reports[k].n++;
}

/*
 * Log what has died, without the values, and without a line for each: before the worker
 * sleeps, or when it hasn't for a while; not in a transaction.
 */
void
pp_bad_rows_report_rest(void)
{
	MemoryContext caller = CurrentMemoryContext;

	if (nreports == 0)
		return;
	HOLD_CANCEL_INTERRUPTS();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	for (int k = 0; k < nreports; k++)
		say(&reports[k]);
	nreports = 0;
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	RESUME_CANCEL_INTERRUPTS();
}

/* These have died: it is going to be logged. */
void
pp_bad_rows_report(const PpBadRow *bad, uint64 n)
{
	if (n == 0)
		return;
	if (nreports == 0)
		reports_since = pp_steady_now();
	for (uint64 i = 0; i < n; i++)
		add_to_reports(&bad[i]);
	if (pp_steady_has_lasted(reports_since, REPORT_MS))
		pp_bad_rows_report_rest();
}
