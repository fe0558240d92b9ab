-- ROLLBACK TO drops exactly what came after the savepoint.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA xact_savepoints;
SET search_path = xact_savepoints, public;

CREATE TABLE t (n int, what text);
BEGIN;
SELECT count(persist_enqueue('t', '{"n": 1, "what": "kept"}'));
SAVEPOINT a;
SELECT count(persist_enqueue('t', '{"n": 2, "what": "dropped by a"}'));
SAVEPOINT b;
SELECT count(persist_enqueue('t', '{"n": 3, "what": "dropped by a"}'));
RELEASE b;
SELECT count(persist_enqueue('t', '{"n": 4, "what": "dropped by a"}'));
ROLLBACK TO a;
SELECT count(persist_enqueue('t', '{"n": 5, "what": "dropped by the second"}'));
ROLLBACK TO a;
SELECT count(persist_enqueue('t', '{"n": 6, "what": "kept"}'));
SAVEPOINT c;
SELECT count(persist_enqueue('t', '{"n": 7, "what": "dropped by c"}'));
SELECT persist_enqueue('t', '{"nope": 1}');
ROLLBACK TO c;
SELECT count(persist_enqueue('t', '{"n": 8, "what": "kept"}'));
SAVEPOINT empty;
ROLLBACK TO empty;
SAVEPOINT d;
SELECT count(persist_enqueue('t', '{"n": 9, "what": "kept"}'));
RELEASE d;
RELEASE a;
SELECT count(persist_enqueue('t', '{"n": 10, "what": "kept"}'));
COMMIT;
-- released, then the outer one is rolled back
BEGIN;
SAVEPOINT a;
SAVEPOINT b;
SAVEPOINT c;
SELECT count(persist_enqueue('t', '{"n": 11, "what": "dropped by a"}'));
RELEASE c;
SELECT count(persist_enqueue('t', '{"n": 12, "what": "dropped by a"}'));
RELEASE b;
ROLLBACK TO a;
SELECT count(persist_enqueue('t', '{"n": 13, "what": "kept"}'));
COMMIT;
-- nothing but dropped items: no items
BEGIN;
SAVEPOINT a;
SELECT count(persist_enqueue('t', '{"n": 14, "what": "dropped"}'));
ROLLBACK TO a;
COMMIT;
-- the whole transaction after all
BEGIN;
SAVEPOINT a;
SELECT count(persist_enqueue('t', '{"n": 15, "what": "dropped"}'));
RELEASE a;
ROLLBACK;
SELECT persist_flush();
SELECT * FROM t ORDER BY ctid;

