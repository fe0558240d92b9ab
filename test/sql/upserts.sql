-- on_conflict: what becomes of a row whose key is there, or is in the same batch.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA upserts;
SET search_path = upserts, public;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) IS NOT NULL AS others_are_gone;

CREATE VIEW letters AS SELECT target_name, item, sqlstate, message, detail FROM public.persist_dead_letters ORDER BY id;
CREATE VIEW counted AS
SELECT target_name, enqueued, persisted, skipped, dead FROM public.persist_stats
WHERE target IN (SELECT oid FROM pg_class WHERE relnamespace = 'upserts'::regnamespace) ORDER BY target_name;

-- ---- what can be configured ----

CREATE TABLE t (a int, b text, n int, big bigint, num numeric(12,2), f float8, d date, g int GENERATED ALWAYS AS (n + 1) STORED, PRIMARY KEY (a, b));
CREATE UNIQUE INDEX t_partial ON t (n) WHERE n > 0;
CREATE UNIQUE INDEX t_expression ON t (lower(b));
CREATE TABLE put_off (a int UNIQUE DEFERRABLE, b int, EXCLUDE (b WITH =));
SELECT persist_configure('t', on_conflict => 'replace');
SELECT persist_configure('t', on_conflict => 'update');
SELECT persist_configure('t', conflict_columns => '{a}');
SELECT persist_configure('t', add_columns => '{n}');
SELECT persist_configure('t', on_conflict => 'nothing', add_columns => '{n}');
SELECT persist_configure('t', on_conflict => 'update', conflict_columns => '{a}');
SELECT persist_configure('t', on_conflict => 'update', conflict_columns => '{a,d}');
SELECT persist_configure('t', on_conflict => 'update', conflict_columns => '{a,b,d}');
SELECT persist_configure('t', on_conflict => 'update', conflict_columns => '{n}');
SELECT persist_configure('t', on_conflict => 'update', conflict_columns => '{b}');
SELECT persist_configure('t', on_conflict => 'nothing', conflict_columns => '{c}');
SELECT persist_configure('t', on_conflict => 'nothing', conflict_columns => '{A}');
SELECT persist_configure('t', on_conflict => 'nothing', conflict_columns => '{a,b,a}');
SELECT persist_configure('t', on_conflict => 'nothing', conflict_columns => '{a,NULL}');
SELECT persist_configure('put_off', on_conflict => 'nothing', conflict_columns => '{a}');
SELECT persist_configure('put_off', on_conflict => 'nothing');
SELECT persist_configure('put_off', on_conflict => 'update', conflict_columns => '{b}');
SELECT persist_configure('t', on_conflict => 'update', conflict_columns => '{b,a}', add_columns => '{c}');
SELECT persist_configure('t', on_conflict => 'update', conflict_columns => '{b,a}', add_columns => '{a}');
SELECT persist_configure('t', on_conflict => 'update', conflict_columns => '{b,a}', add_columns => '{d}');
SELECT persist_configure('t', on_conflict => 'update', conflict_columns => '{b,a}', add_columns => '{g}');
SELECT count(*) FROM persist_settings WHERE target = 't'::regclass;
-- not through these
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE far (a int) SERVER nowhere;
CREATE TABLE ruled (a int PRIMARY KEY, n int);
CREATE RULE ruled AS ON UPDATE TO ruled DO ALSO NOTHING;
CREATE VIEW triggered AS SELECT a, b, n FROM t;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER instead INSTEAD OF INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE VIEW expressed AS SELECT a + 1 AS a, b FROM t;
CREATE VIEW over_ruled AS SELECT * FROM ruled;
SELECT persist_configure('ruled', on_conflict => 'update', conflict_columns => '{a}');
SELECT persist_configure('triggered', on_conflict => 'nothing');
SELECT persist_configure('expressed', on_conflict => 'update', conflict_columns => '{a,b}');
SELECT persist_configure('over_ruled', on_conflict => 'nothing', conflict_columns => '{a}');
SELECT count(*) FROM persist_settings;
-- and each belongs to the others
SELECT persist_configure('t', on_conflict => 'update', conflict_columns => '{b,a}', add_columns => '{n,big,num,f}');
SELECT on_conflict, conflict_columns, add_columns, durability FROM persist_settings;
SELECT persist_configure('t', durability => 'journal');
SELECT on_conflict, conflict_columns, add_columns, durability FROM persist_settings;
SELECT persist_configure('t', add_columns => '{}');
SELECT on_conflict, conflict_columns, add_columns FROM persist_settings;
SELECT persist_configure('t', add_columns => '{n}');
SELECT persist_configure('t', on_conflict => 'nothing');
SELECT on_conflict, conflict_columns, add_columns FROM persist_settings;
SELECT persist_configure('t', conflict_columns => '{}');
SELECT on_conflict, conflict_columns, add_columns FROM persist_settings;
SELECT persist_configure('t', conflict_columns => '{a,b}');
SELECT persist_configure('t', on_conflict => 'error');
SELECT on_conflict, conflict_columns, add_columns FROM persist_settings;
SELECT persist_unconfigure('t');

