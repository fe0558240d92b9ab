
# What keeps a worker from working: locks, a cancelled statement, a database
# that can't be opened, no free worker slot.  It comes back, with longer and
# longer pauses, says so once, and the items arrive, each once.  A lock on a target
# keeps that target's items, and no others.
#
# PP_MINUTE: watch a worker that fails for a minute, not for five seconds.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = pp_node(
	'failure',
	autovacuum => 'off',    # it fails on a database that can't be opened, too
	'persist_pipeline.flush_interval' => 0,
	'persist_pipeline.lock_timeout' => "'50ms'",
	'persist_pipeline.shutdown_timeout' => "'60s'",
	log_line_prefix => "'%n [%p] %b %e '",    # %n: seconds, to compare
	max_logical_replication_workers => 0,
	max_worker_processes => 3);
my $everything_from = log_position($node);

$node->safe_psql('postgres', "CREATE TABLE t (n int)");
my $enqueue = "SELECT persist_enqueue('t', jsonb_build_object('n', %d))";
my $summary = "SELECT count(*), count(DISTINCT n), max(n) FROM t";
my $locker = connect_to($node);
my $from;

# ---- a lock on the target: its items are parked

my $retrying = qr/persist_pipeline (?:worker|retrier) 55P03 LOG:  .* will try again: SQLSTATE 55P03/;
my $parked = qr/persist_pipeline (?:worker|retrier) 55P03 LOG:  items for relation "t" are parked: SQLSTATE 55P03/;
$node->safe_psql('postgres', "CREATE TABLE other (n int)");
$from = log_position($node);
$locker->begin_work;
$locker->do("LOCK TABLE t IN SHARE MODE");
$node->safe_psql('postgres', sprintf($enqueue, $_)) foreach 1 .. 3;
ok(wait_for_queue($node, "retrier_pid > 0 AND items_pending = 3 AND items_parked = 3"),
	'a lock on a target: its items are parked');
is_quick(seconds_of(sub { is($node->safe_psql('postgres', "SELECT persist_flush('300 s')"), 'f', 'persist_flush says so') }),
	20, 'and does not wait for them');
$node->safe_psql('postgres', "SELECT persist_enqueue('other', '{\"n\": 1}')");
is($node->safe_psql('postgres', "SELECT persist_flush('300 s', 'other')"), 't', 'another target is flushed');
is($node->safe_psql('postgres', "SELECT count(*) FROM other"), '1', 'and written');
my $pid = worker_pid($node);

# terminated while they are parked
$node->wait_for_log($parked, $from);
is(scalar(log_since($node, $from, $parked)), 1, 'one line for all the attempts');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
$pid = wait_for_new_worker($node, $pid);
ok(wait_for_queue($node, "retrier_pid > 0 AND items_pending = 3 AND items_parked = 3"),
	'told to stop, it leaves them to the next worker');
is($node->safe_psql('postgres', "SELECT bool_or(forced) FROM persist_shutdowns"), 'f', 'without being forced');
$locker->commit;
ok(drain($node), 'when the lock is gone they come');
is($node->safe_psql('postgres', $summary), '3|3|3', 'every item once');
cmp_ok(scalar(log_since($node, $from, $parked)), '<=', 2, 'one line for all the attempts of a worker');
is(scalar(log_since($node, $from, $retrying)), 0, 'the worker itself has not backed off');
is_deeply([ complaints($node, $from) ], [], 'a lock is nothing to warn of');
$node->safe_psql('postgres', "TRUNCATE t");

# ---- locks on the target and on our own table: nothing can be parked

$from = log_position($node);
$locker->begin_work;
$locker->do("LOCK TABLE t, persist_pipeline_internal.persist_parked IN SHARE MODE");
$node->safe_psql('postgres', sprintf($enqueue, $_)) foreach 1 .. 3;
ok(wait_for_queue($node, "worker_state = 'retrying' AND items_pending = 3 AND items_parked = 0"),
	'the worker backs off from a lock');
is($node->safe_psql('postgres', "SELECT persist_flush('10 ms')"), 'f', 'persist_flush gives up in time');

# terminated while it backs off
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok(wait_for_queue($node, "worker_state = 'stopping' AND ring_closed"),
	'told to stop, it closes the ring and goes on trying');
$locker->commit;
$pid = wait_for_new_worker($node, $pid);
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', $summary), '3|3|3', 'every item once');
is(scalar(log_since($node, $from, $retrying)), 1, 'one line for all the attempts');

# ---- someone cancels the worker's statement: no item's fault

$node->append_conf('postgresql.conf', "persist_pipeline.lock_timeout = 0");
$node->reload;
$locker->begin_work;
$locker->do("LOCK TABLE t IN SHARE MODE");
$node->safe_psql('postgres', sprintf($enqueue, 4));
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $pid AND wait_event_type = 'Lock'"),
	'the worker waits for a lock');
$from = log_position($node);
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");

# whichever way it takes it: the item is settled or tried again
$node->poll_query_until('postgres',
	"SELECT items_pending = 0 OR worker_state = 'retrying' OR worker_pid IS DISTINCT FROM $pid"
	  . " FROM persist_queue");
