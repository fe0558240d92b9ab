-- Domains, over scalars, arrays and composites, of other domains; checked at
-- the call.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA item_domains;
SET search_path = item_domains, public;

CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN small_positive AS positive CHECK (VALUE < 100);
CREATE DOMAIN code AS varchar(3) CHECK (VALUE = upper(VALUE));
CREATE DOMAIN price AS numeric(6,2);
CREATE DOMAIN tags AS text[] CHECK (cardinality(VALUE) <= 2);
CREATE TYPE pair AS (a int, b positive);
CREATE DOMAIN ordered_pair AS pair CHECK ((VALUE).a < (VALUE).b);
CREATE DOMAIN doc AS jsonb CHECK (jsonb_typeof(VALUE) = 'object');
CREATE DOMAIN required AS text NOT NULL;
CREATE TABLE got (
	n int, p positive, s small_positive, c code, pr price, t tags, pa pair, o ordered_pair,
	d doc, arr positive[], os ordered_pair[], r required);
CREATE TABLE expected (LIKE got);
CREATE TABLE items (item jsonb);
INSERT INTO items VALUES
	('{"n": 1, "r": "", "p": 1, "s": 99, "c": "ABC", "pr": 1.005, "t": ["a", "b"]}'),
	('{"n": 2, "r": "x", "pa": {"a": 1, "b": 2}, "o": {"a": 1, "b": 2}, "d": {"k": [1]}}'),
	('{"n": 3, "r": "x", "arr": [1, 2, null], "os": [{"a": 1, "b": 2}, null]}'),
	('{"n": 4, "r": "x", "p": null, "s": null, "c": null, "pr": null, "t": null, "pa": null, "o": null, "d": null, "arr": null}'),
	('{"n": 5, "r": "x", "t": "{c}", "o": "(3,4)"}');

SELECT count(persist_enqueue('got', item)) FROM items;
INSERT INTO expected SELECT (jsonb_populate_record(NULL::expected, item)).* FROM items;
SELECT persist_flush();

SELECT got::text AS only_got FROM got EXCEPT ALL SELECT expected::text FROM expected;
SELECT expected::text AS only_expected FROM expected EXCEPT ALL SELECT got::text FROM got;
SELECT * FROM got ORDER BY n;

-- violations are the caller's, as are those of jsonb_populate_record
\set VERBOSITY terse
SELECT persist_enqueue('got', '{"n": 9, "r": "x", "p": 0}');
SELECT persist_enqueue('got', '{"n": 9, "r": "x", "s": 100}');
SELECT persist_enqueue('got', '{"n": 9, "r": "x", "s": -1}');
SELECT persist_enqueue('got', '{"n": 9, "r": "x", "c": "abc"}');
SELECT persist_enqueue('got', '{"n": 9, "r": "x", "c": "ABCD"}');
SELECT persist_enqueue('got', '{"n": 9, "r": "x", "t": ["a", "b", "c"]}');
SELECT persist_enqueue('got', '{"n": 9, "r": "x", "o": {"a": 2, "b": 1}}');
SELECT persist_enqueue('got', '{"n": 9, "r": "x", "pa": {"a": 2, "b": -1}}');
SELECT persist_enqueue('got', '{"n": 9, "r": "x", "d": [1]}');
SELECT persist_enqueue('got', '{"n": 9, "r": "x", "arr": [1, -1]}');
SELECT persist_enqueue('got', '{"n": 9, "r": null}');
SELECT persist_enqueue('got', '{"n": 9}');
-- the row form checks too, when the row is made
SELECT persist_enqueue(ROW(9, -1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'x')::got);
SELECT persist_flush();
SELECT count(*) FROM got;

-- the session learns of a change to a domain
ALTER DOMAIN positive ADD CONSTRAINT odd CHECK (VALUE % 2 = 1) NOT VALID;
ALTER DOMAIN required DROP NOT NULL;
SELECT persist_enqueue('got', '{"n": 10, "s": 2}');
SELECT persist_enqueue('got', '{"n": 10, "arr": [2]}');
SELECT count(persist_enqueue('got', '{"n": 10, "s": 3}'));
SELECT persist_flush();
SELECT n, s, r FROM got WHERE n = 10;

DROP SCHEMA item_domains CASCADE;
