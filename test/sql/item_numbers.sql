-- Numbers, booleans, bits and bytea become what jsonb_populate_record makes of them.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA item_numbers;
SET search_path = item_numbers, public;

CREATE TABLE got (
	n int, s smallint, i integer, b bigint, r real, d double precision,
	num numeric, money2 numeric(7,2), neg numeric(3,-2), t boolean,
	b3 bit(3), vb bit varying(5), bytes bytea, oid_ oid);
CREATE TABLE expected (LIKE got);
CREATE TABLE items (item jsonb);
INSERT INTO items VALUES
	('{"n": 1, "s": -32768, "i": -2147483648, "b": -9223372036854775808, "r": -1.5, "d": -1e300}'),
	('{"n": 2, "s": 32767, "i": 2147483647, "b": 9223372036854775807, "r": 3.4028235e38, "d": 1.7976931348623157e308}'),
	('{"n": 3, "s": "7", "i": " 8 ", "b": "-9", "r": "NaN", "d": "-Infinity", "num": "NaN"}'),
	('{"n": 4, "num": 123456789012345678901234567890.123456789012345678901234567890, "money2": 12345.678}'),
	('{"n": 5, "num": 0.10, "money2": 0.005, "neg": 12345, "d": 0.1, "r": 0.1}'),
	('{"n": 6, "num": "Infinity", "money2": -99999.99, "neg": -49}'),
	('{"n": 7, "t": true}'),
	('{"n": 8, "t": false}'),
	('{"n": 9, "t": "yes"}'),
	('{"n": 10, "t": "off", "b3": "101", "vb": "", "bytes": "\\x00ff10"}'),
	('{"n": 11, "b3": "B010", "vb": "10101", "bytes": "plain \\\\ text\\000", "oid_": 4294967295}'),
	('{"n": 12, "s": null, "i": null, "b": null, "r": null, "d": null, "num": null, "money2": null, "t": null, "b3": null, "vb": null, "bytes": null}'),
	('{"n": 13}');

SELECT count(persist_enqueue('got', item)) FROM items;
INSERT INTO expected SELECT (jsonb_populate_record(NULL::expected, item)).* FROM items;
SELECT persist_flush();

SELECT got::text AS only_got FROM got EXCEPT ALL SELECT expected::text FROM expected;
SELECT expected::text AS only_expected FROM expected EXCEPT ALL SELECT got::text FROM got;
SELECT * FROM got ORDER BY n;

-- what doesn't fit
\set VERBOSITY terse
SELECT persist_enqueue('got', '{"s": 32768}');
SELECT persist_enqueue('got', '{"i": 1.5}');
SELECT persist_enqueue('got', '{"money2": 100000}');
SELECT persist_enqueue('got', '{"t": "perhaps"}');
SELECT persist_enqueue('got', '{"b3": "1010"}');
SELECT persist_enqueue('got', '{"bytes": "\\xf"}');

DROP SCHEMA item_numbers CASCADE;
