
=pod

=head1 NAME

Waiting - a target for each state that items can be in before they are in their table, and what
has become of them.

C<ring>: handed over, and in the ring alone; C<journal>: handed over, in the journal; C<parked>: in
the table of parked items, since the target is paused; C<dead>: dead letters.  They are tables of
role C<owner>, in his schema C<life>, and role C<writer> enqueues.

=cut

package Waiting;

use strict;
use warnings;

use Exporter 'import';
use PersistPipeline;
use Test::More;

our @EXPORT = qw(@states waiting_node create_targets items_wait are_waiting resume_parked all_settled became lands start_busy_clients);

our @states = qw(ring journal parked dead);

# A server whose items wait until somebody flushes; a target that takes none of them isn't waited for.
sub waiting_node
{
	my ($name, %settings) = @_;

	return pp_node(
		$name,
		'persist_pipeline.flush_interval' => "'1h'",
		'persist_pipeline.adaptive_flush' => 'off',
		'persist_pipeline.misfit_timeout' => 0,
		%settings);
}

sub create_targets
{
	my ($dbh) = @_;

	$dbh->do($_)
	  foreach 'CREATE ROLE owner', 'CREATE ROLE writer', 'GRANT CREATE ON DATABASE postgres TO owner',
	  "SELECT persist_grant('writer')", 'SET ROLE owner', 'CREATE SCHEMA life', 'GRANT USAGE ON SCHEMA life TO writer';
	foreach my $state (@states)
	{
		$dbh->do("CREATE TABLE life.$state (n int PRIMARY KEY CONSTRAINT above_0 CHECK (n > 0))");
		$dbh->do("GRANT INSERT ON life.$state TO writer");
	}
	$dbh->do('RESET ROLE');
	return;
}

sub enqueue_as_writer
{
	my ($dbh, $state, $synchronous_commit, @n) = @_;

	$dbh->do($_) foreach 'SET ROLE writer', "SET synchronous_commit = $synchronous_commit";
	enqueue_rows($dbh, "life.$state", @n);
	$dbh->do("RESET $_") foreach 'role', 'synchronous_commit';
	return;
}

# Three items in each state.  The worker may write what it needn't yet; then once more.
sub items_wait
{
	my ($dbh, $name) = @_;
	my $tries = 0;

	ok(wait_until("items wait, $name", sub { forget_items($dbh) if $tries++; put_items($dbh); return are_waiting($dbh); }),
		"$name: three items each are in the ring alone, in the journal, parked, and dead letters");
	return;
}

sub put_items
{
	my ($dbh) = @_;

	$dbh->do("SELECT persist_pause('life.parked')");
	enqueue_as_writer($dbh, 'parked', 'on', 1 .. 3);
	enqueue_as_writer($dbh, 'dead', 'on', -1, -2, -3);
	one_value($dbh, 'SELECT persist_flush()');

	# whoever has something to do yet might write the others, too
	wait_for_sql($dbh, "SELECT worker_state = 'idle' AND retrier_pid IS NULL FROM persist_queue WHERE datname = current_database()");
	enqueue_as_writer($dbh, 'ring', 'off', 1 .. 3);
	enqueue_as_writer($dbh, 'journal', 'on', 1 .. 3);
	return;
}

sub forget_items
{
	my ($dbh) = @_;

	resume_parked($dbh);
	one_value($dbh, 'SELECT persist_flush()');
	wait_for_sql($dbh, 'SELECT NOT EXISTS (SELECT FROM persist_queue WHERE datname = current_database() AND items_pending > 0)');
	$dbh->do("DELETE FROM life.$_ WHERE n <= 3") foreach @states;
	discard_all($dbh);
	return;
}

# Are they where they were put?  By the tables, and by what the views say.
sub are_waiting
{
	my ($dbh) = @_;

	return one_value($dbh, "SELECT concat_ws(' ', (SELECT concat_ws(' ', at_risk_since IS NOT NULL, items_pending) FROM persist_queue WHERE datname = current_database()),"
		  . " $pending_sql, (SELECT count(*) FROM persist_parked), (SELECT count(*) FROM persist_dead_letters))") eq 't 9 6 3 3';
}

# Where there is that target still.
sub resume_parked
{
	my ($dbh) = @_;

	return try_sql($dbh, "SELECT persist_resume('life.parked')");
}

# Two clients, until table stop has a row.  Client n enqueues for table busy, one row after the
# other, in one of four transactions crossing the ring alone, and says in table sent_n how many.
sub start_busy_clients
{
	my ($node, $dbh) = @_;

	$dbh->do('CREATE TABLE busy (client int, n int, PRIMARY KEY (client, n)); CREATE TABLE stop ()');
	return in_children(
		2,
		sub {
			my ($client) = @_;
			my $session = connect_to($node);
			my $n = 0;

			until (one_value($session, 'SELECT EXISTS (SELECT FROM stop)'))
			{
				$session->do('SET synchronous_commit = ' . (++$n % 4 == 0 ? 'off' : 'on'));
				$session->do("SELECT persist_enqueue('busy'::regclass, jsonb_build_object('client', $client, 'n', $n))");
			}
			$session->do("CREATE TABLE sent_$client AS SELECT $n AS n");
		});
}

# Nothing waits any more.
sub all_settled
{
	my ($dbh, $name) = @_;

	one_value($dbh, 'SELECT persist_flush()');
	ok(eval { wait_for_sql($dbh, 'SELECT NOT EXISTS (SELECT FROM persist_queue WHERE datname = current_database() AND items_pending > 0)') }, "$name: nothing waits");
	is(one_value($dbh, 'SELECT persist_flush()'), 1, "$name: flushed");
	is(one_value($dbh, 'SELECT count(*) FROM persist_stats WHERE enqueued <> persisted + skipped + dead + discarded + lost + pending'),
		0, "$name: the account adds up");
	return;
}

# For each state: the rows of its table; its letters, with their SQLSTATEs.
sub became
{
	my ($dbh) = @_;
	my %became;

	foreach my $state (@states)
	{
		my $there = one_value($dbh, "SELECT to_regclass('life.$state')");
		my $rows = $there && one_value($dbh, "SELECT string_agg(n::text, ' ' ORDER BY n) FROM life.$state");
		my $letters = one_value($dbh, "SELECT string_agg(sqlstate || ': ' || (item->>'n'), ', ' ORDER BY id) FROM persist_dead_letters WHERE target_name = ?",
			"life.$state");

		$became{$state} = join '; ', grep { defined } $rows, $letters;
	}
	return \%became;
}

# What becomes of them where nothing is in their way.
sub lands
{
	return { ring => '1 2 3', journal => '1 2 3', parked => '1 2 3', dead => '23514: -1, 23514: -2, 23514: -3' };
}

1;
