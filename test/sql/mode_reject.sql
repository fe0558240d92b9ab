-- persist_pipeline.mode = reject, and who may set the mode.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA mode_reject;
SET search_path = mode_reject, public;

CREATE TABLE t (a int);
SELECT count(persist_enqueue('t', '{"a": 1}'));
SET persist_pipeline.mode = reject;
SELECT persist_enqueue('t', '{"a": 2}');
\set VERBOSITY sqlstate
SELECT persist_enqueue('t', '{"a": 2}');
SELECT persist_enqueue('t'::regclass, '{"a": 2}'::jsonb, false);
SELECT persist_enqueue(ROW(2)::t);
SELECT persist_enqueue_many('t', '[{"a": 2}]');
SELECT persist_enqueue_many('t', '[]');
\set VERBOSITY default
-- what came before is written
SELECT persist_flush();
TABLE t;
-- an item that the transaction holds already is not turned away
RESET persist_pipeline.mode;
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 3}'));
SET LOCAL persist_pipeline.mode = reject;
COMMIT;
SELECT persist_flush();
SELECT * FROM t ORDER BY a;

-- superusers only, or for a role or a database
SHOW persist_pipeline.mode;
SET persist_pipeline.mode = 'sync';
SET persist_pipeline.mod = 'async';
CREATE ROLE pp_mode;
GRANT USAGE ON SCHEMA mode_reject TO pp_mode;
GRANT INSERT ON t TO pp_mode;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_mode;
SET ROLE pp_mode;
SET persist_pipeline.mode = 'direct';
SET persist_pipeline.flush_interval = 0;
SET persist_pipeline.ring_size = 0;
SELECT set_config('persist_pipeline.mode', 'direct', true);
RESET ROLE;
GRANT SET ON PARAMETER persist_pipeline.mode TO pp_mode;
SET ROLE pp_mode;
SET persist_pipeline.mode = 'direct';
SELECT count(persist_enqueue('t', '{"a": 4}'::jsonb));
RESET persist_pipeline.mode;
RESET ROLE;
SELECT * FROM t ORDER BY a;
REVOKE SET ON PARAMETER persist_pipeline.mode FROM pp_mode;
CREATE FUNCTION in_direct(item jsonb) RETURNS boolean LANGUAGE sql SET persist_pipeline.mode = 'direct' AS $$SELECT persist_enqueue('mode_reject.t'::regclass, item) > 0$$;
SELECT in_direct('{"a": 5}');
SELECT a FROM t WHERE a = 5;
SHOW persist_pipeline.mode;
DROP OWNED BY pp_mode;
DROP ROLE pp_mode;

DROP SCHEMA mode_reject CASCADE;
