-- Items that don't fit their target at the call, where the target is configured with
-- bad_items => 'dead': dead letters, and the transaction goes on.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA bad_items;
SET search_path = bad_items, public;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) IS NOT NULL AS others_are_gone;

CREATE DOMAIN even AS int CONSTRAINT is_even CHECK (VALUE % 2 = 0);
CREATE FUNCTION fussy(text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	IF $1 = 'no' THEN
		RAISE 'not this one' USING DETAIL = 'a detail';
	END IF;
	RETURN true;
END $$;
CREATE DOMAIN asked AS text CHECK (bad_items.fussy(VALUE));
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TABLE t (n int, e even, s varchar(3), m mood, d date, a int[], q asked, g int GENERATED ALWAYS AS (n + 1) STORED, i int GENERATED ALWAYS AS IDENTITY);
CREATE FUNCTION busy() RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE object_in_use; END';
CREATE VIEW letters AS
SELECT target_name, role_name = current_user AS mine, item, sqlstate, message, detail, constraint_name, context, attempts, enqueued_at <= failed_at AS in_time, data IS NULL AS never_an_item
FROM public.persist_dead_letters ORDER BY id;

-- ---- the setting ----

SELECT persist_configure('t', bad_items => 'deaf');
SELECT persist_configure('t', bad_items => '');
SELECT persist_configure('t', bad_items => 'Dead');
SELECT count(*) FROM persist_settings WHERE target = 't'::regclass;
-- until it says so: an error of the call
SELECT persist_enqueue('t', '{"colour": "red"}');
SELECT persist_configure('t', bad_items => 'dead');
SELECT target, durability, bad_items, paused FROM persist_settings WHERE target = 't'::regclass;

-- ---- each kind, among good ones of the same transaction ----

CREATE TEMPORARY TABLE ids (k int, id bigint);
BEGIN;
INSERT INTO ids VALUES (1, persist_enqueue('t'::regclass, '{"n": 1}'));
INSERT INTO ids VALUES (2, persist_enqueue('t'::regclass, '{"n": 2, "colour": "red"}'));
INSERT INTO ids VALUES (3, persist_enqueue('t'::regclass, '[1, 2]'));
INSERT INTO ids VALUES (4, persist_enqueue('t'::regclass, '"a string"'));
INSERT INTO ids VALUES (5, persist_enqueue('t'::regclass, 'null'));
INSERT INTO ids VALUES (6, persist_enqueue('t'::regclass, '{"n": "abc"}'));
INSERT INTO ids VALUES (7, persist_enqueue('t'::regclass, '{"n": 99999999999}'));
INSERT INTO ids VALUES (8, persist_enqueue('t'::regclass, '{"e": 3}'));
INSERT INTO ids VALUES (9, persist_enqueue('t'::regclass, '{"s": "too long"}'));
INSERT INTO ids VALUES (10, persist_enqueue('t'::regclass, '{"m": "angry"}'));
INSERT INTO ids VALUES (11, persist_enqueue('t'::regclass, '{"d": "2023-02-29"}'));
INSERT INTO ids VALUES (12, persist_enqueue('t'::regclass, '{"a": {"no": "array"}}'));
INSERT INTO ids VALUES (13, persist_enqueue('t'::regclass, '{"q": "no"}'));
INSERT INTO ids VALUES (14, persist_enqueue('t'::regclass, '{"g": 1}'));
INSERT INTO ids VALUES (15, persist_enqueue('t'::regclass, '{"i": 1}'));
INSERT INTO ids VALUES (16, persist_enqueue('t', '{"n": 16, "colour": "blue"}'));
INSERT INTO ids VALUES (17, persist_enqueue('t'::regclass, '{"n": 17}'));
COMMIT;
SELECT persist_flush();
SELECT n FROM t ORDER BY n;
SELECT count(DISTINCT id), count(id) FILTER (WHERE id > 0) AS ids FROM ids;
SELECT string_agg(k::text, ' ' ORDER BY k) AS letters FROM ids JOIN persist_dead_letters USING (id);
\x on
TABLE letters;
\x off
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- a column of a view that can't be inserted into
CREATE VIEW doubled AS SELECT n, 2 * n AS twice FROM t;
SELECT persist_configure('doubled', bad_items => 'dead');
SELECT count(persist_enqueue('doubled', '{"n": 18, "twice": 36}'));
SELECT target_name, item, sqlstate, message FROM letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
DROP VIEW doubled;

-- several at once
BEGIN;
TRUNCATE ids;
INSERT INTO ids SELECT ordinality, id FROM unnest(persist_enqueue_many('t', '[{"n": 21}, {"n": "x"}, 7, {"n": 24}]')) WITH ORDINALITY AS u (id, ordinality);
COMMIT;
SELECT persist_flush();
SELECT n FROM t WHERE n > 20 ORDER BY n;
SELECT k, item, sqlstate FROM ids JOIN persist_dead_letters USING (id) ORDER BY k;
SELECT count(DISTINCT id) FROM ids;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
-- what is no jsonb, or no JSON at all, where it comes as json or text
BEGIN;
TRUNCATE ids;
INSERT INTO ids VALUES (1, persist_enqueue('t', '{"s": "\u0000"}'));
INSERT INTO ids VALUES (2, persist_enqueue('t'::regclass, '{"s": "\u0000"}'::json));
INSERT INTO ids VALUES (3, persist_enqueue('t', '{"n": '));
INSERT INTO ids VALUES (4, persist_enqueue('t'::regclass, '{"n": 26}'::json));
INSERT INTO ids VALUES (5, persist_enqueue('t'::regclass, '{"n": "x"}'::json));
COMMIT;
SELECT persist_flush();
SELECT n FROM t WHERE n > 25 ORDER BY n;
SELECT k, item, sqlstate FROM ids JOIN persist_dead_letters USING (id) ORDER BY k;
SELECT persist_requeue();
SELECT persist_requeue(id, '{"n": 27}') FROM ids WHERE k = 3;
SELECT persist_flush();
SELECT n FROM t WHERE n > 26 ORDER BY n;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
-- what isn't an array stays an error
SELECT persist_enqueue_many('t', '{"n": 1}');

-- ---- with the transaction ----

BEGIN;
SELECT count(persist_enqueue('t', '{"n": "x"}'));
SELECT count(*) FROM letters;
ROLLBACK;
BEGIN;
SAVEPOINT a;
SELECT count(persist_enqueue('t', '{"n": "x"}'));
ROLLBACK TO a;
SELECT count(persist_enqueue('t', '{"n": "y"}'));
COMMIT;
SELECT persist_flush();
SELECT item FROM letters;
-- dropped by the transaction itself
BEGIN;
SELECT count(persist_enqueue('t', '{"n": "z"}'));
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
COMMIT;
SELECT count(*) FROM letters;

-- ---- sent again ----

SELECT persist_enqueue('t', '{"n": 31, "colour": "red"}') AS id \gset
-- it is still bad: an error, and the letter stays
SELECT persist_requeue(ARRAY[:id]);
SELECT persist_requeue(:id, '{"n": 31, "color": "red"}');
SELECT item, attempts FROM letters;
-- where it isn't named, it doesn't keep the others back
ALTER TABLE t ADD CONSTRAINT obstacle CHECK (n < 32);
SELECT count(persist_enqueue('t', '{"n": 33}'));
SELECT persist_flush();
ALTER TABLE t DROP CONSTRAINT obstacle;
SELECT errors FROM persist_stats WHERE target = 't'::regclass \gset
SELECT persist_requeue();
SELECT id = :id AS same, item, sqlstate, message, attempts FROM persist_dead_letters;
SELECT errors - :errors AS errors FROM persist_stats WHERE target = 't'::regclass;
SELECT persist_flush();
SELECT n FROM t WHERE n = 33;
-- what isn't its fault does
ALTER TABLE t ADD colour text, ADD busy int, ALTER busy SET DEFAULT bad_items.busy();
SELECT persist_requeue();
SELECT id = :id AS same, attempts FROM persist_dead_letters;
ALTER TABLE t DROP colour, DROP busy;
SELECT persist_requeue(:id, '{"n": 31}');
SELECT persist_flush();
SELECT n, i IS NOT NULL AS i FROM t WHERE n = 31;
SELECT count(*) FROM letters;
-- the schema has caught up
SELECT persist_enqueue('t', '{"n": 32, "colour": "red"}') AS id \gset
ALTER TABLE t ADD colour text;
SELECT persist_requeue();
SELECT persist_flush();
SELECT n, colour FROM t WHERE n = 32;
SELECT count(*) FROM letters;
-- an item at last, which can fail
ALTER TABLE t ADD CHECK (n <> 13);
SELECT persist_enqueue('t', '{"n": 13, "flavour": "sour"}') AS id \gset
SELECT persist_requeue(:id, '{"n": 13, "colour": "sour"}');
SELECT persist_flush();
SELECT id = :id AS same, item -> 'n' AS n, item -> 'colour' AS colour, sqlstate, attempts, data IS NOT NULL AS an_item FROM persist_dead_letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- those of a table or a role that is no more, too
CREATE TABLE gone (n int);
SELECT persist_configure('gone', bad_items => 'dead');
CREATE ROLE pp_bad_items_gone;
GRANT USAGE ON SCHEMA bad_items TO pp_bad_items_gone;
GRANT INSERT ON t TO pp_bad_items_gone;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_bad_items_gone;
SELECT count(persist_enqueue('gone', '{"n": "x"}'));
SET ROLE pp_bad_items_gone;
SELECT count(persist_enqueue('t'::regclass, '{"n": "y"}'));
RESET ROLE;
SELECT count(persist_enqueue('t', '{"n": 34, "smell": "sweet"}'));
DROP TABLE gone;
DROP OWNED BY pp_bad_items_gone;
DROP ROLE pp_bad_items_gone;
ALTER TABLE t ADD smell text;
SELECT persist_requeue();
SELECT persist_flush();
SELECT n, smell FROM t WHERE n = 34;
SELECT item, sqlstate, attempts FROM persist_dead_letters ORDER BY id;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- a default that sends or drops letters, while they are sent
CREATE TABLE busy (n int, done bigint);
SELECT persist_configure('busy', bad_items => 'dead');
CREATE FUNCTION send_all() RETURNS bigint LANGUAGE sql AS 'SELECT persist_requeue()';
CREATE FUNCTION drop_all() RETURNS bigint LANGUAGE sql AS 'SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters))';
SELECT count(persist_enqueue('busy', '{"m": 1}')) FROM generate_series(1, 4);
ALTER TABLE busy ADD m int, ALTER done SET DEFAULT send_all();
SELECT persist_requeue();
SELECT persist_flush();
SELECT count(*), sum(done) FROM busy;
TRUNCATE busy;
ALTER TABLE busy DROP m, ALTER done DROP DEFAULT;
SELECT count(persist_enqueue('busy', '{"m": 1}')) FROM generate_series(1, 4);
ALTER TABLE busy ADD m int, ALTER done SET DEFAULT drop_all();
SELECT persist_requeue();
SELECT persist_flush();
SELECT count(*), sum(done) FROM busy;
SELECT enqueued, persisted, dead, discarded FROM persist_stats WHERE target = 'busy'::regclass;
SELECT count(*) FROM persist_dead_letters;

-- ---- what stays an error ----

CREATE ROLE pp_bad_items;
GRANT USAGE ON SCHEMA bad_items TO pp_bad_items;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean), persist_enqueue(text, text, boolean) TO pp_bad_items;
SET ROLE pp_bad_items;
SELECT persist_enqueue('t'::regclass, '{"n": 41}');
SELECT persist_enqueue('t'::regclass, '{"n": "x"}');
SELECT persist_enqueue('t'::regclass, '{"no": 1}');
SELECT persist_enqueue('t'::regclass, '[1]');
SELECT persist_enqueue('t'::text, '{"n": '::text);
SELECT persist_configure('t', bad_items => 'error');
RESET ROLE;
GRANT INSERT (n) ON t TO pp_bad_items;
SET ROLE pp_bad_items;
SELECT persist_enqueue('t'::regclass, '{"n": 42, "s": "s"}');
SELECT count(persist_enqueue('t'::regclass, '{"n": "x"}'));
RESET ROLE;
SELECT role_name, item, sqlstate FROM persist_dead_letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
SELECT persist_enqueue('t'::regclass, '{"n": "x"}', false);
SELECT persist_enqueue('t', '{"n": "x"}', false);
SELECT persist_enqueue('t', '{"n": ', false);
SELECT persist_enqueue('t'::regclass, NULL);
SELECT persist_enqueue('no_such_table', '{"n": 1}');
BEGIN READ ONLY;
SELECT persist_enqueue('t', '{"n": "x"}');
ROLLBACK;
SET persist_pipeline.mode = direct;
SELECT persist_enqueue('t', '{"n": "x"}');
SET persist_pipeline.mode = reject;
SELECT persist_enqueue('t', '{"n": "x"}');
RESET persist_pipeline.mode;
SELECT count(*) FROM letters;

-- ---- taken back ----

SELECT persist_configure('t', durability => 'journal');
SELECT count(persist_enqueue('t', '{"n": "x"}'));
SELECT persist_configure('t', bad_items => 'error');
SELECT persist_enqueue('t', '{"n": "x"}');
SELECT persist_configure('t', bad_items => 'dead');
SELECT count(persist_enqueue('t', '{"n": "x"}'));
SELECT persist_unconfigure('t');
SELECT persist_enqueue('t', '{"n": "x"}');
SELECT count(*) FROM persist_settings WHERE target = 't'::regclass;
SELECT persist_flush();
SELECT count(*) FROM letters;

SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
DROP OWNED BY pp_bad_items;
DROP ROLE pp_bad_items;
DROP SCHEMA bad_items CASCADE;
