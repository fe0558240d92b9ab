
# What is parked is tried by a process of its own: it comes and goes, keeps nobody waiting but
# what is parked, and hands targets back to the worker in order.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use Parking;
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $library = "$PostgreSQL::Test::Utils::tmp_check/loop";
my $released = "$PostgreSQL::Test::Utils::tmp_check/released";

build_library('loop.c', $library);

# one worker: the retrier counts for nothing
my $node = parking_node(
	'retrier',
	'persist_pipeline.max_workers' => 1,
	'persist_pipeline.statement_timeout' => "'10min'",
	'persist_pipeline.misfit_timeout' => "'10min'");
my $retrier = "FROM pg_stat_activity WHERE backend_type = 'persist_pipeline retrier'";

# Tries of the target are counted, by process; and while `awake` is empty those of the retrier
# sleep.
my $tools = q{
	CREATE TABLE awake ();
	CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		EXECUTE format('SELECT nextval(%L)', 'public.' || TG_TABLE_NAME || CASE WHEN current_setting('application_name') LIKE '%retrier' THEN '_retrier' ELSE '_worker' END);
		WHILE current_setting('application_name') LIKE '%retrier' AND NOT EXISTS (SELECT FROM public.awake) LOOP
			PERFORM pg_sleep(0.05);
		END LOOP;
		RETURN NEW;
	END $$;
};

sub create_watched
{
	my ($database, $name) = @_;

	create_target($database, $name);
	session($database)->do("CREATE SEQUENCE ${name}_worker; CREATE SEQUENCE ${name}_retrier");
	session($database)->do("CREATE TRIGGER watch BEFORE INSERT ON $name FOR EACH ROW EXECUTE FUNCTION watch()");
	return;
}

sub tries
{
	my ($target, $process) = @_;

	return one_value(session('postgres'), "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ${target}_$process");
}

sub retrier_pid { return one_value(session($_[0] || 'postgres'), "SELECT pid $retrier AND datname = current_database()"); }

# Items that only the retrier has tried: they were paused when they came.
sub give_to_retrier
{
	my ($database, $target, $from, $to) = @_;

	enqueue_paused($database, $target, $from, $to);
	session($database)->do("SELECT persist_resume('$target')");
	return;
}

sub wait_until_it_sleeps
{
	my ($database) = @_;

	wait_for_sql(session($database), "SELECT count(*) = 1 $retrier AND datname = current_database() AND wait_event = 'PgSleep'");
	return;
}

sub others_land
{
	my ($database, $name) = @_;
	my $n = $committed{$database}{free} || 0;
	my $began = time;

	enqueue($database, 'free', $n + 1, $n + 10);
	lands($database, 'free', "$name, others");
	is_quick(time - $began, 2, "$name, others: soon");
	return;
}

sub it_leaves
{
	my ($name) = @_;

	ok(eval { wait_for_sql(session('postgres'), "SELECT NOT EXISTS (SELECT $retrier) AND bool_and(retrier_pid IS NULL AND retrier_state = 'not running') FROM persist_queue") },
		"$name: with nothing parked it leaves");
	return;
}

session('postgres')->do($tools);
create_target('postgres', 'free');
others_land('postgres', 'at first');
is(retrier_pid(), undef, 'nothing is parked: no retrier');

# ---- it comes and goes

{
	my $lock;

	create_watched('postgres', 'locked');
	session('postgres')->do("INSERT INTO awake DEFAULT VALUES");
	enqueue('postgres', 'locked', 1, 10);
	lands('postgres', 'locked', 'a lock: before');
	$lock = lock_tables('locked');
	enqueue('postgres', 'locked', 11, 30);
	is_parked('postgres', 'locked', 20, '55P03', 'a lock: parked');
	ok(eval { wait_for_sql(session('postgres'), "SELECT count(*) = 1 FROM persist_queue WHERE retrier_pid > 0 AND worker_pid > 0 AND retrier_state = 'waiting'") },
		'a lock: a retrier beside the one worker, and it waits');
	is(retrier_pid(), queue_value($node, 'retrier_pid'), 'a lock: persist_queue knows it');
	flush_returns('postgres', 0, 'a lock: persist_flush() is false');
	others_land('postgres', 'a lock');
	unlock($lock);
	lands('postgres', 'locked', 'unlocked');
	adds_up('postgres', 'unlocked');
	is(tries('locked', 'worker'), 10, 'the worker has tried nothing that was parked');
	it_leaves('unlocked');
}

