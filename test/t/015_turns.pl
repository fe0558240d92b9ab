
# More databases with work than workers, and fewer worker slots than workers: all
# get their turn, nobody else goes without, and the log stays quiet.
#
# PP_DATABASES: how many databases (60).

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use List::Util qw(max min sum0);
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $databases = $ENV{PP_DATABASES} || 60;
my $node = pp_node(
	'turns',
	max_connections => $databases + 20,
	max_worker_processes => 8,
	max_parallel_workers_per_gather => 2,
	'persist_pipeline.max_databases' => $databases,
	'persist_pipeline.ring_size' => "'64kB'");
my $everything_from = log_position($node);
my $control = connect_to($node);
my $position;
my $workers = "FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker'";
my $enqueue = "SELECT persist_enqueue('t', jsonb_build_object('n', ?::int))";

# What the log says, but for the server's own housekeeping.
sub lines
{
	my ($from) = @_;

	return log_since($node, $from, qr/^(?!.* checkpointer ).*(?:LOG|WARNING|ERROR|FATAL|PANIC):  /);
}

# ---- many databases, items in all of them at the same time

create_model_database($node, 'model');
$control->do(
	"CREATE TABLE big AS SELECT i FROM generate_series(1, 20000) AS i");
$control->do("ALTER TABLE big SET (parallel_workers = 2)");
$control->do("ANALYZE big");
$control->do("SET $_ = 0") foreach 'parallel_setup_cost', 'parallel_tuple_cost', 'min_parallel_table_scan_size';

# Each batch takes a moment, so that there is something to see.
$node->safe_psql(
	'model', q{
	CREATE FUNCTION take_a_moment() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END $$;
	CREATE TRIGGER take_a_moment BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION take_a_moment();
});
my @names = map { "many_$_" } 1 .. $databases;
create_database($control, $_, 'model') foreach @names;

my %session;
foreach my $name (@names)
{
	my $dbh = $session{$name} = connect_to($node, $name);

	$dbh->begin_work;
	$dbh->do("SELECT count(persist_enqueue('t', jsonb_build_object('n', i))) FROM generate_series(1, 100) AS i");
}
is(one_value($control, "SELECT count(*) $workers"), '0', 'no worker so far');

$position = log_position($node);
my $start = time;
my $most_workers = 0;
my @parallel;
my $pending;

$_->commit foreach values %session;
is(one_value($control, "SELECT count(*) FROM persist_queue WHERE ring_size IS NOT NULL"), $databases, "$databases databases have a ring");

# While they are written, a parallel query finds the slots that it plans for.
do
{
	my $plan = join "\n", @{ $control->selectcol_arrayref("EXPLAIN (ANALYZE, COSTS off) SELECT count(*) FROM big") };

	push @parallel, $plan =~ /Workers Launched: (\d+)/ ? $1 : die $plan;
	$most_workers = max($most_workers, one_value($control, "SELECT count(*) $workers"));
	$pending = one_value($control, "SELECT sum(items_pending) FROM persist_queue");
	die "$pending items are left" if time - $start > $PostgreSQL::Test::Utils::timeout_default;
} while ($pending > 0);

my $seconds = time - $start;
my @lines = lines($position);

note sprintf '%d databases: drained in %.1f s, at most %d workers at once, %d lines in the log; %d parallel queries had %d to %d workers',
  $databases, $seconds, $most_workers, scalar @lines, scalar @parallel, min(@parallel), max(@parallel);
is_quick($seconds, 60, 'all of them are drained within a minute');
is($most_workers, 2, 'by two workers at a time');
cmp_ok(scalar(@parallel), '>', 10, 'parallel queries ran meanwhile');
cmp_ok(min(@parallel), '>=', 1, 'each with a worker of its own');
cmp_ok(scalar(@lines), '<=', 10, 'the log has at most ten lines') or diag join "\n", @lines;
my $wrong = grep { join('|', $_->selectrow_array("SELECT count(*), count(DISTINCT n) FROM t")) ne '100|100' } values %session;
is($wrong, 0, 'each item is there, once');
$_->disconnect foreach values %session;

