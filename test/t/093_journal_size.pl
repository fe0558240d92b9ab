
# What the journal costs: its disk use while much goes through it, also under an old
# snapshot; the memory of worker and clients; a transaction of many calls and
# savepoints; the WAL of an item.
#
# PP_ITEMS: how many go through it, in each of four runs (1000000: so many, of 300
# bytes, don't fit into the bound; a full run is 10000000).
# PP_CALLS: calls of the transaction with savepoints (30000; a full run is 3000000).

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $items = $ENV{PP_ITEMS} || 1_000_000;
my $calls = $ENV{PP_CALLS} || 30_000;
my $clients = 2;
my $per_transaction = 1000;
my $bound = 128 * 1024 * 1024;
my $memory_bound = 20 * 1024;    # kB

my $node = pp_node(
	'journal_size',
	'persist_pipeline.flush_interval' => "'20ms'",
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
	CREATE TABLE t (w int, n int, payload text);
	CREATE TABLE o (n int, ins bigint);
	CREATE TABLE small (n int, payload text);
	CREATE TABLE plain (n int, payload text);
} . number_rows('o'));

my $size_sql = join ' + ', map { "pg_relation_size('persist_pipeline_internal.persist_journal_$_')" } 1 .. 3;

my $rows_sql = join ' UNION ALL ', map { "SELECT data FROM persist_pipeline_internal.persist_journal_$_" } 1 .. 3;

my $dbh = connect_to($node);
$dbh->do("SET lock_timeout = '30s'");

# Bytes of an item in the journal, without its share of the row's headers.
sub item_bytes
{
	return one_value($dbh, "SELECT sum(octet_length(data) - 8) / ($pending_sql) FROM ($rows_sql) AS j");
}

# The journal's bytes, with how many items are pending: before or after, at the most
sub sample
{
	my $pending = "SELECT items_pending FROM persist_queue";
	my $before = one_value($dbh, $pending);
	my $size = one_value($dbh, "SELECT $size_sql");
	my $after = one_value($dbh, $pending);

	return ($size, $before > $after ? $before : $after);
}

sub is_small
{
	return one_value($dbh, "SELECT $size_sql < $bound");
}

# Let single items pass until the journal is small again.  How many, or undefined.
sub pass_until_small
{
	my $n = 0;

	return eval {
		wait_until(
			'the journal is small',
			sub {
				$dbh->do("SELECT persist_enqueue('t'::regclass, jsonb_build_object('n', ?::int))", undef, ++$n);
				usleep(50_000);
				is_small() ? $n : undef;
			});
	};
}

sub megabytes
{
	return one_value($dbh, "SELECT $size_sql") / 1048576;
}

# ---- disk and memory, while items pass

my $payload = 'x' x 240;    # 300 bytes, with what an item has besides
my $bytes_of_item;
my $most_pending = 100_000;

sub persisted
{
	return one_value($dbh, "SELECT coalesce(sum(items_persisted), 0) FROM persist_queue WHERE datname = 'postgres'");
}

sub pass_through
{
	my ($name, $client, $n) = @_;
	my $session = connect_to($node);

	append_to_file("$dir/$name.$client", "$session->{pg_pid}");
	for (my $i = 1; $i <= $n; $i += $per_transaction)
	{
		$session->do("SELECT persist_enqueue('t'::regclass, jsonb_build_object('w', $client, 'n', i, 'payload', '$payload'))"
			  . " FROM generate_series($i, $i + $per_transaction - 1) AS i");

		# the bound is about the journal: the worker may be slower than the clients
		usleep(5_000) while one_value($session, "SELECT items_pending > $most_pending FROM persist_queue");
	}

	# until its memory has been looked at
	usleep(20_000) while !-e "$dir/$name.end";
	$session->disconnect;
	return;
}

