# durability "auto": what a transaction commits asynchronously, that has written nothing, is in
# the ring alone, and only so long: what persist_queue doesn't show to be at risk survives a
# crash, whatever the worker is at.  All else is in the journal.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use File::Temp qw(tempdir);
use Time::HiRes qw(time usleep);

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pp_node(
	'window',
	'persist_pipeline.adaptive_flush' => 'off',
	'persist_pipeline.misfit_timeout' => 0,
	'persist_pipeline.statement_timeout' => "'10min'",
	'persist_pipeline.transaction_buffer' => "'64kB'",
	autovacuum => 'off',
	restart_after_crash => 'on');

$node->safe_psql(
	'postgres', q{
	CREATE TABLE t (run text, n int);
	CREATE UNLOGGED TABLE u (run text, n int);
	CREATE TABLE j (run text, n int);
	CREATE TABLE r (run text, n int);
	SELECT persist_configure('j', durability => 'journal');
	SELECT persist_configure('r', durability => 'ring');
	CREATE TABLE parent (n int PRIMARY KEY);
	CREATE TABLE child (n int REFERENCES parent);
	CREATE TABLE locked (n int);
	CREATE TABLE patient (n int, patience interval);
	CREATE FUNCTION be_patient() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.patience = current_setting('lock_timeout'); RETURN NEW; END $$;
	CREATE TRIGGER patience BEFORE INSERT ON patient FOR EACH ROW EXECUTE FUNCTION be_patient();
	CREATE TABLE serials (id serial, n int);
	CREATE TABLE identities (n int, id bigint GENERATED ALWAYS AS IDENTITY);
	CREATE TABLE written (n int);
	CREATE SEQUENCE own;
	CREATE FUNCTION choose() RETURNS regclass LANGUAGE plpgsql AS 'BEGIN INSERT INTO written VALUES (1); RETURN ''own''; END';
	CREATE TABLE chosen (id bigint DEFAULT nextval(choose()), n int);
} . $slow_target);

my $control;

sub begin
{
	$control = connect_to($node);
	return;
}

sub enqueue
{
	my ($dbh, $table, $run, $n) = @_;

	$dbh->do("SELECT persist_enqueue(?::regclass, jsonb_build_object('run', ?::text, 'n', ?::int))", undef, $table, $run, $n);
	return;
}

sub queue { return one_value($control, "SELECT $_[0] FROM persist_queue WHERE datname = 'postgres'"); }
sub wait_for { return wait_for_sql($control, "SELECT $_[0] FROM persist_queue WHERE datname = 'postgres'"); }

# A worker attends the ring, and has nothing to do.
sub settle
{
	$control->do("SELECT persist_enqueue('t', '{\"run\": \"settle\"}')");
	one_value($control, "SELECT persist_flush('300 s')") or die 'not flushed';
	wait_for("worker_state = 'idle' AND items_pending = 0");
	return;
}

sub kill_worker
{
	my $from = log_position($node);
	my $pid = queue('worker_pid');
	my $at = time;

	kill 'KILL', $pid;
	$control->{RaiseError} = 0;
	$control->disconnect;
	$node->wait_for_log(qr/all server processes terminated; reinitializing/, $from);
	$control = connect_when_up($node);
	return $at;
}

begin();
settle();

# ---- what goes where

