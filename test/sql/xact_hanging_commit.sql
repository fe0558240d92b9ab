-- A session waits in its COMMIT for a synchronous standby that isn't there: others'
-- items are written and flushed meanwhile, its own when it is through.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA xact_hanging_commit;
SET search_path = xact_hanging_commit, public;
-- whatever happens below, this session doesn't wait for a standby
SET synchronous_commit = local;

CREATE EXTENSION IF NOT EXISTS dblink;
CREATE TABLE t (who text, n int);
CREATE TABLE attempts (n int);
CREATE TABLE released (yes boolean);
-- commits again and again, as the first ones may not hang yet: the process that
-- decides it learns of the setting a little later
CREATE PROCEDURE commit_until_released() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..100000 LOOP
		INSERT INTO xact_hanging_commit.attempts VALUES (i);
		PERFORM persist_enqueue('xact_hanging_commit.t', jsonb_build_object('who', 'hanging', 'n', i));
		COMMIT;
		EXIT WHEN EXISTS (SELECT FROM xact_hanging_commit.released);
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
DO $$
BEGIN
	PERFORM dblink_connect('hanging', format('dbname=%L host=%L port=%s user=%L application_name=pp_hanging', current_database(),
		trim(split_part(current_setting('unix_socket_directories'), ',', 1)), current_setting('port'), current_user));
END $$;
SELECT dblink_exec('hanging', 'SET synchronous_commit = on');

ALTER SYSTEM SET synchronous_standby_names = 'persist_pipeline_no_such_standby';
DO $$BEGIN PERFORM pg_reload_conf(); END $$;
SELECT dblink_send_query('hanging', 'CALL xact_hanging_commit.commit_until_released()');
DO $$
BEGIN
	FOR i IN 1..30000 LOOP
		EXIT WHEN EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pp_hanging' AND wait_event = 'SyncRep');
		PERFORM pg_sleep(0.01);
		PERFORM pg_stat_clear_snapshot();
	END LOOP;
END $$;
SELECT wait_event FROM pg_stat_activity WHERE application_name = 'pp_hanging';

SELECT count(persist_enqueue('t', '{"who": "other", "n": 1}'));
BEGIN;
INSERT INTO t VALUES ('other, plain', 0);
SELECT count(persist_enqueue('t', jsonb_build_object('who', 'other', 'n', i))) FROM generate_series(2, 1000) AS i;
COMMIT;
SELECT persist_flush('5 min');
SELECT who, count(*) FROM t WHERE who <> 'hanging' GROUP BY who ORDER BY who;
-- of the hanging session's: what it has committed, and room for the rest
SELECT (SELECT array_agg(n ORDER BY n) FROM t WHERE who = 'hanging') IS NOT DISTINCT FROM (SELECT array_agg(n ORDER BY n) FROM attempts) AS what_it_committed;
SELECT items_pending, ring_used > 0 AS in_commit FROM persist_queue WHERE datname = current_database();
SELECT count(*) AS hung FROM pg_stat_activity WHERE application_name = 'pp_hanging' AND wait_event = 'SyncRep';

SELECT count(*) AS before FROM attempts \gset
INSERT INTO released VALUES (true);
ALTER SYSTEM RESET synchronous_standby_names;
DO $$BEGIN PERFORM pg_reload_conf(); END $$;
SELECT * FROM dblink_get_result('hanging') AS r (status text);
SELECT dblink_disconnect('hanging');
SELECT persist_flush('5 min');
SELECT count(*) - :before AS more FROM attempts;
SELECT (SELECT array_agg(n ORDER BY n) FROM t WHERE who = 'hanging') IS NOT DISTINCT FROM (SELECT array_agg(n ORDER BY n) FROM attempts) AS what_it_committed;
SELECT items_pending, ring_used FROM persist_queue WHERE datname = current_database();

DROP EXTENSION dblink;
DROP SCHEMA xact_hanging_commit CASCADE;
