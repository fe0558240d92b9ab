-- capture_settings: settings of the session go with the item, and are there for its INSERT alone.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA capture_settings;
SET search_path = capture_settings, public;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) IS NOT NULL AS others_are_gone;

CREATE ROLE pp_tenants;
CREATE ROLE pp_tenants_too;
GRANT USAGE ON SCHEMA capture_settings TO pp_tenants, pp_tenants_too;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean), persist_enqueue(record), persist_enqueue_many(regclass, jsonb) TO pp_tenants, pp_tenants_too;
CREATE TABLE t (n int, tenant text);
GRANT INSERT, SELECT ON t TO pp_tenants, pp_tenants_too;
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON t USING (tenant = current_setting('app.tenant')) WITH CHECK (tenant = current_setting('app.tenant'));

-- ---- what can be configured ----

SELECT persist_configure('t', capture_settings => '{app}');
SELECT persist_configure('t', capture_settings => '{app.}');
SELECT persist_configure('t', capture_settings => '{app.a b}');
SELECT persist_configure('t', capture_settings => '{"app.a=b"}');
SELECT persist_configure('t', capture_settings => '{no_such_setting}');
SELECT persist_configure('t', capture_settings => '{log_statement}');
SELECT persist_configure('t', capture_settings => '{session_preload_libraries}');
SELECT persist_configure('t', capture_settings => '{role}');
SELECT persist_configure('t', capture_settings => '{Session_Authorization}');
SELECT persist_configure('t', capture_settings => '{row_security}');
SELECT persist_configure('t', capture_settings => '{lock_timeout}');
SELECT persist_configure('t', capture_settings => '{persist_pipeline.durability}');
SELECT persist_configure('t', capture_settings => '{app.tenant,app.tenant}');
SELECT persist_configure('t', capture_settings => '{app.tenant,NULL}');
SELECT persist_configure('t', capture_settings => ARRAY(SELECT 'app.s' || i FROM generate_series(1, 17) AS i));
-- nor by what looks like a dump
INSERT INTO persist_settings (target, durability, capture_settings) VALUES ('t'::regclass, 'auto', '{role}');
INSERT INTO persist_settings (target, durability, capture_settings) VALUES ('t'::regclass, 'auto', '{log_statement}');
SELECT count(*) FROM persist_settings WHERE target = 't'::regclass;

-- ---- without it: the letter names the setting ----

SET app.tenant = 'a';
SET ROLE pp_tenants;
SELECT count(persist_enqueue('t'::regclass, '{"n": 0, "tenant": "a"}'));
RESET ROLE;
SELECT persist_flush();
SELECT item, sqlstate, message, detail FROM persist_dead_letters;

-- ---- with it ----

SELECT persist_configure('t', capture_settings => '{app.tenant,app.request,TimeZone}');
SELECT capture_settings FROM persist_settings WHERE target = 't'::regclass;
-- sent again: it has none
SELECT persist_requeue();
SELECT persist_flush();
SELECT item, sqlstate FROM persist_dead_letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
ALTER TABLE t ADD seen text;
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.seen := concat_ws(' ', current_user, current_setting('app.tenant'), current_setting('app.request', true), current_setting('TimeZone'));
	RETURN NEW;
END $$;
CREATE TRIGGER see BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION see();
SET TimeZone = 'Asia/Tokyo';
SELECT worker_pid FROM persist_queue WHERE datname = current_database() \gset
SET ROLE pp_tenants;
-- several of each in one batch, and one that isn't his tenant's
BEGIN;
SELECT count(persist_enqueue('t'::regclass, '{"n": 1, "tenant": "a"}'));
SET LOCAL app.tenant = 'b';
SET LOCAL app.request = 'r 1';
SELECT count(persist_enqueue('t'::regclass, '{"n": 2, "tenant": "b"}'));
SELECT count(persist_enqueue('t'::regclass, '{"n": 3, "tenant": "a"}'));
SELECT array_length(persist_enqueue_many('t'::regclass, '[{"n": 4, "tenant": "b"}]'), 1);
SET LOCAL app.tenant = 'a';
SELECT count(persist_enqueue(ROW(5, 'a', NULL)::t));
COMMIT;
SET ROLE pp_tenants_too;
SET app.tenant = 'c';
SELECT count(persist_enqueue('t'::regclass, '{"n": 6, "tenant": "c"}', false));
RESET ROLE;
SELECT persist_flush();
SELECT * FROM t ORDER BY n;
SELECT item -> 'n' AS n, sqlstate FROM persist_dead_letters;
-- the names that are left keep no worker from serving the other role
SELECT worker_pid = :worker_pid AS same_worker FROM persist_queue WHERE datname = current_database();
-- repaired: with the settings of who sends it
ALTER TABLE t DISABLE TRIGGER see;
SELECT persist_requeue(id, '{"n": 3, "tenant": "c"}') FROM persist_dead_letters;
SELECT persist_flush();
SELECT n, tenant FROM t WHERE n = 3;
ALTER TABLE t ENABLE TRIGGER see;
-- empty, odd and unset values
SET ROLE pp_tenants;
SET app.tenant = E'it''s "=\n\\';
SELECT count(persist_enqueue('t'::regclass, jsonb_build_object('n', 7, 'tenant', current_setting('app.tenant'))));
SET app.tenant = '';
SELECT count(persist_enqueue('t'::regclass, '{"n": 8, "tenant": ""}'));
RESET ROLE;
SELECT set_config('app.tenant', repeat('x', 8192), false) IS NOT NULL AS long;
SELECT persist_enqueue('t', '{"n": 9}');
SET app.tenant = 'd';
SET persist_pipeline.mode = direct;
SET ROLE pp_tenants;
SELECT count(persist_enqueue('t'::regclass, '{"n": 10, "tenant": "d"}'));
RESET ROLE;
RESET persist_pipeline.mode;
SHOW app.tenant;
SELECT persist_flush();
SELECT n, seen FROM t WHERE n > 6 ORDER BY n;

