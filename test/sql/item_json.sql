-- json and jsonb columns, and JSON null against SQL NULL.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA item_json;
SET search_path = item_json, public;

CREATE TABLE got (n int, j json, b jsonb, ja json[], ba jsonb[], t text);
CREATE TABLE expected (LIKE got);
CREATE TABLE items (item jsonb);
INSERT INTO items VALUES
	('{"n": 1, "j": {"a": 1, "b": [true, null, 1.10]}, "b": {"a": 1, "b": [true, null, 1.10]}}'),
	('{"n": 2, "j": "string", "b": "string"}'),
	('{"n": 3, "j": "", "b": ""}'),
	('{"n": 4, "j": 12, "b": 12.00}'),
	('{"n": 5, "j": [], "b": {}}'),
	('{"n": 6, "j": "{\"looks\": \"like JSON\"}", "b": "[1]"}'),
	('{"n": 7, "j": null, "b": null, "t": null}'),
	('{"n": 8, "j": [null], "b": {"k": null}}'),
	('{"n": 9, "ja": [{"a": null}, null, 1, "s"], "ba": [{"a": null}, null, 1, "s"]}'),
	('{"n": 10, "j": {"dup": 1, "dup": 2}, "b": {"deep": [[[[{"x": {"y": [1, {"z": "w"}]}}]]]]}}'),
	('{"n": 11}');

SELECT count(persist_enqueue('got', item)) FROM items;
INSERT INTO expected SELECT (jsonb_populate_record(NULL::expected, item)).* FROM items;
SELECT persist_flush();

SELECT got::text AS only_got FROM got EXCEPT ALL SELECT expected::text FROM expected;
SELECT expected::text AS only_expected FROM expected EXCEPT ALL SELECT got::text FROM got;
SELECT * FROM got ORDER BY n;

-- JSON null is SQL NULL at the top of a column, and stays JSON null inside it
SELECT n, j IS NULL AS j_null, b IS NULL AS b_null, b->'k' AS inside FROM got WHERE n IN (7, 8, 11) ORDER BY n;

DROP SCHEMA item_json CASCADE;
