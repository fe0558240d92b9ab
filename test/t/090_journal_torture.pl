
# Clients write single rows and small transactions, while the postmaster, the
# worker or a backend is killed with -9 again and again.  Every item that was
# acknowledged is in its table exactly once, in order; what was rolled back is not
# there; a transaction whose COMMIT was cut off is there as a whole or not at all.
# After the last kill nobody calls the extension: the worker comes by itself.
#
# PP_KILLS: how many (6; a full run is 50).  PP_SEED: of the random numbers.  This
# one is about stretches of random time, so it does sleep.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $kills = $ENV{PP_KILLS} || 6;
my $seed = $ENV{PP_SEED} || time % 100_000;
my $clients = 8;

my $node = pp_node(
	'journal_torture',
	'persist_pipeline.flush_interval' => "'20ms'",
	checkpoint_timeout => "'1h'",
	max_wal_senders => 1,    # or else no commit waits for a standby
	restart_after_crash => 'on',
	wal_level => 'replica');
my $everything_from = log_position($node);
my $dir = $node->basedir;
my $stop_file = "$dir/stop";

# `ins` is given by the flush, and tells the order in which rows were inserted: a
# DEFAULT would be evaluated at the call.  Only p has a key, for the sake of c.
$node->safe_psql(
	'postgres', q{
	CREATE TABLE p (w int, n int, PRIMARY KEY (w, n));
	CREATE TABLE c (w int, n int, FOREIGN KEY (w, n) REFERENCES p);
	CREATE TABLE l (w int, n int, ins bigint);
	CREATE TABLE m (n int, ins bigint);
	CREATE SEQUENCE ins;
	CREATE FUNCTION number() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN NEW.ins := nextval('ins'); RETURN NEW; END $$;
	CREATE TRIGGER number BEFORE INSERT ON l FOR EACH ROW EXECUTE FUNCTION number();
	CREATE TRIGGER number BEFORE INSERT ON m FOR EACH ROW EXECUTE FUNCTION number();

	-- what the clients saw.  targets: of the row's items, those that were not rolled
	-- back to a savepoint; outcome: a(cknowledged), r(olled back), d(oubtful: the
	-- session broke in the COMMIT)
	CREATE TABLE seen (w int, session int, tx int, n int, targets text, outcome "char");
	CREATE TABLE ids (w int, session int, id bigint, ord bigserial);
	CREATE VIEW items AS
	SELECT seen.*, t.target, position(t.target IN seen.targets) > 0 AS kept, count(a.target) AS rows
	FROM seen CROSS JOIN (VALUES ('p'), ('c'), ('l')) AS t (target)
	LEFT JOIN (SELECT 'p' AS target, w, n FROM p UNION ALL SELECT 'c', w, n FROM c
	           UNION ALL SELECT 'l', w, n FROM l) AS a USING (target, w, n)
	GROUP BY seen.w, session, tx, n, targets, outcome, t.target;
});

# One transaction of a client; what it enqueued goes to @$units as [n, targets], so
# that it is known whatever becomes of the session.  $doubtful is true while
# a COMMIT is under way.
sub transaction
{
	my ($client, $dbh, $n, $units, $ids, $doubtful) = @_;
	my $enqueue = sub {
		my ($target, $row) = @_;

		push @$ids,
		  one_value($dbh, "SELECT persist_enqueue('$target'::regclass, jsonb_build_object('w', ?::int, 'n', ?::int))",
			$client, $row);
	};

	if (rand() < 0.4)
	{
		$$n++;
		push @$units, [ $$n, 'l' ];
		$$doubtful = 1;
		$enqueue->('l', $$n);
		return 'a';
	}

	$dbh->begin_work;
	foreach my $row (1 .. 1 + int rand 4)
	{
		my $savepoint = rand() < 0.4;

		$$n++;
		push @$units, [ $$n, 'p' ];
		$enqueue->('p', $$n);
		$dbh->do("SAVEPOINT s") if $savepoint;
		$enqueue->('c', $$n);
		$enqueue->('l', $$n);
		if ($savepoint && rand() < 0.5)
		{
			$dbh->do("ROLLBACK TO SAVEPOINT s");
		}
		else
		{
			$units->[-1][1] = 'pcl';
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
			# while the server is down this fails
			$dbh = connect_to($node, 'postgres', raise => 0);
			sleep 0.02 if !$dbh;
			next if !$dbh;
			$dbh->{RaiseError} = 1;
			$session++;
		}
		$tx++;
		$outcome = eval { transaction($client, $dbh, \$n, \@units, \@ids, \$doubtful) };
		print $all_ids "$client\t$session\t$_\n" foreach @ids;
		if (!defined $outcome)
		{
			my $error = $@;

			# nothing but the end of the session is an excuse
			die $error if $dbh->ping;
			$dbh = undef;
			$outcome = $doubtful ? 'd' : 'r';
		}
		print $seen "$client\t$session\t$tx\t$_->[0]\t$_->[1]\t$outcome\n" foreach @units;
	}
	close $seen or die $!;
	close $all_ids or die $!;
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

	kill 'KILL', $pids->[ rand @$pids ];
	return;
}

