-- Items belong to the transaction: they come at its COMMIT, all of them, in
-- order; ROLLBACK and an error drop them.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA xact_commit;
SET search_path = xact_commit, public;

CREATE TABLE t (n int, tag text, ser serial);

BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i, 'tag', 'committed'))) FROM generate_series(1, 5) AS i;
-- not handed over yet, and not to be seen here either
SELECT count(*) FROM t;
COMMIT;
BEGIN;
SELECT count(persist_enqueue('t', jsonb_build_object('n', i, 'tag', 'rolled back'))) FROM generate_series(6, 10) AS i;
ROLLBACK;
BEGIN;
SELECT count(persist_enqueue('t', '{"n": 11, "tag": "failed"}'));
SELECT 1 / 0;
COMMIT;
-- one statement is a transaction: all or nothing
SELECT persist_enqueue('t', jsonb_build_object('n', CASE i WHEN 15 THEN to_jsonb('bad'::text) ELSE to_jsonb(i) END, 'tag', 'statement')) FROM generate_series(12, 20) AS i;
SELECT count(persist_enqueue('t', '{"n": 21, "tag": "alone"}'));
-- a deferred constraint of another table fails the COMMIT
CREATE TABLE d (id int PRIMARY KEY, up int REFERENCES d DEFERRABLE INITIALLY DEFERRED);
BEGIN;
SELECT count(persist_enqueue('t', '{"n": 22, "tag": "failed at commit"}'));
INSERT INTO d VALUES (1, 99);
COMMIT;
-- chained
BEGIN;
SELECT count(persist_enqueue('t', '{"n": 23, "tag": "chained"}'));
COMMIT AND CHAIN;
SELECT count(persist_enqueue('t', '{"n": 24, "tag": "chained"}'));
ROLLBACK AND CHAIN;
SELECT count(persist_enqueue('t', '{"n": 25, "tag": "chained"}'));
COMMIT;
-- several statements in one query string
SELECT count(persist_enqueue('t', '{"n": 26, "tag": "string"}'))\; SELECT count(persist_enqueue('t', '{"n": 27, "tag": "string"}'));
SELECT count(persist_enqueue('t', '{"n": 28, "tag": "string"}'))\; SELECT 1 / 0;
SELECT persist_flush();
SELECT n, tag FROM t ORDER BY ctid;

-- one's own writes and one's items commit together, the items a little later
BEGIN;
INSERT INTO t (n, tag) VALUES (100, 'plain');
SELECT count(persist_enqueue('t', '{"n": 101, "tag": "item"}'));
COMMIT;
SELECT count(*) FROM t WHERE n = 100;
SELECT persist_flush();
SELECT count(*) FROM t WHERE n = 101;

-- ids: they rise within a session, whatever becomes of the items
CREATE TABLE ids (n serial, id bigint);
INSERT INTO ids (id) SELECT persist_enqueue('t', '{}') FROM generate_series(1, 10);
BEGIN;
SELECT persist_enqueue('t', '{}') AS rolled_back \gset
ROLLBACK;
INSERT INTO ids (id) SELECT persist_enqueue('t', '{}'::jsonb, i % 2 = 0) FROM generate_series(1, 10) AS i;
INSERT INTO ids (id) SELECT persist_enqueue(ROW(1, 'x', 1)::t);
INSERT INTO ids (id) SELECT unnest(persist_enqueue_many('t', '[{}, {}, {}]'));
SELECT count(*), count(DISTINCT id), bool_and(id > 0) AS positive FROM ids;
SELECT count(*) AS out_of_order FROM (SELECT id < lag(id) OVER (ORDER BY n) AS wrong FROM ids) AS s WHERE wrong;
SELECT count(*) AS used_again FROM ids WHERE id = :rolled_back;
-- other sessions get others
\c -
SET client_min_messages = warning;
SET search_path = xact_commit, public;
SELECT count(*) AS used_again FROM ids WHERE id = persist_enqueue('xact_commit.t', '{}');

-- serializable and repeatable read
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(persist_enqueue('t', '{"n": 200, "tag": "serializable"}'));
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(persist_enqueue('t', '{"n": 201, "tag": "repeatable read"}'));
COMMIT;
SELECT persist_flush();
SELECT n, tag FROM t WHERE n >= 200 ORDER BY n;

-- a table of this very transaction
BEGIN;
CREATE TABLE young (a int DEFAULT 7);
SELECT count(persist_enqueue('young', '{}'));
COMMIT;
SELECT persist_flush();
TABLE young;

DROP SCHEMA xact_commit CASCADE;