-- ---- nothing ----

CREATE TABLE once (a int PRIMARY KEY, b int UNIQUE, v text);
SELECT persist_configure('once', on_conflict => 'nothing', conflict_columns => '{a}');
INSERT INTO once VALUES (1, 1, 'there');
BEGIN;
SELECT count(persist_enqueue('once', jsonb_build_object('a', a, 'b', 10 + a, 'v', 'new'))) FROM generate_series(1, 3) AS a;
SELECT count(persist_enqueue('once', '{"a": 3, "b": 23, "v": "newer"}'));
SELECT count(persist_enqueue('once', '{"a": 4, "b": 1, "v": "b is there"}'));
SELECT count(persist_enqueue('once', '{"a": 5}'));
COMMIT;
SELECT persist_flush();
TABLE once ORDER BY a;
SELECT target_name, item, sqlstate FROM letters;
TABLE counted;
-- any key
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
SELECT persist_configure('once', conflict_columns => '{}');
BEGIN;
SELECT count(persist_enqueue('once', '{"a": 4, "b": 1, "v": "b is there"}'));
SELECT count(persist_enqueue('once', '{"a": 6, "b": 6}'));
SELECT count(persist_enqueue('once', '{"a": 6, "b": 7}'));
SELECT count(persist_enqueue('once', '{"a": 7, "b": 6}'));
COMMIT;
SELECT persist_flush();
TABLE once ORDER BY a;
TABLE letters;
TABLE counted;

-- ---- update: what was given, in their order ----

SELECT persist_configure('once', on_conflict => 'update', conflict_columns => '{a}');
BEGIN;
SELECT count(persist_enqueue('once', '{"a": 1, "v": "changed"}'));
SELECT count(persist_enqueue('once', '{"a": 2, "b": 22}'));
SELECT count(persist_enqueue('once', '{"a": 2, "v": "and this"}'));
SELECT count(persist_enqueue('once', '{"a": 5, "b": null}'));
SELECT count(persist_enqueue('once', '{"a": 8}'));
SELECT count(persist_enqueue('once', '{"a": 8, "v": "first"}'));
SELECT count(persist_enqueue('once', '{"a": 8, "b": 88}'));
SELECT count(persist_enqueue('once', '{"a": 8, "v": "last"}'));
SELECT count(persist_enqueue('once', '{"a": 8}'));
SELECT count(persist_enqueue(ROW(3, 33, NULL)::once));
COMMIT;
SELECT persist_flush();
TABLE once ORDER BY a;
TABLE letters;
TABLE counted;
-- another key is there: a letter, and the others land
BEGIN;
SELECT count(persist_enqueue('once', '{"a": 9, "b": 88}'));
SELECT count(persist_enqueue('once', '{"a": 1, "v": "again"}'));
SELECT count(persist_enqueue('once', '{"a": 1, "b": 88}'));
SELECT count(persist_enqueue('once', '{"a": 1, "v": "and again"}'));
COMMIT;
SELECT persist_flush();
SELECT * FROM once WHERE a IN (1, 9) ORDER BY a;
SELECT item, sqlstate FROM letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
-- what one row frees another one takes, though their statements come in another order
BEGIN;
SELECT count(persist_enqueue('once', '{"a": 8, "v": "x"}'));
SELECT count(persist_enqueue('once', '{"a": 8, "b": null}'));
SELECT count(persist_enqueue('once', '{"a": 1, "b": 88}'));
COMMIT;
SELECT persist_flush();
SELECT * FROM once WHERE a IN (1, 8) ORDER BY a;
TABLE letters;

