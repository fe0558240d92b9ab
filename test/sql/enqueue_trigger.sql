-- persist_enqueue_trigger(): clients that know nothing but INSERT and COPY; here before each row of
-- a table.  See enqueue_trigger_view, too.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA enqueue_trigger;
SET search_path = enqueue_trigger, public;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) IS NOT NULL AS others_are_gone;
CREATE VIEW account AS
SELECT target_name, enqueued, persisted, skipped, dead, pending FROM persist_stats WHERE target_name LIKE 'enqueue_trigger.%' ORDER BY 1;

CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a text NOT NULL, gone int, b int DEFAULT 7 CHECK (b <> 13), g int GENERATED ALWAYS AS (b + 1) STORED, who name DEFAULT current_user, v varchar(3));
ALTER TABLE t DROP gone;
CREATE TRIGGER enqueue BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();

-- ---- statements ----

INSERT INTO t (a) VALUES ('one');
INSERT INTO t (a, b) VALUES ('two', NULL), ('three', 3) RETURNING *;
INSERT INTO t (a) SELECT 'selected ' || i FROM generate_series(1, 3) AS i;
INSERT INTO t (id, a) OVERRIDING SYSTEM VALUE VALUES (1000, 'its own id');
PREPARE insert_one (text, int) AS INSERT INTO t (a, b) VALUES ($1, $2);
EXECUTE insert_one ('prepared 1', 1);
EXECUTE insert_one ('prepared 2', 2);
COPY t (a, b) FROM stdin;
copied 1	10
copied 2	\N
\.
-- it counts none: the rows are not there
DO $$
DECLARE
	n int;
BEGIN
	INSERT INTO enqueue_trigger.t (a) VALUES ('counted 1'), ('counted 2');
	GET DIAGNOSTICS n = ROW_COUNT;
	RAISE WARNING '% rows', n;
END $$;
WITH w AS (INSERT INTO t (a) VALUES ('in a query') RETURNING id) SELECT count(*) FROM w;
SELECT persist_flush();
SELECT id, a, b, g, who = current_user AS who FROM t ORDER BY id;
-- each row has gone through once
TABLE account;

-- as of the transaction
BEGIN;
INSERT INTO t (a) VALUES ('rolled back');
SAVEPOINT a;
ROLLBACK;
BEGIN;
INSERT INTO t (a) VALUES ('kept 1');
SAVEPOINT a;
INSERT INTO t (a) VALUES ('dropped');
ROLLBACK TO a;
INSERT INTO t (a) VALUES ('kept 2');
COMMIT;
SELECT persist_flush();
SELECT a FROM t WHERE a ~ 'rolled|kept|dropped' ORDER BY id;

-- errors of the statement, and those that wait
INSERT INTO t (a, v) VALUES ('too long', 'long');
INSERT INTO t (a, b) VALUES ('no number', 'x');
INSERT INTO t (id, a) VALUES (1, 'identity');
INSERT INTO t (a, b) VALUES ('checked', 13);
INSERT INTO t (a) VALUES (NULL);
INSERT INTO t (id, a) OVERRIDING SYSTEM VALUE VALUES (1000, 'a key that is there') ON CONFLICT DO NOTHING;
SELECT persist_flush();
SELECT item ->> 'a' AS a, sqlstate FROM persist_dead_letters ORDER BY id;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