$locker->commit;
ok(drain($node), 'flushed');
is($node->safe_psql('postgres', $summary), '4|4|4', 'a cancelled statement costs no item');
is_deeply([ complaints($node, $from) ], [], 'and is nothing to warn of');

# in what is deferred, at the commit and where it is tried before that
$node->safe_psql(
	'postgres', q{
	CREATE TABLE hesitant (n int);
	CREATE SEQUENCE calls;
	CREATE FUNCTION hesitate() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		-- not where the worker looks whether it passes
		IF nextval('public.calls') IN (1, 2, 3) THEN
			PERFORM pg_advisory_xact_lock(1);
		END IF;
		RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER hesitate AFTER INSERT ON hesitant DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION hesitate();
});
$locker->do("SELECT pg_advisory_lock(1)");
$node->safe_psql('postgres', "SELECT persist_enqueue('hesitant', '{}')");
foreach my $calls (1, 2, 3)
{
	ok( $node->poll_query_until('postgres',
			"SELECT count(*) = 1 FROM pg_stat_activity, calls WHERE backend_type = 'persist_pipeline worker'"
			  . " AND wait_event_type = 'Lock' AND last_value = $calls"),
		"the worker waits in call $calls");
	$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker'");
}
$locker->do("SELECT pg_advisory_unlock(1)");
ok(drain($node), 'flushed');
is($node->safe_psql('postgres', "SELECT count(*), (SELECT count(*) FROM persist_dead_letters) FROM hesitant"),
	'1|0', 'a cancelled commit costs no item');

# ---- an item that alone takes longer than statement_timeout harms only itself

$node->append_conf('postgresql.conf', "persist_pipeline.statement_timeout = '200ms'");
$node->reload;
$node->safe_psql(
	'postgres', q{
	CREATE TABLE slow (n int);
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN PERFORM pg_sleep(60) WHERE NEW.n = 2; RETURN NEW; END $$;
	CREATE TRIGGER slow BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION slow();
});
$from = log_position($node);
$node->safe_psql('postgres', "SELECT persist_enqueue('slow', jsonb_build_object('n', i)) FROM generate_series(1, 3) AS i");
ok($node->poll_query_until('postgres', "SELECT pending = 0 FROM persist_stats WHERE target = 'slow'::regclass"), 'settled');
is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY n) FROM slow"), '{1,3}', 'items around a slow one arrive');
wait_until_told($node);
is(scalar(log_since($node, $from, qr/57014 WARNING:  item \d+ for relation "public.slow"/)), 1, 'it alone does not');

# ---- even if it doesn't let itself be cancelled, and its worker has to end for it

$node->safe_psql(
	'postgres', q{
	CREATE TABLE dodging (n int);
	CREATE FUNCTION dodge() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		WHILE NEW.n = 2 LOOP
			BEGIN
				PERFORM pg_sleep(60);
			EXCEPTION WHEN query_canceled THEN
				-- once more
			END;
		END LOOP;
		RETURN NEW;
	END $$;
	CREATE TRIGGER dodge BEFORE INSERT ON dodging FOR EACH ROW EXECUTE FUNCTION dodge();
});
$from = log_position($node);
$node->safe_psql('postgres', "SELECT persist_enqueue('dodging', jsonb_build_object('n', i)) FROM generate_series(1, 3) AS i");
is($node->safe_psql('postgres', "SELECT persist_flush('300 s')"), 't', 'flushed');
is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY n) FROM dodging"), '{1,3}', 'items around such a one arrive');
wait_until_told($node);
is(scalar(log_since($node, $from, qr/WARNING:  item \d+ for relation "public.dodging"/)), 1, 'it alone does not');
$node->append_conf('postgresql.conf', "persist_pipeline.statement_timeout = '30s'");
$node->restart;    # by force, if it hangs

# ---- a worker that dies at its start: back-off

# A database whose files say that it is none: sessions that are in it stay there.
my $minute = $ENV{PP_MINUTE};    # watch all of the first minute
my $dying = qr/persist_pipeline (?:worker|retrier) \w+ FATAL:  .*is not a valid data directory/;
$node->safe_psql('postgres', "CREATE DATABASE shut");
$node->safe_psql('shut', "CREATE EXTENSION persist_pipeline; CREATE TABLE t (n int)");
my $inside = connect_to($node, 'shut');
my $version = $node->data_dir . '/base/'
  . $node->safe_psql('postgres', "SELECT oid FROM pg_database WHERE datname = 'shut'") . '/PG_VERSION';
rename $version, "$version.hidden" or die $!;
$from = log_position($node);
my $begin = time;
$inside->do(sprintf($enqueue, $_)) foreach 1 .. 3;

my @starts;
wait_until('the worker dies twice', sub { (@starts = log_since($node, $from, $dying)) >= 2 });
pass('a worker that fails at its start is started again');
my @at = map { /^([\d.]+)/ ? $1 : die "no time in \"$_\"" } @starts;
# The pause is from start to start, and a line comes a while after its start.
cmp_ok($at[1] - $begin, '>=', 1, 'after a second');
ok(wait_for_queue($node, "worker_state = 'not running' AND items_pending = 3", 'shut'), 'its items wait');

