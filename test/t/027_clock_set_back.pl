
# The time of day is set back by a minute while something waits: it waits no longer for that.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Parking;
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $most = 45;    # seconds that anything may take that is to take one or two
my $node = parking_node(
	'clock',
	no_start => 1,
	'persist_pipeline.adaptive_flush' => 'off',
	'persist_pipeline.flush_interval' => "'1s'",
	'persist_pipeline.misfit_timeout' => "'10s'");
my $library = $node->basedir . '/set_clock.so';
my $shift_file = $node->basedir . '/shift';
my $shift = 0;

sub set_clock_to_shift
{
	open my $file, '+<', $shift_file or die "$shift_file: $!";
	syswrite $file, pack 'q', $shift;
	close $file;
	return;
}

sub set_back
{
	my $told = one_value(session('postgres'), "SELECT clock_timestamp()");

	$shift -= 60;
	set_clock_to_shift();
	is(one_value(session('postgres'), "SELECT clock_timestamp() < ?", $told), 1, 'the clock is set back');
	return;
}

sub start
{
	local $ENV{LD_PRELOAD} = $library;
	local $ENV{CLOCK_SHIFT} = $shift_file;

	$node->start;
	return;
}

# It comes about in a moment.
sub is_soon
{
	my ($name, $code) = @_;
	my $seconds = seconds_of(sub { wait_until($name, $code) });

	cmp_ok($seconds, '<', $most, "$name: in a moment");
	return;
}

# The last items that were committed have landed.
sub have_landed
{
	my ($target) = @_;

	return one_value(session('postgres'), "SELECT count(*) = ? FROM $target", $committed{postgres}{$target});
}

sub soon_lands
{
	my ($target, $name) = @_;

	is_soon($name, sub { have_landed($target) });
	return;
}

# The worker is in the middle of an INSERT that doesn't end.
sub start_endless
{
	my ($n) = @_;

	session('postgres')->do("SELECT persist_enqueue('endless', '{\"n\": $n}')");
	wait_for_sql(session('postgres'), "SELECT count(*) = 1 FROM pg_locks WHERE relation = 'endless'::regclass AND mode = 'RowExclusiveLock'");
	return;
}

system_or_bail('cc', '-shared', '-fPIC', '-o', $library, "$FindBin::RealBin/set_clock.c");
append_to_file($shift_file, pack 'q', $shift);
start();
$node->safe_psql('postgres', 'CREATE EXTENSION persist_pipeline');
$node->safe_psql('postgres', $parking_tools);
create_target('postgres', $_) foreach 'free', 'shut', 'locked', 'misfit', 'misfit_too';
session('postgres')->do("DROP TRIGGER gate ON free");

# flush_interval
enqueue('postgres', 'free', 1, 1);
set_back();
soon_lands('free', 'flush_interval');

# a target that is parked
shut_gate('postgres');
enqueue('postgres', 'shut', 1, 10);
is_parked('postgres', 'shut', 10, '55006', 'parked');
set_back();
open_gate('postgres');
soon_lands('shut', 'parked');

# the worker's own pauses; and persist_flush() returns when its time is up
{
	my $lock = lock_tables('locked, persist_pipeline_internal.persist_parked', 'EXCLUSIVE');
	my $other = connect_to($node);

	enqueue('postgres', 'locked', 1, 10);
	wait_for_sql(session('postgres'), "SELECT worker_state = 'retrying' FROM persist_queue WHERE datname = 'postgres'");
	start_sql($other, "SELECT persist_flush('2 s')");
	set_back();
	is_soon('persist_flush()', sub { !is_running($other) });
	is(finish_sql($other), '00000', 'persist_flush() says no');
	unlock($lock);
	soon_lands('locked', 'retrying');
	$other->disconnect;
}

# the time that a target has to be mended
session('postgres')->do("SELECT persist_pause('misfit')");
enqueue('postgres', 'misfit', 1, 200);
is_parked('postgres', 'misfit', 200, '55000', 'misfit');
session('postgres')->do("ALTER TABLE misfit DROP COLUMN n");
session('postgres')->do("SELECT persist_resume('misfit')");
is_parked('postgres', 'misfit', 200, '^42', 'misfit: they are tried');
set_back();
is_soon('misfit_timeout', sub { one_value(session('postgres'), "SELECT count(*) = 200 FROM persist_dead_letters") });

