-- Enums, ranges and multiranges, geometric types, text search, names of objects.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA item_enums_ranges;
SET search_path = item_enums_ranges, public;

CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s "odd"');
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE TABLE got (
	n int, m mood, ms mood[], r int4range, tr tstzrange, fr floatrange, rs int8range[],
	mr int4multirange, p point, pol polygon, ts tsvector, tq tsquery, rc regclass, ty regtype,
	jp jsonpath, l pg_lsn);
CREATE TABLE expected (LIKE got);
CREATE TABLE items (item jsonb);
INSERT INTO items VALUES
	('{"n": 1, "m": "sad", "ms": ["ok", null, "it''s \"odd\""]}'),
	('{"n": 2, "r": "[1,5]", "tr": "[2024-01-01Z,)", "fr": "(0.5,1.5]", "rs": ["empty", "(,)"]}'),
	('{"n": 3, "mr": "{[1,3),[5,7]}", "p": "(1,2)", "pol": "((0,0),(1,1),(1,0))"}'),
	('{"n": 4, "ts": "''a'':1 ''b'':2A", "tq": "a & !b", "rc": "pg_class", "ty": "int4", "jp": "$.a[*]", "l": "16/B374D848"}'),
	('{"n": 5, "m": null, "ms": null, "r": null, "mr": null}');
SET timezone = 'UTC';

SELECT count(persist_enqueue('got', item)) FROM items;
INSERT INTO expected SELECT (jsonb_populate_record(NULL::expected, item)).* FROM items;
SELECT persist_flush();

SELECT got::text AS only_got FROM got EXCEPT ALL SELECT expected::text FROM expected;
SELECT expected::text AS only_expected FROM expected EXCEPT ALL SELECT got::text FROM got;
SELECT * FROM got ORDER BY n;

\set VERBOSITY terse
SELECT persist_enqueue('got', '{"n": 9, "m": "happy"}');
SELECT persist_enqueue('got', '{"n": 9, "r": "[5,1]"}');
SELECT persist_enqueue('got', '{"n": 9, "rc": "no_such_table"}');

-- a label added a moment ago
ALTER TYPE mood ADD VALUE 'happy';
SELECT count(persist_enqueue('got', '{"n": 9, "m": "happy"}'));
SELECT persist_flush();
SELECT n, m FROM got WHERE m = 'happy';
-- one that isn't committed can't be used, as in any statement
BEGIN;
ALTER TYPE mood ADD VALUE 'elated';
SELECT persist_enqueue('got', '{"n": 9, "m": "elated"}');
ROLLBACK;

DROP SCHEMA item_enums_ranges CASCADE;
