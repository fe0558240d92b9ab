-- persist_configure and persist_unconfigure: how durable a target's items are, from
-- which call on, who may say so, and what becomes of what was said.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA configure;
SET search_path = configure, public;

CREATE TABLE t (a int);
CREATE UNLOGGED TABLE u (a int);
-- how many items are in the journal, and not in the ring alone
CREATE VIEW journalled AS
SELECT coalesce(sum(get_byte(data, 2) + 256 * get_byte(data, 3)), 0) AS items
FROM (SELECT data FROM persist_pipeline_internal.persist_journal_1 UNION ALL SELECT data FROM persist_pipeline_internal.persist_journal_2 UNION ALL SELECT data FROM persist_pipeline_internal.persist_journal_3) AS j;
CREATE FUNCTION waiting(OUT pending bigint, OUT journalled bigint) LANGUAGE sql AS $$
	SELECT (SELECT items_pending FROM public.persist_queue WHERE datname = current_database()), (SELECT items FROM configure.journalled);
$$;

-- everything waits behind one item whose lock we hold, so that we can see where (its
-- trigger doesn't wait for the lock as such: then the item would be parked)
CREATE UNLOGGED TABLE locked (a int);
CREATE FUNCTION take_lock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	WHILE NOT pg_try_advisory_xact_lock(1886413932) LOOP
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN NEW;
END $$;
CREATE TRIGGER take_lock BEFORE INSERT ON locked FOR EACH ROW EXECUTE FUNCTION take_lock();
SELECT count(persist_enqueue('t', '{"a": 0}'));
SELECT persist_flush();
DO $$
BEGIN
	-- its worker has come: what is for the ring can go there
	FOR i IN 1..6000 LOOP
		IF (SELECT worker_state FROM public.persist_queue WHERE datname = current_database()) = 'idle' THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RAISE 'never seen';
END $$;
SELECT pg_advisory_lock(1886413932);
SELECT count(persist_enqueue('locked', '{"a": 1}'));
DO $$
BEGIN
	FOR i IN 1..6000 LOOP
		IF (SELECT worker_state FROM public.persist_queue WHERE datname = current_database()) = 'writing' THEN
			RETURN;
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RAISE 'never seen';
END $$;
SELECT * FROM waiting();

-- as durable as the target
TABLE persist_settings;
SELECT count(persist_enqueue('t', '{"a": 1}'));
SELECT count(persist_enqueue('u', '{"a": 1}'));
SELECT * FROM waiting();
-- no xid and no row of the journal for a permanent table, which this session knows
-- already (that its COMMIT needs none either: 094_pause_and_copies.pl)
SELECT persist_configure('t', 'ring');
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 2}'));
SELECT pg_current_xact_id_if_assigned();
COMMIT;
SELECT * FROM waiting();
-- rows of the journal for an UNLOGGED one
SELECT persist_configure('u', durability => 'journal');
SELECT count(persist_enqueue('u', '{"a": 2}'));
SELECT count(persist_enqueue(ROW(3)::u));
SELECT cardinality(persist_enqueue_many('u', '[{"a": 4}, {"a": 5}]'));
SELECT * FROM waiting();
SELECT * FROM persist_settings ORDER BY target::text;
-- NULL leaves it
SELECT persist_configure('t');
SELECT persist_configure('u', NULL);
SELECT * FROM persist_settings ORDER BY target::text;
SELECT count(persist_enqueue('t', '{"a": 3}'));
SELECT count(persist_enqueue('u', '{"a": 6}'));
SELECT * FROM waiting();
-- back
SELECT persist_configure('t', 'auto');
SELECT persist_configure('u', 'auto');
SELECT * FROM persist_settings ORDER BY target::text;
SELECT count(persist_enqueue('t', '{"a": 4}'));
SELECT count(persist_enqueue('u', '{"a": 7}'));
SELECT * FROM waiting();
SELECT persist_unconfigure('t');
SELECT persist_unconfigure('u');
SELECT persist_unconfigure('u');
TABLE persist_settings;
SELECT persist_configure('t', 'ring');
SELECT count(persist_enqueue('t', '{"a": 5}'));
SELECT * FROM waiting();
SELECT persist_unconfigure('t');
SELECT count(persist_enqueue('t', '{"a": 6}'));
SELECT * FROM waiting();
-- a target of which nothing was said, and NULL
SELECT persist_configure('t');
TABLE persist_settings;
SELECT persist_unconfigure('t');
-- ALTER TABLE says how durable it is
ALTER TABLE u SET LOGGED;
SELECT count(persist_enqueue('u', '{"a": 8}'));
SELECT * FROM waiting();
ALTER TABLE u SET UNLOGGED;
SELECT count(persist_enqueue('u', '{"a": 9}'));
SELECT * FROM waiting();