-- ---- counters ----

CREATE TABLE counters (k text PRIMARY KEY, s smallint, n int, big bigint DEFAULT 0, num numeric, f float8, at int, small smallint, d numeric(5,2));
SELECT persist_configure('counters', on_conflict => 'update', conflict_columns => '{k}', add_columns => '{s,n,big,num,f,d}');
BEGIN;
SELECT count(persist_enqueue('counters', jsonb_build_object('k', 'k' || i % 3, 's', 1, 'n', i, 'big', i, 'num', 0.1, 'f', 0.5, 'at', i, 'd', 0.01))) FROM generate_series(1, 3000) AS i;
COMMIT;
SELECT persist_flush();
TABLE counters ORDER BY k;
-- a NULL counts for nothing, whichever it is; what isn't given is not added
BEGIN;
SELECT count(persist_enqueue('counters', '{"k": "x", "n": null, "num": 5}'));
SELECT count(persist_enqueue('counters', '{"k": "x", "n": null}'));
SELECT count(persist_enqueue('counters', '{"k": "y"}'));
SELECT count(persist_enqueue('counters', '{"k": "y", "n": 7, "big": 7}'));
SELECT count(persist_enqueue('counters', '{"k": "y", "n": null, "big": null, "num": null}'));
SELECT count(persist_enqueue('counters', '{"k": "y", "n": -3, "num": 1.50}'));
SELECT count(persist_enqueue('counters', '{"k": "y", "at": 5}'));
COMMIT;
SELECT persist_flush();
SELECT k, n, big, num, at FROM counters WHERE k IN ('x', 'y') ORDER BY k;
-- too large a sum: that item alone is dead, wherever it stands
SELECT persist_pause();
SELECT count(persist_enqueue('counters', '{"k": "o", "n": 2147483640, "s": 32767, "d": 999}'));
SELECT count(persist_enqueue('counters', '{"k": "o", "n": 5, "s": 0}'));
SELECT count(persist_enqueue('counters', '{"k": "o", "n": 5, "s": 0}'));
SELECT count(persist_enqueue('counters', '{"k": "o", "n": -10, "s": 0}'));
SELECT count(persist_enqueue('counters', '{"k": "o", "n": 5, "s": 1}'));
SELECT count(persist_enqueue('counters', '{"k": "o", "n": 5, "s": 0}'));
SELECT count(persist_enqueue('counters', '{"k": "o", "d": 0.99}'));
SELECT count(persist_enqueue('counters', '{"k": "o", "d": 0.02}'));
SELECT count(persist_enqueue('counters', '{"k": "o2", "d": 999.99}'));
SELECT count(persist_enqueue('counters', '{"k": "o2", "d": 0.01}'));
SELECT persist_resume();
SELECT persist_flush();
SELECT k, s, n, d FROM counters WHERE k IN ('o', 'o2') ORDER BY k;
SELECT item -> 'k' AS k, item -> 'n' AS n, item -> 's' AS s, item -> 'd' AS d, sqlstate FROM letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) > 0 AS discarded;

-- ---- keys as their index compares them ----

CREATE COLLATION no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE keys (name text COLLATE no_case, num numeric, n int, v text, UNIQUE (num, name));
SELECT persist_configure('keys', on_conflict => 'update', conflict_columns => '{name,num}', add_columns => '{n}');
BEGIN;
SELECT count(persist_enqueue('keys', item)) FROM unnest(ARRAY['{"name": "a", "num": 1, "n": 1, "v": "a"}', '{"name": "A", "num": 1.0, "n": 1, "v": "A"}',
	'{"name": "a", "num": 1.00, "n": 1, "v": "last"}', '{"name": "b", "num": 1, "n": 1}', '{"name": null, "num": 1, "n": 1}', '{"name": null, "num": 1, "n": 1}']::jsonb[]) AS item;
