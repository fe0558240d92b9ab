-- Rows that can't be inserted: each fails alone, is counted, and the rest lands,
-- in order.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA failing_rows;
SET search_path = failing_rows, public;

CREATE TABLE t (n int PRIMARY KEY, v int CHECK (v <> 13), req text NOT NULL DEFAULT 'x', arrived int);
CREATE SEQUENCE arrivals;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.arrived := nextval('failing_rows.arrivals');
	RETURN NEW;
END $$;
CREATE TRIGGER stamp BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE FUNCTION failed_since(before bigint) RETURNS bigint LANGUAGE sql AS $$
SELECT items_failed - before FROM public.persist_queue WHERE datname = current_database()$$;
CREATE FUNCTION failed() RETURNS bigint LANGUAGE sql AS $$
SELECT COALESCE((SELECT items_failed FROM public.persist_queue WHERE datname = current_database()), 0)$$;
SELECT failed() AS before \gset

-- one bad row of a thousand, in the middle of a transaction
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i, 'v', CASE i WHEN 500 THEN 13 ELSE i + 100 END))) FROM generate_series(1, 1000) AS i;
COMMIT;
SELECT persist_flush();
SELECT count(*), count(*) FILTER (WHERE n = 500) AS bad FROM t;
SELECT count(*) AS out_of_order FROM (SELECT n < lag(n) OVER (ORDER BY arrived) AS wrong FROM t) AS s WHERE wrong;
SELECT failed_since(:before) AS failed;

-- several, of several kinds: the first, the last, neighbours
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i, 'v', CASE WHEN i IN (1001, 1050, 1051, 1100) THEN 13 ELSE i END))) FROM generate_series(1001, 1100) AS i;
COMMIT;
SELECT count(persist_enqueue('t', '{"n": 1101, "req": null}'));
SELECT count(persist_enqueue('t', '{"v": 1}'));
SELECT count(persist_enqueue('t', '{"n": 1102}'));
SELECT persist_flush();
SELECT count(*) FROM t WHERE n > 1000;
SELECT failed_since(:before) AS failed;

-- all of them
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i, 'v', 13))) FROM generate_series(2001, 2064) AS i;
COMMIT;
SELECT persist_flush();
SELECT count(*) FROM t WHERE n > 2000;
SELECT failed_since(:before) AS failed;

-- the same key: the first in the order of the calls stays
TRUNCATE t;
BEGIN;
SELECT count(persist_enqueue('t', '{"n": 1, "req": "first"}'));
SELECT count(persist_enqueue('t', '{"n": 2, "req": "other"}'));
SELECT count(persist_enqueue('t', '{"n": 1, "req": "second"}'));
COMMIT;
SELECT count(persist_enqueue('t', '{"n": 1, "req": "third"}'));
SELECT count(persist_enqueue('t', '{"n": 3, "req": "last"}'));
SELECT persist_flush();
SELECT n, req FROM t ORDER BY n;
SELECT failed_since(:before) AS failed;

-- a trigger's error, of any class; its side effects go with it
CREATE TABLE picky (n int);
CREATE TABLE side (n int);
CREATE FUNCTION pick() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO failing_rows.side VALUES (NEW.n);
	IF NEW.n % 10 = 3 THEN
		RAISE 'not this one' USING ERRCODE = CASE NEW.n WHEN 3 THEN 'P0001' WHEN 13 THEN '22012' WHEN 23 THEN 'XX000' WHEN 33 THEN '57014' WHEN 43 THEN '42601' ELSE '23505' END;
	END IF;
	IF NEW.n % 10 = 5 THEN
		RETURN NULL;
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER pick BEFORE INSERT ON picky FOR EACH ROW EXECUTE FUNCTION pick();
SELECT failed() AS before \gset
BEGIN;
SELECT count(persist_enqueue('picky', jsonb_build_object('n', i))) FROM generate_series(1, 60) AS i;
COMMIT;
SELECT persist_flush();
SELECT failed_since(:before) AS failed;
SELECT count(*), count(*) FILTER (WHERE n % 10 = 3) AS bad, count(*) FILTER (WHERE n % 10 = 5) AS skipped FROM picky;
SELECT count(*), count(*) FILTER (WHERE n % 10 = 3) AS bad, count(*) FILTER (WHERE n % 10 = 5) AS skipped, count(DISTINCT n) FROM side;

