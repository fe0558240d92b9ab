
# kill -9 restarts the whole server.  What was committed is there, nothing is there
# twice, ids don't repeat, and the pipeline works afterwards.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

my $node = pp_node(
	'crash',
	'persist_pipeline.flush_interval' => "'5ms'",
	restart_after_crash => 'on');
my $everything_from = log_position($node);

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (run text, n int);
	CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN PERFORM pg_sleep(3) WHERE NEW.n = 0; RETURN NEW; END $$;
	CREATE TRIGGER pause BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION pause();
});

my $last_id = 0;

# After the crash: wait for the server, and see that the pipeline works.
sub works_again
{
	my ($name, $from, $flushed) = @_;
	my $id;

	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $from);
	ok(eval { connect_when_up($node)->disconnect }, "$name: the server is back");
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t WHERE run = '$name before'"),
		"$flushed|$flushed", "$name: what was flushed is there, once");
	is($node->safe_psql('postgres', "SELECT count(*) - count(DISTINCT (run, n)) FROM t"),
		'0', "$name: nothing is there twice");
	$id = $node->safe_psql('postgres',
		"SELECT max(persist_enqueue('t', jsonb_build_object('run', '$name after', 'n', i))) FROM generate_series(1, 100) AS i");
	ok(flush($node), "$name: flushed");
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t WHERE run = '$name after'"),
		'100|100', "$name: the pipeline works");
	cmp_ok($id, '>', $last_id, "$name: ids don't repeat");
	is($node->safe_psql('postgres', "SELECT items_pending, ring_used FROM persist_queue"), '0|0', "$name: the ring is empty");
	$last_id = $id;
	return;
}

sub flush_some
{
	my ($name) = @_;

	$last_id = $node->safe_psql('postgres',
		"SELECT max(persist_enqueue('t', jsonb_build_object('run', '$name before', 'n', i))) FROM generate_series(1, 1000) AS i");
	ok(flush($node), "$name: flushed");
	return;
}

# ---- a client in mid-transaction, while others write

{
	my $from = log_position($node);
	my $dbh = connect_to($node);
	my @pids;

	flush_some('client');
	@pids = in_children(
		3,
		sub {
			my ($client) = @_;
			my $other = connect_to($node);
			my $n = $client * 100000;

			$n++ while try_sql($other, "SELECT persist_enqueue('t', '{\"run\": \"client load\", \"n\": $n}')") eq '00000';
		});
	$node->poll_query_until('postgres', "SELECT count(*) > 100 FROM t WHERE run = 'client load'");
	$dbh->begin_work;
	$dbh->do("SELECT persist_enqueue('t', '{\"run\": \"never\", \"n\": 1}')");
	kill 'KILL', $dbh->{pg_pid};
	children_succeeded('client: others', @pids);
	works_again('client', $from, 1000);
	is($node->safe_psql('postgres', "SELECT count(*) FROM t WHERE run = 'never'"), '0', 'client: what it had not committed is not there');
}

# ---- the worker: idle, and in mid-batch

{
	my $from = log_position($node);

	flush_some('idle worker');
	ok(wait_for_queue($node, "worker_state = 'idle'"), 'idle worker: it is');
	kill 'KILL', worker_pid($node);
	works_again('idle worker', $from, 1000);
	is(scalar(log_since($node, $from, qr/a worker of persist_pipeline has ended while it wrote a batch/)), 0, 'idle worker: no item is a suspect');
}

{
	my $from = log_position($node);

	flush_some('busy worker');
	$node->safe_psql('postgres',
		"SELECT persist_enqueue('t', jsonb_build_object('run', 'busy worker', 'n', i)) FROM generate_series(-5, 5) AS i");
	ok(wait_until_worker_sleeps($node), 'busy worker: it is in mid-batch');
	kill 'KILL', worker_pid($node);
	works_again('busy worker', $from, 1000);
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t WHERE run = 'busy worker'"),
		'11|11', 'busy worker: the batch is there, once');
}

# ---- the launcher

{
	my $from = log_position($node);

	flush_some('launcher');
	kill 'KILL', launcher_pid($node);
	works_again('launcher', $from, 1000);
}

# ---- an immediate stop, which is a crash

{
	flush_some('immediate');
	$node->stop('immediate');
	$node->start;
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t WHERE run = 'immediate before'"),
		'1000|1000', 'immediate: what was flushed is there, once');
	cmp_ok($node->safe_psql('postgres', "SELECT persist_enqueue('t', '{\"run\": \"immediate after\", \"n\": 1}')"),
		'>', $last_id, "immediate: ids don't repeat");
	ok(flush($node), 'immediate: flushed');
	is($node->safe_psql('postgres', "SELECT count(*) FROM t WHERE run = 'immediate after'"), '1', 'immediate: the pipeline works');
}

# ---- a letter that is sent again survives it, even where an item would not

{
	my $lock;

	$node->safe_psql('postgres', "CREATE TABLE volatile (n int CONSTRAINT obstacle CHECK (n < 0)); SELECT persist_configure('volatile', durability => 'ring')");
	$node->safe_psql('postgres', "SELECT persist_enqueue('volatile', '{\"n\": 1}')");
	ok(flush($node), 'letter: flushed');
	is($node->safe_psql('postgres', "SELECT count(*) FROM persist_dead_letters"), '1', 'letter: it has died');
	$node->safe_psql('postgres', "ALTER TABLE volatile DROP CONSTRAINT obstacle");
	$lock = connect_to($node);
	$lock->begin_work;
	$lock->do("LOCK TABLE volatile, persist_pipeline_internal.persist_parked IN SHARE MODE");    # it waits where it is
	is($node->safe_psql('postgres', "SELECT persist_requeue()"), '1', 'letter: sent again');
	$lock->{InactiveDestroy} = 1;    # it ends with the server
	$node->stop('immediate');
	$node->start;
	ok(flush($node), 'letter: flushed, after the crash');
	is($node->safe_psql('postgres', "SELECT count(*) FROM volatile"), '1', 'letter: it is there');
}

is_deeply(
	[
		complaints(
			$node, $everything_from,
			qr/WARNING:  terminating connection because of crash of another server process/,
			qr/WARNING:  item \d+ for relation "public\.volatile"/,
			qr/57P0[123] FATAL/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
