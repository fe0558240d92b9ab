
# Copies of a server with items that wait: a dump has none of them; recovery to a
# point in time between the call and the insert, a base backup taken under load, and
# a standby promoted under load bring each of them, once, with no call.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Torture;

my $clients = 4;
my $fast = "'20ms'";

my $primary = pp_node(
	'primary',
	init => [ has_archiving => 1, allows_streaming => 1 ],
	'persist_pipeline.adaptive_flush' => 'off',
	'persist_pipeline.flush_interval' => "'1h'",
	'persist_pipeline.batch_size' => 1000000,
	checkpoint_timeout => "'1h'");
my $everything_from = log_position($primary);
my $dir = $primary->basedir;

$primary->safe_psql(
	'postgres', q{
	CREATE TABLE t (n int, ins bigint);
	CREATE TABLE p (run text, w int, n int, PRIMARY KEY (run, w, n));
	CREATE TABLE c (run text, w int, n int, FOREIGN KEY (run, w, n) REFERENCES p);
	CREATE TABLE l (run text, w int, n int, ins bigint);
} . number_rows('t', 'l'));

sub pending_in
{
	my ($node, $database) = @_;

	return $node->safe_psql($database || 'postgres', "SELECT $pending_sql");
}

# ---- a dump, with 1,000 items that wait

$primary->safe_psql('postgres', "SELECT persist_enqueue('t', jsonb_build_object('n', i)) FROM generate_series(1, 10) AS i");
ok(flush($primary), 'flushed');
$primary->safe_psql('postgres', "SELECT persist_enqueue('t', jsonb_build_object('n', i)) FROM generate_series(11, 510) AS i");
{
	my $dbh = connect_to($primary);

	$dbh->do("SELECT persist_enqueue('t', jsonb_build_object('n', ?::int))", undef, $_) foreach 511 .. 1010;
	$dbh->disconnect;
}
is(pending_in($primary), '1000', 'dump: 1,000 items wait');

my $from = log_position($primary);
$primary->command_ok([ 'pg_dump', '-f', "$dir/dump.sql", $primary->connstr('postgres') ], 'dump: made');
$primary->safe_psql('postgres', "CREATE DATABASE restored");
$primary->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/dump.sql", $primary->connstr('restored') ],
	'dump: restored');
is(pending_in($primary), '1000', 'dump: the source still has them');
is(pending_in($primary, 'restored'), '0', 'dump: the restore has none');
is($primary->safe_psql('restored', "SELECT count(*) FROM persist_queue WHERE datname = 'restored' AND ring_size IS NOT NULL"),
	'0', 'dump: and is not at work');
is($primary->safe_psql('restored', "SELECT persist_enqueue('t', '{\"n\": 0}') > 0"), 't', 'dump: a call in the restore works');
ok(flush($primary, 'restored'), 'dump: flushed');
is($primary->safe_psql('restored', "SELECT array_agg(n ORDER BY ins) = 0 || array(SELECT generate_series(1, 10)) "
		  . "OR array_agg(n ORDER BY ins) = array(SELECT generate_series(1, 10)) || 0 FROM t"),
	't', 'dump: it has the rows that were there, and its own');
ok(flush($primary), 'dump: the source is flushed');
is($primary->safe_psql('postgres', "SELECT array_agg(n ORDER BY ins) = array(SELECT generate_series(1, 1010)) FROM t"),
	't', 'dump: and has all, each once, in order');
is_deeply([ complaints($primary, $from) ], [], 'dump: a clean log');
$primary->safe_psql('postgres', "DROP DATABASE restored");

# ---- recovery to a point in time between the call and the insert

$primary->backup('before');
$primary->safe_psql('postgres', "TRUNCATE t");
{
	my $dbh = connect_to($primary);

	$dbh->do("SELECT persist_enqueue('t', jsonb_build_object('n', ?::int))", undef, $_) foreach 1 .. 100;
	$dbh->do("SELECT persist_enqueue('t', jsonb_build_object('n', i)) FROM generate_series(101, 500) AS i");
	$dbh->disconnect;
}
is($primary->safe_psql('postgres', "SELECT count(*) FROM t"), '0', 'recovery: nothing is written');
my $last_id = $primary->safe_psql('postgres', "SELECT persist_enqueue('t', '{\"n\": 501}')");
$primary->safe_psql('postgres', "SELECT pg_create_restore_point('pending')");
$primary->safe_psql('postgres',
	"SELECT persist_enqueue('t', jsonb_build_object('n', i)) FROM generate_series(502, 600) AS i");
ok(flush($primary), 'recovery: flushed');
is($primary->safe_psql('postgres', "SELECT count(*) FROM t"), '600', 'recovery: everything is written');
my $segment = $primary->safe_psql('postgres', "SELECT pg_walfile_name(pg_switch_wal())");
ok($primary->poll_query_until('postgres', "SELECT last_archived_wal >= '$segment' FROM pg_stat_archiver"),
	'recovery: archived');