{
	my $dbh = connect_to($node);
	my $big = "SELECT count(persist_enqueue('t', jsonb_build_object('run', repeat('x', 1000)))) FROM generate_series(1, 200)";
	# nextval() logs its sequence at one call of 32
	my %logged = map { $_ => "SELECT count(persist_enqueue('$_', '{\"n\": 1}')) FROM generate_series(1, 33)" } qw(serials identities);
	my @cases = (
		[ 'off', 'off', 't', 'ring' ],
		[ 'on', 'on', 't', 'journal' ],
		[ 'local', 'local', 't', 'journal' ],
		[ 'off, and it has written', 'off', 't', 'journal', before => 'SELECT pg_current_xact_id()' ],
		[ 'off, and its default has logged a sequence', 'off', 't', 'ring', before => "$logged{serials}" ],
		[ 'the same, of an identity column', 'off', 't', 'ring', before => "$logged{identities}" ],
		[ 'the same, and it has written after that', 'off', 't', 'journal', before => "$logged{serials}; INSERT INTO written VALUES (1)" ],
		[ 'the same, before that', 'off', 't', 'journal', before => "INSERT INTO written VALUES (1); $logged{serials}" ],
		[ 'the same, between two', 'off', 't', 'journal', before => "$logged{serials}; INSERT INTO written VALUES (1); $logged{identities}" ],
		[ 'off, and its default has written, to choose a sequence', 'off', 't', 'journal', before => "SELECT persist_enqueue('chosen', '{\"n\": 1}')" ],
		[ 'off, and it has called nextval() itself', 'off', 't', 'journal', before => q{SELECT nextval('own') FROM generate_series(1, 33)} ],
		[ 'off, and its savepoint has written', 'off', 't', 'journal', before => 'SAVEPOINT s; CREATE TEMPORARY TABLE gone (); ROLLBACK TO s' ],
		[ 'off by SET LOCAL', 'on', 't', 'ring', before => 'SET LOCAL synchronous_commit = off' ],
		[ 'off, and more than the memory holds', 'off', 't', 'journal', before => $big ],
		[ 'off, with an UNLOGGED table', 'off', 't', 'ring', before => "SELECT persist_enqueue('u', '{\"n\": 1}')" ],
		[ 'on, with an UNLOGGED table', 'on', 't', 'journal', before => "SELECT persist_enqueue('u', '{\"n\": 1}')" ],
		[ 'off, with durability "journal"', 'off', 't', 'journal', before => "SELECT persist_enqueue('j', '{\"n\": 1}')" ],
		[ 'off, with durability "ring"', 'off', 't', 'ring', before => "SELECT persist_enqueue('r', '{\"n\": 1}')" ],
		[ 'durability "journal"', 'off', 'j', 'journal' ],
		[ 'durability "ring", on', 'on', 'r', 'ring' ],
		[ 'durability "ring", it has written', 'on', 'r', 'ring', before => 'SELECT pg_current_xact_id()' ],
		[ 'an UNLOGGED table', 'on', 'u', 'nothing at risk' ],
		[ 'an UNLOGGED table, off', 'off', 'u', 'nothing at risk' ],
		[ 'not transactional', 'on', 't', 'ring', transactional => 'false' ],
		[ 'no window', 'off', 't', 'journal', window => '0' ],
	);

	change_setting($control, 'flush_interval', '1h');
	foreach my $case (@cases)
	{
		my ($name, $sync, $table, $where, %with) = @$case;
		my ($xid, $found);

		if (defined $with{window})
		{
			change_setting($control, 'ring_window', $with{window});
			wait_for_sql($dbh, "SELECT current_setting('persist_pipeline.ring_window') = '$with{window}'");
		}
		$dbh->do("SET synchronous_commit = $sync");
		$dbh->begin_work;
		$dbh->do($with{before}) if $with{before};
		$dbh->do("SELECT persist_enqueue('$table', '{\"n\": 1}', transactional => " . ($with{transactional} || 'true') . ')');
		$xid = one_value($dbh, 'SELECT pg_current_xact_id_if_assigned()');
		$dbh->commit;
		wait_for('items_pending > 0');
		$found = queue('journal_bytes') > 0 ? 'journal' : queue('at_risk_since IS NULL') ? 'nothing at risk' : 'ring';
		is($found, $where, "$name: $where");
		ok(defined $xid, "$name: it had an xid") if $name =~ /logged a sequence|the same/;
		is(queue('at_risk_since BETWEEN now() - interval \'1 min\' AND clock_timestamp()'), 1, "$name: since just now") if $where eq 'ring';
		is(queue('at_risk_since'), undef, "$name: so nothing is at risk") if $where eq 'journal';
		one_value($control, "SELECT persist_flush('300 s')") or die 'not flushed';
		is(queue('at_risk_since'), undef, "$name: nothing is at risk when it has been flushed");
		change_setting($control, 'ring_window', '600ms') if defined $with{window};
	}

	# the oldest of several
	$dbh->do('SET synchronous_commit = off');
	enqueue($dbh, 'r', 'oldest', 1);
	my $oldest = queue('at_risk_since');
	enqueue($dbh, 't', 'oldest', $_) foreach 2 .. 5;
	is(one_value($control, "SELECT abs(extract(epoch FROM at_risk_since - '$oldest'::timestamptz)) < 0.01 FROM persist_queue WHERE datname = 'postgres'"),
		1, 'it is the oldest one that is told');
	settle();
	$dbh->do("SELECT persist_enqueue('t', '{\"n\": 1}')");
	isnt(queue('at_risk_since'), undef, 'the worker is there: the ring alone');
	is($node->safe_psql('postgres', "SELECT count(*) FROM t WHERE run = 'oldest'"), '4', 'what was at risk is there');

	# without a worker: the journal
	$control->do('SELECT persist_pause()');
	wait_for("worker_state = 'paused'");
	is(queue('at_risk_since'), undef, 'a pause: the worker that leaves has saved it');
	$dbh->do("SELECT persist_enqueue('t', '{\"n\": 1}')");
	is(queue('at_risk_since'), undef, 'a pause: without a worker it is in the journal');
	change_setting($control, 'flush_interval', '100ms'); # for the pass that comes then
	$control->do('SELECT persist_resume()');
	$dbh->disconnect;
	settle();
}

