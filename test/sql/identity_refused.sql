-- Code on a table can't become anyone else: not by SET ROLE, not by SET SESSION
-- AUTHORIZATION; nor use the worker's rights or the extension's own objects.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA identity_refused;
SET search_path = identity_refused, public;

CREATE ROLE pp_mallory;
CREATE ROLE pp_victim;
GRANT USAGE, CREATE ON SCHEMA identity_refused TO pp_mallory;
GRANT USAGE ON SCHEMA identity_refused TO pp_victim;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean), persist_flush TO pp_mallory, pp_victim;
CREATE TABLE attempts (command text);
SELECT quote_ident(session_user) AS superuser \gset
INSERT INTO attempts VALUES
	('RESET ROLE'), ('SET ROLE NONE'), ('SET ROLE ' || :'superuser'), ('SET LOCAL ROLE pp_mallory'),
	('RESET SESSION AUTHORIZATION'), ('SET SESSION AUTHORIZATION DEFAULT'), ('SET SESSION AUTHORIZATION ' || :'superuser'),
	('SET LOCAL SESSION AUTHORIZATION pp_mallory'),
	($$SELECT set_config('role', 'none', false)$$), ($$SELECT set_config('session_authorization', 'pp_mallory', true)$$),
	('SET session_replication_role = replica'), ($$SET persist_pipeline.mode = 'direct'$$), ('SET log_statement = ''all'''),
	('ALTER ROLE pp_mallory SUPERUSER'), ('CREATE ROLE pp_mallory_2 SUPERUSER'), ('GRANT pp_victim TO pp_mallory'),
	('COPY (SELECT 1) TO PROGRAM ''true'''), ($$SELECT pg_read_file('PG_VERSION')$$), ('SELECT rolpassword FROM pg_authid'),
	('SELECT pg_reload_conf()'), ('CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION identity_refused.attempt()'),
	($$SELECT nextval('persist_pipeline_internal.persist_id_seq')$$), ('SELECT * FROM public.persist_queue'), ('SELECT persist_pipeline_internal.persist_queue_rows()'),
	('DROP EXTENSION persist_pipeline'), ('ALTER SYSTEM SET work_mem = ''1MB'''), ('VACUUM'),
	('COMMIT'), ('ROLLBACK'), ('LISTEN pp_mallory'), ('DISCARD ALL'),
	('SELECT pg_terminate_backend(pg_backend_pid())'), ('SELECT public.persist_flush(''1 s'')');
GRANT SELECT ON attempts TO PUBLIC;

SET ROLE pp_mallory;
CREATE TABLE log (place text, command text, result text, cu name, su name);
GRANT INSERT ON log TO PUBLIC;
CREATE FUNCTION attempt() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	command text;
	result text;
BEGIN
	FOR command IN SELECT a.command FROM identity_refused.attempts AS a LOOP
		BEGIN
			EXECUTE command;
			result := 'done';
			RAISE 'undo' USING ERRCODE = 'PP000';
		EXCEPTION
			WHEN SQLSTATE 'PP000' THEN NULL;
			WHEN OTHERS THEN result := SQLSTATE;
		END;
		INSERT INTO identity_refused.log VALUES (TG_NAME, command, result, current_user, session_user);
	END LOOP;
	RETURN NEW;
END $$;
CREATE TABLE t (a int);
CREATE TRIGGER "before row" BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION attempt();
CREATE CONSTRAINT TRIGGER "deferred" AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION attempt();
GRANT INSERT ON t TO pp_victim;
RESET ROLE;

SET ROLE pp_victim;
SELECT count(persist_enqueue('t', '{"a": 1}'::jsonb));
RESET ROLE;
SELECT persist_flush();
TABLE t;
SELECT replace(command, :'superuser', 'superuser') AS command, string_agg(DISTINCT result, ', ') AS result, count(*) AS times, count(*) FILTER (WHERE cu = 'pp_victim' AND su = 'pp_victim') AS as_victim
FROM log GROUP BY command ORDER BY replace(command, :'superuser', 'superuser') COLLATE "C";

-- nothing of the attempts is left, and the worker goes on
SELECT rolname, rolsuper FROM pg_roles WHERE rolname LIKE 'pp\_mallory%';
CREATE TABLE next_ (cu name, su name);
CREATE FUNCTION sign() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW := ROW(current_user, session_user);
	RETURN NEW;
END $$;
CREATE TRIGGER sign BEFORE INSERT ON next_ FOR EACH ROW EXECUTE FUNCTION sign();
SELECT count(persist_enqueue('next_', '{}'));
SELECT persist_flush();
SELECT cu = session_user AS me, su = session_user AS me FROM next_;

DROP SCHEMA identity_refused CASCADE;
DROP OWNED BY pp_mallory, pp_victim;
DROP ROLE pp_mallory, pp_victim;
