-- What is in the journal is bytes that somebody has written: nothing of what was in the same
-- memory before, behind an item that ends in the middle of a word.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA item_bytes;
SET search_path = item_bytes, public;
CREATE TABLE t (n int, s text);

SELECT persist_pause();
SELECT cardinality(persist_enqueue_many('t', jsonb_build_array(jsonb_build_object('s', repeat('x', 1500))) ||
	(SELECT jsonb_agg(jsonb_build_object('n', i, 's', repeat('y', i))) FROM generate_series(1, 16) AS i)));
-- each of them is in one row, behind the large one
SELECT count(*), sum((position('\x7878' IN rest) > 0)::int) AS with_rests, sum((position('\x797979' IN rest) > 0)::int) AS with_values
FROM (SELECT substring(data FROM position(convert_to(repeat('x', 1500), 'UTF8') IN data) + 1500) AS rest
	FROM (SELECT data FROM persist_pipeline_internal.persist_journal_1
		UNION ALL SELECT data FROM persist_pipeline_internal.persist_journal_2
		UNION ALL SELECT data FROM persist_pipeline_internal.persist_journal_3) AS j
	WHERE position(convert_to(repeat('x', 1500), 'UTF8') IN data) > 0) AS q;
SELECT persist_resume();
SELECT persist_flush();
SELECT count(*), sum(length(s)) FROM t;

DROP SCHEMA item_bytes CASCADE;
