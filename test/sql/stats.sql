-- persist_stats: what has become of the items of each target; at quiet moments it all
-- adds up, and to what was committed.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA stats;
SET search_path = stats, public;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) IS NOT NULL AS others_are_gone;

CREATE TABLE t (n int PRIMARY KEY, v text CONSTRAINT allowed CHECK (v <> 'secret'));
CREATE TABLE other (n int);
CREATE TABLE passed_over (n int);
CREATE FUNCTION pass_over() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RETURN CASE WHEN NEW.n % 3 = 0 THEN NEW END;
END $$;
CREATE TRIGGER pass_over BEFORE INSERT ON passed_over FOR EACH ROW EXECUTE FUNCTION pass_over();
CREATE TABLE nowhere (n int);
CREATE RULE nowhere AS ON INSERT TO nowhere DO INSTEAD NOTHING;
CREATE TABLE somewhere (n int);
CREATE RULE nowhere AS ON INSERT TO somewhere WHERE NEW.n > 2 DO INSTEAD NOTHING;

-- of each target of ours, and whether any target's sum is wrong
CREATE VIEW account AS
SELECT target_name, enqueued, persisted, skipped, dead, discarded, lost, pending, parked, batches > 0 AS batches, errors
FROM public.persist_stats WHERE target IN (SELECT oid FROM pg_class WHERE relnamespace = 'stats'::regnamespace) ORDER BY target_name;
CREATE VIEW wrong AS
SELECT * FROM public.persist_stats
WHERE enqueued <> persisted + skipped + dead + discarded + lost + pending OR least(enqueued, persisted, skipped, dead, discarded, lost, pending, parked, batches, errors) < 0
OR dead <> (SELECT count(*) FROM public.persist_dead_letters AS l WHERE l.target = persist_stats.target);

TABLE account;
SELECT persist_stats_reset();
SELECT count(*) FROM wrong;

-- ---- counted, and not ----

BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('n', n))) FROM generate_series(1, 100) AS n;
SELECT count(persist_enqueue('other', jsonb_build_object('n', n))) FROM generate_series(1, 7) AS n;
COMMIT;
-- rolled back
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('n', n))) FROM generate_series(201, 300) AS n;
ROLLBACK;
BEGIN;
SELECT count(persist_enqueue('t', '{"n": 101}'));
SAVEPOINT a;
SELECT count(persist_enqueue('t', '{"n": 102}'));
SELECT count(persist_enqueue('other', '{"n": 8}'));
SAVEPOINT b;
SELECT count(persist_enqueue('t', '{"n": 103}'));
RELEASE b;
ROLLBACK TO a;
SELECT count(persist_enqueue('t', '{"n": 104}'));
COMMIT;
-- refused
SELECT persist_enqueue('t', '{"m": 105}');
-- inserted by the caller: not ours
SET persist_pipeline.mode = direct;
SELECT count(persist_enqueue('t', '{"n": 106}'));
RESET persist_pipeline.mode;
-- not transactional: rolled back or not
BEGIN;
SELECT count(persist_enqueue('other'::regclass, '{"n": 9}', false));
ROLLBACK;
SELECT count(persist_enqueue(ROW(10)::other));
SELECT array_length(persist_enqueue_many('other', '[{"n": 11}, {"n": 12}]'), 1);
SELECT persist_flush();
TABLE account;
SELECT (SELECT count(*) FROM t) AS t, (SELECT count(*) FROM other) AS other;
SELECT count(*) FROM wrong;

-- ---- skipped ----

SELECT count(persist_enqueue('passed_over', jsonb_build_object('n', n))) FROM generate_series(1, 10) AS n;
SELECT count(persist_enqueue('nowhere', jsonb_build_object('n', n))) FROM generate_series(1, 4) AS n;
SELECT count(persist_enqueue('somewhere', jsonb_build_object('n', n))) FROM generate_series(1, 5) AS n;
SELECT persist_flush();
SELECT * FROM account WHERE skipped > 0;
SELECT (SELECT count(*) FROM passed_over) AS passed_over, (SELECT count(*) FROM nowhere) AS nowhere, (SELECT count(*) FROM somewhere) AS somewhere;
SELECT count(*) FROM wrong;

-- ---- dead, requeued, discarded ----

