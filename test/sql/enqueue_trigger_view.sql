-- persist_enqueue_trigger() instead of INSERT on a view: right row counts, and RETURNING.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA enqueue_trigger_view;
SET search_path = enqueue_trigger_view, public;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters)) IS NOT NULL AS others_are_gone;

CREATE TABLE tracks_table (id bigserial PRIMARY KEY, junk int, title text NOT NULL, plays int DEFAULT 1, tags text[], g int GENERATED ALWAYS AS (plays * 2) STORED, note text DEFAULT 'none');
ALTER TABLE tracks_table DROP junk;
CREATE VIEW tracks AS SELECT tags, id, title AS name, plays, g, upper(title) AS loud FROM tracks_table WHERE plays >= 0;
CREATE TRIGGER enqueue INSTEAD OF INSERT ON tracks FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();

-- ---- statements ----

INSERT INTO tracks (name) VALUES ('one');
INSERT INTO tracks (name, tags, plays) VALUES ('two', '{a,b}', 2), ('three', NULL, NULL) RETURNING id, name, plays, tags, g, loud;
INSERT INTO tracks (name) SELECT 'selected ' || i FROM generate_series(1, 3) AS i RETURNING id;
INSERT INTO tracks (id, name) VALUES (1000, 'its own id') RETURNING id;
PREPARE insert_one (text, int) AS INSERT INTO tracks (name, plays) VALUES ($1, $2) RETURNING id;
EXECUTE insert_one ('prepared 1', 1);
EXECUTE insert_one ('prepared 2', 2);
COPY tracks (name, plays) FROM stdin;
copied 1	10
copied 2	\N
\.
DO $$
DECLARE
	n int;
BEGIN
	INSERT INTO enqueue_trigger_view.tracks (name) VALUES ('counted 1'), ('counted 2');
	GET DIAGNOSTICS n = ROW_COUNT;
	RAISE WARNING '% rows', n;
	COPY enqueue_trigger_view.tracks (name) FROM PROGRAM 'seq 3';
	GET DIAGNOSTICS n = ROW_COUNT;
	RAISE WARNING '% rows', n;
END $$;
WITH w AS (INSERT INTO tracks (name) VALUES ('in a query') RETURNING id) SELECT * FROM w;
SELECT persist_flush();
SELECT id, title, plays, tags, g, note FROM tracks_table ORDER BY id;
SELECT target_name, enqueued, persisted, skipped, dead, pending FROM persist_stats WHERE target_name LIKE 'enqueue_trigger_view.%';
BEGIN;
INSERT INTO tracks (name) VALUES ('rolled back');
ROLLBACK;
SELECT persist_flush();
SELECT count(*) FROM tracks WHERE name = 'rolled back';

-- ---- errors ----

INSERT INTO tracks (name, loud) VALUES ('x', 'X');
INSERT INTO tracks (name, g) VALUES ('x', 2);
INSERT INTO tracks (name, plays) VALUES ('x', 'y');
INSERT INTO tracks (name) VALUES ('x') ON CONFLICT (id) DO NOTHING;
INSERT INTO tracks (name) VALUES ('x') ON CONFLICT (id) DO UPDATE SET plays = 2;
INSERT INTO tracks (name) VALUES (NULL);
-- without a key it is nobody's
INSERT INTO tracks (id, name) VALUES (1000, 'a key that is there') ON CONFLICT DO NOTHING;
SELECT persist_flush();
SELECT item ->> 'title' AS title, sqlstate FROM persist_dead_letters ORDER BY id;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));
-- other events are as the view has them
UPDATE tracks SET plays = plays + 1 WHERE id = 1000 RETURNING plays;
DELETE FROM tracks WHERE id = 1000 RETURNING name;

