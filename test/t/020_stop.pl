
# A stop that is not forced: nothing is lost, the log is clean, and it says what
# was done.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

# Items would wait for an hour: whatever is written at a stop, the stop wrote.
my $node = pp_node(
	'stop',
	'persist_pipeline.adaptive_flush' => 'off',
	'persist_pipeline.flush_interval' => "'1h'",
	'persist_pipeline.batch_size' => 1000000,
	'persist_pipeline.shutdown_timeout' => "'60s'",
	max_wal_senders => 1,    # or else no commit waits for a standby
	wal_level => 'replica');
my $everything_from = log_position($node);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (run text, n int);
	CREATE TABLE other (n int);
	CREATE ROLE alice; CREATE ROLE bob;
	GRANT INSERT ON t TO alice, bob;
	GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO alice, bob;
});

sub enqueue
{
	my ($run, $n) = @_;

	$node->safe_psql('postgres',
		"SELECT persist_enqueue('t', jsonb_build_object('run', '$run', 'n', i))"
		  . " FROM generate_series(1, $n) AS i");
	return;
}

sub is_complete
{
	my ($run, $n) = @_;

	is( $node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t WHERE run = '$run'"),
		"$n|$n",
		"$run: all there, each once");
	return;
}

# the last line that a worker wrote
sub stopped_line
{
	my ($from) = @_;

	return (log_since($node, $from, qr/persist_pipeline worker for database "postgres" (stopped|was forced)/))[-1];
}

# the last record of a stop
sub stopped_record
{
	return $node->safe_psql('postgres',
		"SELECT drained, journalled, forced FROM persist_shutdowns ORDER BY stopped_at DESC LIMIT 1");
}

# ---- every kind of clean stop, with a worker that waits

foreach my $mode ('fast', 'smart')
{
	my $from = log_position($node);

	enqueue($mode, 500);
	ok(wait_for_queue($node, "worker_state = 'gathering' AND items_pending = 500"), "$mode: items wait");
	$node->stop($mode);
	like(stopped_line($from), qr/stopped: \d+\.\d{3} s, 500 items drained, none left/, "$mode: the log says so");
	$node->start;
	is_complete($mode, 500);
	is(stopped_record(), '500|0|f', "$mode: and so does a table");
}

# ---- with several roles, several targets, and entries of many transactions

{
	my $from = log_position($node);
	my $dbh = connect_to($node);

	foreach my $n (1 .. 90)
	{
		$dbh->begin_work;
		$dbh->do("SET LOCAL ROLE " . ('alice', 'bob')[ $n % 2 ]) if $n % 3;
		$dbh->do("SELECT persist_enqueue('t'::regclass, jsonb_build_object('run', 'roles', 'n', ?::int), true)", undef, $n);
		$dbh->do("SELECT persist_enqueue('t'::regclass, jsonb_build_object('run', 'more', 'n', ?::int), ?)", undef, $n, $n % 2);
		$dbh->commit;
	}
	$dbh->disconnect;
	ok(wait_for_queue($node, "worker_state = 'gathering' AND items_pending = 180"), 'roles: items wait');
	$node->stop('fast');
	like(stopped_line($from), qr/180 items drained, none left/, 'roles: the log says so');
	$node->start;
	is_complete('roles', 90);
	is_complete('more', 90);
}

# ---- a trigger that enqueues: a stop ends, and what the drain brings forth is
# written after the next start

{
	my $from = log_position($node);

	$node->safe_psql(
		'postgres', q{
		CREATE TABLE chain (n int);
		CREATE FUNCTION chain() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF NEW.n > 1 THEN
				PERFORM persist_enqueue('chain', jsonb_build_object('n', NEW.n - 1));
			END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER chain BEFORE INSERT ON chain FOR EACH ROW EXECUTE FUNCTION chain();
		SELECT persist_enqueue('chain', '{"n": 5}');
	});
	$node->stop('fast');
	like(stopped_line($from), qr/ [1-5] items drained, [0-4] in the journal/, 'chain: the log says so');
	$node->start;
	ok(flush($node), 'chain: flushed') foreach 1 .. 4;    # each brings forth the next one
	is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY n) FROM chain"),
		'{1,2,3,4,5}', 'chain: all there after the restart');
}

# ---- the very first item of a server's life, and a stop at once: there may be
# no worker yet

foreach my $round (1 .. 5)
{
	my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
	my $dbh = connect_to($node);

	$dbh->do("SELECT persist_enqueue('t', '{\"run\": \"first $round\", \"n\": 1}')");
	kill 'INT', $postmaster;    # what pg_ctl stop sends, and sooner
	$node->stop('fast', fail_ok => 1);
	$node->start;
	ok(flush($node), "first $round: flushed");    # it may have stayed in the journal
	is_complete("first $round", 1);
}

# ---- a worker that has just been terminated, and a stop at once

foreach my $round (1 .. 3)
{
	enqueue("again $round", 1);
	ok(wait_for_queue($node, "worker_state = 'gathering'"), "again $round: a worker");
	my $pid = worker_pid($node);
	my $dbh = connect_to($node);

	$dbh->do("SELECT pg_terminate_backend($pid)");
	until (try_sql($dbh, "SELECT persist_enqueue('t', '{\"run\": \"at once $round\", \"n\": 1}')") eq '00000')
	{
		is($dbh->state, '57P01', "at once $round: met the closed ring") if $dbh->state ne '57P01';
	}
	$node->stop('fast');
	$node->start;
	is_complete("again $round", 1);
	ok(flush($node), "at once $round: flushed");
	is_complete("at once $round", 1);
}

