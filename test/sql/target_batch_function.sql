-- persist_batch() gives the batch to the pipeline's own INSERT, whole, and nothing
-- to anyone else: not to a trigger, a rule's function, or a session.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA target_batch_function;
SET search_path = target_batch_function, public;

CREATE TABLE t (a int, b text);
CREATE TABLE seen (how text, rows_ int);
CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO target_batch_function.seen
	SELECT TG_WHEN || ' ' || TG_LEVEL, count(*) FROM generate_series(-1, 1) AS token,
		persist_pipeline_batch.persist_batch(token, NULL::target_batch_function.t) AS b;
	RETURN NEW;
END $$;
CREATE TRIGGER before_statement BEFORE INSERT ON t EXECUTE FUNCTION steal();
CREATE TRIGGER before_row BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION steal();
CREATE TRIGGER after_row AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION steal();
CREATE TRIGGER after_statement AFTER INSERT ON t EXECUTE FUNCTION steal();
CREATE CONSTRAINT TRIGGER deferred_row AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION steal();
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('a', i, 'b', 'b' || i))) FROM generate_series(1, 5) AS i;
COMMIT;
SELECT persist_flush();
SELECT * FROM t ORDER BY a;
SELECT how, count(*) AS times, sum(rows_) AS rows_ FROM seen GROUP BY how ORDER BY how;

-- with another row type, through EXECUTE, a cursor, a SQL function and a nested enqueue; and
-- no token is to be found in what a trigger can look at
CREATE FUNCTION sneak() RETURNS SETOF text LANGUAGE sql VOLATILE AS $$SELECT persist_pipeline_batch.persist_batch(0, 'x'::text)$$;
CREATE OR REPLACE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	n int := 0;
	r record;
BEGIN
	FOR r IN EXECUTE 'SELECT * FROM persist_pipeline_batch.persist_batch(NULL, 1::bigint) AS b' LOOP n := n + 1; END LOOP;
	FOR r IN SELECT * FROM target_batch_function.sneak() LOOP n := n + 1; END LOOP;
	FOR r IN EXECUTE 'INSERT INTO target_batch_function.seen SELECT b.b, b.a FROM persist_pipeline_batch.persist_batch(0, NULL::target_batch_function.t) AS b RETURNING *' LOOP n := n + 1; END LOOP;
	INSERT INTO target_batch_function.seen VALUES ('again', n);
	IF current_query() ~ 'batch' OR EXISTS (SELECT FROM pg_stat_activity WHERE pid = pg_backend_pid() AND query ~ 'persist_batch')
		OR EXISTS (SELECT FROM pg_cursors WHERE statement ~ 'persist_batch') OR EXISTS (SELECT FROM pg_prepared_statements) THEN
		INSERT INTO target_batch_function.seen VALUES ('a way to the token', 1);
	END IF;
	RETURN NEW;
END $$;
TRUNCATE seen, t;
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('a', i, 'b', 'b' || i))) FROM generate_series(1, 2) AS i;
COMMIT;
SELECT persist_flush();
SELECT * FROM t ORDER BY a;
SELECT how, count(*) AS times, sum(rows_) AS rows_ FROM seen GROUP BY how ORDER BY how;

-- in a session of anyone's
CREATE ROLE pp_curious;
GRANT USAGE ON SCHEMA target_batch_function TO pp_curious;
SET ROLE pp_curious;
SELECT * FROM persist_pipeline_batch.persist_batch(1, NULL::seen);
SELECT count(*) FROM persist_pipeline_batch.persist_batch(NULL, true) AS b ("none"), generate_series(1, 3);
SELECT persist_pipeline_batch.persist_batch(2, 'x'::text);
\set VERBOSITY sqlstate
SELECT persist_pipeline_batch.persist_batch(3, ROW(1, 2));
SELECT * FROM persist_pipeline_batch.persist_batch(4, ROW(1, 2));
SELECT persist_pipeline_batch.persist_batch(5, NULL);
\set VERBOSITY default
RESET ROLE;
DROP ROLE pp_curious;

DROP SCHEMA target_batch_function CASCADE;
