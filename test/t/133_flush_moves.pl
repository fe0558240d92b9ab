
# Who flushes waits for a pass of the ring's worker.  If the ring becomes another database's
# meanwhile, no such pass comes, and nothing is left to wait for.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pp_node(
	'flush_moves',
	'persist_pipeline.max_databases' => 2,
	'persist_pipeline.max_workers' => 1,
	'persist_pipeline.worker_idle_timeout' => "'1h'");
$node->safe_psql('postgres', "CREATE DATABASE $_") foreach 'one', 'two';
$node->safe_psql($_, 'CREATE EXTENSION IF NOT EXISTS persist_pipeline; CREATE TABLE t (n int)') foreach 'postgres', 'one', 'two';

my $control = connect_to($node);
my $one = connect_to($node, 'one');
my $two = connect_to($node, 'two');

# the only worker that may run is busy with another database
$control->do(q{SELECT persist_enqueue('t', '{"n": 1}')});
ok(flush($node), 'the first database has a worker');
wait_for_worker_state($control, 'idle');    # and holds nothing
my $worker = worker_pid($node);
kill 'STOP', $worker;
$control->do(q{SELECT persist_enqueue('t', '{"n": 2}')});

# an empty ring whose first pass is still to come
$one->begin_work;
$one->do(q{SELECT persist_enqueue('t', '{"n": 1}')});
$one->rollback;
is(rings($control), 'one postgres', 'the second database has a ring');
start_sql($one, q{SELECT persist_flush('1h')});
wait_for_sql($control, "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = ?", $one->{pg_pid});

$two->do(q{SELECT persist_enqueue('t', '{"n": 1}')});
wait_until('the third one gets it', sub { rings($control) eq 'postgres two' });
pass('which the third one gets');
wait_until('the flush ends', sub { !is_running($one) });
is(finish_sql($one), '00000', 'the flush comes to its end');

kill 'CONT', $worker;
foreach (['postgres', 2], ['one', 0], ['two', 1])
{
	my ($database, $rows) = @$_;

	ok(drain($node, $database), "$database: flushed");
	is($node->safe_psql($database, 'SELECT count(*) FROM t'), $rows, "$database: its items are there");
}
is_deeply([ complaints($node, 0) ], [], 'a clean log');
$node->stop;
done_testing();
