-- Views: automatically updatable, with defaults of their own, WITH CHECK OPTION,
-- with INSTEAD OF triggers, with rules.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA target_view;
SET search_path = target_view, public;

CREATE TABLE base (id int GENERATED ALWAYS AS IDENTITY, a int, b text DEFAULT 'base default', c text DEFAULT 'c of base', g int GENERATED ALWAYS AS (a * 2) STORED);
CREATE VIEW auto AS SELECT id, a, b AS bb, g, upper(b) AS loud FROM base WHERE a < 100;
CREATE VIEW own_default AS SELECT a, b, c FROM base;
ALTER VIEW own_default ALTER b SET DEFAULT 'view default';
CREATE VIEW checked AS SELECT a, b FROM base WHERE a < 100 WITH CHECK OPTION;

BEGIN;
SELECT count(persist_enqueue('auto', '{"a": 1}'));
SELECT count(persist_enqueue('auto', '{"a": 2, "bb": "given"}'));
SELECT count(persist_enqueue('auto', '{"a": 103}'));
SELECT count(persist_enqueue('auto', '{"bb": null}'));
SELECT count(persist_enqueue('auto', '{}'));
SELECT count(persist_enqueue('own_default', '{"a": 10}'));
SELECT count(persist_enqueue('own_default', '{"a": 11, "b": null, "c": "given"}'));
SELECT count(persist_enqueue(ROW(12, NULL, 'row')::own_default));
COMMIT;
SELECT persist_flush();
SELECT a, b, c, g FROM base ORDER BY a, b;

-- what an INSERT through the view does not do either
\set VERBOSITY terse
SELECT persist_enqueue('auto', '{"a": 1, "loud": "X"}');
SELECT persist_enqueue('auto', '{"a": 1, "b": "renamed"}');
\set VERBOSITY default

-- WITH CHECK OPTION is a constraint
SELECT items_failed AS failed FROM persist_queue WHERE datname = current_database() \gset
BEGIN;
SELECT count(persist_enqueue('checked', '{"a": 20}'));
SELECT count(persist_enqueue('checked', '{"a": 200}'));
SELECT count(persist_enqueue('checked', '{"a": 21}'));
COMMIT;
SELECT persist_flush();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT a FROM base WHERE a BETWEEN 20 AND 29 OR a = 200 ORDER BY a;

-- INSTEAD OF: any view
CREATE TABLE told (who text, a int, total int, view_default text);
CREATE VIEW summary AS SELECT a, count(*)::int AS total, NULL::text AS d FROM base GROUP BY a;
ALTER VIEW summary ALTER d SET DEFAULT 'as of the call';
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO target_view.told VALUES (current_user = session_user, NEW.a, NEW.total, NEW.d);
	RETURN NEW;
END $$;
CREATE TRIGGER tell INSTEAD OF INSERT ON summary FOR EACH ROW EXECUTE FUNCTION tell();
BEGIN;
SELECT count(persist_enqueue('summary', '{"a": 1, "total": 10}'));
SELECT count(persist_enqueue('summary', '{"total": 20, "d": "given"}'));
COMMIT;
SELECT persist_flush();
SELECT * FROM told ORDER BY total;

-- rules
CREATE VIEW ruled AS SELECT a, b FROM base;
CREATE RULE ins AS ON INSERT TO ruled DO INSTEAD INSERT INTO base (a, b) VALUES (NEW.a + 1000, COALESCE(NEW.b, 'by the rule'));
CREATE VIEW ruled_twice AS SELECT a, b FROM base;
CREATE RULE ins AS ON INSERT TO ruled_twice DO INSTEAD (
	INSERT INTO base (a, b) VALUES (NEW.a + 2000, NEW.b);
	INSERT INTO told (who, a) VALUES (NEW.b, NEW.a));
BEGIN;
SELECT count(persist_enqueue('ruled', jsonb_build_object('a', i))) FROM generate_series(1, 3) AS i;
SELECT count(persist_enqueue('ruled_twice', jsonb_build_object('a', i, 'b', 'b' || i))) FROM generate_series(1, 3) AS i;
COMMIT;
SELECT persist_flush();
SELECT a, b FROM base WHERE a > 1000 ORDER BY a;
SELECT who, a FROM told WHERE total IS NULL ORDER BY a;

-- a view of a view, and one that is changed
CREATE VIEW over AS SELECT bb, a FROM auto;
SELECT count(persist_enqueue('over', '{"a": 50, "bb": "over"}'));
SELECT persist_flush();
SELECT a, b FROM base WHERE a = 50;
CREATE OR REPLACE VIEW over AS SELECT bb, a, id FROM auto WHERE a > 0;
ALTER VIEW over ALTER bb SET DEFAULT 'new default';
SELECT count(persist_enqueue('over', '{"a": 51}'));
SELECT persist_flush();
SELECT a, b FROM base WHERE a = 51;

-- security_invoker and the view's owner: rights to the base table
CREATE ROLE pp_view_writer;
GRANT USAGE ON SCHEMA target_view TO pp_view_writer;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_view_writer;
CREATE VIEW invoker WITH (security_invoker) AS SELECT a, b FROM base;
GRANT INSERT ON invoker, own_default TO pp_view_writer;
SELECT items_failed AS failed FROM persist_queue WHERE datname = current_database() \gset
SET ROLE pp_view_writer;
SELECT count(persist_enqueue('own_default', '{"a": 60}'::jsonb));
SELECT count(persist_enqueue('invoker', '{"a": 61}'::jsonb));
INSERT INTO invoker (a) VALUES (62);
RESET ROLE;
SELECT persist_flush();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT a, b FROM base WHERE a BETWEEN 60 AND 69 ORDER BY a;
DROP OWNED BY pp_view_writer;
DROP ROLE pp_view_writer;

DROP SCHEMA target_view CASCADE;
