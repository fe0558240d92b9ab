
=pod

=head1 NAME

Torture - what the torture tests share: clients that write down what they have seen of each
transaction while their sessions are broken, kills with -9, and what is found in the end, row
by row.

A client's outcome of a transaction is a(cknowledged), r(olled back), or d(oubtful: the session
broke in the COMMIT).

=cut

package Torture;

use strict;
use warnings;

use Exporter 'import';
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'sleep';

our @EXPORT = qw(
  new_session start_load end_load load_is_over attempt again_and_again record copy_seen finds_nothing
  terminate_worker children_of_server kill_server kill_at_random wait_until_drained hang_in_commit
  commit_or_roll_back create_family family_transaction load_family check_family check_family_ids);

# ---- the load

my @loads;    # clients end, whatever happens here

END { end_load($_) foreach @loads }

sub load_is_over { my ($node) = @_; return -e $node->basedir . '/over'; }
sub end_load { my ($node) = @_; append_to_file($node->basedir . '/over', ''); return; }

# So many clients, and a process for each of the others; all of them get their numbers.
# Returns the pids.
sub start_load
{
	my ($node, $clients, $client, @others) = @_;

	push @loads, $node;
	unlink $node->basedir . '/over';
	return in_children($clients + @others, sub { $_[0] <= $clients ? $client->($_[0]) : $others[ $_[0] - $clients - 1 ]->($_[0]) });
}

# While the server is down there is none.
sub new_session
{
	my ($node, @option) = @_;
	my $dbh = connect_if_up($node, 'postgres', @option);

	$dbh->{RaiseError} = 1 if $dbh;
	sleep 0.02 if !$dbh;
	return $dbh;
}

# Nothing but the end of its session is an excuse for what fails, and these states, after which
# it is rolled back.  Returns whether it has been done; undefined if the session is gone.
sub attempt
{
	my ($dbh, $code, @excused) = @_;

	return 1 if eval { $code->(); 1 };
	my ($error, $state) = ($@, $dbh->state || '');

	return if !$dbh->ping;
	die $error if !grep { $state eq $_ } @excused;
	$dbh->rollback if !$dbh->{AutoCommit};
	return 0;
}

# Call the code with a session, until the load is over.
sub again_and_again
{
	my ($node, $code, @excused) = @_;
	my $dbh;

	until (load_is_over($node))
	{
		$dbh ||= new_session($node) or next;
		$dbh = undef if !defined attempt($dbh, sub { $code->($dbh) }, @excused);
	}
	return;
}

# Be client number so many, until the load is over: the code makes one transaction in a session,
# and says in the hash that it gets, too, which items it has enqueued, their ids, and, before and
# after its COMMIT, the outcome.  That is then in the files seen.NUMBER and ids.NUMBER, whatever
# becomes of the session.  Options: of the sessions.
sub record
{
	my ($node, $number, $transaction, @option) = @_;
	my $me = { number => $number, session => 0, tx => 0, n => 0 };
	my $dbh;

	open my $seen, '>', $node->basedir . "/seen.$number" or die $!;
	open my $ids, '>', $node->basedir . "/ids.$number" or die $!;
	until (load_is_over($node))
	{
		if (!$dbh)
		{
			$dbh = new_session($node, @option) or next;
			$me->{session}++;
		}
		@$me{qw(items ids outcome)} = ([], [], 'r');
		$me->{tx}++;
		$dbh = undef if !defined attempt($dbh, sub { $transaction->($me, $dbh) });
		print $ids join("\t", $number, $me->{session}, @$_) . "\n" foreach @{ $me->{ids} };
		print $seen join("\t", $number, @$me{qw(session tx)}, @$_, $me->{outcome}) . "\n" foreach @{ $me->{items} };
	}
	close $seen or die $!;
	close $ids or die $!;
	return;
}

# What the clients have written down, into this table, whose name is that of the files.
sub copy_seen
{
	my ($dbh, $node, $clients, $table) = @_;
	my ($name) = $table =~ /^(\w+)/;

	foreach my $client (1 .. $clients)
	{
		$dbh->do("COPY $table FROM stdin");
		$dbh->pg_putcopydata(slurp_file($node->basedir . "/$name.$client"));
		$dbh->pg_putcopyend;
	}
	$dbh->do("ANALYZE $name");
	return;
}

# What it finds is told.
sub finds_nothing
{
	my ($dbh, $name, $sql) = @_;
	my $found = $dbh->selectcol_arrayref("SELECT q::text FROM ($sql) AS q");
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ok(!@$found, $name)
	  or diag(join "\n", scalar(@$found) . ':', grep { defined } @$found[ 0 .. 9 ]);
	return;
}

