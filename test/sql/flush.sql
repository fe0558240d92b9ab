-- persist_flush: true when all that came before is in its table.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA flush;
SET search_path = flush, public;

CREATE TABLE t (a int);
CREATE TABLE u (a int);
-- nothing to wait for
SELECT persist_flush();
SELECT persist_flush();
SELECT persist_flush('0');
SELECT persist_flush('-1 s');
SELECT persist_flush(timeout => '1 s', target => 't');
SELECT persist_flush(target => 't');
-- after work
SELECT count(persist_enqueue('t', '{"a": 1}'));
SELECT persist_flush();
TABLE t;
SELECT count(persist_enqueue('t', '{"a": 2}'));
SELECT count(persist_enqueue('u', '{"a": 2}'));
SELECT persist_flush(target => 'u');
TABLE u;
SELECT persist_flush('1 year', 't');
SELECT * FROM t ORDER BY a;
-- what was paused until now is written, however long that takes
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END';
CREATE TRIGGER dawdle BEFORE INSERT ON u FOR EACH ROW EXECUTE FUNCTION dawdle();
SELECT persist_pause('u');
SELECT count(persist_enqueue('u', '{"a": 3}'));
SELECT persist_flush();
SELECT persist_resume('u');
SELECT persist_flush();
SELECT persist_pause();
SELECT count(persist_enqueue('u', '{"a": 4}'));
SELECT persist_flush();
SELECT persist_resume();
SELECT persist_flush();
DROP TRIGGER dawdle ON u;
SELECT * FROM u ORDER BY a;
-- false says why
SET client_min_messages = notice;
SELECT persist_pause();
SELECT count(persist_enqueue('u', '{"a": 5}'));
SELECT persist_flush();
SELECT persist_resume();
SELECT persist_flush();
SELECT persist_pause('u');
SELECT persist_flush();
SELECT count(persist_enqueue('u', '{"a": 6}'));
SELECT persist_flush();
SELECT persist_flush(target => 'u');
SELECT persist_flush(target => 't');
SELECT persist_resume('u');
SELECT persist_flush();
CREATE FUNCTION shut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE object_in_use USING MESSAGE = 'a secret of the owner'; END $$;
CREATE TABLE "Shut" (a int);
CREATE TABLE shut_too (a int);
CREATE TRIGGER shut BEFORE INSERT ON "Shut" FOR EACH ROW EXECUTE FUNCTION shut();
CREATE TRIGGER shut BEFORE INSERT ON shut_too FOR EACH ROW EXECUTE FUNCTION shut();
SELECT count(persist_enqueue('"Shut"', '{"a": 1}')), count(persist_enqueue('shut_too', '{"a": 1}')) FROM generate_series(1, 3);
SELECT persist_flush(target => '"Shut"');
-- what others' relations wait for is not everybody's to know
CREATE ROLE flush_stranger;
GRANT INSERT ON shut_too TO flush_stranger;
SELECT persist_grant('flush_stranger');
GRANT USAGE ON SCHEMA flush TO flush_stranger;
SET ROLE flush_stranger;
SELECT persist_flush();
RESET ROLE;
REVOKE INSERT ON shut_too FROM flush_stranger;
SET ROLE flush_stranger;
SELECT persist_flush();
SELECT persist_flush(target => 'shut_too');
RESET ROLE;
REVOKE USAGE ON SCHEMA flush FROM flush_stranger;
SELECT persist_revoke('flush_stranger');
DROP ROLE flush_stranger;
DROP TRIGGER shut ON "Shut";
DROP TRIGGER shut ON shut_too;
DO $$
BEGIN
	WHILE (SELECT sum(parked) > 0 FROM persist_stats) LOOP
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
SET client_min_messages = warning;
-- while a trigger waits for us: false, and the item comes in the end
CREATE TABLE slow (a int);
CREATE TABLE released ();
CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM flush.released) LOOP
		PERFORM pg_sleep(0.02);
	END LOOP;
	RETURN NEW;
END $$;
CREATE TRIGGER wait BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION wait();
SELECT count(persist_enqueue('slow', '{"a": 1}'));
SELECT persist_flush('0');
SELECT persist_flush('-1 day');
SET client_min_messages = notice;
SELECT persist_flush('200 ms');
SET client_min_messages = warning;
SELECT persist_flush(timeout => '200 ms', target => 'slow');
TABLE slow;
-- cancelled while it waits
SET statement_timeout = '500 ms';
SELECT persist_flush('1 h');
RESET statement_timeout;
INSERT INTO released DEFAULT VALUES;
SELECT persist_flush('5 min');
TABLE slow;

-- it would wait for itself
BEGIN;
INSERT INTO t VALUES (0);
SELECT persist_flush();
ROLLBACK;
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 3}'));
SELECT persist_flush();
ROLLBACK;
\set VERBOSITY sqlstate
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 3}'));
SELECT persist_flush();
ROLLBACK;
BEGIN;
CREATE TABLE v (a int);
SELECT persist_flush();
ROLLBACK;
SELECT persist_flush(), persist_enqueue('t', '{"a": -1}') > 0 FROM generate_series(1, 2);
SELECT persist_flush(NULL);
SELECT persist_flush(NULL, 't');
SELECT persist_flush(target => 'flush');
\set VERBOSITY default
-- it wouldn't
BEGIN;
SELECT count(*) FROM t WHERE a = 0;
SELECT persist_flush();
SAVEPOINT s;
SELECT persist_flush();
COMMIT;
BEGIN;
SAVEPOINT s;
SELECT count(persist_enqueue('t', '{"a": 4}'));
ROLLBACK TO s;
SELECT persist_flush();
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT persist_flush();
COMMIT;
-- in a procedure, between its transactions
CREATE PROCEDURE step() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM persist_enqueue('flush.t', '{"a": 100}');
	COMMIT;
	IF NOT persist_flush() THEN
		RAISE 'not settled';
	END IF;
	IF NOT EXISTS (SELECT FROM flush.t WHERE a = 100) THEN
		RAISE 'not there';
	END IF;
END $$;
CALL step();
-- many, from one that comes after
SELECT count(persist_enqueue('u', jsonb_build_object('a', i))) FROM generate_series(1, 30000) AS i;
SELECT persist_flush('5 min');
SELECT count(*) FROM u;

DROP SCHEMA flush CASCADE;
