-- What a role's code leaves in the worker's session is gone before the next
-- role's batch: settings, locks, temporary objects, prepared statements, cursors.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA identity_leftovers;
SET search_path = identity_leftovers, public;

CREATE ROLE pp_mallory;
CREATE ROLE pp_victim;
GRANT USAGE, CREATE ON SCHEMA identity_leftovers TO pp_mallory;
GRANT USAGE ON SCHEMA identity_leftovers TO pp_victim;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_mallory, pp_victim;

-- the victim's table records what its own trigger finds in the session
CREATE TABLE session_ (
	n int, cu name, su name, search_path text, row_security text, replication text, read_only text, default_read_only text,
	isolation text, work_mem text, custom text, app text, statement_timeout text, lock_timeout text, sync text,
	prepared bigint, cursors bigint, advisory bigint, temp_ regclass, literal text, exit_on_error text, mode text);
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.cu := current_user;
	NEW.su := session_user;
	NEW.search_path := current_setting('search_path');
	NEW.row_security := current_setting('row_security');
	NEW.replication := current_setting('session_replication_role');
	NEW.read_only := current_setting('transaction_read_only');
	NEW.default_read_only := current_setting('default_transaction_read_only');
	NEW.isolation := current_setting('transaction_isolation') || ', ' || current_setting('default_transaction_isolation');
	NEW.work_mem := current_setting('work_mem') <> '77MB';
	NEW.custom := COALESCE(current_setting('app.custom', true), '');
	NEW.app := current_setting('application_name');
	NEW.statement_timeout := current_setting('statement_timeout');
	NEW.lock_timeout := current_setting('lock_timeout');
	NEW.sync := current_setting('synchronous_commit');
	NEW.prepared := (SELECT count(*) FROM pg_catalog.pg_prepared_statements);
	NEW.cursors := (SELECT count(*) FROM pg_catalog.pg_cursors WHERE is_holdable);
	NEW.advisory := (SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid());
	NEW.temp_ := pg_catalog.to_regclass('pg_temp.leftover');
	NEW.literal := text 'plain';
	NEW.exit_on_error := current_setting('exit_on_error');
	NEW.mode := current_setting('persist_pipeline.mode');
	RETURN NEW;
END $$;
CREATE TRIGGER look BEFORE INSERT ON session_ FOR EACH ROW EXECUTE FUNCTION look();
GRANT INSERT ON session_ TO pp_victim, pp_mallory;

-- the clean state
SET ROLE pp_victim;
SELECT count(persist_enqueue('session_', '{"n": 1}'::jsonb));
RESET ROLE;
SELECT persist_flush();

