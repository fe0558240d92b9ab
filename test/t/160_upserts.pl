
# on_conflict => 'update' among others: what clients add to counters is there exactly, whoever
# else updates the same rows, deadlocks, and dies with kill -9 meanwhile; and items of one
# key come in their order, though the row was locked.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

use constant CLIENTS => 4;
use constant TRANSACTIONS => 600;    # of each client, or as many as there are until the last crash
use constant KEYS => 5;

my $seed = $ENV{PP_SEED} || time;
note "PP_SEED=$seed";

my $node = pp_node(
	'upserts',
	'persist_pipeline.flush_interval' => "'5ms'",
	'persist_pipeline.lock_timeout' => "'100ms'",
	deadlock_timeout => "'10ms'",
	restart_after_crash => 'on');

$node->safe_psql(
	'postgres', q{
	CREATE TABLE counters (k int PRIMARY KEY, n bigint NOT NULL, big numeric);
	CREATE TABLE watched (LIKE counters INCLUDING ALL);
	CREATE TABLE done (target text, k int, n bigint);
	CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
	CREATE TRIGGER watch BEFORE INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION watch();
	SELECT persist_configure(target, durability => 'journal', on_conflict => 'update', conflict_columns => '{k}', add_columns => '{n,big}')
	FROM unnest('{counters,watched}'::regclass[]) AS target;
});

# What the counters say, and what they should.
my $sums = q{SELECT target, k, sum(n), sum(n) FROM done GROUP BY target, k ORDER BY 1, 2};
my $counters = q{SELECT * FROM (SELECT 'counters' AS target, * FROM counters UNION ALL SELECT 'watched', * FROM watched) AS c ORDER BY 1, 2};

my $crashed = $node->basedir . '/crashed';

# Commit so many transactions, which say what they do, whatever becomes of the server.
sub commit_some
{
	my ($deed) = @_;
	my $dbh = connect_when_up($node);

	for (my $n = 0; $n < TRANSACTIONS || !-e $crashed;)
	{
		if (eval { $dbh->begin_work; $deed->($dbh); $dbh->commit; 1 })
		{
			$n++;
			next;
		}
		eval { $dbh->disconnect };
		$dbh = connect_when_up($node);
	}
	return;
}

sub any_target
{
	return rand() < 0.5 ? 'counters' : 'watched';
}

sub enqueue_some
{
	my ($dbh) = @_;

	foreach (1 .. 1 + rand 5)
	{
		my ($target, $k, $n) = (any_target(), int rand KEYS, int(rand 20) - 5);

		$dbh->do("SELECT persist_enqueue('$target', '{\"k\": $k, \"n\": $n, \"big\": $n}')");
		$dbh->do("INSERT INTO done VALUES ('$target', $k, $n)");
	}
	return;
}

# Of two rows, in any order
sub update_some
{
	my ($dbh) = @_;
	my $target = any_target();

	foreach my $k (int rand KEYS, int rand KEYS)
	{
		my $updated = $dbh->do("UPDATE $target SET n = n + 1, big = big + 1 WHERE k = $k");

		$dbh->do("INSERT INTO done VALUES ('$target', $k, 1)") if $updated > 0;
	}
	return;
}

# ---- exact sums ----

my @pids = in_children(
	CLIENTS,
	sub {
		my ($client) = @_;

		srand($seed + $client);
		commit_some($client == CLIENTS ? \&update_some : \&enqueue_some);
	});

foreach my $crash (1 .. 3)
{
	my $from = log_position($node);

	wait_until(
		"clients have come so far, for the $crash. time",
		sub {
			my ($code, $n) = $node->psql('postgres', 'SELECT count(*) FROM done');

			return $code == 0 && $n > $crash * 300;
	});
	kill 'KILL', wait_for_new_worker($node, 0);
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $from);
	pass("crash $crash");
}
open my $told, '>', $crashed or die "$crashed: $!";
close $told;
children_succeeded('clients', @pids);
connect_when_up($node)->disconnect;
drain($node);
is($node->safe_psql('postgres', $counters), $node->safe_psql('postgres', $sums), 'the counters are what was added to them');
is($node->safe_psql('postgres', 'SELECT count(*) FROM persist_dead_letters'), '0', 'no dead letters');

# ---- in their order, though the row is locked ----

{
	my $dbh = connect_to($node);
	my $locking = connect_to($node);

	$dbh->do('CREATE TABLE latest (k int PRIMARY KEY, v text)');
	$dbh->do(q{SELECT persist_configure('latest', on_conflict => 'update', conflict_columns => '{k}')});
	$dbh->do(q{INSERT INTO latest SELECT k, 'old' FROM generate_series(1, 3) AS k});
	$locking->begin_work;
	$locking->do('SELECT FROM latest WHERE k = 1 FOR UPDATE');
	$dbh->do(q{SELECT persist_enqueue('latest', jsonb_build_object('k', k, 'v', 'first')) FROM generate_series(1, 3) AS k});
	wait_for_sql($dbh, "SELECT parked = 3 FROM persist_stats WHERE target = 'latest'::regclass");
	pass('locked: those of other keys wait, too, since their order counts');
	$dbh->do(q{SELECT persist_enqueue('latest', jsonb_build_object('k', k, 'v', 'last')) FROM generate_series(1, 3) AS k});
	wait_for_sql($dbh, "SELECT parked = 6 FROM persist_stats WHERE target = 'latest'::regclass");
	$locking->commit;
	drain($node);
	is_deeply([ rows_of($dbh, 'SELECT * FROM latest ORDER BY k') ], [ '1 last', '2 last', '3 last' ], 'locked: the last ones are there');
}

done_testing();
