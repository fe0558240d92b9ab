/* persist_pipeline 1.1 */

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
	alone boolean,
	id bigint
) USING heap;
CREATE INDEX persist_parked_order ON persist_pipeline_internal.persist_parked (target, role, pos, part);
COMMENT ON TABLE persist_pipeline_internal.persist_parked IS
'Internal: items whose target can''t be written just now. They are tried again, in their order.';

-- A mark in the queue of deferred triggers (src/worker/deferred.h); always empty.
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
	columns bytea NOT NULL,
	replaced_by oid
) USING heap;
COMMENT ON TABLE persist_pipeline_internal.persist_layouts IS
'Internal: the columns of targets that have been dropped or changed, as they were. Items may have been made for them.';
COMMENT ON COLUMN persist_pipeline_internal.persist_layouts.replaced_by IS 'what was renamed to the target''s name in the transaction that dropped the target; NULL: nothing';

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
	last_persisted_at timestamptz,
	unknown_keys bigint NOT NULL,
	last_dead_at timestamptz
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
	paused boolean NOT NULL DEFAULT false,
	unknown_keys text NOT NULL DEFAULT 'error' CHECK (unknown_keys IN ('error', 'ignore')),
	on_conflict text NOT NULL DEFAULT 'error' CHECK (on_conflict IN ('error', 'nothing', 'update')),
	conflict_columns text[] NOT NULL DEFAULT '{}',
	add_columns text[] NOT NULL DEFAULT '{}',
	flush_interval interval,
	capture_settings text[] NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE persist_settings IS
'What persist_configure() has said: a row for each such target.';
COMMENT ON COLUMN persist_settings.durability IS
'"auto": items are as durable as the target, and as the transaction that enqueues them; "journal": they survive a crash; "ring": a crash or immediate shutdown loses them';
COMMENT ON COLUMN persist_settings.bad_items IS
'"error": what doesn''t fit the target is an error of the call; "dead": it becomes a dead letter';
COMMENT ON COLUMN persist_settings.paused IS 'by persist_pause(): its items wait';
COMMENT ON COLUMN persist_settings.unknown_keys IS
'"error": a key of an object that is no column is an error of the call; "ignore": it is passed over, and counted in persist_stats';
COMMENT ON COLUMN persist_settings.on_conflict IS
'"error": a row whose key is there becomes a dead letter; "nothing": it is skipped; "update": it updates the row that is there';
COMMENT ON COLUMN persist_settings.conflict_columns IS
'the key that on_conflict is about: a unique index or constraint has exactly these columns; none: with "nothing", any';
COMMENT ON COLUMN persist_settings.add_columns IS 'columns that "update" adds to, instead of replacing what is there';
COMMENT ON COLUMN persist_settings.capture_settings IS 'settings whose values go with its items, for their INSERT';
COMMENT ON COLUMN persist_settings.flush_interval IS 'the longest that its items wait for their batch; NULL: as the setting flush_interval says';

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
	forced boolean NOT NULL,
	all_stops bigint[] NOT NULL,
	all_seconds double precision NOT NULL,
	all_forced bigint NOT NULL
) USING heap;
COMMENT ON TABLE persist_pipeline_internal.persist_shutdowns IS
'Internal: the last 1000 stops; see the view persist_shutdowns.';
COMMENT ON COLUMN persist_pipeline_internal.persist_shutdowns.all_stops IS 'how many there have been until then, those that are no longer here, too: by their seconds, in the buckets of src/ring/metrics.h';
COMMENT ON COLUMN persist_pipeline_internal.persist_shutdowns.all_seconds IS 'of all of them';
COMMENT ON COLUMN persist_pipeline_internal.persist_shutdowns.all_forced IS 'of all of them';

-- Nobody writes to these tables by SQL, whatever rights he has been given: the
-- library writes through the heap, and meets neither row security nor triggers.
-- Triggers that always fire: a subscription's worker, too, or whoever sets
-- session_replication_role, is refused.
CREATE FUNCTION persist_pipeline_internal.persist_refuse_write()
RETURNS trigger
LANGUAGE C
AS 'MODULE_PATHNAME', 'persist_refuse_write';
COMMENT ON FUNCTION persist_pipeline_internal.persist_refuse_write() IS
'Internal: refuses whatever it is a trigger for; of what a subscription copies at its start it inserts nothing. Errors: 42501.';

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

-- What persist_selftest() sends a row to.  The pipeline alone inserts here, and the row is
-- deleted in the same transaction (src/sql/selftest_function.c).
CREATE UNLOGGED TABLE persist_pipeline_internal.persist_selftest (
	called_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
) USING heap;
COMMENT ON TABLE persist_pipeline_internal.persist_selftest IS
'Internal: always empty. The target of persist_selftest(), whose row is deleted in the transaction that inserts it.';
CREATE FUNCTION persist_pipeline_internal.persist_selftest_row()
RETURNS trigger
LANGUAGE C
AS 'MODULE_PATHNAME', 'persist_selftest_row';
COMMENT ON FUNCTION persist_pipeline_internal.persist_selftest_row() IS
'Internal: refuses every INSERT but the pipeline''s, whose rows it deletes. Errors: 42501; 39P01 it isn''t called as a trigger of that table.';
ALTER TABLE persist_pipeline_internal.persist_selftest ENABLE ROW LEVEL SECURITY;
CREATE TRIGGER refuse_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON persist_pipeline_internal.persist_selftest
	EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE TRIGGER refuse_row BEFORE UPDATE OR DELETE ON persist_pipeline_internal.persist_selftest
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_refuse_write();
CREATE TRIGGER check_statement BEFORE INSERT ON persist_pipeline_internal.persist_selftest
	EXECUTE FUNCTION persist_pipeline_internal.persist_selftest_row();
CREATE TRIGGER check_row BEFORE INSERT ON persist_pipeline_internal.persist_selftest
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_selftest_row();
CREATE TRIGGER delete_row AFTER INSERT ON persist_pipeline_internal.persist_selftest
	FOR EACH ROW EXECUTE FUNCTION persist_pipeline_internal.persist_selftest_row();
ALTER TABLE persist_pipeline_internal.persist_selftest ENABLE ALWAYS TRIGGER refuse_statement, ENABLE ALWAYS TRIGGER refuse_row,
	ENABLE ALWAYS TRIGGER check_statement, ENABLE ALWAYS TRIGGER check_row, ENABLE ALWAYS TRIGGER delete_row;

-- These are settings that a dump has.  Who restores them owns the target, or is a
-- superuser; the row takes the place of one that is there.
CREATE FUNCTION persist_pipeline_internal.persist_restore_setting()
RETURNS trigger
LANGUAGE C
AS 'MODULE_PATHNAME', 'persist_restore_setting';
COMMENT ON FUNCTION persist_pipeline_internal.persist_restore_setting() IS
'Internal: a row of a dump becomes what persist_configure() would have written; of a relation that isn''t there, nothing. Errors: 42501 the target is not the current user''s; 42P01 no such relation; 22023 no such value; and those of persist_configure() for capture_settings.';

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

CREATE FUNCTION persist_enqueue_trigger()
RETURNS trigger
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_enqueue_trigger';
COMMENT ON FUNCTION persist_enqueue_trigger() IS
'For clients that only know INSERT and COPY. BEFORE INSERT ON a table FOR EACH ROW: each row is handed over instead of inserted, with the defaults that it has got; the statement counts 0 rows and returns none, since the trigger returns NULL. The worker''s own INSERT passes. Of a partitioned table''s trigger the items are for that table. INSTEAD OF INSERT ON a view of one table''s columns: each row is handed over for that table, counts as inserted, and is returned with what was decided of it; a NULL counts as absent, so that the column gets its DEFAULT. The role that inserts needs INSERT on the table that the items are for, and no EXECUTE; who creates the trigger needs that. In mode "direct" the row is inserted. Errors: 39P01 another kind of trigger; 0A000 the view has more than columns of one table, or a CHECK OPTION, or a value is given for a column that is an expression; and as for persist_enqueue(record).';

