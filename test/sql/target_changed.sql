-- The table changes between the call and the flush.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA target_changed;
SET search_path = target_changed, public;

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
		PERFORM persist_enqueue('target_changed.probe', '{}');
		COMMIT;
		IF NOT persist_flush() THEN
			RAISE 'the worker does not answer';
		END IF;
		EXIT WHEN (SELECT seen FROM target_changed.probe ORDER BY ctid DESC LIMIT 1) = wanted;
		TRUNCATE target_changed.probe;
		COMMIT;
	END LOOP;
END $$;

-- the worker writes only when persist_flush asks
ALTER SYSTEM SET persist_pipeline.adaptive_flush = off;
ALTER SYSTEM SET persist_pipeline.flush_interval = '1 h';
DO $$BEGIN PERFORM pg_reload_conf(); END $$;
CALL wait_for_interval('1h');
SELECT items_failed AS failed FROM persist_queue WHERE datname = current_database() \gset
CREATE VIEW failed AS SELECT items_failed FROM persist_queue WHERE datname = current_database();

-- a column that comes: it gets its default at the flush
CREATE TABLE t (a int, b text DEFAULT 'b');
SELECT count(persist_enqueue('t', '{"a": 1}'));
SELECT items_pending FROM persist_queue WHERE datname = current_database();
ALTER TABLE t ADD c int DEFAULT 5, ADD d text;
SELECT count(persist_enqueue('t', '{"a": 2, "d": "given"}'));
SELECT persist_flush();
SELECT * FROM t ORDER BY a;
SELECT items_failed - :failed AS failed FROM failed;

-- a column that goes, and was given: the item can't be what it was; others land
SELECT count(persist_enqueue('t', '{"a": 3, "d": "lost"}'));
ALTER TABLE t DROP d;
SELECT count(persist_enqueue('t', '{"a": 4}'));
SELECT persist_flush();
SELECT * FROM t WHERE a IN (3, 4) ORDER BY a;
SELECT items_failed - :failed AS failed FROM failed;

-- another type: bytes are never read as something else
SELECT count(persist_enqueue('t', '{"a": 5, "b": "text"}'));
ALTER TABLE t ALTER b DROP DEFAULT, ALTER b TYPE bigint USING length(b);
SELECT count(persist_enqueue('t', '{"a": 6, "b": 6}'));
SELECT persist_flush();
SELECT a, b FROM t WHERE a IN (5, 6) ORDER BY a;
SELECT items_failed - :failed AS failed FROM failed;

-- inside a composite type, an array of it, a domain over it
CREATE TYPE inner_ AS (x int, y text);
CREATE TYPE outer_ AS (i inner_, n int);
CREATE DOMAIN dom AS outer_;
CREATE TABLE deep (a int, o outer_, os outer_[], d dom);
SELECT count(persist_enqueue('deep', '{"a": 1, "o": {"i": {"x": 1}}}'));
SELECT count(persist_enqueue('deep', '{"a": 2, "os": [{"i": {"x": 1}}]}'));
SELECT count(persist_enqueue('deep', '{"a": 3, "d": {"i": {"x": 1}}}'));
SELECT persist_flush();
SELECT count(persist_enqueue('deep', jsonb_build_object('a', 4, 'o', '{"i": {"x": 1, "y": "y"}}'::jsonb)));
CREATE TABLE deep_later (a int, o outer_[]);
SELECT count(persist_enqueue('deep_later', '{"a": 1, "o": [{"i": {"x": 2147483647, "y": "y"}}]}'));
DROP TABLE deep;
-- a type that tables use can't change while they hold it
ALTER TABLE deep_later ALTER o TYPE text[] USING NULL;
ALTER TYPE inner_ ALTER ATTRIBUTE x TYPE text CASCADE;
ALTER TABLE deep_later ALTER o TYPE outer_[] USING NULL;
SELECT persist_flush();
TABLE deep_later;
SELECT items_failed - :failed AS failed FROM failed;

-- a domain's constraint, and a constraint of the table: checked at the flush too
CREATE DOMAIN positive AS int;
CREATE TABLE constrained (a int, p positive);
SELECT count(persist_enqueue('constrained', '{"a": 1, "p": -1}'));
SELECT count(persist_enqueue('constrained', '{"a": 2, "p": 1}'));
SELECT count(persist_enqueue('constrained', '{"a": -3, "p": 1}'));
ALTER DOMAIN positive ADD CHECK (VALUE > 0);
ALTER TABLE constrained ADD CHECK (a > 0);
SELECT persist_flush();
TABLE constrained;
SELECT items_failed - :failed AS failed FROM failed;

-- a default that changes: decided at the call
CREATE TABLE defaults (a int, b text DEFAULT 'old');
SELECT count(persist_enqueue('defaults', '{"a": 1}'));
ALTER TABLE defaults ALTER b SET DEFAULT 'new';
SELECT persist_flush();
TABLE defaults;

-- columns that trade names: a value stays with its column
CREATE TABLE trade (one int, two int);
SELECT count(persist_enqueue('trade', '{"one": 1, "two": 2}'));
ALTER TABLE trade RENAME one TO three;
ALTER TABLE trade RENAME two TO one;
ALTER TABLE trade RENAME three TO two;
SELECT persist_flush();
TABLE trade;

-- gone altogether
CREATE TABLE gone (a int);
SELECT count(persist_enqueue('gone', '{"a": 1}'));
SELECT count(persist_enqueue('trade', '{"one": 7}'));
DROP TABLE gone;
SELECT persist_flush();
SELECT one FROM trade WHERE one = 7;
SELECT items_failed - :failed AS failed FROM failed;

ALTER SYSTEM RESET persist_pipeline.adaptive_flush;
ALTER SYSTEM RESET persist_pipeline.flush_interval;
DO $$BEGIN PERFORM pg_reload_conf(); END $$;
CALL wait_for_interval('100ms');

DROP SCHEMA target_changed CASCADE;
