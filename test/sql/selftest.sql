-- persist_selftest: one item through the whole pipeline, or what stands in the way; who may ask.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA selftest;
SET search_path = selftest, public;

CREATE FUNCTION test(timeout interval DEFAULT '30 s', OUT step text, OUT ok boolean, OUT detail text)
RETURNS SETOF record LANGUAGE sql BEGIN ATOMIC
	SELECT t.step, t.ok AND t.ms >= 0, regexp_replace(t.detail, '^item \d+$', 'item N') FROM persist_selftest(timeout) AS t;
END;
-- what stands in the way; NULL: nothing
CREATE FUNCTION obstacle(timeout interval DEFAULT '30 s') RETURNS text LANGUAGE sql BEGIN ATOMIC
	SELECT string_agg(t.step || ': ' || t.detail, '; ') FROM test(timeout) AS t WHERE NOT t.ok;
END;
-- of the account of its table, since then
CREATE TABLE before AS SELECT coalesce(sum(persisted), 0) AS persisted FROM persist_stats WHERE target_name = 'persist_pipeline_internal.persist_selftest';
CREATE VIEW account AS
SELECT s.persisted - b.persisted AS persisted, s.skipped, s.dead, s.lost, s.pending, s.parked FROM persist_stats AS s, before AS b
WHERE s.target_name = 'persist_pipeline_internal.persist_selftest';

SELECT * FROM test();
TABLE account;
-- its times add up to no more than the call took
SELECT clock_timestamp() AS began \gset
SELECT sum(ms) <= 1000 * extract(epoch FROM clock_timestamp() - :'began') AS ok, max(ms) > 0 AS measured FROM persist_selftest();
TABLE account;

-- it survives a ROLLBACK, and sees what is new whatever the transaction sees
BEGIN ISOLATION LEVEL SERIALIZABLE;
CREATE TABLE written (n int);
SELECT bool_and(ok) FROM test();
SELECT bool_and(ok) FROM test();
ROLLBACK;
TABLE account;

-- nothing stays in its table, where nobody else inserts
SELECT count(*) FROM persist_pipeline_internal.persist_selftest;
INSERT INTO persist_pipeline_internal.persist_selftest DEFAULT VALUES;
\copy persist_pipeline_internal.persist_selftest FROM stdin
2000-01-01
\.
UPDATE persist_pipeline_internal.persist_selftest SET called_at = NULL;
DELETE FROM persist_pipeline_internal.persist_selftest;
TRUNCATE persist_pipeline_internal.persist_selftest;
CREATE TABLE stranger (a timestamptz);
CREATE TRIGGER row BEFORE INSERT ON stranger FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_selftest_row();
INSERT INTO stranger VALUES (now());

-- what stands in the way
BEGIN READ ONLY;
SELECT * FROM test();
ROLLBACK;
SET persist_pipeline.mode = 'direct';
SELECT * FROM test();
SET persist_pipeline.mode = 'reject';
SELECT obstacle();
RESET persist_pipeline.mode;
SELECT persist_pause();
SELECT * FROM test('1 hour');
SELECT persist_resume();
SELECT persist_pause('persist_pipeline_internal.persist_selftest');
SELECT obstacle('1 hour');
SELECT persist_resume('persist_pipeline_internal.persist_selftest');
SELECT persist_unconfigure('persist_pipeline_internal.persist_selftest');
SELECT obstacle();
TABLE account;

-- a lock: the item is late, and arrives when that is gone
BEGIN;
ALTER TABLE persist_pipeline_internal.persist_selftest ENABLE ROW LEVEL SECURITY;
SELECT obstacle('5 s');
SELECT pending, parked FROM account;
ROLLBACK;
SELECT persist_flush();
TABLE account;

-- an item that dies: its SQLSTATE and message, at once
ALTER TABLE persist_pipeline_internal.persist_selftest ADD CONSTRAINT never CHECK (called_at < '2000-01-01');
SELECT obstacle('1 hour');
SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters WHERE target_name = 'persist_pipeline_internal.persist_selftest'));
ALTER TABLE persist_pipeline_internal.persist_selftest DROP CONSTRAINT never;
SELECT obstacle();

-- one that can't be made
ALTER TABLE persist_pipeline_internal.persist_selftest ALTER COLUMN called_at SET DEFAULT (1 / (random() * 0)::int)::text::timestamptz;
SELECT obstacle();
ALTER TABLE persist_pipeline_internal.persist_selftest ALTER COLUMN called_at SET DEFAULT pg_catalog.clock_timestamp();
SELECT obstacle();

-- a call that is cancelled is no finding
BEGIN;
ALTER TABLE persist_pipeline_internal.persist_selftest ENABLE ROW LEVEL SECURITY;
SET LOCAL statement_timeout = '200 ms';
SELECT obstacle('1 hour');
ROLLBACK;
SELECT persist_flush();

-- who may ask
SELECT persist_selftest(NULL);
CREATE ROLE pp_selftest;
GRANT USAGE ON SCHEMA selftest TO pp_selftest;
SET ROLE pp_selftest;
SELECT count(*) FROM persist_selftest();
RESET ROLE;
GRANT EXECUTE ON FUNCTION persist_selftest(interval) TO pp_selftest;
SET ROLE pp_selftest;
SELECT count(*) FROM persist_selftest();
RESET ROLE;

DROP OWNED BY pp_selftest;
DROP ROLE pp_selftest;
DROP SCHEMA selftest CASCADE;
