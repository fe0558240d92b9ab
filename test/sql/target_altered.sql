-- Columns get another type, columns, tables and types are dropped, while items wait: what
-- can be converted lands, and of the rest nothing is lost but its place.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA target_altered;
SET search_path = target_altered, public;
CREATE VIEW letters AS
SELECT target_name, item, sqlstate, message, detail FROM persist_dead_letters
WHERE target_name LIKE 'target_altered.%' ORDER BY pos, part;

-- Each with a row that a plain INSERT has written before: ALTER TABLE converts that one.
-- A second item doesn't name the column.
CREATE DOMAIN year AS int CHECK (VALUE > 1900);
CREATE DOMAIN short AS varchar(5);
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (x int, y text);
CREATE TABLE cases (n int, old text, new text, value text);
INSERT INTO cases VALUES
	(1, 'varchar(10)', 'varchar(20)', '"x"'), (2, 'varchar(10)', 'text', '"it''s"'),
	(3, 'char(5)', 'char(10)', '"abc"'), (4, 'smallint', 'integer', '-32768'),
	(5, 'integer', 'bigint', '2147483647'), (6, 'integer', 'numeric', '7'),
	(7, 'numeric(8,2)', 'numeric(12,2)', '123456.78'), (8, 'numeric(8,2)', 'numeric(12,4)', '1.5'),
	(9, 'real', 'double precision', '0.1'), (10, 'date', 'timestamp', '"2024-02-29"'),
	(11, 'timestamp(3)', 'timestamp(0)', '"2024-02-29 12:00:00.501"'), (12, 'varchar(5)[]', 'text[]', '["a", null]'),
	(13, 'integer[]', 'bigint[]', '[[1, 2], [3, 4]]'), (14, 'integer', 'year', '1984'),
	(15, 'year', 'integer', '1984'), (16, 'mood', 'text', '"ok"'), (17, 'json', 'jsonb', '{"b": 1, "a": [2]}'),
	(18, 'bit(4)', 'bit varying(8)', '"0101"'), (19, 'integer', 'text', '42'), (20, 'pair', 'text', '{"x": 1, "y": "a b"}'),
	(21, 'time(6)', 'time(0)', '"12:00:00.6"'), (22, 'numeric', 'integer', '2.5'),
	(23, 'varchar(10)', 'varchar(3)', '"abc   "'), (24, 'short', 'varchar(10)', '"abcde"'), (25, 'varchar(10)', 'short', '"abcde"');

CREATE FUNCTION make(c cases) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE TABLE t%s (k int, v %s, w int DEFAULT 5)', c.n, c.old);
	EXECUTE format('INSERT INTO t%s SELECT 0, v FROM jsonb_populate_record(NULL::t%s, %L)', c.n, c.n, '{"v": ' || c.value || '}');
	PERFORM persist_enqueue(format('t%s', c.n), format('{"k": 1, "v": %s}', c.value));
	PERFORM persist_enqueue(format('t%s', c.n)::regclass, '{"k": 2}'::jsonb);
END $$;
CREATE FUNCTION change(c cases) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('ALTER TABLE t%s ALTER v TYPE %s, ALTER w TYPE bigint', c.n, c.new);
END $$;
CREATE FUNCTION look(c cases) RETURNS TABLE (plain text, piped text, others text) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT (SELECT v::text FROM t%s WHERE k = 0), (SELECT v::text FROM t%s WHERE k = 1 AND w = 5),
		(SELECT string_agg(format(''%%s %%s %%s'', k, v, w), '', '') FROM t%s WHERE k > 1)', c.n, c.n, c.n);
END $$;
SELECT persist_pause();
SELECT count(make(c)) FROM cases AS c;
SELECT count(change(c)) FROM cases AS c;
SELECT persist_resume();
SELECT persist_flush();
SELECT n, old, new, plain, piped, others, plain IS NOT DISTINCT FROM piped AS same FROM cases AS c, look(c) ORDER BY n;
SELECT * FROM letters;

-- what can't be assigned, or has a value that can't: a letter with its values; others land
CREATE TABLE u (k int, a text, b bigint, c varchar(20), d text DEFAULT 'none');
SELECT persist_pause();
SELECT count(persist_enqueue('u', item)) FROM unnest(ARRAY[
	'{"k": 1, "a": "not a number", "b": 1}', '{"k": 2, "b": 40000}', '{"k": 3, "c": "too long"}', '{"k": 4, "b": 4, "c": "x"}',
	'{"k": 5, "a": null, "d": "given"}']::jsonb[]) AS item;
ALTER TABLE u ALTER d DROP DEFAULT;
ALTER TABLE u ALTER a TYPE int USING NULL, ALTER b TYPE smallint, ALTER c TYPE varchar(3), ALTER d TYPE int USING 0;
ALTER TABLE u ALTER d SET DEFAULT 7;
SELECT persist_resume();
SELECT persist_flush();
SELECT * FROM u ORDER BY k;
SELECT item, sqlstate, message, detail FROM letters;
-- repaired, by other values or by the table's owner
SELECT persist_pause();
SELECT persist_requeue(id, item || '{"a": 1, "d": 1}') FROM persist_dead_letters WHERE target = 'u'::regclass AND item->>'k' = '1';
ALTER TABLE u ALTER b TYPE int, ALTER c TYPE text;
SELECT count(persist_requeue(ARRAY[id])) FROM persist_dead_letters WHERE target = 'u'::regclass AND item->>'k' IN ('2', '3');
ALTER TABLE u ALTER d DROP DEFAULT, ALTER d TYPE text;
SELECT count(persist_requeue(ARRAY[id])) FROM persist_dead_letters WHERE target = 'u'::regclass AND item->>'k' = '5';
SELECT persist_resume();
SELECT persist_flush();
SELECT * FROM u ORDER BY k;
SELECT * FROM letters;

