
# Rows of the journal, and who meets them: items of no transaction that a stop moves
# there, VACUUM FULL, a row that can't be read, logical decoding, persist_flush, locks,
# crashes.  Each item arrives once, in its order, as its own role, and is counted once.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use DBD::Pg qw(:async);
use PersistPipeline;
use Test::More;

my $node = pp_node(
	'rows',
	'persist_pipeline.flush_interval' => 0,
	'persist_pipeline.lock_timeout' => "'100ms'",
	'persist_pipeline.shutdown_timeout' => "'200ms'",
	autovacuum => 'off',    # so that a journal keeps its file unless we change it
	wal_level => 'logical');
my $everything_from = log_position($node);

$node->safe_psql(
	'postgres', q{
	CREATE ROLE bob LOGIN;
	GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO bob;

	CREATE TABLE ours (n int);
	CREATE TABLE large (n int, t text, ins bigint);
	CREATE TABLE newer (n int, ins bigint);
	CREATE TABLE first (n int);
	CREATE UNLOGGED TABLE second (n int);
	CREATE UNLOGGED TABLE gate ();    -- so that it is not decoded
	CREATE TABLE moved (n int, t text, ins bigint);
	CREATE TABLE damaged (n int, t text, ins bigint);
	CREATE TABLE many (n int, t text, ins bigint);
	CREATE TABLE counted (n int);
	CREATE TABLE waiting (n int);
	CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		WHILE EXISTS (SELECT FROM public.gate) LOOP
			PERFORM pg_sleep(0.02);
		END LOOP;
		RETURN NEW;
	END $$;
	CREATE TRIGGER wait_at_gate BEFORE INSERT ON second FOR EACH ROW EXECUTE FUNCTION wait_at_gate();

	-- Whoever owns a trigger must not run it with more rights than he has.
	CREATE TABLE bobs (n int, ran_as text);
	CREATE FUNCTION note_role() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		NEW.ran_as := format('%s %s %s', current_user, session_user, current_setting('is_superuser'));
		RETURN NEW;
	END $$;
	CREATE TRIGGER note_role BEFORE INSERT ON bobs FOR EACH ROW EXECUTE FUNCTION note_role();
	ALTER TABLE bobs OWNER TO bob;

	-- What a flush has returned, and what was there at that moment.
	CREATE FUNCTION flush_and_count(target regclass) RETURNS text LANGUAGE plpgsql AS $$
	DECLARE
		done boolean := persist_flush('300 s');
		rows bigint;
	BEGIN
		EXECUTE format('SELECT count(*) FROM %s', target) INTO rows;
		RETURN format('%s %s', done, rows);
	END $$;

	-- An item that ends its worker.
	CREATE FUNCTION kill() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.n < 0 THEN
			PERFORM set_config('exit_on_error', 'on', false);
			RAISE 'no';
		END IF;
		RETURN NEW;
	END $$;
	CREATE TABLE deadly (n int);
	CREATE TRIGGER kill BEFORE INSERT ON deadly FOR EACH ROW EXECUTE FUNCTION kill();
} . number_rows('large', 'newer', 'moved', 'damaged', 'many'));

my $dbh = connect_to($node);
my $bob = connect_to($node, 'postgres', user => 'bob');
my $locker = connect_to($node);
my $other_locker = connect_to($node);
my $journals = join ' UNION ALL ', map { "SELECT * FROM persist_pipeline_internal.persist_journal_$_" } 1 .. 3;

# Enqueue an item n, with a text of so many bytes; at once: not transactional.
sub enqueue
{
	my ($session, $target, $n, %option) = @_;
	my $text = $option{bytes} ? ", 't', repeat('$n', $option{bytes} / length('$n'))" : '';

	$session->do("SELECT persist_enqueue('$target'::regclass, jsonb_build_object('n', $n$text), "
		  . ($option{at_once} ? 'false' : 'true') . ')');
	return;
}