# ---- one worker for two databases with a steady load

$control->disconnect;
$node->append_conf('postgresql.conf', "persist_pipeline.max_workers = 1");
$node->append_conf('postgresql.conf', "persist_pipeline.ring_size = '1MB'");
$node->append_conf('postgresql.conf', "persist_pipeline.max_databases = 8");
$node->restart;
$control = connect_to($node);

sub persisted
{
	return map { one_value($control, "SELECT items_persisted FROM persist_queue WHERE datname = ?", $_) || 0 } @_;
}

# Enqueue in each of these databases from a client of its own, an item in about a
# millisecond, until told to stop.
my $runs = 0;
sub start_clients
{
	my (@used) = @_;
	my $stop = PostgreSQL::Test::Utils::tempdir() . '/' . ++$runs;
	my @pids = in_children(
		scalar(@used),
		sub {
			my ($client) = @_;
			my $dbh = connect_to($node, $used[ $client - 1 ]);
			my $n = 0;

			until (-e $stop)
			{
				$dbh->do($enqueue, undef, ++$n);
				usleep(1000);
			}
			append_to_file("$stop.$used[$client - 1]", $n);
		});

	return ($stop, @pids);
}

# Both have written something; then all that they were given, each item once.
sub take_turns
{
	my ($name, $turns, @used) = @_;
	my $longest = 0;

	$node->safe_psql($_, "TRUNCATE t") foreach @used;
	$position = log_position($node);

	my $began = time;
	my ($stop, @pids) = start_clients(@used);

	foreach my $turn (1 .. $turns)
	{
		my @before = persisted(@used);
		my $begin = time;

		wait_until(
			"$name: both make progress",
			sub {
				my @now = persisted(@used);

				return !grep { $now[$_] <= $before[$_] } 0 .. $#used;
			});
		$longest = max($longest, time - $begin);
	}
	my $lasted = time - $began;
	my @said = lines($position);

	append_to_file($stop, '');
	children_succeeded("$name: the clients", @pids);
	note sprintf '%s: %d rounds in %.1f s, the longest %.1f s; %d lines in the log', $name, $turns, $lasted, $longest, scalar @said;
	foreach my $database (@used)
	{
		my $n = slurp_file("$stop.$database");

		ok(flush($node, $database), "$name: flushed");
		is($node->safe_psql($database, "SELECT count(*), count(DISTINCT n), max(n) FROM t"),
			"$n|$n|$n", "$name: all items of $database, each once");
	}
	return @said;
}

is_deeply([ take_turns('one worker', 4, 'many_1', 'many_2') ], [], 'one worker: and the log says nothing');

# No worker lives to see many batches; what is kept of each is added up nevertheless.
{
	my ($stop, @pids) = start_clients('many_1', 'many_2');
	my $dbh = connect_to($node, 'many_1');
	my $before = one_value($dbh, "SELECT sum(batches) FROM persist_stats");

	ok( eval {
			wait_for_sql($dbh, "SELECT (SELECT sum(batches) FROM persist_stats) - $before - (SELECT count(*) FROM persist_pipeline_internal.persist_account) > 100");
			1;
		},
		'one worker: its account is added up');
	append_to_file($stop, '');
	children_succeeded('one worker: the clients', @pids);
	$dbh->disconnect;
	flush($node, $_) foreach 'many_1', 'many_2';
}

