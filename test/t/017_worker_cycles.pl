
# Start and stop a worker again and again, in every way it can leave: what
# launcher, postmaster and shared memory hold is the same after the last time as
# after the first ten.
#
# PP_CYCLES: how often (60; a full run is 200).

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'needs /proc/PID/fd and /proc/PID/status'
  if !-d "/proc/$$/fd" || slurp_file("/proc/$$/status") !~ /^RssAnon/m;

my $cycles = $ENV{PP_CYCLES} || 60;
my $node = pp_node(
	'cycles',
	autovacuum => 'off',    # its processes and locks would be counted, too
	'persist_pipeline.flush_interval' => 0,
	'persist_pipeline.worker_idle_timeout' => 0);
my $from = log_position($node);

create_model_database($node, 'used');

my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
my $launcher = wait_for_launcher($node);
my $control = connect_to($node);
my $client = connect_to($node, 'used');
my $worker = "FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker' AND datname IN ('used', 'renamed')";
my $enqueued = 0;

sub enqueue
{
	my ($target) = @_;

	$client->do("SELECT persist_enqueue('$target', jsonb_build_object('n', ?::int))", undef, ++$enqueued);
	return;
}

sub wait_for_worker
{
	my ($old) = @_;

	wait_for_sql($control,
		"SELECT (SELECT count(*) = 1 $worker AND pid <> ?) AND (SELECT count(*) = 1 FROM persist_queue"
		  . " WHERE worker_state = 'idle' AND items_pending = 0)", $old);
	return one_value($control, "SELECT pid $worker");
}

# The ways to leave.  Each takes the pid of a worker that is idle, and returns that
# of the next one, which is.
my @ways = (
	sub {
		my ($pid) = @_;

		$control->do("SELECT pg_terminate_backend($pid)");
		return wait_for_worker($pid);
	},
	sub {
		my ($pid) = @_;

		change_setting($control, 'worker_idle_timeout', '1ms');
		wait_for_sql($control, "SELECT count(*) = 0 $worker");
		wait_for_sql($control, "SELECT count(*) = 0 FROM persist_queue WHERE ring_size IS NOT NULL");
		change_setting($control, 'worker_idle_timeout', '0');
		enqueue('t');
		return wait_for_worker($pid);
	},

	# a command sends it away in the middle of a batch
	sub {
		my ($pid) = @_;

		enqueue('slow');
		wait_for_sql($control, "SELECT count(*) = 1 $worker AND wait_event = 'PgSleep'");
		$client->disconnect;
		$control->do("ALTER DATABASE used RENAME TO renamed");
		$control->do("ALTER DATABASE renamed RENAME TO used");
		$client = connect_to($node, 'used');
		$client->do("INSERT INTO released DEFAULT VALUES");
		$pid = wait_for_worker($pid);
		$client->do("DELETE FROM released");
		return $pid;
	});

# ---- what is counted, while a worker is there and idle

sub open_files
{
	my ($pid) = @_;

	return scalar(my @files = glob "/proc/$pid/fd/*");
}

sub private_memory
{
	my ($pid) = @_;

	return slurp_file("/proc/$pid/status") =~ /^RssAnon:\s*(\d+) kB/m ? $1 : die "pid $pid";
}

sub holdings
{
	my ($shared, $free, $largest) = $control->selectrow_array(
		"SELECT sum(allocated_size), max(allocated_size) FILTER (WHERE name IS NULL),"
		  . " max(allocated_size) FILTER (WHERE name = 'persist_pipeline') FROM pg_shmem_allocations");

	return {
		'open files of the launcher' => open_files($launcher),
		'open files of the postmaster' => open_files($postmaster),
		'locks' => one_value($control, "SELECT count(*) FROM pg_locks"),
		'bytes of shared memory' => $shared,
		'bytes of it that are free' => $free,
		'bytes of it that are ours' => $largest,
		'mappings of the launcher' => scalar(my @mappings = split /\n/, slurp_file("/proc/$launcher/maps")),
		'processes' => one_value($control, "SELECT count(*) FROM pg_stat_activity"),
		'rings' => one_value($control, "SELECT count(*) FROM persist_queue WHERE ring_size IS NOT NULL"),
		'kB of the launcher' => private_memory($launcher),
		'kB of the postmaster' => private_memory($postmaster)
	};
}

# ---- the cycles

enqueue('t');
my $pid = wait_for_worker(0);
my %seen;
my $before;
my $seconds = seconds_of(
	sub {
		foreach my $cycle (1 .. $cycles)
		{
			$pid = $ways[$cycle % @ways]->($pid);
			$seen{$pid}++;
			$before = holdings() if $cycle == 10;
		}
	});
my $after = holdings();

# A process's memory is counted in pages, and which of them are touched varies.
my %slack = ('kB of the launcher' => 64, 'kB of the postmaster' => 256);

is(scalar(keys %seen), $cycles, "$cycles workers came and went");
foreach my $what (sort keys %$after)
{
	note "$what: $before->{$what}, in the end $after->{$what}";
	cmp_ok($after->{$what}, '<=', $before->{$what} + ($slack{$what} || 0), "$what: no more than after ten cycles");
}
is($after->{'bytes of it that are free'}, $before->{'bytes of it that are free'}, 'and no shared memory has gone');
is(wait_for_launcher($node), $launcher, 'the launcher is still the same');
is( one_value($client, "SELECT count(*) FROM (SELECT n FROM t UNION ALL SELECT n FROM slow) AS n"),
	$enqueued,
	"the $enqueued items are there");
is( one_value($client, "SELECT count(DISTINCT n) FROM (SELECT n FROM t UNION ALL SELECT n FROM slow) AS n"),
	$enqueued,
	'each once');
note sprintf '%d cycles took %.1f s', $cycles, $seconds;

is_deeply([ complaints($node, $from) ], [], 'the log holds no WARNING or ERROR');

$control->disconnect;
$client->disconnect;
$node->stop;
done_testing();
