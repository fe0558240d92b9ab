
# Commands that concern the extension as a whole, whatever its worker is doing:
# they take a moment; what waits is dropped with the extension, and with nothing
# less; what is created again works, and no old item shows up in it.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;
use Time::HiRes qw(time usleep);

# Items wait until someone flushes.
my $node = pp_node(
	'extension',
	init => [ allows_streaming => 1 ],
	'persist_pipeline.adaptive_flush' => 'off',
	'persist_pipeline.flush_interval' => "'1h'",
	'persist_pipeline.max_workers' => 4,
	max_prepared_transactions => 5);
my $everything_from = log_position($node);

# The extension lives in "home" where nothing else is said.  Rows for "slow" sleep
# while there is something in "gate"; those for "dodging" can't even be cancelled.
$node->safe_psql(
	'postgres', q{
	DROP EXTENSION persist_pipeline;
	ALTER DATABASE postgres SET search_path = public, home;
	CREATE ROLE keeper SUPERUSER;
	CREATE ROLE other LOGIN;
	CREATE TABLE t (n int);
	CREATE TABLE gate (n int);
	CREATE TABLE slow (n int);
	CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN WHILE EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.1); END LOOP; RETURN NEW; END $$;
	CREATE TRIGGER wait BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION wait();
	CREATE TABLE dodging (n int);
	CREATE FUNCTION dodge() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		LOOP
			BEGIN
				PERFORM pg_sleep(60);
			EXCEPTION WHEN query_canceled THEN
				-- once more
			END;
		END LOOP;
	END $$;
	CREATE TRIGGER dodge BEFORE INSERT ON dodging FOR EACH ROW EXECUTE FUNCTION dodge();
	GRANT INSERT ON t TO other;
});
my $admin = connect_to($node);
my $client = connect_to($node);

my $create = "CREATE EXTENSION persist_pipeline SCHEMA home";
my $drop = "DROP EXTENSION persist_pipeline";

# Whatever there was: a new extension, and empty tables.
sub anew
{
	$admin->do($_) foreach (
		"SET client_min_messages = warning",
		"DROP EXTENSION IF EXISTS persist_pipeline CASCADE",
		"SET ROLE keeper",
		"CREATE SCHEMA IF NOT EXISTS home",
		$create,
		"RESET ROLE",
		"RESET client_min_messages",
		"DELETE FROM gate",
		"TRUNCATE t, slow, dodging");
	return;
}

# The same, where the journal may be locked, as a table is that is being dropped:
# the commit waits for the end of that.  See finish_sql.
sub start_to_enqueue
{
	my ($dbh, $table, $n) = @_;

	start_sql($dbh, "SELECT persist_enqueue('$table', '{\"n\": $n}')");
	wait_for_lock($dbh);
	return;
}

# Wait until a session waits for a lock, or has come to its end.
sub wait_for_lock
{
	my ($dbh) = @_;

	# not in this database: where pg_extension is locked a session may not come in, from 18 on
	usleep(10_000)
	  until !is_running($dbh)
	  || $node->safe_psql('template1',
		"SELECT count(*) FROM pg_stat_activity WHERE pid = $dbh->{pg_pid} AND wait_event_type = 'Lock'") eq '1';
	return;
}

# The numbers in a table.
sub rows
{
	my ($table) = @_;

	return $node->safe_psql('postgres', "SELECT array_agg(n ORDER BY n) FROM $table");
}

# A trigger of this table holds the worker.
sub wait_for_sleep
{
	$node->safe_psql('postgres', "SELECT persist_flush('1 ms')");
	return wait_until_worker_sleeps($node);
}

# Run a command, which takes a moment; the NOTICEs that it gives.
sub notices_of
{
	my ($dbh, $sql) = @_;
	my @notices;
	local $SIG{__WARN__} = sub { push @notices, @_ };
	local $dbh->{PrintWarn} = 1;
	my $start = time;

	$dbh->do($sql);
	is_quick(time - $start, 1, "$sql: under a second");
	return map { /NOTICE:  (.*)/ } @notices;
}

sub dropped
{
	my ($items) = @_;

	return "$items items that have not been written are dropped with extension \"persist_pipeline\"";
}

