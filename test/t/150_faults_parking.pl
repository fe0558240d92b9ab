
# Races around what is parked, each made to last by a fault point: what is parked, resumed or
# mended while one process has just looked is written all the same, and in order.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Faults;
use Parking;
use PersistPipeline;
use Test::More;

my $node = parking_node(
	'faults_parking',
	with_faults(),
	'persist_pipeline.misfit_timeout' => "'10min'",
	'persist_pipeline.worker_idle_timeout' => 0);
my $database = 'postgres';
my $dbh = session($database);

sub no_retrier
{
	my ($name) = @_;

	ok(eval { wait_for_sql($dbh, "SELECT retrier_pid IS NULL FROM persist_queue WHERE datname = '$database'") },
		"$name: the retrier has left");
	return;
}

create_target($database, 't');
enqueue($database, 't', 1, 1);
lands($database, 't', 'at first');

# ---- resumed, while the worker parks what was paused: the resume finds nothing that is parked

$dbh->do("SELECT persist_pause('t')");
ask_fault($node, 'parks');
enqueue($database, 't', 2, 2);    # alone: the next one would have it tried
wait_for_fault($node, 'parks');
$dbh->do("SELECT persist_resume('t')");
end_fault($node, 'parks');
lands($database, 't', 'resumed while it is being parked');

# ---- the retrier has written all and left, while the worker lets more follow what was parked

shut_gate($database);
enqueue($database, 't', 3, 4);
is_parked($database, 't', 2, '55006', 'followed: parked');
ask_fault($node, 'parks');
enqueue($database, 't', 5, 5);
wait_for_fault($node, 'parks');
open_gate($database);
ok(eval { wait_for_sql($dbh, "SELECT count(*) = 4 FROM t") }, 'followed: the retrier writes all there is');
no_retrier('followed');
end_fault($node, 'parks');
lands($database, 't', 'followed');

# ---- parked, or resumed, while the retrier leaves, since it knows of nothing

foreach my $what ('parked', 'resumed')
{
	my $n = $committed{$database}{t};

	if ($what eq 'resumed')
	{
		create_target($database, 'other');
		enqueue_paused($database, 'other', 1, 2);
	}
	no_retrier("$what while it leaves, before");
	shut_gate($database);
	enqueue($database, 't', $n + 1, $n + 2);
	is_parked($database, 't', 2, '55006', "$what while it leaves: something is parked");
	ask_fault($node, 'retrier_leaves');
	open_gate($database);
	wait_for_fault($node, 'retrier_leaves');
	if ($what eq 'resumed')
	{
		$dbh->do("SELECT persist_resume('other')");
	}
	else
	{
		shut_gate($database);
		enqueue($database, 't', $n + 3, $n + 4);
		is_parked($database, 't', 2, '55006', "$what while it leaves: more is");
		open_gate($database);
	}
	end_fault($node, 'retrier_leaves');
	lands($database, $_, "$what while it leaves: $_") foreach sort keys %{ $committed{$database} };
	adds_up($database, "$what while it leaves");
}

# ---- resumed, while the retrier falls asleep: it has other things to wait for

$dbh->do("SELECT persist_pause('other')");
enqueue($database, 'other', 3, 4);
is_parked($database, 'other', 2, '55000', 'resumed while it falls asleep: paused');
shut_gate($database);
enqueue($database, 't', $committed{$database}{t} + 1, $committed{$database}{t} + 1);
is_parked($database, 't', 1, '55006', 'resumed while it falls asleep: something else is parked');
$dbh->do("ALTER TABLE other DISABLE TRIGGER gate");
ask_fault($node, 'retrier_naps');
wait_for_fault($node, 'retrier_naps');
$dbh->do("SELECT persist_resume('other')");
end_fault($node, 'retrier_naps');
lands($database, 'other', 'resumed while it falls asleep');
open_gate($database);
adds_up($database, 'resumed while it falls asleep');

# ---- a flush looks, while a batch that has parked something hasn't ended: it has that tried, too,
# although the retrier, which is there for something else, doesn't know of it yet

