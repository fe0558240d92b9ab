
# The account of each target, under a mixed load: commits, rollbacks, savepoints, bad
# rows and skipped ones, targets that are locked now and then, dead letters that are sent
# again, repaired and discarded, workers that are terminated and clean restarts.  When it
# is quiet the account says what the clients have committed, and what has become of it.
#
# PP_ACCOUNT_SECONDS: of load, at least (15; a full run is 300).  PP_SEED: of the random numbers.
# This one is about stretches of random time, so it does sleep.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);
use Torture;

my $seconds = $ENV{PP_ACCOUNT_SECONDS} || 15;
my $seed = $ENV{PP_SEED} || time % 100_000;
my $clients = 6;
my $clerks = 2;

my $node = pp_node(
	'account',
	'persist_pipeline.dead_letter_limit' => 10_000_000,
	'persist_pipeline.role_quota' => 100,
	'persist_pipeline.flush_interval' => "'20ms'",
	'persist_pipeline.lock_timeout' => "'50ms'",
	'persist_pipeline.misfit_timeout' => "'500ms'",
	'persist_pipeline.ring_size' => "'1MB'",
	'persist_pipeline.transaction_buffer' => "'64kB'",
	'persist_pipeline.worker_idle_timeout' => "'1h'");    # the checks may take longer than the default
my $everything_from = log_position($node);
my $dir = $node->basedir;

note "seed $seed";

# keyed: rows with n < 0 are bad; child: so are rows whose parent is; picky: a trigger
# passes over each seventh and refuses each eleventh; lenient: items that don't fit are
# letters; locked: now and then; volatile: in the ring alone
my @targets = qw(plain keyed child picky lenient locked volatile);
my $is_target = join ', ', map { "'$_'::regclass" } @targets;

$node->safe_psql(
	'postgres', q{
	CREATE ROLE other LOGIN;
	CREATE TABLE plain (w int, n int);
	CREATE TABLE keyed (w int, n int CHECK (n >= 0), PRIMARY KEY (w, n));
	CREATE TABLE child (w int, n int, FOREIGN KEY (w, n) REFERENCES keyed);
	CREATE TABLE picky (w int, n int);
	CREATE TABLE lenient (w int, n int);
	CREATE TABLE locked (w int, n int);
	CREATE TABLE volatile (w int, n int);
	CREATE FUNCTION pick() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.n % 7 = 0 THEN RETURN NULL; END IF;
		IF NEW.n % 11 = 0 THEN RAISE 'refused'; END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER pick BEFORE INSERT ON picky FOR EACH ROW EXECUTE FUNCTION pick();
	SELECT persist_configure('lenient', bad_items => 'dead');
	SELECT persist_configure('volatile', durability => 'ring');

	-- a transaction that has committed
	CREATE TABLE marks (w int, tx int, PRIMARY KEY (w, tx));

	-- what the clients saw: how many items for a target in a transaction
	CREATE TABLE seen (w int, session int, tx int, target text, items int, outcome "char");
	GRANT ALL ON ALL TABLES IN SCHEMA public TO other;
	GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO other;
});

# ---- clients

# Enqueue so many rows; returns how many for which target.
sub enqueue
{
	my ($me, $dbh, $target) = @_;
	my $rows = rand() < 0.9 ? 1 + int rand 8 : 1 + int rand 400;
	my $value =
		$target eq 'keyed' ? 'CASE WHEN i % 13 = 0 THEN -i ELSE i END'
	  : $target eq 'lenient' ? "CASE WHEN i % 5 = 0 THEN 'five' || i ELSE i::text END"
	  : 'i';
	my ($first, $last) = ($me->{n} + 1, $me->{n} + $rows);
	my $object = "jsonb_build_object('w', $me->{number}, 'n', $value)";
	my @count = [ $target, $rows ];

	$me->{n} += $rows;
	$dbh->do(
		rand() < 0.5
		? "SELECT count(persist_enqueue('$target'::regclass, $object)) FROM generate_series($first, $last) AS i"
		: "SELECT cardinality(persist_enqueue_many('$target'::regclass, (SELECT jsonb_agg($object ORDER BY i) FROM generate_series($first, $last) AS i)))"
	);
	if ($target eq 'keyed' && rand() < 0.7)
	{
		$dbh->do("SELECT count(persist_enqueue('child', jsonb_build_object('w', $me->{number}, 'n', i))) FROM generate_series($first, $last) AS i");
		push @count, [ 'child', $rows ];
	}
	return @count;
}

