-- Arrays: from JSON arrays and from array literals, of several dimensions, of
-- types with modifiers, with NULL elements.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA item_arrays;
SET search_path = item_arrays, public;

CREATE TABLE got (n int, i int[], t text[], num numeric(5,1)[], v varchar(3)[], ts timestamptz[], j jsonb[], b bytea[], ii int[][], fixed int[3]);
CREATE TABLE expected (LIKE got);
CREATE TABLE items (item jsonb);
INSERT INTO items VALUES
	('{"n": 1, "i": [1, 2, null, -3], "t": ["a", "", null, "null", "with \"quote\"", "com,ma", "{brace}", "back\\slash"]}'),
	('{"n": 2, "i": [], "t": [], "j": []}'),
	('{"n": 3, "i": "{1,2,NULL}", "t": "{a,\"b c\"}"}'),
	('{"n": 4, "ii": [[1, 2], [3, 4]], "i": [[[1], [2]], [[3], [4]]]}'),
	('{"n": 5, "num": [1.25, "2.35", 3], "v": ["abc", "d"], "ts": ["2024-01-01Z", null]}'),
	('{"n": 6, "j": [{"a": 1}, [1, 2], "text", 3, true, null], "b": ["\\x01", "\\xff"]}'),
	('{"n": 7, "i": "[2:4]={7,8,9}", "fixed": [1, 2, 3, 4, 5]}'),
	('{"n": 8, "i": null, "t": null, "ii": null}');

SELECT count(persist_enqueue('got', item)) FROM items;
INSERT INTO expected SELECT (jsonb_populate_record(NULL::expected, item)).* FROM items;
SELECT persist_flush();

SELECT got::text AS only_got FROM got EXCEPT ALL SELECT expected::text FROM expected;
SELECT expected::text AS only_expected FROM expected EXCEPT ALL SELECT got::text FROM got;
SELECT * FROM got ORDER BY n;
SELECT array_lower(i, 1), array_upper(i, 1) FROM got WHERE n = 7;

-- what can't be an array
\set VERBOSITY terse
SELECT persist_enqueue('got', '{"n": 9, "i": 5}');
SELECT persist_enqueue('got', '{"n": 9, "i": {"a": 1}}');
SELECT persist_enqueue('got', '{"n": 9, "ii": [[1, 2], [3]]}');
SELECT persist_enqueue('got', '{"n": 9, "i": ["one"]}');
SELECT persist_enqueue('got', '{"n": 9, "v": ["abcd"]}');

DROP SCHEMA item_arrays CASCADE;
