
# Stops with items that wait.  A fast stop ends soon after shutdown_timeout whatever
# waits and whatever a trigger does, and nothing is lost: not what the worker had no
# time for, not what is in the ring alone, not in databases that have no worker.
#
# PP_PENDING: items that wait at the first stop (50000; a full run is 1000000).
# PP_STOPS: how many stops under load (3; a full run is 20).

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;
use Torture;

my $items = $ENV{PP_PENDING} || 50_000;
my $stops = $ENV{PP_STOPS} || 3;
my $clients = 4;
my $databases = 5;    # more than max_workers + 1

my $shutdown_timeout = 2;
my $at_most = $shutdown_timeout + 3;

my $node = pp_node(
	'journal_stop',
	'persist_pipeline.flush_interval' => "'10ms'",
	'persist_pipeline.max_databases' => $databases + 1,
	'persist_pipeline.lock_timeout' => 0,    # what waits for a lock is not parked
	'persist_pipeline.max_workers' => 1,
	'persist_pipeline.shutdown_timeout' => "'${shutdown_timeout}s'",
	'persist_pipeline.statement_timeout' => 0,    # or else an item that sleeps is bad
	checkpoint_timeout => "'1h'");

# Seconds of a fast stop; the server is running again afterwards, unless it hung.
sub stop_and_start
{
	my ($name) = @_;
	my $seconds = seconds_of(sub { $node->stop('fast') });

	note sprintf '%s: stopped within %.1f s', $name, $seconds;
	is_quick($seconds, $at_most, "$name: the stop is not held up");
	$node->start;
	return;
}

# What a stop may bring about for the clients, and nothing of ours.
my @of_clients = (
	qr/client backend 57P01 FATAL:  terminating connection due to administrator command/,
	qr/57P03 FATAL:  the database system is (shutting down|starting up)/);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (n int, ins bigint);
	CREATE TABLE l (w int, n int, ins bigint);
	CREATE UNLOGGED TABLE u (n int, ins bigint);

	CREATE TABLE seen (w int, session int, tx int, n int, outcome "char");
} . number_rows('l', 'u'));

# The trigger's function, awake or asleep.  A worker that sleeps in the old one does
# so until it is ended.
sub define_sleep
{
	my ($code) = @_;

	$node->safe_psql('postgres',
		"CREATE OR REPLACE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS"
		  . " \$\$ BEGIN $code RETURN NEW; END \$\$");
	return;
}

# ---- many items wait, since their table is locked until the stop

{
	my $from = log_position($node);
	my $locker = connect_to($node);

	$locker->begin_work;
	$locker->do("LOCK TABLE t IN SHARE MODE");
	children_succeeded(
		'many: clients',
		in_children(
			2,
			sub {
				my ($client) = @_;
				my $dbh = connect_to($node);
				my $half = $items / 2;

				for (my $n = 1 + $half * ($client - 1); $n <= $half * $client; $n += 1000)
				{
					$dbh->do("SELECT persist_enqueue('t'::regclass, jsonb_build_object('n', i)) FROM generate_series($n, $n + 999) AS i");
				}
			}));
	is($node->safe_psql('postgres', "SELECT items_pending FROM persist_queue"), $items, "many: $items items wait");
	$locker->{InactiveDestroy} = 1;
	stop_and_start('many');
	note 'many: ' . join '', log_since($node, $from, qr/persist_pipeline worker for database "postgres" (stopped|was forced)/);
	ok(wait_until_drained($node), 'many: after the start the worker came by itself and left nothing');
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n), min(n), max(n) FROM t"),
		"$items|$items|1|$items", 'many: all there, each once');
	is(scalar(complaints($node, $from, @of_clients, qr/WARNING:  .*was forced to stop/)), 0, 'many: a clean log');
}

# ---- stops under load, with a trigger that sleeps

define_sleep("IF NEW.n % 1000 = 500 THEN PERFORM pg_sleep(60); END IF;");
$node->safe_psql('postgres', "CREATE TRIGGER sleep BEFORE INSERT ON l FOR EACH ROW EXECUTE FUNCTION sleep()");
my $under_load = 'WHERE stopped_at > ' . $node->safe_psql('postgres', "SELECT quote_literal(clock_timestamp())");