# What a failure costs: lines of any kind, the postmaster's too.
my @lines = log_since($node, $from, qr/^\S+ \[\d+\] (?:persist_pipeline|postmaster).*(?:LOG|WARNING|ERROR|FATAL):  /);
my $failures = grep { $_ =~ $dying } @lines;
note scalar(@lines), " lines for $failures failures";
cmp_ok(scalar(@lines), '<=', 2 * $failures, 'two lines for each failure');
cmp_ok(4 * @lines / $failures, '<', 10, 'less than ten in the first minute, whose failures are at 0, 1, 5 and 21 s');

if ($minute)
{
	usleep(100_000) while time < $begin + 60;
	@starts = log_since($node, $from, $dying);
	@at = map { /^([\d.]+)/ ? $1 : die "no time in \"$_\"" } @starts;
	@lines = log_since($node, $from, qr/^\S+ \[\d+\] (?:persist_pipeline|postmaster).*(?:LOG|WARNING|ERROR|FATAL):  /);
	note 'failures after ', join(', ', map { sprintf '%.1f s', $_ - $at[0] } @at), '; ', scalar(@lines), ' lines';
	is(scalar(@starts), 4, 'four failures in the first minute');
	cmp_ok($at[2] - $at[1], '>=', 2, 'after four seconds');
	cmp_ok($at[3] - $at[2], '>=', 8, 'after sixteen');
	cmp_ok(scalar(@lines), '<', 10, 'less than ten lines in the first minute');
}

rename "$version.hidden", $version or die $!;
ok(flush($node, 'shut'), 'it starts once it can');
is($node->safe_psql('shut', $summary), '3|3|3', 'its items have waited for it');
my $started =
  $node->safe_psql('postgres', "SELECT extract(epoch FROM backend_start) FROM pg_stat_activity WHERE pid = " . worker_pid($node, 'shut'));
cmp_ok($started - $at[-1], '>=', 2, 'after four seconds') if !$minute;

# having worked, it is started at once
$pid = worker_pid($node, 'shut');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
wait_for_new_worker($node, $pid, 'shut');
$inside->do(sprintf($enqueue, 4));
ok(flush($node, 'shut'), 'flushed');
is($node->safe_psql('shut', $summary), '4|4|4', 'and has forgotten the failures');

# Nobody new gets in, but what has been committed is written.
$node->safe_psql('postgres', "SELECT pg_terminate_backend(" . worker_pid($node, 'shut') . ")");
$node->safe_psql('postgres', "ALTER DATABASE shut ALLOW_CONNECTIONS false");
$inside->do(sprintf($enqueue, 5));
is(one_value($inside, "SELECT persist_flush('300 s')"), '1', 'a database that allows no connections: flushed');
is(join('|', $inside->selectrow_array($summary)), '5|5|5', 'and written');
$inside->disconnect;

# ---- no worker slot: the launcher holds one, the rest go to a parallel query

$node->append_conf('postgresql.conf', "max_parallel_workers_per_gather = 2");
$locker = undef;
$node->restart;
$from = log_position($node);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE big AS SELECT i FROM generate_series(1, 20000) AS i;
	ALTER TABLE big SET (parallel_workers = 2);
	ANALYZE big;
});
my $parallel = connect_to($node);
$parallel->do("SET parallel_setup_cost = 0");
$parallel->do("SET parallel_tuple_cost = 0");
my $looker = connect_to($node);
ok( wait_until(
		'all slots are taken',
		sub {
			start_sql($parallel, "SELECT count(pg_sleep(0.1)) FROM big");
			foreach my $try (1 .. 100)
			{
				return 1 if one_value($looker, "SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'parallel worker'");
				usleep(20_000);
			}

			# who looks into the databases after the start had one
			$parallel->pg_cancel;
			return;
		}),
	'all slots are taken');
$looker->disconnect;

$node->safe_psql('postgres', sprintf($enqueue, $_)) foreach 5 .. 7;
$node->wait_for_log(qr/no background worker slot is free/, $from);
is($node->safe_psql('postgres', "SELECT persist_flush('3 s')"), 'f', 'no worker');
is($node->safe_psql('postgres', "SELECT worker_state, items_pending FROM persist_queue WHERE datname = 'postgres'"),
	'not running|3', 'the items wait');
is(scalar(log_since($node, $from, qr/no background worker slot is free/)),
	1, 'one line for all the attempts');

$parallel->pg_cancel;
ok(flush($node), 'a slot is free: the worker starts');
is($node->safe_psql('postgres', "$summary WHERE n > 4"), '3|3|7', 'every item once');
$parallel->disconnect;

is_deeply(
	[
		complaints($node, $everything_from,
			$dying,
			qr/client backend 57014 ERROR/,
			qr/(parallel|client).*57P01 FATAL:  terminating/,
			qr/(WARNING|FATAL).*dodging/,
			qr/persist_pipeline (?:worker|retrier) 57P01 FATAL:  terminating background worker/,
			qr/57014 WARNING/)    # tested above
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
