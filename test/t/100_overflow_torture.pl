
# A ring that overflows: it is small, the targets are locked half of the time, and
# clients write transactions of 1 to 5,000 items, of which the large ones use a
# temporary file, while the postmaster, the worker or a backend is killed with -9
# again and again.  Nobody sees a difference to the journal's torture test: every item
# that was acknowledged is in its table exactly once, in order; what was rolled back is
# not there; a transaction whose COMMIT was cut off is there as a whole or not at all.
#
# PP_OVERFLOW_KILLS: how many (4; a full run is 30).  PP_SEED: of the random numbers.  This one
# is about stretches of random time, so it does sleep.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $kills = $ENV{PP_OVERFLOW_KILLS} || 4;
my $seed = $ENV{PP_SEED} || time % 100_000;
my $clients = 8;
my $largest = 5000;
my @targets = ('p', 'c', 'l');

my $node = pp_node(
	'overflow_torture',
	'persist_pipeline.flush_interval' => "'20ms'",
	'persist_pipeline.journal_limit' => "'16GB'",
	'persist_pipeline.lock_timeout' => "'100ms'",
	'persist_pipeline.ring_size' => "'256kB'",
	'persist_pipeline.role_quota' => 100,
	'persist_pipeline.transaction_buffer' => "'64kB'",
	'persist_pipeline.worker_idle_timeout' => "'1h'",    # the checks may take longer than the default
	checkpoint_timeout => "'1h'",
	max_wal_senders => 1,    # or else no commit waits for a standby
	max_wal_size => "'4GB'",
	restart_after_crash => 'on',
	wal_level => 'replica');
my $everything_from = log_position($node);
my $dir = $node->basedir;
my $stop_file = "$dir/stop";

note "seed $seed";

# `ins` is given by the flush, and tells the order in which rows were inserted: a
# DEFAULT would be evaluated at the call.  Only p has a key, for the sake of c.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE p (w int, n int, ins bigint, PRIMARY KEY (w, n));
	CREATE TABLE c (w int, n int, ins bigint, FOREIGN KEY (w, n) REFERENCES p);
	CREATE TABLE l (w int, n int, ins bigint);
	CREATE SEQUENCE ins;
	CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN NEW.ins := nextval('public.ins'); RETURN NEW; END $$;
	CREATE TRIGGER number BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION number();
	CREATE TRIGGER number BEFORE INSERT ON c FOR EACH ROW EXECUTE FUNCTION number();
	CREATE TRIGGER number BEFORE INSERT ON l FOR EACH ROW EXECUTE FUNCTION number();

	-- what the clients saw.  targets: of these numbers' items, those that were not
	-- rolled back to a savepoint; outcome: a(cknowledged), r(olled back), d(oubtful: the
	-- session broke in the COMMIT); lowest, highest: of ids that follow each other
	CREATE TABLE seen (w int, session int, tx int, first int, last int, targets text, outcome "char");
	CREATE TABLE ids (w int, session int, lowest bigint, highest bigint, ord bigserial);
	CREATE VIEW written AS
	SELECT 'p' AS target, * FROM p UNION ALL SELECT 'c', * FROM c UNION ALL SELECT 'l', * FROM l;
	CREATE VIEW items AS
	SELECT s.w, s.session, s.tx, n, s.outcome, t.target, position(t.target IN s.targets) > 0 AS kept, count(a.ins) AS rows
	FROM seen AS s CROSS JOIN generate_series(s.first, s.last) AS n CROSS JOIN (VALUES ('p'), ('c'), ('l')) AS t (target)
	LEFT JOIN written AS a USING (target, w, n)
	GROUP BY s.w, s.session, s.tx, n, s.outcome, t.target, s.targets;
});

# Enqueue these numbers, in one of three ways; returns the ids.
sub enqueue
{
	my ($client, $dbh, $target, $first, $last) = @_;
	my $object = "jsonb_build_object('w', $client, 'n', i)";
	my $series = "generate_series($first, $last) AS i";

	return $dbh->selectcol_arrayref(
		$first < $last && rand() < 0.5
		? "SELECT unnest(persist_enqueue_many('$target'::regclass, (SELECT jsonb_agg($object ORDER BY i) FROM $series)))"
		: "SELECT persist_enqueue('$target'::regclass, $object) FROM $series");
}

# Ids that follow each other, as [lowest, highest].
sub runs_of
{
	my ($ids) = @_;
	my @runs;

	foreach my $id (@$ids)
	{
		push @runs, [ $id, $id ] if !@runs || $id != $runs[-1][1] + 1;
		$runs[-1][1] = $id;
	}
	return @runs;
}

