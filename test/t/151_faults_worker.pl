
# Races of a worker with whoever wakes it, with the next one of its database, and with the
# launcher, each made to last by a fault point.

use strict;
use warnings;
use File::Basename 'basename';
use FindBin;
use lib $FindBin::RealBin;

use Faults;
use Parking;
use PersistPipeline;
use Test::More;

my $node = parking_node(
	'faults_worker',
	with_faults(),
	'persist_pipeline.max_databases' => 2,
	'persist_pipeline.statement_timeout' => "'1s'",
	'persist_pipeline.worker_idle_timeout' => 0);
my $database = 'postgres';
my $dbh = session($database);
my $other = connect_to($node);

sub queue { return one_value($dbh, "SELECT $_[0] FROM persist_queue WHERE datname = '$database'"); }

# One more for t, and whether all of them are there
sub one_more { enqueue($database, 't', $committed{$database}{t} + 1, $committed{$database}{t} + 1); return; }
sub all_are_there { return one_value($dbh, "SELECT count(*) = $committed{$database}{t} FROM t"); }

sub waits_for_extension
{
	my ($session) = @_;

	wait_for_sql($dbh, "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $session->{pg_pid}");
	return;
}

create_target($database, 't');
enqueue($database, 't', 1, 1);
lands($database, 't', 'at first');

# ---- what it is woken for, when it has looked and falls asleep: how that is done, what comes of
# it, and what brings everything back

my $worker;
my @wakes = (
	[ 'an item', \&one_more, \&all_are_there ],
	[
		'a flush',
		sub {
			set_and_reload('adaptive_flush', 'off');
			set_and_reload('flush_interval', "'1h'");
			one_more();
			start_sql($other, "SELECT persist_flush('1h')");
			waits_for_extension($other);
		},
		sub { all_are_there() && !is_running($other) },
		sub {
			is(finish_sql($other), '00000', 'a flush: it returns');
			set_and_reload('flush_interval', "'10ms'");
			set_and_reload('adaptive_flush', 'on');
		}
	],
	[
		'a pause',
		sub { $dbh->do("SELECT persist_pause()") },
		sub { queue('worker_state') eq 'paused' },
		sub { $dbh->do("SELECT persist_resume()") }
	],
	[
		'a hold',
		sub {
			$other->begin_work;
			start_sql($other, 'DROP EXTENSION persist_pipeline');
			waits_for_extension($other);
		},
		sub { !is_running($other) },
		sub {
			is(finish_sql($other), '00000', 'a hold: the command has the database');
			$other->rollback;
		}
	],
	[
		'a reload',
		sub { set_and_reload('worker_idle_timeout', "'10ms'") },
		sub { worker_pid($node) eq '' },
		sub { set_and_reload('worker_idle_timeout', 0) }
	],
	[
		'a stop',
		sub { kill 'TERM', $worker },
		sub { (queue('worker_pid') || $worker) != $worker }
	]);

foreach my $case (@wakes)
{
	my ($what, $wake, $is_done, $restore) = @$case;

	ask_fault($node, 'worker_naps');
	one_more();
	$worker = wait_for_fault($node, 'worker_naps');
	$wake->();
	end_fault($node, 'worker_naps');
	ok(eval { wait_until($what, $is_done) }, "woken while it falls asleep: $what");
	$restore->() if $restore;
	one_more();
	lands($database, 't', "woken while it falls asleep: $what, afterwards");
}
$other->disconnect;

# ---- the next worker opens the note about items at hand, while the last one removes it, whose
# ring has been given to another database

{
	my $note = $node->data_dir . '/pg_stat_tmp/persist_pipeline.'
	  . one_value($dbh, 'SELECT oid FROM pg_database WHERE datname = current_database()') . '.worker';
	my $last;

	$node->safe_psql('postgres', 'CREATE DATABASE b');
	$node->safe_psql('b', "CREATE EXTENSION persist_pipeline; $parking_tools");
	create_target('b', 't');
	ask_fault($node, 'removes_note');
	set_and_reload('worker_idle_timeout', "'10ms'");
	$last = wait_for_fault($node, 'removes_note');
	set_and_reload('worker_idle_timeout', 0);
	enqueue('b', 't', 1, 1);
	one_more();
	wait_until(
		'the next one has opened it',
		sub {
			my $next = one_value($dbh, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker' AND datname = '$database' AND pid <> $last");

			return $next && grep { (readlink // '') =~ m{/\Q@{[ basename($note) ]}\E$} } glob "/proc/$next/fd/*";
		});
	end_fault($node, 'removes_note');
	lands($database, 't', 'the note is removed');
	ok(-e $note, 'the note is removed: the next one has one, which is found');
	lands('b', 't', 'the note is removed: the other database');
}

# ---- it takes too long: before it settles items the launcher gives its place to another one, which
# then does; afterwards nobody takes its place

foreach my $case ([ 'off', 'journal' ], [ 'off', 'auto' ], [ 'on', 'auto' ])
{
	my ($sync, $durability) = @$case;

	$dbh->do("SELECT persist_configure('t', durability => '$durability')");
	foreach my $place ('settles', 'commits')
	{
		my $name = "too long: $place, synchronous_commit $sync, durability $durability";
		my $from = log_position($node);

		$dbh->do("SET synchronous_commit = $sync");
		ask_fault($node, $place, 'hang');
		one_more();
		$worker = wait_for_fault($node, $place);
		$node->wait_for_log(qr/worker \(PID $worker\).*?HINT:  /s, $from);
		is(scalar(log_since($node, $from, qr/HINT:  Another worker has taken its place/)), $place eq 'settles' ? 1 : 0, "$name: who has its place");
		lands($database, 't', "$name: the other one writes") if $place eq 'settles';
		end_fault($node, $place);
		ok(eval { wait_until('it ends', sub { !kill 0, $worker }) }, "$name: it ends");
		one_more();
		lands($database, 't', $name);
		adds_up($database, $name);
	}
}

# ---- it fails, or is killed, when all is written but not settled: then each comes once all the same

foreach my $action ('error', 'crash')
{
	my $from = log_position($node);

	$dbh = session($database);
	$dbh->do('SET synchronous_commit = on');
	ask_fault($node, 'commits', $action);
	if (!eval { one_more(); 1 })
	{
		# it has committed if the worker has it, but the crash may come before the answer
		die $@ if $action eq 'error' || session($database)->ping;
		$committed{$database}{t}++;
	}
	wait_for_fault($node, 'commits');
	if ($action eq 'crash')
	{
		forget_sessions();
		$node->wait_for_log(qr/database system is ready to accept connections/, $from);
	}
	lands($database, 't', "it ends with: $action");
}

is_clean_log(
	qr/persist_pipeline worker 57P01 FATAL:  (?:terminating background worker|another persist_pipeline worker has taken)/,
	qr/persist_pipeline launcher 01000 WARNING:  persist_pipeline worker .* cannot be ended/);
forget_sessions();
$node->stop;
done_testing();
