
# What one role's code leaves in the worker, and the next role finds there; whose
# settings hold; row layouts that change while items wait; and failures at the commit.
# bob's own session, in which he makes a plain INSERT, is the control.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Attack;
use PersistPipeline;
use Test::More;

my $node = pp_node(
	'leftovers',
	'persist_pipeline.adaptive_flush' => 'off',
	'persist_pipeline.flush_interval' => "'1h'",
	'persist_pipeline.misfit_timeout' => 0,
	restart_after_crash => 'on',
	autovacuum => 'off');
my $admin = session($node, '');
my $superuser = one_value($admin, 'SELECT current_user::text');

create_actors($node);
$admin->do('CREATE SCHEMA bobs AUTHORIZATION bob; GRANT USAGE ON SCHEMA bobs TO PUBLIC; CREATE EXTENSION dblink; CREATE EXTENSION postgres_fdw; CREATE EXTENSION pg_trgm;
	GRANT EXECUTE ON FUNCTION dblink_connect_u(text), dblink_connect_u(text, text) TO mallory;
	CREATE SEQUENCE public.shared; GRANT ALL ON SEQUENCE public.shared TO PUBLIC; CREATE SEQUENCE public.cached CACHE 100; GRANT ALL ON SEQUENCE public.cached TO PUBLIC');
my $where = 'host=' . $node->host . ' port=' . $node->port . ' dbname=postgres';

# What bob's trigger finds: the value of an expression, or the SQLSTATE of its error.
do_as($node, 'bob', q{
	CREATE TABLE bobs.looks (n int, expression text);
	CREATE TABLE bobs.look (n int, round text, found text);
	CREATE FUNCTION bobs.look() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE (SELECT 'SELECT (' || l.expression || ')::text' FROM bobs.looks AS l WHERE l.n = NEW.n) INTO NEW.found;
		RETURN NEW;
	EXCEPTION
		WHEN OTHERS THEN
			NEW.found := SQLSTATE;
			RETURN NEW;
	END $$;
	CREATE TRIGGER look BEFORE INSERT ON bobs.look FOR EACH ROW EXECUTE FUNCTION bobs.look()});

# ---- what mallory's code leaves

my $leftovers = 0;

# mallory's trigger makes a mess.  Then bob's looks: in the next batch of the worker, in
# the same one, and in a new session of his own.
sub leftover
{
	my ($name, $mess, $look, $wanted) = @_;
	my $n = ++$leftovers;

	do_as($node, 'mallory', qq{
		CREATE TABLE mallory.mess_$n (n int);
		CREATE FUNCTION mallory.mess_$n() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN $mess; RETURN NEW; END \$\$;
		CREATE TRIGGER mess BEFORE INSERT ON mallory.mess_$n FOR EACH ROW EXECUTE FUNCTION mallory.mess_$n()});
	my $bob = connect_to($node, 'postgres', user => 'bob');
	$bob->do('INSERT INTO bobs.looks VALUES (?, ?)', undef, $n, $look);
	$bob->do("INSERT INTO bobs.look VALUES ($n, 'plain')");
	foreach my $round ('next', 'same')
	{
		do_as($node, 'mallory', "SELECT persist_enqueue('mallory.mess_$n'::regclass, '{\"n\": 1}')");
		settled($node) if $round eq 'next';
		$bob->do("SELECT persist_enqueue('bobs.look'::regclass, '{\"n\": $n, \"round\": \"$round\"}')");
		settled($node);
	}
	$bob->disconnect;
	my $found = sub { return one_value($admin, 'SELECT found FROM bobs.look WHERE n = ? AND round = ?', $n, $_[0]); };

	is(one_value($admin, "SELECT count(*) FROM mallory.mess_$n"), 2, "$name: the mess was made");
	if (ref $wanted)
	{
		$wanted->("$name: $_", $found->($_)) foreach 'plain', 'next', 'same';
		return;
	}
	is($found->('plain'), $wanted, "$name: a session of one's own");
	is($found->('next'), $wanted, "$name: the worker's next batch");
	is($found->('same'), $wanted, "$name: the batch after it");
	return;
}

leftover('dblink, a named connection', "PERFORM public.dblink_connect_u('c', '$where user=mallory')",
	'public.dblink_get_connections()', undef);
leftover('dblink, the unnamed connection', "PERFORM public.dblink_connect_u('$where user=mallory')",
	q{SELECT who FROM public.dblink('SELECT current_user::text') AS d (who text)}, '08003');

# a user mapping of PUBLIC: at the other side everyone is far_user, in sessions of their own
$admin->do("CREATE ROLE far_user LOGIN; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '" . $node->host . "', port '" . $node->port . "', dbname 'postgres');
	CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'far_user', password_required 'false'); GRANT USAGE ON FOREIGN SERVER far TO PUBLIC;
	GRANT mallory, alice TO far_user");
do_as($node, 'mallory', q{
	CREATE TABLE mallory.far_t (n int);
	CREATE FUNCTION mallory.at_far() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN PERFORM set_config('app.left', 'by mallory', false); SET ROLE alice; RETURN NEW; END $$;
	CREATE TRIGGER x AFTER INSERT ON mallory.far_t FOR EACH ROW EXECUTE FUNCTION mallory.at_far();
	GRANT INSERT ON mallory.far_t TO far_user, alice; GRANT USAGE ON SCHEMA mallory TO far_user;
	CREATE FOREIGN TABLE mallory.far (n int) SERVER far OPTIONS (schema_name 'mallory', table_name 'far_t')});
do_as($node, 'bob', q{
	CREATE TABLE bobs.far_t (n int, who text DEFAULT current_user || ' ' || COALESCE(current_setting('app.left', true), 'unset'));
	GRANT SELECT, INSERT ON bobs.far_t TO PUBLIC;
	CREATE FOREIGN TABLE bobs.far (n int) SERVER far OPTIONS (schema_name 'bobs', table_name 'far_t');
	CREATE FUNCTION bobs.write_far() RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO bobs.far VALUES (1);
		RETURN NULL;
	END $$});
leftover('postgres_fdw, its connections', 'INSERT INTO mallory.far VALUES (1)', 'SELECT count(*) FROM public.postgres_fdw_get_connections()', '0');
leftover('postgres_fdw, the session at the other side', 'INSERT INTO mallory.far VALUES (1)', 'bobs.write_far()', undef);
is(one_value($admin, 'SELECT string_agg(DISTINCT who, $$, $$) FROM bobs.far_t'), 'far_user unset', 'postgres_fdw: nobody writes there as the one before');
is(one_value($admin, 'SELECT count(*) FROM bobs.far_t'), 3, 'postgres_fdw: but he writes');

my $seed = $admin->selectcol_arrayref('SELECT random()::text FROM (SELECT setseed(0.5)) AS s, generate_series(1, 1000)');
my %predicted = map { $_ => 1 } @$seed;
leftover('setseed()', 'PERFORM setseed(0.5)', 'random()', sub { my ($name, $found) = @_; ok(!$predicted{$found}, "$name: random() isn't what was foreseen"); });
leftover('lastval()', "PERFORM nextval('public.shared')", 'lastval()', '55000');
leftover('currval()', "PERFORM nextval('public.shared')", "currval('public.shared')", '55000');
leftover('a sequence\'s cache, numbers that mallory has taken', "PERFORM nextval('public.cached')", "nextval('public.cached') % 100 = 1", 'true');
leftover('a setting, its value', "PERFORM set_config('mallory.secret', 'x', false)", "NULLIF(current_setting('mallory.secret', true), '')", undef);
leftover('a setting, its name', "PERFORM set_config('mallory.name', 'x', false)", "COALESCE(current_setting('mallory.name', true), 'unset')", 'unset');
leftover('a setting, in an exception block', "BEGIN PERFORM set_config('mallory.caught', 'x', false); PERFORM 1 / 0; EXCEPTION WHEN OTHERS THEN NULL; END",
	"COALESCE(current_setting('mallory.caught', true), 'unset')", 'unset');
leftover('a setting of a library', 'PERFORM public.set_limit(0.9)', 'public.show_limit()', '0.3');
leftover('SET ROLE, refused or not', "BEGIN PERFORM set_config('role', 'mallory', false); EXCEPTION WHEN OTHERS THEN NULL; END", "current_user || ' ' || session_user", 'bob bob');
leftover('PREPARE', "EXECUTE 'PREPARE p AS SELECT 1'", 'SELECT count(*) FROM pg_catalog.pg_prepared_statements', '0');
leftover('temporary table', "EXECUTE 'CREATE TEMP TABLE left_t (a int)'", "to_regclass('pg_temp.left_t')", undef);
leftover('temporary function', "EXECUTE 'CREATE FUNCTION pg_temp.left_f() RETURNS int LANGUAGE sql AS ''SELECT 1'''", "to_regproc('pg_temp.left_f')", undef);
leftover('temporary domain', "EXECUTE 'CREATE DOMAIN pg_temp.left_d AS int'", "to_regtype('pg_temp.left_d')", undef);
leftover('temporary view, function and trigger',
	"EXECUTE 'CREATE TEMP VIEW look AS SELECT 1 AS n'; EXECUTE 'CREATE FUNCTION pg_temp.now() RETURNS text LANGUAGE sql AS ''SELECT ''''left'''''''",
	q{SELECT count(*) FROM pg_class AS c WHERE c.relnamespace = pg_my_temp_schema() AND c.relname = 'look'}, '0');
leftover('the temporary schema is nobody else\'s', "EXECUTE 'CREATE TEMP TABLE left_s (a int)'",
	q{SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE nspname LIKE 'pg\_temp\_%'}, '0');
leftover('advisory lock of the session', 'PERFORM pg_advisory_lock(4711)', "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", '0');
leftover('LISTEN', "BEGIN EXECUTE 'LISTEN mallory'; EXCEPTION WHEN OTHERS THEN NULL; END", 'SELECT count(*) FROM pg_listening_channels()', '0');
leftover('cursor WITH HOLD', "EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'", 'SELECT count(*) FROM pg_cursors WHERE is_holdable', '0');
leftover('SET CONSTRAINTS and SET TRANSACTION', "EXECUTE 'SET CONSTRAINTS ALL DEFERRED'; EXECUTE 'SET TRANSACTION READ ONLY'; EXECUTE 'SET TRANSACTION READ WRITE'; EXCEPTION WHEN OTHERS THEN NULL",
	"current_setting('transaction_read_only')", 'off');
# a function in plpgsql keeps the types that it was compiled with, found along the search path
$admin->do('CREATE DOMAIN public.label AS text');
do_as($node, 'mallory', q{CREATE DOMAIN mallory.label AS text CHECK (mallory.note('label'))});
do_as($node, 'bob', q{
	CREATE FUNCTION bobs.label() RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		l label := 'x';
	BEGIN
		RETURN (SELECT typnamespace::regnamespace FROM pg_catalog.pg_type WHERE oid = pg_typeof(l));
	END $$;
	CREATE TABLE bobs.labelled (n int);
	CREATE FUNCTION bobs.labelled() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE l label := 'x'; BEGIN RETURN NEW; END $$;
	CREATE TRIGGER x BEFORE INSERT ON bobs.labelled FOR EACH ROW EXECUTE FUNCTION bobs.labelled();
	GRANT INSERT ON bobs.labelled TO mallory});
arm($node);
leftover('the type of a variable in plpgsql', 'PERFORM bobs.label(); INSERT INTO bobs.labelled VALUES (1)', 'bobs.label()', 'public');
foreach my $role ('mallory', 'bob')
{
	do_as($node, $role, q{SELECT persist_enqueue('bobs.labelled'::regclass, '{"n": 2}')});
	settled($node);
}
is(ran_in($node, 'label'), 'mallory mallory', 'the type of a variable in plpgsql: its CHECK runs as nobody else');
is(one_value($admin, 'SELECT count(*) FROM bobs.labelled'), 4, 'the type of a variable in plpgsql: all rows land');
disarm($node);

if (one_value($admin, "SELECT count(*) FROM pg_available_extensions WHERE name = 'plperl'"))
{
	$admin->do('CREATE EXTENSION plperl');
	do_as($node, 'mallory', q{CREATE FUNCTION mallory.keep() RETURNS void LANGUAGE plperl AS $$ $_SHARED{x} = 'left'; $$});
	do_as($node, 'bob', q{CREATE FUNCTION bobs.kept() RETURNS text LANGUAGE plperl AS $$ return $_SHARED{x}; $$});
	leftover('plperl, %_SHARED', 'PERFORM mallory.keep()', 'bobs.kept()', undef);
}

# ---- settings: those of the enqueuer's role and database, as in a session of his own

do_as($node, 'mallory', q{CREATE FUNCTION public.unqualified() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.note('unqualified'); RETURN 'mallory''s'; END $$});
do_as($node, 'bob', q{CREATE FUNCTION bobs.unqualified() RETURNS text LANGUAGE sql AS $$ SELECT 'his own'::text $$;
	CREATE TABLE bobs.settings (n int, round text, value text);
	CREATE TABLE bobs.watched (setting text);
	CREATE FUNCTION bobs.watch() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(0.02);    -- longer than the statement_timeout
		INSERT INTO bobs.settings SELECT NEW.n, NEW.round, format('%s: %s', setting, current_setting(setting, true)) FROM bobs.watched;
		INSERT INTO bobs.settings VALUES (NEW.n, NEW.round, format('function: %s', unqualified()));
		RETURN NULL;
	END $$;
	CREATE TABLE bobs.watch (n int, round text);
	CREATE TRIGGER watch BEFORE INSERT ON bobs.watch FOR EACH ROW EXECUTE FUNCTION bobs.watch();
	INSERT INTO bobs.watched VALUES ('search_path'), ('app.tenant'), ('app.region'), ('app.common'), ('app.own'), ('session_authorization'), ('is_superuser'), ('role'),
		('TimeZone'), ('DateStyle'), ('work_mem'), ('bytea_output'), ('xmloption'), ('array_nulls'), ('IntervalStyle'), ('default_text_search_config'),
		('lc_numeric'), ('extra_float_digits'), ('check_function_bodies'), ('plpgsql.variable_conflict')});

my $rounds = 0;

# Whether bob's trigger sees the same in the worker as in a session of his own.
sub same_settings
{
	my ($name, %differs) = @_;
	my $n = ++$rounds;
	my $bob = connect_to($node, 'postgres', user => 'bob');

	$bob->do("SET $_") foreach 'statement_timeout = 0', 'default_transaction_read_only = off', 'lock_timeout = 0';
	my $value = sub {
		return one_value($admin, "SELECT string_agg(value, '; ' ORDER BY value) FROM bobs.settings WHERE n = ? AND round = ?", $n, $_[0]);
	};
	$bob->do("INSERT INTO bobs.watch VALUES ($n, 'plain')");
	is(try_sql($bob, "SELECT public.persist_enqueue('bobs.watch'::regclass, '{\"n\": $n, \"round\": \"batch\"}'::jsonb)"), '00000', "$name: bob enqueues");
	$bob->disconnect;
	ok(one_value($admin, "SELECT public.persist_flush('300 s')"), "$name: flushed");
	is($value->('batch'), $value->('plain'), "$name: the worker's trigger sees what bob's session sees");
	return;
}

arm($node);
same_settings('nothing set');
$admin->do("ALTER ROLE bob SET search_path = bobs, public");
same_settings('ALTER ROLE ... SET search_path');
is(one_value($admin, "SELECT value FROM bobs.settings WHERE value LIKE 'function%' AND n = $rounds AND round = 'batch'"), 'function: his own', 'a function without its schema is found along bob\'s search_path');
$admin->do("ALTER ROLE bob SET app.tenant = 'bobs'; ALTER DATABASE postgres SET app.region = 'here'; ALTER ROLE bob IN DATABASE postgres SET app.own = 'only here';
	ALTER ROLE ALL SET app.common = 'everyone'; ALTER ROLE bob SET TimeZone = 'Asia/Kathmandu'; ALTER DATABASE postgres SET DateStyle = 'SQL, DMY'; ALTER ROLE bob SET bytea_output = 'escape';
	ALTER ROLE bob SET plpgsql.variable_conflict = 'use_column'; ALTER ROLE bob SET array_nulls = off; ALTER ROLE bob SET IntervalStyle = 'iso_8601'; ALTER DATABASE postgres SET app.tenant = 'the database''s'");
same_settings('settings of the role, of the database, of both, and of all');
$admin->do("ALTER ROLE bob IN DATABASE postgres SET app.tenant = 'changed'; ALTER ROLE bob RESET TimeZone; ALTER DATABASE postgres RESET app.region; ALTER ROLE bob SET work_mem = '77MB'");
same_settings('changed, without a restart');
$admin->do("ALTER ROLE \"$superuser\" SET search_path = mallory; ALTER ROLE \"$superuser\" SET app.tenant = 'the superuser''s'; ALTER ROLE mallory SET search_path = mallory; ALTER ROLE mallory SET app.own = 'mallory''s'");
stop_worker($node);
do_as($node, 'mallory', "SELECT public.persist_enqueue('mallory.mess_$leftovers'::regclass, '{\"n\": 1}'::jsonb)");
same_settings('those of the superuser, whom the worker is, and of other roles don\'t get there');
is(ran_in($node, 'unqualified'), 'bob bob', 'only while bob had no search_path of his own did he run mallory\'s function');

# what would harm the worker
my %harmful = (
	statement_timeout => 1, lock_timeout => 1, idle_in_transaction_session_timeout => 1, default_transaction_read_only => 'on',
	default_transaction_isolation => "'serializable'", default_transaction_deferrable => 'on', synchronous_commit => "'remote_apply'", row_security => 'off',
	exit_on_error => 'on', client_min_messages => "'debug5'", session_replication_role => "'replica'", role => "'alice'", temp_file_limit => 0,
	default_tablespace => "'pg_default'", temp_tablespaces => "'nowhere'", tcp_keepalives_idle => 1, idle_session_timeout => 1, zero_damaged_pages => 'on');
$admin->do('GRANT alice TO bob; GRANT USAGE ON SCHEMA bobs TO alice; CREATE ROLE root SUPERUSER LOGIN;
	CREATE TABLE public.harmed (n int, who text DEFAULT current_user, at_commit text); GRANT INSERT ON public.harmed TO PUBLIC');
$admin->do(q{CREATE FUNCTION public.harm() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(0.02);
		NEW.at_commit := concat_ws(' ', current_user, session_user, current_setting('transaction_isolation'), current_setting('transaction_read_only'),
			current_setting('session_replication_role'), current_setting('row_security'));
		RETURN NEW;
	END $$;
	CREATE TRIGGER harm BEFORE INSERT ON public.harmed FOR EACH ROW EXECUTE FUNCTION public.harm();
	ALTER TABLE public.harmed ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON public.harmed WITH CHECK (n > 0)});
my %calls = map { $_ => connect_to($node, 'postgres', user => $_) } 'bob', 'root';
foreach my $role ('bob', 'root')
{
	foreach my $setting (sort keys %harmful)
	{
		$admin->do("ALTER ROLE $role SET $setting = $harmful{$setting}") if $setting ne 'role' || $role eq 'bob';
	}
}
foreach my $role ('bob', 'root')
{
	foreach my $n (1, -1)
	{
		is(try_sql($calls{$role}, "SELECT public.persist_enqueue('public.harmed'::regclass, '{\"n\": $n}'::jsonb)"), '00000', "harmful settings: $role enqueues $n");
	}
	$calls{$role}->disconnect;
}
ok(one_value($admin, "SELECT public.persist_flush('300 s')"), 'harmful settings: flushed');
is(one_value($admin, q{SELECT string_agg(concat_ws(' ', n, at_commit), ', ' ORDER BY at_commit, n) FROM public.harmed}),
	'1 bob bob read committed off origin on, -1 root root read committed off origin on, 1 root root read committed off origin on', 'harmful settings: none of them has an effect');
foreach my $role ('bob', 'root', "\"$superuser\"", 'mallory')
{
	$admin->do("ALTER ROLE $role RESET ALL");
}
$admin->do('ALTER DATABASE postgres RESET ALL; ALTER ROLE bob IN DATABASE postgres RESET ALL; ALTER ROLE ALL RESET ALL');
forget_sessions();
$admin = session($node, '');

# ---- row layouts that change while items wait

# Nothing but what was given gets into the table: the value, or NULL, or nothing and a letter.
sub relaid
{
	my ($name, $define, $target, $json, $meanwhile, $look, $wanted) = @_;
	my $at = log_position($node);

	do_as($node, 'mallory', $define);
	$admin->do('SELECT persist_pause()');
	do_as($node, 'mallory', "SELECT persist_enqueue('$target'::regclass, '$json')");
	my $state = eval { do_as($node, 'mallory', $meanwhile); 1 };
	$admin->do('SELECT persist_resume()');
	my $flushed = eval { settled($node) };

	ok($state, "$name: the type is changed");
	ok($flushed, "$name: flushed");
	is(scalar(log_since($node, $at, qr/terminated by signal/)), 0, "$name: nothing crashes");
	like(eval { one_value(session($node, ''), $look) } || '', $wanted, "$name: the table holds nothing else than what was given");
	return;
}

my $uuid = '01024141-4141-4141-4141-000000000000';
relaid('a column dropped, and another of its name',
	'CREATE TABLE mallory.l1 (a uuid, b int)', 'mallory.l1', qq({"a": "$uuid", "b": 1}), 'ALTER TABLE mallory.l1 DROP a; ALTER TABLE mallory.l1 ADD a text',
	"SELECT string_agg(concat_ws(' ', 'row', a, b), ', ') FROM mallory.l1", qr/^(?:|row 1|row $uuid 1)$/);
relaid('a column dropped, and another in its place',
	'CREATE TABLE mallory.l2 (a uuid, b int)', 'mallory.l2', qq({"a": "$uuid", "b": 1}), 'DROP TABLE mallory.l2; CREATE TABLE mallory.l2 (a text, b int)',
	"SELECT string_agg(concat_ws(' ', 'row', a, b), ', ') FROM mallory.l2", qr/^(?:|row 1|row $uuid 1)$/);
relaid('ALTER TYPE of a composite type that a view\'s column has',
	q{CREATE TYPE mallory.c3 AS (x uuid, y int); CREATE TABLE mallory.l3 (a text);
		CREATE FUNCTION mallory.g3() RETURNS mallory.c3 LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE VIEW mallory.v3 AS SELECT mallory.g3() AS a;
		CREATE FUNCTION mallory.f3() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO mallory.l3 VALUES (NEW.a::text); RETURN NEW; END $$;
		CREATE TRIGGER x INSTEAD OF INSERT ON mallory.v3 FOR EACH ROW EXECUTE FUNCTION mallory.f3()},
	'mallory.v3', qq({"a": {"x": "$uuid", "y": 1}}), 'ALTER TYPE mallory.c3 ALTER ATTRIBUTE x TYPE text',
	"SELECT string_agg(COALESCE(a, 'null'), ', ') FROM mallory.l3", qr/^(?:|null|\($uuid,1\))$/);
relaid('ALTER TYPE of a composite type in an array, in a domain, in another',
	q{CREATE TYPE mallory.c4 AS (x uuid, y int); CREATE TYPE mallory.d4 AS (z mallory.c4[]); CREATE TABLE mallory.l4 (a text);
		CREATE FUNCTION mallory.g4() RETURNS mallory.d4 LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE VIEW mallory.v4 AS SELECT mallory.g4() AS a;
		CREATE FUNCTION mallory.f4() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO mallory.l4 VALUES (NEW.a::text); RETURN NEW; END $$;
		CREATE TRIGGER x INSTEAD OF INSERT ON mallory.v4 FOR EACH ROW EXECUTE FUNCTION mallory.f4()},
	'mallory.v4', qq({"a": {"z": [{"x": "$uuid", "y": 1}]}}), 'ALTER TYPE mallory.c4 ALTER ATTRIBUTE x TYPE text',
	"SELECT string_agg(COALESCE(a, 'null'), ', ') FROM mallory.l4", qr/^(?:|null|\("\{""\($uuid,1\)""\}"\))$/);
relaid('an attribute dropped, and another of its name',
	q{CREATE TYPE mallory.c5 AS (x uuid, y int); CREATE TABLE mallory.l5 (a mallory.c5)},
	'mallory.l5', qq({"a": {"x": "$uuid", "y": 1}}), 'ALTER TYPE mallory.c5 DROP ATTRIBUTE x, ADD ATTRIBUTE x text',
	"SELECT string_agg(COALESCE(a::text, 'null'), ', ') FROM mallory.l5", qr/^(?:|null|\(1,\)|\(1,$uuid\))$/);

# many nested types: a plain INSERT takes milliseconds
$admin->do('CREATE TYPE mallory.n1 AS (a int, b int)');
$admin->do("CREATE TYPE mallory.n$_ AS (a mallory.n" . ($_ - 1) . ', b mallory.n' . ($_ - 1) . ')') foreach 2 .. 24;
$admin->do('CREATE TABLE mallory.nested (a int, c mallory.n24); ALTER TABLE mallory.nested OWNER TO mallory');
is_quick(seconds_of(sub { do_as($node, 'mallory', 'INSERT INTO mallory.nested VALUES (1)') }), 3, 'nested types: a plain INSERT takes no time');
is_quick(seconds_of(sub { do_as($node, 'mallory', q{SELECT persist_enqueue('mallory.nested'::regclass, '{"a": 2}')}) }), 3, 'nested types: nor does a call');
is_quick(seconds_of(sub { settled($node) }), 3, 'nested types: nor does the worker');
$admin->do('ALTER TABLE mallory.nested ADD d int');    # so that the worker has to look again
do_as($node, 'mallory', q{SELECT persist_enqueue('mallory.nested'::regclass, '{"a": 3}')});
my $waiter = connect_to($node);
start_sql($waiter, "SELECT persist_flush('300 s')");
wait_for_sql($admin, "SELECT worker_state = 'writing' OR items_pending = 0 FROM persist_queue WHERE datname = current_database()");
is_quick(seconds_of(sub { stop_worker($node) }), 3, 'nested types: the worker of such a table stops when it is told');
finish_sql($waiter);
$waiter->disconnect;
is(one_value($admin, 'SELECT bool_or(forced)::text FROM persist_shutdowns'), 'false', 'nested types: no stop was forced');
ok(settled($node), 'nested types: flushed');
is(one_value($admin, 'SELECT array_agg(a ORDER BY a)::text FROM mallory.nested'), '{1,2,3}', 'nested types: the rows are there');

# ---- a thousand items that fail at the commit

do_as($node, 'mallory', q{
	CREATE TABLE mallory.late (a int);
	CREATE FUNCTION mallory.late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'number %', NEW.a; END $$;
	CREATE CONSTRAINT TRIGGER x AFTER INSERT ON mallory.late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.late();
	CREATE TABLE mallory.later (a int);
	CREATE TABLE mallory.last (a int);
	CREATE CONSTRAINT TRIGGER x AFTER INSERT ON mallory.last DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.late();
	CREATE FUNCTION mallory.again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET CONSTRAINTS ALL DEFERRED; INSERT INTO mallory.last VALUES (NEW.a); RETURN NEW; END $$;
	CREATE CONSTRAINT TRIGGER x AFTER INSERT ON mallory.later DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.again()});
$admin->do('SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))');
foreach my $case ([ 'late', 'a deferred trigger', 1000 ], [ 'later', 'a trigger at the COMMIT itself', 1000 ])
{
	my ($table, $what, $n) = @$case;
	my $at = log_position($node);

	do_as($node, 'mallory', "SELECT persist_enqueue('mallory.$table'::regclass, jsonb_build_object('a', i)) FROM generate_series(1, $n) AS i");
	my $seconds = seconds_of(sub { ok(settled($node), "$what: flushed") });
	is(one_value($admin, "SELECT count(*) FROM persist_dead_letters WHERE target = 'mallory.$table'::regclass"), $n, "$what: $n items that fail there are letters");
	cmp_ok(scalar(log_since($node, $at, qr/persist_pipeline \w+ \w+ (?:WARNING|ERROR|FATAL)/)), '<=', 5 + $seconds, "$what: the log has a few lines for them, and one a second");
}
$node->stop('fast', fail_ok => 1);
forget_sessions();

# ---- two layouts with the same value of a 64-bit fingerprint, on a server of its own

$node = pp_node('collision', 'persist_pipeline.misfit_timeout' => "'1s'", restart_after_crash => 'on');
$admin = session($node, '');
$admin->do('CREATE TABLE t (a uuid, p1 varchar(1400268), p2 varchar(1125519), p3 varchar(1693650))');
$admin->do('SELECT persist_pause()');
$admin->do(qq(SELECT persist_enqueue('t', '{"a": "$uuid"}')));
$admin->do('ALTER TABLE t ALTER a TYPE text USING NULL, ALTER p1 TYPE varchar(108515), ALTER p2 TYPE varchar(1847401), ALTER p3 TYPE varchar(1224789)');
$admin->do('SELECT persist_resume()');
eval { settled($node) };
wait_until('the item is settled, or the server has crashed', sub {
	return log_since($node, 0, qr/terminated by signal/) || eval { one_value(session($node, ''), 'SELECT items_pending = 0 FROM persist_queue') };
});
is(scalar(log_since($node, 0, qr/terminated by signal/)), 0, 'two layouts with one fingerprint: a uuid is not read as a text');
like(eval { one_value(session($node, ''), "SELECT COALESCE(max(concat_ws(' ', 'row', a)), '') FROM t") }, qr/^(?:|row|row $uuid)$/, 'two layouts with one fingerprint: nor written as one');
forget_sessions();
$node->stop('immediate', fail_ok => 1);
done_testing();