COMMIT;
SELECT persist_flush();
TABLE keys ORDER BY name, num;
-- of several indexes, which don't agree: two of one are one of the other, and the last item is the last
CREATE TABLE disagreeing (name text PRIMARY KEY, v text, n int);
CREATE UNIQUE INDEX ON disagreeing (name COLLATE no_case);
SELECT persist_configure('disagreeing', on_conflict => 'update', conflict_columns => '{name}');
BEGIN;
SELECT count(persist_enqueue('disagreeing', item)) FROM unnest(ARRAY['{"name": "a", "v": "first"}', '{"name": "A", "v": "second", "n": 2}', '{"name": "a", "v": "last"}']::jsonb[]) AS item;
COMMIT;
SELECT persist_flush();
TABLE disagreeing;
CREATE TABLE same_nulls (a int, n int, UNIQUE NULLS NOT DISTINCT (a));
SELECT persist_configure('same_nulls', on_conflict => 'update', conflict_columns => '{a}', add_columns => '{n}');
SELECT count(persist_enqueue('same_nulls', '{"n": 1}')) FROM generate_series(1, 5);
SELECT persist_flush();
TABLE same_nulls;
-- of any type that has one
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0);
CREATE TABLE typed (m mood, a int[], u uuid, e even, r int4range, n even, PRIMARY KEY (m, a, u, e, r));
SELECT persist_configure('typed', on_conflict => 'update', conflict_columns => '{m,a,u,e,r}', add_columns => '{n}');
SELECT count(persist_enqueue('typed', jsonb_build_object('m', CASE i % 2 WHEN 0 THEN 'glad' ELSE 'sad' END, 'a', ARRAY[i % 3], 'u', '00000000-0000-0000-0000-00000000000' || i % 2, 'e', i % 2 * 2, 'r', '[1,5)', 'n', 2))) FROM generate_series(1, 60) AS i;
SELECT persist_flush();
TABLE typed ORDER BY 1, 2;

-- ---- code that sees the steps ----

-- that changes the key
CREATE TABLE lowered (k text PRIMARY KEY, n int, history text DEFAULT '');
CREATE FUNCTION lower_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.k = lower(NEW.k);
	IF TG_OP = 'UPDATE' THEN
		NEW.history = OLD.history || NEW.n - OLD.n;
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER lower_key BEFORE INSERT OR UPDATE ON lowered FOR EACH ROW EXECUTE FUNCTION lower_key();
SELECT persist_configure('lowered', on_conflict => 'update', conflict_columns => '{k}', add_columns => '{n}');
SELECT count(persist_enqueue('lowered', jsonb_build_object('k', k, 'n', n))) FROM unnest('{a,A,b,a,B,A}'::text[]) WITH ORDINALITY AS u (k, n);
SELECT persist_flush();
TABLE lowered ORDER BY k;
-- where nothing told so before: each is another key, and each row is told
SELECT count(persist_enqueue('lowered', jsonb_build_object('k', k, 'n', 1))) FROM unnest('{c,C,d,e,f}'::text[]) AS k;
SELECT persist_flush();
SELECT k, n FROM lowered WHERE k > 'b' ORDER BY k;
-- that takes the update away
CREATE FUNCTION refuse_update() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER z_refuse BEFORE UPDATE ON lowered FOR EACH ROW WHEN (NEW.n > 100) EXECUTE FUNCTION refuse_update();
SELECT count(persist_enqueue('lowered', jsonb_build_object('k', 'a', 'n', n))) FROM unnest('{50, 60, 20}'::int[]) AS n;
SELECT persist_flush();
TABLE lowered ORDER BY k;
SELECT * FROM counted WHERE target_name = 'upserts.lowered';
TABLE letters;
-- a constraint that only one by one has its say
CREATE TABLE stock (k int PRIMARY KEY, n int CHECK (n >= 0));
SELECT persist_configure('stock', on_conflict => 'update', conflict_columns => '{k}', add_columns => '{n}');
BEGIN;
SELECT count(persist_enqueue('stock', jsonb_build_object('k', 1, 'n', n))) FROM unnest('{5, 2}'::int[]) AS n;
COMMIT;
SELECT persist_flush();
TABLE stock;
-- keys that nobody knows before the INSERT
CREATE TABLE generated (a int, k int GENERATED ALWAYS AS (a / 10) STORED UNIQUE, n int);
SELECT persist_configure('generated', on_conflict => 'update', conflict_columns => '{k}', add_columns => '{n}');
SELECT count(persist_enqueue('generated', jsonb_build_object('a', a, 'n', 1))) FROM generate_series(1, 25) AS a;
SELECT persist_flush();
TABLE generated ORDER BY k;

