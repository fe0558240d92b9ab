-- persist_parked, and persist_discard_parked: who sees parked items, and who drops them.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
SELECT extnamespace::regnamespace AS schema FROM pg_extension WHERE extname = 'persist_pipeline' \gset
CREATE SCHEMA pk;
SET search_path = pk, public;
CREATE ROLE pk_owner;
CREATE ROLE pk_a;
CREATE ROLE pk_b;
CREATE ROLE pk_heir IN ROLE pk_a;
CREATE ROLE pk_monitor IN ROLE pg_monitor;
SELECT persist_grant('pk_a'), persist_grant('pk_b');
GRANT USAGE ON SCHEMA :schema TO pk_owner, pk_heir, pk_monitor;
GRANT USAGE, CREATE ON SCHEMA pk TO PUBLIC;
SET ROLE pk_owner;
CREATE TABLE "T" (n int CHECK (n > 0), filler text);
GRANT INSERT ON "T" TO pk_a, pk_b;
RESET ROLE;
CREATE TABLE u (n int);
GRANT INSERT ON u TO pk_a;
-- paused targets are parked, and never tried
SELECT persist_pause('"T"'), persist_pause('u');
SET ROLE pk_a;
SELECT persist_enqueue('"T"', '{"n": 1}') AS a1 \gset
SELECT persist_enqueue('"T"', jsonb_build_object('n', 2, 'filler', repeat('long ', 10000))) AS a2 \gset
SELECT persist_enqueue('u', '{"n": 3}') AS a3 \gset
SET ROLE pk_b;
SELECT persist_enqueue('"T"', '{"n": 4}') AS b4 \gset
SELECT count(persist_enqueue('"T"', jsonb_build_object('n', i))) FROM generate_series(5, 8) AS i;
RESET ROLE;
SELECT persist_flush();
-- a row for each item, in words
SELECT id = :a2 AS id, target = '"T"'::regclass AS target, target_name, role_name, parked_at BETWEEN now() - interval '1 h' AND now() AS parked_at, sqlstate, message, tries, next_try
FROM persist_parked WHERE id IN (:a2, :b4) ORDER BY persist_parked.id;
SELECT target_name, parked, parked_reason, parked_message FROM persist_stats WHERE parked > 0 ORDER BY target_name;
-- who sees which
CREATE FUNCTION sees(who text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('SET LOCAL ROLE %I', who);
	SELECT count(*) FILTER (WHERE message IS NOT NULL) INTO n FROM public.persist_parked WHERE target_name LIKE 'pk.%';
	RESET ROLE;
	RETURN n;
END $$;
CREATE ROLE pk_stranger;
GRANT USAGE ON SCHEMA :schema TO pk_stranger;
SELECT r AS who, sees(r) FROM unnest('{pk_owner,pk_a,pk_b,pk_heir,pk_monitor,pk_stranger}'::text[]) AS r;
SET ROLE pk_a;
CREATE FUNCTION peek(anyelement) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE WARNING '%', $1; RETURN true; END $$;
SELECT count(*) FROM persist_parked WHERE peek(role_name);
SELECT * FROM persist_pipeline_internal.persist_parked_why('"T"'::regclass, 'pk_b'::regrole);
-- who may drop them: the target's owner, not who enqueued the item
\set VERBOSITY terse
SELECT persist_discard_parked(ARRAY[:a1]::bigint[]);
RESET ROLE;
SET ROLE pk_owner;
SELECT persist_discard_parked(NULL);
SELECT persist_discard_parked(ARRAY[:a1, :a3]::bigint[]);
\set VERBOSITY default
SELECT persist_discard_parked('{}'), persist_discard_parked('{NULL,0,-1}');
-- a savepoint, a transaction
BEGIN;
SELECT persist_discard_parked(ARRAY[:a1]::bigint[]);
SELECT persist_discard_parked(ARRAY[:a1]::bigint[]) AS twice;
SAVEPOINT s;
SELECT persist_discard_parked(ARRAY[:b4]::bigint[]);
SELECT sees('pk_owner');
ROLLBACK TO s;
SELECT sees('pk_owner');
SAVEPOINT s;
SELECT persist_discard_parked(ARRAY[:a2, NULL, :a2]::bigint[]);
RELEASE s;
ROLLBACK;
RESET ROLE;
SELECT parked, discarded FROM persist_stats WHERE target = '"T"'::regclass;
BEGIN;
SET LOCAL ROLE pk_owner;
SELECT persist_discard_parked(ARRAY[:a1]::bigint[]);
SAVEPOINT s;
SELECT persist_discard_parked(ARRAY[:b4]::bigint[]);
ROLLBACK TO s;
SAVEPOINT s;
SELECT persist_discard_parked(ARRAY[:a2, NULL, :a2]::bigint[]);
RELEASE s;
COMMIT;
SELECT enqueued, persisted, discarded, pending, parked FROM persist_stats WHERE target = '"T"'::regclass;
SELECT state FROM persist_where(:a1) UNION ALL SELECT state FROM persist_where(:a2) UNION ALL SELECT state FROM persist_where(:b4);
-- a rollback to a savepoint, that the transaction ends after, leaves nothing to the next one
CREATE TABLE many (n int);
SELECT persist_pause('many');
SELECT count(persist_enqueue('many', jsonb_build_object('n', i))) FROM generate_series(1, 30) AS i;
SELECT persist_flush();
SELECT array_agg(id) AS many FROM persist_parked WHERE target = 'many'::regclass \gset
BEGIN;
SAVEPOINT s;
SELECT persist_discard_parked((:'many'::bigint[])[1:1]);
ROLLBACK TO s;
COMMIT;
BEGIN;
SAVEPOINT s;
SAVEPOINT t;
SELECT sum(persist_discard_parked(ARRAY[id])) FROM unnest(:'many'::bigint[]) AS id;
COMMIT;
SELECT enqueued, discarded, pending FROM persist_stats WHERE target = 'many'::regclass;
DROP TABLE many;
-- not in a transaction that is prepared
BEGIN;
SELECT persist_discard_parked(ARRAY[:b4]::bigint[]);
PREPARE TRANSACTION 'pk';
-- a dead letter instead: with its values, also where it takes several rows; no cast of a user's is called
CREATE TYPE mood AS ENUM ('glad');
CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'runs as %', current_user; RETURN to_json($1::text); END $$;
CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
CREATE TABLE moody (n int, m mood, filler text);
ALTER TABLE moody OWNER TO pk_owner;
GRANT INSERT ON moody TO pk_a;
SELECT persist_pause('moody');
SET ROLE pk_a;
SELECT persist_enqueue('moody', jsonb_build_object('n', 1, 'm', 'glad', 'filler', repeat('long ', 10000))) AS m1 \gset
SELECT persist_enqueue('moody', '{"n": 2}') AS m2 \gset
SELECT persist_enqueue('moody', '{"n": 3}') AS m3 \gset
RESET ROLE;
SELECT persist_flush();
\set VERBOSITY terse
SET ROLE pk_a;
SELECT persist_parked_to_dead(ARRAY[:m1]::bigint[]);
SELECT persist_parked_to_dead(NULL);
RESET ROLE;
SELECT persist_parked_to_dead(ARRAY[:m1, :m3]::bigint[]);
\set VERBOSITY default
SELECT item - 'filler' AS item, length(item ->> 'filler') AS filler, target_name, role_name, sqlstate, message, attempts, left_out, enqueued_at < failed_at AS times, pos > 0 AS pos
FROM persist_dead_letters ORDER BY id;
SELECT enqueued, persisted, dead, pending, parked FROM persist_stats WHERE target = 'moody'::regclass;
SELECT state, message FROM persist_where(:m1);
BEGIN;
SET LOCAL ROLE pk_owner;
SELECT persist_parked_to_dead(ARRAY[:m2]::bigint[]);
ROLLBACK;
SELECT count(*) FROM persist_parked WHERE target = 'moody'::regclass;
SELECT persist_requeue();
SELECT persist_resume('moody');
DO $$
BEGIN
	PERFORM public.persist_flush();
	WHILE (SELECT pending > 0 FROM persist_stats WHERE target = 'moody'::regclass) LOOP
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
SELECT n, m, length(filler) FROM moody ORDER BY n;
SELECT enqueued, persisted, dead, pending, parked FROM persist_stats WHERE target = 'moody'::regclass;
-- the last one of a target: nothing keeps it parked
SELECT persist_discard_parked(ARRAY[:a3]::bigint[]);
SELECT enqueued, discarded, pending, parked, parked_reason, parked_message FROM persist_stats WHERE target = 'u'::regclass;
SELECT persist_flush(target => 'u');
-- the rest is written
SELECT persist_resume('"T"');
DO $$
BEGIN
	WHILE (SELECT pending > 0 FROM persist_stats WHERE target = '"T"'::regclass) LOOP
		PERFORM pg_sleep(0.02);
	END LOOP;
END $$;
SELECT n FROM "T" ORDER BY n;
SELECT enqueued, persisted, discarded, pending, parked FROM persist_stats WHERE target = '"T"'::regclass;
SELECT persist_discard_parked(ARRAY[:b4]::bigint[]) AS too_late;
DROP SCHEMA pk CASCADE;
SELECT persist_revoke('pk_a'), persist_revoke('pk_b');
REVOKE USAGE ON SCHEMA :schema FROM pk_owner, pk_heir, pk_monitor, pk_stranger;
DROP ROLE pk_owner, pk_a, pk_b, pk_heir, pk_monitor, pk_stranger;