-- Waiting for them --------------------------------------------------------

CREATE FUNCTION persist_flush(timeout interval DEFAULT '30 s', target regclass DEFAULT NULL)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_flush';
COMMENT ON FUNCTION persist_flush(interval, regclass) IS
'Waits until all that was handed over in this database before the call (for this target, if given) is settled and flushed to disk. Returns false at the timeout, and without waiting for it if the database is paused, or what is left is parked for a reason that stays when it is tried again; and says in a NOTICE why. Where the library is not preloaded, false means that items wait which nobody writes. Errors: 22004 timeout is null; 22008 timeout is too long; 25001 the transaction has written or enqueued something; 25006 recovery; 42P01 no such relation; 42809 not a relation that takes rows.';

-- Telling it what to do ----------------------------------------------------
-- Anyone may call these: what they change has to be the caller's.

CREATE FUNCTION persist_configure(target regclass, durability text DEFAULT NULL,
	bad_items text DEFAULT NULL, unknown_keys text DEFAULT NULL, on_conflict text DEFAULT NULL,
	conflict_columns text[] DEFAULT NULL, add_columns text[] DEFAULT NULL, flush_interval interval DEFAULT NULL,
	capture_settings text[] DEFAULT NULL)
RETURNS void
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_configure_1_1';
COMMENT ON FUNCTION persist_configure(regclass, text, text, text, text, text[], text[], interval, text[]) IS
'Configures a target, for items that are enqueued from the commit on; NULL leaves a setting as it is. durability: "auto" (an item is as durable as the target, and as the transaction that enqueues it: one that has written nothing and commits with synchronous_commit off uses the ring alone, for as long as ring_window allows), "journal" (it survives a crash), "ring" (no WAL and no fsync; a crash or immediate shutdown loses it). bad_items: "error" (what doesn''t fit the target is an error of the call), "dead" (it becomes a dead letter, so that the transaction goes on). unknown_keys: "error" (a key that is no column doesn''t fit), "ignore" (it is passed over, and counted in persist_stats). on_conflict, for all items that are not yet written: "error" (a row whose key is there becomes a dead letter), "nothing" (it is skipped), "update" (it updates the columns that its item gave in the row that is there). conflict_columns: the key, on exactly whose columns there has to be a unique index or constraint, without expressions, predicate and DEFERRABLE; none: with "nothing", any. add_columns: of types smallint, integer, bigint, numeric, real and double precision; what an item gives for them is added to what is there, where a NULL counts for nothing. "{}": none. flush_interval: the longest that its items gather for a batch, if that is shorter than the setting of that name: the shortest of what waits counts; negative: none of its own. capture_settings: names of settings whose values, as of the call, are set again for the INSERT of the item, for its policies and triggers, deferred ones included: up to 16, such as "app.tenant", which everybody may set. Enqueuers need SELECT of conflict_columns, and, for "update", SELECT and UPDATE of the other columns that they give: 42501 at the call. For the target''s owner. Errors: 22004 target, or a column, is null; 22023 no such value, or values that don''t go together; 42703 no such column; 42704 no such setting; 42501 a setting that not everybody may set; 54000 too many settings; 0A000 a setting that says who or what a session is; 42701 a column is named twice; 42804 add_columns names one that isn''t of these types; 42P10 no unique index or constraint on conflict_columns; 0A000 the target can''t have that: foreign tables, views and tables with rules or INSTEAD OF triggers; 42P01 no such relation; 42809 not a relation that takes rows; 42501 not the caller''s.';

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
'Ends what persist_pause() or the setting start_paused began, for the database or for a target; for the database it also has items written that came with a copy of another database (CREATE DATABASE with a TEMPLATE). For the owner of the database, or of the target. Errors: 42501 not the caller''s; 42P01 no such relation; 42809 one that isn''t paused, and takes no rows.';

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
COMMENT ON COLUMN persist_dead_letters.enqueued_at IS 'when the statement that enqueued it began';
COMMENT ON COLUMN persist_dead_letters.attempts IS 'how often it could not be inserted';
COMMENT ON COLUMN persist_dead_letters.pos IS 'internal: the commit position of its transaction';
COMMENT ON COLUMN persist_dead_letters.part IS 'internal: its place among the items of its transaction';
COMMENT ON COLUMN persist_dead_letters.depth IS
'how many items came before it in a chain where the trigger of one enqueues the next; "max_depth" limits that';
COMMENT ON COLUMN persist_dead_letters.left_out IS
'the item was too large to be kept in the letter: it can be discarded, or sent again with values that are given to persist_requeue()';

-- Everybody may look here, so rows are chosen before a caller's function sees any
-- (security_barrier).  Names are as of the failure: another role or relation may have got the
-- OID since.
CREATE VIEW persist_my_dead_letters WITH (security_barrier = true) AS
SELECT d.id, d.target, d.target_name, d.role_name, d.item, d.sqlstate, d.message, d.detail,
	   d.constraint_name, d.context, d.enqueued_at, d.failed_at, d.attempts, d.left_out
FROM persist_pipeline_internal.persist_dead_letters AS d
LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) d.target
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE (d.role_name OPERATOR(pg_catalog.=) pg_catalog.pg_get_userbyid(d.role)
	   AND pg_catalog.pg_has_role(d.role, 'USAGE'))
   OR (pg_catalog.parse_ident(d.target_name) OPERATOR(pg_catalog.=) ARRAY[n.nspname::text, c.relname::text]
	   AND pg_catalog.pg_has_role(c.relowner, 'USAGE'));
COMMENT ON VIEW persist_my_dead_letters IS
'The dead letters whose items the current user has enqueued, or that were for a relation of his; of roles whose rights he has, too. Not after the role or the relation was renamed: those are in persist_dead_letters.';
COMMENT ON COLUMN persist_my_dead_letters.id IS 'what persist_enqueue() has returned';
COMMENT ON COLUMN persist_my_dead_letters.target IS 'OID of the relation';
COMMENT ON COLUMN persist_my_dead_letters.target_name IS 'with its schema, quoted where need be, as of the failure';
COMMENT ON COLUMN persist_my_dead_letters.role_name IS 'who enqueued the item';
COMMENT ON COLUMN persist_my_dead_letters.item IS 'its values, as they were decided at the call; NULL: they can''t be shown';
COMMENT ON COLUMN persist_my_dead_letters.sqlstate IS
'of the error that refused the item; message, detail, constraint_name and context belong to the same error';
COMMENT ON COLUMN persist_my_dead_letters.enqueued_at IS 'when the statement that enqueued it began';
COMMENT ON COLUMN persist_my_dead_letters.failed_at IS 'when it last could not be inserted';
COMMENT ON COLUMN persist_my_dead_letters.attempts IS 'how often it could not be inserted';
COMMENT ON COLUMN persist_my_dead_letters.left_out IS
'the item was too large to be kept in the letter: it can be discarded, or sent again with values that are given to persist_requeue()';

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

-- Anyone may call these: targets have to be the caller's.
CREATE FUNCTION persist_discard_parked(ids bigint[])
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_discard_parked';
COMMENT ON FUNCTION persist_discard_parked(bigint[]) IS
'Drops parked items: those of these ids. Returns how many. One that is just being tried is waited for: what has been written or has died by that is no parked item any more. Until the caller''s transaction ends, other parked items of that target and role may have to wait. For the target''s owner; where it is gone, for superusers. Errors: 22004 ids is null; 42501 an item named is for a relation that is not the caller''s.';

