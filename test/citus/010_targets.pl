
# What can be a target on Citus, on which node, by whom, and how it is written.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../t", $FindBin::RealBin;

use Citus;
use PersistPipeline;
use Test::More;

# a batch waits for its flush
my ($coordinator, @nodes) = citus_nodes('targets', 'persist_pipeline.adaptive_flush' => 'off',
	'persist_pipeline.flush_interval' => "'1h'", log_statement => "'all'");
my $all = "count(*) || ' ' || count(DISTINCT n) || ' ' || sum(n)";

sub settle_and_see
{
	my ($node, $table, $expected, $name) = @_;

	ok(flush($node), "$name: flushed");
	is($coordinator->safe_psql('postgres', "SELECT $all FROM $table"), $expected, "$name: each row is there once");
	is($node->safe_psql('postgres', "SELECT errors || ' ' || dead || ' ' || parked || ' ' || skipped FROM persist_stats WHERE target_name = 'public.$table'"),
		'0 0 0 0', "$name: at once");
	return;
}

is($_->safe_psql('postgres', "SELECT count(*) FROM pg_extension WHERE extname = 'persist_pipeline'"), '1', 'the extension is on each node')
  foreach $coordinator, @nodes;

# ---- kinds of tables

$coordinator->safe_psql('postgres', $_) foreach (
	'CREATE EXTENSION citus_columnar',
	'CREATE TABLE reference (n int PRIMARY KEY, v text)',
	q{SELECT create_reference_table('reference')},
	'CREATE TABLE plain (n int PRIMARY KEY, v text)',
	'CREATE TABLE local (n int PRIMARY KEY REFERENCES reference, v text)',
	q{SELECT citus_add_local_table_to_metadata('local', cascade_via_foreign_keys => true)},
	'CREATE TABLE columnar (n int, v text) USING columnar',
	'CREATE TABLE parts (n int, v text) PARTITION BY RANGE (n)',
	'CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (500)',
	'CREATE TABLE high PARTITION OF parts FOR VALUES FROM (500) TO (2000)',
	q{SELECT create_distributed_table('parts', 'n')},
	'CREATE TABLE spread_columnar (n int, v text) USING columnar',
	q{SELECT create_distributed_table('spread_columnar', 'n')});
distribute($coordinator, 'spread', 'n int PRIMARY KEY, v text, at timestamptz DEFAULT now(), doc jsonb, list text[]');

my $dbh = connect_to($coordinator);
foreach my $table (qw(plain reference local columnar parts spread spread_columnar))
{
	enqueue_numbers($dbh, $table, 1, 1000);
	settle_and_see($coordinator, $table, '1000 1000 500500', $table);
	enqueue_numbers($dbh, $table, 1001, 1001);
	settle_and_see($coordinator, $table, '1001 1001 501501', "$table, one row");
}
enqueue_numbers($dbh, $_, 1002, 1101) foreach qw(reference local spread plain parts);
ok(flush($coordinator), 'all kinds in one batch: flushed');
is($coordinator->safe_psql('postgres', "SELECT $all FROM $_"), '1101 1101 606651', "all kinds in one batch: $_") foreach qw(reference local spread plain parts);

# ---- values come as they were

