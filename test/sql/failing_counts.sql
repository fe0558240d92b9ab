-- How many INSERTs it takes to find the bad rows among 10,000: for k of them at most
-- 2k(log2 n + 1) + 2, and about one a row where all are bad.  A trigger counts the
-- statements with a sequence, which no rollback takes back.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA failing_counts;
SET search_path = failing_counts, public;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) IS NOT NULL AS others_are_gone;

CREATE SEQUENCE statements;
CREATE FUNCTION count_statement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM nextval('failing_counts.statements');
	RETURN NULL;
END $$;
CREATE FUNCTION statements() RETURNS bigint LANGUAGE sql AS $$
SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM failing_counts.statements$$;

-- v = 13 is bad in all of them
CREATE TABLE good (v int PRIMARY KEY);
INSERT INTO good VALUES (1);
CREATE TABLE checked (id int PRIMARY KEY, v int CHECK (v <> 13));
CREATE TABLE referring (id int PRIMARY KEY, v int REFERENCES good);
CREATE TABLE deferred (id int PRIMARY KEY, v int REFERENCES good DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE deferred_trigger (id int PRIMARY KEY, v int);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.v = 13 THEN
		RAISE 'late';
	END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON deferred_trigger DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER counted BEFORE INSERT ON checked EXECUTE FUNCTION count_statement();
CREATE TRIGGER counted BEFORE INSERT ON referring EXECUTE FUNCTION count_statement();
CREATE TRIGGER counted BEFORE INSERT ON deferred EXECUTE FUNCTION count_statement();
CREATE TRIGGER counted BEFORE INSERT ON deferred_trigger EXECUTE FUNCTION count_statement();

-- n rows in one transaction, with k bad ones spread over them; says whether it took no
-- more than "most" INSERTs, or else how many
CREATE PROCEDURE sift(target regclass, k int, most numeric, INOUT inserts text DEFAULT NULL,
	INOUT landed bigint DEFAULT NULL, INOUT bad_landed bigint DEFAULT NULL,
	INOUT letters bigint DEFAULT NULL, INOUT good_letters bigint DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	n CONSTANT int := 10000;
	took bigint;
BEGIN
	EXECUTE format('TRUNCATE %s', target);
	PERFORM persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
	PERFORM setval('failing_counts.statements', 1, false);
	COMMIT;
	PERFORM persist_enqueue(target, jsonb_build_object('id', i,
		-- the i for which (i * k) div n makes a step
		'v', CASE WHEN (i * k) / n > ((i - 1) * k) / n THEN 13 ELSE 1 END))
	FROM generate_series(1, n) AS i;
	COMMIT;
	IF NOT persist_flush('5 min') THEN
		RAISE 'not settled';
	END IF;
	took := failing_counts.statements();
	inserts := CASE WHEN took <= most THEN 'few enough' ELSE format('%s, and not %s', took, most) END;
	EXECUTE format('SELECT count(*), count(*) FILTER (WHERE v = 13) FROM %s', target) INTO landed, bad_landed;
	SELECT count(*), count(*) FILTER (WHERE NOT COALESCE(item ->> 'v' = '13', false))
	FROM public.persist_dead_letters AS l WHERE l.target = sift.target
	INTO letters, good_letters;
END $$;
CREATE FUNCTION most(k int) RETURNS numeric LANGUAGE sql AS $$
SELECT floor(2 * k * (log(2, 10000) + 1)) + 2$$;
SELECT most(0), most(1), most(10), most(100);

-- a constraint that is checked row by row: the statement tells which
CALL sift('checked', 0, 1);
CALL sift('checked', 1, most(1));
CALL sift('checked', 10, most(10));
CALL sift('checked', 100, most(100));
CALL sift('checked', 10000, 10000);

-- at the end of the statement: they have to be found
CALL sift('referring', 0, 1);
CALL sift('referring', 1, most(1));
CALL sift('referring', 10, most(10));
CALL sift('referring', 100, most(100));
CALL sift('referring', 10000, 10000 + 32);

-- at the commit
CALL sift('deferred', 0, 1);
CALL sift('deferred', 1, most(1));
CALL sift('deferred', 10, most(10));
CALL sift('deferred_trigger', 1, most(1));
CALL sift('deferred_trigger', 10, most(10));

-- of two targets, where the order may matter: it is not found out twice
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent);
CREATE TRIGGER counted BEFORE INSERT ON child EXECUTE FUNCTION count_statement();
CREATE PROCEDURE sift_pairs(k int, most numeric, INOUT inserts text DEFAULT NULL,
	INOUT landed bigint DEFAULT NULL, INOUT letters bigint DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	n CONSTANT int := 5000;
	took bigint;
BEGIN
	TRUNCATE parent, child;
	PERFORM persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
	PERFORM setval('failing_counts.statements', 1, false);
	COMMIT;
	PERFORM persist_enqueue('parent', jsonb_build_object('id', i)),
		persist_enqueue('child', jsonb_build_object('id', i,
			'parent', CASE WHEN (i * k) / n > ((i - 1) * k) / n THEN -1 ELSE i END))
	FROM generate_series(1, n) AS i;
	COMMIT;
	IF NOT persist_flush('5 min') THEN
		RAISE 'not settled';
	END IF;
	took := failing_counts.statements();
	inserts := CASE WHEN took <= most THEN 'few enough' ELSE format('%s, and not %s', took, most) END;
	SELECT count(*) FROM child INTO landed;
	SELECT count(*) FROM public.persist_dead_letters AS l WHERE l.target = 'child'::regclass INTO letters;
END $$;
CALL sift_pairs(0, 1);
CALL sift_pairs(1, most(1));
CALL sift_pairs(10, most(10));
CALL sift_pairs(100, most(100));

SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) AS discarded;
DROP SCHEMA failing_counts CASCADE;
