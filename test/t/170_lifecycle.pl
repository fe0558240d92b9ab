
# What becomes of items when their table, its schema, its owner or the role that enqueued them
# goes, and when tables are truncated or rewritten: of those that wait in the ring alone, in the
# journal, parked, and as dead letters.  doc/lifecycle.md has the table.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;
use Waiting;

my $node = waiting_node('lifecycle', 'autovacuum_naptime' => "'1s'");
my $dbh = connect_to($node);

# The tables of the extension.
my $internal = 'persist_pipeline_internal';
my @own = @{ $dbh->selectcol_arrayref("SELECT oid::regclass FROM pg_class WHERE relnamespace = '$internal'::regnamespace AND relkind = 'r' ORDER BY 1") };
cmp_ok(scalar @own, '>', 8, 'the extension has tables of its own');

sub anew
{
	discard_all($dbh);
	$dbh->do($_)
	  foreach 'DROP SCHEMA IF EXISTS life CASCADE', q{DO $$ DECLARE r name; BEGIN
		FOR r IN SELECT rolname FROM pg_roles WHERE rolname IN ('owner', 'writer', 'author') LOOP
			EXECUTE format('DROP OWNED BY %I', r);
			EXECUTE format('DROP ROLE %I', r);
		END LOOP;
	END $$};
	all_settled($dbh, 'before');
	create_targets($dbh);
	return;
}

# Items wait while these commands are run: both in the ring and in the journal all the time, which
# takes another try where the worker writes what it needn't yet.
sub run_while_items_wait
{
	my ($name, @commands) = @_;

	wait_until(
		"they wait through $name",
		sub {
			anew();
			items_wait($dbh, "$name, before");
			is(try_sql($dbh, $_), '00000', "$name: $_") foreach @commands;
			return queue_value($dbh, 'items_pending >= 6');
		});
	return;
}

sub each_target
{
	my ($command) = @_;

	return map { sprintf $command, $_, $_ } map { "life.$_" } @states;
}

# ---- the target stays, whatever happens to its files: everything lands

my %harmless = (
	'TRUNCATE' => [ each_target('TRUNCATE %s') ],
	'REINDEX' => ['REINDEX SCHEMA life'],
	'REINDEX CONCURRENTLY' => ['REINDEX SCHEMA CONCURRENTLY life'],
	'VACUUM FULL' => [ each_target('VACUUM FULL %s') ],
	'CLUSTER' => [ map { "CLUSTER life.$_ USING ${_}_pkey" } @states ],
	'SET LOGGED, UNLOGGED' => [ map { each_target("ALTER TABLE %s SET $_") } 'UNLOGGED', 'LOGGED' ],
	'REINDEX of its own' => ["REINDEX SCHEMA $internal"],
	'REINDEX CONCURRENTLY of its own' => ["REINDEX SCHEMA CONCURRENTLY $internal"],
	'VACUUM FULL of its own' => [ map { "VACUUM FULL $_" } @own ],
	'CLUSTER of its own' =>
	  [ "CLUSTER $internal.persist_parked USING persist_parked_order", "CLUSTER $internal.persist_dead_letters USING persist_dead_letters_id" ],
	'VACUUM, ANALYZE of the database' => [ 'VACUUM (FREEZE, ANALYZE)' ],
	'VACUUM FULL of the database' => ['VACUUM FULL'],
	'REINDEX of the database' => [ 'REINDEX DATABASE postgres', 'REINDEX SYSTEM postgres' ]);

foreach my $name (sort keys %harmless)
{
	if ($name =~ /of the database|of its own/)    # which may wake the worker, and then they land the sooner
	{
		anew();
		items_wait($dbh, "$name, before");
		is(try_sql($dbh, $_), '00000', "$name: $_") foreach @{ $harmless{$name} };
	}
	else
	{
		run_while_items_wait($name, @{ $harmless{$name} });
	}
	is(resume_parked($dbh), '00000', "$name: resumed");
	all_settled($dbh, $name);
	is_deeply(became($dbh), lands(), "$name: all that waited lands, and letters are kept");
	is(one_value($dbh, q{SELECT count(persist_requeue(id, jsonb_build_object('n', - (item->>'n')::int))) FROM persist_dead_letters}),
		3, "$name: letters are repaired and sent again");
	all_settled($dbh, "$name, sent again");
	is(became($dbh)->{dead}, '1 2 3', "$name: and land");
}

# ---- the target goes: what waits becomes dead letters, with its values, which can be sent elsewhere

my %target_goes = (
	'DROP TABLE' => [ each_target('DROP TABLE %s') ],
	'DROP SCHEMA' => ['DROP SCHEMA life CASCADE'],
	'DROP OWNED by its owner' => ['DROP OWNED BY owner CASCADE']);

