-- Composite types, nested, in arrays, from objects and from literals; tables'
-- row types; types that change.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA item_composites;
SET search_path = item_composites, public;

CREATE TYPE point3 AS (x int, y numeric(4,1), label varchar(4));
CREATE TYPE path3 AS (name text, points point3[], origin point3);
CREATE TABLE other (id int PRIMARY KEY, note text DEFAULT 'not used', dropped int);
ALTER TABLE other DROP COLUMN dropped;
CREATE TABLE got (n int, p point3, ps point3[], pa path3, pas path3[], o other);
CREATE TABLE expected (LIKE got);
CREATE TABLE items (item jsonb);
INSERT INTO items VALUES
	('{"n": 1, "p": {"x": 1, "y": 2.25, "label": "l"}, "ps": [{"x": 1}, null, {"label": "q\"(,"}, {}]}'),
	('{"n": 2, "pa": {"name": "outer", "points": [{"x": 1, "y": 1}, {"x": 2}], "origin": {"label": "o"}}}'),
	('{"n": 3, "pas": [{"name": "a", "points": []}, {"name": null, "points": [null]}]}'),
	('{"n": 4, "p": "(1,2.25,abc)", "ps": "{\"(1,,)\",NULL}", "pa": "(x,,)"}'),
	('{"n": 5, "p": {}, "o": {"id": 7}}'),
	('{"n": 6, "p": null, "o": {"id": 8, "note": "text"}}'),
	('{"n": 7, "p": {"x": 1, "unknown inside": 2}}');

SELECT count(persist_enqueue('got', item)) FROM items;
INSERT INTO expected SELECT (jsonb_populate_record(NULL::expected, item)).* FROM items;
SELECT persist_flush();

SELECT got::text AS only_got FROM got EXCEPT ALL SELECT expected::text FROM expected;
SELECT expected::text AS only_expected FROM expected EXCEPT ALL SELECT got::text FROM got;
SELECT * FROM got ORDER BY n;
SELECT n, p IS NULL AS p_null, (p).x IS NULL AS x_null, o IS DISTINCT FROM NULL AS o_given FROM got WHERE n IN (5, 6) ORDER BY n;

-- bad values inside
\set VERBOSITY terse
SELECT persist_enqueue('got', '{"n": 9, "p": [1, 2]}');
SELECT persist_enqueue('got', '{"n": 9, "p": {"x": "one"}}');
SELECT persist_enqueue('got', '{"n": 9, "p": {"label": "too long"}}');
SELECT persist_enqueue('got', '{"n": 9, "pa": {"points": [{"y": 12345}]}}');

-- the session learns of a change to a type
SELECT count(persist_enqueue('got', '{"n": 8, "p": {"x": 1}, "ps": [{"x": 2}]}'));
SELECT persist_flush();
ALTER TYPE point3 ADD ATTRIBUTE z int CASCADE;
ALTER TYPE point3 RENAME ATTRIBUTE label TO tag CASCADE;
SELECT count(persist_enqueue('got', '{"n": 10, "p": {"x": 1, "tag": "t", "z": 3}, "pa": {"origin": {"z": 4}}}'));
SELECT persist_flush();
SELECT n, p, pa FROM got WHERE n = 10;

DROP SCHEMA item_composites CASCADE;
