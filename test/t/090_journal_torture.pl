
# Clients write single rows and small transactions, while the postmaster, the
# worker or a backend is killed with -9 again and again.  Every item that was
# acknowledged is in its table exactly once, in order; what was rolled back is not
# there; a transaction whose COMMIT was cut off is there as a whole or not at all.
# After the last kill nobody calls the extension: the worker comes by itself.
#
# PP_KILLS: how many (6; a full run is 50).  PP_SEED: of the random numbers.  This
# one is about stretches of random time, so it does sleep.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;
use Time::HiRes 'time';
use Torture;

my $kills = $ENV{PP_KILLS} || 6;
my $seed = $ENV{PP_SEED} || time % 100_000;
my $clients = 8;

my $node = pp_node(
	'journal_torture',
	'persist_pipeline.flush_interval' => "'20ms'",
	checkpoint_timeout => "'1h'",
	max_wal_senders => 1,    # or else no commit waits for a standby
	restart_after_crash => 'on',
	wal_level => 'replica');
my $everything_from = log_position($node);

create_family($node, 'l');
$node->safe_psql('postgres', 'CREATE TABLE m (n int, ins bigint);
	CREATE TRIGGER number BEFORE INSERT ON m FOR EACH ROW EXECUTE FUNCTION number()');

sub client
{
	my ($client) = @_;

	srand($seed + $client);
	record(
		$node, $client,
		sub {
			my ($me, $dbh) = @_;
			my $enqueue = sub {
				my ($target, $row) = @_;

				return one_value($dbh, "SELECT persist_enqueue('$target'::regclass, jsonb_build_object('w', ?::int, 'n', ?::int))", $client, $row);
			};

			family_transaction($me, $dbh, $enqueue, 1, 1 + int rand 4, 1);
		});
	return;
}

# ---- the load

my @pids = start_load($node, $clients, \&client);

srand($seed);
my %killed = kill_at_random($node, $kills - 1);

# The last kill: with items that wait, for an hour if need be.
connect_when_up($node);
$node->append_conf('postgresql.conf', "persist_pipeline.adaptive_flush = off\npersist_pipeline.flush_interval = '1h'");
$node->reload;
ok(wait_for_queue($node, "items_pending >= 300"), 'items wait');
my $pending = queue_value($node, 'items_pending');
end_load($node);
kill_server($node, 1);
$killed{postmaster}++;
children_succeeded('clients', @pids);
ok(wait_until_drained($node), 'after the last kill the worker came by itself and left nothing');

# ---- what became of it

my $dbh = connect_to($node);
my ($acknowledged, $sessions, $counts) = load_family($dbh, $node, $clients);

note "seed $seed; killed " . join(', ', map { "$_ $killed{$_}" } sort keys %killed) . "; $counts; $pending pending at the last kill";

cmp_ok($acknowledged, '>', 0, 'items were acknowledged');
cmp_ok($sessions, '>', $clients, 'sessions were broken');

check_family($dbh);
finds_nothing($dbh, 'the rows of each client are in order, also from one of its sessions to the next',
	q{SELECT FROM (SELECT ins, lag(ins) OVER (PARTITION BY w ORDER BY n) AS before FROM l) AS s WHERE ins <= before});
check_family_ids($dbh);

# ---- an immediate stop

$dbh->do("SELECT persist_enqueue('m', jsonb_build_object('n', ?::int))", undef, $_) foreach 1 .. 200;
foreach my $tx (0 .. 99)
{
	$dbh->begin_work;
	$dbh->do("SELECT persist_enqueue('m', jsonb_build_object('n', ?::int))", undef, 201 + 3 * $tx + $_) foreach 0 .. 2;
	$dbh->commit;
}
my $last_id = one_value($dbh, "SELECT persist_enqueue('m', jsonb_build_object('n', 501))");
is(one_value($dbh, "SELECT items_pending FROM persist_queue"), '501', 'immediate stop: items wait');
is(one_value($dbh, "SELECT count(*) FROM m"), '0', 'immediate stop: none is written');
$dbh->disconnect;

$node->stop('immediate');
$node->start;
ok(wait_until_drained($node), 'immediate stop: the worker came by itself and left nothing');
is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY ins) = array(SELECT generate_series(1, 501)) FROM m"),
	't', 'immediate stop: all there, each once, in order');
is($node->safe_psql('postgres', "SELECT count(*) FROM ids WHERE highest >= $last_id"), '0', 'ids go on after those of the load');
cmp_ok($node->safe_psql('postgres', "SELECT persist_enqueue('m', '{\"n\": 502}')"),
	'>', $last_id, 'immediate stop: ids go on after it');

# ---- transactions that are committed, and cut off before they are acknowledged

ok(flush($node), 'unacknowledged: flushed');
$node->safe_psql('postgres', "TRUNCATE m");
my $hanging = hang_commits($node);
my @cut_off = map {
	my $items = sprintf "SELECT persist_enqueue('m', jsonb_build_object('n', i)) FROM generate_series(%d, %d) AS i", 3 * $_ - 2, 3 * $_;

	hang_in_commit($node, "unacknowledged: transaction $_", sub { $_[0]->do($items) });
} 1 .. 3;
is($node->safe_psql('postgres', "SELECT $pending_sql"), '0', 'unacknowledged: nobody sees their items');
$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
kill_server($node, 1);
$_->{InactiveDestroy} = 1 foreach $hanging, @cut_off;
ok(wait_until_drained($node), 'unacknowledged: the worker came by itself and left nothing');
is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY ins) FROM m"),
	'{1,2,3,4,5,6,7,8,9}', 'unacknowledged: their items are there, each once, in order');

is_deeply(
	[
		complaints(
			$node, $everything_from,
			qr/57P02 WARNING:  terminating connection because of crash of another server process/,
			qr/57P03 FATAL:  the database system is (starting up|in recovery mode|not yet accepting connections|shutting down)/,
			qr/FATAL:  terminating connection due to unexpected postmaster exit/,
			qr/FATAL:  (lock file "postmaster.pid" already exists|pre-existing shared memory block)/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