# Only what is handed over from now on arrives, with these numbers.
sub works_anew
{
	my ($name, @n) = @_;

	enqueue_rows($client, 't', @n);
	ok(flush($node), "$name: flushed");
	is(rows('t'), '{' . join(',', @n) . '}', "$name: no old item");
	is(queue_value($node, 'items_pending'), '0', "$name: nothing is left");
	return;
}

# ---- any schema, and names in the way

$admin->do("CREATE TABLE persist_id_seq (n int)");
$admin->do("CREATE FUNCTION persist_batch(token bigint, shape anyelement) RETURNS SETOF anyelement LANGUAGE plpgsql AS 'BEGIN RAISE ''not this one''; END'");
$admin->do("CREATE FUNCTION persist_batch() RETURNS SETOF record LANGUAGE plpgsql AS 'BEGIN RAISE ''not this one''; END'");
my $number = 0;
foreach my $name ('An "odd" Schema', 'select', 'with.dot', ' ')
{
	my $schema = $admin->quote_identifier($name);
	my $enqueue = "SELECT count($schema.persist_enqueue('t', '{\"n\": %d}'))";

	$admin->do("CREATE SCHEMA $schema");
	$admin->do("CREATE EXTENSION persist_pipeline SCHEMA $schema");
	$client->do(sprintf($enqueue, ++$number));
	is($node->safe_psql('postgres', "SELECT $schema.persist_flush('300 s')"), 't', "schema $schema: flushed");
	is(rows('t'), '{' . join(',', 1 .. $number) . '}', "schema $schema: the row is there");
	$client->do(sprintf($enqueue, 999));
	is_deeply(
		[ grep { /items/ } notices_of($admin, "DROP SCHEMA $schema CASCADE") ],
		[ dropped(1) ], "schema $schema: dropped, with what waits");
}
is(rows('t'), '{1,2,3,4}', 'nothing else');
$admin->do("DROP TABLE persist_id_seq");
$admin->do("DROP FUNCTION persist_batch()");
$admin->do("DROP FUNCTION persist_batch(bigint, anyelement)");

# ---- every command that drops it, whatever the worker does

# Bring about a state; returns how many items wait.
my %states = (
	'no worker' => sub {
		is(worker_pid($node), '', 'no worker runs');
		return 0;
	},
	'idle' => sub {
		enqueue_rows($client, 't', 101);
		flush($node);
		ok(wait_for_queue($node, "worker_state = 'idle'"), 'the worker is idle');
		$client->do("TRUNCATE t");
		return 0;
	},
	'gathering' => sub {
		enqueue_rows($client, 't', 101 .. 103);
		ok(wait_for_queue($node, "worker_state = 'gathering'"), 'the worker gathers items');
		return 3;
	},
	'busy' => sub {
		$client->do("INSERT INTO gate VALUES (1)");
		enqueue_rows($client, $_, 101 .. 103) foreach ('t', 'slow');
		ok(wait_for_sleep(), 'the worker is in the middle of a batch');
		return 6;
	},
	'dodging' => sub {
		enqueue_rows($client, 'dodging', 101);
		ok(wait_for_sleep(), 'the worker is in code that cannot be cancelled');
		return 1;
	});
my @commands = ($drop, "DROP SCHEMA home CASCADE", "DROP OWNED BY keeper CASCADE");

foreach my $state (sort keys %states)
{
	foreach my $command (@commands)
	{
		my $name = "$command, $state";

		anew();
		my $items = $states{$state}->();
		my @expected = $items ? dropped($items) : ();
		is_deeply([ grep { /items/ } notices_of($admin, $command) ], \@expected, "$name: what is dropped");
		is(worker_pid($node), '', "$name: no worker");
		is($node->safe_psql('postgres', "SELECT count(*) FROM pg_extension WHERE extname = 'persist_pipeline'"),
			'0', "$name: gone");
		$client->do("DELETE FROM gate");

		$admin->do("CREATE SCHEMA IF NOT EXISTS home");
		$admin->do($create);
		works_anew($name, 1, 2);
		is(rows('slow'), '', "$name: nor elsewhere");
	}
}

# ---- a batch of which a part has been written

