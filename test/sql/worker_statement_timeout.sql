-- persist_pipeline.statement_timeout: a row whose trigger takes too long is parked, and
-- fails if it does so again, even if the trigger catches the cancellation; the others land.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA worker_statement_timeout;
SET search_path = worker_statement_timeout, public;

CREATE TABLE probe (seen text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.seen := current_setting('persist_pipeline.statement_timeout');
	RETURN NEW;
END $$;
CREATE TRIGGER see BEFORE INSERT ON probe FOR EACH ROW EXECUTE FUNCTION see();
-- returns when the worker has read the setting
CREATE PROCEDURE wait_for_timeout(wanted text) LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		PERFORM persist_enqueue('worker_statement_timeout.probe', '{}');
		COMMIT;
		IF NOT persist_flush() THEN
			RAISE 'the worker does not answer';
		END IF;
		EXIT WHEN (SELECT seen FROM worker_statement_timeout.probe ORDER BY ctid DESC LIMIT 1) = wanted;
		TRUNCATE worker_statement_timeout.probe;
		COMMIT;
	END LOOP;
END $$;
CREATE TABLE t (n int);
CREATE PROCEDURE wait_until_settled() LANGUAGE plpgsql AS $$
BEGIN
	WHILE (SELECT pending > 0 FROM persist_stats WHERE target = 'worker_statement_timeout.t'::regclass) LOOP
		PERFORM pg_sleep(0.02);
		COMMIT;
	END LOOP;
END $$;
CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.n = 13 THEN
		PERFORM pg_sleep(600);
	ELSIF NEW.n = 14 THEN
		FOR i IN 1..5 LOOP
			BEGIN
				PERFORM pg_sleep(2);
			EXCEPTION WHEN query_canceled THEN
				NULL;
			END;
		END LOOP;
	ELSIF NEW.n = 15 THEN
		PERFORM set_config('statement_timeout', '0', false);
		PERFORM set_config('lock_timeout', '0', false);
		PERFORM pg_advisory_xact_lock(1886413932);
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER sleep BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION sleep();
ALTER SYSTEM SET persist_pipeline.statement_timeout = '400 ms';
DO $$BEGIN PERFORM pg_reload_conf(); END $$;
CALL wait_for_timeout('400ms');
SELECT items_failed AS failed FROM persist_queue WHERE datname = current_database() \gset

BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i))) FROM generate_series(12, 13) AS i;
COMMIT;
SELECT persist_flush('5 min');
SELECT parked, parked_reason FROM persist_stats WHERE target = 't'::regclass;
SELECT n FROM t ORDER BY n;
CALL wait_until_settled();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT n FROM t ORDER BY n;
-- caught, and caught again
SELECT count(persist_enqueue('t', '{"n": 14}'));
CALL wait_until_settled();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT n FROM t ORDER BY n;
-- its own timeouts turned off, it waits for a lock of ours
SELECT pg_advisory_lock(1886413932);
SELECT count(persist_enqueue('t', '{"n": 15}'));
SELECT count(persist_enqueue('t', '{"n": 16}'));
CALL wait_until_settled();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT n FROM t ORDER BY n;
SELECT pg_advisory_unlock(1886413932);

ALTER SYSTEM RESET persist_pipeline.statement_timeout;
DO $$BEGIN PERFORM pg_reload_conf(); END $$;
CALL wait_for_timeout('30s');

DROP SCHEMA worker_statement_timeout CASCADE;
