
# A worker that makes way for another database's, with nothing left to do, leaves its ring
# behind: it comes back all the same.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pp_node(
	'idle_rings',
	'persist_pipeline.max_databases' => 3,
	'persist_pipeline.max_workers' => 1,
	'persist_pipeline.worker_idle_timeout' => "'3s'");
my $control = connect_to($node);

foreach my $name ('one', 'two')
{
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql($name, 'CREATE EXTENSION IF NOT EXISTS persist_pipeline; CREATE TABLE t (n int)');
}
wait_until('no ring is in use', sub { rings($control) eq '' });
change_setting($control, 'worker_idle_timeout', '1h');

$node->safe_psql('one', q{SELECT persist_enqueue('t', '{"n": 1}'); SELECT persist_flush()});
my $pid = worker_pid($node, 'one');
$node->safe_psql('two', q{SELECT persist_enqueue('t', '{"n": 1}'); SELECT persist_flush()});
isnt(worker_pid($node, 'one') // '', $pid, 'the worker of the first database has made way');
like(rings($control), qr/\bone\b/, 'and its ring is still there');
change_setting($control, 'worker_idle_timeout', '3s');
wait_until('the rings come back', sub { rings($control) eq '' });
pass('both rings come back');

$node->safe_psql($_, q{SELECT persist_enqueue('t', '{"n": 2}'); SELECT persist_flush()}) foreach 'one', 'two';
is($node->safe_psql($_, 'SELECT count(*) FROM t'), '2', "$_: the next items find one") foreach 'one', 'two';

# a ring that is new has no positions yet, and the first transaction is read-only by its commit
$control->disconnect;
$node->restart;
$node->safe_psql('one', q{BEGIN; SELECT persist_enqueue('t', '{"n": 3}'); SET TRANSACTION READ ONLY; COMMIT; SELECT persist_flush()});
is($node->safe_psql('one', 'SELECT count(*) FROM t'), '3', 'read-only after the call: its item lands');
is_deeply([ complaints($node, 0) ], [], 'a clean log');
$node->stop;
done_testing();
