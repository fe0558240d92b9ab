
# Where the journal meets a limit: the pieces of one transaction, the memory of the
# worker, the slots, a stop that fails, a target on another server.
#
# PP_LARGE: how many items of 1 MB are written (200).

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

my $large = $ENV{PP_LARGE} || 200;
my $kb_at_work = 150 * 1024;
my $kb_when_idle = 60 * 1024;

my $node = pp_node(
	'limits',
	'persist_pipeline.flush_interval' => 0,
	'persist_pipeline.lock_timeout' => "'100ms'",
	'persist_pipeline.max_databases' => 2,
	'persist_pipeline.shutdown_timeout' => "'500ms'",
	autovacuum => 'off',
	full_page_writes => 'off',
	max_prepared_transactions => 2,
	max_wal_size => "'4GB'",
	shared_buffers => "'16MB'",
	wal_writer_delay => "'10s'");    # it must not flush what the worker has not
my $everything_from = log_position($node);

my $user = getpwuid $<;
$node->safe_psql('postgres', "CREATE DATABASE $_") foreach 'stuck', 'elsewhere';
$node->safe_psql($_, "CREATE EXTENSION persist_pipeline; CREATE TABLE t (n int)") foreach 'stuck', 'elsewhere';
$node->safe_psql(
	'postgres', qq{
	CREATE TABLE kept (n int);
	CREATE UNLOGGED TABLE unlogged (n int);
	CREATE TABLE large (n int, t text, CHECK (n <> 50));

	CREATE FUNCTION kill() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		PERFORM set_config('exit_on_error', 'on', false);
		RAISE 'no';
	END \$\$;
	CREATE TABLE deadly (n int);
	CREATE TRIGGER kill BEFORE INSERT ON deadly FOR EACH ROW EXECUTE FUNCTION kill();

	CREATE EXTENSION postgres_fdw;
	CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw
		OPTIONS (host '${\ $node->host}', port '${\ $node->port}', dbname 'elsewhere');
	CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (user '$user');
	CREATE FOREIGN TABLE remote (n int) SERVER other OPTIONS (table_name 't');
	CREATE TABLE parts (n int) PARTITION BY LIST (n);
	CREATE FOREIGN TABLE parts_1 PARTITION OF parts FOR VALUES IN (11, 12) SERVER other OPTIONS (table_name 't');
});

my $dbh = connect_to($node);
my $locker = connect_to($node);

sub numbers_in
{
	my ($target, $session) = @_;

	return one_value($session || $dbh, "SELECT coalesce(array_agg(n ORDER BY n)::text, '{}') FROM $target");
}

# ---- slots: one whose items are in the journal alone isn't free

my $stuck = connect_to($node, 'stuck');
my $stuck_locker = connect_to($node, 'stuck');
lock_targets($stuck_locker, 't');
is(try_enqueue($stuck, 't', 1), '00000', 'slots: the first is taken');
wait_for_worker_state($dbh, 'retrying', 'stuck');
is(one_value($dbh, "SELECT ring_used FROM persist_queue WHERE datname = 'stuck'"), 0, 'slots: its item is in the journal');
is(try_enqueue($dbh, 'kept', 0), '00000', 'slots: so is the second');
ok(flush($dbh), 'slots: flushed');
my $elsewhere = connect_to($node, 'elsewhere');
is(try_enqueue($elsewhere, 't', 0), '00000', 'slots: a third database gets the one that is idle, not the oldest');
is(one_value($elsewhere, "SELECT persist_flush()"), 1, 'slots: flushed');
is(try_enqueue($dbh, 'kept', 1), '00000', 'slots: the second comes back');
ok(flush($dbh), 'slots: flushed');
is(numbers_in('kept'), '{0,1}', 'slots: with all its items');
$stuck_locker->commit;
is(one_value($stuck, "SELECT persist_flush()"), 1, 'slots: flushed');
is(numbers_in('t', $stuck), '{1}', 'slots: the stuck one arrives');
$_->disconnect foreach $stuck, $stuck_locker;

