-- What takes no items: temporary tables, catalogs, sequences, materialized
-- views, indexes, types, views that take no INSERT, and what isn't there.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA errors_target;
SET search_path = errors_target, public;

CREATE TABLE t (a int PRIMARY KEY, b text);
CREATE TEMP TABLE temp (a int);
CREATE SEQUENCE seq;
CREATE MATERIALIZED VIEW mat AS SELECT * FROM t;
CREATE TYPE typ AS (a int);
CREATE TABLE parted (a int PRIMARY KEY) PARTITION BY RANGE (a);
CREATE VIEW grouped AS SELECT a, count(*) FROM t GROUP BY a;
CREATE VIEW constants AS SELECT 1 AS a;
CREATE VIEW joined AS SELECT t.a, u.b FROM t JOIN t AS u USING (a);
CREATE VIEW conditional AS SELECT DISTINCT a FROM t;
CREATE RULE maybe AS ON INSERT TO conditional WHERE NEW.a > 0 DO INSTEAD INSERT INTO t VALUES (NEW.a);
CREATE TEMP VIEW temp_view AS SELECT * FROM t;
CREATE VIEW expressions AS SELECT a, upper(b) AS b FROM t;

-- in full
SELECT persist_enqueue('temp', '{"a": 1}');
SELECT persist_enqueue('temp_view', '{"a": 1}');
SELECT persist_enqueue('pg_class', '{"relname": "x"}');
SELECT persist_enqueue('seq', '{"last_value": 1}');
SELECT persist_enqueue('mat', '{"a": 1}');
SELECT persist_enqueue('t_pkey', '{"a": 1}');
SELECT persist_enqueue('parted_pkey', '{"a": 1}');
SELECT persist_enqueue('typ', '{"a": 1}');
SELECT persist_enqueue('grouped', '{"a": 1}');
SELECT persist_enqueue('constants', '{"a": 1}');
SELECT persist_enqueue('joined', '{"a": 1}');
SELECT persist_enqueue('conditional', '{"a": 1}');
SELECT persist_enqueue('expressions', '{"a": 1, "b": "x"}');
SELECT persist_enqueue('no_such_table', '{"a": 1}');
SELECT persist_enqueue(4294967295::oid::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue(0::oid::regclass, '{"a": 1}'::jsonb);

-- the codes
\set VERBOSITY sqlstate
SELECT persist_enqueue('temp'::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue('temp_view'::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue('pg_class'::regclass, '{"relname": "x"}'::jsonb);
SELECT persist_enqueue('pg_settings'::regclass, '{"name": "x"}'::jsonb);
SELECT persist_enqueue('seq'::regclass, '{"last_value": 1}'::jsonb);
SELECT persist_enqueue('mat'::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue('t_pkey'::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue('parted_pkey'::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue('typ'::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue('grouped'::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue('constants'::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue('joined'::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue('conditional'::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue('expressions'::regclass, '{"a": 1, "b": "x"}'::jsonb);
SELECT persist_enqueue('no_such_table', '{"a": 1}');
SELECT persist_enqueue('errors_target.no_such_table', '{"a": 1}');
SELECT persist_enqueue('no_such_schema.t', '{"a": 1}');
SELECT persist_enqueue(4294967295::oid::regclass, '{"a": 1}'::jsonb);
SELECT persist_enqueue_many('mat', '[{"a": 1}]');
SELECT persist_flush(target => 'mat');
SELECT persist_flush(target => 4294967295::oid::regclass);
-- a TOAST table
SELECT persist_enqueue(reltoastrelid::regclass, '{"chunk_seq": 1}'::jsonb) FROM pg_class WHERE oid = 't'::regclass;
\set VERBOSITY default

-- a table that has gone since the session used it
CREATE TABLE gone (a int);
SELECT 'gone'::regclass::oid AS gone \gset
SELECT count(persist_enqueue('gone', '{"a": 1}'));
SELECT persist_flush();
DROP TABLE gone;
\set VERBOSITY sqlstate
SELECT persist_enqueue(:gone::regclass, '{"a": 1}'::jsonb);
\set VERBOSITY default

-- the column of the view that can be given, given alone
SELECT count(persist_enqueue('expressions', '{"a": 7}'));
SELECT persist_flush();
SELECT * FROM t;

DROP SCHEMA errors_target CASCADE;