# ---- what a flush has settled, no crash takes: the worker's commit is on disk

sub one_is_settled
{
	my ($name, $wait) = @_;
	my $dbh;

	$node->append_conf('postgresql.conf', "wal_writer_delay = '10s'");
	$node->reload;
	change_setting($control, 'flush_interval', '10ms');
	settle();
	wait_for_sql($control, "SELECT current_setting('wal_writer_delay') = '10s'");
	$dbh = connect_to($node);
	$dbh->do('SET synchronous_commit = off');
	foreach my $n (1 .. 20)
	{
		enqueue($dbh, 't', $name, $n);
		$wait->();
	}
	kill_worker();
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT n) FROM t WHERE run = '$name'"), '20|20', "$name: all of it is there, once");
	$node->append_conf('postgresql.conf', "wal_writer_delay = '200ms'");
	$node->reload;
	return;
}

one_is_settled('no longer at risk', sub { wait_for('items_pending = 0 AND at_risk_since IS NULL') });
one_is_settled('flushed', sub { one_value($control, "SELECT persist_flush('300 s')") or die 'not flushed' });

# ---- clients that call all the time, and note what has been acknowledged, and when

my $dir = tempdir(CLEANUP => 1);

sub file_of { return "$dir/" . $_[0] =~ s/\W+/_/gr; }

sub start_clients
{
	my ($run, $n, $sync, $pause) = @_;

	return in_children(
		$n,
		sub {
			my ($client) = @_;
			my $dbh = connect_to($node);
			my $call = "SELECT persist_enqueue('t', jsonb_build_object('run', '$run', 'n', ?::int))";
			my $i = $client * 1_000_000;

			open my $acks, '>', file_of($run) . ".$client" or die $!;
			$acks->autoflush(1);
			$dbh->do("SET synchronous_commit = $sync");
			while (try_sql($dbh, $call, ++$i) eq '00000')
			{
				printf $acks "%d %.6f\n", $i, time;
				usleep($pause) if $pause;
			}
		});
}

# What was acknowledged: when, by its number.
sub acknowledged
{
	my ($run) = @_;
	my %when;

	foreach my $file (glob file_of($run) . '.*')
	{
		my $acks = slurp_file($file);

		$when{$1} = $2 while $acks =~ /^(\d+) (\S+)$/mg;
	}
	return \%when;
}

# Until when all that was acknowledged is on disk, or in no ring alone: what is journalled is so
# by the flush of a later commit.
sub safe_until
{
	my $began = one_value($control, 'SELECT extract(epoch FROM statement_timestamp())');
	my $since;

	$control->do("SELECT pg_logical_emit_message(true, 'test', '')");
	$since = queue('extract(epoch FROM at_risk_since)');
	return defined $since && $since < $began ? $since : $began;
}

# After a crash: nothing is missing that must not be, nothing is there twice.
sub check_crash
{
	my ($run, $killed_at, $safe, $sync, @clients) = @_;
	my $when = acknowledged($run);
	my %there;
	my @missing;
	my $oldest = 0;

	wait_for_children(@clients);
	ok(flush($node), "$run: flushed");
	$there{$_}++ foreach @{ $control->selectcol_arrayref('SELECT n FROM t WHERE run = ?', undef, $run) };
	is(scalar(grep { $_ > 1 } values %there), 0, "$run: nothing is there twice");
	cmp_ok(scalar(keys %$when), '>', 20, "$run: something was acknowledged");
	@missing = grep { !$there{$_} } keys %$when;
	is(scalar(@missing), 0, "$run: nothing is missing") if $sync eq 'on';
	return if $sync eq 'on';
	is(scalar(grep { $when->{$_} < $safe - 0.001 } @missing), 0, "$run: nothing is missing that was not at risk");
	foreach (@missing)
	{
		$oldest = $killed_at - $when->{$_} if $killed_at - $when->{$_} > $oldest;
	}
	note(sprintf '%s: %d acknowledged, %d missing, the oldest %.3f s old', $run, scalar(keys %$when), scalar(@missing), $oldest);
	is_quick($oldest, 0.7, "$run: nothing is missing that is older than flush_interval and ring_window");
	return;
}

