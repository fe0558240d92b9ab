
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
is($one->{'ROLLBACK TO SAVEPOINT'}, 0, "one bad row of 10,000 that the table's own constraints refuse is found before a node gets it");
cmp_ok($one->{BEGIN}, '<=', 5, 'a node is told through one connection: a failure goes to each of them');
cmp_ok(cost_of(10_000, 10)->{'ROLLBACK TO SAVEPOINT'}, '<=', 10, 'ten: a node only goes back to before the row');

# in transactions of several rows, and of one
foreach my $size (1, 10)
{
	$dbh->do('TRUNCATE spread');
	$dbh->do('SELECT persist_pause()');
	$dbh->do("DO \$\$ BEGIN FOR f IN 1 .. 1000 BY $size LOOP PERFORM persist_enqueue('spread'::regclass, jsonb_build_object('n', n, 'v', CASE WHEN n % 100 = 7 THEN 'bad' ELSE 'good' END)) FROM generate_series(f, f + $size - 1) AS n; COMMIT; END LOOP; END \$\$");
	my $from = log_position($nodes[0]);
	$dbh->do('SELECT persist_resume()');
	ok(flush($coordinator), "10 of 1000, transactions of $size: flushed");
	is($coordinator->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n) FROM spread'), '990|990', "10 of 1000, transactions of $size: all others are there, once");
	is(letters(), join('; ', map { 100 * $_ + 7 . ' 23514 -' } 0 .. 9), "10 of 1000, transactions of $size: the letters");
	cmp_ok(statements_since($nodes[0], $from, 'COPY'), '<=', $size == 1 ? 50 : 400, "10 of 1000, transactions of $size: so many COPYs");
	discard_all($dbh);
}

# those that are good are as many; that the target takes none is no reason then for all to wait
foreach my $size (1, 1000)
{
	$dbh->do('TRUNCATE spread');
	$dbh->do('SELECT persist_pause()');
	$dbh->do("DO \$\$ BEGIN FOR f IN 1 .. 1000 BY $size LOOP PERFORM persist_enqueue('spread'::regclass, jsonb_build_object('n', n, 'v', CASE WHEN n <= 500 AND n % 4 = 1 THEN 'good' END)) FROM generate_series(f, f + $size - 1) AS n; COMMIT; END LOOP; END \$\$");
	$dbh->do('SELECT persist_resume()');
	ok(flush($coordinator), "875 of 1000, transactions of $size: flushed");
	is($coordinator->safe_psql('postgres', 'SELECT count(*), count(DISTINCT n) FROM spread'), '125|125', "875 of 1000, transactions of $size: all others are there, once");
	is(join('; ', rows_of($dbh, 'SELECT count(*), min(sqlstate), max(sqlstate) FROM persist_dead_letters')), '875 23502 23502', "875 of 1000, transactions of $size: so many letters");
	discard_all($dbh);
}

# a column that has come since then: its default is the node's, and so is its constraint
$dbh->do('SELECT persist_pause()');
enqueue_numbers($dbh, 'spread', 20_001, 20_003);
$coordinator->safe_psql('postgres', $_) foreach (
	'ALTER TABLE spread ADD COLUMN w int NOT NULL DEFAULT 1',
	'ALTER TABLE spread ADD CONSTRAINT w_positive CHECK (w > 0)');
$dbh->do('SELECT persist_resume()');
ok(flush($coordinator), 'a column with a default: flushed');
is($coordinator->safe_psql('postgres', 'SELECT count(*) || \' \' || sum(w) FROM spread WHERE n > 20000'), '3 3', 'a column with a default: the rows are there');
$coordinator->safe_psql('postgres', q{ALTER TABLE spread DROP COLUMN w});

# where a trigger may mend a row, the node has to be asked
$coordinator->safe_psql('postgres', $_) foreach (
	q{CREATE FUNCTION mend() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.v := coalesce(nullif(NEW.v, $$bad$$), $$mended$$); RETURN NEW; END'},
	q{SELECT create_distributed_function('mend()')},
	q{SET citus.enable_unsafe_triggers = on; CREATE TRIGGER mend BEFORE INSERT ON spread FOR EACH ROW EXECUTE FUNCTION mend()});
enqueue_values('spread', map { qq({"n": $_, "v": "bad"}) } 20_011 .. 20_013);
ok(flush($coordinator), 'a trigger mends rows: flushed');
is($coordinator->safe_psql('postgres', q{SELECT count(*) FROM spread WHERE n > 20010 AND v = 'mended'}), '3', 'a trigger mends rows: they are there');
is(letters(), '', 'a trigger mends rows: no letter');
$coordinator->safe_psql('postgres', q{SET citus.enable_unsafe_triggers = on; DROP TRIGGER mend ON spread});

# what only a node can know is searched for there
$dbh->do('TRUNCATE spread');
enqueue_values('spread', '{"n": 5000, "v": "first"}');
ok(flush($coordinator), 'a key that is there: flushed');
{
	my $from = log_position($nodes[0]);

	enqueue_numbers($dbh, 'spread', 1, 10_000);
	ok(flush($coordinator), 'a key that is there, one of 10,000: flushed');
	like(letters(), qr/^5000 23505 [^;\n]*$/, 'a key that is there, one of 10,000: the letter');
	cmp_ok(statements_since($nodes[0], $from, 'ROLLBACK TO SAVEPOINT'), '<=', 10, 'a key that is there, one of 10,000: found by few tries that fail');
	is(discard_all($dbh), 1, 'a key that is there, one of 10,000: no other letter');
}

done_testing();