my $flusher = connect_to($node);
create_target($database, 'late');
shut_gate($database);
enqueue($database, 't', $committed{$database}{t} + 1, $committed{$database}{t} + 1);
is_parked($database, 't', 1, '55006', 'flushed before the end: something else is parked');
ask_fault($node, 'ends_batch');
enqueue($database, 'late', 1, 1);
wait_for_fault($node, 'ends_batch');
my $tries = "SELECT max(tries) FROM persist_parked WHERE target = 't'::regclass";
my $tries_before = one_value($dbh, $tries);
start_sql($flusher, "SELECT 1 / persist_flush('300 s', 'late')::int");
# long enough for the retrier to have answered, if it had been asked
ok(eval { wait_for_sql($dbh, "SELECT ($tries) >= $tries_before + 2") }, 'flushed before the end: the retrier tries what it knows of');
open_gate($database);
end_fault($node, 'ends_batch');
is(finish_sql($flusher), '00000', 'flushed before the end: it returns true');
lands($database, $_, "flushed before the end: $_") foreach 't', 'late';

# ---- mended, while rows of a transaction that fail in what is deferred are tried: those that
# have been tried before don't land behind the others

create_target($database, 'shaky');
$dbh->do(q{CREATE FUNCTION shaky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE check_violation; END $$});
$dbh->do("CREATE CONSTRAINT TRIGGER shaky AFTER INSERT ON shaky DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION shaky()");
$dbh->do("SELECT persist_pause('shaky')");
$dbh->do("SELECT persist_enqueue('shaky', jsonb_build_object('n', i)) FROM generate_series(1, 20) AS i");
$committed{$database}{shaky} = 20;
is_parked($database, 'shaky', 20, '55000', 'mended in the middle: paused');
ask_fault($node, 'row_is_bad');
$dbh->do("SELECT persist_resume('shaky')");
wait_for_fault($node, 'row_is_bad');
$dbh->do("DROP TRIGGER shaky ON shaky");
end_fault($node, 'row_is_bad');
lands($database, 'shaky', 'mended in the middle');
adds_up($database, 'mended in the middle');

# ---- a locked target that nobody has tried: it was parked for an error, which is seen at once

my $locker = connect_to($node);
create_target($database, 'locked');
shut_gate($database);
enqueue($database, 't', $committed{$database}{t} + 1, $committed{$database}{t} + 1);
is_parked($database, 't', 1, '55006', 'locked: something else is parked');
ask_fault($node, 'retrier_naps');
wait_for_fault($node, 'retrier_naps');
begin_with_lock($locker, 'locked', 'SHARE');
enqueue($database, 'locked', 1, 2);
is_parked($database, 'locked', 2, '55P03', 'locked: it is parked');
is(one_value($dbh, "SELECT errors || ' ' || last_error FROM persist_stats WHERE target_name = 'public.locked'"), '1 55P03', 'locked: the error is counted');
$locker->rollback;
end_fault($node, 'retrier_naps');
open_gate($database);
lands($database, $_, "locked: $_") foreach 't', 'locked';
adds_up($database, 'locked');

# the same, where a row beside it fails at the COMMIT, so that the transaction that has parked it is
# rolled back
$dbh->do(q{
	CREATE TABLE deeper (n int);
	CREATE TABLE at_commit (n int);
	CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'at COMMIT'; END $$;
	CREATE FUNCTION defer() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN SET CONSTRAINTS ALL DEFERRED; INSERT INTO public.deeper VALUES (1); RETURN NEW; END $$;
	CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON deeper DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail();
	CREATE CONSTRAINT TRIGGER defer AFTER INSERT ON at_commit DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION defer();
});
shut_gate($database);
enqueue($database, 't', $committed{$database}{t} + 1, $committed{$database}{t} + 1);
is_parked($database, 't', 1, '55006', 'rolled back: something else is parked');
ask_fault($node, 'retrier_naps');
wait_for_fault($node, 'retrier_naps');
begin_with_lock($locker, 'locked', 'SHARE');
$dbh->begin_work;
enqueue($database, 'locked', 3, 3);
enqueue($database, 'at_commit', 1, 1);
$dbh->commit;
wait_for_sql($dbh, 'SELECT count(*) = 1 FROM persist_dead_letters');
is_parked($database, 'locked', 1, '55P03', 'rolled back: it is parked');
is(one_value($dbh, "SELECT errors FROM persist_stats WHERE target_name = 'public.locked'"), 2, 'rolled back: the error is counted, and once');
$locker->rollback;
end_fault($node, 'retrier_naps');
open_gate($database);
lands($database, $_, "rolled back: $_") foreach 't', 'locked';
adds_up($database, 'rolled back');
$dbh->do('SELECT persist_discard(ARRAY(SELECT id FROM persist_dead_letters))');

$locker->disconnect;
is_clean_log(qr/persist_pipeline worker P0001 WARNING/);
forget_sessions();
$node->stop;
done_testing();
