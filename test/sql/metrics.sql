-- The view persist_metrics.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA metrics;
SET search_path = metrics, public;

-- what Prometheus wants
SELECT name, labels, count(*) FROM persist_metrics GROUP BY 1, 2 HAVING count(*) > 1;
SELECT DISTINCT name FROM persist_metrics WHERE name !~ '^persist_pipeline_[a-z_]+$' OR help = '' OR value < 0;
SELECT DISTINCT name, type FROM persist_metrics
WHERE type <> CASE WHEN name ~ '_(bucket|sum|count)$' THEN 'histogram' WHEN name ~ '_total$' THEN 'counter' ELSE 'gauge' END;
SELECT DISTINCT name FROM persist_metrics, jsonb_each(labels) AS l
WHERE jsonb_typeof(l.value) <> 'string' OR l.key NOT IN ('datname', 'target', 'class', 'reason', 'le');
SELECT bool_and(labels->>'datname' = current_database()) AS datname FROM persist_metrics;

CREATE VIEW metric AS
SELECT substr(name, 18) AS name, labels - 'datname' AS labels, value FROM persist_metrics;
CREATE VIEW bucket AS
SELECT b.name, (b.labels->>'le')::float8 AS le, b.value,
	b.value - lag(b.value, 1, 0) OVER (PARTITION BY b.name ORDER BY (b.labels->>'le')::float8) AS of_its_own
FROM metric AS b WHERE b.name ~ '_bucket$';

-- buckets: 16 bounds and +Inf, which is the count; they grow
SELECT name, count(*), min(le), max(le) FILTER (WHERE le < 'Infinity') AS bound, max(le) FROM bucket GROUP BY 1 ORDER BY 1;
SELECT name FROM bucket WHERE of_its_own < 0;
SELECT b.name FROM bucket AS b JOIN metric AS c ON c.name = replace(b.name, '_bucket', '_count') WHERE b.le = 'Infinity' AND b.value <> c.value;

-- a transaction of 20 items, one of them bad, and one of 30 for another target
CREATE TABLE t (a int CHECK (a <> 13));
CREATE TABLE u (a int);
SELECT persist_flush();
CREATE TABLE before AS SELECT * FROM metric;
CREATE VIEW since AS
SELECT name, m.labels, m.value - COALESCE(b.value, 0) AS value FROM metric AS m LEFT JOIN before AS b USING (name, labels);
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('a', i))) FROM generate_series(1, 20) AS i;
SELECT count(persist_enqueue('u', jsonb_build_object('a', i))) FROM generate_series(1, 30) AS i;
COMMIT;
SELECT persist_flush();
SELECT name, value FROM since
WHERE name IN ('enqueued_total', 'persisted_total', 'dead_total', 'dead_letters', 'targets', 'commit_to_visible_seconds_count', 'batch_items_sum', 'batch_items_count', 'batch_seconds_count')
ORDER BY 1;
SELECT name, labels->>'target' AS target, value FROM since WHERE labels ? 'target' AND labels->>'target' ~ '^metrics\.' AND value <> 0 ORDER BY 2, 1;
SELECT labels->>'class' AS class, value FROM since WHERE name = 'errors_total' AND value <> 0;
-- all there are, but for the last stop's, which there may not have been
SELECT DISTINCT type, substr(name, 18) AS name FROM persist_metrics WHERE name !~ '_last_shutdown_|_health_severity' ORDER BY 1, 2;
-- it took some time: less than the test
SELECT value > 0 AS some, value < 49 * 60 AS bounded FROM since WHERE name = 'commit_to_visible_seconds_sum';
SELECT value > 0 AS some, value < 60 AS bounded FROM since WHERE name = 'batch_seconds_sum';
SELECT name, value FROM metric WHERE name IN ('pending', 'parked', 'paused', 'diverted', 'preloaded', 'standby', 'worker_running', 'ring_used_bytes', 'journal_bytes', 'at_risk_seconds', 'stuck_processes', 'copied', 'oldest_item_age_seconds', 'parked_age_seconds') ORDER BY 1;
SELECT m.value = s.setting::bigint * 1024 AS journal_limit FROM metric AS m, pg_settings AS s WHERE m.name = 'journal_limit_bytes' AND s.name = 'persist_pipeline.journal_limit';
SELECT m.value = s.setting::bigint * 1024 AS ring_size FROM metric AS m, pg_settings AS s WHERE m.name = 'ring_size_bytes' AND s.name = 'persist_pipeline.ring_size';