sub transaction
{
	my ($me, $dbh) = @_;

	$dbh->begin_work;
	foreach my $part (1 .. 1 + int rand 3)
	{
		my $savepoint = rand() < 0.3;

		$dbh->do("SAVEPOINT s") if $savepoint;
		my @count = enqueue($me, $dbh, $targets[ rand @targets ]);
		if ($savepoint && rand() < 0.3)
		{
			# an error of the call, after it has taken some
			my $state = try_sql($dbh,
				"SELECT persist_enqueue('plain', jsonb_build_object('w', CASE WHEN i < 5 THEN '1' ELSE 'x' END)) FROM generate_series(1, 9) AS i");

			die "SQLSTATE $state" if $dbh->ping && $state ne '22P02';
			$dbh->do("ROLLBACK TO SAVEPOINT s");
			next;
		}
		if ($savepoint && rand() < 0.4)
		{
			$dbh->do("ROLLBACK TO SAVEPOINT s");
			next;
		}
		$dbh->do("RELEASE SAVEPOINT s") if $savepoint && rand() < 0.5;
		push @{ $me->{items} }, @count;
	}
	commit_or_roll_back($me, $dbh, sub { $dbh->do("INSERT INTO marks VALUES (?, ?)", undef, @$me{qw(number tx)}) });
	return;
}

sub client
{
	my ($client) = @_;

	srand($seed + $client);
	record($node, $client, sub { transaction(@_); sleep rand 0.02; }, $client % 3 == 0 ? (user => 'other') : ());
	return;
}

# ---- the others

# Locks a target now and then.
sub locker
{
	my ($dbh) = @_;

	$dbh->begin_work;
	$dbh->do('LOCK TABLE ' . (rand() < 0.7 ? 'locked' : 'keyed') . ' IN EXCLUSIVE MODE');
	sleep rand 0.6;
	$dbh->commit;
	sleep rand 0.6;
	return;
}

# Does something with some letters, and takes it back now and then.
sub clerk
{
	my ($dbh) = @_;
	my $some = 'SELECT id FROM persist_dead_letters ORDER BY random() LIMIT ' . (1 + int rand 30);
	my $what = rand;

	sleep rand 0.2;
	$dbh->begin_work;
	if ($what < 0.3)
	{
		# but not what has never been an item, and still isn't one
		$dbh->do("SELECT persist_requeue(array(SELECT id FROM persist_dead_letters WHERE data IS NOT NULL ORDER BY random() LIMIT 30))");
	}
	elsif ($what < 0.6)
	{
		$dbh->do("SELECT persist_requeue(id, jsonb_build_object('w', 0, 'n', 1000000 + id % 1000000000)) FROM ($some) AS s");
	}
	elsif ($what < 0.8)
	{
		$dbh->do("SELECT persist_discard(array($some))");
	}
	elsif ($what < 0.9)
	{
		$dbh->do("SAVEPOINT s");
		$dbh->do("SELECT persist_discard(array($some))");
		$dbh->do("ROLLBACK TO SAVEPOINT s");
		$dbh->do("SELECT persist_discard(array($some))");
	}
	else
	{
		my $target = $targets[ rand @targets ];

		$dbh->do(rand() < 0.5 ? "SELECT persist_pause('$target')" : "SELECT persist_resume(c.oid) FROM pg_class AS c WHERE oid IN ($is_target)");
	}
	rand() < 0.8 ? $dbh->commit : $dbh->rollback;
	return;
}