my $values = q{'n', -1, 'v', E'a\tb\\\\ "''', 'doc', '{"a": [1, null]}'::jsonb, 'list', '["x", null, "y,z", ""]'::jsonb};
$dbh->do("SELECT persist_enqueue('spread'::regclass, jsonb_build_object($values)), persist_enqueue('spread'::regclass, jsonb_build_object($values) || '{\"n\": -2}'), persist_enqueue('spread', '{\"n\": -3}')");
ok(flush($coordinator), 'values: flushed');
is($coordinator->safe_psql('postgres', "SELECT count(DISTINCT (v, at, doc, list)) FROM spread WHERE n IN (-1, -2)"), '1', 'values: two alike');
is( $coordinator->safe_psql('postgres', "SELECT (v, doc, list) FROM spread WHERE n = -1"),
	q{("a	b\\\\ ""'","{""a"": [1, null]}","{x,NULL,""y,z"",""""}")},
	'values: as they were given');
is($coordinator->safe_psql('postgres', 'SELECT v IS NULL AND at IS NOT NULL FROM spread WHERE n = -3'), 't', 'values: a default');

# ---- one statement, one commit

my @from = map { log_position($_) } @nodes;
enqueue_numbers($dbh, 'spread', 2000 + 100 * $_, 2099 + 100 * $_) foreach 0 .. 9;
ok(flush($coordinator), 'one statement: flushed');
foreach my $i (0 .. $#nodes)
{
	is(statements_since($nodes[$i], $from[$i], 'COPY'), 4, "one statement: node $i copies once into each of its shards");
	is(statements_since($nodes[$i], $from[$i], 'PREPARE TRANSACTION'), 1, "one statement: node $i commits once, in two phases");
}

# What has one row, or ON CONFLICT, Citus would commit on a node before we commit; a crash in between
# would have it written there twice.
distribute($coordinator, 'counters', 'n int PRIMARY KEY, v text, hits int');
$coordinator->safe_psql('postgres', q{SELECT persist_configure('counters', on_conflict => 'update', conflict_columns => '{n}', add_columns => '{hits}')});
my $hit = q{SELECT count(persist_enqueue('counters', '{"n": 1, "hits": 1}')) FROM generate_series(1, %d)};
my %batches = (
	'one row' => sub { enqueue_numbers($dbh, 'spread', 3000, 3000) },
	'one row, bad' => sub { enqueue_numbers($dbh, 'spread', 3000, 3001) },
	'an upsert' => sub { $dbh->do(sprintf $hit, 1) },
	'upserts of one row' => sub { $dbh->do(sprintf $hit, 10) },
	'upserts of many rows' => sub { enqueue_numbers($dbh, 'counters', 1, 100) });
foreach my $name (sort keys %batches)
{
	@from = map { log_position($_) } @nodes;
	$batches{$name}->();
	ok(flush($coordinator), "$name: flushed");

	# what has failed is rolled back, or its connection closed
	my ($prepared, $committed) = map {
		my $like = $_;
		my $n = 0;
		$n += statements_since($nodes[$_], $from[$_], $like) foreach 0 .. $#nodes;
		$n
	} 'PREPARE TRANSACTION', 'COMMIT$';
	cmp_ok($prepared, '>', 0, "$name: is committed in two phases");
	is($committed, 0, "$name: on each node");
}
is($coordinator->safe_psql('postgres', "SELECT sum(hits) FROM counters"), '11', 'upserts: each is there once');
is(discard_all($dbh), '1', 'the bad row is a dead letter');

# ---- from any node, by an ordinary role

$coordinator->safe_psql('postgres', $_) foreach (
	'CREATE ROLE writer LOGIN', 'GRANT INSERT ON spread TO writer', 'GRANT INSERT ON reference TO writer',
	q{SELECT persist_grant('writer')},
	# who may call a function of an extension isn't told the nodes
	q{SELECT run_command_on_workers($$SET citus.enable_ddl_propagation = off; SELECT persist_grant('writer')$$)});
foreach my $node ($coordinator, @nodes)
{
	my $from = $node == $coordinator ? 10_000 : $node == $nodes[0] ? 20_000 : 30_000;

	my $writer = connect_to($node, 'postgres', user => 'writer');
	enqueue_numbers($writer, $_, $from, $from + 99) foreach qw(spread reference);
	ok(flush($node), 'a role on ' . $node->name . ': flushed');
	is($coordinator->safe_psql('postgres', "SELECT count(*) FROM $_ WHERE n BETWEEN $from AND $from + 99"), '100', 'a role on ' . $node->name . ": $_")
	  foreach qw(spread reference);
	is($node->safe_psql('postgres', 'SELECT sum(dead + parked) FROM persist_stats'), '0', 'a role on ' . $node->name . ': at once');
}

# ---- columnar: a stripe for each statement

$coordinator->safe_psql('postgres', 'CREATE TABLE by_insert (LIKE columnar) USING columnar');
$coordinator->safe_psql('postgres', 'CREATE TABLE by_pipeline (LIKE columnar) USING columnar');
$dbh->do("INSERT INTO by_insert VALUES (?, 'good')", undef, $_) foreach 1 .. 300;
enqueue_numbers($dbh, 'by_pipeline', $_, $_) foreach 1 .. 300;
ok(flush($coordinator), 'columnar: flushed');
my $stripes = "SELECT count(*) FROM columnar.stripe WHERE relation =";
is($coordinator->safe_psql('postgres', "$stripes 'by_insert'::regclass"), '300', 'columnar: a stripe for each INSERT');
is($coordinator->safe_psql('postgres', "$stripes 'by_pipeline'::regclass"), '1', 'columnar: one for all items');
is($coordinator->safe_psql('postgres', 'SELECT array(SELECT n FROM by_insert ORDER BY n) = array(SELECT n FROM by_pipeline ORDER BY n)'),
	't', 'columnar: with the same rows');

# ---- mode "direct"

$dbh->do("SET persist_pipeline.mode = 'direct'");
enqueue_numbers($dbh, 'spread', 40_000, 40_000);
enqueue_numbers($dbh, 'spread', 40_001, 40_009);
is(one_value($dbh, 'SELECT count(*) FROM spread WHERE n >= 40000'), '10', 'direct: the rows are there');
is(try_sql($dbh, "SELECT persist_enqueue('spread', '{\"n\": 40000}')"), '23505', 'direct: an error has its own SQLSTATE');

done_testing();
