-- A bad row among rows that need one another: those that don't need it land.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA failing_fkeys;
SET search_path = failing_fkeys, public;

CREATE TABLE grandparent (id int PRIMARY KEY);
CREATE TABLE parent (id int PRIMARY KEY, gp int NOT NULL REFERENCES grandparent);
CREATE TABLE child (id int PRIMARY KEY, p int NOT NULL REFERENCES parent);
SELECT COALESCE((SELECT items_failed FROM persist_queue WHERE datname = current_database()), 0) AS failed \gset

-- parents first, as one would insert them
BEGIN;
SELECT count(persist_enqueue('grandparent', '{"id": 1}'));
SELECT count(persist_enqueue('parent', '{"id": 1, "gp": 1}'));
SELECT count(persist_enqueue('parent', '{"id": 2, "gp": 99}'));
SELECT count(persist_enqueue('child', '{"id": 1, "p": 1}'));
SELECT count(persist_enqueue('child', '{"id": 2, "p": 2}'));
SELECT count(persist_enqueue('child', '{"id": 3, "p": 1}'));
COMMIT;
SELECT persist_flush();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT (SELECT string_agg(id::text, ',' ORDER BY id) FROM grandparent) AS grandparents, (SELECT string_agg(id::text, ',' ORDER BY id) FROM parent) AS parents, (SELECT string_agg(id::text, ',' ORDER BY id) FROM child) AS children;

DROP SCHEMA failing_fkeys CASCADE;
