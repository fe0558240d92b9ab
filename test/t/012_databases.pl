
# Several databases: each has its ring and its worker; one that is idle gives its
# ring back, or loses it to another; where all rings hold items it has none, and its
# journal has its items.  No item and no id is lost or doubled by that.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = pp_node(
	'databases',
	max_wal_senders => 2,
	wal_level => "'replica'",
	'persist_pipeline.max_databases' => 2,
	'persist_pipeline.flush_interval' => "'10ms'");
my $everything_from = log_position($node);
my $control = connect_to($node);

my @databases = ('one', 'two', 'three', 'four');
my %session;
foreach my $database (@databases)
{
	$control->do("CREATE DATABASE $database");
	$session{$database} = connect_to($node, $database);
	$session{$database}->do("CREATE EXTENSION persist_pipeline");
	$session{$database}->do("CREATE TABLE t (n int, who text DEFAULT current_database())");
}

my $enqueue = "SELECT persist_enqueue('t', jsonb_build_object('n', ?::int))";

sub workers
{
	return one_value($control, "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_stat_activity"
		  . " WHERE backend_type = 'persist_pipeline worker'");
}

# Use a ring and leave it empty, later than all before.  Its worker is idle then, or has made
# way for whoever looked into a database at that moment.
sub use_ring
{
	my ($database, $n) = @_;
	my $dbh = $session{$database};

	$dbh->do($enqueue, undef, $n);
	ok(one_value($dbh, "SELECT persist_flush()"), "$database: flushed");
	wait_for_sql($control, "SELECT count(*) = 1 FROM persist_queue WHERE datname = ? AND worker_state IN ('idle', 'not running') AND NOT diverted", $database);
	return;
}

sub rows
{
	my ($database, $condition) = @_;

	return join '|', $session{$database}->selectrow_array(
		"SELECT count(*), count(DISTINCT n), count(*) FILTER (WHERE who = current_database()) FROM t WHERE $condition");
}

# ---- two databases, two rings: what each writes is its own

children_succeeded(
	'clients of two databases',
	in_children(
		4,
		sub {
			my ($client) = @_;
			my $dbh = connect_to($node, $client % 2 ? 'one' : 'two');

			$dbh->do($enqueue, undef, $client * 1000 + $_) foreach 1 .. 200;
		}));
foreach my $database ('one', 'two')
{
	ok(flush($node, $database), "$database: flushed");
	is(rows($database, 'true'), '400|400|400', "$database: its items, each once");
}
is(one_value($control, "SELECT count(DISTINCT worker_pid) FROM persist_queue"), '2', 'two workers');

# both terminated at once
my %old = map { $_ => worker_pid($node, $_) } ('one', 'two');
$control->do("SELECT pg_terminate_backend(worker_pid) FROM persist_queue");
isnt(wait_for_new_worker($node, $old{$_}, $_), $old{$_}, "$_: a new worker") foreach sort keys %old;

# ---- a third takes the ring that has been empty for longest

my $position = log_position($node);
use_ring('two', 5001);
use_ring('one', 5001);
is(rings($control), 'one two', 'all rings are taken');
my $idlest = worker_pid($node, 'two');
foreach (1 .. 20)
{
	kill 'HUP', $idlest;    # that is not to be used
	usleep(5_000);
}
use_ring('three', 5001);
is(rings($control), 'one three', 'the third database has the ring that was empty for longest');
use_ring('one', 5002);
use_ring('four', 5001);
is(rings($control), 'four one', 'and so has the fourth');
use_ring('two', 5002);
is(rings($control), 'four two', 'the first comes back');
wait_for_sql($control, "SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker'");
is(workers(), 'four two', 'the workers of the others have left');
is(one_value($session{$_}, "SELECT array_agg(n ORDER BY n)::text FROM t WHERE n > 5000"),
	{ one => '{5001,5002}', two => '{5001,5002}', three => '{5001}', four => '{5001}' }->{$_},
	"$_: its items arrived") foreach @databases;
is(one_value($session{three}, "SELECT count(*) FROM persist_shutdowns"), '0', 'no worker was stopped for that');
is_deeply([ log_since($node, $position, qr/persist_pipeline|WARNING|ERROR/) ], [], 'and the log says nothing');

# ---- nobody loses a ring with items; where all hold some, a database does without

my %lock;
sub lock_table
{
	my ($database) = @_;

	$lock{$database} = connect_to($node, $database);
	lock_targets($lock{$database}, 't');
	return;
}

sub unlock_table
{
	my ($database) = @_;

	$lock{$database}->commit;
	delete($lock{$database})->disconnect;
	return;
}

# their own table locked too: nothing can be parked, and the items stay in the ring
change_setting($control, 'lock_timeout', '50ms');
lock_table('four');
$session{four}->do($enqueue, undef, 6001);
use_ring('two', 6001);
use_ring('one', 6001);
use_ring('two', 6002);
use_ring('three', 6001);
is(rings($control), 'four three', 'a ring with items is passed over');
lock_table('three');
$session{three}->do($enqueue, undef, 6002);

