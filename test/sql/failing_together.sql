-- Rows of one transaction that need each other, by what is deferred, and one that fails:
-- it alone dies.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA failing_together;
SET search_path = failing_together, public;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) IS NOT NULL AS others_are_gone;

CREATE FUNCTION letters() RETURNS text LANGUAGE sql AS $$
SELECT string_agg(format('%s %s %s', target_name, item, sqlstate), ', ' ORDER BY id) FROM public.persist_dead_letters $$;

-- a child that comes before its parent, and one that has none
CREATE TABLE parent (n int PRIMARY KEY);
CREATE TABLE child (n int PRIMARY KEY, parent int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
BEGIN;
SELECT count(persist_enqueue('child', '{"n": 1, "parent": 1}'));
SELECT count(persist_enqueue('parent', '{"n": 1}'));
SELECT count(persist_enqueue('child', '{"n": 2, "parent": 99}'));
COMMIT;
SELECT persist_flush();
TABLE child;
SELECT letters();
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- 1,000 pairs, each in a circle, one that dangles in the middle, and one that needs that one
CREATE TABLE l (n int PRIMARY KEY, r int NOT NULL);
CREATE TABLE r (n int PRIMARY KEY, l int NOT NULL REFERENCES l DEFERRABLE INITIALLY DEFERRED);
ALTER TABLE l ADD FOREIGN KEY (r) REFERENCES r DEFERRABLE INITIALLY DEFERRED;
BEGIN;
SELECT count(persist_enqueue('l', jsonb_build_object('n', i, 'r', i))) FROM generate_series(1, 1000) AS i;
SELECT count(persist_enqueue('l', '{"n": 5001, "r": 5000}'));
SELECT count(persist_enqueue('r', jsonb_build_object('n', i, 'l', i))) FROM generate_series(1, 500) AS i;
SELECT count(persist_enqueue('r', '{"n": 5000, "l": 9999}'));
SELECT count(persist_enqueue('r', jsonb_build_object('n', i, 'l', i))) FROM generate_series(501, 1000) AS i;
COMMIT;
SELECT persist_flush();
SELECT (SELECT count(*) FROM l) AS l, (SELECT count(*) FROM r) AS r;
SELECT letters();
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- a tree, leaves first
CREATE TABLE tree (n int PRIMARY KEY, parent int REFERENCES tree DEFERRABLE INITIALLY DEFERRED);
SELECT count(persist_enqueue('tree', jsonb_build_object('n', i, 'parent', CASE WHEN i = 7 THEN -1 WHEN i < 100 THEN i + 1 END)))
FROM generate_series(1, 100) AS i;
SELECT persist_flush();
SELECT count(*), min(n) FROM tree;
SELECT count(*), min(item ->> 'n'), max(item ->> 'n') FROM persist_dead_letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- entries of a ledger: those of a booking have to add up
CREATE TABLE ledger (booking int, amount int);
CREATE FUNCTION add_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF (SELECT sum(amount) FROM failing_together.ledger WHERE booking = NEW.booking) <> 0 THEN
		RAISE 'booking % does not add up', NEW.booking;
	END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER add_up AFTER INSERT ON ledger DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION add_up();
BEGIN;
SELECT count(persist_enqueue('ledger', '{"booking": 1, "amount": 5}'));
SELECT count(persist_enqueue('ledger', '{"booking": 2, "amount": 7}'));
SELECT count(persist_enqueue('ledger', '{"booking": 1, "amount": -5}'));
COMMIT;
SELECT persist_flush();
TABLE ledger;
SELECT letters();
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- more of them that dangle than are looked for: all that need others die, and nothing is lost
BEGIN;
SELECT count(persist_enqueue('l', jsonb_build_object('n', i, 'r', i))) FROM generate_series(2001, 2200) AS i;
SELECT count(persist_enqueue('r', jsonb_build_object('n', i, 'l', i))) FROM generate_series(2101, 2200) AS i;
COMMIT;
SELECT persist_flush();
SELECT (SELECT count(*) FROM l WHERE n > 2000) AS l, (SELECT count(*) FROM r WHERE n > 2000) AS r;
SELECT count(*), count(DISTINCT id) FROM persist_dead_letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- what passes only together comes in its place, before what was enqueued after it
CREATE SEQUENCE ins;
CREATE TABLE chain (n int PRIMARY KEY, parent int REFERENCES chain DEFERRABLE INITIALLY DEFERRED, ins int);
CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.ins := nextval('failing_together.ins'); RETURN NEW; END $$;
CREATE TRIGGER number BEFORE INSERT ON chain FOR EACH ROW EXECUTE FUNCTION number();
BEGIN;
SELECT count(persist_enqueue('chain', '{"n": 1, "parent": 3}'));
SELECT count(persist_enqueue('chain', '{"n": 2, "parent": 99}'));
SELECT count(persist_enqueue('chain', '{"n": 3}'));
SELECT count(persist_enqueue('chain', '{"n": 4, "parent": 1}'));
COMMIT;
SELECT persist_flush();
SELECT n, parent FROM chain ORDER BY ins;
SELECT letters();
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- so with on_conflict: "later" is later
CREATE TABLE latest (k int PRIMARY KEY, v text, parent int REFERENCES latest DEFERRABLE INITIALLY DEFERRED);
SELECT persist_configure('latest', on_conflict => 'update', conflict_columns => '{k}');
BEGIN;
SELECT count(persist_enqueue('latest', '{"k": 1, "v": "earlier", "parent": 2}'));
SELECT count(persist_enqueue('latest', '{"k": 1, "v": "later"}'));
SELECT count(persist_enqueue('latest', '{"k": 2}'));
SELECT count(persist_enqueue('latest', '{"k": 3, "parent": 99}'));
COMMIT;
SELECT persist_flush();
SELECT * FROM latest ORDER BY k;
SELECT letters();
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- and a row that fails isn't passed over since a later one has its key
CREATE TABLE once (k int PRIMARY KEY, v text, parent int REFERENCES once DEFERRABLE INITIALLY DEFERRED);
SELECT persist_configure('once', on_conflict => 'nothing', conflict_columns => '{k}');
BEGIN;
SELECT count(persist_enqueue('once', '{"k": 1, "v": "needs 4", "parent": 4}'));
SELECT count(persist_enqueue('once', '{"k": 2, "v": "fails", "parent": 99}'));
SELECT count(persist_enqueue('once', '{"k": 2, "v": "first"}'));
SELECT count(persist_enqueue('once', '{"k": 2, "v": "second"}'));
SELECT count(persist_enqueue('once', '{"k": 3, "v": "fails", "parent": 99}'));
SELECT count(persist_enqueue('once', '{"k": 4}'));
COMMIT;
SELECT persist_flush();
SELECT * FROM once ORDER BY k;
SELECT letters();
SELECT persisted, skipped, dead FROM public.persist_stats WHERE target = 'once'::regclass;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

DROP SCHEMA failing_together CASCADE;