CREATE FUNCTION persist_parked_to_dead(ids bigint[])
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_parked_to_dead';
COMMENT ON FUNCTION persist_parked_to_dead(bigint[]) IS
'Makes dead letters of parked items: of those of these ids, with the reason that they were parked for, so that they are tried no more until persist_requeue(). Returns how many. It waits for a lock on the target, to read its columns; else as persist_discard_parked(). Errors: those of that function; 53400 there are too many dead letters (dead_letter_limit, role_quota); 54000 an item is too large for a letter; XX001 it is damaged.';

CREATE FUNCTION persist_stats_reset()
RETURNS void
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_stats_reset';
COMMENT ON FUNCTION persist_stats_reset() IS
'Begins to count anew in persist_stats. Dead letters and items that wait are what they are.';

-- Looking -----------------------------------------------------------------

CREATE FUNCTION persist_where(id bigint,
	OUT state text, OUT target oid, OUT target_name text, OUT role_name name, OUT since timestamptz,
	OUT sqlstate text, OUT message text, OUT tries integer, OUT next_try timestamptz)
RETURNS record
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_where';
COMMENT ON FUNCTION persist_where(bigint) IS
'What has become of an item, by the id that persist_enqueue() has returned; one row. state: "pending" (it waits to be written, since its enqueuing), "parked" (its target can''t be written just now: since when, SQLSTATE and message of the reason, tries in vain, next_try), "dead" (a dead letter, since its failure, with the error), "settled" (it does not wait any more and is no dead letter: it was written, skipped, discarded or lost, or its transaction has not committed), "unknown" (no item of this database has had this id, as far as ids are known: they are leased 1,000,000 at a time, and one of a range that a restart has left counts as given out). All that waits is read, and nobody waits for that. For who has enqueued the item, who owns its target, and members of pg_monitor, who are not told what the error of a dead letter says. Errors: 22004 id is null; 42501 the item is another''s.';

CREATE FUNCTION persist_pipeline_internal.persist_queue_rows(
	OUT datid oid, OUT worker_pid integer, OUT worker_state text,
	OUT ring_used bigint, OUT ring_size bigint, OUT ring_peak bigint, OUT ring_closed boolean,
	OUT items_pending bigint, OUT items_parked bigint, OUT items_persisted bigint, OUT items_failed bigint,
	OUT batches bigint, OUT diverted boolean, OUT journal_bytes bigint,
	OUT rate double precision, OUT time_left interval, OUT at_risk_since timestamptz,
	OUT retrier_pid integer, OUT retrier_state text, OUT retrier_target oid,
	OUT retrier_since timestamptz, OUT items_copied bigint, OUT stuck_pids integer[],
	OUT state_since timestamptz, OUT diverted_since timestamptz,
	OUT oldest_at timestamptz, OUT parked_since timestamptz,
	OUT last_error text, OUT last_error_at timestamptz,
	OUT worker_failures bigint, OUT worker_failed_at timestamptz[], OUT bounded_since timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'persist_queue_rows_1_1';
COMMENT ON FUNCTION persist_pipeline_internal.persist_queue_rows() IS
'The rows of the view persist_queue.';

CREATE VIEW persist_queue AS
SELECT q.datid, d.datname, q.worker_pid, q.worker_state,
	   q.ring_used, q.ring_size, q.ring_peak, q.ring_closed,
	   q.items_pending, q.items_parked, q.items_persisted, q.items_failed, q.batches,
	   q.diverted, q.journal_bytes, q.rate, q.time_left, q.at_risk_since, q.items_copied,
	   q.retrier_pid, q.retrier_state, q.retrier_target, q.retrier_since, q.stuck_pids,
	   q.state_since, LEAST(q.oldest_at, q.parked_since) AS oldest_at, q.parked_since,
	   q.diverted_since, q.last_error, q.last_error_at, q.worker_failures, q.worker_failed_at
FROM persist_pipeline_internal.persist_queue_rows() AS q
LEFT JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) q.datid;
COMMENT ON VIEW persist_queue IS
'A row for each database that has the extension, as far as somebody has looked into it since the server started; counters are since then.';
COMMENT ON COLUMN persist_queue.worker_pid IS 'NULL: no worker runs';
COMMENT ON COLUMN persist_queue.worker_state IS
'"not running", "idle", "gathering" (waits for more items; see flush_interval, batch_size), "writing", "retrying" (backs off after an error), "stopping", "paused"';
COMMENT ON COLUMN persist_queue.state_since IS 'since when the worker has been in that state';
COMMENT ON COLUMN persist_queue.ring_used IS
'bytes in use, with those reserved by transactions in commit; NULL, like the other columns of the ring: the database has no ring now';
COMMENT ON COLUMN persist_queue.ring_size IS 'bytes';
COMMENT ON COLUMN persist_queue.ring_peak IS 'the most bytes that were ever in use';
COMMENT ON COLUMN persist_queue.ring_closed IS 'the worker stops, and takes no more items into the ring';
COMMENT ON COLUMN persist_queue.items_pending IS
'items that were handed over and are not settled; NULL: the database has no ring, so that nobody has counted them';
COMMENT ON COLUMN persist_queue.items_parked IS
'how many of these are parked, because their target can''t be written just now';
COMMENT ON COLUMN persist_queue.items_persisted IS 'items that were inserted by batches that have committed';
COMMENT ON COLUMN persist_queue.items_failed IS
'items that could not be inserted and have become dead letters; one that is sent again and fails again is counted once';
COMMENT ON COLUMN persist_queue.batches IS 'transactions that the worker has committed';
COMMENT ON COLUMN persist_queue.oldest_at IS
'from when the oldest waiting item has waited: its commit, or, after a restart, when it was found; of items that are in the journal alone, the commit of the first one that the worker writes now; of parked items, since when their target has been parked; NULL: no item waits, or the database has no ring and nobody knows';
COMMENT ON COLUMN persist_queue.parked_since IS
'since when items have been parked, of the target where that has lasted longest; NULL: nothing is parked';
COMMENT ON COLUMN persist_queue.diverted IS 'items wait in the journal alone, and the worker takes them from there';
COMMENT ON COLUMN persist_queue.diverted_since IS
'since when that has been so without a break; NULL: it isn''t so, or the worker has yet to look';
COMMENT ON COLUMN persist_queue.journal_bytes IS 'bytes of the items that wait in the journal; "journal_limit" limits them';
COMMENT ON COLUMN persist_queue.rate IS 'items per second that the worker has settled when it was last busy; NULL: not measured yet';
COMMENT ON COLUMN persist_queue.time_left IS
'how long it takes, at that rate, to write all that waits now except parked items';
COMMENT ON COLUMN persist_queue.at_risk_since IS
'since when the oldest item has waited that a crash or an immediate shutdown would take: it is in the ring alone, and its table would survive; NULL: there is none';
COMMENT ON COLUMN persist_queue.items_copied IS
'came with a copy of another database, and wait for persist_resume() or persist_discard(); NULL: look from within that database, or after the transaction that has called one of these';
COMMENT ON COLUMN persist_queue.retrier_pid IS 'the process that tries what is parked; NULL: none runs';
COMMENT ON COLUMN persist_queue.retrier_state IS
'"not running", "waiting" (for the time of the next try), "writing", "stuck" (in code that can''t be interrupted, past statement_timeout: nobody but parked items waits for it)';
COMMENT ON COLUMN persist_queue.retrier_target IS 'the OID of the relation whose parked items it tries';
COMMENT ON COLUMN persist_queue.retrier_since IS 'since when the retrier has been in that state';
COMMENT ON COLUMN persist_queue.stuck_pids IS
'former workers that run code which can''t be interrupted, so that another process took their place; NULL: none';
COMMENT ON COLUMN persist_queue.last_error IS
'SQLSTATE of the last error because of which items became dead letters or were parked, or a process waited or ended; persist_stats has the last one of each target, and the log has the messages; NULL: there was none since the server''s start';
COMMENT ON COLUMN persist_queue.last_error_at IS 'when the last error was';
COMMENT ON COLUMN persist_queue.worker_failures IS
'how often a worker has failed: an error ended it, or another one had to take its place';
COMMENT ON COLUMN persist_queue.worker_failed_at IS
'when the last three failures were, the latest first; NULL: there was none';