-- identity, domains, defaults that fail; what the view itself gives
CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0) NOT NULL;
CREATE TABLE strict (id int GENERATED ALWAYS AS IDENTITY, e even DEFAULT 2, d int DEFAULT 1, s varchar(3));
CREATE VIEW strict_view AS SELECT * FROM strict;
CREATE TRIGGER enqueue INSTEAD OF INSERT ON strict_view FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
ALTER VIEW strict_view ALTER s SET DEFAULT 'v';
INSERT INTO strict_view DEFAULT VALUES RETURNING *;
INSERT INTO strict_view (e) VALUES (4), (6) RETURNING id, e;
INSERT INTO strict_view (id) VALUES (7);
INSERT INTO strict_view (e) VALUES (3);
INSERT INTO strict_view (s) VALUES ('long');
ALTER TABLE strict ALTER e DROP DEFAULT;
INSERT INTO strict_view (d) VALUES (5);
ALTER TABLE strict ALTER d SET DEFAULT 1 / 0;
INSERT INTO strict_view (e) VALUES (8);
-- errors of the statement, whatever bad_items says
SELECT persist_configure('strict', bad_items => 'dead');
INSERT INTO strict_view (e) VALUES (8);
INSERT INTO strict_view (id, e) VALUES (7, 8);
INSERT INTO strict_view (e, d) VALUES (8, 8) RETURNING d;
SELECT persist_flush();
SELECT * FROM strict ORDER BY id;

-- a partitioned table, with a trigger of ours, too; another view beneath; a trigger beside ours
CREATE TABLE p (day int, n serial) PARTITION BY LIST (day);
CREATE TABLE p1 (n int NOT NULL, day int);
ALTER TABLE p ATTACH PARTITION p1 FOR VALUES IN (1);
CREATE VIEW p_view AS SELECT n, day FROM ONLY p;
CREATE TRIGGER enqueue INSTEAD OF INSERT ON p_view FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
CREATE TRIGGER enqueue BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
INSERT INTO p_view (day) VALUES (1), (2) RETURNING n;
SELECT persist_flush();
SELECT tableoid::regclass AS in, day, n FROM p;
SELECT target_name, item, sqlstate FROM persist_dead_letters;
SELECT persist_discard(ARRAY(SELECT id FROM public.persist_dead_letters));

CREATE VIEW tracks_2 AS SELECT id, title AS name, plays FROM tracks_table;
CREATE VIEW over AS SELECT name, id, plays FROM tracks_2;
CREATE TRIGGER enqueue INSTEAD OF INSERT ON over FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
-- the one beneath has no defaults of its own: they are the worker's
INSERT INTO over (name) VALUES ('over'), ('over') RETURNING *;
SELECT persist_flush();
SELECT title, plays, id IS NOT NULL AS has_id FROM tracks_table WHERE title = 'over';

CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := NEW.name || ' changed'; RETURN NEW; END $$;
CREATE TRIGGER a_change INSTEAD OF INSERT ON tracks FOR EACH ROW EXECUTE FUNCTION change();
INSERT INTO tracks (name) VALUES ('x') RETURNING name;
DROP TRIGGER a_change ON tracks;
SELECT persist_flush();
SELECT title FROM tracks_table WHERE title ~ 'changed';

-- an item for the view itself is handed over once more
SELECT persist_enqueue('tracks', '{"name": "for the view"}') > 0 AS has_id;
SELECT persist_flush();
SELECT persist_flush();
SELECT count(*) FROM tracks_table WHERE title = 'for the view';

-- ---- modes ----

SET persist_pipeline.mode = direct;
INSERT INTO tracks (name) VALUES ('direct') RETURNING name, plays;
COPY tracks (name) FROM stdin;
direct
\.
INSERT INTO tracks (name) VALUES (NULL);
INSERT INTO p_view (day) VALUES (1) RETURNING day;
SELECT persist_enqueue('tracks', '{"name": "direct"}') > 0 AS has_id;
SELECT count(*) FROM tracks_table WHERE title = 'direct';
SELECT count(*) FROM p;
SET persist_pipeline.mode = reject;
INSERT INTO tracks (name) VALUES ('rejected');
RESET persist_pipeline.mode;

