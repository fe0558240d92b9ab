
# What a caller is told when there is no more room: in the journal, in a role's share
# of it and of the ring, and in a temporary file.  And what he is not told of: no slot
# is free, a transaction is larger than its buffer, an item is larger than the ring.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;
use Time::HiRes qw(time);

my $limit = 1024;    # kB, of the journal
my $filler = 5000;    # bytes of an item that fills it

my $node = pp_node(
	'overflow_limits',
	'persist_pipeline.flush_interval' => 0,
	'persist_pipeline.journal_limit' => "'${limit}kB'",
	'persist_pipeline.lock_timeout' => "'50ms'",
	'persist_pipeline.max_databases' => 1,
	'persist_pipeline.max_workers' => 1,
	'persist_pipeline.ring_size' => "'256kB'",
	'persist_pipeline.role_quota' => 100,
	'persist_pipeline.shutdown_timeout' => "'200ms'",
	'persist_pipeline.statement_timeout' => "'10min'",    # one of 200 MB takes long, where others work, too
	autovacuum => 'off',
	checkpoint_timeout => "'1h'",
	max_prepared_transactions => 4);
my $everything_from = log_position($node);

my $tables = q{
	CREATE TABLE t (n int, filler text, ins bigint);
	CREATE UNLOGGED TABLE u (n int, filler text, ins bigint);
} . number_rows('t', 'u');
$node->safe_psql(
	'postgres', qq{
	$tables
	CREATE TABLE plain (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
	CREATE TABLE log (n int);
	CREATE TABLE logged (n int, filler text);
	CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS
	\$\$ BEGIN PERFORM public.persist_enqueue('public.log', jsonb_build_object('n', NEW.n)); RETURN NEW; END \$\$;
	CREATE TRIGGER log AFTER INSERT ON logged FOR EACH ROW EXECUTE FUNCTION log();
	CREATE ROLE alice LOGIN;
	CREATE ROLE bob LOGIN;
	GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO alice, bob;
	GRANT INSERT ON t, u TO alice, bob;
	GRANT USAGE ON SEQUENCE ins TO alice, bob;
});

my ($dbh, $locker);

sub connect_again
{
	$_->disconnect foreach grep { $_ } $dbh, $locker;
	$dbh = connect_to($node);
	$locker = connect_to($node);
	return;
}

sub enqueue
{
	my ($session, $target, $n, %option) = @_;

	return try_enqueue($session, $target, $n, filler => $filler, %option);
}

# Single items from n on, until one is refused with this SQLSTATE.  Returns the number
# of the last one that was not.
sub fill
{
	my ($session, $target, $n, $name, $state, %option) = @_;
	my $got;

	$n++ while ($got = enqueue($session, $target, $n + 1, %option)) eq '00000' && $n < 5000;
	is($got, $state, "$name: there is a limit");
	return $n;
}

# Such a lock that outlives a restart.
sub lock_for_ever
{
	my ($session, $targets) = @_;

	lock_targets($session, $targets, 'EXCLUSIVE');
	$session->do("PREPARE TRANSACTION 'lock'");
	$session->commit;
	return;
}

# Are exactly these numbers in the table, each once, and in this order?
sub holds
{
	my ($session, $table, $order, @numbers) = @_;

	return one_value($session, "SELECT coalesce(array_agg(n ORDER BY $order), '{}') = ?::int[] FROM $table",
		'{' . join(',', @numbers) . '}');
}

connect_again();

# ---- journal_limit

my $n = 0;

sub is_refused
{
	my ($name, $hint) = @_;

	is(enqueue($dbh, 't', 0), '53400', "$name: refused");
	like($dbh->errstr, qr/journal of database "postgres" is full/, "$name: since the journal is full");
	like($dbh->errstr, qr/DETAIL:.*"persist_pipeline\.journal_limit" is $limit kB/, "$name: with the limit");
	like($dbh->errstr, $hint, "$name: and with what is in the way");
	return;
}

lock_targets($locker, 't', 'EXCLUSIVE');
is(enqueue($dbh, 't', ++$n), '00000', 'limit: the first item');
wait_for_worker_state($dbh, 'retrying');
$n = fill($dbh, 't', $n, 'limit', '53400');
cmp_ok($n, '>', $limit * 1024 / ($filler + 300), 'limit: all of it can be used');
is_refused('limit', qr/HINT:.* cannot write: SQLSTATE 55P03\./);
cmp_ok(queue_value($dbh, 'journal_bytes'), '<=', $limit * 1024, 'limit: journal_bytes is below it');
cmp_ok(queue_value($dbh, 'journal_bytes'), '>', $limit * 1024 - 2 * $filler, 'limit: and close to it');

$dbh->begin_work;
$dbh->do("INSERT INTO plain VALUES (1)");
$dbh->do("SAVEPOINT s");
$dbh->do("INSERT INTO plain VALUES (2)");
$dbh->do("RELEASE s");
is(enqueue($dbh, 't', 0), '00000', 'rollback: the call itself succeeds');
is(try_sql($dbh, "COMMIT"), '53400', 'rollback: the COMMIT does not');
$dbh->rollback;
is(one_value($dbh, "SELECT count(*) FROM plain"), 0, 'rollback: and nothing of the transaction is left');
is( try_sql(
		$dbh, "SELECT persist_enqueue('t'::regclass, jsonb_build_object('n', 0, 'filler', repeat('x', 1000))) FROM generate_series(1, 20000)"),
	'53400',
	'rollback: nor is there room for what needs a temporary file');
$locker->commit;
ok(flush($dbh), 'limit: flushed when the lock is gone');
ok(holds($dbh, 't', 'ins', 1 .. $n), 'limit: what was accepted is there, each once, in order');
is(queue_value($dbh, 'journal_bytes'), 0, 'limit: the journal holds nothing');

# A worker can't make room for a transaction that is larger than the limit: it is not to blame.
sub is_too_large
{
	my ($session, $items, $detail, $hint, $name) = @_;

	is(try_sql($session, "SELECT persist_enqueue('t'::regclass, jsonb_build_object('n', 0, 'filler', repeat('x', 1000))) FROM generate_series(1, $items)"),
		'53400', "$name: refused");
	like($session->errstr, qr/DETAIL:  $detail, and \d+ kB are to be added\b.*HINT:  Divide the transaction, or increase $hint/s,
		"$name: with its size, and what helps");
	return;
}

is_too_large($dbh, 2000, '0 kB wait in it', qr/"persist_pipeline\.journal_limit"\./, 'more than the limit at once');
is(enqueue($dbh, 't', ++$n), '00000', 'limit: calls succeed again');
ok(flush($dbh), 'limit: flushed');

# ---- the same while the database is paused, and after a restart

$dbh->do("SELECT persist_pause()");
wait_for_worker_state($dbh, 'paused');
$n = fill($dbh, 't', $n, 'paused', '53400');
is_refused('paused', qr/HINT:.*paused/);

foreach my $mode ('fast', 'immediate')
{
	$node->stop($mode);
	$node->start;
	connect_again();
	my $after = $n;

	# it is held again as soon as a worker has looked
	wait_for_sql($dbh, "SELECT count(*) = 1 FROM persist_queue WHERE datname = 'postgres' AND journal_bytes > 0");
	$n = fill($dbh, 't', $n, "paused, $mode restart", '53400');
	is($n, $after, "paused, $mode restart: what the journal held is counted");
	is_refused("paused, $mode restart", qr/HINT:.*paused/);
}

# persist_resume() has a lock on the table of parked items: who waits for it has it next,
# before the worker
$dbh->begin_work;
$dbh->do("SELECT persist_resume()");
$locker->begin_work;
start_sql($locker, "LOCK TABLE t, persist_pipeline_internal.persist_parked IN EXCLUSIVE MODE");
wait_for_sql($dbh, "SELECT count(*) = 1 FROM pg_locks WHERE relation = 'persist_pipeline_internal.persist_parked'::regclass AND NOT granted");
$dbh->commit;
is(finish_sql($locker), '00000', 'resumed: both are locked');
$locker->do("PREPARE TRANSACTION 'lock'");
$locker->commit;
wait_for_worker_state($dbh, 'retrying');
is_refused('resumed', qr/HINT:.* cannot write: SQLSTATE 55P03\./);
foreach my $mode ('fast', 'immediate')
{
	$node->stop($mode);
	$node->start;
	connect_again();
	wait_for_worker_state($dbh, 'retrying');
	is_refused("$mode restart", qr/HINT:.* cannot write: SQLSTATE 55P03\./);
}
is(queue_value($dbh, 'items_parked'), 0, 'restart: nothing is parked by a transaction that fails');
$dbh->do("ROLLBACK PREPARED 'lock'");
ok(flush($dbh), 'restart: flushed');
ok(holds($dbh, 't', 'ins', 1 .. $n), 'restart: what was accepted is there, each once, in order');
is(queue_value($dbh, 'journal_bytes'), 0, 'restart: the journal holds nothing');
is(enqueue($dbh, 't', ++$n), '00000', 'restart: calls succeed again');
ok(flush($dbh), 'restart: flushed');

# ---- what the worker itself enqueues is not refused

{
	lock_targets($locker, 'logged', 'EXCLUSIVE');
	my $last = fill($dbh, 'logged', 0, 'worker', '53400');
	$locker->commit;
	ok(flush($dbh), 'worker: flushed');
	ok(flush($dbh), 'worker: flushed, with what its triggers have enqueued');
	ok(holds($dbh, 'logged', 'ctid', 1 .. $last), 'worker: what was accepted is there, each once, in order');
	ok(holds($dbh, 'log', 'n', 1 .. $last), 'worker: and what a trigger made of it');
	is(queue_value($dbh, 'journal_bytes'), 0, 'worker: the journal holds nothing');
}

# ---- what was not committed holds nothing

{
	lock_targets($locker, 't', 'EXCLUSIVE');
	is(enqueue($dbh, 't', ++$n), '00000', 'not committed: an item waits');
	my $held = queue_value($dbh, 'journal_bytes');
	cmp_ok($held, '>', $filler, 'not committed: and is counted');
	my $holds_the_same = sub {
		my ($name) = @_;

		ok(eval { wait_until($name, sub { queue_value($dbh, 'journal_bytes') == $held }) }, "not committed: $name")
		  or diag queue_value($dbh, 'journal_bytes') . " bytes, not $held";
	};

	$dbh->begin_work;
	enqueue($dbh, 't', 0);
	$dbh->rollback;
	$holds_the_same->('rolled back');

	$dbh->begin_work;
	$dbh->do("SAVEPOINT s");
	enqueue($dbh, 't', 0);
	$dbh->do("ROLLBACK TO SAVEPOINT s");
	$dbh->commit;
	$holds_the_same->('a savepoint');

	$dbh->begin_work;
	$dbh->do("INSERT INTO plain VALUES (1), (1)");
	enqueue($dbh, 't', 0);
	is(try_sql($dbh, "COMMIT"), '23505', 'not committed: a deferred constraint');
	$dbh->rollback;
	$holds_the_same->('a deferred constraint');

	# this one fails when its rows are in the journal already
	my $other = connect_to($node);
	foreach my $session ($dbh, $other)
	{
		$session->begin_work;
		$session->do("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE");
		one_value($session, "SELECT count(*) FROM plain");
	}
	$other->do("INSERT INTO plain VALUES (3)");
	$dbh->do("INSERT INTO plain VALUES (4)");
	enqueue($dbh, 't', 0);
	$other->commit;
	is(try_sql($dbh, "COMMIT"), '40001', 'not committed: a serialization failure in the COMMIT');
	$dbh->rollback;
	$holds_the_same->('a serialization failure');

	$other->begin_work;
	enqueue($other, 't', 0);
	kill 'TERM', $other->{pg_pid};
	$holds_the_same->('a session that ends');
	$other->{InactiveDestroy} = 1;

	# in its COMMIT, with its share taken
	my $journals = connect_to($node);
	begin_with_lock($journals, 'persist_pipeline_internal.persist_journal_1, persist_pipeline_internal.persist_journal_2, persist_pipeline_internal.persist_journal_3', 'EXCLUSIVE');
	$other = connect_to($node);
	start_sql($other, "SELECT persist_enqueue('t'::regclass, jsonb_build_object('n', 0, 'filler', repeat('x', 10000)))");
	wait_until('it takes its share', sub { queue_value($dbh, 'journal_bytes') > $held });
	kill 'TERM', $other->{pg_pid};
	$holds_the_same->('a session that ends in its COMMIT');
	$other->{InactiveDestroy} = 1;
	$journals->commit;
	$journals->disconnect;

	$locker->commit;
	ok(flush($dbh), 'not committed: flushed');
	is(queue_value($dbh, 'journal_bytes'), 0, 'not committed: the journal holds nothing');
	ok(holds($dbh, 't', 'ins', 1 .. $n), 'not committed: what was accepted is there, each once, in order');
}

# ---- role_quota

{
	my $alice = connect_to($node, 'postgres', user => 'alice');
	my $bob = connect_to($node, 'postgres', user => 'bob');

	$dbh->do("TRUNCATE t");
	change_setting($dbh, 'role_quota', 30);
	is_too_large($bob, 500, 'It holds 0 kB', qr/"persist_pipeline\.journal_limit" or "persist_pipeline\.role_quota"\./,
		'more than the quota at once');
	lock_targets($locker, 't, u', 'EXCLUSIVE');
	is(enqueue($bob, 't', 1), '00000', 'quota: the first item');
	wait_for_worker_state($dbh, 'retrying');
	my $last = fill($bob, 't', 1, 'quota', '53400');
	like($bob->errstr, qr/role "bob" holds too much of the journal.*DETAIL:.*30 %.*HINT:.* cannot write: SQLSTATE 55P03\./s, 'quota: with all that is to be told');
	is_deeply([ grep { enqueue($alice, 't', 1000 + $_) ne '00000' } 1 .. 30 ], [], 'quota: alice does not notice');
	is(enqueue($bob, 't', 0), '53400', 'quota: bob still does');
	is(enqueue($dbh, 't', 2000), '00000', 'quota: nor does a third one notice');
	$locker->commit;
	ok(flush($dbh), 'quota: flushed');
	ok(holds($dbh, 't', 'n', 1 .. $last, 1001 .. 1030, 2000), 'quota: what was accepted is there, each once');
	is(enqueue($bob, 't', $last + 1), '00000', 'quota: bob can go on');
	ok(flush($dbh), 'quota: flushed');

	# in the ring, where what is not transactional can't go elsewhere
	$dbh->do("TRUNCATE t");
	lock_targets($locker, 't, u', 'EXCLUSIVE');
	$last = fill($bob, 'u', 0, 'quota of the ring', '53400', filler => 1000, transactional => 0);
	like($bob->errstr, qr/role "bob" holds too much of the ring.*DETAIL:.*30 %/s, 'quota of the ring: with all that is to be told');
	cmp_ok($last, '>', 40, 'quota of the ring: bob could use his share');
	is_deeply([ grep { enqueue($alice, 'u', 1000 + $_, filler => 1000, transactional => 0) ne '00000' } 1 .. 40 ],
		[], 'quota of the ring: alice does not notice');
	is_deeply([ grep { enqueue($bob, 'u', 2000 + $_, filler => 1000) ne '00000' } 1 .. 40 ],
		[], 'quota of the ring: what is transactional goes to the journal');
	is(queue_value($dbh, 'diverted'), 1, 'quota of the ring: as can be seen');
	$locker->commit;
	ok(flush($dbh), 'quota of the ring: flushed');
	ok(holds($dbh, 'u', 'n', 1 .. $last, 1001 .. 1040, 2001 .. 2040), 'quota of the ring: what was accepted is there, each once');
	is(queue_value($dbh, "journal_bytes || ' ' || ring_used"), '0 0', 'quota: nothing is held');
	is(enqueue($bob, 'u', 0, transactional => 0), '00000', 'quota of the ring: bob can go on');
	ok(flush($dbh), 'quota of the ring: flushed');
	$_->disconnect foreach $alice, $bob;
	change_setting($dbh, 'role_quota', 100);
}

# ---- no slot is free

# `many` databases want the only one.
sub starve
{
	my ($name, $many, $restart) = @_;
	my @names = map { "hungry_$_" } 1 .. $many;
	my (%sessions, %sent, %expected);

	lock_for_ever($locker, 't');
	is(enqueue($dbh, 't', 0), '00000', "$name: the slot is held");
	wait_for_worker_state($dbh, 'retrying');
	my $connect = sub { %sessions = map { $_ => [ connect_to($node, $_), connect_to($node, $_) ] } @names };
	my $load = sub {
		foreach my $i (1 .. 20)
		{
			foreach my $database (@names)
			{
				# two sessions in turn: who comes second has seen the first one's COMMIT
				my $session = $sessions{$database}[ $i % 2 ];

				foreach my $target ('t', 'u')
				{
					my $first = ($sent{"$database $target"} || 0) + 1;
					my $last = $first + ($i % 5 == 0 ? 199 : 0);

					$session->do("SELECT persist_enqueue('$target'::regclass, jsonb_build_object('n', i)) FROM generate_series($first, $last) AS i");
					$sent{"$database $target"} = $last;
				}
			}
		}
	};

	$connect->();
	$load->();
	foreach my $database (@names)
	{
		my $session = $sessions{$database}[0];

		is(enqueue($session, 'u', 0, transactional => 0), '53000', "$name: $database: what needs a ring is refused");
		like($session->errstr, qr/no ring is free.*HINT:.*max_databases/s, "$name: $database: with a hint");
		is(one_value($session, "SELECT persist_flush('100 ms')"), 0, "$name: $database: a flush finds no end");
	}
	if ($restart)
	{
		$_->disconnect foreach map { @$_ } values %sessions;
		$node->stop('immediate');
		$node->start;
		connect_again();
		$connect->();
		$load->();
	}

	my @waiting = map { connect_to($node, $_) } @names;
	start_sql($_, "SELECT persist_flush('300 s')") foreach @waiting;
	$dbh->do("ROLLBACK PREPARED 'lock'");
	ok(flush($dbh), "$name: the first database is flushed");
	my $freed = time;
	is_deeply([ grep { $_ ne '00000' } map { finish_sql($_) } @waiting ], [], "$name: flushes that waited come to their end");
	my $waited = time - $freed;
	ok(flush($sessions{$_}[0]), "$name: $_ is flushed") foreach @names;
	note sprintf '%s: %d databases waited %.2f s for the slot', $name, $many, $waited;
	foreach my $database (@names)
	{
		my $session = $sessions{$database}[0];

		ok(holds($session, $_, 'ins', 1 .. $sent{"$database $_"}), "$name: $database: $_ has all, each once, in the order of the commits")
		  foreach 't', 'u';
		is(one_value($session, "SELECT persist_flush()"), 1, "$name: $database: nothing is left");
		$session->do("TRUNCATE t, u");
	}
	$_->disconnect foreach @waiting, map { @$_ } values %sessions;
	return;
}

foreach my $database (map { "hungry_$_" } 1 .. 3)
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, "CREATE EXTENSION persist_pipeline; $tables");
}
change_setting($dbh, 'journal_limit', '1GB');
starve('no slot', 1, 0);
starve('no slot, three', 3, 0);
starve('no slot, restart', 3, 1);

