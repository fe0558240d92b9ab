-- unknown_keys => 'ignore': keys that are no column are passed over, and counted.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA unknown_keys;
SET search_path = unknown_keys, public;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) IS NOT NULL AS others_are_gone;

CREATE TABLE t (a int CHECK (a < 100), name text, g int GENERATED ALWAYS AS (a + 1) STORED, i int GENERATED ALWAYS AS IDENTITY);
ALTER TABLE t ADD dropped int, ADD b int;
ALTER TABLE t DROP dropped;
CREATE VIEW counted AS
SELECT enqueued, persisted, dead, pending, unknown_keys FROM public.persist_stats WHERE target = 'unknown_keys.t'::regclass;

-- ---- the setting ----

SELECT persist_configure('t', unknown_keys => 'pass');
SELECT persist_configure('t', unknown_keys => '');
SELECT persist_enqueue('t', '{"a": 1, "colour": "red"}');
SELECT persist_configure('t', unknown_keys => 'ignore');
SELECT target, durability, bad_items, unknown_keys FROM persist_settings WHERE target = 't'::regclass;
SELECT persist_configure('t', durability => 'journal');
SELECT durability, unknown_keys FROM persist_settings WHERE target = 't'::regclass;

-- ---- whatever they are, wherever they stand ----

BEGIN;
SELECT count(persist_enqueue('t', '{"a": 2, "colour": "red"}'));
SELECT count(persist_enqueue('t', '{"": 0, "z": 0, "a": 3, "a0": {"a": 1, "b": [1, {"b": 2}]}, "b": 3, "A": 9, "names": [], "nam": null, "dropped": 3, "ctid": "(0,1)", "tableoid": 5}'));
SELECT count(persist_enqueue('t'::regclass, '{"nothing": 1}'));
SELECT count(persist_enqueue('t'::regclass, '{"nothing": 1, "a": 4}'::json));
SELECT count(persist_enqueue('t', '{"a": 5}'));
SELECT array_length(persist_enqueue_many('t', '[{"a": 6, "x": 1}, {"a": 7}, {"y": 1, "a": 8, "z": 1}]'), 1);
COMMIT;
SELECT persist_flush();
SELECT a, name, b FROM t ORDER BY i;
TABLE counted;
-- rolled back
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 9, "colour": "red"}'));
ROLLBACK;
SELECT persist_flush();
TABLE counted;
-- through the ring alone
SELECT persist_configure('t', durability => 'ring');
SELECT count(persist_enqueue('t', '{"a": 10, "colour": "red"}'));
SELECT persist_flush();
TABLE counted;
-- by the caller: not ours, as all it does
SET persist_pipeline.mode = direct;
SELECT count(persist_enqueue('t', '{"a": 11, "colour": "red"}'));
RESET persist_pipeline.mode;
TABLE counted;

-- ---- once each ----

-- one that dies, and is sent again
SELECT count(persist_enqueue('t', '{"a": 100, "colour": "red"}'));
SELECT persist_flush();
TABLE counted;
ALTER TABLE t DROP CONSTRAINT t_a_check;
SELECT persist_requeue();
SELECT persist_flush();
TABLE counted;
-- one that is parked
SELECT persist_pause('t');
SELECT count(persist_enqueue('t', '{"a": 12, "colour": "red"}'));
SELECT persist_flush();
TABLE counted;
SELECT persist_resume('t');
DO $$BEGIN
	FOR i IN 1 .. 600 LOOP
		EXIT WHEN (SELECT pending = 0 FROM unknown_keys.counted);
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$;
TABLE counted;
SELECT a FROM t WHERE a IN (10, 11, 12, 100) ORDER BY a;

-- ---- what stays wrong ----

SELECT persist_enqueue('t', '[{"a": 1}]');
SELECT persist_enqueue('t', '{"a": "x", "colour": "red"}');
SELECT persist_enqueue('t', '{"g": 1, "colour": "red"}');
SELECT persist_enqueue('t', '{"i": 1, "colour": "red"}');
-- with dead letters: for the value, not for the key; the letter may be repaired
SELECT persist_configure('t', bad_items => 'dead');
SELECT count(persist_enqueue('t', '{"a": "x", "colour": "red"}'));
SELECT persist_flush();
SELECT item, sqlstate FROM persist_dead_letters;
SELECT persist_requeue(id, '{"a": 13, "shape": "round"}') FROM persist_dead_letters;
SELECT persist_flush();
SELECT a FROM t WHERE a = 13;
SELECT count(*) FROM persist_dead_letters;

-- ---- reset, and taken back ----

SELECT persist_stats_reset();
TABLE counted;
SELECT persist_configure('t', unknown_keys => 'error');
SELECT persist_configure('t', bad_items => 'error');
SELECT persist_enqueue('t', '{"a": 1, "colour": "red"}');
SELECT persist_configure('t', unknown_keys => 'ignore');
SELECT persist_unconfigure('t');
SELECT persist_enqueue('t', '{"a": 1, "colour": "red"}');

DROP SCHEMA unknown_keys CASCADE;