-- ---- what is deferred finds them, too: those of its transaction, the last of several ----

ALTER TABLE t DISABLE TRIGGER see;
CREATE TABLE bookings (n int PRIMARY KEY, booking int, amount int CHECK (amount < 100));
CREATE TABLE uncaptured (n int);
CREATE TABLE seen (what text, tenant text);
GRANT INSERT ON bookings, uncaptured TO pp_tenants;
CREATE FUNCTION see_deferred() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	INSERT INTO capture_settings.seen VALUES (TG_TABLE_NAME || ' ' || NEW.n, nullif(current_setting('app.tenant', true), ''));
	RETURN NULL;
END $$;
CREATE FUNCTION adds_up() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	IF (SELECT sum(amount) FROM capture_settings.bookings WHERE booking = NEW.booking) <> 0 THEN
		RAISE 'booking % does not add up', NEW.booking;
	END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER adds_up AFTER INSERT ON bookings DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION adds_up();
CREATE CONSTRAINT TRIGGER see AFTER INSERT ON bookings DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see_deferred();
CREATE CONSTRAINT TRIGGER see AFTER INSERT ON uncaptured DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see_deferred();
SELECT persist_configure('bookings', capture_settings => '{app.tenant}');
CREATE PROCEDURE book(tenant text, first int, VARIADIC amounts int[]) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('app.tenant', tenant, true);
	PERFORM public.persist_enqueue('capture_settings.bookings'::regclass, jsonb_build_object('n', first + i - 1, 'booking', first, 'amount', amounts[i])) FROM generate_subscripts(amounts, 1) AS i;
END $$;

-- one batch, in which all passes
SELECT persist_pause();
SET ROLE pp_tenants;
CALL book('a', 1, 5, -5);
CALL book('a', 3, 6, -6);
CALL book('b', 5, 7, -7);
SELECT count(persist_enqueue('uncaptured'::regclass, '{"n": 1}'));
BEGIN;
CALL book('c', 7, 0);
CALL book('d', 8, 0);
COMMIT;
CALL book('a', 9, 8, -8);
RESET ROLE;
SELECT persist_resume();
SELECT persist_flush();
TABLE seen ORDER BY what;
TRUNCATE seen, bookings;

-- one in which some fail: in the INSERT, and in what is deferred
SELECT persist_pause();
SET ROLE pp_tenants;
CALL book('a', 1, 5, -5);
CALL book('b', 3, 7, -7);
CALL book('c', 5, 0, 100, 0);
CALL book('d', 8, 1);
SELECT count(persist_enqueue('uncaptured'::regclass, '{"n": 2}'));
CALL book('e', 9, 9, -9);
RESET ROLE;
SELECT persist_resume();
SELECT persist_flush();
TABLE seen ORDER BY what;
SELECT item -> 'n' AS n, sqlstate FROM persist_dead_letters ORDER BY id;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) > 0 AS discarded;

-- nobody makes the rows of a batch defer something that wasn't there when it began
CREATE TABLE plain (n int);
CREATE TABLE slow (n int);
CREATE TABLE released ();
CREATE SEQUENCE reached;
GRANT INSERT ON plain, slow TO pp_tenants;
CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	PERFORM nextval('capture_settings.reached');
	WHILE NOT EXISTS (SELECT FROM capture_settings.released) LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN NEW;
