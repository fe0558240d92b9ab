
=pod

=head1 NAME

Chaos - what may happen to a pipeline, at random: locks, pauses, rights that go and
come back, tables that change, letters that are sent again, workers and clients that are
ended, a server that is stopped, and one that crashes.

=cut

package Chaos;

use strict;
use warnings;

use Exporter 'import';
use List::Util qw(shuffle);
use PersistPipeline;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(@roles @targets chaos);

our @roles = qw(anna ben cleo);

# For what a bad row (bad = 1) fails with: a CHECK constraint; an AFTER trigger; the
# same, deferred; no parent; no partition.  The rows of "big" are in several pieces.  Those
# of "unlogged" are in the ring alone, and gone with a crash.
our @targets = qw(checked triggered deferred parent child divided big unlogged);

# Each of them so many times in each deck of cards.
my %mischief = (
	lock_table => 7,
	lock_parents => 1,
	pause_target => 2,
	resume_target => 4,
	pause_database => 1,
	revoke => 2,
	change_table => 1,
	requeue_all => 2,
	requeue_some => 1,
	repair_some => 1,
	vacuum => 1,
	change_settings => 1,
	cancel_worker => 1,
	terminate_worker => 3,
	terminate_client => 1,
	kill_worker => 1,
	stop_immediately => 1,
	restart => 1);

my $node;
my $dbh;           # gives the orders
my @held;          # sessions that hold something, and until when
my %paused;
my $last_crash;    # when its end was seen, or 0

# The end of its session is no fault of a session, nor is a lock that it can't get.
sub is_excused
{
	my ($session) = @_;
	my $state = $session->state || '';

	return !$session->ping || grep { $state eq $_ } '40P01', '55P03';
}

# ---- what doesn't wait

sub some_target { return $targets[ rand @targets ]; }
sub some_role { return $roles[ rand @roles ]; }

# In a session of its own, which goes on holding what the statement gets.
sub hold
{
	my ($seconds, $sql) = @_;
	my $session = connect_when_up($node);

	$session->begin_work;
	push @held, { session => $session, until => time + 0.05 + rand $seconds };
	$session->do("SET LOCAL lock_timeout = '500ms'");
	$session->do($sql);
	return;
}

sub release_held
{
	my ($until) = @_;

	foreach my $held (grep { $_->{until} < $until } @held)
	{
		eval { $held->{session}->rollback; };    # if there is still one
		$held->{session}->disconnect;
	}
	@held = grep { $_->{until} >= $until } @held;
	return;
}

my @modes = (('ACCESS EXCLUSIVE') x 3, 'SHARE', 'SHARE ROW EXCLUSIVE');

sub lock_table
{
	hold(2.5, 'LOCK TABLE ' . some_target() . " IN $modes[ rand @modes ] MODE");
	return;
}

# Whose children wait by themselves, and may come late: noted before there is a lock.
sub lock_parents
{
	my $ids = $dbh->selectcol_arrayref("SELECT id FROM parent ORDER BY ins DESC LIMIT 10");

	$dbh->do("INSERT INTO locked_parents SELECT unnest(?::text[])", undef, $ids);
	hold(1.5, "SELECT FROM parent WHERE id IN ('" . join("', '", @$ids) . "') FOR UPDATE");
	return;
}

sub pause_target
{
	my $target = some_target();

	$paused{$target} = 1;
	$dbh->do("SELECT persist_pause('$target')");
	return;
}

sub resume_target
{
	my ($target) = shuffle sort keys %paused or return;

	$dbh->do("SELECT persist_resume('$target')");
	delete $paused{$target};
	return;
}

sub pause_database
{
	$dbh->do("SELECT persist_pause()");
	sleep rand 0.6;
	$dbh->do("SELECT persist_resume()");
	return;
}

# For less than the grace that a target gets which takes no rows any more.
sub revoke
{
	my ($target, $role) = (some_target(), some_role());

	$dbh->do("REVOKE INSERT ON $target FROM $role");
	sleep rand 0.5;
	$dbh->do("GRANT INSERT ON $target TO $role");
	return;
}

# In one transaction: an item that has a value for a column that is no more, if only a
# NULL, would wait for it to come back.
sub change_table
{
	my $target = some_target();

	$dbh->begin_work;
	$dbh->do("ALTER TABLE $target ADD COLUMN extra int");
	$dbh->do("ALTER TABLE $target DROP COLUMN extra");
	$dbh->commit;
	return;
}

