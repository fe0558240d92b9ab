-- A role that may insert some columns only: the others get their defaults from
-- the INSERT itself, at the flush.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA target_columns;
SET search_path = target_columns, public;

CREATE ROLE pp_columns;
GRANT USAGE ON SCHEMA target_columns TO pp_columns;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean), persist_enqueue(record) TO pp_columns;
CREATE SEQUENCE seq;
GRANT USAGE ON SEQUENCE seq TO pp_columns;
CREATE TABLE t (
	a int DEFAULT 1, b int DEFAULT nextval('seq'), who text DEFAULT current_user,
	id int GENERATED ALWAYS AS IDENTITY, pid int DEFAULT pg_backend_pid());
GRANT INSERT (a) ON t TO pp_columns;
CREATE VIEW v AS SELECT a, who FROM t;
GRANT INSERT (a) ON v TO pp_columns;

SET ROLE pp_columns;
SELECT count(persist_enqueue('t', '{"a": 10}'::jsonb));
SELECT count(persist_enqueue('t', '{}'::jsonb));
SELECT count(persist_enqueue('v', '{"a": 11}'::jsonb));
SELECT count(persist_enqueue('v', '{}'::jsonb));
\set VERBOSITY sqlstate
SELECT persist_enqueue('t', '{"a": 1, "b": 2}'::jsonb);
SELECT persist_enqueue('t', '{"who": "postgres"}'::jsonb);
SELECT persist_enqueue('v', '{"a": 1, "who": "postgres"}'::jsonb);
SELECT persist_enqueue(ROW(1, 2, 'postgres', 4, 5)::t);
\set VERBOSITY default
RESET ROLE;
SELECT persist_flush();
SELECT a, b IS NOT NULL AS b_filled, who, id IS NOT NULL AS id_filled, pid <> pg_backend_pid() AS at_flush FROM t ORDER BY a, b;

-- as for INSERT itself
SET ROLE pp_columns;
INSERT INTO t (a) VALUES (20);
RESET ROLE;
SELECT a, b IS NOT NULL AS b_filled, who, id IS NOT NULL AS id_filled FROM t WHERE a = 20;

-- rows of several roles and shapes, in one transaction
TRUNCATE t;
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 30, "who": "given"}'));
SET LOCAL ROLE pp_columns;
SELECT count(persist_enqueue('t', '{"a": 31}'::jsonb));
RESET ROLE;
GRANT INSERT (a, who) ON t TO pp_columns;
SET LOCAL ROLE pp_columns;
SELECT count(persist_enqueue('t', '{"a": 32, "who": "may now"}'::jsonb));
SELECT count(persist_enqueue('t', '{"a": 33}'::jsonb));
COMMIT;
SELECT persist_flush();
SELECT a, who FROM t ORDER BY a;
DROP OWNED BY pp_columns;
DROP ROLE pp_columns;

DROP SCHEMA target_columns CASCADE;