# ---- it sleeps, and whatever ends it leaves its items parked

{
	my ($pid, $from);
	my $dbh = session('postgres');

	create_watched('postgres', 'sleepy');
	$dbh->do("DELETE FROM awake");
	give_to_retrier('postgres', 'sleepy', 1, 5);
	wait_until_it_sleeps('postgres');
	is($node->safe_psql('postgres', "SELECT retrier_state, retrier_target::regclass, retrier_since < now() FROM persist_queue WHERE datname = 'postgres'"),
		'writing|sleepy|t', 'it sleeps: persist_queue says at what');
	others_land('postgres', 'it sleeps');
	enqueue('postgres', 'sleepy', 6, 10);
	is_parked('postgres', 'sleepy', 10, '', 'it sleeps: later ones follow');
	is(tries('sleepy', 'worker'), 0, 'it sleeps: without a try');

	$pid = retrier_pid();
	$dbh->do("SELECT pg_terminate_backend($pid)");
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 1 $retrier AND pid <> $pid") }, 'terminated: another one comes');
	is_parked('postgres', 'sleepy', 10, '', 'terminated: all are still parked');

	# a database, and an extension, with a retrier that sleeps
	$dbh->do("CREATE DATABASE gone");
	$node->safe_psql('gone', "CREATE EXTENSION persist_pipeline; $parking_tools; $tools");
	create_watched('gone', 'sleepy');
	give_to_retrier('gone', 'sleepy', 1, 5);
	wait_until_it_sleeps('gone');
	is_quick(seconds_of(sub { session('gone')->do("DROP EXTENSION persist_pipeline") }), 4, 'DROP EXTENSION does not wait for it');
	session('gone')->do("CREATE EXTENSION persist_pipeline");
	delete $committed{gone};
	give_to_retrier('gone', 'sleepy', 1, 5);
	wait_until_it_sleeps('gone');
	session('gone')->do("SELECT persist_pause()");
	ok(eval { wait_for_sql(session('gone'), "SELECT count(*) = 1 FROM persist_queue WHERE datname = 'gone' AND worker_state IN ('paused', 'not running')") }, 'the database is paused: the worker leaves');
	session('gone')->do("INSERT INTO awake DEFAULT VALUES");
	ok(eval { wait_for_sql(session('gone'), "SELECT NOT EXISTS (SELECT $retrier AND datname = 'gone')") }, 'the database is paused: so does the retrier');
	session('gone')->do("SELECT persist_resume()");
	lands('gone', 'sleepy', 'resumed');
	session('gone')->do("DELETE FROM awake");
	give_to_retrier('gone', 'sleepy', 6, 10);
	wait_until_it_sleeps('gone');
	session('gone')->disconnect;
	is_quick(seconds_of(sub { $dbh->do("DROP DATABASE gone WITH (FORCE)") }), 4, 'DROP DATABASE does not wait for it');

	# a stop
	wait_until_it_sleeps('postgres');
	$from = log_position($node);
	forget_sessions();
	is_quick(seconds_of(sub { $node->stop('fast') }), 4, 'a stop does not wait for it');
	is_deeply([ complaints($node, $from) ], [], 'a stop: a clean log');
	$node->start;
	wait_until_it_sleeps('postgres');
	is_parked('postgres', 'sleepy', 10, '', 'a stop: all are still parked');

	# a crash of the server
	$from = log_position($node);
	$pid = retrier_pid();
	forget_sessions();
	kill 'KILL', $pid;
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $from);
	connect_when_up($node)->disconnect;
	session('postgres')->do("INSERT INTO awake DEFAULT VALUES");
	lands('postgres', 'sleepy', 'killed');
	adds_up('postgres', 'killed');
	is(tries('sleepy', 'worker'), 0, 'killed: the worker has tried none');
	it_leaves('killed');
}

# ---- it hands a target back: while its commit is open, what comes follows

