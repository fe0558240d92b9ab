
# A database whose ring was taken wants it back for what is parked, and somebody looks after
# that again and again: but not so often that the worker who would free the ring never starts.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pp_node(
	'slow_probes',
	'persist_pipeline.max_databases' => 1,
	'persist_pipeline.max_workers' => 1,
	'persist_pipeline.flush_interval' => "'10ms'");
my $library = $node->basedir . '/slow_probe';

{
	chomp(my $headers = `$ENV{PG_CONFIG} --includedir-server`);
	system_or_bail('cc', '-shared', '-fPIC', "-I$headers", '-o', "$library.so", "$FindBin::RealBin/slow_probe.c");
}
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'persist_pipeline, $library'");
$node->restart;
foreach my $name ('a', 'b')
{
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	$node->safe_psql($name, 'CREATE EXTENSION persist_pipeline; CREATE TABLE t (n int)');
}

my $parked = connect_to($node, 'a');

$parked->do("SELECT persist_pause('t')");
$parked->do(q{SELECT persist_enqueue('t', '{"n": 1}')});
wait_for_sql($parked, "SELECT parked = 1 FROM persist_stats WHERE target_name = 'public.t'");
$node->safe_psql('b', q{SELECT persist_enqueue('t', '{"n": 1}')});
ok(flush($node, 'b'), 'the other database has its turn');
$parked->do("SELECT persist_resume('t')");
wait_for_sql($parked, 'SELECT count(*) = 1 FROM t');
pass('what was parked comes');
ok(flush($node, 'a'), 'and is flushed');

# a flush that is asked before anybody has looked, since the start, waits for that
$parked->do("SELECT persist_pause('t')");
$parked->do(q{SELECT persist_enqueue('t', '{"n": 2}')});
ok(!flush($parked), 'parked again');
$parked->disconnect;
$node->restart;
is($node->safe_psql('a', "SELECT persist_resume('t')"), '', 'it may be tried');
ok(flush($node, 'a'), 'flushed');
is($node->safe_psql('a', 'SELECT count(*) FROM t'), '2', 'and there');
is_deeply([ complaints($node, 0) ], [], 'a clean log');
$node->stop;
done_testing();
