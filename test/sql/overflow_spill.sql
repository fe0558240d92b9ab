-- A transaction that is larger than transaction_buffer: most of its items are in a
-- temporary file until it commits, and nobody sees a difference.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA overflow_spill;
SET search_path = overflow_spill, public;

-- all rows of one size: so ctid tells the order
CREATE TABLE t (n int, filler text);
CREATE FUNCTION enqueue(first int, last int) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(persist_enqueue('overflow_spill.t'::regclass, jsonb_build_object('n', i, 'filler', repeat('x', 120))))
	FROM generate_series(first, last) AS i
$$;
CREATE FUNCTION result(OUT items bigint, OUT first int, OUT last int, OUT in_order boolean) LANGUAGE sql AS $$
	SELECT count(*), min(n), max(n), bool_and(n = place)
	FROM (SELECT n, row_number() OVER (ORDER BY ctid) AS place FROM overflow_spill.t) AS q
$$;

-- without a savepoint
BEGIN;
SELECT enqueue(1, 60000);
COMMIT;
SELECT persist_flush();
SELECT * FROM result();
TRUNCATE t;

-- rolled back, as a whole
BEGIN;
SELECT enqueue(-60000, -1);
ROLLBACK;
SELECT persist_flush();
SELECT * FROM result();

-- savepoints that are rolled back before anything is in the file, ...
BEGIN;
SELECT enqueue(1, 10);
SAVEPOINT a;
SELECT enqueue(-10, -1);
ROLLBACK TO a;
SELECT enqueue(11, 20);
-- ... on the way into it, ...
SAVEPOINT b;
SELECT enqueue(-60000, -1);
ROLLBACK TO b;
SELECT enqueue(21, 60000);
-- ... and with all there was before in it; one in another
SAVEPOINT c;
SELECT enqueue(-10, -1);
SAVEPOINT d;
SELECT enqueue(-60000, -1);
RELEASE d;
SELECT enqueue(-10, -1);
ROLLBACK TO c;
SAVEPOINT e;
SELECT enqueue(60001, 60010);
RELEASE e;
SAVEPOINT f;
ROLLBACK TO f;
SELECT enqueue(60011, 100000);
COMMIT;
SELECT persist_flush();
SELECT * FROM result();
TRUNCATE t;

-- back to the beginning: a small transaction after all
BEGIN;
SAVEPOINT a;
SELECT enqueue(-60000, -1);
ROLLBACK TO a;
SELECT enqueue(1, 3);
COMMIT;
SELECT persist_flush();
SELECT * FROM result();
TRUNCATE t;

-- an exception block, and a cursor that is read in and after a savepoint
BEGIN;
DO $$
BEGIN
	PERFORM overflow_spill.enqueue(1, 20000);
	BEGIN
		PERFORM overflow_spill.enqueue(-60000, -1);
		RAISE 'no' USING ERRCODE = 'P0099';
	EXCEPTION WHEN SQLSTATE 'P0099' THEN
		PERFORM overflow_spill.enqueue(20001, 40000);
	END;
	PERFORM overflow_spill.enqueue(40001, 60000);
END $$;
DECLARE items CURSOR FOR
SELECT persist_enqueue('t'::regclass, jsonb_build_object('n', i, 'filler', repeat('x', 120))) FROM generate_series(60001, 60300) AS i;
MOVE 100 FROM items;
SAVEPOINT a;
MOVE 100 FROM items;
ROLLBACK TO a;
-- the cursor has moved on, its items are gone
SELECT enqueue(60101, 60200);
MOVE ALL FROM items;
COMMIT;
SELECT persist_flush();
SELECT * FROM result();
TRUNCATE t;

-- an error in the middle, then another transaction
BEGIN;
SELECT enqueue(-60000, -1);
SELECT persist_enqueue('t', '{"nope": 1}');
COMMIT;
SELECT enqueue(1, 5);
SELECT persist_flush();
SELECT * FROM result();
TRUNCATE t;

-- also where small and large items follow each other, and the caller asks for the ids
BEGIN;
CREATE TEMP TABLE ids (n serial, id bigint) ON COMMIT PRESERVE ROWS;
INSERT INTO ids (id) SELECT persist_enqueue('t'::regclass, jsonb_build_object('n', i, 'filler', repeat('x', CASE WHEN i % 100 = 0 THEN 100000 ELSE 1 END)))
FROM generate_series(1, 10000) AS i;
COMMIT;
SELECT count(*), count(DISTINCT id), bool_and(id > before) FROM (SELECT id, coalesce(lag(id) OVER (ORDER BY n), 0) AS before FROM ids) AS q;
SELECT persist_flush();
SELECT count(*), count(DISTINCT n), count(*) FILTER (WHERE length(filler) = CASE WHEN n % 100 = 0 THEN 100000 ELSE 1 END) AS right_length FROM t;

SELECT items_pending, journal_bytes, diverted FROM persist_queue WHERE datname = current_database();
DROP SCHEMA overflow_spill CASCADE;
