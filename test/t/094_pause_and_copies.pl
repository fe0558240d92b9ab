
# A database that is paused keeps its items, over restarts and crashes; start_paused
# pauses them all; a copy of a database with items that wait doesn't write them; a
# dump takes settings along, and no items; durability 'ring' and 'journal' in a crash.
#
# PP_PENDING: items that wait in a database that is copied or dumped (1000).

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $items = $ENV{PP_PENDING} || 1000;
my $clients = 2;
my $at_most = 4;    # seconds, of what has nothing to wait for; shutdown_timeout is 5

my $node = pp_node(
	'pause',
	'persist_pipeline.adaptive_flush' => 'off',
	'persist_pipeline.flush_interval' => "'1h'",
	'persist_pipeline.max_databases' => 12,
	'persist_pipeline.max_workers' => 3,
	'persist_pipeline.statement_timeout' => 0,
	autovacuum => 'off',
	checkpoint_timeout => "'1h'",
	restart_after_crash => 'on');
my $everything_from = log_position($node);
my $dir = $node->basedir;

my $tables = q{
	CREATE TABLE t (n int, ins bigint);
	CREATE UNLOGGED TABLE u (n int, ins bigint);
} . number_rows('t', 'u');
$node->safe_psql('postgres', $tables);

# What a stop or a crash brings about for the clients, and nothing of ours.
my @of_clients = (
	qr/client backend 57P0[12] (WARNING|FATAL):  terminating connection/,
	qr/57P03 FATAL:  the database system is (starting up|shutting down|in recovery mode|not yet accepting connections)/);

# A worker doesn't wait for ever for a lock on our own tables.
my $lock_timeout = qr/persist_pipeline (?:worker|retrier) 55P03 ERROR:  canceling statement due to lock timeout/;

sub pending_in
{
	my ($database) = @_;

	return $node->safe_psql($database, "SELECT $pending_sql");
}

sub enqueue
{
	my ($database, @range) = @_;
	my $dbh = connect_to($node, $database);

	enqueue_range($dbh, @range);
	$dbh->disconnect;
	return;
}

# All of them are there, each once, in order, and no others.
sub has
{
	my ($database, $target, $from, $to, $name) = @_;

	is($node->safe_psql($database, "SELECT array_agg(n ORDER BY ins) = array(SELECT generate_series($from, $to)) FROM $target"),
		't', $name);
	return;
}

sub is_empty_table
{
	my ($database, $target, $name) = @_;

	is($node->safe_psql($database, "SELECT count(*) FROM $target"), '0', $name);
	return;
}

# The database is paused, and no worker is in it.
sub waits
{
	my ($database, $name) = @_;

	ok(wait_for_queue($node, "worker_state = 'paused' AND worker_pid IS NULL", $database), $name);
	return;
}

sub stop_and_start
{
	my ($mode, $name) = @_;
	my $seconds = seconds_of(sub { $node->stop($mode) });

	is_quick($seconds, $at_most, "$name: the stop is quick");
	$node->start;
	return;
}

# ---- paused, over restarts and a crash