anew();
$admin->do("GRANT USAGE ON SCHEMA home TO other");
$admin->do("GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO other");
$client->do("INSERT INTO gate VALUES (1)");
$client->do("SET ROLE other");
enqueue_rows($client, 't', 1, 2);
$client->do("RESET ROLE");
enqueue_rows($client, 'slow', 101 .. 103);
wait_for_sleep();
is(rows('t'), '{1,2}', 'one role\'s items have been written');
is_deeply([ notices_of($admin, $drop) ], [ dropped(3) ], 'the others are dropped');

# ---- not committed: the worker is away meanwhile, and everything arrives

# What is dropped is not, in the end: by these statements.
my %undone = (
	'ROLLBACK' => [ "BEGIN", $drop, "ROLLBACK" ],
	'ROLLBACK TO' => [ "BEGIN", "SAVEPOINT a", $drop, "ROLLBACK TO a", "COMMIT" ],
	'ROLLBACK TO, after RELEASE' =>
	  [ "BEGIN", "SAVEPOINT a", "SAVEPOINT b", $drop, "RELEASE b", "ROLLBACK TO a", "COMMIT" ],
	'an exception' => [
		"BEGIN",
		"DO \$\$ BEGIN $drop; RAISE 'no' USING ERRCODE = 'P1234'; EXCEPTION WHEN SQLSTATE 'P1234' THEN END \$\$",
		"COMMIT"
	],
	'ROLLBACK after CREATE' => [ "BEGIN", $drop, $create, "ROLLBACK" ]);

foreach my $name (sort keys %undone)
{
	foreach my $state ('gathering', 'busy')
	{
		my @statements = @{ $undone{$name} };
		my $last = pop @statements;

		anew();
		my $items = $states{$state}->();
		foreach my $statement (@statements)
		{
			$admin->do($statement);
			is(worker_pid($node), '', "$name, $state: no worker meanwhile") if $statement =~ /DROP|ALTER/;
		}
		start_to_enqueue($client, 't', 1);
		is($node->safe_psql('postgres', "SELECT persist_flush('1 ms')"), 'f', "$name, $state: nobody writes");
		$node->safe_psql('postgres', "DELETE FROM gate");
		$admin->do($last);
		is(finish_sql($client), '00000', "$name, $state: who enqueues can commit");

		ok(flush($node), "$name, $state: flushed");
		is(rows('t'), '{1,101,102,103}', "$name, $state: everything arrives");
		is(rows('slow'), $state eq 'busy' ? '{101,102,103}' : '', "$name, $state: once");
	}
}

# the session ends in the middle
foreach my $end ('disconnected', 'terminated')
{
	my $dbh = connect_to($node);

	anew();
	$states{gathering}->();
	$dbh->begin_work;
	$dbh->do($drop);
	$admin->do("SELECT pg_terminate_backend($dbh->{pg_pid}, 10000)") if $end eq 'terminated';
	eval { $dbh->disconnect };
	ok(flush($node), "$end: flushed");
	is(rows('t'), '{101,102,103}', "$end: everything arrives");
}

# what fails, or isn't allowed, disturbs nobody
anew();
$states{idle}->();
my $pid = worker_pid($node);
$client->do("CREATE VIEW dependent AS SELECT * FROM home.persist_queue");
is(try_sql($client, $drop), '2BP01', 'a DROP that something depends on fails');
$client->do("DROP VIEW dependent");
enqueue_rows($client, 't', 1);
ok(flush($node), 'and the worker is back');
$pid = worker_pid($node);
$client->do("SET ROLE other");
is(try_sql($client, $drop), '42501', 'so does that of somebody else');
is(try_sql($client, "ALTER EXTENSION persist_pipeline SET SCHEMA public"), '42501', 'and ALTER EXTENSION');
$client->do("RESET ROLE");
is(worker_pid($node), $pid, 'the worker has not moved');

# ---- items of the same transaction

anew();
$states{gathering}->();
$admin->do("BEGIN");
enqueue_rows($admin, 't', 201, 202);
is_deeply([ notices_of($admin, $drop) ], [ dropped(5) ], 'the items of its own transaction are counted');
is(try_sql($admin, "COMMIT"), '00000', 'and go with it');
$admin->do($create);
works_anew('after a DROP of one\'s own items', 1);