{
	my $dbh = session('postgres');

	create_target('postgres', 'handed');
	$dbh->do("CREATE TABLE in_commit ()");
	$dbh->do("CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS"
		  . " 'BEGIN WHILE EXISTS (SELECT FROM public.in_commit) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN NULL; END'");
	$dbh->do("CREATE CONSTRAINT TRIGGER hang AFTER INSERT ON handed DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION hang()");
	$dbh->do("INSERT INTO in_commit DEFAULT VALUES");
	foreach my $round (0 .. 2)
	{
		my $n = 30 * $round;

		$dbh->do("INSERT INTO in_commit DEFAULT VALUES");
		give_to_retrier('postgres', 'handed', $n + 1, $n + 10);
		wait_until_it_sleeps('postgres');
		enqueue('postgres', 'handed', $n + 11, $n + 20);
		is_parked('postgres', 'handed', 20, '', "handed back, $round: what comes before its commit follows");
		$dbh->do("DELETE FROM in_commit");
		enqueue('postgres', 'handed', $n + 21, $n + 30);
		lands('postgres', 'handed', "handed back, $round");
	}
	adds_up('postgres', 'handed back');

	# under load, and parked again and again
	create_target('postgres', 'loaded');
	enqueue('postgres', 'loaded', 1, 1);
	foreach my $round (1 .. 8)
	{
		my $lock = lock_tables('loaded');

		$dbh->do("SELECT persist_enqueue('loaded', jsonb_build_object('n', ?::int))", undef, $committed{postgres}{loaded} + $_) foreach 1 .. 50;
		unlock($lock);
		$dbh->do("SELECT persist_enqueue('loaded', jsonb_build_object('n', ?::int))", undef, $committed{postgres}{loaded} + $_) foreach 51 .. 200;
		$committed{postgres}{loaded} += 200;
	}
	lands('postgres', 'loaded', 'under load');
	adds_up('postgres', 'under load');
}

# ---- targets that refer to each other, parked: they come as fast as others

{
	my $dbh = session('postgres');
	my ($lock, $began);

	$dbh->do("CREATE TABLE x (id int PRIMARY KEY, y int); CREATE TABLE y (id int PRIMARY KEY, x int REFERENCES x); ALTER TABLE x ADD FOREIGN KEY (y) REFERENCES y");
	$lock = lock_tables('x, y', 'SHARE');
	foreach my $i (1 .. 200)
	{
		$dbh->do("SELECT persist_enqueue('x', jsonb_build_object('id', $i, 'y', nullif($i - 1, 0)))");
		$dbh->do("SELECT persist_enqueue('y', jsonb_build_object('id', $i, 'x', $i))");
	}
	$committed{postgres}{$_} = 200 foreach 'x', 'y';
	is_parked('postgres', $_, 200, '', "a circle: $_ is parked") foreach 'x', 'y';
	unlock($lock);
	$began = time;
	ok(eval { wait_for_sql($dbh, "SELECT (SELECT count(*) FROM x) + (SELECT count(*) FROM y) = 400") }, 'a circle: all come');
	is_quick(time - $began, 10, 'a circle: in a few tries');
	adds_up('postgres', 'a circle');
}

# ---- an error of class 40 is believed for misfit_timeout

{
	my $dbh = session('postgres');

	set_and_reload('misfit_timeout', "'1s'");
	create_target('postgres', 'liar');
	$dbh->do("CREATE FUNCTION lie() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN IF NEW.n = 2 THEN RAISE serialization_failure; END IF; RETURN NEW; END \$\$");
	$dbh->do("CREATE TRIGGER lie BEFORE INSERT ON liar FOR EACH ROW EXECUTE FUNCTION lie()");
	enqueue('postgres', 'liar', 1, 5);
	ok(eval { wait_for_sql($dbh, "SELECT persisted = 4 AND dead = 1 FROM persist_stats WHERE target_name = 'public.liar'") }, 'raised 40001: it dies, and the others come');
	is(one_value($dbh, "SELECT string_agg(sqlstate || ' ' || (item->>'n'), ',') FROM persist_dead_letters"), '40001 2', 'raised 40001: that one, for that reason');
	adds_up('postgres', 'raised 40001');
	set_and_reload('misfit_timeout', "'10min'");
}

# ---- what goes to another server, and has hung, is left to the retrier for a while

