
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

my $seconds = $ENV{PP_TORTURE_SECONDS} || 10;
my $clients = 8;
my $restarts = 3;

my $node = pp_node(
	'torture',
	'persist_pipeline.shutdown_timeout' => "'60s'",
	checkpoint_timeout => "'1h'");
my $everything_from = log_position($node);
my $dir = $node->basedir;

# `ins` is given by the flush, and tells the order in which rows were inserted.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (client int, seq int, ins bigint);
	CREATE SEQUENCE ins;
	CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN NEW.ins := nextval('ins'); RETURN NEW; END $$;
	CREATE TRIGGER number BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION number();

	-- what the clients saw: a(cknowledged), r(efused: an error, and the session
	-- lives), d(oubtful: the session broke)
	CREATE TABLE seen (client int, session int, seq int, outcome "char");
});

my $end = time + $seconds;    # at the least
my $stop_file = "$dir/stop";

sub client
{
	my ($client) = @_;
	my $session = 0;
	my $seq = 0;
	my $dbh;

	open my $seen, '>', "$dir/seen.$client" or die $!;
	while (!-e $stop_file)
	{
		my $state;
		my $outcome;

		if (!$dbh)
		{
			# while the server is down this fails
			$dbh = connect_to($node, 'postgres', raise => 0);
			sleep 0.05 if !$dbh;
			next if !$dbh;
			$session++;
		}

		$seq++;
		$state = try_sql($dbh,
			"SELECT persist_enqueue('t'::regclass, jsonb_build_object('client', ?::int, 'seq', ?::int))",
			$client, $seq);
		if ($state eq '00000')
		{
			$outcome = 'a';
		}
		elsif ($dbh->errstr =~ /^ERROR:  the ring of database "postgres" is (closed|full)/)
		{
			$outcome = 'r';
			die "SQLSTATE $state" if $state ne ($1 eq 'closed' ? '57P01' : '53000');
			sleep 0.005;
		}
		else
		{
			$outcome = 'd';
			die "SQLSTATE $state: " . $dbh->errstr if $dbh->ping;
			$dbh = undef;
		}
		print $seen "$client\t$session\t$seq\t$outcome\n";
	}
	close $seen or die $!;
	return;
}

# Terminates the worker every second.
sub terminator
{
	my $dbh;
	my $last = 0;    # it may take a while to leave

	while (!-e $stop_file)
	{
		sleep 1;
		$dbh = connect_to($node, 'postgres', raise => 0) if !$dbh || !$dbh->ping;
		next if !$dbh;
		$dbh->{RaiseError} = 0;

		# a worker that has left meanwhile is a WARNING
		$dbh->do("SET log_min_messages = error");
		my ($done, $pid) = $dbh->selectrow_array(
			"SELECT pg_terminate_backend(worker_pid), worker_pid FROM persist_queue WHERE worker_pid IS NOT NULL");
		append_to_file("$dir/terminations", "$pid\n") if $done && $pid != $last;
		$last = $pid if $done;
	}
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

END { append_to_file($stop_file, '') if $stop_file }    # clients end, whatever happens here
my @pids = in_children($clients + 1, sub { $_[0] <= $clients ? client($_[0]) : terminator() });

foreach my $i (1 .. $restarts)
{
	my $at = $end - $seconds + $seconds * $i / ($restarts + 1);

	sleep $at - time if $at > time;
	wait_for_clients();
	$node->restart;    # fast
}
wait_for_clients();
wait_until('the end', sub { time >= $end && -s "$dir/terminations" });
append_to_file($stop_file, '');
children_succeeded('clients', @pids);
ok(flush($node), 'flushed');

my $dbh = connect_to($node);
$dbh->do("COPY seen FROM stdin");
foreach my $client (1 .. $clients)
{
	open my $seen, '<', "$dir/seen.$client" or die $!;
	while (<$seen>) { $dbh->pg_putcopydata($_); }
	close $seen;
}
$dbh->pg_putcopyend;
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

sub none
{
	my ($what, $sql) = @_;

	is($dbh->selectrow_array("SELECT count(*) FROM ($sql) AS q"), 0, $what);
	return;
}

none('every acknowledged item is there',
	q{SELECT FROM seen LEFT JOIN t USING (client, seq) WHERE outcome = 'a' AND t.ins IS NULL});
none('no item is there twice', q{SELECT client, seq FROM t GROUP BY client, seq HAVING count(*) > 1});
none('a refused item is not there', q{SELECT FROM seen JOIN t USING (client, seq) WHERE outcome = 'r'});
none('nothing else is there', q{SELECT FROM t LEFT JOIN seen USING (client, seq) WHERE seen.outcome IS NULL});
none('within each session they are in order',
	q{SELECT FROM (SELECT ins, lag(ins) OVER (PARTITION BY client, session ORDER BY seq) AS before
	               FROM seen JOIN t USING (client, seq)) AS s WHERE ins < before});
none('and so are those acknowledged, from one session of a client to the next',
	q{SELECT FROM (SELECT ins, lag(ins) OVER (PARTITION BY client ORDER BY seq) AS before
	               FROM seen JOIN t USING (client, seq) WHERE outcome = 'a') AS s WHERE ins < before});
$dbh->disconnect;

my @stopped = log_since($node, $everything_from, qr/persist_pipeline worker .*stopped: /);
cmp_ok(scalar(@stopped), '>=', $terminations, 'every termination was a stop');
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