anew();
$states{gathering}->();
$admin->do("BEGIN");
enqueue_rows($admin, 't', 201);
$admin->do("SAVEPOINT a");
$admin->do($drop);
$admin->do("ROLLBACK TO a");
enqueue_rows($admin, 't', 202);
is(try_sql($admin, "COMMIT"), '00000', 'a DROP that was rolled back to a savepoint');
ok(flush($node), 'flushed');
is(rows('t'), '{101,102,103,201,202}', 'takes no item with it');

anew();
$states{gathering}->();
$admin->do("BEGIN");
enqueue_rows($admin, 't', 201, 202);
$admin->do($drop);
$admin->do($create);
enqueue_rows($admin, 't', 1, 2);
$admin->do("SELECT persist_enqueue('t', '{\"n\": 3}', false)");
is(try_sql($admin, "COMMIT"), '00000', 'dropped and created again, with items before and after');
ok(flush($node), 'flushed');
is(rows('t'), '{1,2,3}', 'those after it arrive');

# more than fit into the ring, after an installation that has lived for long: their positions
# are in the order of the new one
anew();
$admin->do("SELECT setval('persist_pipeline_internal.persist_id_seq', 50000001)");
enqueue_rows($admin, 't', 301, 302);
ok(flush($node), 'flushed');
$admin->do("TRUNCATE t");
$admin->do("BEGIN");
$admin->do($drop);
$admin->do($create);
$admin->do("SELECT count(persist_enqueue('t', jsonb_build_object('n', i))) FROM generate_series(1, 100000) AS i");
is(try_sql($admin, "COMMIT"), '00000', 'dropped and created again, with many items after it');
enqueue_rows($admin, 't', 100001);
ok(flush($node), 'flushed');
is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n), max(n) FROM t'), '100001|100001|100001', 'all arrive');
is($node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT n, lag(n) OVER (ORDER BY ctid) AS before FROM t) AS q WHERE n <= before'), '0', 'in their order');


anew();
$states{gathering}->();
$admin->do("BEGIN");
$admin->do($drop);
$admin->do($create);
enqueue_rows($admin, 't', 201, 202);
is_deeply([ notices_of($admin, $drop) ], [ dropped(2) ], 'dropped twice: each item is counted once');
$admin->do($create);
enqueue_rows($admin, 't', 1);
is(try_sql($admin, "COMMIT"), '00000', 'twice in a transaction');
ok(flush($node), 'flushed');
is(rows('t'), '{1}', 'the last one counts');

anew();
$states{gathering}->();
$admin->do("BEGIN");
$admin->do($drop);
$admin->do($create);
enqueue_rows($admin, 't', 201);
$admin->do("SELECT persist_enqueue('t', '{\"n\": 202}', false)");
$admin->do("ROLLBACK");
ok(flush($node), 'flushed');
is(rows('t'), '{101,102,103}', 'items of an extension that never was are gone with it; the others arrive');
enqueue_rows($admin, 't', 1);
ok(flush($node), 'flushed');
is(rows('t'), '{1,101,102,103}', 'and those that the session hands over later');

$admin->do($drop);
$admin->do("TRUNCATE t");
$admin->do("BEGIN");
$admin->do($create);
enqueue_rows($admin, 't', 201);
$admin->do("SELECT persist_enqueue('t', '{\"n\": 202}', false)");
$admin->do("ROLLBACK");
$admin->do($create);
works_anew('after a CREATE that was rolled back', 1);
enqueue_rows($admin, 't', 2);
ok(flush($node), 'flushed');
is(rows('t'), '{1,2}', 'also for the session that rolled it back');

# ---- items of other transactions

# Who fetches ids holds a lock until its transaction ends, and a DROP waits for it.
# These have ids at hand.
sub anew_with_ids
{
	anew();
	enqueue_rows($client, 't', 300);
	return;
}

my $late = connect_to($node);

# committed after the DROP
foreach my $again (0, 1)
{
	my $name = $again ? 'dropped and created again' : 'dropped';

	anew_with_ids();
	$late->do("BEGIN");
	enqueue_rows($late, 't', 301);
	$admin->do($drop);
	$admin->do($create) if $again;
	is(try_sql($late, "COMMIT"), $again ? '55000' : '42704', "$name: a transaction that enqueued before can't commit");
	like($late->errstr, qr/extension "persist_pipeline" (was dropped while|does not exist)/, "$name: the error says why");
	$admin->do($create) if !$again;
	works_anew($name, 1);
}