sub terminator
{
	my ($dbh) = @_;

	sleep 0.2 + rand 1.5;
	terminate_worker($dbh);
	return;
}

# ---- the load

# The time says little of what has been done, where the machine is busy: so many transactions
# have been committed, at least, before each restart and before the end.
sub wait_for_transactions
{
	my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM marks');

	ok($node->poll_query_until('postgres', "SELECT count(*) >= $before + 50 FROM marks"), 'the clients get on');
	return;
}

srand($seed);
my $end = time + $seconds;
my @others = map {
	my $code = $_;

	# 40P01: two clerks who pause and resume several targets
	sub { srand($seed + $_[0]); again_and_again($node, $code, '40P01'); }
} \&locker, \&terminator, (\&clerk) x $clerks;
my @pids = start_load($node, $clients, \&client, @others);
my $restarts = 0;

while ((my $left = $end - time) > 2)
{
	sleep($left - 2 < 4 ? 2 : 1 + rand 3);
	wait_for_transactions();
	$node->restart;    # fast
	$restarts++;
}
sleep $end - time if time < $end;
wait_for_transactions();
end_load($node);
children_succeeded('clients', @pids);

my $dbh = connect_to($node);

$dbh->do("ANALYZE");

# ---- quiet

$dbh->do("SELECT persist_resume(c.oid) FROM pg_class AS c WHERE oid IN ($is_target)");
my $last = 0 + 'inf';
my $busy_sql = "SELECT sum(pending) + count(parked_reason) FROM persist_stats";

# as long as there are fewer after a while: what is parked may be much
while ((my $busy = one_value($dbh, $busy_sql)) < $last)
{
	$last = $busy;
	last if eval { wait_for_sql($dbh, "SELECT ($busy_sql) = 0"); 1 };
}
is(one_value($dbh, $busy_sql), 0, 'it has become quiet')
  or note explain($dbh->selectall_arrayref("SELECT * FROM persist_stats", { Slice => {} }));
is(one_value($dbh, "SELECT persist_flush()"), 1, 'flushed');

copy_seen($dbh, $node, $clients, 'seen');
my %committed = (
	(map { $_ => 0 } @targets),
	map { @$_ } @{
		$dbh->selectall_arrayref("SELECT target, sum(items) FROM seen WHERE outcome = 'a'"
			  . " OR (outcome = 'd' AND EXISTS (SELECT FROM marks WHERE marks.w = seen.w AND marks.tx = seen.tx)) GROUP BY target")
	});
my ($transactions, $doubts) =
  $dbh->selectrow_array(q{SELECT count(DISTINCT (w, tx)), count(DISTINCT (w, tx)) FILTER (WHERE outcome = 'd') FROM seen});

note "seed $seed; $seconds s, $restarts restarts: $transactions transactions, $doubts of them doubtful";

sub accounts
{
	return $dbh->selectall_hashref("SELECT replace(target_name, 'public.', '') AS name, * FROM persist_stats", 'name');
}

sub check_accounts
{
	my ($when) = @_;
	my $accounts = accounts();

	foreach my $target (@targets)
	{
		my $account = $accounts->{$target};

		note join ', ', "$target: committed $committed{$target}",
		  map { "$_ $account->{$_}" } qw(enqueued persisted skipped dead discarded lost pending parked batches errors);
		is($account->{enqueued}, $committed{$target}, "$when: $target: enqueued is what the clients committed");
		is($account->{persisted}, one_value($dbh, "SELECT count(*) FROM $target"), "$when: $target: persisted is what is there");
		is( $account->{dead},
			one_value($dbh, "SELECT count(*) FROM persist_dead_letters WHERE target = '$target'::regclass"),
			"$when: $target: dead are the letters");
		is($account->{persisted} + $account->{skipped} + $account->{dead} + $account->{discarded} + $account->{lost} + $account->{pending},
			$account->{enqueued}, "$when: $target: it adds up");
		is("$account->{lost} $account->{pending} $account->{parked}", '0 0 0', "$when: $target: nothing is lost, nothing waits");
		is($account->{parked_reason}, undef, "$when: $target: nothing keeps it parked");
	}
	is(keys %$accounts, @targets, "$when: there is no other account");
	return $accounts;
}