sub transaction
{
	my ($me, $dbh) = @_;
	my ($first, $last) = ($me->{n} + 1, $me->{n} + 1 + $me->{n} % 3);

	$me->{n} = $last;
	@$me{qw(items outcome)} = ([ map { [$_] } $first .. $last ], 'd');
	$dbh->do("SELECT persist_enqueue('l'::regclass, jsonb_build_object('w', ?::int, 'n', i)) FROM generate_series(?::int, ?::int) AS i",
		undef, $me->{number}, $first, $last);
	$me->{outcome} = 'a';
	return;
}

{
	my $from = log_position($node);
	my @pids = start_load($node, $clients, sub { record($node, $_[0], \&transaction) });

	foreach my $i (1 .. $stops)
	{
		my $stop_from = log_position($node);

		ok(wait_until_worker_sleeps($node), "load: stop $i: the worker is asleep in a trigger");
		define_sleep('') if $i == $stops;
		stop_and_start("load: stop $i");
		is(scalar(log_since($node, $stop_from, qr/WARNING:  .*was forced to stop/)), 1, "load: stop $i: one WARNING");
	}
	end_load($node);
	children_succeeded('load: clients', @pids);

	ok(wait_until_drained($node), 'load: in the end the worker left nothing');

	my $dbh = connect_to($node);
	is(one_value($dbh, "SELECT count(*) FROM persist_shutdowns $under_load AND forced"), $stops, 'load: each stop is recorded as forced');
	is(one_value($dbh, "SELECT count(*) FROM persist_shutdowns $under_load AND NOT forced"), 0, 'load: and no other');
	is(one_value($dbh, "SELECT count(*) FROM persist_shutdowns $under_load AND seconds < $shutdown_timeout"), 0, 'load: with how long it took');
	is_quick(one_value($dbh, "SELECT max(seconds) FROM persist_shutdowns $under_load"), $at_most, 'load: which is no longer than it has to be');
	is_deeply([ complaints($node, $from, @of_clients, qr/WARNING:  .*was forced to stop/) ], [], 'load: the log holds nothing else');

	copy_seen($dbh, $node, $clients, 'seen');
	$dbh->do("ANALYZE");

	my ($acknowledged, $doubtful) = $dbh->selectrow_array(
		q{SELECT count(*) FILTER (WHERE outcome = 'a'), count(*) FILTER (WHERE outcome = 'd') FROM seen});
	note "load: $acknowledged items acknowledged, $doubtful doubtful, " . one_value($dbh, "SELECT count(*) FROM l") . ' rows';
	cmp_ok($acknowledged, '>', 1000, 'load: items were acknowledged');
	is(one_value($dbh, "SELECT count(*) FROM seen LEFT JOIN l USING (w, n) WHERE outcome = 'a' AND ins IS NULL"),
		0, 'load: every acknowledged item is there');
	is(one_value($dbh, "SELECT count(*) FROM (SELECT w, n FROM l GROUP BY w, n HAVING count(*) > 1) AS q"),
		0, 'load: none is there twice');
	is(one_value($dbh, "SELECT count(*) FROM (SELECT w, n FROM l EXCEPT SELECT w, n FROM seen) AS q"),
		0, 'load: nothing else is there');
	is( one_value($dbh,
			q{SELECT count(*) FROM (SELECT ins, lag(ins) OVER (PARTITION BY w ORDER BY n) AS before FROM l) AS s WHERE ins <= before}),
		0,
		'load: the rows of each client are in order');
	$dbh->disconnect;
}

# ---- items that are in the ring alone, at a forced stop

