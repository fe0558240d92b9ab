/* persist_pipeline 1.0 */

\echo Use "CREATE EXTENSION persist_pipeline" to load this file. \quit

-- What is the extension's own, where nobody else may create anything.  And nobody else may
-- name its tables: a foreign key, a trigger or a rule for one waits for a strong lock
-- before anything asks who wants it, and all who enqueue would wait behind it.
CREATE SCHEMA persist_pipeline_internal;
COMMENT ON SCHEMA persist_pipeline_internal IS
'Internal: tables and functions of extension persist_pipeline.';

-- What the worker's INSERT names, as the enqueuer.
CREATE SCHEMA persist_pipeline_batch;
COMMENT ON SCHEMA persist_pipeline_batch IS
'Internal: functions of extension persist_pipeline that everybody may execute.';

-- Ids.  The increment is PP_LEASE_IDS in src/ring/lease.h: a backend or the worker
-- takes so many at a time.
CREATE SEQUENCE persist_pipeline_internal.persist_id_seq AS bigint INCREMENT BY 1000000 CYCLE;
COMMENT ON SEQUENCE persist_pipeline_internal.persist_id_seq IS
'Internal: ids of items, leased 1,000,000 at a time.';

-- All that was leased is below that (src/ring/lease.h): somebody may set the sequence.
CREATE TABLE persist_pipeline_internal.persist_leases (mark bigint NOT NULL) USING heap;
COMMENT ON TABLE persist_pipeline_internal.persist_leases IS
'Internal: the end of the highest range of ids that was leased.';

-- The durable path: items that have been committed and not been written.  The
-- columns are those of src/store/journal.h.
CREATE TABLE persist_pipeline_internal.persist_journal_1 (
	pos bigint NOT NULL,
	part integer NOT NULL,
	role oid NOT NULL,
	installation bigint NOT NULL,
	data bytea NOT NULL
) USING heap WITH (autovacuum_enabled = off);
ALTER TABLE persist_pipeline_internal.persist_journal_1 ALTER COLUMN data SET STORAGE PLAIN;
COMMENT ON TABLE persist_pipeline_internal.persist_journal_1 IS
'Internal: items that wait. A row that is here is not yet applied.';

CREATE TABLE persist_pipeline_internal.persist_journal_2 (LIKE persist_pipeline_internal.persist_journal_1 INCLUDING STORAGE)
USING heap WITH (autovacuum_enabled = off);
COMMENT ON TABLE persist_pipeline_internal.persist_journal_2 IS
'Internal: items that wait. A row that is here is not yet applied.';

CREATE TABLE persist_pipeline_internal.persist_journal_3 (LIKE persist_pipeline_internal.persist_journal_1 INCLUDING STORAGE)
USING heap WITH (autovacuum_enabled = off);
COMMENT ON TABLE persist_pipeline_internal.persist_journal_3 IS
'Internal: items that wait. A row that is here is not yet applied.';

-- Items that came with the files of another installation (src/store/copied.h).
CREATE TABLE persist_pipeline_internal.persist_copied (LIKE persist_pipeline_internal.persist_journal_1 INCLUDING STORAGE) USING heap;
COMMENT ON TABLE persist_pipeline_internal.persist_copied IS
'Internal: items that came with a copy of another database, which writes them too. They wait for persist_resume() or persist_discard().';

-- Items whose target can't be written just now (src/store/parked_table.h).
CREATE TABLE persist_pipeline_internal.persist_parked (
	LIKE persist_pipeline_internal.persist_journal_1 INCLUDING STORAGE,
	target oid NOT NULL,
	parked_at timestamptz NOT NULL,
	misfit_since timestamptz,
	alone boolean
) USING heap;
CREATE INDEX persist_parked_order ON persist_pipeline_internal.persist_parked (target, role, pos, part);
COMMENT ON TABLE persist_pipeline_internal.persist_parked IS
'Internal: items whose target can''t be written just now. They are tried again, in their order.';

-- A mark in the queue of deferred triggers (src/worker/deferred_mark.h); always empty.
CREATE TABLE persist_pipeline_internal.persist_mark (
	n integer
) USING heap;
COMMENT ON TABLE persist_pipeline_internal.persist_mark IS
'Internal: always empty. A row of it that is rolled back marks a place in the queue of deferred triggers.';

-- Items that can't be inserted (src/store/dead_letters.h).
CREATE TABLE persist_pipeline_internal.persist_dead_letters (
	id bigint NOT NULL,
	target oid NOT NULL,
	target_name text,
	role oid NOT NULL,
	role_name name,
	item jsonb,
	sqlstate text NOT NULL,
	message text NOT NULL,
	detail text,
	constraint_name text,
	context text,
	enqueued_at timestamptz NOT NULL,
	failed_at timestamptz NOT NULL,
	attempts integer NOT NULL,
	pos bigint NOT NULL,
	part integer NOT NULL,
	data bytea,
	checksum bigint NOT NULL,
	data_checksum bigint NOT NULL,
	item_checksum bigint NOT NULL,
	depth integer NOT NULL,
	left_out boolean NOT NULL
) USING heap;
CREATE INDEX persist_dead_letters_order ON persist_pipeline_internal.persist_dead_letters (pos, part, id);
CREATE INDEX persist_dead_letters_id ON persist_pipeline_internal.persist_dead_letters (id);
COMMENT ON TABLE persist_pipeline_internal.persist_dead_letters IS
'Internal: items that could not be inserted; see the view persist_dead_letters.';
COMMENT ON COLUMN persist_pipeline_internal.persist_dead_letters.target_name IS 'with its schema, quoted where need be, as of the failure, or, where it was gone, before that';
COMMENT ON COLUMN persist_pipeline_internal.persist_dead_letters.item IS
'its values, as they were decided at the call, without identity columns that are GENERATED ALWAYS; one whose type is gone or has changed is shown as its bytes, "\x..."; NULL: they can''t be told, don''t fit into jsonb, are of more than 16 MB, take longer than statement_timeout to be shown, or don''t fit into the letter';
COMMENT ON COLUMN persist_pipeline_internal.persist_dead_letters.data IS 'internal: the item; NULL: it didn''t fit its target at the call, and has never been one, or it was too large (left_out)';