-- switched off: the trigger, and the pipeline
ALTER TABLE t DISABLE TRIGGER enqueue;
INSERT INTO t (a) VALUES ('without it') RETURNING a;
ALTER TABLE t ENABLE TRIGGER enqueue;
SET session_replication_role = replica;
INSERT INTO t (a) VALUES ('replicated') RETURNING a;
RESET session_replication_role;
SET persist_pipeline.mode = direct;
INSERT INTO t (a) VALUES ('direct') RETURNING a;
SELECT persist_enqueue('t', '{"a": "direct call"}') > 0 AS has_id;
SELECT count(*) FROM t WHERE a LIKE 'direct%';
SET persist_pipeline.mode = reject;
INSERT INTO t (a) VALUES ('rejected');
RESET persist_pipeline.mode;
-- a condition: the rest is inserted
CREATE TABLE levels (n int);
CREATE TRIGGER enqueue BEFORE INSERT ON levels FOR EACH ROW WHEN (NEW.n < 10) EXECUTE FUNCTION persist_enqueue_trigger();
INSERT INTO levels VALUES (1), (11), (2), (12);
SELECT persist_flush();
SELECT n FROM levels ORDER BY n;
SELECT persisted FROM account WHERE target_name ~ 'levels';

-- ---- other triggers: those before it by name run twice, those after it in the worker alone ----

CREATE TABLE others (n int, log text DEFAULT '');
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.log := NEW.log || TG_NAME || '; ';
	RETURN NEW;
END $$;
CREATE TRIGGER a_before BEFORE INSERT ON others FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER enqueue BEFORE INSERT ON others FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
CREATE TRIGGER z_after BEFORE INSERT ON others FOR EACH ROW EXECUTE FUNCTION note();
INSERT INTO others VALUES (1);
SELECT persist_flush();
SELECT n, log FROM others;

-- those of statements run in both
CREATE TABLE statements (n int);
CREATE SEQUENCE statements_seq;
CREATE FUNCTION count_statements() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('enqueue_trigger.statements_seq'); RETURN NULL; END $$;
CREATE TRIGGER enqueue BEFORE INSERT ON statements FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
CREATE TRIGGER count_statements AFTER INSERT ON statements FOR EACH STATEMENT EXECUTE FUNCTION count_statements();
INSERT INTO statements VALUES (1), (2);
SELECT persist_flush();
SELECT last_value, (SELECT count(*) FROM statements) FROM statements_seq;

-- MERGE sees no more of what waits than others
CREATE TABLE merged (n int PRIMARY KEY, m int);
CREATE TRIGGER enqueue BEFORE INSERT ON merged FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
MERGE INTO merged USING (VALUES (1), (2)) AS s (n) ON merged.n = s.n WHEN MATCHED THEN UPDATE SET m = 1 WHEN NOT MATCHED THEN INSERT (n) VALUES (s.n);
SELECT persist_flush();
MERGE INTO merged USING (VALUES (2), (3)) AS s (n) ON merged.n = s.n WHEN MATCHED THEN UPDATE SET m = 1 WHEN NOT MATCHED THEN INSERT (n) VALUES (s.n);
SELECT persist_flush();
SELECT * FROM merged ORDER BY n;

-- a trigger of the batch that inserts: into the same table, into another one
CREATE TABLE children (n int);
CREATE TRIGGER enqueue BEFORE INSERT ON children FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
CREATE TABLE parents (n int, ins int);
CREATE FUNCTION hand_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.n > 0 THEN
		INSERT INTO enqueue_trigger.parents VALUES (NEW.n - 1);
	END IF;
	INSERT INTO enqueue_trigger.children VALUES (NEW.n);
	RETURN NEW;
END $$;
CREATE TRIGGER enqueue BEFORE INSERT ON parents FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
CREATE TRIGGER hand_on BEFORE INSERT ON parents FOR EACH ROW EXECUTE FUNCTION hand_on();
INSERT INTO parents VALUES (3), (1);
DO $$
BEGIN
	FOR i IN 1 .. 600 LOOP
		PERFORM public.persist_flush();
		COMMIT;
		EXIT WHEN (SELECT count(*) FROM enqueue_trigger.children) >= 6;
	END LOOP;
END $$;
SELECT n, count(*) FROM parents GROUP BY n ORDER BY n;
SELECT n, count(*) FROM children GROUP BY n ORDER BY n;
SELECT target_name, enqueued, persisted, skipped, dead FROM account WHERE target_name ~ 'parents|children';
-- and without an end: to max_depth
CREATE OR REPLACE FUNCTION hand_on() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO enqueue_trigger.parents VALUES (NEW.n + 1);
	RETURN NEW;
