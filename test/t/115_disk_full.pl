
# A disk that is full: targets on it are parked, others notice nothing, and what waits
# lands when there is room.  And where it is the disk of the whole database, so that
# nothing can be parked: then all of it waits, over stops and crashes.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use File::Temp qw(tempdir);
use Parking;
use PersistPipeline;
use Test::More;
use Time::HiRes qw(time);

# It has to be before the output goes to a file, since it means to run all this again.
BEGIN
{
	if (!$ENV{PP_SMALL_DISK})
	{
		my $dir = ($ENV{TESTDIR} || '.') . '/tmp_check/small_disk';
		my @with_small_disk = ("$FindBin::RealBin/../../tools/with-small-disk", $dir);
		my $why;

		system('mkdir', '-p', $dir);
		$why = `@with_small_disk true 2>&1`;
		exec @with_small_disk, $^X, (map { "-I$_" } @INC), $0, @ARGV if $? == 0;
		chomp $why;
		die "no small disk to be had: $why\n" if ($ENV{CI} || '') eq 'true';
		plan skip_all => "no small disk to be had: $why";
	}
}

my $disk = tempdir(DIR => $ENV{PP_SMALL_DISK}, CLEANUP => 1);
my $filler = "$disk/filler";
my $node = parking_node(
	'disk_full',
	autovacuum => 'off',
	'persist_pipeline.shutdown_timeout' => "'1s'");
my $wide = "filler text DEFAULT repeat('x', 4000)";

# Nothing is left of the disk but so many bytes.
sub fill_disk
{
	my ($left) = @_;

	open my $file, '>', $filler or die "$filler: $!";
	1 while syswrite $file, "\0" x 65536;
	1 while syswrite $file, "\0" x 4096;
	truncate $file, (-s $filler) - $left or die "$filler: $!";
	close $file;
	return;
}

sub make_room { unlink $filler or die "$filler: $!"; return; }

# A target with an index and a TOAST table, which has something to do.
sub create_wide_target
{
	my ($database, $name) = @_;

	create_target($database, $name, "$wide, UNIQUE (n)");
	session($database)->do("ALTER TABLE $name ALTER filler SET STORAGE EXTERNAL");
	return;
}