# committed while it is being dropped
foreach my $end ('COMMIT', 'ROLLBACK')
{
	anew_with_ids();
	$late->do("BEGIN");
	enqueue_rows($late, 't', 301);
	$admin->do("BEGIN");
	$admin->do($drop);
	start_to_enqueue($client, 't', 302);
	start_sql($late, "COMMIT");
	wait_for_lock($late);
	$admin->do($end);
	is(finish_sql($_), $end eq 'COMMIT' ? '42P01' : '00000', "a commit during a DROP that ends with $end") foreach $late, $client;
	$admin->do($create) if $end eq 'COMMIT';
	enqueue_rows($client, 't', 1);
	ok(flush($node), 'flushed');
	is(rows('t'), $end eq 'COMMIT' ? '{1}' : '{1,300,301,302}', "its items have the fate of the extension: $end");
}

# it comes to its end while somebody who knows it looks for it
anew();
one_value($late, "SELECT count(*) FROM persist_queue");
$admin->do("BEGIN");
$admin->do("LOCK TABLE pg_extension");
$admin->do($drop);
start_sql($late, "SELECT persist_stats_reset()");
wait_for_lock($late);
$admin->do("COMMIT");
is(finish_sql($late), '42704', 'gone at the same moment: there is none');
$admin->do($create);

# they don't keep the worker from being called for those that come later
anew();
$states{idle}->();
$admin->do("BEGIN");
$admin->do($drop);
start_to_enqueue($client, 't', 301);
$admin->do("COMMIT");
like(finish_sql($client), qr{^42(?:P01|704)$}, 'what waited for the DROP can\'t be enqueued');
$admin->do($create);
enqueue_rows($client, 't', 1);
ok(wait_for_queue($node, "worker_pid IS NOT NULL AND items_pending = 1"), 'the next item calls the worker');

# in the middle of a statement
anew_with_ids();
$admin->do("SELECT pg_advisory_lock(1)");
start_sql($late, "SELECT persist_enqueue('t', '{\"n\": 301}'), pg_advisory_lock(1), persist_enqueue('t', '{\"n\": 302}')");
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $late->{pg_pid} AND wait_event = 'advisory'"),
	'a statement has enqueued an item, and will do so again');
$admin->do($drop);
$admin->do("SELECT pg_advisory_unlock(1)");
is(finish_sql($late), '42704', 'which is an error then');
$late->do("SELECT pg_advisory_unlock_all()");
$admin->do($create);
works_anew('after that statement', 1);

# in the middle of a commit
anew_with_ids();
$late->do("BEGIN");
$late->do("CREATE TABLE something (n int)");
enqueue_rows($late, 't', 301);
my $hanging = hang_commits($node);
$admin->do("SET synchronous_commit = local");
start_sql($late, "COMMIT");
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $late->{pg_pid} AND wait_event = 'SyncRep'"),
	'a commit hangs');
start_sql($admin, $drop);
wait_for_lock($admin);
ok(is_running($admin), 'a DROP waits for it, as for any lock');
release_commits($node, $hanging);
is(finish_sql($late), '00000', 'it comes to its end');
is(finish_sql($admin), '00000', 'and so does the DROP');
$admin->do("RESET synchronous_commit");
$admin->do($create);
works_anew('after a commit that hung', 1);
$client->do("DROP TABLE something");

my $from;

# ---- persist_flush, while it is dropped

foreach my $end ('COMMIT', 'ROLLBACK')
{
	anew();
	$states{gathering}->();
	$admin->do("BEGIN");
	$admin->do($drop);
	start_sql($late, "SELECT persist_flush('300 s')");
	ok( $node->poll_query_until('postgres',
			"SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = $late->{pg_pid} AND state = 'active'"
			  . " AND wait_event_type = 'Extension'"),
		'persist_flush waits for the end of the DROP');
	my $start = time;
	$admin->do($end);
	is(finish_sql($late), '00000', "$end: it returns");
	is_quick(time - $start, 5, "$end: soon");
	is(rows('t'), $end eq 'ROLLBACK' ? '{101,102,103}' : '', "$end: what it waited for");
	$admin->do($create) if $end eq 'COMMIT';
}
is($node->safe_psql('postgres', "SELECT persist_flush()"), 't', 'nothing to wait for afterwards');

