
# The worker writes at once what comes after quiet, and else gathers items, the longer the more
# its last batch has cost, for flush_interval at most; whoever commits meanwhile wakes nobody.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

# Nothing is written by the interval: it would take an hour.
my $node = pp_node(
	'linger',
	'persist_pipeline.flush_interval' => "'1h'",
	'persist_pipeline.ring_size' => "'128kB'",
	'persist_pipeline.statement_timeout' => 0,
	'persist_pipeline.worker_idle_timeout' => 0);
my $everything_from = log_position($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (n int);
	CREATE UNLOGGED TABLE u (n int, payload text);
	CREATE TABLE hard (n int);
	CREATE FUNCTION toil() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM count(md5(i::text)) FROM generate_series(1, 2000000) AS i;
		RETURN NEW;
	END $$;
	CREATE TRIGGER toil BEFORE INSERT ON hard FOR EACH ROW EXECUTE FUNCTION toil();
});
my $dbh = connect_to($node);
$dbh->do("SET synchronous_commit = off");

sub enqueue
{
	$dbh->do("SELECT persist_enqueue('t', jsonb_build_object('n', ?::int))", undef, $_) foreach @_;
	return;
}

sub lands
{
	my ($table, $rows, $name) = @_;

	ok(eval { wait_for_sql($dbh, "SELECT count(*) = $rows FROM $table") }, $name);
	return;
}

sub is_idle { return wait_for_queue($node, "worker_state = 'idle'") }

# ---- after quiet

foreach my $n (1 .. 3)
{
	enqueue($n);
	lands('t', $n, "after quiet: item $n is written at once");
	ok(is_idle(), "after quiet: then the worker is idle, time $n");
}

# more than the ring holds, so that it is in the journal alone
$dbh->do("SELECT count(persist_enqueue('u', jsonb_build_object('n', i, 'payload', repeat('x', 200)))) FROM generate_series(1, 2000) AS i");
lands('u', 2000, 'after quiet: so is what the ring has no room for');
ok(is_idle(), 'after quiet: then the worker is idle');

# ---- after a batch that has cost a second or more, for ten times as long

$dbh->do("SELECT persist_enqueue('hard', '{\"n\": 1}')");
lands('hard', 1, 'after a large batch: that is written');
ok(eval { wait_for_sql($dbh, "SELECT worker_state = 'gathering' AND items_pending = 0 FROM persist_queue WHERE datname = current_database()") },
	'after a large batch: the worker waits for more');
{
	my $pid = worker_pid($node);
	my $sleeps = sub { slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s*(\d+)/m ? $1 : 0 };
	my $before = -r "/proc/$pid/status" ? $sleeps->() : undef;

	enqueue(4 .. 103);
	is(queue_value($node, "worker_state || ' ' || items_pending"), 'gathering 100', 'after a large batch: more items wait');
  SKIP:
	{
		skip 'needs /proc/PID/status', 1 if !defined $before;
		cmp_ok($sleeps->() - $before, '<=', 1, 'after a large batch: 100 commits wake nobody');    # it may just have been falling asleep
	}
}
is(one_value($dbh, "SELECT count(*) FROM t"), 3, 'after a large batch: none is written yet');

# flush_interval ends that, and so do batch_size and a flush
$node->append_conf('postgresql.conf', "persist_pipeline.flush_interval = '10ms'");
$node->reload;
lands('t', 103, 'after a large batch: flush_interval is the longest that items wait');
$node->append_conf('postgresql.conf', "persist_pipeline.flush_interval = '1h'");
$node->reload;

$dbh->do("SELECT persist_enqueue('hard', '{\"n\": 2}')");
lands('hard', 2, 'a flush: a large batch');
enqueue(104);
ok(flush($node), 'a flush: it returns');
is(one_value($dbh, "SELECT count(*) FROM t"), 104, 'a flush: it has written what waited');

# ---- under load

my $batches = queue_value($node, 'batches');
my ($stdout) = run_command(
	[
		'pgbench', '--no-vacuum', '--client', '4', '--time', 3, '--port', $node->port, '--host', $node->host,
		'--file', do
		{
			my $file = $node->basedir . '/call.sql';

			append_to_file($file, "SET synchronous_commit = off;\n"
				  . join('', ("SELECT persist_enqueue('t', '{\"n\": 0}');\n") x 100));
			$file;
		},
		'postgres'
	]);
my ($transactions) = $stdout =~ /number of transactions actually processed: (\d+)/;
my $calls = 100 * $transactions;

ok(flush($node), 'load: flushed');
$batches = queue_value($node, 'batches') - $batches;
cmp_ok($calls, '>', 0, 'load: there were calls');
cmp_ok($batches * 5, '<', $calls, "load: $calls calls, each in a transaction of its own, make $batches batches");
is(one_value($dbh, "SELECT count(*) FROM t WHERE n = 0"), $calls, 'load: all are there');
ok(is_idle(), 'load: after it the worker is idle');

# ---- a fixed interval

$node->append_conf('postgresql.conf', "persist_pipeline.adaptive_flush = off");
$node->reload;
ok(flush($node), 'fixed: flushed');
enqueue(-1);
ok(wait_for_queue($node, "worker_state = 'gathering' AND items_pending = 1"), 'fixed: an item waits after quiet, too');
$node->append_conf('postgresql.conf', "persist_pipeline.adaptive_flush = on");
$node->reload;
ok(eval { wait_for_sql($dbh, "SELECT count(*) = 1 FROM t WHERE n = -1") }, 'fixed: until that is changed');

$dbh->disconnect;
$node->stop;
is_deeply([ complaints($node, $everything_from) ], [], 'the log is clean');
done_testing();
