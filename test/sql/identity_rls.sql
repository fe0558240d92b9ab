-- Row level security applies to the enqueuer, at the flush, like a constraint.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA identity_rls;
SET search_path = identity_rls, public;

CREATE ROLE pp_rls_owner;
CREATE ROLE pp_rls_writer;
CREATE ROLE pp_rls_bypass BYPASSRLS;
GRANT USAGE, CREATE ON SCHEMA identity_rls TO pp_rls_owner;
GRANT USAGE ON SCHEMA identity_rls TO pp_rls_writer, pp_rls_bypass;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_rls_owner, pp_rls_writer, pp_rls_bypass;
SET ROLE pp_rls_owner;
CREATE TABLE t (n int, tenant text DEFAULT current_user);
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON t FOR INSERT WITH CHECK (tenant = current_user AND tenant = session_user);
GRANT INSERT ON t TO pp_rls_writer, pp_rls_bypass;
RESET ROLE;
SELECT COALESCE((SELECT items_failed FROM persist_queue WHERE datname = current_database()), 0) AS failed \gset

SET ROLE pp_rls_writer;
BEGIN;
SELECT count(persist_enqueue('t', '{"n": 1}'::jsonb));
SELECT count(persist_enqueue('t', '{"n": 2, "tenant": "pp_rls_owner"}'::jsonb));
SELECT count(persist_enqueue('t', '{"n": 3, "tenant": null}'::jsonb));
SELECT count(persist_enqueue('t', '{"n": 4, "tenant": "pp_rls_writer"}'::jsonb));
COMMIT;
RESET ROLE;
SELECT persist_flush();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
-- those whom it doesn't bind: the owner, BYPASSRLS, superusers
BEGIN;
SET LOCAL ROLE pp_rls_owner;
SELECT count(persist_enqueue('t', '{"n": 5, "tenant": "other"}'::jsonb));
SET LOCAL ROLE pp_rls_bypass;
SELECT count(persist_enqueue('t', '{"n": 6, "tenant": "other"}'::jsonb));
RESET ROLE;
SELECT count(persist_enqueue('t', '{"n": 7, "tenant": "other"}'));
COMMIT;
SELECT persist_flush();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
-- unless it is forced
ALTER TABLE t FORCE ROW LEVEL SECURITY;
SET ROLE pp_rls_owner;
SELECT count(persist_enqueue('t', '{"n": 8, "tenant": "other"}'::jsonb));
SELECT count(persist_enqueue('t', '{"n": 9}'::jsonb));
RESET ROLE;
SELECT persist_flush();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
-- no policy for the role: nothing
DROP POLICY own ON t;
SET ROLE pp_rls_writer;
SELECT count(persist_enqueue('t', '{"n": 10}'::jsonb));
RESET ROLE;
SELECT persist_flush();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
-- the caller's row_security = off doesn't reach the worker
CREATE POLICY never ON t FOR INSERT WITH CHECK (n > 1000);
SET ROLE pp_rls_writer;
SET row_security = off;
SELECT count(persist_enqueue('t', '{"n": 11}'::jsonb));
SELECT count(persist_enqueue('t', '{"n": 1011}'::jsonb));
RESET row_security;
RESET ROLE;
SELECT persist_flush();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT * FROM t ORDER BY n;

DROP SCHEMA identity_rls CASCADE;
DROP OWNED BY pp_rls_owner, pp_rls_writer, pp_rls_bypass;
DROP ROLE pp_rls_owner, pp_rls_writer, pp_rls_bypass;