foreach my $name (sort keys %target_goes)
{
	run_while_items_wait($name, @{ $target_goes{$name} });
	all_settled($dbh, $name);
	is_deeply(
		became($dbh),
		{ (map { $_ => join ', ', map { "42P01: $_" } 1 .. 3 } qw(ring journal parked)), dead => lands()->{dead} },
		"$name: what waited are letters with their values, and those that there were are kept");
	is(one_value($dbh, 'SELECT count(*) FROM persist_settings'), 0, "$name: nothing is paused any more");
	is(try_sql($dbh, "SELECT persist_requeue(ARRAY(SELECT id FROM persist_dead_letters WHERE sqlstate = '42P01'))"), '00000', "$name: sent again as they are");
	all_settled($dbh, "$name, sent again");
	is(one_value($dbh, "SELECT concat_ws(' ', count(*), min(attempts), max(attempts)) FROM persist_dead_letters WHERE sqlstate = '42P01'"),
		'9 2 2', "$name: in vain");

	$dbh->do('CREATE TABLE elsewhere (n int); GRANT INSERT ON elsewhere TO writer');
	is(one_value($dbh, "SELECT count(persist_requeue(id, 'elsewhere', item)) FROM persist_dead_letters"), 12, "$name: sent elsewhere");
	all_settled($dbh, "$name, sent elsewhere");
	is(one_value($dbh, "SELECT string_agg(n::text, ' ' ORDER BY n) FROM elsewhere"), '-3 -2 -1 1 1 1 2 2 2 3 3 3', "$name: and land");
	is(one_value($dbh, 'SELECT count(*) FROM persist_dead_letters'), 0, "$name: no letter is left");
	$dbh->do('DROP TABLE elsewhere');
}

# ---- its rows may not be written any more: the same, and they land once they may

my %role_goes = (
	'DROP OWNED by who enqueued' => [ '42501', 'DROP OWNED BY writer' ],
	'REVOKE' => [ '42501', each_target('REVOKE INSERT ON %s FROM writer') ],
	'DROP ROLE' => [ '42704', 'DROP OWNED BY writer', 'DROP ROLE writer' ]);

foreach my $name (sort keys %role_goes)
{
	my ($state, @commands) = @{ $role_goes{$name} };

	run_while_items_wait($name, @commands);
	is(resume_parked($dbh), '00000', "$name: resumed");
	all_settled($dbh, $name);
	is_deeply(
		became($dbh),
		{ (map { $_ => join ', ', map { "$state: $_" } 1 .. 3 } qw(ring journal parked)), dead => lands()->{dead} },
		"$name: what waited are letters with their values, and those that there were are kept");
	is(one_value($dbh, "SELECT string_agg(DISTINCT role_name, ' ') FROM persist_dead_letters"), 'writer', "$name: as their role");

	if ($state eq '42704')
	{
		is(one_value($dbh, 'SELECT persist_requeue()'), 12, "$name: sent again");
		all_settled($dbh, "$name, sent again");
		is(one_value($dbh, "SELECT string_agg(DISTINCT concat_ws(' ', sqlstate, attempts), ', ') FROM persist_dead_letters"), '42704 2', "$name: in vain");
		is(discard_all($dbh), 12, "$name: discarded");
		next;
	}
	$dbh->do("GRANT USAGE ON SCHEMA life TO writer; GRANT INSERT ON ALL TABLES IN SCHEMA life TO writer");
	is(one_value($dbh, "SELECT persist_requeue(ARRAY(SELECT id FROM persist_dead_letters WHERE sqlstate = '$state'))"), 9, "$name: with the right again they are sent again");
	all_settled($dbh, "$name, sent again");
	is_deeply(became($dbh), lands(), "$name: and land");
}

# ---- the role has another name: what waits lands, and letters are those of the old name

run_while_items_wait('RENAME', 'ALTER ROLE writer RENAME TO author');
is(resume_parked($dbh), '00000', 'RENAME: resumed');
all_settled($dbh, 'RENAME');
is_deeply(became($dbh), lands(), 'RENAME: all that waited lands, and letters are kept');
is(one_value($dbh, 'SELECT persist_requeue()'), 0, 'RENAME: they are not sent again');
is(try_sql($dbh, 'ALTER ROLE author RENAME TO writer'), '00000', 'RENAME: back');
is(one_value($dbh, 'SELECT persist_requeue()'), 3, 'RENAME: now they are');
all_settled($dbh, 'RENAME, sent again');

# ---- dropped where nobody can note what it was like, nor that it is paused no more, since the
# library isn't preloaded: what the stop before that has not written

sub restart_with
{
	my ($library) = @_;

	$dbh->disconnect;
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$library'");
	$node->restart;
	$dbh = connect_to($node);
	return;
}