my %kill_it = (
	postmaster => sub { kill_postmaster(rand() < 0.5) },
	worker => sub { kill_child(qr/persist_pipeline worker/) },
	backend => sub { kill_child(qr/postgres postgres \[local\]/) });
my %killed;

# ---- everything that is pending, counted without the extension: also what is parked, since the
# worker was killed with it more than once

my $pending_sql = join ' + ',
  map { "(SELECT coalesce(sum(get_byte(data, 2) + 256 * get_byte(data, 3)), 0) FROM persist_pipeline_internal.$_)" }
  'persist_parked', map { "persist_journal_$_" } 1 .. 3;

sub wait_until_drained
{
	my $dbh;

	wait_until('the server is back', sub { $dbh = server_is_up() });
	return eval { wait_for_sql($dbh, "SELECT $pending_sql = 0"); 1 } || 0;
}

# ---- the load

my @pids = in_children($clients, \&client);

srand($seed);
foreach my $i (1 .. $kills - 1)
{
	# each kind in turn, and in the full run at random
	my $kind = (sort keys %kill_it)[ $i <= 6 ? $i % 3 : int rand 3 ];

	wait_until('the server is up', \&server_is_up);
	sleep 0.2 + rand 1.0;
	$kill_it{$kind}->();
	$killed{$kind}++;
}

# The last kill: with items that wait, for an hour if need be.
wait_until('the server is up', \&server_is_up);
$node->append_conf('postgresql.conf', "persist_pipeline.adaptive_flush = off\npersist_pipeline.flush_interval = '1h'");
$node->reload;
ok(wait_for_queue($node, "items_pending >= 300"), 'items wait');
my $pending = queue_value($node, 'items_pending');
append_to_file($stop_file, '');
kill_postmaster(1);
$killed{postmaster}++;
children_succeeded('clients', @pids);
ok(wait_until_drained(), 'after the last kill the worker came by itself and left nothing');

# ---- what became of it

my $dbh = connect_to($node);

foreach my $file (map { ([ 'seen', "$dir/seen.$_" ], [ 'ids (w, session, id)', "$dir/ids.$_" ]) } 1 .. $clients)
{
	$dbh->do("COPY $file->[0] FROM stdin");
	open my $lines, '<', $file->[1] or die $!;
	while (<$lines>) { $dbh->pg_putcopydata($_); }
	close $lines;
	$dbh->pg_putcopyend;
}
$dbh->do("ANALYZE");
$dbh->do("CREATE TABLE result AS SELECT * FROM items");

my ($acknowledged, $rolled_back, $doubtful, $sessions) = $dbh->selectrow_array(
	q{SELECT count(*) FILTER (WHERE kept AND outcome = 'a'), count(*) FILTER (WHERE NOT kept OR outcome = 'r'),
	         count(DISTINCT (w, tx)) FILTER (WHERE outcome = 'd'), count(DISTINCT (w, session)) FROM result});
my ($doubtful_there) = $dbh->selectrow_array("SELECT count(DISTINCT (w, tx)) FROM result WHERE outcome = 'd' AND rows > 0");
my ($rows) = $dbh->selectrow_array("SELECT sum(rows) FROM result");

note "seed $seed; killed " . join(', ', map { "$_ $killed{$_}" } sort keys %killed)
  . "; $clients clients, $sessions sessions: $acknowledged items acknowledged, $rolled_back not committed, "
  . "$doubtful transactions doubtful, $doubtful_there of them there; $rows rows; $pending pending at the last kill";

