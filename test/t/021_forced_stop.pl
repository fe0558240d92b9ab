
# A stop that has to be forced: it ends soon after shutdown_timeout, whatever a
# target's code does, and says so in one WARNING.  A commit that meets the closed
# ring is refused and rolled back.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;
use Time::HiRes qw(time);

# An upper bound for "soon", on a busy machine; code here sleeps for a minute.
my $soon = 20;

my $node = pp_node(
	'forced',
	'persist_pipeline.flush_interval' => 0,
	'persist_pipeline.lock_timeout' => "'50ms'",
	'persist_pipeline.max_depth' => -1,
	'persist_pipeline.shutdown_timeout' => "'1s'",
	'persist_pipeline.statement_timeout' => 0,
	max_wal_senders => 1,    # or else no commit waits for a standby
	wal_level => 'replica');
my $everything_from = log_position($node);

$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice; CREATE ROLE bob;
	GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO alice, bob;

	-- not empty: the triggers below let pass what comes
	CREATE TABLE awake (n int);
	GRANT SELECT ON awake TO alice, bob;
	CREATE TABLE other (n int);
	CREATE TABLE plain (n int);
	CREATE TABLE positive (n int CHECK (n > 0));

	CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN PERFORM pg_sleep(60) WHERE NOT EXISTS (SELECT FROM public.awake); RETURN NEW; END $$;
	CREATE TABLE sleepy (n int);
	CREATE TRIGGER sleep BEFORE INSERT ON sleepy FOR EACH ROW EXECUTE FUNCTION sleep();
	GRANT INSERT ON sleepy TO alice, bob;

	CREATE FUNCTION dodge() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM public.awake) THEN
			RETURN NEW;
		END IF;
		LOOP
			BEGIN
				PERFORM pg_sleep(60);
			EXCEPTION WHEN query_canceled THEN
				-- once more
			END;
		END LOOP;
	END $$;
	CREATE TABLE dodging (n int);
	CREATE TRIGGER dodge BEFORE INSERT ON dodging FOR EACH ROW EXECUTE FUNCTION dodge();

	CREATE FUNCTION spin() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN WHILE NOT EXISTS (SELECT FROM public.awake) LOOP PERFORM pg_advisory_xact_lock(1); LOOP NULL; END LOOP; END LOOP; RETURN NEW; END $$;
	CREATE TABLE spinning (n int);
	CREATE TRIGGER spin BEFORE INSERT ON spinning FOR EACH ROW EXECUTE FUNCTION spin();

	CREATE FUNCTION breed() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN PERFORM persist_enqueue('breeding', '{"n": 1}') WHERE NOT EXISTS (SELECT FROM public.awake); RETURN NEW; END $$;
	CREATE TABLE breeding (n int);
	CREATE TRIGGER breed BEFORE INSERT ON breeding FOR EACH ROW EXECUTE FUNCTION breed();
});

# Stop the server while the worker hangs; check how long that took.  Leaves the
# server running again, with the items in their tables: they were in the journal.
sub stop_soon
{
	my ($name) = @_;
	my $start;

	$node->safe_psql('postgres', "INSERT INTO awake VALUES (1)");    # for the next worker
	$start = time;

	{
		local $ENV{PGCTLTIMEOUT} = $soon;
		ok($node->stop('fast', fail_ok => 1), "$name: the stop is not held up")
		  or $node->stop('immediate');
	}
	note sprintf('%s: stopped after %.1f s', $name, time - $start);
	$node->start;
	ok(flush($node), "$name: flushed after the start");
	$node->safe_psql('postgres', "DELETE FROM awake");
	return;
}

sub warnings_since
{
	my ($from) = @_;

	return log_since($node, $from, qr/WARNING:  .*was forced to stop/);
}

# ---- a trigger that sleeps

my $from = log_position($node);
$node->safe_psql('postgres', "SELECT persist_enqueue('sleepy', '{\"n\": 1}')");
ok(wait_until_worker_sleeps($node), 'a trigger sleeps');
stop_soon('sleeping');
is(scalar(warnings_since($from)), 1, 'sleeping: one WARNING');
like((warnings_since($from))[0], qr/0 items drained, 1 in the journal/, 'sleeping: it says what is left');
is(scalar(complaints($node, $from)), 1, 'sleeping: and there is nothing else');
is( $node->safe_psql('postgres',
		"SELECT drained, journalled, forced FROM persist_shutdowns ORDER BY stopped_at DESC LIMIT 1"),
	'0|1|t', 'sleeping: it is recorded');