# ---- ALTER EXTENSION

# It has a schema of its own besides the one that it was created in.
foreach my $state ('no worker', 'idle', 'gathering', 'busy')
{
	anew();
	$admin->do("CREATE SCHEMA elsewhere");
	my $items = $states{$state}->();
	enqueue_rows($admin, 't', 300);    # so that there are ids
	$late->do("BEGIN");
	enqueue_rows($late, 't', 301);
	is(try_sql($admin, "ALTER EXTENSION persist_pipeline SET SCHEMA elsewhere"), '0A000', "SET SCHEMA, $state: refused");
	is(try_sql($late, "COMMIT"), '00000', "SET SCHEMA, $state: a transaction that enqueued before can commit");
	$client->do("DELETE FROM gate");
	enqueue_rows($client, 't', 1);
	ok(flush($node), "SET SCHEMA, $state: flushed");
	is(rows('t'), $items ? '{1,101,102,103,300,301}' : '{1,300,301}', "SET SCHEMA, $state: everything arrives");
	$admin->do("DROP SCHEMA elsewhere");
}

$states{gathering}->();
$pid = worker_pid($node);
is_deeply(
	[ notices_of($admin, "ALTER EXTENSION persist_pipeline UPDATE") ],
	['version "1.1" of extension "persist_pipeline" is already installed'],
	'UPDATE, with nothing to do');
is(worker_pid($node), $pid, 'sends nobody away');
is(try_sql($admin, "ALTER EXTENSION persist_pipeline UPDATE TO '7'"), '22023', 'UPDATE to a version that there is not');
ok(flush($node), 'and everything goes on');

# ---- ids: an installation's own, whatever happens to it in transactions

anew();
{
	my @ids;
	my $take = "SELECT persist_enqueue('t', '{\"n\": 1}') FROM generate_series(1, 5)";
	my $other = connect_to($node);

	# one that is dropped and made again in one transaction
	$client->do($take);
	$client->do("BEGIN");
	$client->do($drop);
	$client->do($create);
	push @ids, @{ $client->selectcol_arrayref($take) };
	$client->do("COMMIT");
	push @ids, @{ $_->selectcol_arrayref($take) } foreach $client, $other, $client;
	is(scalar(keys %{ { map { $_ => 1 } @ids } }), 20, 'ids after DROP and CREATE in one transaction: none twice');
	ok(flush($node), 'flushed');

	# one that comes back because that is rolled back
	@ids = @{ $client->selectcol_arrayref($take) };
	foreach my $round (1 .. 2)
	{
		$client->do("BEGIN");
		$client->do($drop);
		$client->do($create);
		$client->do($take);
		$client->do("ROLLBACK");
		push @ids, @{ $_->selectcol_arrayref($take) } foreach $other, $client;
	}
	is(scalar(keys %{ { map { $_ => 1 } @ids } }), 25, 'ids after that was rolled back: none twice');
	$other->disconnect;
	ok(flush($node), 'flushed');
}

# ---- two-phase commit

anew();
$states{gathering}->();
$admin->do("BEGIN");
$admin->do($drop);
is(try_sql($admin, "PREPARE TRANSACTION 'one'"), '0A000', 'a DROP can\'t be prepared');
like($admin->errstr, qr/cannot PREPARE a transaction that has .* extension/, 'and the error says so');
$admin->do("BEGIN");
$admin->do("ALTER EXTENSION persist_pipeline UPDATE");
my $prepared = try_sql($admin, "PREPARE TRANSACTION 'two'");
is($node->safe_psql('postgres', "SELECT home.persist_flush('300 s')"), 't', "ALTER EXTENSION, PREPARE ($prepared): the worker is there");
$admin->do("ROLLBACK PREPARED 'two'") if $prepared eq '00000';
ok(flush($node), 'flushed');
is(rows('t'), '{101,102,103}', 'everything arrives');

# ---- a trigger, in the worker