# ---- pieces: their positions come from one range

$dbh->begin_work;
is( try_sql(
		$dbh,
		"SELECT persist_enqueue('kept'::regclass, '{\"n\": 2}'::jsonb), persist_enqueue('unlogged'::regclass, '{\"n\": 2}'::jsonb)"
		  . " FROM generate_series(1, 500010)"),
	'54000',
	'pieces: too many are refused');
$dbh->rollback;
is(try_enqueue($dbh, 'kept', 3), '00000', 'pieces: then others pass');
is(try_enqueue($dbh, 'unlogged', 3), '00000', 'pieces: on both ways');
ok(flush($dbh), 'pieces: flushed');
is(numbers_in('kept') . numbers_in('unlogged'), '{0,1,3}{3}', 'pieces: alone');

# ---- the worker's memory, for large items; one of them is bad

my $pid = worker_pid($node);
my ($at_start) = own_memory($pid);
lock_targets($locker, 'large');
$dbh->do("SELECT persist_enqueue('large'::regclass, jsonb_build_object('n', $_, 't', repeat('x', 1000000)))") foreach 1 .. $large;
$locker->commit;
ok(flush($dbh), 'memory: flushed');
is(worker_pid($node), $pid, 'memory: by one worker');

# what is shared was there before: shared_buffers is small, and so is the ring
my (undef, $peak) = own_memory($pid);
is(one_value($dbh, "SELECT count(*) || ' ' || sum(length(t)) FROM large"),
	($large - 1) . ' ' . ($large - 1) . '000000', 'memory: all arrived but one');
cmp_ok($peak, '<', $kb_at_work, 'memory: a batch is bounded in bytes');
ok(eval { wait_until('memory', sub { (own_memory($pid))[0] - $at_start < $kb_when_idle }) }, 'memory: and given back');
note sprintf 'memory: %d items of 1 MB: %d MB at the start, %d at the peak, %d in the end',
  $large, $at_start / 1024, $peak / 1024, (own_memory($pid))[0] / 1024;

# the same for parked ones
$dbh->do("TRUNCATE large");
($at_start) = own_memory($pid);
begin_with_lock($locker, 'large', 'SHARE');
$dbh->do("SELECT persist_enqueue('large'::regclass, jsonb_build_object('n', $_, 't', repeat('x', 1000000)))") foreach 1 .. $large;
ok(!flush($dbh), 'memory, parked: not flushed');
is(one_value($dbh, "SELECT items_parked FROM persist_queue WHERE datname = 'postgres'"), $large, 'memory, parked: all are');
$locker->commit;
ok(drain($node), 'memory, parked: flushed');
is(worker_pid($node), $pid, 'memory, parked: by one worker');
is(one_value($dbh, "SELECT count(*) || ' ' || sum(length(t)) FROM large"),
	($large - 1) . ' ' . ($large - 1) . '000000', 'memory, parked: all arrived but one');
(undef, $peak) = own_memory($pid);
cmp_ok($peak, '<', $kb_at_work, 'memory, parked: a batch is bounded in bytes');

# ---- a worker that ends by an error while it stops

# it alone: the next one has its items
lock_targets($locker, 'kept, persist_pipeline_internal.persist_journal_1');
is(try_enqueue($dbh, 'kept', $_, transactional => 0), '00000', 'stop: handed over') foreach 11 .. 13;
$dbh->do("SELECT pg_terminate_backend($pid)");
wait_until('the worker has gone', sub { !kill 0, $pid });
$locker->commit;
ok(flush($dbh), 'stop: flushed');
is(numbers_in('kept'), '{0,1,3,11,12,13}', 'stop: all arrived, once');

