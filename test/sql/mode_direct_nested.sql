-- Direct mode inside direct mode: a trigger that enqueues rows of very many
-- shapes, so that the session's kept plans are thrown away while one runs.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA mode_direct_nested;
SET search_path = mode_direct_nested, public;

CREATE TABLE outer_ (a int);
CREATE TABLE base (c1 int, c2 int, c3 int, c4 int, c5 int, c6 int, c7 int, c8 int, c9 int, c10 int);
CREATE VIEW inner_ AS SELECT * FROM base;
CREATE FUNCTION many_shapes() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	item jsonb;
BEGIN
	FOR i IN 1..1023 LOOP
		SELECT jsonb_object_agg('c' || n, n) INTO item FROM generate_series(1, 10) AS n WHERE i & (1 << (n - 1)) <> 0;
		PERFORM persist_enqueue('mode_direct_nested.inner_', item);
	END LOOP;
	RETURN NEW;
END $$;
CREATE TRIGGER many_shapes BEFORE INSERT ON outer_ FOR EACH ROW EXECUTE FUNCTION many_shapes();
SET persist_pipeline.mode = direct;
SELECT count(persist_enqueue('outer_', '{"a": 1}'));
SELECT count(persist_enqueue('outer_', '{"a": 2}'));
SELECT a FROM outer_ ORDER BY a;
SELECT count(*), sum(c1) AS c1, sum(c10) AS c10 FROM base;

-- a trigger that renames the schema of the table that is being written to, and comes again
CREATE SCHEMA mode_direct_nested_2;
CREATE TABLE mode_direct_nested_2.t (a int);
CREATE FUNCTION rename_and_repeat() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.a > 0 THEN
		EXECUTE format('ALTER SCHEMA %I RENAME TO %I', TG_TABLE_SCHEMA, TG_TABLE_SCHEMA || 'x');
		PERFORM persist_enqueue(TG_RELID::regclass, jsonb_build_object('a', NEW.a - 1));
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER r BEFORE INSERT ON mode_direct_nested_2.t FOR EACH ROW EXECUTE FUNCTION rename_and_repeat();
SELECT count(persist_enqueue('mode_direct_nested_2.t', '{"a": 3}'));
SELECT a FROM mode_direct_nested_2xxx.t ORDER BY a;
RESET persist_pipeline.mode;
DROP SCHEMA mode_direct_nested_2xxx CASCADE;

DROP SCHEMA mode_direct_nested CASCADE;
