-- Whatever is attached to a table runs as the enqueuer: both current_user and
-- session_user.  The table and all the code are alice's, the items are bob's, the
-- worker is a superuser.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA identity_who;
SET search_path = identity_who, public;

CREATE ROLE pp_alice;
CREATE ROLE pp_bob;
GRANT USAGE, CREATE ON SCHEMA identity_who TO pp_alice;
GRANT USAGE ON SCHEMA identity_who TO pp_bob;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_alice, pp_bob;

SET ROLE pp_alice;
CREATE TABLE seen (place text, cu name, su name, secdef bool);
GRANT INSERT ON seen TO PUBLIC;
CREATE FUNCTION note(place text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
	INSERT INTO identity_who.seen VALUES (place, current_user, session_user);
	RETURN true;
END $$;
-- with an argument that is no constant: else the planner calls it, of any query
CREATE FUNCTION note_immutable(place text, a int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RETURN identity_who.note(place);
END $$;
CREATE FUNCTION by_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM identity_who.note(TG_NAME);
	RETURN NEW;
END $$;
CREATE FUNCTION by_definer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
	PERFORM identity_who.note(TG_NAME);
	RETURN NEW;
END $$;
CREATE DOMAIN noted AS int CHECK (note('domain check'));
CREATE TABLE t (
	a int CHECK (note('check')),
	g boolean GENERATED ALWAYS AS (note_immutable('generated column', a)) STORED,
	d noted,
	def boolean DEFAULT note('default'));
CREATE INDEX ON t ((note_immutable('index expression', a)));
CREATE INDEX ON t (a) WHERE note_immutable('index predicate', a);
CREATE TRIGGER "trigger, before statement" BEFORE INSERT ON t EXECUTE FUNCTION by_trigger();
CREATE TRIGGER "trigger, before row" BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION by_trigger();
CREATE TRIGGER "trigger, WHEN" BEFORE INSERT ON t FOR EACH ROW WHEN (note('trigger''s WHEN')) EXECUTE FUNCTION by_trigger();
CREATE TRIGGER "trigger, after row" AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION by_trigger();
CREATE TRIGGER "trigger, after statement" AFTER INSERT ON t EXECUTE FUNCTION by_trigger();
CREATE CONSTRAINT TRIGGER "trigger, constraint" AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION by_trigger();
CREATE CONSTRAINT TRIGGER "trigger, deferred" AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION by_trigger();
CREATE TRIGGER "definer, before row" BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION by_definer();
CREATE CONSTRAINT TRIGGER "definer, deferred" AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION by_definer();
CREATE RULE r AS ON INSERT TO t DO ALSO SELECT note('rule');
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON t FOR INSERT WITH CHECK (note('policy'));
GRANT INSERT ON t TO pp_bob;
-- a trigger that runs at COMMIT itself: queued by a deferred one that defers again
CREATE TABLE second (a int);
CREATE CONSTRAINT TRIGGER "trigger, at COMMIT" AFTER INSERT ON second DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION by_trigger();
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	SET CONSTRAINTS ALL DEFERRED;
	INSERT INTO identity_who.second VALUES (1);
	RETURN NEW;
END $$;
CREATE CONSTRAINT TRIGGER z AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION again();
GRANT INSERT ON second TO PUBLIC;
RESET ROLE;
TRUNCATE seen;

-- the caller's own part
SET ROLE pp_bob;
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 1, "d": 1}'::jsonb));
COMMIT;
RESET ROLE;
SELECT persist_flush();
SELECT place, cu, CASE su WHEN session_user THEN 'the caller''s' ELSE su END AS su FROM seen WHERE place = 'default';
-- the worker's
SELECT place, cu, CASE su WHEN session_user THEN 'the caller''s' ELSE su END AS su, count(*) > 0 AS ran FROM seen WHERE place <> 'default' GROUP BY 1, 2, 3 ORDER BY place COLLATE "C", cu, su;
SELECT count(*) FROM t;

-- roles take turns in one worker
TRUNCATE seen, t;
ALTER TABLE t DISABLE ROW LEVEL SECURITY;
BEGIN;
SET LOCAL ROLE pp_alice;
SELECT count(persist_enqueue('t', '{"a": 2, "def": true}'::jsonb));
SET LOCAL ROLE pp_bob;
SELECT count(persist_enqueue('t', '{"a": 3, "def": true}'::jsonb));
RESET ROLE;
SELECT count(persist_enqueue('t', '{"a": 4, "def": true}'));
COMMIT;
SELECT persist_flush();
SELECT place, count(*) FILTER (WHERE cu = 'pp_alice' AND su = 'pp_alice') AS alice, count(*) FILTER (WHERE cu = 'pp_bob' AND su = 'pp_bob') AS bob,
	count(*) FILTER (WHERE cu = session_user AND su = session_user) AS me,
	count(*) FILTER (WHERE cu <> su) AS mixed
FROM seen WHERE place IN ('check', 'generated column', 'index expression', 'index predicate', 'trigger, before row', 'trigger, deferred', 'trigger, at COMMIT') GROUP BY place ORDER BY place COLLATE "C";

DROP SCHEMA identity_who CASCADE;
DROP OWNED BY pp_alice, pp_bob;
DROP ROLE pp_alice, pp_bob;
