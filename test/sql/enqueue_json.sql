-- json, as row_to_json() returns it; and calls with literals of no type go where they went.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA enqueue_json;
SET search_path = enqueue_json, public;

CREATE TABLE t (a int, b text, j json);
CREATE TABLE "Mixed Case" (a int);
SELECT count(persist_enqueue('t', row_to_json(r))) FROM (SELECT 1 AS a, 'x' AS b) AS r;
SELECT count(persist_enqueue('t'::regclass, row_to_json(r))) FROM (SELECT 2 AS a) AS r;
SELECT count(persist_enqueue('t'::regclass::oid, row_to_json(r))) FROM (SELECT 3 AS a) AS r;
SELECT count(persist_enqueue('t'::text, row_to_json(r))) FROM (SELECT 4 AS a) AS r;
SELECT count(persist_enqueue('"Mixed Case"', row_to_json(r), transactional => true)) FROM (SELECT 5 AS a) AS r;
SELECT count(persist_enqueue(item => row_to_json(r), target => 't')) FROM (SELECT 6 AS a) AS r;
SELECT count(persist_enqueue('t', '{"a": 7}'::json, false));
SELECT count(persist_enqueue('t', json_build_object('a', 8, 'j', '{"k":  1}'::json)));

-- literals and parameters of no type
SELECT count(persist_enqueue('t', '{"a": 11}'));
SELECT count(persist_enqueue('t', '{"a": 12}', true));
SELECT count(persist_enqueue('t'::regclass, '{"a": 13}'));
SELECT count(persist_enqueue('t'::regclass, '{"a": 14}', true));
SELECT count(persist_enqueue('t'::regclass::oid, '{"a": 15}'));
SELECT count(persist_enqueue('t'::text, '{"a": 16}'));
SELECT count(persist_enqueue('t'::varchar, '{"a": 17}'::varchar));
SELECT count(persist_enqueue('t', '{"a": 18}'::jsonb));
SELECT count(persist_enqueue('t'::regclass, '{"a": 19}'::jsonb));
SELECT count(persist_enqueue(target => 't', item => '{"a": 20}'));
PREPARE two AS SELECT count(persist_enqueue($1, $2));
EXECUTE two('t', '{"a": 21}');
PREPARE one AS SELECT count(persist_enqueue('t'::regclass, $1));
EXECUTE one('{"a": 22}');
SELECT name, parameter_types FROM pg_prepared_statements ORDER BY name;
SELECT persist_flush();
SELECT a, b, j FROM t ORDER BY a;
TABLE "Mixed Case";

-- errors
\set VERBOSITY sqlstate
SELECT persist_enqueue('t', NULL::json);
SELECT persist_enqueue(NULL::oid, '{}'::json);
SELECT persist_enqueue('t', '{}'::json, NULL);
SELECT persist_enqueue(0::oid, '{}'::json);
SELECT persist_enqueue('nope', '{}'::json);
SELECT persist_enqueue('t', '[1]'::json);
SELECT persist_enqueue('t', '{"nope": 1}'::json);
SELECT persist_enqueue('t', '{"b": "\u0000"}'::json);
SELECT persist_enqueue('t', '{"b": "\u0000"}');
\set VERBOSITY default
DEALLOCATE ALL;

DROP SCHEMA enqueue_json CASCADE;