{
	my $from = log_position($node);

	# a worker is there, so that items of an UNLOGGED table can be in its ring alone
	enqueue('postgres', 't', 1, 10);
	enqueue('postgres', 'u', 1, 10);
	ok(flush($node), 'paused: flushed');
	enqueue('postgres', 'u', 11, 60);
	is(pending_in('postgres'), '0', 'paused: items are in the ring alone');
	is(queue_value($node, 'items_pending'), '50', 'paused: so many');
	$node->safe_psql('postgres', "SELECT persist_pause()");
	waits('postgres', 'paused: the worker leaves at once, and not when the batch is due');
	enqueue('postgres', 'u', 61, 110);
	enqueue('postgres', 't', 11, 110);
	is($node->safe_psql('postgres', "SELECT persist_flush('1 h')"), 'f', 'paused: persist_flush does not wait');
	is(pending_in('postgres'), '200', 'paused: all of them are in the journal');
	stop_and_start('fast', 'paused: restart');
	waits('postgres', 'paused: it still is, after a restart');
	has('postgres', 't', 1, 10, 'paused: nothing was written after the restart');
	has('postgres', 'u', 1, 10, 'paused: nor into an UNLOGGED table');
	stop_and_start('immediate', 'paused: crash');
	waits('postgres', 'paused: it still is, after a crash');
	has('postgres', 't', 1, 10, 'paused: nothing was written after the crash');
	is_empty_table('postgres', 'u', 'paused: what the UNLOGGED table had is gone');
	is(pending_in('postgres'), '200', 'paused: all that waited still waits');
	$node->safe_psql('postgres', "SELECT persist_resume()");
	ok(flush($node), 'paused: resumed and flushed');
	has('postgres', 't', 1, 110, 'paused: each item arrived once, in order');
	has('postgres', 'u', 11, 110, 'paused: those of the UNLOGGED table, too');
	is_deeply([ log_since($node, $from, qr/was forced to stop/) ], [], 'paused: no stop was forced');
	is_deeply([ complaints($node, $from, @of_clients) ], [], 'paused: a clean log');
}

# ---- start_paused

{
	my $from = log_position($node);
	my $victim;
	my $locker;
	my $session;

	$node->safe_psql('postgres', "TRUNCATE t");
	reload_with($node, 'flush_interval', "'10ms'");
	reload_with($node, 'start_paused', 'on');
	$node->restart;
	enqueue('postgres', 't', 1, 50);
	waits('postgres', 'start_paused: the first items after the start wait');
	$node->restart;
	waits('postgres', 'start_paused: what is found at a start waits, too');
	is_empty_table('postgres', 't', 'start_paused: nothing is written');
	$node->safe_psql('postgres', "SELECT persist_resume()");
	ok(flush($node), 'start_paused: resumed and flushed');
	has('postgres', 't', 1, 50, 'start_paused: all is written');

	# the server restarts its processes, but was started no more than once
	$victim = connect_to($node);
	kill 'KILL', $victim->{pg_pid};
	$victim->{InactiveDestroy} = 1;
	wait_until('the crash is noticed', sub { log_since($node, $from, qr/all server processes terminated; reinitializing/) });
	wait_until('connections are taken', sub { connect_to($node, 'postgres', raise => 0) });
	enqueue('postgres', 't', 51, 60);
	ok(flush($node), 'start_paused: after a crash of a process it stays resumed');
	has('postgres', 't', 1, 60, 'start_paused: and all is written');

	$node->restart;
	enqueue('postgres', 't', 61, 70);
	waits('postgres', 'start_paused: after the next start items wait again');
	has('postgres', 't', 1, 60, 'start_paused: and are not written');
	reload_with($node, 'start_paused', 'off');
	ok($node->poll_query_until('postgres', "SELECT count(*) = 70 FROM t"), 'start_paused: turned off, they are written with no call');
	has('postgres', 't', 1, 70, 'start_paused: each once, in order');
	is($node->safe_psql('postgres', "SELECT paused FROM persist_pipeline_internal.persist_state"), 'f', 'start_paused: that was no persist_pause()');

	# turned off in the middle of a worker's look whether it has to wait
	reload_with($node, 'start_paused', 'on');
	$node->restart;
	$locker = connect_to($node);
	$session = connect_to($node);
	$session->do("SELECT * FROM persist_stats");    # from now on it knows whose its items are
	$locker->begin_work;
	$locker->do("LOCK TABLE persist_pipeline_internal.persist_state");
	$session->do("SELECT persist_enqueue('t', jsonb_build_object('n', i)) FROM generate_series(71, 80) AS i");
	$session->disconnect;
	ok( $node->poll_query_until('postgres',
			"SELECT count(*) = 1 FROM pg_locks WHERE relation = 'persist_pipeline_internal.persist_state'::regclass AND NOT granted"),
		'start_paused: a worker looks');
	reload_with($node, 'start_paused', 'off');
	wait_until('the setting is known', sub { $node->safe_psql('postgres', "SHOW persist_pipeline.start_paused") eq 'off' });
	$locker->commit;
	$locker->disconnect;
	ok($node->poll_query_until('postgres', "SELECT count(*) = 80 FROM t"), 'start_paused: turned off while it looks');
	$node->safe_psql('postgres', "SELECT persist_resume()");
	is_deeply([ complaints($node, $from, @of_clients, $lock_timeout) ], [], 'start_paused: a clean log');
}