END $$;
TRUNCATE parents;
INSERT INTO parents VALUES (100);
DO $$
BEGIN
	FOR i IN 1 .. 600 LOOP
		PERFORM public.persist_flush();
		COMMIT;
		EXIT WHEN EXISTS (SELECT FROM public.persist_dead_letters);
	END LOOP;
END $$;
SELECT min(n), max(n), count(*) FROM parents;
SELECT item, sqlstate FROM persist_dead_letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
DROP TRIGGER hand_on ON parents;

-- a check that inserts into its own table, from inside the batch's own statement
CREATE TABLE checked (n int);
CREATE FUNCTION insert_another(int) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	IF $1 = 1 THEN
		INSERT INTO enqueue_trigger.checked VALUES (2);
	END IF;
	RETURN true;
END $$;
ALTER TABLE checked ADD CHECK (insert_another(n));
CREATE TRIGGER enqueue BEFORE INSERT ON checked FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
INSERT INTO checked VALUES (1);
DO $$
BEGIN
	FOR i IN 1 .. 600 LOOP
		PERFORM public.persist_flush();
		COMMIT;
		EXIT WHEN (SELECT count(*) FROM enqueue_trigger.checked) >= 2;
	END LOOP;
END $$;
SELECT n FROM checked ORDER BY n;
SELECT enqueued, persisted FROM account WHERE target_name ~ 'checked';

-- through a view that has no trigger, by a call and by INSERT; beneath a rule
CREATE VIEW plain AS SELECT a, b FROM t;
INSERT INTO plain VALUES ('through a view', 1);
SELECT persist_enqueue('plain', '{"a": "through a view", "b": 2}') > 0 AS has_id;
CREATE TABLE ruled (a text);
CREATE RULE to_t AS ON INSERT TO ruled DO INSTEAD INSERT INTO enqueue_trigger.t (a) VALUES (NEW.a);
INSERT INTO ruled VALUES ('by a rule');
SELECT persist_enqueue('ruled', '{"a": "by a rule"}') > 0 AS has_id;
SELECT persist_flush();
SELECT a, b FROM t WHERE a ~ 'view|rule' ORDER BY a, b;
SELECT target_name, enqueued, persisted, skipped FROM account WHERE target_name ~ 'plain|ruled';

-- ---- partitions and inheritance ----

CREATE TABLE p (day int, x text, n serial, g int GENERATED ALWAYS AS (day * 2) STORED) PARTITION BY RANGE (day);
CREATE TABLE p1 (g int GENERATED ALWAYS AS (day * 2) STORED, n int NOT NULL, junk text, x text, day int);
ALTER TABLE p1 DROP junk;
ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (0) TO (10);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) PARTITION BY LIST (x);
CREATE TABLE p2a PARTITION OF p2 FOR VALUES IN ('a');
CREATE TRIGGER enqueue BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
CREATE TABLE p2b PARTITION OF p2 FOR VALUES IN ('b');
INSERT INTO p VALUES (1, 'x'), (11, 'a'), (12, 'b');
COPY p (day, x) FROM stdin;
2	x
13	a
\.
-- into a partition: it is for the table all the same
INSERT INTO p1 (n, x, day) VALUES (100, 'y', 3);
INSERT INTO p2a VALUES (14, 'b', 101);
-- none to go to
INSERT INTO p VALUES (99, 'x');
SELECT persist_flush();
SELECT tableoid::regclass AS in, day, x, n, g FROM p ORDER BY day;
SELECT target_name, enqueued, persisted, skipped, dead FROM account WHERE target_name ~ '\.p\d?';
-- an UPDATE that moves a row is a DELETE, and an INSERT that is handed over
UPDATE p SET day = 5 WHERE day = 11;
SELECT persist_flush();
SELECT tableoid::regclass AS in, day, x, n FROM p WHERE n = 2;
-- of a partition alone: that is the target
DROP TRIGGER enqueue ON p;
CREATE TRIGGER enqueue BEFORE INSERT ON p1 FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
INSERT INTO p VALUES (4, 'x'), (15, 'a') RETURNING day;
SELECT persist_flush();
SELECT tableoid::regclass AS in, day FROM p WHERE day IN (4, 15) ORDER BY day;
SELECT target_name, enqueued, persisted FROM account WHERE target_name ~ '\.p\d?';
-- which doesn't concern a table that inherits
CREATE TABLE mother (n int);
CREATE TABLE child (c int) INHERITS (mother);
CREATE TRIGGER enqueue BEFORE INSERT ON mother FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
INSERT INTO mother VALUES (1);
INSERT INTO child VALUES (2, 3) RETURNING n;
SELECT persist_flush();
SELECT tableoid::regclass AS in, n FROM mother ORDER BY n;

