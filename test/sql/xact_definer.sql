-- Who the enqueuer is: the current user at the call.  In a SECURITY DEFINER
-- function that is its owner, whose rights count and as whom the row is written.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA xact_definer;
SET search_path = xact_definer, public;

CREATE ROLE pp_definer;
CREATE ROLE pp_caller;
GRANT USAGE ON SCHEMA xact_definer TO pp_definer, pp_caller;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_definer;
CREATE TABLE t (n int, who_called text DEFAULT current_user, session_called text DEFAULT session_user, who_wrote text, session_wrote text);
CREATE FUNCTION sign() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.who_wrote := current_user;
	NEW.session_wrote := session_user;
	RETURN NEW;
END $$;
CREATE TRIGGER sign BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION sign();
GRANT INSERT, SELECT ON t TO pp_definer;
CREATE FUNCTION log_it(n int) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = xact_definer, public, pg_temp
AS $$SELECT persist_enqueue('t'::regclass, jsonb_build_object('n', n)) > 0$$;
ALTER FUNCTION log_it OWNER TO pp_definer;

SELECT log_it(1);
SET ROLE pp_caller;
SELECT log_it(2);
\set VERBOSITY sqlstate
SELECT persist_enqueue('t'::regclass, '{"n": 3}'::jsonb);
\set VERBOSITY default
RESET ROLE;
SELECT count(persist_enqueue('t', '{"n": 4}'));
-- several roles in one transaction: each row by its own
BEGIN;
SELECT count(persist_enqueue('t', '{"n": 5}'));
SELECT log_it(6);
SET LOCAL ROLE pp_caller;
SELECT log_it(7);
RESET ROLE;
SELECT count(persist_enqueue('t', '{"n": 8}'));
SET LOCAL SESSION AUTHORIZATION pp_definer;
SELECT count(persist_enqueue('t', '{"n": 9}'::jsonb));
COMMIT;
SELECT persist_flush();
SELECT n, CASE WHEN who_called = session_user THEN 'me' ELSE who_called END AS who_called,
	CASE WHEN session_called = session_user THEN 'me' ELSE session_called END AS session_called,
	CASE WHEN who_wrote = session_user THEN 'me' ELSE who_wrote END AS who_wrote,
	CASE WHEN session_wrote = session_user THEN 'me' ELSE session_wrote END AS session_wrote
FROM t ORDER BY n;

-- the role is gone by the time of the flush: its item fails, and nobody else's
CREATE ROLE pp_short_lived;
GRANT USAGE ON SCHEMA xact_definer TO pp_short_lived;
GRANT INSERT ON t TO pp_short_lived;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_short_lived;
SELECT items_failed AS failed FROM persist_queue WHERE datname = current_database() \gset
BEGIN;
SET LOCAL ROLE pp_short_lived;
SELECT count(persist_enqueue('t', '{"n": 20}'::jsonb));
RESET ROLE;
SELECT count(persist_enqueue('t', '{"n": 21}'));
DROP OWNED BY pp_short_lived;
DROP ROLE pp_short_lived;
COMMIT;
SELECT persist_flush();
SELECT n FROM t WHERE n >= 20;
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();

DROP OWNED BY pp_definer, pp_caller;
DROP ROLE pp_caller;
DROP SCHEMA xact_definer CASCADE;
DROP ROLE pp_definer;