# with the server: an item ends the worker, and what is in the ring alone is saved
lock_targets($locker, 'deadly');
is(try_enqueue($dbh, 'deadly', 1), '00000', 'fatal stop: handed over');
is(try_enqueue($dbh, 'unlogged', $_), '00000', 'fatal stop: handed over') foreach 21 .. 23;
is(try_enqueue($dbh, 'kept', $_, transactional => 0), '00000', 'fatal stop: handed over') foreach 24 .. 25;
$_->disconnect foreach $dbh, $locker, $elsewhere;
$node->stop('fast');
$node->start;
$dbh = connect_to($node);
$locker = connect_to($node);
ok(flush($dbh), 'fatal stop: flushed');
is(numbers_in('unlogged'), '{3,21,22,23}', 'fatal stop: of the unlogged table');
is(numbers_in('kept'), '{0,1,3,11,12,13,24,25}', 'fatal stop: of no transaction');

# with the server, while the journal can't be written: what is lost is not lost in silence
is(try_enqueue($dbh, 'kept', 31), '00000', 'locked stop: handed over');
ok(flush($dbh), 'locked stop: flushed');
lock_targets($locker, 'kept');
is(try_enqueue($dbh, 'kept', $_, transactional => 0), '00000', 'locked stop: handed over') foreach 32 .. 34;
$locker->do("PREPARE TRANSACTION 'target'");
$locker->commit;
begin_with_lock($locker, 'persist_pipeline_internal.persist_journal_1', 'SHARE');
$locker->do("PREPARE TRANSACTION 'journal'");
$locker->commit;
$_->disconnect foreach $dbh, $locker;
my $from = log_position($node);
$node->stop('fast');
my @lost = log_since($node, $from, qr/WARNING:  |DETAIL:  .*\b3 items\b/);
$node->start;
$dbh = connect_to($node);
$dbh->do("ROLLBACK PREPARED '$_'") foreach 'target', 'journal';
ok(flush($dbh), 'locked stop: flushed');
my $rows = numbers_in('kept');
ok($rows eq '{0,1,3,11,12,13,24,25,31,32,33,34}' || grep({ /\b3 items\b/ } @lost), 'locked stop: saved, or told')
  or diag "rows $rows", @lost;
note "locked stop: $rows";

# ---- another server: it has committed, and so have we, whatever comes

foreach my $case ([ 'remote', 1, 2 ], [ 'parts', 11, 12 ])
{
	my ($target, $first, $second) = @$case;

	$elsewhere = connect_to($node, 'elsewhere');
	$elsewhere->do("TRUNCATE t");
	is(try_enqueue($dbh, $target, $first), '00000', "$target: handed over");    # it connects
	ok(flush($dbh), "$target: flushed");
	is(try_enqueue($dbh, $target, $second), '00000', "$target: handed over");
	wait_for_sql($dbh, "SELECT items_pending = 0 FROM persist_queue WHERE datname = 'postgres'");
	is(numbers_in('t', $elsewhere), "{$first,$second}", "$target: arrived");
	$_->disconnect foreach $dbh, $elsewhere;
	$node->stop('immediate');
	$node->start;
	$dbh = connect_to($node);
	ok(flush($dbh), "$target: flushed after the crash");
	$elsewhere = connect_to($node, 'elsewhere');
	is(numbers_in('t', $elsewhere), "{$first,$second}", "$target: once");
	$elsewhere->disconnect;
}
$dbh->disconnect;

is_deeply(
	[
		complaints(
			$node,
			$everything_from,
			qr/client backend 54000 ERROR:  the transaction has enqueued too much/,
			qr/persist_pipeline (?:worker|retrier) 23514 WARNING:  item \d+ for relation "public.large"/,
			qr/persist_pipeline \w+ P0001 FATAL:  no$/,    # the deadly item
			qr/persist_pipeline \w+ P0001 WARNING:  item \d+ for relation "public.deadly"/,
			qr/persist_pipeline \w+ 55P03 ERROR:  canceling statement due to lock timeout/,
			qr/client backend 57P01 FATAL:  terminating connection/,
			qr/WARNING:  .*was forced to stop/,
			qr/WARNING:  no persist_pipeline worker is left/,
			qr/57P03 FATAL:  the database system is/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');
$node->stop;
done_testing();