# ---- what is done to the server

# Returns its pid, if there is one.
sub terminate_worker
{
	my ($dbh) = @_;

	$dbh->do("SET log_min_messages = error");    # one that has left meanwhile is a WARNING
	return one_value($dbh, "SELECT worker_pid FROM persist_queue WHERE worker_pid IS NOT NULL AND pg_terminate_backend(worker_pid)");
}

# The postmaster's children whose title matches.
sub children_of_server
{
	my ($node, $title) = @_;
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

# kill -9, of the postmaster, and wait until what it leaves behind has noticed; or
# of everything, so that no COMMIT in progress comes to its end.
sub kill_server
{
	my ($node, $with_children) = @_;
	my @children = children_of_server($node, qr/./);

	$node->kill9;
	kill 'KILL', @children if $with_children;
	wait_until('orphans end', sub { !grep { kill 0, $_ } @children });
	wait_until('the server starts', sub { $node->start(fail_ok => 1) });
	return;
}

sub kill_child
{
	my ($node, $title) = @_;
	my @pids;

	wait_until("a process like $title", sub { @pids = children_of_server($node, $title) });
	my $pid = $pids[ rand @pids ];

	kill 'KILL', $pid;
	wait_until('the postmaster has noticed', sub { !kill 0, $pid });
	return;
}

my %title = (worker => qr/persist_pipeline worker/, backend => qr/postgres postgres \[local\]/);
my @kinds = qw(backend postmaster worker);

# So many kills: each kind in turn, and in a full run at random.  The code is called before each
# of them, with its number.  Returns how many there were of each kind.
sub kill_at_random
{
	my ($node, $kills, $before) = @_;
	my %killed;

	foreach my $i (1 .. $kills)
	{
		my $kind = $kinds[ $i <= 6 ? $i % 3 : int rand 3 ];

		connect_when_up($node);
		sleep 0.2 + rand 1.0;
		$before->($i) if $before;
		$title{$kind} ? kill_child($node, $title{$kind}) : kill_server($node, rand() < 0.5);
		$killed{$kind}++;
	}
	return %killed;
}

# Wait until nothing is left in these databases, without a call of the extension.
sub wait_until_drained
{
	my ($node, @databases) = @_;
	my @sessions = map { connect_when_up($node, $_) } @databases ? @databases : 'postgres';

	return eval {
		wait_until('nothing waits', sub { !grep { one_value($_, "SELECT $pending_sql") > 0 } @sessions });
	} || 0;
}

# A session whose COMMIT of what the code has done hangs: see hang_commits.
sub hang_in_commit
{
	my ($node, $name, $code) = @_;
	my $dbh = connect_to($node);

	$dbh->begin_work;
	$code->($dbh);
	start_sql($dbh, "COMMIT");
	ok( $node->poll_query_until('postgres',
			"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND pid = $dbh->{pg_pid}"),
		"$name hangs in its commit");
	return $dbh;
}

# ---- a family of targets: p(arents), c(hildren) and l(og), where each row of c and l has the
# key of one of p.  Only p has a key of its own, for the sake of c.  These of them have their
# rows numbered.

sub create_family
{
	my ($node, @numbered) = @_;

	$node->safe_psql(
		'postgres', q{
		CREATE TABLE p (w int, n int, ins bigint, PRIMARY KEY (w, n));
		CREATE TABLE c (w int, n int, ins bigint, FOREIGN KEY (w, n) REFERENCES p);
		CREATE TABLE l (w int, n int, ins bigint);

		-- what the clients saw.  targets: of these numbers' items, those that were not
		-- rolled back to a savepoint; lowest, highest: of ids that follow each other
		CREATE TABLE seen (w int, session int, tx int, first int, last int, targets text, outcome "char");
		CREATE TABLE ids (w int, session int, lowest bigint, highest bigint, ord bigserial);
		CREATE VIEW written AS
		SELECT 'p' AS target, * FROM p UNION ALL SELECT 'c', * FROM c UNION ALL SELECT 'l', * FROM l;
		CREATE VIEW items AS
		SELECT s.w, s.session, s.tx, n, s.outcome, t.target, position(t.target IN s.targets) > 0 AS kept, count(a.target) AS rows
		FROM seen AS s CROSS JOIN generate_series(s.first, s.last) AS n CROSS JOIN (VALUES ('p'), ('c'), ('l')) AS t (target)
		LEFT JOIN written AS a USING (target, w, n)
		GROUP BY s.w, s.session, s.tx, n, s.outcome, t.target, s.targets;
	} . number_rows(@numbered));
	return;
}

# Ids that follow each other, as [lowest, highest].
sub runs_of
{
	my @runs;

	foreach my $id (@_)
	{
		push @runs, [ $id, $id ] if !@runs || $id != $runs[-1][1] + 1;
		$runs[-1][1] = $id;
	}
	return @runs;
}

# The end of a client's transaction: one of ten is rolled back.  True: it has committed.  What is
# to be done last in those comes before that.
sub commit_or_roll_back
{
	my ($me, $dbh, $do_last) = @_;

	if (rand() < 0.1)
	{
		$dbh->rollback;
		return 0;
	}
	$do_last->() if $do_last;
	$me->{outcome} = 'd';
	$dbh->commit;
	$me->{outcome} = 'a';
	return 1;
}

# A transaction of a client: a call that enqueues so many items for l, or so many parts, each with
# so many rows for all of them.  The code enqueues rows from one number to another for a target,
# and returns the ids.
sub family_transaction
{
	my ($me, $dbh, $enqueue, $single, $parts, $rows) = @_;
	my $step = sub { push @{ $me->{ids} }, runs_of($enqueue->(@_)); };
	my $next = sub {
		my ($count, $targets) = @_;
		my @range = ($me->{n} + 1, $me->{n} + $count);

		$me->{n} += $count;
		push @{ $me->{items} }, [ @range, $targets ];
		return @range;
	};

	if (rand() < 0.4)
	{
		my @range = $next->($single, 'l');

		$me->{outcome} = 'd';
		$step->('l', @range);
		$me->{outcome} = 'a';
		return;
	}

	$dbh->begin_work;
	foreach (1 .. $parts)
	{
		my $savepoint = rand() < 0.4;
		my @range = $next->($rows, 'p');

		$step->('p', @range);
		$dbh->do("SAVEPOINT s") if $savepoint;
		$step->('c', @range);
		$step->('l', @range);
		if ($savepoint && rand() < 0.5)
		{
			$dbh->do("ROLLBACK TO SAVEPOINT s");
		}
		else
		{
			$me->{items}[-1][2] = 'pcl';
		}
	}
	commit_or_roll_back($me, $dbh);
	return;
}

# Returns how many were acknowledged, and sessions, and a line that says more.
sub load_family
{
	my ($dbh, $node, $clients) = @_;

	copy_seen($dbh, $node, $clients, $_) foreach 'seen', 'ids (w, session, lowest, highest)';
	$dbh->do("ANALYZE");
	$dbh->do("CREATE TABLE result AS SELECT * FROM items");

	my ($acknowledged, $rolled_back, $doubtful, $doubtful_there, $sessions, $rows) = $dbh->selectrow_array(
		q{SELECT count(*) FILTER (WHERE kept AND outcome = 'a'), count(*) FILTER (WHERE NOT kept OR outcome = 'r'),
		         count(DISTINCT (w, tx)) FILTER (WHERE outcome = 'd'), count(DISTINCT (w, tx)) FILTER (WHERE outcome = 'd' AND rows > 0),
		         count(DISTINCT (w, session)), sum(rows) FROM result});

	return ($acknowledged, $sessions, "$clients clients, $sessions sessions: $acknowledged items acknowledged, $rolled_back not committed, "
		  . "$doubtful transactions doubtful, $doubtful_there of them there; $rows rows");
}

sub check_family
{
	my ($dbh) = @_;

	finds_nothing($dbh, 'every acknowledged item is there', q{SELECT FROM result WHERE outcome = 'a' AND kept AND rows = 0});
	finds_nothing($dbh, 'no item is there twice', q{SELECT FROM result WHERE rows > 1});
	finds_nothing($dbh, 'no item is there that was rolled back', q{SELECT FROM result WHERE (outcome = 'r' OR NOT kept) AND rows > 0});
	finds_nothing($dbh, 'nothing else is there', q{SELECT target, w, n FROM written EXCEPT SELECT target, w, n FROM result WHERE kept});
	finds_nothing($dbh, 'a transaction that was cut off is there as a whole, or not at all',
		q{SELECT FROM result WHERE outcome = 'd' AND kept GROUP BY w, tx HAVING min(rows) <> max(rows)});
	return;
}

sub check_family_ids
{
	my ($dbh) = @_;

	finds_nothing($dbh, 'no id was given twice', q{SELECT FROM (SELECT lowest, lag(highest) OVER (ORDER BY lowest) AS before FROM ids) AS s WHERE lowest <= before});
	finds_nothing($dbh, 'ids increase within each session',
		q{SELECT FROM (SELECT lowest, highest, lag(highest) OVER (PARTITION BY w, session ORDER BY ord) AS before FROM ids) AS s
		  WHERE lowest <= before OR lowest > highest});
	return;
}

1;
