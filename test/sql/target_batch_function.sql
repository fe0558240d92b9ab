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
	INSERT INTO target_batch_function.seen SELECT TG_WHEN || ' ' || TG_LEVEL, count(*) FROM public.persist_batch() AS b (c1 int, c2 text);
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

-- with another row type, through EXECUTE, a cursor, a SQL function and a nested enqueue
CREATE FUNCTION sneak() RETURNS SETOF record LANGUAGE sql VOLATILE AS $$SELECT * FROM public.persist_batch() AS b (c1 text)$$;
CREATE OR REPLACE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	n int := 0;
	r record;
BEGIN
	FOR r IN EXECUTE 'SELECT * FROM public.persist_batch() AS b (c1 bigint, c2 bytea, c3 text)' LOOP n := n + 1; END LOOP;
	FOR r IN SELECT * FROM target_batch_function.sneak() AS s (x text) LOOP n := n + 1; END LOOP;
	FOR r IN EXECUTE 'INSERT INTO target_batch_function.seen SELECT b.c2, b.c1 FROM public.persist_batch() AS b (c1 int, c2 text) RETURNING *' LOOP n := n + 1; END LOOP;
	INSERT INTO target_batch_function.seen VALUES ('again', n);
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
SET ROLE pp_curious;
SELECT * FROM persist_batch() AS b (a int, b text);
SELECT count(*) FROM persist_batch() AS b ("none" bool), generate_series(1, 3);
\set VERBOSITY sqlstate
SELECT persist_batch();
SELECT * FROM persist_batch();
\set VERBOSITY default
RESET ROLE;
DROP ROLE pp_curious;

DROP SCHEMA target_batch_function CASCADE;