# ---- CREATE DATABASE ... TEMPLATE, under load
#
# Nobody else may be connected to the source.  So the clients come and go, and wait
# at the door while it is copied.

my $control = connect_to($node);

sub restart_with
{
	my ($name, $value) = @_;

	$control->disconnect;
	$node->append_conf('postgresql.conf', "$name = $value");
	$node->restart;
	$control = connect_to($node);
	return;
}

# Items in the copy that are another database's; 0 until somebody has looked into it.
sub copied_in
{
	my ($database) = @_;

	return $node->safe_psql($database, "SELECT coalesce(sum(items_copied), 0) FROM persist_queue");
}

sub copied_lines
{
	my ($from, $database) = @_;

	return log_since($node, $from, qr/LOG:  database "$database" is a copy, and with it came \d+ items/);
}

create_model_database($node, 'source');
$node->safe_psql('source', 'DROP TABLE t;' . $tables . 'CREATE TABLE l (w int, n int); CREATE TABLE wide (b text)');
{
	my $from = log_position($node);
	my @pids = in_children(
		$clients,
		sub {
			my ($client) = @_;

			for (my $n = 1; !-e "$dir/stop"; $n++)
			{
				my $dbh = connect_to($node, 'source');

				$dbh->do("SELECT persist_enqueue('l'::regclass, jsonb_build_object('w', ?::int, 'n', ?::int))", undef, $client, $n);
				$dbh->disconnect;
				append_to_file("$dir/seen.$client", "$n\n");
			}
		});
	my @sent;

	ok( $node->poll_query_until('postgres', "SELECT coalesce(sum(items_persisted), 0) > 50 FROM persist_queue WHERE datname = 'source'"),
		'load: it runs');
	create_database($control, 'loaded', 'source');
	append_to_file("$dir/stop", '');
	children_succeeded('load: clients', @pids);
	ok(flush($node, 'source'), 'load: flushed');
	@sent = map { scalar(() = slurp_file("$dir/seen.$_") =~ /\n/g) } 1 .. $clients;
	is( $node->safe_psql('source', "SELECT string_agg(w || ':' || r, ' ' ORDER BY w) FROM (SELECT w, count(*) || '|' || count(DISTINCT n) || '|' || max(n) AS r FROM l GROUP BY w) AS s"),
		join(' ', map { "$_:$sent[$_ - 1]|$sent[$_ - 1]|$sent[$_ - 1]" } 1 .. $clients),
		'load: the source has all that was sent, each once');

	# The copy's are those that came before it.
	$node->safe_psql('loaded', "SELECT persist_enqueue('t', '{\"n\": 1}')");
	ok(flush($node, 'loaded'), 'load: the copy is at work');
	ok( $node->poll_query_until('loaded', "SELECT database = (SELECT oid FROM pg_database WHERE datname = 'loaded') FROM persist_pipeline_internal.persist_state"),
		'load: and was looked into');
	note 'load: ' . copied_in('loaded') . ' items waited in the copy, ' . $node->safe_psql('loaded', "SELECT count(*) FROM l") . ' rows were there';
	is(scalar(copied_lines($from, 'loaded')), copied_in('loaded') > 0 ? 1 : 0, 'load: the log says it, if there were any');
	$node->safe_psql('loaded', "SELECT persist_resume()");
	ok(flush($node, 'loaded'), 'load: resumed in the copy');
	is($node->safe_psql('loaded', "SELECT count(*) FROM (SELECT w FROM l GROUP BY w HAVING count(*) <> count(DISTINCT n) OR count(*) <> max(n)) AS s"),
		'0', 'load: of each client the copy has the items up to some point, each once');
	is_deeply([ complaints($node, $from, @of_clients) ], [], 'load: a clean log');
}

