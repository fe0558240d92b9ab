-- persist_pipeline.mode = direct: the call is a plain INSERT, with the same
-- conversion and the same errors.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA mode_direct;
SET search_path = mode_direct, public;

CREATE TYPE pair AS (x int, y text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE t (
	id serial, a int, v varchar(3), p pair, arr numeric(4,1)[], pos positive, j jsonb, who text DEFAULT current_user,
	g int GENERATED ALWAYS AS (a * 2) STORED, ident int GENERATED ALWAYS AS IDENTITY, uniq int UNIQUE);
CREATE TABLE async (LIKE t INCLUDING ALL);
SET persist_pipeline.mode = direct;

-- at once, in the transaction
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 1, "v": "abc", "p": {"x": 1}, "arr": [1.25, null], "pos": 5, "j": {"k": null}}'));
SELECT id, a, v, p, arr, pos, j, who = current_user AS me, g, ident FROM t;
ROLLBACK;
SELECT count(*) FROM t;
SELECT count(persist_enqueue('t', '{"a": 2}'));
SELECT count(persist_enqueue('t'::text, '{"a": 3}'::text));
SELECT count(persist_enqueue(ROW(100, 4, 'rec', ROW(1, 'y'), NULL, 7, NULL, 'given', 0, 500, NULL)::t));
SELECT cardinality(persist_enqueue_many('t', '[{"a": 5}, {"a": 6}, {}]'));
-- there is nothing to hand over: it goes with the transaction
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 7}'::jsonb, transactional => false));
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT count(persist_enqueue('t', '{"a": 8}'));
ROLLBACK TO s;
SELECT count(persist_enqueue('t', '{"a": 9}'));
COMMIT;
SELECT a, v, p, pos, who = current_user AS me, g FROM t ORDER BY a;
SELECT count(*) FROM persist_queue WHERE datname = current_database() AND items_pending > 0;

-- the same errors of the item
\set VERBOSITY sqlstate
SELECT persist_enqueue('t', '{"nope": 1}');
SELECT persist_enqueue('t', '[]');
SELECT persist_enqueue('t', '{"a": "x"}');
SELECT persist_enqueue('t', '{"v": "four"}');
SELECT persist_enqueue('t', '{"pos": -1}');
SELECT persist_enqueue('t', '{"g": 1}');
SELECT persist_enqueue('t', '{"ident": 1}');
SELECT persist_enqueue('t', NULL::text);
SELECT persist_enqueue('pg_class', '{"relname": "x"}');
SELECT persist_enqueue('no_such_table', '{}');
BEGIN READ ONLY;
SELECT persist_enqueue('t', '{}');
ROLLBACK;
-- and those that async leaves to the flush, at once
CREATE TEMP TABLE temp (a int);
SELECT persist_enqueue('temp', '{"a": 1}');
SELECT count(persist_enqueue('t', '{"uniq": 1}'));
SELECT persist_enqueue('t', '{"uniq": 1}');
\set VERBOSITY terse
SELECT persist_enqueue('t', '{"uniq": 1}');
\set VERBOSITY default
SELECT persist_enqueue('t', '{"v": "four"}');

