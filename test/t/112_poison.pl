
# An item whose insert ends the server: a trigger calls C code that does so for a
# marked row.  It may do it twice (or some times more, if it kills its process like
# anybody could); then the item is a dead letter, and everything else has landed once.
# What ends the server through no fault of the items makes no dead letters.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = pp_node(
	'poison',
	'persist_pipeline.flush_interval' => "'5ms'",
	'persist_pipeline.lock_timeout' => "'50ms'",
	restart_after_crash => 'on');
my $everything_from = log_position($node);
my $library = $node->basedir . '/crash';

# ---- the code that crashes

build_library('crash.c', $library);

$node->safe_psql(
	'postgres', qq{
	CREATE FUNCTION crash() RETURNS trigger LANGUAGE C AS '$library', 'crash';
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
	\$\$ BEGIN RAISE lock_not_available; END \$\$;
	CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
	\$\$ BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END \$\$;

	-- t: the one with the bad code; o: another; at_commit: the code runs in the commit;
	-- refused: always parked; slow: takes its time; held: waits; some of it ends its worker, once
	CREATE TABLE t (run text, n int, how text);
	CREATE TABLE o (run text, n int, how text);
	CREATE TABLE at_commit (run text, n int, how text);
	CREATE TYPE bomb;
	CREATE FUNCTION bomb_in(cstring) RETURNS bomb LANGUAGE C IMMUTABLE STRICT AS '$library', 'bomb_in';
	CREATE FUNCTION bomb_out(bomb) RETURNS cstring LANGUAGE C IMMUTABLE STRICT AS '$library', 'bomb_out';
	CREATE TYPE bomb (INPUT = bomb_in, OUTPUT = bomb_out, LIKE = int4);
	CREATE TABLE bombs (n int, how text, bomb bomb);
	CREATE TRIGGER crash BEFORE INSERT ON bombs FOR EACH ROW EXECUTE FUNCTION crash();
	CREATE TABLE refused (run text, n int, how text);
	CREATE TABLE slow (run text, n int, how text);
	CREATE TABLE held (run text, n int, how text);
	CREATE TABLE released ();
	CREATE SEQUENCE ends;
	CREATE SEQUENCE waits;
	CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		IF NEW.how = 'end' AND nextval('public.ends') = 1 THEN
			PERFORM set_config('exit_on_error', 'on', false);
			RAISE 'the end';
		END IF;
		IF NEW.how = 'wait' THEN
			PERFORM nextval('public.waits');
		END IF;
		WHILE NEW.how IN ('wait', 'end') AND NOT EXISTS (SELECT FROM public.released) LOOP
			PERFORM pg_sleep(0.02);
		END LOOP;
		NEW.how := '';
		RETURN NEW;
	END \$\$;
	CREATE TRIGGER hold BEFORE INSERT ON held FOR EACH ROW EXECUTE FUNCTION hold();
	SELECT persist_configure('held', durability => 'ring');
	CREATE TRIGGER crash BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION crash();
	CREATE CONSTRAINT TRIGGER crash AFTER INSERT ON at_commit DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION crash();
	CREATE TRIGGER refuse BEFORE INSERT ON refused FOR EACH ROW EXECUTE FUNCTION refuse();
	CREATE TRIGGER dawdle BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION dawdle();
	CREATE VIEW landed AS
	SELECT 't' AS target, * FROM t UNION ALL SELECT 'o', * FROM o
	UNION ALL SELECT 'at_commit', * FROM at_commit UNION ALL SELECT 'slow', * FROM slow
	UNION ALL SELECT 'held', * FROM held;
});

# Wait until all of a run have landed or died; false if that takes too long.
sub wait_until_settled
{
	my ($run, $items) = @_;

	return eval {
		wait_until(
			"$run: settled",
			sub {
				my $dbh = connect_if_up($node) or return;
				my $settled = one_value($dbh,
					"SELECT (SELECT count(*) FROM landed WHERE run = ?) + (SELECT count(*) FROM persist_dead_letters WHERE item->>'run' = ?)",
					$run, $run);

				return defined $settled && $settled >= $items;
			});
		1;
	} || 0;
}