cmp_ok($acknowledged, '>', 0, 'items were acknowledged');
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
none('nothing else is there',
	q{SELECT w, n FROM (SELECT w, n FROM p UNION ALL SELECT w, n FROM c UNION ALL SELECT w, n FROM l) AS a
	  EXCEPT SELECT w, n FROM seen});
none('a transaction that was cut off is there as a whole, or not at all',
	q{SELECT FROM result WHERE outcome = 'd' AND kept GROUP BY w, tx HAVING min(rows) <> max(rows)});
none('the rows of each client are in order, also from one of its sessions to the next',
	q{SELECT FROM (SELECT ins, lag(ins) OVER (PARTITION BY w ORDER BY n) AS before FROM l) AS s WHERE ins <= before});
none('no id was given twice', q{SELECT FROM ids GROUP BY id HAVING count(*) > 1});
none('ids increase within each session',
	q{SELECT FROM (SELECT id, lag(id) OVER (PARTITION BY w, session ORDER BY ord) AS before FROM ids) AS s WHERE id <= before});

# ---- an immediate stop

$dbh->do("SELECT persist_enqueue('m', jsonb_build_object('n', ?::int))", undef, $_) foreach 1 .. 200;
foreach my $tx (0 .. 99)
{
	$dbh->begin_work;
	$dbh->do("SELECT persist_enqueue('m', jsonb_build_object('n', ?::int))", undef, 201 + 3 * $tx + $_) foreach 0 .. 2;
	$dbh->commit;
}
my $last_id = one_value($dbh, "SELECT persist_enqueue('m', jsonb_build_object('n', 501))");
is(one_value($dbh, "SELECT items_pending FROM persist_queue"), '501', 'immediate stop: items wait');
is(one_value($dbh, "SELECT count(*) FROM m"), '0', 'immediate stop: none is written');
$dbh->disconnect;

$node->stop('immediate');
$node->start;
ok(wait_until_drained(), 'immediate stop: the worker came by itself and left nothing');
is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY ins) = array(SELECT generate_series(1, 501)) FROM m"),
	't', 'immediate stop: all there, each once, in order');
is($node->safe_psql('postgres', "SELECT count(*) FROM ids WHERE id >= $last_id"), '0', 'ids go on after those of the load');
cmp_ok($node->safe_psql('postgres', "SELECT persist_enqueue('m', '{\"n\": 502}')"),
	'>', $last_id, 'immediate stop: ids go on after it');

# ---- transactions that are committed, and cut off before they are acknowledged

ok(flush($node), 'unacknowledged: flushed');
$node->safe_psql('postgres', "TRUNCATE m");
my $hanging = hang_commits($node);
my @cut_off = map {
	my $session = connect_to($node);

	$session->begin_work;
	$session->do("SELECT persist_enqueue('m', jsonb_build_object('n', i)) FROM generate_series(3 * $_ - 2, 3 * $_) AS i");
	start_sql($session, "COMMIT");
	ok( $node->poll_query_until('postgres',
			"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = $session->{pg_pid}"),
		"unacknowledged: transaction $_ hangs in its commit");
	$session;
} 1 .. 3;
is($node->safe_psql('postgres', "SELECT $pending_sql"), '0', 'unacknowledged: nobody sees their items');
{
	my @children = children_of_server(qr/./);

	$node->kill9;
	kill 'KILL', @children;
	wait_until('processes end', sub { !grep { kill 0, $_ } @children });
}
$_->{InactiveDestroy} = 1 foreach $hanging, @cut_off;
$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
wait_until('the server starts', sub { $node->start(fail_ok => 1) });
ok(wait_until_drained(), 'unacknowledged: the worker came by itself and left nothing');
is($node->safe_psql('postgres', "SELECT array_agg(n ORDER BY ins) FROM m"),
	'{1,2,3,4,5,6,7,8,9}', 'unacknowledged: their items are there, each once, in order');

is_deeply(
	[
		complaints(
			$node, $everything_from,
			qr/57P02 WARNING:  terminating connection because of crash of another server process/,
			qr/57P03 FATAL:  the database system is (starting up|in recovery mode|not yet accepting connections|shutting down)/,
			qr/FATAL:  terminating connection due to unexpected postmaster exit/,
			qr/FATAL:  (lock file "postmaster.pid" already exists|pre-existing shared memory block)/)
	],
	[],
	'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
