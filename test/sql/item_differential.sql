-- Every type and every value: what an item becomes, or the error that it gets, is what
-- jsonb_populate_record says.  mode 'direct' converts in the same way, and shows it at once.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA item_differential;
SET search_path = item_differential, public;
SET persist_pipeline.mode = 'direct';
SET timezone = 'Europe/Vienna';

CREATE TYPE mood AS ENUM ('sad', 'ok', 'true', '1', '');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN named AS text NOT NULL;

CREATE TABLE types AS SELECT row_number() OVER () AS n, type FROM unnest(ARRAY[
	'text', 'varchar', 'varchar(3)', 'char', 'char(3)', '"char"', 'name', 'bool', 'int2', 'int4', 'int8',
	'float4', 'float8', 'numeric', 'numeric(5,2)', 'numeric(3,0)', 'money', 'oid', 'regtype', 'jsonb', 'json',
	'timestamp', 'timestamp(0)', 'timestamptz', 'timestamptz(3)', 'date', 'time', 'time(1)', 'timetz',
	'interval', 'interval(2)', 'interval hour to minute', 'uuid', 'bytea', 'inet', 'cidr', 'macaddr',
	'bit(3)', 'bit varying(4)', 'point', 'box', 'tsvector', 'tsquery', 'xid8', 'pg_lsn', 'int4range',
	'numrange', 'int4multirange', 'mood', 'pair', 'positive', 'named', 'text[]', 'int[]', 'varchar(3)[]',
	'numeric(5,2)[]', 'jsonb[]', 'mood[]', 'pair[]', 'positive[]']) AS type;

SELECT setseed(0.25);
CREATE TABLE the_values (value jsonb);
INSERT INTO the_values
SELECT v::jsonb FROM unnest(ARRAY[
	'null', 'true', 'false', '0', '1', '-1', '1.0', '1.5', '-0', '-0.0', '1e3', '12345678901', '99999999999999999999',
	'1e400', '1e-400', '0.1', '123456.789', '32767', '32768', '2147483647', '2147483648', '9223372036854775808',
	'""', '" "', '"a"', '"abc"', '"abcd"', '"abc  "', '"  abc"', '"ä€🐘"', '"ä€🐘x"', '"true"', '"t"', '"yes"', '"off"',
	'"1"', '" 1 "', '"1.0"', '"1e2"', '"0x10"', '"NaN"', '"Infinity"', '"-inf"', '"null"', '"NULL"', '"2147483648"',
	'"2024-02-29"', '"2023-02-29"', '"2024-02-29 12:34:56.789"', '"2024-02-29T12:34:56.789Z"', '"infinity"', '"now"',
	'"12:34:56.789"', '"24:00"', '"1 day"', '"1:30"', '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"', '"\\x0aff"', '"\\x0"',
	'"127.0.0.1/8"', '"08:00:2b:01:02:03"', '"101"', '"10101"', '"(1,2)"', '"(1,2),(3,4)"', '"a & b"', '"16/B374D848"',
	'"[1,5)"', '"[5,1)"', '"{[1,2]}"', '"sad"', '"happy"', '"(1,x)"', '"{1,2}"', '"{a,NULL}"', '"{\"a\": 1}"', '"int4"',
	'[]', '[1, 2]', '["a", null, "abcd"]', '[1.5, "2"]', '[[1, 2], [3, 4]]', '[{"a": 1, "b": "x"}]', '["sad"]', '[-1]',
	'{}', '{"a": 1, "b": "x"}', '{"a": "x"}', '{"c": 1}', '{"a": null, "b": {"c": [1]}}']) AS v;
INSERT INTO the_values SELECT to_jsonb((random() * 2 - 1) * 10 ^ (random() * 24 - 4)::int) FROM generate_series(1, 10);
INSERT INTO the_values SELECT to_jsonb(round(((random() * 2 - 1) * 10 ^ (random() * 20)::int)::numeric, (random() * 4)::int)) FROM generate_series(1, 10);
INSERT INTO the_values SELECT to_jsonb(('{"",a,"é",€}'::text[])[1 + (random() * 3)::int] || chr(32 + (random() * 90)::int) || left(md5(random()::text), (random() * 5)::int)) FROM generate_series(1, 10);

-- as the session would see it: the value, or SQLSTATE and message
CREATE FUNCTION populated(relation regclass, item jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('INSERT INTO %1$s SELECT (jsonb_populate_record(NULL::%1$s, $1)).* RETURNING v::text', relation) INTO result USING item;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN 'ERROR ' || SQLSTATE || ' ' || SQLERRM;
END $$;
CREATE FUNCTION enqueued(relation regclass, item jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('TRUNCATE %s', relation);
	PERFORM persist_enqueue(relation, item);
	EXECUTE format('SELECT v::text FROM %s', relation) INTO STRICT result;
	RETURN result;
EXCEPTION WHEN OTHERS THEN
	RETURN 'ERROR ' || SQLSTATE || ' ' || SQLERRM;
END $$;

SELECT format('CREATE TABLE t%s (v %s)', n, type) FROM types ORDER BY n \gexec

CREATE TABLE compared AS
SELECT type, value, populated(('t' || n)::regclass, jsonb_build_object('v', value)), enqueued(('t' || n)::regclass, jsonb_build_object('v', value))
FROM types, the_values;

SELECT type, value, populated, enqueued FROM compared WHERE populated IS DISTINCT FROM enqueued ORDER BY 1, 2;
SELECT count(*) AS compared, count(*) FILTER (WHERE enqueued LIKE 'ERROR %') > 1000 AS many_fail,
       count(*) FILTER (WHERE enqueued NOT LIKE 'ERROR %') > 1000 AS many_do_not FROM compared;

DROP SCHEMA item_differential CASCADE;