# How often has one of our processes ended by itself since?
sub crashes_since
{
	my ($from) = @_;

	return scalar log_since($node, $from, qr/LOG:  background worker "persist_pipeline (?:worker|retrier).*(was terminated by signal|exited with exit code 0)/);
}

# Enqueue rows of a run, in this session: [target, n, how], ...  Returns the ids.
sub enqueue
{
	my ($dbh, $run, @rows) = @_;

	return map {
		one_value($dbh, "SELECT persist_enqueue(?::regclass, jsonb_build_object('run', ?::text, 'n', ?::int, 'how', ?::text))",
			$_->[0], $run, $_->[1], $_->[2])
	} @rows;
}

# Rows $from .. $to for each of the targets.
sub rows
{
	my ($from, $to, @targets) = @_;

	return map { my $n = $_; map { [ $_, $n, '' ] } @targets } $from .. $to;
}

# Run what lets the worker at the items: it may crash before the answer is here.
sub let_go
{
	my ($dbh, $sql) = @_;

	eval { $dbh->do($sql); $dbh->disconnect; 1 } or $dbh->{InactiveDestroy} = 1;
	return;
}

# What a run has come to: of so many items, these are letters, all others have landed, and the
# server has crashed so often at most.
sub check_run
{
	my ($run, $from, $items, $most_crashes, %letters) = @_;
	my $all = wait_until_settled($run, $items);
	my $crashes = crashes_since($from);
	my $letters = keys %letters;

	ok($all, "$run: settled");

	cmp_ok($crashes, '<=', $most_crashes, "$run: it doesn't crash more often");
	note "$run: $crashes crashes";
	if (!$all)
	{
		# don't let it spoil the others
		my $is_over = wait_until("$run: mended", sub {
			my $dbh = connect_if_up($node) or return;
			return try_sql($dbh, "DROP TRIGGER IF EXISTS crash ON t; DROP TRIGGER IF EXISTS crash ON at_commit") eq '00000' });
		wait_until_settled($run, $items);
		$node->safe_psql('postgres', "CREATE TRIGGER crash BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION crash();
			CREATE CONSTRAINT TRIGGER crash AFTER INSERT ON at_commit DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION crash()");
	}

	my $dbh = connect_if_up($node);

	$dbh->{RaiseError} = 1;
	is_deeply(
		$dbh->selectall_arrayref(
			"SELECT id, target_name, item->>'n', item->>'how', sqlstate FROM persist_dead_letters WHERE item->>'run' = ? ORDER BY id", undef, $run),
		[ map { [ $_, @{$letters{$_}}, 'XX000' ] } sort { $a <=> $b } keys %letters ],
		"$run: $letters of them are letters, with id and values");
	is_deeply(
		$dbh->selectrow_arrayref("SELECT count(*), count(DISTINCT (target, n)) FROM landed WHERE run = ?", undef, $run),
		[ $items - $letters, $items - $letters ],
		"$run: all others have landed, once");
	is(one_value($dbh, "SELECT count(*) FROM landed WHERE run = ? AND how <> ''", $run), 0, "$run: and no bad one");
	# the rows are there before the counters know it
	my $waiting = "FROM persist_stats WHERE pending <> 0 AND target_name <> 'public.refused'";
	ok(eval { wait_for_sql($dbh, "SELECT NOT EXISTS (SELECT $waiting)") }, "$run: nothing waits")
	  or diag explain $dbh->selectall_arrayref("SELECT target, pending $waiting");

	# it stays up
	my ($pid, $postmaster) = (one_value($dbh, "SELECT pg_backend_pid()"), one_value($dbh, "SELECT pg_postmaster_start_time()"));
	enqueue($dbh, "$run after", rows(1, 50, 't', 'o'));
	ok(wait_until_settled("$run after", 100), "$run: the pipeline works");
	ok($dbh->ping, "$run: the server is up");
	is(crashes_since($from), $crashes, "$run: and stays so");
	discard_all($dbh);
	$dbh->disconnect;
	return;
}

# ---- in the middle of a transaction, with other targets' rows around it

foreach my $how ('abort', 'null', 'kill', 'exit')
{
	my $from = log_position($node);
	my $dbh = connect_to($node);

	enqueue($dbh, $how, rows(1, 5, 'o'));
	$dbh->begin_work;
	enqueue($dbh, $how, rows(101, 150, 't', 'o'));
	my ($id) = enqueue($dbh, $how, [ 't', 0, $how ]);
	enqueue($dbh, $how, rows(151, 199, 't', 'o'), [ 'o', 200, '' ]);
	let_go($dbh, 'COMMIT');
	check_run($how, $from, 205, $how =~ /kill|exit/ ? 5 : 2, $id => [ 'public.t', 0, $how ]);
}

# ---- in the commit of the batch, by a deferred trigger

{
	my $from = log_position($node);
	my $dbh = connect_to($node);

	$dbh->begin_work;
	enqueue($dbh, 'commit', rows(1, 50, 'at_commit', 'o'));
	my ($id) = enqueue($dbh, 'commit', [ 'at_commit', 0, 'abort' ]);
	enqueue($dbh, 'commit', rows(51, 100, 'at_commit', 'o'));
	let_go($dbh, 'COMMIT');
	check_run('commit', $from, 201, 2, $id => [ 'public.at_commit', 0, 'abort' ]);
}

# ---- transactions of one row, in large batches and in batches of one

foreach my $batch_size (10000, 1)
{
	my $run = "batches of $batch_size";
	my $id;

	$node->append_conf('postgresql.conf', "persist_pipeline.batch_size = $batch_size\npersist_pipeline.flush_interval = '200ms'");
	$node->reload;
	my $from = log_position($node);
	my $dbh = connect_to($node);

	$dbh->do("SELECT persist_pause()");
	enqueue($dbh, $run, rows(1, 100, 't', 'o'));
	($id) = enqueue($dbh, $run, [ 't', 0, 'abort' ]);
	enqueue($dbh, $run, rows(101, 200, 't', 'o'));
	let_go($dbh, 'SELECT persist_resume()');
	check_run($run, $from, 401, 2, $id => [ 'public.t', 0, 'abort' ]);
}
$node->append_conf('postgresql.conf', "persist_pipeline.batch_size = 10000\npersist_pipeline.flush_interval = '5ms'");
$node->reload;

# ---- two of them, in one transaction and in two

foreach my $run ('two in one', 'two in two')
{
	my $from = log_position($node);
	my $dbh = connect_to($node);
	my @ids;

	$dbh->do("SELECT persist_pause()");
	$dbh->begin_work;
	enqueue($dbh, $run, rows(1, 50, 't', 'o'));
	push @ids, enqueue($dbh, $run, [ 't', -1, 'abort' ]);
	if ($run eq 'two in two')
	{
		$dbh->commit;
		$dbh->begin_work;
	}
	enqueue($dbh, $run, rows(51, 100, 't', 'o'));
	push @ids, enqueue($dbh, $run, [ 't', -2, 'null' ]);
	enqueue($dbh, $run, rows(101, 150, 't', 'o'));
	$dbh->commit;
	let_go($dbh, 'SELECT persist_resume()');
	check_run($run, $from, 302, 4, $ids[0] => [ 'public.t', -1, 'abort' ], $ids[1] => [ 'public.t', -2, 'null' ]);
}

# ---- among items that are parked, with another target's beside them

{
	my $from = log_position($node);
	my $locker = connect_to($node);
	my $dbh = connect_to($node);

	$locker->begin_work;
	$locker->do("LOCK TABLE t, o IN EXCLUSIVE MODE");
	enqueue($dbh, 'parked', rows(1, 50, 'o', 't'));
	my ($id) = enqueue($dbh, 'parked', [ 't', 0, 'abort' ]);
	enqueue($dbh, 'parked', rows(51, 100, 't', 'o'));
	ok($node->poll_query_until('postgres', "SELECT sum(parked) = 201 FROM persist_stats"), 'parked: they are');
	$dbh->disconnect;
	let_go($locker, 'ROLLBACK');
	check_run('parked', $from, 201, 2, $id => [ 'public.t', 0, 'abort' ]);
}

# ---- while others are parked, and stay so

{
	my $from = log_position($node);
	my $dbh = connect_to($node);

	enqueue($dbh, 'beside parked', rows(1, 20, 'refused'));
	ok($node->poll_query_until('postgres', "SELECT sum(parked) = 20 FROM persist_stats"), 'beside parked: they are');
	$dbh->begin_work;
	enqueue($dbh, 'beside parked', rows(1, 50, 't', 'o'));
	my ($id) = enqueue($dbh, 'beside parked', [ 't', 0, 'abort' ]);
	enqueue($dbh, 'beside parked', rows(51, 100, 't', 'o'));
	let_go($dbh, 'COMMIT');
	check_run('beside parked', $from, 201, 2, $id => [ 'public.t', 0, 'abort' ]);
}

# both are parked
{
	my $from = log_position($node);
	my $locker = connect_to($node);
	my $dbh = connect_to($node);

	$locker->begin_work;
	$locker->do("LOCK TABLE t IN EXCLUSIVE MODE");
	enqueue($dbh, 'parked beside parked', rows(1, 50, 't'));
	my ($id) = enqueue($dbh, 'parked beside parked', [ 't', 0, 'abort' ]);
	enqueue($dbh, 'parked beside parked', rows(51, 100, 't'));
	ok($node->poll_query_until('postgres', "SELECT sum(parked) = 121 FROM persist_stats"), 'parked beside parked: they are');
	$dbh->disconnect;
	let_go($locker, 'ROLLBACK');
	check_run('parked beside parked', $from, 101, 2, $id => [ 'public.t', 0, 'abort' ]);
}
$node->safe_psql('postgres', "DROP TRIGGER refuse ON refused");
ok($node->poll_query_until('postgres', "SELECT count(*) = 20 FROM refused"), 'what was parked all the time has landed');

# ---- what can't be shown either: its letter has no values

{
	my $from = log_position($node);
	my $dbh = connect_to($node);

	$dbh->begin_work;
	enqueue($dbh, 'unshown', rows(1, 20, 't', 'o'));
	my $id = one_value($dbh, q{SELECT persist_enqueue('bombs', '{"n": 1, "how": "abort", "bomb": "13"}')});
	enqueue($dbh, 'unshown', rows(21, 40, 't', 'o'));
	let_go($dbh, 'COMMIT');
	ok(wait_until_settled('unshown', 80), 'unshown: others have landed');
	wait_until('unshown: dead', sub { my $session = connect_if_up($node) or return; return one_value($session, "SELECT count(*) FROM persist_dead_letters") });
	cmp_ok(crashes_since($from), '<=', 3, 'unshown: it crashes the server once more');
	$dbh = connect_if_up($node);
	is_deeply(
		$dbh->selectall_arrayref("SELECT id, target_name, item, sqlstate, data IS NULL FROM persist_dead_letters"),
		[ [ $id, 'public.bombs', undef, 'XX000', 0 ] ],
		'unshown: a letter without values');
	ok(eval { wait_for_sql($dbh, 'SELECT sum(pending) = 0 FROM persist_stats') }, 'unshown: nothing waits');
	$dbh->do("DROP TRIGGER crash ON bombs");
	is(one_value($dbh, "SELECT persist_requeue()"), 1, 'unshown: sent again');
	is(one_value($dbh, "SELECT persist_flush()"), 1, 'unshown: flushed');
	is(one_value($dbh, "SELECT count(*) FROM bombs"), 1, 'unshown: it lands, when the trigger is mended');
	$dbh->disconnect;
}

# ---- the server doesn't start again by itself

# The item may end it again before Cluster's start() has seen that it is up; that would break off
# all tests.
sub start_for_a_while
{
	my $is_up = system_log('pg_ctl', '-w', '-D', $node->data_dir, '-l', $node->logfile, 'start') == 0;

	$node->_update_pid(-1);
	return $is_up;
}

{
	my $from = log_position($node);
	my $crashes = 0;

	$node->append_conf('postgresql.conf', "restart_after_crash = off");
	$node->reload;
	my $dbh = connect_to($node);

	$dbh->begin_work;
	enqueue($dbh, 'by hand', rows(1, 50, 't', 'o'));
	my ($id) = enqueue($dbh, 'by hand', [ 't', 0, 'abort' ]);
	enqueue($dbh, 'by hand', rows(51, 100, 't', 'o'));
	let_go($dbh, 'COMMIT');
	while ($crashes < 6)
	{
		my $up = wait_until('by hand: settled, or down', sub {
			return 'down' if !-e $node->data_dir . '/postmaster.pid';
			my $session = connect_if_up($node) or return;
			my $letters = one_value($session, "SELECT count(*) FROM persist_dead_letters");
			return defined $letters && $letters > 0 ? 'settled' : 0;
		});

		last if $up eq 'settled';
		$crashes++;
		$node->_update_pid(0);
		wait_until('by hand: it starts', \&start_for_a_while);
	}
	$node->append_conf('postgresql.conf', "restart_after_crash = on");
	$node->reload;
	check_run('by hand', $from, 201, 2, $id => [ 'public.t', 0, 'abort' ]);
}

# ---- nobody's fault: others crash, and immediate stops, while a batch is being written

my $innocent;    # the run
my $items;    # of it

sub enqueue_innocent
{
	my ($dbh, @rows) = @_;

	$items += enqueue($dbh, $innocent, @rows);
	return;
}

sub wait_for_batch
{
	my $dbh;

	wait_until('a batch is being written', sub {
		$dbh = connect_if_up($node) if !$dbh || !$dbh->ping;
		return if !$dbh;
		# on a busy machine all may have been written before somebody looks
		my $pending = one_value($dbh, "SELECT pending FROM persist_stats WHERE target_name = 'public.slow'");
		enqueue_innocent($dbh, rows($items + 1, $items + 100, 'slow')) if defined $pending && $pending == 0;
		return one_value($dbh, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker' AND wait_event = 'PgSleep'");
	});
	usleep(rand 100_000);
	return $dbh;
}

my %innocent = (
	'backend killed' => sub {
		my $dbh = wait_for_batch();
		my $from = log_position($node);

		kill 'KILL', $dbh->{pg_pid};
		$dbh->{InactiveDestroy} = 1;
		$node->wait_for_log(qr/all server processes terminated; reinitializing/, $from);
	},
	'immediate stop' => sub {
		my $dbh = wait_for_batch();

		$dbh->disconnect;
		$node->stop('immediate');
		$node->start;
	},
	'worker killed' => sub { kill_worker('KILL') },
	'worker aborted by another' => sub { kill_worker('ABRT') });

sub kill_worker
{
	my ($signal) = @_;
	my $dbh = wait_for_batch();
	my $from = log_position($node);

	kill $signal, one_value($dbh, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker'");
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $from);
	return;
}

foreach my $run (sort keys %innocent)
{
	my $from = log_position($node);
	my $times = $run =~ /killed/ ? 3 : 5;    # so many in a row might look like an item's doing
	my $dbh = connect_to($node);

	# transactions of one row, and one of many
	($innocent, $items) = ($run, 0);
	enqueue_innocent($dbh, rows(1, 100, 'slow'));
	$dbh->begin_work;
	enqueue_innocent($dbh, rows(101, 140, 'slow', 'o'));
	$dbh->commit;
	$dbh->disconnect;
	$innocent{$run}->() foreach 1 .. $times;

	# between two transactions it has tried nothing
	cmp_ok(scalar(@{[ log_since($node, $from, qr/a worker of persist_pipeline has ended while it wrote a batch/) ]}), '<=', $run =~ /worker killed/ ? $times : 0, "$run: was it the worker?");
	check_run($run, $from, $items, $run =~ /worker/ ? $times : 0);
}

# ---- cancelled by a person, while it inserts an item

{
	my $from = log_position($node);
	my $dbh = connect_to($node);

	enqueue($dbh, 'cancelled', [ 'held', 1, 'wait' ]);
	foreach my $try (1, 2)
	{
		ok(eval { wait_for_sql($dbh, "SELECT is_called AND last_value = $try FROM waits") }, "cancelled: try $try");
		$dbh->do("SELECT pg_cancel_backend(worker_pid) FROM persist_queue");
	}
	ok(eval { wait_for_sql($dbh, "SELECT last_value = 3 FROM waits") }, 'cancelled: it is not at fault');
	$dbh->do("INSERT INTO released DEFAULT VALUES");
	check_run('cancelled', $from, 1, 0);
	$dbh->do("TRUNCATE released");
	$dbh->disconnect;
}

# ---- where no commit is flushed to disk before it has to: what has become of suspects is

sub wait_and_crash
{
	my ($run, $sql) = @_;

	wait_until("$run: waits", sub { my $dbh = connect_if_up($node) or return; return one_value($dbh, $sql) });
	$node->stop('immediate');
	$node->start;
	$node->safe_psql('postgres', "INSERT INTO released DEFAULT VALUES");
	return;
}

$node->append_conf('postgresql.conf', "synchronous_commit = off\nwal_writer_delay = '10s'");
$node->reload;

# a culprit's letter
{
	my $from = log_position($node);
	my $dbh = connect_to($node);

	$dbh->do("SET synchronous_commit = on");
	$dbh->begin_work;
	my ($id) = enqueue($dbh, 'flushed letter', [ 't', 0, 'abort' ]);
	enqueue($dbh, 'flushed letter', [ 'held', 1, 'wait' ], rows(2, 11, 't'));
	let_go($dbh, 'COMMIT');
	wait_and_crash('flushed letter', "SELECT count(*) = 1 FROM persist_dead_letters");
	check_run('flushed letter', $from, 12, 2, $id => [ 'public.t', 0, 'abort' ]);
}

# what was in the ring alone, and has been divided
{
	my $from = log_position($node);
	my $dbh = connect_to($node);

	$dbh->do("TRUNCATE released");
	is(one_value($dbh, "SELECT persist_flush()"), 1, 'flushed division: flushed');
	$dbh->begin_work;
	enqueue($dbh, 'flushed division', [ 'held', 1, 'end' ], rows(2, 10, 'held'));
	let_go($dbh, 'COMMIT');
	wait_and_crash('flushed division',
		'SELECT count(*) = 10 FROM (' . join(' UNION ALL ', map { "SELECT FROM persist_pipeline_internal.persist_journal_$_" } 1 .. 3) . ') AS j');
	check_run('flushed division', $from, 10, 0);
}

# a retrier that was ended with the server has left its note: the next one takes that over
{
	my $dbh = connect_to($node);

	$dbh->do("SELECT persist_pause('o')");
	$dbh->do(q{SELECT persist_enqueue('o'::regclass, '{"run": "parked at last"}')});
	ok(eval { wait_for_sql($dbh, "SELECT parked = 1 FROM persist_stats WHERE target = 'o'::regclass") }, 'parked at last');
	$dbh->do("SELECT persist_resume('o')");
	ok(eval { wait_for_sql($dbh, "SELECT retrier_pid IS NULL AND NOT EXISTS (SELECT FROM persist_parked) FROM persist_queue WHERE datname = current_database()") },
		'parked at last: a retrier has come and gone');
	is(one_value($dbh, "SELECT count(*) FROM o WHERE run = 'parked at last'"), 1, 'parked at last: it is there');
	$dbh->disconnect;
}

is_deeply(
	[
		complaints(
			$node, $everything_from,
			qr/WARNING:  terminating connection because of crash of another server process/,
			qr/57P0[123] FATAL/,
			qr/persist_pipeline (?:worker|retrier) P0001 FATAL:  the end/,
			qr/persist_pipeline (?:worker|retrier) XX000 WARNING:  .* could not be inserted/,
			qr/persist_pipeline worker .* WARNING:  .* dead letter/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
is_deeply([ glob $node->data_dir . '/pg_stat_tmp/persist_pipeline.*' ], [], 'a worker that leaves in good order leaves no note');
done_testing();