-- in one transaction: all goes to the journal, if anything does
BEGIN;
SELECT count(persist_enqueue('t', '{"a": 7}'));
SELECT persist_configure('t', 'ring');
SELECT count(persist_enqueue('t', '{"a": 8}'));
SELECT count(persist_enqueue('t', '{"a": 9}'));
COMMIT;
SELECT * FROM waiting();
-- rolled back, and back to a savepoint
SELECT persist_unconfigure('t');
BEGIN;
SELECT persist_configure('t', 'ring');
ROLLBACK;
SELECT count(persist_enqueue('t', '{"a": 10}'));
SELECT * FROM waiting();
BEGIN;
SAVEPOINT s;
SELECT persist_configure('t', 'ring');
SELECT count(persist_enqueue('t', '{"a": -1}'));
ROLLBACK TO s;
SELECT count(persist_enqueue('t', '{"a": 11}'));
SAVEPOINT s2;
SELECT persist_configure('t', 'ring');
RELEASE s2;
SELECT count(persist_enqueue('t', '{"a": 12}'));
COMMIT;
SELECT * FROM waiting();
BEGIN;
SAVEPOINT s;
SELECT persist_unconfigure('t');
SELECT count(persist_enqueue('t', '{"a": -1}'));
ROLLBACK TO s;
SELECT count(persist_enqueue('t', '{"a": 13}'));
COMMIT;
SELECT * FROM waiting();
DO $$
BEGIN
	PERFORM persist_configure('configure.t', 'journal');
	RAISE 'never mind';
EXCEPTION WHEN raise_exception THEN
	PERFORM persist_enqueue('configure.t', '{"a": 14}');
END $$;
SELECT * FROM waiting();
-- whatever snapshot the transaction has
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT durability FROM persist_settings;
SELECT persist_configure('t', 'journal');
SELECT count(persist_enqueue('t', '{"a": 15}'));
SELECT persist_configure('t', 'ring');
SELECT count(persist_enqueue('t', '{"a": 16}'));
COMMIT;
SELECT * FROM waiting();
SELECT pg_advisory_unlock(1886413932);
SELECT persist_flush('5 min');
SELECT array_agg(a ORDER BY a) FROM t;
SELECT array_agg(a ORDER BY a) FROM u;
SELECT * FROM waiting();

-- errors
SELECT persist_configure(NULL, 'ring');
SELECT persist_configure('t', 'disk');
SELECT persist_configure('t', 'RING');
SELECT persist_configure('t', '');
SELECT persist_configure('nothing', 'ring');
SELECT persist_configure(4294967295::oid, 'ring');
SELECT persist_configure('pg_class', 'ring');
CREATE SEQUENCE seq;
SELECT persist_configure('seq', 'ring');
CREATE INDEX t_a ON t (a);
SELECT persist_configure('t_a', 'ring');
CREATE TEMP TABLE temporary (a int);
SELECT persist_configure('temporary', 'ring');
CREATE VIEW read_only AS SELECT count(*) FROM t;
SELECT persist_configure('read_only', 'ring');
SELECT persist_unconfigure(NULL);
SELECT persist_unconfigure(4294967295::oid);
BEGIN READ ONLY;
SELECT persist_configure('t', 'ring');
ROLLBACK;
BEGIN READ ONLY;
SELECT persist_unconfigure('t');
ROLLBACK;
\set VERBOSITY sqlstate
SELECT persist_configure(NULL, 'ring');
SELECT persist_configure('t', 'disk');
SELECT persist_configure('nothing', 'ring');
SELECT persist_configure(4294967295::oid, 'ring');
SELECT persist_configure('pg_class', 'ring');
SELECT persist_configure('seq', 'ring');
SELECT persist_configure('t_a', 'ring');
SELECT persist_configure('temporary', 'ring');
SELECT persist_configure('read_only', 'ring');
SELECT persist_unconfigure(NULL);
SELECT persist_unconfigure(4294967295::oid);
BEGIN READ ONLY;
SELECT persist_configure('t', 'ring');
ROLLBACK;
BEGIN READ ONLY;
SELECT persist_unconfigure('t');
ROLLBACK;
\set VERBOSITY default
SELECT * FROM persist_settings ORDER BY target::text;

