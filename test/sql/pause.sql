-- persist_pause and persist_resume: items wait meanwhile, and arrive afterwards, in
-- order; who may say so.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA pause;
SET search_path = pause, public;

CREATE TABLE t (a int, ins bigint);
CREATE UNLOGGED TABLE u (a int);
CREATE SEQUENCE ins;
CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.ins := nextval('pause.ins');
	RETURN NEW;
END $$;
CREATE TRIGGER number BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION number();
CREATE PROCEDURE wait_for(state text) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..6000 LOOP
		IF (SELECT worker_state FROM public.persist_queue WHERE datname = current_database()) = state THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RAISE '"%" never seen, but "%"', state, (SELECT worker_state FROM public.persist_queue WHERE datname = current_database());
END $$;
CREATE VIEW q AS SELECT worker_pid IS NOT NULL AS worker, worker_state, items_pending, items_copied FROM persist_queue WHERE datname = current_database();

SELECT count(persist_enqueue('t', '{"a": 0}'));
SELECT persist_flush();
CALL wait_for('idle');

-- a worker that is idle sees it, and leaves; not only while the timer of its last
-- batch, of 50 ms, may wake it a second time
SELECT pg_sleep(0.2);
SELECT persist_pause();
CALL wait_for('paused');
TABLE q;
-- and items wait, those of an UNLOGGED table, too
SELECT count(persist_enqueue('t', jsonb_build_object('a', i))) FROM generate_series(1, 10) AS i;
SELECT count(persist_enqueue('u', jsonb_build_object('a', i))) FROM generate_series(1, 5) AS i;
SELECT count(persist_enqueue('t', '{"a": 11}'));
-- persist_flush returns at once; an error if it waits, since its own time is longer
SET statement_timeout = '60 s';
SELECT persist_flush('10 min');
SELECT persist_flush('10 min', 't');
RESET statement_timeout;
CALL wait_for('paused');
TABLE q;
SELECT count(*) FROM t WHERE a > 0;
SELECT count(*) FROM u;
-- what is rolled back doesn't wait
BEGIN;
SELECT count(persist_enqueue('t', '{"a": -1}'));
ROLLBACK;
TABLE q;
SELECT persist_discard();
-- a second time is the same
SELECT persist_pause();
SELECT persist_flush('10 min');
CALL wait_for('paused');
TABLE q;
-- what is rolled back is not resumed
BEGIN;
SELECT persist_resume();
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT persist_resume();
ROLLBACK TO s;
COMMIT;
SELECT persist_flush('10 min');
CALL wait_for('paused');
TABLE q;
SELECT persist_resume();
SELECT persist_flush();
SELECT array_agg(a ORDER BY ins) FROM t;
SELECT array_agg(a ORDER BY a) FROM u;
SELECT worker, items_pending, items_copied FROM q;
SELECT persist_resume();
SELECT count(persist_enqueue('t', '{"a": 12}'));
SELECT persist_flush();

-- rolled back: nothing has changed
BEGIN;
SELECT persist_pause();
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT persist_pause();
ROLLBACK TO s;
COMMIT;
SELECT count(persist_enqueue('t', '{"a": 13}'));
SELECT persist_flush();
SELECT max(a) FROM t;
-- the last word counts
BEGIN;
SELECT persist_pause();
SELECT persist_resume();
COMMIT;
SELECT count(persist_enqueue('t', '{"a": 14}'));
SELECT persist_flush();
SELECT max(a) FROM t;
BEGIN;
SELECT persist_resume();
SELECT persist_pause();
COMMIT;
SELECT count(persist_enqueue('t', '{"a": 15}'));
SELECT persist_flush('10 min');
SELECT max(a) FROM t;
-- with items of its own
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 16}'));
SELECT persist_resume();
SELECT count(persist_enqueue('t', '{"a": 17}'));
COMMIT;
SELECT persist_flush();
SELECT max(a) FROM t;
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 18}'));
SELECT persist_pause();
SELECT count(persist_enqueue('t', '{"a": 19}'));
COMMIT;
SELECT persist_flush('10 min');
CALL wait_for('paused');
TABLE q;
SELECT max(a) FROM t;
SELECT persist_resume();
SELECT persist_flush();
SELECT max(a), count(*) FROM t;

-- from the commit on: each of these comes after it
CREATE TABLE early (a int);
DO $$
BEGIN
	FOR i IN 1..50 LOOP
		PERFORM persist_pause();
		COMMIT;
		PERFORM persist_enqueue('pause.t', jsonb_build_object('a', 100 + i));
		COMMIT;
		PERFORM persist_flush('10 min');
		INSERT INTO pause.early SELECT a FROM pause.t WHERE a = 100 + i;
		PERFORM persist_resume();
		COMMIT;
		IF NOT persist_flush() THEN
			RAISE 'not settled';
		END IF;
		COMMIT;
	END LOOP;
END $$;
SELECT count(*) FROM early;
SELECT count(*), count(DISTINCT a) FROM t WHERE a > 100;

