-- The SQL surface: functions, relations, settings; signatures, comments, privileges.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE EXTENSION IF NOT EXISTS pgtap;
SELECT extnamespace::regnamespace AS schema FROM pg_extension WHERE extname = 'persist_pipeline' \gset
\t on
\pset format unaligned
BEGIN;
SELECT no_plan();

-- all that belongs to the extension, but for row types and array types: from 17 on they are members, too
CREATE TEMP VIEW member AS
SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'persist_pipeline'
	AND NOT (d.classid = 'pg_type'::regclass AND EXISTS (SELECT FROM pg_type AS t WHERE d.objid = t.typarray OR d.objid = t.oid AND t.typrelid <> 0));
CREATE TEMP VIEW member_function AS
SELECT p.* FROM member JOIN pg_proc AS p ON p.oid = objid WHERE classid = 'pg_proc'::regclass;
CREATE TEMP VIEW member_relation AS
SELECT c.* FROM member JOIN pg_class AS c ON c.oid = objid WHERE classid = 'pg_class'::regclass;

SELECT is((SELECT extversion || ', ' || CASE WHEN NOT extrelocatable THEN 'in its place' END FROM pg_extension WHERE extname = 'persist_pipeline'),
	'1.1, in its place', 'the extension');
SELECT is((SELECT string_agg(oid::regprocedure::text, ' ' ORDER BY oid::regprocedure::text COLLATE "C") FROM member_function),
	'persist_configure(regclass,text,text,text,text,text[],text[],interval,text[]) persist_discard() persist_discard(bigint[]) persist_discard_parked(bigint[]) persist_enqueue(oid,json,boolean) persist_enqueue(record) persist_enqueue(regclass,jsonb,boolean) persist_enqueue(text,json,boolean) persist_enqueue(text,text,boolean) persist_enqueue_many(regclass,jsonb) persist_enqueue_trigger() persist_flush(interval,regclass) persist_grant(regrole) persist_health() persist_parked_to_dead(bigint[]) persist_pause(regclass) '
	|| 'persist_pipeline_batch.persist_batch(bigint,anyelement) persist_pipeline_batch.persist_batch_row() persist_pipeline_internal.persist_batch_support(internal) persist_pipeline_internal.persist_close() persist_pipeline_internal.persist_counted_rows() persist_pipeline_internal.persist_health_facts() persist_pipeline_internal.persist_metric_rows() persist_pipeline_internal.persist_parked_why(oid,oid) persist_pipeline_internal.persist_pass_mark() persist_pipeline_internal.persist_queue_rows() persist_pipeline_internal.persist_refuse_write() persist_pipeline_internal.persist_restore_setting() persist_pipeline_internal.persist_selftest_row() persist_pipeline_internal.persist_target_in(cstring) persist_pipeline_internal.persist_target_out(persist_pipeline_internal.persist_target) persist_pipeline_internal.persist_target_recv(internal) persist_pipeline_internal.persist_target_send(persist_pipeline_internal.persist_target) persist_pipeline_internal.persist_waiting_rows() '
	|| 'persist_requeue(bigint,jsonb) persist_requeue(bigint,regclass,jsonb) persist_requeue(bigint[]) persist_resume(regclass) persist_revoke(regrole) persist_selftest(interval) persist_stats_reset() persist_unconfigure(regclass) persist_where(bigint)',
	'its functions');
SELECT is((SELECT string_agg(relkind::text || ' ' || relname, ', ' ORDER BY relname COLLATE "C") FROM member_relation WHERE relnamespace = :'schema'::regnamespace),
	'v persist_dead_letters, v persist_metrics, v persist_my_dead_letters, v persist_parked, v persist_queue, r persist_settings, v persist_shutdowns, v persist_stats', 'its relations, for users');
