-- The extension has a schema of its own, so that ALTER EXTENSION ... SET SCHEMA is refused;
-- and goes on, under a session and a worker that know it.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA relocate;
CREATE SCHEMA "relocate to";
SET search_path = relocate, public;

CREATE TABLE t (n int, ser serial);
SELECT count(persist_enqueue('t', '{"n": 1}'));
SELECT persist_flush();
-- one that waits meanwhile, as it may
SELECT count(persist_enqueue('t', '{"n": 2}'));

ALTER EXTENSION persist_pipeline SET SCHEMA "relocate to";
DROP SCHEMA persist_pipeline_internal CASCADE;

SELECT count(persist_enqueue('t', '{"n": 3}'));
SET persist_pipeline.mode = direct;
SELECT count(persist_enqueue('t', '{"n": 4}'));
RESET persist_pipeline.mode;
SELECT persist_flush();
SELECT n FROM t ORDER BY n;

-- what is known by its name can have another one for a while
ALTER SCHEMA persist_pipeline_internal RENAME TO elsewhere;
SELECT count(persist_enqueue('t', '{"n": 5}'));
ALTER SCHEMA elsewhere RENAME TO persist_pipeline_internal;
SELECT persist_flush();
SELECT n FROM t WHERE n > 4 ORDER BY n;

DROP SCHEMA "relocate to";
DROP SCHEMA relocate CASCADE;
