
# The planner knows how many rows a batch has: for the INSERT of the pipeline, and so for
# what engines and rules make of it.

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;

use PersistPipeline;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = pp_node(
	'estimates',
	shared_preload_libraries => "'persist_pipeline, auto_explain'",
	'persist_pipeline.flush_interval' => "'10ms'",
	'auto_explain.log_min_duration' => 0,
	'auto_explain.log_nested_statements' => 'on');

$node->safe_psql('postgres', 'CREATE TABLE t (n int)');

# As many as that, in one batch, again and again: plans are kept.
foreach my $n (5000, 3, 700, 1, 4000, 600)
{
	my $from = log_position($node);
	my @estimates;

	$node->safe_psql('postgres', "SELECT persist_enqueue('t', jsonb_build_object('n', i)) FROM generate_series(1, $n) AS i");
	ok(flush($node), "$n rows: flushed");
	@estimates = map { /Function Scan on persist_batch b .* rows=(\d+)/ } log_since($node, $from, qr/Function Scan on persist_batch b/);
	is(scalar(@estimates), 1, "$n rows: one INSERT");
	cmp_ok($estimates[0], '>=', $n / 8, "$n rows: it is not estimated to be much less");
	cmp_ok($estimates[0], '<=', $n * 8, "$n rows: nor much more");
}
done_testing();