-- no limit of size
SELECT count(persist_enqueue('t', jsonb_build_object('a', 10, 'j', repeat('x', pg_size_bytes(current_setting('persist_pipeline.ring_size'))::int))));
SELECT length(j #>> '{}') = pg_size_bytes(current_setting('persist_pipeline.ring_size')) AS same FROM t WHERE a = 10;

-- as the caller, in a SECURITY DEFINER function its owner
CREATE ROLE pp_direct;
CREATE ROLE pp_direct_owner;
GRANT USAGE ON SCHEMA mode_direct TO pp_direct, pp_direct_owner;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_direct, pp_direct_owner;
CREATE TABLE who (n int, at_call name DEFAULT current_user, wrote name);
CREATE FUNCTION sign() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.wrote := current_user;
	RETURN NEW;
END $$;
CREATE TRIGGER sign BEFORE INSERT ON who FOR EACH ROW EXECUTE FUNCTION sign();
GRANT INSERT (n) ON who TO pp_direct;
GRANT INSERT ON who TO pp_direct_owner;
CREATE FUNCTION log_it(n int) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = mode_direct, public
AS $$SELECT persist_enqueue('who'::regclass, jsonb_build_object('n', n)) > 0$$;
ALTER FUNCTION log_it OWNER TO pp_direct_owner;
SET ROLE pp_direct;
SELECT count(persist_enqueue('who', '{"n": 1}'::jsonb));
SELECT log_it(2);
\set VERBOSITY sqlstate
SELECT persist_enqueue('who', '{"n": 3, "wrote": "x"}'::jsonb);
SELECT persist_enqueue('t', '{}'::jsonb);
\set VERBOSITY default
RESET ROLE;
SELECT * FROM who ORDER BY n;

-- views, partitions, rules, and a trigger that enqueues into its own table
CREATE VIEW v AS SELECT a, v FROM t;
CREATE TABLE parted (a int) PARTITION BY LIST (a);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE RULE r AS ON INSERT TO parted DO ALSO INSERT INTO who (n) VALUES (NEW.a + 100);
CREATE TABLE chain (n int);
CREATE FUNCTION next_link() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.n > 0 THEN
		PERFORM persist_enqueue('mode_direct.chain', jsonb_build_object('n', NEW.n - 1));
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER a BEFORE INSERT ON chain FOR EACH ROW EXECUTE FUNCTION next_link();
SELECT count(persist_enqueue('v', '{"a": 20}'));
SELECT count(persist_enqueue('parted', '{"a": 1}'));
SELECT count(persist_enqueue('chain', '{"n": 20}'));
SELECT a FROM t WHERE a = 20;
SELECT tableoid::regclass, a FROM parted;
SELECT n FROM who WHERE n > 100;
SELECT count(*), min(n), max(n) FROM chain;

-- with rules or triggers that keep the row away: no row, no error
CREATE TABLE nowhere (a int);
CREATE RULE nothing AS ON INSERT TO nowhere DO INSTEAD NOTHING;
SELECT count(persist_enqueue('nowhere', '{"a": 1}'));
TABLE nowhere;

-- ids go on rising from mode to mode
CREATE TABLE ids (n serial, id bigint);
INSERT INTO ids (id) VALUES (persist_enqueue('async', '{"a": 1}'));
SET persist_pipeline.mode = async;
INSERT INTO ids (id) VALUES (persist_enqueue('async', '{"a": 2}'));
SET persist_pipeline.mode = direct;
INSERT INTO ids (id) VALUES (persist_enqueue('async', '{"a": 3}'));
SET persist_pipeline.mode = async;
INSERT INTO ids (id) VALUES (persist_enqueue('async', '{"a": 4}'));
SELECT persist_flush();
SELECT bool_and(id > prev) AS rising FROM (SELECT id, lag(id) OVER (ORDER BY n) AS prev FROM ids) AS s;
SELECT a FROM async ORDER BY a;

-- a setting of the transaction; both ways in one
BEGIN;
SELECT count(persist_enqueue('async', '{"a": 10}'));
SET LOCAL persist_pipeline.mode = direct;
SELECT count(persist_enqueue('async', '{"a": 11}'));
SELECT a FROM async WHERE a >= 10;
COMMIT;
SHOW persist_pipeline.mode;
SELECT persist_flush();
SELECT a FROM async WHERE a >= 10 ORDER BY a;

-- both do the same with the same items
TRUNCATE t, async RESTART IDENTITY;
CREATE TABLE items (n serial, item jsonb);
INSERT INTO items (item) VALUES ('{"a": 1}'), ('{"a": 2, "v": "x"}'), ('{"p": {"x": "7", "y": null}}'), ('{"arr": "{1.25,2}"}'), ('{"arr": []}'), ('{"pos": null, "j": [1, {"a": null}]}'), ('{"who": null}'), ('{}');
SELECT count(persist_enqueue('async', item)) FROM (SELECT item FROM items ORDER BY n) AS s;
SELECT persist_flush();
SET persist_pipeline.mode = direct;
SELECT count(persist_enqueue('t', item)) FROM (SELECT item FROM items ORDER BY n) AS s;
RESET persist_pipeline.mode;
SELECT count(*) AS differ FROM ((SELECT a, v, p::text, arr, pos, j, who, g, ident FROM t EXCEPT ALL SELECT a, v, p::text, arr, pos, j, who, g, ident FROM async)
	UNION ALL (SELECT a, v, p::text, arr, pos, j, who, g, ident FROM async EXCEPT ALL SELECT a, v, p::text, arr, pos, j, who, g, ident FROM t)) AS d;

DROP OWNED BY pp_direct, pp_direct_owner;
DROP ROLE pp_direct, pp_direct_owner;

DROP SCHEMA mode_direct CASCADE;