# A database that can't be written doesn't keep the worker for itself: neither if its
# items are parked, nor if there is a lock on our own table, so that they can't be.
foreach my $case ([ 'a locked target', 't', 1 ], [ 'a locked database', 't, persist_parked', 0 ])
{
	my ($name, $tables, $parked) = @$case;
	my $locker = connect_to($node, 'many_1');

	$node->safe_psql('many_1', "DELETE FROM t WHERE n = 0");
	$locker->begin_work;
	$locker->do("LOCK TABLE $tables IN SHARE MODE");
	$node->safe_psql('many_1', "SELECT persist_enqueue('t', '{\"n\": 0}')");
	ok(wait_for_queue($node, "(worker_state = 'retrying' OR retrier_pid > 0) AND items_parked = $parked", 'many_1'), "$name: it is tried again");
	$node->safe_psql('many_2', "TRUNCATE t; SELECT persist_enqueue('t', '{\"n\": 0}')");
	ok(flush($node, 'many_2'), "$name: another database has its turn");
	is($node->safe_psql('many_2', "SELECT count(*) FROM t"), '1', "$name: its item is there");
	is(queue_value($node, 'items_pending', 'many_1'), '1', "$name: that of the first waits");
	$locker->rollback;
	$locker->disconnect;
	ok($parked ? drain($node, 'many_1') : flush($node, 'many_1'), "$name: flushed when it is free");
	is($node->safe_psql('many_1', "SELECT count(*) FROM t WHERE n = 0"), '1', "$name: now it is there");
}

# ---- one slot for two workers

$control->disconnect;
$node->append_conf('postgresql.conf', "persist_pipeline.max_workers = 2");
$node->append_conf('postgresql.conf', "max_logical_replication_workers = 0");
$node->append_conf('postgresql.conf', "max_worker_processes = 2");
$node->restart;
$control = connect_to($node);
@lines = take_turns('one slot', 4, 'many_1', 'many_2');
is(scalar(grep { /no background worker slot is free/ } @lines), 1, 'one slot: one line that says so, however many turns')
  or diag join "\n", @lines;
is_deeply([ grep { !/no background worker slot is free/ } @lines ], [], 'one slot: and no other');

# ---- no slot at all, but for the launcher

$control->disconnect;
$node->append_conf('postgresql.conf', "max_worker_processes = 1");
$node->append_conf('postgresql.conf', "max_parallel_workers_per_gather = 0");
$node->restart;
$position = log_position($node);
$node->safe_psql('many_3', "TRUNCATE t; SELECT persist_enqueue('t', jsonb_build_object('n', i)) FROM generate_series(1, 10) AS i");
$node->wait_for_log(qr/no background worker slot is free/, $position);
is($node->safe_psql('many_3', "SELECT persist_flush('4 s')"), 'f', 'no slot: the items wait');
@lines = lines($position);
is(scalar(@lines), 1, 'no slot: one line for all the attempts') or diag join "\n", @lines;
like($lines[0], qr/launcher 53400 LOG:  no background worker slot is free for persist_pipeline/, 'that says so');

# What waits is in the journal; and the next start has a slot.
$node->append_conf('postgresql.conf', "max_worker_processes = 8");
$node->restart;
ok($node->poll_query_until('many_3', "SELECT count(*) = 10 AND count(DISTINCT n) = 10 FROM t"), 'no slot: the next start writes what waits');
$node->safe_psql('many_3', "SELECT persist_enqueue('t', '{\"n\": 11}')");
ok(flush($node, 'many_3'), 'with slots, a worker is there');

# ---- the server stops while databases wait for their turn

# More than the workers that are there can write: the journal keeps the rest.
my @waiting = map { "many_$_" } 11 .. 16;
foreach my $name (@waiting)
{
	my $dbh = $session{$name} = connect_to($node, $name);

	$dbh->begin_work;
	$dbh->do("SELECT count(persist_enqueue('t', jsonb_build_object('n', 1000 + i))) FROM generate_series(1, 100) AS i");
}
$position = log_position($node);
$session{$_}->commit foreach @waiting;
$node->stop;
$session{$_}->disconnect foreach @waiting;
$node->start;
ok($node->poll_query_until($_, "SELECT count(*) = 100 FROM t WHERE n > 1000"), "a stop: nothing of $_ is lost") foreach @waiting;
foreach my $name (@waiting)
{
	is($node->safe_psql($name, "SELECT count(DISTINCT n) FROM t WHERE n > 1000"), '100', "a stop: nor twice in $name");
}

# sessions that a restart found on their way out
is_deeply(
	[
		complaints($node, $everything_from,
			qr/client backend 57P01 FATAL/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