-- ---- partitions, views, direct mode, names ----

CREATE TABLE parts (k int, d int, n int, PRIMARY KEY (k, d)) PARTITION BY RANGE (d);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (5);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (5) TO (10);
CREATE VIEW "a View" AS SELECT n AS "N", k AS excluded, d AS t FROM parts WHERE n < 1000;
SELECT persist_configure('parts', on_conflict => 'update', conflict_columns => '{k,d}', add_columns => '{n}');
SELECT persist_configure('"a View"', on_conflict => 'update', conflict_columns => '{t,excluded}', add_columns => '{N}');
SELECT persist_configure('parts_1', on_conflict => 'nothing', conflict_columns => '{d,k}');
SELECT count(persist_enqueue('parts', jsonb_build_object('k', i % 2, 'd', i % 10, 'n', 1))) FROM generate_series(1, 100) AS i;
SELECT count(persist_enqueue('"a View"', jsonb_build_object('excluded', i % 2, 't', i % 10, 'N', 1))) FROM generate_series(1, 100) AS i;
SELECT count(persist_enqueue('parts_1', '{"k": 1, "d": 1, "n": 5}'));
SELECT persist_flush();
TABLE parts ORDER BY k, d;
TABLE letters;
SET persist_pipeline.mode = direct;
SELECT count(persist_enqueue('parts', '{"k": 1, "d": 1, "n": 100}')), count(persist_enqueue('"a View"', '{"excluded": 1, "t": 1, "N": 100}')), count(persist_enqueue('parts_1', '{"k": 1, "d": 1, "n": 5}')) FROM generate_series(1, 2);
SELECT count(persist_enqueue('once', '{"a": 2, "v": "directly"}'));
RESET persist_pipeline.mode;
SELECT * FROM parts WHERE (k, d) = (1, 1);
SELECT * FROM once WHERE a = 2;

-- ---- as one by one, whatever comes ----

CREATE TABLE model (k int PRIMARY KEY, a int DEFAULT 1, b text, n bigint, m numeric DEFAULT 0);
CREATE TABLE queued (LIKE model INCLUDING ALL);
SELECT persist_configure(target, on_conflict => 'update', conflict_columns => '{k}', add_columns => '{n,m}') FROM unnest('{model,queued}'::regclass[]) AS target;
SELECT setseed(0.25);
CREATE TABLE items AS
SELECT i, jsonb_strip_nulls(jsonb_build_object('k', (random() * 20)::int, 'a', CASE WHEN random() < 0.3 THEN i END, 'b', CASE WHEN random() < 0.3 THEN 'b' || i END,
	'n', CASE WHEN random() < 0.6 THEN (random() * 100)::int - 50 END, 'm', CASE WHEN random() < 0.3 THEN random()::numeric(5,3) END)) AS item
FROM generate_series(1, 3000) AS i;
SET persist_pipeline.mode = direct;
SELECT count(persist_enqueue('model', item)) FROM (SELECT item FROM items ORDER BY i) AS i;
RESET persist_pipeline.mode;
SELECT count(persist_enqueue('queued', item)) FROM (SELECT item FROM items ORDER BY i) AS i;
SELECT persist_flush();
SELECT count(*) FROM queued;
SELECT * FROM model EXCEPT TABLE queued;
TABLE letters;

