
# A worker that is older than statement_timeout: its transactions begin when they
# begin.  And one that is cancelled while it has nothing to do.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

my $node = pp_node('old', 'persist_pipeline.statement_timeout' => "'1s'",
	'persist_pipeline.flush_interval' => 0);
my $from = log_position($node);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (n int, at timestamptz);
	CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(0.3);
		NEW.at := now();
		RETURN NEW;
	END $$;
	CREATE TRIGGER slow BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION slow();
});
$node->safe_psql('postgres', q{SELECT persist_enqueue('t', '{"n": 1}')});
ok(flush($node), 'flushed');
my $pid = worker_pid($node);

$node->poll_query_until('postgres',
	"SELECT clock_timestamp() > backend_start + interval '3 s' FROM pg_stat_activity WHERE pid = $pid")
	or die 'the worker is gone';
$node->safe_psql('postgres', q{SELECT persist_enqueue('t', '{"n": 2}')});
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', 'SELECT array_agg(n ORDER BY n) FROM t'),
	'{1,2}', 'a slow row of an old worker lands');
is($node->safe_psql('postgres', "SELECT max(at) - min(at) > interval '2 s' FROM t"),
	't', 'and its now() is the time of its transaction');

$node->poll_query_until('postgres', "SELECT worker_state = 'idle' FROM persist_queue")
	or die 'the worker is not idle';
is($node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)"), 't', 'cancelled while idle');
$node->safe_psql('postgres', q{SELECT persist_enqueue('t', '{"n": 3}')});
ok(flush($node), 'flushed');
is(worker_pid($node), $pid, 'it is the same worker still');
is_deeply([ complaints($node, $from, qr/^$/) ], [], 'the log holds no WARNING or ERROR');

$node->stop;
done_testing();
