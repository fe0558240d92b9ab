
# Several databases at once: each has its ring and its worker; one more than
# there are rings is refused, with a hint.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

my $node = pp_node(
	'databases',
	'persist_pipeline.max_databases' => 2,
	'persist_pipeline.flush_interval' => "'10ms'");
my $everything_from = log_position($node);

foreach my $database ('two', 'three')
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, "CREATE EXTENSION persist_pipeline");
}
$node->safe_psql($_, "CREATE TABLE t (n int, who text)") foreach ('postgres', 'two', 'three');

# what each writes is its own
children_succeeded(
	'clients of two databases',
	in_children(
		4,
		sub {
			my ($client) = @_;
			my $dbh = connect_to($node, $client % 2 ? 'postgres' : 'two');

			foreach my $n (1 .. 200)
			{
				$dbh->do(
					"SELECT persist_enqueue('t', jsonb_build_object('n', ?::int, 'who', current_database()))",
					undef, $client * 1000 + $n);
			}
		}));
foreach my $database ('postgres', 'two')
{
	ok(flush($node, $database), "$database: flushed");
	is( $node->safe_psql($database,
			"SELECT count(*), count(DISTINCT n), count(*) FILTER (WHERE who = current_database()) FROM t"),
		'400|400|400',
		"$database: its items, each once");
}
is( $node->safe_psql('postgres',
		"SELECT count(*), count(DISTINCT worker_pid) FROM persist_queue WHERE datname IN ('postgres', 'two')"),
	'2|2',
	'two workers');

# both terminated at once
my %old = map { $_ => worker_pid($node, $_) } ('postgres', 'two');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(worker_pid) FROM persist_queue");
isnt(wait_for_new_worker($node, $old{$_}, $_), $old{$_}, "$_: a new worker") foreach sort keys %old;

# the third
my $dbh = connect_to($node, 'three');
is(try_sql($dbh, "SELECT persist_enqueue('t', '{\"n\": 1}')"), '53000', 'a third database is refused');
like($dbh->errstr, qr/no ring is free for database "three"/, 'with its name');
like($dbh->errstr, qr/HINT:  .*persist_pipeline\.max_databases/, 'and a hint');
is(try_sql($dbh, "SELECT persist_enqueue('t', '{\"n\": 1}', false)"), '53000', 'also when not transactional');
$dbh->do("SET persist_pipeline.mode = 'direct'");
is(try_sql($dbh, "SELECT persist_enqueue('t', '{\"n\": 2}')"), '00000', 'direct mode needs no ring');
is(try_sql($dbh, "SELECT persist_flush()"), '00000', 'nor does persist_flush');
$dbh->disconnect;
is($node->safe_psql('three', "SELECT array_agg(n) FROM t"), '{2}', 'its row is there');

is_deeply([ complaints($node, $everything_from, qr/client backend 53000 ERROR/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');

# more rings after a restart, none of the old ones' items lost
$node->append_conf('postgresql.conf', "persist_pipeline.max_databases = 3");
$node->restart;
foreach my $database ('three', 'two', 'postgres')
{
	$node->safe_psql($database, "SELECT persist_enqueue('t', '{\"n\": 9999}')");
	ok(flush($node, $database), "$database: flushed");
	is($node->safe_psql($database, "SELECT count(*) FROM t WHERE n = 9999"), '1', "$database: arrived");
}

$node->stop;
done_testing();
