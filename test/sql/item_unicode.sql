-- Unicode, raw and escaped, in values and in the keys.
-- (expected/item_unicode_1.out is for databases with another encoding.)

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA item_unicode;
SET search_path = item_unicode, public;

SELECT getdatabaseencoding() <> 'UTF8' AS skip_test \gset
\if :skip_test
DROP SCHEMA item_unicode CASCADE;
\quit
\endif
SET client_encoding = utf8;

CREATE TABLE got (n int, t text, c2 char(2), v3 varchar(3), "größe" int, "表" text, "a b""c" int, "UPPER" text, j jsonb);
CREATE TABLE expected (LIKE got);
CREATE TABLE items (item jsonb);
INSERT INTO items VALUES
	('{"n": 1, "t": "äöü ß € 漢字 🐘", "c2": "🐘", "v3": "漢字🐘", "größe": 5, "表": "テーブル"}'),
	('{"n": 2, "t": "\u00e4\u20ac\ud83d\udc18", "表": "\u8868"}'),
	('{"n": 3, "t": "e\u0301 is not \u00e9", "a b\"c": 3, "UPPER": "ÄÖÜ"}'),
	('{"n": 4, "gr\u00f6\u00dfe": 6, "\u8868": "escaped keys"}'),
	('{"n": 5, "t": "soft\u00adhyphen, \ufeff no width", "j": {"ключ": "значение"}}');

SELECT count(persist_enqueue('got', item)) FROM items;
INSERT INTO expected SELECT (jsonb_populate_record(NULL::expected, item)).* FROM items;
SELECT persist_flush();

SELECT got::text AS only_got FROM got EXCEPT ALL SELECT expected::text FROM expected;
SELECT expected::text AS only_expected FROM expected EXCEPT ALL SELECT got::text FROM got;
-- (unaligned: psql's idea of how wide a character is differs between its versions)
\pset format unaligned
SELECT * FROM got ORDER BY n;
\pset format aligned

-- a key that only looks like a column
\set VERBOSITY terse
SELECT persist_enqueue('got', '{"upper": "x"}');
SELECT persist_enqueue('got', '{"groesse": 1}');
SELECT persist_enqueue('got', E'{"gro\u0308ße": 1}');
SELECT persist_enqueue('got', '{"t": "\u0000"}');

DROP SCHEMA item_unicode CASCADE;