foreach my $command ($drop, "DROP SCHEMA home CASCADE", "DROP OWNED BY keeper CASCADE")
{
	anew();
	$client->do("CREATE TABLE sawing (n int)");
	$client->do("CREATE FUNCTION saw() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN IF NEW.n > 200 THEN $command; END IF; RETURN NEW; END \$\$");
	$client->do("CREATE TRIGGER saw BEFORE INSERT ON sawing FOR EACH ROW EXECUTE FUNCTION saw()");
	$from = log_position($node);
	enqueue_rows($client, 'sawing', 101, 201, 102);
	enqueue_rows($client, 't', 1);
	is($node->safe_psql('postgres', "SELECT persist_flush('300 s')"), 't', "$command by a trigger: flushed");
	is(rows('t'), '{1}', "$command by a trigger: other items arrive");
	is(rows('sawing'), '{101,102}', "$command by a trigger: so do the others for that table");
	wait_until_told($client);
	is(scalar(log_since($node, $from, qr/persist_pipeline (?:worker|retrier) \w+ WARNING:  item \d+ for relation "public.sawing"/)),
		1, "$command by a trigger: an error to it");
	anew();
	$client->do("DROP TABLE sawing");
	$client->do("DROP FUNCTION saw");
}

# ---- SQL that the library can't use: an error to the callers, and no crash

# How the installation is spoilt, and mended.
my %faults = (
	'older SQL' => [
		"UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'persist_pipeline'",
		"UPDATE pg_extension SET extversion = '1.1' WHERE extname = 'persist_pipeline'"
	],
	'newer SQL' => [
		"UPDATE pg_extension SET extversion = '99.1-beta' WHERE extname = 'persist_pipeline'",
		"UPDATE pg_extension SET extversion = '1.1' WHERE extname = 'persist_pipeline'"
	],
	'no sequence' => [
		"ALTER SEQUENCE persist_pipeline_internal.persist_id_seq RENAME TO somewhere",
		"ALTER SEQUENCE persist_pipeline_internal.somewhere RENAME TO persist_id_seq"
	],
	'no function' => [
		"ALTER FUNCTION persist_pipeline_batch.persist_batch RENAME TO somewhere",
		"ALTER FUNCTION persist_pipeline_batch.somewhere RENAME TO persist_batch"
	]);

foreach my $fault (sort keys %faults)
{
	my ($spoil, $mend) = @{ $faults{$fault} };

	foreach my $end ($mend, $drop)
	{
		my $name = "$fault, then " . ($end eq $drop ? 'DROP' : 'mended');

		anew();
		$states{idle}->();
		$pid = worker_pid($node);
		$late = connect_to($node);
		enqueue_rows($late, 't', 301);    # it knows the extension as it was
		$admin->do($spoil);

		my $new = connect_to($node);
		foreach my $mode ('async', 'direct')
		{
			$new->do("SET persist_pipeline.mode = '$mode'");
			is(try_sql($new, "SELECT persist_enqueue('t', '{\"n\": 0}')"), '55000', "$name: an error in mode $mode");
			like($new->errstr, qr/extension "persist_pipeline" in database "postgres" cannot be used as it is/,
				"$name, mode $mode: it says so");
		}
		$new->disconnect;

		# the worker drains, and the next one sees the fault
		my $began = time;
		$from = log_position($node);
		$admin->do("SELECT pg_terminate_backend($pid)");
		$node->wait_for_log(qr/FATAL:  persist_pipeline worker for database "postgres" cannot work/, $from);
		$node->poll_query_until('postgres', "SELECT NOT bool_or(ring_closed) FROM home.persist_queue")
		  or die 'the ring stays closed';
		is(try_sql($late, "SELECT persist_enqueue('t', '{\"n\": 302}')"), '00000',
			"$name: a session that knows it as it was may go on");
		is($node->safe_psql('postgres', "SELECT home.persist_flush('1 ms')"), 'f', "$name: but nobody writes");
		if ($end eq $drop)
		{
			# without the function, it couldn't write the first one either
			is_deeply([ notices_of($admin, $drop) ], [ dropped($fault eq 'no function' ? 2 : 1) ], "$name: dropped");
			$admin->do("TRUNCATE t");
			$admin->do($create);
			works_anew($name, 1);
		}
		else
		{
			$admin->do($mend);
			ok(flush($node), "$name: flushed");
			is(rows('t'), '{301,302}', "$name: everything arrives");
		}
		# at 0, 1, 5 and 21 s, each a little later
		cmp_ok(scalar(log_since($node, $from, qr/FATAL/)), '<=', 3 + (time - $began) / 4, "$name: the worker backs off");
		$late->disconnect;
	}
}