CREATE FUNCTION persist_pipeline_internal.persist_waiting_rows(
	OUT target oid, OUT pending bigint, OUT parked bigint, OUT reason text, OUT since timestamptz,
	OUT message text)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'persist_waiting_rows_1_1';
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
		   pg_catalog.sum(a.unknown_keys)::bigint AS unknown_keys,
		   (pg_catalog.array_agg(a.last_error ORDER BY a.last_error_at DESC)
			FILTER (WHERE a.last_error IS NOT NULL))[1] AS last_error,
		   pg_catalog.max(a.last_error_at) AS last_error_at,
		   pg_catalog.max(a.last_persisted_at) AS last_persisted_at,
		   pg_catalog.max(a.last_dead_at) AS last_dead_at
	FROM persist_pipeline_internal.persist_account AS a
	GROUP BY a.target
), waiting AS (
	SELECT w.target, pg_catalog.sum(w.pending)::bigint AS pending,
		   pg_catalog.sum(w.parked)::bigint AS parked, pg_catalog.max(w.reason) AS reason,
		   pg_catalog.min(w.since) AS since,
		   pg_catalog.max(w.message) AS message
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
	   a.last_persisted_at,
	   w.since AS parked_since,
	   w.message AS parked_message,
	   a.last_dead_at,
	   COALESCE(a.unknown_keys, 0) AS unknown_keys
FROM account AS a
FULL JOIN waiting AS w USING (target)
LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) target
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace;
COMMENT ON VIEW persist_stats IS
'A row for each target: enqueued = persisted + skipped + dead + discarded + lost + pending. Since the extension was created, or persist_stats_reset().';
COMMENT ON COLUMN persist_stats.target IS
'OID of the relation; 0: together, relations that were dropped, items that could not be read, and items of targets that have no count of their own, where those of hundreds of targets wait';
COMMENT ON COLUMN persist_stats.target_name IS
'with its schema, quoted where need be, as in persist_dead_letters; of a relation that was dropped, its OID';
COMMENT ON COLUMN persist_stats.enqueued IS
'items of transactions that have committed, or are in their commit; those that were in the ring alone and lost in a crash are not counted any more';
COMMENT ON COLUMN persist_stats.persisted IS 'rows that have been inserted, or, with on_conflict => ''update'', have updated one';
COMMENT ON COLUMN persist_stats.skipped IS
'items that a trigger or a rule of the target, or on_conflict, has passed over';
COMMENT ON COLUMN persist_stats.dead IS 'items that are dead letters now';
COMMENT ON COLUMN persist_stats.discarded IS 'dead letters that persist_discard() or dead_letter_retention has removed';
COMMENT ON COLUMN persist_stats.lost IS 'items that could not be read any more';
COMMENT ON COLUMN persist_stats.pending IS 'items that wait, parked ones too';
COMMENT ON COLUMN persist_stats.parked IS
'items that wait in the parked table until the target can be written again';
COMMENT ON COLUMN persist_stats.parked_reason IS 'SQLSTATE of the error for which they are parked';
COMMENT ON COLUMN persist_stats.parked_since IS 'since when there have been parked items without a break';
COMMENT ON COLUMN persist_stats.parked_message IS 'what parked_reason means, or that somebody has paused the target';
COMMENT ON COLUMN persist_stats.batches IS 'transactions that have inserted rows into it';
COMMENT ON COLUMN persist_stats.errors IS 'rows that have failed, and times that the target was parked';
COMMENT ON COLUMN persist_stats.last_error IS 'SQLSTATE of the last error, and the constraint that it names';
COMMENT ON COLUMN persist_stats.last_dead_at IS 'when an item last became a dead letter';
COMMENT ON COLUMN persist_stats.unknown_keys IS
'keys that unknown_keys => ''ignore'' has passed over, of items that no longer wait in the ring or the journal';

CREATE FUNCTION persist_pipeline_internal.persist_parked_why(target oid, role oid,
	OUT sqlstate text, OUT message text, OUT tries integer, OUT next_try timestamptz)
RETURNS record
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_parked_why';
COMMENT ON FUNCTION persist_pipeline_internal.persist_parked_why(oid, oid) IS
'Internal: why the items of a target and role are parked; for the view persist_parked. NULLs for who may not know. Errors: 22004 an argument is null.';

-- A row of the table is up to 8 kB of an item.
CREATE VIEW persist_parked WITH (security_barrier = true) AS
WITH item AS (
	SELECT p.id, p.target, p.role, p.pos, pg_catalog.max(p.part) AS part, p.parked_at,
		   p.misfit_since, p.alone
	FROM persist_pipeline_internal.persist_parked AS p
	LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) p.target
	WHERE pg_catalog.pg_has_role(p.role, 'USAGE') OR pg_catalog.pg_has_role(c.relowner, 'USAGE')
	   OR pg_catalog.pg_has_role('pg_monitor', 'USAGE')
	GROUP BY p.id, p.target, p.role, p.pos, p.parked_at, p.misfit_since, p.alone
), why AS MATERIALIZED (
	SELECT k.target, k.role, w.sqlstate, w.message, w.tries, w.next_try
	FROM (SELECT DISTINCT i.target, i.role FROM item AS i) AS k,
		LATERAL persist_pipeline_internal.persist_parked_why(k.target, k.role) AS w
)
SELECT i.target, i.role, i.pos, i.part, i.parked_at, i.misfit_since, i.alone, i.id,
	   CASE WHEN n.oid IS NULL THEN i.target::text ELSE pg_catalog.format('%I.%I', n.nspname, c.relname) END
	   AS target_name,
	   pg_catalog.pg_get_userbyid(i.role) AS role_name,
	   w.sqlstate, w.message, w.tries, w.next_try
FROM item AS i
JOIN why AS w ON w.target OPERATOR(pg_catalog.=) i.target AND w.role OPERATOR(pg_catalog.=) i.role
LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.target
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace;
COMMENT ON VIEW persist_parked IS
'Items whose target can''t be written just now. They are tried again, in their order. Each user sees those that he has enqueued, and those for his relations; of roles whose rights he has, too; members of pg_monitor all.';
COMMENT ON COLUMN persist_parked.id IS 'what persist_enqueue() has returned';
COMMENT ON COLUMN persist_parked.target IS 'OID of the relation';
COMMENT ON COLUMN persist_parked.target_name IS
'with its schema, quoted where need be; of a relation that was dropped, its OID';
COMMENT ON COLUMN persist_parked.role_name IS 'who enqueued the item';
COMMENT ON COLUMN persist_parked.parked_at IS 'when the item was parked';
COMMENT ON COLUMN persist_parked.sqlstate IS
'of the error of the last try of its target and role; NULL: not known, or there was no try yet';
COMMENT ON COLUMN persist_parked.message IS 'what sqlstate means, or that somebody has paused the target';
COMMENT ON COLUMN persist_parked.tries IS
'how many tries of its target and role have failed in a row since the worker parked the item, with one that is under way; NULL: not known, or there was no try yet';
COMMENT ON COLUMN persist_parked.next_try IS
'when its target and role are tried next; NULL: not known, or somebody has paused the target';
COMMENT ON COLUMN persist_parked.misfit_since IS
'since when its target takes none of its items; noted with the first of them';
COMMENT ON COLUMN persist_parked.alone IS
'the item waits for a row that somebody has locked, and later items of its target don''t wait for it';
COMMENT ON COLUMN persist_parked.role IS 'internal: the OID of role_name';
COMMENT ON COLUMN persist_parked.pos IS 'internal: the commit position of its transaction';
COMMENT ON COLUMN persist_parked.part IS 'internal: its place among the items of its transaction';