SELECT is((SELECT string_agg(relkind::text || ' ' || relname, ', ' ORDER BY relname COLLATE "C") FROM member_relation WHERE relnamespace = 'persist_pipeline_internal'::regnamespace),
	'r persist_account, r persist_copied, r persist_dead_letters, v persist_health_reasons, S persist_id_seq, r persist_journal_1, r persist_journal_2, r persist_journal_3, r persist_layouts, r persist_leases, r persist_mark, r persist_parked, r persist_selftest, r persist_shutdowns, r persist_state', 'and its own');
SELECT is_empty($$SELECT relname FROM member_relation WHERE relkind = 'r' AND relname <> 'persist_settings' AND NOT relrowsecurity$$, 'which nobody else sees a row of');
SELECT is_empty($$SELECT c.relname, e.event FROM member_relation AS c, unnest('{INSERT,UPDATE,DELETE}'::text[]) AS e (event), unnest('{1,0}'::int[]) AS l (level)
	WHERE relkind = 'r' AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND t.tgenabled = 'A' AND t.tgtype & 2 <> 0 AND (t.tgtype & 1) = l.level
		AND t.tgtype & CASE e.event WHEN 'INSERT' THEN 4 WHEN 'DELETE' THEN 8 ELSE 16 END <> 0)
	AND (c.relname, e.event) <> ('persist_settings', 'INSERT') AND (c.relname, e.event, l.level) <> ('persist_selftest', 'INSERT', 0)$$, 'nor writes one: triggers that always fire, before each statement and row');
SELECT is_empty($$SELECT c.relname FROM member_relation AS c WHERE relkind = 'r' AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND t.tgenabled = 'A' AND t.tgtype & 32 <> 0)$$, 'and before TRUNCATE');
SELECT is_empty($$SELECT pg_describe_object(classid, objid, 0) FROM member WHERE classid NOT IN ('pg_proc'::regclass, 'pg_class'::regclass) AND NOT (classid = 'pg_namespace'::regclass AND objid IN ('persist_pipeline_internal'::regnamespace, 'persist_pipeline_batch'::regnamespace))
	AND pg_describe_object(classid, objid, 0) !~ '^(type |cast from |cast from oid to |cast from regclass to )persist_pipeline_internal.persist_target( to (oid|regclass))?$'$$, 'and nothing else but those schemas, and a type for the name of a target');

