
# persist_where while the item moves: what it says was so at some moment of the call.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Faults;
use Parking;
use PersistPipeline;
use Test::More;

my $node = parking_node('where', with_faults());
$node->safe_psql('postgres', $PersistPipeline::slow_target);
my $dbh = connect_to($node);
my $looker = connect_to($node);

create_target('postgres', 'gated');
$dbh->do("CREATE TABLE t (n int PRIMARY KEY)");
$dbh->do("SELECT persist_configure(target, 'ring') FROM unnest('{t,slow,gated}'::regclass[]) AS target");

sub state_of { return one_value($looker, 'SELECT state FROM persist_where(?)', $_[0]) }

# The look waits at a fault point meanwhile.
sub state_across
{
	my ($fault, $id, $meanwhile) = @_;
	my $pid = $looker->{pg_pid};

	ask_fault($node, $fault);
	start_sql($looker, "SELECT set_config('test.state', (SELECT state FROM persist_where($id)), false)");
	is(wait_for_fault($node, $fault), $pid, "$fault: it is there");
	$meanwhile->();
	end_fault($node, $fault);
	is(finish_sql($looker), '00000', "$fault: it goes on");
	return one_value($looker, "SELECT current_setting('test.state')");
}

# ---- it comes to the ring behind the look, and leaves it before the tables are looked into

shut_gate('postgres');
$dbh->begin_work;
my ($id) = enqueue_rows($dbh, 'gated', 1);
is(state_across('has_looked_in_ring', $id, sub { $dbh->commit; ok(!flush($dbh), 'it is parked') }),
	'parked', 'parked since the look at the ring');
open_gate('postgres');
ok(drain($node), 'drained');

# ---- it comes to the ring after both

$dbh->begin_work;
($id) = enqueue_rows($dbh, 'slow', 1);
is(state_across('has_looked_once', $id, sub { $dbh->commit; wait_until_worker_sleeps($node) }),
	'pending', 'handed over since the first looks');
is(one_value($dbh, "SELECT ring_used > 0 AND journal_bytes = 0 FROM persist_queue WHERE datname = 'postgres'"), 1, 'it is in the ring alone');
is(state_of($id), 'pending', 'and found there');

# pg_stat_activity shows who does what meanwhile; before 17 extensions' waits have one name
sub seen_of
{
	my ($which) = @_;

	return one_value($dbh, "SELECT concat_ws(', ', state, CASE WHEN backend_type <> 'client backend' THEN NULLIF(query, '') END, wait_event_type, wait_event)"
		  . " FROM pg_stat_activity WHERE $which") // '';
}

sub waits { return $dbh->{pg_server_version} >= 170000 ? "Extension, PersistPipeline$_[0]" : 'Extension, Extension' }

# between two naps of the trigger it computes
ok(eval { wait_until('it is seen', sub { seen_of("backend_type = 'persist_pipeline worker'") eq 'active, writing a batch, Timeout, PgSleep' }) },
	'the worker writes, and where that waits');
ok(eval { wait_until('it is seen', sub { seen_of("backend_type = 'persist_pipeline launcher'") eq waits('Launcher') }) }, 'the launcher waits');
start_sql($looker, 'SELECT persist_flush()');
wait_until('a flush is seen', sub { seen_of("pid = $looker->{pg_pid}") eq 'active, ' . waits('Flush') });
$looker->pg_cancel;
is(finish_sql($looker), '57014', 'so does a flush, until it is canceled');

# ---- it is settled while it is read

is(state_across('reads_entry', $id, sub { $dbh->do('INSERT INTO released DEFAULT VALUES'); ok(flush($dbh), 'it is written') }),
	'settled', 'settled since it was read in the ring');

wait_until('the worker sleeps', sub { seen_of("backend_type = 'persist_pipeline worker'") =~ /^idle, (?:writing a batch, )?${\ waits('Worker')}$/ });

# and another one has its place then
$dbh->do('DELETE FROM released');
($id) = enqueue_rows($dbh, 'slow', 2);
is( state_across('reads_entry', $id,
		sub {
			$dbh->do('INSERT INTO released DEFAULT VALUES');
			ok(flush($dbh), 'it is written');
			foreach my $turn (1 .. 20)
			{
				enqueue_rows($dbh, 't', map { $turn * 10000 + $_ } 1 .. 5000);
				flush($dbh);
			}
		}),
	'settled', 'settled since, and written over');

# ---- a worker that leaves moves it to the journal

