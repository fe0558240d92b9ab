
# Who waits for a worker gets one, whatever others do: a session that has had its own, somebody's
# serializable transaction, a commit that outlasts the worker's turn.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pp_node(
	'awaited',
	wal_level => "'replica'",
	max_wal_senders => 2,
	'persist_pipeline.flush_interval' => "'10ms'",
	'persist_pipeline.max_workers' => 1,
	'persist_pipeline.worker_idle_timeout' => 0);
$node->safe_psql('postgres', 'CREATE DATABASE b');
$node->safe_psql($_, 'CREATE EXTENSION IF NOT EXISTS persist_pipeline; CREATE TABLE t (n int); CREATE TABLE u (n int)')
  foreach 'postgres', 'b';
my $control = connect_to($node, 'template1');

# ---- two sessions wait for a worker, and the one that goes on says that it has come

{
	my ($first, $second) = map { connect_to($node) } 1 .. 2;
	my $other = connect_to($node, 'b');
	my $launcher = wait_for_launcher($node);

	kill 'STOP', $launcher;
	start_sql($_, q{SELECT persist_enqueue('t', '{"n": 1}', false)}) foreach $first, $second;
	wait_for_sql($control, q{SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = 'postgres' AND wait_event_type = 'Extension' AND query LIKE '%false%'});
	kill 'STOP', $second->{pg_pid};
	kill 'CONT', $launcher;
	is(finish_sql($first), '00000', 'two wait: one goes on');
	wait_for_sql($first, 'SELECT count(*) = 1 FROM t');

	# its turn is over before the other one has seen it
	$other->do(q{SELECT persist_enqueue('t', '{"n": 1}')});
	wait_for_sql($other, 'SELECT count(*) = 1 FROM t');
	is(worker_pid($node), '', 'two wait: the worker has made way for another database');
	kill 'CONT', $second->{pg_pid};
	is(finish_sql($second), '00000', 'two wait: the other one has a worker, too');
	wait_for_sql($first, 'SELECT count(*) = 2 FROM t');
	$_->disconnect foreach $first, $second, $other;
}

# ---- a commit that waits for a standby outlasts the worker's turn, and the server stops then

{
	my $dbh = connect_to($node);
	my $other = connect_to($node, 'b');

	$dbh->do(q{SELECT persist_configure('t', durability => 'ring')});
	$other->do('SET synchronous_commit = local');
	my $hanging = hang_commits($node);
	$dbh->do('BEGIN');
	$dbh->do(q{INSERT INTO u VALUES (1)});
	$dbh->do(q{SELECT persist_enqueue('t', '{"n": 3}')});
	start_sql($dbh, 'COMMIT');
	wait_for_sql($control, q{SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = ?}, $dbh->{pg_pid});
	$other->do(q{SELECT persist_enqueue('t', '{"n": 2}')});
	wait_for_sql($other, 'SELECT count(*) = 2 FROM t');
	$_->disconnect foreach $control, $other, $hanging;
	$node->stop;
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$node->start;
	is($node->safe_psql('postgres', 'SELECT count(*) FROM u'), '1', 'a standby: the transaction has committed');
	ok($node->poll_query_until('postgres', 'SELECT count(*) = 3 FROM t'), 'a standby: its item has landed');
}

# ---- the server's defaults would have the launcher wait for a serializable transaction

{
	my $holder = connect_to($node);
	my $dbh = connect_to($node);
	my $launcher = wait_for_launcher($node);

	$control = connect_to($node, 'template1');
	$holder->do('BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE');
	$holder->do('INSERT INTO u VALUES (2)');
	$control->do("ALTER SYSTEM SET default_transaction_$_") foreach 'isolation = serializable', 'read_only = on', 'deferrable = on';
	$dbh->do("SET default_transaction_$_") foreach q{isolation = 'read committed'}, 'read_only = off', 'deferrable = off';
	$node->reload;
	kill 'TERM', $launcher;
	wait_for_sql($dbh, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline launcher' AND pid <> $launcher");
	$dbh->do(q{SELECT persist_enqueue('t', '{"n": 4}')});
	ok(eval { wait_for_sql($dbh, 'SELECT count(*) = 4 FROM t') }, 'serializable: a new launcher waits for nobody');
	$_->disconnect foreach $holder, $dbh, $control;
}

is_deeply(
	[ complaints($node, 0, qr/client backend \S+ WARNING:  .*synchronous replication/, qr/57P01 FATAL/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');
$node->stop;
done_testing();