# its journal has a limit, too
{
	my $hungry = connect_to($node, 'hungry_1');

	change_setting($dbh, 'journal_limit', '1MB');
	lock_for_ever($locker, 't');
	is(enqueue($dbh, 't', 0), '00000', 'no slot, limit: the slot is held');
	wait_for_worker_state($dbh, 'retrying');
	my $n = fill($hungry, 't', 0, 'no slot, limit', '53400');
	like($hungry->errstr, qr/the journal of database "hungry_1" is full.*HINT:.*max_databases/s, 'no slot, limit: with a hint');
	$dbh->do("ROLLBACK PREPARED 'lock'");
	ok(flush($dbh), 'no slot, limit: the first database is flushed');
	ok(flush($hungry), 'no slot, limit: the other one, too');
	ok(holds($hungry, 't', 'ins', 1 .. $n), 'no slot, limit: what was accepted is there, each once, in order');
	is(enqueue($hungry, 't', $n + 1), '00000', 'no slot, limit: calls succeed again');
	ok(flush($hungry), 'no slot, limit: flushed');
	$hungry->disconnect;
	change_setting($dbh, 'journal_limit', '1GB');
}

# ---- transaction_buffer

sub forget_peak
{
	my ($pid) = @_;

	open my $file, '>', "/proc/$pid/clear_refs" or return;
	print $file 5;
	close $file;
	return;
}

