-- Foreign tables, through postgres_fdw to this database.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA target_foreign;
SET search_path = target_foreign, public;

CREATE EXTENSION IF NOT EXISTS postgres_fdw;
DO $$
BEGIN
	EXECUTE format('CREATE SERVER pp_loopback FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname %L, host %L, port %L)',
		current_database(), trim(split_part(current_setting('unix_socket_directories'), ',', 1)), current_setting('port'));
	EXECUTE format('CREATE USER MAPPING FOR CURRENT_USER SERVER pp_loopback OPTIONS (user %L)', current_user);
END $$;

CREATE TABLE remote (id int PRIMARY KEY, at timestamptz, doc jsonb, arr text[], who text DEFAULT 'remote default');
CREATE FOREIGN TABLE f (id int, at timestamptz DEFAULT now(), doc jsonb, arr text[], who text DEFAULT 'local default')
	SERVER pp_loopback OPTIONS (schema_name 'target_foreign', table_name 'remote');

BEGIN;
SELECT now() AS called_at \gset
SELECT count(persist_enqueue('f', jsonb_build_object('id', i, 'doc', jsonb_build_object('i', i), 'arr', ARRAY['a', NULL, 'c"d']))) FROM generate_series(1, 500) AS i;
SELECT count(persist_enqueue('f', '{"id": 501, "who": null}'));
SELECT count(persist_enqueue(ROW(502, NULL, NULL, NULL, 'row')::f));
COMMIT;
SELECT persist_flush();
SELECT count(*), count(*) FILTER (WHERE at = :'called_at') AS at_call, count(DISTINCT doc), min(who), max(who) FROM remote;
SELECT id, at IS NULL AS at_null, doc, arr, who FROM remote WHERE id > 500 ORDER BY id;

-- a partition that is foreign
CREATE TABLE p (id int, who text DEFAULT 'partitioned default') PARTITION BY RANGE (id);
CREATE TABLE p_local PARTITION OF p FOR VALUES FROM (0) TO (1000);
CREATE FOREIGN TABLE p_far PARTITION OF p FOR VALUES FROM (1000) TO (2000) SERVER pp_loopback OPTIONS (schema_name 'target_foreign', table_name 'remote');
BEGIN;
SELECT count(persist_enqueue('p', jsonb_build_object('id', i))) FROM unnest(ARRAY[1, 1001, 2, 1002]) AS i;
COMMIT;
SELECT persist_flush();
SELECT id, who FROM p_local ORDER BY id;
SELECT id, who FROM remote WHERE id > 1000 ORDER BY id;

-- a row that the other side refuses
SELECT items_failed AS failed FROM persist_queue WHERE datname = current_database() \gset
BEGIN;
SELECT count(persist_enqueue('f', jsonb_build_object('id', i))) FROM unnest(ARRAY[600, 1, 601]) AS i;
COMMIT;
SELECT persist_flush();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT id FROM remote WHERE id BETWEEN 600 AND 700 ORDER BY id;

-- columns that the foreign table has and the table behind it hasn't: at the flush
CREATE FOREIGN TABLE f2 (id int, nope int) SERVER pp_loopback OPTIONS (schema_name 'target_foreign', table_name 'remote');
SELECT count(persist_enqueue('f2', '{"id": 700}'));
SELECT count(persist_enqueue('f', '{"id": 701}'));
SELECT persist_flush();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT id FROM remote WHERE id BETWEEN 700 AND 800 ORDER BY id;

DROP SERVER pp_loopback CASCADE;
DROP EXTENSION postgres_fdw;

DROP SCHEMA target_foreign CASCADE;
