-- Code on a table can't end the worker: an error that it turns into FATAL harms
-- its own item only.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA worker_fatal;
SET search_path = worker_fatal, public;

CREATE ROLE pp_fatal;
GRANT USAGE, CREATE ON SCHEMA worker_fatal TO pp_fatal;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_fatal;
CREATE TABLE other (n int);
CREATE TABLE session_ (exit_on_error text);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.exit_on_error := current_setting('exit_on_error');
	RETURN NEW;
END $$;
CREATE TRIGGER look BEFORE INSERT ON session_ FOR EACH ROW EXECUTE FUNCTION look();
SELECT COALESCE((SELECT items_failed FROM persist_queue WHERE datname = current_database()), 0) AS failed \gset

SET ROLE pp_fatal;
CREATE TABLE t (n int);
CREATE FUNCTION fatal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.n = 2 THEN
		BEGIN
			PERFORM set_config('exit_on_error', 'on', false);
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
		RAISE 'the end';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER fatal BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fatal();
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i))) FROM generate_series(1, 3) AS i;
COMMIT;
RESET ROLE;
SELECT count(persist_enqueue('other', '{"n": 1}'));
SELECT persist_flush('1 min');
SELECT n FROM t ORDER BY n;
TABLE other;
-- in the middle of several rows of the journal: they are divided, and their entry in the ring goes
SET ROLE pp_fatal;
ALTER TABLE t ADD filler text;
SELECT count(persist_enqueue('t', jsonb_build_object('n', CASE i WHEN 300 THEN 2 ELSE 10 + i END, 'filler', repeat('x', 200)))) FROM generate_series(1, 500) AS i;
RESET ROLE;
SELECT persist_flush('1 min');
SELECT count(*), count(DISTINCT n), min(n), max(n) FROM t WHERE n > 10;
SELECT ring_used, diverted, items_pending FROM persist_queue WHERE datname = current_database();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT count(persist_enqueue('session_', '{}'));
SELECT persist_flush('10 s');
TABLE session_;
DROP SCHEMA worker_fatal CASCADE;
DROP OWNED BY pp_fatal;
DROP ROLE pp_fatal;