-- ---- rights ----

CREATE ROLE pp_trigger_view_owner;
CREATE ROLE pp_trigger_view_client;
CREATE ROLE pp_trigger_view_some;
GRANT USAGE, CREATE ON SCHEMA enqueue_trigger_view TO pp_trigger_view_owner;
GRANT USAGE ON SCHEMA enqueue_trigger_view TO pp_trigger_view_client, pp_trigger_view_some;
GRANT EXECUTE ON FUNCTION persist_enqueue_trigger() TO pp_trigger_view_owner;
SET ROLE pp_trigger_view_owner;
CREATE TABLE owned (n int, by name DEFAULT current_user, d int DEFAULT 5);
CREATE VIEW owned_view AS SELECT n, by, d FROM owned;
CREATE TRIGGER enqueue INSTEAD OF INSERT ON owned_view FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
GRANT INSERT, SELECT ON owned_view TO pp_trigger_view_client, pp_trigger_view_some;
SET ROLE pp_trigger_view_client;
-- both are needed: of the view, and of the table
INSERT INTO owned_view (n) VALUES (1);
SET ROLE pp_trigger_view_owner;
GRANT INSERT ON owned TO pp_trigger_view_client;
GRANT INSERT (n, d) ON owned TO pp_trigger_view_some;
SET ROLE pp_trigger_view_client;
INSERT INTO owned_view (n) VALUES (2) RETURNING by, d;
SET ROLE pp_trigger_view_some;
-- a default that it may not insert is the worker's
INSERT INTO owned_view (n) VALUES (3) RETURNING n, by, d;
INSERT INTO owned_view (n, by) VALUES (4, 'me');
RESET ROLE;
SELECT persist_flush();
SELECT n, by, d FROM owned ORDER BY n;

-- ---- views that it isn't for ----

CREATE VIEW joined AS SELECT a.id, b.n FROM tracks_table AS a, owned AS b;
CREATE VIEW grouped AS SELECT title, count(*) AS n FROM tracks_table GROUP BY title;
CREATE VIEW constant AS SELECT 1 AS one;
CREATE VIEW expressions AS SELECT id + 1 AS next FROM tracks_table;
CREATE VIEW twice AS SELECT id, title, title AS again FROM tracks_table;
CREATE VIEW guarded AS SELECT id, title, plays FROM tracks_table WHERE plays > 0 WITH CHECK OPTION;
CREATE VIEW sequence AS SELECT * FROM tracks_table_id_seq;
CREATE VIEW catalog AS SELECT relname FROM pg_catalog.pg_class;
DO $$
DECLARE
	name text;
	message text;
	detail text;
BEGIN
	FOREACH name IN ARRAY '{joined,grouped,constant,expressions,twice,guarded,sequence,catalog}'::text[] LOOP
		EXECUTE format('CREATE TRIGGER enqueue INSTEAD OF INSERT ON enqueue_trigger_view.%I FOR EACH ROW EXECUTE FUNCTION public.persist_enqueue_trigger()', name);
		BEGIN
			EXECUTE format('INSERT INTO enqueue_trigger_view.%I DEFAULT VALUES', name);
		EXCEPTION WHEN feature_not_supported OR wrong_object_type THEN
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
			RAISE WARNING '%: % %', SQLSTATE, message, detail;
		END;
	END LOOP;
END $$;
INSERT INTO joined DEFAULT VALUES;
CREATE TRIGGER w INSTEAD OF UPDATE ON tracks FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
UPDATE tracks SET plays = 1;

DROP OWNED BY pp_trigger_view_owner, pp_trigger_view_client, pp_trigger_view_some CASCADE;
DROP ROLE pp_trigger_view_owner, pp_trigger_view_client, pp_trigger_view_some;
SELECT count(*) FROM persist_dead_letters;
DROP SCHEMA enqueue_trigger_view CASCADE;
