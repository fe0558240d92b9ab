-- DROP says how many items wait for what goes, and what becomes of them.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
RESET client_min_messages;
CREATE SCHEMA dropped;
SET search_path = dropped, public;
CREATE ROLE dropped_owner;
GRANT USAGE, CREATE ON SCHEMA dropped TO dropped_owner;
CREATE TABLE t (n int);
CREATE TABLE "U" (n int);
CREATE TABLE idle (n int);
CREATE TABLE part (n int) PARTITION BY LIST (n);
CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
CREATE TABLE owned (n int);
ALTER TABLE owned OWNER TO dropped_owner;
SELECT persist_pause(target) FROM unnest('{t,"\"U\"",part,owned}'::regclass[]) AS target;
SELECT count(persist_enqueue('t', '{"n": 1}')), count(persist_enqueue('"U"', '{"n": 1}')), count(persist_enqueue('part', '{"n": 1}')), count(persist_enqueue('owned', '{"n": 1}'))
FROM generate_series(1, 3);
SELECT count(persist_enqueue('idle', '{"n": 1}'));
SET client_min_messages = warning;
SELECT persist_flush();
RESET client_min_messages;
-- parked
BEGIN;
DROP TABLE t;
-- it has no name then, and those of others are seen as before
SELECT target_name = target::text AS is_nameless, count(*) FROM persist_parked GROUP BY 1 ORDER BY 1;
ROLLBACK;
-- nothing waits, or something else goes
DROP TABLE idle;
CREATE TABLE never (n int);
DROP TABLE never;
CREATE TEMP TABLE never (n int);
DROP TABLE never;
CREATE VIEW v AS SELECT * FROM t;
DROP VIEW v;
ALTER TABLE t ALTER n TYPE bigint;
CREATE INDEX ON t (n);
DROP TABLE part_1;
TRUNCATE t;
-- whatever drops it
BEGIN;
DROP OWNED BY dropped_owner;
ROLLBACK;
BEGIN;
DROP SCHEMA dropped CASCADE;
ROLLBACK;
-- pending, and the database paused
SELECT persist_pause();
-- many: the first ones are named
CREATE SCHEMA dropped_many;
DO $$ BEGIN FOR i IN 1 .. 13 LOOP
	EXECUTE format('CREATE TABLE dropped_many.t%s (n int)', i);
END LOOP; END $$;
SELECT count(persist_enqueue(c.oid, '{"n": 1}')) FROM pg_class AS c WHERE c.relnamespace = 'dropped_many'::regnamespace;
\set VERBOSITY terse
DROP SCHEMA dropped_many CASCADE;
\set VERBOSITY default
SELECT count(persist_enqueue('t', '{"n": 1}'));
DROP TABLE t;
SELECT persist_resume();
SET client_min_messages = warning;
SELECT persist_flush();
-- what has been said has come: at once
SELECT sqlstate, count(*) FROM persist_dead_letters GROUP BY 1;
-- nothing is left behind
SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters)) + persist_discard_parked(ARRAY(SELECT id FROM persist_parked)) AS discarded;
-- a session that goes on doesn't keep what it knew of tables that are gone
CREATE VIEW known AS SELECT count(*) AS targets FROM pg_backend_memory_contexts WHERE name = 'persist_pipeline target';
SELECT targets AS before FROM known \gset
BEGIN;
DO $$ BEGIN FOR i IN 1 .. 20 LOOP
	EXECUTE 'CREATE TABLE dropped.passing (n int)';
	EXECUTE 'SELECT persist_enqueue(''dropped.passing'', ''{"n": 1}'')';
	EXECUTE 'DROP TABLE dropped.passing';
END LOOP; END $$;
SELECT targets - :before <= 1 AS forgotten FROM known;
ROLLBACK;
DROP VIEW known;
RESET client_min_messages;
DROP SCHEMA dropped CASCADE;
DROP ROLE dropped_owner;
