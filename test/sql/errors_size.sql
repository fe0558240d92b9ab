-- 54000: an item above a quarter of the ring, a transaction above the ring.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA errors_size;
SET search_path = errors_size, public;

CREATE TABLE t (n int, b text);
SELECT setting::bigint * 1024 AS ring FROM pg_settings WHERE name = 'persist_pipeline.ring_size' \gset
-- as large as may be, less a little for the item's own head
SELECT :ring / 4 - 200 AS fits, :ring / 4 + 1 AS too_large \gset

\set VERBOSITY sqlstate
SELECT persist_enqueue('t', jsonb_build_object('n', 1, 'b', repeat('x', :too_large)));
SELECT persist_enqueue('t', jsonb_build_object('n', 1, 'b', repeat('x', :too_large)), false);
SELECT persist_enqueue(ROW(1, repeat('x', :too_large))::t);
SELECT persist_enqueue_many('t', jsonb_build_array(jsonb_build_object('n', 1), jsonb_build_object('b', repeat('x', :too_large))));
\set VERBOSITY default
DO $$
DECLARE hint text; message text;
BEGIN
	PERFORM persist_enqueue('t', jsonb_build_object('b', repeat('x', pg_size_bytes(current_setting('persist_pipeline.ring_size'))::int / 4 + 1)));
EXCEPTION WHEN program_limit_exceeded THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT, message = MESSAGE_TEXT;
	RAISE WARNING '% HINT: %', message, hint;
END $$;

SELECT count(persist_enqueue('t', jsonb_build_object('n', 2, 'b', repeat('x', :fits))));
SELECT persist_flush();
SELECT n, length(b) = :fits AS same FROM t;

-- the transaction: four that nearly fill the ring, then one too many
\set VERBOSITY sqlstate
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i, 'b', repeat('x', :fits)))) FROM generate_series(3, 5) AS i;
SAVEPOINT s;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i, 'b', repeat('x', :fits)))) FROM generate_series(6, 7) AS i;
ROLLBACK TO s;
-- what came before still counts
COMMIT;
SELECT persist_flush('5 min');
SELECT n FROM t ORDER BY n;
-- small ones, until it is full
\set VERBOSITY terse
DO $$
BEGIN
	FOR i IN 1..10000000 LOOP
		PERFORM persist_enqueue('t', '{"n": 100, "b": "small"}');
	END LOOP;
END $$;
\set VERBOSITY default
SELECT persist_flush('5 min');
SELECT count(*) FROM t WHERE n = 100;

DROP SCHEMA errors_size CASCADE;
