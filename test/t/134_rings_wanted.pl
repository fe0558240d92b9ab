
# A database that finds no ring waits for one, and gets it when another one has nothing in its
# own: from that one's worker, or from the launcher where there is none; whatever the worker was
# at, and whoever had room in the ring.
#
# PP_DATABASES: how many databases share four rings in the end (16).

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $databases = $ENV{PP_DATABASES} || 16;
my $node = pp_node(
	'rings_wanted',
	max_connections => 2 * $databases + 20,
	wal_level => "'replica'",
	max_wal_senders => 2,
	'persist_pipeline.max_databases' => 1,
	'persist_pipeline.max_workers' => 4,    # nobody makes way for who looks into a database
	'persist_pipeline.flush_interval' => "'10ms'",
	'persist_pipeline.worker_idle_timeout' => "'1h'");
my $control = connect_to($node);
my %session;

create_model_database($node, 'model');
sub create
{
	create_database($control, $_, 'model') foreach @_;
	$session{$_} = connect_to($node, $_) foreach @_;
	return;
}
create('a', 'b', 'c');

my $enqueue = "SELECT persist_enqueue('t', jsonb_build_object('n', ?::int), ?::boolean)";

sub has_ring
{
	my ($rings, $what) = @_;

	wait_until($what, sub { rings($control) eq $rings });
	pass($what);
	return;
}

sub use_ring
{
	my ($database, $n) = @_;

	is(try_sql($session{$database}, $enqueue, $n, 'true'), '00000', "$database: $n is accepted");
	ok(flush($node, $database), "$database: $n is flushed");
	return;
}

# ---- what needs a ring waits for one that others don't need

use_ring('a', 1);
is(rings($control), 'a', 'one ring, and it is idle');
is(try_sql($session{b}, $enqueue, 1, 'false'), '00000', 'a call that needs a ring waits for it');
is(rings($control), 'b', 'and has it then');
is(try_sql($session{c}, $enqueue, 1, 'false'), '00000', 'so does the next one, when what is in it is written') if flush($node, 'b');
use_ring($_, 2) foreach 'a', 'b', 'c';

# ---- a transaction in its commit keeps its ring, and lets it go when it fails

# A transaction of a, with this item, waits in its commit, and b journals its own meanwhile.
# Returns who holds up the one of a, and who holds up that one.
sub wait_in_commit
{
	my ($name, $n, $n_of_b) = @_;
	my $holder = connect_to($node);
	my $hanging = hang_commits($node);

	# the lock of NOTIFY is taken when the room in the ring has been, and kept to the end
	start_sql($holder, "DO \$\$ BEGIN PERFORM pg_logical_emit_message(true, 'test', ''); NOTIFY somebody; END \$\$");
	wait_for_sql($control, "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = ?", $holder->{pg_pid});
	$_->do("SET synchronous_commit = local") foreach @session{qw(a b)};
	start_sql($session{a}, "DO \$\$ BEGIN PERFORM persist_enqueue('t', '{\"n\": $n}'); NOTIFY somebody; END \$\$");
	wait_for_sql($control, "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = ?", $session{a}{pg_pid});
	is(try_sql($session{b}, $enqueue, $n_of_b, 'true'), '00000', "$name: another database journals");
	usleep(500_000);    # long enough for what must not happen
	is(rings($control), 'a', "$name: the ring stays");
	return ($holder, $hanging);
}

sub end_wait
{
	release_commits($node, @_);
	$_->do("RESET synchronous_commit") foreach @session{qw(a b)};
	return;
}

{
	my $from = log_position($node);

	use_ring('a', 3);
	my @waits = wait_in_commit('in commit', 4, 3);
	$control->do("SELECT pg_cancel_backend(?)", undef, $session{a}{pg_pid});
	finish_sql($session{a});    # which with a newer DBD::Pg knows nothing of a cancellation
	is(scalar(my @canceled = log_since($node, $from, qr/client backend 57014 ERROR/)), 1, 'in commit: it fails');
	has_ring('b', 'in commit: then the other one gets it');
	wait_for_sql($session{b}, "SELECT count(*) = 3 FROM t");
	pass('in commit: and its item arrives');
	end_wait(@waits);
}
use_ring('a', 4);

# ---- so does one of a paused database, which has no worker that sees that somebody waits