-- Columns that targets had (src/store/layouts.h).
CREATE TABLE persist_pipeline_internal.persist_layouts (
	target oid NOT NULL,
	target_name text NOT NULL,
	columns bytea NOT NULL
) USING heap;
COMMENT ON TABLE persist_pipeline_internal.persist_layouts IS
'Internal: the columns of targets that have been dropped or changed, as they were. Items may have been made for them.';

-- What has become of all the others (src/store/account.h).
CREATE TABLE persist_pipeline_internal.persist_account (
	target oid NOT NULL,
	persisted bigint NOT NULL,
	skipped bigint NOT NULL,
	dead bigint NOT NULL,
	discarded bigint NOT NULL,
	lost bigint NOT NULL,
	batches bigint NOT NULL,
	errors bigint NOT NULL,
	last_error text,
	last_error_at timestamptz,
	last_persisted_at timestamptz
) USING heap;
COMMENT ON TABLE persist_pipeline_internal.persist_account IS
'Internal: what transactions of the worker have added to the account of a target; see the view persist_stats.';

-- What the database keeps -------------------------------------------------

-- A relation's OID, written and read as its name: as regclass, but where a dump was
-- restored without the relation, it is none, and no error.
CREATE TYPE persist_pipeline_internal.persist_target;
CREATE FUNCTION persist_pipeline_internal.persist_target_in(cstring)
RETURNS persist_pipeline_internal.persist_target
LANGUAGE C STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'persist_target_in';
CREATE FUNCTION persist_pipeline_internal.persist_target_out(persist_pipeline_internal.persist_target)
RETURNS cstring
LANGUAGE internal STABLE STRICT PARALLEL SAFE
AS 'regclassout';
CREATE FUNCTION persist_pipeline_internal.persist_target_recv(internal)
RETURNS persist_pipeline_internal.persist_target
LANGUAGE internal STABLE STRICT PARALLEL SAFE
AS 'regclassrecv';
CREATE FUNCTION persist_pipeline_internal.persist_target_send(persist_pipeline_internal.persist_target)
RETURNS bytea
LANGUAGE internal STABLE STRICT PARALLEL SAFE
AS 'regclasssend';
CREATE TYPE persist_pipeline_internal.persist_target (
	INPUT = persist_pipeline_internal.persist_target_in,
	OUTPUT = persist_pipeline_internal.persist_target_out,
	RECEIVE = persist_pipeline_internal.persist_target_recv,
	SEND = persist_pipeline_internal.persist_target_send,
	LIKE = pg_catalog.regclass
);
CREATE CAST (persist_pipeline_internal.persist_target AS oid) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (persist_pipeline_internal.persist_target AS regclass) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (oid AS persist_pipeline_internal.persist_target) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (regclass AS persist_pipeline_internal.persist_target) WITHOUT FUNCTION AS ASSIGNMENT;
COMMENT ON TYPE persist_pipeline_internal.persist_target IS
'Internal: a relation, as regclass; a name that isn''t there is read as none, with a WARNING.';
COMMENT ON FUNCTION persist_pipeline_internal.persist_target_in(cstring) IS 'Internal: reads a persist_target.';
COMMENT ON FUNCTION persist_pipeline_internal.persist_target_out(persist_pipeline_internal.persist_target) IS 'Internal: writes a persist_target.';
COMMENT ON FUNCTION persist_pipeline_internal.persist_target_recv(internal) IS 'Internal: receives a persist_target.';
COMMENT ON FUNCTION persist_pipeline_internal.persist_target_send(persist_pipeline_internal.persist_target) IS 'Internal: sends a persist_target.';
COMMENT ON CAST (persist_pipeline_internal.persist_target AS oid) IS 'Internal: a persist_target is one.';
COMMENT ON CAST (persist_pipeline_internal.persist_target AS regclass) IS 'Internal: a persist_target is one.';
COMMENT ON CAST (oid AS persist_pipeline_internal.persist_target) IS 'Internal: one may be stored as a persist_target.';
COMMENT ON CAST (regclass AS persist_pipeline_internal.persist_target) IS 'Internal: one may be stored as a persist_target.';