-- items of one key that become one: with sums out of range, NULLs where none may be, both signs
CREATE TABLE model_2 (k int PRIMARY KEY, n int NOT NULL DEFAULT 0, s smallint, m numeric(4,1), big bigint, v text);
CREATE TABLE queued_2 (LIKE model_2 INCLUDING ALL);
SELECT persist_configure(target, on_conflict => 'update', conflict_columns => '{k}', add_columns => '{n,s,m,big}') FROM unnest('{model_2,queued_2}'::regclass[]) AS target;
CREATE TABLE items_2 AS
SELECT i, jsonb_build_object('k', i % 3, 'n', CASE WHEN random() < 0.99 THEN (random() * 4e7)::int - CASE WHEN random() < 0.1 THEN 1e9::int ELSE 0 END END, 's', CASE WHEN random() < 0.9 THEN (random() * 100)::int END,
	'm', CASE WHEN random() < 0.5 THEN (random() * 2)::numeric(4,1) END, 'big', CASE WHEN random() < 0.001 THEN 9e18::bigint ELSE i END, 'v', CASE WHEN random() < 0.5 THEN 'v' || i END) AS item
FROM generate_series(1, 2000) AS i;
SET persist_pipeline.mode = direct;
CREATE FUNCTION one_by_one() RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	item jsonb;
	refused int = 0;
BEGIN
	FOR item IN SELECT i.item FROM upserts.items_2 AS i ORDER BY i LOOP
		BEGIN
			PERFORM public.persist_enqueue('upserts.model_2'::regclass, item);
		EXCEPTION WHEN numeric_value_out_of_range OR not_null_violation THEN
			refused = refused + 1;
		END;
	END LOOP;
	RETURN refused;
END $$;
SELECT one_by_one() AS refused \gset
RESET persist_pipeline.mode;
SELECT count(persist_enqueue('queued_2', item)) FROM (SELECT item FROM items_2 ORDER BY i) AS i;
SELECT persist_flush();
SELECT count(*) = :refused AS as_many_are_dead, count(*) > 10 AS some FROM letters;
TABLE queued_2 EXCEPT TABLE model_2;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) > 0 AS discarded;
-- ten thousand increments of one row are one row version; where an index has the column, they aren't
CREATE TABLE folded (k int PRIMARY KEY, n bigint NOT NULL, at int, note text DEFAULT 'first');
CREATE TABLE unfolded (LIKE folded INCLUDING ALL);
CREATE INDEX ON unfolded (at);
SELECT persist_configure(target, on_conflict => 'update', conflict_columns => '{k}', add_columns => '{n}') FROM unnest('{folded,unfolded}'::regclass[]) AS target;
SELECT count(persist_enqueue('folded', jsonb_build_object('k', 1, 'n', i, 'at', i))) FROM generate_series(1, 10000) AS i;
SELECT count(persist_enqueue('unfolded', jsonb_build_object('k', 1, 'n', i, 'at', i))) FROM generate_series(1, 1000) AS i;
SELECT persist_flush();
TABLE folded;
TABLE unfolded;
SELECT pg_relation_size('folded') <= 8192 AS in_one_page, pg_relation_size('unfolded') > 8192 AS in_many;
SELECT * FROM counted WHERE target_name LIKE '%folded';
-- each version counts where somebody looks
CREATE TABLE seen (LIKE folded);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO upserts.seen SELECT NEW.*; RETURN NULL; END';
CREATE TRIGGER see AFTER INSERT OR UPDATE ON folded FOR EACH ROW EXECUTE FUNCTION see();
SELECT count(persist_enqueue('folded', jsonb_build_object('k', 2, 'n', i, 'at', i))) FROM generate_series(1, 5) AS i;
SELECT persist_flush();
TABLE seen ORDER BY n;
DROP TRIGGER see ON folded;
ALTER TABLE folded ADD CONSTRAINT few CHECK (k < 3 OR n < 10);
SELECT count(persist_enqueue('folded', jsonb_build_object('k', 3, 'n', n))) FROM unnest('{5, 3, 2, 1}'::int[]) AS n;
SELECT persist_flush();
SELECT * FROM folded WHERE k = 3;
SELECT item -> 'n' AS n, sqlstate FROM letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) > 0 AS discarded;

