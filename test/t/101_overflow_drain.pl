
# A backlog, in the journal alone: what its draining costs, what can be seen of it, and
# that nobody who enqueues meanwhile waits, or notices at all.
#
# PP_BACKLOG: items of the smaller backlog; the other one is four times that (50000; a
# full run is 1000000).
# PP_LATENCY: 1 also fails where calls are slower than they should be: only on a machine
# that does nothing else.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $backlog = $ENV{PP_BACKLOG} || 50_000;
my $full = $backlog >= 1_000_000;
my $memory_bound = 20 * 1024;    # kB
my $clients = 4;
my $calls = $ENV{PP_LATENCY} ? 20_000 : 3_000;

my $node = pp_node(
	'overflow_drain',
	'persist_pipeline.flush_interval' => "'10ms'",
	'persist_pipeline.journal_limit' => "'64GB'",
	'persist_pipeline.lock_timeout' => 0,    # nothing is parked, however long a lock is held
	'persist_pipeline.ring_size' => "'256kB'",
	'persist_pipeline.role_quota' => 100,
	'persist_pipeline.statement_timeout' => 0,
	'persist_pipeline.worker_idle_timeout' => 0,
	autovacuum => 'off',
	checkpoint_timeout => "'1h'",
	full_page_writes => 'off',
	max_wal_size => "'10GB'",
	shared_buffers => "'128MB'");
my $everything_from = log_position($node);
my $dir = $node->basedir;

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (n int, filler text);
	CREATE TABLE o (w int, n int, filler text, ins bigint);
} . number_rows('o'));

my $dbh = connect_to($node);

sub wait_for
{
	my ($condition) = @_;

	wait_for_sql($dbh, "SELECT count(*) = 1 FROM persist_queue WHERE datname = 'postgres' AND ($condition)");
	return;
}

# ---- what it costs to drain a backlog

# So many items into the journal alone, and the server restarted, so that nothing of
# them is anywhere else.
sub make_backlog
{
	my ($name, $items, $at_once) = @_;

	$dbh->do("TRUNCATE t");
	$dbh->do("SELECT persist_pause()");
	wait_until('the database is paused', sub { (queue_value($dbh, 'worker_state') || 'paused') eq 'paused' });
	$dbh->do("SET synchronous_commit = off");
	$dbh->do(
		qq{DO \$\$
		BEGIN
			FOR k IN 0 .. $items / $at_once - 1 LOOP
				PERFORM persist_enqueue('t'::regclass, jsonb_build_object('n', i))
				FROM generate_series(k * $at_once + 1, (k + 1) * $at_once) AS i;
				COMMIT;
			END LOOP;
		END \$\$});
	is(queue_value($dbh, 'items_pending'), $items, "$name: items_pending is right");
	cmp_ok(queue_value($dbh, 'journal_bytes'), '>', 60 * $items, "$name: and they are counted");
	$dbh->disconnect;
	$node->restart;
	$dbh = connect_to($node);
	ok(eval { wait_for("diverted"); 1 }, "$name: after a restart it can be seen that something waits");
	return;
}