CREATE TABLE persist_settings (
	target persist_pipeline_internal.persist_target NOT NULL,
	durability text NOT NULL CHECK (durability IN ('auto', 'journal', 'ring')),
	bad_items text NOT NULL DEFAULT 'error' CHECK (bad_items IN ('error', 'dead')),
	paused boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE persist_settings IS
'What persist_configure() has said: a row for each such target.';
COMMENT ON COLUMN persist_settings.durability IS
'"auto": items are as durable as the target, and as the transaction that enqueues them; "journal": they survive a crash; "ring": a crash or immediate shutdown loses them';
COMMENT ON COLUMN persist_settings.bad_items IS
'"error": what doesn''t fit the target is an error of the call; "dead": it becomes a dead letter';
COMMENT ON COLUMN persist_settings.paused IS 'by persist_pause(): its items wait';

-- without the hook of the preloaded library, a row outlives its target
SELECT pg_catalog.pg_extension_config_dump('persist_settings',
	'WHERE EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) target)');

-- Its row is made by persist_close(): what an INSERT writes is decoded (src/store/state.h).
CREATE TABLE persist_pipeline_internal.persist_state (
	installation bigint NOT NULL,
	database oid NOT NULL,
	system bigint NOT NULL,
	cluster bigint NOT NULL,
	paused boolean NOT NULL,
	changed_in timestamptz NOT NULL
) USING heap;
COMMENT ON TABLE persist_pipeline_internal.persist_state IS
'Internal: one row. Which installation this is, whose its files are, and whether persist_pause() or persist_resume() was called last, and in which run of the server.';

-- Stops of the worker (src/store/shutdowns.h).
CREATE TABLE persist_pipeline_internal.persist_shutdowns (
	stopped_at timestamptz NOT NULL,
	seconds double precision NOT NULL,
	drained bigint NOT NULL,
	journalled bigint NOT NULL,
	forced boolean NOT NULL
) USING heap;
COMMENT ON TABLE persist_pipeline_internal.persist_shutdowns IS
'Internal: the last 1000 stops; see the view persist_shutdowns.';

-- Nobody writes to these tables by SQL, whatever rights he has been given: the
-- library writes through the heap, and meets neither row security nor triggers.
-- Triggers that always fire: a subscription's worker, too, or whoever sets
-- session_replication_role, is refused.
CREATE FUNCTION persist_pipeline_internal.persist_refuse_write()
RETURNS trigger
LANGUAGE C
AS 'MODULE_PATHNAME', 'persist_refuse_write';
COMMENT ON FUNCTION persist_pipeline_internal.persist_refuse_write() IS
'Internal: refuses whatever it is a trigger for. Errors: 42501.';

ALTER TABLE persist_pipeline_internal.persist_leases ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER refuse_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON persist_pipeline_internal.persist_leases
	EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE TRIGGER refuse_row BEFORE INSERT OR UPDATE OR DELETE ON persist_pipeline_internal.persist_leases
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
ALTER TABLE persist_pipeline_internal.persist_leases ENABLE ALWAYS TRIGGER refuse_statement, ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE persist_pipeline_internal.persist_journal_1 ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER refuse_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON persist_pipeline_internal.persist_journal_1
	EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE TRIGGER refuse_row BEFORE INSERT OR UPDATE OR DELETE ON persist_pipeline_internal.persist_journal_1
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
ALTER TABLE persist_pipeline_internal.persist_journal_1 ENABLE ALWAYS TRIGGER refuse_statement, ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE persist_pipeline_internal.persist_journal_2 ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER refuse_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON persist_pipeline_internal.persist_journal_2
	EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE TRIGGER refuse_row BEFORE INSERT OR UPDATE OR DELETE ON persist_pipeline_internal.persist_journal_2
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
ALTER TABLE persist_pipeline_internal.persist_journal_2 ENABLE ALWAYS TRIGGER refuse_statement, ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE persist_pipeline_internal.persist_journal_3 ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER refuse_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON persist_pipeline_internal.persist_journal_3
	EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE TRIGGER refuse_row BEFORE INSERT OR UPDATE OR DELETE ON persist_pipeline_internal.persist_journal_3
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
ALTER TABLE persist_pipeline_internal.persist_journal_3 ENABLE ALWAYS TRIGGER refuse_statement, ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE persist_pipeline_internal.persist_copied ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER refuse_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON persist_pipeline_internal.persist_copied
	EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE TRIGGER refuse_row BEFORE INSERT OR UPDATE OR DELETE ON persist_pipeline_internal.persist_copied
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
ALTER TABLE persist_pipeline_internal.persist_copied ENABLE ALWAYS TRIGGER refuse_statement, ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE persist_pipeline_internal.persist_parked ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER refuse_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON persist_pipeline_internal.persist_parked
	EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE TRIGGER refuse_row BEFORE INSERT OR UPDATE OR DELETE ON persist_pipeline_internal.persist_parked
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
ALTER TABLE persist_pipeline_internal.persist_parked ENABLE ALWAYS TRIGGER refuse_statement, ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE persist_pipeline_internal.persist_mark ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER refuse_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON persist_pipeline_internal.persist_mark
	EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE TRIGGER refuse_row BEFORE INSERT OR UPDATE OR DELETE ON persist_pipeline_internal.persist_mark
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE FUNCTION persist_pipeline_internal.persist_pass_mark()
RETURNS trigger
LANGUAGE C VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_pass_mark';
COMMENT ON FUNCTION persist_pipeline_internal.persist_pass_mark() IS
'Internal: notes that the deferred triggers before the mark have come through. Errors: 39P01 it isn''t called as a trigger.';
CREATE CONSTRAINT TRIGGER pass_mark AFTER INSERT ON persist_pipeline_internal.persist_mark
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_pass_mark();
ALTER TABLE persist_pipeline_internal.persist_mark ENABLE ALWAYS TRIGGER refuse_statement, ENABLE ALWAYS TRIGGER refuse_row,
	ENABLE ALWAYS TRIGGER pass_mark;
ALTER TABLE persist_pipeline_internal.persist_dead_letters ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER refuse_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON persist_pipeline_internal.persist_dead_letters
	EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE TRIGGER refuse_row BEFORE INSERT OR UPDATE OR DELETE ON persist_pipeline_internal.persist_dead_letters
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
ALTER TABLE persist_pipeline_internal.persist_dead_letters ENABLE ALWAYS TRIGGER refuse_statement, ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE persist_pipeline_internal.persist_layouts ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER refuse_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON persist_pipeline_internal.persist_layouts
	EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE TRIGGER refuse_row BEFORE INSERT OR UPDATE OR DELETE ON persist_pipeline_internal.persist_layouts
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
ALTER TABLE persist_pipeline_internal.persist_layouts ENABLE ALWAYS TRIGGER refuse_statement, ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE persist_pipeline_internal.persist_account ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER refuse_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON persist_pipeline_internal.persist_account
	EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE TRIGGER refuse_row BEFORE INSERT OR UPDATE OR DELETE ON persist_pipeline_internal.persist_account
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
ALTER TABLE persist_pipeline_internal.persist_account ENABLE ALWAYS TRIGGER refuse_statement, ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE persist_pipeline_internal.persist_state ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER refuse_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON persist_pipeline_internal.persist_state
	EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE TRIGGER refuse_row BEFORE INSERT OR UPDATE OR DELETE ON persist_pipeline_internal.persist_state
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
ALTER TABLE persist_pipeline_internal.persist_state ENABLE ALWAYS TRIGGER refuse_statement, ENABLE ALWAYS TRIGGER refuse_row;
ALTER TABLE persist_pipeline_internal.persist_shutdowns ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER refuse_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON persist_pipeline_internal.persist_shutdowns
	EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE TRIGGER refuse_row BEFORE INSERT OR UPDATE OR DELETE ON persist_pipeline_internal.persist_shutdowns
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
ALTER TABLE persist_pipeline_internal.persist_shutdowns ENABLE ALWAYS TRIGGER refuse_statement, ENABLE ALWAYS TRIGGER refuse_row;

-- These are settings that a dump has.  Who restores them owns the target, or is a
-- superuser; the row takes the place of one that is there.
CREATE FUNCTION persist_pipeline_internal.persist_restore_setting()
RETURNS trigger
LANGUAGE C
AS 'MODULE_PATHNAME', 'persist_restore_setting';
COMMENT ON FUNCTION persist_pipeline_internal.persist_restore_setting() IS
'Internal: a row of a dump becomes what persist_configure() would have written; of a relation that isn''t there, nothing. Errors: 42501 the target is not the current user''s; 42P01 no such relation; 22023 no such value.';

CREATE TRIGGER restore BEFORE INSERT ON persist_settings
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_restore_setting();
CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON persist_settings
	EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE TRIGGER refuse_row BEFORE UPDATE OR DELETE ON persist_settings
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
ALTER TABLE persist_settings ENABLE ALWAYS TRIGGER restore,
	ENABLE ALWAYS TRIGGER refuse_statement, ENABLE ALWAYS TRIGGER refuse_row;

-- Handing items over ------------------------------------------------------

CREATE FUNCTION persist_enqueue(target regclass, item jsonb, transactional boolean DEFAULT true)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_enqueue';
COMMENT ON FUNCTION persist_enqueue(regclass, jsonb, boolean) IS
'Hands a row, a JSON object with column names as keys, to the worker, which inserts it into the target after the transaction has committed; at once if not transactional. Absent columns get their DEFAULT, evaluated now. Returns the item''s id. Errors: 22004 an argument is null; 22023 the item is not an object; 42703 an unknown key; 428C9 a generated or identity-always column is given; 42809 not a relation that takes rows; 42501 no INSERT privilege; 25006 read-only transaction or recovery; 54000 item too large; 53400 too many of its items are parked, or, at COMMIT, the journal or the role''s share of it is full; if not transactional 53000 ring full, or no ring or worker free, 53400 the role''s share of it is, 57P01 ring closed; 55000 mode is "reject", the library is not preloaded, or, if not transactional, the database is paused; and those of the column''s types, domains and defaults.';

CREATE FUNCTION persist_enqueue(target text, item text, transactional boolean DEFAULT true)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_enqueue_text';
COMMENT ON FUNCTION persist_enqueue(text, text, boolean) IS
'The same, for drivers that send text: the target''s name, looked up along search_path, and the JSON. Errors besides: 42P01 no such relation; 22P02 not JSON; 22P05 what jsonb can''t hold, such as \u0000.';

-- With regclass here, an item without a type could be json or jsonb, and the call would be
-- ambiguous: a regclass is the function above's, and where that won't do, an oid.
CREATE FUNCTION persist_enqueue(target oid, item json, transactional boolean DEFAULT true)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_enqueue_json';
COMMENT ON FUNCTION persist_enqueue(oid, json, boolean) IS
'The same, for what row_to_json() and the like return. A regclass is such an oid. Errors: as for jsonb, and 22P05 what jsonb can''t hold, such as \u0000.';

CREATE FUNCTION persist_enqueue(target text, item json, transactional boolean DEFAULT true)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_enqueue_text';
COMMENT ON FUNCTION persist_enqueue(text, json, boolean) IS
'The same, with the target''s name, looked up along search_path. Errors besides: 42P01 no such relation.';

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

-- Waiting for them --------------------------------------------------------

CREATE FUNCTION persist_flush(timeout interval DEFAULT '30 s', target regclass DEFAULT NULL)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_flush';
COMMENT ON FUNCTION persist_flush(interval, regclass) IS
'Waits until all that was handed over in this database before the call (for this target, if given) is settled and flushed to disk. Returns false at the timeout, and without waiting for it if the database is paused, or what is left is parked for a reason that stays when it is tried again. Errors: 22004 timeout is null; 25001 the transaction has written or enqueued something.';

-- Telling it what to do ----------------------------------------------------
-- Anyone may call these: what they change has to be the caller's.

CREATE FUNCTION persist_configure(target regclass, durability text DEFAULT NULL,
	bad_items text DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_configure';
COMMENT ON FUNCTION persist_configure(regclass, text, text) IS
'Configures a target, for items that are enqueued from the commit on; NULL leaves a setting as it is. durability: "auto" (an item is as durable as the target, and as the transaction that enqueues it: one that has written nothing and commits with synchronous_commit off uses the ring alone, for as long as ring_window allows), "journal" (it survives a crash), "ring" (no WAL and no fsync; a crash or immediate shutdown loses it). bad_items: "error" (what doesn''t fit the target is an error of the call), "dead" (it becomes a dead letter, so that the transaction goes on). For the target''s owner. Errors: 22004 target is null; 22023 no such value; 42P01 no such relation; 42809 not a relation that takes rows; 42501 not the caller''s.';

CREATE FUNCTION persist_unconfigure(target regclass)
RETURNS void
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_unconfigure';
COMMENT ON FUNCTION persist_unconfigure(regclass) IS
'Takes back what persist_configure() has said of a target. For its owner. Errors: 22004 target is null; 42P01 no such relation; 42501 not the caller''s.';

CREATE FUNCTION persist_pause(target regclass DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_pause';
COMMENT ON FUNCTION persist_pause(regclass) IS
'From the commit on, and over restarts, items of this database wait in the journal until persist_resume(); or those of one target, which are parked. A batch that is being written is finished. For the owner of the database, or of the target. Errors: 42501 not the caller''s; 42P01 no such relation; 42809 not a relation that takes rows.';

CREATE FUNCTION persist_resume(target regclass DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_resume';
COMMENT ON FUNCTION persist_resume(regclass) IS
'Ends what persist_pause() or the setting start_paused began, for the database or for a target; for the database it also has items written that came with a copy of another database (CREATE DATABASE with a TEMPLATE). For the owner of the database, or of the target. Errors: 42501 not the caller''s; 42P01 no such relation.';

CREATE FUNCTION persist_discard()
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_discard';
COMMENT ON FUNCTION persist_discard() IS
'Drops items that came with a copy of another database, which writes them. Returns how many. For the database''s owner. Errors: 42501 not the caller''s.';

-- Dead letters --------------------------------------------------------------

CREATE VIEW persist_dead_letters AS
SELECT id, target, target_name, role, role_name, item, sqlstate, message, detail, constraint_name,
	   context, enqueued_at, failed_at, attempts, pos, part, data, depth, left_out
FROM persist_pipeline_internal.persist_dead_letters;
COMMENT ON VIEW persist_dead_letters IS
'Items that could not be inserted, until persist_requeue() or persist_discard().';
COMMENT ON COLUMN persist_dead_letters.id IS 'what persist_enqueue() has returned';
COMMENT ON COLUMN persist_dead_letters.role IS 'who enqueued the item';
COMMENT ON COLUMN persist_dead_letters.enqueued_at IS 'start of the statement that did';
COMMENT ON COLUMN persist_dead_letters.attempts IS 'that have failed';
COMMENT ON COLUMN persist_dead_letters.pos IS 'internal: the item''s place in the order of things ...';
COMMENT ON COLUMN persist_dead_letters.part IS 'internal: ... and in that of its transaction';
COMMENT ON COLUMN persist_dead_letters.depth IS 'so many items, one enqueued by the other''s trigger, came before it: "max_depth" is a limit to that';
COMMENT ON COLUMN persist_dead_letters.left_out IS 'it was too large to be written with its bytes: it can be sent again with values that are given, or discarded';

-- For those to whom it is granted, and then for the letters of roles whose rights they
-- have.

CREATE FUNCTION persist_requeue(ids bigint[] DEFAULT NULL)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_requeue';
COMMENT ON FUNCTION persist_requeue(bigint[]) IS
'Sends dead letters again at the commit, as the roles that enqueued them, in their old order: those of these ids, or all that the caller may send. One that fails again becomes the same letter, with attempts + 1. Those that were too large to be kept whole (left_out) stay. Returns how many. Errors: 42501 a letter named is of a role whose rights the caller doesn''t have; 54000 a letter named was too large to be kept whole; XX001 one named is damaged; those of persist_enqueue(), for one that is named and has never been an item.';

CREATE FUNCTION persist_requeue(id bigint, item jsonb)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_requeue_repaired';
COMMENT ON FUNCTION persist_requeue(bigint, jsonb) IS
'Sends a dead letter again with other values, as the role that enqueued it; what the item doesn''t name gets its DEFAULT, evaluated now. Returns false if there is no such letter. Errors: 22004 an argument is null; 42501 the letter is of a role whose rights the caller doesn''t have; those of persist_enqueue().';

CREATE FUNCTION persist_requeue(id bigint, target regclass, item jsonb)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_requeue_elsewhere';
COMMENT ON FUNCTION persist_requeue(bigint, regclass, jsonb) IS
'The same for another target, of which the role that enqueued the item needs INSERT: its own may be gone. Returns false if there is no such letter. Errors: as for persist_requeue(bigint, jsonb).';

CREATE FUNCTION persist_discard(ids bigint[])
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_discard_letters';
COMMENT ON FUNCTION persist_discard(bigint[]) IS
'Drops dead letters: those of these ids. Returns how many. Errors: 22004 ids is null; 42501 a letter named is of a role whose rights the caller doesn''t have.';

CREATE FUNCTION persist_stats_reset()
RETURNS void
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_stats_reset';
COMMENT ON FUNCTION persist_stats_reset() IS
'Begins to count anew in persist_stats. Dead letters and items that wait are what they are.';

-- Looking -----------------------------------------------------------------

CREATE FUNCTION persist_pipeline_internal.persist_queue_rows(
	OUT datid oid, OUT worker_pid integer, OUT worker_state text,
	OUT ring_used bigint, OUT ring_size bigint, OUT ring_peak bigint, OUT ring_closed boolean,
	OUT items_pending bigint, OUT items_parked bigint, OUT items_persisted bigint, OUT items_failed bigint,
	OUT batches bigint, OUT diverted boolean, OUT journal_bytes bigint,
	OUT rate double precision, OUT time_left interval, OUT at_risk_since timestamptz,
	OUT retrier_pid integer, OUT retrier_state text, OUT retrier_target oid,
	OUT retrier_since timestamptz, OUT items_copied bigint, OUT stuck_pids integer[])
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'persist_queue_rows';
COMMENT ON FUNCTION persist_pipeline_internal.persist_queue_rows() IS
'The rows of the view persist_queue.';

CREATE VIEW persist_queue AS
SELECT q.datid, d.datname, q.worker_pid, q.worker_state,
	   q.ring_used, q.ring_size, q.ring_peak, q.ring_closed,
	   q.items_pending, q.items_parked, q.items_persisted, q.items_failed, q.batches,
	   q.diverted, q.journal_bytes, q.rate, q.time_left, q.at_risk_since, q.items_copied,
	   q.retrier_pid, q.retrier_state, q.retrier_target, q.retrier_since, q.stuck_pids
FROM persist_pipeline_internal.persist_queue_rows() AS q
LEFT JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) q.datid;
COMMENT ON VIEW persist_queue IS
'A row for each database that has the extension, as far as somebody has looked into it since the server started; counters are since then.';
COMMENT ON COLUMN persist_queue.worker_pid IS 'NULL: no worker runs';
COMMENT ON COLUMN persist_queue.worker_state IS
'"not running", "idle", "gathering" (waits for more items; see flush_interval, batch_size), "writing", "retrying" (backs off after an error), "stopping", "paused"';
COMMENT ON COLUMN persist_queue.ring_used IS 'NULL, as all of the ring: it has none now; bytes, with those reserved by transactions in commit';
COMMENT ON COLUMN persist_queue.ring_size IS 'bytes';
COMMENT ON COLUMN persist_queue.ring_peak IS 'the most bytes that were ever used';
COMMENT ON COLUMN persist_queue.ring_closed IS 'the worker has shut the ring to stop';
COMMENT ON COLUMN persist_queue.items_pending IS 'handed over and not settled; NULL: without a ring nobody has counted';
COMMENT ON COLUMN persist_queue.items_parked IS 'those of them whose target can''t be written just now';
COMMENT ON COLUMN persist_queue.items_persisted IS 'written by a batch that has committed';
COMMENT ON COLUMN persist_queue.items_failed IS 'could not be inserted, and have become dead letters: once each, though they are sent again';
COMMENT ON COLUMN persist_queue.batches IS 'transactions that the worker has committed';
COMMENT ON COLUMN persist_queue.diverted IS 'items wait that are in the journal alone, and the worker takes them from there';
COMMENT ON COLUMN persist_queue.journal_bytes IS 'of the items that wait in the journal; "journal_limit" is a limit to that';
COMMENT ON COLUMN persist_queue.rate IS 'items per second that the worker has settled when it was last busy; NULL: not measured yet';
COMMENT ON COLUMN persist_queue.time_left IS 'until all that waits now, but for parked items, is written, at that rate';
COMMENT ON COLUMN persist_queue.at_risk_since IS
'since when the oldest item waits that a crash or an immediate shutdown would take, since it is in the ring alone, and its table would be there after it; NULL: there is none';
COMMENT ON COLUMN persist_queue.items_copied IS
'came with a copy of another database, and wait for persist_resume() or persist_discard(); NULL: look from within that database';
COMMENT ON COLUMN persist_queue.retrier_pid IS 'the process that tries what is parked; NULL: none runs';
COMMENT ON COLUMN persist_queue.retrier_state IS
'"not running", "waiting" (for the time of the next try), "writing", "stuck" (in code that can''t be interrupted, past statement_timeout: nobody but parked items waits for it)';
COMMENT ON COLUMN persist_queue.retrier_target IS 'the OID of the relation whose parked items it tries';
COMMENT ON COLUMN persist_queue.retrier_since IS 'since when it has been at that';
COMMENT ON COLUMN persist_queue.stuck_pids IS
'processes that were the worker until another one took their place, since they run code that can''t be interrupted; NULL: none';

CREATE FUNCTION persist_pipeline_internal.persist_waiting_rows(
	OUT target oid, OUT pending bigint, OUT parked bigint, OUT reason text)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'persist_waiting_rows';
COMMENT ON FUNCTION persist_pipeline_internal.persist_waiting_rows() IS
'Internal: what waits for each target of this database; for the view persist_stats.';

CREATE VIEW persist_stats AS
WITH account AS (
	SELECT a.target,
		   pg_catalog.sum(a.persisted)::bigint AS persisted,
		   pg_catalog.sum(a.skipped)::bigint AS skipped,
		   pg_catalog.sum(a.dead)::bigint AS dead,
		   pg_catalog.sum(a.discarded)::bigint AS discarded,
		   pg_catalog.sum(a.lost)::bigint AS lost,
		   pg_catalog.sum(a.batches)::bigint AS batches,
		   pg_catalog.sum(a.errors)::bigint AS errors,
		   (pg_catalog.array_agg(a.last_error ORDER BY a.last_error_at DESC)
			FILTER (WHERE a.last_error IS NOT NULL))[1] AS last_error,
		   pg_catalog.max(a.last_error_at) AS last_error_at,
		   pg_catalog.max(a.last_persisted_at) AS last_persisted_at
	FROM persist_pipeline_internal.persist_account AS a
	GROUP BY a.target
), waiting AS (
	SELECT w.target, pg_catalog.sum(w.pending)::bigint AS pending,
		   pg_catalog.sum(w.parked)::bigint AS parked, pg_catalog.max(w.reason) AS reason
	FROM persist_pipeline_internal.persist_waiting_rows() AS w
	GROUP BY w.target
)
SELECT target,
	   CASE WHEN n.oid IS NULL THEN target::text ELSE pg_catalog.format('%I.%I', n.nspname, c.relname) END
	   AS target_name,
	   COALESCE(a.persisted, 0) OPERATOR(pg_catalog.+) COALESCE(a.skipped, 0)
	   OPERATOR(pg_catalog.+) COALESCE(a.dead, 0) OPERATOR(pg_catalog.+) COALESCE(a.discarded, 0)
	   OPERATOR(pg_catalog.+) COALESCE(a.lost, 0) OPERATOR(pg_catalog.+) COALESCE(w.pending, 0)
	   AS enqueued,
	   COALESCE(a.persisted, 0) AS persisted,
	   COALESCE(a.skipped, 0) AS skipped,
	   COALESCE(a.dead, 0) AS dead,
	   COALESCE(a.discarded, 0) AS discarded,
	   COALESCE(a.lost, 0) AS lost,
	   COALESCE(w.pending, 0) AS pending,
	   COALESCE(w.parked, 0) AS parked,
	   w.reason AS parked_reason,
	   COALESCE(a.batches, 0) AS batches,
	   COALESCE(a.errors, 0) AS errors,
	   NULLIF(a.last_error, '') AS last_error,
	   CASE WHEN a.last_error OPERATOR(pg_catalog.<>) '' THEN a.last_error_at END AS last_error_at,
	   a.last_persisted_at
FROM account AS a
FULL JOIN waiting AS w USING (target)
LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) target
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace;
COMMENT ON VIEW persist_stats IS
'A row for each target: enqueued = persisted + skipped + dead + discarded + lost + pending. Since the extension was created, or persist_stats_reset().';
COMMENT ON COLUMN persist_stats.target IS
'its OID; 0: relations that are no more, together, items that could not be read, and those that wait where hundreds of other targets have some, too';
COMMENT ON COLUMN persist_stats.target_name IS 'with its schema, quoted where need be, as in persist_dead_letters; the OID of one that is no more';
COMMENT ON COLUMN persist_stats.enqueued IS 'by transactions that have committed, or are in their commit; ring-only items that a crash has taken don''t count any more';
COMMENT ON COLUMN persist_stats.persisted IS 'rows that have been inserted';
COMMENT ON COLUMN persist_stats.skipped IS 'passed over by a trigger or a rule of the target';
COMMENT ON COLUMN persist_stats.dead IS 'that are dead letters now';
COMMENT ON COLUMN persist_stats.discarded IS 'dead letters that are gone, by persist_discard() or dead_letter_retention';
COMMENT ON COLUMN persist_stats.lost IS 'that could not be read any more';
COMMENT ON COLUMN persist_stats.pending IS 'that wait, parked ones too';
COMMENT ON COLUMN persist_stats.parked IS 'that wait in the parked table, until the target can be written again';
COMMENT ON COLUMN persist_stats.parked_reason IS 'SQLSTATE of the last try';
COMMENT ON COLUMN persist_stats.batches IS 'transactions that have inserted rows into it';
COMMENT ON COLUMN persist_stats.errors IS 'rows that have failed, and times that it was parked';
COMMENT ON COLUMN persist_stats.last_error IS 'SQLSTATE, and constraint';

CREATE VIEW persist_parked AS
SELECT target, role, pos, part, parked_at, misfit_since, alone
FROM persist_pipeline_internal.persist_parked;
COMMENT ON VIEW persist_parked IS
'Items whose target can''t be written just now, a row or more for each. They are tried again, in their order.';
COMMENT ON COLUMN persist_parked.target IS 'its OID';
COMMENT ON COLUMN persist_parked.role IS 'who enqueued the item';
COMMENT ON COLUMN persist_parked.pos IS 'internal: the item''s place in the order of things ...';
COMMENT ON COLUMN persist_parked.part IS 'internal: ... and in that of its transaction';
COMMENT ON COLUMN persist_parked.parked_at IS 'since then';
COMMENT ON COLUMN persist_parked.misfit_since IS 'with the first of them: since when the target takes none of its items';
COMMENT ON COLUMN persist_parked.alone IS 'it waits for a row that somebody has locked, and later items of its target pass it';

CREATE VIEW persist_shutdowns AS
SELECT stopped_at, seconds, drained, journalled, forced
FROM persist_pipeline_internal.persist_shutdowns;
COMMENT ON VIEW persist_shutdowns IS
'A row for each stop of this database''s worker, the last 1000 of them.';
COMMENT ON COLUMN persist_shutdowns.seconds IS 'from the signal until everything was written, or the time was up';
COMMENT ON COLUMN persist_shutdowns.drained IS 'items settled in that time';
COMMENT ON COLUMN persist_shutdowns.journalled IS 'items that were not, and are in the journal';
COMMENT ON COLUMN persist_shutdowns.forced IS 'shutdown_timeout was not enough';

-- Who may do what -----------------------------------------------------------

CREATE FUNCTION persist_grant(role regrole)
RETURNS void
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_grant';
COMMENT ON FUNCTION persist_grant(regrole) IS
'Grants a role what it needs to enqueue: USAGE on the schema, EXECUTE on persist_enqueue(), in all its forms, persist_enqueue_many() and persist_flush(). INSERT on its targets is not ours to grant. For superusers and the owner of the extension. Errors: 22004 role is null; 42501 not the caller''s to grant; 42704 no such role.';

CREATE FUNCTION persist_revoke(role regrole)
RETURNS void
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_revoke';
COMMENT ON FUNCTION persist_revoke(regrole) IS
'Takes back what persist_grant() has granted; USAGE on the schema only if nothing but the extension is in it. Items that the role has enqueued are still inserted, if it has kept INSERT. For superusers and the owner of the extension. Errors: as for persist_grant().';

-- Internal ----------------------------------------------------------------

CREATE FUNCTION persist_pipeline_internal.persist_batch_support(internal)
RETURNS internal
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_batch_support';
COMMENT ON FUNCTION persist_pipeline_internal.persist_batch_support(internal) IS
'Internal: for the planner. How many rows the INSERT of the pipeline has.';

CREATE FUNCTION persist_pipeline_batch.persist_batch(token bigint, shape anyelement)
RETURNS SETOF anyelement
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
SUPPORT persist_pipeline_internal.persist_batch_support
AS 'MODULE_PATHNAME', 'persist_batch';
COMMENT ON FUNCTION persist_pipeline_batch.persist_batch(bigint, anyelement) IS
'Internal: the rows of the batch, for the INSERT of the pipeline, which knows the token; no rows for anyone else. PUBLIC may execute it because that INSERT runs as the enqueuer. Errors: 0A000 it isn''t called in FROM.';

CREATE FUNCTION persist_pipeline_batch.persist_batch_row()
RETURNS boolean
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
SUPPORT persist_pipeline_internal.persist_batch_support
AS 'MODULE_PATHNAME', 'persist_batch_row';
COMMENT ON FUNCTION persist_pipeline_batch.persist_batch_row() IS
'Internal: true; counts the rows of the batch, for the INSERT of the pipeline.';

CREATE FUNCTION persist_pipeline_internal.persist_close()
RETURNS void
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_close';
COMMENT ON FUNCTION persist_pipeline_internal.persist_close() IS
'Internal: for CREATE EXTENSION. Gives the installation its number; takes back what default privileges have given to anybody but the owner, EXECUTE for PUBLIC included; and warns if others may create objects in the extension''s schema. Errors: 55000 it isn''t called by CREATE EXTENSION.';

-- Rights --------------------------------------------------------------------
-- Nobody has any by default, whatever default privileges say.  What follows is all
-- that is granted.
SELECT persist_pipeline_internal.persist_close();

-- what the worker's INSERT calls, as the enqueuer
GRANT USAGE ON SCHEMA persist_pipeline_batch TO PUBLIC;
GRANT EXECUTE ON FUNCTION persist_pipeline_batch.persist_batch(bigint, anyelement) TO PUBLIC;
GRANT EXECUTE ON FUNCTION persist_pipeline_batch.persist_batch_row() TO PUBLIC;

-- these ask for ownership themselves
GRANT EXECUTE ON FUNCTION persist_configure(regclass, text, text) TO PUBLIC;
GRANT EXECUTE ON FUNCTION persist_unconfigure(regclass) TO PUBLIC;
GRANT EXECUTE ON FUNCTION persist_pause(regclass) TO PUBLIC;
GRANT EXECUTE ON FUNCTION persist_resume(regclass) TO PUBLIC;
GRANT EXECUTE ON FUNCTION persist_discard() TO PUBLIC;
-- whoever may dump the database dumps it (persist_close())
GRANT SELECT ON persist_settings TO PUBLIC;

GRANT SELECT ON persist_queue TO pg_monitor;
GRANT SELECT ON persist_stats TO pg_monitor;
GRANT SELECT ON persist_shutdowns TO pg_monitor;
GRANT EXECUTE ON FUNCTION persist_pipeline_internal.persist_queue_rows() TO pg_monitor;
GRANT EXECUTE ON FUNCTION persist_pipeline_internal.persist_waiting_rows() TO pg_monitor;
