/* persist_pipeline 1.0 */

\echo Use "CREATE EXTENSION persist_pipeline" to load this file. \quit

-- Ids.  The increment is PP_LEASE_IDS in src/lease.h: a backend or the worker
-- takes so many at a time.
CREATE SEQUENCE persist_id_seq AS bigint INCREMENT BY 1000000;
COMMENT ON SEQUENCE persist_id_seq IS
'ids of items, leased 1,000,000 at a time';
REVOKE ALL ON SEQUENCE persist_id_seq FROM PUBLIC;

-- The durable path: items that have been committed and not been written.  The
-- columns are those of src/journal.h.
CREATE TABLE persist_journal_1 (
	pos bigint NOT NULL,
	part integer NOT NULL,
	role oid NOT NULL,
	database oid NOT NULL,
	data bytea NOT NULL
) USING heap WITH (autovacuum_enabled = off);
ALTER TABLE persist_journal_1 ALTER COLUMN data SET STORAGE PLAIN;
COMMENT ON TABLE persist_journal_1 IS
'Internal: items that wait. A row that is here is not yet applied.';
REVOKE ALL ON persist_journal_1 FROM PUBLIC;

CREATE TABLE persist_journal_2 (LIKE persist_journal_1 INCLUDING STORAGE)
USING heap WITH (autovacuum_enabled = off);
COMMENT ON TABLE persist_journal_2 IS
'Internal: items that wait. A row that is here is not yet applied.';
REVOKE ALL ON persist_journal_2 FROM PUBLIC;

CREATE TABLE persist_journal_3 (LIKE persist_journal_1 INCLUDING STORAGE)
USING heap WITH (autovacuum_enabled = off);
COMMENT ON TABLE persist_journal_3 IS
'Internal: items that wait. A row that is here is not yet applied.';
REVOKE ALL ON persist_journal_3 FROM PUBLIC;

-- Items that came with the files of another database (src/copied.h).
CREATE TABLE persist_copied (LIKE persist_journal_1 INCLUDING STORAGE) USING heap;
COMMENT ON TABLE persist_copied IS
'Internal: items that came with a copy of another database, which writes them too. They wait for persist_resume() or persist_discard().';
REVOKE ALL ON persist_copied FROM PUBLIC;

-- What the database keeps -------------------------------------------------

CREATE TABLE persist_settings (
	target regclass NOT NULL,
	durability text NOT NULL CHECK (durability IN ('auto', 'journal', 'ring'))
);
COMMENT ON TABLE persist_settings IS
'What persist_configure() has said: a row for each such target.';
COMMENT ON COLUMN persist_settings.durability IS
'"auto": items are as durable as the target; "journal": they survive a crash; "ring": a crash or immediate shutdown loses them';
REVOKE ALL ON persist_settings FROM PUBLIC;
GRANT SELECT ON persist_settings TO PUBLIC; -- whoever may dump the database dumps it

-- without the hook of the preloaded library, a row outlives its target
SELECT pg_catalog.pg_extension_config_dump('persist_settings',
	'WHERE EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) target)');

CREATE TABLE persist_state (
	database oid NOT NULL,
	paused boolean NOT NULL,
	changed_at timestamptz NOT NULL
);
COMMENT ON TABLE persist_state IS
'Internal: one row. Whose journal this is, and whether persist_pause() or persist_resume() was called last, and when.';
REVOKE ALL ON persist_state FROM PUBLIC;
INSERT INTO persist_state
SELECT d.oid, false, '-infinity' FROM pg_catalog.pg_database AS d
WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database();

-- Handing items over ------------------------------------------------------

CREATE FUNCTION persist_enqueue(target regclass, item jsonb, transactional boolean DEFAULT true)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_enqueue';
COMMENT ON FUNCTION persist_enqueue(regclass, jsonb, boolean) IS
'Hands a row, a JSON object with column names as keys, to the worker, which inserts it into the target after the transaction has committed; at once if not transactional. Absent columns get their DEFAULT, evaluated now. Returns the item''s id. Errors: 22004 an argument is null; 22023 the item is not an object; 42703 an unknown key; 428C9 a generated or identity-always column is given; 42809 not a relation that takes rows; 42501 no INSERT privilege; 25006 read-only transaction or recovery; 54000 item or transaction too large; 53000 ring full, 57P01 ring closed (both at COMMIT, or now if not transactional); 55000 mode is "reject", or the library is not preloaded; and those of the column''s types, domains and defaults.';

