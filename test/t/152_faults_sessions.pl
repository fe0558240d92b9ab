
# Races of sessions with each other, and of databases that want one ring, each made to last by a
# fault point.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Faults;
use Parking;
use PersistPipeline;
use Test::More;
use Time::HiRes qw(usleep);

my $node = parking_node(
	'faults_sessions',
	with_faults(),
	'persist_pipeline.dead_letter_limit' => 5,
	'persist_pipeline.max_databases' => 1,
	'persist_pipeline.role_quota' => 100,
	'persist_pipeline.worker_idle_timeout' => 0);
my $dbh = session('postgres');

$node->safe_psql('postgres', 'CREATE DATABASE b');
$node->safe_psql('b', "CREATE EXTENSION persist_pipeline; $parking_tools");
foreach my $database ('postgres', 'b')
{
	create_target($database, 't');
	session($database)->do('CREATE UNLOGGED TABLE fleeting (n int, ins bigint)');
	session($database)->do('CREATE TRIGGER number BEFORE INSERT ON fleeting FOR EACH ROW EXECUTE FUNCTION number()');
}

# ---- a ring becomes another database's, when a transaction has looked it up and commits

foreach my $target ('t', 'fleeting')
{
	my $name = "the ring moves on: $target";

	enqueue('postgres', $target, 1, 1);
	lands('postgres', $target, "$name, before");
	$dbh->begin_work;
	$dbh->do("SELECT persist_enqueue('$target', jsonb_build_object('n', i)) FROM generate_series(2, 3) AS i");
	ask_fault($node, 'admits');
	start_sql($dbh, 'COMMIT');
	wait_for_fault($node, 'admits');
	enqueue('b', $target, 1, 1);
	lands('b', $target, "$name, to the other database");
	ok(eval { wait_for_sql(session('b'), "SELECT ring_size IS NOT NULL FROM persist_queue WHERE datname = 'b'") }, "$name, and is its own");
	end_fault($node, 'admits');
	is(finish_sql($dbh), '00000', "$name: committed");
	$dbh->{AutoCommit} = 1;
	$committed{postgres}{$target} += 2;
	lands('postgres', $target, $name);
	adds_up($_, "$name, $_") foreach 'postgres', 'b';
}

# ---- another database wants the ring of a worker that is about to leave: not before it has

{
	my $n = $committed{b}{fleeting};

	enqueue('postgres', 'fleeting', 4, 4);
	lands('postgres', 'fleeting', 'it is about to leave: before');
	ask_fault($node, 'leaves_turn');
	$dbh->do('SELECT persist_pause()');
	wait_for_fault($node, 'leaves_turn');
	enqueue('b', 'fleeting', $n + 1, $n + 1);
	foreach (1 .. 20)
	{
		last if one_value($dbh, "SELECT ring_size IS NOT NULL FROM persist_queue WHERE datname = 'b'");
		usleep(20_000);
	}
	is(one_value($dbh, "SELECT ring_size IS NOT NULL FROM persist_queue WHERE datname = 'postgres'"), 1, 'it is about to leave: the ring is its own');
	enqueue('b', 'fleeting', $n + 2, $n + 5);
	end_fault($node, 'leaves_turn');
	lands('b', 'fleeting', 'it is about to leave: the items of the other database');
	adds_up('b', 'it is about to leave');
	$dbh->do('SELECT persist_resume()');
	enqueue('postgres', 't', 4, 4);
	lands('postgres', 't', 'it is about to leave: resumed');
	adds_up('postgres', 'it is about to leave');
}

# ---- a process has looked into a database without a ring, and found nothing; before it says so an
# item comes.  It is written as soon as there is a ring, though nobody calls any more.

{
	my $n = $committed{b}{t};
	my $locker = connect_to($node);
	my $knows = "SELECT worker_state || ' ' || coalesce(items_pending::text, 'unknown') FROM persist_queue WHERE datname = 'b'";

	lock_targets($locker, 't');
	enqueue('postgres', 't', $committed{postgres}{t} + 1, $committed{postgres}{t} + 1);
	wait_for_worker_state($dbh, 'retrying');
	is(one_value($dbh, "SELECT ring_size IS NULL FROM persist_queue WHERE datname = 'b'"), 1, 'it looks around: the ring is elsewhere');
	ask_fault($node, 'looks_around');
	session('b')->do('SELECT persist_resume()');
	wait_for_fault($node, 'looks_around');
	enqueue('b', 't', $n + 1, $n + 1);
	is(one_value($dbh, $knows), 'not running unknown', 'it looks around: items wait, nobody knows how many');
	end_fault($node, 'looks_around');
	wait_for_sql($dbh, q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'persist_pipeline probe')});
	is(one_value($dbh, $knows), 'not running unknown', 'it looks around: and so it is afterwards');
	$locker->rollback;
	$locker->disconnect;
	lands($_, 't', "it looks around: $_") foreach 'postgres', 'b';
	adds_up($_, "it looks around, $_") foreach 'postgres', 'b';
}

# ---- letters are counted, and more are written meanwhile: there are never too many; nor where the
# ring, with which their number is known, comes to the database meanwhile

$dbh->do("SELECT persist_configure('t', bad_items => 'dead')");
foreach my $ring ('postgres', 'b')
{
	my $name = "letters are counted, ring at $ring";
	my $counting = connect_to($node);
	my $other = connect_to($node);
	my $bad = sub { return "SELECT persist_enqueue('t', '{\"n\": \"?\"}') FROM generate_series(1, $_[0])" };
	my $locker = connect_to($node, $ring);
	my $enqueue = sub {
		my ($database) = @_;
		my $n = $committed{$database}{t} + 1;

		enqueue($database, 't', $n, $n);
	};

	lock_targets($locker, 't');
	$enqueue->($ring);
	wait_for_sql(session($ring), q{SELECT worker_state = 'retrying' FROM persist_queue WHERE datname = current_database()});
	$dbh->do($bad->(5));
	is(discard_all($dbh), 5, "$name: there were as many as may be");
	ask_fault($node, 'counts_letters');
	start_sql($counting, $bad->(1));
	wait_for_fault($node, 'counts_letters');
	is(one_value($dbh, 'SELECT ring_size IS NOT NULL FROM persist_queue WHERE datname = ?', $ring), 1, "$name: there it is");
	$locker->rollback;
	$enqueue->('postgres');
	lands($_, 't', "$name: $_") foreach 'postgres', 'b';
	$other->do($bad->(4));
	end_fault($node, 'counts_letters');
	is(finish_sql($counting), '00000', "$name: there is room for one");
	isnt(try_sql($other, $bad->(1)), '00000', "$name: there is none for another");
	is(one_value($dbh, 'SELECT count(*) FROM persist_dead_letters'), 5, "$name: as many as may be");
	$_->disconnect foreach $counting, $other, $locker;
	discard_all($dbh);
}

# ---- more databases than are known without a ring (4, where there are fault points)

foreach my $database (map { "many_$_" } 1 .. 6)
{
	$dbh->do("CREATE DATABASE $database");
	$node->safe_psql($database, "CREATE EXTENSION persist_pipeline; $parking_tools");
	create_target($database, 't');
	enqueue($database, 't', 1, 1);
	lands($database, 't', "many: $database has had the ring");
	adds_up($database, "many: $database");
}

is_clean_log(qr/client backend \w+ (?:ERROR|WARNING):  .*dead letter/);
forget_sessions();
$node->stop;
done_testing();