# Returns the CPU seconds that the worker and the clients take; bounded: by the most that has been pending, for what has been
# written is given back a moment later.
sub pass_items
{
	my ($name, $bounded) = @_;
	my $each = int($items / $clients / $per_transaction) * $per_transaction;
	my $all = $clients * $each;
	my ($highest, $most, $over, $done) = (0, 0, 0, 0);
	my (%early, %grown);
	my $persisted = persisted();
	my $start = time;
	my $deadline = $start + 300 + $items / 10_000;    # however busy the machine is
	my @pids = in_children($clients, sub { pass_through($name, $_[0], $each) });
	my @backends = map {
		my $file = "$dir/$name.$_";
		wait_until('clients', sub { -s $file });
		slurp_file($file)
	} 1 .. $clients;
	my $worker = wait_until('the worker', sub { one_value($dbh, "SELECT worker_pid FROM persist_queue") });
	my $cpu = -cpu_seconds($worker);

	while ($done < $all && time < $deadline)
	{
		my ($size, $pending) = sample();

		# what clients have in hand in their commit is pending, too
		$pending += $clients * $per_transaction;
		$most = $pending if $pending > $most;
		$highest = $size if $size > $highest;

		my $excess = $size - $bound - 2 * $most * $bytes_of_item;
		$over = $excess if $excess > $over;

		$done = persisted() - $persisted;
		%early = map { $_ => (own_memory($_))[0] } $worker, @backends if !%early && $done >= $all / 10;
		usleep(10_000);
	}
	my $rate = $all / (time - $start);

	$cpu += cpu_seconds($_) foreach $worker, @backends;
	is($done, $all, "$name: $all items passed");
	is($over <= 0 ? 'bounded' : sprintf('%.1f MB too much', $over / 1048576), 'bounded',
		"$name: the journal never exceeded 128 MB + 2 x the most that was pending")
	  if $bounded;
	%grown = map { $_ => (own_memory($_))[0] - $early{$_} } keys %early;
	cmp_ok($grown{$worker}, '<=', $memory_bound, "$name: the worker's memory does not grow");
	cmp_ok($grown{$_}, '<=', $memory_bound, "$name: nor that of a client") foreach @backends;
	append_to_file("$dir/$name.end", '');
	children_succeeded("$name: clients", @pids);
	is(one_value($dbh, "SELECT $pending_sql"), 0, "$name: nothing is left");
	is( one_value($dbh, "SELECT string_agg(format('%s %s %s %s', w, count, distinct_count, max), ', ' ORDER BY w)"
			  . " FROM (SELECT w, count(*), count(DISTINCT n) AS distinct_count, max(n) FROM t GROUP BY w) AS q"),
		join(', ', map { "$_ $each $each $each" } 1 .. $clients),
		"$name: all there, each once");
	note sprintf '%s: %d items of %d bytes, %d per second, %.1f s of CPU; journal at most %.1f MB, %.1f in the end, at most %d pending; '
	  . 'memory grew by %d kB in the worker, %s kB in clients',
	  $name, $all, $bytes_of_item, $rate, $cpu, $highest / 1048576, megabytes(), $most, $grown{$worker},
	  join(' and ', map { $grown{$_} } @backends);
	$dbh->do("TRUNCATE t");
	return $cpu;
}

# what an item has in bytes
reload_with($node, 'adaptive_flush', 'off');
reload_with($node, 'flush_interval', "'1h'");
$dbh->do("SELECT persist_enqueue('t'::regclass, jsonb_build_object('w', 0, 'n', i, 'payload', '$payload')) FROM generate_series(1, 1000) AS i");
$bytes_of_item = item_bytes();
reload_with($node, 'flush_interval', "'20ms'");
reload_with($node, 'adaptive_flush', 'on');
is(one_value($dbh, "SELECT persist_flush()"), 1, 'flushed');
$dbh->do("TRUNCATE t");

my $cpu = pass_items('plain', 1);
ok(eval { wait_until('the journal is small', \&is_small) }, 'plain: in the end the journal is small');
note sprintf 'plain: %.1f MB in the end', megabytes();