# Returns the CPU seconds that the worker takes, and its memory afterwards.
sub drain_backlog
{
	my ($name, $items, $at_once) = @_;

	make_backlog($name, $items, $at_once);
	my $from = log_position($node);
	my $flusher = connect_to($node);

	my $start = time;
	my $cpu;
	# one that has met the pause may be about to leave
	wait_until('there is a worker', sub { defined($cpu = eval { -cpu_seconds(queue_value($dbh, 'worker_pid')) }) });
	$dbh->do("SELECT persist_resume()");
	start_sql($flusher, "SELECT persist_flush('1 h')");
	my $seen = 0;
	while (is_running($flusher))
	{
		my ($rate, $time_left, $pending, $diverted, $bytes) = $dbh->selectrow_array(
			"SELECT rate, time_left, items_pending, diverted, journal_bytes FROM persist_queue WHERE datname = 'postgres'");

		# one row is what was at one moment, more or less
		$seen++ if defined $rate && defined $time_left && $pending > 0 && $diverted && $bytes > 0;
		select undef, undef, undef, 0.02;
	}
	my $seconds = time - $start;
	$cpu += cpu_seconds(queue_value($dbh, 'worker_pid'));
	is(finish_sql($flusher), '00000', "$name: flushed");
	$flusher->disconnect;
	is(one_value($dbh, "SELECT count(*) || ' ' || count(DISTINCT n) || ' ' || max(n) FROM t"),
		"$items $items $items", "$name: all there, each once");
	is(one_value($dbh, "SELECT count(*) FROM (SELECT n, lag(n) OVER (ORDER BY ctid) AS before FROM t) AS q WHERE n <= before"),
		0, "$name: in order");
	is(queue_value($dbh, "concat_ws(' ', items_pending, journal_bytes, diverted)"), '0 0 f', "$name: nothing waits");
	is(one_value($dbh, "SELECT persist_flush('300 s')"), 1, "$name: and nothing is left");
	note sprintf '%s: %d items in %.2f s (%.2f of CPU), %.0f per second; seen to be under way %d times', $name, $items, $seconds, $cpu, $items / $seconds, $seen;

	my @lines = log_since($node, $from, qr/LOG:  persist_pipeline worker for database "postgres" is catching up/);
	is_deeply(\@lines, [], "$name: that is too short for a line in the log") if $seconds < 10;
	cmp_ok($seen, '>', 0, "$name: rate and time_left can be seen while it drains") if $seconds > 3;
	return ($cpu, (own_memory(queue_value($dbh, 'worker_pid')))[0]);
}

foreach my $at_once (1, 1000)
{
	my $name = $at_once == 1 ? 'single' : "$at_once at once";
	my ($cpu, $memory) = drain_backlog("$name, small", $backlog, $at_once);
	my ($cpu_large, $memory_large) = drain_backlog("$name, large", 4 * $backlog, $at_once);
	my $ratio = $cpu_large / ($cpu || 0.01);

	note sprintf '%s: 4 x as many take the worker %.2f x the CPU; the worker has %d kB after the smaller backlog, %d after the larger one',
	  $name, $ratio, $memory, $memory_large;
	cmp_ok($ratio, '<=', 5, "$name: 4 x as many take at most 5 x the CPU") if $full;
	cmp_ok($memory_large - $memory, '<=', $memory_bound, "$name: the worker's memory does not depend on the backlog");
}
$dbh->do("TRUNCATE t");

# ---- rate and time_left, of a backlog that is written slowly

{
	my $items = $full ? 7000 : 1000;    # some 50 in a batch of 0.1 s
	my $from = log_position($node);
	my $locker = connect_to($node);

	$node->safe_psql(
		'postgres', q{
		CREATE TABLE slow (n int, filler text);
		CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END $$;
		CREATE TRIGGER sleep BEFORE INSERT ON slow FOR EACH STATEMENT EXECUTE FUNCTION sleep();
		ALTER SYSTEM SET persist_pipeline.batch_size = 10;
		SELECT pg_reload_conf();
	});
	$locker->begin_work;
	$locker->do("LOCK TABLE slow IN EXCLUSIVE MODE");
	$dbh->do("SELECT persist_enqueue('slow'::regclass, jsonb_build_object('n', i, 'filler', repeat('x', 10000))) FROM generate_series(1, $items) AS i");
	is(queue_value($dbh, 'diverted'), 1, 'progress: diverted while its target is locked');
	is_deeply([ grep { $_ != $items } map { queue_value($dbh, 'items_pending') } 1 .. 200 ],
		[], 'progress: items_pending is right, also while the worker looks for them');
	cmp_ok(queue_value($dbh, 'journal_bytes'), '>', 10_000 * $items, 'progress: journal_bytes, too');
	$locker->commit;
	my $released = time;
	my $progress = eval {
		wait_until(
			'progress',
			sub {
				$dbh->selectrow_arrayref(
					"SELECT rate, extract(epoch FROM time_left), items_pending, journal_bytes FROM persist_queue WHERE diverted"
					  . " AND items_pending BETWEEN 1 AND $items - 1 AND journal_bytes > 0 AND rate BETWEEN 1 AND 10000 AND time_left > '0 s'");
			});
	};
	ok($progress, 'progress: rate and time_left are known while it drains');
	my ($rate, $left, $pending, $bytes) = @{ $progress || [ 0, 0, 0, 0 ] };
	note sprintf 'progress: %d items and %d bytes left, %.0f per second, %.2f s left', $pending, $bytes, $rate, $left;
	cmp_ok(abs($rate * $left - $pending), '<', 1, 'progress: and fit to each other');
	is(one_value($dbh, "SELECT persist_flush('300 s')"), 1, 'progress: flushed');
	my $seconds = time - $released;
	is(queue_value($dbh, "concat_ws(' ', items_pending, journal_bytes, diverted)"), '0 0 f', 'progress: nothing waits');
	my @lines = log_since($node, $from, qr/LOG:  .*"postgres" is catching up: \d+ items wait, \d+ are written per second/);
	is(@lines > 0 ? 1 : 0, $full ? 1 : 0, 'progress: a line in the log, where it takes more than 10 s') if $full || $seconds < 10;
	note "progress: $_" foreach @lines;
	$dbh->do("ALTER SYSTEM RESET persist_pipeline.batch_size");
	$dbh->do("SELECT pg_reload_conf()");
	$locker->disconnect;
}

