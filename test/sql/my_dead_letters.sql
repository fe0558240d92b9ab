-- persist_my_dead_letters: who sees which dead letters.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
SELECT extnamespace::regnamespace AS schema FROM pg_extension WHERE extname = 'persist_pipeline' \gset
CREATE SCHEMA my_letters;
GRANT USAGE, CREATE ON SCHEMA my_letters TO PUBLIC;
SET search_path = my_letters, public;
SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters)) IS NOT NULL AS others_are_gone;
-- an owner, two who enqueue, a member of one of them with and one without his rights, and a stranger
CREATE ROLE my_owner;
CREATE ROLE my_a;
CREATE ROLE my_b;
CREATE ROLE my_heir IN ROLE my_a;
CREATE ROLE my_guest NOINHERIT IN ROLE my_a;
CREATE ROLE my_stranger;
CREATE ROLE my_monitor IN ROLE pg_monitor;
SELECT persist_grant('my_a'), persist_grant('my_b');
GRANT USAGE ON SCHEMA :schema TO my_owner, my_heir, my_guest, my_stranger, my_monitor;
SET ROLE my_owner;
CREATE TABLE "T" (n int CHECK (n > 0), note text DEFAULT 'none');
GRANT INSERT ON "T" TO my_a, my_b;
RESET ROLE;
CREATE TABLE u (n int CHECK (n > 0));
GRANT INSERT ON u TO my_a, my_b;

-- how a role has names written down doesn't hide its letters from who owns the table
ALTER ROLE my_b SET quote_all_identifiers = on;
SET ROLE my_a;
SELECT count(persist_enqueue('"T"', '{"n": -1}')), count(persist_enqueue('u', '{"n": -2}'));
SET ROLE my_b;
SELECT count(persist_enqueue('"T"', '{"n": -3}')), count(persist_enqueue('u', '{"n": -4}'));
RESET ROLE;
SELECT persist_flush();
SELECT id AS of_b, target_name FROM persist_dead_letters WHERE item ->> 'n' = '-3' \gset
\echo :target_name
SET ROLE my_owner;
SELECT state FROM persist_where(:of_b);
SET quote_all_identifiers = on;
SELECT count(*) FROM persist_my_dead_letters;
RESET quote_all_identifiers;
RESET ROLE;

CREATE FUNCTION sees(who text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	sees text;
BEGIN
	EXECUTE format('SET LOCAL ROLE %I', who);
	SELECT string_agg(item ->> 'n', ' ' ORDER BY id) INTO sees FROM persist_my_dead_letters;
	RESET ROLE;
	RETURN sees;
END $$;
SELECT r AS who, sees(r) FROM unnest('{my_owner,my_a,my_b,my_heir,my_guest,my_stranger,my_monitor}'::text[]) AS r;
SELECT string_agg(item ->> 'n', ' ' ORDER BY id) AS a_superuser FROM persist_my_dead_letters;
-- the columns
SET ROLE my_a;
SELECT target_name, target = '"T"'::regclass AS target, role_name, item, sqlstate, message, detail, constraint_name, context, attempts, left_out,
	enqueued_at < failed_at AND failed_at < now() AS times
FROM persist_my_dead_letters WHERE target_name = 'my_letters."T"';
-- the others aren't his to see
SELECT count(*) FROM persist_dead_letters;
-- no function of his sees more
CREATE TEMP TABLE seen (n int);
CREATE FUNCTION peek(int) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN INSERT INTO seen VALUES ($1); RETURN true; END $$;
SELECT count(*) FROM persist_my_dead_letters WHERE peek((item ->> 'n')::int);
SELECT array_agg(DISTINCT n ORDER BY n) AS seen FROM seen;
SELECT count(*) FROM persist_my_dead_letters AS d JOIN unnest('{1,2}'::int[]) AS n ON peek((d.item ->> 'n')::int) AND n = 1;
SELECT array_agg(DISTINCT n ORDER BY n) AS seen FROM seen;
DROP FUNCTION peek;
DROP TABLE seen;
RESET ROLE;
-- another role, or relation, of that OID: as if it were another's, by its name
ALTER ROLE my_a RENAME TO my_c;
ALTER TABLE u RENAME TO v;
SELECT r AS who, sees(r) FROM unnest('{my_owner,my_c,my_b,my_heir}'::text[]) AS r;
ALTER ROLE my_c RENAME TO my_a;
ALTER TABLE v OWNER TO my_stranger;
SELECT r AS who, sees(r) FROM unnest('{my_owner,my_a,my_stranger}'::text[]) AS r;
ALTER TABLE v RENAME TO u;
SELECT r AS who, sees(r) FROM unnest('{my_owner,my_a,my_stranger}'::text[]) AS r;
-- of a relation that is gone
DROP TABLE u;
SELECT r AS who, sees(r) FROM unnest('{my_owner,my_a,my_b,my_stranger}'::text[]) AS r;
-- and of a role that is
DROP OWNED BY my_b;
SELECT persist_revoke('my_b');
DROP ROLE my_b;
SELECT r AS who, sees(r) FROM unnest('{my_owner,my_a}'::text[]) AS r;

SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters));
SELECT count(*) FROM persist_my_dead_letters;
DROP SCHEMA my_letters CASCADE;
SELECT persist_revoke('my_a');
REVOKE USAGE ON SCHEMA :schema FROM my_owner, my_a, my_heir, my_guest, my_stranger, my_monitor;
DROP ROLE my_owner, my_a, my_heir, my_guest, my_stranger, my_monitor;