SELECT array_agg(persist_enqueue('t', jsonb_build_object('n', 400 + n, 'v', CASE WHEN n <= 5 THEN 'secret' ELSE 'open' END))) AS ids FROM generate_series(1, 8) AS n \gset
SELECT persist_flush();
SELECT * FROM account WHERE target_name = 'stats.t';
SELECT last_error, last_error_at BETWEEN now() - interval '1 min' AND clock_timestamp() AS last_error_at, last_persisted_at BETWEEN now() - interval '1 min' AND clock_timestamp() AS last_persisted_at
FROM persist_stats WHERE target = 't'::regclass;
-- nothing in it of what was inserted
SELECT count(*) FROM persist_stats AS s WHERE s::text LIKE '%secret%';
SELECT persist_discard((:'ids'::bigint[])[1:2]);
SELECT * FROM account WHERE target_name = 'stats.t';
BEGIN;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
SELECT dead, discarded FROM account WHERE target_name = 'stats.t';
ROLLBACK;
SELECT dead, discarded FROM account WHERE target_name = 'stats.t';
-- in vain: no more of them
SELECT persist_requeue(ARRAY[(:'ids'::bigint[])[3]]);
SELECT persist_flush();
SELECT * FROM account WHERE target_name = 'stats.t';
BEGIN;
SELECT persist_requeue();
ROLLBACK;
SELECT * FROM account WHERE target_name = 'stats.t';
SELECT persist_requeue((:'ids'::bigint[])[3], '{"n": 403}');
ALTER TABLE t DROP CONSTRAINT allowed;
SELECT persist_requeue();
SELECT persist_flush();
SELECT * FROM account WHERE target_name = 'stats.t';
SELECT count(*) FROM t;
SELECT count(*) FROM wrong;

-- letters of items that didn't fit
SELECT persist_configure('other', bad_items => 'dead');
BEGIN;
SELECT count(persist_enqueue('other', '{"m": 1}')), count(persist_enqueue('other', '{"n": 13}'));
COMMIT;
BEGIN;
SELECT count(persist_enqueue('other', '{"m": 1}'));
ROLLBACK;
SELECT persist_flush();
SELECT * FROM account WHERE target_name = 'stats.other';
SELECT last_error FROM persist_stats WHERE target = 'other'::regclass;
SELECT persist_requeue(id, '{"n": 14}') FROM persist_dead_letters;
SELECT persist_flush();
SELECT * FROM account WHERE target_name = 'stats.other';
SELECT (SELECT count(*) FROM other) AS other;
SELECT count(*) FROM wrong;

-- ---- pending ----

-- in the ring or the journal
SELECT persist_pause();
SELECT count(persist_enqueue('other', jsonb_build_object('n', n))) FROM generate_series(15, 20) AS n;
SELECT persist_flush();
SELECT * FROM account WHERE target_name = 'stats.other';
SELECT count(*) FROM wrong;
SELECT persist_resume();
SELECT persist_flush();
SELECT * FROM account WHERE target_name = 'stats.other';
-- parked
SELECT persist_pause('other');
SELECT count(persist_enqueue('other', jsonb_build_object('n', n))) FROM generate_series(21, 23) AS n;
SELECT count(persist_enqueue('t', '{"n": 500}'));
SELECT persist_flush();
SELECT * FROM account WHERE target_name IN ('stats.other', 'stats.t');
SELECT count(*) FROM wrong;
SELECT persist_resume('other');
DO $$BEGIN
	FOR i IN 1 .. 300 LOOP
		EXIT WHEN (SELECT pending = 0 FROM public.persist_stats WHERE target = 'stats.other'::regclass);
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$;
SELECT * FROM account WHERE target_name = 'stats.other';
SELECT count(*) FROM wrong;

-- ---- who may look ----

CREATE ROLE pp_stats_monitor IN ROLE pg_monitor;
CREATE ROLE pp_stats_nobody;
SET ROLE pp_stats_monitor;
SELECT count(*) > 0 AS rows FROM persist_stats;
SELECT count(*) FROM persist_dead_letters;
SELECT count(*) FROM persist_pipeline_internal.persist_account;
SELECT persist_stats_reset();
SET ROLE pp_stats_nobody;
SELECT count(*) FROM persist_stats;
SELECT count(*) FROM persist_pipeline_internal.persist_waiting_rows();
RESET ROLE;

-- ---- a relation that is no more ----

