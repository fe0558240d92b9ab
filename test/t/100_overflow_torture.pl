
# A ring that overflows: it is small, the targets are locked half of the time, and
# clients write transactions of 1 to 5,000 items, of which the large ones use a
# temporary file, while the postmaster, the worker or a backend is killed with -9
# again and again.  Nobody sees a difference to the journal's torture test: every item
# that was acknowledged is in its table exactly once, in order; what was rolled back is
# not there; a transaction whose COMMIT was cut off is there as a whole or not at all.
#
# PP_OVERFLOW_KILLS: how many (4; a full run is 30).  PP_SEED: of the random numbers.  This one
# is about stretches of random time, so it does sleep.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;
use Time::HiRes qw(sleep time);
use Torture;

my $kills = $ENV{PP_OVERFLOW_KILLS} || 4;
my $seed = $ENV{PP_SEED} || time % 100_000;
my $clients = 8;
my $largest = 5000;
my @targets = ('p', 'c', 'l');

my $node = pp_node(
	'overflow_torture',
	'persist_pipeline.flush_interval' => "'20ms'",
	'persist_pipeline.journal_limit' => "'16GB'",
	'persist_pipeline.lock_timeout' => "'100ms'",
	'persist_pipeline.ring_size' => "'256kB'",
	'persist_pipeline.role_quota' => 100,
	'persist_pipeline.transaction_buffer' => "'64kB'",
	'persist_pipeline.worker_idle_timeout' => "'1h'",    # the checks may take longer than the default
	checkpoint_timeout => "'1h'",
	max_wal_senders => 1,    # or else no commit waits for a standby
	max_wal_size => "'4GB'",
	restart_after_crash => 'on',
	wal_level => 'replica');
my $everything_from = log_position($node);

note "seed $seed";

create_family($node, @targets);

# Enqueue these numbers, in one of three ways; returns the ids.
sub enqueue
{
	my ($client, $dbh, $target, $first, $last) = @_;
	my $object = "jsonb_build_object('w', $client, 'n', i)";
	my $series = "generate_series($first, $last) AS i";

	return @{
		$dbh->selectcol_arrayref(
			$first < $last && rand() < 0.5
			? "SELECT unnest(persist_enqueue_many('$target'::regclass, (SELECT jsonb_agg($object ORDER BY i) FROM $series)))"
			: "SELECT persist_enqueue('$target'::regclass, $object) FROM $series")
	};
}

# How many items: mostly few, and now and then very many.
sub random_size
{
	return rand() < 0.8 ? 1 + int rand 4 : int exp rand log $largest;
}

sub client
{
	my ($client) = @_;

	srand($seed + $client);
	record(
		$node, $client,
		sub {
			my ($me, $dbh) = @_;
			my $size = random_size();

			family_transaction($me, $dbh, sub { enqueue($client, $dbh, @_) }, $size, 1 + int rand 3, 1 + int $size / 9);
			sleep rand 0.02;
		});
	return;
}

# Locks the targets half of the time.
sub locker
{
	my ($dbh) = @_;

	$dbh->begin_work;
	$dbh->do("LOCK TABLE p, c, l IN EXCLUSIVE MODE");
	sleep 0.1 + rand 0.5;
	$dbh->commit;
	sleep 0.1 + rand 0.5;
	return;
}

# ---- the load

my @pids = start_load($node, $clients, \&client, sub { srand($seed); again_and_again($node, \&locker, '40P01') });

# Before every second one what is in the journal alone waits.
srand($seed);
my %killed = kill_at_random(
	$node,
	$kills - 1,
	sub {
		my ($i) = @_;

		ok(wait_for_queue($node, 'diverted AND items_pending > 0'), "kill $i: the ring is diverted") if $i % 2;
	});

# The last kill: with items that wait, since their targets are locked.
my $lock = wait_until(
	'targets are locked',
	sub {
		my $session = connect_if_up($node) or return;

		$session->begin_work;
		return $session if defined $session->do("LOCK TABLE p, c, l IN EXCLUSIVE MODE");
		$session->disconnect;
		return;
	});
ok(wait_for_queue($node, "items_pending >= 3000 AND diverted"), 'items wait');
my $pending = queue_value($node, 'items_pending');
end_load($node);
kill_server($node, 1);
$lock->{InactiveDestroy} = 1;
$killed{postmaster}++;
children_succeeded('clients', @pids);
ok(wait_until_drained($node), 'after the last kill the worker came by itself and left nothing');

# ---- what became of it

my $dbh = connect_to($node);

$dbh->do("SET work_mem = '256MB'");
my ($acknowledged, $sessions, $counts) = load_family($dbh, $node, $clients);
my ($transactions, $large) =
  $dbh->selectrow_array("SELECT count(*), count(*) FILTER (WHERE items > 500) FROM (SELECT sum(last - first + 1) AS items FROM seen GROUP BY w, tx) AS q");

note "seed $seed; killed " . join(', ', map { "$_ $killed{$_}" } sort keys %killed)
  . "; $transactions transactions, $large of them large; $counts; $pending pending at the last kill";

cmp_ok($acknowledged, '>', 0, 'items were acknowledged');
cmp_ok($large, '>', 0, 'also of large transactions');
cmp_ok($sessions, '>', $clients, 'sessions were broken');

check_family($dbh);
finds_nothing($dbh, "the rows of each client are in order in $_, also from one of its sessions to the next",
	qq{SELECT FROM (SELECT ins, lag(ins) OVER (PARTITION BY w ORDER BY n) AS before FROM $_) AS s WHERE ins <= before})
  foreach @targets;
check_family_ids($dbh);

# ---- and the ring is what it was

is(one_value($dbh, "SELECT persist_flush()"), 1, 'flushed');
is(one_value($dbh, "SELECT format('%s %s %s %s', diverted, items_pending, journal_bytes, ring_used) FROM persist_queue"),
	'f 0 0 0', 'nothing is left, and nothing is held');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_ls_tmpdir()"), '0', 'no temporary file is left');
$dbh->disconnect;

# ---- large transactions that are committed, and cut off before they are acknowledged

my $hanging = hang_commits($node);
my @cut_off = map {
	my $n = $_;

	hang_in_commit($node, "unacknowledged: transaction $n", sub { enqueue(100 + $n, $_[0], 'l', 1, 500 * $n) });
} 1 .. 4;
is($node->safe_psql('postgres', "SELECT $pending_sql"), '0', 'unacknowledged: nobody sees their items');
$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
kill_server($node, 1);
$_->{InactiveDestroy} = 1 foreach $hanging, @cut_off;
ok(wait_until_drained($node), 'unacknowledged: the worker came by itself and left nothing');
is( $node->safe_psql('postgres',
		"SELECT w, array_agg(n ORDER BY ins) = array(SELECT generate_series(1, 500 * (w - 100))) FROM l WHERE w > 100 GROUP BY w ORDER BY w"),
	join("\n", map { "$_|t" } 101 .. 104),
	'unacknowledged: their items are there, each once, in order');

is_deeply(
	[
		complaints(
			$node, $everything_from,
			qr/57P02 WARNING:  terminating connection because of crash of another server process/,
			qr/57P03 FATAL:  the database system is (starting up|in recovery mode|not yet accepting connections|shutting down)/,
			qr/client backend 40P01 ERROR:  deadlock detected/,    # the locker
			qr/FATAL:  terminating connection due to unexpected postmaster exit/,
			qr/FATAL:  (lock file "postmaster.pid" already exists|pre-existing shared memory block)/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