# Some of what was enqueued may have landed; the rest is parked.
sub rest_is_parked
{
	my ($name) = @_;

	ok( eval {
			wait_for_sql(session('postgres'),
				"SELECT parked > 0 AND parked = pending AND parked_reason = '53100' AND enqueued = ? AND dead = 0 FROM persist_stats WHERE target_name = 'public.cramped'",
				$committed{postgres}{cramped});
		},
		"$name: it is parked")
	  or diag(join ' ', map { $_ // 'NULL' }
		  session('postgres')->selectrow_array("SELECT enqueued, persisted, pending, parked, dead, parked_reason FROM persist_stats WHERE target_name = 'public.cramped'"));
	return;
}

sub others_land
{
	my ($name) = @_;
	my $n = $committed{postgres}{free} || 0;
	my $start = time;

	enqueue('postgres', 'free', $n + 1, $n + 10);
	lands('postgres', 'free', "$name, another one");
	is_quick(time - $start, 5, "$name, another one: without a delay");
	return;
}

mkdir "$disk/tablespace" or die "tablespace: $!";
session('postgres')->do("CREATE TABLESPACE small LOCATION '$disk/tablespace'");

# ---- the disk of a target

{
	my $dbh = session('postgres');
	my $n = 200;
	my %ends = (
		'restart' => sub { forget_sessions(); $node->restart },
		'immediate stop' => sub { forget_sessions(); $node->stop('immediate'); $node->start },
		'kill -9' => sub {
			my $from = log_position($node);

			forget_sessions();
			kill 'KILL', worker_pid($node);
			$node->wait_for_log(qr/reinitializing/, $from);
			connect_when_up($node)->disconnect;
		});

	create_target('postgres', 'free');
	$dbh->do("SET default_tablespace = small");
	create_wide_target('postgres', 'cramped');
	$dbh->do("RESET default_tablespace");
	enqueue('postgres', $_, 1, 10) foreach 'cramped', 'free';
	adds_up('postgres', 'room');

	fill_disk(300_000);
	enqueue('postgres', 'cramped', 11, $n);
	others_land('full');
	rest_is_parked('full');
	others_land('full, parked');
	flush_returns('postgres', 0, 'full: persist_flush() is false', 'cramped');
	make_room();
	lands('postgres', 'cramped', 'room again');
	adds_up('postgres', 'room again');

	foreach my $end (sort keys %ends)
	{
		fill_disk(0);
		enqueue('postgres', 'cramped', $n + 1, $n + 40);
		rest_is_parked("$end, before");
		$ends{$end}->();
		rest_is_parked("$end, after");
		enqueue('postgres', 'cramped', $n + 41, $n + 80);
		rest_is_parked("$end, later ones follow");
		others_land($end);
		make_room();
		lands('postgres', 'cramped', $end);
		adds_up('postgres', $end);
		$n += 80;
	}
	is(one_value(session('postgres'), "SELECT count(*) FROM persist_dead_letters"), '0', 'full: nothing is dead');
	session('postgres')->do("DROP TABLE cramped");
	delete $committed{postgres}{cramped};
}

# ---- the disk of the database: of its journal, too, and of what is parked

{
	my $pid;
	my $from;
	my $lock;
	my $seconds;

	# while it waits for the table all it has is in the journal
	set_and_reload('lock_timeout', "'60s'");
	session('postgres')->do("CREATE DATABASE small TABLESPACE small");
	session('small')->do("CREATE EXTENSION persist_pipeline");
	session('small')->do($parking_tools);
	create_wide_target('small', 't');
	session('small')->do("CHECKPOINT");    # a new database may have its blocks in memory only
	$from = log_position($node);

	foreach my $end ('room', 'stop')
	{
		my $n = $committed{small}{t} || 0;

		$lock = connect_to($node, 'small');
		$lock->begin_work;
		$lock->do("LOCK TABLE t IN EXCLUSIVE MODE");
		enqueue('small', 't', $n + 1, $n + 40);
		fill_disk(0);
		is(try_sql(session('small'), "SELECT persist_enqueue('t', jsonb_build_object('filler', repeat('x', 100000)))"),
			'53100', "journal full, $end: a call fails, and says so");
		unlock($lock);
		$node->wait_for_log(qr/53100 LOG:  persist_pipeline worker for database "small" will try again/, $from);
		$pid = worker_pid($node, 'small');
		others_land("journal full, $end");
		is(one_value(session('small'), "SELECT pending FROM persist_stats WHERE target_name = 'public.t'"),
			40, "journal full, $end: they wait");
		is(worker_pid($node, 'small'), $pid, "journal full, $end: for the same worker");
		$from = log_position($node);
		if ($end eq 'stop')
		{
			forget_sessions();
			$seconds = seconds_of(sub { $node->stop });
			is_quick($seconds, 4, "journal full, $end: it takes shutdown_timeout, and 3 s at most");
			$node->start;
			$node->wait_for_log(qr/53100 LOG:  persist_pipeline worker for database "small" will try again/, $from);
			is($node->safe_psql('postgres', "SELECT items_pending FROM persist_queue WHERE datname = 'small'"),
				'40', "journal full, $end: they wait again");
		}
		make_room();
		lands('small', 't', "journal full, $end");
		adds_up('small', "journal full, $end");
		is(queue_value($node, 'ring_used', 'small'), '0', "journal full, $end: the ring is empty");
	}
}

# ---- room for what is written, and not for the upkeep of the tables

{
	my $dbh = session('small');
	my $tables = 200;
	my $n = 0;
	my $pid;
	my $from = log_position($node);

	# a batch adds a row to the account, and in the end it has one for each of them
	$dbh->do("CREATE TABLE $_ (n int)") foreach 'one', map { "one_of_many$_" } 1 .. $tables;
	$dbh->do("INSERT INTO one VALUES (0)");
	$dbh->do("SELECT persist_enqueue(('one_of_many' || i)::regclass, '{\"n\": 1}') FROM generate_series(1, $tables) AS i");
	$committed{small}{"one_of_many$_"} = 1 foreach 1 .. $tables;
	adds_up('small', 'upkeep, before');
	$pid = worker_pid($node, 'small');
	fill_disk(8192);
	while ($n < 100 && !log_since($node, $from, qr/53100 /))
	{
		$dbh->do("SELECT persist_enqueue('one', '{\"n\": 1}')");
		$n++;
		wait_for_sql($dbh, "SELECT items_pending = 0 FROM persist_queue WHERE datname = 'small'");
		wait_for_sql($dbh, "SELECT worker_state = 'idle' FROM persist_queue WHERE datname = 'small'");
	}
	ok($node->wait_for_log(qr/persist_pipeline (?:worker|retrier) 53100 LOG:  the upkeep of persist_pipeline's tables has to wait/, $from),
		'upkeep: it has to wait');
	make_room();
	$committed{small}{one} = $n;
	adds_up('small', 'upkeep');
	is(worker_pid($node, 'small'), $pid, 'upkeep: by the same worker');
}

is_clean_log(
	qr/client backend 53100 ERROR:  could not extend file/,
	qr/persist_pipeline (?:worker|retrier) 01000 WARNING:  .* database "small" was forced to stop/);
$node->stop;
done_testing();
