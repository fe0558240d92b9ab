
# persist_metrics: counters never go down but to 0, at a restart; how long items have waited is
# how long they have; and it can be read where nothing is written.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(time);

# Name and labels of each metric, without the database's name, to its value.
sub metrics
{
	my ($node, $database, $condition) = @_;
	my $rows = $node->safe_psql($database || 'postgres',
		"SELECT substr(name, 18) || coalesce(nullif((labels - 'datname')::text, '{}'), ''), value FROM persist_metrics WHERE "
		. ($condition || 'true'));

	return { map { /^(.*)\|(.*)$/ } split /\n/, $rows };
}

# Those of a histogram or counter that are lower than before, and where they went to.
sub lower
{
	my ($before, $after) = @_;

	return map { "$_ from $before->{$_} to " . ($after->{$_} // 'nothing') }
	  grep { /_(bucket|sum|count|total)\b/ && ($after->{$_} // -1) < $before->{$_} } sort keys %$before;
}

my $node = pp_node(
	'metrics',
	init => [ allows_streaming => 1 ],
	'persist_pipeline.max_databases' => 1,
	'persist_pipeline.flush_interval' => "'10ms'");
my $dbh = connect_to($node);

$dbh->do('CREATE TABLE t (n int)');
enqueue_range($dbh, 't', 1, 100);
ok(flush($node), 'flushed');

# how long they have waited: in the ring, while a lock is held; or in the journal alone, since the
# server was restarted meanwhile
foreach my $way ('ring', 'journal')
{
	my $before = metrics($node);
	my $blocker = connect_to($node);

	if ($way eq 'ring')
	{
		$blocker->do('BEGIN');
		$blocker->do('LOCK TABLE t IN SHARE MODE');
	}
	else
	{
		$dbh->do('SELECT persist_pause()');
	}
	my $began = time;
	$dbh->do("SELECT persist_enqueue('t', jsonb_build_object('n', n)) FROM generate_series(1, 10) AS n");
	my $enqueued = time;
	wait_until('they have waited', sub { time - $enqueued > 0.3 });
	my $waited = time - $enqueued;
	if ($way eq 'ring')
	{
		$blocker->do('COMMIT');
	}
	else
	{
		$_->disconnect foreach $dbh, $blocker;
		$node->restart;
		$dbh = connect_to($node);
		$before = metrics($node);
		$dbh->do('SELECT persist_resume()');
	}
	ok(flush($node), "$way: flushed");
	my $elapsed = time - $began;
	my $after = metrics($node);
	my %added = map { $_ => $after->{"commit_to_visible_seconds_$_"} - $before->{"commit_to_visible_seconds_$_"} } 'sum', 'count';

	is($added{count}, 10, "$way: each item is counted once");
	cmp_ok($added{sum}, '>=', 10 * $waited, "$way: as long as they have waited");
	cmp_ok($added{sum}, '<=', 10 * $elapsed + 0.01, "$way: and no longer");
	is_deeply([ lower($before, $after) ], [], "$way: nothing goes down");
	$blocker->disconnect if $way eq 'ring';
}

# the slot goes to another database, and comes back
my $before = metrics($node);
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION persist_pipeline; CREATE TABLE t (n int)');
foreach my $round (1, 2)
{
	my $other = $round > 1 ? metrics($node, 'other') : undef;

	$node->safe_psql('other', q{SELECT persist_enqueue('t', '{"n": 1}'); SELECT persist_flush()});
	wait_until('the other database has the slot', sub { rings($dbh) eq 'other' });
	my $after = metrics($node);
	is_deeply([ lower($before, $after) ], [], "round $round: nothing goes down without a slot");
	is($after->{enqueued_total}, $before->{enqueued_total}, 'and what another database counts is not ours');
	is($after->{'items_pending{"target": "public.t"}'}, 0, 'nothing waits, as is known');
	my $others = metrics($node, 'other');
	is($others->{$_}, $round, "in the other one: $_") foreach 'enqueued_total', 'persisted_total', 'commit_to_visible_seconds_count';
	is_deeply([ $other ? lower($other, $others) : () ], [], 'nor does anything go down there');

	enqueue_range($dbh, 't', 1, 7);
	ok(flush($node), 'flushed');
	my $back = metrics($node);
	is_deeply([ lower($before, $back) ], [], 'and with one again');
	is($back->{$_}, $before->{$_} + 7, "$_: it goes on from there") foreach 'enqueued_total', 'persisted_total', 'commit_to_visible_seconds_count';
	$before = $back;
}

# where items wait and there is no slot, nobody has counted them
$dbh->do('SELECT persist_pause()');
enqueue_range($dbh, 't', 1, 3);
$node->safe_psql('other', q{SELECT persist_enqueue('t', '{"n": 1}'); SELECT persist_flush()});
wait_until('the other database has the slot', sub { rings($dbh) eq 'other' });
my $paused = metrics($node);
is_deeply([ grep { /pending|items_parked|oldest|ring_|journal_bytes/ } keys %$paused ], [], 'paused, without a slot: what waits is not known');
is($paused->{paused}, 1, 'that it is paused is');
$dbh->do('SELECT persist_resume()');
ok(flush($node), 'flushed');
$before = metrics($node);

# a stop: what the server has counted begins at 0, what the tables have is kept
$dbh->disconnect;
$node->restart;
$node->safe_psql('postgres', q{SELECT persist_enqueue('t', '{"n": 1}'); SELECT persist_flush()});
my $restarted = metrics($node);
is($restarted->{$_}, 1, "after a restart: $_ begins anew") foreach 'enqueued_total', 'persisted_total', 'batch_items_sum';
is($restarted->{'items_persisted_total{"target": "public.t"}'}, $before->{'items_persisted_total{"target": "public.t"}'} + 1, 'the account goes on');
is($restarted->{shutdown_seconds_count}, $before->{shutdown_seconds_count} + 1, 'the stop is counted');
is($restarted->{'shutdown_seconds_bucket{"le": "+Inf"}'}, $restarted->{shutdown_seconds_count}, 'in a bucket');
is($restarted->{last_shutdown_forced}, 0, 'it was not forced');
cmp_ok($restarted->{last_shutdown_duration_seconds}, '<=', $restarted->{shutdown_seconds_sum}, 'it took its time');
is_deeply([ grep { /^(shutdown|items)_/ } lower($before, $restarted) ], [], 'nothing of that goes down');

# stops that are forgotten still count
$node->restart;
my $stops = $node->safe_psql('postgres',
	"SELECT count(*), (array_agg((SELECT sum(n) FROM unnest(all_stops) AS n) ORDER BY stopped_at DESC))[1] FROM persist_pipeline_internal.persist_shutdowns");
like($stops, qr/^(\d+)\|\1$/, 'the last stop has counted all before it');

# on a standby, and in a transaction that is read-only; as a member of pg_monitor
$node->safe_psql('postgres', q{CREATE ROLE watches LOGIN IN ROLE pg_monitor; SELECT persist_enqueue('t', '{"n": 1}'); SELECT persist_flush()});
$node->backup('one');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'one', has_streaming => 1);
$standby->start;
my $watch = connect_to($standby, 'postgres', user => 'watches');
$watch->do('BEGIN READ ONLY');
is(one_value($watch, "SELECT value FROM persist_metrics WHERE name = 'persist_pipeline_standby'"), 1, 'a standby says so');
is(one_value($watch, "SELECT value FROM persist_metrics WHERE name = 'persist_pipeline_items_persisted_total'"),
	$restarted->{'items_persisted_total{"target": "public.t"}'} + 1, 'and has the account');
is(one_value($watch, "SELECT count(*) FROM persist_metrics WHERE name ~ '_(pending|ring_size_bytes)\$'"), 0, 'what nobody counts there is left out');
is(one_value($watch, "SELECT count(*) FROM persist_metrics WHERE name = 'persist_pipeline_shutdown_seconds_bucket'"), 17, 'it has the stops');
$watch->do('COMMIT');
$watch->disconnect;
$standby->stop;

# where the library isn't preloaded
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
my $bare = metrics($node);
is($bare->{preloaded}, 0, 'not preloaded: it says so');
is($bare->{'items_persisted_total{"target": "public.t"}'}, $restarted->{'items_persisted_total{"target": "public.t"}'} + 1, 'it has the account');
is($bare->{shutdown_seconds_count}, $restarted->{shutdown_seconds_count} + 2, 'and the stops');
is_deeply([ grep { /^(pending|enqueued|errors|batch|commit|ring)/ } keys %$bare ], [], 'and nothing of what shared memory counts');
is_deeply([ complaints($node, 0, qr{client backend 42602 WARNING}) ], [], 'a clean log, but for what is only a setting where it is preloaded');
$node->stop;
done_testing();
