-- persist_where: what has become of an item, and who is told.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
SELECT extnamespace::regnamespace AS schema FROM pg_extension WHERE extname = 'persist_pipeline' \gset
CREATE SCHEMA wh;
SET search_path = wh, public;
SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters)) IS NOT NULL AS others_are_gone;
CREATE ROLE wh_owner;
CREATE ROLE wh_a;
CREATE ROLE wh_heir IN ROLE wh_a;
CREATE ROLE wh_stranger;
CREATE ROLE wh_monitor IN ROLE pg_monitor;
SELECT persist_grant('wh_a');
GRANT USAGE ON SCHEMA :schema TO wh_owner, wh_heir, wh_stranger, wh_monitor;
GRANT USAGE, CREATE ON SCHEMA wh TO wh_owner, wh_a;
SET ROLE wh_owner;
CREATE TABLE t (n int CHECK (n > 0), filler text);
CREATE TABLE gate ();
CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN IF EXISTS (SELECT FROM wh.gate) THEN RAISE object_in_use; END IF; RETURN NEW; END $$;
CREATE TABLE gated (n int, filler text);
CREATE TRIGGER gate BEFORE INSERT ON gated FOR EACH ROW EXECUTE FUNCTION gate();
GRANT INSERT ON t, gated TO wh_a;
RESET ROLE;
-- what is constant of what it says
CREATE VIEW told AS SELECT NULL::text AS state, NULL::text AS target_name, NULL::name AS role_name, NULL::boolean AS since, NULL::text AS sqlstate, NULL::text AS message, NULL::boolean AS tried, NULL::boolean AS again;
CREATE FUNCTION told(id bigint) RETURNS SETOF told LANGUAGE sql AS $$
	SELECT state, target_name, role_name, since BETWEEN now() - interval '1 h' AND clock_timestamp(), sqlstate, message, tries > 0, next_try > now() - interval '1 h' FROM public.persist_where($1)
$$;
GRANT EXECUTE ON FUNCTION told TO PUBLIC;
GRANT USAGE ON SCHEMA wh TO PUBLIC;
\x on
-- an id that nobody can have
SELECT * FROM told(0);
SELECT * FROM told(-1);
SELECT * FROM told(9223372036854775807);
SELECT * FROM persist_where(NULL);
-- of this very transaction, also where it is in a file
BEGIN;
SELECT persist_enqueue('t', '{"n": 1}') AS id \gset
SELECT * FROM told(:id);
SELECT min(persist_enqueue('t', jsonb_build_object('n', i, 'filler', repeat('x', 1000)))) AS first FROM generate_series(1, 10000) AS i \gset
SELECT state, message, state = (SELECT state FROM persist_where(:first + 9999)) AS so_is_the_last FROM persist_where(:first);
-- and one that nobody has been given yet
SELECT state FROM persist_where(:first + 10000);
ROLLBACK;
SELECT * FROM told(:id);
-- written
SET ROLE wh_a;
SELECT persist_enqueue('t', '{"n": 2}') AS id \gset
SELECT persist_flush();
SELECT * FROM told(:id);
-- dead
SELECT persist_enqueue('t', '{"n": -2}') AS dead \gset
SELECT persist_flush();
SELECT * FROM told(:dead);
RESET ROLE;
-- pending: in the journal, one of several rows, too; and in the ring, which is moved there
SELECT persist_pause();
SET ROLE wh_a;
SELECT persist_enqueue('t', '{"n": 3}') AS pending \gset
SELECT persist_enqueue('t', jsonb_build_object('n', 4, 'filler', repeat('long ', 10000))) AS long \gset
SET synchronous_commit = off;
SELECT persist_enqueue('t', '{"n": 5}') AS asynchronous \gset
RESET synchronous_commit;
SELECT * FROM told(:pending);
SELECT state FROM told(:long) UNION ALL SELECT state FROM told(:asynchronous);
RESET ROLE;
SELECT persist_resume();
SELECT persist_flush();
SELECT state FROM told(:pending) UNION ALL SELECT state FROM told(:long) UNION ALL SELECT state FROM told(:asynchronous);
-- parked
INSERT INTO gate DEFAULT VALUES;
SET ROLE wh_a;
SELECT persist_enqueue('gated', jsonb_build_object('n', 6, 'filler', repeat('long ', 10000))) AS parked \gset
SELECT persist_flush();
SELECT set_config('wh.parked', :parked::text, false) IS NOT NULL AS set;
DO $$
BEGIN
	WHILE (SELECT tries IS NULL FROM public.persist_where(current_setting('wh.parked')::bigint)) LOOP
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
SELECT * FROM told(:parked);
RESET ROLE;
SELECT persist_pause('gated');
SELECT * FROM told(:parked);
-- who may know
CREATE FUNCTION tells(who text, id bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	told text;
BEGIN
	EXECUTE format('SET LOCAL ROLE %I', who);
	BEGIN
		SELECT state || ': ' || coalesce(message, '') INTO told FROM public.persist_where(id);
	EXCEPTION WHEN insufficient_privilege THEN
		told := regexp_replace(SQLERRM, '\d+', 'NNN');
	END;
	RESET ROLE;
	RETURN told;
END $$;
\x off
SELECT r AS who, tells(r, :dead) AS dead, tells(r, :parked) AS parked, tells(r, :id) AS settled FROM unnest('{wh_owner,wh_a,wh_heir,wh_stranger,wh_monitor}'::text[]) AS r;
-- of a target that is gone: by its last name
SELECT persist_pause('t');
SELECT persist_enqueue('t', '{"n": 7}') AS orphan \gset
SELECT persist_flush();
-- nobody tries it again meanwhile
SELECT persist_pause();
DROP TABLE t;
SELECT state, target_name, role_name = current_user AS role_name FROM persist_where(:orphan);
SELECT state, target_name, role_name FROM persist_where(:dead);
SELECT r AS who, tells(r, :dead) AS dead, split_part(tells(r, :orphan), ':', 1) AS orphan FROM unnest('{wh_owner,wh_a,wh_monitor}'::text[]) AS r;
SELECT persist_discard_parked(ARRAY[:orphan]::bigint[]);
SELECT state FROM persist_where(:orphan);
SELECT persist_resume();
DELETE FROM gate;
SELECT persist_resume('gated');
DO $$
BEGIN
	WHILE (SELECT sum(parked) > 0 FROM persist_stats WHERE target_name = 'wh.gated') LOOP
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
SELECT state FROM persist_where(:parked);
-- a letter that is discarded
SELECT persist_discard(ARRAY[:dead]::bigint[]);
SELECT state FROM persist_where(:dead);
DROP SCHEMA wh CASCADE;
SELECT persist_revoke('wh_a');
REVOKE USAGE ON SCHEMA :schema FROM wh_owner, wh_a, wh_heir, wh_stranger, wh_monitor;
DROP ROLE wh_owner, wh_a, wh_heir, wh_stranger, wh_monitor;