-- functions
SELECT is(pg_get_function_arguments('persist_enqueue(regclass,jsonb,boolean)'::regprocedure), 'target regclass, item jsonb, transactional boolean DEFAULT true', 'arguments of persist_enqueue(regclass, jsonb, boolean)');
SELECT is(pg_get_function_arguments('persist_enqueue(text,text,boolean)'::regprocedure), 'target text, item text, transactional boolean DEFAULT true', 'arguments of persist_enqueue(text, text, boolean)');
SELECT is(pg_get_function_arguments('persist_enqueue(oid,json,boolean)'::regprocedure), 'target oid, item json, transactional boolean DEFAULT true', 'arguments of persist_enqueue(oid, json, boolean)');
SELECT is(pg_get_function_arguments('persist_enqueue(text,json,boolean)'::regprocedure), 'target text, item json, transactional boolean DEFAULT true', 'arguments of persist_enqueue(text, json, boolean)');
SELECT is(pg_get_function_arguments('persist_enqueue(record)'::regprocedure), 'item record', 'arguments of persist_enqueue(record)');
SELECT is(pg_get_function_arguments('persist_enqueue_many(regclass,jsonb)'::regprocedure), 'target regclass, items jsonb', 'arguments of persist_enqueue_many');
SELECT is(pg_get_function_arguments('persist_flush(interval,regclass)'::regprocedure), 'timeout interval DEFAULT ''@ 30 secs''::interval, target regclass DEFAULT NULL::regclass', 'arguments of persist_flush');
SELECT is(pg_get_function_arguments('persist_configure(regclass,text,text,text,text,text[],text[],interval,text[])'::regprocedure), 'target regclass, durability text DEFAULT NULL::text, bad_items text DEFAULT NULL::text, unknown_keys text DEFAULT NULL::text, on_conflict text DEFAULT NULL::text, conflict_columns text[] DEFAULT NULL::text[], add_columns text[] DEFAULT NULL::text[], flush_interval interval DEFAULT NULL::interval, capture_settings text[] DEFAULT NULL::text[]', 'arguments of persist_configure');
SELECT is(pg_get_function_arguments('persist_unconfigure(regclass)'::regprocedure), 'target regclass', 'arguments of persist_unconfigure');
SELECT function_returns(:'schema', 'persist_configure', ARRAY['regclass', 'text', 'text', 'text', 'text', 'text[]', 'text[]', 'interval', 'text[]'], 'void');
SELECT function_returns(:'schema', 'persist_unconfigure', ARRAY['regclass'], 'void');
SELECT function_returns(:'schema', 'persist_pause', ARRAY['regclass'], 'void');
SELECT function_returns(:'schema', 'persist_resume', ARRAY['regclass'], 'void');
SELECT function_returns(:'schema', 'persist_discard', ARRAY[]::text[], 'bigint');
SELECT function_returns(:'schema', 'persist_discard', ARRAY['bigint[]'], 'bigint');
SELECT function_returns(:'schema', 'persist_requeue', ARRAY['bigint[]'], 'bigint');
SELECT function_returns(:'schema', 'persist_requeue', ARRAY['bigint', 'jsonb'], 'boolean');
SELECT function_returns(:'schema', 'persist_requeue', ARRAY['bigint', 'regclass', 'jsonb'], 'boolean');
SELECT function_returns(:'schema', 'persist_discard_parked', ARRAY['bigint[]'], 'bigint');
SELECT function_returns(:'schema', 'persist_parked_to_dead', ARRAY['bigint[]'], 'bigint');
SELECT function_returns(:'schema', 'persist_where', ARRAY['bigint'], 'record');
SELECT function_returns(:'schema', 'persist_stats_reset', ARRAY[]::text[], 'void');
SELECT function_returns(:'schema', 'persist_enqueue', ARRAY['regclass', 'jsonb', 'boolean'], 'bigint');
SELECT function_returns(:'schema', 'persist_enqueue', ARRAY['text', 'text', 'boolean'], 'bigint');
SELECT function_returns(:'schema', 'persist_enqueue', ARRAY['oid', 'json', 'boolean'], 'bigint');
SELECT function_returns(:'schema', 'persist_enqueue', ARRAY['text', 'json', 'boolean'], 'bigint');
SELECT function_returns(:'schema', 'persist_enqueue', ARRAY['record'], 'bigint');
SELECT function_returns(:'schema', 'persist_enqueue_many', ARRAY['regclass', 'jsonb'], 'bigint[]');
SELECT function_returns(:'schema', 'persist_flush', ARRAY['interval', 'regclass'], 'boolean');
SELECT function_returns('persist_pipeline_batch', 'persist_batch', ARRAY['bigint', 'anyelement'], 'setof anyelement');
SELECT is(pg_get_function_arguments('persist_selftest'::regproc), 'timeout interval DEFAULT ''@ 10 secs''::interval, OUT step text, OUT ms double precision, OUT ok boolean, OUT detail text', 'arguments of persist_selftest');
SELECT function_returns(:'schema', 'persist_selftest', ARRAY['interval'], 'setof record');
SELECT function_returns(:'schema', 'persist_grant', ARRAY['regrole'], 'void');
SELECT function_returns(:'schema', 'persist_revoke', ARRAY['regrole'], 'void');
SELECT is(p.prolang, (SELECT oid FROM pg_language WHERE lanname = 'c'), p.oid::regprocedure || ' is C') FROM member_function AS p WHERE p.proname !~ '^persist_(health|target_(out|recv|send))$' ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT is(p.provolatile::text, 'v', p.oid::regprocedure || ' is volatile') FROM member_function AS p WHERE p.proname !~ '^persist_target_' ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT ok(NOT p.prosecdef, p.oid::regprocedure || ' runs as its caller') FROM member_function AS p ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT is(p.proparallel::text, CASE WHEN p.proname IN ('persist_queue_rows', 'persist_waiting_rows', 'persist_health', 'persist_health_facts', 'persist_metric_rows', 'persist_counted_rows') THEN 'r' ELSE 'u' END, p.oid::regprocedure || ': where a parallel plan may call it') FROM member_function AS p WHERE p.proname !~ '^persist_target_' ORDER BY p.oid::regprocedure::text COLLATE "C";
SELECT ok(NOT p.proisstrict, p.oid::regprocedure || ' sees its NULL arguments') FROM member_function AS p WHERE p.pronargs > 0 AND p.proname !~ '^persist_target_' ORDER BY p.oid::regprocedure::text COLLATE "C";

