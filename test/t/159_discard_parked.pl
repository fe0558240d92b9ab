
# persist_discard_parked and persist_parked_to_dead while the retrier tries the items, or parks
# them again: each item is written, discarded, or a letter, and counted once.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Faults;
use Parking;
use PersistPipeline;
use Test::More;

my $node = parking_node('discard_parked', with_faults());
my $dbh = connect_to($node);
my $other = connect_to($node);

create_target('postgres', 't');
$dbh->do($PersistPipeline::slow_target);

# Of the target: what has become of its items.
sub account_of
{
	return join ' ', $dbh->selectrow_array(
		"SELECT enqueued, persisted, discarded, dead, pending FROM persist_stats WHERE target_name = 'public.$_[0]'");
}

# Three that are parked and paused; their ids.
sub park
{
	my ($target, @n) = @_;

	$dbh->do("SELECT persist_pause('$target')");
	my @ids = enqueue_rows($dbh, $target, @n);
	ok(!flush($dbh), "$target: parked");
	return @ids;
}

sub rows_in { return one_value($dbh, "SELECT string_agg(n::text, ' ' ORDER BY n) FROM $_[0]") }
sub has_settled { wait_for_sql($dbh, "SELECT pending = 0 AND parked_reason IS NULL FROM persist_stats WHERE target_name = 'public.$_[0]'"); return }

