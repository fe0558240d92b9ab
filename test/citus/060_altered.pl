
# Citus makes another table in the place of a target: what waits goes into it, on every node, and
# the settings go with it.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../t", $FindBin::RealBin;

use Citus;
use PersistPipeline;
use Test::More;

my ($coordinator, @nodes) = citus_nodes('altered');
my $settings = q{SELECT string_agg(concat_ws(' ', target, on_conflict, conflict_columns, paused), ', ') FROM persist_settings};

$coordinator->safe_psql('postgres', 'CREATE EXTENSION citus_columnar');
distribute($coordinator, 'events', 'n int PRIMARY KEY, v text');

my @waits = ($coordinator, $nodes[0]);
my $configure = q{SELECT persist_configure('events', on_conflict => 'update', conflict_columns => '{n}')};
$_->safe_psql('postgres', $configure) foreach @waits;

# ---- each of the functions, while items wait

my $n = 0;
foreach my $command (
	q{alter_distributed_table('events', shard_count := 4)},
	q{undistribute_table('events')},
	q{create_distributed_table('events', 'n')},
	q{alter_distributed_table('events', colocate_with := 'none', shard_count := 6)})
{
	# before and after it, is the table on the other nodes, too?
	my @now = $command =~ /^alter/ ? @waits : $coordinator;

	$nodes[0]->safe_psql('postgres', $configure) if $command =~ /colocate/;    # its table is a new one
	$_->safe_psql('postgres', 'SELECT persist_pause()') foreach @now;
	foreach my $node (@now)
	{
		my $dbh = connect_to($node);

		$n++;
		enqueue_numbers($dbh, 'events', $n, $n, 'old');
		$dbh->do(q{SELECT persist_enqueue('events', jsonb_build_object('n', ?::int, 'v', 'new'))}, undef, $n);
		$dbh->disconnect;
	}
	$coordinator->safe_psql('postgres', "SELECT $command");
	$_->safe_psql('postgres', 'SELECT persist_resume()') foreach @now;
	ok(flush($_), "$command: flushed on " . $_->name) foreach @now;
	is($coordinator->safe_psql('postgres', q{SELECT count(*) FILTER (WHERE v = 'new') || ' ' || count(*) FROM events}), "$n $n", "$command: the last value of each row");
	is($_->safe_psql('postgres', 'SELECT count(*) FROM persist_dead_letters'), '0', "$command: no letter on " . $_->name) foreach @now;
	is($_->safe_psql('postgres', $settings), 'events update {n} f', "$command: the settings are there, on " . $_->name) foreach @now[ 0 .. ($command =~ /undistribute/ ? 0 : $#now) ];
}

# ---- a paused target, and another access method

$coordinator->safe_psql('postgres', 'CREATE TABLE kept (n int, v text)');
$coordinator->safe_psql('postgres', q{SELECT persist_pause('kept')});
my $dbh = connect_to($coordinator);
enqueue_numbers($dbh, 'kept', 1, 100);
wait_for_sql($dbh, 'SELECT count(*) = 100 FROM persist_parked');
$coordinator->safe_psql('postgres', q{SELECT alter_table_set_access_method('kept', 'columnar')});
is($coordinator->safe_psql('postgres', q{SELECT paused FROM persist_settings WHERE target = 'kept'::regclass}), 't', 'columnar: still paused');
$coordinator->safe_psql('postgres', q{SELECT persist_resume('kept')});
drain($coordinator);
is($coordinator->safe_psql('postgres', q{SELECT count(*) || ' ' || sum(n) FROM kept}), '100 5050', 'columnar: the rows are there');

# ---- under load, on two nodes; Citus locks the table on the coordinator alone, and loses what others
# insert meanwhile, so their workers are paused

distribute($coordinator, 'busy', 'n int PRIMARY KEY, v text');
$dbh->disconnect;
my @clients = in_children(
	2,
	sub {
		my ($number) = @_;
		my $session = connect_to($waits[ $number - 1 ]);

		foreach my $i (1 .. 400)
		{
			# the function waits for the table's lock, or finds that the table has gone, and says so
			my $state = try_sql($session, "SELECT persist_enqueue('busy', '{\"n\": " . (1000 * $number + $i) . "}')");

			redo if $state =~ /^(?:42P01|XX000)$/;
			die "$state: " . $session->errstr if $state ne '00000';
		}
		$session->disconnect;
	});
foreach my $shards (4, 5, 3)
{
	$nodes[0]->safe_psql('postgres', 'SELECT persist_pause()');
	$nodes[0]->poll_query_until('postgres', "SELECT count(*) = 0 FROM persist_queue WHERE datname = 'postgres' AND worker_pid IS NOT NULL") or die 'not paused';
	$coordinator->safe_psql('postgres', "SELECT alter_distributed_table('busy', shard_count := $shards)");
	$nodes[0]->safe_psql('postgres', 'SELECT persist_resume()');
}
children_succeeded('under load: the clients are done', @clients);
drain($_) foreach @waits;
is($coordinator->safe_psql('postgres', 'SELECT count(*) || $$ $$ || count(DISTINCT n) FROM busy'), '800 800', 'under load: each row is there once');
is($_->safe_psql('postgres', 'SELECT count(*) FROM persist_dead_letters'), '0', 'under load: no letter on ' . $_->name) foreach @waits;

$_->stop foreach $coordinator, @nodes;
done_testing();