# ---- the copies of a database that is at work, with items that wait

{
	my $from = log_position($node);
	my $held = $items + 5;
	my $own = 100;
	my $seconds;
	my $dbh;

	$node->safe_psql('source', "TRUNCATE l");
	$dbh = connect_to($node, 'source');
	$dbh->do("SELECT persist_enqueue('slow', jsonb_build_object('n', i)) FROM generate_series(1, 5) AS i");
	$dbh->disconnect;
	wait_for_sql($control,
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker' AND datname = 'source' AND wait_event = 'PgSleep'");
	enqueue('source', 't', 1, $items);
	is(queue_value($node, 'items_pending', 'source'), $held, "copy: $held items wait");
	create_database($control, 'copy', 'source');
	ok($node->poll_query_until('copy', "SELECT coalesce(sum(items_copied), 0) = $held FROM persist_queue"), 'copy: it has them, aside');
	is(queue_value($node, 'items_copied', 'copy'), '', 'copy: which only it knows');
	ok(eval { wait_until('the line', sub { copied_lines($from, 'copy') }) }, 'copy: the log says so');
	is(scalar(copied_lines($from, 'copy')), 1, 'copy: in one line');
	like((copied_lines($from, 'copy'))[0], qr/came $held items that the original writes, too/, 'copy: and how many');
	is(scalar(log_since($node, $from, qr/is a copy/)), 1, 'copy: and of no other database');

	# its own items flow, more than a journal has room for
	enqueue('copy', 't', 1_000_001, 1_000_000 + $own);
	ok(flush($node, 'copy'), 'copy: its own items are flushed');
	has('copy', 't', 1_000_001, 1_000_000 + $own, 'copy: they are there, and nothing else');
	$node->safe_psql('copy',
		"SELECT count(persist_enqueue('wide', jsonb_build_object('b', repeat('x', 1000)))) FROM generate_series(1, 10000)") foreach 1 .. 4;
	ok(flush($node, 'copy'), 'copy: many are flushed');
	$dbh = connect_to($node, 'copy');
	wait_until(
		'another journal',
		sub {
			$dbh->do("SELECT persist_enqueue('wide', '{}')");
			one_value($dbh, "SELECT pg_relation_size('persist_pipeline_internal.persist_journal_2') + pg_relation_size('persist_pipeline_internal.persist_journal_3') > 0");
		});
	$dbh->disconnect;
	ok(flush($node, 'copy'), 'copy: it has turned to another journal');
	is($node->safe_psql('copy', "SELECT count(*) FROM wide WHERE b IS NOT NULL"), '40000', 'copy: many are there, each once');
	is(copied_in('copy'), $held, 'copy: what is aside still is');
	is_empty_table('copy', 'slow', 'copy: and was not written');

	# a copy of the copy
	create_database($control, 'second', 'copy');
	create_database($control, 'third', 'second');
	ok($node->poll_query_until($_, "SELECT sum(items_copied) = $held FROM persist_queue"), "$_: a copy of a copy has them aside")
	  foreach 'second', 'third';
	$seconds = seconds_of(sub { is(try_sql($control, "DROP DATABASE third"), '00000', 'third: it can be dropped') });
	is_quick($seconds, $at_most, 'third: at once');

	# over a restart, after which the source goes on
	$node->safe_psql('source', "INSERT INTO released DEFAULT VALUES");
	$node->safe_psql($_, "INSERT INTO released DEFAULT VALUES") foreach 'copy', 'second';
	restart_with('persist_pipeline.flush_interval', "'10ms'");
	ok($node->poll_query_until('source', "SELECT count(*) = $items FROM t"), 'source: after a restart it goes on by itself');
	ok(flush($node, 'source'), 'source: flushed');
	has('source', 't', 1, $items, 'source: it writes each item once, in order');
	is($node->safe_psql('source', "SELECT count(*), count(DISTINCT n) FROM slow"), '5|5', 'source: those that took long, too');
	foreach my $copy ('copy', 'second')
	{
		ok($node->safe_psql($copy, "SELECT persist_flush()") eq 't', "$copy: after a restart there is nothing to wait for");
		is(copied_in($copy), $held, "$copy: what is aside still is");
		has($copy, 't', 1_000_001, 1_000_000 + $own, "$copy: it has what it had");
		is_empty_table($copy, 'slow', "$copy: and nothing else");
	}

	# who may
	$node->safe_psql('postgres', "CREATE ROLE other LOGIN");
	$dbh = connect_to($node, 'copy', user => 'other');
	is(try_sql($dbh, "SELECT persist_$_()"), '42501', "copy: persist_$_() is not for everyone") foreach 'resume', 'discard', 'pause';
	$dbh->disconnect;
	$node->safe_psql('postgres', "ALTER DATABASE copy OWNER TO other");
	$dbh = connect_to($node, 'copy', user => 'other');

	# rolled back: nothing has come
	$dbh->begin_work;
	$dbh->do("SELECT persist_resume()");
	$dbh->rollback;
	$dbh->begin_work;
	is(one_value($dbh, "SELECT persist_discard()"), $held, 'copy: persist_discard() says how many');
	$dbh->rollback;
	is(copied_in('copy'), $held, 'copy: what is rolled back changes nothing');

	# back to a savepoint, while it is paused, so that what is pending stays so
	$node->safe_psql('copy', "SELECT persist_enqueue('wide', '{}')");
	ok(flush($node, 'copy'), 'copy: flushed');
	$dbh->do("SELECT persist_pause()");
	$node->safe_psql('copy', "SELECT persist_enqueue('wide', '{}')");
	waits('copy', 'copy: paused');
	$dbh->begin_work;
	$dbh->do("SAVEPOINT s");
	$dbh->do("SELECT persist_resume()");
	$dbh->do("ROLLBACK TO s");
	$dbh->commit;
	waits('copy', 'copy: back to a savepoint it is still paused');
	is(copied_in('copy'), $held, 'copy: what is aside still is');
	is(queue_value($node, 'items_pending', 'copy'), '1', 'copy: and is not pending');
	$dbh->do("SELECT persist_resume()");
	$dbh->disconnect;
	ok($node->poll_query_until('copy', "SELECT count(*) = $items + $own FROM t"), 'copy: resumed, its items come with no other call');
	ok(flush($node, 'copy'), 'copy: flushed');
	is($node->safe_psql('copy', "SELECT array_agg(n ORDER BY ins) FILTER (WHERE n <= $items) = array(SELECT generate_series(1, $items)) FROM t"),
		't', 'copy: each once, in order');
	is($node->safe_psql('copy', "SELECT count(*), count(DISTINCT n) FROM slow"), '5|5', 'copy: those that took long, too');
	is($node->safe_psql('copy', "SELECT count(*) = $items + $own AND count(DISTINCT n) = $items + $own FROM t"), 't', 'copy: and its own, each once');
	is(copied_in('copy'), '0', 'copy: nothing is aside any more');

	is($node->safe_psql('second', "SELECT persist_discard()"), $held, 'second: persist_discard() says how many');
	is($node->safe_psql('second', "SELECT persist_discard()"), '0', 'second: once');
	$node->safe_psql('second', "SELECT persist_resume()");
	enqueue('second', 't', 1_000_101, 1_000_110);
	ok(flush($node, 'second'), 'second: flushed');
	has('second', 't', 1_000_001, 1_000_110, 'second: nothing arrives but its own');
	is_empty_table('second', 'slow', 'second: nothing at all of the others');

	is(scalar(log_since($node, $from, qr/is a copy/)), 1, 'copies: the log told it once');
	is_deeply([ complaints($node, $from, @of_clients, qr/client backend 42501 ERROR/) ], [], 'copies: a clean log');
	is(try_sql($control, "DROP DATABASE $_"), '00000', "$_: dropped") foreach 'loaded', 'copy', 'second';
}

# ---- the copy of a database that is paused

{
	my $from = log_position($node);

	$node->safe_psql('source', "TRUNCATE t; SELECT persist_pause()");
	enqueue('source', 't', 1, $items);
	waits('source', 'paused source: paused');
	create_database($control, 'copy', 'source');
	ok($node->poll_query_until('copy', "SELECT sum(items_copied) = $items FROM persist_queue"), 'paused source: the copy has its items aside');
	ok(eval { wait_until('the line', sub { copied_lines($from, 'copy') }) }, 'paused source: the log tells it');
	is(scalar(copied_lines($from, 'copy')), 1, 'paused source: once');
	$node->safe_psql('source', "SELECT persist_resume()");
	ok(flush($node, 'source'), 'paused source: resumed');
	has('source', 't', 1, $items, 'paused source: it writes each item once, in order');
	is_empty_table('copy', 't', 'paused source: the copy writes none');
	$node->safe_psql('copy', "SELECT persist_resume()");
	ok(flush($node, 'copy'), 'paused source: the copy is resumed');
	has('copy', 't', 1, $items, 'paused source: the copy writes each item once, in order');
	is(try_sql($control, "DROP DATABASE $_"), '00000', "$_: dropped") foreach 'copy', 'source';
	is_deeply([ complaints($node, $from, @of_clients) ], [], 'paused source: a clean log');
}

# ---- a copy that is resumed twice in a transaction, where items have been counted before

{
	$node->safe_psql('postgres', 'CREATE DATABASE source');
	$node->safe_psql('source', "CREATE EXTENSION persist_pipeline; $tables SELECT persist_pause('t')");
	enqueue('source', 't', 1, $items);
	ok(!flush($node, 'source'), 'twice: the items are parked');
	my $id = $node->safe_psql('source', 'SELECT min(id) FROM persist_parked');
	create_database($control, 'copy', 'source');
	enqueue('copy', 'u', 1, 1);
	ok(flush($node, 'copy'), 'twice: the copy counts');
	my $resuming = connect_to($node, 'copy');
	$resuming->begin_work;
	$resuming->do('SELECT persist_resume()');
	is($node->safe_psql('copy', "SET statement_timeout = '10s'; SELECT items_copied IS NULL, status <> '' FROM persist_queue, persist_health() WHERE datname = 'copy'"),
		't|t', 'open: nobody who looks waits for a transaction that resumes');
	my ($state, $message) = split /\|/, $node->safe_psql('copy', "SET statement_timeout = '10s'; SELECT state, message FROM persist_where($id)");
	is($state, 'unknown', 'open: nor who looks for an item that may be one of the copied');
	like($message, qr/ask again after the transaction that has called persist_resume\(\)/, 'open: who is told why');
	is($node->safe_psql('copy', "SET statement_timeout = '10s'; SELECT state FROM persist_where(0)"), 'unknown', 'open: nor for one that never was');
	$resuming->rollback;
	is($node->safe_psql('copy', "SELECT state FROM persist_where($id)"), 'pending', 'not resumed: it waits');
	$resuming->disconnect;
	$node->safe_psql('copy', 'BEGIN; SELECT persist_resume(); SELECT persist_resume(); SELECT persist_pause(); COMMIT');
	is($node->safe_psql('copy', "SELECT pending FROM persist_stats WHERE target = 't'::regclass"), $items, 'twice: they are counted, once');
	is(try_sql($control, "DROP DATABASE $_"), '00000', "$_: dropped") foreach 'copy', 'source';
}

# ---- copies that nobody has had the time to look into
#
# The only worker is in the middle of a batch, elsewhere.

{
	my $from = log_position($node);
	my $dbh;

	create_model_database($node, 'busy');
	$node->safe_psql('postgres', "CREATE DATABASE source");
	$node->safe_psql('source', 'CREATE EXTENSION persist_pipeline;' . $tables);
	restart_with('persist_pipeline.max_workers', 1);
	keep_busy();
	enqueue('source', 't', 1, $items);
	create_database($control, $_, 'source') foreach 'resumed', 'discarded', 'late';
	is(copied_in('resumed'), $items, 'early: the copy knows what came with it');
	$node->safe_psql('resumed', "SELECT persist_resume()");
	is($node->safe_psql('discarded', "SELECT persist_discard()"), $items, 'early: persist_discard() says how many');
	$node->safe_psql('busy', "INSERT INTO released DEFAULT VALUES");
	ok($node->poll_query_until('source', "SELECT count(*) = $items FROM t"), 'early: the source writes its items');
	ok($node->poll_query_until('late', "SELECT sum(items_copied) = $items FROM persist_queue"), 'early: the last copy has been looked into');
	ok($node->poll_query_until('resumed', "SELECT count(*) = $items FROM t"), 'early: persist_resume() was not too early');
	is($node->safe_psql('resumed', "SELECT persist_discard()"), '0', 'early: nor is anything left');
	is($node->safe_psql('discarded', "SELECT persist_discard()"), '0', 'early: persist_discard() was not too early');

	# resumed, while another database, with a higher number, is to be looked into
	$node->safe_psql('busy', "TRUNCATE released");
	keep_busy();
	create_database($control, 'later', 'source');
	$node->safe_psql('late', "SELECT persist_resume()");
	$node->safe_psql('busy', "INSERT INTO released DEFAULT VALUES");
	ok($node->poll_query_until('late', "SELECT count(*) = $items FROM t"), 'late: resumed, its items come with no other call');
	ok(flush($node, 'late'), 'late: flushed');
	has('late', 't', 1, $items, 'late: each item once, in order');
	is_deeply([ complaints($node, $from, @of_clients) ], [], 'early and late: a clean log');
	restart_with('persist_pipeline.max_workers', 3);
	is(try_sql($control, "DROP DATABASE $_"), '00000', "$_: dropped") foreach 'resumed', 'discarded', 'late', 'later', 'source', 'busy';
}

sub keep_busy
{
	$node->safe_psql('busy', "SELECT persist_enqueue('slow', '{}')");
	wait_for_sql($control,
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker' AND datname = 'busy' AND wait_event = 'PgSleep'");
	return;
}

# ---- a dump of a database with settings and items that wait

{
	my $from = log_position($node);

	$node->safe_psql('postgres', "CREATE DATABASE dumped");
	$node->safe_psql('dumped', 'CREATE EXTENSION persist_pipeline;' . $tables . q{
		CREATE SCHEMA "Other one";
		CREATE TABLE "Other one"."T" (n int);
		CREATE TABLE gone (n int);
		CREATE TABLE plain (n int);
		SELECT persist_configure('t', 'journal'), persist_configure('"Other one"."T"', 'ring'), persist_configure('gone', 'ring');
	});

	# without the library nobody takes its row away
	restart_with('shared_preload_libraries', "''");
	$node->safe_psql('dumped', "DROP TABLE gone");
	is($node->safe_psql('dumped', "SELECT count(*) FROM persist_settings"), '3', 'dump: one of three settings has lost its target');
	restart_with('shared_preload_libraries', "'persist_pipeline'");
	$node->safe_psql('dumped', "SELECT persist_pause()");
	enqueue('dumped', 't', 1, $items);
	is(pending_in('dumped'), $items, "dump: $items items wait");
	$node->command_ok([ 'pg_dump', '-f', "$dir/dump.sql", $node->connstr('dumped') ], 'dump: made');

	# as their numbers would be other ones
	$node->safe_psql('postgres', "CREATE DATABASE restored");
	$node->safe_psql('restored', "CREATE TABLE before (n int); DROP TABLE before");
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/dump.sql", $node->connstr('restored') ],
		'dump: restored');
	is(pending_in('restored'), '0', 'dump: nothing waits in the restored one');
	is($node->safe_psql('restored', "SELECT target, durability FROM persist_settings ORDER BY durability"),
		qq{t|journal\n"Other one"."T"|ring}, 'dump: it has the settings, for the tables of that name');
	is($node->safe_psql('restored', "SELECT count(*) FROM persist_settings JOIN pg_class AS c ON c.oid = target"),
		'2', 'dump: which are its own');
	isnt($node->safe_psql('restored', "SELECT 't'::regclass::oid"), $node->safe_psql('dumped', "SELECT 't'::regclass::oid"),
		'dump: under other numbers');
	enqueue('restored', 't', 1, 10);
	ok(flush($node, 'restored'), 'dump: flushed, so that is not paused');
	has('restored', 't', 1, 10, 'dump: a call in the restored one works');
	$node->safe_psql('dumped', "SELECT persist_resume()");
	ok(flush($node, 'dumped'), 'dump: resumed in the source');
	has('dumped', 't', 1, $items, 'dump: which has its own, each once, in order');
	is_deeply([ complaints($node, $from, @of_clients) ], [], 'dump: a clean log');
	is(try_sql($control, "DROP DATABASE $_"), '00000', "$_: dropped") foreach 'restored', 'dumped';
}

# ---- durability

{
	my $from;
	my ($lsn, $xid);
	my $other;
	my $position_sql = "SELECT pg_current_wal_insert_lsn(), pg_snapshot_xmax(pg_current_snapshot())";

	restart_with('persist_pipeline.flush_interval', "'1h'");
	$other = connect_to($node);
	$from = log_position($node);
	$node->safe_psql('postgres', "TRUNCATE t, u; CREATE TABLE r (n int)");

	# a worker is there, and has ids for everybody
	foreach my $session ($control, $other)
	{
		$session->do("SELECT persist_enqueue('r', '{\"n\": 0}')");
		$session->do("SELECT persist_enqueue('u', '{\"n\": 0}')");
	}
	ok(flush($node), 'durability: flushed');
	wait_for_worker_state($control, 'idle');    # with its upkeep behind it
	$control->do("SELECT persist_configure('r', 'ring'), persist_configure('u', 'journal')");

	# an open cache of another session, too
	($lsn, $xid) = $control->selectrow_array($position_sql);
	foreach my $session ($control, $other)
	{
		$session->do("SELECT persist_enqueue('r', jsonb_build_object('n', i)) FROM generate_series(1, 50) AS i");
	}
	is(join('|', $control->selectrow_array($position_sql)), "$lsn|$xid", 'durability: "ring" costs no WAL and no xid');
	is(pending_in('postgres'), '0', 'durability: and no row of the journal');
	$other->do("SELECT persist_enqueue('u', jsonb_build_object('n', i)) FROM generate_series(1, 50) AS i");
	$other->do("SELECT persist_enqueue('t', jsonb_build_object('n', i)) FROM generate_series(1, 50) AS i");
	is(pending_in('postgres'), '100', 'durability: "journal" is a row of the journal for an UNLOGGED table');
	is(queue_value($node, 'items_pending'), '200', 'durability: all of them wait');
	{
		local $control->{InactiveDestroy} = 1;
		local $other->{InactiveDestroy} = 1;
		stop_and_start('immediate', 'durability: crash');
	}
	ok($node->poll_query_until('postgres', "SELECT $pending_sql = 0"), 'durability: after the crash the worker left nothing');
	ok(flush($node), 'durability: flushed');
	is($node->safe_psql('postgres', "SELECT count(*), max(n) FROM r"), '2|0', 'durability: "ring" has lost what was not written, and no more');
	has('postgres', 't', 1, 50, 'durability: others have lost nothing');
	has('postgres', 'u', 1, 50, 'durability: nor has "journal", though the table has');
	is($node->safe_psql('postgres', "SELECT string_agg(target::text || ' ' || durability, ', ' ORDER BY durability) FROM persist_settings"),
		'u journal, r ring', 'durability: the settings are there');

	$node->safe_psql('postgres', "SELECT persist_enqueue('r', jsonb_build_object('n', i)) FROM generate_series(1, 50) AS i");
	is(pending_in('postgres'), '0', 'durability: items are in the ring alone');
	stop_and_start('fast', 'durability: clean stop');
	ok(flush($node), 'durability: flushed');
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n), max(n) FROM r"), '52|51|50', 'durability: a clean stop loses none');
	is_deeply([ complaints($node, $from, @of_clients) ], [], 'durability: a clean log');
}

is_deeply(
	[ complaints($node, $everything_from, @of_clients, $lock_timeout, qr/client backend 42501 ERROR/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');
$node->stop;
done_testing();