-- a column that no item gives is dropped, or becomes what nothing can be assigned to; one that one gives
CREATE TABLE d (k int, never text DEFAULT 'x', later int DEFAULT 1, given int);
SELECT persist_pause();
SELECT count(persist_enqueue('d', item)) FROM unnest(ARRAY['{"k": 1}', '{"k": 2, "given": 2}', '{"k": 3, "given": null}']::jsonb[]) AS item;
SELECT count(persist_enqueue(ROW(4, NULL, 4, NULL)::d));
ALTER TABLE d DROP never, ALTER later DROP DEFAULT;
ALTER TABLE d ALTER later TYPE date USING NULL, DROP given;
ALTER TABLE d RENAME k TO key;
SELECT persist_resume();
SELECT persist_flush();
SELECT * FROM d ORDER BY key;
SELECT item, sqlstate, detail FROM letters ORDER BY item;
-- it comes again, as something wider
ALTER TABLE d ADD given numeric, DROP later, ADD later text;
SELECT persist_requeue(array_agg(id)) FROM persist_dead_letters WHERE target = 'd'::regclass;
SELECT persist_flush();
SELECT key, given, later FROM d ORDER BY key;

-- the table goes; its types go: what is left of the values is told, and can be sent elsewhere
CREATE TYPE size AS ENUM ('small', 'big');
CREATE TYPE point3 AS (x int, y int, z text);
CREATE DOMAIN posint AS int CHECK (VALUE > 0);
CREATE TABLE gone (id int GENERATED ALWAYS AS IDENTITY, k int, "Name" text, p pair, ps pair[], m mood, y year);
CREATE TABLE typed (k int, s size, p point3, i posint, u uuid, r int[], n text);
CREATE TABLE elsewhere (k int, "Name" text, rest jsonb);
SELECT persist_pause();
SELECT count(persist_enqueue('gone', '{"k": 1, "Name": "one", "p": {"x": 1, "y": "why"}, "ps": [{"x": 2, "y": null}], "m": "ok", "y": 2000}'));
SELECT count(persist_enqueue('typed', '{"k": 1, "s": "big", "p": {"x": 1, "y": 2, "z": "zz"}, "i": 3, "u": "01024141-4141-4141-4141-000000000000", "r": [1, 2], "n": "n"}'));
DROP TABLE gone;
DROP TYPE size, point3, posint CASCADE;
SELECT persist_resume();
SELECT persist_flush();
SELECT target_name, sqlstate, item - 's' - 'p' || jsonb_build_object('p', COALESCE(item->'p'->>'y', 'y' || right(item->>'p', 4)), 's', item->>'s' LIKE '\\x________') AS item FROM letters ORDER BY target_name;
TABLE typed;
SELECT id AS letter FROM persist_dead_letters WHERE target_name = 'target_altered.gone' \gset
SELECT persist_requeue(:letter, NULL, '{}');
SELECT persist_requeue(:letter, 'elsewhere', '{"no": 1}');
SELECT persist_requeue(0, 'elsewhere', '{}');
SELECT persist_requeue(id, 'elsewhere', jsonb_build_object('k', item->'k', 'Name', item->'Name', 'rest', item - 'k' - 'Name'))
FROM persist_dead_letters WHERE id = :letter;
SELECT persist_flush();
TABLE elsewhere;
SELECT target_name FROM letters;

-- the parts of the account still make its sum
SELECT target_name, enqueued, persisted, dead, pending FROM persist_stats WHERE target IN ('elsewhere'::regclass, 'u'::regclass, 'd'::regclass) ORDER BY 1;

-- what is in the ring alone
CREATE UNLOGGED TABLE unlogged (k int, v varchar(5));
CREATE TABLE async (k int, v varchar(5));
ALTER SYSTEM SET persist_pipeline.adaptive_flush = off;
ALTER SYSTEM SET persist_pipeline.flush_interval = '1 h';
DO $$BEGIN PERFORM pg_reload_conf(); END $$;
CREATE TABLE interval_probe (seen text DEFAULT NULL);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.seen := current_setting('persist_pipeline.flush_interval');
	RETURN NEW;
END $$;
CREATE TRIGGER see BEFORE INSERT ON interval_probe FOR EACH ROW EXECUTE FUNCTION see();
CREATE PROCEDURE wait_for_interval(wanted text) LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		PERFORM persist_enqueue('target_altered.interval_probe', '{}');
		COMMIT;
		IF NOT persist_flush() THEN
			RAISE 'the worker does not answer';
		END IF;
		EXIT WHEN EXISTS (SELECT FROM target_altered.interval_probe WHERE seen = wanted);
	END LOOP;
END $$;
CALL wait_for_interval('1h');
SET synchronous_commit = off;
SELECT count(persist_enqueue(t, '{"k": 1, "v": "abc"}')) FROM unnest('{unlogged, async}'::regclass[]) AS t;
SELECT items_pending FROM persist_queue WHERE datname = current_database();
RESET synchronous_commit;
ALTER TABLE unlogged ALTER v TYPE text;
ALTER TABLE async ALTER v TYPE text, ALTER k TYPE numeric(5,1);
SELECT persist_flush();
TABLE unlogged;
TABLE async;
ALTER SYSTEM RESET persist_pipeline.adaptive_flush;
ALTER SYSTEM RESET persist_pipeline.flush_interval;
DO $$BEGIN PERFORM pg_reload_conf(); END $$;
CALL wait_for_interval('100ms');

SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters WHERE target_name LIKE 'target_altered.%')) > 0 AS discarded;
DROP SCHEMA target_altered CASCADE;
