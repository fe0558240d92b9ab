
# While there is nothing to do, launcher and worker don't wake up.
#
# PP_IDLE_SECONDS: how long to watch (5; a full run is 30).  This one is about a
# stretch of time, so it does sleep.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'needs /proc/PID/status with voluntary_ctxt_switches'
  if !-r "/proc/$$/status" || slurp_file("/proc/$$/status") !~ /^voluntary_ctxt_switches/m;

my $seconds = $ENV{PP_IDLE_SECONDS} || 5;
my $node = pp_node('idle', 'persist_pipeline.flush_interval' => "'10ms'");
my $from = log_position($node);

# how often each process has gone to sleep so far
sub switches
{
	return map { slurp_file("/proc/$_/status") =~ /^voluntary_ctxt_switches:\s*(\d+)/m ? $1 : die "pid $_" } @_;
}

# They may just be on their way to sleep: wait until nothing moves for a moment.
sub wait_until_quiet
{
	my @before;
	my @now = (-1);
	my $tries = 0;

	until ("@before" eq "@now")
	{
		die "never quiet" if $tries++ > 100;
		@before = @now;
		sleep 1;
		@now = switches(@_);
	}
	return;
}

sub watch
{
	my ($name, @pids) = @_;

	wait_until_quiet(@pids);

	my @before = switches(@pids);

	sleep $seconds;
	is_deeply([ switches(@pids) ], \@before, "$name: no wake-up in $seconds s");
	return;
}

my $launcher = wait_for_launcher($node);

# after some work of every kind: batches, a failure, a retry, a flush
$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (n int CHECK (n >= 0));
	SELECT count(persist_enqueue('t', jsonb_build_object('n', i))) FROM generate_series(1, 5000) AS i;
	SELECT persist_enqueue('t', '{"n": -1}');
});
ok(flush($node), 'flushed');
my $pid = worker_pid($node);
$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
$pid = wait_for_new_worker($node, $pid);
$node->safe_psql('postgres', "SELECT persist_enqueue('t', jsonb_build_object('n', i)) FROM generate_series(1, 100) AS i");
ok(flush($node), 'flushed');
ok(wait_for_queue($node, "worker_state = 'idle'"), 'the worker is idle');
watch('launcher and worker', $launcher, worker_pid($node));
is($node->safe_psql('postgres', "SELECT string_agg(wait_event, ' ' ORDER BY wait_event) FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND backend_type LIKE 'persist%'"),
	$node->safe_psql('postgres', 'SHOW server_version_num') >= 170000 ? 'PersistPipelineLauncher PersistPipelineWorker' : 'Extension Extension',
	'what each of them waits for has a name, where extensions can give one');

# and items that wait don't make it tick
$node->append_conf('postgresql.conf', "persist_pipeline.adaptive_flush = off\npersist_pipeline.flush_interval = '1h'");
$node->reload;
$node->safe_psql('postgres', "SELECT persist_enqueue('t', '{\"n\": 1}')");
ok(wait_for_queue($node, "worker_state = 'gathering'"), 'the worker gathers');
watch('gathering', $launcher, worker_pid($node));
ok(flush($node), 'flushed');

is_deeply([ complaints($node, $from, qr/23514 WARNING/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
