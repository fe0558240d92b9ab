-- persist_enqueue(record): a row of a table's own type.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA item_record;
SET search_path = item_record, public;

CREATE TYPE pair AS (x int, y text);
CREATE TABLE t (
	id serial, a int DEFAULT 42, b text DEFAULT 'default', dropped int, p pair, arr numeric(6,2)[],
	g int GENERATED ALWAYS AS (a + 1) STORED, v varchar(3));
ALTER TABLE t DROP dropped;

-- every column counts as given, NULLs too
SELECT count(persist_enqueue(ROW(1, 10, 'ten', ROW(1, 'y'), '{1.5,NULL}', 0, 'abc')::t));
SELECT count(persist_enqueue(ROW(2, NULL, NULL, NULL, NULL, NULL, NULL)::t));
-- of a query, as a whole
SELECT count(persist_enqueue(jsonb_populate_record(NULL::t, '{"id": 3, "b": "three", "p": {"x": 3}}')));
SELECT count(persist_enqueue(s)) FROM (SELECT i, i * 10, 'n', NULL::pair, NULL::numeric[], 0, 'v' FROM generate_series(4, 5) AS i) AS s (id, a, b, p, arr, g, v);
SELECT count(persist_enqueue(s::t)) FROM (SELECT i, i * 10, 'n', NULL::pair, NULL::numeric[], 0, 'v' FROM generate_series(4, 5) AS i) AS s (id, a, b, p, arr, g, v);
SELECT persist_flush();
SELECT * FROM t ORDER BY id;
-- nextval() was not called
SELECT last_value, is_called FROM t_id_seq;

-- a copy of the table, by its own rows
CREATE TABLE copy (LIKE t INCLUDING ALL);
SELECT count(persist_enqueue(ROW(t.*)::copy)) FROM (SELECT id, a, b, p, arr, g, v FROM t ORDER BY id) AS t;
SELECT persist_flush();
SELECT count(*) AS differ FROM (TABLE t EXCEPT ALL TABLE copy) AS d;

-- in PL/pgSQL: a variable, NEW and OLD
CREATE TABLE log (LIKE t);
CREATE FUNCTION log_new() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE r log;
BEGIN
	r := COALESCE(NEW, OLD);
	r.b := lower(TG_OP) || ' ' || COALESCE(r.b, 'null');
	PERFORM persist_enqueue(r);
	RETURN COALESCE(NEW, OLD);
END $$;
CREATE TRIGGER log_new AFTER INSERT OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION log_new();
INSERT INTO t (id, a, b) VALUES (100, 1, 'plain');
DELETE FROM t WHERE id = 1;
SELECT persist_flush();
SELECT id, a, b, g, p FROM log ORDER BY id;

-- a stored row of an inheriting table, as its own and as its parent's
CREATE TABLE heir (extra int) INHERITS (copy);
INSERT INTO heir (id, a, b, extra) VALUES (200, 1, 'heir', 5);
SELECT count(persist_enqueue(heir)), count(persist_enqueue(heir::copy)) FROM heir;
SELECT persist_flush();
SELECT tableoid::regclass, id, b FROM copy WHERE id = 200 ORDER BY 1::text;

-- a domain over the row type
CREATE DOMAIN good_t AS copy CHECK ((VALUE).id > 0);
SELECT count(persist_enqueue(ROW(300, 1, 'domain', NULL, NULL, NULL, NULL)::copy::good_t));
SELECT persist_flush();
SELECT id, b FROM copy WHERE id = 300;

-- not a row of a table
SELECT persist_enqueue(ROW(1, 2));
SELECT persist_enqueue(ROW(1, 'x')::pair);
SELECT persist_enqueue(NULL::t);
SELECT persist_enqueue(pg_class) FROM pg_class LIMIT 1;
\set VERBOSITY sqlstate
SELECT persist_enqueue(ROW(1, 2));
SELECT persist_enqueue(ROW(1, 'x')::pair);
SELECT persist_enqueue(NULL::t);
SELECT persist_enqueue(pg_class) FROM pg_class LIMIT 1;
\set VERBOSITY default

-- a row that is older than its table's columns
CREATE TABLE grown (a int);
INSERT INTO grown VALUES (1);
ALTER TABLE grown ADD b int DEFAULT 5, ADD c text;
SELECT count(persist_enqueue(grown)) FROM grown;
SELECT persist_flush();
SELECT * FROM grown;

DROP SCHEMA item_record CASCADE;