# ---- a transaction that is in its commit when the server stops: the worker
# waits for it

{
	my $from;
	my $dbh = connect_to($node);
	my $other;

	enqueue('in commit', 1);
	ok(flush($node), 'flushed');
	$other = hang_commits($node);
	$from = log_position($node);
	$dbh->do("BEGIN");
	$dbh->do("INSERT INTO other VALUES (1)");
	$dbh->do("SELECT persist_enqueue('t', '{\"run\": \"in commit\", \"n\": 2}')");
	start_sql($dbh, "COMMIT");
	ok( $node->poll_query_until('postgres',
			"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = $dbh->{pg_pid}"),
		'in commit: a transaction hangs in its commit');
	is($node->safe_psql('postgres', "SELECT items_pending, ring_used > 0 FROM persist_queue"),
		'0|t', 'in commit: it holds room in the ring');
	$node->stop('fast');
	like(stopped_line($from), qr/stopped: .* 1 items drained, none left/, 'in commit: the worker waited for it');
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$node->start;
	is_complete('in commit', 2);
	is($node->safe_psql('postgres', "SELECT count(*) FROM other WHERE n = 1"),
		'1', 'in commit: the transaction was committed');
}

# ---- a stop doesn't wait for the table that records it

{
	my $from = log_position($node);
	my $dbh = connect_to($node);
	my $before;
	my $pid;

	enqueue('unrecorded', 7);
	ok(wait_for_queue($node, "worker_state = 'gathering'"), 'unrecorded: a worker');
	$before = $node->safe_psql('postgres', "SELECT count(*) FROM persist_shutdowns");
	$pid = worker_pid($node);
	$dbh->begin_work;
	$dbh->do("LOCK TABLE persist_pipeline_internal.persist_shutdowns IN EXCLUSIVE MODE");
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_for_new_worker($node, $pid);
	like(stopped_line($from), qr/stopped: .* 7 items drained, none left/, 'unrecorded: the log says so');
	$dbh->commit;
	$dbh->disconnect;
	is($node->safe_psql('postgres', "SELECT count(*) FROM persist_shutdowns"), $before, 'unrecorded: the table does not');
	is_complete('unrecorded', 7);
}

# ---- restart while several clients write: each transaction whole or not at all

{
	my $dir = $node->basedir;
	my @pids = in_children(
		4,
		sub {
			my ($client) = @_;
			my $dbh;
			my $done = 0;

			open my $acknowledged, '>', "$dir/acknowledged.$client" or die $!;
			for (my $tx = 1; $done < 100 || !-e "$dir/restarted"; $tx++)
			{
				while (!$dbh || !$dbh->ping)
				{
					# while the server is down this fails
					$dbh = connect_to($node, 'postgres', raise => 0);
				}
				next
				  if grep { try_sql($dbh, $_) ne '00000' } (
					"BEGIN",
					(map {
						"SELECT persist_enqueue('t', '{\"run\": \"load $client $tx\", \"n\": $_}')"
					} 1 .. 3),
					"COMMIT") or !$dbh->ping;
				print $acknowledged "load $client $tx\n";
				$done++;
			}
			close $acknowledged;
		});

	# in the middle of it
	$node->poll_query_until('postgres', "SELECT items_pending > 100 FROM persist_queue");
	$node->restart;
	open my $restarted, '>', "$dir/restarted" or die $!;
	close $restarted;
	children_succeeded('load: clients', @pids);
	ok(flush($node), 'flushed');

	my @acknowledged = map { split /\n/, slurp_file("$dir/acknowledged.$_") } 1 .. 4;
	my %count = map { my ($run, @n) = split /\|/; $run => "@n" } split /\n/,
	  $node->safe_psql('postgres', "SELECT run, count(*), count(DISTINCT n) FROM t WHERE run LIKE 'load %' GROUP BY run");

	is_deeply([ grep { ($count{$_} || '') ne '3 3' } @acknowledged ],
		[], 'load: every acknowledged transaction is there, whole, once');
	is_deeply([ grep { $count{$_} ne '3 3' } sort keys %count ],
		[], 'load: no transaction is there in part');
	note scalar(@acknowledged) . " transactions acknowledged";
}

# ---- the log of all this

is_deeply(
	[
		complaints(
			$node,
			$everything_from,
			qr/client backend 57P01 (ERROR:  the ring of database "postgres" is closed|FATAL:  terminating connection)/,
			qr/client backend 25P02 ERROR/,    # of a transaction whose session goes on
			qr/client backend 57P01 WARNING:  canceling the wait for synchronous replication/,
			qr/57P03 FATAL:  the database system is (shutting down|starting up)/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');
is_deeply(
	[ grep { !/none left|in the journal/ } log_since($node, $everything_from, qr/persist_pipeline worker .*stopped:/) ],
	[], 'no worker left anything');

$node->stop;
done_testing();
