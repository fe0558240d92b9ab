-- Everywhere that SQL runs: functions, triggers, DO, procedures with COMMIT,
-- prepared statements, cursors, queries of many rows, rules, views, defaults.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA xact_contexts;
SET search_path = xact_contexts, public;

CREATE TABLE t (n int, what text, extra int DEFAULT 1);

-- a query of many rows
CREATE TABLE big_table AS SELECT i AS n, 'row ' || i AS what FROM generate_series(1, 20000) AS i;
CREATE TABLE big_target (n int, what text, arrived int);
CREATE SEQUENCE arrivals;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.arrived := nextval('xact_contexts.arrivals');
	RETURN NEW;
END $$;
CREATE TRIGGER stamp BEFORE INSERT ON big_target FOR EACH ROW EXECUTE FUNCTION stamp();
SELECT count(persist_enqueue('big_target', to_jsonb(big_table))) FROM big_table;
SELECT persist_flush();
SELECT count(*), sum(n), count(DISTINCT what), bool_and(n = arrived) AS in_order FROM big_target;
-- INSERT ... SELECT, RETURNING, a CTE
CREATE TABLE ids (id bigint);
INSERT INTO ids SELECT persist_enqueue('t', '{"n": 1, "what": "insert select"}');
WITH e AS MATERIALIZED (SELECT persist_enqueue('t', '{"n": 2, "what": "cte"}') AS id) INSERT INTO ids SELECT id FROM e RETURNING id > 0 AS positive;
UPDATE ids SET id = persist_enqueue('t', '{"n": 3, "what": "update"}') WHERE id = (SELECT min(id) FROM ids);

-- SQL and PL/pgSQL functions
CREATE FUNCTION f_sql(n int) RETURNS bigint LANGUAGE sql AS $$SELECT persist_enqueue('t', jsonb_build_object('n', n, 'what', 'sql function'))$$;
CREATE FUNCTION f_atomic(n int) RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT persist_enqueue('t', jsonb_build_object('n', n, 'what', 'sql function, parsed')); END;
CREATE FUNCTION f_plpgsql(n int) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	RETURN persist_enqueue('t', jsonb_build_object('n', n, 'what', 'plpgsql'));
END $$;
SELECT f_sql(4) > 0, f_atomic(5) > 0, f_plpgsql(6) > 0;

-- a trigger that hands over what it sees
CREATE TABLE source (n int);
CREATE FUNCTION forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM persist_enqueue('t', jsonb_build_object('n', NEW.n, 'what', TG_WHEN || ' ' || TG_OP));
	RETURN NEW;
END $$;
CREATE TRIGGER a BEFORE INSERT ON source FOR EACH ROW EXECUTE FUNCTION forward();
CREATE TRIGGER b AFTER INSERT ON source FOR EACH ROW EXECUTE FUNCTION forward();
CREATE CONSTRAINT TRIGGER c AFTER INSERT ON source DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION forward();
INSERT INTO source VALUES (7);
COPY source FROM stdin;
8
\.
-- dropped with the row
BEGIN;
INSERT INTO source VALUES (9);
ROLLBACK;

-- DO, with subtransactions
DO $$
BEGIN
	PERFORM persist_enqueue('t', '{"n": 10, "what": "DO"}');
	BEGIN
		PERFORM persist_enqueue('t', '{"n": 11, "what": "dropped"}');
		RAISE 'x';
	EXCEPTION WHEN OTHERS THEN
		PERFORM persist_enqueue('t', '{"n": 12, "what": "DO, handler"}');
	END;
END $$;

-- a procedure that commits as it goes
CREATE PROCEDURE p() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 20..25 LOOP
		PERFORM persist_enqueue('t', jsonb_build_object('n', i, 'what', 'procedure'));
		IF i % 3 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
	END LOOP;
	PERFORM persist_enqueue('t', '{"n": 26, "what": "procedure, last"}');
END $$;
CALL p();

-- prepared statements, through the table's changes
PREPARE e(int, text) AS SELECT count(persist_enqueue('t', jsonb_build_object('n', $1, 'what', $2)));
EXECUTE e(30, 'prepared');
ALTER TABLE t ADD later int DEFAULT 5;
EXECUTE e(31, 'prepared');
DEALLOCATE e;
PREPARE e(t) AS SELECT count(persist_enqueue($1));
EXECUTE e(ROW(32, 'prepared row', 2, 3));
DEALLOCATE e;

-- cursors
BEGIN;
DECLARE c CURSOR FOR SELECT persist_enqueue('t', jsonb_build_object('n', i, 'what', 'cursor')) > 0 FROM generate_series(40, 49) AS i;
FETCH 2 FROM c;
CLOSE c;
COMMIT;
BEGIN;
DECLARE c CURSOR WITH HOLD FOR SELECT persist_enqueue('t', jsonb_build_object('n', i, 'what', 'holdable')) > 0 FROM generate_series(50, 51) AS i;
COMMIT;
FETCH ALL FROM c;
CLOSE c;

-- a rule, a view's column, a default, a CHECK: what is called is called
CREATE TABLE ruled (n int);
CREATE RULE r AS ON DELETE TO ruled DO ALSO SELECT count(persist_enqueue('t', jsonb_build_object('n', OLD.n, 'what', 'rule')));
INSERT INTO ruled VALUES (60);
DELETE FROM ruled;
CREATE TABLE with_default (n int, id bigint DEFAULT persist_enqueue('t', '{"n": 61, "what": "default"}'));
INSERT INTO with_default (n) VALUES (1);
CREATE VIEW calling AS SELECT persist_enqueue('t', '{"n": 62, "what": "view"}') > 0 AS ok;
TABLE calling;
-- subqueries, CASE, LATERAL
SELECT CASE WHEN i = 63 THEN persist_enqueue('t', jsonb_build_object('n', i, 'what', 'case')) > 0 END FROM generate_series(63, 64) AS i;
SELECT l.ok FROM generate_series(65, 66) AS i, LATERAL (SELECT persist_enqueue('t', jsonb_build_object('n', i, 'what', 'lateral')) > 0 AS ok OFFSET 0) AS l;

-- a default that enqueues into its own table
CREATE TABLE own (n int, parent int, sub text);
CREATE FUNCTION also(n int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM persist_enqueue('xact_contexts.own', jsonb_build_object('n', n, 'sub', 'by the default'));
	RETURN 'made another';
END $$;
ALTER TABLE own ALTER sub SET DEFAULT also(70);
SELECT count(persist_enqueue('own', '{"n": 71}'));
-- and fails
CREATE OR REPLACE FUNCTION also(n int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM persist_enqueue('xact_contexts.own', jsonb_build_object('n', 'not a number', 'sub', 'x'));
	EXCEPTION WHEN OTHERS THEN
		RETURN 'caught ' || SQLSTATE;
	END;
END $$;
SELECT count(persist_enqueue('own', '{"n": 72}'));
SELECT count(persist_enqueue('own', jsonb_build_object('n', i))) FROM generate_series(73, 75) AS i;

SELECT persist_flush();
SELECT n, what, extra FROM t ORDER BY n, what;
SELECT * FROM own ORDER BY n;

DROP SCHEMA xact_contexts CASCADE;
