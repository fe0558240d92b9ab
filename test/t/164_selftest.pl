
# persist_selftest() where nothing arrives: no worker, no ring, a worker that waits, no library, a
# standby; and many at once.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = pp_node(
	'selftest',
	init => [ allows_streaming => 1 ],
	max_logical_replication_workers => 0,
	'persist_pipeline.max_databases' => 1,
	'persist_pipeline.ring_size' => "'64kB'");
my $everything_from = log_position($node);

# The names of the steps that are done, and what stands in the way of the one that isn't.
sub selftest
{
	my ($session, $timeout) = @_;
	my $rows = $session->selectall_arrayref('SELECT step, ok, detail FROM persist_selftest(?::interval)', undef, $timeout // '60 s');

	return join '; ', map { $_->[1] ? $_->[0] : "$_->[0]: $_->[2]" } @{$rows};
}

my $ready = 'library; session; extension; mode; pause; convert';
my $well = "$ready; hand over; write; flush";
my $account = q{SELECT enqueued, persisted, pending FROM persist_stats WHERE target_name = 'persist_pipeline_internal.persist_selftest'};
my $dbh = connect_to($node);

is(selftest($dbh), $well, 'at first');
is($node->safe_psql('postgres', $account), '1|1|0', 'one item');

# ---- many at once, half of which are rolled back

my @pids = in_children(4, sub {
	my $session = connect_to($node);

	foreach my $n (1 .. 50)
	{
		$session->begin_work if $n % 2;
		die 'not well' if selftest($session) ne $well;
		$session->rollback if $n % 2;
	}
});
children_succeeded('many at once', @pids);
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', $account), '201|201|0', 'each of them is in the account');
is($node->safe_psql('postgres', 'SELECT count(*) FROM persist_pipeline_internal.persist_selftest'), 0, 'none is in the table');
# as soon as nobody has a snapshot from before
ok( eval {
		wait_until(
			'nothing is left',
			sub {
				$dbh->do('VACUUM persist_pipeline_internal.persist_selftest');
				one_value($dbh, "SELECT pg_relation_size('persist_pipeline_internal.persist_selftest') = 0");
			});
	},
	'and nothing is left of them');

# ---- a standby

$node->backup('one');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'one', has_streaming => 1);
$standby->start;
my $there = connect_to($standby);
is(selftest($there), 'library; session: This server is a standby, where nothing is written.', 'a standby');
$there->disconnect;
$standby->stop;

# ---- the worker waits for a lock

my $locker = connect_to($node);
$locker->do('CREATE TABLE t (n int)');
lock_targets($locker, 't');
$dbh->do(q{SELECT persist_enqueue('t', '{"n": 1}')});
wait_for_sql($dbh, q{SELECT worker_state = 'retrying' FROM persist_queue WHERE datname = 'postgres'});
like(selftest($dbh, '100 ms'), qr/^$ready; hand over; write: The item is pending\. The worker (?:runs: see persist_queue|has met an error, and tries again: SQLSTATE 55P03, )/, 'the worker waits');
$locker->rollback;
ok(drain($node), 'flushed');
is($node->safe_psql('postgres', $account), '202|202|0', 'the late item has arrived');

# ---- another database has the ring

create_model_database($node, 'other');
my $other = connect_to($node, 'other');
lock_targets($other, 't');
$node->safe_psql('other', q{SELECT persist_enqueue('t', '{"n": 1}')});
wait_for_sql($dbh, q{SELECT ring_size IS NOT NULL FROM persist_queue WHERE datname = 'other'});
like(selftest($dbh), qr/^$ready; hand over: SQLSTATE 53000: no ring is free for database "postgres"\. All 1 rings hold items of other databases\.$/, 'no ring');
$other->rollback;
ok(drain($node, 'other'), 'flushed');
is(selftest($dbh), $well, 'it has the ring again');
is($node->safe_psql('postgres', $account), '203|203|0', 'what could not be handed over does not count');
$other->disconnect;

# ---- the SQL is of another version

$dbh->do(q{UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'persist_pipeline'});
like(selftest($dbh), qr/^library; session; extension: Its SQL has version "0\.9", and .* ALTER EXTENSION persist_pipeline UPDATE;/, 'another version');
$dbh->do(q{UPDATE pg_extension SET extversion = '1.1' WHERE extname = 'persist_pipeline'});
is(selftest($dbh), $well, 'the right one');
$dbh->disconnect;
$locker->disconnect;

# ---- no worker can be started

$node->append_conf('postgresql.conf', "max_worker_processes = 1\nmax_parallel_workers_per_gather = 0");
$node->restart;
$dbh = connect_to($node);
like(selftest($dbh), qr/^$ready; hand over: SQLSTATE 53000: no worker /, 'no worker');
$dbh->do(q{SET statement_timeout = '200ms'});
is(try_sql($dbh, 'SELECT persist_selftest()'), '57014', 'a call that is cancelled is no finding');
$dbh->disconnect;

# ---- the library isn't preloaded

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
$dbh = connect_to($node);
is(selftest($dbh), 'library: The library was not loaded when the server started: add persist_pipeline to "shared_preload_libraries" and restart the server.', 'not preloaded');
$dbh->disconnect;

# ---- all is as it was

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'persist_pipeline'\nmax_worker_processes = 8");
$node->restart;
$dbh = connect_to($node);
is(selftest($dbh), $well, 'all is well again');
is($node->safe_psql('postgres', "SELECT enqueued = persisted, persisted FROM persist_stats WHERE target_name = 'persist_pipeline_internal.persist_selftest'"), 't|205', 'and in the account');
$dbh->disconnect;

# the server's own line, of settings that are only for a library that is preloaded
is_deeply([ complaints($node, $everything_from, qr/background worker slot is free/, qr/client backend 57014 ERROR/, qr/client backend 42602 WARNING: .* "persist_pipeline\.\w+", removing it/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
