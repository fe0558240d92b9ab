
# Clients on the coordinator write into distributed tables, while it and its nodes are killed with
# -9, one after the other.  Every row that was acknowledged is there exactly once, whatever was in
# its COMMIT; so is every addition to a counter (an upsert).
#
# PP_KILLS: how many (10).  PP_SEED: of the random numbers.  It does sleep: this is about stretches
# of random time.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../t", $FindBin::RealBin;

use Citus;
use PersistPipeline;
use Test::More;
use Time::HiRes qw(sleep time);
use Torture;

my $kills = $ENV{PP_KILLS} || 10;
my $seed = $ENV{PP_SEED} || time % 100_000;
my $clients = 4;

# what isn't flushed by a commit stays in memory
my ($coordinator, @nodes) = citus_nodes('kills',
	'persist_pipeline.flush_interval' => "'20ms'",
	'citus.recover_2pc_interval' => "'1s'",
	restart_after_crash => 'on',
	wal_writer_delay => "'10s'");
my %name_of = ($coordinator => 'coordinator', map { $nodes[$_] => "node $_" } 0 .. $#nodes);

distribute($coordinator, 'spread', 'n int, w int, v text', 8);
distribute($coordinator, 'counters', 'n int PRIMARY KEY, hits bigint', 8);
$coordinator->safe_psql('postgres', $_) foreach (
	q{SELECT persist_configure('counters', on_conflict => 'update', conflict_columns => '{n}', add_columns => '{hits}')},
	'CREATE TABLE seen (w int, session int, tx int, first int, last int, outcome "char")');

# A transaction has rows of its own, adds their number to the client's counter, and one to that of all.
sub client
{
	my ($client) = @_;

	srand($seed + $client);
	record(
		$coordinator, $client,
		sub {
			my ($me, $dbh) = @_;
			my $count = 1 + int rand 20;
			my @range = ($me->{n} + 1, $me->{n} + $count);

			$me->{n} += $count;
			push @{ $me->{items} }, [@range];
			$dbh->begin_work;
			$dbh->do("SELECT count(persist_enqueue('spread'::regclass, jsonb_build_object('n', n, 'w', ?::int))) FROM generate_series(?::int, ?::int) AS n",
				undef, $client, @range);
			$dbh->do("SELECT persist_enqueue('counters'::regclass, jsonb_build_object('n', ?::int, 'hits', ?::int))", undef, @$_)
			  foreach [ $client, $count ], [ 0, $count ];
			commit_or_roll_back($me, $dbh);
			sleep rand 0.02;
		});
	return;
}

my @pids = start_load($coordinator, $clients, \&client);
my %killed;

srand($seed);
foreach my $i (1 .. $kills)
{
	my $victim = ($coordinator, @nodes)[ $i % 3 ];

	connect_when_up($coordinator);
	sleep 0.5 + rand 2;
	kill_server($victim, rand() < 0.7);
	$killed{ $name_of{$victim} }++;
}
connect_when_up($coordinator);
end_load($coordinator);
children_succeeded('clients', @pids);
ok(wait_until_drained($coordinator), 'after the last kill all was written, and nobody has asked for it');

my $dbh = connect_to($coordinator);
wait_until('nothing is prepared', sub { !grep { $_->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts') } @nodes });
copy_seen($dbh, $coordinator, $clients, 'seen');
$dbh->do('CREATE TABLE result AS SELECT s.w, s.tx, n, s.outcome, count(a.n) AS rows FROM seen AS s CROSS JOIN generate_series(s.first, s.last) AS n'
	  . ' LEFT JOIN (SELECT * FROM spread OFFSET 0) AS a USING (w, n) GROUP BY s.w, s.tx, n, s.outcome');
my %of = map { @$_ } @{ $dbh->selectall_arrayref('SELECT outcome, count(*) FROM result GROUP BY outcome') };
my $there = one_value($dbh, 'SELECT count(*) FROM spread');
note "seed $seed; killed " . join(', ', map {"$_ $killed{$_}"} sort keys %killed) . "; acknowledged $of{a}, rolled back $of{r}, doubtful "
  . ($of{d} // 0) . "; $there rows; batches " . one_value($dbh, 'SELECT sum(batches) FROM persist_stats');

cmp_ok($of{a}, '>', 0, 'rows were acknowledged');
finds_nothing($dbh, 'every acknowledged row is there', q{SELECT FROM result WHERE outcome = 'a' AND rows = 0});
finds_nothing($dbh, 'no row is there twice', q{SELECT FROM result WHERE rows > 1});
finds_nothing($dbh, 'no row is there that was rolled back', q{SELECT FROM result WHERE outcome = 'r' AND rows > 0});
finds_nothing($dbh, 'a transaction that was cut off is there as a whole, or not at all',
	q{SELECT FROM result WHERE outcome = 'd' GROUP BY w, tx HAVING min(rows) <> max(rows)});
is($there, one_value($dbh, 'SELECT sum(rows) FROM result'), 'nothing else is there');
finds_nothing($dbh, 'each counter is the number of the rows',
	q{SELECT n, hits, rows FROM (SELECT n, hits FROM counters OFFSET 0) AS c
	  FULL JOIN (SELECT w AS n, sum(rows) AS rows FROM result GROUP BY w UNION ALL SELECT 0, sum(rows) FROM result) AS r USING (n)
	  WHERE hits IS DISTINCT FROM nullif(rows, 0)});
is(one_value($dbh, 'SELECT sum(dead) FROM persist_stats'), '0', 'no row has died');

# ---- a crash right after the worker's commit, which nobody else has flushed

my $rounds = 3;
distribute($coordinator, 'once', 'n int, v text');
foreach my $round (1 .. $rounds)
{
	$dbh = connect_to($coordinator);
	$dbh->do('CHECKPOINT');
	enqueue_numbers($dbh, 'once', $round * 10 + 1, $round * 10 + 5);
	wait_for_sql($dbh, "SELECT count(*) >= $round * 5 FROM once");
	$dbh->disconnect;
	kill_server($coordinator, 1);
}
ok(wait_until_drained($coordinator), 'right after: nothing is left');
is($coordinator->safe_psql('postgres', "SELECT count(*) || ' ' || count(DISTINCT n) FROM once"), join(' ', (5 * $rounds) x 2), 'right after: each is there once');

done_testing();
