-- The view persist_queue.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA queue;
SET search_path = queue, public;

CREATE TABLE t (a int CHECK (a <> 13));
SELECT count(persist_enqueue('t', '{"a": 0}'));
SELECT persist_flush();
-- the first one of a ring may have gone to the journal alone
SELECT count(persist_enqueue('t', '{"a": 0}'));
SELECT persist_flush();
SELECT count(*) FROM persist_queue WHERE datname = current_database();
SELECT q.datid = d.oid AS datid, q.ring_size = s.setting::bigint * 1024 AS ring_size, ring_peak BETWEEN 1 AND ring_size AS ring_peak,
	ring_used, ring_closed, items_pending, items_persisted > 0 AS items_persisted, batches > 0 AS batches
FROM persist_queue AS q JOIN pg_database AS d USING (datname), pg_settings AS s
WHERE datname = current_database() AND s.name = 'persist_pipeline.ring_size';
-- its worker is a process of this database
SELECT a.backend_type, a.datname = current_database() AS here FROM persist_queue AS q JOIN pg_stat_activity AS a ON a.pid = q.worker_pid WHERE q.datname = current_database();
DO $$
BEGIN
	FOR i IN 1..6000 LOOP
		EXIT WHEN (SELECT worker_state FROM public.persist_queue WHERE datname = current_database()) = 'idle';
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
SELECT worker_state, state_since < now() AS state_since, oldest_at, parked_since, diverted_since, worker_failures, worker_failed_at FROM persist_queue WHERE datname = current_database();

-- the counters
SELECT items_persisted AS persisted, items_failed AS failed, batches FROM persist_queue WHERE datname = current_database() \gset
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('a', i))) FROM generate_series(1, 20) AS i;
COMMIT;
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 100}'));
ROLLBACK;
SELECT persist_flush();
SELECT items_persisted - :persisted AS persisted, items_failed - :failed AS failed, batches > :batches AS more_batches, items_pending, ring_used
FROM persist_queue WHERE datname = current_database();

-- while items wait for one that is being written
CREATE FUNCTION take_lock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	WHILE NOT pg_try_advisory_xact_lock(1886413932) LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN NEW;
END $$;
CREATE TRIGGER take_lock BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION take_lock();
SELECT pg_advisory_lock(1886413932);
SELECT clock_timestamp() AS before \gset
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('a', i))) FROM generate_series(21, 30) AS i;
COMMIT;
SELECT clock_timestamp() AS after \gset
SELECT count(persist_enqueue('t', '{"a": 31}'));
SELECT items_pending, ring_used > 0 AS ring_used, ring_used % 64 AS aligned, items_persisted - :persisted AS persisted FROM persist_queue WHERE datname = current_database();
CREATE PROCEDURE wait_for(condition text) LANGUAGE plpgsql AS $$
DECLARE
	met boolean;
BEGIN
	FOR i IN 1..6000 LOOP
		EXECUTE format('SELECT %s FROM public.persist_queue WHERE datname = current_database()', condition) INTO met;
		IF met THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RAISE 'never seen: %', condition;
END $$;
CALL wait_for($$ worker_state = 'writing' $$);
-- the oldest is one of the first transaction, whose time is that of its commit; two clocks are read for that, one after the other
SELECT oldest_at BETWEEN :'before'::timestamptz - interval '1 s' AND :'after'::timestamptz + interval '1 s' AS oldest_at, parked_since, diverted_since, state_since >= :'before'::timestamptz - interval '1 s' AS state_since
FROM persist_queue WHERE datname = current_database();
SELECT pg_advisory_unlock(1886413932);
SELECT persist_flush('5 min');
SELECT items_pending, items_parked, ring_used, items_persisted - :persisted AS persisted, items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();

-- while the target is locked: items are parked, and no longer in the ring
CREATE OR REPLACE FUNCTION take_lock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock(1886413932);
	RETURN NEW;
END $$;
SELECT pg_advisory_lock(1886413932);
SELECT count(persist_enqueue('t', jsonb_build_object('a', i))) FROM generate_series(32, 34) AS i;
CALL wait_for($$ retrier_state = 'waiting' $$);
SELECT persist_flush('5 min');
SELECT items_pending, items_parked, ring_used, items_persisted - :persisted AS persisted, items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT parked_since BETWEEN :'after'::timestamptz - interval '1 s' AND clock_timestamp() AS parked_since, oldest_at = parked_since AS oldest_at, last_error, last_error_at BETWEEN :'after'::timestamptz - interval '1 s' AND clock_timestamp() AS last_error_at
FROM persist_queue WHERE datname = current_database();
SELECT pg_advisory_unlock(1886413932);
CALL wait_for('items_pending = 0');
SELECT persist_flush('5 min');
SELECT items_pending, items_parked, ring_used, items_persisted - :persisted AS persisted, items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT oldest_at, parked_since, diverted_since FROM persist_queue WHERE datname = current_database();

-- who may look
CREATE ROLE pp_looker;
GRANT pg_monitor TO pp_looker;
SET ROLE pp_looker;
SELECT items_pending FROM persist_queue WHERE datname = current_database();
RESET ROLE;
DROP ROLE pp_looker;

-- an item counts once, though it fails again
CREATE TABLE bad (a int CHECK (a > 0));
SELECT items_failed AS failed FROM persist_queue WHERE datname = current_database() \gset
SELECT persist_enqueue('bad', '{"a": -1}') AS id \gset
SELECT persist_flush();
SELECT persist_requeue(ARRAY[:id]);
SELECT persist_flush();
SELECT attempts FROM persist_dead_letters WHERE id = :id;
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT persist_discard(ARRAY[:id]);

DROP SCHEMA queue CASCADE;