CREATE VIEW persist_shutdowns AS
SELECT stopped_at, seconds, drained, journalled, forced
FROM persist_pipeline_internal.persist_shutdowns;
COMMENT ON VIEW persist_shutdowns IS
'A row for each stop of this database''s worker, the last 1000 of them.';
COMMENT ON COLUMN persist_shutdowns.seconds IS
'from the signal until everything was written, or shutdown_timeout was over';
COMMENT ON COLUMN persist_shutdowns.drained IS 'items that were settled in that time';
COMMENT ON COLUMN persist_shutdowns.journalled IS 'items that were not settled in that time, and are in the journal';
COMMENT ON COLUMN persist_shutdowns.forced IS 'shutdown_timeout was not long enough';

-- Health ----------------------------------------------------------------

CREATE FUNCTION persist_pipeline_internal.persist_health_facts(
	OUT preloaded boolean, OUT fault text, OUT works boolean, OUT async boolean, OUT paused boolean,
	OUT ring_room bigint, OUT journal_limit bigint, OUT risk_window double precision,
	OUT degraded_age double precision, OUT unhealthy_age double precision,
	OUT degraded_fill double precision, OUT unhealthy_fill double precision,
	OUT stall_time double precision, OUT dead_letter_window double precision,
	OUT failure_window double precision,
	OUT role_fill double precision, OUT role_name text)
RETURNS record
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'persist_health_facts';
COMMENT ON FUNCTION persist_pipeline_internal.persist_health_facts() IS
'Internal: what persist_health() can''t ask in SQL, and its limits, in seconds and per cent.';

-- A row for each thing that is judged, with its value and the limits that it should not be above:
-- NULL is below all of them.  While the database is paused, that items wait is no news.
CREATE VIEW persist_pipeline_internal.persist_health_reasons AS
WITH fact AS MATERIALIZED (
	SELECT * FROM persist_pipeline_internal.persist_health_facts()
), queue AS MATERIALIZED (
	SELECT q.worker_pid, q.worker_state, q.last_error, q.ring_size, q.ring_used, q.journal_bytes,
		   EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) q.oldest_at)::double precision AS oldest,
		   EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) q.state_since)::double precision AS state,
		   EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) q.parked_since)::double precision AS parked,
		   EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) q.diverted_since)::double precision AS diverted,
		   EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) q.bounded_since)::double precision AS at_risk,
		   EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) q.worker_failed_at[3])::double precision AS third_failure
	FROM persist_pipeline_internal.persist_queue_rows() AS q
	WHERE q.datid OPERATOR(pg_catalog.=)
		  (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
), name AS NOT MATERIALIZED (
	SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
	FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
), paused AS (
	SELECT pg_catalog.string_agg(n.name, ', ') AS names
	FROM persist_settings AS s JOIN name AS n ON n.oid OPERATOR(pg_catalog.=) s.target::oid
	WHERE s.paused
), parked AS ( -- what a ring's counters know: it costs nothing, however much waits
	SELECT w.target, w.reason, EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) w.since)::double precision AS age,
		   pg_catalog.count(*) OVER () AS targets
	FROM persist_pipeline_internal.persist_waiting_rows() AS w
	WHERE (SELECT ring_size IS NOT NULL FROM queue) AND w.since IS NOT NULL
		  AND NOT EXISTS (SELECT FROM persist_settings AS s WHERE s.paused AND s.target::oid OPERATOR(pg_catalog.=) w.target)
	ORDER BY age DESC
	LIMIT 1
), dead AS (
	SELECT a.target, pg_catalog.sum(a.dead) AS letters, pg_catalog.max(a.last_dead_at) AS last_at
	FROM persist_pipeline_internal.persist_account AS a
	GROUP BY a.target
), letters AS ( -- of targets whose last one is new
	SELECT (pg_catalog.array_agg(d.target ORDER BY d.last_at DESC))[1] AS target,
		   pg_catalog.count(*) AS targets, pg_catalog.sum(d.letters) AS letters
	FROM dead AS d, fact AS f
	WHERE d.letters OPERATOR(pg_catalog.>) 0
		  AND d.last_at OPERATOR(pg_catalog.>) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => f.dead_letter_window))
), stop AS (
	SELECT s.forced, s.stopped_at, s.journalled
	FROM persist_pipeline_internal.persist_shutdowns AS s
	ORDER BY s.stopped_at DESC
	LIMIT 1
), weak AS (
	SELECT pg_catalog.count(*) AS settings, pg_catalog.string_agg(pg_catalog.format('%s = %s', w.name, w.setting), ', ') AS names
	FROM (VALUES ('fsync', 'off'), ('full_page_writes', 'off'), ('data_sync_retry', 'on'), ('zero_damaged_pages', 'on'),
		('persist_pipeline.mode', 'reject'), ('persist_pipeline.statement_timeout', '0')) AS w (name, setting)
	WHERE pg_catalog.current_setting(w.name, true) OPERATOR(pg_catalog.=) w.setting
)
SELECT r.code,
	   CASE WHEN r.value OPERATOR(pg_catalog.>) r.unhealthy THEN 'unhealthy' ELSE 'degraded' END AS severity,
	   r.message, r.action