-- columns
SELECT is((SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'persist_queue'::regclass AND attnum > 0),
	'datid oid, datname name, worker_pid integer, worker_state text, ring_used bigint, ring_size bigint, ring_peak bigint, ring_closed boolean, items_pending bigint, items_parked bigint, items_persisted bigint, items_failed bigint, batches bigint, diverted boolean, journal_bytes bigint, rate double precision, time_left interval, at_risk_since timestamp with time zone, items_copied bigint, retrier_pid integer, retrier_state text, retrier_target oid, retrier_since timestamp with time zone, stuck_pids integer[], state_since timestamp with time zone, oldest_at timestamp with time zone, parked_since timestamp with time zone, diverted_since timestamp with time zone, last_error text, last_error_at timestamp with time zone, worker_failures bigint, worker_failed_at timestamp with time zone[]',
	'columns of persist_queue');
SELECT is((SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'persist_shutdowns'::regclass AND attnum > 0),
	'stopped_at timestamp with time zone, seconds double precision, drained bigint, journalled bigint, forced boolean',
	'columns of persist_shutdowns');
SELECT is((SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'persist_metrics'::regclass AND attnum > 0),
	'name text, type text, help text, labels jsonb, value double precision',
	'columns of persist_metrics');

-- comments
SELECT ok(obj_description(oid, 'pg_extension') IS NOT NULL, 'the extension has a comment') FROM pg_extension WHERE extname = 'persist_pipeline';
SELECT is_empty($$SELECT pg_describe_object(classid, objid, 0) FROM member WHERE obj_description(objid, classid::regclass::name) IS NULL$$, 'every object has a comment');
SELECT is_empty($$SELECT attname FROM pg_attribute WHERE attrelid = 'persist_queue'::regclass AND attnum > 0 AND attname NOT IN ('datid', 'datname') AND col_description(attrelid, attnum) IS NULL$$,
	'and the columns of persist_queue');
SELECT is((SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'persist_stats'::regclass AND attnum > 0),
	'target oid, target_name text, enqueued bigint, persisted bigint, skipped bigint, dead bigint, discarded bigint, lost bigint, pending bigint, parked bigint, parked_reason text, batches bigint, errors bigint, last_error text, last_error_at timestamp with time zone, last_persisted_at timestamp with time zone, parked_since timestamp with time zone, parked_message text, last_dead_at timestamp with time zone, unknown_keys bigint',
	'columns of persist_stats');
SELECT is((SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'persist_dead_letters'::regclass AND attnum > 0),
	'id bigint, target oid, target_name text, role oid, role_name name, item jsonb, sqlstate text, message text, detail text, constraint_name text, context text, enqueued_at timestamp with time zone, failed_at timestamp with time zone, attempts integer, pos bigint, part integer, data bytea, depth integer, left_out boolean',
	'columns of persist_dead_letters');