# What has been a letter is known afterwards, too.
sub requeue
{
	my ($choice, $how) = @_;

	$dbh->begin_work;
	$dbh->do("CREATE TEMP TABLE chosen ON COMMIT DROP AS SELECT * FROM persist_dead_letters $choice");
	$dbh->do("INSERT INTO been_dead SELECT id, concat_ws(' ', sqlstate, message, 'attempts', attempts) FROM chosen");
	$dbh->do("SELECT $how");
	$dbh->commit;
	return;
}

my $some = 'ORDER BY random() LIMIT 5';

sub requeue_all { requeue('', 'persist_requeue()'); return; }
sub requeue_some { requeue($some, 'persist_requeue(array(SELECT id FROM chosen))'); return; }

# A child whose parent is missing stays bad.
sub repair_some { requeue($some, q{persist_requeue(id, item || '{"bad": 0}') FROM chosen}); return; }

sub vacuum
{
	my @own = map { "persist_pipeline_internal.persist_$_" } qw(parked dead_letters account journal_1 journal_2 journal_3);

	$dbh->do('VACUUM ' . (rand() < 0.3 ? 'FULL ' : '') . $own[ rand @own ]);
	return;
}

sub change_settings
{
	$dbh->do('ALTER SYSTEM SET persist_pipeline.batch_size = ' . (5 + int rand 500));
	$dbh->do('ALTER SYSTEM SET persist_pipeline.lock_timeout = ' . (1 + int rand 500));
	$dbh->do('SELECT pg_reload_conf()');
	return;
}

my $workers = "pg_stat_activity WHERE backend_type = 'persist_pipeline worker'";

sub cancel_worker { $dbh->do("SELECT pg_cancel_backend(pid) FROM $workers"); return; }
sub terminate_worker { $dbh->do("SELECT pg_terminate_backend(pid) FROM $workers"); return; }

sub terminate_client
{
	$dbh->do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
		  . " WHERE application_name ~ '^producer' ORDER BY random() LIMIT 1");
	return;
}

# ---- what ends the server, which is there again when they return

# The postmaster ends everybody, and so our session.  If the worker has left meanwhile
# nothing happens.
sub kill_worker
{
	my $pid = one_value($dbh, "SELECT pid FROM $workers LIMIT 1") or return;
	my $looks = 0;

	kill('KILL', $pid) or return;
	wait_until('everybody has noticed', sub { !$dbh->ping || (!kill(0, $pid) && $looks++ > 100) });
	$dbh = connect_when_up($node);
	$last_crash = time;
	return;
}

sub start_again
{
	wait_until('the server starts', sub { $node->start(fail_ok => 1) });
	$dbh = connect_when_up($node);
	return;
}

sub stop_immediately { $node->stop('immediate'); start_again(); $last_crash = time; return; }
sub restart { $node->stop('fast'); start_again(); return; }

# ---- all together

sub do_mischief
{
	my ($name) = @_;
	my $done = eval {
		$dbh ||= connect_when_up($node);
		$dbh->do("SET lock_timeout = '1s'");
		__PACKAGE__->can($name)->();
		1;
	};

	return if $done;
	my $error = $@;

	die "$name: $error" if !grep { is_excused($_) } $dbh, map { $_->{session} } @held;
	if ($dbh->ping) { $dbh->rollback if !$dbh->{AutoCommit}; }
	else { $dbh = undef; }
	return;
}

# All is as it was.
sub make_peace
{
	release_held(time + 3600);
	wait_until(
		'peace',
		sub {
			eval {
				$dbh = connect_when_up($node);
				foreach my $target (@targets)
				{
					$dbh->do('GRANT INSERT ON ' . $target . ' TO ' . join(', ', @roles));
					$dbh->do("SELECT persist_resume('$target')");
				}
				$dbh->do("SELECT persist_resume()");

				# many bad ones at a time may look like a target that takes none
				$dbh->do("ALTER SYSTEM SET persist_pipeline.misfit_timeout = 0");
				$dbh->do("SELECT pg_reload_conf()");
				1;
			};
		});
	$dbh->disconnect;
	$dbh = undef;
	return;
}

# Do it to this server for so many seconds.  Returns when it was there again after its last
# crash, or 0.
sub chaos
{
	my ($server, $seconds) = @_;
	my $end = time + $seconds;
	my @deck;

	$node = $server;
	%paused = ();
	$last_crash = 0;
	while (time < $end)
	{
		@deck = shuffle map { ($_) x $mischief{$_} } sort keys %mischief if !@deck;
		do_mischief(shift @deck);
		release_held(time);
		sleep 0.02 + rand 0.3;
	}
	make_peace();
	return $last_crash;
}

1;