FROM fact AS f
LEFT JOIN queue AS q ON true
LEFT JOIN parked AS p ON true
LEFT JOIN stop AS s ON true
CROSS JOIN paused AS t
CROSS JOIN letters AS l
CROSS JOIN weak AS w
CROSS JOIN LATERAL (VALUES
	('not_preloaded', CASE WHEN f.async AND NOT f.preloaded THEN 1 END, NULL::double precision, 0::double precision,
	 'The library isn''t preloaded, so that calls fail.',
	 'Add persist_pipeline to shared_preload_libraries, and restart the server; or set persist_pipeline.mode to "direct".'),
	('version', CASE WHEN f.fault IS NOT NULL THEN 1 END, 0, CASE WHEN NOT f.works THEN 0 END, f.fault,
	 'Run ALTER EXTENSION persist_pipeline UPDATE; or restart the server, if it has not been restarted since the library was replaced.'),
	('no_worker', CASE WHEN q.worker_pid IS NULL AND NOT f.paused THEN LEAST(q.oldest, q.state) END, NULL, f.degraded_age,
	 pg_catalog.format('Items have waited for %s s, and no worker runs.', pg_catalog.round(q.oldest)),
	 'Look into the server''s log: a worker fails at its start, or none can be started; see max_worker_processes, persist_pipeline.max_workers and persist_pipeline.max_databases.'),
	('worker_failures', f.failure_window OPERATOR(pg_catalog.-) q.third_failure, NULL, 0,
	 pg_catalog.format('The worker has failed three times in %s s, the last time with SQLSTATE %s.', pg_catalog.round(q.third_failure), q.last_error),
	 'Look into the server''s log for what ended it.'),
	('oldest_item', CASE WHEN NOT f.paused THEN q.oldest END, f.degraded_age, f.unhealthy_age,
	 pg_catalog.format('The oldest item has waited for %s s; the worker is %s, and its last error was %s.', pg_catalog.round(q.oldest), q.worker_state, COALESCE(q.last_error, 'none')),
	 'Look at persist_queue: whether the worker tries again after an error, or is slower than the callers.'),
	('journal_full', 100 OPERATOR(pg_catalog.*) q.journal_bytes::double precision OPERATOR(pg_catalog./) f.journal_limit, f.degraded_fill, f.unhealthy_fill,
	 pg_catalog.format('What waits in the journal is %s %% of persist_pipeline.journal_limit; past it calls fail.', pg_catalog.round(100 OPERATOR(pg_catalog.*) q.journal_bytes::double precision OPERATOR(pg_catalog./) f.journal_limit)),
	 'See what keeps the worker from writing: persist_queue, persist_stats.'),
	('ring_full', 100 OPERATOR(pg_catalog.*) q.ring_used::double precision OPERATOR(pg_catalog./) f.ring_room, f.degraded_fill, NULL,
	 pg_catalog.format('%s %% of what callers may use of the ring is in use; past it items go to the journal.', pg_catalog.round(100 OPERATOR(pg_catalog.*) q.ring_used::double precision OPERATOR(pg_catalog./) f.ring_room)),
	 'If it stays so, see what keeps the worker from writing, or increase persist_pipeline.ring_size.'),
	('role_full', f.role_fill, f.degraded_fill, NULL,
	 pg_catalog.format('%s %s %% of what a role may hold of the journal (persist_pipeline.role_quota); past it calls fail.',
		CASE WHEN f.role_name IS NULL THEN 'Roles that are counted as one hold' ELSE pg_catalog.format('Role "%s" holds', f.role_name) END, pg_catalog.round(f.role_fill)),
	 'See what keeps the worker from writing: persist_queue, persist_stats. If one role enqueues everything, set persist_pipeline.role_quota to 100.'),
	('diverted', CASE WHEN NOT f.paused THEN q.diverted END, f.stall_time, NULL,
	 pg_catalog.format('Items have gone to the journal alone for %s s.', pg_catalog.round(q.diverted)),
	 'The worker is behind: see what keeps it from writing, or increase persist_pipeline.ring_size.'),
	('at_risk', q.at_risk, f.risk_window, NULL,
	 pg_catalog.format('An item that a crash would take has been in the ring alone for %s s, longer than ring_window allows.', pg_catalog.round(q.at_risk)),
	 'See what the worker is at; set synchronous_commit to on, or the target''s durability to "journal", if that must not be.'),
	('parked', COALESCE(p.age, CASE WHEN q.ring_size IS NULL THEN q.parked END), f.stall_time, NULL,
	 pg_catalog.format('Items of %s%s have been parked for %s s: SQLSTATE %s.', COALESCE((SELECT n.name FROM name AS n WHERE n.oid OPERATOR(pg_catalog.=) p.target), p.target::text, 'a target'),
		CASE WHEN p.targets OPERATOR(pg_catalog.>) 1 THEN pg_catalog.format(' and of other targets (%s)', p.targets OPERATOR(pg_catalog.-) 1) END,
		pg_catalog.round(COALESCE(p.age, q.parked)), COALESCE(p.reason, 'unknown')),
	 'See parked_reason in persist_stats, and remove the cause: what holds a lock, a full disk, a server that is away, a column or a right that is gone. They are tried again by themselves.'),
	('dead_letters', l.targets, 0, NULL,
	 pg_catalog.format('Items of %s%s have become dead letters; kept, with older ones: %s.', COALESCE((SELECT n.name FROM name AS n WHERE n.oid OPERATOR(pg_catalog.=) l.target), l.target::text),
		CASE WHEN l.targets OPERATOR(pg_catalog.>) 1 THEN pg_catalog.format(' and of other targets (%s)', l.targets OPERATOR(pg_catalog.-) 1) END, l.letters),
	 'Look at persist_dead_letters; repair them with persist_requeue(), or drop them with persist_discard().'),
	('forced_stop', CASE WHEN s.forced THEN 1 END, 0, NULL,
	 pg_catalog.format('The last stop of the worker, at %s, was forced; items left in the journal: %s.', s.stopped_at, s.journalled),
	 'Nothing is lost. See what took so long, or increase persist_pipeline.shutdown_timeout. The next stop that is not forced ends this.'),
	('paused', CASE WHEN f.paused OR t.names IS NOT NULL THEN 1 END, 0, NULL,
	 CASE WHEN f.paused THEN 'The database is paused: its items wait.' ELSE pg_catalog.format('Targets are paused, whose items wait: %s.', t.names) END,
	 CASE WHEN f.paused THEN 'Call persist_resume().' ELSE 'Call persist_resume(target) for each of them.' END),
	('weak_setting', w.settings, 0, NULL,
	 pg_catalog.format('Settings take back what is promised: %s.', w.names),
	 'Set them to what they are by default.')
) AS r (code, value, degraded, unhealthy, message, action)
WHERE r.value OPERATOR(pg_catalog.>) LEAST(r.degraded, r.unhealthy);
COMMENT ON VIEW persist_pipeline_internal.persist_health_reasons IS
'Internal: the reasons of persist_health(), a row for each.';

CREATE FUNCTION persist_health(OUT status text, OUT reasons jsonb)
RETURNS record
LANGUAGE sql VOLATILE PARALLEL RESTRICTED
BEGIN ATOMIC
	SELECT COALESCE(pg_catalog.max(r.severity), 'ok'),
		   COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('code', r.code, 'severity', r.severity, 'message', r.message, 'action', r.action)
					ORDER BY r.severity DESC, r.code), '[]')
	FROM persist_pipeline_internal.persist_health_reasons AS r;
END;
COMMENT ON FUNCTION persist_health() IS
'Is all well with this database? status: "ok", "degraded" (look at it) or "unhealthy" (act), the worst of the reasons; reasons: an array of objects with "code", "severity", "message" and "action", worst first. The limits are the settings persist_pipeline.health_*, which a session or a role may have of its own. It also works on a standby, in a read-only transaction, and where the library is not preloaded.';

CREATE FUNCTION persist_selftest(timeout interval DEFAULT '10 s',
	OUT step text, OUT ms double precision, OUT ok boolean, OUT detail text)
RETURNS SETOF record
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'persist_selftest';
COMMENT ON FUNCTION persist_selftest(interval) IS
'Sends one item through the whole pipeline, into a table of the extension whose row is deleted at once. A row for each step, in order, up to the one that fails: step: "library", "session", "extension", "mode", "pause" (what is needed), "convert", "hand over" (to the ring, whatever becomes of the caller''s transaction; where no worker runs, with its start, for which it waits up to 5 s, whatever timeout says), "write" (inserted, and committed), "flush" (to disk); ms: how long it took; ok: false: not done; detail: what stands in the way, or the item''s id. timeout: for all of it; an item that is late is written later. For superusers and the owner of the extension. Errors: 22004 timeout is null; 42501 the caller is neither.';

CREATE FUNCTION persist_pipeline_internal.persist_metric_rows(
	OUT metric text, OUT label text, OUT value double precision)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'persist_metric_rows';
COMMENT ON FUNCTION persist_pipeline_internal.persist_metric_rows() IS
'Internal: histograms and counters of this database; for the view persist_metrics.';

CREATE FUNCTION persist_pipeline_internal.persist_counted_rows(
	OUT target oid, OUT pending bigint, OUT parked bigint)
RETURNS SETOF record
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'persist_counted_rows';
COMMENT ON FUNCTION persist_pipeline_internal.persist_counted_rows() IS
'Internal: what waits for each target of this database, as far as that is known without a look at the items; for the view persist_metrics.';

