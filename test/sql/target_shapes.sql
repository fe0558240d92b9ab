-- Tables with no columns, very many, dropped ones, and one column.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA target_shapes;
SET search_path = target_shapes, public;

CREATE TABLE "none" ();
SELECT count(persist_enqueue('none', '{}')) FROM generate_series(1, 3);
SELECT persist_flush();
SELECT count(persist_enqueue("none")) FROM "none";
SELECT persist_flush();
SELECT count(*) FROM "none";
\set VERBOSITY terse
SELECT persist_enqueue('none', '{"a": 1}');
\set VERBOSITY default

-- one that has lost them all, and got one again
CREATE TABLE lost (a int, b int);
ALTER TABLE lost DROP a, DROP b;
SELECT count(persist_enqueue('lost', '{}')) FROM generate_series(1, 2);
SELECT persist_flush();
SELECT count(*) FROM lost;
ALTER TABLE lost ADD a text DEFAULT 'a';
SELECT count(persist_enqueue('lost', '{}'));
SELECT persist_flush();
SELECT * FROM lost;

-- dropped columns before, between and after the others
CREATE TABLE dropped (d1 int, a int, d2 text, d3 numeric(5,2), b text DEFAULT 'b', d4 timestamptz);
ALTER TABLE dropped DROP d1, DROP d2, DROP d3, DROP d4;
SELECT count(persist_enqueue('dropped', '{"a": 1}'));
SELECT count(persist_enqueue('dropped', '{"b": "x", "a": 2}'));
SELECT count(persist_enqueue(ROW(3, NULL)::dropped));
SELECT persist_flush();
SELECT * FROM dropped ORDER BY a;
\set VERBOSITY sqlstate
SELECT persist_enqueue('dropped', '{"d1": 1}');
SELECT persist_enqueue('dropped', '{"........pg.dropped.1........": 1}');
\set VERBOSITY default

-- as many columns as a table can have
SELECT format('CREATE TABLE wide (%s)', string_agg(format('c%s int', i) || CASE WHEN i % 100 = 0 THEN ' DEFAULT ' || i ELSE '' END, ', ' ORDER BY i)) FROM generate_series(1, 1600) AS i \gexec
SELECT count(persist_enqueue('wide', '{}'));
SELECT count(persist_enqueue('wide', '{"c1": -1, "c800": null, "c1600": -1600}'));
SELECT count(persist_enqueue('wide', item)) FROM (SELECT jsonb_object_agg('c' || i, -i) AS item FROM generate_series(1, 1600) AS i) AS s;
SELECT persist_flush();
SELECT c1, c2, c100, c799, c800, c801, c1599, c1600 FROM wide ORDER BY c100, c1;
SELECT (SELECT sum(value::int) FROM jsonb_each_text(to_jsonb(wide))) AS total FROM wide ORDER BY c100, c1;

-- all NULL
CREATE TABLE nulls (a int, b text, c jsonb);
SELECT count(persist_enqueue('nulls', '{}'));
SELECT count(persist_enqueue('nulls', '{"a": null, "b": null, "c": null}'));
SELECT persist_flush();
SELECT count(*) FROM nulls WHERE nulls IS NULL;

-- rows of different shapes in one transaction keep their order
CREATE TABLE ordered (id serial, a int, b int, c int);
BEGIN;
SELECT count(persist_enqueue('ordered', CASE i % 3 WHEN 0 THEN '{"b": 1}'::jsonb WHEN 1 THEN '{"c": 1}' ELSE '{}' END)) FROM generate_series(1, 9) AS i;
COMMIT;
SELECT persist_flush();
SELECT string_agg(id::text, ' ' ORDER BY ctid) FROM ordered;

DROP SCHEMA target_shapes CASCADE;