# ---- the same, beside a transaction that holds a lock, and so has an id, but no snapshot

{
	my $locker = connect_to($node);

	$locker->begin_work;
	$locker->do("LOCK TABLE plain");
	one_value($locker, "SELECT pg_current_xact_id()");    # where wal_level is not minimal the lock takes one
	pass_items('no snapshot', 1);
	isnt(one_value($dbh, "SELECT backend_xid FROM pg_stat_activity WHERE pid = $locker->{pg_pid}"), undef, 'no snapshot: it has an id');
	$locker->commit;
	$locker->disconnect;
}

# ---- the same, under an old snapshot, in a transaction that has read the journal

my $old = connect_to($node);
$old->do("BEGIN ISOLATION LEVEL REPEATABLE READ");
is(one_value($old, "SELECT $pending_sql"), 0, 'old snapshot: nothing waits');
my $speed = $cpu / pass_items('old snapshot', 0);
note sprintf 'old snapshot: %.2f x as many items per second of CPU', $speed;
cmp_ok($speed, '>=', 0.8, 'old snapshot: at no less than 0.8 x the speed') if $items >= 10_000_000;
is(one_value($old, "SELECT $pending_sql"), 0, 'old snapshot: it still sees what it saw');
$old->do("COMMIT");
my $more = pass_until_small();
ok($more, 'old snapshot: when it is gone and items pass, the journal is small again');
is(one_value($dbh, "SELECT persist_flush()"), 1, 'old snapshot: flushed');
note sprintf 'old snapshot: %.1f MB after %d more items', megabytes(), $more || 0;

# ---- and under one that stays, until journal_retention is over

reload_with($node, 'journal_retention', "'1d'");    # however long a busy machine takes
$dbh->do("TRUNCATE t");
$dbh->do("SELECT persist_pause()");
$dbh->do("SELECT persist_enqueue('plain', jsonb_build_object('n', i)) FROM generate_series(1, 5) AS i");
$old->do("BEGIN ISOLATION LEVEL REPEATABLE READ");
my $snapshot = one_value($old, "SELECT pg_export_snapshot()");
$dbh->do("SELECT persist_resume()");
is(one_value($dbh, "SELECT persist_flush()"), 1, 'retention: flushed');
pass_items('retention', 0);

# it hasn't touched the journal yet, as a dump that comes to it at the end
{
	my $dump = connect_to($node);

	$dump->do("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '$snapshot'");
	is(one_value($dump, "SELECT $pending_sql"), 5, 'retention: until then it sees what waited');
	is(one_value($dump, "SELECT count(*) FROM plain"), 0, 'retention: and not what has come of it');
	$dump->do("COMMIT");
	$dump->disconnect;
}
reload_with($node, 'journal_retention', "'100ms'");
$more = pass_until_small();
ok($more, 'retention: when it is over and items pass, the journal is small again');
note sprintf 'retention: %.1f MB after %d more items', megabytes(), $more || 0;
$old->do("COMMIT");
$old->disconnect;

# ---- many calls in one transaction, every second one in a savepoint that is rolled back