is($node->safe_psql('postgres', "SELECT count(*) FROM sleepy"), '1', 'sleeping: its item is there after the start');

# ---- a trigger that sleeps, after an item of the same batch that was bad

$from = log_position($node);
$node->safe_psql('postgres',
	"SELECT persist_enqueue('positive', '{\"n\": -1}'); SELECT persist_flush()");
$node->wait_for_log(qr/relation "public.positive"/, $from);    # a moment later
$from = log_position($node);
$node->safe_psql(
	'postgres', q{
	BEGIN;
	SELECT persist_enqueue('positive', '{"n": -1}');
	SELECT persist_enqueue('positive', '{"n": -2}');
	SELECT persist_enqueue('sleepy', '{"n": 1}');
	COMMIT});
ok(wait_until_worker_sleeps($node), 'a trigger sleeps');
stop_soon('sleeping after a failure');
wait_until_told($node);
is(scalar(log_since($node, $from, qr/2 items for relation "public.positive", the first of them \d+, .*23514/)), 1, 'the bad ones are found after the start');
is(scalar(log_since($node, $from, qr/relation "public.positive"/)), 1, 'and told of in one line');
is($node->safe_psql('postgres', "SELECT array_agg(item ORDER BY id) FROM persist_dead_letters"),
	'{"{\"n\": -1}","{\"n\": -1}","{\"n\": -2}"}', 'each is a dead letter, once');
is(scalar(warnings_since($from)), 1, 'sleeping after a failure: one WARNING');

# ---- the same for several roles in one batch

$from = log_position($node);
my $dbh = connect_to($node);
$dbh->begin_work;
foreach my $role ('alice', 'bob', 'alice')
{
	$dbh->do("SET LOCAL ROLE $role");
	$dbh->do("SELECT persist_enqueue('sleepy'::regclass, '{\"n\": 1}'::jsonb, true)");
}
$dbh->commit;
$dbh->disconnect;
ok(wait_until_worker_sleeps($node), 'triggers of two roles sleep');
stop_soon('two roles');
is(scalar(warnings_since($from)), 1, 'two roles: one WARNING');
like((warnings_since($from))[0], qr/0 items drained, 3 in the journal/, 'two roles: it says what is left');

# ---- a trigger that loops, one that catches the cancellation and goes on, and
# one that enqueues for ever

foreach my $table ('spinning', 'dodging', 'breeding')
{
	$from = log_position($node);
	$node->safe_psql('postgres', "SELECT persist_enqueue('$table', '{\"n\": 1}')");
	# in code that has seen that nobody is awake: what is persisted is of an earlier one
	ok( $node->poll_query_until('postgres',
			$table eq 'spinning' ? "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory'"
			: $table eq 'dodging' ? "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker' AND wait_event = 'PgSleep'"
			: "SELECT count(*) > 0 FROM breeding"),
		"$table: the worker is at it");
	stop_soon($table);

	# Code that can't be cancelled is ended with its process, by a FATAL.
	# What a trigger enqueues during a stop is not of it.
	my @complaints = complaints($node, $from);
	is(scalar(@complaints), $table eq 'breeding' ? 0 : 1, "$table: one line above LOG, if it was forced");
	next if $table eq 'breeding';
	like(
		$complaints[0],
		$table eq 'dodging' ? qr/persist_pipeline (?:worker|retrier) 57P01 FATAL/ : qr/WARNING:  .*was forced to stop/,
		"$table: which says that it was forced");
}

# ---- the worker alone is forced: the items stay, and the next worker has them

$from = log_position($node);
$node->safe_psql('postgres', "SELECT persist_enqueue('sleepy', '{\"n\": 2}')");
ok(wait_until_worker_sleeps($node), 'a trigger sleeps');
my $pid = worker_pid($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
$node->wait_for_log(qr/WARNING:  .*was forced to stop/, $from);
$node->safe_psql(
	'postgres', q{
	-- the next worker may be asleep in it already; it is bound to lose
	CREATE OR REPLACE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN RETURN NEW; END $$;
	SELECT pg_terminate_backend(worker_pid) FROM persist_queue});
# the one after it may be leaving, too
$dbh = connect_to($node);
wait_until('the ring is open', sub {
	my $state = try_sql($dbh, "SELECT persist_enqueue('sleepy', '{\"n\": 3}', false)");

	die "SQLSTATE $state" if $state !~ /^(?:00000|57P01)$/;
	return $state eq '00000';
});
$dbh->disconnect;
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY n) FROM sleepy WHERE n > 1"),
	'{2,3}', 'items that a forced worker left arrive with the next, each once');