# ---- who holds a lock that the worker needs doesn't wait for the worker

{
	my $items = 50_000;
	my $producer = connect_to($node);
	my $other = connect_to($node);
	my ($slowest, $slowest_other, $others) = (0, 0, 0);
	my $filler = 'y' x 200;
	my $call = $producer->prepare(
		"SELECT count(persist_enqueue('o'::regclass, jsonb_build_object('w', 1, 'n', i, 'filler', '$filler'))) FROM generate_series(?::int, ?::int) AS i");
	my $single = $other->prepare("SELECT persist_enqueue('o'::regclass, jsonb_build_object('w', 2, 'n', ?::int, 'filler', '$filler'))");
	my $at_most = sub {
		my ($most, $code) = @_;
		my $seconds = seconds_of($code);

		return $seconds > $most ? $seconds : $most;
	};

	$producer->begin_work;
	$producer->do("LOCK TABLE o IN EXCLUSIVE MODE");
	for (my $n = 1; $n <= $items; $n += 25)
	{
		$slowest = $at_most->($slowest, sub { $call->execute($n, $n + 24) });
		$slowest_other = $at_most->($slowest_other, sub { $single->execute(++$others) }) if $n % 2 == 0;
	}
	wait_for("worker_state IN ('writing', 'retrying') AND items_pending = $others");
	is(queue_value($dbh, 'items_pending'), $others, 'own lock: what others have enqueued waits');
	my $commit = seconds_of(sub { $producer->commit });
	$slowest_other = $at_most->($slowest_other, sub { $single->execute(++$others) });
	is(one_value($dbh, "SELECT persist_flush('300 s')"), 1, 'own lock: flushed');
	note sprintf 'own lock: %d items in calls of at most %.3f s, and a COMMIT of %.3f s; %d of others in calls of at most %.3f s',
	  $items, $slowest, $commit, $others, $slowest_other;
	is_quick($slowest, 1, 'own lock: no call waits');
	is_quick($commit, 3, 'own lock: nor does the COMMIT');
	is_quick($slowest_other, 1, 'own lock: nor does anybody else');
	is( one_value($dbh, "SELECT string_agg(format('%s %s', w, ok), ', ' ORDER BY w) FROM"
			  . " (SELECT w, array_agg(n ORDER BY ins) = array(SELECT generate_series(1, CASE w WHEN 1 THEN $items ELSE $others END)) AS ok"
			  . "  FROM o GROUP BY w) AS q"),
		'1 t, 2 t',
		'own lock: all there, each once, in order');
	$_->disconnect foreach $producer, $other;
}

# The same where another session holds it, and each call is a transaction.
{
	my $lock = connect_to($node);
	my $producer = connect_to($node);
	my $slowest = 0;

	$dbh->do("TRUNCATE o");
	$lock->begin_work;
	$lock->do("LOCK TABLE o IN EXCLUSIVE MODE");
	my $call = $producer->prepare("SELECT persist_enqueue('o'::regclass, jsonb_build_object('w', 1, 'n', ?::int, 'filler', repeat('y', 200)))");
	foreach my $n (1 .. 6000)
	{
		my $seconds = seconds_of(sub { $call->execute($n) });

		$slowest = $seconds if $seconds > $slowest;
	}
	is(queue_value($dbh, 'diverted'), 1, 'locked: the ring is diverted');
	cmp_ok(queue_value($dbh, 'ring_peak'), '>', 0.7 * 256 * 1024, 'locked: for it was full, but for what the worker keeps');
	is_quick($slowest, 1, 'locked: no call waits for the worker');
	$lock->commit;
	is(one_value($dbh, "SELECT persist_flush('300 s')"), 1, 'locked: flushed');
	is(one_value($dbh, "SELECT array_agg(n ORDER BY ins) = array(SELECT generate_series(1, 6000)) FROM o"),
		1, 'locked: all there, each once, in order');
	note sprintf 'locked: 6000 calls of at most %.3f s', $slowest;
	$_->disconnect foreach $lock, $producer;
}

