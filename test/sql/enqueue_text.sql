-- The text form, for drivers that send varchar: names looked up along search_path.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA enqueue_text;
SET search_path = enqueue_text, public;

CREATE TABLE t (a int, b text);
CREATE TABLE "Mixed Case" (a int);
CREATE SCHEMA "enqueue.text";
CREATE TABLE "enqueue.text"."t.t" (a int);
PREPARE e(text, text) AS SELECT count(persist_enqueue($1, $2));
EXECUTE e('t', '{"a": 1, "b": "x"}');
EXECUTE e('T', '{"a": 2}');
EXECUTE e('enqueue_text.t', '{"a": 3}');
EXECUTE e(' enqueue_text . t ', ' { "a" : 4 } ');
EXECUTE e('"Mixed Case"', '{"a": 5}');
EXECUTE e('"enqueue.text"."t.t"', '{"a": 6}');
PREPARE v(varchar, varchar) AS SELECT count(persist_enqueue($1, $2));
EXECUTE v('t', '{"a": 7}');
PREPARE three(text, text, bool) AS SELECT count(persist_enqueue($1, $2, $3));
BEGIN;
EXECUTE three('t', '{"a": 8}', false);
EXECUTE three('t', '{"a": 9}', true);
ROLLBACK;
-- literals of no type: the same
SELECT count(persist_enqueue('t', '{"a": 10}'));
SELECT count(persist_enqueue('t', '{"a": 11}', transactional => true));
SELECT count(persist_enqueue(target => 't', item => '{"a": 12}'));
SELECT persist_flush();
SELECT a FROM t ORDER BY a;
TABLE "Mixed Case";
TABLE "enqueue.text"."t.t";

-- duplicate keys: the last one, as jsonb has it
EXECUTE e('t', '{"a": 20, "a": 21}');
SELECT persist_flush();
SELECT a FROM t WHERE a >= 20;

-- errors
EXECUTE e('no_such_table', '{}');
EXECUTE e('t', '{"a": 1');
EXECUTE e('Mixed Case', '{}');
\set VERBOSITY sqlstate
EXECUTE e('no_such_table', '{}');
EXECUTE e('no_such_schema.t', '{}');
EXECUTE e('"T"', '{}');
EXECUTE e('Mixed Case', '{}');
EXECUTE e('', '{}');
EXECUTE e('a.b.c.d', '{}');
EXECUTE e('other_database.public.t', '{}');
EXECUTE e('t', '{"a": 1');
EXECUTE e('t', '');
EXECUTE e('t', 'a=1');
EXECUTE e('t', '[]');
EXECUTE e('t', '{"nope": 1}');
EXECUTE e(NULL, '{}');
EXECUTE e('t', NULL);
EXECUTE three('t', '{}', NULL);
\set VERBOSITY default
-- a number is a name: the oid form is regclass
SELECT 't'::regclass::oid AS t \gset
\set VERBOSITY sqlstate
EXECUTE e(:'t', '{}');
\set VERBOSITY default
DEALLOCATE ALL;
DROP SCHEMA "enqueue.text" CASCADE;

DROP SCHEMA enqueue_text CASCADE;
