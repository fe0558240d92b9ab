
=pod

=head1 NAME

Producer - a client that enqueues rows of several roles for targets of every kind, good
ones and bad ones, and writes down what it has seen of each.

=cut

package Producer;

use strict;
use warnings;

use Chaos;
use Exporter 'import';
use PersistPipeline;
use Time::HiRes qw(sleep time);
use Torture;

our @EXPORT = qw(produce);

# One item of a producer, for a random target.
sub enqueue
{
	my ($me, $session) = @_;
	my $target = $targets[ rand @targets ];
	my $n = ++$me->{n}{"$target $me->{role}"};
	my $bytes = $target eq 'big' && rand() < 0.3 ? 9_000 + int rand 31_000 : int rand 60;
	my %item = (sess => $me->{number}, role => $me->{role}, n => $n, bad => rand() < 0.03 ? 1 : 0);
	my %row = (%item, pad => join '', map { chr 97 + rand 26 } 1 .. $bytes);

	if ($target eq 'parent')
	{
		$item{key} = $row{id} = join '-', @item{qw(sess role n)};
		push @{ $me->{parents} }, $row{id};
	}
	if ($target eq 'child')
	{
		my @latest = grep { defined } (reverse @{ $me->{parents} })[ 0 .. 4 ];

		$item{bad} = $row{bad} = 1 if !@latest;
		$item{parent} = $row{parent} = $item{bad} ? 'none' : $latest[ rand @latest ];
	}
	push @{ $me->{items} }, { %item, target => $target };
	$me->{items}[-1]{id} = one_value(
		$session,
		"SELECT persist_enqueue(?::regclass, ?::jsonb)",
		$target, '{' . join(', ', map { qq("$_": "$row{$_}") } sort keys %row) . '}');
	return;
}

sub set_role
{
	my ($me, $session) = @_;

	$session->do("SET LOCAL ROLE $me->{role}");
	return;
}

sub enqueue_some
{
	my ($me, $session, $n) = @_;

	foreach (1 .. $n)
	{
		if (rand() < 0.1)
		{
			$me->{role} = $roles[ rand @roles ];
			set_role($me, $session);
		}
		enqueue($me, $session);
	}
	return;
}

# The items from this one on are rolled back.  Few children shall miss their parents.
sub are_gone
{
	my ($me, $first) = @_;
	my @gone = @{ $me->{items} }[ $first .. $#{ $me->{items} } ];
	my %gone = map { $_->{key} => 1 } grep { $_->{key} && rand() < 0.8 } @gone;

	$_->{outcome} = 'r' foreach @gone;
	$me->{parents} = [ grep { !$gone{$_} } @{ $me->{parents} } ];
	return;
}

sub enqueue_under_savepoint
{
	my ($me, $session) = @_;
	my $before = @{ $me->{items} };

	$session->do("SAVEPOINT s");
	enqueue_some($me, $session, 1 + int rand 4);
	if (rand() < 0.4)
	{
		$session->do("ROLLBACK TO SAVEPOINT s");
		are_gone($me, $before);
	}
	else
	{
		$session->do("RELEASE SAVEPOINT s");
	}
	set_role($me, $session);
	return;
}

# What it enqueues is in $me, with its outcome, whatever becomes of the session.
sub transaction
{
	my ($me, $session) = @_;
	my $size = rand() < 0.02 ? 300 + int rand 300 : 1 + int rand 15;

	$me->{role} = $roles[ rand @roles ];
	$session->begin_work;
	set_role($me, $session);
	while (@{ $me->{items} } < $size)
	{
		rand() < 0.15 ? enqueue_under_savepoint($me, $session) : enqueue_some($me, $session, 1);
	}
	commit_or_roll_back($me, $session) or are_gone($me, 0);
	return;
}

# What this producer has written down is there once a flush has said so.
sub flush_is_true
{
	my ($me, $session) = @_;
	my ($item) = grep { $_->{target} eq 'checked' && !$_->{bad} && !$_->{outcome} } @{ $me->{items} };
	my $flushed;

	return 1 if !$item || $me->{outcome} ne 'a' || !eval { $flushed = one_value($session, "SELECT persist_flush('1 s')"); 1 };
	return 1 if !$flushed;
	my $rows = eval {
		one_value($session, "SELECT count(*) FROM checked WHERE sess = ? AND role = ? AND n = ?", @$item{qw(sess role n)});
	};

	return !defined $rows || $rows == 1;
}

sub write_down
{
	my ($me, $file) = @_;

	foreach my $item (@{ $me->{items} })
	{
		print $file join("\t",
			$me->{number}, $me->{tx}, $me->{began},
			map({ $_ // '\N' } @$item{qw(target role n bad parent id)}),
			$item->{outcome} || $me->{outcome}),
		  "\n";
	}
	return;
}

# Be number so many of the producers on this server, for so many seconds.  What it has
# enqueued is then in the file seen.NUMBER.
sub produce
{
	my ($node, $seconds, $seed, $number) = @_;
	my $end = time + $seconds;
	my $me = { number => $number, tx => 0, n => {}, parents => [] };
	my $session;

	srand($seed + $number);
	$ENV{PGAPPNAME} = "producer $number";
	open my $file, '>', $node->basedir . "/seen.$number" or die $!;
	while (time < $end)
	{
		$session ||= connect_when_up($node);
		@$me{qw(items outcome began)} = ([], 'r', time);
		$me->{tx}++;

		# 42501: of a right that has been revoked
		my $done = attempt($session, sub { transaction($me, $session) }, '40P01', '42501', '55P03');

		$me->{outcome} = 'r' if defined $done && !$done;
		$session = undef if !defined $done;
		write_down($me, $file);
		die "item of transaction $me->{tx} isn't there after a flush" if $session && rand() < 0.05 && !flush_is_true($me, $session);
		splice @{ $me->{parents} }, 0, -20;
		sleep rand 0.015;
	}
	close $file or die $!;
	return;
}

1;