# the same, over a restart
set_and_reload('misfit_timeout', "'20s'");
session('postgres')->do("SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))");
session('postgres')->do("SELECT persist_pause('misfit_too')");
enqueue('postgres', 'misfit_too', 1, 200);
is_parked('postgres', 'misfit_too', 200, '55000', 'misfit_too');
session('postgres')->do("ALTER TABLE misfit_too DROP COLUMN n");
session('postgres')->do("SELECT persist_resume('misfit_too')");
is_soon('misfit_timeout is noted', sub { one_value(session('postgres'), "SELECT count(*) > 0 FROM persist_parked WHERE misfit_since IS NOT NULL") });
forget_sessions();
$node->stop;
$shift -= 60;
set_clock_to_shift();
start();
is_soon('misfit_timeout, over a restart', sub { one_value(session('postgres'), "SELECT count(*) = 200 FROM persist_dead_letters") });

# statement_timeout, of code that runs
session('postgres')->do($_)
  foreach "CREATE TABLE endless (n int)",
  "CREATE FUNCTION endless() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN LOOP END LOOP; END \$\$",
  "CREATE TRIGGER endless BEFORE INSERT ON endless FOR EACH ROW EXECUTE FUNCTION endless()";
set_and_reload('statement_timeout', "'3s'");
start_endless(1);
set_back();
is_soon('statement_timeout', sub { one_value(session('postgres'), "SELECT count(*) = 1 FROM persist_stats WHERE target_name = 'public.endless' AND parked_reason = '57014'") });
session('postgres')->do("DROP TRIGGER endless ON endless");
is_soon('endless', sub { one_value(session('postgres'), "SELECT count(*) = 1 FROM endless") });

# lock_timeout, of who waits for a row
set_and_reload('statement_timeout', "'5min'");
set_and_reload('lock_timeout', "'5s'");
{
	my $other = connect_to($node);

	session('postgres')->do("CREATE TABLE claimed (n int PRIMARY KEY)");
	$other->begin_work;
	$other->do("INSERT INTO claimed VALUES (1)");
	session('postgres')->do("SELECT persist_enqueue('claimed', '{\"n\": 1}')");
	wait_for_sql(session('postgres'), "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker' AND wait_event_type = 'Lock'");
	set_back();
	is_soon('lock_timeout', sub { one_value(session('postgres'), "SELECT count(*) = 1 FROM persist_stats WHERE target_name = 'public.claimed' AND parked > 0") });
	$other->rollback;
	is_soon('claimed', sub { one_value(session('postgres'), "SELECT count(*) = 1 FROM claimed") });
	$other->disconnect;
}

# shutdown_timeout, of code that runs
session('postgres')->do("CREATE TRIGGER endless BEFORE INSERT ON endless FOR EACH ROW EXECUTE FUNCTION endless()");
start_endless(2);
set_back();
forget_sessions();
cmp_ok(seconds_of(sub { $node->stop }), '<', $most, 'a stop takes no longer');
# or else who drops the trigger may wait for it
$node->append_conf('postgresql.conf', "persist_pipeline.statement_timeout = '3s'");
start();
session('postgres')->do("DROP TRIGGER endless ON endless");
is_soon('stopped', sub { one_value(session('postgres'), "SELECT count(*) = 2 FROM endless") });

# the launcher's pauses before it starts a worker that fails again
{
	my $from = log_position($node);
	my $version = "UPDATE pg_extension SET extversion = ? WHERE extname = 'persist_pipeline'";
	my $other = connect_to($node);
	my $pid = worker_pid($node);

	$other->begin_work;
	$other->do("SELECT persist_enqueue('free', '{\"n\": 2}')");
	$committed{postgres}{free}++;
	session('postgres')->do($version, undef, '0.0');
	kill 'TERM', $pid;
	$node->wait_for_log(qr/persist_pipeline (?:worker|retrier) 55000 FATAL/, $from);
	$other->commit;
	set_back();
	session('postgres')->do($version, undef, '1.1');
	soon_lands('free', 'a worker that could not start');
	$other->disconnect;
}

# what was resumed since the start stays so
{
	my $dbh;

	$node->append_conf('postgresql.conf', "persist_pipeline.start_paused = on");
	forget_sessions();
	$node->stop;
	start();
	$dbh = session('postgres');
	set_back();
	$dbh->do("SELECT persist_resume()");
	enqueue('postgres', 'free', 3, 3);
	soon_lands('free', 'resumed');
	forget_sessions();
	$node->stop;
	start();
	enqueue('postgres', 'free', 4, 4);
	wait_for_sql(session('postgres'), "SELECT worker_state = 'paused' FROM persist_queue WHERE datname = 'postgres'");
	is(one_value(session('postgres'), "SELECT count(*) FROM free"), 3, 'paused by the next start, though that was a minute earlier');
}

is_clean_log(qr/persist_pipeline (?:worker|retrier) 55000 FATAL/, qr/WARNING:  .* was forced to stop/, qr/persist_pipeline (?:worker|retrier) 42\w+ WARNING:  .* "public.misfit(?:_too)?"/);
forget_sessions();
$node->stop;
done_testing();