# ---- nor does anybody see what state the ring is in

# Microseconds of single calls, sorted.
sub latencies
{
	my ($name) = @_;
	my @all;

	children_succeeded(
		"latency, $name: clients",
		in_children(
			$clients,
			sub {
				my ($client) = @_;
				my $session = connect_to($node);
				my $call = $session->prepare("SELECT persist_enqueue('t'::regclass, jsonb_build_object('n', ?::int, 'filler', repeat('z', 100)))",
					{ pg_server_prepare => 1 });
				my @mine;

				# caches are filled by the first ones
				foreach my $n (-49 .. $calls)
				{
					my $start = time;

					$call->execute($n);
					push @mine, time - $start if $n > 0;
				}
				append_to_file("$dir/$name.$client", join '', map { sprintf "%.1f\n", 1e6 * $_ } @mine);
			}));
	push @all, split /\n/, slurp_file("$dir/$name.$_") foreach 1 .. $clients;
	return [ sort { $a <=> $b } @all ];
}

sub percentile
{
	my ($sorted, $p) = @_;

	return $sorted->[ int($p / 100 * $#$sorted) ];
}

{
	my $locker = connect_to($node);
	my (%us, %counts);

	$us{normal} = latencies('normal');
	is(one_value($dbh, "SELECT persist_flush('300 s')"), 1, 'latency, normal: flushed');

	$locker->begin_work;
	$locker->do("LOCK TABLE t IN EXCLUSIVE MODE");
	my $n = 0;
	while (!queue_value($dbh, 'diverted'))
	{
		$dbh->do("SELECT persist_enqueue('t'::regclass, jsonb_build_object('n', 0))") foreach 1 .. 100;
		$n += 100;
		die "it is never full" if $n > 50_000;
	}
	my $before = queue_value($dbh, 'items_pending');
	$us{diverted} = latencies('diverted');
	is(queue_value($dbh, 'items_pending') - $before, $clients * ($calls + 50), 'latency, diverted: nothing was written');
	is(queue_value($dbh, 'diverted'), 1, 'latency, diverted: and still is');
	$locker->commit;
	$locker->disconnect;
	is(one_value($dbh, "SELECT persist_flush('300 s')"), 1, 'latency, diverted: flushed');
	is(one_value($dbh, "SELECT count(*) FROM t WHERE filler IS NOT NULL"), 2 * $clients * ($calls + 50), 'latency: all there');

	foreach my $name (keys %us)
	{
		$counts{$name}{ int(log($_ > 1 ? $_ : 1) / log 2) }++ foreach @{ $us{$name} };
	}
	note sprintf '%8s us %10s %10s', 'from', 'normal', 'diverted';
	my ($lowest, $highest) = (sort { $a <=> $b } map { keys %$_ } values %counts)[ 0, -1 ];
	note sprintf '%8d us %10d %10d', 2**$_, map { $_ || 0 } $counts{normal}{$_}, $counts{diverted}{$_} foreach $lowest .. $highest;
	note sprintf '%8s    p50 %.0f p99 %.0f max %.0f', $_, (map { percentile($us{$_}, 50) } $_), percentile($us{$_}, 99), $us{$_}[-1]
	  foreach 'normal', 'diverted';
	my $ratio = percentile($us{diverted}, 99) / percentile($us{normal}, 99);
	note sprintf 'latency: p99 diverted is %.2f x that of normal running', $ratio;
	cmp_ok($ratio, '<=', 3, 'latency: p99 is within 3 x') if $ENV{PP_LATENCY};
}

$dbh->disconnect;
is_deeply([ complaints($node, $everything_from) ], [], 'the log holds no WARNING or ERROR');
$node->stop;
done_testing();
