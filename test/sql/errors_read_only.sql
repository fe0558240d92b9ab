-- A read-only transaction can't enqueue, but can wait.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA errors_read_only;
SET search_path = errors_read_only, public;

CREATE TABLE t (a int);
BEGIN READ ONLY;
SELECT persist_enqueue('t', '{"a": 1}');
ROLLBACK;
BEGIN READ ONLY;
SELECT persist_flush();
COMMIT;

\set VERBOSITY sqlstate
BEGIN READ ONLY;
SELECT persist_enqueue('t'::regclass, '{"a": 1}'::jsonb);
ROLLBACK;
BEGIN READ ONLY;
SELECT persist_enqueue('t'::regclass, '{"a": 1}'::jsonb, false);
ROLLBACK;
BEGIN READ ONLY;
SELECT persist_enqueue('t'::text, '{"a": 1}'::text);
ROLLBACK;
BEGIN READ ONLY;
SELECT persist_enqueue(ROW(1)::t);
ROLLBACK;
BEGIN READ ONLY;
SELECT persist_enqueue_many('t', '[{"a": 1}]');
ROLLBACK;
BEGIN READ ONLY;
SELECT persist_enqueue_many('t', '[]');
ROLLBACK;
SET default_transaction_read_only = on;
SELECT persist_enqueue('t', '{"a": 1}');
RESET default_transaction_read_only;
SET persist_pipeline.mode = 'direct';
BEGIN READ ONLY;
SELECT persist_enqueue('t', '{"a": 1}');
ROLLBACK;
RESET persist_pipeline.mode;
\set VERBOSITY default

-- made read-only after the call: it holds its items already
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 2}'));
SET TRANSACTION READ ONLY;
SELECT persist_enqueue('t', '{"a": 3}');
COMMIT;
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 4}'));
SET TRANSACTION READ ONLY;
COMMIT;
SELECT persist_flush();
TABLE t;

DROP SCHEMA errors_read_only CASCADE;