my $recovered = PostgreSQL::Test::Cluster->new('recovered');
$recovered->init_from_backup($primary, 'before', has_restoring => 1, standby => 0);
$recovered->append_conf('postgresql.conf',
	"archive_mode = off\nrecovery_target_name = 'pending'\nrecovery_target_action = 'promote'");
$recovered->start;
ok($recovered->poll_query_until('postgres', "SELECT NOT pg_is_in_recovery()"), 'recovery: at the point');
ok(wait_until_drained($recovered), 'recovery: the worker came by itself and left nothing');
is($recovered->safe_psql('postgres', "SELECT array_agg(n ORDER BY ins) = array(SELECT generate_series(1, 501)) FROM t"),
	't', 'recovery: all that waited at the point arrived, each once, in order, and nothing else');
cmp_ok($recovered->safe_psql('postgres', "SELECT persist_enqueue('t', '{\"n\": 502}')"),
	'>', $last_id, 'recovery: ids go on');
is_deeply([ complaints($recovered, 0, qr/57P03 FATAL:  the database system is/) ], [], 'recovery: a clean log');
$recovered->stop;

# ---- a load, for what follows
#
# Each row of p, c, l has the same key.  lsn: a position of the WAL that is not before the end of
# a transaction that was acknowledged.

$primary->safe_psql('postgres',
	q{CREATE TABLE seen (w int, session int, tx int, run text, n int, id bigint, lsn pg_lsn, outcome "char")});

sub transaction
{
	my ($run, $me, $dbh) = @_;

	$dbh->begin_work;
	foreach (1 .. 1 + int rand 3)
	{
		$me->{n}++;
		push @{ $me->{items} }, [ $run, $me->{n}, '\N', '\N' ];
		foreach my $target ('p', 'c', 'l')
		{
			$me->{items}[-1][2] = one_value(
				$dbh,
				"SELECT persist_enqueue('$target'::regclass, jsonb_build_object('run', ?::text, 'w', ?::int, 'n', ?::int))",
				$run, @$me{qw(number n)});
		}
	}
	commit_or_roll_back($me, $dbh) or return;

	my $lsn = one_value($dbh, "SELECT pg_current_wal_insert_lsn()");

	$_->[3] = $lsn foreach @{ $me->{items} };
	return;
}

sub begin_load
{
	my ($run) = @_;
	my @pids = start_load(
		$primary, $clients,
		sub {
			my ($client) = @_;

			srand($client);
			record($primary, $client, sub { transaction($run, @_) });
		});

	ok($primary->poll_query_until('postgres', "SELECT count(DISTINCT w) = $clients AND count(*) > 500 FROM l WHERE run = '$run'"),
		"$run: the load runs");
	return @pids;
}

sub stop_load
{
	my ($run, @pids) = @_;

	end_load($primary);
	children_succeeded("$run: clients", @pids);
	return;
}

# Into table seen of the node.
sub load_seen
{
	my ($node, $run) = @_;
	my $dbh = connect_to($node);

	copy_seen($dbh, $primary, $clients, 'seen');
	$dbh->do("ANALYZE");
	$dbh->do("DROP TABLE IF EXISTS result");
	$dbh->do(
		qq{CREATE TABLE result AS
		SELECT seen.*, t.target, count(a.target) AS rows
		FROM seen CROSS JOIN (VALUES ('p'), ('c'), ('l')) AS t (target)
		LEFT JOIN (SELECT 'p' AS target, run, w, n FROM p UNION ALL SELECT 'c', run, w, n FROM c
		           UNION ALL SELECT 'l', run, w, n FROM l) AS a USING (target, run, w, n)
		WHERE run = '$run' GROUP BY seen.run, seen.w, seen.session, seen.tx, seen.n, outcome, lsn, id, t.target});
	return $dbh;
}

sub check_common
{
	my ($dbh, $run) = @_;

	finds_nothing($dbh, "$run: no item is there twice", q{SELECT FROM result WHERE rows > 1});
	finds_nothing($dbh, "$run: no item is there that was rolled back", q{SELECT FROM result WHERE outcome = 'r' AND rows > 0});
	finds_nothing($dbh, "$run: each transaction is there as a whole, or not at all",
		q{SELECT FROM result WHERE outcome <> 'r' GROUP BY w, tx HAVING min(rows) <> max(rows)});
	finds_nothing($dbh, "$run: nothing else is there",
		qq{SELECT w, n FROM (SELECT run, w, n FROM p UNION ALL SELECT run, w, n FROM c UNION ALL SELECT run, w, n FROM l) AS a
		   WHERE run = '$run' EXCEPT SELECT w, n FROM seen WHERE run = '$run'});
	finds_nothing($dbh, "$run: the rows of each client are in order",
		qq{SELECT FROM (SELECT ins, lag(ins) OVER (PARTITION BY w ORDER BY n) AS before FROM l WHERE run = '$run') AS s
		   WHERE ins <= before});
	return;
}

# ---- a base backup, under load

reload_with($primary, 'flush_interval', "'1s'");    # so that hardly ever nothing waits
my @pids = begin_load('backup');
$primary->backup('under_load');
my $after = $primary->safe_psql('postgres', "SELECT count(*) FROM l");
$primary->poll_query_until('postgres', "SELECT count(*) > $after + 200 FROM l");
stop_load('backup', @pids);