my $accounts = check_accounts('after the load');

cmp_ok($accounts->{picky}{skipped}, '>', 0, 'some were skipped');
cmp_ok($accounts->{$_}{dead} + $accounts->{$_}{discarded}, '>', 0, "$_: some died") foreach qw(keyed child picky lenient);
is($accounts->{$_}{skipped}, 0, "$_: none was skipped") foreach grep { $_ ne 'picky' } @targets;
is(one_value($dbh, "SELECT count(*) - count(DISTINCT (w, n)) FROM $_"), 0, "$_: none is there twice") foreach @targets;
is(one_value($dbh, "SELECT count(*) - count(DISTINCT id) FROM persist_dead_letters"), 0, 'no two letters have the same id')
  or note map { join(' | ', map { $_ // '' } @$_) . "\n" } @{
	$dbh->selectall_arrayref(
		"SELECT id, target_name, role_name, item, sqlstate, enqueued_at, failed_at, attempts, pos, data IS NULL, xmin FROM persist_dead_letters
		 WHERE id IN (SELECT id FROM persist_dead_letters GROUP BY id HAVING count(*) > 1) ORDER BY id, failed_at")
  };
is( one_value(
		$dbh,
		q{SELECT count(*) FROM persist_dead_letters AS l JOIN keyed AS k ON k.w = (l.item->>'w')::int AND k.n = (l.item->>'n')::int
		  WHERE l.target = 'child'::regclass}),
	0, 'child: none has died whose parent has landed');
is(one_value($dbh, "SELECT persist_flush()"), 1, 'nothing waits');
is(one_value($dbh, "SELECT format('%s %s %s %s', diverted, items_pending, journal_bytes, ring_used) FROM persist_queue"),
	'f 0 0 0', 'nothing is held');
is(one_value($dbh, "SELECT count(*) FROM persist_parked"), 0, 'nothing is parked');

# ---- across a clean restart it stays what it is

$dbh->do("ALTER SYSTEM SET persist_pipeline.adaptive_flush = off");
$dbh->do("ALTER SYSTEM SET persist_pipeline.flush_interval = '1h'");
$dbh->disconnect;
$node->restart;
$dbh = connect_to($node);
check_accounts('restarted');

# ---- a transaction that fails in its commit, after it has told of its items, while others'
# keep the worker from seeing that nothing waits

{
	my ($first, $second) = map { connect_to($node) } 1 .. 2;

	$dbh->do("CREATE TABLE skew (n int)");

	# the second one is in the ring, and so will others be, without a row in the journal
	foreach my $n (1 .. 2)
	{
		is(one_value($dbh, "SELECT persist_flush()"), 1, 'late failure: flushed');
		$dbh->do("SELECT persist_enqueue('plain', '{}')");
	}
	$committed{plain} += 2;
	wait_for_sql($dbh, "SELECT worker_state = 'gathering' AND ring_used > 0 FROM persist_queue");
	$_->do("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT FROM skew; INSERT INTO skew VALUES (1)") foreach $first, $second;
	$second->do("SELECT persist_enqueue('volatile', '{}') FROM generate_series(1, 3)");
	$first->do("COMMIT");
	is(try_sql($second, "COMMIT"), '40001', 'late failure: the commit fails');
	is(join(' ', map { accounts()->{$_}{pending} } 'plain', 'volatile'), '1 0', 'late failure: its items do not wait');
	$_->disconnect foreach $first, $second;
}
$dbh->do("ALTER SYSTEM RESET persist_pipeline.adaptive_flush");
$dbh->do("ALTER SYSTEM SET persist_pipeline.flush_interval = '20ms'");
$dbh->do("SELECT pg_reload_conf()");
is(one_value($dbh, "SELECT persist_flush()"), 1, 'late failure: flushed');
check_accounts('late failure');

# ---- what is left of the letters

discard_all($dbh);
$accounts = accounts();
is($accounts->{$_}{dead}, 0, "$_: discarded") foreach @targets;
is($accounts->{$_}{enqueued}, $committed{$_}, "$_: and accounted for") foreach @targets;

# ---- a target that takes none of its rows is parked: each row once, whatever had been found
# out of them before

$dbh->do($_) foreach (
	'CREATE TABLE waiting (n int)',
	q{CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN IF NEW.n <= 5 THEN RAISE lock_not_available; END IF; RAISE 'refused'; END $$},
	'CREATE TRIGGER wait BEFORE INSERT ON waiting FOR EACH ROW EXECUTE FUNCTION wait()',

	# a right that is revoked in the middle of a batch
	'CREATE TABLE revoked (n int CHECK (n > 3))',
	'CREATE SEQUENCE statements',
	q{CREATE FUNCTION revoke() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN IF nextval('public.statements') IN (3, 4) THEN RAISE insufficient_privilege; END IF; RETURN NULL; END $$},
	'CREATE TRIGGER revoke BEFORE INSERT ON revoked EXECUTE FUNCTION revoke()',
	q{ALTER SYSTEM SET persist_pipeline.misfit_timeout = '1h'},
	'SELECT pg_reload_conf()');
$dbh->do("SELECT count(persist_enqueue('waiting', jsonb_build_object('n', n))) FROM generate_series(1, 200) AS n");
my $waiting = "(SELECT count(*) FROM persist_parked) + (SELECT count(*) FROM persist_dead_letters)";

wait_for_sql($dbh, "SELECT $waiting >= 200");
is(one_value($dbh, "SELECT $waiting"), 200, 'rows that wait, then none that fits: all are parked, or dead, once');
$dbh->do("DROP TRIGGER wait ON waiting");
$dbh->do("SELECT persist_requeue(NULL)");
$dbh->do("SELECT count(persist_enqueue('revoked', jsonb_build_object('n', n))) FROM generate_series(1, 20) AS n");
wait_for_sql($dbh, "SELECT sum(pending) = 0 FROM persist_stats");
is(one_value($dbh, "SELECT format('%s %s', count(*), count(DISTINCT n)) FROM waiting"), '200 200', 'and have landed, once');
is_deeply(
	$dbh->selectrow_arrayref("SELECT count(*), (SELECT count(*) FROM persist_dead_letters) FROM revoked"),
	[ 17, 3 ], 'bad rows, then no right: each has landed or died');
$accounts = accounts();
is("$accounts->{waiting}{enqueued} $accounts->{revoked}{enqueued}", '200 20', 'as many as were enqueued');

# ---- a pass that settles what its transaction, which is late, hasn't told of yet

build_library('late.c', "$dir/late");
$dbh->do("CREATE FUNCTION be_late() RETURNS void LANGUAGE C AS '$dir/late', 'be_late'");
$dbh->do("CREATE TABLE late (n int)");
$dbh->do("SELECT persist_enqueue('late', '{\"n\": 1}')");
is(one_value($dbh, "SELECT persist_flush()"), 1, 'late: flushed');
my $late = connect_to($node);

my $journals = join ' UNION ALL ', map { "SELECT FROM persist_pipeline_internal.persist_journal_$_" } 1 .. 3;

foreach my $n (2 .. 4)
{
	$late->begin_work;
	append_to_file($node->data_dir . '/late', '');
	$late->do("SELECT be_late()");
	$late->do("SELECT persist_enqueue('late', jsonb_build_object('n', $n))");
	start_sql($late, "COMMIT");
	wait_for_sql($dbh, "SELECT count(*) = 1 FROM ($journals) AS j");

	# too large for the ring
	$dbh->do("SELECT count(persist_enqueue('plain', '{}')) FROM generate_series(1, 2000)");
	wait_for_sql($dbh, "SELECT count(*) = 1 FROM late WHERE n = $n");
	ok(is_running($late), "late: item $n is there while its transaction commits");
	unlink $node->data_dir . '/late' or die $!;
	is(finish_sql($late), '00000', 'late: it has');
	$late->{AutoCommit} = 1;
	is(one_value($dbh, "SELECT persist_flush()"), 1, 'late: flushed');
	is(one_value($dbh, "SELECT format('%s %s', enqueued, pending) FROM persist_stats WHERE target = 'late'::regclass"), "$n 0", 'late: counted once');
}
$late->disconnect;

# ---- the account of a target that gets nothing but letters, which come and go, is short

$dbh->do("SELECT persist_configure('lenient', bad_items => 'dead')");
my $before = accounts()->{lenient}{discarded};
foreach my $n (1 .. 1000)
{
	my $id = one_value($dbh, "SELECT persist_enqueue('lenient', '{\"n\": \"x\"}')");

	$dbh->do("SELECT persist_discard(ARRAY[$id])");
}
is(accounts()->{lenient}{discarded}, $before + 1000, 'letters only: counted');
cmp_ok(one_value($dbh, "SELECT count(*) FROM persist_pipeline_internal.persist_account"), '<', 600, 'letters only: and added up');

# ---- letters that are too old go, however few batches there are

$dbh->do("SELECT persist_enqueue('lenient', '{\"n\": \"x\"}') FROM generate_series(1, 3)");
open_guards($dbh, 'persist_dead_letters');
$dbh->do("UPDATE persist_pipeline_internal.persist_dead_letters SET failed_at = now() - interval '1 hour'");
$before = accounts()->{lenient};
$dbh->do("ALTER SYSTEM SET persist_pipeline.dead_letter_retention = '1min'");
$dbh->disconnect;
$node->restart;
$dbh = connect_to($node);
cmp_ok(one_value($dbh, "SELECT count(*) FROM persist_dead_letters WHERE target = 'lenient'::regclass"), '==', $before->{dead}, 'retention: letters are there');
$dbh->do("SELECT persist_enqueue('plain', '{}')");
ok(eval { wait_for_sql($dbh, "SELECT count(*) = 0 FROM persist_dead_letters"); 1 }, 'retention: the next item takes them away');
is(accounts()->{lenient}{discarded}, $before->{discarded} + $before->{dead}, 'retention: they are discarded');

# where no worker looks at them, a call that finds no room does
change_setting($dbh, 'dead_letter_limit', 2);
my $misfit = "SELECT persist_enqueue('lenient', '{\"n\": \"x\"}')";
is(join(' ', map { try_sql($dbh, $misfit) } 1 .. 3), '00000 00000 53400', 'retention: no room');
$dbh->do("UPDATE persist_pipeline_internal.persist_dead_letters SET failed_at = now() - interval '1 hour'");
is(join(' ', map { try_sql($dbh, $misfit) } 1 .. 3), '00000 00000 53400', 'retention: room is made');
is(one_value($dbh, "SELECT count(*) FROM persist_dead_letters"), 2, 'retention: the old ones are gone');
$dbh->disconnect;

is_deeply(
	[
		complaints(
			$node, $everything_from,
			qr/client backend (22P02|40001|53400) ERROR/,
			qr/57P0[13] FATAL/,
			qr/persist_pipeline (?:worker|retrier) \w+ WARNING:  .* could not be inserted/,
			qr/persist_pipeline worker 01000 WARNING:  .* was forced to stop: 5\.\d+ s/,    # on a busy machine
			qr/client backend 40P01 ERROR/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