# How many items: mostly few, and now and then very many.
sub random_size
{
	return rand() < 0.8 ? 1 + int rand 4 : int exp rand log $largest;
}

# One transaction of a client; what it enqueued goes to @$units as [first, last,
# targets], so that it is known whatever becomes of the session.  $doubtful is true
# while a COMMIT is under way.
sub transaction
{
	my ($client, $dbh, $n, $units, $ids, $doubtful) = @_;
	my $size = random_size();
	my $step = sub {
		my ($target, $first, $last) = @_;

		push @$ids, runs_of(enqueue($client, $dbh, $target, $first, $last));
	};

	if (rand() < 0.4)
	{
		push @$units, [ $$n + 1, $$n + $size, 'l' ];
		$$n += $size;
		$$doubtful = 1;
		$step->('l', $$n - $size + 1, $$n);
		return 'a';
	}

	$dbh->begin_work;
	foreach my $part (1 .. 1 + int rand 3)
	{
		my $savepoint = rand() < 0.4;
		my $rows = 1 + int $size / 9;
		my ($first, $last) = ($$n + 1, $$n + $rows);

		$$n = $last;
		push @$units, [ $first, $last, 'p' ];
		$step->('p', $first, $last);
		$dbh->do("SAVEPOINT s") if $savepoint;
		$step->('c', $first, $last);
		$step->('l', $first, $last);
		if ($savepoint && rand() < 0.5)
		{
			$dbh->do("ROLLBACK TO SAVEPOINT s");
		}
		else
		{
			$units->[-1][2] = 'pcl';
		}
	}
	if (rand() < 0.1)
	{
		$dbh->rollback;
		return 'r';
	}
	$$doubtful = 1;
	$dbh->commit;
	return 'a';
}

# While the server is down there is no session.
sub new_session
{
	my $dbh = connect_to($node, 'postgres', raise => 0);

	$dbh->{RaiseError} = 1 if $dbh;
	sleep 0.02 if !$dbh;
	return $dbh;
}

sub client
{
	my ($client) = @_;
	my ($session, $tx, $n) = (0, 0, 0);
	my $dbh;

	srand($seed + $client);
	open my $seen, '>', "$dir/seen.$client" or die $!;
	open my $all_ids, '>', "$dir/ids.$client" or die $!;
	while (!-e $stop_file)
	{
		my (@units, @ids, $doubtful, $outcome);

		if (!$dbh)
		{
			$dbh = new_session() or next;
			$session++;
		}
		$tx++;
		$outcome = eval { transaction($client, $dbh, \$n, \@units, \@ids, \$doubtful) };
		print $all_ids "$client\t$session\t$_->[0]\t$_->[1]\n" foreach @ids;
		if (!defined $outcome)
		{
			my $error = $@;

			# nothing but the end of the session is an excuse
			die $error if $dbh->ping;
			$dbh = undef;
			$outcome = $doubtful ? 'd' : 'r';
		}
		print $seen join("\t", $client, $session, $tx, @$_, $outcome) . "\n" foreach @units;
		sleep rand 0.02;
	}
	close $seen or die $!;
	close $all_ids or die $!;
	return;
}

# Locks the targets half of the time.
sub locker
{
	my $dbh;

	srand($seed);
	while (!-e $stop_file)
	{
		$dbh ||= new_session() or next;
		eval {
			$dbh->begin_work;
			$dbh->do("LOCK TABLE p, c, l IN EXCLUSIVE MODE");
			sleep 0.1 + rand 0.5;
			$dbh->commit;
			sleep 0.1 + rand 0.5;
			1;
		} or do {
			my $error = $@;
			my $state = $dbh->state;

			$dbh = undef if !$dbh->ping;
			die $error if $dbh && $state ne '40P01';
			$dbh->rollback if $dbh;
		};
	}
	return;
}

# ---- killing

# The postmaster's children whose title matches.
sub children_of_server
{
	my ($title) = @_;
	my ($postmaster) = split /\n/, eval { slurp_file($node->data_dir . '/postmaster.pid') } || '0';
	my @pids;

	foreach my $entry (glob '/proc/[0-9]*')
	{
		my ($pid) = $entry =~ /(\d+)$/;
		my $stat = eval { slurp_file("$entry/stat") } || '';

		next if $stat !~ /^\d+ \(.*\) [^Z] $postmaster /;
		push @pids, $pid if (eval { slurp_file("$entry/cmdline") } || '') =~ $title;
	}
	return @pids;
}

