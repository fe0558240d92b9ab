
# What is paused waits, and what is resumed goes on, though nobody is there who knows when to
# try: target and database are paused and resumed in any order, while a worker is there, has
# left because others have work, or has left for good, with one ring or several.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Parking;
use PersistPipeline;
use Test::More;

my $node = parking_node('resume', 'persist_pipeline.max_workers' => 1);
my %pauses = ('the target' => ["'t'"], 'the database' => [''], 'both' => [ "'t'", '' ]);

# Where the worker is when something is resumed.
my %workers = (
	'there' => sub { },
	'elsewhere' => sub {
		session('b')->do("SELECT persist_enqueue('t', '{}')");
		ok(one_value(session('b'), "SELECT persist_flush('300 s')"), 'the other database has its turn');
		wait_for_sql(session('b'), "SELECT NOT EXISTS (SELECT FROM persist_queue WHERE datname = 'a' AND worker_pid > 0)");
	},
	'gone' => sub {
		set_and_reload('worker_idle_timeout', "'10ms'");
		all_workers_leave('no worker is there');
		set_and_reload('worker_idle_timeout', "'1min'");
	});

sub waits
{
	my ($name, $n) = @_;

	is(one_value(session('a'), "SELECT count(*) FROM t"), $n, "$name: nothing is written");
	return;
}

sub resumes_in_order
{
	my ($paused, $where, @resumes) = @_;
	my $name = "paused: $paused, worker: $where, resumed: " . join ' and ', map { $_ ? 'target' : 'database' } @resumes;
	my $dbh = session('a');
	my $n = one_value($dbh, "SELECT count(*) FROM t");

	enqueue('a', 't', $n + 1, $n + 1);
	lands('a', 't', "$name: a worker is there");
	$dbh->do("SELECT persist_pause($_)") foreach @{ $pauses{$paused} };
	enqueue('a', 't', $n + 2, $n + 3);
	wait_for_sql($dbh,
		$paused eq 'the target'
		? "SELECT parked = 2 FROM persist_stats WHERE target_name = 'public.t'"
		: "SELECT worker_state = 'paused' FROM persist_queue WHERE datname = 'a'");
	$workers{$where}->();
	foreach my $resume (@resumes)
	{
		waits($name, $n + 1);
		$dbh->do("SELECT persist_resume($resume)");
	}
	lands('a', 't', $name);
	adds_up('a', $name);
	return;
}

foreach my $database ('a', 'b')
{
	session('postgres')->do("CREATE DATABASE $database");
	$node->safe_psql($database, "CREATE EXTENSION persist_pipeline; $parking_tools");
	create_target($database, 't');
}

# The worker is just parking what is paused, and is held up; then nothing is parked that the
# resume could see.
{
	my $dbh = session('a');
	my $other = connect_to($node, 'a');

	set_and_reload('lock_timeout', "'60s'");
	enqueue('a', 't', 1, 1);
	lands('a', 't', 'resumed while it is being parked: a worker is there');
	$dbh->do("SELECT persist_pause('t')");
	$other->begin_work;
	$other->do("SELECT persist_resume('t')");
	set_and_reload('adaptive_flush', 'off');
	set_and_reload('flush_interval', "'1h'");
	enqueue('a', 't', 2, 3);
	$other->do("LOCK TABLE persist_pipeline_internal.persist_parked IN SHARE MODE");
	set_and_reload('flush_interval', "'10ms'");
	set_and_reload('adaptive_flush', 'on');
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 1 FROM pg_locks WHERE relation = 'persist_pipeline_internal.persist_parked'::regclass AND NOT granted") },
		'resumed while it is being parked: the worker waits');
	$other->commit;
	lands('a', 't', 'resumed while it is being parked');
	adds_up('a', 'resumed while it is being parked');
	$other->disconnect;
	set_and_reload('lock_timeout', "'1s'");
}

foreach my $rings (1, 6)
{
	restart_with(max_databases => $rings);
	foreach my $where (sort keys %workers)
	{
		resumes_in_order($_, $where, @{ $pauses{$_} }) foreach sort keys %pauses;
		resumes_in_order('both', $where, reverse @{ $pauses{both} });
	}
}

# ---- a pause that was parked for another reason before, with a long way to its next try

{
	my $dbh = session('a');
	my $n = $committed{a}{t};

	shut_gate('a');
	enqueue('a', 't', $n + 1, $n + 10);
	is_parked('a', 't', 10, '55006', 'parked for another reason');
	$dbh->do("SELECT persist_pause('t')");
	is_parked('a', 't', 10, '55000', 'and paused');
	open_gate('a');
	$workers{elsewhere}->();
	$dbh->do("SELECT persist_resume('t')");
	lands('a', 't', 'parked for another reason');
}

is_clean_log();
forget_sessions();
$node->stop;
done_testing();
