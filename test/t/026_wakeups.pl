
# Whatever the worker is woken for is seen, though it waits for something else just then,
# which resets its latch: in each of its transactions between two naps.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pp_node(
	'wakeups',
	no_start => 1,
	'persist_pipeline.adaptive_flush' => 'off',
	'persist_pipeline.flush_interval' => 0,
	'persist_pipeline.worker_idle_timeout' => 0);
my $library = $node->basedir . '/doze';
{
	my $headers = $node->config_data('--includedir-server');

	system_or_bail('cc', '-shared', '-fPIC', "-I$headers", '-o', "$library.so", "$FindBin::RealBin/doze.c");
}
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'persist_pipeline, $library'");
$node->start;
$node->safe_psql(
	'postgres', q{
	CREATE EXTENSION persist_pipeline;
	CREATE TABLE t (n int CHECK (n >= 0));
});

my $dbh = connect_to($node);
my $other = connect_to($node);
my $doze_after = $node->data_dir . '/doze_after';
my $dozing = $node->data_dir . '/dozing';
my $n = 0;
my $pid;

sub enqueue
{
	$dbh->begin_work;
	$dbh->do("SELECT persist_enqueue('t', jsonb_build_object('n', ?::int))", undef, $_) foreach @_;
	$dbh->commit;
	return;
}

sub queue
{
	my ($column) = @_;

	return one_value($dbh, "SELECT $column FROM persist_queue WHERE datname = 'postgres'");
}

sub set_and_reload_worker
{
	my ($name, $value) = @_;

	$node->append_conf('postgresql.conf', "persist_pipeline.$name = '$value'");
	kill 'HUP', queue('worker_pid');
	return;
}

sub is_written
{
	my ($number) = @_;

	return one_value($dbh, "SELECT count(*) FROM t WHERE n = ?", $number);
}

sub is_waiting
{
	my ($session) = @_;

	return one_value($dbh, "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = ?", $session->{pg_pid});
}

# What it can be woken for: how that is done, what is to come of it then, and what brings
# everything back.
my %wakes = (
	'an item' => [ sub { enqueue(++$n) }, sub { is_written($n) } ],
	'a flush' => [
		sub {
			set_and_reload_worker('flush_interval', '1h');
			enqueue(++$n);
			start_sql($other, "SELECT persist_flush('1h')");
			wait_until('the flush waits', sub { is_waiting($other) });
		},
		sub { is_written($n) && !is_running($other) },
		sub {
			finish_sql($other);
			set_and_reload_worker('flush_interval', 0);
		}
	],
	'a pause' => [
		sub { $dbh->do("SELECT persist_pause()") },
		sub { queue('worker_state') eq 'paused' },
		sub { $dbh->do("SELECT persist_resume()") }
	],
	'a hold' => [
		sub {
			$other->begin_work;
			start_sql($other, "DROP EXTENSION persist_pipeline");
			wait_until('the command waits', sub { is_waiting($other) });
		},
		sub { !is_running($other) },
		sub {
			is(finish_sql($other), '00000', '... which gets the database');
			$other->rollback;
		}
	],
	'a reload' => [
		sub { set_and_reload_worker('worker_idle_timeout', '10ms') },
		sub { !one_value($dbh, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker'") },
		sub {
			$node->append_conf('postgresql.conf', "persist_pipeline.worker_idle_timeout = 0");
			$node->reload;
		}
	],
	'a stop' => [
		sub { $pid = queue('worker_pid'); kill 'TERM', $pid },
		sub { (queue('worker_pid') || $pid) != $pid }
	]);

foreach my $what (sort keys %wakes)
{
	my ($wake, $is_done, $restore) = @{ $wakes{$what} };
	my $nth = 0;

	while (1)
	{
		enqueue(++$n);
		wait_until('it is there', sub { is_written($n) });
		wait_until('it is idle', sub { queue('worker_state') eq 'idle' });

		append_to_file($doze_after, ++$nth);
		enqueue(-1, ++$n);    # a letter is told of before the nap
		wait_until('it dozes, or has done all', sub { -e $dozing || (is_written($n) && queue('worker_state') eq 'idle') });
		last if !-e $dozing;
		$wake->();
		unlink $dozing or die "$dozing: $!";
		ok(eval { wait_until("$what, transaction $nth", $is_done) }, "$what, in transaction $nth")
		  or BAIL_OUT($@);
		$restore->() if $restore;
	}
	unlink $doze_after or die "$doze_after: $!";
	cmp_ok($nth, '>', 3, "$what: there is more than the batch's own transaction");
}

$_->disconnect foreach $dbh, $other;
is_deeply(
	[ complaints($node, 0, qr/23514 WARNING:  /, qr/57P01 FATAL:  terminating background worker/) ],
	[],
	'the log holds no WARNING or ERROR that was not provoked');
$node->stop;
done_testing();
