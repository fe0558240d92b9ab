
=pod

=head1 NAME

Parking - what the tests of parked targets share: sessions, targets that can be shut,
and what is expected of them.

=cut

package Parking;

use strict;
use warnings;

use Exporter 'import';
use PersistPipeline;
use Test::More;

our @EXPORT = qw(
  $parking_tools %committed parking_node session forget_sessions create_target enqueue enqueue_paused
  flush_returns open_gate shut_gate lock_tables unlock is_parked lands adds_up
  all_workers_leave set_and_reload restart_with is_clean_log);

# While gate has a row no row gets through.
our $parking_tools = number_rows() . q{
	CREATE TABLE gate ();
	CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM public.gate) THEN
			RAISE object_in_use;
		END IF;
		RETURN NEW;
	END $$;
};
my $node;
my %session;          # by database
our %committed;       # by database and target: how many items; "gone": of relations that are no more

# A server for these tests, with the tools in database postgres.
sub parking_node
{
	my ($name, %settings) = @_;

	$node = pp_node(
		$name,
		'persist_pipeline.flush_interval' => "'10ms'",
		'persist_pipeline.lock_timeout' => "'1s'",
		'persist_pipeline.max_databases' => 6,
		'persist_pipeline.max_workers' => 3,
		deadlock_timeout => "'10s'",
		restart_after_crash => 'on',
		%settings);
	$node->safe_psql('postgres', $parking_tools) if !$settings{no_start};
	return $node;
}

sub session
{
	my ($database) = @_;

	if (!$session{$database})
	{
		$session{$database} = connect_to($node, $database);
		$session{$database}->do("SET lock_timeout = '10s'");    # rather than to hang
	}
	return $session{$database};
}

# They end here, or with their server.
sub forget_sessions
{
	$_->disconnect foreach values %session;
	%session = ();
	return;
}

sub create_target
{
	my ($database, $name, $columns) = @_;

	session($database)->do("CREATE TABLE $name (n int, ins bigint" . ($columns ? ", $columns" : '') . ')');
	session($database)->do("CREATE TRIGGER $_ BEFORE INSERT ON $name FOR EACH ROW EXECUTE FUNCTION $_()") foreach 'gate', 'number';
	return;
}

# See enqueue_range.
sub enqueue
{
	my ($database, $target, $from, $to) = @_;

	enqueue_range(session($database), $target, $from, $to);
	$committed{$database}{$target} += $to - $from + 1;
	return;
}

sub flush_returns
{
	my ($database, $value, $name, $target) = @_;
	my $got;
	my $seconds = seconds_of(
		sub {
			$got = one_value(session($database),
				"SELECT persist_flush('300 s'" . ($target ? ", '$target')" : ')'));
		});

	is($got, $value, $name);
	is_quick($seconds, 20, "$name: without waiting for what is parked");
	return;
}

sub open_gate { session($_[0])->do("TRUNCATE gate"); return; }
sub shut_gate { session($_[0])->do("INSERT INTO gate DEFAULT VALUES"); return; }

# An open transaction that holds these.
sub lock_tables
{
	my ($tables, $mode) = @_;
	my $dbh = connect_to($node);

	begin_with_lock($dbh, $tables, $mode || 'ACCESS EXCLUSIVE');
	return $dbh;
}

sub unlock { my ($dbh) = @_; $dbh->commit; $dbh->disconnect; return; }

sub is_parked
{
	my ($database, $target, $items, $reason, $name) = @_;

	ok( eval {
			wait_for_sql(session($database),
				"SELECT parked = ? AND pending = ? AND coalesce(parked_reason, '') ~ ? FROM persist_stats WHERE target_name = 'public.' || ?",
				$items, $items, $reason, $target);
		},
		$name)
	  or diag(join ' ', map { $_ // 'NULL' }
		  session($database)->selectrow_array("SELECT pending, parked, parked_reason FROM persist_stats WHERE target_name = 'public.' || ?", undef, $target));
	return;
}

# Items that wait, paused, until their target is resumed: all of them are in one batch then, and
# only the retrier tries them.
sub enqueue_paused
{
	my ($database, $target, $from, $to) = @_;

	session($database)->do("SELECT persist_pause('$target')");
	enqueue($database, $target, $from, $to);
	is_parked($database, $target, $to - $from + 1, '55000', "$target: paused");
	return;
}

# All that was enqueued comes, each once, in order.
sub lands
{
	my ($database, $target, $name) = @_;
	my $n = $committed{$database}{$target};
	my $dbh = session($database);

	ok(eval { wait_for_sql($dbh, "SELECT count(*) >= $n FROM $target") }, "$name: they come");
	is(one_value($dbh, "SELECT array_agg(n ORDER BY ins) = array(SELECT generate_series(1, $n)) FROM $target"),
		1, "$name: each once, in order");
	return;
}

# Nothing waits, and the account of each target is that of what was committed.
sub adds_up
{
	my ($database, $name) = @_;
	my $dbh = session($database);
	my %enqueued;

	ok(eval { wait_for_sql($dbh, "SELECT bool_and(pending = 0 AND parked_reason IS NULL) FROM persist_stats") }, "$name: nothing waits");
	is(one_value($dbh, "SELECT persist_flush()"), 1, "$name: flushed");
	foreach my $row (
		@{
			$dbh->selectall_arrayref("SELECT CASE WHEN c.oid IS NULL THEN 'gone' ELSE replace(target_name, 'public.', '') END, sum(enqueued)"
				  . " FROM persist_stats LEFT JOIN pg_class AS c ON c.oid = target WHERE enqueued > 0 GROUP BY 1")
		})
	{
		$enqueued{ $row->[0] } = $row->[1];
	}
	is_deeply(\%enqueued, $committed{$database}, "$name: as many as were committed");
	return;
}

# Wait until no worker is there.
sub all_workers_leave
{
	my ($name) = @_;

	ok(eval { wait_for_sql(session('postgres'), "SELECT NOT EXISTS (SELECT FROM persist_queue WHERE worker_pid > 0)") }, $name);
	return;
}

sub set_and_reload { reload_with($node, @_); return; }

sub restart_with
{
	my %settings = @_;

	$node->append_conf('postgresql.conf', "persist_pipeline.$_ = $settings{$_}") foreach keys %settings;
	forget_sessions();
	$node->restart;
	return;
}

# What the log holds since the start that was not provoked: a stop or a crash brings
# things about for clients.
sub is_clean_log
{
	my (@provoked) = @_;

	is_deeply(
		[
			complaints(
				$node, 0,
				qr/client backend 57P0[12] (WARNING|FATAL):  terminating connection/,
				qr/57P03 FATAL:  the database system is (starting up|shutting down|in recovery mode|not yet accepting connections)/,
				@provoked)
		],
		[],
		'the log holds no WARNING or ERROR that was not provoked');
	return;
}

1;
