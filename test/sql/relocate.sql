-- ALTER EXTENSION ... SET SCHEMA, under a session and a worker that know the old one.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA relocate;
SET search_path = relocate, public;

SELECT extnamespace::regnamespace AS home FROM pg_extension WHERE extname = 'persist_pipeline' \gset
CREATE SCHEMA "relocate to";
CREATE TABLE t (n int, ser serial);
CREATE VIEW v AS SELECT n FROM t;
CREATE TABLE ids (n serial, id bigint);
INSERT INTO ids (id) SELECT persist_enqueue('t', '{"n": 1}');
SELECT persist_flush();
SET persist_pipeline.mode = direct;
INSERT INTO ids (id) SELECT persist_enqueue('t', '{"n": 2}');
RESET persist_pipeline.mode;
-- one that waits meanwhile, as it may
INSERT INTO ids (id) SELECT persist_enqueue('v', '{"n": 3}');

ALTER EXTENSION persist_pipeline SET SCHEMA "relocate to";
SET search_path = relocate, "relocate to";
INSERT INTO ids (id) SELECT persist_enqueue('t', '{"n": 4}');
SELECT persist_flush();
SET persist_pipeline.mode = direct;
INSERT INTO ids (id) SELECT persist_enqueue('t', '{"n": 5}');
RESET persist_pipeline.mode;
SELECT count(persist_enqueue(ROW(6, 6)::t)), cardinality(persist_enqueue_many('t', '[{"n": 7}]'));
SELECT persist_flush();
SELECT items_pending FROM persist_queue WHERE datname = current_database();
SELECT n FROM t ORDER BY n;
SELECT bool_and(id > prev) AS rising FROM (SELECT id, lag(id) OVER (ORDER BY n) AS prev FROM ids) AS s;

-- a new session
\c -
SET client_min_messages = warning;
SET search_path = relocate, "relocate to";
SELECT count(persist_enqueue('t', '{"n": 8}'));
SELECT persist_flush();

ALTER EXTENSION persist_pipeline SET SCHEMA :home;
SET search_path = relocate, public;
SELECT count(persist_enqueue('t', '{"n": 10}'));
SELECT persist_flush();
SELECT n FROM t WHERE n >= 10;
DROP SCHEMA "relocate to";

DROP SCHEMA relocate CASCADE;