-- a foreign table
CREATE EXTENSION IF NOT EXISTS postgres_fdw;
DO $$
BEGIN
	EXECUTE format('CREATE SERVER pp_trigger_loopback FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname %L, host %L, port %L, batch_size ''10'')',
		current_database(), trim(split_part(current_setting('unix_socket_directories'), ',', 1)), current_setting('port'));
	EXECUTE format('CREATE USER MAPPING FOR CURRENT_USER SERVER pp_trigger_loopback OPTIONS (user %L)', current_user);
END $$;
CREATE TABLE remote (n int, d int);
CREATE FOREIGN TABLE far (n int, d int DEFAULT 9) SERVER pp_trigger_loopback OPTIONS (schema_name 'enqueue_trigger', table_name 'remote');
CREATE TRIGGER enqueue BEFORE INSERT ON far FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
INSERT INTO far (n) SELECT generate_series(1, 25);
SELECT persist_flush();
SELECT count(*), sum(n), min(d), max(d) FROM remote;
SELECT enqueued, persisted FROM account WHERE target_name ~ 'far';

-- ---- rights ----

CREATE ROLE pp_trigger_owner;
CREATE ROLE pp_trigger_client;
CREATE ROLE pp_trigger_some;
GRANT USAGE, CREATE ON SCHEMA enqueue_trigger TO pp_trigger_owner;
GRANT USAGE ON SCHEMA enqueue_trigger TO pp_trigger_client, pp_trigger_some;
-- to create one takes EXECUTE, to fire one doesn't
SET ROLE pp_trigger_owner;
CREATE TABLE owned (n int, by name, d int DEFAULT 5, secret text DEFAULT 'default');
CREATE TRIGGER enqueue BEFORE INSERT ON owned FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
RESET ROLE;
GRANT EXECUTE ON FUNCTION persist_enqueue_trigger() TO pp_trigger_owner;
SET ROLE pp_trigger_owner;
CREATE TRIGGER enqueue BEFORE INSERT ON owned FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
CREATE FUNCTION note_who() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.by := current_user; RETURN NEW; END $$;
CREATE TRIGGER note_who BEFORE INSERT ON owned FOR EACH ROW EXECUTE FUNCTION note_who();
CREATE FUNCTION insert_as_owner(int) RETURNS void LANGUAGE sql SECURITY DEFINER AS 'INSERT INTO enqueue_trigger.owned (n) VALUES ($1)';
GRANT INSERT ON owned TO pp_trigger_client;
GRANT INSERT (n, d) ON owned TO pp_trigger_some;
CREATE VIEW owned_view AS SELECT n, d FROM owned;
GRANT INSERT ON owned_view TO pp_trigger_client, pp_trigger_some;
SET ROLE pp_trigger_client;
INSERT INTO owned (n, secret) VALUES (1, 'mine');
SELECT insert_as_owner(2);
SET ROLE pp_trigger_some;
INSERT INTO owned (n) VALUES (3);
INSERT INTO owned (n, d) VALUES (4, NULL);
INSERT INTO owned (n, secret) VALUES (5, 'mine');
-- the rights of a view's owner are the view's
INSERT INTO owned_view VALUES (6);
RESET ROLE;
SELECT persist_flush();
REVOKE INSERT ON owned FROM pp_trigger_client;
SET ROLE pp_trigger_client;
INSERT INTO owned VALUES (7);
INSERT INTO owned_view VALUES (8);
RESET ROLE;
SELECT persist_flush();
SELECT n, by, d, secret FROM owned ORDER BY n;
-- a role that may write to a partition alone
CREATE TABLE q (n int) PARTITION BY RANGE (n);
CREATE TABLE q1 PARTITION OF q FOR VALUES FROM (0) TO (10);
CREATE TRIGGER enqueue BEFORE INSERT ON q FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
GRANT INSERT ON q TO pp_trigger_client;
GRANT INSERT ON q1 TO pp_trigger_some;
SET ROLE pp_trigger_client;
INSERT INTO q VALUES (1);
SET ROLE pp_trigger_some;
INSERT INTO q1 VALUES (2);
RESET ROLE;
SELECT persist_flush();
SELECT n FROM q ORDER BY n;

