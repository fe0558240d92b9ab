
# Clients write single rows while the worker is terminated every second and the
# server restarted three times.  Every item that was acknowledged is in the table
# exactly once, in order; a refused one is not there; the log is clean.
#
# PP_TORTURE_SECONDS: how long (10; a full run is 60).  This one is about a
# stretch of time, so it does sleep.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use Torture;

my $seconds = $ENV{PP_TORTURE_SECONDS} || 10;
my $clients = 8;
my $restarts = 3;

my $node = pp_node(
	'torture',
	'persist_pipeline.shutdown_timeout' => "'60s'",
	checkpoint_timeout => "'1h'");
my $everything_from = log_position($node);
my $dir = $node->basedir;

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (client int, seq int, ins bigint);

	-- what the clients saw; r(olled back): an error, and the session lives
	CREATE TABLE seen (client int, session int, seq int, outcome "char");
} . number_rows('t'));

my $end = time + $seconds;    # at the least

# Each transaction is one item.
sub transaction
{
	my ($me, $dbh) = @_;

	push @{ $me->{items} }, [];
	$me->{outcome} = 'd';
	my $state = try_sql($dbh,
		"SELECT persist_enqueue('t'::regclass, jsonb_build_object('client', ?::int, 'seq', ?::int))",
		@$me{qw(number tx)});

	if ($state eq '00000')
	{
		$me->{outcome} = 'a';
		return;
	}
	die "SQLSTATE $state: " . $dbh->errstr
	  if $dbh->errstr !~ /^ERROR:  the ring of database "postgres" is (closed|full)/ || $state ne ($1 eq 'closed' ? '57P01' : '53000');
	$me->{outcome} = 'r';
	sleep 0.005;
	return;
}

my $last = 0;    # that was terminated: it may take a while to leave

sub terminator
{
	my ($dbh) = @_;

	sleep 1;
	my $pid = terminate_worker($dbh);

	append_to_file("$dir/terminations", "$pid\n") if $pid && $pid != $last;
	$last = $pid if $pid;
	return;
}

# Wait until items of all clients have been written.
sub wait_for_clients
{
	my $before = $node->safe_psql('postgres', "SELECT coalesce(max(ins), 0) FROM t");

	$node->poll_query_until('postgres', "SELECT count(DISTINCT client) = $clients FROM t WHERE ins > $before")
	  or die 'not all clients write';
	return;
}

my @pids = start_load($node, $clients, sub { record($node, $_[0], \&transaction) }, sub { again_and_again($node, \&terminator) });

foreach my $i (1 .. $restarts)
{
	my $at = $end - $seconds + $seconds * $i / ($restarts + 1);

	sleep $at - time if $at > time;
	wait_for_clients();
	$node->restart;    # fast
}
wait_for_clients();
wait_until('the end', sub { time >= $end && -s "$dir/terminations" });
end_load($node);
children_succeeded('clients', @pids);
ok(flush($node), 'flushed');

my $dbh = connect_to($node);
copy_seen($dbh, $node, $clients, 'seen');
$dbh->do("ANALYZE");

my ($acknowledged, $refused, $doubtful, $sessions) = $dbh->selectrow_array(
	q{SELECT count(*) FILTER (WHERE outcome = 'a'), count(*) FILTER (WHERE outcome = 'r'),
	         count(*) FILTER (WHERE outcome = 'd'), count(DISTINCT (client, session)) FROM seen});
my ($rows) = $dbh->selectrow_array("SELECT count(*) FROM t");
my $terminations = () = slurp_file("$dir/terminations") =~ /\n/g;

note "$seconds s, $clients clients, $sessions sessions: $acknowledged acknowledged, $refused refused, "
  . "$doubtful doubtful; $rows rows; $terminations terminations, $restarts restarts";

cmp_ok($acknowledged, '>', 0, 'items were acknowledged');
cmp_ok($terminations, '>', 0, 'the worker was terminated');
cmp_ok($sessions, '>', $clients, 'sessions were broken');

finds_nothing($dbh, 'every acknowledged item is there',
	q{SELECT FROM seen LEFT JOIN t USING (client, seq) WHERE outcome = 'a' AND t.ins IS NULL});
finds_nothing($dbh, 'no item is there twice', q{SELECT client, seq FROM t GROUP BY client, seq HAVING count(*) > 1});
finds_nothing($dbh, 'a refused item is not there', q{SELECT FROM seen JOIN t USING (client, seq) WHERE outcome = 'r'});
finds_nothing($dbh, 'nothing else is there', q{SELECT FROM t LEFT JOIN seen USING (client, seq) WHERE seen.outcome IS NULL});
finds_nothing($dbh, 'within each session they are in order',
	q{SELECT FROM (SELECT ins, lag(ins) OVER (PARTITION BY client, session ORDER BY seq) AS before
	               FROM seen JOIN t USING (client, seq)) AS s WHERE ins < before});
finds_nothing($dbh, 'and so are those acknowledged, from one session of a client to the next',
	q{SELECT FROM (SELECT ins, lag(ins) OVER (PARTITION BY client ORDER BY seq) AS before
	               FROM seen JOIN t USING (client, seq) WHERE outcome = 'a') AS s WHERE ins < before});
$dbh->disconnect;

# the last one says so when all is flushed
my @stopped;
ok( eval {
		wait_until('the last one has stopped', sub { (@stopped = log_since($node, $everything_from, qr/persist_pipeline worker .*stopped: /)) >= $terminations });
	},
	'every termination was a stop');
is_deeply([ grep { !/none left|in the journal/ } @stopped ], [], 'that lost nothing');
is_deeply(
	[
		complaints(
			$node,
			$everything_from,
			qr/client backend 57P01 ERROR:  the ring of database "postgres" is closed/,
			qr/client backend 53000 ERROR:  the ring of database "postgres" is full/,
			qr/client backend 57P01 FATAL:  terminating connection due to administrator command/,
			qr/57P03 FATAL:  the database system is (shutting down|starting up)/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
