
# flush_interval of a target: its items wait no longer than that for their batch, and those of
# others with them, which would wait for ever.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

my $node = pp_node(
	'flush_interval',
	'persist_pipeline.flush_interval' => "'1 h'",
	'persist_pipeline.adaptive_flush' => 'off',
	'persist_pipeline.ring_window' => "'10 h'");
my $dbh = connect_to($node);

$dbh->do('CREATE TABLE late (n int)');
$dbh->do('CREATE TABLE soon (n int)');
$dbh->do('CREATE TABLE sooner (n int)');

sub configure
{
	my ($target, $interval) = @_;

	$dbh->do("SELECT persist_configure('$target', flush_interval => ?::interval)", undef, $interval);
	return;
}

# All that this commits lands, which nobody asks for.
sub lands
{
	my ($name, $target, @sql) = @_;
	my $late = one_value($dbh, 'SELECT count(*) FROM late') + 1;
	my $there = one_value($dbh, "SELECT count(*) FROM $target") + 1;

	$dbh->do(q{SELECT persist_enqueue('late', '{"n": 1}')});
	wait_for_worker_state($dbh, 'gathering');
	is(queue_value($node, 'items_pending'), '1', "$name: one waits");
	$dbh->do($_) foreach @sql;
	wait_for_sql($dbh, "SELECT (SELECT count(*) FROM $target) = $there AND (SELECT count(*) FROM late) = $late");
	pass("$name: both are there");
	return;
}

is(try_sql($dbh, q{SELECT persist_configure('soon', flush_interval => '1 month')}), '22023', 'too long');
configure('soon', '50 ms');
configure('sooner', '0');
is_deeply([ rows_of($dbh, 'SELECT target, flush_interval FROM persist_settings ORDER BY 1') ], [ 'soon 00:00:00.05', 'sooner 00:00:00' ], 'the setting');

# its first batch is what waits from before
$dbh->do(q{SELECT persist_enqueue('late', '{"n": 0}')});
ok(flush($node), 'the worker is there');

foreach my $durability ('journal', 'ring')
{
	$dbh->do("SELECT persist_configure(target, durability => '$durability') FROM unnest('{soon,sooner}'::regclass[]) AS target");
	lands("$durability, soon", 'soon', q{SELECT persist_enqueue('soon', '{"n": 1}')});
	lands("$durability, at once", 'sooner', q{SELECT persist_enqueue('sooner', '{"n": 1}')});
	lands("$durability, a row", 'soon', q{SELECT persist_enqueue(ROW(1)::soon)});
	lands("$durability, several", 'soon', q{SELECT persist_enqueue_many('soon', '[{"n": 1}]')});
}
lands('not transactional', 'soon', q{SELECT persist_enqueue('soon'::regclass, '{"n": 1}', false)});
lands(
	'after a savepoint', 'soon',
	'BEGIN', 'SAVEPOINT a', q{SELECT persist_enqueue('sooner', '{"n": 1}')}, 'ROLLBACK TO a', q{SELECT persist_enqueue('soon', '{"n": 1}')}, 'COMMIT');

# one that is in no hurry waits, also after one that was
configure('soon', '-1 ms');
is_deeply([ rows_of($dbh, q{SELECT target, flush_interval FROM persist_settings WHERE target = 'soon'::regclass}) ], ['soon NULL'], 'taken back');
$dbh->do(q{SELECT persist_enqueue('soon', '{"n": 2}')});
wait_for_worker_state($dbh, 'gathering');
is(queue_value($node, 'items_pending'), '1', 'taken back: it waits');
lands('behind it', 'sooner', q{SELECT persist_enqueue('sooner', '{"n": 1}')}) if flush($node);
is(one_value($dbh, 'SELECT count(*) FROM soon WHERE n = 2'), '1', 'all are there');

# so does what there is no room for in the ring
$dbh->do('CREATE TABLE large (n int, filler text)');
ok(flush($node), 'nothing waits');
$dbh->do(q{SELECT count(persist_enqueue('large', jsonb_build_object('n', i, 'filler', repeat('x', 10000)))) FROM generate_series(1, 1000) AS i});
wait_for_worker_state($dbh, 'gathering');
is(one_value($dbh, 'SELECT diverted AND items_pending = 1000 FROM persist_queue WHERE datname = current_database()'), '1', 'diverted: they wait');
$dbh->do(q{SELECT persist_enqueue('sooner', '{"n": 3}')});
wait_for_sql($dbh, 'SELECT (SELECT count(*) FROM large) = 1000 AND EXISTS (SELECT FROM sooner WHERE n = 3)');
pass('diverted: they come with one that is in a hurry');

done_testing();
