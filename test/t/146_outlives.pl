
# Code that outlives its cancellation, or can't be interrupted at all, costs the others one try,
# once: then its target is the retrier's, and where the worker itself hangs another one takes
# its place.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Parking;
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $library = "$PostgreSQL::Test::Utils::tmp_check/loop_146";
my $released = "$PostgreSQL::Test::Utils::tmp_check/released_146";

build_library('loop.c', $library);

my $node = parking_node(
	'outlives',
	'persist_pipeline.max_workers' => 1,
	'persist_pipeline.statement_timeout' => "'1s'",
	'persist_pipeline.worker_idle_timeout' => "'10min'",
	'persist_pipeline.misfit_timeout' => "'10min'");
my $database = 'postgres';
my $named = qr/WARNING:  persist_pipeline worker \(PID \d+\) for database \d+ cannot be ended/;

session($database)->do(q{
	CREATE TABLE awake ();
	CREATE FUNCTION deaf() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM public.awake) LOOP
			BEGIN
				PERFORM pg_sleep(0.05);
			EXCEPTION WHEN query_canceled THEN
				NULL;
			END;
		END LOOP;
		RETURN NEW;
	END $$;
});

sub create_with
{
	my ($name, $trigger) = @_;

	create_target($database, $name);
	session($database)->do("CREATE TRIGGER hang BEFORE INSERT ON $name FOR EACH ROW EXECUTE FUNCTION $trigger");
	return;
}

# In one transaction with one for `free`, which is nobody's fault
sub enqueue_with_others
{
	my ($target) = @_;
	my $dbh = session($database);

	$dbh->do("SELECT persist_enqueue('free', jsonb_build_object('n', ?::int)), persist_enqueue('$target', '{\"n\": 1}')",
		undef, ++$committed{$database}{free});
	$committed{$database}{$target} = 1;
	return;
}

# Others wait for the first batch; then they don't.
sub others_land
{
	my ($name) = @_;
	my ($n, $began);

	enqueue($database, 'free', $committed{$database}{free} + 1, $committed{$database}{free} + 10);
	lands($database, 'free', "$name, others");
	$began = time;
	enqueue($database, 'free', $committed{$database}{free} + 1, $committed{$database}{free} + 10);
	lands($database, 'free', "$name, later ones");
	is_quick(time - $began, 1, "$name, later ones: soon");
	return;
}

sub stuck
{
	return one_value(session($database), "SELECT coalesce(array_length(stuck_pids, 1), 0) FROM persist_queue WHERE datname = '$database'");
}

sub nobody_is_stuck
{
	my ($name) = @_;

	ok(eval { wait_for_sql(session($database), "SELECT stuck_pids IS NULL FROM persist_queue WHERE datname = '$database'") },
		"$name: nobody is stuck");
	return;
}

create_target($database, 'free');
enqueue($database, 'free', 1, 2);
lands($database, 'free', 'at first');

# ---- it catches its cancellation

{
	my $from = log_position($node);
	my $ended = qr/persist_pipeline worker 57P01 FATAL/;

	create_with('deaf', 'deaf()');
	enqueue_with_others('deaf');
	others_land('deaf');
	is(scalar(log_since($node, $from, $ended)), 1, 'deaf: it has ended one worker');
	is_parked($database, 'deaf', 1, '', 'deaf: parked');
	enqueue($database, 'deaf', 2, 3);
	is_parked($database, 'deaf', 3, '', 'deaf: its own follow');
	is(scalar(log_since($node, $from, $ended)), 1, 'deaf: and end no other');
	session($database)->do('INSERT INTO awake DEFAULT VALUES');
	lands($database, 'deaf', 'deaf, awake');
	adds_up($database, 'deaf, awake');
	session($database)->do('DELETE FROM awake');
}

# ---- it can't be interrupted

session($database)->do("CREATE FUNCTION loop() RETURNS trigger LANGUAGE C AS '$library', 'loop'");

sub hang
{
	my ($target, $name) = @_;
	my $from = log_position($node);

	create_with($target, "loop('$released')");
	enqueue_with_others($target);
	others_land($name);
	$node->wait_for_log(qr/$named.*?HINT:  Another worker has taken its place/s, $from);
	is(scalar(log_since($node, $from, $named)), 1, "$name: the log says so once");
	is_parked($database, $target, 1, '', "$name: parked");
	return;
}

sub release
{
	my ($name, @targets) = @_;

	append_to_file($released, '');
	lands($database, $_, "$name: $_") foreach 'free', @targets;
	nobody_is_stuck($name);
	adds_up($database, $name);
	unlink $released;
	return;
}

hang('looping', 'it hangs');
is(stuck(), 1, 'it hangs: persist_queue knows it');
# whoever is asked to end has no ring to close any more
is(one_value(session($database), "SELECT pg_terminate_backend(stuck_pids[1]) FROM persist_queue WHERE datname = '$database'"), 1, 'it hangs: it is told to end');
others_land('it hangs, and is told to end');
is(one_value(session($database), "SELECT ring_closed FROM persist_queue WHERE datname = '$database'"), 0, 'it hangs, and is told to end: the ring is open');
enqueue($database, 'looping', 2, 3);
is_parked($database, 'looping', 3, '', 'it hangs: its own follow');
release('it goes on', 'looping');

# of two at most
hang('looping1', 'the first one hangs');
hang('looping2', 'the second one hangs');
is(stuck(), 2, 'two hang');
{
	my $from = log_position($node);

	create_with('looping3', "loop('$released')");
	enqueue_with_others('looping3');
	$node->wait_for_log(qr/$named.*?HINT:  The items of the database wait for it/s, $from);
	is(stuck(), 2, 'the third one keeps its place');
	ok(eval { wait_for_sql(session($database), "SELECT worker_pid > 0 FROM persist_queue WHERE datname = '$database'") },
		'the third one is the worker');
}
release('all go on', 'looping1', 'looping2', 'looping3');

# ---- a stop names it, and what others have in the ring alone is saved

{
	my $from = log_position($node);
	my $pid;

	session($database)->do('CREATE UNLOGGED TABLE fleeting (n int, ins bigint)');
	session($database)->do('CREATE TRIGGER number BEFORE INSERT ON fleeting FOR EACH ROW EXECUTE FUNCTION number()');
	create_with('looping4', "loop('$released')");
	enqueue_with_others('looping4');
	ok(eval { wait_for_sql(session($database), "SELECT worker_state = 'writing' FROM persist_queue WHERE datname = '$database'") }, 'a stop: the worker hangs');
	enqueue($database, 'fleeting', 1, 10);
	forget_sessions();
	$pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		exec 'pg_ctl', '-D', $node->data_dir, '-m', 'fast', '-t', '120', '-w', 'stop' or die "exec: $!\n";
	}
	$node->wait_for_log($named, $from);
	append_to_file($released, '');
	waitpid $pid, 0;
	is($?, 0, 'a stop: it ends with the code');
	$node->_update_pid(0);
	is(scalar(log_since($node, $from, qr/items stay in the ring/)), 0, 'a stop: nothing is lost');
	$node->start;
	lands($database, $_, "a stop: $_") foreach 'free', 'looping4', 'fleeting';
	nobody_is_stuck('a stop');
	adds_up($database, 'a stop');
}

is_clean_log(
	qr/persist_pipeline (?:worker|retrier|launcher) 57P01 FATAL:  terminating background worker/,
	qr/persist_pipeline launcher 01000 WARNING:  persist_pipeline (?:worker|retrier) .* cannot be ended/);
forget_sessions();
$node->stop;
done_testing();