my $one = $session{one};
is(try_sql($one, $enqueue, 6999), '00000', 'all rings hold items: a call is accepted');
is(try_sql($one, "SELECT persist_enqueue('t', '{\"n\": 6999}', false)"), '53000', 'unless it is for a ring alone');
like($one->errstr, qr/no ring is free for database "one"/, 'with the name of the database');
like($one->errstr, qr/DETAIL:  All 2 rings hold items of other databases/, 'and the reason');
like($one->errstr, qr/HINT:  .*persist_pipeline\.max_databases/, 'and a hint');
is(rings($control), 'four three', 'nothing has changed hands');
$one->do("SET persist_pipeline.mode = 'direct'");
is(try_sql($one, "SELECT persist_enqueue('t', '{\"n\": 6002}')"), '00000', 'direct mode needs no ring');
$one->do("RESET persist_pipeline.mode");
is(one_value($one, "SELECT persist_flush('50 ms')"), 0, 'persist_flush waits for one');

unlock_table('three');
ok(one_value($session{three}, "SELECT persist_flush()"), 'three: flushed');
is(try_sql($one, $enqueue, 6003), '00000', 'as soon as one is empty, a call is accepted');
ok(one_value($one, "SELECT persist_flush()"), 'one: flushed');
is(rings($control), 'four one', 'that one');
unlock_table('four');
ok(one_value($session{four}, "SELECT persist_flush()"), 'four: flushed');
is(one_value($session{$_}, "SELECT array_agg(n ORDER BY n)::text FROM t WHERE n > 6000"),
	{ one => '{6001,6002,6003,6999}', two => '{6001,6002}', three => '{6001,6002}', four => '{6001}' }->{$_},
	"$_: its items arrived") foreach @databases;
change_setting($control, 'lock_timeout', '1s');

# ---- a transaction whose ring is taken before it commits

my @ids;
$one->begin_work;
push @ids, one_value($one, $enqueue, $_) foreach 7001 .. 7003;
use_ring($_, 7001) foreach 'two', 'three';
is(rings($control), 'three two', 'its ring is another database\'s');
push @ids, one_value($one, $enqueue, 7004);
use_ring($_, 7002) foreach 'four', 'two';
is(rings($control), 'four two', 'and again');
$one->do("SAVEPOINT a");
push @ids, one_value($one, $enqueue, 7005);
$one->do("ROLLBACK TO a");
use_ring($_, 7003) foreach 'three', 'two';
is(rings($control), 'three two', 'and once more');
is(try_sql($one, "COMMIT"), '00000', 'it commits');
$one->{AutoCommit} = 1;
push @ids, one_value($one, $enqueue, 7006);
ok(one_value($one, "SELECT persist_flush()"), 'one: flushed');
is(one_value($one, "SELECT array_agg(n ORDER BY n)::text FROM t WHERE n > 7000"),
	'{7001,7002,7003,7004,7006}', 'its items arrive, each once');