sub server_is_up
{
	return connect_to($node, 'postgres', raise => 0);
}

# kill -9, of the postmaster, and wait until what it leaves behind has noticed; or
# of everything, so that no COMMIT in progress comes to its end.
sub kill_postmaster
{
	my ($with_children) = @_;
	my @children = children_of_server(qr/./);

	$node->kill9;
	kill 'KILL', @children if $with_children;
	wait_until('orphans end', sub { !grep { kill 0, $_ } @children });
	wait_until('the server starts', sub { $node->start(fail_ok => 1) });
	return;
}

sub kill_child
{
	my ($title) = @_;
	my $pids = wait_until(
		"a process like $title",
		sub {
			my @pids = children_of_server($title);

			return @pids ? \@pids : undef;
		});

	my $pid = $pids->[ rand @$pids ];

	kill 'KILL', $pid;
	wait_until('the postmaster has noticed', sub { !kill 0, $pid });
	return;
}

my %kill_it = (
	postmaster => sub { kill_postmaster(rand() < 0.5) },
	worker => sub { kill_child(qr/persist_pipeline worker/) },
	backend => sub { kill_child(qr/postgres postgres \[local\]/) });
my %killed;

# ---- everything that is pending, counted without the extension

my $pending_sql = join ' + ',
  map { "(SELECT coalesce(sum(get_byte(data, 2) + 256 * get_byte(data, 3)), 0) FROM persist_pipeline_internal.persist_$_)" } qw(journal_1 journal_2 journal_3 parked);

sub wait_until_drained
{
	my $dbh;

	wait_until('the server is back', sub { $dbh = server_is_up() });
	return eval { wait_for_sql($dbh, "SELECT $pending_sql = 0"); 1 } || 0;
}

# ---- the load

END { append_to_file($stop_file, '') if $stop_file }    # clients end, whatever happens here
my @pids = in_children($clients + 1, sub { $_[0] <= $clients ? client($_[0]) : locker() });

srand($seed);
foreach my $i (1 .. $kills - 1)
{
	# each kind in turn, and in the full run at random
	my $kind = (sort keys %kill_it)[ $i <= 6 ? $i % 3 : int rand 3 ];

	# every second time what is in the journal alone waits
	wait_until('the server is up', \&server_is_up);
	sleep 0.2 + rand 1.0;
	ok(wait_for_queue($node, 'diverted AND items_pending > 0'), "kill $i: the ring is diverted") if $i % 2;
	$kill_it{$kind}->();
	$killed{$kind}++;
}

# The last kill: with items that wait, since their targets are locked.
wait_until('the server is up', \&server_is_up);
my $lock = wait_until(
	'targets are locked',
	sub {
		my $session = server_is_up() or return;

		$session->begin_work;
		return $session if defined $session->do("LOCK TABLE p, c, l IN EXCLUSIVE MODE");
		$session->disconnect;
		return;
	});
ok(wait_for_queue($node, "items_pending >= 3000 AND diverted"), 'items wait');
my $pending = queue_value($node, 'items_pending');
append_to_file($stop_file, '');
kill_postmaster(1);
$lock->{InactiveDestroy} = 1;
$killed{postmaster}++;
children_succeeded('clients', @pids);
ok(wait_until_drained(), 'after the last kill the worker came by itself and left nothing');

# ---- what became of it

my $dbh = connect_to($node);

foreach my $file (map { ([ 'seen', "$dir/seen.$_" ], [ 'ids (w, session, lowest, highest)', "$dir/ids.$_" ]) } 1 .. $clients)
{
	$dbh->do("COPY $file->[0] FROM stdin");
	open my $lines, '<', $file->[1] or die $!;
	while (<$lines>) { $dbh->pg_putcopydata($_); }
	close $lines;
	$dbh->pg_putcopyend;
}
$dbh->do("ANALYZE");
$dbh->do("SET work_mem = '256MB'");
$dbh->do("CREATE TABLE result AS SELECT * FROM items");

my ($acknowledged, $rolled_back, $doubtful, $sessions) = $dbh->selectrow_array(
	q{SELECT count(*) FILTER (WHERE kept AND outcome = 'a'), count(*) FILTER (WHERE NOT kept OR outcome = 'r'),
	         count(DISTINCT (w, tx)) FILTER (WHERE outcome = 'd'), count(DISTINCT (w, session)) FROM result});
