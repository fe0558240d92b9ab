-- 42501 at the call: no right to insert into the table, or a column of it, or
-- to use its schema or the functions.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA errors_privileges;
SET search_path = errors_privileges, public;

CREATE ROLE pp_owner;
CREATE ROLE pp_writer;
GRANT USAGE, CREATE ON SCHEMA errors_privileges TO pp_owner;
GRANT USAGE ON SCHEMA errors_privileges TO pp_writer;
CREATE SCHEMA errors_privileges_hidden AUTHORIZATION pp_owner;
SET ROLE pp_owner;
CREATE TABLE t (a int, b text DEFAULT 'b', c text DEFAULT 'c', g int GENERATED ALWAYS AS (a) STORED);
CREATE TABLE errors_privileges_hidden.hidden (a int);
GRANT INSERT ON errors_privileges_hidden.hidden TO pp_writer;
CREATE TABLE based (a int, b text);
CREATE VIEW v AS SELECT * FROM based;
RESET ROLE;

-- not the functions
SET ROLE pp_writer;
SELECT persist_enqueue('t'::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue('t'::text, '{"a": 1}'::text);
SELECT persist_enqueue(ROW(1, 'b', 'c', 1)::t);
SELECT persist_enqueue_many('t', '[]');
SELECT persist_flush();
SELECT * FROM persist_queue;
SELECT * FROM persist_pipeline_internal.persist_queue_rows();
SELECT nextval('persist_pipeline_internal.persist_id_seq');
RESET ROLE;
GRANT EXECUTE ON FUNCTION
	persist_enqueue(regclass, jsonb, boolean), persist_enqueue(text, text, boolean),
	persist_enqueue(record), persist_enqueue_many(regclass, jsonb), persist_flush TO pp_writer;

-- not the table
SET ROLE pp_writer;
SELECT persist_enqueue('t'::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue('t'::text, '{"a": 1}'::text);
SELECT persist_enqueue('t'::regclass, '{}'::jsonb);
SELECT persist_enqueue(ROW(1, 'b', 'c', 1)::t);
SELECT persist_enqueue_many('t', '[{"a": 1}]');
SELECT persist_enqueue('v'::regclass, '{"a": 1}'::jsonb);
-- not the schema: 'hidden' was looked up by someone else
SELECT persist_enqueue('errors_privileges_hidden.hidden'::regclass, '{"a": 1}'::jsonb);
RESET ROLE;
SELECT 'errors_privileges_hidden.hidden'::regclass::oid AS hidden \gset
SET ROLE pp_writer;
SELECT persist_enqueue(:hidden::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue('errors_privileges_hidden.hidden'::text, '{"a": 1}'::text);

-- not the column
RESET ROLE;
GRANT INSERT (a, c) ON t TO pp_writer;
SET ROLE pp_writer;
SELECT persist_enqueue('t'::regclass, '{"a": 1, "b": "x"}'::jsonb);
SELECT persist_enqueue(ROW(1, 'b', 'c', 1)::t);
INSERT INTO t (a, b) VALUES (1, 'x');
-- all that may be given
SELECT count(persist_enqueue('t'::regclass, '{"a": 1, "c": "given"}'::jsonb));
SELECT count(persist_enqueue('t'::regclass, '{}'::jsonb));
SELECT count(persist_enqueue('t'::text, '{"a": 2}'::text));
SELECT persist_flush();
\set VERBOSITY sqlstate
SELECT persist_enqueue('t'::regclass, '{"b": "x"}'::jsonb);
SELECT persist_enqueue('v'::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue(:hidden::regclass, '{"a": 1}'::jsonb);
\set VERBOSITY default

-- the right is looked at by each call
RESET ROLE;
REVOKE INSERT (a, c) ON t FROM pp_writer;
SET ROLE pp_writer;
SELECT persist_enqueue('t'::regclass, '{"a": 3}'::jsonb);
RESET ROLE;
-- through a role that one is a member of, and for everyone
GRANT INSERT ON t TO pp_owner;
GRANT pp_owner TO pp_writer;
SET ROLE pp_writer;
SELECT count(persist_enqueue('t'::regclass, '{"a": 4}'::jsonb));
SELECT persist_flush();
RESET ROLE;
REVOKE pp_owner FROM pp_writer;
GRANT INSERT ON t TO PUBLIC;
SET ROLE pp_writer;
SELECT count(persist_enqueue('t'::regclass, '{"a": 5}'::jsonb));
SELECT persist_flush();
RESET ROLE;
SELECT * FROM t ORDER BY a;

-- the right to a view is enough, as its owner has the one to its table
GRANT INSERT ON v TO pp_writer;
SET ROLE pp_writer;
SELECT count(persist_enqueue('v'::regclass, '{"a": 1, "b": "through the view"}'::jsonb));
SELECT persist_flush();
RESET ROLE;
SELECT * FROM based;

-- a right that is lost before the flush: the item fails, alone.  (The REVOKE is over when the worker
-- looks: other sessions hear of one a moment after the commit callbacks that hand items over.)
SELECT items_failed AS failed FROM persist_queue WHERE datname = current_database() \gset
SELECT persist_pause();
BEGIN;
SET LOCAL ROLE pp_writer;
SELECT count(persist_enqueue('v'::regclass, '{"a": 2, "b": "no longer"}'::jsonb));
RESET ROLE;
SELECT count(persist_enqueue('based', '{"a": 3, "b": "superuser"}'));
REVOKE INSERT ON v FROM pp_writer;
COMMIT;
SELECT persist_resume();
SELECT persist_flush();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT * FROM based ORDER BY a;

-- the right to the schema, which only one of two roles loses: one has no use of the other's plan
CREATE SCHEMA errors_privileges_closed;
CREATE TABLE errors_privileges_closed.t (a int);
GRANT USAGE ON SCHEMA errors_privileges_closed TO pp_writer, pp_owner;
GRANT INSERT ON errors_privileges_closed.t TO pp_writer, pp_owner;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_owner;
SELECT persist_pause();
BEGIN;
SET LOCAL ROLE pp_owner;
SELECT count(persist_enqueue('errors_privileges_closed.t'::regclass, '{"a": 1}'::jsonb));
SET LOCAL ROLE pp_writer;
SELECT count(persist_enqueue('errors_privileges_closed.t'::regclass, '{"a": 2}'::jsonb));
RESET ROLE;
REVOKE USAGE ON SCHEMA errors_privileges_closed FROM pp_writer;
COMMIT;
SELECT persist_resume();
SELECT persist_flush();
SELECT * FROM errors_privileges_closed.t ORDER BY a;
SELECT item, sqlstate, message FROM persist_dead_letters WHERE target = 'errors_privileges_closed.t'::regclass;
DROP SCHEMA errors_privileges_closed CASCADE;

DROP OWNED BY pp_writer, pp_owner;
DROP ROLE pp_writer, pp_owner;

DROP SCHEMA errors_privileges CASCADE;
