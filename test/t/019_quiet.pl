
# Where the library is loaded and nobody asked it for anything, nothing of it is to
# be noticed: no line in the log, no process but the launcher, and none at all in
# binary upgrade, in single-user mode and on a standby.  And where it works, others
# don't notice: pgbench with items enqueued from a trigger, for PP_SECONDS.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{PP_SECONDS} || 5;

# ---- a cluster that is new, without the extension anywhere

my $node = pp_node('quiet', no_start => 1, init => [ allows_streaming => 1 ]);
$node->start;
ok(wait_for_launcher($node), 'the launcher runs');
$node->safe_psql('postgres', "CREATE DATABASE two");
$node->safe_psql($_, "CREATE TABLE t (n int); INSERT INTO t VALUES (1)") foreach ('postgres', 'two');
$node->restart;
wait_for_launcher($node);
$node->safe_psql('postgres', "DROP DATABASE two");
command_ok([ 'pg_dumpall', '--port', $node->port, '--host', $node->host, '--file', $node->basedir . '/dump' ],
	'pg_dumpall');
unlike(slurp_file($node->basedir . '/dump'), qr/persist/, 'the dump has nothing of ours');
is($node->safe_psql('postgres',
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'persist_pipeline worker%'"),
	'0', 'no worker');
$node->stop;
is(scalar(log_since($node, 0, qr/persist_pipeline (?!launcher" \(PID \d+\) exited with exit code 1$)/)),
	0, 'the log has nothing of ours, except how the launcher goes');
is_deeply([ complaints($node, 0) ], [], 'nor anything to complain about');

# ---- single-user mode

# Run statements in it; returns what it prints on stdout and on stderr.
sub single_user
{
	my (@statements) = @_;
	my ($out, $err);
	my $in = join('', map { "$_\n" } @statements);

	ok( IPC::Run::run(
			[ 'postgres', '--single', '-F', '-D', $node->data_dir, 'postgres' ],
			'<', \$in, '>', \$out, '2>', \$err,
			IPC::Run::timeout(60)),
		'single-user mode comes to its end');
	return ($out, $err);
}

my ($out, $err) = single_user(
	"CREATE EXTENSION persist_pipeline",
	"CREATE TABLE items (n int, id bigint)",
	"SELECT persist_enqueue('items', '{\"n\": 1}')",
	"SELECT persist_enqueue('items', '{\"n\": 1}', false)",
	"SELECT persist_enqueue_many('items', '[{\"n\": 1}]')",
	"SELECT persist_flush() AS flushed",
	"SELECT count(*) AS queues FROM persist_queue",
	"SET persist_pipeline.mode = direct",
	"SELECT persist_enqueue('items', '{\"n\": 2}') AS id",
	"DROP EXTENSION persist_pipeline",
	"CREATE EXTENSION persist_pipeline",
	"SELECT persist_enqueue('items', '{\"n\": 3}')",
	"SELECT array_agg(n) AS found FROM items");
is(scalar(my @errors = $err =~ /55000 ERROR:  persist_pipeline has no worker in single-user mode/g),
	3, 'persist_enqueue says what is missing');
is(scalar(my @hints = $err =~ /HINT:  Set "persist_pipeline.mode" to "direct"/g), 3, 'and what to do');
is(scalar(my @complaints = $err =~ /(?:WARNING|ERROR|FATAL|PANIC):  /g), 3, 'nothing else to complain about');
like($out, qr/flushed = "t"/, 'nothing to flush');
like($out, qr/queues = "0"/, 'nothing to see');
like($out, qr/found = "\{2,3\}"/, 'direct mode works');

# ---- binary upgrade

my $from = log_position($node);
command_ok(
	[
		'pg_ctl', 'start', '-w', '-D', $node->data_dir, '-l', $node->logfile,
		'-o', '-b --cluster-name=quiet'
	],
	'a server for a binary upgrade starts');
$node->_update_pid(1);
is(launcher_pid($node), undef, 'without a launcher');
my $dbh = connect_to($node);
is(try_sql($dbh, "SELECT persist_enqueue('items', '{\"n\": 1}')"), '55000', 'persist_enqueue has no ring');
$dbh->do("SET persist_pipeline.mode = 'direct'");
is(try_sql($dbh, "SELECT persist_enqueue('items', '{\"n\": 4}')"), '00000', 'direct mode works');
is(try_sql($dbh, "SELECT persist_flush()"), '00000', 'nothing to flush');
$dbh->disconnect;
$node->stop;
is_deeply([ complaints($node, $from, qr/client backend 55000 ERROR/) ], [], 'a clean log');
is(scalar(log_since($node, $from, qr/persist_pipeline (worker|launcher|probe)/)), 0, 'with no process of ours');

my $upgraded = pp_node('upgraded', no_start => 1, init => [ allows_streaming => 1 ]);
chdir $PostgreSQL::Test::Utils::tmp_check or die "no tmp_check: $!";
command_ok(
	[
		'pg_upgrade', '--link', '--old-datadir', $node->data_dir, '--new-datadir', $upgraded->data_dir,
		'--old-bindir', $node->config_data('--bindir'), '--new-bindir', $node->config_data('--bindir'),
		'--old-port', $node->port, '--new-port', $upgraded->port, '--socketdir', $node->host
	],
	'pg_upgrade');
$upgraded->start;
$upgraded->safe_psql('postgres', "SELECT persist_enqueue('items', '{\"n\": 5}')");
ok(flush($upgraded), 'the upgraded server works');
is($upgraded->safe_psql('postgres', "SELECT array_agg(n ORDER BY n)  FROM items"),
	'{2,3,4,5}', 'with the rows that were there');
is_deeply([ complaints($upgraded, 0) ], [], 'and a clean log');
$node = $upgraded;

# ---- a hot standby, until its promotion

$node->backup('one');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'one', has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', "SELECT persist_enqueue('items', '{\"n\": 6}')");
ok(flush($node), 'flushed');
$node->wait_for_catchup($standby, 'replay', $node->lsn('flush'));
is($standby->safe_psql('postgres', "SELECT array_agg(n ORDER BY n) FROM items"), '{2,3,4,5,6}', 'the standby follows');
is($standby->safe_psql('postgres', "SELECT NOT EXISTS (SELECT FROM persist_queue)"),
	't', 'it has nothing of ours to see');
is(launcher_pid($standby), undef, 'nor a process');
is(scalar(log_since($standby, 0, qr/persist_pipeline (worker|launcher|probe)/)), 0, 'nor a line');
$standby->promote;
ok(wait_for_launcher($standby), 'once it is promoted, the launcher starts');
$standby->safe_psql('postgres', "SELECT persist_enqueue('items', '{\"n\": 7}')");
ok(flush($standby), 'and a worker');
is($standby->safe_psql('postgres', "SELECT array_agg(n ORDER BY n) FROM items"), '{2,3,4,5,6,7}', 'which works');
$standby->stop;
is_deeply([ complaints($standby, 0, qr/walreceiver \w+ FATAL/) ], [], 'its log is clean');

# ---- pgbench

$from = log_position($node);
$node->command_ok([ 'pgbench', '--initialize', '--scale', '2', '--quiet', 'postgres' ], 'pgbench -i');
$node->safe_psql(
	'postgres', q{
	CREATE TABLE audit (tid int, bid int, aid int, delta int, mtime timestamp);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM persist_enqueue(ROW(NEW.tid, NEW.bid, NEW.aid, NEW.delta, NEW.mtime)::audit);
		RETURN NULL;
	END $$;
	CREATE TRIGGER note AFTER INSERT ON pgbench_history FOR EACH ROW EXECUTE FUNCTION note();
});
$node->command_like(
	[ 'pgbench', '--client', '4', '--time', $seconds, '--no-vacuum', 'postgres' ],
	qr/number of failed transactions: 0 /,
	"pgbench for $seconds s: no failure");
ok(flush($node), 'flushed');
is( $node->safe_psql('postgres',
		"SELECT count(*) FROM (SELECT tid, bid, aid, delta, mtime FROM pgbench_history"
		  . " EXCEPT ALL SELECT * FROM audit) AS missing"),
	'0', 'every row of the history is in the audit');
is($node->safe_psql('postgres', "SELECT (SELECT count(*) FROM audit) - (SELECT count(*) FROM pgbench_history)"),
	'0', 'once');
note 'pgbench: ', $node->safe_psql('postgres', "SELECT count(*) FROM audit"), " transactions in $seconds s, ",
  queue_value($node, 'batches'), ' batches, at most ', queue_value($node, 'ring_peak'), ' bytes in the ring';
$node->stop;
is_deeply([ complaints($node, $from) ], [], 'no WARNING');
is(scalar(log_since($node, $from, qr/LOG:  persist_pipeline/)), 1, 'and one line, of how the worker stopped');

done_testing();
