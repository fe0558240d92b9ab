
# A worker that backs off when it is told to stop: who was in its way is gone with
# the stop, so that it has to try again at once, not when its pause is over.  And
# while one role's items wait for a lock, another's that need them are not bad: neither
# if the worker waits as a whole, nor if they are parked.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

my $node = pp_node('retry', 'persist_pipeline.lock_timeout' => "'20ms'",
	'persist_pipeline.flush_interval' => 0);
$node->safe_psql(
	'postgres', q{
	CREATE TABLE artist (id int PRIMARY KEY);
	CREATE TABLE locked (n int);
	CREATE TABLE track (id int, artist int REFERENCES artist);
	CREATE ROLE alice; CREATE ROLE bob;
	GRANT INSERT ON artist, locked, track TO alice, bob;
	GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO alice, bob;
});
my $from = log_position($node);

# nothing can be parked
my $locker = connect_to($node);
$locker->begin_work;
$locker->do('LOCK TABLE locked, persist_pipeline_internal.persist_parked IN SHARE MODE');

$node->safe_psql('postgres', q{
	SET ROLE alice;
	BEGIN;
	SELECT persist_enqueue('locked'::regclass, '{"n": 1}'::jsonb, true);
	SELECT persist_enqueue('artist'::regclass, '{"id": 9}'::jsonb, true);
	COMMIT;
	SET ROLE bob;
	SELECT persist_enqueue('track'::regclass, '{"id": 1, "artist": 9}'::jsonb, true);
});

# long enough for its pauses to be longer than the time to stop
$node->poll_query_until('postgres', "SELECT worker_state = 'retrying' FROM persist_queue")
	or die 'the worker does not retry';
$node->poll_query_until('postgres',
	"SELECT clock_timestamp() > min(backend_start) + interval '13 s' FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker'")
	or die 'the worker is gone';
is($node->safe_psql('postgres', 'SELECT items_pending, items_failed FROM persist_queue'),
	'3|0', "bob's item needs alice's, and waits for it");

# at the beginning of a pause: what it is just trying when the stop comes is not drained by that
{
	my $watcher = connect_to($node);

	wait_for_sql($watcher, "SELECT worker_state <> 'retrying' FROM persist_queue");
	wait_for_sql($watcher, "SELECT worker_state = 'retrying' FROM persist_queue");
	$watcher->disconnect;
}
$node->stop('fast');
is(scalar(log_since($node, $from, qr/stopped: .* 3 items drained, none left/)), 1, 'a clean stop');
$node->start;
is($node->safe_psql('postgres',
		'SELECT (SELECT count(*) FROM locked), (SELECT count(*) FROM artist), (SELECT count(*) FROM track)'),
	'1|1|1', 'all are there');
is($node->safe_psql('postgres', 'SELECT bool_or(forced) FROM persist_shutdowns'), 'f', 'no stop was forced');

# ---- the same with targets that are parked: others' items are written meanwhile

$locker = connect_to($node);
$locker->begin_work;
$locker->do('LOCK TABLE locked, artist IN SHARE MODE');
$node->safe_psql('postgres', q{
	SET ROLE alice;
	BEGIN;
	SELECT persist_enqueue('locked'::regclass, '{"n": 2}'::jsonb, true);
	SELECT persist_enqueue('artist'::regclass, '{"id": 10}'::jsonb, true);
	COMMIT;
	SET ROLE bob;
	BEGIN;
	SELECT persist_enqueue('track'::regclass, '{"id": 2, "artist": 9}'::jsonb, true);
	SELECT persist_enqueue('track'::regclass, '{"id": 3, "artist": 10}'::jsonb, true);
	COMMIT;
});
ok($node->poll_query_until('postgres', "SELECT retrier_pid > 0 AND items_persisted = 1 FROM persist_queue"),
	'parked: the worker has tried all');
$node->poll_query_until('postgres',
	"SELECT clock_timestamp() > min(backend_start) + interval '13 s' FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker'")
	or die 'the worker is gone';
is($node->safe_psql('postgres', 'SELECT items_pending, items_parked, items_failed FROM persist_queue'),
	'3|3|0', "parked: bob's item needs alice's, and waits for it");
is($node->safe_psql('postgres', 'SELECT array_agg(id ORDER BY id) FROM track'), '{1,2}', 'parked: another one does not');

# they are on disk already, so that the stop has no need of them
$from = log_position($node);
my $seconds = seconds_of(sub { $node->stop('fast') });
is_quick($seconds, 4, 'parked: the stop is quick, whenever the next try would be');
is(scalar(log_since($node, $from, qr/was forced to stop/)), 0, 'parked: and not forced');
$node->start;
ok(drain($node), 'parked: the next worker tries at once');
is($node->safe_psql('postgres',
		'SELECT (SELECT count(*) FROM locked), (SELECT count(*) FROM artist), (SELECT count(*) FROM track), (SELECT items_failed FROM persist_queue)'),
	'2|2|3|0', 'parked: all are there');

$node->stop;
done_testing();