CREATE VIEW persist_metrics AS
WITH described (name, type, label, help) AS (
	VALUES
	('preloaded', 'gauge', NULL,
	 '1: the library is preloaded; 0: it is not, and what only shared memory knows is not there'),
	('standby', 'gauge', NULL,
	 '1: this server is a standby, where nothing is written'),
	('health', 'gauge', NULL,
	 'What persist_health() says: 0: ok, 1: degraded, 2: unhealthy'),
	('health_severity', 'gauge', 'reason',
	 'What a reason of persist_health() alone would make of it: 1: degraded, 2: unhealthy'),
	('worker_running', 'gauge', NULL,
	 '1: a worker runs; it leaves when there has been nothing to do for a while'),
	('worker_failures_total', 'counter', NULL,
	 'How often a worker was ended by an error, or lost its place to another one, since the server started'),
	('stuck_processes', 'gauge', NULL,
	 'Former workers in code that cannot be interrupted'),
	('paused', 'gauge', NULL,
	 '1: the database is paused, and its items wait for persist_resume()'),
	('diverted', 'gauge', NULL,
	 '1: items wait in the journal alone, since the ring was full or closed'),
	('pending', 'gauge', NULL,
	 'Items that were handed over and are not settled, parked ones too'),
	('parked', 'gauge', NULL,
	 'Items whose target cannot be written just now'),
	('oldest_item_age_seconds', 'gauge', NULL,
	 'How long the oldest item has waited, a parked one too; 0: there is none'),
	('parked_age_seconds', 'gauge', NULL,
	 'How long the oldest parked item has been parked; 0: there is none'),
	('copied', 'gauge', NULL,
	 'Items that came with a copy of another database, and wait for persist_resume() or persist_discard()'),
	('enqueued_total', 'counter', NULL,
	 'Items that transactions have handed over since the server started'),
	('persisted_total', 'counter', NULL,
	 'Items that were inserted since the server started'),
	('dead_total', 'counter', NULL,
	 'Items that could not be inserted and have become dead letters, once each, since the server started'),
	('batches_total', 'counter', NULL,
	 'Transactions of the worker since the server started'),
	('dead_letters', 'gauge', NULL,
	 'Dead letters that there are'),
	('dead_letter_limit', 'gauge', NULL,
	 'How many dead letters there may be'),
	('ring_used_bytes', 'gauge', NULL,
	 'Bytes of the ring in use, with those reserved by transactions in commit'),
	('ring_size_bytes', 'gauge', NULL,
	 'Size of the ring'),
	('ring_peak_bytes', 'gauge', NULL,
	 'The most bytes of the ring that were ever in use'),
	('journal_bytes', 'gauge', NULL,
	 'Bytes of the items that wait in the journal'),
	('journal_limit_bytes', 'gauge', NULL,
	 'How many bytes may wait in the journal'),
	('at_risk_seconds', 'gauge', NULL,
	 'How long the oldest item has waited that a crash would take; 0: there is none'),
	('last_shutdown_forced', 'gauge', NULL,
	 '1: shutdown_timeout was not enough for the last stop'),
	('last_shutdown_duration_seconds', 'gauge', NULL,
	 'How long the last stop took'),
	('last_shutdown_timestamp_seconds', 'gauge', NULL,
	 'When the last stop was'),
	('forced_shutdowns_total', 'counter', NULL,
	 'Stops that shutdown_timeout was not enough for, since the extension was created'),
	('targets', 'gauge', NULL,
	 'Targets that items were enqueued for; 100 of them have metrics of their own, those with the lowest OIDs'),
	('items_persisted_total', 'counter', 'target',
	 'Items of a target that were inserted, since the extension was created or persist_stats_reset()'),
	('items_skipped_total', 'counter', 'target',
	 'Items of a target that a trigger, a rule or on_conflict has passed over'),
	('items_discarded_total', 'counter', 'target',
	 'Dead letters of a target that are gone, by persist_discard() or dead_letter_retention'),
	('items_lost_total', 'counter', 'target',
	 'Items of a target that could not be read any more'),
	('items_errors_total', 'counter', 'target',
	 'Rows that have failed, and times that the target was parked'),
	('items_dead', 'gauge', 'target',
	 'Items of a target that are dead letters now'),
	('items_pending', 'gauge', 'target',
	 'Items of a target that wait, parked ones too'),
	('items_parked', 'gauge', 'target',
	 'Items of a target that wait until it can be written again'),
	('errors_total', 'counter', 'class',
	 'Rows that have failed in the worker, times that a target was parked, and batches that were put off, by the class of their SQLSTATE, since the server started'),
	('commit_to_visible_seconds', 'histogram', NULL,
	 'Items that were inserted, by the time from the commit that handed them over until they could be seen'),
	('batch_seconds', 'histogram', NULL,
	 'Transactions that have settled items, by the time from their beginning to their commit'),
	('batch_items', 'histogram', NULL,
	 'Transactions that have settled items, by the number of their items'),
	('shutdown_seconds', 'histogram', NULL,
	 'Stops of the worker, by their duration, since the extension was created')
), queue AS (
	SELECT q.*
	FROM persist_pipeline_internal.persist_queue_rows() AS q
	JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) q.datid
	WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
), reasons AS (
	SELECT r.code, r.severity FROM persist_pipeline_internal.persist_health_reasons AS r
), account AS (
	SELECT a.target, pg_catalog.sum(a.persisted) AS persisted, pg_catalog.sum(a.skipped) AS skipped,
		   pg_catalog.sum(a.dead) AS dead, pg_catalog.sum(a.discarded) AS discarded,
		   pg_catalog.sum(a.lost) AS lost, pg_catalog.sum(a.errors) AS errors
	FROM persist_pipeline_internal.persist_account AS a
	GROUP BY a.target
), waiting AS (
	SELECT w.target, pg_catalog.sum(w.pending) AS pending, pg_catalog.sum(w.parked) AS parked
	FROM persist_pipeline_internal.persist_counted_rows() AS w
	GROUP BY w.target
), targets AS (
	SELECT target,
		   CASE WHEN n.oid IS NULL THEN target::text ELSE pg_catalog.format('%I.%I', n.nspname, c.relname) END
		   AS target_name,
		   COALESCE(a.persisted, 0) AS persisted, COALESCE(a.skipped, 0) AS skipped,
		   COALESCE(a.dead, 0) AS dead, COALESCE(a.discarded, 0) AS discarded,
		   COALESCE(a.lost, 0) AS lost, COALESCE(a.errors, 0) AS errors,
		   CASE WHEN k.counted THEN COALESCE(w.pending, 0) END AS pending,
		   CASE WHEN k.counted THEN COALESCE(w.parked, 0) END AS parked,
		   pg_catalog.count(*) OVER () AS n
	FROM account AS a
	FULL JOIN waiting AS w USING (target)
	CROSS JOIN (SELECT EXISTS (SELECT FROM waiting) AS counted) AS k
	LEFT JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) target
	LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
	WHERE a.target IS NOT NULL OR w.pending OPERATOR(pg_catalog.>) 0
	ORDER BY c.oid IS NULL, target
	LIMIT 100
), measured (name, label, value) AS (
	SELECT r.metric, r.label, r.value
	FROM persist_pipeline_internal.persist_metric_rows() AS r
	UNION ALL
	SELECT m.name, t.target_name, m.value
	FROM targets AS t
	CROSS JOIN LATERAL (VALUES
		('items_persisted_total', t.persisted), ('items_skipped_total', t.skipped),
		('items_discarded_total', t.discarded), ('items_lost_total', t.lost),
		('items_dead', t.dead), ('items_pending', t.pending), ('items_parked', t.parked),
		('items_errors_total', t.errors)) AS m (name, value)
	UNION ALL
	SELECT m.name, NULL, m.value
	FROM queue AS q
	CROSS JOIN LATERAL (VALUES
		('worker_running', (q.worker_pid IS NOT NULL)::integer),
		('stuck_processes', pg_catalog.cardinality(COALESCE(q.stuck_pids, '{}'))),
		('paused', (q.worker_state OPERATOR(pg_catalog.=) 'paused')::integer),
		('diverted', q.diverted::integer),
		('pending', q.items_pending), ('parked', q.items_parked), ('copied', q.items_copied),
		('ring_used_bytes', q.ring_used), ('ring_size_bytes', q.ring_size),
		('ring_peak_bytes', q.ring_peak), ('journal_bytes', q.journal_bytes),
		('oldest_item_age_seconds', CASE WHEN q.items_pending IS NOT NULL THEN
			GREATEST(EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) LEAST(q.oldest_at, q.parked_since)), 0) END),
		('parked_age_seconds', CASE WHEN q.items_parked IS NOT NULL THEN
			GREATEST(EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) q.parked_since), 0) END),
		('at_risk_seconds', CASE WHEN q.ring_size IS NOT NULL THEN
			GREATEST(EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) q.at_risk_since), 0) END)) AS m (name, value)
	UNION ALL
	SELECT 'health_severity', r.code, CASE r.severity WHEN 'unhealthy' THEN 2 ELSE 1 END
	FROM reasons AS r
	UNION ALL
	SELECT m.name, NULL, m.value
	FROM (SELECT s.stopped_at, s.seconds, s.forced
		  FROM persist_pipeline_internal.persist_shutdowns AS s
		  ORDER BY s.stopped_at DESC LIMIT 1) AS s
	CROSS JOIN LATERAL (VALUES
		('last_shutdown_forced', s.forced::integer),
		('last_shutdown_duration_seconds', s.seconds),
		('last_shutdown_timestamp_seconds', EXTRACT(epoch FROM s.stopped_at))) AS m (name, value)
	UNION ALL
	SELECT m.name, NULL, m.value
	FROM (VALUES
		('standby', pg_catalog.pg_is_in_recovery()::integer),
		('health', (SELECT COALESCE(pg_catalog.max(CASE r.severity WHEN 'unhealthy' THEN 2 ELSE 1 END), 0) FROM reasons AS r)),
		('targets', COALESCE((SELECT pg_catalog.max(t.n) FROM targets AS t), 0)),
		('dead_letters', COALESCE((SELECT pg_catalog.sum(a.dead) FROM account AS a), 0))
		) AS m (name, value)
)
SELECT 'persist_pipeline_' OPERATOR(pg_catalog.||) d.name OPERATOR(pg_catalog.||) p.suffix AS name,
	   d.type, d.help,
	   CASE WHEN m.label IS NULL
			THEN pg_catalog.jsonb_build_object('datname', pg_catalog.current_database())
			ELSE pg_catalog.jsonb_build_object('datname', pg_catalog.current_database(),
											   COALESCE(d.label, 'le'), m.label) END AS labels,
	   m.value::double precision AS value
