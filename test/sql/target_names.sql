-- Names of all kinds: spaces, quotes, upper case, keywords, dots, the longest.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA target_names;
SET search_path = target_names, public;

CREATE SCHEMA "Weird Schema, ""quoted"".";
CREATE TYPE "Weird Schema, ""quoted"".". "Type of""it" AS (" x " int, "select" text);
CREATE DOMAIN "Weird Schema, ""quoted"".". "int" AS text CHECK (VALUE <> 'no');
CREATE TABLE "Weird Schema, ""quoted"".". "Table "". of 'it'" (
	"Id" int, "id" int, " " int, "a""b" int, "it's" int, "select" text DEFAULT 'kw', "c1" int, "b" int,
	"a.b" int, "%s" int, "\" int, "$1" int,
	"column_with_the_longest_name_that_an_identifier_can_have_here63" int,
	"Comp" "Weird Schema, ""quoted"".". "Type of""it", "Dom" "Weird Schema, ""quoted"".". "int",
	"b.c1" numeric(4,1), "persist_batch" int, "none" int, "excluded" int);
CREATE TABLE "select" ("from" int, "values" int[]);
CREATE TABLE persist_batch (persist_batch int);
CREATE TABLE b (b int, c1 text);

SELECT count(persist_enqueue('"Weird Schema, ""quoted""."."Table "". of ''it''"', $${
	"Id": 1, "id": 2, " ": 3, "a\"b": 4, "it's": 5, "c1": 7, "b": 8, "a.b": 9, "%s": 10, "\\": 11, "$1": 12,
	"column_with_the_longest_name_that_an_identifier_can_have_here63": 13,
	"Comp": {" x ": 14, "select": "in"}, "Dom": "yes", "b.c1": 1.25, "persist_batch": 15, "none": 16, "excluded": 17}$$));
SELECT count(persist_enqueue('"select"', '{"from": 1, "values": [1, 2]}'));
SELECT count(persist_enqueue('persist_batch', '{"persist_batch": 1}'));
SELECT count(persist_enqueue('b', '{"b": 1, "c1": "one"}'));
SELECT persist_flush();
\x on
SELECT * FROM "Weird Schema, ""quoted"".". "Table "". of 'it'";
\x off
SELECT * FROM "select";
SELECT * FROM persist_batch;
SELECT * FROM b;

-- the same name in several schemas: the one that the caller meant
CREATE SCHEMA target_names_2;
CREATE TABLE target_names_2.b (LIKE b);
SELECT count(persist_enqueue('b', '{"b": 2}'));
SET search_path = target_names_2, target_names, public;
SELECT count(persist_enqueue('b', '{"b": 3}'));
SELECT count(persist_enqueue('target_names.b', '{"b": 4}'));
SELECT count(persist_enqueue('b'::regclass, '{"b": 5}'::jsonb));
SET search_path = target_names, public;
SELECT persist_flush();
SELECT tableoid::regclass, b FROM (SELECT tableoid, b FROM b UNION ALL SELECT tableoid, b FROM target_names_2.b) AS both_ ORDER BY b;

-- a table that hides PostgreSQL's own names from the search path
CREATE TABLE target_names.pg_class (oid int, int4 int);
CREATE DOMAIN target_names.int4 AS text;
CREATE FUNCTION target_names.persist_batch() RETURNS SETOF record LANGUAGE sql AS $$SELECT 1 / 0$$;
SET search_path = target_names, pg_catalog, public;
SELECT count(public.persist_enqueue('pg_class', '{"oid": 1, "int4": 2}'));
SELECT public.persist_flush();
SELECT oid, int4 FROM target_names.pg_class;
SET search_path = target_names, public;

DROP SCHEMA "Weird Schema, ""quoted""." CASCADE;
DROP SCHEMA target_names_2 CASCADE;

DROP SCHEMA target_names CASCADE;