{
	my $start = time;
	my $half = $calls / 2;

	$dbh->do(
		qq{DO \$\$
		DECLARE
			start timestamptz := clock_timestamp();
		BEGIN
			FOR i IN 1 .. $half LOOP
				PERFORM persist_enqueue('o', jsonb_build_object('n', i));
				BEGIN
					PERFORM persist_enqueue('o', jsonb_build_object('n', -i));
					RAISE 'no' USING ERRCODE = 'P0099';
				EXCEPTION WHEN SQLSTATE 'P0099' THEN
					-- rolled back
				END;
				IF i % ($half / 10) = 0 AND i / ($half / 10) IN (1, 10) THEN
					RAISE LOG 'tenth % of the calls: % s', i / ($half / 10), extract(epoch FROM clock_timestamp() - start);
				END IF;
				IF i % ($half / 10) = 0 THEN
					start := clock_timestamp();
				END IF;
			END LOOP;
		END \$\$});
	note sprintf 'savepoints: %d calls in %.1f s', $calls, time - $start;
	my ($first, $last) = map { (/tenth \d+ of the calls: ([\d.]+) s/) } log_since($node, $everything_from, qr/LOG:  tenth/);
	note sprintf 'savepoints: the last tenth of the calls at %.2f x the rate of the first', $first / $last;
	cmp_ok($first / $last, '>=', 0.8, 'savepoints: the calls do not become slower') if $calls >= 1_000_000;
	is(one_value($dbh, "SELECT persist_flush('300 s')"), 1, 'savepoints: flushed');
	is(one_value($dbh, "SELECT array_agg(n ORDER BY ins) = array(SELECT generate_series(1, $half)) FROM o"),
		1, "savepoints: $half rows, in order");
}

# ---- WAL of an item, its removal included: all WAL from the call to the flush,
# without what plain INSERTs of the same rows write

sub wal_of
{
	my ($code) = @_;
	my $before = one_value($dbh, "SELECT pg_current_wal_insert_lsn()");

	$code->();
	return one_value($dbh, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '$before')");
}

# what a checkpoint makes of it, that may come in the middle, is nobody's
$node->append_conf('postgresql.conf', 'full_page_writes = off');
reload_with($node, 'adaptive_flush', 'off');
reload_with($node, 'flush_interval', "'1h'");
wait_for_sql($dbh, "SELECT current_setting('full_page_writes') = 'off'");
foreach my $case ([ 1, 200 ], [ 100, 50 ])
{
	my ($at_once, $allowed) = @$case;
	my $n = 5000;
	my $name = $at_once == 1 ? 'WAL, single' : "WAL, $at_once at once";
	my ($bytes, $of_calls);
	my $row = "format('%s %s', i, repeat('y', 100))";

	$dbh->do("SELECT persist_enqueue('small'::regclass, '{\"n\": 0}')");
	is(one_value($dbh, "SELECT persist_flush()"), 1, "$name: flushed");
	$dbh->do("TRUNCATE small, plain");
	$dbh->do("SELECT persist_configure('small', durability => 'journal')");
	$dbh->do("SET synchronous_commit = off");
	$dbh->do("CHECKPOINT");

	my $all = wal_of(
		sub {
			$of_calls = wal_of(
				sub {
					for (my $i = 1; $i <= $n; $i += $at_once)
					{
						$dbh->do("SELECT persist_enqueue('small'::regclass, jsonb_build_object('n', i, 'payload', $row))"
							  . " FROM generate_series($i, $i + $at_once - 1) AS i");
					}
				});
			$bytes = item_bytes();
			one_value($dbh, "SELECT persist_flush()");
		});
	my $target = wal_of(sub { $dbh->do("INSERT INTO plain SELECT i, $row FROM generate_series(1, $n) AS i") });

	is(one_value($dbh, "SELECT array_agg(n ORDER BY ctid) = array(SELECT generate_series(1, $n)) FROM small"),
		1, "$name: all there, in order");
	note sprintf '%s: an item has %.1f bytes; its calls write %.1f bytes of WAL, everything %.1f, plain INSERT %.1f: '
	  . 'the journal costs %.1f, bytes + %.1f',
	  $name, $bytes, $of_calls / $n, $all / $n, $target / $n, ($all - $target) / $n, ($all - $target) / $n - $bytes;
	cmp_ok(($all - $target) / $n - $bytes, '<=', $allowed, "$name: at most its bytes + $allowed");
	$dbh->do("RESET synchronous_commit");
}

$dbh->disconnect;
is_deeply([ complaints($node, $everything_from) ], [], 'the log holds no WARNING or ERROR');
$node->stop;
done_testing();
