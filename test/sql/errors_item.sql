-- What is wrong with an item is the caller's error: arguments, keys, values.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA errors_item;
SET search_path = errors_item, public;

CREATE TYPE pair AS (x int, y date);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE t (a int, b text NOT NULL DEFAULT 'b', v varchar(3), d date, j jsonb, p pair, arr int[], pos positive, num numeric(4,2), "Odd name" int);

-- in full
SELECT persist_enqueue(NULL::regclass, '{}'::jsonb);
SELECT persist_enqueue('t', NULL::jsonb);
SELECT persist_enqueue('t', '{}'::jsonb, NULL);
SELECT persist_enqueue('t', '[{"a": 1}]'::jsonb);
SELECT persist_enqueue('t', '"text"'::jsonb);
SELECT persist_enqueue('t', 'null'::jsonb);
SELECT persist_enqueue('t', '{"a": 1, "nope": 2}'::jsonb);
SELECT persist_enqueue('t', '{"A": 1}'::jsonb);
SELECT persist_enqueue('t', '{"": 1}'::jsonb);
SELECT persist_enqueue('t', '{"odd name": 1}'::jsonb);
SELECT persist_enqueue('t', '{"ctid": "(0,1)"}'::jsonb);
SELECT persist_enqueue('t', '{"a": 1, "v": "four"}'::jsonb);
SELECT persist_enqueue('t', '{"Odd name": "one"}'::jsonb);
SELECT persist_enqueue('t', '{"d": "2024-02-30"}'::jsonb);
SELECT persist_enqueue('t', '{"p": {"y": "not a date"}}'::jsonb);
SELECT persist_enqueue('t', '{"arr": [1, [2]]}'::jsonb);
SELECT persist_enqueue('t', '{"pos": 0}'::jsonb);
SELECT persist_enqueue('t', '{"num": 100}'::jsonb);

-- the codes, and every field a driver can read
\set VERBOSITY sqlstate
SELECT persist_enqueue(NULL::regclass, '{}'::jsonb);
SELECT persist_enqueue('t', NULL::jsonb);
SELECT persist_enqueue('t', '{}'::jsonb, NULL);
SELECT persist_enqueue('t', '[{"a": 1}]'::jsonb);
SELECT persist_enqueue('t', '5'::jsonb);
SELECT persist_enqueue('t', 'null'::jsonb);
SELECT persist_enqueue('t', '{"a": 1, "nope": 2}'::jsonb);
SELECT persist_enqueue('t', '{"a": "x"}'::jsonb);
SELECT persist_enqueue('t', '{"a": 2147483648}'::jsonb);
SELECT persist_enqueue('t', '{"v": "four"}'::jsonb);
SELECT persist_enqueue('t', '{"d": "2024-02-30"}'::jsonb);
SELECT persist_enqueue('t', '{"arr": [1, [2]]}'::jsonb);
SELECT persist_enqueue('t', '{"pos": 0}'::jsonb);
SELECT persist_enqueue('t', '{"num": 100}'::jsonb);
\set VERBOSITY default
DO $$
DECLARE
	item jsonb; state text; message text; detail text; hint text; context text; col text; tab text; sch text; typ text;
BEGIN
	FOREACH item IN ARRAY ARRAY['{"nope": 1}', '{"v": "four"}', '{"pos": 0}', '[]']::jsonb[] LOOP
		BEGIN
			PERFORM persist_enqueue('t', item);
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT,
				context = PG_EXCEPTION_CONTEXT, col = COLUMN_NAME, tab = TABLE_NAME, sch = SCHEMA_NAME, typ = PG_DATATYPE_NAME;
			RAISE WARNING E'% % | % | % | % | % % % %', state, message, detail, hint, split_part(context, E'\n', 1), sch, tab, col, typ;
		END;
	END LOOP;
END $$;

-- many errors in a row leave the session as it was
SELECT count(persist_enqueue('t', '{"a": 1}'));
DO $$
BEGIN
	FOR i IN 1..1000 LOOP
		BEGIN
			PERFORM persist_enqueue('t', jsonb_build_object((ARRAY['a', 'v', 'pos', 'nope', 'arr'])[i % 5 + 1], 'not a value'));
			RAISE WARNING 'accepted %', i;
		EXCEPTION WHEN OTHERS THEN
			NULL;
		END;
		PERFORM persist_enqueue('t', jsonb_build_object('a', i + 1));
	END LOOP;
END $$;
SELECT persist_flush();
SELECT count(*), count(DISTINCT a), min(a), max(a), min(b), max(b) FROM t;

-- a missing value for a NOT NULL column isn't the caller's error: constraints wait
SELECT COALESCE((SELECT items_failed FROM persist_queue WHERE datname = current_database()), 0) AS failed \gset
SELECT count(persist_enqueue('t', '{"a": 0, "b": null}'));
SELECT persist_flush();
SELECT items_failed - :failed AS failed FROM persist_queue WHERE datname = current_database();
SELECT count(*) FROM t WHERE a = 0;

DROP SCHEMA errors_item CASCADE;