# a part of it has been dropped
foreach my $part ("SEQUENCE persist_pipeline_internal.persist_id_seq", "FUNCTION persist_pipeline_batch.persist_batch(bigint, anyelement)")
{
	anew();
	$states{idle}->();
	$late = connect_to($node);
	enqueue_rows($late, 't', 301);
	$admin->do("BEGIN");
	$admin->do("ALTER EXTENSION persist_pipeline DROP $part");
	$admin->do("DROP $part");
	$admin->do("COMMIT");
	is(try_sql($late, "SELECT persist_enqueue('t', '{\"n\": 302}')"), '55000', "no $part: an error to all");
	$late->disconnect;
	is_deeply([ notices_of($admin, $drop) ], [ dropped(1) ], "no $part: dropped");
	$admin->do($create);
	works_anew("no $part", 1);
}

# ---- sessions that live through it

anew();
$late = connect_to($node);
$late->do("PREPARE enqueue AS SELECT persist_enqueue('t', jsonb_build_object('n', \$1::int))");
$client->do(
	q{
	CREATE TABLE source (n int);
	CREATE FUNCTION hand_on() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN PERFORM persist_enqueue('t', jsonb_build_object('n', NEW.n)); RETURN NEW; END $$;
	CREATE TRIGGER hand_on AFTER INSERT ON source FOR EACH ROW EXECUTE FUNCTION hand_on();
});
my $direct = connect_to($node);
$direct->do("SET persist_pipeline.mode = 'direct'");
foreach my $round (1 .. 3)
{
	my $last = 0;
	my %seen;

	foreach my $n (1 .. 5)
	{
		my ($id) = $late->selectrow_array("EXECUTE enqueue($n)");

		cmp_ok($id, '>', $last, "round $round: ids increase in a session");
		$last = $id;
		$seen{$_}++ foreach ($id, enqueue_rows($direct, 't', 10 + $n), enqueue_rows($client, 't', 20 + $n));
		$late->do("INSERT INTO source VALUES (30 + $n)");
	}
	is(scalar(keys %seen), 15, "round $round: they are unique");
	ok(flush($node), "round $round: flushed");
	is(rows('t'), '{' . join(',', map { ($_ + 1 .. $_ + 5) } (0, 10, 20, 30)) . '}',
		"round $round: prepared statements, triggers, direct mode");
	is(try_sql($direct, $_), '00000', "round $round: $_") foreach ($drop, $create);
	$admin->do("TRUNCATE t, source");
}

# ---- another database doesn't notice

$admin->do("CREATE DATABASE two");
$node->safe_psql('two', "CREATE EXTENSION persist_pipeline; CREATE TABLE t (n int)");
$node->safe_psql('two', "SELECT persist_enqueue('t', '{\"n\": 1}')");
ok(flush($node, 'two'), 'another database works');
anew();
$states{gathering}->();
$pid = worker_pid($node, 'two');
$node->safe_psql('two', "SELECT persist_enqueue('t', '{\"n\": 2}')");
is_deeply([ notices_of($admin, $drop) ], [ dropped(3) ], 'dropped in the one');
is(worker_pid($node, 'two'), $pid, 'the worker of the other has not moved');
ok(flush($node, 'two'), 'flushed');
is($node->safe_psql('two', "SELECT array_agg(n) FROM t"), '{1,2}', 'nor have its items');

# ---- the log

$_->disconnect foreach ($admin, $client, $direct);
$node->stop;
is_deeply(
	[
		complaints($node, $everything_from,
			qr/client backend \w+ ERROR/,
			qr/client backend 57P01 FATAL:  terminating connection/,
			qr/FATAL:  persist_pipeline worker for database "postgres" cannot work/,
			qr/persist_pipeline (?:worker|retrier) 55P03 ERROR:  canceling statement due to lock timeout/,    # pg_extension was locked
			qr/persist_pipeline (?:worker|retrier) 57P01 FATAL:  terminating background worker/,    # it dodged
			qr/persist_pipeline (?:worker|retrier) \w+ WARNING:  item \d+ for relation "public.sawing"/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');
is(scalar(log_since($node, $everything_from, qr/client backend (XX|58)\w+/)), 0, 'and no internal error');

done_testing();
