-- transactional => false: handed over at once, and it survives the ROLLBACK.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA xact_immediate;
SET search_path = xact_immediate, public;

CREATE TABLE t (n int, what text);
BEGIN;
SELECT count(persist_enqueue('t'::regclass, '{"n": 1, "what": "survives"}'::jsonb, transactional => false));
SELECT count(persist_enqueue('t', '{"n": 2, "what": "dropped"}'));
SELECT count(persist_enqueue('t'::text, '{"n": 3, "what": "survives"}'::text, false));
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT count(persist_enqueue('t', '{"n": 4, "what": "survives"}'::jsonb, false));
ROLLBACK TO s;
SELECT count(persist_enqueue('t', '{"n": 5, "what": "kept"}'));
COMMIT;
-- explicitly transactional
BEGIN;
SELECT count(persist_enqueue('t', '{"n": 6, "what": "dropped"}'::jsonb, true));
ROLLBACK;
SELECT persist_flush();
SELECT * FROM t ORDER BY n;

-- in the table while the transaction is still open: it may wait for it
BEGIN;
SELECT count(persist_enqueue('t', '{"n": 7, "what": "before the end"}'::jsonb, false));
SELECT persist_flush();
SELECT * FROM t WHERE n = 7;
ROLLBACK;

-- an error of the item is the caller's, and nothing is handed over
\set VERBOSITY sqlstate
SELECT persist_enqueue('t', '{"nope": 1}'::jsonb, false);
SELECT persist_enqueue('t', '{"n": "x"}'::jsonb, false);
\set VERBOSITY default

-- an audit of what fails
CREATE TABLE audit (what text, who text DEFAULT current_user);
CREATE FUNCTION note_and_fail() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM persist_enqueue('audit', '{"what": "tried"}'::jsonb, transactional => false);
	RAISE 'refused';
END $$;
SELECT note_and_fail();
SELECT persist_flush();
SELECT what, who = current_user AS me FROM audit;

DROP SCHEMA xact_immediate CASCADE;
