-- Text in all its types: quotes, control characters, other JSON values as text,
-- lengths enforced as jsonb_populate_record does, and very long text.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA item_text;
SET search_path = item_text, public;

CREATE TABLE got (n int, t text, v varchar, v5 varchar(5), c5 char(5), ch "char", na name);
CREATE TABLE expected (LIKE got);
CREATE TABLE items (item jsonb);
INSERT INTO items VALUES
	('{"n": 1, "t": "", "v": "", "v5": "", "c5": "", "ch": "", "na": ""}'),
	('{"n": 2, "t": "it''s \"quoted\" \\ back", "v": "\"", "v5": "''''", "c5": "\\", "ch": "x", "na": "Name"}'),
	('{"n": 3, "t": "line\nbreak\ttab\r\b\f", "v5": "ab   ", "c5": "ab   "}'),
	('{"n": 4, "v5": "abcde     ", "c5": "abcde     "}'),
	('{"n": 5, "t": "null", "v": "NULL", "v5": "\\N", "c5": "t"}'),
	('{"n": 6, "t": null, "v": null, "v5": null, "c5": null, "ch": null, "na": null}'),
	('{"n": 7, "t": 42, "v": 1.50, "v5": true, "c5": -1}'),
	('{"n": 8, "t": {"a": [1, null]}, "v": [1, "x"]}'),
	('{"n": 9, "t": "$1 %s {} $$ ; DROP TABLE got; --"}');

SELECT count(persist_enqueue('got', item)) FROM items;
INSERT INTO expected SELECT (jsonb_populate_record(NULL::expected, item)).* FROM items;
SELECT persist_flush();

SELECT got::text AS only_got FROM got EXCEPT ALL SELECT expected::text FROM expected;
SELECT expected::text AS only_expected FROM expected EXCEPT ALL SELECT got::text FROM got;
SELECT * FROM got ORDER BY n;

-- very long: incompressible, so that it is stored out of line
TRUNCATE items, got, expected;
INSERT INTO items
SELECT jsonb_build_object('n', i, 't', (SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 1000 * i) AS j))
FROM generate_series(1, 15) AS i;
SELECT count(persist_enqueue('got', item)) FROM items;
INSERT INTO expected SELECT (jsonb_populate_record(NULL::expected, item)).* FROM items;
SELECT persist_flush();
SELECT n, length(t), t = (SELECT t FROM expected WHERE expected.n = got.n) AS same
FROM got WHERE n IN (1, 10, 15) ORDER BY n;
SELECT count(*) FROM got JOIN expected USING (n, t);

-- compressible, and taken from a stored row: a TOAST pointer must not get into the item
CREATE TABLE stored (n int, t text);
INSERT INTO stored VALUES (1, repeat('lorem ipsum ', 100000)), (2, NULL);
TRUNCATE got;
SELECT count(persist_enqueue(ROW(n, t, NULL, NULL, NULL, NULL, NULL)::got)) FROM stored;
TRUNCATE stored;
SELECT persist_flush();
SELECT n, length(t), md5(t) = md5(repeat('lorem ipsum ', 100000)) AS same FROM got ORDER BY n;

DROP SCHEMA item_text CASCADE;
