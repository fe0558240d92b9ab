-- Triggers on a target enqueue so much that the ring has no room for a whole
-- batch's: it goes in smaller parts, and nothing is held up for ever.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA worker_enqueues_much;
SET search_path = worker_enqueues_much, public;

SELECT setting::bigint * 1024 AS ring FROM pg_settings WHERE name = 'persist_pipeline.ring_size' \gset
CREATE TABLE t (n int, b text);
CREATE TABLE audit (n int, b text);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM public.persist_enqueue('worker_enqueues_much.audit'::regclass, to_jsonb(NEW));
	RETURN NEW;
END $$;
CREATE TRIGGER audit BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TABLE other (n int);
-- of many transactions
DO $$
BEGIN
	FOR i IN 1..5 LOOP
		PERFORM persist_enqueue('worker_enqueues_much.t', jsonb_build_object('n', i, 'b', repeat('x', (pg_size_bytes(current_setting('persist_pipeline.ring_size')) / 8)::int)));
		COMMIT;
	END LOOP;
END $$;
SELECT persist_flush('1 min');
SELECT persist_flush('1 min');
SELECT count(*), count(DISTINCT n) FROM t;
SELECT count(*), count(DISTINCT n) FROM audit;

-- of one: what it holds of the ring is free only when all of it is settled, so some may fail; but others' items come
TRUNCATE t, audit;
SELECT items_failed AS failed FROM persist_queue WHERE datname = current_database() \gset
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i, 'b', repeat('x', (:ring / 8)::int)))) FROM generate_series(1, 5) AS i;
COMMIT;
SELECT count(persist_enqueue('other', '{"n": 1}'));
SELECT persist_flush('30 s');
TABLE other;
SELECT (SELECT count(*) FROM t) + items_failed - :failed AS all_accounted_for FROM persist_queue WHERE datname = current_database();

DROP SCHEMA worker_enqueues_much CASCADE;