-- who may: the owner, a member of it, and a superuser
CREATE ROLE pp_owner;
CREATE ROLE pp_member IN ROLE pp_owner;
CREATE ROLE pp_writer;
CREATE ROLE pp_super SUPERUSER;
GRANT USAGE ON SCHEMA configure TO pp_owner, pp_writer;
CREATE TABLE owned (a int);
ALTER TABLE owned OWNER TO pp_owner;
GRANT ALL ON owned TO pp_writer;
SET ROLE pp_writer;
SELECT persist_configure('owned', 'ring');
SELECT persist_configure('owned');
SELECT persist_configure('owned', 'disk');
SELECT persist_unconfigure('owned');
SELECT persist_configure('pg_class', 'ring');
SELECT persist_configure('persist_settings', 'ring');
SELECT * FROM persist_settings;
\set VERBOSITY sqlstate
SELECT persist_configure('owned', 'ring');
SELECT persist_unconfigure('owned');
\set VERBOSITY default
SET ROLE pp_owner;
SELECT persist_configure('owned', 'ring');
SET ROLE pp_member;
SELECT persist_configure('owned', 'journal');
SELECT persist_unconfigure('owned');
SET ROLE pp_super;
SELECT persist_configure('owned', 'ring');
RESET ROLE;
SELECT * FROM persist_settings WHERE target = 'owned'::regclass;
-- an owner drops it, without any right to that table
SET ROLE pp_owner;
DROP TABLE owned;
RESET ROLE;
SELECT * FROM persist_settings ORDER BY target::text;
REVOKE ALL ON SCHEMA configure FROM pp_owner, pp_writer;
DROP ROLE pp_owner, pp_member, pp_writer, pp_super;

-- it goes with the target, however that goes, unless that is rolled back
CREATE VIEW named AS SELECT target::text, durability FROM persist_settings ORDER BY target::text;
SELECT persist_unconfigure('t');
CREATE SCHEMA configure_inner;
CREATE TABLE configure_inner.dropped (a int);
CREATE VIEW v AS SELECT * FROM t;
CREATE TABLE parts (a int) PARTITION BY LIST (a);
CREATE TABLE part PARTITION OF parts FOR VALUES IN (1);
SELECT persist_configure(target, 'journal') FROM unnest('{configure_inner.dropped,t,u,v,parts,part}'::regclass[]) AS target;
TABLE named;
BEGIN;
DROP TABLE t CASCADE;
TABLE named;
ROLLBACK;
BEGIN;
SAVEPOINT s;
DROP VIEW v;
ROLLBACK TO s;
COMMIT;
TABLE named;
DROP VIEW v;
DROP SCHEMA configure_inner CASCADE;
DROP TABLE part;
TABLE named;
DROP TABLE parts;
TABLE named;
-- another one of the same name is another one
DROP TABLE u;
CREATE UNLOGGED TABLE u (a int);
TABLE named;
-- and stays with it
CREATE SCHEMA configure_inner;
ALTER TABLE t RENAME TO renamed;
TABLE named;
ALTER TABLE renamed SET SCHEMA configure_inner;
ALTER SCHEMA configure_inner RENAME TO configure_moved;
TABLE named;
TRUNCATE configure_moved.renamed;
ALTER TABLE configure_moved.renamed ALTER a TYPE bigint;
TABLE named;
-- what is dropped in the transaction that said it leaves nothing
BEGIN;
CREATE TABLE short (a int);
SELECT persist_configure('short', 'ring');
DROP TABLE short;
COMMIT;
TABLE named;
DROP SCHEMA configure_moved CASCADE;
TABLE named;
-- many names can be interrupted
CREATE TABLE many (a int);
SELECT array_agg('c' || i) AS names FROM generate_series(1, 30000) AS i \gset
SET statement_timeout = 50;
SELECT persist_configure('many', on_conflict => 'update', conflict_columns => :'names');
RESET statement_timeout;
-- the column says what it holds
SELECT atttypid::regtype FROM pg_attribute WHERE attrelid = 'persist_settings'::regclass AND attname = 'target';

DROP SCHEMA configure CASCADE;
