-- persist_enqueue_many: each object of an array, in order, all or nothing.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA enqueue_many;
SET search_path = enqueue_many, public;

CREATE TABLE t (n serial, a int, b text DEFAULT 'b');
SELECT cardinality(persist_enqueue_many('t', '[{"a": 3}, {"a": 1, "b": null}, {}, {"a": 2, "b": "x"}]'));
SELECT persist_enqueue_many('t', '[]');
SELECT persist_flush();
SELECT * FROM t ORDER BY n;

-- ids: one for each, rising
SELECT bool_and(id > prev) AS rising, count(DISTINCT id) FROM
	(SELECT id, lag(id) OVER (ORDER BY o) AS prev FROM unnest(persist_enqueue_many('t', (SELECT jsonb_agg(jsonb_build_object('a', i)) FROM generate_series(10, 1009) AS i))) WITH ORDINALITY AS u (id, o)) AS s;
SELECT persist_flush();
SELECT count(*), bool_and(a - n = 5) AS in_order FROM t WHERE a >= 10;

-- errors, in full and by code; none of the array is kept
SELECT persist_enqueue_many('t', '[{"a": 1}, {"a": "x"}]');
SELECT persist_enqueue_many('t', '{"a": 1}');
SELECT persist_enqueue_many('t', '[{"a": 1}, 5]');
SELECT persist_enqueue_many('t', '[[{"a": 1}]]');
\set VERBOSITY sqlstate
SELECT persist_enqueue_many('t', '{"a": 1}');
SELECT persist_enqueue_many('t', '"x"');
SELECT persist_enqueue_many('t', 'null');
SELECT persist_enqueue_many('t', '[null]');
SELECT persist_enqueue_many('t', '[{"a": 1}, [1]]');
SELECT persist_enqueue_many('t', '[{"a": 1}, {"nope": 1}]');
SELECT persist_enqueue_many('t', '[{"a": 1}, {"a": "x"}]');
SELECT persist_enqueue_many('t', NULL);
SELECT persist_enqueue_many(NULL, '[]');
SELECT persist_enqueue_many('no_such_table', '[]');
SELECT persist_enqueue_many(4294967295::oid::regclass, '[]');
\set VERBOSITY default
SELECT persist_flush();
SELECT count(*) FROM t;

-- they go with the transaction
BEGIN;
SAVEPOINT s;
SELECT cardinality(persist_enqueue_many('t', '[{"a": -1}, {"a": -2}]'));
ROLLBACK TO s;
SELECT cardinality(persist_enqueue_many('t', '[{"a": -3}, {"a": -4}]'));
COMMIT;
SELECT persist_flush();
SELECT a FROM t WHERE a < 0 ORDER BY n;

-- and as one: a table into another
CREATE TABLE copy (LIKE t);
SELECT cardinality(persist_enqueue_many('copy', (SELECT jsonb_agg(to_jsonb(t) ORDER BY n) FROM t)));
SELECT persist_flush();
SELECT count(*) AS differ FROM (TABLE t EXCEPT ALL TABLE copy) AS d;

DROP SCHEMA enqueue_many CASCADE;