SET ROLE pp_mallory;
CREATE TABLE ran (what text, cu name);
GRANT INSERT ON ran TO PUBLIC;
CREATE FUNCTION evil(v text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO identity_leftovers.ran VALUES ('evil', current_user);
	RETURN true;
END $$;
CREATE FUNCTION make_a_mess() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'CREATE TEMP TABLE leftover (a int)';
	EXECUTE 'CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (identity_leftovers.evil(VALUE))';
	EXECUTE 'CREATE FUNCTION pg_temp.now() RETURNS pg_catalog.timestamptz LANGUAGE sql AS ''SELECT NULL::pg_catalog.timestamptz''';
	EXECUTE 'PREPARE leftover AS SELECT 1';
	EXECUTE 'DECLARE leftover CURSOR WITH HOLD FOR SELECT 1';
	PERFORM pg_advisory_lock(1886413932);
	PERFORM pg_advisory_lock_shared(1, 2);
	PERFORM set_config('search_path', 'pg_temp, identity_leftovers', false);
	PERFORM set_config('row_security', 'off', false);
	PERFORM set_config('work_mem', '77MB', false);
	PERFORM set_config('app.custom', 'dirty', false);
	PERFORM set_config('application_name', 'mallory', false);
	PERFORM set_config('statement_timeout', '1', false);
	PERFORM set_config('lock_timeout', '0', false);
	PERFORM set_config('synchronous_commit', 'local', false);
	PERFORM set_config('default_transaction_read_only', 'on', false);
	PERFORM set_config('default_transaction_isolation', 'serializable', false);
	EXECUTE 'NOTIFY pp_mallory';
	INSERT INTO identity_leftovers.ran VALUES (TG_NAME, current_user);
	RETURN NEW;
END $$;
CREATE TABLE mess (a int);
CREATE TRIGGER "before row" BEFORE INSERT ON mess FOR EACH ROW EXECUTE FUNCTION make_a_mess();
CREATE TABLE mess_deferred (a int);
CREATE CONSTRAINT TRIGGER "deferred" AFTER INSERT ON mess_deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION make_a_mess();
-- at COMMIT itself, after all that the worker checks before it
CREATE TABLE mess_at_commit (a int);
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	SET CONSTRAINTS ALL DEFERRED;
	INSERT INTO identity_leftovers.mess_deferred VALUES (1);
	RETURN NEW;
END $$;
CREATE CONSTRAINT TRIGGER z AFTER INSERT ON mess_at_commit DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION again();

SELECT count(persist_enqueue('mess', '{"a": 1}'::jsonb));
SET ROLE pp_victim;
SELECT count(persist_enqueue('session_', '{"n": 2}'::jsonb));
RESET ROLE;
SELECT persist_flush();
SET ROLE pp_mallory;
SELECT count(persist_enqueue('mess_deferred', '{"a": 1}'::jsonb));
SET ROLE pp_victim;
SELECT count(persist_enqueue('session_', '{"n": 3}'::jsonb));
RESET ROLE;
SELECT persist_flush();
SET ROLE pp_mallory;
SELECT count(persist_enqueue('mess_at_commit', '{"a": 1}'::jsonb));
SET ROLE pp_victim;
SELECT count(persist_enqueue('session_', '{"n": 4}'::jsonb));
RESET ROLE;
SELECT persist_flush();
-- a batch that fails after the mess
SET ROLE pp_mallory;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE 'and now an error';
END $$;
CREATE TRIGGER z AFTER INSERT ON mess FOR EACH ROW EXECUTE FUNCTION fail();
SELECT count(persist_enqueue('mess', '{"a": 2}'::jsonb));
RESET ROLE;
SELECT persist_flush();
-- the same role: its next batch is as clean
SET ROLE pp_mallory;
SELECT count(persist_enqueue('session_', '{"n": 6}'::jsonb));
SET ROLE pp_victim;
SELECT count(persist_enqueue('session_', '{"n": 5}'::jsonb));
RESET ROLE;
SELECT persist_flush();

-- a superuser's code may do more, to itself
CREATE TABLE mess_of_a_superuser (a int);
CREATE FUNCTION make_a_super_mess() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('session_replication_role', 'replica', false);
	PERFORM set_config('persist_pipeline.mode', 'direct', false);
	PERFORM set_config('row_security', 'off', false);
	RETURN NEW;
END $$;
CREATE CONSTRAINT TRIGGER "deferred" AFTER INSERT ON mess_of_a_superuser DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION make_a_super_mess();
SELECT count(persist_enqueue('mess_of_a_superuser', '{"a": 1}'));
SET ROLE pp_victim;
SELECT count(persist_enqueue('session_', '{"n": 7}'::jsonb));
RESET ROLE;
SELECT persist_flush();
TABLE mess_of_a_superuser;

SELECT what, cu, count(*) FROM ran WHERE what <> 'evil' GROUP BY what, cu ORDER BY what;
SELECT count(*) AS evil_as_another FROM ran WHERE cu <> 'pp_mallory';
\x on
SELECT * FROM session_ WHERE n = 1;
\x off
SELECT n, cu, su FROM session_ ORDER BY n;
SELECT count(*) AS unlike_the_first FROM session_ AS s, session_ AS first
WHERE first.n = 1 AND to_jsonb(s) - '{n,cu,su}'::text[] <> to_jsonb(first) - '{n,cu,su}'::text[];
SELECT count(*) AS advisory_locks FROM pg_locks WHERE locktype = 'advisory' AND pid = (SELECT worker_pid FROM persist_queue WHERE datname = current_database());

-- SET TRANSACTION READ ONLY: the rows of its own transaction come through all the same
SET ROLE pp_mallory;
CREATE TABLE read_only_first (a int);
CREATE TABLE then_written (a int);
CREATE FUNCTION make_read_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	SET TRANSACTION READ ONLY;
	RETURN NEW;
END $$;
CREATE TRIGGER r AFTER INSERT ON read_only_first FOR EACH ROW EXECUTE FUNCTION make_read_only();
BEGIN;
SELECT count(persist_enqueue('read_only_first', '{"a": 1}'::jsonb));
SELECT count(persist_enqueue('then_written', '{"a": 2}'::jsonb));
SELECT count(persist_enqueue('read_only_first', '{"a": 3}'::jsonb));
COMMIT;
RESET ROLE;
SELECT persist_flush();
SELECT * FROM read_only_first ORDER BY a;
TABLE then_written;

-- SET CONSTRAINTS in a trigger: what is deferred is checked all the same, as the enqueuer
SELECT items_failed AS failed FROM persist_queue WHERE datname = current_database() \gset
SET ROLE pp_mallory;
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int, p int REFERENCES parent DEFERRABLE);
CREATE FUNCTION defer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	SET CONSTRAINTS ALL DEFERRED;
	RETURN NEW;
END $$;
CREATE TRIGGER d BEFORE INSERT ON child FOR EACH ROW EXECUTE FUNCTION defer();
BEGIN;
SELECT count(persist_enqueue('child', '{"id": 1, "p": 1}'::jsonb));
SELECT count(persist_enqueue('child', '{"id": 2, "p": 99}'::jsonb));
SELECT count(persist_enqueue('parent', '{"id": 1}'::jsonb));
COMMIT;
RESET ROLE;
SELECT persist_flush();
SELECT count(*) AS orphans FROM child WHERE p NOT IN (SELECT id FROM parent);
SELECT id FROM child WHERE id = 2;
SELECT items_failed - :failed > 0 AS failed FROM persist_queue WHERE datname = current_database();

-- what is deferred sees what the rest saw, and waits for a lock no longer
CREATE TABLE later (n int);
CREATE TABLE seen_later (lock_timeout text, custom text, cu name);
CREATE FUNCTION see_now() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('app.custom', 'of the batch', false);
	RETURN NEW;
END $$;
CREATE FUNCTION see_later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO identity_leftovers.seen_later VALUES (current_setting('lock_timeout'), current_setting('app.custom', true), current_user);
	RETURN NULL;
END $$;
CREATE TRIGGER see_now BEFORE INSERT ON later FOR EACH ROW EXECUTE FUNCTION see_now();
CREATE CONSTRAINT TRIGGER see_later AFTER INSERT ON later DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see_later();
GRANT INSERT ON later, seen_later TO pp_victim;
SET ROLE pp_victim;
SELECT count(persist_enqueue('later', '{"n": 1}'::jsonb));
RESET ROLE;
SELECT persist_flush();
TABLE seen_later;

DROP SCHEMA identity_leftovers CASCADE;
DROP OWNED BY pp_mallory, pp_victim;
DROP ROLE pp_mallory, pp_victim;