{
	my $dbh = session('postgres');

	$dbh->do($_) foreach (
		'CREATE EXTENSION postgres_fdw',
		'CREATE TABLE far_rows (n int, ins bigint); CREATE TABLE far_gate ()',
		q{CREATE FUNCTION far_gate() RETURNS trigger LANGUAGE plpgsql AS
			'BEGIN WHILE EXISTS (SELECT FROM public.far_gate) LOOP PERFORM pg_sleep(0.02); END LOOP; RETURN NEW; END'},
		'CREATE TRIGGER far_gate BEFORE INSERT ON far_rows FOR EACH ROW EXECUTE FUNCTION far_gate()',
		"CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '" . $node->host . "', port '" . $node->port . "', dbname 'postgres')",
		'CREATE USER MAPPING FOR CURRENT_USER SERVER far',
		q{CREATE FOREIGN TABLE far (n int, ins bigint) SERVER far OPTIONS (table_name 'far_rows')},
		'CREATE SEQUENCE far_worker; CREATE SEQUENCE far_retrier',
		'CREATE TRIGGER watch BEFORE INSERT ON far FOR EACH ROW EXECUTE FUNCTION watch()',
		'INSERT INTO far_gate DEFAULT VALUES');
	set_and_reload('statement_timeout', "'2s'");
	$dbh->do("SELECT persist_enqueue('far', '{\"n\": 1}')");
	ok(eval { wait_for_sql($dbh, "SELECT parked = 1 AND parked_reason = '57014' FROM persist_stats WHERE target_name = 'public.far'") }, 'it hangs: parked');
	$dbh->do("DELETE FROM far_gate");
	ok(eval { wait_for_sql($dbh, "SELECT count(*) = 1 FROM far_rows") }, 'it hangs no longer: it comes');
	my $tried = tries('far', 'worker');

	# what dies in the commit has not been written
	$dbh->do("CREATE FUNCTION far_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.n < 0 THEN RAISE ''refused''; END IF; RETURN NULL; END'");
	$dbh->do("CREATE CONSTRAINT TRIGGER far_refuse AFTER INSERT ON far_rows DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION far_refuse()");
	foreach my $n (1 .. 11)
	{
		$dbh->do("SELECT persist_enqueue('far', '{\"n\": -1}'), persist_enqueue('far', '{\"n\": -2}')");
		ok(eval { wait_for_sql($dbh, "SELECT count(*) = 2 * $n FROM persist_dead_letters WHERE target_name = 'public.far'") }, "it has hung: two die, $n");
	}
	is(tries('far', 'worker'), $tried, 'it has hung: all of them are left to the retrier');

	foreach my $n (2 .. 20)
	{
		$dbh->do("SELECT persist_enqueue('far', '{\"n\": $n}')");
		ok(eval { wait_for_sql($dbh, "SELECT count(*) = 1 FROM far_rows WHERE n = $n") }, "it has hung: $n comes");
		is(tries('far', 'worker'), $tried, "it has hung: $n is left to the retrier") if $n < 10;
	}
	ok(tries('far', 'worker') > $tried, 'it has hung: often enough written, the worker writes to it again');
	set_and_reload('statement_timeout', "'10min'");
	$committed{postgres}{far} = 42;
	adds_up('postgres', 'it has hung');
	is(one_value($dbh, "SELECT count(*) FROM far_rows"), 20, 'it has hung: no other has died');
}

# ---- no slot

{
	my ($from, $lock);

	$node->append_conf('postgresql.conf', "max_logical_replication_workers = 0\nmax_worker_processes = 2");
	restart_with(worker_idle_timeout => "'2s'");
	$from = log_position($node);
	session('postgres')->do("SELECT persist_pause('free')");
	enqueue('postgres', 'free', $committed{postgres}{free} + 1, $committed{postgres}{free} + 10);
	is_parked('postgres', 'free', 10, '55000', 'no slot: parked');
	session('postgres')->do("SELECT persist_resume('free')");
	$node->wait_for_log(qr/no background worker slot is free for persist_pipeline/, $from);
	flush_returns('postgres', 0, 'no slot: persist_flush() is false');
	lands('postgres', 'free', 'no slot, until the worker has left');
	adds_up('postgres', 'no slot');
	is(scalar(log_since($node, $from, qr/no background worker slot is free/)), 1, 'no slot: one line');
	$node->append_conf('postgresql.conf', "max_worker_processes = 8");
	restart_with(worker_idle_timeout => "'60s'");
}

# ---- what can't be interrupted