ok(!(grep { $ids[ $_ - 1 ] >= $ids[$_] } 1 .. $#ids), 'its ids increase');

# and comes back to where there is none
$one->begin_work;
$one->do($enqueue, undef, 7999);
use_ring($_, 7004) foreach 'two', 'three';
foreach my $database ('two', 'three')
{
	lock_table($database);
	$session{$database}->do($enqueue, undef, 7005);
}
is(try_sql($one, "COMMIT"), '00000', 'a commit that finds no ring does without');
$one->{AutoCommit} = 1;
unlock_table($_) foreach 'two', 'three';
ok(one_value($session{$_}, "SELECT persist_flush()"), "$_: flushed") foreach 'two', 'three';
push @ids, one_value($one, $enqueue, 7007);
ok(one_value($one, "SELECT persist_flush()"), 'one: flushed');
is(one_value($one, "SELECT array_agg(n ORDER BY n)::text FROM t WHERE n > 7006"), '{7007,7999}', 'its item arrives');
ok($ids[-1] > $ids[-2], 'the next id is greater');

# ---- a ring that a transaction in its commit has reserved room in is not taken

use_ring($_, 8001) foreach 'two', 'one';
$session{$_}->do("SET synchronous_commit = local") foreach 'two', 'three', 'four';
my $holder = hang_commits($node);
start_sql($one, "INSERT INTO t SELECT 8002 WHERE persist_enqueue('t', '{\"n\": 8003}') IS NOT NULL");
wait_for_sql($control, "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = ?", $one->{pg_pid});
is(one_value($control, "SELECT items_pending FROM persist_queue WHERE datname = 'one'"), '0', 'an item is on its way');
use_ring($_, 8002) foreach 'three', 'four', 'two', 'three';
is(rings($control), 'one three', 'its ring is passed over');
release_commits($node, $holder);
is(finish_sql($one), '00000', 'it commits');
ok(one_value($one, "SELECT persist_flush()"), 'one: flushed');
is(one_value($one, "SELECT array_agg(n ORDER BY n)::text FROM t WHERE n > 8001"), '{8002,8003}', 'its item arrives');

# ---- an idle worker gives the ring back

$position = log_position($node);
my $stops = one_value($one, "SELECT count(*) FROM persist_shutdowns");
use_ring($_, 9001) foreach 'one', 'two';
$one->begin_work;
push @ids, one_value($one, $enqueue, 9002);
change_setting($control, 'worker_idle_timeout', '100ms');
wait_for_sql($control, "SELECT count(*) = 0 FROM persist_queue WHERE ring_size IS NOT NULL");
wait_for_sql($control, "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker'");
pass('the workers are gone, and so are the rings');
push @ids, one_value($one, $enqueue, 9003);
is(try_sql($one, "COMMIT"), '00000', 'a transaction that began before commits');
$one->{AutoCommit} = 1;
ok(one_value($one, "SELECT persist_flush()"), 'one: flushed');
wait_for_sql($control, "SELECT count(*) = 0 FROM persist_queue WHERE ring_size IS NOT NULL");
foreach my $n (9004 .. 9008)
{
	push @ids, one_value($one, $enqueue, $n);
	ok(one_value($one, "SELECT persist_flush()"), 'flushed');
	wait_for_sql($control, "SELECT count(*) = 0 FROM persist_queue WHERE ring_size IS NOT NULL");
}
is(one_value($one, "SELECT array_agg(n ORDER BY n)::text FROM t WHERE n > 9000"),
	'{9001,9002,9003,9004,9005,9006,9007,9008}', 'again and again: each item once');
ok(!(grep { $ids[ $_ - 1 ] >= $ids[$_] } 1 .. $#ids), 'ids increase all the time');
is(one_value($one, "SELECT count(*) FROM persist_shutdowns"), $stops, 'to leave is not to stop');
is_deeply([ log_since($node, $position, qr/\] persist_pipeline |WARNING|ERROR/) ], [], 'and the log says nothing');

# ---- eight clients of four databases fight for two rings, whose workers leave at
# once when they are idle

change_setting($control, 'worker_idle_timeout', '1ms');
change_setting($control, 'flush_interval', '0');
my $directory = PostgreSQL::Test::Utils::tempdir();
children_succeeded(
	'eight clients of four databases',
	in_children(
		8,
		sub {
			my ($client) = @_;
			my $database = $databases[ $client % 4 ];
			my $dbh = connect_to($node, $database);
			my $refused = 0;
			my $last = 0;

			open my $file, '>', "$directory/$client" or die $!;
			foreach my $number (1 .. 200)
			{
				my $n = 100_000 * $client + $number;
				my $transactional = $number % 5 ? 'true' : 'false';
				my $id;

				# at the call or at its commit
				local $dbh->{RaiseError} = 0;
				until (
					defined($id = one_value($dbh, "SELECT persist_enqueue('t', jsonb_build_object('n', ?::int), $transactional)", $n)))
				{
					die $dbh->errstr if $dbh->state ne '53000';
					$refused++;
				}
				die "id $id after $last" if $id <= $last;
				$last = $id;
				print $file "$database $id\n";
			}
			close $file;
			print STDERR "# client $client was refused $refused times\n" if $ENV{PP_VERBOSE};
		}));

foreach my $database (@databases)
{
	# a worker that has left in the meantime has left an empty ring
	ok(one_value($session{$database}, "SELECT persist_flush()"), "$database: flushed");
	is(rows($database, 'n > 99999'), '400|400|400', "$database: its items, each once");
}
my %count;
foreach my $client (1 .. 8)
{
	$count{$_}++ foreach split /\n/, slurp_file("$directory/$client");
}
is(scalar(keys %count), 1600, 'ids are unique in a database');
wait_for_sql($control, "SELECT count(*) = 0 FROM persist_queue WHERE ring_size IS NOT NULL");
pass('all rings come back');

is_deeply([ complaints($node, $everything_from, qr/client backend 53000 ERROR/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');

# ---- more rings after a restart, none of the old ones' items lost

change_setting($control, 'worker_idle_timeout', '1min');
change_setting($control, 'adaptive_flush', 'off');
change_setting($control, 'flush_interval', '1h');
$session{$_}->do($enqueue, undef, 10001) foreach 'one', 'two';
$_->disconnect foreach values %session, $control;
$node->append_conf('postgresql.conf', "persist_pipeline.max_databases = 3");
$node->restart;
foreach my $database ('one', 'two', 'three')
{
	$node->safe_psql($database, "SELECT persist_enqueue('t', '{\"n\": 10002}')");
	ok(flush($node, $database), "$database: flushed");
}
is($node->safe_psql($_, "SELECT array_agg(n ORDER BY n) FROM t WHERE n IN (10001, 10002)"), '{10001,10002}', "$_: arrived")
  foreach 'one', 'two';
is($node->safe_psql('postgres', "SELECT count(*) FROM persist_queue WHERE ring_size IS NOT NULL"), '3', 'three rings');

$node->stop;
done_testing();