-- against a plain table that goes the same ways, at random
CREATE TABLE plain (n int);
CREATE TABLE items (n int);
CREATE FUNCTION walk(depth int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..(random() * 4)::int LOOP
		INSERT INTO plain VALUES (nextval('seq'));
		PERFORM persist_enqueue('items', jsonb_build_object('n', currval('seq')));
		IF depth < 6 AND random() < 0.7 THEN
			BEGIN
				PERFORM walk(depth + 1);
				IF random() < 0.4 THEN
					RAISE 'roll back';
				END IF;
			EXCEPTION WHEN raise_exception THEN
				NULL;
			END;
		END IF;
		INSERT INTO plain VALUES (nextval('seq'));
		PERFORM persist_enqueue('items', jsonb_build_object('n', currval('seq')));
	END LOOP;
END $$;
CREATE SEQUENCE seq;
SELECT setseed(0.5);
DO $$
BEGIN
	FOR i IN 1..50 LOOP
		PERFORM walk(1);
	END LOOP;
END $$;
DO $$
BEGIN
	FOR i IN 1..200 LOOP
		PERFORM walk(1);
		IF random() < 0.3 THEN ROLLBACK; ELSE COMMIT; END IF;
	END LOOP;
END $$;
SELECT persist_flush();
SELECT count(*) > 500 AS enough FROM plain;
SELECT count(*) AS differ FROM ((TABLE plain EXCEPT ALL TABLE items) UNION ALL (TABLE items EXCEPT ALL TABLE plain)) AS d;
SELECT count(*) AS out_of_order FROM (SELECT n < lag(n) OVER (ORDER BY ctid) AS wrong FROM items) AS s WHERE wrong;

-- very deep
TRUNCATE plain, items;
CREATE FUNCTION deep(n int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM persist_enqueue('items', jsonb_build_object('n', n));
	INSERT INTO plain VALUES (n);
	IF n < 200 THEN
		BEGIN
			PERFORM deep(n + 1);
			IF n % 100 = 50 THEN
				RAISE 'roll back all below %', n;
			END IF;
		EXCEPTION WHEN raise_exception THEN
			PERFORM persist_enqueue('items', jsonb_build_object('n', -n));
			INSERT INTO plain VALUES (-n);
		END;
	END IF;
END $$;
SELECT deep(1);
SELECT persist_flush();
SELECT count(*), min(n), max(n) FROM items;
SELECT count(*) AS differ FROM ((TABLE plain EXCEPT ALL TABLE items) UNION ALL (TABLE items EXCEPT ALL TABLE plain)) AS d;

-- many savepoints side by side
TRUNCATE items;
DO $$
BEGIN
	FOR i IN 1..3000 LOOP
		BEGIN
			PERFORM persist_enqueue('items', jsonb_build_object('n', i));
			IF i % 3 = 0 THEN
				RAISE 'roll back';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT persist_flush();
SELECT count(*), count(*) FILTER (WHERE n % 3 = 0) AS wrong FROM items;

-- roles change between savepoints
CREATE ROLE pp_savepoints;
GRANT USAGE ON SCHEMA xact_savepoints TO pp_savepoints;
GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO pp_savepoints;
CREATE TABLE who (n int, who text DEFAULT current_user);
GRANT INSERT ON who TO pp_savepoints;
BEGIN;
SELECT count(persist_enqueue('who', '{"n": 1, "who": "me"}'));
SAVEPOINT a;
SELECT count(persist_enqueue('who', '{"n": 2, "who": "dropped"}'));
SET LOCAL ROLE pp_savepoints;
SELECT count(persist_enqueue('who', '{"n": 3, "who": "dropped"}'::jsonb));
ROLLBACK TO a;
SELECT count(persist_enqueue('who', '{"n": 4, "who": "me"}'));
SET LOCAL ROLE pp_savepoints;
SELECT count(persist_enqueue('who', '{"n": 5}'::jsonb));
SAVEPOINT b;
SELECT count(persist_enqueue('who', '{"n": 6, "who": "dropped"}'::jsonb));
RESET ROLE;
SELECT count(persist_enqueue('who', '{"n": 7, "who": "dropped"}'));
ROLLBACK TO b;
SELECT count(persist_enqueue('who', '{"n": 8}'::jsonb));
COMMIT;
SELECT persist_flush();
SELECT * FROM who ORDER BY n;

-- the first transaction of a session: what it has found out about the extension outlives
-- its savepoints
\c -
SET client_min_messages = warning;
SET search_path = xact_savepoints, public;
BEGIN;
DO $$ BEGIN
	FOR i IN 1..100 LOOP
		BEGIN
			PERFORM persist_enqueue('xact_savepoints.who'::regclass, '{"n": 9}');
			RAISE EXCEPTION 'back';
		EXCEPTION WHEN raise_exception THEN NULL;
		END;
	END LOOP;
END $$;
SELECT seq_scan + idx_scan < 20 AS few_looks FROM pg_stat_xact_sys_tables WHERE relname = 'pg_extension';
COMMIT;
-- but an installation that is rolled back is not used
BEGIN;
SAVEPOINT s;
DROP EXTENSION persist_pipeline CASCADE;
CREATE EXTENSION persist_pipeline;
SELECT count(persist_enqueue('who', '{"n": 10}'));
ROLLBACK TO s;
SELECT count(persist_enqueue('who', '{"n": 11, "who": "me"}'));
COMMIT;
SELECT persist_flush();
SELECT * FROM who WHERE n >= 9;
DROP OWNED BY pp_savepoints;
DROP ROLE pp_savepoints;

DROP SCHEMA xact_savepoints CASCADE;