-- ---- what it isn't for ----

SELECT persist_enqueue_trigger();
CREATE TABLE wrong (n int);
CREATE TRIGGER w AFTER INSERT ON wrong FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
INSERT INTO wrong VALUES (1);
DROP TRIGGER w ON wrong;
CREATE TRIGGER w BEFORE INSERT ON wrong EXECUTE FUNCTION persist_enqueue_trigger();
INSERT INTO wrong VALUES (1);
DROP TRIGGER w ON wrong;
INSERT INTO wrong VALUES (1);
CREATE TRIGGER w BEFORE INSERT OR UPDATE OR DELETE ON wrong FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
INSERT INTO wrong VALUES (2);
UPDATE wrong SET n = 3;
DELETE FROM wrong;
DROP TRIGGER w ON wrong;
CREATE TRIGGER w BEFORE TRUNCATE ON wrong EXECUTE FUNCTION persist_enqueue_trigger();
TRUNCATE wrong;
DROP TRIGGER w ON wrong;
CREATE TEMPORARY TABLE temporary (n int);
CREATE TRIGGER w BEFORE INSERT ON temporary FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
INSERT INTO temporary VALUES (1);
CREATE TRIGGER w BEFORE INSERT ON pg_catalog.pg_class FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
BEGIN READ ONLY;
INSERT INTO t (a) VALUES ('read only');
ROLLBACK;
BEGIN;
INSERT INTO t (a) VALUES ('prepared');
PREPARE TRANSACTION 'enqueue_trigger';

-- ---- a table that changes while rows wait ----

CREATE TABLE changes (n int, unused text, used text, m int);
CREATE TRIGGER enqueue BEFORE INSERT ON changes FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
SELECT persist_pause('changes');
INSERT INTO changes (n, used, m) VALUES (1, 'x', 1);
ALTER TABLE changes DROP unused;
ALTER TABLE changes RENAME used TO in_use;
ALTER TABLE changes ALTER m TYPE text;
INSERT INTO changes (n, in_use) VALUES (2, 'y');
SELECT persist_resume('changes');
SELECT persist_flush();
SELECT * FROM changes ORDER BY n;

DROP OWNED BY pp_trigger_owner, pp_trigger_client, pp_trigger_some CASCADE;
DROP ROLE pp_trigger_owner, pp_trigger_client, pp_trigger_some;
SELECT count(*) FROM persist_dead_letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
DROP SERVER pp_trigger_loopback CASCADE;
DROP SCHEMA enqueue_trigger CASCADE;