FROM described AS d
CROSS JOIN LATERAL (
	SELECT pg_catalog.unnest(CASE d.type WHEN 'histogram' THEN '{_bucket,_sum,_count}' ELSE '{""}' END::text[])
	) AS p (suffix)
JOIN measured AS m ON m.name OPERATOR(pg_catalog.=) (d.name OPERATOR(pg_catalog.||) p.suffix)
WHERE m.value IS NOT NULL;
COMMENT ON VIEW persist_metrics IS
'What a monitoring system collects of this database, as Prometheus has it: a row for each metric and its labels. One that is not known is left out: on a standby, or where the library isn''t preloaded, that is what shared memory counts. No item is looked at for it.';
COMMENT ON COLUMN persist_metrics.name IS
'ends in "_total" for a counter; a histogram has rows for "_bucket", which count all up to the label "le", "_sum" and "_count"';
COMMENT ON COLUMN persist_metrics.type IS
'"gauge", "counter" (grows until the server starts again, or persist_stats_reset() sets it to 0), "histogram" (of counters)';
COMMENT ON COLUMN persist_metrics.help IS 'what the metric counts or measures';
COMMENT ON COLUMN persist_metrics.labels IS
'an object of strings: "datname", and "target" (with its schema, quoted where need be), "class" (two characters of a SQLSTATE, or "other"), "reason" (a code of persist_health()), or "le" (a bound)';
COMMENT ON COLUMN persist_metrics.value IS 'seconds, bytes, items, or 1 for true; what is counted is a whole number';

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
'Internal: for CREATE EXTENSION. Gives the installation its number; takes back what default privileges have given to anybody but the owner, EXECUTE for PUBLIC included; and warns if others may create objects in the extension''s schema, or the library is not preloaded. Errors: 55000 it isn''t called by CREATE EXTENSION.';

-- Rights --------------------------------------------------------------------
-- Nobody has any by default, whatever default privileges say.  What follows is all
-- that is granted.
SELECT persist_pipeline_internal.persist_close();

-- what the worker's INSERT calls, as the enqueuer
GRANT USAGE ON SCHEMA persist_pipeline_batch TO PUBLIC;
GRANT EXECUTE ON FUNCTION persist_pipeline_batch.persist_batch(bigint, anyelement) TO PUBLIC;
GRANT EXECUTE ON FUNCTION persist_pipeline_batch.persist_batch_row() TO PUBLIC;

-- these ask for ownership themselves
GRANT EXECUTE ON FUNCTION persist_configure(regclass, text, text, text, text, text[], text[], interval, text[]) TO PUBLIC;
GRANT EXECUTE ON FUNCTION persist_unconfigure(regclass) TO PUBLIC;
GRANT EXECUTE ON FUNCTION persist_pause(regclass) TO PUBLIC;
GRANT EXECUTE ON FUNCTION persist_resume(regclass) TO PUBLIC;
GRANT EXECUTE ON FUNCTION persist_discard() TO PUBLIC;
GRANT EXECUTE ON FUNCTION persist_discard_parked(bigint[]) TO PUBLIC;
GRANT EXECUTE ON FUNCTION persist_parked_to_dead(bigint[]) TO PUBLIC;
-- these show to everybody what is his
GRANT EXECUTE ON FUNCTION persist_where(bigint) TO PUBLIC;
GRANT EXECUTE ON FUNCTION persist_pipeline_internal.persist_parked_why(oid, oid) TO PUBLIC;
GRANT SELECT ON persist_parked TO PUBLIC;
GRANT SELECT ON persist_my_dead_letters TO PUBLIC;
-- whoever may dump the database dumps it (persist_close())
GRANT SELECT ON persist_settings TO PUBLIC;

GRANT SELECT ON persist_queue TO pg_monitor;
GRANT SELECT ON persist_stats TO pg_monitor;
GRANT SELECT ON persist_shutdowns TO pg_monitor;
GRANT SELECT ON persist_pipeline_internal.persist_health_reasons TO pg_monitor;
GRANT EXECUTE ON FUNCTION persist_health() TO pg_monitor;
GRANT EXECUTE ON FUNCTION persist_pipeline_internal.persist_health_facts() TO pg_monitor;
GRANT SELECT ON persist_metrics TO pg_monitor;
GRANT EXECUTE ON FUNCTION persist_pipeline_internal.persist_queue_rows() TO pg_monitor;
GRANT EXECUTE ON FUNCTION persist_pipeline_internal.persist_waiting_rows() TO pg_monitor;
GRANT EXECUTE ON FUNCTION persist_pipeline_internal.persist_metric_rows() TO pg_monitor;
GRANT EXECUTE ON FUNCTION persist_pipeline_internal.persist_counted_rows() TO pg_monitor;