CREATE TABLE gone (n int CHECK (n > 0));
SELECT count(persist_enqueue('gone', jsonb_build_object('n', n))) FROM generate_series(0, 3) AS n;
SELECT persist_flush();
SELECT 'gone'::regclass::oid AS gone \gset
DROP TABLE gone;
SELECT target_name = target::text AS nameless, enqueued, persisted, dead, pending FROM persist_stats WHERE target = :gone;
SELECT count(*) FROM wrong;
-- items that come to it too late
CREATE TABLE gone_too (n int);
SELECT 'gone_too'::regclass::oid AS gone_too \gset
SELECT persist_pause();
SELECT count(persist_enqueue('gone_too', '{"n": 1}'));
DROP TABLE gone_too;
SELECT enqueued, pending FROM persist_stats WHERE target = :gone_too;
SELECT persist_resume();
SELECT persist_flush();
SELECT enqueued, persisted, dead, pending, last_error FROM persist_stats WHERE target = :gone_too;
SELECT count(*) FROM wrong;
-- sent to it again, in vain
SELECT persist_requeue();
SELECT persist_flush();
SELECT enqueued, persisted, dead, pending FROM persist_stats WHERE target IN (:gone, :gone_too) ORDER BY target;
SELECT count(*) FROM wrong;

-- ---- from the beginning ----

SELECT persist_stats_reset();
SELECT * FROM account;
SELECT count(*) FROM persist_stats WHERE last_error IS NOT NULL OR last_error_at IS NOT NULL;
SELECT sum(dead) = (SELECT count(*) FROM persist_dead_letters) AS dead_are_dead FROM persist_stats;
SELECT enqueued, dead FROM persist_stats WHERE target IN (:gone, :gone_too) ORDER BY target;
SELECT count(*) FROM wrong;
-- one that is rolled back
SELECT count(persist_enqueue('other', '{"n": 30}'));
SELECT persist_flush();
BEGIN;
SELECT persist_stats_reset();
SELECT enqueued FROM account WHERE target_name = 'stats.other';
ROLLBACK;
SELECT enqueued, persisted FROM account WHERE target_name = 'stats.other';
-- discarded after it
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
SELECT sum(dead) AS dead FROM persist_stats;
SELECT count(*) FROM wrong;

-- ---- many transactions: when the worker sums up, nothing changes ----

SELECT persist_stats_reset();
CREATE PROCEDURE trickle(n int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM public.persist_enqueue('stats.other'::regclass, jsonb_build_object('n', i));
		COMMIT;
		PERFORM public.persist_flush();
		COMMIT;
	END LOOP;
END $$;
CREATE TABLE dropped (n int CHECK (n > 0));
CREATE TABLE dropped_with_letter (LIKE dropped INCLUDING ALL);
SELECT count(persist_enqueue(target, '{"n": 1}')) FROM unnest('{passed_over, dropped}'::regclass[]) AS target;
SELECT count(persist_enqueue('dropped_with_letter', '{"n": -1}')), count(persist_enqueue('t', '{"n": 6001, "v": "secret"}'));
SELECT persist_flush();
SELECT count(persist_enqueue('passed_over', '{"n": 3}')), count(persist_enqueue('t', '{"n": 1}')), count(persist_enqueue('t', '{"n": 6002}'));
SELECT persist_flush();
SELECT persist_discard(ARRAY(SELECT min(id) FROM public.persist_dead_letters WHERE target = 't'::regclass));
DROP TABLE dropped, dropped_with_letter;
CREATE VIEW quiet AS SELECT * FROM public.persist_stats WHERE target <> 'stats.other'::regclass;
CREATE TABLE quiet_before AS TABLE quiet;
CALL trickle(600);
SELECT * FROM account WHERE target_name IN ('stats.other', 'stats.passed_over', 'stats.t');
-- of what is no more, and has no letters, the sum is left
SELECT count(*) FROM (SELECT * FROM quiet_before WHERE target = 0 OR dead > 0 OR target IN (SELECT oid FROM pg_class) EXCEPT TABLE quiet) AS changed WHERE target <> 0;
SELECT (SELECT ARRAY[sum(persisted), sum(skipped), sum(dead), sum(discarded), sum(lost), sum(errors)] FROM quiet_before) =
	(SELECT ARRAY[sum(persisted), sum(skipped), sum(dead), sum(discarded), sum(lost), sum(errors)] FROM quiet) AS same_sums;
SELECT batches FROM persist_stats WHERE target = 'other'::regclass;
SELECT count(*) < 600 AS summed_up FROM persist_pipeline_internal.persist_account WHERE target = 'other'::regclass;
SELECT count(*) FROM wrong;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

DROP ROLE pp_stats_monitor, pp_stats_nobody;
DROP SCHEMA stats CASCADE;