-- a worker that gathers a batch doesn't wait for its end
CREATE TABLE probe (seen text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.seen := current_setting('persist_pipeline.flush_interval');
	RETURN NEW;
END $$;
CREATE TRIGGER see BEFORE INSERT ON probe FOR EACH ROW EXECUTE FUNCTION see();
-- returns when the worker has read the setting
CREATE PROCEDURE wait_for_interval(wanted text) LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		PERFORM persist_enqueue('pause.probe', '{}');
		COMMIT;
		IF NOT persist_flush() THEN
			RAISE 'the worker does not answer';
		END IF;
		EXIT WHEN (SELECT seen FROM pause.probe ORDER BY ctid DESC LIMIT 1) = wanted;
		TRUNCATE pause.probe;
		COMMIT;
	END LOOP;
END $$;
ALTER SYSTEM SET persist_pipeline.adaptive_flush = off;
ALTER SYSTEM SET persist_pipeline.flush_interval = '1 h';
DO $$BEGIN PERFORM pg_reload_conf(); END $$;
CALL wait_for_interval('1h');
SELECT count(persist_enqueue('u', '{"a": 0}'));
CALL wait_for('gathering');
SELECT persist_pause();
CALL wait_for('paused');
TABLE q;
ALTER SYSTEM RESET persist_pipeline.adaptive_flush;
ALTER SYSTEM RESET persist_pipeline.flush_interval;
DO $$BEGIN PERFORM pg_reload_conf(); END $$;
SELECT persist_resume();
CALL wait_for_interval('100ms');
SELECT items_pending FROM q;
SELECT count(*) FROM u WHERE a = 0;

-- not in a prepared transaction, whether the server has room for one or not
BEGIN;
SELECT persist_pause();
PREPARE TRANSACTION 'pp_pause';
BEGIN;
SELECT persist_resume();
PREPARE TRANSACTION 'pp_pause';
\set VERBOSITY sqlstate
BEGIN;
SELECT persist_pause();
PREPARE TRANSACTION 'pp_pause';
\set VERBOSITY default
SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'pp_pause';

-- not in a read-only transaction
BEGIN READ ONLY;
SELECT persist_pause();
ROLLBACK;
BEGIN READ ONLY;
SELECT persist_resume();
ROLLBACK;
BEGIN READ ONLY;
SELECT persist_discard();
ROLLBACK;
\set VERBOSITY sqlstate
BEGIN READ ONLY;
SELECT persist_pause();
ROLLBACK;
BEGIN READ ONLY;
SELECT persist_resume();
ROLLBACK;
BEGIN READ ONLY;
SELECT persist_discard();
ROLLBACK;
\set VERBOSITY default

-- who may: the owner of the database, a member of it, and a superuser
SELECT current_database() AS database, pg_get_userbyid(datdba) AS old_owner FROM pg_database WHERE datname = current_database() \gset
CREATE ROLE pp_database_owner;
CREATE ROLE pp_member IN ROLE pp_database_owner;
CREATE ROLE pp_other;
GRANT ALL ON persist_pipeline_internal.persist_state, persist_pipeline_internal.persist_copied TO pp_other;
ALTER DATABASE :"database" OWNER TO pp_database_owner;
\set VERBOSITY sqlstate
SET ROLE pp_other;
SELECT persist_pause();
SELECT persist_resume();
SELECT persist_discard();
\set VERBOSITY default
RESET ROLE;
REVOKE ALL ON persist_pipeline_internal.persist_state, persist_pipeline_internal.persist_copied FROM pp_other;
SET ROLE pp_database_owner;
SELECT persist_pause();
SET ROLE pp_member;
SELECT persist_resume();
SELECT persist_pause();
SELECT persist_discard();
RESET ROLE;
SELECT count(persist_enqueue('t', '{"a": 200}'));
SELECT persist_flush('10 min');
SELECT count(*) FROM t WHERE a = 200;
SELECT persist_resume();
SELECT persist_flush();
SELECT count(*) FROM t WHERE a = 200;
ALTER DATABASE :"database" OWNER TO :"old_owner";
DROP ROLE pp_database_owner, pp_member, pp_other;

-- a target that doesn't take rows any more can be resumed, and then isn't one
CREATE FUNCTION insert_nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE VIEW w AS SELECT count(*) FROM t;
CREATE TRIGGER takes INSTEAD OF INSERT ON w FOR EACH ROW EXECUTE FUNCTION insert_nothing();
SELECT persist_pause('w');
DROP TRIGGER takes ON w;
SELECT persist_resume('w');
SELECT paused FROM persist_settings WHERE target = 'w'::regclass;
SELECT persist_resume('w');
DROP VIEW w;

-- more than the ring has room for is accepted, and arrives in order
TRUNCATE t;
SELECT persist_pause();
CALL wait_for('paused');
DO $$
BEGIN
	-- some alone, then in large transactions
	FOR i IN 1..500 LOOP
		PERFORM persist_enqueue('pause.t', jsonb_build_object('a', i));
		COMMIT;
	END LOOP;
	FOR i IN 0..9 LOOP
		PERFORM persist_enqueue('pause.t', jsonb_build_object('a', n)) FROM generate_series(501 + 5000 * i, 500 + 5000 * (i + 1)) AS n;
		COMMIT;
	END LOOP;
END $$;
CREATE TABLE wide (a int, b text);
SELECT count(persist_enqueue('wide', jsonb_build_object('a', i, 'b', repeat('x', 1000)))) FROM generate_series(1, 20000) AS i;
SELECT items_pending FROM q;
SELECT pg_relation_size('persist_pipeline_internal.persist_journal_1') + pg_relation_size('persist_pipeline_internal.persist_journal_2') + pg_relation_size('persist_pipeline_internal.persist_journal_3')
	> 2 * (SELECT ring_size FROM persist_queue WHERE datname = current_database()) AS more_than_the_ring;
SELECT persist_flush('10 min');
SELECT count(*) FROM t;
SELECT persist_resume();
SELECT persist_flush('5 min');
SELECT count(*), count(DISTINCT a), array_agg(a ORDER BY ins) = array(SELECT generate_series(1, 50500)) AS in_order FROM t;
SELECT count(*), count(DISTINCT a), min(length(b)) FROM wide;
SELECT items_pending, items_copied FROM q;

DROP SCHEMA pause CASCADE;
