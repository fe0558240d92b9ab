
# One transaction may enqueue as several roles, and one role's rows may need
# another's.  What one by one, in the order of the calls, would be accepted, is
# accepted: also when the batch ends within the transaction, or fails.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use Test::More;

my $node = pp_node('roles', 'persist_pipeline.adaptive_flush' => 'off', 'persist_pipeline.flush_interval' => "'1h'");
my $everything_from = log_position($node);

$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice; CREATE ROLE bob;
	CREATE TABLE parent (id int PRIMARY KEY);
	CREATE TABLE child (id int PRIMARY KEY, parent int NOT NULL REFERENCES parent);
	GRANT INSERT ON parent, child TO alice, bob;
	GRANT EXECUTE ON FUNCTION persist_enqueue(regclass, jsonb, boolean) TO alice, bob;
});

my $dbh = connect_to($node);

# One transaction: [role, target, item] ...
sub transaction
{
	$dbh->begin_work;
	foreach my $call (@_)
	{
		my ($role, $target, $item) = @$call;

		$dbh->do("SET LOCAL ROLE $role");
		$dbh->do("SELECT persist_enqueue('$target'::regclass, ?::jsonb, true)", undef, $item);
	}
	$dbh->commit;
	return;
}

# Set how many items make a batch, and wait until that holds.
sub batches_of
{
	my ($items) = @_;
	my $pid = worker_pid($node);

	$node->append_conf('postgresql.conf', "persist_pipeline.batch_size = $items");
	$node->reload;
	return if !$pid;
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_for_new_worker($node, $pid);
	return;
}

my $id = 0;
foreach my $batch_size (10000, 1)
{
	batches_of($batch_size);

	# alice's second item needs bob's first
	$id += 10;
	transaction(
		[ 'alice', 'parent', sprintf('{"id": %d}', $id + 1) ],
		[ 'bob', 'parent', sprintf('{"id": %d}', $id + 2) ],
		[ 'alice', 'child', sprintf('{"id": %d, "parent": %d}', $id + 2, $id + 2) ]);
	ok(flush($node), 'flushed');
	is($node->safe_psql('postgres', "SELECT array_agg(parent ORDER BY id) FROM child WHERE id > $id"),
		'{' . ($id + 2) . '}', "batch_size $batch_size: a role's row needs another's");

	# each needs the other's
	$id += 10;
	transaction(
		[ 'alice', 'parent', sprintf('{"id": %d}', $id + 1) ],
		[ 'bob', 'parent', sprintf('{"id": %d}', $id + 2) ],
		[ 'alice', 'child', sprintf('{"id": %d, "parent": %d}', $id + 2, $id + 2) ],
		[ 'bob', 'child', sprintf('{"id": %d, "parent": %d}', $id + 1, $id + 1) ]);
	ok(flush($node), 'flushed');
	is($node->safe_psql('postgres', "SELECT array_agg(parent ORDER BY id) FROM child WHERE id > $id"),
		'{' . ($id + 1) . ',' . ($id + 2) . '}', "batch_size $batch_size: each role's row needs the other's");

	# each needs the other's, and one row is bad
	$id += 10;
	transaction(
		[ 'alice', 'parent', sprintf('{"id": %d}', $id + 1) ],
		[ 'bob', 'parent', sprintf('{"id": %d}', $id + 2) ],
		[ 'bob', 'parent', sprintf('{"id": %d}', $id + 2) ],
		[ 'alice', 'child', sprintf('{"id": %d, "parent": %d}', $id + 2, $id + 2) ],
		[ 'bob', 'child', sprintf('{"id": %d, "parent": %d}', $id + 1, $id + 1) ]);
	ok(flush($node), 'flushed');
	is($node->safe_psql('postgres', "SELECT array_agg(parent ORDER BY id) FROM child WHERE id > $id"),
		'{' . ($id + 1) . ',' . ($id + 2) . '}', "batch_size $batch_size: and a bad one harms only itself");
}
is($node->safe_psql('postgres', "SELECT items_failed, items_pending FROM persist_queue"), '2|0', 'two were bad');
$dbh->disconnect;

is_deeply([ complaints($node, $everything_from, qr/persist_pipeline (?:worker|retrier) 23505 WARNING/) ],
	[], 'the log holds no WARNING or ERROR that was not provoked');

$node->stop;
done_testing();
