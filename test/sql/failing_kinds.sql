-- Every kind of failure: the row dies alone, its letter has the right SQLSTATE, the rest
-- lands.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA failing_kinds;
SET search_path = failing_kinds, public;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) IS NOT NULL AS others_are_gone;

CREATE VIEW letters AS
SELECT item, sqlstate, constraint_name, message FROM public.persist_dead_letters ORDER BY id;
-- rows n = 1..9 in one transaction; 5 is bad
CREATE FUNCTION send(target regclass) RETURNS bigint LANGUAGE sql AS $$
SELECT count(public.persist_enqueue(target, jsonb_build_object('n', n))) FROM generate_series(1, 9) AS n$$;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.n = 5 THEN
		RAISE 'not this one';
	END IF;
	RETURN NEW;
END $$;

-- ---- triggers ----

CREATE TABLE before_row (n int);
CREATE TRIGGER refuse BEFORE INSERT ON before_row FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT send('before_row');
SELECT persist_flush();
SELECT string_agg(n::text, ' ' ORDER BY n) FROM before_row;
TABLE letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

CREATE TABLE after_row (n int);
CREATE TRIGGER refuse AFTER INSERT ON after_row FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT send('after_row');
SELECT persist_flush();
SELECT string_agg(n::text, ' ' ORDER BY n) FROM after_row;
TABLE letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- it sees the rows of its statement
CREATE TABLE after_statement (n int);
CREATE FUNCTION refuse_any() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM new_rows WHERE n = 5) THEN
		RAISE 'one of % is bad', (SELECT count(*) FROM new_rows);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER refuse AFTER INSERT ON after_statement REFERENCING NEW TABLE AS new_rows EXECUTE FUNCTION refuse_any();
SELECT send('after_statement');
SELECT persist_flush();
SELECT string_agg(n::text, ' ' ORDER BY n) FROM after_statement;
TABLE letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- it refuses all, whatever they are
CREATE TABLE before_statement (n int);
CREATE FUNCTION refuse_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE 'closed' USING ERRCODE = '0A000';
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON before_statement EXECUTE FUNCTION refuse_all();
BEGIN;
SELECT send('before_statement');
SELECT count(persist_enqueue('before_row', '{"n": 10}'));
COMMIT;
SELECT persist_flush();
SELECT count(*) FROM before_statement;
SELECT n FROM before_row WHERE n > 9;
SELECT count(*), min(sqlstate), max(sqlstate) FROM letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- as if the ring were full, for what it enqueues: with others there may be less of that
CREATE TABLE no_room (n int);
CREATE FUNCTION find_no_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.n = 5 THEN
		RAISE 'no room' USING ERRCODE = 'insufficient_resources';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER find_no_room BEFORE INSERT ON no_room FOR EACH ROW EXECUTE FUNCTION find_no_room();
SELECT send('no_room');
SELECT persist_flush();
SELECT string_agg(n::text, ' ' ORDER BY n) FROM no_room;
TABLE letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- at the commit
CREATE TABLE deferred_trigger (n int);
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON deferred_trigger DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT send('deferred_trigger');
SELECT persist_flush();
SELECT string_agg(n::text, ' ' ORDER BY n) FROM deferred_trigger;
TABLE letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- ---- constraints, and what is computed ----

