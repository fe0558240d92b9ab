
# From each older version of the SQL to the newest: the library serves the old one; its update
# takes a moment, also under load; what waits in each state is written once, or kept; what users
# have granted and configured stays; and then all is as CREATE EXTENSION would have made it.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;
use Waiting;

my $update = 'ALTER EXTENSION persist_pipeline UPDATE';
my $version_sql = "SELECT extversion FROM pg_extension WHERE extname = 'persist_pipeline'";

# Grants in an order of their own, as text.
sub acl_sql
{
	my ($acl, $kind, $owner) = @_;

	return qq{(SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C") FROM unnest(COALESCE($acl, acldefault('$kind', $owner))) AS a)};
}

# All that a catalog says of the extension and its members, a line for each of them, column,
# constraint, index and trigger, but for numbers that no two databases have alike.  Of what an object
# had been granted at first, which pg_dump leaves out, not the owner's rights: no such row says as much.
my $members_sql = qq{
	WITH member AS (
		SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
		WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'persist_pipeline'
	), relation AS (SELECT c.* FROM member JOIN pg_class AS c ON c.oid = objid WHERE classid = 'pg_class'::regclass)
	SELECT format('extension %s in %s of %s, relocatable %s: %s', extversion, extnamespace::regnamespace, extowner::regrole, extrelocatable, obj_description(oid)) AS line
	FROM pg_extension WHERE extname = 'persist_pipeline'
	UNION ALL
	SELECT format('dump of %s: %s', c.config::regclass, c.condition)
	FROM pg_extension, unnest(extconfig, extcondition) AS c (config, condition) WHERE extname = 'persist_pipeline'
	UNION ALL
	SELECT format('%s: %s, at first %s', pg_describe_object(classid, objid, 0), obj_description(objid, classid::regclass::name),
		(SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C") FROM pg_init_privs AS i, unnest(i.initprivs) AS a WHERE i.classoid = classid AND i.objoid = objid AND i.objsubid = 0 AND a::text NOT LIKE session_user || '=%'))
	FROM member
	UNION ALL
	SELECT format('%s of %s: %s', pg_get_functiondef(p.oid), proowner::regrole, @{[ acl_sql('proacl', 'f', 'proowner') ]})
	FROM member JOIN pg_proc AS p ON p.oid = objid WHERE classid = 'pg_proc'::regclass
	UNION ALL
	SELECT format('schema %s of %s: %s', nspname, nspowner::regrole, @{[ acl_sql('nspacl', 'n', 'nspowner') ]})
	FROM member JOIN pg_namespace AS n ON n.oid = objid WHERE classid = 'pg_namespace'::regclass
	UNION ALL
	SELECT format('relation %s (%s) of %s, %s %s %s %s %s: %s; %s', c.oid::regclass, relkind, relowner::regrole, relpersistence, relreplident, relrowsecurity, relforcerowsecurity, reloptions,
		@{[ acl_sql('relacl', 'r', 'relowner') ]}, CASE relkind WHEN 'v' THEN pg_get_viewdef(c.oid) END)
	FROM relation AS c
	UNION ALL
	SELECT format('column %s.%s, number %s, %s, %s %s %s %s default %s: %s; %s', c.oid::regclass, attname, attnum, format_type(atttypid, atttypmod), attnotnull, attstorage, attcompression, attcollation,
		pg_get_expr(adbin, adrelid), attacl, col_description(c.oid, attnum))
	FROM relation AS c JOIN pg_attribute AS a ON attrelid = c.oid AND attnum > 0 LEFT JOIN pg_attrdef AS d ON adrelid = c.oid AND adnum = attnum
	UNION ALL
	SELECT format('constraint %s of %s: %s %s', conname, c.oid::regclass, pg_get_constraintdef(o.oid), convalidated)
	FROM relation AS c JOIN pg_constraint AS o ON conrelid = c.oid
	UNION ALL
	SELECT format('index of %s: %s', c.oid::regclass, pg_get_indexdef(indexrelid))
	FROM relation AS c JOIN pg_index AS i ON indrelid = c.oid
	UNION ALL
	SELECT format('trigger of %s: %s %s', c.oid::regclass, pg_get_triggerdef(t.oid), tgenabled)
	FROM relation AS c JOIN pg_trigger AS t ON tgrelid = c.oid
};

my $node = pp_node('schema');
my $dbh = connect_to($node);
my $newest = one_value($dbh, $version_sql);
my @versions = @{ $dbh->selectcol_arrayref("SELECT version FROM pg_available_extension_versions WHERE name = 'persist_pipeline' AND version <> ?", undef, $newest) };

ok(@versions > 0, "there are versions before $newest: @versions");

# A session in a database of its own, with these commands.
sub new_session
{
	my ($name, @commands) = @_;

	create_database($dbh, $name, 'template1');
	my $session = connect_to($node, $name);
	$session->do($_) foreach 'SET client_min_messages = error', @commands;
	return $session;
}

# What it says, and the database goes.
sub say_and_drop
{
	my ($session, $say) = @_;
	my ($name, $said) = (one_value($session, 'SELECT current_database()'), $say->($session));

	$session->disconnect;
	$dbh->do("DROP DATABASE $name");
	return $said;
}

# A session in a database into which the one of this session was dumped.
sub dump_and_restore
{
	my ($session, $what) = @_;
	my $name = one_value($session, 'SELECT current_database()');
	my $file = $node->basedir . "/$name";
	my $restored = new_session("${name}_restored");

	$node->command_ok([ 'pg_dump', '-f', $file, $node->connstr($name) ], "$what: dumped");
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $file, $node->connstr("${name}_restored") ], "$what: restored without an error");
	unlink $file;
	is(one_value($restored, $version_sql), $newest, "$what: it is the newest version");
	return $restored;
}

# ---- as CREATE EXTENSION would have made it

my $members = sub { [ sort @{ $_[0]->selectcol_arrayref($members_sql) } ] };
my $fresh = say_and_drop(new_session('fresh', 'CREATE EXTENSION persist_pipeline'), $members);

# Where another superuser has done it, whose default privileges are generous.
my @another = ('SET ROLE another', map { "ALTER DEFAULT PRIVILEGES GRANT ALL ON $_ TO one, PUBLIC" } qw(FUNCTIONS TABLES));

$dbh->do("CREATE ROLE $_") foreach 'one', 'another SUPERUSER';
ok(@$fresh > 300, 'there is much to compare');
foreach my $version (@versions)
{
	my $create = "CREATE EXTENSION persist_pipeline VERSION '$version'";

	is_deeply(say_and_drop(new_session('old', $create, $update), $members), $fresh, "$version: after the update all is as if created");
	is_deeply(say_and_drop(new_session('old', $create, @another, $update), $members), $fresh, "$version: also by another superuser");
	is_deeply(say_and_drop(new_session('old', 'BEGIN', $create, 'SAVEPOINT s', @another, $update, 'RELEASE s', 'COMMIT'), $members), $fresh, "$version: and in the same transaction");
}

# ---- what users have granted, and made of it

my $grants_sql = q{
	SELECT string_agg(g, ', ' ORDER BY g COLLATE "C") FROM (
		SELECT concat_ws(' ', p.oid::regprocedure, a.privilege_type, a.is_grantable) FROM pg_proc AS p, aclexplode(proacl) AS a WHERE proname ~ '^persist_' AND grantee = 'one'::regrole
		UNION ALL
		SELECT concat_ws(' ', c.oid::regclass, a.privilege_type, a.is_grantable) FROM pg_class AS c, aclexplode(relacl) AS a WHERE relname ~ '^persist_' AND grantee = 'one'::regrole
		UNION ALL
		SELECT concat_ws(' ', attrelid::regclass, attname, a.privilege_type, a.is_grantable) FROM pg_attribute, aclexplode(attacl) AS a WHERE grantee = 'one'::regrole) AS g (g)};
my @grants = (
	"SELECT persist_grant('one')",
	'GRANT SELECT ON persist_queue TO one WITH GRANT OPTION',
	'GRANT SELECT (target) ON persist_stats TO one',
	'GRANT EXECUTE ON FUNCTION persist_pipeline_internal.persist_queue_rows(), persist_pipeline_internal.persist_waiting_rows() TO one WITH GRANT OPTION',
	'REVOKE EXECUTE ON FUNCTION persist_unconfigure(regclass) FROM PUBLIC',
	'CREATE VIEW of_users AS SELECT q.worker_state, s.target_name, p.parked_at FROM persist_queue AS q, persist_stats AS s, persist_parked AS p');

foreach my $version (@versions)
{
	foreach my $when ('before', 'in its transaction')
	{
		my $what = "$version, granted $when";
		my $session = new_session('granted', $when eq 'before' ? 'SELECT' : 'BEGIN', "CREATE EXTENSION persist_pipeline VERSION '$version'", @grants);
		my $before = one_value($session, $grants_sql);

		like($before, qr/persist_enqueue_many\S+ EXECUTE f.*persist_queue_rows\S+ EXECUTE t.*persist_waiting_rows\S+ EXECUTE t.*persist_queue SELECT t.*persist_stats target SELECT f/, "$what: it is");
		is(try_sql($session, $update), '00000', "$what: updated");
		$session->do('COMMIT') if $when ne 'before';
		is(one_value($session, $grants_sql), $before, "$what: it still is");
		is(one_value($session, q{SELECT has_function_privilege('one', 'persist_unconfigure(regclass)', 'EXECUTE')}), 0, "$what: and what was revoked is not");
		is(try_sql($session, 'SELECT FROM of_users'), '00000', "$what: views of users are there");
		my $restored = dump_and_restore($session, $what);
		is(say_and_drop($restored, sub { one_value($_[0], $grants_sql) }), $before, "$what: it is, where a dump was restored");
		say_and_drop($session, sub { });
	}

	# of a function that another one takes the place of, as one would have it after all
	my $session = new_session(
		'revoked', "CREATE EXTENSION persist_pipeline VERSION '$version'",
		'REVOKE EXECUTE ON FUNCTION persist_configure FROM PUBLIC',
		'GRANT EXECUTE ON FUNCTION persist_configure TO one',
		$update);
	my $who_sql = q{SELECT string_agg(grantee::regrole::text, ' ' ORDER BY grantee::regrole::text) FROM pg_proc, aclexplode(proacl) WHERE proname = 'persist_configure'};
	is(one_value($session, $who_sql), 'one postgres', "$version: PUBLIC may do no more than before");
	is(say_and_drop(dump_and_restore($session, "$version, revoked"), sub { one_value($_[0], $who_sql) }), 'one postgres', "$version, revoked: nor where a dump was restored");
	say_and_drop($session, sub { });

	# what has been made of a function that goes is in the way, and is named
	$session = new_session(
		'in_the_way', "CREATE EXTENSION persist_pipeline VERSION '$version'",
		'CREATE TABLE t (n int)',
		'CREATE VIEW of_rows AS SELECT * FROM persist_pipeline_internal.persist_queue_rows()',
		"CREATE FUNCTION configures() RETURNS void BEGIN ATOMIC SELECT persist_configure('t', 'ring'); END");
	foreach my $what ('function configures()', 'view of_rows')
	{
		is(try_sql($session, $update), '2BP01', "$version: the $what is in the way");
		like($session->errstr, qr/^DETAIL:  \Q$what\E depends on /m, "$version: as the error says");
		$session->do("DROP $what");
	}
	is(try_sql($session, $update), '00000', "$version: they are no more");
	say_and_drop($session, sub { });

	# a dump of the old version
	$session = new_session(
		'dumped', "CREATE EXTENSION persist_pipeline VERSION '$version'",
		"SELECT persist_grant('one')",
		'CREATE TABLE t (n int)', "SELECT persist_configure('t', 'journal', 'dead')",
		'CREATE TABLE p (n int)', "SELECT persist_pause('p')");
	my $before = one_value($session, $grants_sql);
	my $restored = dump_and_restore($session, "$version, a dump of it");
	is(one_value($restored, "SELECT string_agg(concat_ws(' ', target, durability, bad_items, paused, unknown_keys, on_conflict), ', ' ORDER BY target::text) FROM persist_settings"),
		'p auto error t error error, t journal dead f error error', "$version, a dump of it: the settings are there");
	is(say_and_drop($restored, sub { one_value($_[0], $grants_sql) }), $before, "$version, a dump of it: and what was granted");
	say_and_drop($session, sub { });
}

# where the library isn't preloaded
$dbh->disconnect;
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$dbh = connect_to($node);
is_deeply(say_and_drop(new_session('old', "CREATE EXTENSION persist_pipeline VERSION '$_'", $update), $members), $fresh, "$_: also where the library isn't preloaded")
  foreach @versions;
$dbh->disconnect;
$node->stop;

# The library serves the SQL of version 1.0: each function, in each of its forms, and each view.
sub exercise_1_0
{
	my ($dbh) = @_;
	my $ids = sub { one_value($dbh, "SELECT array_agg(id ORDER BY id) FROM persist_dead_letters WHERE target = 'old'::regclass") };

	$dbh->do('CREATE TABLE old (n int PRIMARY KEY CHECK (n > 0), s text)');
	is(try_sql($dbh, $_), '00000', "1.0: $_")
	  foreach q{SELECT persist_enqueue('old', '{"n": 1}'::jsonb)}, q{SELECT persist_enqueue('old'::text, '{"n": 2}'::text, false)},
	  q{SELECT persist_enqueue('old'::regclass, '{"n": 3}'::json)}, q{SELECT persist_enqueue('old'::text, '{"n": 4}'::json)}, q{SELECT persist_enqueue(ROW(5, 'x')::old)},
	  q{SELECT persist_enqueue_many('old', '[{"n": 6}, {"n": 7}]')}, q{SELECT persist_configure('old', 'journal', 'dead')}, q{SELECT persist_enqueue('old', '{"m": 1}')},
	  q{SELECT persist_configure('old', bad_items => 'error')}, q{SELECT persist_enqueue('old', '{"n": -1}') FROM generate_series(1, 3)};
	is(one_value($dbh, q{SELECT persist_flush(target => 'old')}), 1, '1.0: flushed');
	is(one_value($dbh, q{SELECT string_agg(n::text, ' ' ORDER BY n) FROM old}), '1 2 3 4 5 6 7', '1.0: all of it lands');
	is(one_value($dbh, q{SELECT concat_ws(' ', durability, bad_items, paused) FROM persist_settings}), 'journal error f', '1.0: settings');
	is(try_sql($dbh, q{SELECT persist_enqueue('old', '{"m": 1}')}), '42703', '1.0: and they hold');

	# what was dead lands, waits for the target, or goes
	my ($bad, @dead) = @{ $ids->() };
	is(one_value($dbh, 'SELECT persist_requeue(?, ?)', $bad, '{"n": 8}'), 1, '1.0: a letter is sent again');
	is(one_value($dbh, 'SELECT persist_requeue(?, ?::regclass, ?)', shift @dead, 'old', '{"n": 9}'), 1, '1.0: and one to a target');
	is(one_value($dbh, 'SELECT persist_requeue(?::bigint[])', [ $dead[0] ]), 1, '1.0: and one as it is');
	is(try_sql($dbh, q{SELECT persist_pause('old')}), '00000', '1.0: a target is paused');
	is(one_value($dbh, 'SELECT persist_flush()'), 0, '1.0: whose items are parked');
	is(one_value($dbh, 'SELECT count(*) FROM persist_parked'), 3, '1.0: as the view says');
	is(try_sql($dbh, q{SELECT persist_resume('old')}), '00000', '1.0: and resumed');
	is(one_value($dbh, 'SELECT persist_flush()'), 1, '1.0: so that they land');
	is(one_value($dbh, q{SELECT string_agg(n::text, ' ' ORDER BY n) FROM old WHERE n > 7}), '8 9', '1.0: those that can');
	is(one_value($dbh, 'SELECT persist_discard(?::bigint[])', $ids->()), 2, '1.0: and letters are discarded');
	is(try_sql($dbh, $_), '00000', "1.0: $_")
	  foreach q{SELECT persist_pause()}, q{SELECT persist_resume()}, q{SELECT persist_discard()}, q{SELECT persist_unconfigure('old')},
	  q{SET persist_pipeline.mode = direct}, q{SELECT persist_enqueue('old', '{"n": 10}')}, q{RESET persist_pipeline.mode};
	like(one_value($dbh, "SELECT concat_ws(' ', enqueued, persisted, dead, discarded, pending, batches > 0, last_error) FROM persist_stats WHERE target = 'old'::regclass"),
		qr/^11 9 0 2 0 t 23514/, '1.0: the account');
	is(one_value($dbh, "SELECT concat_ws(' ', items_pending, items_parked, items_copied) FROM persist_queue WHERE datname = current_database()"), '0 0 0', '1.0: the queue');
	is(try_sql($dbh, 'SELECT persist_stats_reset()'), '00000', '1.0: the account begins anew');

	# what it can't do is not there
	is(try_sql($dbh, $_), '42883', "1.0: $_: there is none") foreach q{SELECT persist_configure('old', on_conflict => 'nothing')}, 'SELECT persist_health()', 'SELECT persist_where(1)';
	is(try_sql($dbh, 'SELECT FROM persist_metrics'), '42P01', '1.0: nor persist_metrics');

	$dbh->do('DROP TABLE old');
	return;
}

# ---- items that wait

# 30 kB: an item of several rows.
my $large = "repeat(md5('x'), 1000)";

# A server whose extension is of that version, which has seen a stop.
sub old_node
{
	my ($version) = @_;
	my $node = waiting_node('from_' . $version =~ s/\W/_/gr);

	$node->safe_psql('postgres', "DROP EXTENSION persist_pipeline; CREATE EXTENSION persist_pipeline VERSION '$version'; CREATE TABLE t (n int)");
	$node->safe_psql('postgres', q{SELECT persist_enqueue('t', '{"n": 1}')});
	$node->restart;
	return $node;
}

# Items that are parked alone, for a row that somebody has locked, and of a paused target: they have
# their ids then, and can be named, whatever their size.
sub parked_items
{
	my ($node, $dbh, $version) = @_;
	my $locker = connect_to($node);
	my $parked_sql = q{SELECT string_agg(p, ', ' ORDER BY p) FROM (
		SELECT concat_ws(' ', target::regclass, role::regrole, pos, parked_at, misfit_since, alone, count(*) > 1) AS p FROM persist_pipeline_internal.persist_parked GROUP BY target, role, pos, parked_at, misfit_since, alone) AS p};

	$dbh->do($_)
	  foreach 'CREATE TABLE parent (n int PRIMARY KEY)', 'INSERT INTO parent VALUES (1)', 'CREATE TABLE child (n int REFERENCES parent, s text)',
	  'CREATE TABLE large (n int, s text)', "SELECT persist_pause('large')";
	$locker->begin_work;
	$locker->do('SELECT FROM parent FOR UPDATE');
	my $child = one_value($dbh, "SELECT persist_enqueue('child', jsonb_build_object('n', 1, 's', $large))");
	my @large = @{ $dbh->selectcol_arrayref("SELECT persist_enqueue('large', jsonb_build_object('n', n, 's', $large)) FROM generate_series(1, 3) AS n") };
	is(one_value($dbh, 'SELECT persist_flush()'), 0, "$version: items are parked");
	wait_for_sql($dbh, 'SELECT count(DISTINCT pos) = 2 FROM persist_parked');
	my $parked = one_value($dbh, $parked_sql);
	like($parked, qr/^child \S+ \d+ [\d.:+ -]+ t t, (large \S+ \d+ [\d.:+ -]+ t(, |$))/, "$version: one by itself, and all of several rows");

	is(try_sql($dbh, $update), '00000', "$version: updated where items are parked");
	is(one_value($dbh, $parked_sql), $parked, "$version: they are parked as before");
	is_deeply([ rows_of($dbh, "SELECT target_name, id, message IS NOT NULL FROM persist_parked ORDER BY id") ],
		[ map { "$_ 1" } "public.child $child", map { "public.large $_" } @large ], "$version: persist_parked has their ids");
	is_deeply([ map { one_value($dbh, 'SELECT state FROM persist_where(?)', $_) } $child, @large ], [ ('parked') x 4 ], "$version: so has persist_where");
	is(one_value($dbh, 'SELECT persist_discard_parked(?::bigint[])', [ $large[0] ]), 1, "$version: one is discarded");
	is(one_value($dbh, 'SELECT persist_parked_to_dead(?::bigint[])', [ $large[1] ]), 1, "$version: one becomes a dead letter");
	$locker->rollback;
	$locker->disconnect;
	$dbh->do("SELECT persist_resume('large')");
	all_settled($dbh, "$version, parked");
	is_deeply([ rows_of($dbh, "SELECT n, s = $large FROM child UNION ALL SELECT n, s = $large FROM large") ], [ '1 1', '3 1' ], "$version: the others land");
	is(one_value($dbh, "SELECT item->>'n' FROM persist_dead_letters WHERE target_name = 'public.large'"), 2, "$version: with its values");
	discard_all($dbh);
	return;
}

# What waits in each state, when the update is undone, and done.
sub each_state
{
	my ($dbh, $version) = @_;
	my $settings_sql = "SELECT string_agg(concat_ws(' ', target, durability, bad_items, paused), ', ' ORDER BY target::text) FROM persist_settings";

	create_targets($dbh);
	items_wait($dbh, $version);
	$dbh->do("SELECT persist_configure('life.journal', 'journal', 'dead')");
	my $settings = one_value($dbh, $settings_sql);
	$dbh->begin_work;
	is(try_sql($dbh, $update), '00000', "$version: updated");
	# afterwards a worker may come, and write what waits
	is(one_value($dbh, "SELECT concat_ws(' ', $pending_sql, (SELECT count(*) FROM persist_parked), (SELECT count(*) FROM persist_dead_letters))"), '9 3 3', "$version: all of it waits in tables");
	$dbh->rollback;
	is(one_value($dbh, $version_sql), $version, "$version: which is undone");
	is(try_sql($dbh, $update), '00000', "$version: updated again");
	is(one_value($dbh, $version_sql), $newest, "$version: it is the newest version");
	is(one_value($dbh, $settings_sql), $settings, "$version: the settings are there");
	is(resume_parked($dbh), '00000', "$version: resumed");
	all_settled($dbh, $version);
	is_deeply(became($dbh), lands(), "$version: all of it lands, and letters are kept");
	is(one_value($dbh, q{SELECT count(*) FROM persist_dead_letters WHERE persist_requeue(id, jsonb_build_object('n', - (item->>'n')::int))}), 3, "$version: letters are sent again");
	all_settled($dbh, "$version, letters");
	is(one_value($dbh, 'SELECT count(*) FROM life.dead'), 3, "$version: and land");

	# what is new works on what is old
	$dbh->do("SELECT persist_configure('life.dead', on_conflict => 'nothing', unknown_keys => 'ignore')");
	is(one_value($dbh, q{SELECT persist_enqueue('life.dead', jsonb_build_object('n', min(n), 'new', 1)) > 0 FROM life.dead}), 1, "$version: a new setting");
	all_settled($dbh, "$version, a new setting");
	is(one_value($dbh, q{SELECT concat_ws(' ', persisted, skipped, unknown_keys, dead) FROM persist_stats WHERE target = 'life.dead'::regclass}), '3 1 1 0', "$version: does what it says");
	is(one_value($dbh, q{SELECT value FROM persist_metrics WHERE name = 'persist_pipeline_shutdown_seconds_count'}), one_value($dbh, 'SELECT count(*) FROM persist_shutdowns'), "$version: stops from before count");
	return;
}

foreach my $version (@versions)
{
	my $old = old_node($version);
	my $from = log_position($old);
	my $session = connect_to($old);
	my $again = sub { $session->do($_) foreach 'DROP EXTENSION persist_pipeline', "CREATE EXTENSION persist_pipeline VERSION '$version'" };

	$session->do('SET client_min_messages = error');
	exercise_1_0($session) if $version eq '1.0';
	each_state($session, $version);
	$again->();
	parked_items($old, $session, $version);

	# under load
	$again->();
	change_setting($session, 'flush_interval', '5ms');
	my @clients = start_busy_clients($old, $session);
	my $persisted = "SELECT COALESCE(sum(persisted), 0) FROM persist_stats WHERE target = 'busy'::regclass";
	wait_for_sql($session, "SELECT ($persisted) > 100");

	# somebody reads for long, as pg_dump does
	my $reader = connect_to($old);
	$reader->begin_work;
	$reader->do('SELECT FROM persist_settings');
	$session->do("SET lock_timeout = '100 ms'");
	is(try_sql($session, $update), '55P03', "$version, under load: it waits no longer than it is told to");
	is(one_value($session, $version_sql), $version, "$version, under load: and then nothing has changed");
	$session->do('RESET lock_timeout');
	$reader->rollback;
	$reader->disconnect;
	is(try_sql($session, $update), '00000', "$version, under load: updated");
	my $before = one_value($session, $persisted);
	ok(eval { wait_for_sql($session, "SELECT ($persisted) > $before + 100") }, "$version, under load: rows are written after it");
	$session->do('INSERT INTO stop DEFAULT VALUES');
	children_succeeded("$version, under load: no call has failed", @clients);
	all_settled($session, "$version, under load");
	is(one_value($session, 'SELECT count(*) - sent_1.n - sent_2.n FROM busy, sent_1, sent_2 GROUP BY sent_1.n, sent_2.n'), 0, "$version, under load: each row is there once");
	is(one_value($session, 'SELECT bool_and(ok) FROM persist_selftest()'), 1, "$version: persist_selftest() says that all is well");
	$session->disconnect;
	$old->stop;
	is_deeply([ complaints($old, $from, qr/(?:42883|42P01|42703|55P03) ERROR/, qr/23514/) ], [], "$version: a clean log");
}
done_testing();
