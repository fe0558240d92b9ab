
# DROP DATABASE, RENAME, SET TABLESPACE and CREATE DATABASE ... TEMPLATE find a
# database that nobody is connected to, whatever its worker does; and the worker
# comes back when they fail.
#
# PP_DROPS: how many databases are dropped (50).

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use List::Util qw(max sum0);
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $drops = $ENV{PP_DROPS} || 50;

my $node = pp_node(
	'commands',
	'persist_pipeline.flush_interval' => 0,
	'persist_pipeline.statement_timeout' => 0,
	'persist_pipeline.max_workers' => 3);
my $everything_from = log_position($node);
my $control = connect_to($node);
my $position;

create_model_database($node, 'model');

# ---- what the tests below ask again and again

sub worker_of
{
	my ($database) = @_;

	return one_value($control,
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker' AND datname = ?", $database);
}

# In the middle of a batch: the process, and the transaction that it has open.
sub batch_of
{
	my ($database) = @_;

	return one_value($control,
		"SELECT pid || ' since ' || xact_start FROM pg_stat_activity"
		  . " WHERE backend_type = 'persist_pipeline worker' AND datname = ?", $database);
}

# From a session that is gone afterwards, as far as the server is concerned.
sub load
{
	my ($database, $target, $n) = @_;
	my $dbh = connect_to($node, $database);
	my $pid = $dbh->{pg_pid};

	enqueue_rows($dbh, $target, 1 .. $n);
	$dbh->disconnect;
	wait_for_sql($control, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = ?", $pid);
	return;
}

# A batch of five items in the middle of which its worker stays.
sub load_and_wait
{
	my ($database) = @_;

	load($database, 'slow', 5);
	wait_until_in_batch($database);
	return;
}

sub wait_until_in_batch
{
	my ($database) = @_;

	wait_for_sql($control,
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker'"
		  . " AND datname = ? AND wait_event = 'PgSleep'", $database);
	return;
}

sub wait_until_idle
{
	my ($database) = @_;

	wait_for_sql($control,
		"SELECT count(*) = 1 FROM persist_queue WHERE datname = ? AND worker_state = 'idle' AND items_pending = 0",
		$database);
	return;
}

# All items that were handed over are in the table, each once.
sub arrives
{
	my ($database, $target, $n, $name) = @_;
	my $dbh = connect_to($node, $database);

	$dbh->do("INSERT INTO released DEFAULT VALUES");
	ok(one_value($dbh, "SELECT persist_flush('300 s')"), "$name: flushed");
	is(join('|', $dbh->selectrow_array("SELECT count(*), count(DISTINCT n) FROM $target")),
		"$n|$n", "$name: each item once");
	$dbh->disconnect;
	return;
}

# How a statement ends: its SQLSTATE.
sub ends
{
	my ($dbh, $sql, $state, $name) = @_;

	is(try_sql($dbh, $sql), $state, $name);
	return;
}

# ---- DROP DATABASE, while the worker of another database is in a batch

create_database($control, 'busy', 'model');
load_and_wait('busy');
my $busy = batch_of('busy');

# In turn: just loaded; in the middle of a batch; the same, with code that
# doesn't let itself be cancelled; idle; backing off; told to stop; and WITH (FORCE)
# in the middle of a batch with a session connected.
my @kinds = ('after a load', 'in a batch', 'in stubborn code', 'idle', 'backing off', 'stopping', 'by force');
my %seconds = map { $_ => [] } @kinds;
my $wrong_lines = 0;

create_database($control, 'stubborn_model', 'model');
$node->safe_psql(
	'stubborn_model', q{
	CREATE OR REPLACE FUNCTION wait_for_release() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM released) LOOP
			BEGIN
				PERFORM pg_sleep(0.02);
			EXCEPTION WHEN query_canceled THEN
				-- once more
			END;
		END LOOP;
		RETURN NEW;
	END $$;
});

create_database($control, 'retrying_model', 'model');
$node->safe_psql(
	'retrying_model', q{
	CREATE OR REPLACE FUNCTION wait_for_release() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		RAISE serialization_failure;
	END $$;
});
my %model = ('in stubborn code' => 'stubborn_model', 'backing off' => 'retrying_model');

foreach my $number (1 .. $drops)
{
	my $kind = $kinds[ $number % @kinds ];
	my $name = "dropped_$number";
	my $session;
	my ($least, $most) = (5, 5);    # items that are lost with it

	create_database($control, $name, $model{$kind} || 'model');
	if ($kind eq 'after a load')
	{
		load($name, 't', 1000);
		($least, $most) = (0, 1000);
	}
	elsif ($kind eq 'idle')
	{
		load($name, 't', 100);
		wait_until_idle($name);
		($least, $most) = (0, 0);
	}
	elsif ($kind eq 'backing off')
	{
		load($name, 'slow', 5);
		wait_for_sql($control, "SELECT count(*) = 1 FROM persist_queue WHERE datname = ? AND retrier_state = 'waiting'", $name);
	}
	else
	{
		load_and_wait($name);
	}
	if ($kind eq 'stopping')
	{
		one_value($control, "SELECT pg_terminate_backend(?)", worker_of($name));
		wait_for_sql($control, "SELECT ring_closed FROM persist_queue WHERE datname = ?", $name);
	}
	$session = connect_to($node, $name) if $kind eq 'by force';

	$position = log_position($node);
	push @{ $seconds{$kind} },
	  seconds_of(sub { $control->do("DROP DATABASE $name" . ($session ? ' WITH (FORCE)' : '')) });

	# one line that counts, if there is something to count
	my @lines = log_since($node, $position, qr/database "\Q$name\E" was dropped/);
	my ($items) = @lines == 1
	  && $lines[0] =~ /LOG:  database "\Q$name\E" was dropped, and with it (\d+) items that had not been written/;
	my $good = @lines == 0 ? $least == 0 : defined $items && $items > 0 && $items >= $least && $items <= $most;

	if (!$good)
	{
		$wrong_lines++;
		diag "$kind: $_" foreach @lines ? @lines : 'no line';
	}
	if ($session)
	{
		local $session->{RaiseError} = 0;
		$session->disconnect;
	}
}
note sprintf('DROP DATABASE %s, %d times: %.3f s on average, %.3f s at most',
	$_, scalar @{ $seconds{$_} }, sum0(@{ $seconds{$_} }) / (@{ $seconds{$_} } || 1), max(@{ $seconds{$_} }))
  foreach @kinds;
is_quick(max(@{ $seconds{$_} }), 1, "DROP DATABASE $_: each within a second") foreach @kinds;
is(sum0(map { scalar @{ $seconds{$_} } } @kinds), $drops, "$drops in all");
is($wrong_lines, 0, 'and a line that counts what was lost, if anything was');
is(batch_of('busy'), $busy, 'the batch of the other database has noticed nothing');
is(one_value($control, "SELECT string_agg(coalesce(datname, 'gone'), ' ') FROM persist_queue WHERE datname IS NULL OR ring_size IS NOT NULL"), 'busy', 'no ring is left behind');
arrives('busy', 'slow', 5, 'the other database');
$control->do("DROP DATABASE busy");

# a database of this name starts afresh
create_database($control, 'dropped_1', 'model');
load('dropped_1', 't', 3);
arrives('dropped_1', 't', 3, 'a new database with an old name');
$control->do("DROP DATABASE dropped_1");

# ---- RENAME, SET TABLESPACE, CREATE DATABASE ... TEMPLATE

my $directory = PostgreSQL::Test::Utils::tempdir();
$control->do("CREATE TABLESPACE elsewhere LOCATION '$directory'");

# What the commands take where there is no worker.  The limit is a second more, and
# this twice over, since it varies.
create_database($control, 'moved', 'model');
my $move = seconds_of(sub { $control->do("ALTER DATABASE moved SET TABLESPACE elsewhere") });
my $copy = seconds_of(sub { create_database($control, 'copy', 'moved') });
my $copy_files = seconds_of(sub { $control->do("CREATE DATABASE copy_files TEMPLATE moved STRATEGY file_copy") });
$control->do("DROP DATABASE $_") foreach 'copy', 'copy_files', 'moved';

my @commands = (
	[ 'RENAME', 0, "ALTER DATABASE source RENAME TO renamed", "ALTER DATABASE renamed RENAME TO source" ],
	[ 'SET TABLESPACE', $move, "ALTER DATABASE source SET TABLESPACE elsewhere" ],
	[ 'TEMPLATE', $copy, "CREATE DATABASE copy TEMPLATE source STRATEGY wal_log", "DROP DATABASE copy" ],
	[ 'TEMPLATE by file_copy', $copy_files, "CREATE DATABASE copy TEMPLATE source STRATEGY file_copy", "DROP DATABASE copy" ]);

foreach my $command (@commands)
{
	my ($name, $usual, $sql, $undo) = @$command;

	create_database($control, 'source', 'model');
	load('source', 't', 100);
	wait_until_idle('source');

	my $idle = seconds_of(sub { $control->do($sql) });
	$control->do($undo) if $undo;
	load_and_wait('source');

	my $in_batch = seconds_of(sub { $control->do($sql) });
	$control->do($undo) if $undo;

	note sprintf('%s: %.3f s without a worker, %.3f s with one that is idle, %.3f s with one in a batch',
		$name, $usual, $idle, $in_batch);
	is_quick($idle, 1 + 2 * $usual, "$name: within a second, worker idle");
	is_quick($in_batch, 1 + 2 * $usual, "$name: within a second, worker in a batch");

	load('source', 't', 100);
	arrives('source', 'slow', 5, "$name: what waited");
	is($node->safe_psql('source', "SELECT count(*) FROM t"), '200', "$name: what came before and after");
	$control->do("DROP DATABASE source");
}

# The new name is the one that is seen; and the copy has what was written, not
# what waits.
create_database($control, 'source', 'model');
load_and_wait('source');
$control->do("ALTER DATABASE source RENAME TO renamed");
$control->do("CREATE DATABASE copy TEMPLATE renamed");
wait_until_in_batch('renamed');
is(one_value($control, "SELECT string_agg(datname || ' ' || items_pending, ', ') FROM persist_queue WHERE ring_size IS NOT NULL AND items_pending > 0"),
	'renamed 5', 'the ring goes with its database, under its new name');
load('copy', 't', 10);
arrives('copy', 't', 10, 'the copy');
is($node->safe_psql('copy', "SELECT count(*) FROM slow"), '0', 'the items of its original are not its own');
$control->do("DROP DATABASE copy");

# in a transaction block, and by a function: there it holds to the end of the
# transaction, rolled back or not
foreach my $end ('ROLLBACK', 'COMMIT')
{
	my $seconds;

	wait_until_in_batch('renamed');
	$control->do('BEGIN');
	$seconds = seconds_of(sub { $control->do("ALTER DATABASE renamed RENAME TO again") });
	is_quick($seconds, 1, "RENAME in a block, $end: within a second");
	$control->do($end);
	$control->do("DO 'BEGIN ALTER DATABASE again RENAME TO renamed; END'") if $end eq 'COMMIT';
}

# two copies at once: the first to end doesn't let the worker in again
my @copiers = map { connect_to($node) } 1 .. 2;
start_sql($copiers[$_], "CREATE DATABASE copy_$_ TEMPLATE renamed STRATEGY wal_log") foreach 0 .. 1;
is(finish_sql($copiers[$_]), '00000', "two copies at once: $_") foreach 0 .. 1;
$control->do("DROP DATABASE copy_$_") foreach 0 .. 1;
$_->disconnect foreach @copiers;

# from inside, which the server allows if nobody else is there
wait_until_in_batch('renamed');
my $inside = connect_to($node, 'renamed');
my $own = seconds_of(sub { ends($inside, "CREATE DATABASE copy TEMPLATE renamed", '00000', 'a session copies its own database') });
is_quick($own, 1 + 2 * $copy, 'within a second');
ends($inside, "ALTER DATABASE renamed RENAME TO again", '0A000', 'but does not rename it');
$inside->disconnect;
arrives('renamed', 'slow', 5, 'after all that');
$control->do("DROP DATABASE IF EXISTS copy");
$control->do("DROP DATABASE renamed");

# Code that isn't cancelled is ended with its process.  That is not its items'
# fault, however often.
create_database($control, 'source', 'stubborn_model');
load_and_wait('source');
foreach my $time (1 .. 2)
{
	my $seconds = seconds_of(sub { $control->do("ALTER DATABASE source RENAME TO renamed") });

	note sprintf 'RENAME with a worker in stubborn code: %.3f s', $seconds;
	is_quick($seconds, 1, "RENAME: within a second, worker in stubborn code, $time");
	$control->do("ALTER DATABASE renamed RENAME TO source");
	wait_until_in_batch('source');
}
arrives('source', 'slow', 5, 'stubborn code');
$control->do("DROP DATABASE source");

# Code that makes another error of its cancellation doesn't make its items bad.
create_database($control, 'source', 'model');
$node->safe_psql(
	'source', q{
	CREATE OR REPLACE FUNCTION wait_for_release() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		WHILE NOT EXISTS (SELECT FROM released) LOOP
			PERFORM pg_sleep(0.02);
		END LOOP;
		RETURN NEW;
	EXCEPTION WHEN query_canceled THEN
		RAISE 'interrupted';
	END $$;
});
load_and_wait('source');
$control->do("ALTER DATABASE source RENAME TO renamed");
$control->do("ALTER DATABASE renamed RENAME TO source");
arrives('source', 'slow', 5, 'code that renames its cancellation');
$control->do("DROP DATABASE source");

# ---- who may not

$control->do("CREATE ROLE nobody LOGIN");
$control->do("CREATE ROLE creator LOGIN CREATEDB");
$control->do("CREATE ROLE proprietor LOGIN");
create_database($control, 'source', 'model');
$control->do("ALTER DATABASE source OWNER TO proprietor");
load_and_wait('source');

my $before = batch_of('source');
my %refused = (
	nobody => [
		"DROP DATABASE source",
		"DROP DATABASE source WITH (FORCE)",
		"ALTER DATABASE source RENAME TO mine",
		"ALTER DATABASE source SET TABLESPACE elsewhere",
		"CREATE DATABASE mine TEMPLATE source" ],
	creator => [
		"DROP DATABASE source",
		"ALTER DATABASE source RENAME TO mine",
		"ALTER DATABASE source SET TABLESPACE elsewhere",
		"CREATE DATABASE mine TEMPLATE source" ],
	proprietor => [
		"ALTER DATABASE source RENAME TO mine",
		"ALTER DATABASE source SET TABLESPACE elsewhere",
		"CREATE DATABASE mine TEMPLATE source" ]);

foreach my $user (sort keys %refused)
{
	my $dbh = connect_to($node, 'postgres', user => $user);

	ends($dbh, $_, '42501', "$user: $_") foreach @{ $refused{$user} };
	$dbh->disconnect;
}
ends($control, "CREATE DATABASE model TEMPLATE source", '42P04', 'a name that is taken');
ends($control, "ALTER DATABASE source SET TABLESPACE nowhere", '42704', 'no such tablespace');
ends($control, "ALTER DATABASE source IS_TEMPLATE true", '00000', 'a command that needs no empty database');
ends($control, "DROP DATABASE source", '42809', 'a template is not dropped');
ends($control, "ALTER DATABASE source IS_TEMPLATE false", '00000', 'no template any more');
$control->begin_work;
ends($control, "DROP DATABASE source", '25001', 'not in a transaction');
$control->rollback;
is(batch_of('source'), $before, 'none of them has disturbed the worker, nor its batch');

# who owns it may drop it
my $proprietor = connect_to($node, 'postgres', user => 'proprietor');
is_quick(seconds_of(sub { ends($proprietor, "DROP DATABASE source", '00000', 'its owner drops it') }), 1, 'within a second');
$proprietor->disconnect;

# ---- commands that come to nothing

# Another session is connected to the database, so that the command waits for five
# seconds.  Meanwhile it is kept, and then the worker comes back.
sub start_drop
{
	my ($dropper) = @_;

	start_sql($dropper, "DROP DATABASE source");
	wait_for_sql($control,
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'persist_pipeline worker' AND datname = 'source'");
	return;
}

foreach my $end ('fails', 'is cancelled', 'is terminated')
{
	create_database($control, 'source', 'model');
	load_and_wait('source');

	my $session = connect_to($node, 'source');
	my $dropper = connect_to($node);

	$position = log_position($node);
	start_drop($dropper);
	if ($end eq 'fails')
	{
		# items come while it waits
		enqueue_rows($session, 't', 1 .. 10);
		is(finish_sql($dropper), '55006', "a DROP DATABASE that $end");
	}
	elsif ($end eq 'is cancelled')
	{
		one_value($control, "SELECT pg_cancel_backend(?::int)", $dropper->{pg_pid});
		finish_sql($dropper);    # of a statement that somebody else cancels, not every driver tells an error
		ok(scalar(log_since($node, $position, qr/57014 ERROR:  canceling statement due to user request/)), "a DROP DATABASE that $end");
	}
	else
	{
		one_value($control, "SELECT pg_terminate_backend(?::int)", $dropper->{pg_pid});
		isnt(finish_sql($dropper), '00000', "a DROP DATABASE that $end");
	}

	wait_until_in_batch('source');
	pass("$end: the worker is back");
	$session->disconnect;
	arrives('source', 'slow', 5, $end);
	is($node->safe_psql('source', "SELECT count(*) FROM t"), '10', 'fails: what came meanwhile') if $end eq 'fails';
	is_deeply([ log_since($node, $position, qr/was dropped, and with it/) ], [], "$end: nothing was dropped, and no line says so");
	{
		local $dropper->{RaiseError} = 0;
		$dropper->disconnect;
	}
	is(try_sql($control, "DROP DATABASE source"), '00000', "$end: the next one comes through");
}

# ---- the server stops in the middle of such a command

create_database($control, 'source', 'model');
load_and_wait('source');

my $stayer = connect_to($node, 'source');
my $dropper = connect_to($node);
start_drop($dropper);
$stayer->do("INSERT INTO released DEFAULT VALUES");
enqueue_rows($stayer, 't', 1 .. 10);

# The launcher is told to stop, too, and may be faster than the command, which is
# stopped for a moment here.
my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
my $launcher = wait_for_launcher($node);
$control->disconnect;
$position = log_position($node);
kill 'STOP', $dropper->{pg_pid};
kill 'INT', $postmaster;
$node->wait_for_log(qr/aborting any active transactions/, $position);
for (my $tries = 0; -d "/proc/$launcher" && $tries < 100; $tries++)
{
	usleep(10_000);
}
kill 'CONT', $dropper->{pg_pid};
$node->stop;
$node->start;
$control = connect_to($node);
# by the launcher before the stop, or, if the command has kept it away, by a worker after the start
$node->poll_query_until('source', "SELECT (SELECT count(*) FROM slow) >= 5 AND (SELECT count(*) FROM t) >= 10");
is($node->safe_psql('source', "SELECT count(*), count(DISTINCT n) FROM slow"), '5|5', 'a stop meanwhile: what waited is written');
is($node->safe_psql('source', "SELECT count(*), count(DISTINCT n) FROM t"), '10|10', 'a stop meanwhile: and what came');
is_deeply([ complaints($node, $position, qr/client backend 57P01 FATAL/) ], [], 'a stop meanwhile: nothing to complain about');
{
	local $stayer->{RaiseError} = 0;
	local $dropper->{RaiseError} = 0;
	$stayer->disconnect;
	$dropper->disconnect;
}

# ---- nothing to complain about

is_deeply(
	[
		complaints($node, $everything_from,
			qr/client backend (0A000|42501|42P04|42704|42809|25001|55006|57014) ERROR/,
			qr/client backend 57P01 FATAL:  terminating connection/,
			qr/persist_pipeline (?:worker|retrier) 57P01 FATAL:  terminating background worker/)    # stubborn code
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');
cmp_ok(scalar(log_since($node, $everything_from, qr/persist_pipeline (?:worker|retrier) 57P01 FATAL/)), '<=',
	@{ $seconds{'in stubborn code'} } + 2,
	'a worker ends by force only where its code is stubborn');

$control->disconnect;
$node->stop;
done_testing();
