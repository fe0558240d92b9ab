-- Tables linked by foreign keys: the order in which one transaction enqueues
-- parents and children doesn't matter, nor do circles of deferrable keys.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA target_fkeys;
SET search_path = target_fkeys, public;

CREATE TABLE grandparent (id int PRIMARY KEY);
CREATE TABLE parent (id int PRIMARY KEY, gp int NOT NULL REFERENCES grandparent);
CREATE TABLE child (id int PRIMARY KEY, p int NOT NULL REFERENCES parent, gp int REFERENCES grandparent);
SELECT COALESCE((SELECT items_failed FROM persist_queue WHERE datname = current_database()), 0) AS failed \gset

-- child first
BEGIN;
SELECT count(persist_enqueue('child', jsonb_build_object('id', i, 'p', i, 'gp', i))) FROM generate_series(1, 100) AS i;
SELECT count(persist_enqueue('parent', jsonb_build_object('id', i, 'gp', i))) FROM generate_series(1, 100) AS i;
SELECT count(persist_enqueue('grandparent', jsonb_build_object('id', i))) FROM generate_series(1, 100) AS i;
COMMIT;
SELECT persist_flush();
SELECT (SELECT count(*) FROM grandparent) AS grandparents, (SELECT count(*) FROM parent) AS parents, (SELECT count(*) FROM child) AS children;

-- row by row, mixed
BEGIN;
SELECT count(persist_enqueue('child', jsonb_build_object('id', i, 'p', i))),
	count(persist_enqueue('grandparent', jsonb_build_object('id', i))),
	count(persist_enqueue('parent', jsonb_build_object('id', i, 'gp', i)))
FROM generate_series(101, 200) AS i;
COMMIT;
SELECT persist_flush();
SELECT (SELECT count(*) FROM grandparent) AS grandparents, (SELECT count(*) FROM parent) AS parents, (SELECT count(*) FROM child) AS children;

-- one's own parent, in order; and a parent that is enqueued later
CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree);
BEGIN;
SELECT count(persist_enqueue('tree', jsonb_build_object('id', i, 'up', nullif(i - 1, 0)))) FROM generate_series(1, 50) AS i;
COMMIT;
BEGIN;
SELECT count(persist_enqueue('tree', jsonb_build_object('id', i, 'up', i - 1))) FROM generate_series(100, 51, -1) AS i;
COMMIT;
SELECT persist_flush();
SELECT count(*), max(id) FROM tree;

-- a circle, deferrable
CREATE TABLE hen (id int PRIMARY KEY, egg int NOT NULL);
CREATE TABLE egg (id int PRIMARY KEY, hen int NOT NULL REFERENCES hen DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg DEFERRABLE INITIALLY DEFERRED;
BEGIN;
SELECT count(persist_enqueue('hen', jsonb_build_object('id', i, 'egg', i + 1000))) FROM generate_series(1, 10) AS i;
SELECT count(persist_enqueue('egg', jsonb_build_object('id', i + 1000, 'hen', i))) FROM generate_series(1, 10) AS i;
COMMIT;
SELECT persist_flush();
SELECT (SELECT count(*) FROM hen) AS hens, (SELECT count(*) FROM egg) AS eggs;

-- a circle that is immediate one way
CREATE TABLE boss (id int PRIMARY KEY, desk int);
CREATE TABLE desk (id int PRIMARY KEY, boss int NOT NULL REFERENCES boss);
ALTER TABLE boss ADD FOREIGN KEY (desk) REFERENCES desk DEFERRABLE INITIALLY DEFERRED;
BEGIN;
SELECT count(persist_enqueue('desk', jsonb_build_object('id', i, 'boss', i))) FROM generate_series(1, 10) AS i;
SELECT count(persist_enqueue('boss', jsonb_build_object('id', i, 'desk', i))) FROM generate_series(1, 10) AS i;
COMMIT;
SELECT persist_flush();
SELECT (SELECT count(*) FROM boss) AS bosses, (SELECT count(*) FROM desk) AS desks;

-- keys of and to partitions
CREATE TABLE pp (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE pp_1 PARTITION OF pp FOR VALUES FROM (0) TO (100);
CREATE TABLE pc (id int, p int REFERENCES pp) PARTITION BY RANGE (id);
CREATE TABLE pc_1 PARTITION OF pc FOR VALUES FROM (0) TO (100);
BEGIN;
SELECT count(persist_enqueue('pc_1', '{"id": 1, "p": 1}'));
SELECT count(persist_enqueue('pc', '{"id": 2, "p": 2}'));
SELECT count(persist_enqueue('pp_1', '{"id": 1}'));
SELECT count(persist_enqueue('pp', '{"id": 2}'));
COMMIT;
SELECT persist_flush();
SELECT (SELECT count(*) FROM pp) AS parents, (SELECT count(*) FROM pc) AS children;

-- another role's parent in the same transaction; one that isn't there
CREATE ROLE pp_children;
GRANT USAGE ON SCHEMA target_fkeys TO pp_children;
GRANT INSERT ON child TO pp_children;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_children;
BEGIN;
SELECT count(persist_enqueue('parent', '{"id": 400, "gp": 1}'));
SET LOCAL ROLE pp_children;
SELECT count(persist_enqueue('child', '{"id": 400, "p": 400}'::jsonb));
RESET ROLE;
COMMIT;
BEGIN;
SET LOCAL ROLE pp_children;
SELECT count(persist_enqueue('child', '{"id": 401, "p": 1}'::jsonb));
SELECT count(persist_enqueue('child', '{"id": 402, "p": 402}'::jsonb));
RESET ROLE;
SELECT count(persist_enqueue('parent', '{"id": 403, "gp": 1}'));
SET LOCAL ROLE pp_children;
SELECT count(persist_enqueue('child', '{"id": 403, "p": 403}'::jsonb));
RESET ROLE;
COMMIT;
SELECT persist_flush();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT id, p FROM child WHERE id >= 400 ORDER BY id;
DROP OWNED BY pp_children;
DROP ROLE pp_children;

DROP SCHEMA target_fkeys CASCADE;