-- an error of a class of one's own is one of "other"; nobody's message or value is shown
CREATE FUNCTION raise() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'secret %', NEW.a USING ERRCODE = 'ZZ123';
END $$;
CREATE TRIGGER raise BEFORE INSERT ON u FOR EACH ROW WHEN (NEW.a = 31) EXECUTE FUNCTION raise();
DROP TABLE before CASCADE;
CREATE TABLE before AS SELECT * FROM metric;
SELECT count(persist_enqueue('u', '{"a": 31}'));
SELECT persist_flush();
SELECT m.labels->>'class' AS class, m.value - b.value AS value FROM metric AS m JOIN before AS b USING (name, labels) WHERE m.name = 'errors_total' AND m.value <> b.value;
SELECT count(*) FROM persist_metrics AS m WHERE m::text ~ 'secret';
SELECT count(*) FROM metric WHERE name = 'errors_total';

-- what is parked is not visible yet
SELECT persist_pause('u');
DROP TABLE before;
CREATE TABLE before AS SELECT * FROM metric;
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 40}')), count(persist_enqueue('u', '{"a": 41}'));
COMMIT;
SELECT persist_flush(target => 't');
SELECT m.name, m.labels->>'target' AS target, m.value - b.value AS value FROM metric AS m JOIN before AS b USING (name, labels)
WHERE name IN ('items_pending', 'items_parked', 'items_persisted_total', 'pending', 'parked', 'commit_to_visible_seconds_count') AND m.value <> b.value
AND m.labels->>'target' IS DISTINCT FROM '0' -- of relations that are gone, added up now and then
ORDER BY 1, 2;
SELECT name, value > 0 AS some FROM metric WHERE name IN ('oldest_item_age_seconds', 'parked_age_seconds') ORDER BY 1;
-- health is that of persist_health()
SELECT h.status, m.value FROM persist_health() AS h, metric AS m WHERE m.name = 'health';
SELECT r->>'code' AS reason, r->>'severity' AS severity, m.value FROM persist_health() AS h, jsonb_array_elements(h.reasons) AS r LEFT JOIN metric AS m ON m.name = 'health_severity' AND m.labels->>'reason' = r->>'code' WHERE r->>'code' = 'paused';
SELECT persist_resume('u');
SELECT persist_flush();
SELECT m.name, m.labels->>'target' AS target, m.value - b.value AS value FROM metric AS m JOIN before AS b USING (name, labels)
WHERE name IN ('items_pending', 'items_parked', 'items_persisted_total', 'pending', 'parked', 'commit_to_visible_seconds_count') AND m.value <> b.value
AND m.labels->>'target' IS DISTINCT FROM '0' -- of relations that are gone, added up now and then
ORDER BY 1, 2;

-- persist_stats_reset(): to 0, what the account has; nothing goes down otherwise
CREATE TABLE until AS SELECT * FROM metric;
SELECT persist_stats_reset();
SELECT DISTINCT name FROM metric AS m JOIN until AS b USING (name, labels)
WHERE m.name ~ '(_total|_bucket|_sum|_count)$' AND m.value < b.value AND m.value <> 0;
SELECT DISTINCT name LIKE 'items\_%\_total' AS of_targets FROM metric AS m JOIN until AS b USING (name, labels) WHERE m.name ~ '(_total|_bucket|_sum|_count)$' AND m.value < b.value ORDER BY 1;

-- 100 targets at most have metrics of their own
SELECT value AS targets FROM metric WHERE name = 'targets' \gset
SELECT count(*) AS shown FROM metric WHERE name = 'items_persisted_total' \gset
SELECT :targets = :shown OR :targets > 100 AS shown;
DO $$
BEGIN
	FOR i IN 1..105 LOOP
		EXECUTE format('CREATE TABLE m_%s (a int)', i);
		PERFORM public.persist_enqueue(format('m_%s', i)::regclass, '{"a": 1}');
	END LOOP;
END $$;
SELECT persist_flush();
SELECT m.value >= 105 AS all, (SELECT count(*) FROM metric WHERE name = 'items_persisted_total') AS shown FROM metric AS m WHERE m.name = 'targets';

-- for pg_monitor, in a read-only transaction, whatever the search_path
CREATE ROLE pp_watches;
GRANT pg_monitor TO pp_watches;
SELECT count(*) AS all FROM persist_metrics \gset
BEGIN READ ONLY;
SET LOCAL ROLE pp_watches;
SET LOCAL search_path = pg_temp, metrics;
SELECT count(*) = :all AS readable FROM public.persist_metrics;
COMMIT;
CREATE ROLE pp_nobody;
SET ROLE pp_nobody;
SELECT count(*) FROM persist_metrics;
RESET ROLE;

SELECT count(persist_discard(ARRAY[id])) FROM persist_dead_letters WHERE target_name ~ '^metrics\.';
DROP ROLE pp_watches, pp_nobody;
SET client_min_messages = error;
DROP SCHEMA metrics CASCADE;
