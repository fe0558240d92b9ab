
# The life of launcher and worker: started at the first item, back after they
# were terminated, no item lost or doubled, settings reloaded.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pp_node(
	'lifecycle',
	'persist_pipeline.flush_interval' => "'10ms'",
	max_prepared_transactions => 5);
my $everything_from = log_position($node);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (n int, note text DEFAULT 'a default');
	CREATE TABLE other (n int);
});

my $workers = "FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker'";

# ---- before the first item

ok(wait_for_launcher($node), 'the launcher runs');
is($node->safe_psql('postgres', "SELECT persist_flush()"), 't', 'nothing to flush');
is($node->safe_psql('postgres', "SELECT count(*) FROM persist_queue WHERE ring_size IS NOT NULL"), '0', 'no database in use');
$node->safe_psql('postgres',
	"BEGIN; SELECT persist_enqueue('t', '{\"n\": 0}'); ROLLBACK");
is(queue_value($node, 'worker_state'), 'not running', 'an item that is rolled back starts no worker');
is($node->safe_psql('postgres', "SELECT count(*) $workers"), '0', 'no worker before the first item');

# ---- the first item

$node->safe_psql('postgres', "SELECT persist_enqueue('t', '{\"n\": 1}')");
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', "SELECT n, note FROM t"), '1|a default', 'the first item arrived');
is($node->safe_psql('postgres', "SELECT datname, application_name $workers"),
	'postgres|persist_pipeline worker', 'the worker is in pg_stat_activity');
is(queue_value($node, 'worker_pid'), worker_pid($node), 'persist_queue knows the worker');
ok(wait_for_queue($node, "worker_state = 'idle' AND items_pending = 0 AND ring_used = 0"),
	'the worker sleeps');

# The worker has no latch to wait on other than its own.
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 1 $workers AND wait_event = CASE WHEN"
		  . " current_setting('server_version_num')::int >= 170000"
		  . " THEN 'PersistPipelineWorker' ELSE 'Extension' END"),
	'its wait event says what it waits for');

# ---- the worker is terminated

$node->append_conf('postgresql.conf', "persist_pipeline.adaptive_flush = off\npersist_pipeline.flush_interval = '1h'");
$node->reload;
my $pid = worker_pid($node);
$node->safe_psql('postgres',
	"SELECT persist_enqueue('t', jsonb_build_object('n', i)) FROM generate_series(1001, 1100) AS i");
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
my $second = wait_for_new_worker($node, $pid);
isnt($second, $pid, 'a terminated worker comes back by itself');
is($node->safe_psql('postgres',
		"SELECT count(*), count(DISTINCT n) FROM t WHERE n > 1000"),
	'100|100', 'it wrote its items before it left, each once');

# Again and again, while items keep coming.  A commit that meets the closed
# ring is rolled back and tried again.
my $dbh = connect_to($node);
my $refused = 0;
foreach my $round (1 .. 10)
{
	my $old = worker_pid($node);

	foreach my $i (1 .. 50)
	{
		my $n = 2000 + $round * 100 + $i;
		my $state;

		$dbh->do("SELECT pg_terminate_backend($old)") if $i == 25;
		until (($state = try_sql($dbh, "SELECT persist_enqueue('t', jsonb_build_object('n', ?::int))", $n)) eq '00000')
		{
			die "SQLSTATE $state: " . $dbh->errstr if $state ne '57P01';
			$refused++;
			$node->poll_query_until('postgres',
				"SELECT NOT ring_closed FROM persist_queue");
		}
	}
	wait_for_new_worker($node, $old);
}
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t WHERE n > 2000"),
	'500|500', 'ten terminations: every item once');
note "$refused commits met the closed ring";
$dbh->disconnect;

# A worker that is terminated by code that it runs itself, in mid-batch.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE sawing (n int);
	CREATE FUNCTION saw() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
	CREATE TRIGGER saw BEFORE INSERT ON sawing FOR EACH ROW EXECUTE FUNCTION saw();
});
$pid = worker_pid($node);
$node->safe_psql('postgres',
	"SELECT persist_enqueue('sawing', jsonb_build_object('n', i)) FROM generate_series(1, 5) AS i");