SELECT is_empty($$SELECT attname FROM pg_attribute WHERE attrelid = 'persist_my_dead_letters'::regclass AND attnum > 0 AND attname NOT IN ('message', 'detail', 'constraint_name', 'context') AND col_description(attrelid, attnum) IS NULL$$,
	'the columns of persist_my_dead_letters');
SELECT is_empty($$SELECT attname FROM pg_attribute WHERE attrelid = 'persist_parked'::regclass AND attnum > 0 AND col_description(attrelid, attnum) IS NULL$$,
	'those of persist_parked');
SELECT is((SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'persist_parked'::regclass AND attnum > 0),
	'target oid, role oid, pos bigint, part integer, parked_at timestamp with time zone, misfit_since timestamp with time zone, alone boolean, id bigint, target_name text, role_name name, sqlstate text, message text, tries integer, next_try timestamp with time zone',
	'columns of persist_parked');
SELECT is_empty($$SELECT attname FROM pg_attribute WHERE attrelid = 'persist_shutdowns'::regclass AND attnum > 0 AND attname <> 'stopped_at' AND col_description(attrelid, attnum) IS NULL$$,
	'and those of persist_shutdowns');
SELECT is_empty($$SELECT attname FROM pg_attribute WHERE attrelid = 'persist_metrics'::regclass AND attnum > 0 AND col_description(attrelid, attnum) IS NULL$$,
	'and those of persist_metrics');
SELECT is_empty($$SELECT oid::regprocedure FROM member_function WHERE proname IN ('persist_enqueue', 'persist_enqueue_many', 'persist_enqueue_trigger', 'persist_flush', 'persist_configure', 'persist_unconfigure', 'persist_pause', 'persist_resume', 'persist_discard', 'persist_discard_parked', 'persist_where', 'persist_requeue', 'persist_grant', 'persist_revoke', 'persist_selftest') AND obj_description(oid, 'pg_proc') !~ 'Errors'$$,
	'what users call says what errors it raises');

-- privileges
CREATE ROLE pp_surface;
SELECT is((SELECT string_agg(oid::regprocedure::text, ' ' ORDER BY oid::regprocedure::text COLLATE "C") FROM member_function WHERE has_function_privilege('pp_surface', oid, 'EXECUTE')),
	'persist_configure(regclass,text,text,text,text,text[],text[],interval,text[]) persist_discard() persist_discard_parked(bigint[]) persist_parked_to_dead(bigint[]) persist_pause(regclass) persist_pipeline_batch.persist_batch(bigint,anyelement) persist_pipeline_batch.persist_batch_row() persist_pipeline_internal.persist_parked_why(oid,oid) persist_resume(regclass) persist_unconfigure(regclass) persist_where(bigint)', 'PUBLIC may execute what asks for ownership, and persist_batch()');
SELECT is_empty($$SELECT relname, privilege FROM member_relation, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS privilege
	WHERE relkind <> 'S' AND has_table_privilege('pp_surface', oid, privilege) AND (relname, privilege) NOT IN (('persist_settings', 'SELECT'), ('persist_my_dead_letters', 'SELECT'), ('persist_parked', 'SELECT'))$$, 'PUBLIC may do nothing with a relation, but for pg_dump, or see what is his');
SELECT is_empty($$SELECT relname FROM member_relation WHERE relkind = 'v' AND has_table_privilege('pp_surface', oid, 'SELECT') AND NOT coalesce(reloptions @> '{security_barrier=true}', false)$$, 'and no function of his sees a row before it is chosen');
SELECT is_empty($$SELECT relname, privilege FROM member_relation, unnest(ARRAY['SELECT', 'USAGE', 'UPDATE']) AS privilege
	WHERE relkind = 'S' AND has_sequence_privilege('pp_surface', oid, privilege)$$, 'nor with a sequence');