# ---- a transaction hangs in its commit

my $other = hang_commits($node);
$from = log_position($node);
$dbh = connect_to($node);
$dbh->do("BEGIN");
$dbh->do("INSERT INTO other VALUES (1)");
$dbh->do("SELECT persist_enqueue('plain', '{\"n\": 1}')");
start_sql($dbh, "COMMIT");
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = $dbh->{pg_pid}"),
	'a transaction hangs in its commit');

# it holds nobody back
$node->safe_psql('postgres', "SELECT persist_enqueue('plain', '{\"n\": 2}', false)");
ok(flush($node), 'in commit: others are flushed');
is($node->safe_psql('postgres', "SELECT array_agg(n) FROM plain"), '{2}', 'in commit: and arrive');

$pid = worker_pid($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
wait_for_new_worker($node, $pid);
is(scalar(warnings_since($from)), 1, 'in commit: the worker does not wait for ever');
like((warnings_since($from))[0], qr/0 in the journal, \d\d+ bytes in commit/, 'in commit: it says what for');
ok(is_running($dbh), 'in commit: still');
release_commits($node, $other);
is(finish_sql($dbh), '00000', 'in commit: no longer');
$dbh->disconnect;
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY n) FROM plain"),
	'{1,2}', 'in commit: its item arrives with the next worker');
is($node->safe_psql('postgres', "SELECT ring_used, items_pending FROM persist_queue"),
	'0|0', 'in commit: and its room is free again');

# ---- a commit that meets the closed ring

$node->append_conf('postgresql.conf', "persist_pipeline.shutdown_timeout = '60s'");
$node->reload;
$from = log_position($node);
my $locker = connect_to($node);
$locker->begin_work;
$locker->do("LOCK TABLE plain, persist_pipeline_internal.persist_parked IN SHARE MODE");    # so that it can't be parked
$node->safe_psql('postgres', "SELECT persist_enqueue('plain', '{\"n\": 11}')");
$pid = worker_pid($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
ok(wait_for_queue($node, "ring_closed AND worker_state = 'stopping'"), 'the ring is closed');

$dbh = connect_to($node);
$dbh->do("BEGIN");
$dbh->do("INSERT INTO other VALUES (12)");
$dbh->do("SELECT persist_enqueue('plain', '{\"n\": 12}')");
is(try_sql($dbh, "COMMIT"), '00000', 'a commit that meets the closed ring uses the journal');
is(try_sql($dbh, "SELECT persist_enqueue('plain', '{\"n\": 13}', false)"),
	'57P01', 'a call that is not transactional is an error');
like($dbh->errstr, qr/ring of database "postgres" is closed.*HINT:  Try the transaction again/s, 'with a hint');
is(try_sql($dbh, "SELECT persist_enqueue('plain', '{\"n\": 14}')"), '00000', 'one outside a transaction block is not');
$dbh->do("BEGIN");
$dbh->do("SELECT persist_enqueue('plain', '{\"n\": 15}')");
is(try_sql($dbh, "ROLLBACK"), '00000', 'nor is a rollback');
is(try_sql($dbh, "INSERT INTO other VALUES (16)"), '00000', 'nor is a transaction without items');
is($node->safe_psql('postgres', "SELECT items_pending FROM persist_queue"), '3', 'they wait');

$locker->commit;
$locker->disconnect;
wait_for_new_worker($node, $pid);
is(try_sql($dbh, "SELECT persist_enqueue('plain', '{\"n\": 17}')"), '00000', 'then calls work again');
$dbh->disconnect;
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY n) FROM plain WHERE n > 10"),
	'{11,12,14,17}', 'what was accepted arrived, what was refused did not');
is($node->safe_psql('postgres', "SELECT array_agg(n) FROM other WHERE n > 10"),
	'{12,16}', 'with its transactions');
is(scalar(warnings_since($from)), 0, 'that stop was not forced');

# ---- the log of all this

is_deeply(
	[
		complaints(
			$node,
			$everything_from,
			qr/client backend 57P01 ERROR:  the ring of database "postgres" is closed/,
			qr/client backend 57P01 FATAL:  terminating connection/,
			qr/persist_pipeline (?:worker|retrier) 23514 WARNING/,
			qr/persist_pipeline (?:worker|retrier) 57P01 FATAL:  terminating background worker/,    # dodging
			qr/WARNING:  .*was forced to stop/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
