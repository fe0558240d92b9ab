-- PREPARE TRANSACTION with items is an error; without, it works.
-- (expected/xact_prepare_1.out is for max_prepared_transactions = 0.)

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA xact_prepare;
SET search_path = xact_prepare, public;

SELECT current_setting('max_prepared_transactions')::int = 0 AS skip_test \gset
\if :skip_test
DROP SCHEMA xact_prepare CASCADE;
\quit
\endif
CREATE TABLE t (a int);
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 1}'));
PREPARE TRANSACTION 'pp_items';
\set VERBOSITY sqlstate
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 2}'));
PREPARE TRANSACTION 'pp_items';
\set VERBOSITY default
SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'pp_items';

-- none left: rolled back to a savepoint, or handed over at once
BEGIN;
SAVEPOINT s;
SELECT count(persist_enqueue('t', '{"a": 3}'));
ROLLBACK TO s;
INSERT INTO t VALUES (4);
SELECT count(persist_enqueue('t'::regclass, '{"a": 5}'::jsonb, transactional => false));
PREPARE TRANSACTION 'pp_none';
SELECT count(persist_enqueue('t', '{"a": 6}'));
COMMIT PREPARED 'pp_none';
SELECT persist_flush();
SELECT * FROM t ORDER BY a;

DROP SCHEMA xact_prepare CASCADE;