CREATE FUNCTION persist_enqueue(target text, item text, transactional boolean DEFAULT true)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_enqueue_text';
COMMENT ON FUNCTION persist_enqueue(text, text, boolean) IS
'The same, for drivers that send text: the target''s name, looked up along search_path, and the JSON. Errors besides: 42P01 no such relation; 22P02 not JSON.';

CREATE FUNCTION persist_enqueue(item record)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_enqueue_record';
COMMENT ON FUNCTION persist_enqueue(record) IS
'Hands over a row of a table''s own type, such as NEW or ROW(...)::my_table. Every column counts as given, NULLs too; generated columns are ignored. Returns the item''s id. Errors: 42809 the row is not of a relation that takes rows; and as for JSON.';

CREATE FUNCTION persist_enqueue_many(target regclass, items jsonb)
RETURNS bigint[]
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_enqueue_many';
COMMENT ON FUNCTION persist_enqueue_many(regclass, jsonb) IS
'Hands over each object of a JSON array, in order. Returns their ids. Errors: 22023 not an array of objects; and as for one item.';

REVOKE EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION persist_enqueue(text, text, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION persist_enqueue(record) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION persist_enqueue_many(regclass, jsonb) FROM PUBLIC;

-- Waiting for them --------------------------------------------------------

CREATE FUNCTION persist_flush(timeout interval DEFAULT '30 s', target regclass DEFAULT NULL)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_flush';
COMMENT ON FUNCTION persist_flush(interval, regclass) IS
'Waits until all that was handed over in this database before the call (for this target, if given) is settled and flushed to disk. Returns false at the timeout. Errors: 22004 timeout is null; 25001 the transaction has written or enqueued something.';
REVOKE EXECUTE ON FUNCTION persist_flush(interval, regclass) FROM PUBLIC;

-- Telling it what to do ----------------------------------------------------
-- Anyone may call these: what they change has to be the caller's.

CREATE FUNCTION persist_configure(target regclass, durability text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_configure';
COMMENT ON FUNCTION persist_configure(regclass, text) IS
'Configures a target, for items that are enqueued from the commit on; NULL leaves a setting as it is. durability: "auto" (an item is as durable as the target), "journal" (it survives a crash), "ring" (no WAL and no fsync; a crash or immediate shutdown loses it). For the target''s owner. Errors: 22004 target is null; 22023 no such value; 42P01 no such relation; 42809 not a relation that takes rows; 42501 not the caller''s.';

CREATE FUNCTION persist_unconfigure(target regclass)
RETURNS void
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_unconfigure';
COMMENT ON FUNCTION persist_unconfigure(regclass) IS
'Takes back what persist_configure() has said of a target. For its owner. Errors: 22004 target is null; 42P01 no such relation; 42501 not the caller''s.';

CREATE FUNCTION persist_pause()
RETURNS void
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_pause';
COMMENT ON FUNCTION persist_pause() IS
'From the commit on, and over restarts, items of this database wait in the journal until persist_resume(); a batch that is being written is finished. For the database''s owner. Errors: 42501 not the caller''s.';

CREATE FUNCTION persist_resume()
RETURNS void
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_resume';
COMMENT ON FUNCTION persist_resume() IS
'Ends what persist_pause() or the setting start_paused began, and has items written that came with a copy of another database (CREATE DATABASE with a TEMPLATE). For the database''s owner. Errors: 42501 not the caller''s.';

CREATE FUNCTION persist_discard()
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_discard';
COMMENT ON FUNCTION persist_discard() IS
'Drops items that came with a copy of another database, which writes them. Returns how many. For the database''s owner. Errors: 42501 not the caller''s.';

-- Looking -----------------------------------------------------------------

CREATE FUNCTION persist_queue_rows(
	OUT datid oid, OUT worker_pid integer, OUT worker_state text,
	OUT ring_used bigint, OUT ring_size bigint, OUT ring_peak bigint, OUT ring_closed boolean,
	OUT items_pending bigint, OUT items_persisted bigint, OUT items_failed bigint,
	OUT batches bigint, OUT diverted boolean, OUT journal_bytes bigint,
	OUT rate double precision, OUT time_left interval, OUT items_copied bigint)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'persist_queue_rows';
COMMENT ON FUNCTION persist_queue_rows() IS
'The rows of the view persist_queue.';
REVOKE EXECUTE ON FUNCTION persist_queue_rows() FROM PUBLIC;

CREATE VIEW persist_queue AS
SELECT q.datid, d.datname, q.worker_pid, q.worker_state,
	   q.ring_used, q.ring_size, q.ring_peak, q.ring_closed,
	   q.items_pending, q.items_persisted, q.items_failed, q.batches,
	   q.diverted, q.journal_bytes, q.rate, q.time_left, q.items_copied
FROM persist_queue_rows() AS q
LEFT JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) q.datid;
COMMENT ON VIEW persist_queue IS
'A row for each database in use, since the server started.';
COMMENT ON COLUMN persist_queue.worker_pid IS 'NULL: no worker runs';
COMMENT ON COLUMN persist_queue.worker_state IS
'"not running", "idle", "gathering" (waits for flush_interval or batch_size), "writing", "retrying" (backs off after a transient error), "stopping", "paused"';
COMMENT ON COLUMN persist_queue.ring_used IS 'bytes, with those reserved by transactions in commit';
COMMENT ON COLUMN persist_queue.ring_size IS 'bytes';
COMMENT ON COLUMN persist_queue.ring_peak IS 'the most bytes that were ever used';
COMMENT ON COLUMN persist_queue.ring_closed IS 'the worker has shut the ring to stop';
COMMENT ON COLUMN persist_queue.items_pending IS 'handed over and not settled';
COMMENT ON COLUMN persist_queue.items_persisted IS 'written by a batch that has committed';
COMMENT ON COLUMN persist_queue.items_failed IS 'could not be inserted; the server log names them';
COMMENT ON COLUMN persist_queue.batches IS 'transactions that the worker has committed';
COMMENT ON COLUMN persist_queue.diverted IS 'items wait that are in the journal alone, and the worker takes them from there';
COMMENT ON COLUMN persist_queue.journal_bytes IS 'of the items that wait in the journal; "journal_limit" is a limit to that';
COMMENT ON COLUMN persist_queue.rate IS 'items per second that the worker has settled when it was last busy; NULL: not measured yet';
COMMENT ON COLUMN persist_queue.time_left IS 'until all that waits now is written, at that rate';
COMMENT ON COLUMN persist_queue.items_copied IS
'came with a copy of another database, and wait for persist_resume() or persist_discard(); NULL: look from within that database';
REVOKE ALL ON persist_queue FROM PUBLIC;
GRANT SELECT ON persist_queue TO pg_monitor;
GRANT EXECUTE ON FUNCTION persist_queue_rows() TO pg_monitor;

CREATE TABLE persist_shutdowns (
	stopped_at timestamptz NOT NULL,
	seconds double precision NOT NULL,
	drained bigint NOT NULL,
	journalled bigint NOT NULL,
	forced boolean NOT NULL
);
COMMENT ON TABLE persist_shutdowns IS
'A row for each stop of this database''s worker, the last 1000 of them.';
COMMENT ON COLUMN persist_shutdowns.seconds IS 'from the signal until everything was written, or the time was up';
COMMENT ON COLUMN persist_shutdowns.drained IS 'items settled in that time';
COMMENT ON COLUMN persist_shutdowns.journalled IS 'items that were not, and are in the journal';
COMMENT ON COLUMN persist_shutdowns.forced IS 'shutdown_timeout was not enough';
REVOKE ALL ON persist_shutdowns FROM PUBLIC;
GRANT SELECT ON persist_shutdowns TO pg_monitor;

-- Internal ----------------------------------------------------------------

CREATE FUNCTION persist_batch()
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_batch';
COMMENT ON FUNCTION persist_batch() IS
'Internal: the rows of the batch, for the INSERT of the pipeline; no rows for anyone else. PUBLIC may execute it because that INSERT runs as the enqueuer.';