{
	my $dbh = session('postgres');
	my $named = qr/WARNING:  persist_pipeline retrier \(PID \d+\) for database \d+ cannot be ended/;
	my $from = log_position($node);
	my ($pid, $lock);

	create_target('postgres', $_) foreach 'looping', 'waiting';
	enqueue('postgres', 'waiting', 1, 2);
	lands('postgres', 'waiting', 'before it is stuck');
	set_and_reload('statement_timeout', "'4s'");
	$dbh->do("CREATE FUNCTION loop() RETURNS trigger LANGUAGE C AS '$library', 'loop'");
	$dbh->do("CREATE TRIGGER loop BEFORE INSERT ON looping FOR EACH ROW EXECUTE FUNCTION loop('$released')");
	give_to_retrier('postgres', 'looping', 1, 2);
	ok(eval { wait_for_sql($dbh, "SELECT retrier_state = 'stuck' AND retrier_target = 'looping'::regclass FROM persist_queue WHERE datname = 'postgres'") },
		'stuck: persist_queue says so');
	$node->wait_for_log($named, $from);
	others_land('postgres', 'stuck');
	enqueue('postgres', 'looping', 3, 4);
	is_parked('postgres', 'looping', 4, '', 'stuck: its own follow');
	$lock = lock_tables('waiting');
	enqueue('postgres', 'waiting', 3, 4);
	is_parked('postgres', 'waiting', 2, '55P03', 'stuck: another one is parked');
	unlock($lock);
	others_land('postgres', 'stuck, and another one is parked');
	flush_returns('postgres', 0, 'stuck: persist_flush() is false');
	is(scalar(log_since($node, $from, $named)), 1, 'stuck: the log says so once');

	# a stop names it, too
	$from = log_position($node);
	forget_sessions();
	$pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		exec 'pg_ctl', '-D', $node->data_dir, '-m', 'fast', '-t', '120', '-w', 'stop' or die "exec: $!\n";
	}
	$node->wait_for_log($named, $from);
	append_to_file($released, '');
	waitpid $pid, 0;
	is($?, 0, 'stuck, and a stop: it ends with the code');
	$node->_update_pid(0);
	is(scalar(log_since($node, $from, $named)), 1, 'stuck, and a stop: named');
	$node->start;
	lands('postgres', $_, "stuck, restarted: $_") foreach 'looping', 'waiting';
	adds_up('postgres', 'stuck, restarted');
}

# ---- a row is damaged when the retrier has looked at the table: it is no key's any more

{
	my $dbh = session('postgres');
	my $parked = 'persist_pipeline_internal.persist_parked';
	my $lock;

	$dbh->do('CREATE TABLE damaged (i int)');
	open_guards($dbh, 'persist_parked');
	$dbh->do("SELECT persist_enqueue('damaged'::regclass, '{\"i\": 0}')");    # a first call needs a lock of its own
	$lock = lock_tables('damaged');
	$dbh->do("SELECT persist_enqueue('damaged'::regclass, jsonb_build_object('i', i)) FROM generate_series(1, 3) AS i");
	wait_for_sql($dbh, "SELECT items_parked = 3 AND retrier_state = 'waiting' FROM persist_queue WHERE datname = 'postgres'");
	is($dbh->do("UPDATE $parked SET role = 0 WHERE (pos, part) = (SELECT pos, part FROM $parked ORDER BY 1 DESC, 2 DESC LIMIT 1)"), 1, 'damaged: one of three');
	unlock($lock);
	it_leaves('damaged');
	is(one_value($dbh, 'SELECT array_agg(i ORDER BY i)::text FROM damaged'), '{0,1,2}', 'damaged: the others land');
	is(one_value($dbh, "SELECT count(*) FROM $parked"), 0, 'damaged: it is not parked for ever');
	is(one_value($dbh, "SELECT format('%s %s', items_copied, items_pending) FROM persist_queue WHERE datname = 'postgres'"), '1 0', 'damaged: it is put aside, and counted');
	is(one_value($dbh, 'SELECT persist_discard()'), 1, 'damaged: and can be discarded');
	$dbh->do("ALTER TABLE $parked ENABLE TRIGGER USER");
}

is_clean_log(
	qr/client backend 57014 ERROR:  canceling statement due to user request/,    # of the far server, by ours
	qr/persist_pipeline retrier 57P01 FATAL:  terminating background worker/,
	qr/persist_pipeline retrier XX001 WARNING:  items, enqueued as number \d+, could not be read: their row is damaged/,
	qr/persist_pipeline retrier 01000 WARNING:  persist_pipeline retrier .* cannot be ended/,
	qr/persist_pipeline launcher 01000 WARNING:  persist_pipeline retrier .* cannot be ended/,
	qr/client backend P0001 ERROR:  refused/,    # of the far server
	qr/persist_pipeline retrier P0001 WARNING:  (?:item \d+|\d+ items) for relation/,
	qr/persist_pipeline retrier 40001 WARNING:  item \d+ for relation "public.liar"/);
forget_sessions();
$node->stop;
done_testing();
