
# After an item has ended its worker, or the server: what was tried with it is tried again one
# by one, but in the same transactions as before.  So rows that need each other stay together,
# a large batch takes no longer than some batches, and where no single item can be told,
# transactions get smaller until one can.

use strict;
use warnings;
use Fcntl ':flock';
use File::Basename 'basename';
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

use constant LARGE => 3000;

my $node = pp_node(
	'candidates',
	'persist_pipeline.flush_interval' => "'5ms'",
	restart_after_crash => 'on');
my $everything_from = log_position($node);
my $library = $node->basedir . '/crash';

build_library('crash.c', $library);
$node->safe_psql(
	'postgres', qq{
	CREATE FUNCTION crash() RETURNS trigger LANGUAGE C AS '$library', 'crash';
	CREATE FUNCTION fatal() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		IF NEW.how = 'fatal' THEN
			PERFORM set_config('exit_on_error', 'on', false);
			RAISE 'the end of number %', NEW.n USING ERRCODE = '22000';
		END IF;
		RETURN NEW;
	END \$\$;

	-- t: ends it at once; pairs: rows need each other; late: the same, and ends it in the commit
	CREATE TABLE t (n int, how text);
	CREATE TRIGGER crash BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION crash();
	CREATE TRIGGER fatal BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fatal();
	CREATE TABLE pairs (n int PRIMARY KEY, other int REFERENCES pairs DEFERRABLE INITIALLY DEFERRED, how text);
	CREATE TRIGGER crash BEFORE INSERT ON pairs FOR EACH ROW EXECUTE FUNCTION crash();
	CREATE TABLE late (n int PRIMARY KEY, other int REFERENCES late DEFERRABLE INITIALLY DEFERRED, how text);
	CREATE CONSTRAINT TRIGGER crash AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION crash();
});

