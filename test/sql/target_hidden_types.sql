-- Columns whose types live in a schema that the enqueuer has no USAGE on: an
-- INSERT needs none.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA target_hidden_types;
SET search_path = target_hidden_types, public;

CREATE ROLE pp_hidden;
GRANT USAGE ON SCHEMA target_hidden_types TO pp_hidden;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_hidden;
CREATE SCHEMA target_hidden_types_2;
CREATE TYPE target_hidden_types_2.pair AS (x int, y text);
CREATE TYPE target_hidden_types_2.mood AS ENUM ('sad', 'ok');
CREATE DOMAIN target_hidden_types_2.positive AS int CHECK (VALUE > 0);
CREATE DOMAIN target_hidden_types_2.good AS target_hidden_types_2.mood CHECK (VALUE = 'ok');
CREATE TABLE t (
	a int, p target_hidden_types_2.pair, m target_hidden_types_2.mood, ms target_hidden_types_2.mood[],
	n target_hidden_types_2.positive, g target_hidden_types_2.good);
GRANT INSERT ON t TO pp_hidden;
SELECT COALESCE((SELECT items_failed FROM persist_queue WHERE datname = current_database()), 0) AS failed \gset
SET ROLE pp_hidden;
INSERT INTO t VALUES (1, '(1,x)', 'sad', '{ok,sad}', 1, 'ok');
SELECT count(persist_enqueue('t', '{"a": 2, "p": {"x": 1, "y": "x"}, "m": "sad", "ms": ["ok", "sad"], "n": 1, "g": "ok"}'::jsonb));
SELECT count(persist_enqueue('t', '{"a": 3}'::jsonb));
RESET ROLE;
SELECT persist_flush();
SELECT * FROM t ORDER BY a;
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
DROP SCHEMA target_hidden_types_2 CASCADE;
DROP OWNED BY pp_hidden;
DROP ROLE pp_hidden;

DROP SCHEMA target_hidden_types CASCADE;