{
	$session{a}->do("SELECT persist_pause()");
	wait_until('a has no worker', sub { worker_pid($node, 'a') eq '' });
	is(try_sql($session{a}, $enqueue, $_, 'true'), '00000', "paused: a: $_") foreach 5, 6;
	my ($holder, $hanging) = wait_in_commit('paused, in commit', 7, 4);
	$control->do("SELECT pg_cancel_backend(?)", undef, $holder->{pg_pid});
	finish_sql($holder);
	is(finish_sql($session{a}), '00000', 'paused, in commit: it has committed');
	has_ring('b', 'paused: then the other one gets it');
	ok(flush($node, 'b'), 'paused: and its item arrives');
	end_wait($holder, $hanging);
	$session{a}->do("SELECT persist_resume()");
	ok(flush($node, 'a'), 'paused: resumed, and flushed');
	is(one_value($session{a}, "SELECT count(*) FROM t"), 7, 'paused: all that it had arrives');
}

# ---- what is parked gives the ring up between two tries, and has it back for whoever flushes

{
	my $locker = connect_to($node, 'a');

	$locker->begin_work;
	$locker->do("LOCK TABLE slow IN SHARE MODE");
	$session{a}->do("INSERT INTO released DEFAULT VALUES");
	$session{a}->do("SELECT persist_enqueue('slow', '{\"n\": 1}')");
	wait_for_sql($session{a}, "SELECT parked = 1 FROM persist_stats WHERE target_name = 'public.slow'");
	is(try_sql($session{b}, $enqueue, 5, 'true'), '00000', 'parked: another database journals');
	has_ring('b', 'parked: and gets the ring');

	# b gives it back, and a gets it, for a transaction that fails; nearly always before its
	# retrier wants it again, which keeps it then
	$control->do("ALTER SYSTEM SET persist_pipeline.worker_idle_timeout = '10ms'");
	$node->reload;
	wait_until('parked: the other one has given it back', sub { rings($control) ne 'b' });
	$session{a}->begin_work;
	$session{a}->do($enqueue, undef, 0, 'true');
	$session{a}->rollback;
	$control->do("ALTER SYSTEM RESET persist_pipeline.worker_idle_timeout");
	$node->reload;
	$locker->commit;
	$locker->disconnect;
	wait_for_sql($session{a}, "SELECT count(*) = 1 FROM slow");
	pass('parked: it has landed');
	ok(flush($node, 'a'), 'parked: flushed');
	ok(flush($node, 'b'), 'parked: so has that of the other one');
}

# ---- a worker that doesn't answer isn't waited for

$_->disconnect foreach values %session, $control;
$node->append_conf('postgresql.conf', "persist_pipeline.max_databases = 2");
$node->restart;
$control = connect_to($node);
$session{$_} = connect_to($node, $_) foreach 'a', 'b', 'c';
use_ring('a', 8);
use_ring('b', 6);
has_ring('a b', 'two rings');
my $idlest = worker_pid($node, 'a');
kill 'STOP', $idlest;
is(try_sql($session{c}, $enqueue, 3, 'true'), '00000', 'no answer: a third database journals');
has_ring('a c', 'no answer: the other ring is given back');
ok(flush($node, 'c'), 'no answer: flushed');
kill 'CONT', $idlest;
use_ring($_, 9) foreach 'a', 'b', 'c';

is($node->safe_psql($_, "SELECT count(*), count(DISTINCT n) FROM t"), { a => '9|9', b => '7|7', c => '4|4' }->{$_}, "$_: all its items, each once")
  foreach 'a', 'b', 'c';

# ---- many databases, four rings

$_->disconnect foreach values %session, $control;
%session = ();
$node->append_conf('postgresql.conf', "persist_pipeline.max_databases = 4");
$node->restart;
$control = connect_to($node);
my @names = map { "many_$_" } 1 .. $databases;
create(@names);

my $began = time;
children_succeeded(
	'clients of all of them',
	in_children(
		4,
		sub {
			my ($client) = @_;
			my @mine = grep { $_ % 4 == $client % 4 } 1 .. $databases;
			my %dbh = map { $_ => connect_to($node, "many_$_") } @mine;

			foreach my $n (1 .. 20)
			{
				$dbh{$_}->do($enqueue, undef, $n, 'true') foreach @mine;
			}
		}));
ok(flush($node, $_), "$_: flushed") foreach @names;
note sprintf '%d databases with four rings: %.1f s', $databases, time - $began;
my $wrong = grep { join('|', $session{$_}->selectrow_array("SELECT count(*), count(DISTINCT n) FROM t")) ne '20|20' } @names;
is($wrong, 0, 'many: all items, each once');
wait_for_sql($control, "SELECT count(*) = 4 FROM persist_queue WHERE ring_size IS NOT NULL");
pass('many: four have a ring in the end');

$_->disconnect foreach values %session, $control;
is_deeply([ complaints($node, 0, qr/client backend 57014 ERROR:  canceling statement due to user request/,
			qr/client backend \S+ WARNING:  canceling wait for synchronous replication due to user request/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');
$node->stop;
done_testing();
