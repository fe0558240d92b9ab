-- The table is renamed, moved or replaced between the call and the flush: an item
-- goes to the table it was made for, whatever that is called by then.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA target_moved;
SET search_path = target_moved, public;

CREATE TABLE probe (seen text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.seen := current_setting('persist_pipeline.flush_interval');
	RETURN NEW;
END $$;
CREATE TRIGGER see BEFORE INSERT ON probe FOR EACH ROW EXECUTE FUNCTION see();
-- returns when the worker has read the setting
CREATE PROCEDURE wait_for_interval(wanted text) LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		PERFORM persist_enqueue('target_moved.probe', '{}');
		COMMIT;
		IF NOT persist_flush() THEN
			RAISE 'the worker does not answer';
		END IF;
		EXIT WHEN (SELECT seen FROM target_moved.probe ORDER BY ctid DESC LIMIT 1) = wanted;
		TRUNCATE target_moved.probe;
		COMMIT;
	END LOOP;
END $$;

-- the worker writes only when persist_flush asks
ALTER SYSTEM SET persist_pipeline.adaptive_flush = off;
ALTER SYSTEM SET persist_pipeline.flush_interval = '1 h';
DO $$BEGIN PERFORM pg_reload_conf(); END $$;
CALL wait_for_interval('1h');
SELECT items_failed AS failed FROM persist_queue WHERE datname = current_database() \gset

CREATE TABLE t (a int);
-- the worker knows its plan by the first name
SELECT count(persist_enqueue('t', '{"a": 0}'));
SELECT persist_flush();
-- renamed
SELECT count(persist_enqueue('t', '{"a": 1}'));
ALTER TABLE t RENAME TO renamed;
SELECT persist_flush();
TABLE renamed;

-- moved to another schema
CREATE SCHEMA target_moved_2;
SELECT count(persist_enqueue('renamed', '{"a": 2}'));
ALTER TABLE renamed SET SCHEMA target_moved_2;
SELECT persist_flush();
TABLE target_moved_2.renamed;

-- the schema is renamed
SELECT count(persist_enqueue('target_moved_2.renamed', '{"a": 3}'));
ALTER SCHEMA target_moved_2 RENAME TO target_moved_3;
SELECT persist_flush();
TABLE target_moved_3.renamed;

-- swapped with another of the same name, by the usual dance
CREATE TABLE live (a int);
CREATE TABLE fresh (a int);
SELECT count(persist_enqueue('live', '{"a": 10}'));
SELECT persist_flush();
SELECT count(persist_enqueue('live', '{"a": 11}'));
BEGIN;
ALTER TABLE live RENAME TO old;
ALTER TABLE fresh RENAME TO live;
COMMIT;
SELECT count(persist_enqueue('live', '{"a": 12}'));
SELECT persist_flush();
SELECT * FROM old ORDER BY a;
SELECT * FROM live ORDER BY a;

-- back and forth, with a schema of the same tables
CREATE SCHEMA target_moved_a;
CREATE SCHEMA target_moved_b;
CREATE TABLE target_moved_a.t (a int);
CREATE TABLE target_moved_b.t (a int);
SELECT count(persist_enqueue('target_moved_a.t', '{"a": 20}'));
SELECT count(persist_enqueue('target_moved_b.t', '{"a": 21}'));
SELECT persist_flush();
SELECT count(persist_enqueue('target_moved_a.t', '{"a": 22}'));
SELECT count(persist_enqueue('target_moved_b.t', '{"a": 23}'));
BEGIN;
ALTER SCHEMA target_moved_a RENAME TO target_moved_c;
ALTER SCHEMA target_moved_b RENAME TO target_moved_a;
ALTER SCHEMA target_moved_c RENAME TO target_moved_b;
COMMIT;
SELECT count(persist_enqueue('target_moved_a.t', '{"a": 24}'));
SELECT persist_flush();
SELECT a FROM target_moved_a.t ORDER BY a;
SELECT a FROM target_moved_b.t ORDER BY a;

-- dropped and made again under the same name: another table
SELECT count(persist_enqueue('live', '{"a": 30}'));
DROP TABLE live;
CREATE TABLE live (a int);
SELECT count(persist_enqueue('live', '{"a": 31}'));
SELECT persist_flush();
TABLE live;
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();

-- truncated: what comes later is there
SELECT count(persist_enqueue('live', '{"a": 32}'));
TRUNCATE live;
SELECT persist_flush();
TABLE live;

ALTER SYSTEM RESET persist_pipeline.adaptive_flush;
ALTER SYSTEM RESET persist_pipeline.flush_interval;
DO $$BEGIN PERFORM pg_reload_conf(); END $$;
CALL wait_for_interval('100ms');
DROP SCHEMA target_moved_3, target_moved_a, target_moved_b CASCADE;

DROP SCHEMA target_moved CASCADE;