sub crash_under_load
{
	my ($run, $n, $sync, $pause) = @_;
	my @clients;
	my ($safe, $killed_at);

	change_setting($control, 'flush_interval', '100ms');
	settle();
	@clients = start_clients($run, $n, $sync, $pause);
	wait_for_sql($control, "SELECT count(*) > 200 FROM t WHERE run = '$run'");
	$safe = safe_until();
	$killed_at = kill_worker();
	check_crash($run, $killed_at, $safe, $sync, @clients);
	return;
}

crash_under_load("an idle worker, $_", 1, 'off', 20_000) foreach 1 .. 2;
crash_under_load("a busy worker, $_", 4, 'off', 0) foreach 1 .. 2;
crash_under_load('synchronous', 3, 'on', 0);

# ---- a worker that is at something for long: what has come meanwhile is saved, and what comes
# is journalled

sub hang
{
	my ($run, $make, $release, $late) = @_;
	my @clients;
	my ($safe, $killed_at);

	change_setting($control, 'flush_interval', '100ms');
	settle();
	@clients = start_clients($run, 2, 'off', 2_000);
	wait_for_sql($control, "SELECT count(*) > 50 FROM t WHERE run = '$run'");
	$make->();
	wait_for("$late AND at_risk_since IS NULL AND items_pending > 100");
	my $before = one_value($control, 'SELECT items_pending FROM persist_queue');
	wait_for("items_pending > $before + 100");
	is(queue('at_risk_since'), undef, "$run: what comes now is not at risk, either");
	$safe = safe_until();
	cmp_ok($safe, '>', time - 60, "$run: all until now is safe");
	$killed_at = kill_worker();
	$release->();
	check_crash($run, $killed_at, $safe, 'off', @clients);
	return;
}

my $is_sleeping = "EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker' AND wait_event = 'PgSleep')";

hang(
	'a trigger that takes long',
	sub { $control->do("SELECT persist_enqueue('slow', '{\"n\": 1}')") },
	sub { $control->do('INSERT INTO released DEFAULT VALUES') },
	$is_sleeping);
is($node->safe_psql('postgres', 'SELECT count(*) FROM slow'), '1', 'the row with the trigger is there, too');

{
	my $locker;

	hang(
		'a worker that backs off',
		sub {
			$locker = connect_to($node);
			$locker->begin_work;
			$locker->do('LOCK TABLE locked, persist_pipeline_internal.persist_parked IN SHARE MODE');
			$control->do("SELECT persist_enqueue('locked', '{\"n\": 1}')");
		},
		sub { $locker->{InactiveDestroy} = 1 },    # the crash has ended it
		"worker_state = 'retrying'");
}

# when the worker has caught up, the ring alone does again
{
	my $dbh = connect_to($node);

	$control->do('DELETE FROM released');
	change_setting($control, 'flush_interval', '100ms');
	settle();
	$dbh->do('SET synchronous_commit = off');
	$control->do("SELECT persist_enqueue('slow', '{\"n\": 2}')");
	wait_for($is_sleeping);
	enqueue($dbh, 't', 'caught up', 1);
	isnt(queue('at_risk_since'), undef, 'caught up: the worker is busy, and not late yet');
	wait_for("at_risk_since IS NULL AND journal_bytes > 0 AND $is_sleeping");
	$control->do('INSERT INTO released DEFAULT VALUES');
	settle();
	settle();
	change_setting($control, 'flush_interval', '1h');
	enqueue($dbh, 't', 'caught up', 2);
	isnt(queue('at_risk_since'), undef, 'caught up: the ring alone');

	# what was waited for a lock, before what is at risk was saved, is a part of lock_timeout
	my $locker = connect_to($node);
	my $waits = "EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pid = worker_pid)";
	my $patience = 'SELECT bool_and(CASE WHEN n = 1 THEN patience BETWEEN interval \'1 min\' AND interval \'59:59.9\' ELSE patience = interval \'1 h\' END), count(*) FROM patient';

	change_setting($control, 'lock_timeout', '1h');
	change_setting($control, 'flush_interval', '10ms');
	settle();
	begin_with_lock($locker, 'locked', 'SHARE');
	$dbh->begin_work;
	$dbh->do("SELECT persist_enqueue('$_', '{\"n\": 1}') FROM generate_series(1, 2)") foreach 'patient', 'locked';
	$dbh->commit;
	wait_for("at_risk_since IS NULL AND journal_bytes > 0 AND items_pending = 4 AND $waits");
	$locker->rollback;
	settle();
	$dbh->do("SELECT persist_enqueue('patient', '{\"n\": 2}')");
	settle();
	is(join(' ', $control->selectrow_array($patience)), '1 3', 'a lock: the second try has what was left, the next batch all of it');
	change_setting($control, 'flush_interval', '1h');
	enqueue($dbh, 't', 'caught up', 3);
	$locker->disconnect;
	$dbh->disconnect;

	# a clean stop loses nothing of it
	$control->disconnect;
	$node->stop('fast');
	$node->start;
	begin();
	ok(flush($node), 'a clean stop: flushed');
	is($node->safe_psql('postgres', "SELECT string_agg(n::text, ' ' ORDER BY n) FROM t WHERE run = 'caught up'"), '1 2 3', 'a clean stop loses nothing');
}

