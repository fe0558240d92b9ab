-- Partitioned tables, on several levels, and partitions.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA target_partitioned;
SET search_path = target_partitioned, public;

CREATE TABLE p (id int DEFAULT 0, region text, n int DEFAULT 7, note text) PARTITION BY LIST (region);
CREATE TABLE p_eu PARTITION OF p FOR VALUES IN ('eu');
-- with other attribute numbers
CREATE TABLE p_us (gone int, note text DEFAULT 'of p_us', region text, n int DEFAULT 8, id int);
ALTER TABLE p_us DROP gone;
ALTER TABLE p ATTACH PARTITION p_us FOR VALUES IN ('us');
CREATE TABLE p_other PARTITION OF p DEFAULT PARTITION BY RANGE (id);
CREATE TABLE p_other_1 PARTITION OF p_other FOR VALUES FROM (0) TO (100);
CREATE TABLE p_other_2 PARTITION OF p_other FOR VALUES FROM (100) TO (200);

BEGIN;
SELECT count(persist_enqueue('p', jsonb_build_object('id', i, 'region', (ARRAY['eu', 'us', 'asia', NULL])[i % 4 + 1]))) FROM generate_series(0, 11) AS i;
SELECT count(persist_enqueue('p', '{"id": 150, "region": "mars"}'));
-- the partitions themselves, with their own defaults
SELECT count(persist_enqueue('p_us', '{"id": 20, "region": "us"}'));
SELECT count(persist_enqueue('p_eu', '{"id": 21, "region": "eu", "note": "direct"}'));
SELECT count(persist_enqueue('p_other', '{"id": 199, "region": "moon"}'));
SELECT count(persist_enqueue('p_other_2', '{"id": 120, "region": "venus"}'));
COMMIT;
SELECT persist_flush();
SELECT tableoid::regclass, id, region, n, note FROM p ORDER BY id;

-- no partition for the row: a constraint, so the item fails, alone
SELECT items_failed AS failed FROM persist_queue WHERE datname = current_database() \gset
BEGIN;
SELECT count(persist_enqueue('p', '{"id": 500, "region": "asia"}'));
SELECT count(persist_enqueue('p', '{"id": 30, "region": "asia"}'));
SELECT count(persist_enqueue('p_eu', '{"id": 31, "region": "us"}'));
SELECT count(persist_enqueue('p_eu', '{"id": 32, "region": "eu"}'));
COMMIT;
SELECT persist_flush();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT tableoid::regclass, id FROM p WHERE id BETWEEN 30 AND 40 OR id = 500 ORDER BY id;

-- a partition that comes later
CREATE TABLE p_other_3 PARTITION OF p_other FOR VALUES FROM (500) TO (600);
SELECT count(persist_enqueue('p', '{"id": 500, "region": "asia"}'));
SELECT persist_flush();
SELECT tableoid::regclass, id FROM p WHERE id = 500;

-- detached between the call and the flush: it's still the target
SELECT count(persist_enqueue('p_eu', '{"id": 40, "region": "eu"}'));
ALTER TABLE p DETACH PARTITION p_eu;
SELECT persist_flush();
SELECT id FROM p_eu WHERE id = 40;

DROP SCHEMA target_partitioned CASCADE;
