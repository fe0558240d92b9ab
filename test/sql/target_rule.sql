-- Rules on tables: DO ALSO, which reads the batch a second time, and DO INSTEAD.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA target_rule;
SET search_path = target_rule, public;

CREATE TABLE t (a int, b text DEFAULT 'b', c varchar(10));
CREATE TABLE also (a int, b text, c text);
CREATE RULE also AS ON INSERT TO t DO ALSO INSERT INTO also VALUES (NEW.a, NEW.b, NEW.c);
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('a', i, 'c', 'c' || i))) FROM generate_series(1, 1000) AS i;
COMMIT;
SELECT count(persist_enqueue('t', '{"b": null}'));
SELECT persist_flush();
SELECT count(*), min(a), max(a), min(b), max(b), min(c), max(c) FROM t;
SELECT count(*) FROM (SELECT a, b, c FROM t EXCEPT ALL SELECT * FROM also) AS d;
SELECT count(*) FROM also;

-- two more, one with a condition
CREATE TABLE more (a int, tag text);
CREATE RULE more_1 AS ON INSERT TO t WHERE NEW.a % 2 = 0 DO ALSO INSERT INTO more VALUES (NEW.a, 'even');
CREATE RULE more_2 AS ON INSERT TO t DO ALSO INSERT INTO more VALUES (NEW.a, 'all');
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('a', i))) FROM generate_series(2001, 2004) AS i;
COMMIT;
SELECT persist_flush();
SELECT a FROM t WHERE a > 2000 ORDER BY a;
SELECT * FROM more ORDER BY a, tag;

-- elsewhere instead, for some rows
CREATE TABLE elsewhere (a int);
CREATE RULE partly AS ON INSERT TO t WHERE NEW.a > 3000 DO INSTEAD INSERT INTO elsewhere VALUES (NEW.a);
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('a', i))) FROM unnest(ARRAY[2999, 3001]) AS i;
COMMIT;
SELECT persist_flush();
SELECT a FROM t WHERE a BETWEEN 2900 AND 3100;
TABLE elsewhere;

-- nowhere: as with INSERT, no row and no error, and nothing is held up
CREATE TABLE nowhere (a int);
CREATE RULE nothing AS ON INSERT TO nowhere DO INSTEAD NOTHING;
INSERT INTO nowhere VALUES (1);
SELECT items_failed AS failed FROM persist_queue WHERE datname = current_database() \gset
SELECT count(persist_enqueue('nowhere', '{"a": 1}'));
SELECT count(persist_enqueue('also', '{"a": -1}'));
SELECT persist_flush('10 s');
TABLE nowhere;
SELECT a FROM also WHERE a = -1;
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
-- the rule goes
DROP RULE nothing ON nowhere;
SELECT count(persist_enqueue('nowhere', '{"a": 2}'));
SELECT persist_flush('10 s');
TABLE nowhere;

DROP SCHEMA target_rule CASCADE;