SELECT table_privs_are(:'schema', 'persist_queue', 'pg_monitor', ARRAY['SELECT'], 'pg_monitor may read persist_queue');
SELECT table_privs_are(:'schema', 'persist_stats', 'pg_monitor', ARRAY['SELECT'], 'and persist_stats');
SELECT table_privs_are(:'schema', 'persist_shutdowns', 'pg_monitor', ARRAY['SELECT'], 'and persist_shutdowns');
SELECT table_privs_are(:'schema', 'persist_metrics', 'pg_monitor', ARRAY['SELECT'], 'and persist_metrics');
SELECT is((SELECT string_agg(oid::regprocedure::text, ' ' ORDER BY oid::regprocedure::text COLLATE "C") FROM member_function WHERE has_function_privilege('pg_monitor', oid, 'EXECUTE')),
	'persist_configure(regclass,text,text,text,text,text[],text[],interval,text[]) persist_discard() persist_discard_parked(bigint[]) persist_health() persist_parked_to_dead(bigint[]) persist_pause(regclass) persist_pipeline_batch.persist_batch(bigint,anyelement) persist_pipeline_batch.persist_batch_row() persist_pipeline_internal.persist_counted_rows() persist_pipeline_internal.persist_health_facts() persist_pipeline_internal.persist_metric_rows() persist_pipeline_internal.persist_parked_why(oid,oid) persist_pipeline_internal.persist_queue_rows() persist_pipeline_internal.persist_waiting_rows() persist_resume(regclass) persist_unconfigure(regclass) persist_where(bigint)', 'and execute what that needs');
SELECT table_privs_are(:'schema', 'persist_settings', 'pg_monitor', ARRAY['SELECT'], 'and read persist_settings');

-- settings
SELECT is((SELECT string_agg(concat_ws(' ', substr(name, 18), context, vartype, boot_val, unit, min_val), ', ' ORDER BY name COLLATE "C") FROM pg_settings WHERE name LIKE 'persist\_pipeline.%'),
	'adaptive_flush sighup bool on, batch_size sighup integer 10000 1, dead_letter_limit sighup integer 100000 0, dead_letter_retention sighup integer 0 min 0, flush_interval sighup integer 100 ms 0, health_dead_letter_window user integer 900000 ms 0, health_degraded_age user integer 30000 ms 0, health_degraded_fill user integer 80 0, health_failure_window user integer 300000 ms 0, health_stall_time user integer 60000 ms 0, health_unhealthy_age user integer 300000 ms 0, health_unhealthy_fill user integer 95 0, journal_limit sighup integer 1048576 kB 64, journal_retention sighup integer 600000 ms 0, lock_timeout sighup integer 1000 ms 0, max_databases postmaster integer 4 1, max_depth sighup integer 16 -1, max_workers postmaster integer 2 1, misfit_timeout sighup integer 60000 ms 0, mode superuser enum async, '
	|| 'parked_limit sighup integer 262144 kB 1, ring_size postmaster integer 8192 kB 64, ring_window sighup integer 600 ms 0, role_quota sighup integer 50 1, shutdown_timeout sighup integer 5000 ms 0, start_paused sighup bool off, stateless_libraries sighup string plpgsql, auto_explain, btree_gin, btree_gist, citext, cube, dict_int, dict_snowball, dict_xsyn, earthdistance, file_fdw, fuzzystrmatch, hstore, intarray, llvmjit, lo, ltree, moddatetime, pg_stat_statements, pg_trgm, pgcrypto, seg, tablefunc, unaccent, uuid-ossp, vector, statement_timeout sighup integer 30000 ms 0, transaction_buffer sighup integer 4096 kB 64, worker_idle_timeout sighup integer 60000 ms 0',
	'settings: who may change them, type, default, unit, minimum');
SELECT is_empty($$SELECT name FROM pg_settings WHERE name LIKE 'persist\_pipeline.%' AND COALESCE(short_desc, '') = ''$$, 'each with a description');
SELECT * FROM finish();
ROLLBACK;
DROP EXTENSION pgtap;