CREATE TABLE computed (n int, g int GENERATED ALWAYS AS (1000 / (n - 5)) STORED);
CREATE TABLE indexed (n int);
CREATE INDEX ON indexed ((1000 / (n - 5)));
CREATE TABLE good (n int PRIMARY KEY);
INSERT INTO good SELECT n FROM generate_series(1, 9) AS n WHERE n <> 5;
CREATE TABLE referring (n int CONSTRAINT is_good REFERENCES good);
CREATE TABLE referring_deferred (n int CONSTRAINT is_good_later REFERENCES good DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE parts (n int) PARTITION BY LIST (n);
CREATE TABLE part PARTITION OF parts FOR VALUES IN (1, 2, 3, 4, 6, 7, 8, 9);
CREATE TABLE sub_parts (n int) PARTITION BY LIST (n);
CREATE TABLE sub_part PARTITION OF sub_parts FOR VALUES IN (1, 2, 3, 4, 5, 6, 7, 8, 9) PARTITION BY RANGE (n);
CREATE TABLE sub_part_low PARTITION OF sub_part (CONSTRAINT not_5 CHECK (n <> 5)) FOR VALUES FROM (1) TO (6);
CREATE TABLE sub_part_high PARTITION OF sub_part FOR VALUES FROM (6) TO (10);
-- straight into a partition
CREATE TABLE whole (n int) PARTITION BY LIST (n);
CREATE TABLE direct PARTITION OF whole FOR VALUES IN (1, 2, 3, 4, 6, 7, 8, 9);
BEGIN;
SELECT send('computed'), send('indexed'), send('referring'), send('referring_deferred'), send('parts'), send('sub_parts'), send('direct');
COMMIT;
SELECT persist_flush();
SELECT string_agg(n::text, ' ' ORDER BY n) FROM computed;
SELECT string_agg(n::text, ' ' ORDER BY n) FROM indexed;
SELECT string_agg(n::text, ' ' ORDER BY n) FROM referring;
SELECT string_agg(n::text, ' ' ORDER BY n) FROM referring_deferred;
SELECT string_agg(n::text, ' ' ORDER BY n) FROM parts;
SELECT string_agg(n::text, ' ' ORDER BY n) FROM sub_parts;
SELECT string_agg(n::text, ' ' ORDER BY n) FROM direct;
SELECT target::regclass, item, sqlstate, constraint_name, message FROM persist_dead_letters ORDER BY id;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- those that need another: the first in the order of the calls stays
CREATE TABLE uniq (n int, v text, CONSTRAINT one_of_each UNIQUE (n));
CREATE TABLE uniq_deferred (n int, v text, CONSTRAINT one_in_the_end UNIQUE (n) DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE excluding (n int4range, v text, CONSTRAINT apart EXCLUDE USING gist (n WITH &&));
INSERT INTO uniq VALUES (7, 'was there');
BEGIN;
SELECT count(persist_enqueue('uniq', jsonb_build_object('n', n, 'v', v))), count(persist_enqueue('uniq_deferred', jsonb_build_object('n', n, 'v', v))),
	count(persist_enqueue('excluding', jsonb_build_object('n', int4range(n, n + 2), 'v', v)))
FROM (VALUES (1, 'first'), (4, 'first'), (1, 'second'), (7, 'first'), (2, 'first'), (4, 'second')) AS r (n, v);
COMMIT;
SELECT count(persist_enqueue('uniq', '{"n": 1, "v": "third"}')), count(persist_enqueue('uniq_deferred', '{"n": 1, "v": "third"}'));
SELECT persist_flush();
SELECT * FROM uniq ORDER BY n;
SELECT * FROM uniq_deferred ORDER BY n;
SELECT * FROM excluding ORDER BY n;
SELECT target::regclass, item, sqlstate, constraint_name FROM persist_dead_letters ORDER BY id;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- NOT NULL; what is too long, or not in a domain, by the time of the flush
CREATE TABLE needed (n int NOT NULL);
CREATE DOMAIN loose AS int;
CREATE TABLE in_domain (n loose);
CREATE TABLE long (n text);
CREATE TABLE cut (n varchar(3));
CREATE FUNCTION lengthen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.n = '5' THEN
		NEW.n := 'much too long';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER lengthen BEFORE INSERT ON cut FOR EACH ROW EXECUTE FUNCTION lengthen();
SELECT persist_pause();
BEGIN;
SELECT count(persist_enqueue('needed', jsonb_build_object('n', NULLIF(n, 5)))), count(persist_enqueue('cut', jsonb_build_object('n', n))),
	count(persist_enqueue('long', jsonb_build_object('n', CASE n WHEN 5 THEN 'long' ELSE n::text END)))
FROM generate_series(1, 9) AS n;
SELECT send('in_domain');
COMMIT;
ALTER DOMAIN loose ADD CONSTRAINT strict CHECK (VALUE <> 5) NOT VALID;
ALTER TABLE long ADD CONSTRAINT short CHECK (length(n) < 3) NOT VALID;
SELECT persist_resume();
SELECT persist_flush();
SELECT string_agg(n::text, ' ' ORDER BY n) FROM needed;
SELECT string_agg(n::text, ' ' ORDER BY n) FROM cut;
SELECT string_agg(n::text, ' ' ORDER BY n) FROM long;
SELECT string_agg(n::text, ' ' ORDER BY n) FROM in_domain;
SELECT target::regclass, item, sqlstate, constraint_name, message FROM persist_dead_letters ORDER BY id;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- ---- policies, views and rules ----

CREATE ROLE pp_failing_kinds;
GRANT USAGE ON SCHEMA failing_kinds TO pp_failing_kinds;
GRANT EXECUTE ON FUNCTION send(regclass), persist_enqueue(regclass, jsonb, boolean) TO pp_failing_kinds;
CREATE TABLE secured (n int);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
CREATE POLICY not_5 ON secured FOR INSERT TO pp_failing_kinds WITH CHECK (n <> 5);
GRANT INSERT ON secured TO pp_failing_kinds;
SET ROLE pp_failing_kinds;
SELECT send('secured');
RESET ROLE;
SELECT persist_flush();
SELECT string_agg(n::text, ' ' ORDER BY n) FROM secured;
SELECT role_name, item, sqlstate, message FROM persist_dead_letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

CREATE TABLE base (n int);
CREATE VIEW checked_view AS SELECT n FROM base WHERE n <> 5 WITH CHECK OPTION;
SELECT send('checked_view');
SELECT persist_flush();
SELECT string_agg(n::text, ' ' ORDER BY n) FROM base;
SELECT target::regclass, item, sqlstate, message FROM persist_dead_letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

CREATE TABLE ruled (n int);
CREATE TABLE instead (n int CONSTRAINT not_5 CHECK (n <> 5));
CREATE RULE elsewhere AS ON INSERT TO ruled DO INSTEAD INSERT INTO instead VALUES (NEW.n);
SELECT send('ruled');
SELECT persist_flush();
SELECT string_agg(n::text, ' ' ORDER BY n) FROM instead;
SELECT count(*) FROM ruled;
SELECT target::regclass, item, sqlstate, constraint_name, message FROM persist_dead_letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

CREATE TABLE also_ruled (n int);
CREATE RULE copy AS ON INSERT TO also_ruled DO ALSO INSERT INTO instead VALUES (NEW.n + 10);
ALTER TABLE instead ADD CONSTRAINT not_15 CHECK (n <> 15);
SELECT send('also_ruled');
SELECT persist_flush();
SELECT string_agg(n::text, ' ' ORDER BY n) FROM instead WHERE n > 10;
SELECT string_agg(n::text, ' ' ORDER BY n) FROM also_ruled;
SELECT target::regclass, item, sqlstate, constraint_name FROM persist_dead_letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- ---- rows that need one another ----

-- two of one transaction, each other's, at its end: together, though others fail
CREATE TABLE left_hand (n int PRIMARY KEY, other int NOT NULL);
CREATE TABLE right_hand (n int PRIMARY KEY, other int NOT NULL REFERENCES left_hand DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE left_hand ADD FOREIGN KEY (other) REFERENCES right_hand DEFERRABLE INITIALLY DEFERRED;
CREATE TABLE lone (n int CONSTRAINT not_5 CHECK (n <> 5));
SELECT persist_pause();
SELECT count(persist_enqueue('left_hand', '{"n": 100, "other": 999}'));
BEGIN;
SELECT count(persist_enqueue('left_hand', '{"n": 1, "other": 1}'));
SELECT count(persist_enqueue('right_hand', '{"n": 1, "other": 1}'));
COMMIT;
SELECT send('lone');
BEGIN;
SELECT count(persist_enqueue('right_hand', '{"n": 2, "other": 2}'));
SELECT count(persist_enqueue('left_hand', '{"n": 2, "other": 2}'));
COMMIT;
SELECT count(persist_enqueue('right_hand', '{"n": 100, "other": 998}'));
BEGIN;
SELECT count(persist_enqueue('left_hand', jsonb_build_object('n', n, 'other', n))) FROM generate_series(3, 40) AS n;
SELECT count(persist_enqueue('right_hand', jsonb_build_object('n', n, 'other', n))) FROM generate_series(3, 40) AS n;
COMMIT;
SELECT persist_resume();
SELECT persist_flush();
SELECT count(*), sum(n) FROM left_hand;
SELECT count(*), sum(n) FROM right_hand;
SELECT string_agg(n::text, ' ' ORDER BY n) FROM lone;
SELECT target::regclass, item, sqlstate, constraint_name FROM persist_dead_letters ORDER BY id;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
-- with a bad row in the transaction itself
BEGIN;
SELECT count(persist_enqueue('left_hand', '{"n": 41, "other": 41}'));
SELECT count(persist_enqueue('right_hand', '{"n": 42, "other": null}'));
SELECT count(persist_enqueue('right_hand', '{"n": 41, "other": 41}'));
COMMIT;
SELECT persist_flush();
SELECT (SELECT count(*) FROM left_hand WHERE n > 40) AS left_hands, (SELECT count(*) FROM right_hand WHERE n > 40) AS right_hands;
SELECT target::regclass, item, sqlstate, constraint_name FROM persist_dead_letters ORDER BY id;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- a tree, parents first; what hangs on a bad one goes with it
CREATE TABLE tree (n int PRIMARY KEY, parent int REFERENCES tree, label text CONSTRAINT a_label CHECK (label <> 'bad'));
BEGIN;
SELECT count(persist_enqueue('tree', jsonb_build_object('n', n, 'parent', NULLIF(n / 2, 0), 'label', CASE n WHEN 6 THEN 'bad' ELSE 'good' END))) FROM generate_series(1, 30) AS n;
COMMIT;
SELECT count(persist_enqueue('tree', '{"n": 31, "parent": 15}'));
SELECT count(persist_enqueue('tree', '{"n": 32, "parent": 99}'));
SELECT persist_flush();
SELECT string_agg(n::text, ' ' ORDER BY n) FROM tree;
SELECT string_agg(format('%s %s', item ->> 'n', sqlstate), ', ' ORDER BY id) FROM persist_dead_letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- a circle of foreign keys, in the order of the calls
CREATE TABLE hen (n int PRIMARY KEY, egg int);
CREATE TABLE egg (n int PRIMARY KEY, hen int REFERENCES hen);
ALTER TABLE hen ADD FOREIGN KEY (egg) REFERENCES egg;
BEGIN;
SELECT count(persist_enqueue('hen', '{"n": 1}'));
SELECT count(persist_enqueue('egg', '{"n": 1, "hen": 1}'));
SELECT count(persist_enqueue('hen', '{"n": 2, "egg": 1}'));
SELECT count(persist_enqueue('egg', '{"n": 2, "hen": 2}'));
SELECT count(persist_enqueue('hen', '{"n": 3, "egg": 99}'));
SELECT count(persist_enqueue('egg', '{"n": 3, "hen": 2}'));
SELECT count(persist_enqueue('hen', '{"n": 4, "egg": 3}'));
SELECT count(persist_enqueue('egg', '{"n": 4, "hen": 4}'));
COMMIT;
SELECT count(persist_enqueue('hen', '{"n": 5, "egg": 4}'));
SELECT persist_flush();
SELECT (SELECT string_agg(n::text, ' ' ORDER BY n) FROM hen) AS hens, (SELECT string_agg(n::text, ' ' ORDER BY n) FROM egg) AS eggs;
SELECT target::regclass, item, sqlstate, constraint_name FROM persist_dead_letters ORDER BY id;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- a pair that needs each other, a bad row of the same transaction, and somebody else's
CREATE TABLE l (n int PRIMARY KEY, other int NOT NULL);
CREATE TABLE r (n int PRIMARY KEY, other int NOT NULL REFERENCES l DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE l ADD FOREIGN KEY (other) REFERENCES r DEFERRABLE INITIALLY DEFERRED;
SELECT persist_pause();
SELECT count(persist_enqueue('l', '{"n": 100, "other": 999}'));
BEGIN;
SELECT count(persist_enqueue('l', '{"n": 1, "other": 1}'));
SELECT count(persist_enqueue('r', '{"n": 1, "other": 1}'));
SELECT count(persist_enqueue('r', '{"n": 2, "other": null}'));
COMMIT;
SELECT persist_resume();
SELECT persist_flush();
SELECT (SELECT string_agg(n::text, ' ') FROM l) AS l, (SELECT string_agg(n::text, ' ') FROM r) AS r;
SELECT target_name, item, sqlstate FROM persist_dead_letters ORDER BY id;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- ---- a cancellation, at any point, and seen after it ----

CREATE TABLE cancelled (round int, n int CHECK (n NOT IN (3, 6)));
CREATE SEQUENCE firings;
CREATE FUNCTION cancel() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RETURN CASE WHEN nextval('failing_kinds.firings') = NEW.round THEN CASE WHEN pg_cancel_backend(pg_backend_pid()) THEN NULL END END;
END $$;
CREATE TRIGGER cancel AFTER INSERT ON cancelled FOR EACH ROW EXECUTE FUNCTION cancel();
CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON cancelled DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE PROCEDURE cancel_often() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..30 LOOP
		PERFORM setval('failing_kinds.firings', 1, false);
		PERFORM persist_enqueue('failing_kinds.cancelled', jsonb_build_object('round', i, 'n', n)) FROM generate_series(1, 9) AS n;
		COMMIT;
		IF NOT persist_flush() THEN
			RAISE 'not settled';
		END IF;
		COMMIT;
	END LOOP;
END $$;
CALL cancel_often();
SELECT n, count(*) FROM cancelled GROUP BY n ORDER BY n;
SELECT item->>'n' AS n, sqlstate, count(*) FROM persist_dead_letters GROUP BY 1, 2 ORDER BY 1, 2;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- each has been counted once, whatever it took to find out
SELECT s.target_name, enqueued, persisted, discarded, dead + skipped + lost + pending AS others
FROM persist_stats AS s JOIN pg_class AS c ON c.oid = s.target WHERE relnamespace = 'failing_kinds'::regnamespace ORDER BY s.target_name COLLATE "C";

-- nothing waits; a pass that another worker had begun may be made once more
SELECT persist_flush();
SELECT items_pending, ring_closed, diverted FROM persist_queue WHERE datname = current_database();
DROP OWNED BY pp_failing_kinds;
DROP ROLE pp_failing_kinds;
DROP SCHEMA failing_kinds CASCADE;
