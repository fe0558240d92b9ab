
# persist_queue has a row for each database with the extension, whether it has a ring just
# now or not, and its counters only grow.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pp_node(
	'queue',
	'persist_pipeline.flush_interval' => "'10ms'",
	'persist_pipeline.worker_idle_timeout' => "'10ms'",
	'persist_pipeline.max_databases' => 1);

$node->safe_psql('postgres', "CREATE DATABASE $_") foreach 'second', 'third', 'bare';
$node->safe_psql($_, 'CREATE EXTENSION IF NOT EXISTS persist_pipeline; CREATE TABLE t (n int CHECK (n > 0))') foreach 'postgres', 'second', 'third';

# What it says of a database that has no ring.
sub without_ring
{
	my ($database) = @_;

	wait_for_queue($node, 'ring_size IS NULL', $database) or die "$database still has its ring";
	return $node->safe_psql('postgres',
		"SELECT worker_state, items_pending, items_parked, items_persisted, items_failed, batches > 0 FROM persist_queue WHERE datname = '$database'");
}

sub enqueue
{
	my ($database, @values) = @_;

	$node->safe_psql($database, join ';', map { "SELECT persist_enqueue('t', '{\"n\": $_}')" } @values);
	ok(flush($node, $database), "$database: flushed");
	return;
}

# ---- counters

enqueue('postgres', 1, 2, 0);
is(without_ring('postgres'), 'not running|0|0|2|1|t', 'the ring is given back: its row stays');
enqueue('second', 1);
enqueue('postgres', 3);
is(without_ring('postgres'), 'not running|0|0|3|1|t', 'another ring: the counters go on');
is(without_ring('second'), 'not running|0|0|1|0|t', 'those of another database are its own');
my $trouble = "last_error || ' ' || (last_error_at < now()) || ' ' || worker_failures";
is(queue_value($node, $trouble), '23514 true 0', 'another ring: what went wrong is still known');
wait_for_queue($node, 'ring_size IS NULL') or die 'it still has its ring';
is(queue_value($node, $trouble), '23514 true 0', 'and without one');
is(queue_value($node, 'last_error IS NULL', 'second'), 't', 'of another database it is not');

# ---- paused

$node->safe_psql('second', 'SELECT persist_pause()');
$node->safe_psql('second', q{SELECT persist_enqueue('t', '{"n": 2}')});
ok(wait_for_queue($node, "worker_state = 'paused'", 'second'), 'paused: it says so');
enqueue('postgres', 4);    # with the only ring
is(without_ring('second'), 'paused||0|1|0|t', 'paused, without a ring: how much waits is not known');
$node->safe_psql('second', 'SELECT persist_resume()');
ok(flush($node, 'second'), 'resumed: flushed');
is(without_ring('second'), 'not running|0|0|2|0|t', 'resumed: all is written');

# ---- after a start, before any item

$node->restart;
ok($node->poll_query_until('postgres', "SELECT count(*) = 3 FROM persist_queue"), 'after a start: each database with the extension');
is($node->safe_psql('postgres', "SELECT string_agg(concat_ws(' ', datname, worker_state, items_pending, items_persisted), ', ' ORDER BY datname) FROM persist_queue"),
	'postgres not running 0 0, second not running 0 0, third not running 0 0', 'after a start: nothing waits');

# ---- and they go

$node->safe_psql('second', 'DROP EXTENSION persist_pipeline');
$node->safe_psql('postgres', 'DROP DATABASE third');
is($node->safe_psql('postgres', "SELECT string_agg(datname, ' ') FROM persist_queue"), 'postgres', 'dropped: their rows are gone');

is_deeply([ complaints($node, 0, qr/WARNING:  item \d+ for relation "public.t" could not be inserted/) ], [], 'a clean log');
done_testing();