# Stop a worker that can't get on, which moves what is in the ring alone; its
# successor is there when this returns.
sub force_stop
{
	my $pid = worker_pid($node);
	my $from = log_position($node);

	$dbh->do("SELECT pg_terminate_backend($pid)");
	$node->wait_for_log(qr/WARNING:  .*was forced to stop/, $from);
	wait_for_new_worker($node, $pid);
	return;
}

sub persisted
{
	return one_value($dbh, "SELECT items_persisted FROM persist_queue WHERE datname = 'postgres'");
}

sub failed
{
	return one_value($dbh, "SELECT items_failed FROM persist_queue WHERE datname = 'postgres'");
}

# Call persist_flush in a session of its own; returns that and the statement.
sub start_flush
{
	my ($target) = @_;
	my $session = connect_to($node);
	my $statement = $session->prepare("SELECT flush_and_count('$target')", { pg_async => PG_ASYNC });

	$statement->execute;
	wait_for_sql($dbh,
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $session->{pg_pid} AND wait_event_type = 'Extension'");
	return ($session, $statement);
}

# What flush_and_count has returned.
sub end_flush
{
	my ($session, $statement) = @_;

	$session->pg_result;
	my ($result) = $statement->fetchrow_array;
	$statement->finish;
	$session->disconnect;
	return $result;
}

# So that the ring takes what comes: a new one sends it to the journal.
enqueue($dbh, $_, 0) foreach 'ours', 'first', 'second';
ok(flush($dbh), 'flushed');

# What comes from now on is decoded.
sub create_slots
{
	$dbh->do("CREATE PUBLICATION everything FOR ALL TABLES");
	$dbh->do("SELECT pg_create_logical_replication_slot('text', 'test_decoding')");
	$dbh->do("SELECT pg_create_logical_replication_slot('binary', 'pgoutput')");
	return;
}

# The relations whose changes are decoded, with how many each has.  Without two things:
# persist_shutdowns is a table like any other; and a DELETE from a table without a
# replica identity always is a change, but one that says nothing, and pgoutput doesn't
# send it.  Then the slots are dropped.
sub decoded
{
	my $text = one_value(
		$dbh, q{
		SELECT string_agg(name || ' ' || n, ', ' ORDER BY name)
		FROM (SELECT substring(data FROM '^table public\.(\w+): ') AS name, count(*) AS n
		      FROM pg_logical_slot_get_changes('text', NULL, NULL)
		      WHERE data LIKE 'table %' AND data NOT LIKE '%: DELETE: (no-tuple-data)' GROUP BY 1) AS s
		WHERE name <> 'persist_shutdowns'});
	my $binary = one_value(
		$dbh, q{
		WITH messages AS MATERIALIZED (
			SELECT chr(get_byte(data, 0)) AS type,
			       get_byte(data, 1)::bigint << 24 | get_byte(data, 2) << 16 | get_byte(data, 3) << 8 | get_byte(data, 4) AS relation
			FROM pg_logical_slot_get_binary_changes('binary', NULL, NULL,
				'proto_version', '1', 'publication_names', 'everything'))
		SELECT string_agg(name || ' ' || n, ', ' ORDER BY name)
		FROM (SELECT relname AS name, count(*) AS n
		      FROM messages JOIN pg_class AS c ON c.oid = relation WHERE type IN ('I', 'U', 'D') GROUP BY 1) AS s
		WHERE name <> 'persist_shutdowns'});

	$dbh->do("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
	$dbh->do("DROP PUBLICATION everything");
	return ($text, $binary);
}

create_slots();

# ---- items of no transaction, moved at a stop: each keeps its role

lock_targets($locker, 'ours, bobs');
enqueue($dbh, 'ours', 1, at_once => 1);
enqueue($bob, 'bobs', 2, at_once => 1);
force_stop();
is( one_value($dbh, "SELECT count(DISTINCT pos) || ' ' || string_agg(CASE role WHEN 'bob'::regrole THEN 'bob' ELSE 'superuser' END, ' ' ORDER BY pos) FROM ($journals) AS j"),
	'2 superuser bob', 'roles: in the journal, each has its own place and role');
$locker->commit;
ok(flush($dbh), 'roles: flushed');
is(one_value($dbh, "SELECT array_agg(n ORDER BY n)::text FROM ours"), '{0,1}', 'roles: the one has arrived');
is(one_value($dbh, "SELECT string_agg(n || ' ' || ran_as, ', ') FROM bobs"),
	'2 bob bob off', "roles: so has the other, and bob's trigger ran as bob");

# ---- large ones: a row has a part of one

lock_targets($locker, 'large');
enqueue($dbh, 'large', $_, bytes => 20_000, at_once => 1) foreach 1 .. 3;
force_stop();
$locker->commit;
ok(flush($dbh), 'large: flushed');
is( one_value($dbh, "SELECT string_agg(format('%s %s %s', n, length(t), length(replace(t, n::text, ''))), ', ' ORDER BY ins) FROM large"),
	'1 20000 0, 2 20000 0, 3 20000 0', 'large: whole, once, in order');

# ---- and one that comes to the ring after them, found by one pass together with them

lock_targets($locker, 'newer');
enqueue($dbh, 'newer', $_, at_once => 1) foreach 1 .. 3;
force_stop();
wait_for_worker_state($dbh, 'retrying');
enqueue($dbh, 'newer', 4, at_once => 1);
is(one_value($dbh, "SELECT count(*) FROM ($journals) AS j"), 3, 'newer: the last one is in the ring alone');

# A hold: before that returns the worker has left, without a stop, and moved nothing.
# By the session that has the locks, since it drops one of the tables.
my $pid = worker_pid($node);
$locker->do("DROP EXTENSION persist_pipeline CASCADE");
$locker->rollback;
wait_for_new_worker($node, $pid);
ok(flush($dbh), 'newer: flushed');
is(one_value($dbh, "SELECT array_agg(n ORDER BY ins)::text FROM newer"), '{1,2,3,4}', 'newer: all, once, in order');
is(one_value($dbh, "SELECT count(*) FROM ($journals) AS j"), 0, 'newer: and nothing is left');

# ---- persist_flush, of an item that is moved in the middle of a pass

lock_targets($locker, 'first');
$dbh->do("INSERT INTO gate DEFAULT VALUES");    # for the second; a lock would have it parked
enqueue($dbh, 'first', 1);
force_stop();
wait_for_worker_state($dbh, 'retrying');    # the new worker's pass has begun, without the next item
enqueue($dbh, 'second', 1);
is(one_value($dbh, "SELECT count(*) FROM ($journals) AS j"), 1, 'pass: the second item is in the ring alone');
my @flush = start_flush('second');
force_stop();
is(one_value($dbh, "SELECT count(*) FROM ($journals) AS j"), 2, 'pass: now it is in the journal');
$locker->commit;
wait_for_sql($dbh,
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker' AND wait_event = 'PgSleep'");
ok(is_running($flush[0]), 'pass: the flush waits for it, whichever pass has it');
$dbh->do("TRUNCATE gate");
is(end_flush(@flush), 't 2', 'pass: until it is there');
is(one_value($dbh, "SELECT array_agg(n ORDER BY n)::text FROM first"), '{0,1}', 'pass: so is the first');

# ---- VACUUM FULL, while entries of the ring say where their rows are

my $file_sql = "SELECT pg_relation_filenode('persist_pipeline_internal.persist_journal_1')";
my $file = one_value($dbh, $file_sql);
my $start = persisted();
lock_targets($locker, 'moved');
enqueue($dbh, 'moved', $_) foreach 1 .. 4;
enqueue($dbh, 'moved', 5, bytes => 30_000);
enqueue($dbh, 'moved', 6);
my $before = one_value($dbh, "SELECT string_agg(ctid::text, ' ' ORDER BY pos, part) FROM persist_pipeline_internal.persist_journal_1");
$dbh->do("VACUUM FULL persist_pipeline_internal.persist_journal_1");
isnt(one_value($dbh, $file_sql), $file, 'VACUUM FULL: the journal has another file');
isnt(one_value($dbh, "SELECT string_agg(ctid::text, ' ' ORDER BY pos, part) FROM persist_pipeline_internal.persist_journal_1"),
	$before, 'VACUUM FULL: rows are elsewhere');
enqueue($dbh, 'moved', 7);
enqueue($dbh, 'moved', 8, bytes => 30_000);
enqueue($dbh, 'moved', 9);
@flush = start_flush('moved');
$locker->commit;
is(end_flush(@flush), 't 9', 'VACUUM FULL: the flush says so when all are there');
is( one_value($dbh, "SELECT string_agg(format('%s %s', n, length(t)), ', ' ORDER BY ins) FROM moved"),
	'1 , 2 , 3 , 4 , 5 30000, 6 , 7 , 8 30000, 9 ', 'VACUUM FULL: whole, once, in order');
is(one_value($dbh, "SELECT count(*) FROM ($journals) AS j"), 0, 'VACUUM FULL: and nothing is left');
is(persisted() - $start, 9, 'VACUUM FULL: nor counted twice');

# ---- what of all this is decoded, and does a publication of all tables disturb it

is(one_value($dbh, "SELECT count(*) FROM persist_shutdowns"), 5, 'decoding: each stop is recorded');
my $expected = 'bobs 1, first 1, large 3, moved 9, newer 4, ours 1';
my ($text, $binary) = decoded();
is($text, $expected, 'decoding: changes of the targets, none of the journal');

is($binary, $expected, 'decoding: also for a publication of all tables');

# ---- rows that can't be read harm nobody else

open_guards($dbh, qw(persist_journal_1 persist_copied persist_parked));

# Enqueue items, n => bytes, while the database is paused, each in a transaction of its
# own or all together; do to ROWS of some of them what %$damage says; resume.  Returns
# the items' numbers in the order of things.
sub damage
{
	my ($name, $target, $items, $damage, %option) = @_;
	my $from = log_position($node);
	my $failed = failed();
	my $persisted = persisted();
	my $lost = one_value($dbh, "SELECT coalesce(sum(lost), 0) FROM persist_stats");
	my $good = keys(%$items) - keys(%$damage);
	my %pos;

	$dbh->do("SELECT persist_pause()");
	wait_for_worker_state($dbh, 'paused');
	$dbh->begin_work if $option{together};
	foreach my $n (sort { $a <=> $b } keys %$items)
	{
		enqueue($dbh, $target, $n, bytes => $items->{$n});
		next if $option{together};
		$pos{$n} = one_value($dbh, "SELECT max(pos) FROM ($journals) AS j");
	}
	if ($option{together})
	{
		$dbh->commit;
		$pos{$_} = one_value($dbh, "SELECT max(pos) FROM ($journals) AS j") foreach keys %$items;
	}
	foreach my $n (keys %$damage)
	{
		my $sql = $damage->{$n} =~ s/ROWS/pos = $pos{$n}/gr;

		is($dbh->do($sql), 1, "$name: row of item $n damaged");
	}
	create_slots();
	$dbh->do("SELECT persist_resume()");
	ok(flush($dbh), "$name: flushed");
	is_deeply([ decoded() ], [ ("$target $good") x 2 ], "$name: what is put aside is not decoded");
	is( one_value($dbh, "SELECT string_agg(n || ' ' || length(t), ', ' ORDER BY ins) FROM $target"),
		join(', ', map { "$_ $items->{$_}" } grep { !$damage->{$_} } sort { $a <=> $b } keys %$items),
		"$name: all others arrive, once, in order");
	foreach my $n (sort { $a <=> $b } keys %$damage)
	{
		is(scalar(log_since($node, $from, qr/XX001 WARNING:  .*enqueued as number $pos{$n},/)), 1, "$name: a WARNING for item $n");
	}
	is(failed() - $failed, scalar(keys %$damage), "$name: counted as failed");
	is(persisted() - $persisted, $good, "$name: the others as persisted");
	is(one_value($dbh, "SELECT sum(lost) FROM persist_stats") - $lost, scalar(keys %$damage), "$name: and they are lost");
	is(one_value($dbh, "SELECT count(*) FROM ($journals) AS j"), 0, "$name: nothing is left in the journal");
	ok(eval { wait_for_sql($dbh, "SELECT sum(pending) = 0 FROM persist_stats"); 1 }, "$name: nor in the account");
	return %pos;
}

my %pos = damage(
	'damaged',
	'damaged',
	{
		1 => 10, 2 => 10, 3 => 10, 4 => 10,
		5 => 30_000, 6 => 10, 7 => 30_000, 8 => 10, 9 => 30_000, 10 => 50
	},
	{
		2 => "UPDATE persist_pipeline_internal.persist_journal_1 SET data = set_byte(data, 0, 99) WHERE ROWS",
		4 => "UPDATE persist_pipeline_internal.persist_journal_1 SET data = substring(data FROM 1 FOR octet_length(data) - 3) WHERE ROWS",
		5 => "DELETE FROM persist_pipeline_internal.persist_journal_1 WHERE ROWS AND part = 2 * 1024",
		7 => "DELETE FROM persist_pipeline_internal.persist_journal_1 WHERE ROWS AND part = (SELECT max(part) FROM persist_pipeline_internal.persist_journal_1 WHERE ROWS)",
		9 => "DELETE FROM persist_pipeline_internal.persist_journal_1 WHERE ROWS AND part = 0",
	});
is( one_value($dbh, "SELECT string_agg(format('%s %s %s', pos, installation, rows), ', ' ORDER BY pos)"
		  . " FROM (SELECT pos, installation, count(*) AS rows FROM persist_pipeline_internal.persist_copied GROUP BY 1, 2) AS s"),
	"$pos{2} 0 1, $pos{4} 0 1, $pos{5} 0 3, $pos{7} 0 3, $pos{9} 0 3", 'damaged: their rows are put aside');

# who repairs one there can have it written
$dbh->do("DELETE FROM persist_pipeline_internal.persist_copied WHERE pos <> $pos{2}");
$dbh->do("UPDATE persist_pipeline_internal.persist_copied SET data = set_byte(data, 0, 1)");
$dbh->do("SELECT persist_resume()");
ok(flush($dbh), 'damaged: flushed');
is(one_value($dbh, "SELECT string_agg(n::text, ' ' ORDER BY n) FROM damaged"), '1 2 3 6 8 10', 'damaged: one has been repaired');

# the others may be of the same transaction
%pos = damage(
	'together',
	'many',
	{ map { $_ => 5000 } 11 .. 20 },
	{ 15 => "UPDATE persist_pipeline_internal.persist_journal_1 SET data = set_byte(data, 0, 99) WHERE ROWS AND part = 4 * 1024" },
	together => 1);
is(one_value($dbh, "SELECT count(*) FROM persist_pipeline_internal.persist_copied WHERE installation = 0"), 1, 'together: its row alone is put aside');
is(one_value($dbh, "SELECT persist_discard()"), 1, 'together: to be discarded');

# one that is parked is known to be its target's
$locker->begin_work;
$locker->do("LOCK TABLE damaged IN EXCLUSIVE MODE");
enqueue($dbh, 'damaged', $_, bytes => 30_000) foreach 21 .. 23;
wait_for_sql($dbh, "SELECT parked = 3 FROM persist_stats WHERE target_name = 'public.damaged'");
is($dbh->do("UPDATE persist_pipeline_internal.persist_parked SET data = set_byte(data, 0, 99) WHERE pos = (SELECT min(pos) FROM persist_parked) AND part = (SELECT max(part) FROM persist_parked)"),
	1, 'parked: a row damaged');
my $lost = one_value($dbh, "SELECT sum(lost) FROM persist_stats");
$locker->commit;
# the reason alone comes when the batch that has parked them ends
wait_for_sql($dbh, "SELECT pending = 0 AND parked_reason IS NULL FROM persist_stats WHERE target_name = 'public.damaged'");
is(one_value($dbh, "SELECT string_agg(n::text, ' ' ORDER BY ins) FROM damaged WHERE n > 20"), '22 23', 'parked: the others arrive, in order');
is(one_value($dbh, "SELECT pending || ' ' || parked || ' ' || lost FROM persist_stats WHERE target_name = 'public.damaged'"),
	'0 0 1', 'parked: it waits no longer, and is counted');
is(one_value($dbh, "SELECT sum(lost) FROM persist_stats") - $lost, 1, 'parked: once');
ok(flush($dbh), 'parked: flushed');
$dbh->do("SELECT persist_discard()");

# ---- another session has a lock on one of the journals, which it may

my $from = log_position($node);
$pid = worker_pid($node);
enqueue($dbh, 'waiting', 1);
ok(flush($dbh), 'locked journal: flushed');
$locker->begin_work;
$locker->do("LOCK TABLE persist_pipeline_internal.persist_journal_2");
enqueue($dbh, 'waiting', 2);
wait_for_worker_state($dbh, 'retrying');
is(worker_pid($node), $pid, 'locked journal: the worker stays');

# nor does one that is new, and looks for what is there
$dbh->do("SELECT pg_terminate_backend($pid)");
$pid = wait_for_new_worker($node, $pid);
enqueue($dbh, 'waiting', 3);
wait_until(
	'a new worker has met the lock',
	sub {
		one_value($dbh, "SELECT worker_state = 'retrying' FROM persist_queue WHERE datname = 'postgres'")
		  || log_since($node, $from, qr/persist_pipeline (?:worker|retrier) 55P03 ERROR/);
	});
$locker->commit;
ok(flush($dbh), 'locked journal: flushed');
is(worker_pid($node), $pid, 'locked journal: a new one stays, too');
is(one_value($dbh, "SELECT array_agg(n ORDER BY n)::text FROM waiting"), '{1,2,3}', 'locked journal: all arrived, once');
is_deeply([ complaints($node, $from, qr/WARNING:  .*was forced to stop/) ], [], 'locked journal: without complaints');

# ---- an installation that has made workers fail is replaced: no penalty remains

$node->safe_psql('postgres', "CREATE DATABASE anew");
$node->safe_psql('anew', "CREATE EXTENSION persist_pipeline; CREATE TABLE t (n int); SELECT persist_enqueue('t', '{\"n\": 1}')");
ok(flush($node, 'anew'), 'replaced: flushed');
my $anew = connect_to($node, 'anew');
$anew->do("SELECT persist_enqueue('t'::regclass, '{\"n\": 2}'::jsonb)");    # the session knows the extension now
is(one_value($anew, "SELECT persist_flush()"), 1, 'replaced: flushed');
$anew->do("ALTER FUNCTION persist_pipeline_batch.persist_batch RENAME TO hidden");
$from = log_position($node);
$anew->do("SELECT pg_terminate_backend(worker_pid) FROM persist_queue WHERE datname = 'anew'");
$node->wait_for_log(qr/persist_pipeline (?:worker|retrier) 55000 FATAL: .*cannot work/, $from);
$anew->do("SELECT persist_enqueue('t'::regclass, '{\"n\": 3}'::jsonb)");
wait_until('a worker fails again',
	sub { log_since($node, $from, qr/persist_pipeline (?:worker|retrier) 55000 FATAL: .*cannot work/) >= 2 });

# the next attempt would be in 4 s
$anew->do("DROP EXTENSION persist_pipeline");
$anew->do("CREATE EXTENSION persist_pipeline");
$anew->do("SELECT persist_enqueue('t'::regclass, '{\"n\": 4}'::jsonb)");
is_quick(seconds_of(sub { is(one_value($anew, "SELECT persist_flush('300 s')"), 1, 'replaced: flushed') }), 3, 'replaced: a worker comes at once');
is(one_value($anew, "SELECT array_agg(n ORDER BY n)::text FROM t"), '{1,2,4}', 'replaced: with what the new one was given');
$anew->disconnect;

# ---- items are counted once, whatever happens to their worker

# by a stop, and by an item that ends its worker, alone or together with others
$start = persisted();
lock_targets($locker, 'counted');
enqueue($dbh, 'counted', $_) foreach 1 .. 3;
enqueue($dbh, 'counted', $_, at_once => 1) foreach 4 .. 5;
force_stop();
force_stop();
$locker->commit;
ok(flush($dbh), 'counted: flushed');
is(persisted() - $start, 5, 'counted: over two stops');

$start = persisted();
my $failed = failed();
$dbh->do("SELECT persist_enqueue('deadly'::regclass, jsonb_build_object('n', n)) FROM unnest('{1,2,-3,4,5}'::int[]) AS n");
ok(flush($dbh), 'counted: flushed');
is(one_value($dbh, "SELECT array_agg(n ORDER BY n)::text FROM deadly"), '{1,2,4,5}', 'counted: the innocent arrive');
is(persisted() - $start, 4, 'counted: over workers that died of an item');
is(failed() - $failed, 1, 'counted: which failed');

# by a crash; also where nobody may connect any more
$node->safe_psql('postgres', "CREATE DATABASE shut");
$node->safe_psql('shut', "CREATE EXTENSION persist_pipeline; CREATE TABLE t (n int); SELECT persist_enqueue('t', '{\"n\": 1}')");
ok(flush($node, 'shut'), 'crash: flushed');
lock_targets($locker, 'counted');
enqueue($dbh, 'counted', $_) foreach 6 .. 9;
my $shut = connect_to($node, 'shut');
$shut->begin_work;
$shut->do("LOCK TABLE t IN SHARE MODE");
$node->safe_psql('shut', "SELECT persist_enqueue('t', '{\"n\": 2}')");
ok(wait_for_queue($node, 'items_parked = 1', 'shut'), 'crash: an item is parked');
ok(wait_for_queue($node, 'items_pending = 4 AND items_parked = 0'), 'crash: others are in the journal');
$dbh->do("ALTER DATABASE shut ALLOW_CONNECTIONS false");
# the locks last until the crash, or what waits for them would come before it
$_->{InactiveDestroy} = 1 foreach $dbh, $bob, $locker, $other_locker, $shut;
$node->stop('immediate');
$node->start;
$dbh = connect_to($node);
ok(flush($dbh), 'crash: flushed');
is(persisted(), 4, 'crash: what came after it is counted, and nothing else');
is(one_value($dbh, "SELECT array_agg(n ORDER BY n)::text FROM counted"), '{1,2,3,4,5,6,7,8,9}', 'crash: all arrived, once');
wait_for_sql($dbh, "SELECT count(*) = 1 FROM persist_queue WHERE datname = 'shut' AND items_persisted = 1 AND items_pending = 0");
$dbh->do("ALTER DATABASE shut ALLOW_CONNECTIONS true");
is($node->safe_psql('shut', "SELECT array_agg(n ORDER BY n) FROM t"), '{1,2}', 'crash: also where connections are not allowed');
cmp_ok(one_value($dbh, "SELECT sum(lost) FROM persist_stats"), '>', 0, 'lost: what could not be read is counted, over a crash');
$dbh->do("SELECT persist_stats_reset()");
is(one_value($dbh, "SELECT sum(lost) FROM persist_stats"), 0, 'lost: counted anew');
$dbh->disconnect;

is_deeply(
	[
		complaints(
			$node,
			$everything_from,
			qr/WARNING:  .*was forced to stop/,
			qr/persist_pipeline (?:worker|retrier) XX001 WARNING:  .*could not be read/,
			qr/persist_pipeline (?:worker|retrier) XX001 WARNING:  a row of persist_pipeline's tables, .*is damaged/,
			qr/persist_pipeline (?:worker|retrier) 55000 FATAL:  .*cannot work/,
			qr/persist_pipeline (?:worker|retrier) P0001 FATAL:  no$/,    # the deadly item
			qr/persist_pipeline (?:worker|retrier) P0001 WARNING:  item \d+ for relation "public.deadly"/,
			qr/57P03 FATAL:  the database system is/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');
$node->stop;
done_testing();
