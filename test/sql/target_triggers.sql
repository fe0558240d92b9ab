-- What triggers see: one statement for a batch, all its rows in the transition
-- table and after it, a time that goes on, and one another's settings.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA target_triggers;
SET search_path = target_triggers, public;

CREATE TABLE t (n int, at timestamptz);
CREATE TABLE log (trigger text, rows_ bigint, setting text);
CREATE FUNCTION before_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.at := now();
	PERFORM set_config('app.row', NEW.n::text, true);
	RETURN NEW;
END $$;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO target_triggers.log SELECT TG_NAME, count(*), COALESCE(current_setting('app.row', true), '') FROM target_triggers.t;
	RETURN NULL;
END $$;
CREATE FUNCTION note_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO target_triggers.log SELECT TG_NAME, count(*), string_agg(n::text, ' ' ORDER BY n) FROM new_rows;
	RETURN NULL;
END $$;
CREATE TRIGGER before_row BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION before_row();
CREATE TRIGGER before_statement BEFORE INSERT ON t EXECUTE FUNCTION note();
CREATE TRIGGER after_row AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER after_statement AFTER INSERT ON t EXECUTE FUNCTION note();
CREATE TRIGGER transition AFTER INSERT ON t REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION note_transition();
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();

SELECT clock_timestamp() AS called_at \gset
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i))) FROM generate_series(1, 5) AS i;
COMMIT;
SELECT persist_flush();
SELECT trigger, count(*) AS times, min(rows_) AS rows_from, max(rows_) AS rows_to, min(setting) AS setting_from, max(setting) AS setting_to
FROM log GROUP BY trigger ORDER BY trigger COLLATE "C";
-- the worker's now() is that of its transaction, after the call
SELECT count(DISTINCT at), min(at) >= :'called_at' AS after_the_call FROM t;

-- the next batch: another transaction, another time, and nothing of the settings is left
TRUNCATE log;
SELECT clock_timestamp() AS called_at \gset
SELECT count(persist_enqueue('t', '{"n": 6}'));
SELECT persist_flush();
SELECT trigger, rows_, setting FROM log ORDER BY trigger COLLATE "C";
SELECT at >= :'called_at' AS after_the_call, at > (SELECT max(at) FROM t WHERE n < 6) AS after_the_first FROM t WHERE n = 6;

-- a row that a trigger changes, and one that it keeps away
CREATE TABLE changed (n int, b text);
CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.n = 2 THEN
		RETURN NULL;
	END IF;
	NEW.b := COALESCE(NEW.b, 'none') || ', changed';
	RETURN NEW;
END $$;
CREATE TRIGGER change BEFORE INSERT ON changed FOR EACH ROW EXECUTE FUNCTION change();
SELECT items_failed AS failed FROM persist_queue WHERE datname = current_database() \gset
BEGIN;
SELECT count(persist_enqueue('changed', jsonb_build_object('n', i))) FROM generate_series(1, 3) AS i;
COMMIT;
SELECT persist_flush();
SELECT * FROM changed ORDER BY n;
SELECT items_failed - :failed AS failed, items_pending FROM persist_queue WHERE datname = current_database();

-- disabled, and for replicas only: as for any session
ALTER TABLE changed DISABLE TRIGGER change;
SELECT count(persist_enqueue('changed', '{"n": 4}'));
SELECT persist_flush();
ALTER TABLE changed ENABLE REPLICA TRIGGER change;
SELECT count(persist_enqueue('changed', '{"n": 5}'));
SELECT persist_flush();
ALTER TABLE changed ENABLE ALWAYS TRIGGER change;
SELECT count(persist_enqueue('changed', '{"n": 6}'));
SELECT persist_flush();
SELECT * FROM changed WHERE n > 3 ORDER BY n;

DROP SCHEMA target_triggers CASCADE;
