
# Many clients with savepoints and rollbacks at random, several roles, and foreign
# keys across targets and roles, while the worker is terminated now and then: the
# tables hold exactly what was committed.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $clients = 6;
my $transactions = 150;
my $seed = $ENV{PP_SEED} || time;
note "PP_SEED=$seed";

my $node = pp_node(
	'concurrency',
	'persist_pipeline.flush_interval' => "'5ms'",
	'persist_pipeline.batch_size' => 50,
	'persist_pipeline.shutdown_timeout' => "'60s'");
my $everything_from = log_position($node);
my $dir = $node->basedir;

$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice; CREATE ROLE bob;
	CREATE TABLE author (id text PRIMARY KEY, name text NOT NULL);
	CREATE TABLE book (id text PRIMARY KEY, author text NOT NULL REFERENCES author, title text);
	CREATE TABLE page (book text REFERENCES book, n int, words text[], PRIMARY KEY (book, n))
		PARTITION BY HASH (book);
	CREATE TABLE page_0 PARTITION OF page FOR VALUES WITH (MODULUS 2, REMAINDER 0);
	CREATE TABLE page_1 PARTITION OF page FOR VALUES WITH (MODULUS 2, REMAINDER 1);
	GRANT INSERT ON author, book, page TO alice, bob;
	GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO alice, bob;
});

# One client.  It keeps what it has enqueued in the transaction as lists, one for
# each savepoint, and what it has committed in a file for each table.
sub client
{
	my ($client) = @_;
	my $dbh = connect_to($node);
	my @known_authors;
	my @known_books;
	my $serial = 0;
	my $committed = 0;
	my %file;

	srand($seed + $client);
	foreach my $table ('author', 'book', 'page')
	{
		open $file{$table}, '>', "$dir/$table.$client" or die $!;
	}

	while ($committed < $transactions)
	{
		my @levels = ([]);    # of [table, row as text, id]
		my $enqueue = sub {
			my ($table, $id, $row, $json) = @_;

			$dbh->do("SELECT persist_enqueue('$table'::regclass, ?::jsonb, true)", undef, $json);
			push @{ $levels[-1] }, [ $table, $row, $id ];
		};
		my $pick = sub {
			my ($table, @known) = @_;

			push @known, map { $_->[2] } grep { $_->[0] eq $table } map { @$_ } @levels;
			return @known ? $known[ rand @known ] : undef;
		};

		$dbh->do("BEGIN");
		foreach my $step (1 .. 3 + rand 15)
		{
			my $dice = rand;

			if ($dice < 0.1)
			{
				$dbh->do("SET LOCAL ROLE " . ('alice', 'bob', 'NONE')[ rand 3 ]);
			}
			elsif ($dice < 0.2)
			{
				$dbh->do("SAVEPOINT s" . @levels);
				push @levels, [];
			}
			elsif ($dice < 0.35 && @levels > 1)
			{
				# out of one or several
				my $to = 1 + int rand($#levels);
				my @out = splice @levels, $to;

				if (rand() < 0.5)
				{
					$dbh->do("RELEASE s$to");
					push @{ $levels[-1] }, map { @$_ } @out;
				}
				else
				{
					$dbh->do("ROLLBACK TO s$to");
					$dbh->do("RELEASE s$to");
				}
			}
			elsif ($dice < 0.5 || !defined $pick->('author', @known_authors))
			{
				my $id = "$client-" . ++$serial;

				$enqueue->('author', $id, "$id|name of $id", "{\"id\": \"$id\", \"name\": \"name of $id\"}");
			}
			elsif ($dice < 0.7 || !defined $pick->('book', @known_books))
			{
				my $id = "$client-" . ++$serial;
				my $author = $pick->('author', @known_authors);

				$enqueue->('book', $id, "$id|$author|", "{\"id\": \"$id\", \"author\": \"$author\"}");
			}
			else
			{
				my $n = ++$serial;
				my $book = $pick->('book', @known_books);

				$enqueue->('page', $n, "$book|$n|{a,\"b c\"}", "{\"book\": \"$book\", \"n\": $n, \"words\": [\"a\", \"b c\"]}");
			}
		}

		if (rand() < 0.15)
		{
			$dbh->do("ROLLBACK");
			next;
		}
		if ((my $state = try_sql($dbh, "COMMIT")) ne '00000')
		{
			die "SQLSTATE $state: " . $dbh->errstr if $state !~ /^(57P01|53000)$/;
			usleep(2000);
			next;
		}
		$committed++;
		foreach my $item (map { @$_ } @levels)
		{
			my ($table, $row, $id) = @$item;

			print { $file{$table} } "$row\n";
			push @known_authors, $id if $table eq 'author';
			push @known_books, $id if $table eq 'book';
		}
	}
	close $_ or die $! foreach values %file;
	return;
}

my @pids = in_children($clients, \&client);

# Terminate the worker five times, each time after it has written something.
foreach my $round (1 .. 5)
{
	my $pid = worker_pid($node) or redo;

	$node->poll_query_until('postgres', "SELECT items_persisted > $round * 200 FROM persist_queue");
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_for_new_worker($node, $pid);
}
children_succeeded('clients', @pids);
ok(flush($node), 'flushed');

foreach my $table ('author', 'book', 'page')
{
	my @expected = sort map { split /\n/, slurp_file("$dir/$table.$_") } 1 .. $clients;
	my @rows = sort split /\n/, $node->safe_psql('postgres', "SELECT * FROM $table");

	cmp_ok(scalar(@expected), '>', 0, "$table: " . @expected . ' rows committed');
	is_deeply(\@rows, \@expected, "$table: exactly these are there");
}
is($node->safe_psql('postgres', "SELECT items_pending, items_failed, ring_used FROM persist_queue"),
	'0|0|0', 'no item failed, none is left');

is_deeply(
	[ complaints($node, $everything_from, qr/client backend 57P01 ERROR:  the ring/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
