-- Code that the worker runs may enqueue: its items belong to the batch's
-- transaction, as the enqueuer; persist_flush is refused there.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA worker_enqueues;
SET search_path = worker_enqueues, public;

CREATE ROLE pp_enqueuer;
GRANT USAGE ON SCHEMA worker_enqueues TO pp_enqueuer;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean), persist_flush TO pp_enqueuer;
CREATE TABLE t (n int CHECK (n <> 13));
CREATE TABLE audit (n int, who text DEFAULT current_user, su text DEFAULT session_user, in_worker bool DEFAULT current_setting('application_name') = 'persist_pipeline worker');
GRANT INSERT ON t, audit TO pp_enqueuer;
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM public.persist_enqueue('worker_enqueues.audit'::regclass, jsonb_build_object('n', NEW.n));
	RETURN NEW;
END $$;
CREATE TRIGGER audit BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION audit();

SET ROLE pp_enqueuer;
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i))) FROM generate_series(11, 15) AS i;
COMMIT;
RESET ROLE;
-- the first flush waits for the items, the second for theirs
SELECT persist_flush();
SELECT persist_flush();
SELECT n FROM t ORDER BY n;
SELECT * FROM audit ORDER BY n;

-- a row that enqueues the next, as often as max_depth allows
CREATE TABLE chain (n int);
CREATE FUNCTION next_link() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.n > 0 THEN
		PERFORM public.persist_enqueue('worker_enqueues.chain'::regclass, jsonb_build_object('n', NEW.n - 1));
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER next_link BEFORE INSERT ON chain FOR EACH ROW EXECUTE FUNCTION next_link();
SELECT count(persist_enqueue('chain', '{"n": 16}'));
DO $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM worker_enqueues.chain WHERE n = 0) LOOP
		IF NOT persist_flush() THEN
			RAISE 'not settled';
		END IF;
		COMMIT;
	END LOOP;
END $$;
SELECT count(*), min(n), max(n) FROM chain;

-- persist_flush would wait for the worker, in the worker
CREATE TABLE flushing (n int, result text);
CREATE FUNCTION flush() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.result := public.persist_flush('3 s');
	RETURN NEW;
EXCEPTION WHEN OTHERS THEN
	NEW.result := SQLSTATE;
	RETURN NEW;
END $$;
CREATE TRIGGER flush BEFORE INSERT ON flushing FOR EACH ROW EXECUTE FUNCTION flush();
SELECT count(persist_enqueue('flushing', '{"n": 1}'));
SELECT persist_flush();
TABLE flushing;
DROP SCHEMA worker_enqueues CASCADE;
DROP OWNED BY pp_enqueuer;
DROP ROLE pp_enqueuer;