-- deferred constraints: the rows that break them fail
CREATE TABLE deferred (n int, u int UNIQUE DEFERRABLE INITIALLY DEFERRED, p int);
CREATE TABLE referred (id int PRIMARY KEY);
INSERT INTO referred VALUES (1);
ALTER TABLE deferred ADD FOREIGN KEY (p) REFERENCES referred DEFERRABLE INITIALLY DEFERRED;
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.n = 7 THEN
		RAISE 'late';
	END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
SELECT failed() AS before \gset
BEGIN;
SELECT count(persist_enqueue('deferred', jsonb_build_object('n', i, 'u', CASE i WHEN 3 THEN 2 ELSE i END, 'p', CASE i WHEN 5 THEN 5 ELSE 1 END))) FROM generate_series(1, 10) AS i;
COMMIT;
SELECT persist_flush();
SELECT n, u, p FROM deferred ORDER BY n;
SELECT failed_since(:before) AS failed;

-- an exclusion constraint, an index expression, a partial unique index
CREATE TABLE excluded (r int4range, EXCLUDE USING gist (r WITH &&));
CREATE TABLE indexed (a int);
CREATE INDEX ON indexed ((10 / a));
SELECT failed() AS before \gset
BEGIN;
SELECT count(persist_enqueue('excluded', jsonb_build_object('r', r))) FROM unnest(ARRAY['[1,5)', '[5,9)', '[4,6)', '[9,10)']) AS r;
SELECT count(persist_enqueue('indexed', jsonb_build_object('a', a))) FROM unnest(ARRAY[1, 0, 2]) AS a;
COMMIT;
SELECT persist_flush();
SELECT r FROM excluded ORDER BY r;
SELECT a FROM indexed ORDER BY a;
SELECT failed_since(:before) AS failed;

-- bad rows of several tables and roles in one transaction
CREATE ROLE pp_failing;
GRANT USAGE ON SCHEMA failing_rows TO pp_failing;
GRANT INSERT ON t, indexed TO pp_failing;
GRANT USAGE ON SEQUENCE arrivals TO pp_failing;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_failing;
TRUNCATE t, indexed;
SELECT failed() AS before \gset
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i, 'v', CASE i WHEN 2 THEN 13 END))) FROM generate_series(1, 3) AS i;
SET LOCAL ROLE pp_failing;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i, 'v', CASE i WHEN 5 THEN 13 END))) FROM generate_series(4, 6) AS i;
SELECT count(persist_enqueue('indexed', jsonb_build_object('a', i - 5))) FROM generate_series(4, 6) AS i;
RESET ROLE;
SELECT count(persist_enqueue('indexed', jsonb_build_object('a', i - 8))) FROM generate_series(7, 9) AS i;
COMMIT;
SELECT persist_flush();
SELECT string_agg(n::text, ' ' ORDER BY n) FROM t;
SELECT string_agg(a::text, ' ' ORDER BY a) FROM indexed;
SELECT failed_since(:before) AS failed;
-- the same in the ring alone: what has landed isn't there to be inserted again
CREATE TABLE in_ring (n int CHECK (n <> 3));
GRANT INSERT ON in_ring TO pp_failing;
SELECT persist_configure('in_ring', durability => 'ring');
BEGIN;
SELECT count(persist_enqueue('in_ring', '{"n": 1}'));
SET LOCAL ROLE pp_failing;
SELECT count(persist_enqueue('in_ring', jsonb_build_object('n', i))) FROM generate_series(2, 4) AS i;
COMMIT;
SELECT persist_flush();
SELECT string_agg(n::text, ' ' ORDER BY n) FROM in_ring;
SELECT enqueued, persisted, dead FROM persist_stats WHERE target = 'in_ring'::regclass;
-- and nothing waits
SELECT items_pending, ring_used, ring_closed FROM persist_queue WHERE datname = current_database();
DROP OWNED BY pp_failing;
DROP ROLE pp_failing;

DROP SCHEMA failing_rows CASCADE;
