
# Rows that a distributed table refuses: each is a dead letter with its own error, and the others
# land; and what it costs to find them.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../t", $FindBin::RealBin;

use Citus;
use PersistPipeline;
use Test::More;

my ($coordinator, @nodes) = citus_nodes('bad_rows', 'persist_pipeline.adaptive_flush' => 'off',
	'persist_pipeline.flush_interval' => "'1h'", log_statement => "'all'");
my $dbh = connect_to($coordinator);

distribute($coordinator, 'spread', q{n int PRIMARY KEY, v text NOT NULL CHECK (v <> 'bad')});
$coordinator->safe_psql('postgres', $_) foreach (
	q{CREATE TABLE reference (n int PRIMARY KEY, v text CHECK (v <> 'bad'))},
	q{SELECT create_reference_table('reference')});

sub enqueue_values
{
	my ($table, @values) = @_;

	$dbh->do("SELECT count(persist_enqueue('$table'::regclass, item)) FROM unnest(?::jsonb[]) AS item", undef, \@values);
	return;
}

sub letters
{
	return join '; ', rows_of($dbh, "SELECT item->>'n', sqlstate, coalesce(context, '-') FROM persist_dead_letters ORDER BY id");
}

# ---- each with its own error

foreach my $table (qw(spread reference))
{
	enqueue_values($table, '{"n": 1, "v": "first"}');
	ok(flush($coordinator), "$table: flushed");
	$dbh->begin_work;
	enqueue_numbers($dbh, $table, 2, 100);
	enqueue_values($table, '{"n": 1, "v": "second"}', '{"n": 101, "v": "bad"}', $table eq 'spread' ? '{"n": 102}' : (), '{"n": 50, "v": "again"}');
	enqueue_numbers($dbh, $table, 103, 200);
	$dbh->commit;
	ok(flush($coordinator), "$table, bad rows: flushed");
	like(
		letters(),
		$table eq 'spread'
		? qr/^1 23505 while executing command on [^;\n]*; 101 23514 [^;\n]*; 102 23502 [^;\n]*; 50 23505 [^;\n]*$/
		: qr/^1 23505 [^;]*; 101 23514 [^;]*; 50 23505 [^;]*$/,
		"$table, bad rows: each has its own SQLSTATE, and no statement of ours is in its context");
	is($coordinator->safe_psql('postgres', "SELECT count(*) || ' ' || count(*) FILTER (WHERE v = 'good') FROM $table"),
		'198 197', "$table, bad rows: all others are there");
	is($coordinator->safe_psql('postgres', "SELECT dead || ' ' || parked || ' ' || skipped FROM persist_stats WHERE target_name = 'public.$table'"),
		$table eq 'spread' ? '4 0 0' : '3 0 0', "$table, bad rows: nothing is parked for them");
	discard_all($dbh);
}

# ---- repaired and sent again

enqueue_values('spread', '{"n": 300, "v": "bad"}');
ok(flush($coordinator), 'repaired: flushed');
$dbh->do(q{SELECT persist_requeue(id, item || '{"v": "mended"}') FROM persist_dead_letters});
ok(flush($coordinator), 'repaired: flushed again');
is($coordinator->safe_psql('postgres', 'SELECT v FROM spread WHERE n = 300'), 'mended', 'repaired: it is there');

# ---- what it costs

sub cost_of
{
	my ($good, $bad) = @_;
	my @from = map { log_position($_) } @nodes;

	$dbh->do('TRUNCATE spread');
	$dbh->do("SELECT count(persist_enqueue('spread'::regclass, jsonb_build_object('n', n, 'v', CASE WHEN n % ($good / greatest($bad, 1)) = 7 AND $bad > 0 THEN 'bad' ELSE 'good' END))) FROM generate_series(1, $good) AS n");
	flush($coordinator) or die 'not flushed';
	is(discard_all($dbh), $bad, "$bad of $good: so many letters");
	is($coordinator->safe_psql('postgres', 'SELECT count(*) FROM spread'), $good - $bad, "$bad of $good: all others are there");

	my %told = map {
		my $like = $_;
		$like => statements_since($nodes[0], $from[0], $like)
	} 'ROLLBACK TO SAVEPOINT', 'BEGIN', 'PREPARE TRANSACTION';
	note join ', ', map {"$_: $told{$_}"} sort keys %told;
	return \%told;
}

my $one = cost_of(10_000, 1);
cmp_ok($one->{'ROLLBACK TO SAVEPOINT'}, '<=', 10, 'one bad row of 10,000 is found by few tries that fail');
cmp_ok($one->{BEGIN}, '<=', 5, 'a node is told through one connection: a failure goes to each of them');
cmp_ok(cost_of(10_000, 10)->{'ROLLBACK TO SAVEPOINT'}, '<=', 100, 'ten by few for each');

done_testing();