# Enqueue a row of each [n, how, other] in one transaction, let the worker at it, and wait until
# all have landed or died.  These are the letters, as n, SQLSTATE and message; the worker ends
# so often at most.
sub check
{
	my ($name, $target, $most, $letters, @rows) = @_;
	my $from = log_position($node);
	my $dbh = connect_to($node);

	$dbh->begin_work;
	foreach my $row (@rows)
	{
		my %row = (n => $row->[0], how => $row->[1], $row->[2] ? (other => $row->[2]) : ());
		$dbh->do("SELECT persist_enqueue(?::regclass, (SELECT jsonb_object_agg(key, value) FROM json_each_text(?)))",
			undef, $target, '{' . join(', ', map { qq("$_": "$row{$_}") } sort keys %row) . '}');
	}
	eval { $dbh->do('COMMIT'); $dbh->disconnect; 1 } or $dbh->{InactiveDestroy} = 1;

	my $settled = wait_until(
		"$name: settled",
		sub {
			my $look = connect_if_up($node) or return;
			my $n = one_value($look, "SELECT (SELECT count(*) FROM $target) + (SELECT count(*) FROM persist_dead_letters)");
			return defined $n && $n >= @rows;
		});
	ok($settled, "$name: settled");
	$dbh = connect_to($node);
	is_deeply($dbh->selectall_arrayref("SELECT item->>'n', sqlstate, message FROM persist_dead_letters ORDER BY id"),
		$letters, "$name: letters");
	is(one_value($dbh, "SELECT count(DISTINCT n) FROM $target"), @rows - @$letters, "$name: all others have landed");
	my $ends = log_since($node, $from, qr/LOG:  background worker "persist_pipeline worker.*(?:was terminated by signal|exited with exit code)/);
	cmp_ok($ends, '<=', $most, "$name: it doesn't end more often");
	note "$name: $ends ends";
	ok(eval { wait_for_sql($dbh, 'SELECT sum(pending) = 0 FROM persist_stats') }, "$name: nothing waits");
	discard_all($dbh);
	$dbh->do("TRUNCATE $target");
	$dbh->disconnect;
	return;
}

my @pairs = map { my $n = 2 * $_; ([ $n - 1, '', $n ], [ $n, '', $n - 1 ]) } 1 .. 20;
my $ended = [ 'XX000', 'the worker ended while it was inserted' ];

check('pairs', 'pairs', 2, [ [ 99, @$ended ] ], @pairs, [ 99, 'abort' ]);
check('pairs around it', 'pairs', 2, [ [ 99, @$ended ] ], @pairs[ 0 .. 9 ], [ 99, 'null' ], @pairs[ 10 .. 39 ]);
check('its own error', 't', 2, [ [ 7, '22000', 'the end of number 7' ] ], map { [ $_, $_ == 7 ? 'fatal' : '' ] } 1 .. 20);

# nothing tells which it is, since what is deferred can't be checked earlier
check('in the commit', 'late', 2 + 6, [ [ 99, @$ended ] ], @pairs, [ 99, 'abort' ]);

# none of them is to blame, but there are too many
check('too many', 't', 6, [], map { [ $_, 'many' ] } 1 .. 40);

# a large one: not a transaction for each
{
	my $stats = "SELECT COALESCE(sum(batches), 0) FROM persist_stats WHERE target = 't'::regclass";
	my $before = $node->safe_psql('postgres', $stats);

	check('large', 't', 2, [ [ 1000, @$ended ] ], map { [ $_, $_ == 1000 ? 'abort' : '' ] } 1 .. LARGE);
	cmp_ok($node->safe_psql('postgres', $stats) - $before, '<=', 20, 'large: it takes some batches');
}

# each is told by its position, wherever its transaction is divided
check('several', 't', 4, [ map { [ $_, @$ended ] } 5, 1000, 2500 ],
	map { my $n = $_; [ $n, scalar(grep { $n == $_ } 5, 1000, 2500) ? 'null' : '' ] } 1 .. LARGE);

# none of them is to blame, since a person has killed who had them: they need each other, and
# land together though they are tried apart
{
	my $dbh = connect_to($node);

	$dbh->do($_) foreach (
		'CREATE TABLE go ()',
		'CREATE TABLE circle (n int PRIMARY KEY, other int REFERENCES circle DEFERRABLE INITIALLY DEFERRED)',
		q{CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN WHILE NOT EXISTS (SELECT FROM go) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN NEW; END $$},
		'CREATE TRIGGER wait BEFORE INSERT ON circle FOR EACH ROW EXECUTE FUNCTION wait()');
	$dbh->begin_work;
	$dbh->do("SELECT persist_enqueue('circle', jsonb_build_object('n', i, 'other', i % 5 + 1)) FROM generate_series(1, 5) AS i");
	$dbh->commit;
	$dbh->disconnect;
	foreach my $i (1 .. 2)
	{
		my $pid;
		my $from = log_position($node);

		wait_until(
			"killed: $i: somebody tries them",
			sub {
				my $look = connect_if_up($node) or return;
				$pid = one_value($look, "SELECT pid FROM pg_stat_activity WHERE backend_type ~ 'persist_pipeline (worker|retrier)' AND wait_event = 'PgSleep'");
				return $pid;
			});
		kill 'KILL', $pid;
		$node->wait_for_log(qr/database system is ready to accept connections/, $from);
	}
	wait_until('killed: the server is back', sub { $dbh = connect_if_up($node) });
	$dbh->do('INSERT INTO go DEFAULT VALUES');
	ok(eval { wait_for_sql($dbh, 'SELECT count(*) = 5 FROM circle') }, 'killed: they land together');
	is(one_value($dbh, 'SELECT count(*) FROM persist_dead_letters'), 0, 'killed: none is dead');
	ok(eval { wait_for_sql($dbh, 'SELECT sum(pending) = 0 FROM persist_stats') }, 'killed: nothing waits');
	$dbh->disconnect;
}

# while candidates wait for a lock, others go on, and the item is found out all the same
{
	my $from = log_position($node);
	my $locker = connect_to($node);
	my $dbh = connect_to($node);

	$dbh->do("CREATE TABLE o (n int)");
	$locker->begin_work;
	$locker->do("LOCK TABLE t IN EXCLUSIVE MODE");
	$dbh->do("SELECT persist_enqueue('t'::regclass, jsonb_build_object('n', i, 'how', CASE i WHEN 5 THEN 'fatal' ELSE '' END)) FROM generate_series(1, 10) AS i");
	wait_for_sql($dbh, "SELECT sum(parked) = 10 FROM persist_stats");
	$locker->rollback;
	$node->wait_for_log(qr/a (?:worker|retrier) of persist_pipeline has ended while it wrote a batch/, $from);
	$dbh->do("SELECT persist_enqueue('o'::regclass, '{\"n\": 1}')");
	wait_for_sql($dbh, "SELECT count(*) = 1 FROM o");
	wait_for_sql($dbh, "SELECT count(*) = 9 FROM t");
	is(one_value($dbh, "SELECT item->>'n' FROM persist_dead_letters"), 5, 'parked: the letter');
	$dbh->disconnect;
	$locker->disconnect;
}

# A note that the next worker has opened while the one before it removes it
{
	my $dbh = connect_if_up($node);
	my $database = one_value($dbh, 'SELECT oid FROM pg_database WHERE datname = current_database()');
	my $name = $node->data_dir . "/pg_stat_tmp/persist_pipeline.$database.worker";
	my $is_open = sub
	{
		my $worker = worker_pid($node) || return 0;

		return !!grep { (readlink // '') =~ m{/\Q@{[ basename($name) ]}\E$} } glob "/proc/$worker/fd/*";
	};

	$node->append_conf('postgresql.conf', "persist_pipeline.worker_idle_timeout = '10ms'");
	$node->reload;
	wait_until('no worker', sub { worker_pid($node) eq '' && !-e $name });
	$node->append_conf('postgresql.conf', "persist_pipeline.worker_idle_timeout = '1min'");
	$node->reload;

	open my $note, '>', $name or die "$name: $!";
	flock $note, LOCK_EX or die "$name: $!";
	$dbh->do("SELECT persist_enqueue('o'::regclass, '{\"n\": 2}')");
	wait_until('a worker has opened the note', $is_open);
	unlink $name or die "$name: $!";
	close $note;
	wait_for_sql($dbh, "SELECT count(*) = 1 FROM o WHERE n = 2");
	ok(-e $name, 'removed: the worker has a note that the next one finds');
	$dbh->disconnect;
}

is_deeply(
	[
		complaints(
			$node, $everything_from,
			qr/WARNING:  terminating connection because of crash of another server process/,
			qr/57P0[123] FATAL/,
			qr/persist_pipeline (?:worker|retrier) 22000 FATAL:  the end of/,
			qr/persist_pipeline (?:worker|retrier) .* WARNING:  .* could not be inserted/,
			qr/persist_pipeline (?:worker|retrier) .* WARNING:  .* dead letter/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
is_deeply([ glob $node->data_dir . '/pg_stat_tmp/persist_pipeline.*' ], [], 'a worker that leaves in good order leaves no note');
done_testing();