# All items have one size, or else a later one may be put into an earlier page.
my $item = "persist_enqueue('t'::regclass, jsonb_build_object('n', i, 'filler', repeat('y', 100)))";

sub enqueue_series
{
	my ($session, $first, $last) = @_;

	return try_sql($session, "SELECT count($item) FROM generate_series($first, $last) AS i");
}

ok(flush($dbh), 'buffer: flushed');
$dbh->do("TRUNCATE t");
$dbh->do("DROP TRIGGER number ON t");    # ctid tells the order, and faster
foreach my $buffer ('64kB', '4MB')
{
	my $kb = $buffer eq '64kB' ? 64 : 4096;
	my $name = "buffer of $buffer";

	change_setting($dbh, 'transaction_buffer', $buffer);
	my $session = connect_to($node);
	$session->do("SET work_mem = '64kB'");
	is(enqueue_series($session, 0, 9), '00000', "$name: a small transaction");
	my ($at_start) = own_memory($session->{pg_pid});
	forget_peak($session->{pg_pid});

	$session->begin_work;
	$session->do("SAVEPOINT early");
	enqueue_series($session, -100, -1);
	$session->do("ROLLBACK TO SAVEPOINT early");
	enqueue_series($session, 10, 99);
	$session->do("DECLARE c CURSOR FOR SELECT $item FROM generate_series(100, 2000) AS i");
	$session->do("FETCH 500 FROM c");
	$session->do("SAVEPOINT late");

	# what a cursor enqueues in there is rolled back, but the cursor stays where it is
	enqueue_series($session, -50000, -1);
	$session->do("FETCH 400 FROM c");
	$session->do("ROLLBACK TO SAVEPOINT late");
	enqueue_series($session, 600, 999);
	$session->do("FETCH ALL FROM c");
	enqueue_series($session, 2001, 59999);
	$session->do("SAVEPOINT large");
	enqueue_series($session, -60000, -1);
	$session->do("SAVEPOINT nested");
	enqueue_series($session, -10, -1);
	$session->do("RELEASE nested");
	$session->do("ROLLBACK TO SAVEPOINT large");
	$session->do("SAVEPOINT kept");
	enqueue_series($session, 60000, 119999);
	$session->do("RELEASE kept");
	$session->do(
		qq{DO \$\$
		BEGIN
			FOR k IN 12 .. 19 LOOP
				BEGIN
					PERFORM $item FROM generate_series(k * 10000, k * 10000 + 9999) AS i;
					BEGIN
						PERFORM $item FROM generate_series(-7000, -1) AS i;
						RAISE 'no' USING ERRCODE = 'P0099';
					EXCEPTION WHEN SQLSTATE 'P0099' THEN
						-- rolled back
					END;
				EXCEPTION WHEN SQLSTATE 'P0098' THEN
					-- not this one
				END;
			END LOOP;
		END \$\$});
	my ($before) = own_memory($session->{pg_pid});
	$session->commit;
	my ($after, $peak) = own_memory($session->{pg_pid});
	note sprintf '%s: %d kB at the start, %d before the COMMIT, %d after it, %d at the most', $name, $at_start, $before, $after, $peak;
	cmp_ok($_ - $at_start, '<', 3 * $kb + 5 * 1024, "$name: the session stays small") foreach $before, $after, $peak;
	ok(flush($dbh), "$name: flushed");
	ok(holds($dbh, 't', 'ctid', 0 .. 199999), "$name: all there, each once, in order");

	# a temporary file has its own limit
	$dbh->do("TRUNCATE t");
	$session->do("SET temp_file_limit = '1MB'");
	is(enqueue_series($session, 1, 60000), '53400', "$name: temp_file_limit");
	is(enqueue_series($session, 1, 100), '00000', "$name: temp_file_limit: then others pass");
	$session->begin_work;
	enqueue_series($session, 101, 200);
	$session->do("SAVEPOINT s");
	is(enqueue_series($session, 1, 60000), '53400', "$name: temp_file_limit: after a savepoint");
	$session->do("ROLLBACK TO SAVEPOINT s");
	is(enqueue_series($session, 201, 300), '00000', "$name: temp_file_limit: which is gone back to");
	is(try_sql($session, "COMMIT"), '00000', "$name: temp_file_limit: and what came before it can be committed");
	$session->rollback if !$session->{AutoCommit};
	ok(flush($dbh), "$name: flushed");
	ok(holds($dbh, 't', 'ctid', 1 .. 300), "$name: temp_file_limit: what was committed is there");
	$dbh->do("TRUNCATE t");
	$session->disconnect;
}
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_ls_tmpdir()"), 0, 'buffer: no temporary file is left');