ok(flush($node), 'flushed');
wait_for_new_worker($node, $pid);
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM sawing"),
	'5|5', 'a worker that was terminated in mid-batch finishes it');

# ---- the launcher is terminated

my $launcher = wait_for_launcher($node);
$pid = worker_pid($node);
kill 'TERM', $launcher;
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
isnt(wait_for_launcher($node, $launcher), $launcher, 'a terminated launcher comes back');
wait_for_new_worker($node, $pid);
$node->safe_psql('postgres', "SELECT persist_enqueue('t', '{\"n\": 5001}')");
ok(flush($node), 'and the worker that left meanwhile is started again');

$launcher = wait_for_launcher($node);
$pid = worker_pid($node);
kill 'TERM', $launcher;
$node->safe_psql('postgres', "SELECT persist_enqueue('t', '{\"n\": 5002}')");
ok(flush($node), 'a worker needs no launcher');
is(worker_pid($node), $pid, 'and is not replaced');
wait_for_launcher($node, $launcher);
is(worker_pid($node), $pid, 'nor by the next launcher');

# which didn't start this worker, and still has to learn that it has left
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
isnt(wait_for_new_worker($node, $pid), $pid, 'that starts the one after it');
is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t WHERE n > 5000"), '2|2', 'all there');

# ---- settings are reloaded

$node->safe_psql('postgres',
	"SELECT persist_enqueue('t', jsonb_build_object('n', i)) FROM generate_series(6001, 6003) AS i");
ok(wait_for_queue($node, "worker_state = 'gathering' AND items_pending = 3"),
	'items wait for flush_interval');
$node->append_conf('postgresql.conf', "persist_pipeline.batch_size = 3");
$node->reload;
ok(wait_for_queue($node, "items_pending = 0"), 'batch_size is reloaded');
is($node->safe_psql('postgres', "SELECT count(*) FROM t WHERE n > 6000"), '3', 'all there');

$node->safe_psql('postgres', "SELECT persist_enqueue('t', '{\"n\": 6004}')");
ok(wait_for_queue($node, "worker_state = 'gathering' AND items_pending = 1"),
	'an item waits for flush_interval');
$node->append_conf('postgresql.conf', "persist_pipeline.flush_interval = 0");
$node->reload;
ok(wait_for_queue($node, "items_pending = 0"), 'flush_interval is reloaded');

# ---- a prepared transaction can't carry items

$dbh = connect_to($node);
$dbh->{RaiseError} = 0;
$dbh->do("BEGIN");
$dbh->do("INSERT INTO other VALUES (1)");
$dbh->do("SELECT persist_enqueue('t', '{\"n\": 7001}')");
is(try_sql($dbh, "PREPARE TRANSACTION 'one'"), '0A000', 'PREPARE TRANSACTION with items is an error');
like($dbh->errstr, qr/cannot PREPARE a transaction that has enqueued items/, 'that says so');
$dbh->do("BEGIN");
$dbh->do("INSERT INTO other VALUES (2)");
$dbh->do("SAVEPOINT a");
$dbh->do("SELECT persist_enqueue('t', '{\"n\": 7002}')");
$dbh->do("ROLLBACK TO a");
is(try_sql($dbh, "PREPARE TRANSACTION 'two'"), '00000', 'but not when the items were rolled back');
$dbh->do("SELECT persist_enqueue('t', '{\"n\": 7003}')");
$dbh->do("COMMIT PREPARED 'two'");
$dbh->disconnect;
ok(flush($node), 'flushed');
is($node->safe_psql('postgres',
		"SELECT array(SELECT n FROM t WHERE n > 7000), array(SELECT n FROM other)"),
	'{7003}|{2}', 'and nothing of them came through');

# ---- nothing to complain about

is_deeply(
	[ complaints($node, $everything_from, qr/client backend .*(57P01 ERROR|0A000 ERROR)/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
