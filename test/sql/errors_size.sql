-- Large items and large transactions go to the journal, and arrive; 54000 for an
-- item above a quarter of the ring that is to be handed over at once.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA errors_size;
SET search_path = errors_size, public;

CREATE TABLE t (n int, b text);
CREATE UNLOGGED TABLE u (n int, b text);
SELECT setting::bigint * 1024 AS ring FROM pg_settings WHERE name = 'persist_pipeline.ring_size' \gset
-- as large as may be, less a little for the item's own head
SELECT :ring / 4 - 200 AS fits, :ring / 4 + 1 AS too_large \gset

\set VERBOSITY sqlstate
SELECT persist_enqueue('t', jsonb_build_object('n', 1, 'b', repeat('x', :too_large)), false);
SELECT persist_enqueue('u', jsonb_build_object('n', 1, 'b', repeat('x', :too_large)), false);
\set VERBOSITY default
DO $$
DECLARE hint text; message text;
BEGIN
	PERFORM persist_enqueue('t', jsonb_build_object('b', repeat('x', pg_size_bytes(current_setting('persist_pipeline.ring_size'))::int / 4 + 1)), false);
EXCEPTION WHEN program_limit_exceeded THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT, message = MESSAGE_TEXT;
	RAISE WARNING '% HINT: %', message, hint;
END $$;

SELECT count(persist_enqueue('t', jsonb_build_object('n', 2, 'b', repeat('x', :fits)), false));
SELECT count(persist_enqueue('t', jsonb_build_object('n', 3, 'b', repeat('x', :too_large))));
SELECT count(persist_enqueue(ROW(4, repeat('x', 3 * :ring))::t));
SELECT cardinality(persist_enqueue_many('t', jsonb_build_array(jsonb_build_object('n', 5), jsonb_build_object('n', 6, 'b', repeat('x', :too_large)))));
SELECT count(persist_enqueue('u', jsonb_build_object('n', 7, 'b', repeat('x', :too_large))));
SELECT persist_flush();
SELECT n, length(b) - :ring / 4 AS beyond FROM t ORDER BY n;
SELECT n, length(b) - :ring / 4 AS beyond FROM u;

-- the transaction: more than the ring holds, in few items and in many
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i, 'b', repeat('x', :fits)))) FROM generate_series(11, 13) AS i;
SAVEPOINT s;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i, 'b', repeat('x', :fits)))) FROM generate_series(14, 15) AS i;
ROLLBACK TO s;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i, 'b', repeat('x', :fits)))) FROM generate_series(16, 18) AS i;
SELECT count(persist_enqueue('u', jsonb_build_object('n', i, 'b', repeat('x', :fits)))) FROM generate_series(11, 15) AS i;
COMMIT;
SELECT count(persist_enqueue('t', '{"n": 100, "b": "small"}')) FROM generate_series(1, 150000);
SELECT persist_flush('5 min');
SELECT array_agg(n ORDER BY n) FROM t WHERE n BETWEEN 11 AND 99;
SELECT array_agg(n ORDER BY n) FROM u WHERE n BETWEEN 11 AND 99;
SELECT count(*) FROM t WHERE n = 100;

-- more than a dead letter could hold, though not more than a row
CREATE FUNCTION big(mb int) RETURNS text LANGUAGE sql VOLATILE AS $$ SELECT repeat(repeat('x', 1000000), mb) $$;
CREATE TABLE huge (n int, a text DEFAULT big(268), b text DEFAULT big(268), c text DEFAULT big(268), d text DEFAULT big(269));
\set VERBOSITY sqlstate
SELECT persist_enqueue('huge', '{"n": 1}');
\set VERBOSITY default

DROP SCHEMA errors_size CASCADE;