sub retrier_sleeps
{
	return wait_for_sql($dbh,
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline retrier' AND wait_event = 'PgSleep'");
}

# ---- discarded while the retrier inserts it: the others are written

my @ids = park('slow', 1 .. 3);
$dbh->do("SELECT persist_resume('slow')");
retrier_sleeps();
is(one_value($dbh, 'SELECT persist_discard_parked(ARRAY[?]::bigint[])', $ids[1]), 1, 'discarded in the middle of a try');
$dbh->do('INSERT INTO released DEFAULT VALUES');
has_settled('slow');
is(rows_in('slow'), '1 3', 'the others are written');
is(account_of('slow'), '3 2 1 0 0', 'and each counted once');

# the discard is rolled back, or takes long
@ids = park('slow', 4 .. 6);
$other->begin_work;
is(one_value($other, 'SELECT persist_discard_parked(ARRAY[?]::bigint[])', $ids[1]), 1, 'about to be discarded');
$dbh->do("SELECT persist_resume('slow')");
wait_for_sql($dbh, "SELECT parked_reason = '40001' FROM persist_stats WHERE target_name = 'public.slow'");
is(one_value($dbh, 'SELECT state FROM persist_where(?)', $ids[1]), 'parked', 'who else looks sees it parked');
is(one_value($other, 'SELECT state FROM persist_where(?)', $ids[1]), 'settled', 'but for who is about to discard it');
is(rows_in('slow'), '1 3', 'nothing of the target is written meanwhile');
enqueue_rows($dbh, 't', 0);
ok(!flush($dbh), 'it waits');
is(rows_in('t'), 0, 'others are');
$other->rollback;
has_settled('slow');
is(rows_in('slow'), '1 3 4 5 6', 'rolled back: all are written');
is(account_of('slow'), '6 5 1 0 0', 'and counted once');

# ---- written while it is about to be discarded

@ids = park('slow', 7 .. 9);
ask_fault($node, 'discards_parked');
start_sql($other, "SELECT set_config('test.n', persist_discard_parked(ARRAY[$ids[1]])::text, false)");
wait_for_fault($node, 'discards_parked');
$dbh->do("SELECT persist_resume('slow')");
has_settled('slow');
end_fault($node, 'discards_parked');
is(finish_sql($other), '00000', 'the discard goes on');
is(one_value($other, "SELECT current_setting('test.n')"), 0, 'too late');
is(rows_in('slow'), '1 3 4 5 6 7 8 9', 'all are written');
is(account_of('slow'), '9 8 1 0 0', 'and counted once');

# ---- the retrier has taken it, and is about to commit

@ids = park('slow', 10);
ask_fault($node, 'commits');
$dbh->do("SELECT persist_resume('slow')");
wait_for_fault($node, 'commits');
start_sql($other, "SELECT set_config('test.n', persist_discard_parked(ARRAY[$ids[0]])::text, false)");
wait_for_sql($dbh, "SELECT wait_event = 'transactionid' FROM pg_stat_activity WHERE pid = ?", $other->{pg_pid});
end_fault($node, 'commits');
is(finish_sql($other), '00000', 'the discard waits for that');
is(one_value($other, "SELECT current_setting('test.n')"), 0, 'too late');
has_settled('slow');
is(rows_in('slow'), '1 3 4 5 6 7 8 9 10', 'it is written');
is(account_of('slow'), '10 9 1 0 0', 'and counted once');

# ---- parked again while it is about to be taken away: it is found where it is now

create_target('postgres', 'misfit');
set_and_reload(misfit_timeout => "'1h'");
wait_for_sql($dbh, "SELECT current_setting('persist_pipeline.misfit_timeout') = '1h'");
foreach my $function ('persist_discard_parked', 'persist_parked_to_dead')
{
	my $dead = $function eq 'persist_parked_to_dead' ? 1 : 0;

	@ids = park('misfit', 1 .. 2);
	$dbh->do('ALTER TABLE misfit DROP n');
	ask_fault($node, 'discards_parked');
	start_sql($other, "SELECT set_config('test.n', $function(ARRAY[$ids[0]])::text, false)");
	wait_for_fault($node, 'discards_parked');
	$dbh->do("SELECT persist_resume('misfit')");
	wait_for_sql($dbh, 'SELECT count(misfit_since) > 0 FROM persist_parked WHERE id = ?', $ids[0]);
	end_fault($node, 'discards_parked');
	is(finish_sql($other), '00000', "$function goes on");
	is(one_value($other, "SELECT current_setting('test.n')"), 1, "$function finds it");
	is(join(' ', rows_of($dbh, 'SELECT id FROM persist_parked')), $ids[1], "$function: the other one is parked");
	is(one_value($dbh, "SELECT count(*) FROM persist_dead_letters WHERE id = $ids[0]"), $dead, "$function: it is a letter, or not");
	is(account_of('misfit'), $dead ? '4 0 2 1 1' : '2 0 1 0 1', "$function: and counted");
	is(one_value($dbh, "SELECT $function(ARRAY[?]::bigint[])", $ids[1]), 1, "$function: that one, too");
	is(account_of('misfit'), $dead ? '4 0 2 2 0' : '2 0 2 0 0', "$function: nothing waits");
	ok(flush($dbh), "$function: flushed");
	$dbh->do('ALTER TABLE misfit ADD n int');
}
is(discard_all($dbh), 2, 'two letters');

# ---- all are discarded, and others come before the retrier looks: their grace period is their own

sub misfit_since { return one_value($dbh, "SELECT coalesce(misfit_since::text, '') FROM persist_parked WHERE id = ?", $_[0]) }

@ids = park('misfit', 1 .. 2);
$dbh->do('ALTER TABLE misfit DROP n');
$dbh->do("SELECT persist_resume('misfit')");
wait_for_sql($dbh, 'SELECT count(misfit_since) > 0 FROM persist_parked');
my $since = misfit_since($ids[0]);
ask_fault($node, 'retrier_naps');
wait_for_fault($node, 'retrier_naps');
$dbh->do("SELECT persist_pause('misfit')");
is(one_value($dbh, 'SELECT persist_discard_parked(ARRAY[?, ?]::bigint[])', @ids), 2, 'both are discarded');
$dbh->do('ALTER TABLE misfit ADD n int');
@ids = enqueue_rows($dbh, 'misfit', 3);
wait_for_sql($dbh, 'SELECT count(*) = 1 FROM persist_parked');
$dbh->do('ALTER TABLE misfit DROP n');
$dbh->do("SELECT persist_resume('misfit')");
end_fault($node, 'retrier_naps');
wait_for_sql($dbh, 'SELECT count(misfit_since) > 0 FROM persist_parked');
cmp_ok(misfit_since($ids[0]), 'gt', $since, 'since when the target takes none is noted with another item, and begins anew');
is(one_value($dbh, 'SELECT persist_discard_parked(ARRAY[?]::bigint[])', @ids), 1, 'it is discarded, too');
ok(flush($dbh), 'nothing waits');

$dbh->disconnect;
$other->disconnect;
forget_sessions();
is_clean_log();
$node->stop;
done_testing();