anew();
items_wait($dbh, 'without the library, before');
restart_with('');
is_deeply(became($dbh), { %{ lands() }, parked => '' }, 'without the library: the stop has written what was not parked');
is(try_sql($dbh, $_), '00000', "without the library: $_") foreach each_target('DROP TABLE %s');
restart_with('persist_pipeline');
ok(eval { wait_for_sql($dbh, "SELECT count(*) = 6 FROM persist_dead_letters") }, 'without the library: what was parked are letters, by themselves');
is( one_value($dbh, q{SELECT string_agg(s, ', ' ORDER BY s) FROM (SELECT concat_ws(' ', count(*), sqlstate, item IS NULL) AS s FROM persist_dead_letters GROUP BY sqlstate, item IS NULL) AS s}),
	'3 23514 f, 3 42P01 t', 'without the library: they have no values');

# ---- while the worker writes, and clients enqueue

anew();
change_setting($dbh, 'flush_interval', '5ms');
my $from = log_position($node);
my @clients = start_busy_clients($node, $dbh);
foreach my $round (1 .. 3)
{
	foreach my $command (
		'REINDEX TABLE busy', 'REINDEX TABLE CONCURRENTLY busy', 'VACUUM FULL busy', 'CLUSTER busy USING busy_pkey',
		@{ $harmless{'REINDEX of its own'} }, @{ $harmless{'REINDEX CONCURRENTLY of its own'} },
		@{ $harmless{'VACUUM FULL of its own'} }, @{ $harmless{'CLUSTER of its own'} })
	{
		my $persisted = "SELECT COALESCE(sum(persisted), 0) FROM persist_stats WHERE target = 'busy'::regclass";
		my $before = one_value($dbh, $persisted);
		my $state = try_sql($dbh, $command);

		is($state, '00000', "under load, $round: $command") or diag($dbh->errstr);
		ok(eval { wait_for_sql($dbh, "SELECT ($persisted) > $before") }, "under load, $round: and rows are written after it");
	}
}
$dbh->do('INSERT INTO stop DEFAULT VALUES');
children_succeeded('under load: the clients have ended well', @clients);
all_settled($dbh, 'under load');
is(one_value($dbh, "SELECT string_agg(rows::text || ' ' || (rows = sent)::text, ', ' ORDER BY client)"
		  . " FROM (SELECT client, count(*) AS rows, (SELECT n FROM sent_1 WHERE client = 1 UNION ALL SELECT n FROM sent_2 WHERE client = 2) AS sent FROM busy GROUP BY client) AS s") =~ s/\d+ //gr,
	'true, true', 'under load: each row is there once');
is(one_value($dbh, 'SELECT count(*) FROM persist_dead_letters'), 0, 'under load: no letters');
is_deeply([ complaints($node, $from) ], [], 'under load: a clean log');

# ---- what is written is counted, and autovacuum comes for it: also while the worker never has nothing to do

$dbh->do('DROP TABLE stop, busy; CREATE TABLE stop ()');
$dbh->do('CREATE TABLE grows (n int) WITH (autovacuum_vacuum_insert_threshold = 1000, autovacuum_vacuum_insert_scale_factor = 0,'
	  . ' autovacuum_analyze_threshold = 1000, autovacuum_analyze_scale_factor = 0)');
$dbh->do('CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END $$');
$dbh->do('CREATE TRIGGER take_time AFTER INSERT ON grows EXECUTE FUNCTION take_time()');
@clients = in_children(
	1,
	sub {
		my $session = connect_to($node);

		until (one_value($session, 'SELECT EXISTS (SELECT FROM stop)'))
		{
			enqueue_rows($session, 'grows', 1 .. 10);
		}
	});
my $worker = wait_until('there is a worker', sub { worker_pid($node) });
ok( eval {
		wait_for_sql($dbh, "SELECT n_tup_ins > 2000 AND last_autovacuum IS NOT NULL AND last_autoanalyze IS NOT NULL FROM pg_stat_user_tables WHERE relid = 'grows'::regclass");
	},
	'pg_stat_user_tables: rows are counted, autovacuum and autoanalyze come, while more are written')
  or diag(join ' ', map { $_ // 'NULL' } $dbh->selectrow_array("SELECT n_tup_ins, last_autovacuum, last_autoanalyze FROM pg_stat_user_tables WHERE relid = 'grows'::regclass"));
is(worker_pid($node), $worker, 'pg_stat_user_tables: by one worker');
$dbh->do('DROP TRIGGER take_time ON grows');
$dbh->do('INSERT INTO stop DEFAULT VALUES');
children_succeeded('pg_stat_user_tables: the client has ended well', @clients);
all_settled($dbh, 'pg_stat_user_tables');
ok( eval { wait_for_sql($dbh, "SELECT n_tup_ins = (SELECT count(*) FROM grows) FROM pg_stat_user_tables WHERE relid = 'grows'::regclass") },
	'pg_stat_user_tables: each row is counted once');

$dbh->disconnect;
is_deeply(
	[ complaints($node, 0, qr/persist_pipeline \w+ \w+ WARNING:  (?:item|\d+ items) .*/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');
$node->stop;
done_testing();