my ($end) = slurp_file($primary->backup_dir . '/under_load/backup_manifest') =~ m{"End-LSN": "([0-9A-F/]+)"};
my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init_from_backup($primary, 'under_load');

# first without the library, to see what there is; nothing writes on its own then
$copy->append_conf('postgresql.conf',
	"archive_mode = off\nshared_preload_libraries = ''\nautovacuum = off");
$copy->start;
my $pending = pending_in($copy);
my $written = $copy->safe_psql('postgres',
	"SELECT (SELECT count(*) FROM p WHERE run = 'backup') + (SELECT count(*) FROM c WHERE run = 'backup')"
	  . " + (SELECT count(*) FROM l WHERE run = 'backup')");
cmp_ok($pending, '>', 0, 'backup: items wait in it');
$copy->stop;
$copy->append_conf('postgresql.conf', "shared_preload_libraries = 'persist_pipeline'");
$copy->start;
ok(wait_until_drained($copy), 'backup: the worker came by itself and left nothing');

my $dbh = load_seen($copy, 'backup');
is(one_value($dbh, "SELECT sum(rows) FROM result"), $written + $pending, "backup: each that waited arrived once");
finds_nothing($dbh, 'backup: all that was acknowledged before its end is there',
	"SELECT FROM result WHERE outcome = 'a' AND lsn <= '$end' AND rows = 0");
finds_nothing($dbh, 'backup: it ends, for each client, with one of its transactions',
	q{SELECT FROM (SELECT rows, lag(rows) OVER (PARTITION BY w, target ORDER BY n) AS before FROM result
	               WHERE outcome <> 'r') AS s WHERE rows > before});
check_common($dbh, 'backup');
note sprintf 'backup: %d rows written, %d items waiting; acknowledged before its end %d, after it %d',
  $written, $pending, $dbh->selectrow_array("SELECT count(*) FILTER (WHERE lsn <= '$end'), count(*) FILTER (WHERE lsn > '$end') FROM result WHERE outcome = 'a'");
$dbh->disconnect;
is_deeply([ complaints($copy, 0, qr/57P03 FATAL:  the database system is/) ], [], 'backup: a clean log');
$copy->stop;

# and the source has all of it
ok(flush($primary), 'backup: the source is flushed');
$dbh = load_seen($primary, 'backup');
finds_nothing($dbh, 'backup: the source has all that was acknowledged', q{SELECT FROM result WHERE outcome = 'a' AND rows <> 1});
$dbh->do("TRUNCATE seen");
$dbh->disconnect;

# ---- a synchronous standby, promoted under load

$primary->backup('standby');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'standby', has_streaming => 1);
$standby->append_conf('postgresql.conf', "archive_mode = off\npersist_pipeline.flush_interval = $fast");
$standby->start;
$primary->append_conf('postgresql.conf', "synchronous_standby_names = 'standby'\npersist_pipeline.flush_interval = $fast");
$primary->reload;
ok($primary->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'"),
	'standby: it is synchronous');

@pids = begin_load('standby');
reload_with($primary, 'flush_interval', "'1h'");
ok(wait_for_queue($primary, "items_pending >= 500"), 'standby: items wait');
ok($standby->poll_query_until('postgres', "SELECT $pending_sql >= 500"), 'standby: there, too');

# all of it at once, so that no COMMIT in progress comes to its end
my @processes = split /\n/, $primary->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()");
$primary->kill9;
kill 'KILL', @processes;
stop_load('standby', @pids);
$pending = pending_in($standby);
is(worker_pid($standby), '', 'standby: no worker before the promotion');
$standby->promote;
ok(wait_until_drained($standby), 'standby: after the promotion the worker came by itself and left nothing');
$dbh = load_seen($standby, 'standby');
finds_nothing($dbh, 'standby: all that was acknowledged is there', q{SELECT FROM result WHERE outcome = 'a' AND rows = 0});
check_common($dbh, 'standby');
cmp_ok(one_value($dbh, "SELECT persist_enqueue('t', '{\"n\": 0}')"),
	'>', one_value($dbh, "SELECT max(id) FROM seen"), 'standby: ids go on after those of the old primary');
note sprintf 'standby: %d items acknowledged, %d doubtful, %d of them there; %d waited at the promotion',
  $dbh->selectrow_array(q{SELECT count(*) FILTER (WHERE outcome = 'a'), count(*) FILTER (WHERE outcome = 'd'),
                                 count(*) FILTER (WHERE outcome = 'd' AND rows > 0) FROM result}),
  $pending;
$dbh->disconnect;
is_deeply(
	[ complaints($standby, 0, qr/walreceiver \w+ FATAL/, qr/57P03 FATAL:  the database system is/) ],
	[], 'standby: a clean log');
$standby->stop;

is_deeply(
	[ complaints($primary, $everything_from, qr/FATAL:  terminating connection due to unexpected postmaster exit/) ],
	[], 'the log of the primary holds no WARNING or ERROR that was not provoked');
done_testing();