END $$;
CREATE TRIGGER sleep BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION sleep();
SELECT persist_configure('plain', capture_settings => '{app.tenant}');
SET ROLE pp_tenants;
BEGIN;
SELECT count(persist_enqueue('slow'::regclass, '{"n": 1}'));
SELECT count(persist_enqueue('plain'::regclass, '{"n": 1}'));
COMMIT;
RESET ROLE;
DO $$
BEGIN
	WHILE NOT (SELECT is_called FROM reached) LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
SET lock_timeout = '100ms';
-- 19 says on what it has waited
\set SHOW_CONTEXT never
CREATE CONSTRAINT TRIGGER see AFTER INSERT ON plain DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see_deferred();
\unset SHOW_CONTEXT
RESET lock_timeout;
INSERT INTO released DEFAULT VALUES;
SELECT persist_flush();
TABLE plain;
SELECT * FROM seen WHERE what = 'plain 1';

ALTER TABLE t ENABLE TRIGGER see;

-- ---- gone afterwards, for others and for himself ----

CREATE TABLE others (n int, seen text);
GRANT INSERT ON others TO pp_tenants, pp_tenants_too;
CREATE FUNCTION see_others() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.seen := nullif(current_setting('app.tenant', true), '');
	RETURN NEW;
END $$;
CREATE TRIGGER see_others BEFORE INSERT ON others FOR EACH ROW EXECUTE FUNCTION see_others();
SET ROLE pp_tenants;
BEGIN;
SELECT count(persist_enqueue('t'::regclass, '{"n": 11, "tenant": "d"}'));
SELECT count(persist_enqueue('others'::regclass, '{"n": 1}'));
SELECT count(persist_enqueue('others'::regclass, '{"n": 2}'));
COMMIT;
RESET ROLE;
SELECT persist_flush();
SET ROLE pp_tenants;
SELECT count(persist_enqueue('t'::regclass, '{"n": 12, "tenant": "not d"}'));
SET ROLE pp_tenants_too;
SELECT count(persist_enqueue('others'::regclass, '{"n": 3}'));
RESET ROLE;
SELECT persist_flush();
TABLE others ORDER BY n;
SELECT n FROM t WHERE n > 10;
SELECT item -> 'n' AS n, sqlstate FROM persist_dead_letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) > 0 AS discarded;
-- nor does what code makes of it go on to one that has none
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('app.tenant', 'kept', false);
	RETURN NEW;
END $$;
CREATE TRIGGER keep AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION keep();
SET ROLE pp_tenants;
BEGIN;
SELECT count(persist_enqueue('t'::regclass, '{"n": 14, "tenant": "d"}'));
SELECT count(persist_enqueue('others'::regclass, '{"n": 14}'));
COMMIT;
RESET ROLE;
SELECT persist_flush();
SELECT n, tenant FROM t WHERE n = 14;
SELECT * FROM others WHERE n = 14;
-- but for the session, where it is the session's own INSERT
SET persist_pipeline.mode = direct;
SELECT count(persist_enqueue('t'::regclass, '{"n": 16, "tenant": "d"}'));
SHOW app.tenant;
SET app.tenant = 'd';
RESET persist_pipeline.mode;
DROP TRIGGER keep ON t;
-- names that are new again and again end with another worker
SELECT worker_pid FROM persist_queue WHERE datname = current_database() \gset
DO $$
BEGIN
	FOR i IN 1..64 LOOP
		EXECUTE format('CREATE TABLE named_%s (n int)', i);
		PERFORM set_config(format('app.n_%s_%s', i, k), '', false) FROM generate_series(1, 16) AS k;
		PERFORM persist_configure(format('named_%s', i)::regclass, capture_settings => ARRAY(SELECT format('app.n_%s_%s', i, k) FROM generate_series(1, 16) AS k));
		PERFORM persist_enqueue(format('named_%s', i), '{"n": 1}');
	END LOOP;
END $$;
SET ROLE pp_tenants;
SELECT count(persist_enqueue('others'::regclass, '{"n": 15}'));
RESET ROLE;
SELECT persist_flush();
TABLE named_64;
SELECT * FROM others WHERE n = 15;
SELECT worker_pid = :worker_pid AS same_worker FROM persist_queue WHERE datname = current_database();
-- taken back
SELECT persist_configure('t', capture_settings => '{}');
ALTER TABLE t DISABLE TRIGGER see;
SET ROLE pp_tenants;
SELECT count(persist_enqueue('t'::regclass, '{"n": 13, "tenant": "d"}'));
RESET ROLE;
SELECT persist_flush();
SELECT item -> 'n' AS n, sqlstate IN ('42501', '42704') AS refused FROM persist_dead_letters;

SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) > 0 AS discarded;
DROP OWNED BY pp_tenants, pp_tenants_too;
DROP ROLE pp_tenants, pp_tenants_too;
DROP SCHEMA capture_settings CASCADE;