define_sleep("PERFORM pg_sleep(60);");
{
	my $from = log_position($node);
	my $dbh = connect_to($node);

	$node->safe_psql('postgres', "CREATE TRIGGER sleep BEFORE INSERT ON u FOR EACH ROW EXECUTE FUNCTION sleep();"
		  . "TRUNCATE t");
	$dbh->do("SELECT persist_enqueue('u', '{\"n\": 1}')");
	ok(wait_until_worker_sleeps($node), 'ring only: the worker is asleep in a trigger');
	$dbh->do("SELECT persist_enqueue('u', jsonb_build_object('n', ?::int))", undef, $_) foreach 2 .. 100;
	$dbh->do("SELECT persist_enqueue('u', jsonb_build_object('n', i)) FROM generate_series(101, 1000) AS i");
	$dbh->begin_work;
	$dbh->do("SELECT persist_enqueue('t', jsonb_build_object('n', i), false) FROM generate_series(1, 100) AS i");
	$dbh->rollback;
	$dbh->disconnect;
	is($node->safe_psql('postgres', "SELECT $pending_sql"), '0', 'ring only: nothing of it is in the journal');
	is(queue_value($node, 'items_pending'), '1100', 'ring only: 1,100 items wait');
	define_sleep('');
	stop_and_start('ring only');
	is(scalar(log_since($node, $from, qr/WARNING:  .*was forced to stop: .* 0 items drained, 1100 in the journal/)),
		1, 'ring only: one WARNING says that they are in the journal');
	ok(wait_until_drained($node), 'ring only: the next worker came by itself and left nothing');
	is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY ins) = array(SELECT generate_series(1, 1000)) FROM u"),
		't', 'ring only: the items of an UNLOGGED table are there, each once, in order');
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t"),
		'100|100', 'ring only: so are those that were not transactional');
	is_deeply([ complaints($node, $from, @of_clients, qr/WARNING:  .*was forced to stop/) ], [], 'ring only: a clean log');
}

# ---- more databases with items than the stop has workers for
#
# In each a session locks the tables, until the stop: items wait for it, in the
# journal and in the ring alone.

{
	my $from = log_position($node);
	my (@lockers, @sessions, @sent);
	my @names = map { "db$_" } 1 .. $databases;

	foreach my $name (@names)
	{
		my $locker;

		$node->safe_psql('postgres', "CREATE DATABASE $name");
		$node->safe_psql($name,
			"CREATE EXTENSION persist_pipeline; CREATE TABLE t (n int); CREATE UNLOGGED TABLE u (n int)");
		$locker = connect_to($node, $name);
		$locker->begin_work;
		$locker->do("LOCK TABLE t, u IN SHARE MODE");
		push @lockers, $locker;
		push @sessions, connect_to($node, $name);
		push @sent, 0;
	}
	foreach my $session (@sessions)
	{
		$session->do("SELECT persist_enqueue('t', jsonb_build_object('n', ?::int))", undef, $_) foreach 1 .. 100;
	}

	# Those of an UNLOGGED table, in the ring or, where no worker is, in the journal;
	# a worker whose turn is over leaves none in its ring.
	foreach my $i (0 .. $#sessions)
	{
		$sessions[$i]->do("SELECT persist_enqueue('u', jsonb_build_object('n', ?::int))", undef, ++$sent[$i]) foreach 1 .. 10;
	}
	is( one_value($sessions[0], "SELECT string_agg(items_pending::text, ' ' ORDER BY datname) FROM persist_queue WHERE datname LIKE 'db%'"),
		join(' ', map { 100 + $_ } @sent),
		'databases: items wait in each');
	stop_and_start('databases');
	ok(wait_until_drained($node, @names), "databases: after the start workers left nothing in any journal");
	foreach my $i (0 .. $#names)
	{
		is($node->safe_psql($names[$i], "SELECT count(*), count(DISTINCT n) FROM t"),
			'100|100', "databases: $names[$i]: what was journalled is there, once");
		is($node->safe_psql($names[$i], "SELECT count(*), count(DISTINCT n) FROM u"),
			"$sent[$i]|$sent[$i]", "databases: $names[$i]: so is what was enqueued for an UNLOGGED table");
	}
	is_deeply([ complaints($node, $from, @of_clients) ], [], 'databases: a clean log');
	$_->{InactiveDestroy} = 1 foreach @lockers, @sessions;
}

$node->stop;
done_testing();
