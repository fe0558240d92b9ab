/*
 * Hands over 2 artists, 107 tracks and 3 events with libpq, by persist_enqueue: a prepared
 * statement, and many calls in one round trip (pipeline mode).  One item doesn't fit its table:
 * that call alone fails.
 *
 * Finds its server as psql does (PGHOST, PGPORT, PGDATABASE, PGUSER).
 *
 *	cc libpq_pipeline.c -I "$(pg_config --includedir)" -L "$(pg_config --libdir)" -lpq
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

/*
 * So many calls are sent before their answers are read.  Client and server must not both wait
 * for the other to read: so many answers have room in the buffers between them.
 */
#define CALLS_PER_TRIP 64

static PGconn *connection;
static int	calls_sent;
static int	items_refused;

static void
fail(void)
{
	fprintf(stderr, "%s", PQerrorMessage(connection));
	exit(1);
}

/* Read the answers of all calls that were sent. */
static void
read_answers(void)
{
	while (calls_sent > 0)
	{
		PGresult   *result = PQgetResult(connection);

		if (PQstatus(connection) != CONNECTION_OK)
			fail();
		if (result == NULL)
			continue;			/* the end of a call's results */
		switch (PQresultStatus(result))
		{
			case PGRES_PIPELINE_SYNC:
				calls_sent--;
				break;
			case PGRES_FATAL_ERROR:
				printf("refused: %s", PQresultErrorMessage(result));
				items_refused++;
				break;
			default:
				/* PGRES_TUPLES_OK: the item's id, which names it in persist_where() */
				break;
		}
		PQclear(result);
	}
}

/* Send a call as a transaction of its own: what is between two syncs fails, or commits, together. */
static void
enqueue(const char *target, const char *item)
{
	const char *values[] = {target, item};

	if (PQsendQueryPrepared(connection, "enqueue", 2, values, NULL, NULL, 0) != 1 ||
		PQpipelineSync(connection) != 1)
		fail();
	calls_sent++;
	if (calls_sent == CALLS_PER_TRIP)
		read_answers();
}

/* Rows that others refer to get their ids from the sequence, since nothing is inserted yet. */
static void
draw_artist_ids(int ids[2])
{
	PGresult   *result = PQexec(connection, "SELECT nextval('artists_id_seq') FROM generate_series(1, 2)");

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		fail();
	for (int i = 0; i < 2; i++)
		ids[i] = atoi(PQgetvalue(result, i, 0));
	PQclear(result);
}

static void
prepare(void)
{
	PGresult   *result = PQprepare(connection, "enqueue", "SELECT persist_enqueue($1::regclass, $2::jsonb)", 0, NULL);

	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		fail();
	PQclear(result);
}

int
main(void)
{
	int			artists[2];
	char		item[200];

	connection = PQconnectdb("");
	if (PQstatus(connection) != CONNECTION_OK)
		fail();
	draw_artist_ids(artists);
	prepare();

	if (PQenterPipelineMode(connection) != 1)
		fail();
	for (int i = 0; i < 2; i++)
	{
		snprintf(item, sizeof(item), "{\"id\": %d, \"name\": \"%s\"}", artists[i], i == 0 ? "Erik Satie" : "Claude Debussy");
		enqueue("artists", item);
	}
	for (int i = 1; i <= 107; i++)
	{
		snprintf(item, sizeof(item), "{\"artist_id\": %d, \"title\": \"Piece %d\"}", artists[i % 2], i);
		enqueue("tracks", item);
	}
	enqueue("tracks", "{\"titel\": \"No such column\"}");
	enqueue("events", "{\"what\": \"began\"}");
	enqueue("events", "{\"what\": \"went on\"}");
	enqueue("events", "{\"what\": \"ended\"}");
	read_answers();
	if (PQexitPipelineMode(connection) != 1)
		fail();

	PQfinish(connection);
	return items_refused == 1 ? 0 : 1;
}
