
# A table whose partitions are on other servers, through postgres_fdw with batch_size: a batch goes
# to all of them; a row that one refuses harms only itself; while one of them is down the items of
# the table wait, and those of others don't.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Cluster;
use Test::More;

# a batch waits for its flush
my $node = pp_node('here', 'persist_pipeline.adaptive_flush' => 'off', 'persist_pipeline.flush_interval' => "'1h'");

plan skip_all => 'postgres_fdw is not installed'
  if $node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'") eq '0';

my @far = map { PostgreSQL::Test::Cluster->new("far$_") } 1, 2;

$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION postgres_fdw;
	CREATE TABLE free (n int);
	CREATE TABLE spread (n int, v text) PARTITION BY RANGE (n);
	CREATE TABLE spread_0 PARTITION OF spread FOR VALUES FROM (0) TO (1000);
});
foreach my $i (1, 2)
{
	my $far = $far[ $i - 1 ];

	$far->init;
	$far->append_conf('postgresql.conf', "log_statement = 'all'");
	$far->start;
	$far->safe_psql('postgres', "CREATE TABLE spread_$i (n int PRIMARY KEY, v text CHECK (v <> 'bad'))");
	$node->safe_psql(
		'postgres', "
		CREATE SERVER far$i FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '" . $far->host . "', port '" . $far->port . "', batch_size '100');
		CREATE USER MAPPING FOR CURRENT_USER SERVER far$i;
		CREATE FOREIGN TABLE spread_$i PARTITION OF spread FOR VALUES FROM (${i}000) TO (" . ($i + 1) . "000) SERVER far$i");
}

my $dbh = connect_to($node);

# These numbers, in each of the partitions; v is given as an expression of n.
sub enqueue
{
	my ($from, $to, $v) = @_;

	$dbh->do("SELECT count(persist_enqueue('spread'::regclass, jsonb_build_object('n', p * 1000 + n, 'v', " . ($v // "'good'") . "))) FROM generate_series($from, $to) AS n, generate_series(0, 2) AS p");
	return;
}

# How many rows each partition has, asked where they are.
sub counts
{
	return join ' ', $node->safe_psql('postgres', 'SELECT count(*) FROM spread_0'), map { $far[ $_ - 1 ]->safe_psql('postgres', "SELECT count(*) FROM spread_$_") } 1, 2;
}

my $state = q{SELECT dead || ' ' || parked || ' ' || pending FROM persist_stats WHERE target_name = 'public.spread'};

# ---- all is well

my @from = map { log_position($_) } @far;

enqueue(1, 200);
ok(flush($node), 'flushed');
is(counts(), '200 200 200', 'each row is where it belongs');
foreach my $i (0, 1)
{
	my @inserts = log_since($far[$i], $from[$i], qr/execute .*INSERT/);

	is(@inserts, 2, "server $i got its rows by the hundred");
}

# ---- rows that another server refuses

enqueue(201, 400, "CASE WHEN n = 300 AND p = 1 THEN 'bad' ELSE 'good' END");
$dbh->do(q{SELECT persist_enqueue('spread', '{"n": 2001, "v": "again"}'), persist_enqueue('spread', '{"n": 5000, "v": "nowhere"}')});
ok(flush($node), 'bad rows: flushed');
is(counts(), '400 399 400', 'bad rows: all others are there');
is( join('; ', rows_of($dbh, q{SELECT item->>'n', sqlstate FROM persist_dead_letters ORDER BY 1})),
	'1300 23514; 2001 23505; 5000 23514',
	'bad rows: each has its own error');
is(one_value($dbh, $state), '3 0 0', 'bad rows: and nothing waits for them');
discard_all($dbh);

# ---- a server is down, and stops while it is written to

$far[1]->stop('immediate');
enqueue(401, 600);
enqueue_rows($dbh, 'free', 1 .. 10);
ok(!flush($node), 'down: who asks is told');
is($node->safe_psql('postgres', 'SELECT count(*) FROM free'), '10', 'down: another table goes on');
is(one_value($dbh, $state), '0 600 600', 'down: all of this one wait');
like(one_value($dbh, q{SELECT parked_reason FROM persist_stats WHERE parked > 0}), qr/^08/, 'down: for a connection');
$far[1]->start;
wait_for_sql($dbh, "SELECT parked = 0 FROM persist_stats WHERE target_name = 'public.spread'");
is(counts(), '600 599 600', 'up again: each is there, once');
is(one_value($dbh, $state), '0 0 0', 'up again: none has died, none is left');

# the INSERT hangs there, with rows of its own server's already sent to the other one
my $holder = connect_to($far[1]);

begin_with_lock($holder, 'spread_2', 'ACCESS EXCLUSIVE');
enqueue(601, 800);
my $flusher = connect_to($node);
start_sql($flusher, "SELECT persist_flush('60s')");
ok($far[1]->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%'}),
	'stopped in between: it waits there');
$far[1]->stop('immediate');
$holder->{RaiseError} = 0;
$holder->rollback;
$holder->disconnect;
wait_for_sql($dbh, q{SELECT parked = 600 FROM persist_stats WHERE target_name = 'public.spread'});
is($far[0]->safe_psql('postgres', 'SELECT count(*) FROM spread_1'), '599', 'stopped in between: nothing stays on the other server');
$far[1]->start;
wait_for_sql($dbh, "SELECT parked = 0 FROM persist_stats WHERE target_name = 'public.spread'");
is(finish_sql($flusher), '00000', 'stopped in between: who asked is told');
is(counts(), '800 799 800', 'stopped in between: each is there, once');
is(one_value($dbh, $state), '0 0 0', 'stopped in between: none has died, none is left');

done_testing();