# ---- a transaction of several pieces that is saved becomes visible at once

{
	my $dbh = connect_to($node);

	$control->do('DELETE FROM released');
	change_setting($control, 'batch_size', 10);
	change_setting($control, 'flush_interval', '100ms');
	settle();
	$control->do("SELECT persist_enqueue('slow', '{\"n\": 3}')");
	wait_for($is_sleeping);
	enqueue($control, 't', 'pieces', -$_) foreach 1 .. 5;
	$dbh->do('SET synchronous_commit = off');
	$dbh->begin_work;
	enqueue($dbh, $_ % 12 < 6 ? 't' : 'r', 'pieces', $_) foreach 0 .. 17;    # three pieces, six items each
	$dbh->commit;
	isnt(queue('at_risk_since'), undef, 'pieces: in the ring alone');
	wait_for_sql($control, "SELECT sum(n) > 6 FROM (" . join(' UNION ALL ', map {"SELECT count(*) AS n FROM persist_pipeline_internal.persist_journal_$_"} 1 .. 3) . ') AS j');
	$control->do('INSERT INTO released DEFAULT VALUES');
	settle();
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT xmin::text) FROM (SELECT n, xmin FROM t WHERE run = 'pieces' UNION ALL SELECT n, xmin FROM r WHERE run = 'pieces') AS landed WHERE n >= 0"),
		'18|1', 'pieces: what was saved of a transaction lands with the rest of it');
	change_setting($control, 'batch_size', 10_000);
	$dbh->disconnect;
}

# ---- while another server commits, the worker isn't called away: it would insert the row again

SKIP: {
	skip 'postgres_fdw is not installed', 1
	  if one_value($control, "SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'") == 0;
	my $dbh = connect_to($node);

	$node->safe_psql('postgres', 'CREATE DATABASE far');
	$node->safe_psql(
		'far', q{
		CREATE TABLE remote (n int);
		CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END';
		CREATE CONSTRAINT TRIGGER sleep AFTER INSERT ON remote INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sleep();
	});
	$node->safe_psql(
		'postgres', q{
		CREATE EXTENSION postgres_fdw;
		CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '} . $node->host . q{', port '} . $node->port . q{', dbname 'far');
		CREATE USER MAPPING FOR CURRENT_USER SERVER far;
		CREATE FOREIGN TABLE far (n int) SERVER far OPTIONS (table_name 'remote');
	});
	settle();
	$dbh->do('SET synchronous_commit = off');
	$dbh->do("SELECT persist_enqueue('far', '{\"n\": 1}')");
	ok(flush($node), 'far: flushed');
	settle();
	is($node->safe_psql('far', 'SELECT count(*) FROM remote'), '1', 'far: the row is there, once');
	$dbh->disconnect;
}

# ---- a child that was journalled finds that a crash has taken its parent: a dead letter, no loss

{
	my $dbh = connect_to($node);

	settle();
	change_setting($control, 'flush_interval', '1h');
	$dbh->do('SET synchronous_commit = off');
	$dbh->do("SELECT persist_enqueue('parent', '{\"n\": 1}')");
	$dbh->do('SET synchronous_commit = on');
	$dbh->do("SELECT persist_enqueue('child', '{\"n\": 1}')");
	isnt(queue('at_risk_since'), undef, 'parent: a later synchronous commit does not make it durable');
	kill_worker();
	change_setting($control, 'flush_interval', '100ms');
	ok(flush($node), 'parent: flushed');
	wait_for_sql($control, 'SELECT count(*) = 1 FROM persist_dead_letters');
	is($node->safe_psql('postgres', "SELECT (SELECT count(*) FROM parent), (SELECT count(*) FROM child), sqlstate, item FROM persist_dead_letters"),
		'0|0|23503|{"n": 1}', 'parent: a crash took it, and its child is a dead letter');
}

$node->stop('fast');
done_testing();