-- ---- rights ----

CREATE ROLE pp_upserts;
GRANT USAGE ON SCHEMA upserts TO pp_upserts;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_upserts;
CREATE TABLE guarded (k int PRIMARY KEY, v text, n int, w text);
SELECT persist_configure('guarded', on_conflict => 'nothing', conflict_columns => '{k}');
GRANT INSERT ON guarded TO pp_upserts;
SET ROLE pp_upserts;
SELECT persist_enqueue('guarded'::regclass, '{"k": 1}');
RESET ROLE;
GRANT SELECT (k) ON guarded TO pp_upserts;
SET ROLE pp_upserts;
SELECT count(persist_enqueue('guarded'::regclass, '{"k": 1}')) FROM generate_series(1, 2);
RESET ROLE;
SELECT persist_configure('guarded', on_conflict => 'update', add_columns => '{n}');
SET ROLE pp_upserts;
SELECT count(persist_enqueue('guarded'::regclass, '{"k": 1}'));
SELECT persist_enqueue('guarded'::regclass, '{"k": 1, "v": "x"}');
RESET ROLE;
GRANT UPDATE (v, n) ON guarded TO pp_upserts;
SET ROLE pp_upserts;
SELECT persist_enqueue('guarded'::regclass, '{"k": 1, "v": "x"}');
RESET ROLE;
GRANT SELECT (v, n) ON guarded TO pp_upserts;
SET ROLE pp_upserts;
SELECT count(persist_enqueue('guarded'::regclass, '{"k": 1, "v": "x"}'));
SELECT persist_enqueue('guarded'::regclass, '{"k": 1, "w": "x"}');
SELECT count(persist_enqueue('guarded'::regclass, '{"k": 1, "n": 1}'));
RESET ROLE;
SELECT persist_flush();
TABLE guarded;
TABLE letters;
-- row security: the row that is there has to be one that he may update
GRANT SELECT ON guarded TO pp_upserts;
SET ROLE pp_upserts;
SELECT persist_enqueue('guarded'::regclass, '{"k": 1, "w": "x"}');
RESET ROLE;
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON guarded TO pp_upserts USING (k > 10);
INSERT INTO guarded VALUES (2, 'there');
SET ROLE pp_upserts;
SELECT count(persist_enqueue('guarded'::regclass, '{"k": 2, "v": "not mine"}'));
SELECT count(persist_enqueue('guarded'::regclass, jsonb_build_object('k', 11, 'v', v))) FROM unnest('{"mine", "still mine"}'::text[]) AS v;
SELECT count(persist_enqueue('guarded'::regclass, '{"k": 12, "n": 1}')) FROM generate_series(1, 3);
RESET ROLE;
SELECT persist_flush();
TABLE guarded ORDER BY k;
SELECT item, sqlstate, message FROM letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) > 0 AS discarded;

-- ---- a key that isn't there any more ----

ALTER TABLE stock DROP CONSTRAINT stock_pkey;
SELECT count(persist_enqueue('stock', '{"k": 1, "n": 1}'));
SELECT persist_flush();
SELECT item, sqlstate, message, detail FROM letters;
ALTER TABLE stock RENAME k TO key;
SELECT persist_enqueue('stock', '{"key": 1, "n": 1}');
ALTER TABLE stock ADD PRIMARY KEY (key);
SELECT persist_configure('stock', conflict_columns => '{key}');
SELECT persist_requeue();
SELECT persist_flush();
TABLE stock;