$dbh->do('DELETE FROM released');
($id) = enqueue_rows($dbh, 'slow', 3);
wait_until_worker_sleeps($node);
change_setting($dbh, 'shutdown_timeout', '100ms');
my $old = worker_pid($node);
$dbh->do("SELECT pg_terminate_backend($old)");
my %seen;
wait_until('the worker is another one', sub { $seen{ state_of($id) }++; worker_pid($node) !~ /^(?:$old)?$/ });
is(join(' ', keys %seen), 'pending', 'pending, from the ring to the journal and back to a worker');
change_setting($dbh, 'shutdown_timeout', '5s');
$dbh->do('INSERT INTO released DEFAULT VALUES');
ok(flush($dbh), 'flushed');
is(state_of($id), 'settled', 'settled');

# ---- any moment

$dbh->do("CREATE TABLE large (x text)");
$dbh->do("CREATE TABLE u (n int CHECK (n % 3 <> 0)); SELECT persist_configure('u', 'auto')");
$dbh->do("SET synchronous_commit = off");
my (%states, @wrong);
foreach my $n (1 .. 1500)
{
	$dbh->do("SET synchronous_commit = " . ($n % 2 ? 'on' : 'off')) if $n % 100 == 0;
	($id) = enqueue_rows($dbh, 'u', $n);
	my $state = state_of($id);

	$states{$state}++;
	my $should = $n % 3 == 0 ? $state =~ /^(?:pending|dead)$/ : $state eq 'pending'
	  || ($state eq 'settled' && one_value($looker, "SELECT count(*) FROM u WHERE n = $n") == 1);
	push @wrong, "$n: $state" if !$should;
}
is_deeply(\@wrong, [], 'what was handed over waits, is dead, or is in its table');
ok(flush($dbh), 'flushed');
note join ', ', map { "$states{$_} $_" } sort keys %states;
is(state_of($id), 'dead', 'the last one is dead');
discard_all($dbh);
is(state_of($id), 'settled', 'discarded');

# ---- what came with a copy, and is resumed between the snapshot and the look at it

$node->safe_psql('postgres', 'CREATE DATABASE source');
$node->safe_psql('source', 'CREATE EXTENSION persist_pipeline; CREATE TABLE t (n int); SELECT persist_pause()');
my $copied = $node->safe_psql('source', q{SELECT persist_enqueue('t', '{"n": 1}')});
create_database($dbh, 'copy', 'source');
$looker->disconnect;
$looker = connect_to($node, 'copy');
wait_for_sql($looker, 'SELECT count(*) = 1 FROM persist_pipeline_internal.persist_copied');
{
	my $resuming = connect_to($node, 'copy');
	my $locker = connect_to($node, 'copy');

	$resuming->begin_work;
	$resuming->do('SELECT persist_resume(), persist_pause()');
	is( state_across('has_looked_once', $copied,
			sub {
				begin_with_lock($locker, 'persist_pipeline_internal.persist_dead_letters', 'ACCESS EXCLUSIVE');
				end_fault($node, 'has_looked_once');
				wait_for_sql($locker, 'SELECT count(*) > 0 FROM pg_locks WHERE NOT granted');
				$resuming->commit;
				$locker->rollback;
			}),
		'unknown', 'resumed during the look: it is not said to be settled');
	is(state_of($copied), 'pending', 'resumed: it waits');
	$_->disconnect foreach $resuming, $locker, $looker;
}
$looker = connect_to($node);
is(try_sql($dbh, "DROP DATABASE $_"), '00000', "$_: dropped") foreach 'copy', 'source';

# ---- what the transaction itself has enqueued, where most of it is in a temporary file

$dbh->begin_work;
my ($first, $last) = $dbh->selectrow_array(
	"SELECT min(i), max(i) FROM (SELECT persist_enqueue('large', jsonb_build_object('x', repeat('x', 1000))) AS i FROM generate_series(1, 60000)) AS s");
my $peak = (own_memory($dbh->{pg_pid}))[1];
is(one_value($dbh, 'SELECT (persist_where(?)).message', $_), 'this transaction has not committed yet', "item $_ is there") foreach $first, $last;
is(one_value($dbh, 'SELECT (persist_where(?)).state', $id), 'settled', 'another one is not');
cmp_ok((own_memory($dbh->{pg_pid}))[1] - $peak, '<', 20 * 1024, 'they are not all read into memory');
$dbh->rollback;

# ---- after a restart

is(state_of($id + 1_000_000_000), 'unknown', 'an id that was not leased');
$dbh->disconnect;
$looker->disconnect;
forget_sessions();
$node->restart;
$looker = connect_to($node);
is(state_of($id), 'settled', 'settled before the restart');
is(state_of($id + 1_000_000_000), 'unknown', 'and one that was not leased');
$looker->disconnect;
$node->stop;
done_testing();