# ---- items that are larger than the ring

is(enqueue($dbh, 't', 1, filler => 200_000_000), '00000', 'large: one of 200 MB');
$dbh->begin_work;
enqueue($dbh, 't', 2);
enqueue($dbh, 't', 3, filler => 10_000_000);
enqueue($dbh, 't', 4);
$dbh->commit;
ok(flush($dbh), 'large: flushed');
is(one_value($dbh, "SELECT string_agg(format('%s %s', n, length(filler)), ', ' ORDER BY ctid) FROM t"),
	"1 200000000, 2 $filler, 3 10000000, 4 $filler", 'large: all there');
is(queue_value($dbh, 'journal_bytes'), 0, 'large: the journal holds nothing');

$_->disconnect foreach $dbh, $locker;
is_deeply(
	[
		complaints(
			$node,
			$everything_from,
			qr/client backend 53400 ERROR:  (the journal of database|role "bob" holds too much|temporary file size exceeds)/,
			qr/client backend 53000 ERROR:  no ring is free/,
			qr/client backend 40001 ERROR:  could not serialize/,
			qr/client backend 23505 ERROR:  duplicate key/,
			qr/client backend 57P01 FATAL:  terminating connection/,
			qr/WARNING:  .*was forced to stop/,
			qr/57P03 FATAL:  the database system is/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');
$node->stop;
done_testing();