-- a column that can't be added to any more: nobody takes its values for numbers
CREATE TABLE was_int (k int PRIMARY KEY, n int);
SELECT persist_configure('was_int', on_conflict => 'update', conflict_columns => '{k}', add_columns => '{n}');
ALTER TABLE was_int ALTER n TYPE date USING NULL;
SELECT count(persist_enqueue('was_int'::regclass, jsonb_build_object('k', 1, 'n', d))) FROM unnest('{2020-01-01,2020-01-02}'::date[]) AS d;
SELECT persist_flush();
TABLE was_int;
SELECT item, sqlstate, message FROM letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) > 0 AS discarded;
ALTER TABLE was_int ALTER n TYPE interval USING NULL;
SELECT count(persist_enqueue('was_int'::regclass, jsonb_build_object('k', 1, 'n', i))) FROM unnest('{1 h,2 h}'::interval[]) AS i;
SELECT persist_flush();
TABLE was_int;
SELECT item, sqlstate, message FROM letters;
-- views that have become a circle are as wrong as without on_conflict, and end no process
CREATE VIEW over AS SELECT key, n FROM stock;
CREATE VIEW over_that AS SELECT key, n FROM over;
SELECT persist_configure('over', on_conflict => 'update', conflict_columns => '{key}');
BEGIN;
SELECT count(persist_enqueue('over'::regclass, '{"key": 2, "n": 1}'));
CREATE OR REPLACE VIEW over AS SELECT key, n FROM over_that;
COMMIT;
SELECT persist_flush();
SELECT item, sqlstate, message FROM letters;

SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) > 0 AS discarded;

-- ---- rows of different keys that see each other keep their order, whatever they set ----

-- by a trigger that makes one key of two
CREATE TABLE spelled (k text PRIMARY KEY, v text, n int);
CREATE FUNCTION lowers() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.k := lower(NEW.k); RETURN NEW; END';
CREATE TRIGGER lowers BEFORE INSERT ON spelled FOR EACH ROW EXECUTE FUNCTION lowers();
SELECT persist_configure('spelled', on_conflict => 'update', conflict_columns => '{k}');
BEGIN;
SELECT count(persist_enqueue('spelled', '{"k": "A", "v": "first", "n": 1}'));
SELECT count(persist_enqueue('spelled', '{"k": "a", "v": "second"}'));
COMMIT;
SELECT persist_flush();
TABLE spelled;

-- by another unique index
CREATE TABLE two_keys (k int PRIMARY KEY, u int UNIQUE, n int);
INSERT INTO two_keys VALUES (1, 1, 0);
SELECT persist_configure('two_keys', on_conflict => 'update', conflict_columns => '{k}');
BEGIN;
SELECT count(persist_enqueue('two_keys', '{"k": 2, "u": 1, "n": 1}'));
SELECT count(persist_enqueue('two_keys', '{"k": 1, "u": 2}'));
COMMIT;
SELECT persist_flush();
TABLE two_keys;
SELECT item, sqlstate, message FROM letters;

-- by a trigger that notes them: the second one of a key comes before what is behind it
CREATE TABLE noted (k int PRIMARY KEY, v text, n int);
CREATE TABLE notes (number serial, op text, v text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN INSERT INTO upserts.notes (op, v) VALUES (TG_OP, NEW.v); RETURN NULL; END';
CREATE TRIGGER note AFTER INSERT OR UPDATE ON noted FOR EACH ROW EXECUTE FUNCTION note();
SELECT persist_configure('noted', on_conflict => 'update', conflict_columns => '{k}');
BEGIN;
SELECT count(persist_enqueue('noted', '{"k": 1, "v": "1", "n": 1}'));
SELECT count(persist_enqueue('noted', '{"k": 2, "v": "2"}'));
SELECT count(persist_enqueue('noted', '{"k": 2, "v": "3"}'));
SELECT count(persist_enqueue('noted', '{"k": 3, "v": "4"}'));
SELECT count(persist_enqueue('noted', '{"k": 1, "v": "5"}'));
COMMIT;
SELECT persist_flush();
SELECT op, v FROM notes ORDER BY number;
SELECT * FROM noted ORDER BY k;

SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
SELECT target_name FROM public.persist_stats WHERE enqueued <> persisted + skipped + dead + discarded AND target IN (SELECT oid FROM pg_class WHERE relnamespace = 'upserts'::regnamespace);
DROP OWNED BY pp_upserts;
DROP ROLE pp_upserts;
DROP SERVER nowhere CASCADE;
DROP FOREIGN DATA WRAPPER nowhere;
DROP SCHEMA upserts CASCADE;