my ($doubtful_there) = $dbh->selectrow_array("SELECT count(DISTINCT (w, tx)) FROM result WHERE outcome = 'd' AND rows > 0");
my ($rows) = $dbh->selectrow_array("SELECT sum(rows) FROM result");
my ($transactions, $large) =
  $dbh->selectrow_array("SELECT count(*), count(*) FILTER (WHERE items > 500) FROM (SELECT sum(last - first + 1) AS items FROM seen GROUP BY w, tx) AS q");

note "seed $seed; killed " . join(', ', map { "$_ $killed{$_}" } sort keys %killed)
  . "; $clients clients, $sessions sessions, $transactions transactions, $large of them large: $acknowledged items acknowledged, "
  . "$rolled_back not committed, $doubtful transactions doubtful, $doubtful_there of them there; $rows rows; $pending pending at the last kill";

cmp_ok($acknowledged, '>', 0, 'items were acknowledged');
cmp_ok($large, '>', 0, 'also of large transactions');
cmp_ok($sessions, '>', $clients, 'sessions were broken');

sub none
{
	my ($what, $sql) = @_;

	is($dbh->selectrow_array("SELECT count(*) FROM ($sql) AS q"), 0, $what);
	return;
}

none('every acknowledged item is there', q{SELECT FROM result WHERE outcome = 'a' AND kept AND rows = 0});
none('no item is there twice', q{SELECT FROM result WHERE rows > 1});
none('no item is there that was rolled back', q{SELECT FROM result WHERE (outcome = 'r' OR NOT kept) AND rows > 0});
none('nothing else is there', q{SELECT target, w, n FROM written EXCEPT SELECT target, w, n FROM result WHERE kept});
none('a transaction that was cut off is there as a whole, or not at all',
	q{SELECT FROM result WHERE outcome = 'd' AND kept GROUP BY w, tx HAVING min(rows) <> max(rows)});
none("the rows of each client are in order in $_, also from one of its sessions to the next",
	qq{SELECT FROM (SELECT ins, lag(ins) OVER (PARTITION BY w ORDER BY n) AS before FROM $_) AS s WHERE ins <= before})
  foreach @targets;
none('no id was given twice', q{SELECT FROM (SELECT lowest, lag(highest) OVER (ORDER BY lowest) AS before FROM ids) AS s WHERE lowest <= before});
none('ids increase within each session',
	q{SELECT FROM (SELECT lowest, highest, lag(highest) OVER (PARTITION BY w, session ORDER BY ord) AS before FROM ids) AS s
	  WHERE lowest <= before OR lowest > highest});

# ---- and the ring is what it was

is(one_value($dbh, "SELECT persist_flush()"), 1, 'flushed');
is(one_value($dbh, "SELECT format('%s %s %s %s', diverted, items_pending, journal_bytes, ring_used) FROM persist_queue"),
	'f 0 0 0', 'nothing is left, and nothing is held');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_ls_tmpdir()"), '0', 'no temporary file is left');
$dbh->disconnect;

# ---- large transactions that are committed, and cut off before they are acknowledged

my $hanging = hang_commits($node);
my @cut_off = map {
	my $session = connect_to($node);

	$session->begin_work;
	enqueue(100 + $_, $session, 'l', 1, 500 * $_);
	start_sql($session, "COMMIT");
	ok( $node->poll_query_until('postgres',
			"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = $session->{pg_pid}"),
		"unacknowledged: transaction $_ hangs in its commit");
	$session;
} 1 .. 4;
is($node->safe_psql('postgres', "SELECT $pending_sql"), '0', 'unacknowledged: nobody sees their items');
$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
kill_postmaster(1);
$_->{InactiveDestroy} = 1 foreach $hanging, @cut_off;
ok(wait_until_drained(), 'unacknowledged: the worker came by itself and left nothing');
is( $node->safe_psql('postgres',
		"SELECT w, array_agg(n ORDER BY ins) = array(SELECT generate_series(1, 500 * (w - 100))) FROM l WHERE w > 100 GROUP BY w ORDER BY w"),
	join("\n", map { "$_|t" } 101 .. 104),
	'unacknowledged: their items are there, each once, in order');

is_deeply(
	[
		complaints(
			$node, $everything_from,
			qr/57P02 WARNING:  terminating connection because of crash of another server process/,
			qr/57P03 FATAL:  the database system is (starting up|in recovery mode|not yet accepting connections|shutting down)/,
			qr/client backend 40P01 ERROR:  deadlock detected/,    # the locker
			qr/FATAL:  terminating connection due to unexpected postmaster exit/,
			qr/FATAL:  (lock file "postmaster.pid" already exists|pre-existing shared memory block)/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
