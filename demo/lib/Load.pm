package Load;

# Several clients at a time, each a process with a connection of its own, hand over
# one row a call, and each call is a transaction.

use strict;
use warnings;

use IO::Handle;
use IO::Select;
use List::Util qw(min sum0);
use Time::HiRes qw(sleep time);

use Tables;

use constant TICK_SECONDS => 0.25;
use constant REPORT_SECONDS => 0.1;
use constant REPORT_ROWS => 20;
use constant PAUSE_SECONDS => 0.002;
use constant MAX_PAUSE_SECONDS => 0.2;

# Let them run.  Arguments:
#	server, schema	where to
#	rows			for each client, a list of [table, row], which it sends in order
#	may_be_cut_off	a client that loses its connection ends, instead of dying
#	tick			is called now and then with the number of acknowledged rows
# Returns seconds; and for each client, how many of its rows were acknowledged, how
# many more are in doubt (0 or 1: the connection broke before the answer), and how
# often it was told to try again.
sub run
{
	my (%job) = @_;
	my $start = time;
	my @clients = map { start_client(\%job, $_) } @{$job{rows}};
	my $select = IO::Select->new(map { $_->{pipe} } @clients);
	my %by_pipe = map { $_->{pipe} => $_ } @clients;
	my $last_tick = 0;

	while ($select->count > 0)
	{
		for my $pipe ($select->can_read(TICK_SECONDS))
		{
			listen_to($by_pipe{$pipe}) or $select->remove($pipe);
		}
		if (time - $last_tick >= TICK_SECONDS)
		{
			$job{tick}->(sum0 map { $_->{acknowledged} } @clients) if $job{tick};
			$last_tick = time;
		}
	}
	my $seconds = time - $start;

	for my $client (@clients)
	{
		waitpid $client->{pid}, 0;
		die "a client failed\n" if $? != 0;
	}
	return {seconds => $seconds, clients => \@clients};
}

sub start_client
{
	my ($job, $rows) = @_;

	pipe(my $read, my $write) or die "pipe: $!\n";
	my $pid = fork // die "fork: $!\n";
	if ($pid == 0)
	{
		close $read;
		$write->autoflush(1);
		my $ok = eval { work($job, $rows, $write); 1 };
		print {*STDERR} "\n$@" if !$ok;
		exit($ok ? 0 : 1);
	}
	close $write;
	$read->blocking(0);
	return {
		pid => $pid,
		pipe => $read,
		buffer => '',
		acknowledged => 0,
		in_doubt => 0,
		refused => 0,
	};
}

# Read a client's reports; false when it has ended.
sub listen_to
{
	my ($client) = @_;

	my $bytes = sysread $client->{pipe}, $client->{buffer}, 4096, length $client->{buffer};
	return 1 if !defined $bytes;
	@$client{qw(acknowledged in_doubt refused)} = ($1, $2, $3)
		while $client->{buffer} =~ s/^(\d+) (\d+) (\d+)\n//;
	return $bytes > 0;
}

# ---- in the client ----

sub work
{
	my ($job, $rows, $pipe) = @_;
	my $session = open_session($job);
	my ($acknowledged, $refused, $in_doubt) = (0, 0, 0);
	my $reported = time;

	for my $pair (@$rows)
	{
		my ($outcome, $tries) = send_row($job, $session, @$pair);

		$refused += $tries;
		if ($outcome eq 'cut off')
		{
			$in_doubt = 1;
			abandon($session);
			last;
		}
		$acknowledged++;
		next if $acknowledged % REPORT_ROWS != 0 || time - $reported < REPORT_SECONDS;
		$reported = time;
		print {$pipe} "$acknowledged 0 $refused\n";
	}
	print {$pipe} "$acknowledged $in_doubt $refused\n";
	return;
}

sub open_session
{
	my ($job) = @_;
	my $dbh = $job->{server}->connect;

	return {
		dbh => $dbh,
		statements => {map { $_ => statement($dbh, $job, $_) } @Tables::TABLES},
	};
}

# The server is gone: its handles would complain once more when they go.
sub abandon
{
	my ($session) = @_;

	$_->{RaiseError} = 0 for values %{$session->{statements}}, $session->{dbh};
	return;
}

sub statement
{
	my ($dbh, $job, $table) = @_;

	return $dbh->prepare("SELECT persist_enqueue('$job->{schema}.$table->{name}'::regclass, ?::jsonb)");
}

# Until there is an answer that stays: 'acknowledged', or 'cut off'.  Says also how
# often the row was refused before.
sub send_row
{
	my ($job, $session, $table, $row) = @_;
	my ($dbh, $statement) = ($session->{dbh}, $session->{statements}{$table});
	my $item = Tables::item($table, $row);

	for (my $tries = 0;; $tries++)
	{
		return ('acknowledged', $tries) if eval { $statement->execute($item); 1 };
		my $error = $@;

		if (may_try_again($dbh))
		{
			sleep min(MAX_PAUSE_SECONDS, PAUSE_SECONDS * 2**min($tries, 10));
			next;
		}
		return ('cut off', $tries) if $job->{may_be_cut_off} && !$dbh->ping;
		die $error;
	}
	return;
}

# The ring is full, or closed because the server stops: nothing was enqueued.  The
# SQLSTATE of a closed ring is also that of a session which the stop ends, but that
# one is no mere ERROR.
sub may_try_again
{
	my ($dbh) = @_;

	return $dbh->state eq '53000'
		|| $dbh->state eq '57P01' && $dbh->pg_error_field('severity') eq 'ERROR';
}

1;
